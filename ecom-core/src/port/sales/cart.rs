//! Shopping carts.

use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::domain::sales::cart::{Cart, CartFilter, CartState};
use crate::error::Result;
use crate::id::{CartId, CustomerId};
use crate::paging::{Page, Paging, Total};

port! {
    /// The carts of a shop. Carts are read with all their lines, in a number of statements that does not depend on the
    /// number of lines.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait CartRepository / ForwardCarts(&mut self): Send {
        /// Returns one cart: one statement.
        async fn get(&mut self, id: CartId) -> Result<Option<Cart>>;

        /// Returns those of these carts that exist, by id.
        async fn get_many(&mut self, ids: &[CartId]) -> Result<Vec<Cart>>;

        /// Locks carts in id order until the end of the transaction, and returns those that exist, by id, as they are
        /// then.
        async fn lock(&mut self, ids: &[CartId]) -> Result<Vec<Cart>>;

        /// Returns the open carts of these customers, which may have expired. A customer has at most one.
        async fn find_open(&mut self, customers: &[CustomerId]) -> Result<Vec<CartId>>;

        /// Returns the carts in any state with one of these external ids of a source.
        async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<CartId>>;

        /// Returns a page of a list, newest first: two statements whatever the limit.
        async fn list(&mut self, filter: &CartFilter, paging: &Paging) -> Result<Page<Cart>>;

        /// Counts the carts that match, up to `bound`.
        async fn count(&mut self, filter: &CartFilter, bound: u64) -> Result<Total>;

        /// Inserts carts with their lines.
        ///
        /// # Errors
        /// `DUPLICATE` on `customer_id` if the customer has an open cart, and on `external_id` if another cart has it;
        /// `Validation` (reference) for a customer or a SKU that does not exist.
        async fn insert(&mut self, carts: &[Cart]) -> Result<()>;

        /// Writes `after` and its lines over `before`, which this transaction has locked. Lines are recognized by their
        /// ids, and only those that differ are written.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the cart is no longer at `before`'s version, `Contention` if a line was removed
        /// together with its SKU since the transaction read it, else as [`Self::insert`].
        async fn update(&mut self, before: &Cart, after: &Cart) -> Result<()>;

        /// Sets open carts that this transaction has locked to [`CartState::Ordered`], and increases their versions:
        /// one statement.
        async fn set_ordered(&mut self, ids: &[CartId], at: Timestamp, by: &Actor) -> Result<()>;

        /// Returns at most `limit` carts in this state whose `expires_at` is at or before a time, the oldest first.
        async fn expired(&mut self, state: CartState, at: Timestamp, limit: u32) -> Result<Vec<CartId>>;

        /// Returns at most `limit` open carts that were last changed at or before `until`, with the times of these
        /// changes. They are sorted by this time and then by id, and come after `after` in this order. It leaves out
        /// carts without lines, carts with neither a customer nor an email address, imported carts, and carts whose
        /// shopper was reminded.
        async fn idle(
            &mut self,
            after: (Timestamp, CartId),
            until: Timestamp,
            limit: u32,
        ) -> Result<Vec<(Timestamp, CartId)>>;

        /// Records that the shopper is reminded of a cart that this transaction has locked. Returns false if that was
        /// recorded before. The version of the cart stays. One statement.
        async fn set_reminded(&mut self, id: CartId, at: Timestamp) -> Result<bool>;

        /// Returns whether the shopper of a cart with this email address was reminded after a time, ignoring case.
        async fn reminded_since(&mut self, email: &str, at: Timestamp) -> Result<bool>;

        /// Removes carts and their lines for good.
        async fn purge(&mut self, ids: &[CartId]) -> Result<()>;
    }
}
