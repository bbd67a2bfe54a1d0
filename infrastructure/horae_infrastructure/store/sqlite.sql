-- The tables of a SQLite store, format 1. Instants are microseconds since the epoch, UUIDs are
-- 16 bytes. Events keep the columns of the `eventsourcing` library, whose readers ask for `rowid`.

CREATE TABLE horae_store (
    identity TEXT NOT NULL,
    format INTEGER NOT NULL,
    partitions INTEGER NOT NULL
);

-- AUTOINCREMENT: a number is never given twice, even if the newest rows are erased.
CREATE TABLE horae_events (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT,
    originator_id BLOB NOT NULL,
    originator_version INTEGER NOT NULL,
    topic TEXT NOT NULL,
    state BLOB NOT NULL,
    recorded_at INTEGER NOT NULL,
    UNIQUE (originator_id, originator_version)
);

-- A stream belongs to one partition for good, so the stream alone is the key.
CREATE TABLE horae_ledger (
    stream BLOB NOT NULL PRIMARY KEY,
    partition INTEGER NOT NULL,
    due INTEGER,
    state BLOB NOT NULL
) WITHOUT ROWID;

CREATE INDEX horae_ledger_due ON horae_ledger (due, stream, partition) WHERE due IS NOT NULL;

CREATE TABLE horae_partitions (
    partition INTEGER NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner TEXT
);

CREATE TABLE horae_members (
    owner TEXT NOT NULL PRIMARY KEY,
    address TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Partitions taken from an owner that may not know it yet.
CREATE TABLE horae_lost (
    owner TEXT NOT NULL,
    partition INTEGER NOT NULL,
    lost_at INTEGER NOT NULL,
    PRIMARY KEY (owner, partition)
) WITHOUT ROWID;

-- What limits the executions counted under a key (a queue's or a tenant's), and how many run. The
-- number of those that run is kept for every key, so that it is right when a limit is first set.
CREATE TABLE horae_limits (
    key TEXT NOT NULL PRIMARY KEY,
    running INTEGER NOT NULL DEFAULT 0,
    concurrency INTEGER,
    rate INTEGER,
    per INTEGER,
    paused INTEGER NOT NULL DEFAULT 0,
    weight INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;

-- Attempts that have begun and count for a rate up to an instant.
CREATE TABLE horae_starts (
    key TEXT NOT NULL,
    until INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    PRIMARY KEY (key, until)
) WITHOUT ROWID;
