-- What has been done under an idempotency key, and its answer. A row without an answer is visible to no other
-- transaction: the claim and the answer commit together.
CREATE TABLE idempotency_keys (
    scope           TEXT        COLLATE "C" NOT NULL CHECK (length(scope) BETWEEN 1 AND 200),
    idempotency_key TEXT        COLLATE "C" NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    -- SHA-256 of the request.
    request_hash    BYTEA       NOT NULL CHECK (length(request_hash) = 32),
    answer          BYTEA,
    created_at      TIMESTAMPTZ NOT NULL,
    expires_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (scope, idempotency_key)
);

CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires_at);
