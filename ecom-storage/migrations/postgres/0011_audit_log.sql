-- Who edited the catalog, the customers, the access and the settings. `entity` is the part of `action` before the dot.
-- `customer_id` is the customer whose personal data the values may contain; no foreign key, because entries outlive it.
CREATE TABLE audit_log (
    id           UUID        NOT NULL PRIMARY KEY,
    action       TEXT        COLLATE "C" NOT NULL CHECK (length(action) BETWEEN 1 AND 100),
    entity       TEXT        COLLATE "C" NOT NULL CHECK (length(entity) BETWEEN 1 AND 100),
    aggregate_id UUID        NOT NULL,
    customer_id  UUID,
    value_before JSONB,
    value_after  JSONB,
    erased_at    TIMESTAMPTZ,
    occurred_at  TIMESTAMPTZ NOT NULL,
    actor        TEXT        COLLATE "C" NOT NULL CHECK (length(actor) <= 100)
);

CREATE INDEX audit_log_occurred ON audit_log (occurred_at, id);
CREATE INDEX audit_log_actor ON audit_log (actor, occurred_at, id);
CREATE INDEX audit_log_entity ON audit_log (entity, occurred_at, id);
CREATE INDEX audit_log_action ON audit_log (action, occurred_at, id);
CREATE INDEX audit_log_aggregate ON audit_log (aggregate_id, occurred_at, id);
CREATE INDEX audit_log_customer ON audit_log (customer_id, id) WHERE customer_id IS NOT NULL;
