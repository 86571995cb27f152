-- The table of jobs becomes a queue for any kind of job. `priority` is the place of a job in its queue, and
-- `unique_key` what no two waiting jobs of a kind have in common. A kind of jobs is a queue, which has a row in
-- `job_queues` once it was paused. `job_schedules` has the time at which each schedule creates its next job.
--
-- MySQL commits each of these statements by itself, so that a migration that was cut off runs again: a step is skipped
-- if it was done.

SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'jobs' AND column_name = 'unique_key'),
    'DO 0',
    'ALTER TABLE jobs ADD COLUMN priority INT NOT NULL DEFAULT 0, ADD COLUMN unique_key VARCHAR(200),
     ADD INDEX jobs_queue (kind, priority, due_at, id), ADD INDEX jobs_unique_key (kind, unique_key),
     ADD INDEX jobs_finished (finished_at)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

CREATE TABLE IF NOT EXISTS job_queues (
    id         BINARY(16)   NOT NULL PRIMARY KEY,
    kind       VARCHAR(64)  NOT NULL CHECK (char_length(kind) >= 1),
    paused     INT          NOT NULL CHECK (paused BETWEEN 0 AND 1),
    created_at DATETIME(6)  NOT NULL,
    updated_at DATETIME(6)  NOT NULL,
    created_by VARCHAR(100) NOT NULL,
    updated_by VARCHAR(100) NOT NULL,
    version    BIGINT       NOT NULL CHECK (version >= 1),
    deleted_at DATETIME(6),
    UNIQUE INDEX job_queues_kind (kind)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS job_schedules (
    id         BINARY(16)   NOT NULL PRIMARY KEY,
    name       VARCHAR(64)  NOT NULL CHECK (char_length(name) >= 1),
    cron       VARCHAR(200) NOT NULL,
    next_at    DATETIME(6)  NOT NULL,
    fired_at   DATETIME(6),
    created_at DATETIME(6)  NOT NULL,
    updated_at DATETIME(6)  NOT NULL,
    created_by VARCHAR(100) NOT NULL,
    updated_by VARCHAR(100) NOT NULL,
    version    BIGINT       NOT NULL CHECK (version >= 1),
    deleted_at DATETIME(6),
    UNIQUE INDEX job_schedules_name (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
