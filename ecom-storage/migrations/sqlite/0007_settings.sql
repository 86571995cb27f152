-- Documents that a shop edits while it runs, one row each.
CREATE TABLE settings (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL UNIQUE,
    value      TEXT    NOT NULL CHECK (json_valid(value)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version    INTEGER NOT NULL CHECK (version >= 1),
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO settings (id, name, value, created_at, updated_at, created_by, updated_by, version)
SELECT id, name, '[]', now, now, 'system', 'system', 1
FROM (SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000000 AS now),
     (SELECT X'00000000000000000000000000000001' AS id, 'synonyms' AS name
      UNION ALL SELECT X'00000000000000000000000000000002', 'search_rules');
