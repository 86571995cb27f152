-- Money is integer minor units of the shop's currency, texts that end in _key are folded by the library; what is
-- compared or sorted by has the collation "C": bytewise, whatever the database's own is.

CREATE TABLE categories (
    id                    UUID        NOT NULL PRIMARY KEY,
    name                  TEXT        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    name_key              TEXT        COLLATE "C" NOT NULL,
    slug                  TEXT        COLLATE "C" NOT NULL CHECK (length(slug) BETWEEN 1 AND 100),
    parent_id             UUID        REFERENCES categories (id) ON DELETE RESTRICT CHECK (parent_id <> id),
    path                  TEXT        COLLATE "C" NOT NULL,
    description           TEXT        CHECK (length(description) <= 5000),
    attributes            JSONB       NOT NULL,
    source                TEXT        COLLATE "C" CHECK (length(source) BETWEEN 1 AND 100),
    external_id           TEXT        COLLATE "C" CHECK (length(external_id) BETWEEN 1 AND 255),
    product_count         BIGINT      NOT NULL DEFAULT 0 CHECK (product_count >= 0),
    subtree_product_count BIGINT      NOT NULL DEFAULT 0,
    revision              BIGINT      NOT NULL CHECK (revision >= 1),
    created_at            TIMESTAMPTZ NOT NULL,
    updated_at            TIMESTAMPTZ NOT NULL,
    created_by            TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by            TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version               BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at            TIMESTAMPTZ,
    CHECK (subtree_product_count >= product_count),
    CHECK ((source IS NULL) = (external_id IS NULL))
);

-- Roots count as children of one parent.
CREATE UNIQUE INDEX categories_sibling_name_live
    ON categories (coalesce(parent_id, '00000000-0000-0000-0000-000000000000'), name_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX categories_slug_live ON categories (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX categories_external_live ON categories (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX categories_external ON categories (source, external_id) WHERE source IS NOT NULL;
CREATE INDEX categories_parent ON categories (parent_id, name_key, id);
CREATE INDEX categories_name ON categories (name_key, id);
CREATE INDEX categories_path ON categories (path);

CREATE TABLE products (
    id                   UUID        NOT NULL PRIMARY KEY,
    title                TEXT        NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
    title_key            TEXT        COLLATE "C" NOT NULL,
    slug                 TEXT        COLLATE "C" NOT NULL CHECK (length(slug) BETWEEN 1 AND 100),
    description          TEXT        CHECK (length(description) <= 50000),
    brand                TEXT        COLLATE "C" CHECK (length(brand) BETWEEN 1 AND 100),
    brand_key            TEXT        COLLATE "C",
    -- 0 draft, 1 active, 2 archived.
    status               INTEGER     NOT NULL CHECK (status BETWEEN 0 AND 2),
    -- The status, or 3 where it is soft-deleted: what lists walk by.
    listing_state        INTEGER     NOT NULL,
    tags                 JSONB       NOT NULL,
    images               JSONB       NOT NULL,
    attributes           JSONB       NOT NULL,
    -- Hundredths of a percent.
    discount             BIGINT      NOT NULL CHECK (discount BETWEEN 0 AND 10000),
    warranty_information TEXT        CHECK (length(warranty_information) <= 255),
    shipping_information TEXT        CHECK (length(shipping_information) <= 255),
    -- Hundredths.
    rating               BIGINT      NOT NULL CHECK (rating BETWEEN 0 AND 500),
    rating_count         BIGINT      NOT NULL CHECK (rating_count >= 0),
    -- 0 reviews, 1 external.
    rating_source        INTEGER     NOT NULL CHECK (rating_source BETWEEN 0 AND 1),
    source               TEXT        COLLATE "C" CHECK (length(source) BETWEEN 1 AND 100),
    external_id          TEXT        COLLATE "C" CHECK (length(external_id) BETWEEN 1 AND 255),
    -- Lowest and highest final price over the live SKUs.
    min_price            BIGINT      CHECK (min_price >= 0),
    max_price            BIGINT,
    -- min_price, or the greatest number without one, so that every product has a place in a list by price.
    price_key            BIGINT      NOT NULL,
    -- 0 out of stock, 1 limited, 2 in stock: the best over the live SKUs.
    availability         INTEGER     NOT NULL CHECK (availability BETWEEN 0 AND 2),
    revision             BIGINT      NOT NULL CHECK (revision >= 1),
    created_at           TIMESTAMPTZ NOT NULL,
    updated_at           TIMESTAMPTZ NOT NULL,
    created_by           TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by           TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version              BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at           TIMESTAMPTZ,
    CHECK (listing_state = CASE WHEN deleted_at IS NULL THEN status ELSE 3 END),
    CHECK (max_price >= min_price),
    CHECK (price_key = coalesce(min_price, 9223372036854775807)),
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((brand IS NULL) = (brand_key IS NULL))
);

CREATE UNIQUE INDEX products_slug_live ON products (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX products_external_live ON products (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX products_external ON products (source, external_id) WHERE source IS NOT NULL;
-- One per sort of a list; ids sort by creation. The price at the end is for filters: a walk looks at the index only.
CREATE INDEX products_list_id ON products (listing_state, id, price_key);
CREATE INDEX products_list_price ON products (listing_state, price_key, id);
CREATE INDEX products_list_title ON products (listing_state, title_key, id, price_key);
CREATE INDEX products_list_rating ON products (listing_state, rating, id, price_key);
CREATE INDEX products_list_availability ON products (listing_state, availability, id);
CREATE INDEX products_brand ON products (brand_key, listing_state, id) WHERE brand_key IS NOT NULL;
CREATE INDEX products_updated ON products (updated_at, id);

-- Which categories a product is in, in the order that they were given: the truth.
CREATE TABLE product_categories (
    product_id  UUID    NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    category_id UUID    NOT NULL REFERENCES categories (id) ON DELETE RESTRICT,
    position    INTEGER NOT NULL,
    PRIMARY KEY (product_id, category_id)
);

CREATE INDEX product_categories_category ON product_categories (category_id, product_id);

CREATE TABLE product_tags (
    product_id UUID NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    tag_key    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (product_id, tag_key)
);

CREATE INDEX product_tags_tag ON product_tags (tag_key, product_id);

-- Derived from product_categories and the tree: a row for each product and each category that it is in or that is
-- above one that it is in. A list by category (subtree) walks one index of it.
CREATE TABLE product_listings (
    category_id UUID    NOT NULL REFERENCES categories (id) ON DELETE RESTRICT,
    product_id  UUID    NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    -- 1 where the product is in the category itself.
    direct      INTEGER NOT NULL CHECK (direct BETWEEN 0 AND 1),
    state       INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    price_key   BIGINT  NOT NULL,
    rating      BIGINT  NOT NULL,
    title_key   TEXT    COLLATE "C" NOT NULL,
    PRIMARY KEY (category_id, product_id)
);

CREATE INDEX product_listings_id ON product_listings (category_id, state, product_id, price_key);
CREATE INDEX product_listings_price ON product_listings (category_id, state, price_key, product_id);
CREATE INDEX product_listings_title ON product_listings (category_id, state, title_key, product_id, price_key);
CREATE INDEX product_listings_rating ON product_listings (category_id, state, rating, product_id, price_key);
CREATE INDEX product_listings_product ON product_listings (product_id);

CREATE TABLE skus (
    id                  UUID        NOT NULL PRIMARY KEY,
    product_id          UUID        NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    position            INTEGER     NOT NULL,
    code                TEXT        NOT NULL CHECK (length(code) BETWEEN 1 AND 100),
    code_key            TEXT        COLLATE "C" NOT NULL,
    option_values       JSONB       NOT NULL,
    attributes          JSONB       NOT NULL,
    price               BIGINT      NOT NULL CHECK (price >= 0),
    weight              BIGINT      CHECK (weight >= 0),
    width               BIGINT      CHECK (width >= 0),
    height              BIGINT      CHECK (height >= 0),
    depth               BIGINT      CHECK (depth >= 0),
    on_hand             BIGINT      NOT NULL,
    reserved            BIGINT      NOT NULL CHECK (reserved >= 0),
    low_stock_threshold BIGINT      NOT NULL CHECK (low_stock_threshold >= 0),
    barcode             TEXT        COLLATE "C" CHECK (length(barcode) BETWEEN 1 AND 100),
    source              TEXT        COLLATE "C" CHECK (length(source) BETWEEN 1 AND 100),
    external_id         TEXT        COLLATE "C" CHECK (length(external_id) BETWEEN 1 AND 255),
    created_at          TIMESTAMPTZ NOT NULL,
    updated_at          TIMESTAMPTZ NOT NULL,
    created_by          TEXT        NOT NULL CHECK (length(created_by) <= 100),
    updated_by          TEXT        NOT NULL CHECK (length(updated_by) <= 100),
    version             BIGINT      NOT NULL CHECK (version >= 1),
    deleted_at          TIMESTAMPTZ,
    CONSTRAINT skus_on_hand_not_negative CHECK (on_hand >= 0),
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((width IS NULL) = (height IS NULL) AND (width IS NULL) = (depth IS NULL))
)
-- Stock changes with every sale and is in no index: room on the page keeps such an update out of the indexes.
WITH (fillfactor = 80);

CREATE UNIQUE INDEX skus_code_live ON skus (code_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX skus_external_live ON skus (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX skus_product ON skus (product_id, deleted_at, position, id);
CREATE INDEX skus_barcode ON skus (barcode, id) WHERE barcode IS NOT NULL;

-- Append-only: for every SKU the sum of its movements is its on hand.
CREATE TABLE stock_movements (
    id         UUID        NOT NULL PRIMARY KEY,
    sku_id     UUID        NOT NULL REFERENCES skus (id) ON DELETE RESTRICT,
    delta      BIGINT      NOT NULL CHECK (delta <> 0),
    reason     TEXT        NOT NULL,
    reference  TEXT        CHECK (length(reference) <= 255),
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT        NOT NULL CHECK (length(created_by) <= 100)
);

CREATE INDEX stock_movements_sku ON stock_movements (sku_id, id, delta);

-- Many write at a time, so that n is no order of commits: an event has its place in the log (seq) once it has
-- committed and a sequencer, who holds the row of outbox_head, has seen it.
CREATE TABLE outbox_events (
    n            BIGINT      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seq          BIGINT      UNIQUE,
    id           UUID        NOT NULL UNIQUE,
    kind         TEXT        NOT NULL,
    aggregate_id UUID        NOT NULL,
    revision     BIGINT      NOT NULL,
    data         JSONB       NOT NULL,
    occurred_at  TIMESTAMPTZ NOT NULL,
    actor        TEXT        NOT NULL CHECK (length(actor) <= 100)
);

CREATE INDEX outbox_events_unsequenced ON outbox_events (n) WHERE seq IS NULL;
CREATE INDEX outbox_events_occurred ON outbox_events (occurred_at, seq);

CREATE TABLE outbox_head (
    id  SMALLINT NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT   NOT NULL
);

INSERT INTO outbox_head (id, seq) VALUES (1, 0);

CREATE TABLE outbox_cursors (
    consumer   TEXT        COLLATE "C" NOT NULL PRIMARY KEY,
    holder     TEXT        NOT NULL,
    fence      BIGINT      NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    seq        BIGINT      NOT NULL
);
