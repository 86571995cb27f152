-- What each change of an order has canceled, with its value (R35). The history says it too, but an erasure clears the
-- history. Nothing changes these rows.
CREATE TABLE IF NOT EXISTS order_cancellations (
    order_id      BINARY(16)  NOT NULL,
    -- The version of the order after the change.
    seq           BIGINT      NOT NULL CHECK (seq >= 1),
    order_line_id BINARY(16)  NOT NULL,
    -- 0 SKU, 1 custom, 2 fee.
    kind          INT         NOT NULL CHECK (kind >= 0),
    product_id    BINARY(16),
    units         BIGINT      NOT NULL CHECK (units >= 1),
    subtotal      BIGINT      NOT NULL CHECK (subtotal >= 0),
    discount      BIGINT      NOT NULL CHECK (discount >= 0),
    tax_added     BIGINT      NOT NULL CHECK (tax_added >= 0),
    tax_included  BIGINT      NOT NULL CHECK (tax_included >= 0),
    total         BIGINT      NOT NULL CHECK (total >= 0),
    at            DATETIME(6) NOT NULL,
    PRIMARY KEY (order_id, seq, order_line_id),
    INDEX order_cancellations_at (at),
    INDEX order_cancellations_line (order_line_id),
    CONSTRAINT order_cancellations_total CHECK (total = subtotal - discount + tax_added),
    CONSTRAINT order_cancellations_order_fk FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE RESTRICT,
    CONSTRAINT order_cancellations_line_fk FOREIGN KEY (order_line_id) REFERENCES order_lines (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- The state of the figures below that are made from orders: the time zone of their days, how often they have changed,
-- how often a rebuild was required, and which requirement the last rebuild has covered.
CREATE TABLE IF NOT EXISTS analytics_state (
    id        INT         NOT NULL PRIMARY KEY CHECK (id = 1),
    time_zone VARCHAR(64) NOT NULL,
    version   BIGINT      NOT NULL CHECK (version >= 0),
    requested BIGINT      NOT NULL CHECK (requested >= 0),
    built     BIGINT      NOT NULL CHECK (built >= 0)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- A shop with orders needs a first rebuild.
INSERT IGNORE INTO analytics_state (id, time_zone, version, requested, built)
SELECT 1, 'UTC', 0, 1, CASE WHEN EXISTS (SELECT 1 FROM orders) THEN 0 ELSE 1 END;

-- The sales by day. Amounts are minor units. Orders count on the day on which they were placed, canceled units on the
-- day on which they were canceled.
CREATE TABLE IF NOT EXISTS sales_days (
    day                   DATE        NOT NULL,
    currency              CHAR(3)     NOT NULL,
    orders                BIGINT      NOT NULL CHECK (orders >= 0),
    checkouts             BIGINT      NOT NULL CHECK (checkouts >= 0),
    units                 BIGINT      NOT NULL CHECK (units >= 0),
    subtotal              BIGINT      NOT NULL,
    shipping              BIGINT      NOT NULL,
    discount              BIGINT      NOT NULL,
    tax_added             BIGINT      NOT NULL,
    tax_included          BIGINT      NOT NULL,
    total                 BIGINT      NOT NULL,
    canceled_units        BIGINT      NOT NULL CHECK (canceled_units >= 0),
    canceled_subtotal     BIGINT      NOT NULL,
    canceled_discount     BIGINT      NOT NULL,
    canceled_tax_added    BIGINT      NOT NULL,
    canceled_tax_included BIGINT      NOT NULL,
    canceled_total        BIGINT      NOT NULL,
    PRIMARY KEY (day, currency)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS product_days (
    day            DATE        NOT NULL,
    currency       CHAR(3)     NOT NULL,
    product_id     BINARY(16)  NOT NULL,
    units          BIGINT      NOT NULL CHECK (units >= 0),
    revenue        BIGINT      NOT NULL,
    canceled_units BIGINT      NOT NULL CHECK (canceled_units >= 0),
    canceled       BIGINT      NOT NULL,
    PRIMARY KEY (day, currency, product_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What is counted as it happens, and cannot be computed again.
CREATE TABLE IF NOT EXISTS traffic_days (
    day   DATE        NOT NULL PRIMARY KEY,
    views BIGINT      NOT NULL CHECK (views >= 0),
    carts BIGINT      NOT NULL CHECK (carts >= 0)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS product_views (
    product_id BINARY(16)  NOT NULL,
    day        DATE        NOT NULL,
    views      BIGINT      NOT NULL CHECK (views >= 0),
    PRIMARY KEY (product_id, day)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
