-- The indexes that an import in bulk has dropped. It stays empty: MySQL cannot drop an index and write a row in one
-- transaction, so an import drops none.
CREATE TABLE IF NOT EXISTS deferred_indexes (
    name       VARCHAR(100) NOT NULL PRIMARY KEY,
    definition TEXT         NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
