-- Names for sets of permissions. The built-in roles have the permissions of the release, which are not stored.
CREATE TABLE IF NOT EXISTS roles (
    id          BINARY(16)   NOT NULL PRIMARY KEY,
    name        VARCHAR(50)  NOT NULL CHECK (name REGEXP '^[a-z][a-z0-9_-]*$'),
    description VARCHAR(255) CHECK (CHAR_LENGTH(description) >= 1),
    permissions JSON         NOT NULL CHECK (JSON_TYPE(permissions) = 'ARRAY'),
    created_at  DATETIME(6)  NOT NULL,
    updated_at  DATETIME(6)  NOT NULL,
    created_by  VARCHAR(100) NOT NULL,
    updated_by  VARCHAR(100) NOT NULL,
    version     BIGINT       NOT NULL CHECK (version >= 1),
    deleted_at  DATETIME(6),
    UNIQUE INDEX roles_name (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- IGNORE: a migration that was cut off runs again.
INSERT IGNORE INTO roles (id, name, permissions, created_at, updated_at, created_by, updated_by, version) VALUES
    (X'00000000000000000000000000000001', 'admin', '[]', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'system', 'system', 1),
    (X'00000000000000000000000000000002', 'manager', '[]', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'system', 'system', 1),
    (X'00000000000000000000000000000003', 'staff', '[]', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'system', 'system', 1),
    (X'00000000000000000000000000000004', 'customer', '[]', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'system', 'system', 1);

CREATE TABLE IF NOT EXISTS users (
    id                BINARY(16)     NOT NULL PRIMARY KEY,
    email             VARCHAR(254)   NOT NULL CHECK (CHAR_LENGTH(email) >= 1),
    email_key         VARBINARY(512) NOT NULL,
    email_verified_at DATETIME(6),
    name              VARCHAR(200)   CHECK (CHAR_LENGTH(name) >= 1),
    -- The hash of the password, in the PHC string format.
    password          VARCHAR(512)   CHECK (CHAR_LENGTH(password) >= 1),
    password_set_at   DATETIME(6),
    customer_id       BINARY(16),
    blocked_at        DATETIME(6),
    created_at        DATETIME(6)    NOT NULL,
    updated_at        DATETIME(6)    NOT NULL,
    created_by        VARCHAR(100)   NOT NULL,
    updated_by        VARCHAR(100)   NOT NULL,
    version           BIGINT         NOT NULL CHECK (version >= 1),
    deleted_at        DATETIME(6),
    live              TINYINT        GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED,
    CHECK (password IS NULL OR password_set_at IS NOT NULL),
    UNIQUE INDEX users_email_live (email_key, live),
    UNIQUE INDEX users_customer_live (customer_id, live),
    INDEX users_email (email_key, id),
    INDEX users_customer (customer_id, id),
    -- SET NULL, so that a release that does not know users can purge a customer.
    CONSTRAINT users_customer_fk FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE SET NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS user_roles (
    user_id BINARY(16) NOT NULL,
    role_id BINARY(16) NOT NULL,
    PRIMARY KEY (user_id, role_id),
    INDEX user_roles_role (role_id, user_id),
    CONSTRAINT user_roles_user_fk FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT user_roles_role_fk FOREIGN KEY (role_id) REFERENCES roles (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS api_keys (
    id           BINARY(16)   NOT NULL PRIMARY KEY,
    name         VARCHAR(100) NOT NULL CHECK (CHAR_LENGTH(name) >= 1),
    prefix       VARCHAR(20)  NOT NULL CHECK (CHAR_LENGTH(prefix) >= 1),
    -- SHA-256 of the secret.
    hash         BINARY(32)   NOT NULL,
    permissions  JSON         NOT NULL CHECK (JSON_TYPE(permissions) = 'ARRAY'),
    is_admin     INT          NOT NULL CHECK (is_admin BETWEEN 0 AND 1),
    expires_at   DATETIME(6),
    last_used_at DATETIME(6),
    created_at   DATETIME(6)  NOT NULL,
    updated_at   DATETIME(6)  NOT NULL,
    created_by   VARCHAR(100) NOT NULL,
    updated_by   VARCHAR(100) NOT NULL,
    version      BIGINT       NOT NULL CHECK (version >= 1),
    deleted_at   DATETIME(6),
    UNIQUE INDEX api_keys_hash (hash)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Logins. `family` and `token` are the SHA-256 of the two secret parts of the refresh token.
CREATE TABLE IF NOT EXISTS sessions (
    id           BINARY(16)   NOT NULL PRIMARY KEY,
    user_id      BINARY(16)   NOT NULL,
    family       BINARY(32)   NOT NULL,
    token        BINARY(32)   NOT NULL,
    user_agent   VARCHAR(255),
    created_at   DATETIME(6)  NOT NULL,
    refreshed_at DATETIME(6)  NOT NULL,
    expires_at   DATETIME(6)  NOT NULL,
    ended_at     DATETIME(6),
    end_reason   VARCHAR(100) CHECK (CHAR_LENGTH(end_reason) >= 1),
    -- From when on the session cannot be used.
    over_at      DATETIME(6)  GENERATED ALWAYS AS (CASE WHEN ended_at < expires_at THEN ended_at ELSE expires_at END)
                              STORED,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    INDEX sessions_user (user_id, ended_at, id),
    INDEX sessions_over (over_at, id),
    CONSTRAINT sessions_user_fk FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Tokens that are sent by mail, at most one for each user and purpose.
CREATE TABLE IF NOT EXISTS one_time_tokens (
    -- SHA-256 of the token.
    hash       BINARY(32)     NOT NULL PRIMARY KEY,
    user_id    BINARY(16)     NOT NULL,
    purpose    VARCHAR(100)   NOT NULL CHECK (CHAR_LENGTH(purpose) >= 1),
    email      VARCHAR(254)   NOT NULL CHECK (CHAR_LENGTH(email) >= 1),
    expires_at DATETIME(6)    NOT NULL,
    UNIQUE INDEX one_time_tokens_user (user_id, purpose),
    INDEX one_time_tokens_expires (expires_at),
    CONSTRAINT one_time_tokens_user_fk FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Failed logins. `address` is the SHA-256 of an email address, whether or not a user has it.
CREATE TABLE IF NOT EXISTS login_failures (
    address  BINARY(32)  NOT NULL PRIMARY KEY,
    failures BIGINT      NOT NULL CHECK (failures >= 1),
    last_at  DATETIME(6) NOT NULL,
    INDEX login_failures_last (last_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- The keys that sign access tokens, encrypted. IGNORE: a migration that was cut off runs again.
INSERT IGNORE INTO settings (id, name, value, created_at, updated_at, created_by, updated_by, version) VALUES
    (X'00000000000000000000000000000003', 'signing_keys', '[]', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'system', 'system',
     1);
