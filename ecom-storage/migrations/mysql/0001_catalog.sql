-- Money is integer minor units of the shop's currency, texts that end in _key are folded by the library; what is
-- compared or sorted by is VARBINARY: bytewise, and without the padding with spaces that collations do.
-- `live` is 1, or NULL where the row is soft-deleted: NULLs never collide in a unique index.
-- A statement that changes the schema commits by itself here, so that a migration that was killed starts again from
-- its first statement: each must be able to run twice.

CREATE TABLE IF NOT EXISTS categories (
    id                    BINARY(16)      NOT NULL PRIMARY KEY,
    name                  VARCHAR(100)    NOT NULL CHECK (CHAR_LENGTH(name) >= 1),
    name_key              VARBINARY(512)  NOT NULL,
    slug                  VARBINARY(100)  NOT NULL CHECK (LENGTH(slug) >= 1),
    parent_id             BINARY(16),
    path                  VARBINARY(3300) NOT NULL,
    description           TEXT,
    attributes            JSON            NOT NULL,
    source                VARBINARY(400),
    external_id           VARBINARY(1020),
    product_count         BIGINT          NOT NULL DEFAULT 0 CHECK (product_count >= 0),
    subtree_product_count BIGINT          NOT NULL DEFAULT 0,
    revision              BIGINT          NOT NULL CHECK (revision >= 1),
    created_at            DATETIME(6)     NOT NULL,
    updated_at            DATETIME(6)     NOT NULL,
    created_by            VARCHAR(100)    NOT NULL,
    updated_by            VARCHAR(100)    NOT NULL,
    version               BIGINT          NOT NULL CHECK (version >= 1),
    deleted_at            DATETIME(6),
    live                  TINYINT         GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED,
    -- Roots count as children of one parent.
    sibling_of            BINARY(16)      GENERATED ALWAYS AS (COALESCE(parent_id, X'00000000000000000000000000000000')) STORED,
    CHECK (parent_id <> id),
    CHECK (subtree_product_count >= product_count),
    CHECK ((source IS NULL) = (external_id IS NULL)),
    UNIQUE INDEX categories_sibling_name_live (sibling_of, name_key, live),
    UNIQUE INDEX categories_slug_live (slug, live),
    UNIQUE INDEX categories_external_live (source, external_id, live),
    INDEX categories_external (source, external_id),
    INDEX categories_parent (parent_id, name_key, id),
    INDEX categories_name (name_key, id),
    INDEX categories_path (path(700)),
    CONSTRAINT categories_parent_fk FOREIGN KEY (parent_id) REFERENCES categories (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS products (
    id                   BINARY(16)     NOT NULL PRIMARY KEY,
    title                VARCHAR(255)   NOT NULL CHECK (CHAR_LENGTH(title) >= 1),
    title_key            VARBINARY(512) NOT NULL,
    slug                 VARBINARY(100) NOT NULL CHECK (LENGTH(slug) >= 1),
    description          MEDIUMTEXT,
    brand                VARCHAR(100)   CHECK (CHAR_LENGTH(brand) >= 1),
    brand_key            VARBINARY(512),
    -- 0 draft, 1 active, 2 archived.
    status               INT            NOT NULL CHECK (status BETWEEN 0 AND 2),
    -- The status, or 3 where it is soft-deleted: what lists walk by.
    listing_state        INT            NOT NULL,
    tags                 JSON           NOT NULL,
    images               JSON           NOT NULL,
    attributes           JSON           NOT NULL,
    -- Hundredths of a percent.
    discount             BIGINT         NOT NULL CHECK (discount BETWEEN 0 AND 10000),
    warranty_information VARCHAR(255),
    shipping_information VARCHAR(255),
    -- Hundredths.
    rating               BIGINT         NOT NULL CHECK (rating BETWEEN 0 AND 500),
    rating_count         BIGINT         NOT NULL CHECK (rating_count >= 0),
    -- 0 reviews, 1 external.
    rating_source        INT            NOT NULL CHECK (rating_source BETWEEN 0 AND 1),
    source               VARBINARY(400),
    external_id          VARBINARY(1020),
    -- Lowest and highest final price over the live SKUs.
    min_price            BIGINT         CHECK (min_price >= 0),
    max_price            BIGINT,
    -- min_price, or the greatest number without one, so that every product has a place in a list by price.
    price_key            BIGINT         NOT NULL,
    -- 0 out of stock, 1 limited, 2 in stock: the best over the live SKUs.
    availability         INT            NOT NULL CHECK (availability BETWEEN 0 AND 2),
    revision             BIGINT         NOT NULL CHECK (revision >= 1),
    created_at           DATETIME(6)    NOT NULL,
    updated_at           DATETIME(6)    NOT NULL,
    created_by           VARCHAR(100)   NOT NULL,
    updated_by           VARCHAR(100)   NOT NULL,
    version              BIGINT         NOT NULL CHECK (version >= 1),
    deleted_at           DATETIME(6),
    live                 TINYINT        GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED,
    CHECK (listing_state = CASE WHEN deleted_at IS NULL THEN status ELSE 3 END),
    CHECK (max_price >= min_price),
    CHECK (price_key = COALESCE(min_price, 9223372036854775807)),
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((brand IS NULL) = (brand_key IS NULL)),
    UNIQUE INDEX products_slug_live (slug, live),
    UNIQUE INDEX products_external_live (source, external_id, live),
    INDEX products_external (source, external_id),
    -- One per sort of a list; ids sort by creation. The price at the end is for filters: a walk looks at the index
    -- only.
    INDEX products_list_id (listing_state, id, price_key),
    INDEX products_list_price (listing_state, price_key, id),
    INDEX products_list_title (listing_state, title_key, id, price_key),
    INDEX products_list_rating (listing_state, rating, id, price_key),
    INDEX products_list_availability (listing_state, availability, id),
    INDEX products_brand (brand_key, listing_state, id),
    INDEX products_updated (updated_at, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Which categories a product is in, in the order that they were given: the truth.
CREATE TABLE IF NOT EXISTS product_categories (
    product_id  BINARY(16) NOT NULL,
    category_id BINARY(16) NOT NULL,
    position    INT        NOT NULL,
    PRIMARY KEY (product_id, category_id),
    INDEX product_categories_category (category_id, product_id),
    CONSTRAINT product_categories_product_fk FOREIGN KEY (product_id) REFERENCES products (id) ON DELETE RESTRICT,
    CONSTRAINT product_categories_category_fk FOREIGN KEY (category_id) REFERENCES categories (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS product_tags (
    product_id BINARY(16)     NOT NULL,
    tag_key    VARBINARY(512) NOT NULL,
    PRIMARY KEY (product_id, tag_key),
    INDEX product_tags_tag (tag_key, product_id),
    CONSTRAINT product_tags_product_fk FOREIGN KEY (product_id) REFERENCES products (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Derived from product_categories and the tree: a row for each product and each category that it is in or that is
-- above one that it is in. A list by category (subtree) walks one index of it.
CREATE TABLE IF NOT EXISTS product_listings (
    category_id BINARY(16)     NOT NULL,
    product_id  BINARY(16)     NOT NULL,
    -- 1 where the product is in the category itself.
    direct      INT            NOT NULL CHECK (direct BETWEEN 0 AND 1),
    state       INT            NOT NULL CHECK (state BETWEEN 0 AND 3),
    price_key   BIGINT         NOT NULL,
    rating      BIGINT         NOT NULL,
    title_key   VARBINARY(512) NOT NULL,
    PRIMARY KEY (category_id, product_id),
    INDEX product_listings_id (category_id, state, product_id, price_key),
    INDEX product_listings_price (category_id, state, price_key, product_id),
    INDEX product_listings_title (category_id, state, title_key, product_id, price_key),
    INDEX product_listings_rating (category_id, state, rating, product_id, price_key),
    INDEX product_listings_product (product_id),
    CONSTRAINT product_listings_category_fk FOREIGN KEY (category_id) REFERENCES categories (id) ON DELETE RESTRICT,
    CONSTRAINT product_listings_product_fk FOREIGN KEY (product_id) REFERENCES products (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS skus (
    id                  BINARY(16)      NOT NULL PRIMARY KEY,
    product_id          BINARY(16)      NOT NULL,
    position            INT             NOT NULL,
    code                VARCHAR(100)    NOT NULL CHECK (CHAR_LENGTH(code) >= 1),
    code_key            VARBINARY(512)  NOT NULL,
    option_values       JSON            NOT NULL,
    attributes          JSON            NOT NULL,
    price               BIGINT          NOT NULL CHECK (price >= 0),
    weight              BIGINT          CHECK (weight >= 0),
    width               BIGINT          CHECK (width >= 0),
    height              BIGINT          CHECK (height >= 0),
    depth               BIGINT          CHECK (depth >= 0),
    on_hand             BIGINT          NOT NULL,
    reserved            BIGINT          NOT NULL CHECK (reserved >= 0),
    low_stock_threshold BIGINT          NOT NULL CHECK (low_stock_threshold >= 0),
    barcode             VARBINARY(400),
    source              VARBINARY(400),
    external_id         VARBINARY(1020),
    created_at          DATETIME(6)     NOT NULL,
    updated_at          DATETIME(6)     NOT NULL,
    created_by          VARCHAR(100)    NOT NULL,
    updated_by          VARCHAR(100)    NOT NULL,
    version             BIGINT          NOT NULL CHECK (version >= 1),
    deleted_at          DATETIME(6),
    live                TINYINT         GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED,
    CONSTRAINT skus_on_hand_not_negative CHECK (on_hand >= 0),
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((width IS NULL) = (height IS NULL) AND (width IS NULL) = (depth IS NULL)),
    UNIQUE INDEX skus_code_live (code_key, live),
    UNIQUE INDEX skus_external_live (source, external_id, live),
    INDEX skus_product (product_id, deleted_at, position, id),
    INDEX skus_barcode (barcode, id),
    CONSTRAINT skus_product_fk FOREIGN KEY (product_id) REFERENCES products (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Append-only: for every SKU the sum of its movements is its on hand.
CREATE TABLE IF NOT EXISTS stock_movements (
    id         BINARY(16)   NOT NULL PRIMARY KEY,
    sku_id     BINARY(16)   NOT NULL,
    delta      BIGINT       NOT NULL CHECK (delta <> 0),
    reason     VARCHAR(50)  NOT NULL,
    reference  VARCHAR(255),
    created_at DATETIME(6)  NOT NULL,
    created_by VARCHAR(100) NOT NULL,
    INDEX stock_movements_sku (sku_id, id, delta),
    CONSTRAINT stock_movements_sku_fk FOREIGN KEY (sku_id) REFERENCES skus (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Many write at a time, so that n is no order of commits: an event has its place in the log (seq) once it has
-- committed and a sequencer, who holds the row of outbox_head, has seen it.
CREATE TABLE IF NOT EXISTS outbox_events (
    n            BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    seq          BIGINT,
    id           BINARY(16)   NOT NULL,
    kind         VARCHAR(100) NOT NULL,
    aggregate_id BINARY(16)   NOT NULL,
    revision     BIGINT       NOT NULL,
    data         JSON         NOT NULL,
    occurred_at  DATETIME(6)  NOT NULL,
    actor        VARCHAR(100) NOT NULL,
    UNIQUE INDEX outbox_events_seq (seq),
    UNIQUE INDEX outbox_events_id (id),
    INDEX outbox_events_occurred (occurred_at, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS outbox_head (
    id  SMALLINT NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT   NOT NULL
) ENGINE = InnoDB;

INSERT IGNORE INTO outbox_head (id, seq) VALUES (1, 0);

CREATE TABLE IF NOT EXISTS outbox_cursors (
    consumer   VARBINARY(400) NOT NULL PRIMARY KEY,
    holder     VARCHAR(255)   NOT NULL,
    fence      BIGINT         NOT NULL,
    expires_at DATETIME(6)    NOT NULL,
    seq        BIGINT         NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
