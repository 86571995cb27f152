-- MySQL commits each of these statements by itself, so that a migration that was cut off runs again: each step is
-- skipped if it was done.

-- The bills of a soft-deleted order are hidden with it.
UPDATE bills SET deleted_at = (SELECT o.deleted_at FROM orders o WHERE o.id = bills.order_id)
WHERE order_id IN (SELECT o.id FROM orders o WHERE o.deleted_at IS NOT NULL);

-- When the personal data of the customer was erased. Such a customer stays soft-deleted.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'customers' AND column_name = 'erased_at'),
    'DO 0',
    'ALTER TABLE customers ADD COLUMN erased_at DATETIME(6),
     ADD CONSTRAINT customers_erased_is_deleted CHECK (erased_at IS NULL OR deleted_at IS NOT NULL)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.statistics
            WHERE table_schema = DATABASE() AND table_name = 'carts' AND index_name = 'carts_merged_into'),
    'DO 0',
    'ALTER TABLE carts ADD INDEX carts_merged_into (merged_into)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

-- The customer whose personal data the answer contains, and when the answer was erased.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'idempotency_keys' AND column_name = 'customer_id'),
    'DO 0',
    'ALTER TABLE idempotency_keys ADD COLUMN customer_id BINARY(16), ADD COLUMN erased_at DATETIME(6),
     ADD INDEX idempotency_keys_customer (customer_id)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

-- The time of its order, so that each list of lines walks one index.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'order_lines' AND column_name = 'placed_at'),
    'DO 0',
    'ALTER TABLE order_lines ADD COLUMN placed_at DATETIME(6) NOT NULL DEFAULT ''1970-01-01 00:00:00'',
     DROP INDEX order_lines_sku, ADD INDEX order_lines_sku (sku_id, placed_at, id),
     DROP INDEX order_lines_product, ADD INDEX order_lines_product (product_id, placed_at, id),
     ADD INDEX order_lines_placed (placed_at, id)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;

UPDATE order_lines SET placed_at = (SELECT o.placed_at FROM orders o WHERE o.id = order_lines.order_id);
