-- How often a text was searched for on a day (UTC). `term` is a hash of the folded text, and `typed` the text as it was
-- last typed.
CREATE TABLE search_log (
    day            DATE   NOT NULL,
    term           UUID   NOT NULL,
    typed          TEXT   NOT NULL CHECK (length(typed) <= 512),
    searches       BIGINT NOT NULL CHECK (searches >= 0),
    without_result BIGINT NOT NULL CHECK (without_result >= 0),
    partial_result BIGINT NOT NULL CHECK (partial_result >= 0),
    PRIMARY KEY (day, term)
);

CREATE INDEX search_log_term ON search_log (term, day);
