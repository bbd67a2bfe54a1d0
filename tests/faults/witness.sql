-- Notes for every commit which session made it and who owned the partitions at that moment, so that
-- a commit by somebody else than the owner is seen whatever the code of the engine says.
CREATE TABLE faults_witness (
    position bigint NOT NULL,
    session text NOT NULL,
    owner text,
    events bigint NOT NULL
);

CREATE FUNCTION faults_witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO faults_witness
    SELECT max(written.notification_id), current_setting('application_name'), held.owner, count(*)
    FROM written
    JOIN horae_partitions AS held
        ON held.partition = get_byte(uuid_send(written.originator_id), 0) % 64
    WHERE written.topic <> 'request.answered.v1'
    GROUP BY held.owner;
    RETURN NULL;
END
$$;

CREATE TRIGGER faults_witness AFTER INSERT ON horae_events
REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION faults_witness();
