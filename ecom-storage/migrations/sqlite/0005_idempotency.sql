-- What has been done under an idempotency key, and its answer. A row without an answer is visible to no other
-- transaction: the claim and the answer commit together.
CREATE TABLE idempotency_keys (
    scope           TEXT    NOT NULL CHECK (length(scope) BETWEEN 1 AND 200),
    idempotency_key TEXT    NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    -- SHA-256 of the request.
    request_hash    BLOB    NOT NULL CHECK (length(request_hash) = 32),
    answer          BLOB,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    PRIMARY KEY (scope, idempotency_key)
) STRICT;

CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires_at);
