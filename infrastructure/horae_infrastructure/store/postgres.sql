-- The tables and functions of a PostgreSQL store, format 1. Instants are microseconds since the
-- epoch on the server's clock. Events keep the columns of the `eventsourcing` library. Fixed-size
-- columns come first, which saves padding.

CREATE TABLE horae_store (
    identity text NOT NULL,
    format integer NOT NULL,
    partitions integer NOT NULL
);

CREATE TABLE horae_events (
    notification_id bigserial NOT NULL,
    recorded_at bigint NOT NULL,
    originator_version bigint NOT NULL,
    originator_id uuid NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
);

CREATE UNIQUE INDEX horae_events_notification_id_idx ON horae_events (notification_id);

-- A stream belongs to one partition for good, so the stream alone is the key.
CREATE TABLE horae_ledger (
    due bigint,
    stream uuid NOT NULL PRIMARY KEY,
    partition integer NOT NULL,
    state bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX horae_ledger_due ON horae_ledger (due, stream, partition) WHERE due IS NOT NULL;

CREATE TABLE horae_partitions (
    partition integer NOT NULL PRIMARY KEY,
    epoch bigint NOT NULL,
    owner text
);

CREATE TABLE horae_members (
    owner text NOT NULL PRIMARY KEY,
    address text NOT NULL,
    expires_at bigint NOT NULL
);

-- Partitions taken from an owner that may not know it yet.
CREATE TABLE horae_lost (
    owner text NOT NULL,
    partition integer NOT NULL,
    lost_at bigint NOT NULL,
    PRIMARY KEY (owner, partition)
);

CREATE FUNCTION horae_now() RETURNS bigint LANGUAGE sql VOLATILE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- Appends and claims one after the other, in the order of their commits: the lock goes after the
-- commit is visible. So a reader that has seen a position has seen all before it. A table lock
-- would do the same and stand in the way of autovacuum.
CREATE FUNCTION horae_lock() RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock((1212371269::bigint << 32) | 'horae_events'::regclass::oid::bigint);

CREATE FUNCTION horae_append(
    asked_partitions bigint[], asked_epochs bigint[],
    streams uuid[], versions bigint[], names text[], states bytea[],
    line_streams uuid[], line_partitions bigint[], line_dues bigint[], line_states bytea[],
    settled_streams uuid[], settled_partitions bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    stale text;
    recorded bigint;
    positions bigint[];
BEGIN
    PERFORM horae_lock();

    SELECT string_agg(asked.partition::text, ',') INTO stale
    FROM unnest(asked_partitions, asked_epochs) AS asked (partition, epoch)
    LEFT JOIN horae_partitions AS held ON held.partition = asked.partition
    WHERE held.epoch IS DISTINCT FROM asked.epoch;
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION 'partitions belong to another owner'
            USING ERRCODE = 'HR001', DETAIL = stale;
    END IF;

    IF cardinality(streams) > 0 THEN
        recorded := greatest(
            horae_now(),
            (SELECT recorded_at FROM horae_events ORDER BY notification_id DESC LIMIT 1)
        );
        WITH written AS (
            INSERT INTO horae_events
                (recorded_at, originator_version, originator_id, topic, state)
            SELECT recorded, event.version, event.stream, event.name, event.state
            FROM unnest(streams, versions, names, states) AS event (stream, version, name, state)
            RETURNING notification_id
        )
        SELECT array_agg(notification_id ORDER BY notification_id) INTO positions FROM written;
        NOTIFY horae_events;
    END IF;

    IF cardinality(line_streams) > 0 THEN
        INSERT INTO horae_ledger AS line (stream, partition, due, state)
        SELECT * FROM unnest(line_streams, line_partitions, line_dues, line_states)
        ON CONFLICT (stream) DO UPDATE
        SET partition = excluded.partition, due = excluded.due, state = excluded.state;
    END IF;

    IF cardinality(settled_streams) > 0 THEN
        DELETE FROM horae_ledger AS line
        USING unnest(settled_streams, settled_partitions) AS settled (stream, partition)
        WHERE line.stream = settled.stream AND line.partition = settled.partition;
    END IF;

    RETURN positions;
END
$$;

CREATE FUNCTION horae_join(joiner text, its_address text, ttl bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    lost text;
BEGIN
    PERFORM horae_lock();
    SELECT string_agg(partition::text, ',') INTO lost FROM horae_lost WHERE owner = joiner;
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION 'partitions were taken' USING ERRCODE = 'HR001', DETAIL = lost;
    END IF;
    DELETE FROM horae_members WHERE expires_at <= horae_now() AND owner <> joiner;
    INSERT INTO horae_members (owner, address, expires_at)
    VALUES (joiner, its_address, horae_now() + ttl)
    ON CONFLICT (owner) DO UPDATE
    SET address = excluded.address, expires_at = excluded.expires_at;
END
$$;

CREATE FUNCTION horae_claim(claimer text, wanted bigint[], forget_before bigint)
RETURNS TABLE (claimed integer, new_epoch bigint) LANGUAGE plpgsql AS $$
DECLARE
    instant bigint;
BEGIN
    PERFORM horae_lock();
    instant := horae_now();
    IF NOT EXISTS (
        SELECT FROM horae_members WHERE owner = claimer AND expires_at > instant
    ) THEN
        RETURN;
    END IF;
    DELETE FROM horae_lost WHERE lost_at < instant - forget_before;
    RETURN QUERY
    WITH free AS (
        SELECT held.partition, held.owner FROM horae_partitions AS held
        LEFT JOIN horae_members AS alive
            ON alive.owner = held.owner AND alive.expires_at > instant
        WHERE held.partition = ANY (wanted) AND (alive.owner IS NULL OR alive.owner = claimer)
    ), taken AS (
        INSERT INTO horae_lost (owner, partition, lost_at)
        SELECT free.owner, free.partition, instant FROM free WHERE free.owner <> claimer
        ON CONFLICT (owner, partition) DO UPDATE SET lost_at = excluded.lost_at
    )
    UPDATE horae_partitions AS held SET epoch = held.epoch + 1, owner = claimer
    FROM free WHERE held.partition = free.partition
    RETURNING held.partition, held.epoch;
END
$$;

CREATE FUNCTION horae_leave(leaver text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM horae_lock();
    UPDATE horae_partitions SET owner = NULL WHERE owner = leaver;
    DELETE FROM horae_members WHERE owner = leaver;
    DELETE FROM horae_lost WHERE owner = leaver;
END
$$;
