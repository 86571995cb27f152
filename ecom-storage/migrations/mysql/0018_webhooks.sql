-- URLs that the shop calls when events happen. `secret` is the key that signs messages, encrypted if the shop has a
-- secret key. `previous_secrets` are earlier keys, which sign as well for a time. The columns from `failures` to
-- `succeeded_at` say how the last deliveries went, and change without a new version.
CREATE TABLE IF NOT EXISTS webhooks (
    id               BINARY(16)     NOT NULL PRIMARY KEY,
    url              VARCHAR(2000)  NOT NULL CHECK (CHAR_LENGTH(url) >= 1),
    description      VARCHAR(255)   CHECK (CHAR_LENGTH(description) >= 1),
    events           JSON           NOT NULL CHECK (JSON_TYPE(events) = 'ARRAY'),
    enabled          INT            NOT NULL CHECK (enabled BETWEEN 0 AND 1),
    off_reason       VARCHAR(100)   CHECK (CHAR_LENGTH(off_reason) >= 1),
    secret           VARBINARY(255) NOT NULL CHECK (LENGTH(secret) >= 1),
    previous_secrets JSON           NOT NULL CHECK (JSON_TYPE(previous_secrets) = 'ARRAY'),
    failures         BIGINT         NOT NULL CHECK (failures >= 0),
    failing_since    DATETIME(6),
    failed_at        DATETIME(6),
    rests_until      DATETIME(6),
    succeeded_at     DATETIME(6),
    created_at       DATETIME(6)    NOT NULL,
    updated_at       DATETIME(6)    NOT NULL,
    created_by       VARCHAR(100)   NOT NULL,
    updated_by       VARCHAR(100)   NOT NULL,
    version          BIGINT         NOT NULL CHECK (version >= 1),
    deleted_at       DATETIME(6)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- The deliveries of events to webhooks: a queue, and the log of what became of it. `due_at` is when a process can
-- attempt the delivery. It is NULL if the delivery has ended, or if it waits for an earlier one of the same aggregate.
CREATE TABLE IF NOT EXISTS webhook_deliveries (
    id           BINARY(16)   NOT NULL PRIMARY KEY,
    webhook_id   BINARY(16)   NOT NULL,
    event_id     BINARY(16)   NOT NULL,
    kind         VARCHAR(100) NOT NULL CHECK (CHAR_LENGTH(kind) >= 1),
    aggregate_id BINARY(16)   NOT NULL,
    seq          BIGINT       NOT NULL CHECK (seq >= 0),
    payload      LONGTEXT     NOT NULL,
    state        VARCHAR(20)  NOT NULL CHECK (CHAR_LENGTH(state) >= 1),
    attempts     BIGINT       NOT NULL CHECK (attempts >= 0),
    due_at       DATETIME(6),
    holder       BINARY(16),
    attempted_at DATETIME(6),
    duration_ms  BIGINT,
    status       INT          CHECK (status BETWEEN 0 AND 65535),
    error        VARCHAR(300),
    response     VARCHAR(500),
    finished_at  DATETIME(6),
    created_at   DATETIME(6)  NOT NULL,
    updated_at   DATETIME(6)  NOT NULL,
    created_by   VARCHAR(100) NOT NULL,
    updated_by   VARCHAR(100) NOT NULL,
    version      BIGINT       NOT NULL CHECK (version >= 1),
    deleted_at   DATETIME(6),
    CHECK (due_at IS NULL OR state = 'pending'),
    CHECK (holder IS NULL OR due_at IS NOT NULL),
    CHECK ((finished_at IS NULL) = (state = 'pending')),
    INDEX webhook_deliveries_due (webhook_id, due_at),
    INDEX webhook_deliveries_queue (webhook_id, state, aggregate_id, due_at, seq),
    INDEX webhook_deliveries_webhook (webhook_id, id),
    INDEX webhook_deliveries_webhook_state (webhook_id, state, id),
    INDEX webhook_deliveries_state (state, id),
    INDEX webhook_deliveries_kind (kind, id),
    UNIQUE INDEX webhook_deliveries_event (event_id, webhook_id),
    INDEX webhook_deliveries_created (created_at),
    CONSTRAINT webhook_deliveries_webhook_fk FOREIGN KEY (webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
