-- The number of the reviews of a product and the sum of their ratings in tenths, whatever the source of its rating is.
ALTER TABLE products ADD COLUMN review_count INTEGER NOT NULL DEFAULT 0 CHECK (review_count >= 0);
ALTER TABLE products ADD COLUMN review_sum INTEGER NOT NULL DEFAULT 0
    CHECK (review_sum BETWEEN 0 AND 50 * review_count);

-- A review is hidden and shown again with its product.
CREATE TABLE reviews (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    product_id  BLOB    NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    customer_id BLOB    REFERENCES customers (id) ON DELETE RESTRICT,
    -- Tenths.
    rating      INTEGER NOT NULL CHECK (rating BETWEEN 0 AND 50),
    comment     TEXT    CHECK (length(comment) BETWEEN 1 AND 5000),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by  TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version     INTEGER NOT NULL CHECK (version >= 1),
    -- When its product was.
    deleted_at  INTEGER
) STRICT;

CREATE UNIQUE INDEX reviews_customer_product ON reviews (customer_id, product_id);
-- One per filter and sort of a list; ids sort by creation.
CREATE INDEX reviews_product ON reviews (product_id, id);
CREATE INDEX reviews_product_rating ON reviews (product_id, rating, id);
CREATE INDEX reviews_customer ON reviews (customer_id, id);
CREATE INDEX reviews_customer_rating ON reviews (customer_id, rating, id);
CREATE INDEX reviews_rating ON reviews (rating, id);
