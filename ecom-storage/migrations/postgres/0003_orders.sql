-- Amounts are minor units of the currency of the order. Every row of an order is a snapshot: nothing outside of the
-- order changes what it says. Terms that this release does not use (tax, shipping) are 0, and the checks hold the
-- whole sums.

-- A SKU without it is always in stock and writes no movements.
ALTER TABLE skus ADD COLUMN track_stock INTEGER NOT NULL DEFAULT 1 CHECK (track_stock BETWEEN 0 AND 1);

-- The order line that a movement belongs to.
ALTER TABLE stock_movements ADD COLUMN order_line_id UUID;
CREATE INDEX stock_movements_order_line ON stock_movements (order_line_id, delta) WHERE order_line_id IS NOT NULL;

-- Numbers of documents. A sequence is never a lock that all orders wait for; it may leave gaps.
CREATE SEQUENCE order_numbers;
CREATE SEQUENCE bill_numbers;

CREATE TABLE carts (
    id          UUID             NOT NULL PRIMARY KEY,
    -- SHA-256 of the token that a guest shows.
    token_hash  BYTEA            CHECK (octet_length(token_hash) = 32),
    customer_id UUID             REFERENCES customers (id) ON DELETE RESTRICT,
    email       TEXT             CHECK (length(email) BETWEEN 1 AND 254),
    email_key   TEXT COLLATE "C",
    currency    TEXT             NOT NULL CHECK (length(currency) = 3),
    -- 0 open, 1 ordered, 2 merged.
    state       INTEGER          NOT NULL CHECK (state >= 0),
    merged_into UUID,
    expires_at  TIMESTAMPTZ      NOT NULL,
    attributes  JSONB            NOT NULL,
    source      TEXT COLLATE "C" CHECK (length(source) BETWEEN 1 AND 100),
    external_id TEXT COLLATE "C" CHECK (length(external_id) BETWEEN 1 AND 255),
    created_at  TIMESTAMPTZ      NOT NULL,
    updated_at  TIMESTAMPTZ      NOT NULL,
    created_by  TEXT             NOT NULL CHECK (length(created_by) <= 100),
    updated_by  TEXT             NOT NULL CHECK (length(updated_by) <= 100),
    version     BIGINT           NOT NULL CHECK (version >= 1),
    deleted_at  TIMESTAMPTZ,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((state = 2) = (merged_into IS NOT NULL))
);

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
    id             UUID             NOT NULL PRIMARY KEY,
    cart_id        UUID             NOT NULL REFERENCES carts (id) ON DELETE RESTRICT,
    sku_id         UUID             NOT NULL REFERENCES skus (id) ON DELETE RESTRICT,
    attributes     JSONB            NOT NULL,
    -- A hash of the attributes, by which equal lines are found.
    attributes_key TEXT COLLATE "C" NOT NULL,
    quantity       BIGINT           NOT NULL CHECK (quantity >= 1),
    -- The unit price that the shopper last confirmed.
    seen_price     BIGINT           NOT NULL CHECK (seen_price >= 0)
);

CREATE UNIQUE INDEX cart_lines_item ON cart_lines (cart_id, sku_id, attributes_key);
CREATE INDEX cart_lines_sku ON cart_lines (sku_id);

CREATE TABLE orders (
    id                 UUID             NOT NULL PRIMARY KEY,
    number             TEXT COLLATE "C" NOT NULL CHECK (length(number) BETWEEN 1 AND 50),
    cart_id            UUID,
    customer_id        UUID             REFERENCES customers (id) ON DELETE RESTRICT,
    first_name         TEXT             CHECK (length(first_name) BETWEEN 1 AND 100),
    last_name          TEXT             CHECK (length(last_name) BETWEEN 1 AND 100),
    email              TEXT             CHECK (length(email) BETWEEN 1 AND 254),
    email_key          TEXT COLLATE "C",
    telephone          TEXT             CHECK (length(telephone) BETWEEN 7 AND 21),
    currency           TEXT             NOT NULL CHECK (length(currency) = 3),
    exponent           INTEGER          NOT NULL CHECK (exponent BETWEEN 0 AND 4),
    prices_include_tax INTEGER          NOT NULL CHECK (prices_include_tax BETWEEN 0 AND 1),
    -- 0 pending, 1 in progress, 2 delivered, 3 canceled.
    status             INTEGER          NOT NULL CHECK (status >= 0),
    -- The status, or -1 if the order is soft-deleted: what lists walk by.
    listing_state      INTEGER          NOT NULL,
    -- 0 drive-through, 1 on hand, 2 home delivery.
    delivery_method    INTEGER          NOT NULL CHECK (delivery_method >= 0),
    shipping_address   JSONB,
    billing_address    JSONB,
    tracking           TEXT             CHECK (length(tracking) BETWEEN 1 AND 255),
    subtotal           BIGINT           NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    shipping           BIGINT           NOT NULL CHECK (shipping BETWEEN 0 AND 1000000000000000),
    discount           BIGINT           NOT NULL CHECK (discount >= 0),
    tax_added          BIGINT           NOT NULL CHECK (tax_added >= 0),
    tax_included       BIGINT           NOT NULL CHECK (tax_included >= 0),
    total              BIGINT           NOT NULL CHECK (total >= 0),
    -- The version of the pricing code.
    engine             INTEGER          NOT NULL CHECK (engine >= 1),
    placed_at          TIMESTAMPTZ      NOT NULL,
    canceled_at        TIMESTAMPTZ,
    erased_at          TIMESTAMPTZ,
    attributes         JSONB            NOT NULL,
    source             TEXT COLLATE "C" CHECK (length(source) BETWEEN 1 AND 100),
    external_id        TEXT COLLATE "C" CHECK (length(external_id) BETWEEN 1 AND 255),
    created_at         TIMESTAMPTZ      NOT NULL,
    updated_at         TIMESTAMPTZ      NOT NULL,
    created_by         TEXT             NOT NULL CHECK (length(created_by) <= 100),
    updated_by         TEXT             NOT NULL CHECK (length(updated_by) <= 100),
    version            BIGINT           NOT NULL CHECK (version >= 1),
    deleted_at         TIMESTAMPTZ,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK (listing_state = CASE WHEN deleted_at IS NULL THEN status ELSE -1 END),
    CHECK ((status = 3) = (canceled_at IS NOT NULL)),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal + shipping - discount + tax_added),
    CHECK (erased_at IS NOT NULL OR (email IS NULL) = (email_key IS NULL)),
    CHECK (erased_at IS NOT NULL OR customer_id IS NOT NULL OR (first_name IS NOT NULL AND email IS NOT NULL)),
    CHECK (erased_at IS NOT NULL OR delivery_method <> 2 OR shipping_address IS NOT NULL)
);

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
    id           UUID    NOT NULL PRIMARY KEY,
    order_id     UUID    NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    position     INTEGER NOT NULL CHECK (position >= 1),
    -- The bill that the line belongs to.
    bill_seq     INTEGER NOT NULL CHECK (bill_seq >= 1),
    -- 0 SKU, 1 custom, 2 fee.
    kind         INTEGER NOT NULL CHECK (kind >= 0),
    sku_id       UUID    REFERENCES skus (id) ON DELETE RESTRICT,
    product_id   UUID,
    code         TEXT    CHECK (length(code) BETWEEN 1 AND 100),
    title        TEXT    NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
    options      JSONB   NOT NULL,
    attributes   JSONB   NOT NULL,
    -- How the line moves stock: 0 not at all, 1 it is taken when the order is placed.
    stock_mode   INTEGER NOT NULL CHECK (stock_mode >= 0),
    list_price   BIGINT  NOT NULL CHECK (list_price BETWEEN 0 AND 1000000000000000),
    unit_price   BIGINT  NOT NULL CHECK (unit_price BETWEEN 0 AND 1000000000000000),
    quantity     BIGINT  NOT NULL CHECK (quantity >= 0),
    canceled     BIGINT  NOT NULL CHECK (canceled >= 0),
    subtotal     BIGINT  NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    discount     BIGINT  NOT NULL CHECK (discount >= 0),
    tax_added    BIGINT  NOT NULL CHECK (tax_added >= 0),
    tax_included BIGINT  NOT NULL CHECK (tax_included >= 0),
    total        BIGINT  NOT NULL CHECK (total >= 0),
    CHECK (kind <> 0 OR (sku_id IS NOT NULL AND product_id IS NOT NULL AND code IS NOT NULL)),
    CHECK (canceled <= quantity),
    CHECK (subtotal = quantity * unit_price),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal - discount + tax_added)
);

CREATE UNIQUE INDEX order_lines_position ON order_lines (order_id, position);
CREATE INDEX order_lines_sku ON order_lines (sku_id, order_id);
CREATE INDEX order_lines_product ON order_lines (product_id, order_id);

CREATE TABLE order_adjustments (
    id             UUID    NOT NULL PRIMARY KEY,
    order_id       UUID    NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    order_line_id  UUID    REFERENCES order_lines (id) ON DELETE RESTRICT,
    -- 0 manual, 1 promotion.
    kind           INTEGER NOT NULL CHECK (kind >= 0),
    source_id      UUID,
    source_version BIGINT,
    code           TEXT    CHECK (length(code) BETWEEN 1 AND 100),
    label          TEXT    NOT NULL CHECK (length(label) BETWEEN 1 AND 255),
    -- The place of the adjustment in the calculation.
    step           INTEGER NOT NULL CHECK (step >= 0),
    amount         BIGINT  NOT NULL CHECK (amount > 0)
);

CREATE INDEX order_adjustments_order ON order_adjustments (order_id, step, id);
CREATE INDEX order_adjustments_line ON order_adjustments (order_line_id) WHERE order_line_id IS NOT NULL;

CREATE TABLE order_changes (
    order_id    UUID        NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    seq         BIGINT      NOT NULL CHECK (seq >= 1),
    kind        TEXT        NOT NULL,
    from_status INTEGER,
    to_status   INTEGER     NOT NULL,
    data        JSONB       NOT NULL,
    actor       TEXT        NOT NULL CHECK (length(actor) <= 100),
    at          TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (order_id, seq)
);

CREATE TABLE bills (
    id           UUID             NOT NULL PRIMARY KEY,
    order_id     UUID             NOT NULL REFERENCES orders (id) ON DELETE RESTRICT,
    -- 0 bill, 1 credit note.
    kind         INTEGER          NOT NULL CHECK (kind >= 0),
    seq          INTEGER          NOT NULL CHECK (seq >= 1),
    -- The bill that a credit note corrects.
    corrects     UUID             REFERENCES bills (id) ON DELETE RESTRICT,
    number       TEXT COLLATE "C" NOT NULL CHECK (length(number) BETWEEN 1 AND 50),
    subtotal     BIGINT           NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    discount     BIGINT           NOT NULL CHECK (discount >= 0),
    shipping     BIGINT           NOT NULL CHECK (shipping BETWEEN 0 AND 1000000000000000),
    tax_added    BIGINT           NOT NULL CHECK (tax_added >= 0),
    tax_included BIGINT           NOT NULL CHECK (tax_included >= 0),
    total        BIGINT           NOT NULL CHECK (total >= 0),
    -- 0 cash, 1 card.
    payment_type INTEGER          NOT NULL CHECK (payment_type >= 0),
    -- 0 open, 1 paid, 2 void.
    status       INTEGER          NOT NULL CHECK (status >= 0),
    date         TIMESTAMPTZ      NOT NULL,
    created_at   TIMESTAMPTZ      NOT NULL,
    updated_at   TIMESTAMPTZ      NOT NULL,
    created_by   TEXT             NOT NULL CHECK (length(created_by) <= 100),
    updated_by   TEXT             NOT NULL CHECK (length(updated_by) <= 100),
    version      BIGINT           NOT NULL CHECK (version >= 1),
    deleted_at   TIMESTAMPTZ,
    CHECK ((kind = 1) = (corrects IS NOT NULL)),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal + shipping - discount + tax_added)
);

CREATE UNIQUE INDEX bills_number ON bills (number);
CREATE UNIQUE INDEX bills_order ON bills (order_id, kind, seq);
CREATE INDEX bills_list ON bills (date, id);
CREATE INDEX bills_status ON bills (status, date, id);
CREATE INDEX bills_corrects ON bills (corrects) WHERE corrects IS NOT NULL;
