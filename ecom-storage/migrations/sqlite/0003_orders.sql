-- Amounts are minor units of the currency of the order. Every row of an order is a snapshot: nothing outside of the
-- order changes what it says. Terms that this release does not use (tax, shipping) are 0, and the checks hold the
-- whole sums, since SQLite can add columns but cannot change a check.

-- A SKU without it is always in stock and writes no movements.
ALTER TABLE skus ADD COLUMN track_stock INTEGER NOT NULL DEFAULT 1 CHECK (track_stock BETWEEN 0 AND 1);

-- The order line that a movement belongs to.
ALTER TABLE stock_movements ADD COLUMN order_line_id BLOB CHECK (length(order_line_id) = 16);
CREATE INDEX stock_movements_order_line ON stock_movements (order_line_id, delta) WHERE order_line_id IS NOT NULL;

-- The last number of each kind of document. One writer at a time: a row is enough.
CREATE TABLE document_numbers (
    kind  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;

INSERT INTO document_numbers (kind, value) VALUES ('order', 0), ('bill', 0);

CREATE TABLE carts (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- SHA-256 of the token that a guest shows.
    token_hash  BLOB    CHECK (length(token_hash) = 32),
    customer_id BLOB    REFERENCES customers (id) ON DELETE RESTRICT,
    email       TEXT    CHECK (length(email) BETWEEN 1 AND 254),
    email_key   TEXT,
    currency    TEXT    NOT NULL CHECK (length(currency) = 3),
    -- 0 open, 1 ordered, 2 merged.
    state       INTEGER NOT NULL CHECK (state >= 0),
    merged_into BLOB    CHECK (length(merged_into) = 16),
    expires_at  INTEGER NOT NULL,
    attributes  TEXT    NOT NULL CHECK (json_valid(attributes)),
    source      TEXT    CHECK (length(source) BETWEEN 1 AND 100),
    external_id TEXT    CHECK (length(external_id) BETWEEN 1 AND 255),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by  TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version     INTEGER NOT NULL CHECK (version >= 1),
    deleted_at  INTEGER,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((state = 2) = (merged_into IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX carts_token ON carts (token_hash) WHERE token_hash IS NOT NULL;
CREATE UNIQUE INDEX carts_customer_open ON carts (customer_id) WHERE state = 0;
CREATE UNIQUE INDEX carts_external_live ON carts (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX carts_external ON carts (source, external_id) WHERE source IS NOT NULL;
CREATE INDEX carts_customer ON carts (customer_id, id);
CREATE INDEX carts_email ON carts (email_key, id) WHERE email_key IS NOT NULL;
CREATE INDEX carts_state ON carts (state, id);
CREATE INDEX carts_expires ON carts (state, expires_at, id);

-- A SKU that is deleted permanently leaves the carts.
CREATE TABLE cart_lines (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    cart_id        BLOB    NOT NULL REFERENCES carts (id) ON DELETE RESTRICT,
    sku_id         BLOB    NOT NULL REFERENCES skus (id) ON DELETE RESTRICT,
    attributes     TEXT    NOT NULL CHECK (json_valid(attributes)),
    -- A hash of the attributes, by which equal lines are found.
    attributes_key TEXT    NOT NULL,
    quantity       INTEGER NOT NULL CHECK (quantity >= 1),
    -- The unit price that the shopper last confirmed.
    seen_price     INTEGER NOT NULL CHECK (seen_price >= 0)
) STRICT;

CREATE UNIQUE INDEX cart_lines_item ON cart_lines (cart_id, sku_id, attributes_key);
CREATE INDEX cart_lines_sku ON cart_lines (sku_id);

CREATE TABLE orders (
    id                 BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    number             TEXT    NOT NULL CHECK (length(number) BETWEEN 1 AND 50),
    cart_id            BLOB    CHECK (length(cart_id) = 16),
    customer_id        BLOB    REFERENCES customers (id) ON DELETE RESTRICT,
    first_name         TEXT    CHECK (length(first_name) BETWEEN 1 AND 100),
    last_name          TEXT    CHECK (length(last_name) BETWEEN 1 AND 100),
    email              TEXT    CHECK (length(email) BETWEEN 1 AND 254),
    email_key          TEXT,
    telephone          TEXT    CHECK (length(telephone) BETWEEN 7 AND 21),
    currency           TEXT    NOT NULL CHECK (length(currency) = 3),
    exponent           INTEGER NOT NULL CHECK (exponent BETWEEN 0 AND 4),
    prices_include_tax INTEGER NOT NULL CHECK (prices_include_tax BETWEEN 0 AND 1),
    -- 0 pending, 1 in progress, 2 delivered, 3 canceled.
    status             INTEGER NOT NULL CHECK (status >= 0),
    -- The status, or -1 if the order is soft-deleted: what lists walk by.
    listing_state      INTEGER NOT NULL,
    -- 0 drive-through, 1 on hand, 2 home delivery.
    delivery_method    INTEGER NOT NULL CHECK (delivery_method >= 0),
    shipping_address   TEXT    CHECK (json_valid(shipping_address)),
    billing_address    TEXT    CHECK (json_valid(billing_address)),
    tracking           TEXT    CHECK (length(tracking) BETWEEN 1 AND 255),
    subtotal           INTEGER NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    shipping           INTEGER NOT NULL CHECK (shipping BETWEEN 0 AND 1000000000000000),
    discount           INTEGER NOT NULL CHECK (discount >= 0),
    tax_added          INTEGER NOT NULL CHECK (tax_added >= 0),
    tax_included       INTEGER NOT NULL CHECK (tax_included >= 0),
    total              INTEGER NOT NULL CHECK (total >= 0),
    -- The version of the pricing code.
    engine             INTEGER NOT NULL CHECK (engine >= 1),
    placed_at          INTEGER NOT NULL,
    canceled_at        INTEGER,
    erased_at          INTEGER,
    attributes         TEXT    NOT NULL CHECK (json_valid(attributes)),
    source             TEXT    CHECK (length(source) BETWEEN 1 AND 100),
    external_id        TEXT    CHECK (length(external_id) BETWEEN 1 AND 255),
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    created_by         TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by         TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version            INTEGER NOT NULL CHECK (version >= 1),
    deleted_at         INTEGER,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK (listing_state = CASE WHEN deleted_at IS NULL THEN status ELSE -1 END),
    CHECK ((status = 3) = (canceled_at IS NOT NULL)),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal + shipping - discount + tax_added),
    CHECK (erased_at IS NOT NULL OR (email IS NULL) = (email_key IS NULL)),
    CHECK (erased_at IS NOT NULL OR customer_id IS NOT NULL OR (first_name IS NOT NULL AND email IS NOT NULL)),
    CHECK (erased_at IS NOT NULL OR delivery_method <> 2 OR shipping_address IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX orders_number ON orders (number);
CREATE UNIQUE INDEX orders_cart ON orders (cart_id) WHERE cart_id IS NOT NULL;
CREATE UNIQUE INDEX orders_external_live ON orders (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX orders_external ON orders (source, external_id) WHERE source IS NOT NULL;
CREATE INDEX orders_list ON orders (listing_state, placed_at, id);
CREATE INDEX orders_placed ON orders (placed_at, id, listing_state);
CREATE INDEX orders_customer ON orders (customer_id, placed_at, id);
CREATE INDEX orders_delivery ON orders (delivery_method, placed_at, id);
CREATE INDEX orders_email ON orders (email_key, placed_at, id);

-- Lines are never deleted: removing one sets its quantity to 0.
CREATE TABLE order_lines (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    order_id     BLOB    NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    position     INTEGER NOT NULL CHECK (position >= 1),
    -- The bill that the line belongs to.
    bill_seq     INTEGER NOT NULL CHECK (bill_seq >= 1),
    -- 0 SKU, 1 custom, 2 fee.
    kind         INTEGER NOT NULL CHECK (kind >= 0),
    sku_id       BLOB    REFERENCES skus (id) ON DELETE RESTRICT,
    product_id   BLOB    CHECK (length(product_id) = 16),
    code         TEXT    CHECK (length(code) BETWEEN 1 AND 100),
    title        TEXT    NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
    options      TEXT    NOT NULL CHECK (json_valid(options)),
    attributes   TEXT    NOT NULL CHECK (json_valid(attributes)),
    -- How the line moves stock: 0 not at all, 1 it is taken when the order is placed.
    stock_mode   INTEGER NOT NULL CHECK (stock_mode >= 0),
    list_price   INTEGER NOT NULL CHECK (list_price BETWEEN 0 AND 1000000000000000),
    unit_price   INTEGER NOT NULL CHECK (unit_price BETWEEN 0 AND 1000000000000000),
    quantity     INTEGER NOT NULL CHECK (quantity >= 0),
    canceled     INTEGER NOT NULL CHECK (canceled >= 0),
    subtotal     INTEGER NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    discount     INTEGER NOT NULL CHECK (discount >= 0),
    tax_added    INTEGER NOT NULL CHECK (tax_added >= 0),
    tax_included INTEGER NOT NULL CHECK (tax_included >= 0),
    total        INTEGER NOT NULL CHECK (total >= 0),
    CHECK (kind <> 0 OR (sku_id IS NOT NULL AND product_id IS NOT NULL AND code IS NOT NULL)),
    CHECK (canceled <= quantity),
    CHECK (subtotal = quantity * unit_price),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal - discount + tax_added)
) STRICT;

CREATE UNIQUE INDEX order_lines_position ON order_lines (order_id, position);
CREATE INDEX order_lines_sku ON order_lines (sku_id, order_id);
CREATE INDEX order_lines_product ON order_lines (product_id, order_id);

CREATE TABLE order_adjustments (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    order_id       BLOB    NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    order_line_id  BLOB    REFERENCES order_lines (id) ON DELETE RESTRICT,
    -- 0 manual, 1 promotion.
    kind           INTEGER NOT NULL CHECK (kind >= 0),
    source_id      BLOB    CHECK (length(source_id) = 16),
    source_version INTEGER,
    code           TEXT    CHECK (length(code) BETWEEN 1 AND 100),
    label          TEXT    NOT NULL CHECK (length(label) BETWEEN 1 AND 255),
    -- The place of the adjustment in the calculation.
    step           INTEGER NOT NULL CHECK (step >= 0),
    amount         INTEGER NOT NULL CHECK (amount > 0)
) STRICT;

CREATE INDEX order_adjustments_order ON order_adjustments (order_id, step, id);
CREATE INDEX order_adjustments_line ON order_adjustments (order_line_id) WHERE order_line_id IS NOT NULL;

CREATE TABLE order_changes (
    order_id    BLOB    NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    seq         INTEGER NOT NULL CHECK (seq >= 1),
    kind        TEXT    NOT NULL,
    from_status INTEGER,
    to_status   INTEGER NOT NULL,
    data        TEXT    NOT NULL CHECK (json_valid(data)),
    actor       TEXT    NOT NULL CHECK (length(actor) <= 100),
    at          INTEGER NOT NULL,
    PRIMARY KEY (order_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE bills (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    order_id     BLOB    NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    -- 0 bill, 1 credit note.
    kind         INTEGER NOT NULL CHECK (kind >= 0),
    seq          INTEGER NOT NULL CHECK (seq >= 1),
    -- The bill that a credit note corrects.
    corrects     BLOB    REFERENCES bills (id) ON DELETE RESTRICT,
    number       TEXT    NOT NULL CHECK (length(number) BETWEEN 1 AND 50),
    subtotal     INTEGER NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    discount     INTEGER NOT NULL CHECK (discount >= 0),
    shipping     INTEGER NOT NULL CHECK (shipping BETWEEN 0 AND 1000000000000000),
    tax_added    INTEGER NOT NULL CHECK (tax_added >= 0),
    tax_included INTEGER NOT NULL CHECK (tax_included >= 0),
    total        INTEGER NOT NULL CHECK (total >= 0),
    -- 0 cash, 1 card.
    payment_type INTEGER NOT NULL CHECK (payment_type >= 0),
    -- 0 open, 1 paid, 2 void.
    status       INTEGER NOT NULL CHECK (status >= 0),
    date         INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by   TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version      INTEGER NOT NULL CHECK (version >= 1),
    deleted_at   INTEGER,
    CHECK ((kind = 1) = (corrects IS NOT NULL)),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal + shipping - discount + tax_added)
) STRICT;

CREATE UNIQUE INDEX bills_number ON bills (number);
CREATE UNIQUE INDEX bills_order ON bills (order_id, kind, seq);
CREATE INDEX bills_list ON bills (date, id);
CREATE INDEX bills_status ON bills (status, date, id);
CREATE INDEX bills_corrects ON bills (corrects) WHERE corrects IS NOT NULL;
