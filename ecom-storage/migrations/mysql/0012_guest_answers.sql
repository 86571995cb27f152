-- MySQL commits each of these statements by itself, so that a migration that was cut off runs again: a step is skipped
-- if it was done.

-- The cart or order of a guest that the answer is about. If it becomes a customer's, an erasure of the customer finds
-- the answer by it.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'idempotency_keys' AND column_name = 'guest_id'),
    'DO 0',
    'ALTER TABLE idempotency_keys ADD COLUMN guest_id BINARY(16), ADD INDEX idempotency_keys_guest (guest_id)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;
