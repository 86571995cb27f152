-- The table of jobs becomes a queue for any kind of job. `priority` is the place of a job in its queue, and
-- `unique_key` what no two waiting jobs of a kind have in common. A kind of jobs is a queue, which has a row in
-- `job_queues` once it was paused. `job_schedules` has the time at which each schedule creates its next job.
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN unique_key TEXT CHECK (length(unique_key) <= 200);

CREATE INDEX jobs_queue ON jobs (kind, priority, due_at, id);
CREATE INDEX jobs_unique_key ON jobs (kind, unique_key);
CREATE INDEX jobs_finished ON jobs (finished_at);

CREATE TABLE job_queues (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind       TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    paused     INTEGER NOT NULL CHECK (paused BETWEEN 0 AND 1),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version    INTEGER NOT NULL CHECK (version >= 1),
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX job_queues_kind ON job_queues (kind);

CREATE TABLE job_schedules (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    cron       TEXT    NOT NULL CHECK (length(cron) <= 200),
    next_at    INTEGER NOT NULL,
    fired_at   INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version    INTEGER NOT NULL CHECK (version >= 1),
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX job_schedules_name ON job_schedules (name);
