-- The records that imports have refused, with their reasons. `letter` is a line of a file of dead letters.
CREATE TABLE IF NOT EXISTS job_rejections (
    job_id       BINARY(16) NOT NULL,
    record_index BIGINT     NOT NULL CHECK (record_index >= 0),
    line         BIGINT     NOT NULL CHECK (line >= 0),
    letter       LONGTEXT   NOT NULL,
    PRIMARY KEY (job_id, record_index),
    CONSTRAINT job_rejections_job FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
