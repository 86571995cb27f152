-- The indexes that an import in bulk has dropped, with the statements that create them again.
CREATE TABLE deferred_indexes (
    name       TEXT NOT NULL PRIMARY KEY,
    definition TEXT NOT NULL
);
