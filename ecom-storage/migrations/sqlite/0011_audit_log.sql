-- Who edited the catalog, the customers, the access and the settings. `entity` is the part of `action` before the dot.
-- `customer_id` is the customer whose personal data the values may contain; no foreign key, because entries outlive it.
CREATE TABLE audit_log (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    action       TEXT    NOT NULL CHECK (length(action) BETWEEN 1 AND 100),
    entity       TEXT    NOT NULL CHECK (length(entity) BETWEEN 1 AND 100),
    aggregate_id BLOB    NOT NULL CHECK (length(aggregate_id) = 16),
    customer_id  BLOB    CHECK (length(customer_id) = 16),
    value_before TEXT    CHECK (json_valid(value_before)),
    value_after  TEXT    CHECK (json_valid(value_after)),
    erased_at    INTEGER,
    occurred_at  INTEGER NOT NULL,
    actor        TEXT    NOT NULL CHECK (length(actor) <= 100)
) STRICT;

CREATE INDEX audit_log_occurred ON audit_log (occurred_at, id);
CREATE INDEX audit_log_actor ON audit_log (actor, occurred_at, id);
CREATE INDEX audit_log_entity ON audit_log (entity, occurred_at, id);
CREATE INDEX audit_log_action ON audit_log (action, occurred_at, id);
CREATE INDEX audit_log_aggregate ON audit_log (aggregate_id, occurred_at, id);
CREATE INDEX audit_log_customer ON audit_log (customer_id, id) WHERE customer_id IS NOT NULL;
