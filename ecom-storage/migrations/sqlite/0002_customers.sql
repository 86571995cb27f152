CREATE TABLE customers (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    first_name    TEXT    NOT NULL CHECK (length(first_name) BETWEEN 1 AND 100),
    last_name     TEXT    NOT NULL CHECK (length(last_name) BETWEEN 1 AND 100),
    -- First and last name, and last and first name: what lists look for and sort by.
    name_key      TEXT    NOT NULL,
    sort_name_key TEXT    NOT NULL,
    email         TEXT    NOT NULL CHECK (length(email) BETWEEN 1 AND 254),
    email_key     TEXT    NOT NULL,
    telephone     TEXT    CHECK (length(telephone) BETWEEN 7 AND 21),
    attributes    TEXT    NOT NULL CHECK (json_valid(attributes)),
    source        TEXT    CHECK (length(source) BETWEEN 1 AND 100),
    external_id   TEXT    CHECK (length(external_id) BETWEEN 1 AND 255),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    created_by    TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by    TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version       INTEGER NOT NULL CHECK (version >= 1),
    deleted_at    INTEGER,
    CHECK ((source IS NULL) = (external_id IS NULL))
) STRICT;

CREATE UNIQUE INDEX customers_email_live ON customers (email_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX customers_external_live ON customers (source, external_id) WHERE deleted_at IS NULL;
CREATE INDEX customers_external ON customers (source, external_id) WHERE source IS NOT NULL;
CREATE INDEX customers_email ON customers (email_key, id);
CREATE INDEX customers_name ON customers (name_key, id);
CREATE INDEX customers_sort_name ON customers (sort_name_key, id);

-- An address is soft-deleted and restored with its customer.
CREATE TABLE addresses (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    customer_id BLOB    NOT NULL REFERENCES customers (id) ON DELETE RESTRICT,
    street      TEXT    NOT NULL CHECK (length(street) BETWEEN 1 AND 255),
    street_key  TEXT    NOT NULL,
    number      TEXT    CHECK (length(number) BETWEEN 1 AND 50),
    city        TEXT    NOT NULL CHECK (length(city) BETWEEN 1 AND 100),
    city_key    TEXT    NOT NULL,
    region      TEXT    CHECK (length(region) BETWEEN 1 AND 100),
    postal_code TEXT    CHECK (length(postal_code) BETWEEN 1 AND 20),
    country     TEXT    CHECK (length(country) = 2),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL CHECK (length(created_by) <= 100),
    updated_by  TEXT    NOT NULL CHECK (length(updated_by) <= 100),
    version     INTEGER NOT NULL CHECK (version >= 1),
    -- When its customer was.
    deleted_at  INTEGER
) STRICT;

CREATE INDEX addresses_customer ON addresses (customer_id, id);
CREATE INDEX addresses_city ON addresses (city_key, id);
CREATE INDEX addresses_street ON addresses (street_key, id);
