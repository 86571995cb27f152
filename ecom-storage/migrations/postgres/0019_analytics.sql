-- What each change of an order has canceled, with its value (R35). The history says it too, but an erasure clears the
-- history. Nothing changes these rows.
CREATE TABLE order_cancellations (
    order_id      UUID        NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    -- The version of the order after the change.
    seq           BIGINT      NOT NULL CHECK (seq >= 1),
    order_line_id UUID        NOT NULL REFERENCES order_lines (id) ON DELETE RESTRICT,
    -- 0 SKU, 1 custom, 2 fee.
    kind          INTEGER     NOT NULL CHECK (kind >= 0),
    product_id    UUID,
    units         BIGINT      NOT NULL CHECK (units >= 1),
    subtotal      BIGINT      NOT NULL CHECK (subtotal >= 0),
    discount      BIGINT      NOT NULL CHECK (discount >= 0),
    tax_added     BIGINT      NOT NULL CHECK (tax_added >= 0),
    tax_included  BIGINT      NOT NULL CHECK (tax_included >= 0),
    total         BIGINT      NOT NULL CHECK (total >= 0),
    at            TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (order_id, seq, order_line_id),
    CHECK (total = subtotal - discount + tax_added)
);

CREATE INDEX order_cancellations_at ON order_cancellations (at);

-- The state of the figures below that are made from orders: the time zone of their days, how often they have changed,
-- how often a rebuild was required, and which requirement the last rebuild has covered.
CREATE TABLE analytics_state (
    id        INTEGER     NOT NULL PRIMARY KEY CHECK (id = 1),
    time_zone TEXT        NOT NULL CHECK (length(time_zone) BETWEEN 1 AND 64),
    version   BIGINT      NOT NULL CHECK (version >= 0),
    requested BIGINT      NOT NULL CHECK (requested >= 0),
    built     BIGINT      NOT NULL CHECK (built >= 0)
);

-- A shop with orders needs a first rebuild.
INSERT INTO analytics_state (id, time_zone, version, requested, built)
SELECT 1, 'UTC', 0, 1, CASE WHEN EXISTS (SELECT 1 FROM orders) THEN 0 ELSE 1 END;

-- The sales by day. Amounts are minor units. Orders count on the day on which they were placed, canceled units on the
-- day on which they were canceled.
CREATE TABLE sales_days (
    day                   DATE        NOT NULL,
    currency              TEXT        NOT NULL CHECK (length(currency) = 3),
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
);

CREATE TABLE product_days (
    day            DATE        NOT NULL,
    currency       TEXT        NOT NULL CHECK (length(currency) = 3),
    product_id     UUID        NOT NULL,
    units          BIGINT      NOT NULL CHECK (units >= 0),
    revenue        BIGINT      NOT NULL,
    canceled_units BIGINT      NOT NULL CHECK (canceled_units >= 0),
    canceled       BIGINT      NOT NULL,
    PRIMARY KEY (day, currency, product_id)
);

-- What is counted as it happens, and cannot be computed again.
CREATE TABLE traffic_days (
    day   DATE        NOT NULL PRIMARY KEY,
    views BIGINT      NOT NULL CHECK (views >= 0),
    carts BIGINT      NOT NULL CHECK (carts >= 0)
);

CREATE TABLE product_views (
    product_id UUID        NOT NULL,
    day        DATE        NOT NULL,
    views      BIGINT      NOT NULL CHECK (views >= 0),
    PRIMARY KEY (product_id, day)
);
