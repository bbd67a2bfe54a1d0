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

-- What limits the executions counted under a key (a queue's or a tenant's), and how many run. The
-- number of those that run is kept for every key, so that it is right when a limit is first set.
CREATE TABLE horae_limits (
    running bigint NOT NULL DEFAULT 0,
    concurrency bigint,
    rate bigint,
    per bigint,
    weight bigint NOT NULL DEFAULT 1,
    paused boolean NOT NULL DEFAULT false,
    key text NOT NULL PRIMARY KEY
) WITH (fillfactor = 50);

-- Attempts that have begun and count for a rate up to an instant.
CREATE TABLE horae_starts (
    until bigint NOT NULL,
    starts bigint NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (key, until)
);

-- Where executions wait for a limit: the urgency of the most urgent one at each engine.
CREATE TABLE horae_waiting (
    head bigint NOT NULL,
    key text NOT NULL,
    owner text NOT NULL,
    PRIMARY KEY (owner, key)
);

CREATE FUNCTION horae_now() RETURNS bigint LANGUAGE sql VOLATILE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- Appends and claims one after the other, in the order of their commits: the lock goes after the
-- commit is visible. So a reader that has seen a position has seen all before it. A table lock
-- would do the same and stand in the way of autovacuum.
CREATE FUNCTION horae_lock() RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock((1212371269::bigint << 32) | 'horae_events'::regclass::oid::bigint);

-- Counts what a batch uses of limits, under the lock of the append, and refuses the batch if
-- attempts begin in it that a limit has no room for.
CREATE FUNCTION horae_use(
    use_keys text[], use_changes bigint[], use_starts bigint[], use_most bigint[],
    decided_at bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    crowded text;
    rated boolean;
BEGIN
    WITH used AS (
        INSERT INTO horae_limits AS held (key, running)
        SELECT key, change FROM unnest(use_keys, use_changes) AS use (key, change)
        ON CONFLICT (key) DO UPDATE SET running = held.running + excluded.running
        RETURNING held.*
    )
    SELECT string_agg(key, ',') FILTER (WHERE paused OR running - change + most > concurrency),
           bool_or(rate IS NOT NULL)
    INTO crowded, rated
    FROM used
    JOIN unnest(use_keys, use_changes, use_starts, use_most) AS use (key, change, starts, most)
        USING (key)
    WHERE starts > 0;

    IF rated THEN
        DELETE FROM horae_starts WHERE key = ANY (use_keys) AND until <= decided_at;
        INSERT INTO horae_starts AS begun (key, until, starts)
        SELECT key, ((decided_at + per + grain - 1) / grain) * grain, use.starts
        FROM unnest(use_keys, use_starts) AS use (key, starts)
        JOIN horae_limits USING (key), LATERAL (SELECT (per + 99) / 100 AS grain) AS divided
        WHERE rate IS NOT NULL AND use.starts > 0
        ON CONFLICT (key, until) DO UPDATE SET starts = begun.starts + excluded.starts;
        SELECT concat_ws(',', crowded, string_agg(key, ',')) INTO crowded
        FROM horae_limits JOIN unnest(use_keys, use_starts) AS use (key, starts) USING (key)
        WHERE use.starts > 0
          AND (SELECT sum(begun.starts) FROM horae_starts AS begun
               WHERE begun.key = horae_limits.key) > rate;
    END IF;

    IF crowded <> '' THEN
        RAISE EXCEPTION 'limits have no room' USING ERRCODE = 'HR002', DETAIL = crowded;
    END IF;
END
$$;

-- What limits something and how much of it is used, with the most urgent execution that waits for
-- it at another living engine; what waits at the one that asks is kept for the others.
CREATE FUNCTION horae_look(asker text, its_keys text[], its_heads bigint[])
RETURNS TABLE (
    key text, concurrency bigint, rate bigint, per bigint, paused boolean, weight bigint,
    running bigint, head bigint, until bigint, starts bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM horae_waiting WHERE owner = asker AND NOT key = ANY (its_keys);
    INSERT INTO horae_waiting AS held (owner, key, head)
    SELECT asker, waits.key, waits.head FROM unnest(its_keys, its_heads) AS waits (key, head)
    ON CONFLICT (owner, key) DO UPDATE SET head = excluded.head
    WHERE held.head <> excluded.head;
    RETURN QUERY
    SELECT held.key, held.concurrency, held.rate, held.per, held.paused, held.weight,
           held.running, elsewhere.head, begun.until, begun.starts
    FROM horae_limits AS held
    LEFT JOIN horae_starts AS begun ON begun.key = held.key
    LEFT JOIN LATERAL (
        SELECT min(waits.head) AS head
        FROM horae_waiting AS waits
        JOIN horae_members AS alive
            ON alive.owner = waits.owner AND alive.expires_at > horae_now()
        WHERE waits.key = held.key AND waits.owner <> asker
    ) AS elsewhere ON true
    WHERE held.concurrency IS NOT NULL OR held.rate IS NOT NULL OR held.paused
       OR held.weight <> 1
    ORDER BY held.key, begun.until;
END
$$;

CREATE FUNCTION horae_append(
    asked_partitions bigint[], asked_epochs bigint[],
    streams uuid[], versions bigint[], names text[], states bytea[],
    line_streams uuid[], line_partitions bigint[], line_dues bigint[], line_states bytea[],
    settled_streams uuid[], settled_partitions bigint[],
    use_keys text[], use_changes bigint[], use_starts bigint[], use_most bigint[],
    decided_at bigint, settings text
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

    IF cardinality(use_keys) > 0 THEN
        PERFORM horae_use(use_keys, use_changes, use_starts, use_most, decided_at);
    END IF;

    IF settings IS NOT NULL THEN
        INSERT INTO horae_limits (key, concurrency, rate, per, paused, weight)
        SELECT * FROM json_to_recordset(settings::json) AS setting (
            key text, concurrency bigint, rate bigint, per bigint, paused boolean, weight bigint
        )
        ON CONFLICT (key) DO UPDATE
        SET concurrency = excluded.concurrency, rate = excluded.rate, per = excluded.per,
            paused = excluded.paused, weight = excluded.weight;
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
