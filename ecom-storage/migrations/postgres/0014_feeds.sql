-- The sources that the shop imports again and again. `source_version` is the version that was imported to its end with
-- these settings, and `begun_version` one of which only the first `done` records may be.
CREATE TABLE feeds (
    id             UUID        NOT NULL PRIMARY KEY,
    name           TEXT        NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    settings       BYTEA       NOT NULL CHECK (length(settings) <= 32),
    source_version TEXT        CHECK (length(source_version) <= 2000),
    begun_version  TEXT        CHECK (length(begun_version) <= 2000),
    done           BIGINT      NOT NULL CHECK (done >= 0),
    running        INTEGER     NOT NULL CHECK (running BETWEEN 0 AND 1),
    polled_at      TIMESTAMPTZ,
    imported_at    TIMESTAMPTZ,
    next_poll_at   TIMESTAMPTZ NOT NULL,
    -- Old jobs are removed.
    last_job       UUID        REFERENCES jobs (id) ON DELETE SET NULL,
    failures       BIGINT      NOT NULL CHECK (failures >= 0),
    last_error     TEXT        CHECK (length(last_error) <= 1000),
    created_at     TIMESTAMPTZ NOT NULL,
    updated_at     TIMESTAMPTZ NOT NULL,
    created_by     TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by     TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version        BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at     TIMESTAMPTZ
);

CREATE UNIQUE INDEX feeds_name ON feeds (name);
CREATE INDEX feeds_last_job ON feeds (last_job);
