-- The bills of a soft-deleted order are hidden with it.
UPDATE bills SET deleted_at = (SELECT o.deleted_at FROM orders o WHERE o.id = bills.order_id)
WHERE order_id IN (SELECT o.id FROM orders o WHERE o.deleted_at IS NOT NULL);
