-- Who edited the catalog, the customers, the access and the settings. `entity` is the part of `action` before the dot.
-- `customer_id` is the customer whose personal data the values may contain; no foreign key, because entries outlive it.
-- The values are LONGTEXT, because the attributes of a SKU are nested deeper in them than MariaDB's type JSON allows.
CREATE TABLE IF NOT EXISTS audit_log (
    id           BINARY(16)   NOT NULL PRIMARY KEY,
    action       VARCHAR(100) NOT NULL,
    entity       VARCHAR(100) NOT NULL,
    aggregate_id BINARY(16)   NOT NULL,
    customer_id  BINARY(16),
    value_before LONGTEXT,
    value_after  LONGTEXT,
    erased_at    DATETIME(6),
    occurred_at  DATETIME(6)  NOT NULL,
    actor        VARCHAR(100) NOT NULL,
    INDEX audit_log_occurred (occurred_at, id),
    INDEX audit_log_actor (actor, occurred_at, id),
    INDEX audit_log_entity (entity, occurred_at, id),
    INDEX audit_log_action (action, occurred_at, id),
    INDEX audit_log_aggregate (aggregate_id, occurred_at, id),
    INDEX audit_log_customer (customer_id, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
