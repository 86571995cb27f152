-- When the shopper was reminded of a cart by mail. It happens once, so that the time is kept as long as the cart.
--
-- MySQL commits each of these statements by itself, so that a migration that was cut off runs again: a step is skipped
-- if it was done.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'carts' AND column_name = 'reminded_at'),
    'DO 0',
    'ALTER TABLE carts ADD COLUMN reminded_at DATETIME(6), ADD INDEX carts_idle (state, updated_at, id)');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;
