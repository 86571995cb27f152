//! Customers and their addresses.

use crate::domain::common::IncludeDeleted;
use crate::domain::sales::customer::{Address, AddressFilter, Customer, CustomerFilter, CustomerSort};
use crate::error::Result;
use crate::id::{AddressId, CustomerId};
use crate::paging::{Page, Paging, Total};

port! {
    /// The customers of a shop.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait CustomerRepository / ForwardCustomers(&mut self): Send {
        /// Returns one customer.
        async fn get(&mut self, id: CustomerId, deleted: IncludeDeleted) -> Result<Option<Customer>>;

        /// Locks a customer until the end of the transaction and returns it as it is then, soft-deleted or not. A
        /// transaction takes this lock before it writes the customer or its addresses.
        async fn lock(&mut self, id: CustomerId) -> Result<Option<Customer>>;

        /// Returns those of these customers that exist, soft-deleted ones included, by id, and takes a shared lock on
        /// them (several transactions can have it at once) until the end of the transaction.
        async fn hold(&mut self, ids: &[CustomerId]) -> Result<Vec<Customer>>;

        /// Returns the customers with one of these external ids of a source, soft-deleted ones too, by id.
        async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<Customer>>;

        /// Returns the live customers with one of these emails, ignoring case, by id.
        async fn find_by_emails(&mut self, emails: &[String]) -> Result<Vec<Customer>>;

        /// Returns a page of a list: one statement whatever the limit.
        async fn list(&mut self, filter: &CustomerFilter, sort: CustomerSort, paging: &Paging) -> Result<Page<Customer>>;

        /// Counts the customers that match, up to `bound`.
        async fn count(&mut self, filter: &CustomerFilter, bound: u64) -> Result<Total>;

        /// Inserts customers.
        ///
        /// # Errors
        /// `DUPLICATE` for an email or external id that a live customer has.
        async fn insert(&mut self, customers: &[Customer]) -> Result<()>;

        /// Writes `after` over `before`, which this transaction has locked.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, else as [`Self::insert`].
        async fn update(&mut self, before: &Customer, after: &Customer) -> Result<()>;

        /// Writes `after`, which has no personal data (R45), over `before`, which this transaction has locked. Removes
        /// the addresses of the customer, its carts in any state, the carts of guests that its orders were made from,
        /// and the carts that were merged into any of these, for good. Writes [`User::erased`] over the users of the
        /// customer, soft-deleted ones too, at the time and by the actor of `after`'s last edit, and removes their
        /// sessions and one-time tokens for good.
        ///
        /// [`User::erased`]: crate::access::User::erased
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version.
        async fn erase(&mut self, before: &Customer, after: &Customer) -> Result<()>;

        /// Removes a customer, its addresses and its carts for good. Its reviews and its users lose their customer, and
        /// their versions increase.
        ///
        /// # Errors
        /// `HAS_SALES` if an order refers to it.
        async fn purge(&mut self, id: CustomerId) -> Result<()>;
    }
}

port! {
    /// The addresses of a shop's customers. An address is hidden while its customer is soft-deleted.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait AddressRepository / ForwardAddresses(&mut self): Send {
        /// Returns one address.
        async fn get(&mut self, id: AddressId, deleted: IncludeDeleted) -> Result<Option<Address>>;

        /// Returns those of these addresses that exist and whose customer is live, by id.
        async fn get_many(&mut self, ids: &[AddressId]) -> Result<Vec<Address>>;

        /// Returns all live addresses of these customers, by id.
        async fn of_customers(&mut self, customers: &[CustomerId]) -> Result<Vec<Address>>;

        /// Returns a page of a list, oldest first: one statement whatever the limit.
        async fn list(&mut self, filter: &AddressFilter, paging: &Paging) -> Result<Page<Address>>;

        /// Counts the addresses that match, up to `bound`.
        async fn count(&mut self, filter: &AddressFilter, bound: u64) -> Result<Total>;

        /// Inserts addresses of customers that this transaction has locked.
        ///
        /// # Errors
        /// `Validation` (reference) for a customer that does not exist.
        async fn insert(&mut self, addresses: &[Address]) -> Result<()>;

        /// Writes `after` over `before`, whose customer this transaction has locked.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version.
        async fn update(&mut self, before: &Address, after: &Address) -> Result<()>;

        /// Removes an address for good.
        async fn purge(&mut self, id: AddressId) -> Result<()>;
    }
}
