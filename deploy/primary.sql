-- Run once by psql when the primary's cluster is made. That commits wait for the standby is set last, and holds
-- from the next start on, because there is no standby yet.
\set password `cat /run/secrets/replication_password`
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'password';
SELECT pg_create_physical_replication_slot('postgres_2', true);
ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (postgres_2)';
