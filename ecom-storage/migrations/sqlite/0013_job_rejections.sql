-- The records that imports have refused, with their reasons. `letter` is a line of a file of dead letters.
CREATE TABLE job_rejections (
    job_id       BLOB    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    record_index INTEGER NOT NULL CHECK (record_index >= 0),
    line         INTEGER NOT NULL CHECK (line >= 0),
    letter       TEXT    NOT NULL,
    PRIMARY KEY (job_id, record_index)
) STRICT, WITHOUT ROWID;
