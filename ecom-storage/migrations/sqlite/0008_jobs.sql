-- Operations that take long, as a queue. `due_at` is when a worker can take the row: NULL once it has ended. `waiting` is
-- the hash of kind and parameters while it waits for its first run.
CREATE TABLE jobs (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind             TEXT    NOT NULL,
    parameters       TEXT    NOT NULL CHECK (json_valid(parameters)),
    state            TEXT    NOT NULL,
    counters         TEXT    NOT NULL CHECK (json_valid(counters)),
    attempts         INTEGER NOT NULL CHECK (attempts >= 0),
    last_error       TEXT CHECK (length(last_error) <= 1000),
    lease_holder     BLOB CHECK (length(lease_holder) = 16),
    lease_expires_at INTEGER,
    run_after        INTEGER NOT NULL,
    started_at       INTEGER,
    finished_at      INTEGER,
    due_at           INTEGER,
    waiting          BLOB,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    created_by       TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by       TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version          INTEGER NOT NULL CHECK (version >= 1),
    deleted_at       INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX jobs_waiting ON jobs (waiting);
CREATE INDEX jobs_due ON jobs (due_at, id);
CREATE INDEX jobs_kind_state ON jobs (kind, state, id);
CREATE INDEX jobs_kind ON jobs (kind, id);
CREATE INDEX jobs_state ON jobs (state, id);
