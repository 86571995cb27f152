-- MySQL commits each of these statements by itself, so that a migration that was cut off runs again: each step is
-- skipped if it was done.

-- The number of the reviews of a product and the sum of their ratings in tenths, whatever the source of its rating is.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'products' AND column_name = 'review_sum'),
    'DO 0',
    'ALTER TABLE products
     ADD COLUMN review_count BIGINT NOT NULL DEFAULT 0 CHECK (review_count >= 0),
     ADD COLUMN review_sum   BIGINT NOT NULL DEFAULT 0,
     ADD CONSTRAINT products_review_sum CHECK (review_sum BETWEEN 0 AND 50 * review_count)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

-- A review is hidden and shown again with its product.
CREATE TABLE IF NOT EXISTS reviews (
    id          BINARY(16)    NOT NULL PRIMARY KEY,
    product_id  BINARY(16)    NOT NULL,
    customer_id BINARY(16),
    -- Tenths.
    rating      BIGINT        NOT NULL CHECK (rating BETWEEN 0 AND 50),
    comment     VARCHAR(5000) CHECK (CHAR_LENGTH(comment) >= 1),
    created_at  DATETIME(6)   NOT NULL,
    updated_at  DATETIME(6)   NOT NULL,
    created_by  VARCHAR(100)  NOT NULL,
    updated_by  VARCHAR(100)  NOT NULL,
    version     BIGINT        NOT NULL CHECK (version >= 1),
    -- When its product was.
    deleted_at  DATETIME(6),
    UNIQUE INDEX reviews_customer_product (customer_id, product_id),
    -- One per filter and sort of a list; ids sort by creation.
    INDEX reviews_product (product_id, id),
    INDEX reviews_product_rating (product_id, rating, id),
    INDEX reviews_customer (customer_id, id),
    INDEX reviews_customer_rating (customer_id, rating, id),
    INDEX reviews_rating (rating, id),
    CONSTRAINT reviews_product_fk FOREIGN KEY (product_id) REFERENCES products (id) ON DELETE RESTRICT,
    CONSTRAINT reviews_customer_fk FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
