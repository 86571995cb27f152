-- How often a text was searched for on a day (UTC). `term` is a hash of the folded text, and `typed` the text as it was
-- last typed.
CREATE TABLE search_log (
    day            TEXT    NOT NULL CHECK (length(day) = 10),
    term           BLOB    NOT NULL CHECK (length(term) = 16),
    typed          TEXT    NOT NULL CHECK (length(typed) <= 512),
    searches       INTEGER NOT NULL CHECK (searches >= 0),
    without_result INTEGER NOT NULL CHECK (without_result >= 0),
    partial_result INTEGER NOT NULL CHECK (partial_result >= 0),
    PRIMARY KEY (day, term)
) STRICT, WITHOUT ROWID;

CREATE INDEX search_log_term ON search_log (term, day);
