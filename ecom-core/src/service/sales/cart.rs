//! Carts. A write locks the customer of a cart that is created or assigned (shared), then carts in id order (R24). It
//! reads prices and stock from the offers of the SKUs without locking them, because a cart neither takes stock nor
//! fixes a price: placing the order does.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::common::{Audit, ExpectedVersion, ExternalRef};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::cart::{
    Cart, CartAccess, CartEntry, CartFilter, CartInput, CartLine, CartLineInput, CartLinePatch, CartPatch, CartState,
    CartToken, CreatedCart, PricedCart,
};
use crate::domain::sales::offer::Offer;
use crate::domain::sales::pricing::too_large;
use crate::error::{Conflict, Entity, Error, FieldCode, PriceMismatch, Result, SalesConflict, ValidationErrors};
use crate::id::{CartId, CartLineId, CustomerId, SkuId};
use crate::money::{ExactDecimal, price_of};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories;
use crate::service::run::context::Context;
use crate::service::run::notice::refusal;
use crate::service::run::transaction::{Change, Tx};
use crate::text::{fold_key, shown};

/// How many expired carts one transaction removes.
const EXPIRED_AT_ONCE: u32 = 200;

/// The service of the carts of a shop.
///
/// Every method that is about one cart takes a [`CartAccess`]. With the token of a guest's cart it needs no permission,
/// and a cart that the token does not open is reported as `NotFound`. Otherwise the principal of the service needs
/// `carts:read` for reads and `carts:write` for changes. [`Self::assign`] requires `carts:write` in any case. A method
/// for which the principal lacks a permission fails with [`Error::Forbidden`](crate::Error::Forbidden), in addition to
/// the errors that it lists.
///
/// A cart that has expired is refused with `CART_EXPIRED`, and one that was merged into another with `CART_MERGED`. One
/// from which an order was placed can be read, and refuses changes with `CART_ORDERED`. Every change moves the time at
/// which the cart expires to [`ShopConfig::cart_ttl`](crate::config::ShopConfig::cart_ttl) from now.
///
/// ```
/// # async fn app(shop: ecom_core::Shop, lamp: ecom_core::catalog::Sku) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::common::ExpectedVersion;
/// use ecom_core::sales::{CartAccess, CartInput, CartLineInput, CartToken};
///
/// let guest = shop.carts().create(&CartInput::default()).await?;
/// let (id, access) = (guest.cart.cart.id, CartAccess::from(guest.token.expect("a guest's cart has a token")));
///
/// let two = CartLineInput::new(lamp.id, 2, lamp.price);
/// let cart = shop.carts().add_line(id, &access, ExpectedVersion::Unspecified, &two).await?;
/// assert_eq!(cart.lines[0].line.quantity, 2);
///
/// let other = CartAccess::from(CartToken::new("something else"));
/// assert!(shop.carts().get(id, &other).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CartService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> CartService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a cart with the current prices and stock. Nothing is written: the cart neither expires later nor gets
    /// another version.
    ///
    /// # Errors
    /// `NotFound`, `CART_EXPIRED`, `CART_MERGED`, `Unavailable`.
    pub async fn get(&self, id: CartId, access: &CartAccess) -> Result<PricedCart> {
        let access = &access.of(self.who, Permission::CartsRead)?;
        let mut db = self.cx.storage.connect().await?;
        let found = db.carts().get(id).await?;
        self.read(&mut *db, id, access, found).await
    }

    /// [`Self::get`] inside a transaction, whose own changes it sees.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_in(&self, tx: &mut Tx<'_>, id: CartId, access: &CartAccess) -> Result<PricedCart> {
        let access = &access.of(self.who, Permission::CartsRead)?;
        let found = tx.carts().get(id).await?;
        self.read(tx, id, access, found).await
    }

    async fn read<R>(&self, db: &mut R, id: CartId, access: &CartEntry, found: Option<Cart>) -> Result<PricedCart>
    where
        R: Repositories + ?Sized,
    {
        let cart = access.check(id, found)?;
        if cart.state != CartState::Ordered {
            cart.check_open(self.cx.now())?;
        }
        priced(db, cart).await
    }

    /// Returns a page of carts with the current prices and stock, newest first, and, with [`Paging::Offset`], how many
    /// match, counted up to [`crate::config::ShopConfig::total_bound`]. It lists carts in every state. A customer
    /// without `carts:read` gets its own.
    ///
    /// # Errors
    /// `Validation` of an email that no cart can have, `Unavailable`.
    pub async fn list(&self, filter: &CartFilter, paging: &Paging) -> Result<(Page<PricedCart>, Option<Total>)> {
        let reach = self.who.reach(Permission::CartsRead)?;
        let filter = &CartFilter { customer: reach.narrow(filter.customer)?, ..filter.clone() };
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        let Page { items, next } = db.carts().list(filter, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.carts().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        let offers = offers(&mut *db, items.iter().flat_map(|c| &c.lines).map(|l| l.sku_id)).await?;
        let items = items.into_iter().map(|cart| PricedCart::new(cart, &offers)).collect();
        Ok((Page { items, next }, total))
    }

    /// Creates a cart. Without a customer it is a guest's, which needs no permission, and the answer has its token.
    ///
    /// A customer has at most one open cart. If there is one, it takes over the lines of the input, as a merge does
    /// (R20), its email and its attributes, so that a repeated call changes nothing.
    ///
    /// # Errors
    /// `Validation`, also of a customer or a SKU that does not exist or is not for sale; `PRICE_MISMATCH`; `DUPLICATE`
    /// for an external id that another cart has; `Unavailable`.
    pub async fn create(&self, input: &CartInput) -> Result<CreatedCart> {
        self.admit_creation(input)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`], and [`Error::Contention`] if another transaction has created a cart of the customer.
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &CartInput) -> Result<CreatedCart> {
        self.admit_creation(input)?;
        let email = input.check()?;
        tx.started();
        let created = self.create_checked(tx, input, email).await;
        tx.ended(created)
    }

    async fn create_checked(&self, tx: &mut Tx<'_>, input: &CartInput, email: Option<String>) -> Result<CreatedCart> {
        let external = ExternalRef::of(input.source.as_deref(), input.external_id.as_deref());
        if let Some(customer) = input.customer_id {
            self.hold(tx, customer).await?;
            if let Some(before) = self.open_cart_of(tx, customer).await? {
                let mut after = before.clone();
                after.email = email.or(after.email);
                after.attributes.merge(&input.attributes);
                after.external = after.external.or(external);
                let mut fits = ValidationErrors::default();
                after.attributes.check("attributes", &mut fits);
                fits.into_result()?;
                let mut given = Vec::new();
                let new = self.lines(tx, &input.lines, |i| format!("lines[{i}].")).await?;
                add(&mut given, new, |i| format!("lines[{i}].quantity"))?;
                after.take_lines(&given, || CartLineId(self.cx.ids.next()));
                let cart = self.save(tx, before, after, Some("lines")).await?;
                return Ok(CreatedCart { cart, token: None, created: false });
            }
        }
        let now = self.cx.now();
        let token = input.customer_id.is_none().then(|| CartToken::from_random(self.cx.ids.secret()));
        let mut cart = Cart {
            id: CartId(self.cx.ids.next()),
            token_hash: token.as_ref().map(CartToken::hash),
            customer_id: input.customer_id,
            email,
            currency: self.cx.config.currency,
            state: CartState::Open,
            merged_into: None,
            expires_at: self.expiry(now),
            attributes: input.attributes.clone(),
            external,
            audit: Audit::created(now, self.who.actor()),
            lines: Vec::new(),
        };
        let new = self.lines(tx, &input.lines, |i| format!("lines[{i}].")).await?;
        add(&mut cart.lines, new, |i| format!("lines[{i}].quantity"))?;
        let cart = priced(tx, cart).await?;
        check_amounts(&cart, "lines")?;
        tx.carts().insert(std::slice::from_ref(&cart.cart)).await.map_err(or_again)?;
        tx.emit(event(EventKind::CartCreated, &cart.cart, self.who)).await?;
        Ok(CreatedCart { cart, token, created: true })
    }

    /// Merges a patch into a cart (RFC 7396, R1).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `CART_EXPIRED`, `CART_MERGED`, `CART_ORDERED`, `Validation`,
    /// `Unavailable`.
    pub async fn patch(
        &self,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        patch: CartPatch,
    ) -> Result<PricedCart> {
        access.of(self.who, Permission::CartsWrite)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, access, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        patch: CartPatch,
    ) -> Result<PricedCart> {
        let access = &access.of(self.who, Permission::CartsWrite)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let before = self.lock_open(tx, id, access).await?;
        expected.check(Entity::Cart, id, before.audit.version, self.cx.config.last_write_wins)?;
        let mut after = before.clone();
        patch.apply(&mut after)?;
        let saved = self.save(tx, before, after, None).await;
        tx.ended(saved)
    }

    /// Removes a cart and its lines for good, also one that has expired or was merged.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `CART_ORDERED`, `Unavailable`.
    pub async fn delete(&self, id: CartId, access: &CartAccess, expected: ExpectedVersion) -> Result<()> {
        access.of(self.who, Permission::CartsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, access, expected).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
    ) -> Result<()> {
        let access = &access.of(self.who, Permission::CartsWrite)?;
        tx.started();
        let found = tx.carts().lock(&[id]).await?.pop();
        let before = access.check(id, found)?;
        if before.state == CartState::Ordered {
            return Err(SalesConflict::CartOrdered { cart: id.0 }.into());
        }
        expected.check(Entity::Cart, id, before.audit.version, self.cx.config.last_write_wins)?;
        let purged = self.purge(tx, &[before]).await;
        tx.ended(purged)
    }

    /// Adds a line to a cart. If the cart has a line with the same SKU and attributes, the quantities are added, and
    /// the line gets the price of the new one. More pieces than are available can be added; the returned cart reports
    /// it. The change needs no version; if `expected` names one, it is checked.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `CART_EXPIRED`, `CART_MERGED`, `CART_ORDERED`; `Validation`, also of a SKU that
    /// does not exist or is not for sale, and of a line or an amount that would be too large; `PRICE_MISMATCH` if the
    /// price is not the current one; `Unavailable`.
    pub async fn add_line(
        &self,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        line: &CartLineInput,
    ) -> Result<PricedCart> {
        access.of(self.who, Permission::CartsWrite)?;
        check_line(line)?;
        self.cx
            .write(|mut tx| async move { Ok((self.add_line_in(&mut tx, id, access, expected, line).await?, tx)) })
            .await
    }

    /// [`Self::add_line`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::add_line`].
    pub async fn add_line_in(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        line: &CartLineInput,
    ) -> Result<PricedCart> {
        let access = &access.of(self.who, Permission::CartsWrite)?;
        check_line(line)?;
        tx.started();
        let before = self.lock_version(tx, id, access, expected).await?;
        let mut after = before.clone();
        let new = self.lines(tx, std::slice::from_ref(line), |_| String::new()).await?;
        add(&mut after.lines, new, |_| "quantity".to_owned())?;
        let saved = self.save(tx, before, after, Some("quantity")).await;
        tx.ended(saved)
    }

    /// Sets the quantity of a line, confirms its price, or both. The change needs no version; if `expected` names one,
    /// it is checked.
    ///
    /// # Errors
    /// `NotFound` for the cart or the line, else as [`Self::add_line`].
    pub async fn change_line(
        &self,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        line: CartLineId,
        patch: &CartLinePatch,
    ) -> Result<PricedCart> {
        access.of(self.who, Permission::CartsWrite)?;
        let expected = expected.or_named(patch.version)?;
        patch.check()?;
        self.cx
            .write(|mut tx| async move {
                Ok((self.change_line_in(&mut tx, id, access, expected, line, patch).await?, tx))
            })
            .await
    }

    /// [`Self::change_line`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::change_line`].
    pub async fn change_line_in(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        line: CartLineId,
        patch: &CartLinePatch,
    ) -> Result<PricedCart> {
        let access = &access.of(self.who, Permission::CartsWrite)?;
        let expected = expected.or_named(patch.version)?;
        patch.check()?;
        tx.started();
        let before = self.lock_version(tx, id, access, expected).await?;
        let mut after = before.clone();
        let changed = after.lines.iter_mut().find(|l| l.id == line);
        let changed = changed.ok_or_else(|| Error::not_found(Entity::CartLine, line))?;
        let old = changed.quantity;
        changed.quantity = patch.quantity.unwrap_or(old);
        let raised = (changed.quantity > old).then_some("quantity");
        if let Some(price) = patch.unit_price {
            let (offers, mut confirmed) = (offers(tx, [changed.sku_id]).await?, Confirmed::default());
            let (offer, key) = (offers.get(&changed.sku_id), changed.sku_id.to_string());
            let offer = Offer::for_sale(offer, "unit_price".to_owned(), &key, &mut confirmed.errors);
            if let Some(offer) = offer {
                self.confirm(offer, price, "unit_price", &mut confirmed);
                changed.seen_price = offer.unit_price();
            }
            confirmed.into_result()?;
        }
        let saved = self.save(tx, before, after, raised).await;
        tx.ended(saved)
    }

    /// Removes a line. The change needs no version; if `expected` names one, it is checked.
    ///
    /// # Errors
    /// `NotFound` for the cart or the line, `VERSION_CONFLICT`, `CART_EXPIRED`, `CART_MERGED`, `CART_ORDERED`,
    /// `Unavailable`.
    pub async fn remove_line(
        &self,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        line: CartLineId,
    ) -> Result<PricedCart> {
        access.of(self.who, Permission::CartsWrite)?;
        self.cx
            .write(|mut tx| async move { Ok((self.remove_line_in(&mut tx, id, access, expected, line).await?, tx)) })
            .await
    }

    /// [`Self::remove_line`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::remove_line`].
    pub async fn remove_line_in(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
        line: CartLineId,
    ) -> Result<PricedCart> {
        let access = &access.of(self.who, Permission::CartsWrite)?;
        tx.started();
        let before = self.lock_version(tx, id, access, expected).await?;
        let mut after = before.clone();
        after.lines.retain(|l| l.id != line);
        if after.lines.len() == before.lines.len() {
            return Err(Error::not_found(Entity::CartLine, line));
        }
        let saved = self.save(tx, before, after, None).await;
        tx.ended(saved)
    }

    /// Removes all lines. The change needs no version; if `expected` names one, it is checked.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `CART_EXPIRED`, `CART_MERGED`, `CART_ORDERED`, `Unavailable`.
    pub async fn clear(&self, id: CartId, access: &CartAccess, expected: ExpectedVersion) -> Result<PricedCart> {
        access.of(self.who, Permission::CartsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.clear_in(&mut tx, id, access, expected).await?, tx)) }).await
    }

    /// [`Self::clear`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::clear`].
    pub async fn clear_in(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartAccess,
        expected: ExpectedVersion,
    ) -> Result<PricedCart> {
        let access = &access.of(self.who, Permission::CartsWrite)?;
        tx.started();
        let before = self.lock_version(tx, id, access, expected).await?;
        let after = Cart { lines: Vec::new(), ..before.clone() };
        let saved = self.save(tx, before, after, None).await;
        tx.ended(saved)
    }

    /// Merges a guest's cart into another cart, and returns that one (R20). Of equal lines the greater quantity stays.
    /// A repeated merge changes nothing.
    ///
    /// # Errors
    /// `NotFound` for either cart, `CART_EXPIRED`, `CART_ORDERED`, `CART_MERGED` if one of them was merged into a
    /// third, `STATE_CONFLICT` if `from` belongs to a customer; `Validation` if both are the same cart, or if the lines
    /// are too many for one; `Unavailable`.
    pub async fn merge(
        &self,
        from: CartId,
        from_access: &CartAccess,
        into: CartId,
        into_access: &CartAccess,
    ) -> Result<PricedCart> {
        self.admit_merge(from, from_access, into, into_access)?;
        self.cx
            .write(
                |mut tx| async move { Ok((self.merge_in(&mut tx, from, from_access, into, into_access).await?, tx)) },
            )
            .await
    }

    /// [`Self::merge`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::merge`].
    pub async fn merge_in(
        &self,
        tx: &mut Tx<'_>,
        from: CartId,
        from_access: &CartAccess,
        into: CartId,
        into_access: &CartAccess,
    ) -> Result<PricedCart> {
        let (from_access, into_access) = self.admit_merge(from, from_access, into, into_access)?;
        tx.started();
        let merged = self.merge_admitted(tx, (from, &from_access), (into, &into_access)).await;
        tx.ended(merged)
    }

    async fn merge_admitted(
        &self,
        tx: &mut Tx<'_>,
        (from, from_access): (CartId, &CartEntry),
        (into, into_access): (CartId, &CartEntry),
    ) -> Result<PricedCart> {
        let mut found = lock_by_id(tx, &[from, into]).await?;
        let from = from_access.check(from, found.remove(&from))?;
        let into = into_access.check(into, found.remove(&into))?;
        into.check_open(self.cx.now())?;
        if from.merged_into == Some(into.id) {
            return priced(tx, into).await;
        }
        from.check_open(self.cx.now())?;
        check_guest(&from, "belongs to a customer, so it cannot be merged into another one")?;
        self.merge_locked(tx, from, into).await
    }

    /// Makes a guest's cart the cart of a customer, as a login does, and returns the customer's cart. If the customer
    /// has an open cart, the guest's cart is merged into it (R20). It requires `carts:write`, unless the principal is
    /// that customer.
    ///
    /// # Errors
    /// `NotFound`, `CART_EXPIRED`, `CART_ORDERED`, `CART_MERGED`, `STATE_CONFLICT` if the cart belongs to another
    /// customer; `Validation` if the customer does not exist, or if the lines are too many for one cart; `Unavailable`.
    pub async fn assign(&self, id: CartId, access: &CartAccess, customer: CustomerId) -> Result<PricedCart> {
        self.admit_assignment(access, customer)?;
        self.cx.write(|mut tx| async move { Ok((self.assign_in(&mut tx, id, access, customer).await?, tx)) }).await
    }

    /// [`Self::assign`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::assign`], and [`Error::Contention`] if another transaction has created a cart of the customer.
    pub async fn assign_in(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartAccess,
        customer: CustomerId,
    ) -> Result<PricedCart> {
        let access = self.admit_assignment(access, customer)?;
        tx.started();
        let assigned = self.assign_admitted(tx, id, &access, customer).await;
        tx.ended(assigned)
    }

    async fn assign_admitted(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartEntry,
        customer: CustomerId,
    ) -> Result<PricedCart> {
        self.hold(tx, customer).await?;
        let open = tx.carts().find_open(&[customer]).await?.pop();
        let ids: Vec<CartId> = [Some(id), open].into_iter().flatten().collect();
        let mut found = lock_by_id(tx, &ids).await?;
        let before = access.check(id, found.remove(&id))?;
        let now = self.cx.now();
        // The cart was open before it was locked, and may have been ordered or merged since.
        let own = open.and_then(|open| found.remove(&open)).filter(|own| own.state == CartState::Open);
        if let Some(own) = &own
            && before.merged_into == Some(own.id)
            && !own.is_expired(now)
        {
            return priced(tx, own.clone()).await;
        }
        before.check_open(now)?;
        if before.customer_id == Some(customer) {
            return priced(tx, before).await;
        }
        let refusal = "already belongs to another customer, so it cannot be assigned: only a guest's cart can";
        check_guest(&before, refusal)?;
        match own {
            Some(own) if own.is_expired(now) => self.purge(tx, &[own]).await?,
            Some(own) => return self.merge_locked(tx, before, own).await,
            None => {}
        }
        let after = Cart { customer_id: Some(customer), token_hash: None, ..before.clone() };
        self.save(tx, before, after, None).await
    }

    /// Removes the carts that have expired, other than those from which an order was placed, and returns how many. The
    /// background work of a shop removes them every ten minutes. It requires `carts:write`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn remove_expired(&self) -> Result<u64> {
        let mut removed = 0;
        loop {
            let (some, more) = self.remove_some_expired().await?;
            removed += some;
            if !more {
                return Ok(removed);
            }
        }
    }

    /// Removes expired carts in one short transaction. Returns how many, and whether there may be more.
    pub(crate) async fn remove_some_expired(&self) -> Result<(u64, bool)> {
        self.who.require(Permission::CartsWrite)?;
        let now = self.cx.now();
        self.cx
            .write(|mut tx| async move {
                let mut ids = tx.carts().expired(CartState::Open, now, EXPIRED_AT_ONCE).await?;
                ids.extend(tx.carts().expired(CartState::Merged, now, EXPIRED_AT_ONCE).await?);
                let mut carts = tx.carts().lock(&ids).await?;
                // A shopper may have changed some of them before they were locked.
                carts.retain(|c| c.state != CartState::Ordered && c.expires_at <= now);
                self.purge(&mut tx, &carts).await?;
                let more = ids.len() >= EXPIRED_AT_ONCE as usize && !carts.is_empty();
                Ok(((carts.len() as u64, more), tx))
            })
            .await
    }

    fn admit_creation(&self, input: &CartInput) -> Result<()> {
        if let Some(customer) = input.customer_id {
            self.who.reach(Permission::CartsWrite)?.check_named(Some(customer))?;
        }
        if input.source.is_some() || input.external_id.is_some() {
            self.who.require(Permission::CartsWrite)?;
        }
        Ok(())
    }

    fn admit_assignment(&self, access: &CartAccess, customer: CustomerId) -> Result<CartEntry> {
        self.who.reach(Permission::CartsWrite)?.check_named(Some(customer))?;
        access.of(self.who, Permission::CartsWrite)
    }

    fn admit_merge(
        &self,
        from: CartId,
        from_access: &CartAccess,
        into: CartId,
        into_access: &CartAccess,
    ) -> Result<(CartEntry, CartEntry)> {
        let entries =
            (from_access.of(self.who, Permission::CartsWrite)?, into_access.of(self.who, Permission::CartsWrite)?);
        if from == into {
            return Err(Error::invalid("into", FieldCode::Inconsistent, "must be another cart than the merged one"));
        }
        Ok(entries)
    }

    /// Holds a live customer until the end of the transaction.
    async fn hold(&self, tx: &mut Tx<'_>, id: CustomerId) -> Result<()> {
        if tx.customers().hold(&[id]).await?.pop().is_some_and(|c| c.audit.is_live()) {
            return Ok(());
        }
        Err(Error::invalid("customer_id", FieldCode::ReferenceNotFound, format!("`{id}` does not exist")))
    }

    /// Locks a cart that can be changed.
    async fn lock_open(&self, tx: &mut Tx<'_>, id: CartId, access: &CartEntry) -> Result<Cart> {
        let found = tx.carts().lock(&[id]).await?.pop();
        let cart = access.check(id, found)?;
        cart.check_open(self.cx.now())?;
        Ok(cart)
    }

    /// As [`Self::lock_open`], and checks the version if one is given.
    async fn lock_version(
        &self,
        tx: &mut Tx<'_>,
        id: CartId,
        access: &CartEntry,
        expected: ExpectedVersion,
    ) -> Result<Cart> {
        let cart = self.lock_open(tx, id, access).await?;
        expected.check(Entity::Cart, id, cart.audit.version, true)?;
        Ok(cart)
    }

    /// Locks the open cart of a customer whom the transaction holds. If the cart has expired, it is removed.
    async fn open_cart_of(&self, tx: &mut Tx<'_>, customer: CustomerId) -> Result<Option<Cart>> {
        let Some(id) = tx.carts().find_open(&[customer]).await?.pop() else { return Ok(None) };
        // The cart was open before it was locked, and may have been ordered since.
        let own = tx.carts().lock(&[id]).await?.pop().filter(|own| own.state == CartState::Open);
        match own {
            Some(own) if own.is_expired(self.cx.now()) => {
                self.purge(tx, &[own]).await?;
                Ok(None)
            }
            own => Ok(own),
        }
    }

    /// Merges an open cart into another one; both are locked.
    async fn merge_locked(&self, tx: &mut Tx<'_>, from: Cart, into: Cart) -> Result<PricedCart> {
        let mut after = into.clone();
        after.take_lines(&from.lines, || CartLineId(self.cx.ids.next()));
        after.email = after.email.or_else(|| from.email.clone());
        let mut merged = Cart { state: CartState::Merged, merged_into: Some(into.id), ..from.clone() };
        let result = self.save(tx, into, after, None).await?;
        merged.audit.edited(self.cx.now(), self.who.actor());
        tx.carts().update(&from, &merged).await?;
        tx.emit(event(EventKind::CartMerged, &merged, self.who)).await?;
        Ok(result)
    }

    /// Writes a cart over the state that the transaction has locked, if they differ, and prices it. `raised` is the
    /// field to blame if an amount is too large; `None` if the change raises no amount.
    async fn save(
        &self,
        tx: &mut Tx<'_>,
        before: Cart,
        mut after: Cart,
        raised: Option<&'static str>,
    ) -> Result<PricedCart> {
        check_count(&after.lines)?;
        let changed = after != before;
        if changed {
            let now = self.cx.now();
            after.expires_at = self.expiry(now);
            after.audit.edited(now, self.who.actor());
        }
        let after = priced(tx, after).await?;
        if let Some(field) = raised {
            check_amounts(&after, field)?;
        }
        if changed {
            tx.carts().update(&before, &after.cart).await.map_err(or_again)?;
            tx.emit(event(EventKind::CartUpdated, &after.cart, self.who)).await?;
        }
        Ok(after)
    }

    /// Removes locked carts for good.
    pub(crate) async fn purge(&self, tx: &mut Tx<'_>, carts: &[Cart]) -> Result<()> {
        if carts.is_empty() {
            return Ok(());
        }
        tx.carts().purge(&carts.iter().map(|c| c.id).collect::<Vec<_>>()).await?;
        let purged =
            |cart: &Cart| Change::event_only(EventKind::CartPurged, cart.id, cart.audit.version + 1, self.who.actor());
        let changes = carts.iter().map(purged);
        tx.emit_all(changes.collect()).await
    }

    fn expiry(&self, now: Timestamp) -> Timestamp {
        now + self.cx.config.cart_ttl
    }

    /// Returns the lines of checked inputs. Each SKU must be for sale, at the price that the shopper sees. `prefix`
    /// returns the text before the fields of an input.
    async fn lines(
        &self,
        tx: &mut Tx<'_>,
        inputs: &[CartLineInput],
        prefix: impl Fn(usize) -> String + Send,
    ) -> Result<Vec<CartLine>> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let codes: Vec<String> = inputs.iter().filter_map(|l| l.sku.clone()).collect();
        let by_code: HashMap<String, SkuId> = tx.offers().by_codes(&codes).await?.into_iter().collect();
        let sku_of = |line: &CartLineInput| {
            line.sku_id.or_else(|| line.sku.as_deref().and_then(|code| by_code.get(&fold_key(code)).copied()))
        };
        let offers = offers(tx, inputs.iter().filter_map(sku_of)).await?;
        let (mut lines, mut confirmed) = (Vec::with_capacity(inputs.len()), Confirmed::default());
        for (i, input) in inputs.iter().enumerate() {
            let prefix = prefix(i);
            let (field, key) = match (&input.sku_id, &input.sku) {
                (Some(id), _) => ("sku_id", id.to_string()),
                (None, code) => ("sku", shown(code.as_deref().unwrap_or_default())),
            };
            let is_hidden = |offer: &&Offer| input.sku.is_some() && offer.is_draft() && !self.who.reads_all_products();
            let offer = sku_of(input).and_then(|id| offers.get(&id)).filter(|offer| !is_hidden(offer));
            let Some(offer) = Offer::for_sale(offer, format!("{prefix}{field}"), &key, &mut confirmed.errors) else {
                continue;
            };
            self.confirm(offer, input.unit_price, &format!("{prefix}unit_price"), &mut confirmed);
            lines.push(CartLine {
                id: CartLineId(self.cx.ids.next()),
                sku_id: offer.sku_id,
                attributes: input.attributes.clone(),
                quantity: input.quantity,
                seen_price: offer.unit_price(),
            });
        }
        confirmed.into_result()?;
        Ok(lines)
    }

    /// Compares the price that the shopper sees with the current one (R8).
    fn confirm(&self, offer: &Offer, seen: ExactDecimal, field: &str, confirmed: &mut Confirmed) {
        let Some(found) = price_of(seen, self.cx.config.currency, field, &mut confirmed.errors) else { return };
        let expected = offer.unit_price();
        if found != expected {
            let mismatch = PriceMismatch { field: field.to_owned(), sku_id: offer.sku_id.0, expected, found };
            confirmed.mismatches.push(mismatch);
        }
    }
}

/// The errors of the SKUs and the prices of an input.
#[derive(Default)]
struct Confirmed {
    errors: ValidationErrors,
    mismatches: Vec<PriceMismatch>,
}

impl Confirmed {
    fn into_result(self) -> Result<()> {
        self.errors.into_result()?;
        if self.mismatches.is_empty() {
            return Ok(());
        }
        refusal(Err(SalesConflict::PriceMismatch { prices: self.mismatches, shortages: Vec::new() }.into()))
    }
}

/// Adds lines to those of a cart. The quantities of equal lines are added, and the line gets the price of the new one.
pub(crate) fn add(lines: &mut Vec<CartLine>, new: Vec<CartLine>, field: impl Fn(usize) -> String) -> Result<()> {
    let mut errors = ValidationErrors::default();
    let mut places: HashMap<(SkuId, String), usize> = lines.iter().enumerate().map(|(i, l)| (l.item(), i)).collect();
    for (i, line) in new.into_iter().enumerate() {
        let Some(at) = places.get(&line.item()) else {
            places.insert(line.item(), lines.len());
            lines.push(line);
            continue;
        };
        let own = &mut lines[*at];
        let sum = own.quantity.saturating_add(line.quantity);
        if sum > CartLine::MAX_QUANTITY {
            let (most, has) = (CartLine::MAX_QUANTITY, own.quantity);
            errors.out_of_bounds(field(i), format!("must be at most {}, since the cart has {has}", most - has));
        } else {
            (own.quantity, own.seen_price) = (sum, line.seen_price);
        }
    }
    errors.into_result()?;
    check_count(lines)
}

pub(crate) fn check_count(lines: &[CartLine]) -> Result<()> {
    if lines.len() <= Cart::MAX_LINES {
        return Ok(());
    }
    let message = format!("must be at most {}, but there would be {}", Cart::MAX_LINES, lines.len());
    Err(Error::invalid("lines", FieldCode::OutOfBounds, message))
}

/// Refuses a cart in which an amount is too large.
pub(crate) fn check_amounts(cart: &PricedCart, field: &str) -> Result<()> {
    if cart.subtotal.is_some() && cart.lines.iter().all(|l| l.line_total.is_some()) {
        return Ok(());
    }
    Err(too_large(cart.cart.currency, field))
}

fn check_line(line: &CartLineInput) -> Result<()> {
    let mut errors = ValidationErrors::default();
    line.check("", &mut errors);
    errors.into_result()
}

/// Refuses to move a customer's cart or its lines. `refusal` is the text of the error after the name of the cart.
fn check_guest(cart: &Cart, refusal: &str) -> Result<()> {
    if cart.customer_id.is_none() {
        return Ok(());
    }
    Err(Conflict::State { message: format!("cart {} {refusal}", cart.id) }.into())
}

/// Turns the refusal of a second open cart of a customer into [`Error::Contention`]: the next try finds the cart that
/// another transaction has created.
pub(crate) fn or_again(error: Error) -> Error {
    match &error {
        Error::Conflict(c) if matches!(**c, Conflict::Duplicate { entity: Entity::Cart, field: "customer_id", .. }) => {
            Error::Contention { source: Some(Box::new(error)) }
        }
        _ => error,
    }
}

async fn lock_by_id(tx: &mut Tx<'_>, ids: &[CartId]) -> Result<HashMap<CartId, Cart>> {
    Ok(tx.carts().lock(ids).await?.into_iter().map(|cart| (cart.id, cart)).collect())
}

/// Reads the offers of SKUs.
pub(crate) async fn offers<R>(db: &mut R, skus: impl IntoIterator<Item = SkuId>) -> Result<HashMap<SkuId, Offer>>
where
    R: Repositories + ?Sized,
{
    let mut ids: Vec<SkuId> = skus.into_iter().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(db.offers().get(&ids).await?.into_iter().map(|offer| (offer.sku_id, offer)).collect())
}

/// Prices a cart with the current offers of its SKUs.
pub(crate) async fn priced<R: Repositories + ?Sized>(db: &mut R, cart: Cart) -> Result<PricedCart> {
    let offers = offers(db, cart.lines.iter().map(|l| l.sku_id)).await?;
    Ok(PricedCart::new(cart, &offers))
}

/// Returns the event of a cart that was written.
fn event(kind: EventKind, cart: &Cart, who: &Principal) -> Change<'static> {
    Change::event_only(kind, cart.id, cart.audit.version, who.actor())
}
