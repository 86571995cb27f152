-- How often a text was searched for on a day (UTC). `term` is a hash of the folded text, and `typed` the text as it was
-- last typed.
CREATE TABLE IF NOT EXISTS search_log (
    day            DATE         NOT NULL,
    term           BINARY(16)   NOT NULL,
    typed          VARCHAR(512) NOT NULL,
    searches       BIGINT       NOT NULL CHECK (searches >= 0),
    without_result BIGINT       NOT NULL CHECK (without_result >= 0),
    partial_result BIGINT       NOT NULL CHECK (partial_result >= 0),
    PRIMARY KEY (day, term),
    INDEX search_log_term (term, day)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
