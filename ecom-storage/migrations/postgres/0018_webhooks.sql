-- URLs that the shop calls when events happen. `secret` is the key that signs messages, encrypted if the shop has a
-- secret key. `previous_secrets` are earlier keys, which sign as well for a time. The columns from `failures` to
-- `succeeded_at` say how the last deliveries went, and change without a new version.
CREATE TABLE webhooks (
    id               UUID        NOT NULL PRIMARY KEY,
    url              TEXT        NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    description      TEXT        CHECK (length(description) BETWEEN 1 AND 255),
    events           JSONB       NOT NULL CHECK (jsonb_typeof(events) = 'array'),
    enabled          INTEGER     NOT NULL CHECK (enabled BETWEEN 0 AND 1),
    off_reason       TEXT        CHECK (length(off_reason) BETWEEN 1 AND 100),
    secret           BYTEA       NOT NULL CHECK (length(secret) BETWEEN 1 AND 255),
    previous_secrets JSONB       NOT NULL CHECK (jsonb_typeof(previous_secrets) = 'array'),
    failures         BIGINT      NOT NULL CHECK (failures >= 0),
    failing_since    TIMESTAMPTZ,
    failed_at        TIMESTAMPTZ,
    rests_until      TIMESTAMPTZ,
    succeeded_at     TIMESTAMPTZ,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL,
    created_by       TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by       TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version          BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at       TIMESTAMPTZ
);

-- The deliveries of events to webhooks: a queue, and the log of what became of it. `due_at` is when a process can
-- attempt the delivery. It is NULL if the delivery has ended, or if it waits for an earlier one of the same aggregate.
CREATE TABLE webhook_deliveries (
    id           UUID        NOT NULL PRIMARY KEY,
    webhook_id   UUID        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id     UUID        NOT NULL,
    kind         TEXT        NOT NULL CHECK (length(kind) BETWEEN 1 AND 100),
    aggregate_id UUID        NOT NULL,
    seq          BIGINT      NOT NULL CHECK (seq >= 0),
    payload      TEXT        NOT NULL,
    state        TEXT        NOT NULL CHECK (length(state) BETWEEN 1 AND 20),
    attempts     BIGINT      NOT NULL CHECK (attempts >= 0),
    due_at       TIMESTAMPTZ CHECK (due_at IS NULL OR state = 'pending'),
    holder       UUID        CHECK (holder IS NULL OR due_at IS NOT NULL),
    attempted_at TIMESTAMPTZ,
    duration_ms  BIGINT,
    status       INTEGER     CHECK (status BETWEEN 0 AND 65535),
    error        TEXT        CHECK (length(error) <= 300),
    response     TEXT        CHECK (length(response) <= 500),
    finished_at  TIMESTAMPTZ CHECK ((finished_at IS NULL) = (state = 'pending')),
    created_at   TIMESTAMPTZ NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL,
    created_by   TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by   TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version      BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at   TIMESTAMPTZ
);

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at);
CREATE INDEX webhook_deliveries_queue ON webhook_deliveries (webhook_id, state, aggregate_id, due_at, seq);
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_webhook_state ON webhook_deliveries (webhook_id, state, id);
CREATE INDEX webhook_deliveries_state ON webhook_deliveries (state, id);
CREATE INDEX webhook_deliveries_kind ON webhook_deliveries (kind, id);
CREATE UNIQUE INDEX webhook_deliveries_event ON webhook_deliveries (event_id, webhook_id);
CREATE INDEX webhook_deliveries_created ON webhook_deliveries (created_at);
