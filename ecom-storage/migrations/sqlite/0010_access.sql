-- Names for sets of permissions. The built-in roles have the permissions of the release, which are not stored.
CREATE TABLE roles (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT    NOT NULL CHECK (length(name) <= 50 AND name GLOB '[a-z]*' AND name NOT GLOB '*[^a-z0-9_-]*'),
    description TEXT    CHECK (length(description) BETWEEN 1 AND 255),
    permissions TEXT    NOT NULL CHECK (json_type(permissions) = 'array'),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by  TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version     INTEGER NOT NULL CHECK (version >= 1),
    deleted_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX roles_name ON roles (name);

INSERT INTO roles (id, name, permissions, created_at, updated_at, created_by, updated_by, version)
SELECT id, name, '[]', now, now, 'system', 'system', 1
FROM (SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000000 AS now),
     (SELECT X'00000000000000000000000000000001' AS id, 'admin' AS name
      UNION ALL SELECT X'00000000000000000000000000000002', 'manager'
      UNION ALL SELECT X'00000000000000000000000000000003', 'staff'
      UNION ALL SELECT X'00000000000000000000000000000004', 'customer');

CREATE TABLE users (
    id                BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    email             TEXT    NOT NULL CHECK (length(email) BETWEEN 1 AND 254),
    email_key         TEXT    NOT NULL,
    email_verified_at INTEGER,
    name              TEXT    CHECK (length(name) BETWEEN 1 AND 200),
    -- The hash of the password, in the PHC string format.
    password          TEXT    CHECK (length(password) BETWEEN 1 AND 512),
    password_set_at   INTEGER,
    -- SET NULL, so that a release that does not know users can purge a customer.
    customer_id       BLOB    REFERENCES customers (id) ON DELETE SET NULL,
    blocked_at        INTEGER,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    created_by        TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by        TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version           INTEGER NOT NULL CHECK (version >= 1),
    deleted_at        INTEGER,
    CHECK (password IS NULL OR password_set_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX users_email_live ON users (email_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_customer_live ON users (customer_id) WHERE deleted_at IS NULL;
CREATE INDEX users_email ON users (email_key, id);
CREATE INDEX users_customer ON users (customer_id, id);

CREATE TABLE user_roles (
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    role_id BLOB NOT NULL REFERENCES roles (id) ON DELETE RESTRICT,
    PRIMARY KEY (user_id, role_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX user_roles_role ON user_roles (role_id, user_id);

CREATE TABLE api_keys (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name         TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    prefix       TEXT    NOT NULL CHECK (length(prefix) BETWEEN 1 AND 20),
    -- SHA-256 of the secret.
    hash         BLOB    NOT NULL CHECK (length(hash) = 32),
    permissions  TEXT    NOT NULL CHECK (json_type(permissions) = 'array'),
    is_admin     INTEGER NOT NULL CHECK (is_admin BETWEEN 0 AND 1),
    expires_at   INTEGER,
    last_used_at INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by   TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version      INTEGER NOT NULL CHECK (version >= 1),
    deleted_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);

-- Logins. `family` and `token` are the SHA-256 of the two secret parts of the refresh token.
CREATE TABLE sessions (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id      BLOB    NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    family       BLOB    NOT NULL CHECK (length(family) = 32),
    token        BLOB    NOT NULL CHECK (length(token) = 32),
    user_agent   TEXT    CHECK (length(user_agent) <= 255),
    created_at   INTEGER NOT NULL,
    refreshed_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    end_reason   TEXT    CHECK (length(end_reason) BETWEEN 1 AND 100),
    -- From when on the session cannot be used.
    over_at      INTEGER GENERATED ALWAYS AS (CASE WHEN ended_at < expires_at THEN ended_at ELSE expires_at END) STORED,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_user ON sessions (user_id, ended_at, id);
CREATE INDEX sessions_over ON sessions (over_at, id);

-- Tokens that are sent by mail, at most one for each user and purpose.
CREATE TABLE one_time_tokens (
    -- SHA-256 of the token.
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    user_id    BLOB    NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    purpose    TEXT    NOT NULL CHECK (length(purpose) BETWEEN 1 AND 100),
    email      TEXT    NOT NULL CHECK (length(email) BETWEEN 1 AND 254),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX one_time_tokens_user ON one_time_tokens (user_id, purpose);
CREATE INDEX one_time_tokens_expires ON one_time_tokens (expires_at);

-- Failed logins. `address` is the SHA-256 of an email address, whether or not a user has it.
CREATE TABLE login_failures (
    address  BLOB    NOT NULL PRIMARY KEY CHECK (length(address) = 32),
    failures INTEGER NOT NULL CHECK (failures >= 1),
    last_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX login_failures_last ON login_failures (last_at);

-- The keys that sign access tokens, encrypted.
INSERT INTO settings (id, name, value, created_at, updated_at, created_by, updated_by, version)
SELECT X'00000000000000000000000000000003', 'signing_keys', '[]', now, now, 'system', 'system', 1
FROM (SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000000 AS now);
