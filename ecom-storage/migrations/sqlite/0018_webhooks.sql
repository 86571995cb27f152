-- URLs that the shop calls when events happen. `secret` is the key that signs messages, encrypted if the shop has a
-- secret key. `previous_secrets` are earlier keys, which sign as well for a time. The columns from `failures` to
-- `succeeded_at` say how the last deliveries went, and change without a new version.
CREATE TABLE webhooks (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    url              TEXT    NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    description      TEXT    CHECK (length(description) BETWEEN 1 AND 255),
    events           TEXT    NOT NULL CHECK (json_type(events) = 'array'),
    enabled          INTEGER NOT NULL CHECK (enabled BETWEEN 0 AND 1),
    off_reason       TEXT    CHECK (length(off_reason) BETWEEN 1 AND 100),
    secret           BLOB    NOT NULL CHECK (length(secret) BETWEEN 1 AND 255),
    previous_secrets TEXT    NOT NULL CHECK (json_type(previous_secrets) = 'array'),
    failures         INTEGER NOT NULL CHECK (failures >= 0),
    failing_since    INTEGER,
    failed_at        INTEGER,
    rests_until      INTEGER,
    succeeded_at     INTEGER,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    created_by       TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by       TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version          INTEGER NOT NULL CHECK (version >= 1),
    deleted_at       INTEGER
) STRICT, WITHOUT ROWID;

-- The deliveries of events to webhooks: a queue, and the log of what became of it. `due_at` is when a process can
-- attempt the delivery. It is NULL if the delivery has ended, or if it waits for an earlier one of the same aggregate.
CREATE TABLE webhook_deliveries (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    webhook_id   BLOB    NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id     BLOB    NOT NULL CHECK (length(event_id) = 16),
    kind         TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 100),
    aggregate_id BLOB    NOT NULL CHECK (length(aggregate_id) = 16),
    seq          INTEGER NOT NULL CHECK (seq >= 0),
    payload      TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (length(state) BETWEEN 1 AND 20),
    attempts     INTEGER NOT NULL CHECK (attempts >= 0),
    due_at       INTEGER CHECK (due_at IS NULL OR state = 'pending'),
    holder       BLOB    CHECK (holder IS NULL OR (length(holder) = 16 AND due_at IS NOT NULL)),
    attempted_at INTEGER,
    duration_ms  INTEGER,
    status       INTEGER CHECK (status BETWEEN 0 AND 65535),
    error        TEXT    CHECK (length(error) <= 300),
    response     TEXT    CHECK (length(response) <= 500),
    finished_at  INTEGER CHECK ((finished_at IS NULL) = (state = 'pending')),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by   TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version      INTEGER NOT NULL CHECK (version >= 1),
    deleted_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at);
CREATE INDEX webhook_deliveries_queue ON webhook_deliveries (webhook_id, state, aggregate_id, due_at, seq);
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_webhook_state ON webhook_deliveries (webhook_id, state, id);
CREATE INDEX webhook_deliveries_state ON webhook_deliveries (state, id);
CREATE INDEX webhook_deliveries_kind ON webhook_deliveries (kind, id);
CREATE UNIQUE INDEX webhook_deliveries_event ON webhook_deliveries (event_id, webhook_id);
CREATE INDEX webhook_deliveries_created ON webhook_deliveries (created_at);
