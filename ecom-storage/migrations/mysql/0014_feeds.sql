-- The sources that the shop imports again and again. `source_version` is the version that was imported to its end with
-- these settings, and `begun_version` one of which only the first `done` records may be.
CREATE TABLE IF NOT EXISTS feeds (
    id             BINARY(16)    NOT NULL PRIMARY KEY,
    name           VARCHAR(64)   NOT NULL CHECK (char_length(name) >= 1),
    settings       VARBINARY(32) NOT NULL,
    source_version VARCHAR(2000),
    begun_version  VARCHAR(2000),
    done           BIGINT        NOT NULL CHECK (done >= 0),
    running        INT           NOT NULL CHECK (running BETWEEN 0 AND 1),
    polled_at      DATETIME(6),
    imported_at    DATETIME(6),
    next_poll_at   DATETIME(6)   NOT NULL,
    -- Old jobs are removed.
    last_job       BINARY(16),
    failures       BIGINT        NOT NULL CHECK (failures >= 0),
    last_error     VARCHAR(1000),
    created_at     DATETIME(6)   NOT NULL,
    updated_at     DATETIME(6)   NOT NULL,
    created_by     VARCHAR(100)  NOT NULL,
    updated_by     VARCHAR(100)  NOT NULL,
    version        BIGINT        NOT NULL CHECK (version >= 1),
    deleted_at     DATETIME(6),
    UNIQUE INDEX feeds_name (name),
    INDEX feeds_last_job (last_job),
    CONSTRAINT feeds_job FOREIGN KEY (last_job) REFERENCES jobs (id) ON DELETE SET NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
