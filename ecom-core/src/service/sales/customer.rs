//! Customers and their addresses. A write of an address holds the lock of its customer, so that no address is added to
//! a customer who has been deleted.

use std::sync::Arc;

use crate::domain::access::policy::Reach;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::session::SessionEnd;
use crate::domain::common::{Audit, DeleteMode, ExpectedVersion, ExternalRef, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::customer::{
    Address, AddressFilter, AddressInput, AddressPatch, Customer, CustomerFilter, CustomerInput, CustomerPatch,
    CustomerSort,
};
use crate::error::{Conflict, Entity, Error, FieldCode, Result};
use crate::id::{AddressId, CustomerId};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories as _;
use crate::service::access::role::Roles;
use crate::service::access::user::end_all;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};

/// The service of the customers of a shop.
///
/// A customer reads its own profile without a permission, and changes the names and the telephone in it.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::sales::{CustomerFilter, CustomerInput, CustomerSort};
/// use ecom_core::paging::Paging;
///
/// let ada = CustomerInput::new("Ada", "Lovelace", "ada@example.com").telephone("+44 20 7946 0018");
/// let ada = shop.customers().create(&ada).await?;
///
/// let filter = CustomerFilter { email: Some("ADA@example.com".to_owned()), ..CustomerFilter::default() };
/// let (page, _) = shop.customers().list(&filter, CustomerSort::default(), &Paging::default()).await?;
/// assert_eq!(page.items, [ada]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CustomerService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> CustomerService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a customer; soft-deleted ones only if `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: CustomerId, deleted: IncludeDeleted) -> Result<Customer> {
        let gone = || Error::not_found(Entity::Customer, id);
        self.who.reach(Permission::CustomersRead)?.check(Some(id), gone)?;
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.customers().get(id, deleted).await?;
        found.ok_or_else(gone)
    }

    /// Returns a page of customers and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Validation` of a name or email that no customer can have, `Unavailable`.
    pub async fn list(
        &self,
        filter: &CustomerFilter,
        sort: CustomerSort,
        paging: &Paging,
    ) -> Result<(Page<Customer>, Option<Total>)> {
        self.who.require(Permission::CustomersRead)?;
        self.who.require_shown(filter.include_deleted)?;
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.customers().list(filter, sort, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.customers().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Creates a customer.
    ///
    /// # Errors
    /// `Validation`, `DUPLICATE` for an email that a live customer has, `Unavailable`.
    pub async fn create(&self, input: &CustomerInput) -> Result<Customer> {
        self.who.require(Permission::CustomersWrite)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &CustomerInput) -> Result<Customer> {
        self.who.require(Permission::CustomersWrite)?;
        let customer = self.made(input.check()?);
        tx.started();
        tx.customers().insert(std::slice::from_ref(&customer)).await?;
        tx.emit(Change::created(EventKind::CustomerCreated, &customer, self.who.actor())).await?;
        tx.ended(Ok(customer))
    }

    /// Returns a new customer with checked values.
    pub(crate) fn made(&self, values: CustomerInput) -> Customer {
        Customer {
            id: CustomerId(self.cx.ids.next()),
            external: ExternalRef::of(values.source.as_deref(), values.external_id.as_deref()),
            first_name: values.first_name,
            last_name: values.last_name,
            email: values.email,
            telephone: values.telephone,
            attributes: values.attributes,
            erased_at: None,
            audit: Audit::created(self.cx.now(), self.who.actor()),
        }
    }

    /// Replaces a customer (PUT, R1).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, and those of [`Self::create`].
    pub async fn replace(&self, id: CustomerId, expected: ExpectedVersion, input: &CustomerInput) -> Result<Customer> {
        self.reach(id)?;
        let expected = expected.or_named(input.version)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.replace_in(&mut tx, id, expected, input).await?, tx)) }).await
    }

    /// [`Self::replace`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn replace_in(
        &self,
        tx: &mut Tx<'_>,
        id: CustomerId,
        expected: ExpectedVersion,
        input: &CustomerInput,
    ) -> Result<Customer> {
        let reach = self.reach(id)?;
        let expected = expected.or_named(input.version)?;
        let values = input.check()?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::No).await?;
        check_profile(reach, &before, &values)?;
        let written = self.update_in(tx, before, values).await;
        tx.ended(written)
    }

    /// Merges a patch into a customer (RFC 7396, R1).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: CustomerId, expected: ExpectedVersion, patch: CustomerPatch) -> Result<Customer> {
        self.reach(id)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: CustomerId,
        expected: ExpectedVersion,
        patch: CustomerPatch,
    ) -> Result<Customer> {
        let reach = self.reach(id)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::No).await?;
        let values = patch.onto(&before)?.check()?;
        check_profile(reach, &before, &values)?;
        let written = self.update_in(tx, before, values).await;
        tx.ended(written)
    }

    /// Returns the customers that the principal may edit, and refuses a principal who may not edit this one.
    fn reach(&self, id: CustomerId) -> Result<Reach> {
        let reach = self.who.reach(Permission::CustomersWrite)?;
        reach.check(Some(id), || Error::not_found(Entity::Customer, id))?;
        Ok(reach)
    }

    /// Writes checked values over a customer that the transaction has locked, if they differ.
    pub(crate) async fn update_in(&self, tx: &mut Tx<'_>, before: Customer, values: CustomerInput) -> Result<Customer> {
        let mut after = with_customer_values(&before, values);
        if after == before {
            return Ok(before);
        }
        after.audit.edited(self.cx.now(), self.who.actor());
        tx.customers().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::CustomerUpdated, &before, &after, self.who.actor())).await?;
        Ok(after)
    }

    /// Locks a customer for a write and checks that it is the one that the writer read (R1).
    async fn lock(
        &self,
        tx: &mut Tx<'_>,
        id: CustomerId,
        expected: ExpectedVersion,
        deleted: IncludeDeleted,
    ) -> Result<Customer> {
        let before = lock(tx, id, deleted).await?;
        expected.check(Entity::Customer, id, before.audit.version, self.cx.config.last_write_wins)?;
        Ok(before)
    }

    /// Deletes a customer: softly, which hides its addresses too (R2), or for good with its addresses and carts (R5).
    /// Its reviews remain, after a permanent deletion without a customer.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `HAS_SALES` if an order refers to it and it would be deleted
    /// for good, `Unavailable`.
    pub async fn delete(&self, id: CustomerId, expected: ExpectedVersion, mode: DeleteMode) -> Result<()> {
        self.who.require_delete(Permission::CustomersWrite, mode)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected, mode).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(
        &self,
        tx: &mut Tx<'_>,
        id: CustomerId,
        expected: ExpectedVersion,
        mode: DeleteMode,
    ) -> Result<()> {
        self.who.require_delete(Permission::CustomersWrite, mode)?;
        tx.started();
        let before = self.lock(tx, id, expected, mode.of()).await?;
        match mode {
            DeleteMode::Soft => {
                let mut gone = before.clone();
                gone.audit.deleted(self.cx.now(), self.who.actor());
                tx.customers().update(&before, &gone).await?;
                tx.emit(Change::edited(EventKind::CustomerDeleted, &before, &gone, self.who.actor())).await?;
            }
            DeleteMode::Force => {
                tx.audit_log().erase_customer(id, self.cx.now()).await?;
                tx.customers().purge(id).await?;
                let change = Change::removed(EventKind::CustomerPurged, &before, self.who.actor());
                tx.emit(change.without_data()).await?;
            }
        }
        tx.ended(Ok(()))
    }

    /// Restores a soft-deleted customer; its addresses are shown again (R2).
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if it is not deleted, or if its personal data was erased, `DUPLICATE` if its email
    /// was taken in between, `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub async fn restore(&self, id: CustomerId, expected: ExpectedVersion) -> Result<Customer> {
        self.who.require(Permission::CustomersWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.restore_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::restore`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub async fn restore_in(&self, tx: &mut Tx<'_>, id: CustomerId, expected: ExpectedVersion) -> Result<Customer> {
        self.who.require(Permission::CustomersWrite)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::Yes).await?;
        before.audit.check_deleted("customer", id)?;
        if before.erased_at.is_some() {
            let message = format!("the personal data of customer {id} was erased, so it cannot be restored");
            return Err(Conflict::State { message }.into());
        }
        let mut after = before.clone();
        after.audit.restored(self.cx.now(), self.who.actor());
        tx.customers().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::CustomerRestored, &before, &after, self.who.actor())).await?;
        tx.ended(Ok(after))
    }
}

/// How many orders one transaction erases, unless it is that of a host.
const ERASED_AT_ONCE: u32 = 500;

/// Whether a transaction erases all orders of a customer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orders {
    All,
    Some,
}

impl CustomerService<'_> {
    /// Erases the personal data of a customer, live or soft-deleted, and returns the customer as it is then (R45).
    ///
    /// The customer is soft-deleted for ever, with [`Customer::ERASED_NAME`] as its names, without attributes and
    /// external reference, and with an email that nobody can have. Its addresses and carts are removed for good, and so
    /// are the carts of guests that its orders were made from. Its orders, soft-deleted ones too, lose the buyer, the
    /// addresses, the tracking reference, the attributes, those of their lines too, the external reference and the data
    /// of their histories, and keep their numbers, lines and amounts. They can still be started, delivered, edited and
    /// canceled. The answers about the customer that are stored with idempotency keys are removed, also those about
    /// orders that were a guest's before. Its reviews keep their comments and the id of the customer. The actors of
    /// rows and events stay as they are, and so do the orders and carts that are a guest's.
    ///
    /// The call needs no version, and a repetition changes nothing. The customer and its first 500 orders are erased in
    /// one transaction, and further orders in transactions of 500. If the call fails, some of the orders may not be
    /// erased: repeat it. It requires `customers:erase`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn erase(&self, id: CustomerId) -> Result<Customer> {
        self.who.require(Permission::CustomersErase)?;
        loop {
            let some = self
                .cx
                .write_at_length(|mut tx| async move { Ok((self.erase_some(&mut tx, id, Orders::Some).await?, tx)) });
            let (customer, left) = some.await?;
            if !left {
                return Ok(customer);
            }
        }
    }

    /// [`Self::erase`] inside a transaction, which erases all orders.
    ///
    /// # Errors
    /// As [`Self::erase`], and [`Error::Contention`] if a request about the customer is repeated at the same time.
    pub async fn erase_in(&self, tx: &mut Tx<'_>, id: CustomerId) -> Result<Customer> {
        self.who.require(Permission::CustomersErase)?;
        tx.started();
        let erased = self.erase_some(tx, id, Orders::All).await.map(|(customer, _)| customer);
        tx.ended(erased)
    }

    /// Erases a customer, and orders of it. Returns the customer, and whether orders may be left.
    async fn erase_some(&self, tx: &mut Tx<'_>, id: CustomerId, orders: Orders) -> Result<(Customer, bool)> {
        // Keys are locked first (R24).
        tx.idempotency().erase(id, self.cx.now()).await?;
        let before = lock(tx, id, IncludeDeleted::Yes).await?;
        let now = self.cx.now();
        let customer = if before.erased_at.is_some() {
            before
        } else {
            let after = before.erased(now, self.who.actor());
            let user = tx.users().get_by_customer(id).await?;
            if let Some(user) = user {
                // Its sessions are removed with its data, and what is cached of them is void at once.
                tx.users().lock(user.id).await?;
                Roles::load_in(tx).await?.require_all(&user.roles, self.who)?;
                end_all(tx, user.id, now, SessionEnd::UserBlocked, self.who).await?;
            }
            // Before the carts, because an answer about the cart of a guest is found by the cart.
            tx.idempotency().erase(id, now).await?;
            tx.customers().erase(&before, &after).await?;
            let change = Change::edited(EventKind::CustomerErased, &before, &after, self.who.actor());
            tx.emit(change.without_data()).await?;
            after
        };
        // Also when the call is repeated, since an edit of a review may have been logged meanwhile.
        tx.audit_log().erase_customer(id, now).await?;
        tx.audit_log().erase_users_of(id, now).await?;
        let left = loop {
            let erased = tx.orders().erase(id, ERASED_AT_ONCE, now, self.who.actor()).await?;
            let change = |(id, version)| Change::event_only(EventKind::OrderErased, id, version, self.who.actor());
            let is_full = erased.len() >= ERASED_AT_ONCE as usize;
            tx.emit_all(erased.into_iter().map(change).collect()).await?;
            if !is_full || orders == Orders::Some {
                break is_full;
            }
        };
        // The answers of transactions that have ended while this one waited for their locks.
        tx.idempotency().erase(id, now).await?;
        Ok((customer, left))
    }
}

/// Refuses a customer who would change more than the names and the telephone of its profile. The email address leads to
/// its orders, and the shop may base decisions on attributes and external ids.
fn check_profile(reach: Reach, before: &Customer, values: &CustomerInput) -> Result<()> {
    let after = with_customer_values(before, values.clone());
    let keeps =
        after.email == before.email && after.attributes == before.attributes && after.external == before.external;
    if keeps { Ok(()) } else { reach.require_all() }
}

/// Returns a customer with other values, which were checked. It keeps its external id if they have none.
pub(crate) fn with_customer_values(before: &Customer, values: CustomerInput) -> Customer {
    let external = ExternalRef::of(values.source.as_deref(), values.external_id.as_deref());
    Customer {
        id: before.id,
        first_name: values.first_name,
        last_name: values.last_name,
        email: values.email,
        telephone: values.telephone,
        attributes: values.attributes,
        external: external.or_else(|| before.external.clone()),
        erased_at: before.erased_at,
        audit: before.audit.clone(),
    }
}

/// Locks a customer. `deleted` selects whether a soft-deleted one is found.
async fn lock(tx: &mut Tx<'_>, id: CustomerId, deleted: IncludeDeleted) -> Result<Customer> {
    let found = tx.customers().lock(id).await?;
    found
        .filter(|c| deleted == IncludeDeleted::Yes || c.audit.is_live())
        .ok_or_else(|| Error::not_found(Entity::Customer, id))
}

/// The service of the addresses of a shop's customers.
///
/// A customer uses its own addresses without a permission.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # use ecom_core::{Shop, id::CustomerId};
/// # async fn app(shop: Shop, customer: CustomerId) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::sales::AddressInput;
///
/// let home = AddressInput::new("St James's Square", "London").number("12").country("GB");
/// let home = shop.addresses().create(customer, &home).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AddressService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> AddressService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns an address; those of soft-deleted customers only if `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: AddressId, deleted: IncludeDeleted) -> Result<Address> {
        let reach = self.who.reach(Permission::CustomersRead)?;
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.addresses().get(id, deleted).await?;
        found.filter(|a| reach.covers(Some(a.customer_id))).ok_or_else(|| Error::not_found(Entity::Address, id))
    }

    /// Returns a page of addresses, oldest first, and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `NotFound` if the filter names a customer that does not exist, `Validation` of a city or street that no address
    /// can have, `Unavailable`.
    pub async fn list(&self, filter: &AddressFilter, paging: &Paging) -> Result<(Page<Address>, Option<Total>)> {
        let reach = self.who.reach(Permission::CustomersRead)?;
        self.who.require_shown(filter.include_deleted)?;
        let filter = &AddressFilter { customer: reach.narrow(filter.customer)?, ..filter.clone() };
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.addresses().list(filter, paging).await?;
        if page.items.is_empty()
            && let Some(id) = filter.customer
            && db.customers().get(id, filter.include_deleted).await?.is_none()
        {
            return Err(Error::not_found(Entity::Customer, id));
        }
        let total = match paging {
            Paging::Offset { .. } => Some(db.addresses().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Adds an address to a live customer.
    ///
    /// # Errors
    /// `NotFound` for the customer, `Validation`, also if the customer has [`Customer::MAX_ADDRESSES`], `Unavailable`.
    pub async fn create(&self, customer: CustomerId, input: &AddressInput) -> Result<Address> {
        self.admit(customer)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, customer, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, customer: CustomerId, input: &AddressInput) -> Result<Address> {
        self.admit(customer)?;
        let values = input.check()?;
        tx.started();
        lock(tx, customer, IncludeDeleted::No).await?;
        let most = Customer::MAX_ADDRESSES as u64;
        let own = AddressFilter { customer: Some(customer), ..AddressFilter::default() };
        if tx.addresses().count(&own, most).await?.count >= most {
            let message = format!("must be a customer with fewer than {most} addresses");
            return Err(Error::invalid("customer_id", FieldCode::OutOfBounds, message));
        }
        let audit = Audit::created(self.cx.now(), self.who.actor());
        let address = with_address_values(AddressId(self.cx.ids.next()), customer, values, audit);
        tx.addresses().insert(std::slice::from_ref(&address)).await?;
        tx.emit(Change::created(EventKind::AddressCreated, &address, self.who.actor())).await?;
        tx.ended(Ok(address))
    }

    /// Replaces an address (PUT, R1).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Validation`, `Unavailable`.
    pub async fn replace(&self, id: AddressId, expected: ExpectedVersion, input: &AddressInput) -> Result<Address> {
        self.who.reach(Permission::CustomersWrite)?;
        let expected = expected.or_named(input.version)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.replace_in(&mut tx, id, expected, input).await?, tx)) }).await
    }

    /// [`Self::replace`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn replace_in(
        &self,
        tx: &mut Tx<'_>,
        id: AddressId,
        expected: ExpectedVersion,
        input: &AddressInput,
    ) -> Result<Address> {
        self.who.reach(Permission::CustomersWrite)?;
        let expected = expected.or_named(input.version)?;
        let values = input.check()?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        let written = self.update_in(tx, before, values).await;
        tx.ended(written)
    }

    /// Merges a patch into an address (RFC 7396, R1).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: AddressId, expected: ExpectedVersion, patch: AddressPatch) -> Result<Address> {
        self.who.reach(Permission::CustomersWrite)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: AddressId,
        expected: ExpectedVersion,
        patch: AddressPatch,
    ) -> Result<Address> {
        self.who.reach(Permission::CustomersWrite)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        let values = patch.onto(&before)?.check()?;
        let written = self.update_in(tx, before, values).await;
        tx.ended(written)
    }

    /// Writes checked values over an address whose customer is locked, if they differ.
    async fn update_in(&self, tx: &mut Tx<'_>, before: Address, values: AddressInput) -> Result<Address> {
        let mut after = with_address_values(before.id, before.customer_id, values, before.audit.clone());
        if after == before {
            return Ok(before);
        }
        after.audit.edited(self.cx.now(), self.who.actor());
        tx.addresses().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::AddressUpdated, &before, &after, self.who.actor())).await?;
        Ok(after)
    }

    /// Removes an address for good.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn delete(&self, id: AddressId, expected: ExpectedVersion) -> Result<()> {
        self.who.reach(Permission::CustomersWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(&self, tx: &mut Tx<'_>, id: AddressId, expected: ExpectedVersion) -> Result<()> {
        self.who.reach(Permission::CustomersWrite)?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        tx.addresses().purge(id).await?;
        tx.emit(Change::removed(EventKind::AddressPurged, &before, self.who.actor())).await?;
        tx.ended(Ok(()))
    }

    /// Refuses a principal who may not write the addresses of a customer.
    fn admit(&self, customer: CustomerId) -> Result<()> {
        let reach = self.who.reach(Permission::CustomersWrite)?;
        reach.check(Some(customer), || Error::not_found(Entity::Customer, customer))
    }

    /// Locks the customer of a live address that the principal may write, and checks that the address is the one that
    /// the writer read (R1).
    async fn lock(&self, tx: &mut Tx<'_>, id: AddressId, expected: ExpectedVersion) -> Result<Address> {
        let reach = self.who.reach(Permission::CustomersWrite)?;
        let gone = || Error::not_found(Entity::Address, id);
        let customer = tx.addresses().get(id, IncludeDeleted::No).await?.ok_or_else(gone)?.customer_id;
        reach.check(Some(customer), gone)?;
        tx.customers().lock(customer).await?;
        // Read again, now that its customer is locked.
        let before = tx.addresses().get(id, IncludeDeleted::No).await?.ok_or_else(gone)?;
        expected.check(Entity::Address, id, before.audit.version, self.cx.config.last_write_wins)?;
        Ok(before)
    }
}

pub(crate) fn with_address_values(
    id: AddressId,
    customer_id: CustomerId,
    values: AddressInput,
    audit: Audit,
) -> Address {
    let AddressInput { street, number, city, region, postal_code, country, version: _ } = values;
    Address { id, customer_id, street, number, city, region, postal_code, country, audit }
}
