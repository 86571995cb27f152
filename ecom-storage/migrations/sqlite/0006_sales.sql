-- The bills of a soft-deleted order are hidden with it.
UPDATE bills SET deleted_at = (SELECT o.deleted_at FROM orders o WHERE o.id = bills.order_id)
WHERE order_id IN (SELECT o.id FROM orders o WHERE o.deleted_at IS NOT NULL);

-- When the personal data of the customer was erased. Such a customer stays soft-deleted.
ALTER TABLE customers ADD COLUMN erased_at INTEGER CHECK (erased_at IS NULL OR deleted_at IS NOT NULL);

CREATE INDEX carts_merged_into ON carts (merged_into) WHERE merged_into IS NOT NULL;

-- The customer whose personal data the answer contains, and when the answer was erased.
ALTER TABLE idempotency_keys ADD COLUMN customer_id BLOB CHECK (length(customer_id) = 16);
ALTER TABLE idempotency_keys ADD COLUMN erased_at INTEGER;
CREATE INDEX idempotency_keys_customer ON idempotency_keys (customer_id) WHERE customer_id IS NOT NULL;

-- The time of its order, so that each list of lines walks one index.
ALTER TABLE order_lines ADD COLUMN placed_at INTEGER NOT NULL DEFAULT 0;
UPDATE order_lines SET placed_at = (SELECT o.placed_at FROM orders o WHERE o.id = order_lines.order_id);
CREATE INDEX order_lines_placed ON order_lines (placed_at, id);
DROP INDEX order_lines_sku;
CREATE INDEX order_lines_sku ON order_lines (sku_id, placed_at, id);
DROP INDEX order_lines_product;
CREATE INDEX order_lines_product ON order_lines (product_id, placed_at, id);
