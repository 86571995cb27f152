CREATE TABLE IF NOT EXISTS customers (
    id            BINARY(16)      NOT NULL PRIMARY KEY,
    first_name    VARCHAR(100)    NOT NULL CHECK (CHAR_LENGTH(first_name) >= 1),
    last_name     VARCHAR(100)    NOT NULL CHECK (CHAR_LENGTH(last_name) >= 1),
    -- First and last name, and last and first name: what lists look for and sort by.
    name_key      VARBINARY(512)  NOT NULL,
    sort_name_key VARBINARY(512)  NOT NULL,
    email         VARCHAR(254)    NOT NULL CHECK (CHAR_LENGTH(email) >= 1),
    email_key     VARBINARY(512)  NOT NULL,
    telephone     VARCHAR(21)     CHECK (CHAR_LENGTH(telephone) >= 7),
    attributes    JSON            NOT NULL,
    source        VARBINARY(400),
    external_id   VARBINARY(1020),
    created_at    DATETIME(6)     NOT NULL,
    updated_at    DATETIME(6)     NOT NULL,
    created_by    VARCHAR(100)    NOT NULL,
    updated_by    VARCHAR(100)    NOT NULL,
    version       BIGINT          NOT NULL CHECK (version >= 1),
    deleted_at    DATETIME(6),
    live          TINYINT         GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED,
    CHECK ((source IS NULL) = (external_id IS NULL)),
    UNIQUE INDEX customers_email_live (email_key, live),
    UNIQUE INDEX customers_external_live (source, external_id, live),
    INDEX customers_external (source, external_id),
    INDEX customers_email (email_key, id),
    INDEX customers_name (name_key, id),
    INDEX customers_sort_name (sort_name_key, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- An address is soft-deleted and restored with its customer.
CREATE TABLE IF NOT EXISTS addresses (
    id          BINARY(16)     NOT NULL PRIMARY KEY,
    customer_id BINARY(16)     NOT NULL,
    street      VARCHAR(255)   NOT NULL CHECK (CHAR_LENGTH(street) >= 1),
    street_key  VARBINARY(512) NOT NULL,
    number      VARCHAR(50)    CHECK (CHAR_LENGTH(number) >= 1),
    city        VARCHAR(100)   NOT NULL CHECK (CHAR_LENGTH(city) >= 1),
    city_key    VARBINARY(512) NOT NULL,
    region      VARCHAR(100)   CHECK (CHAR_LENGTH(region) >= 1),
    postal_code VARCHAR(20)    CHECK (CHAR_LENGTH(postal_code) >= 1),
    country     VARCHAR(2)     CHECK (CHAR_LENGTH(country) = 2),
    created_at  DATETIME(6)    NOT NULL,
    updated_at  DATETIME(6)    NOT NULL,
    created_by  VARCHAR(100)   NOT NULL,
    updated_by  VARCHAR(100)   NOT NULL,
    version     BIGINT         NOT NULL CHECK (version >= 1),
    -- When its customer was.
    deleted_at  DATETIME(6),
    INDEX addresses_customer (customer_id, id),
    INDEX addresses_city (city_key, id),
    INDEX addresses_street (street_key, id),
    CONSTRAINT addresses_customer_fk FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
