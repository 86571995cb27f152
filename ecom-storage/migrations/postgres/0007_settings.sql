-- Documents that a shop edits while it runs, one row each.
CREATE TABLE settings (
    id         UUID        NOT NULL PRIMARY KEY,
    name       TEXT        NOT NULL UNIQUE,
    value      JSONB       NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    created_by TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version    BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at TIMESTAMPTZ
);

INSERT INTO settings (id, name, value, created_at, updated_at, created_by, updated_by, version) VALUES
    ('00000000-0000-0000-0000-000000000001', 'synonyms', '[]', now(), now(), 'system', 'system', 1),
    ('00000000-0000-0000-0000-000000000002', 'search_rules', '[]', now(), now(), 'system', 'system', 1);
