-- Amounts are minor units of the currency of the order. Every row of an order is a snapshot: nothing outside of the
-- order changes what it says. Terms that this release does not use (tax, shipping) are 0, and the checks hold the
-- whole sums.

-- MySQL commits each of these statements by itself, so that a migration that was cut off runs again: each step is
-- skipped if it was done.

-- A SKU without it is always in stock and writes no movements.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'skus' AND column_name = 'track_stock'),
    'DO 0',
    'ALTER TABLE skus ADD COLUMN track_stock INT NOT NULL DEFAULT 1 CHECK (track_stock BETWEEN 0 AND 1)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

-- The order line that a movement belongs to.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'stock_movements' AND column_name = 'order_line_id'),
    'DO 0',
    'ALTER TABLE stock_movements ADD COLUMN order_line_id BINARY(16),
     ADD INDEX stock_movements_order_line (order_line_id, delta)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

-- Numbers of documents. A counter of InnoDB is never a lock that all orders wait for; it may leave gaps.
CREATE TABLE IF NOT EXISTS order_numbers (n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS bill_numbers (n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS carts (
    id          BINARY(16)      NOT NULL PRIMARY KEY,
    -- SHA-256 of the token that a guest shows.
    token_hash  BINARY(32),
    customer_id BINARY(16),
    email       VARCHAR(254)    CHECK (CHAR_LENGTH(email) >= 1),
    email_key   VARBINARY(512),
    currency    VARCHAR(3)      NOT NULL,
    -- 0 open, 1 ordered, 2 merged.
    state       INT             NOT NULL CHECK (state >= 0),
    merged_into BINARY(16),
    expires_at  DATETIME(6)     NOT NULL,
    attributes  JSON            NOT NULL,
    source      VARBINARY(400),
    external_id VARBINARY(1020),
    created_at  DATETIME(6)     NOT NULL,
    updated_at  DATETIME(6)     NOT NULL,
    created_by  VARCHAR(100)    NOT NULL,
    updated_by  VARCHAR(100)    NOT NULL,
    version     BIGINT          NOT NULL CHECK (version >= 1),
    deleted_at  DATETIME(6),
    live        TINYINT         GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED,
    is_open     TINYINT         GENERATED ALWAYS AS (CASE WHEN state = 0 THEN 1 END) STORED,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((state = 2) = (merged_into IS NOT NULL)),
    UNIQUE INDEX carts_token (token_hash),
    UNIQUE INDEX carts_customer_open (customer_id, is_open),
    UNIQUE INDEX carts_external_live (source, external_id, live),
    INDEX carts_external (source, external_id),
    INDEX carts_customer (customer_id, id),
    INDEX carts_email (email_key, id),
    INDEX carts_state (state, id),
    INDEX carts_expires (state, expires_at, id),
    CONSTRAINT carts_customer_fk FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- A SKU that is deleted permanently leaves the carts.
CREATE TABLE IF NOT EXISTS cart_lines (
    id             BINARY(16)    NOT NULL PRIMARY KEY,
    cart_id        BINARY(16)    NOT NULL,
    sku_id         BINARY(16)    NOT NULL,
    attributes     JSON          NOT NULL,
    -- A hash of the attributes, by which equal lines are found.
    attributes_key VARBINARY(64) NOT NULL,
    quantity       BIGINT        NOT NULL CHECK (quantity >= 1),
    -- The unit price that the shopper last confirmed.
    seen_price     BIGINT        NOT NULL CHECK (seen_price >= 0),
    UNIQUE INDEX cart_lines_item (cart_id, sku_id, attributes_key),
    INDEX cart_lines_sku (sku_id),
    CONSTRAINT cart_lines_cart_fk FOREIGN KEY (cart_id) REFERENCES carts (id) ON DELETE RESTRICT,
    CONSTRAINT cart_lines_sku_fk FOREIGN KEY (sku_id) REFERENCES skus (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS orders (
    id                 BINARY(16)      NOT NULL PRIMARY KEY,
    number             VARBINARY(50)   NOT NULL,
    cart_id            BINARY(16),
    customer_id        BINARY(16),
    first_name         VARCHAR(100)    CHECK (CHAR_LENGTH(first_name) >= 1),
    last_name          VARCHAR(100)    CHECK (CHAR_LENGTH(last_name) >= 1),
    email              VARCHAR(254)    CHECK (CHAR_LENGTH(email) >= 1),
    email_key          VARBINARY(512),
    telephone          VARCHAR(21)     CHECK (CHAR_LENGTH(telephone) >= 7),
    currency           VARCHAR(3)      NOT NULL,
    exponent           INT             NOT NULL CHECK (exponent BETWEEN 0 AND 4),
    prices_include_tax INT             NOT NULL CHECK (prices_include_tax BETWEEN 0 AND 1),
    -- 0 pending, 1 in progress, 2 delivered, 3 canceled.
    status             INT             NOT NULL CHECK (status >= 0),
    -- The status, or -1 if the order is soft-deleted: what lists walk by.
    listing_state      INT             NOT NULL,
    -- 0 drive-through, 1 on hand, 2 home delivery.
    delivery_method    INT             NOT NULL CHECK (delivery_method >= 0),
    shipping_address   JSON,
    billing_address    JSON,
    tracking           VARCHAR(255)    CHECK (CHAR_LENGTH(tracking) >= 1),
    subtotal           BIGINT          NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    shipping           BIGINT          NOT NULL CHECK (shipping BETWEEN 0 AND 1000000000000000),
    discount           BIGINT          NOT NULL CHECK (discount >= 0),
    tax_added          BIGINT          NOT NULL CHECK (tax_added >= 0),
    tax_included       BIGINT          NOT NULL CHECK (tax_included >= 0),
    total              BIGINT          NOT NULL CHECK (total >= 0),
    -- The version of the pricing code.
    engine             INT             NOT NULL CHECK (engine >= 1),
    placed_at          DATETIME(6)     NOT NULL,
    canceled_at        DATETIME(6),
    erased_at          DATETIME(6),
    attributes         JSON            NOT NULL,
    source             VARBINARY(400),
    external_id        VARBINARY(1020),
    created_at         DATETIME(6)     NOT NULL,
    updated_at         DATETIME(6)     NOT NULL,
    created_by         VARCHAR(100)    NOT NULL,
    updated_by         VARCHAR(100)    NOT NULL,
    version            BIGINT          NOT NULL CHECK (version >= 1),
    deleted_at         DATETIME(6),
    live               TINYINT         GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK (listing_state = CASE WHEN deleted_at IS NULL THEN status ELSE -1 END),
    CHECK ((status = 3) = (canceled_at IS NOT NULL)),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal + shipping - discount + tax_added),
    CHECK (erased_at IS NOT NULL OR (email IS NULL) = (email_key IS NULL)),
    CHECK (erased_at IS NOT NULL OR customer_id IS NOT NULL OR (first_name IS NOT NULL AND email IS NOT NULL)),
    CHECK (erased_at IS NOT NULL OR delivery_method <> 2 OR shipping_address IS NOT NULL),
    UNIQUE INDEX orders_number (number),
    UNIQUE INDEX orders_cart (cart_id),
    UNIQUE INDEX orders_external_live (source, external_id, live),
    INDEX orders_external (source, external_id),
    INDEX orders_list (listing_state, placed_at, id),
    INDEX orders_placed (placed_at, id, listing_state),
    INDEX orders_customer (customer_id, placed_at, id),
    INDEX orders_delivery (delivery_method, placed_at, id),
    INDEX orders_email (email_key, placed_at, id),
    CONSTRAINT orders_customer_fk FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Lines are never deleted: removing one sets its quantity to 0.
CREATE TABLE IF NOT EXISTS order_lines (
    id           BINARY(16)   NOT NULL PRIMARY KEY,
    order_id     BINARY(16)   NOT NULL,
    position     INT          NOT NULL CHECK (position >= 1),
    -- The bill that the line belongs to.
    bill_seq     INT          NOT NULL CHECK (bill_seq >= 1),
    -- 0 SKU, 1 custom, 2 fee.
    kind         INT          NOT NULL CHECK (kind >= 0),
    sku_id       BINARY(16),
    product_id   BINARY(16),
    code         VARCHAR(100) CHECK (CHAR_LENGTH(code) >= 1),
    title        VARCHAR(255) NOT NULL CHECK (CHAR_LENGTH(title) >= 1),
    options      JSON         NOT NULL,
    attributes   JSON         NOT NULL,
    -- How the line moves stock: 0 not at all, 1 it is taken when the order is placed.
    stock_mode   INT          NOT NULL CHECK (stock_mode >= 0),
    list_price   BIGINT       NOT NULL CHECK (list_price BETWEEN 0 AND 1000000000000000),
    unit_price   BIGINT       NOT NULL CHECK (unit_price BETWEEN 0 AND 1000000000000000),
    quantity     BIGINT       NOT NULL CHECK (quantity >= 0),
    canceled     BIGINT       NOT NULL CHECK (canceled >= 0),
    subtotal     BIGINT       NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    discount     BIGINT       NOT NULL CHECK (discount >= 0),
    tax_added    BIGINT       NOT NULL CHECK (tax_added >= 0),
    tax_included BIGINT       NOT NULL CHECK (tax_included >= 0),
    total        BIGINT       NOT NULL CHECK (total >= 0),
    CHECK (kind <> 0 OR (sku_id IS NOT NULL AND product_id IS NOT NULL AND code IS NOT NULL)),
    CHECK (canceled <= quantity),
    CHECK (subtotal = quantity * unit_price),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal - discount + tax_added),
    UNIQUE INDEX order_lines_position (order_id, position),
    INDEX order_lines_sku (sku_id, order_id),
    INDEX order_lines_product (product_id, order_id),
    CONSTRAINT order_lines_order_fk FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE RESTRICT,
    CONSTRAINT order_lines_sku_fk FOREIGN KEY (sku_id) REFERENCES skus (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS order_adjustments (
    id             BINARY(16)   NOT NULL PRIMARY KEY,
    order_id       BINARY(16)   NOT NULL,
    order_line_id  BINARY(16),
    -- 0 manual, 1 promotion.
    kind           INT          NOT NULL CHECK (kind >= 0),
    source_id      BINARY(16),
    source_version BIGINT,
    code           VARCHAR(100) CHECK (CHAR_LENGTH(code) >= 1),
    label          VARCHAR(255) NOT NULL CHECK (CHAR_LENGTH(label) >= 1),
    -- The place of the adjustment in the calculation.
    step           INT          NOT NULL CHECK (step >= 0),
    amount         BIGINT       NOT NULL CHECK (amount > 0),
    INDEX order_adjustments_order (order_id, step, id),
    INDEX order_adjustments_line (order_line_id),
    CONSTRAINT order_adjustments_order_fk FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE RESTRICT,
    CONSTRAINT order_adjustments_line_fk FOREIGN KEY (order_line_id) REFERENCES order_lines (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS order_changes (
    order_id    BINARY(16)   NOT NULL,
    seq         BIGINT       NOT NULL CHECK (seq >= 1),
    kind        VARCHAR(50)  NOT NULL,
    from_status INT,
    to_status   INT          NOT NULL,
    data        JSON         NOT NULL,
    actor       VARCHAR(100) NOT NULL,
    at          DATETIME(6)  NOT NULL,
    PRIMARY KEY (order_id, seq),
    CONSTRAINT order_changes_order_fk FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS bills (
    id           BINARY(16)    NOT NULL PRIMARY KEY,
    order_id     BINARY(16)    NOT NULL,
    -- 0 bill, 1 credit note.
    kind         INT           NOT NULL CHECK (kind >= 0),
    seq          INT           NOT NULL CHECK (seq >= 1),
    -- The bill that a credit note corrects.
    corrects     BINARY(16),
    number       VARBINARY(50) NOT NULL,
    subtotal     BIGINT        NOT NULL CHECK (subtotal BETWEEN 0 AND 1000000000000000),
    discount     BIGINT        NOT NULL CHECK (discount >= 0),
    shipping     BIGINT        NOT NULL CHECK (shipping BETWEEN 0 AND 1000000000000000),
    tax_added    BIGINT        NOT NULL CHECK (tax_added >= 0),
    tax_included BIGINT        NOT NULL CHECK (tax_included >= 0),
    total        BIGINT        NOT NULL CHECK (total >= 0),
    -- 0 cash, 1 card.
    payment_type INT           NOT NULL CHECK (payment_type >= 0),
    -- 0 open, 1 paid, 2 void.
    status       INT           NOT NULL CHECK (status >= 0),
    date         DATETIME(6)   NOT NULL,
    created_at   DATETIME(6)   NOT NULL,
    updated_at   DATETIME(6)   NOT NULL,
    created_by   VARCHAR(100)  NOT NULL,
    updated_by   VARCHAR(100)  NOT NULL,
    version      BIGINT        NOT NULL CHECK (version >= 1),
    deleted_at   DATETIME(6),
    CHECK ((kind = 1) = (corrects IS NOT NULL)),
    CHECK (discount <= subtotal),
    CHECK (total = subtotal + shipping - discount + tax_added),
    UNIQUE INDEX bills_number (number),
    UNIQUE INDEX bills_order (order_id, kind, seq),
    INDEX bills_list (date, id),
    INDEX bills_status (status, date, id),
    INDEX bills_corrects (corrects),
    CONSTRAINT bills_order_fk FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE RESTRICT,
    CONSTRAINT bills_corrects_fk FOREIGN KEY (corrects) REFERENCES bills (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
