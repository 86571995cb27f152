-- What each change of an order has canceled, with its value (R35). The history says it too, but an erasure clears the
-- history. Nothing changes these rows.
CREATE TABLE order_cancellations (
    order_id      BLOB    NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    -- The version of the order after the change.
    seq           INTEGER NOT NULL CHECK (seq >= 1),
    order_line_id BLOB    NOT NULL REFERENCES order_lines (id) ON DELETE RESTRICT,
    -- 0 SKU, 1 custom, 2 fee.
    kind          INTEGER NOT NULL CHECK (kind >= 0),
    product_id    BLOB    CHECK (length(product_id) = 16),
    units         INTEGER NOT NULL CHECK (units >= 1),
    subtotal      INTEGER NOT NULL CHECK (subtotal >= 0),
    discount      INTEGER NOT NULL CHECK (discount >= 0),
    tax_added     INTEGER NOT NULL CHECK (tax_added >= 0),
    tax_included  INTEGER NOT NULL CHECK (tax_included >= 0),
    total         INTEGER NOT NULL CHECK (total >= 0),
    at            INTEGER NOT NULL,
    PRIMARY KEY (order_id, seq, order_line_id),
    CHECK (total = subtotal - discount + tax_added)
) STRICT, WITHOUT ROWID;

CREATE INDEX order_cancellations_at ON order_cancellations (at);

-- The state of the figures below that are made from orders: the time zone of their days, how often they have changed,
-- how often a rebuild was required, and which requirement the last rebuild has covered.
CREATE TABLE analytics_state (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    time_zone TEXT    NOT NULL CHECK (length(time_zone) BETWEEN 1 AND 64),
    version   INTEGER NOT NULL CHECK (version >= 0),
    requested INTEGER NOT NULL CHECK (requested >= 0),
    built     INTEGER NOT NULL CHECK (built >= 0)
) STRICT;

-- A shop with orders needs a first rebuild.
INSERT INTO analytics_state (id, time_zone, version, requested, built)
SELECT 1, 'UTC', 0, 1, CASE WHEN EXISTS (SELECT 1 FROM orders) THEN 0 ELSE 1 END;

-- The sales by day. Amounts are minor units. Orders count on the day on which they were placed, canceled units on the
-- day on which they were canceled.
CREATE TABLE sales_days (
    day                   TEXT    NOT NULL CHECK (length(day) = 10),
    currency              TEXT    NOT NULL CHECK (length(currency) = 3),
    orders                INTEGER NOT NULL CHECK (orders >= 0),
    checkouts             INTEGER NOT NULL CHECK (checkouts >= 0),
    units                 INTEGER NOT NULL CHECK (units >= 0),
    subtotal              INTEGER NOT NULL,
    shipping              INTEGER NOT NULL,
    discount              INTEGER NOT NULL,
    tax_added             INTEGER NOT NULL,
    tax_included          INTEGER NOT NULL,
    total                 INTEGER NOT NULL,
    canceled_units        INTEGER NOT NULL CHECK (canceled_units >= 0),
    canceled_subtotal     INTEGER NOT NULL,
    canceled_discount     INTEGER NOT NULL,
    canceled_tax_added    INTEGER NOT NULL,
    canceled_tax_included INTEGER NOT NULL,
    canceled_total        INTEGER NOT NULL,
    PRIMARY KEY (day, currency)
) STRICT, WITHOUT ROWID;

CREATE TABLE product_days (
    day            TEXT    NOT NULL CHECK (length(day) = 10),
    currency       TEXT    NOT NULL CHECK (length(currency) = 3),
    product_id     BLOB    NOT NULL CHECK (length(product_id) = 16),
    units          INTEGER NOT NULL CHECK (units >= 0),
    revenue        INTEGER NOT NULL,
    canceled_units INTEGER NOT NULL CHECK (canceled_units >= 0),
    canceled       INTEGER NOT NULL,
    PRIMARY KEY (day, currency, product_id)
) STRICT, WITHOUT ROWID;

-- What is counted as it happens, and cannot be computed again.
CREATE TABLE traffic_days (
    day   TEXT    NOT NULL PRIMARY KEY CHECK (length(day) = 10),
    views INTEGER NOT NULL CHECK (views >= 0),
    carts INTEGER NOT NULL CHECK (carts >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE product_views (
    product_id BLOB    NOT NULL CHECK (length(product_id) = 16),
    day        TEXT    NOT NULL CHECK (length(day) = 10),
    views      INTEGER NOT NULL CHECK (views >= 0),
    PRIMARY KEY (product_id, day)
) STRICT, WITHOUT ROWID;
