-- When the shopper was reminded of a cart by mail. It happens once, so that the time is kept as long as the cart.
ALTER TABLE carts ADD COLUMN reminded_at INTEGER;

CREATE INDEX carts_idle ON carts (state, updated_at, id);
