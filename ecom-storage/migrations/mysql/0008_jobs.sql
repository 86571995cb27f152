-- Operations that take long, as a queue. `due_at` is when a worker can take the row: NULL once it has ended. `waiting` is
-- the hash of kind and parameters while it waits for its first run.
CREATE TABLE IF NOT EXISTS jobs (
    id               BINARY(16)    NOT NULL PRIMARY KEY,
    kind             VARCHAR(100)  NOT NULL,
    parameters       JSON          NOT NULL,
    state            VARCHAR(100)  NOT NULL,
    counters         JSON          NOT NULL,
    attempts         BIGINT        NOT NULL CHECK (attempts >= 0),
    last_error       VARCHAR(1000),
    lease_holder     BINARY(16),
    lease_expires_at DATETIME(6),
    run_after        DATETIME(6)   NOT NULL,
    started_at       DATETIME(6),
    finished_at      DATETIME(6),
    due_at           DATETIME(6),
    waiting          VARBINARY(32),
    created_at       DATETIME(6)   NOT NULL,
    updated_at       DATETIME(6)   NOT NULL,
    created_by       VARCHAR(100)  NOT NULL,
    updated_by       VARCHAR(100)  NOT NULL,
    version          BIGINT        NOT NULL CHECK (version >= 1),
    deleted_at       DATETIME(6),
    UNIQUE INDEX jobs_waiting (waiting),
    INDEX jobs_due (due_at, id),
    INDEX jobs_kind_state (kind, state, id),
    INDEX jobs_kind (kind, id),
    INDEX jobs_state (state, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
