-- Operations that take long, as a queue. `due_at` is when a worker can take the row: NULL once it has ended. `waiting` is
-- the hash of kind and parameters while it waits for its first run.
CREATE TABLE jobs (
    id               UUID        NOT NULL PRIMARY KEY,
    kind             TEXT        NOT NULL,
    parameters       JSONB       NOT NULL,
    state            TEXT        NOT NULL,
    counters         JSONB       NOT NULL,
    attempts         BIGINT      NOT NULL CHECK (attempts >= 0),
    last_error       TEXT CHECK (length(last_error) <= 1000),
    lease_holder     UUID,
    lease_expires_at TIMESTAMPTZ,
    run_after        TIMESTAMPTZ NOT NULL,
    started_at       TIMESTAMPTZ,
    finished_at      TIMESTAMPTZ,
    due_at           TIMESTAMPTZ,
    waiting          BYTEA,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL,
    created_by       TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by       TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version          BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at       TIMESTAMPTZ
);

CREATE UNIQUE INDEX jobs_waiting ON jobs (waiting);
CREATE INDEX jobs_due ON jobs (due_at, id);
CREATE INDEX jobs_kind_state ON jobs (kind, state, id);
CREATE INDEX jobs_kind ON jobs (kind, id);
CREATE INDEX jobs_state ON jobs (state, id);
