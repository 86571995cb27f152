-- What has been done under an idempotency key, and its answer. A row without an answer is visible to no other
-- transaction: the claim and the answer commit together.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    -- At most 200 characters.
    scope           VARBINARY(800) NOT NULL CHECK (LENGTH(scope) >= 1),
    idempotency_key VARBINARY(255) NOT NULL CHECK (LENGTH(idempotency_key) >= 1),
    -- SHA-256 of the request.
    request_hash    BINARY(32)     NOT NULL,
    answer          MEDIUMBLOB,
    created_at      DATETIME(6)    NOT NULL,
    expires_at      DATETIME(6)    NOT NULL,
    PRIMARY KEY (scope, idempotency_key),
    INDEX idempotency_keys_expires (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
