-- Documents that a shop edits while it runs, one row each.
CREATE TABLE IF NOT EXISTS settings (
    id         BINARY(16)   NOT NULL PRIMARY KEY,
    name       VARCHAR(100) NOT NULL,
    value      JSON         NOT NULL,
    created_at DATETIME(6)  NOT NULL,
    updated_at DATETIME(6)  NOT NULL,
    created_by VARCHAR(100) NOT NULL,
    updated_by VARCHAR(100) NOT NULL,
    version    BIGINT       NOT NULL CHECK (version >= 1),
    deleted_at DATETIME(6),
    UNIQUE INDEX settings_name (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- IGNORE: a migration that was cut off runs again.
INSERT IGNORE INTO settings (id, name, value, created_at, updated_at, created_by, updated_by, version) VALUES
    (X'00000000000000000000000000000001', 'synonyms', '[]', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'system', 'system', 1),
    (X'00000000000000000000000000000002', 'search_rules', '[]', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'system', 'system',
     1);
