-- Times are microseconds since 1970 in UTC, ids 16 bytes, money minor units of the shop's currency, texts that
-- end in _key are folded by the library and compared bytewise.

CREATE TABLE categories (
    id                    BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name                  TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    name_key              TEXT    NOT NULL,
    slug                  TEXT    NOT NULL CHECK (length(slug) BETWEEN 1 AND 100),
    parent_id             BLOB    REFERENCES categories (id) ON DELETE RESTRICT CHECK (parent_id <> id),
    path                  TEXT    NOT NULL,
    description           TEXT    CHECK (length(description) <= 5000),
    attributes            TEXT    NOT NULL CHECK (json_valid(attributes)),
    source                TEXT    CHECK (length(source) BETWEEN 1 AND 100),
    external_id           TEXT    CHECK (length(external_id) BETWEEN 1 AND 255),
    product_count         INTEGER NOT NULL DEFAULT 0 CHECK (product_count >= 0),
    subtree_product_count INTEGER NOT NULL DEFAULT 0 CHECK (subtree_product_count >= product_count),
    revision              INTEGER NOT NULL CHECK (revision >= 1),
    created_at            INTEGER NOT NULL,
    updated_at            INTEGER NOT NULL,
    created_by            TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by            TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version               INTEGER NOT NULL CHECK (version >= 1),
    deleted_at            INTEGER,
    CHECK ((source IS NULL) = (external_id IS NULL))
) STRICT;

-- Roots count as children of one parent.
CREATE UNIQUE INDEX categories_sibling_name_live ON categories (coalesce(parent_id, x''), name_key)
    WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX categories_slug_live ON categories (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX categories_external_live ON categories (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX categories_external ON categories (source, external_id) WHERE source IS NOT NULL;
CREATE INDEX categories_parent ON categories (parent_id, name_key, id);
CREATE INDEX categories_name ON categories (name_key, id);
CREATE INDEX categories_path ON categories (path);

CREATE TABLE products (
    id                   BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    title                TEXT    NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
    title_key            TEXT    NOT NULL,
    slug                 TEXT    NOT NULL CHECK (length(slug) BETWEEN 1 AND 100),
    description          TEXT    CHECK (length(description) <= 50000),
    brand                TEXT    CHECK (length(brand) BETWEEN 1 AND 100),
    brand_key            TEXT,
    -- 0 draft, 1 active, 2 archived.
    status               INTEGER NOT NULL CHECK (status BETWEEN 0 AND 2),
    -- The status, or 3 where it is soft-deleted: what lists walk by.
    listing_state        INTEGER NOT NULL CHECK (listing_state = CASE WHEN deleted_at IS NULL THEN status ELSE 3 END),
    tags                 TEXT    NOT NULL CHECK (json_valid(tags)),
    images               TEXT    NOT NULL CHECK (json_valid(images)),
    attributes           TEXT    NOT NULL CHECK (json_valid(attributes)),
    -- Hundredths of a percent.
    discount             INTEGER NOT NULL CHECK (discount BETWEEN 0 AND 10000),
    warranty_information TEXT    CHECK (length(warranty_information) <= 255),
    shipping_information TEXT    CHECK (length(shipping_information) <= 255),
    -- Hundredths.
    rating               INTEGER NOT NULL CHECK (rating BETWEEN 0 AND 500),
    rating_count         INTEGER NOT NULL CHECK (rating_count >= 0),
    -- 0 reviews, 1 external.
    rating_source        INTEGER NOT NULL CHECK (rating_source BETWEEN 0 AND 1),
    source               TEXT    CHECK (length(source) BETWEEN 1 AND 100),
    external_id          TEXT    CHECK (length(external_id) BETWEEN 1 AND 255),
    -- Lowest and highest final price over the live SKUs.
    min_price            INTEGER CHECK (min_price >= 0),
    max_price            INTEGER CHECK (max_price >= min_price),
    -- min_price, or the greatest number without one, so that every product has a place in a list by price.
    price_key            INTEGER NOT NULL CHECK (price_key = coalesce(min_price, 9223372036854775807)),
    -- 0 out of stock, 1 limited, 2 in stock: the best over the live SKUs.
    availability         INTEGER NOT NULL CHECK (availability BETWEEN 0 AND 2),
    revision             INTEGER NOT NULL CHECK (revision >= 1),
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    created_by           TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by           TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version              INTEGER NOT NULL CHECK (version >= 1),
    deleted_at           INTEGER,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((brand IS NULL) = (brand_key IS NULL))
) STRICT;

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
    product_id  BLOB    NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    category_id BLOB    NOT NULL REFERENCES categories (id) ON DELETE RESTRICT,
    position    INTEGER NOT NULL,
    PRIMARY KEY (product_id, category_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX product_categories_category ON product_categories (category_id, product_id);

CREATE TABLE product_tags (
    product_id BLOB NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    tag_key    TEXT NOT NULL,
    PRIMARY KEY (product_id, tag_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX product_tags_tag ON product_tags (tag_key, product_id);

-- Derived from product_categories and the tree: a row for each product and each category that it is in or that is
-- above one that it is in. A list by category (subtree) walks one index of it.
CREATE TABLE product_listings (
    category_id BLOB    NOT NULL REFERENCES categories (id) ON DELETE RESTRICT,
    product_id  BLOB    NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    -- 1 where the product is in the category itself.
    direct      INTEGER NOT NULL CHECK (direct BETWEEN 0 AND 1),
    state       INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    price_key   INTEGER NOT NULL,
    rating      INTEGER NOT NULL,
    title_key   TEXT    NOT NULL,
    PRIMARY KEY (category_id, product_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX product_listings_id ON product_listings (category_id, state, product_id, price_key);
CREATE INDEX product_listings_price ON product_listings (category_id, state, price_key, product_id);
CREATE INDEX product_listings_title ON product_listings (category_id, state, title_key, product_id, price_key);
CREATE INDEX product_listings_rating ON product_listings (category_id, state, rating, product_id, price_key);
CREATE INDEX product_listings_product ON product_listings (product_id);

CREATE TABLE skus (
    id                  BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    product_id          BLOB    NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    position            INTEGER NOT NULL,
    code                TEXT    NOT NULL CHECK (length(code) BETWEEN 1 AND 100),
    code_key            TEXT    NOT NULL,
    option_values       TEXT    NOT NULL CHECK (json_valid(option_values)),
    attributes          TEXT    NOT NULL CHECK (json_valid(attributes)),
    price               INTEGER NOT NULL CHECK (price >= 0),
    weight              INTEGER CHECK (weight >= 0),
    width               INTEGER CHECK (width >= 0),
    height              INTEGER CHECK (height >= 0),
    depth               INTEGER CHECK (depth >= 0),
    on_hand             INTEGER NOT NULL,
    reserved            INTEGER NOT NULL CHECK (reserved >= 0),
    low_stock_threshold INTEGER NOT NULL CHECK (low_stock_threshold >= 0),
    barcode             TEXT    CHECK (length(barcode) BETWEEN 1 AND 100),
    source              TEXT    CHECK (length(source) BETWEEN 1 AND 100),
    external_id         TEXT    CHECK (length(external_id) BETWEEN 1 AND 255),
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    created_by          TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by          TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version             INTEGER NOT NULL CHECK (version >= 1),
    deleted_at          INTEGER,
    CONSTRAINT skus_on_hand_not_negative CHECK (on_hand >= 0),
    CHECK ((source IS NULL) = (external_id IS NULL)),
    CHECK ((width IS NULL) = (height IS NULL) AND (width IS NULL) = (depth IS NULL))
) STRICT;

CREATE UNIQUE INDEX skus_code_live ON skus (code_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX skus_external_live ON skus (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX skus_product ON skus (product_id, deleted_at, position, id);
CREATE INDEX skus_barcode ON skus (barcode, id) WHERE barcode IS NOT NULL;

-- Append-only: for every SKU the sum of its movements is its on hand.
CREATE TABLE stock_movements (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    sku_id     BLOB    NOT NULL REFERENCES skus (id) ON DELETE RESTRICT,
    delta      INTEGER NOT NULL CHECK (delta <> 0),
    reason     TEXT    NOT NULL,
    reference  TEXT    CHECK (length(reference) <= 255),
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL CHECK (length(created_by) <= 100)
) STRICT;

CREATE INDEX stock_movements_sku ON stock_movements (sku_id, id, delta);

-- One writer at a time: the order of seq is the order of commits.
CREATE TABLE outbox_events (
    seq          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    kind         TEXT    NOT NULL,
    aggregate_id BLOB    NOT NULL CHECK (length(aggregate_id) = 16),
    revision     INTEGER NOT NULL,
    data         TEXT    NOT NULL CHECK (json_valid(data)),
    occurred_at  INTEGER NOT NULL,
    actor        TEXT    NOT NULL CHECK (length(actor) <= 100)
) STRICT;

CREATE INDEX outbox_events_occurred ON outbox_events (occurred_at, seq);

CREATE TABLE outbox_cursors (
    consumer   TEXT    NOT NULL PRIMARY KEY,
    holder     TEXT    NOT NULL,
    fence      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    seq        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
