-- Names for sets of permissions. The built-in roles have the permissions of the release, which are not stored.
CREATE TABLE roles (
    id          UUID        NOT NULL PRIMARY KEY,
    name        TEXT        COLLATE "C" NOT NULL CHECK (name ~ '^[a-z][a-z0-9_-]{0,49}$'),
    description TEXT        CHECK (length(description) BETWEEN 1 AND 255),
    permissions JSONB       NOT NULL CHECK (jsonb_typeof(permissions) = 'array'),
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL,
    created_by  TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by  TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version     BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at  TIMESTAMPTZ
);

CREATE UNIQUE INDEX roles_name ON roles (name);

INSERT INTO roles (id, name, permissions, created_at, updated_at, created_by, updated_by, version) VALUES
    ('00000000-0000-0000-0000-000000000001', 'admin', '[]', now(), now(), 'system', 'system', 1),
    ('00000000-0000-0000-0000-000000000002', 'manager', '[]', now(), now(), 'system', 'system', 1),
    ('00000000-0000-0000-0000-000000000003', 'staff', '[]', now(), now(), 'system', 'system', 1),
    ('00000000-0000-0000-0000-000000000004', 'customer', '[]', now(), now(), 'system', 'system', 1);

CREATE TABLE users (
    id                UUID        NOT NULL PRIMARY KEY,
    email             TEXT        NOT NULL CHECK (length(email) BETWEEN 1 AND 254),
    email_key         TEXT        COLLATE "C" NOT NULL,
    email_verified_at TIMESTAMPTZ,
    name              TEXT        CHECK (length(name) BETWEEN 1 AND 200),
    -- The hash of the password, in the PHC string format.
    password          TEXT        COLLATE "C" CHECK (length(password) BETWEEN 1 AND 512),
    password_set_at   TIMESTAMPTZ,
    -- SET NULL, so that a release that does not know users can purge a customer.
    customer_id       UUID        REFERENCES customers (id) ON DELETE SET NULL,
    blocked_at        TIMESTAMPTZ,
    created_at        TIMESTAMPTZ NOT NULL,
    updated_at        TIMESTAMPTZ NOT NULL,
    created_by        TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by        TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version           BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at        TIMESTAMPTZ,
    CHECK (password IS NULL OR password_set_at IS NOT NULL)
);

CREATE UNIQUE INDEX users_email_live ON users (email_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_customer_live ON users (customer_id) WHERE deleted_at IS NULL;
CREATE INDEX users_email ON users (email_key, id);
CREATE INDEX users_customer ON users (customer_id, id);

CREATE TABLE user_roles (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    role_id UUID NOT NULL REFERENCES roles (id) ON DELETE RESTRICT,
    PRIMARY KEY (user_id, role_id)
);

CREATE INDEX user_roles_role ON user_roles (role_id, user_id);

CREATE TABLE api_keys (
    id           UUID        NOT NULL PRIMARY KEY,
    name         TEXT        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    prefix       TEXT        NOT NULL CHECK (length(prefix) BETWEEN 1 AND 20),
    -- SHA-256 of the secret.
    hash         BYTEA       NOT NULL CHECK (length(hash) = 32),
    permissions  JSONB       NOT NULL CHECK (jsonb_typeof(permissions) = 'array'),
    is_admin     INTEGER     NOT NULL CHECK (is_admin BETWEEN 0 AND 1),
    expires_at   TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    created_at   TIMESTAMPTZ NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL,
    created_by   TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by   TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version      BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at   TIMESTAMPTZ
);

CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);

-- Logins. `family` and `token` are the SHA-256 of the two secret parts of the refresh token.
CREATE TABLE sessions (
    id           UUID        NOT NULL PRIMARY KEY,
    user_id      UUID        NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    family       BYTEA       NOT NULL CHECK (length(family) = 32),
    token        BYTEA       NOT NULL CHECK (length(token) = 32),
    user_agent   TEXT        CHECK (length(user_agent) <= 255),
    created_at   TIMESTAMPTZ NOT NULL,
    refreshed_at TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL,
    ended_at     TIMESTAMPTZ,
    end_reason   TEXT        CHECK (length(end_reason) BETWEEN 1 AND 100),
    -- From when on the session cannot be used.
    over_at      TIMESTAMPTZ GENERATED ALWAYS AS (CASE WHEN ended_at < expires_at THEN ended_at ELSE expires_at END)
                             STORED,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);

CREATE INDEX sessions_user ON sessions (user_id, ended_at, id);
CREATE INDEX sessions_over ON sessions (over_at, id);

-- Tokens that are sent by mail, at most one for each user and purpose.
CREATE TABLE one_time_tokens (
    -- SHA-256 of the token.
    hash       BYTEA       NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    user_id    UUID        NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    purpose    TEXT        NOT NULL CHECK (length(purpose) BETWEEN 1 AND 100),
    email      TEXT        NOT NULL CHECK (length(email) BETWEEN 1 AND 254),
    expires_at TIMESTAMPTZ NOT NULL
);

CREATE UNIQUE INDEX one_time_tokens_user ON one_time_tokens (user_id, purpose);
CREATE INDEX one_time_tokens_expires ON one_time_tokens (expires_at);

-- Failed logins. `address` is the SHA-256 of an email address, whether or not a user has it.
CREATE TABLE login_failures (
    address  BYTEA       NOT NULL PRIMARY KEY CHECK (length(address) = 32),
    failures BIGINT      NOT NULL CHECK (failures >= 1),
    last_at  TIMESTAMPTZ NOT NULL
);

CREATE INDEX login_failures_last ON login_failures (last_at);

-- The keys that sign access tokens, encrypted.
INSERT INTO settings (id, name, value, created_at, updated_at, created_by, updated_by, version) VALUES
    ('00000000-0000-0000-0000-000000000003', 'signing_keys', '[]', now(), now(), 'system', 'system', 1);
