-- Tickets that open a stream of live events, once and within a minute.
CREATE TABLE IF NOT EXISTS live_tickets (
    -- SHA-256 of the ticket.
    hash       BINARY(32)    NOT NULL PRIMARY KEY,
    principal  VARCHAR(4000) NOT NULL CHECK (CHAR_LENGTH(principal) >= 1),
    expires_at DATETIME(6)   NOT NULL,
    INDEX live_tickets_expires (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
