-- The cart or order of a guest that the answer is about. If it becomes a customer's, an erasure of the customer finds
-- the answer by it.
ALTER TABLE idempotency_keys ADD COLUMN guest_id BLOB CHECK (length(guest_id) = 16);
CREATE INDEX idempotency_keys_guest ON idempotency_keys (guest_id) WHERE guest_id IS NOT NULL;
