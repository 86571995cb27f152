-- Tickets that open a stream of live events, once and within a minute.
CREATE TABLE live_tickets (
    -- SHA-256 of the ticket.
    hash       BYTEA       NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    principal  TEXT        NOT NULL CHECK (length(principal) BETWEEN 1 AND 4000),
    expires_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX live_tickets_expires ON live_tickets (expires_at);
