//! Bills and credit notes. The calls of [`OrderService`](super::order::OrderService) create them.

use std::sync::Arc;

use crate::domain::access::policy::Reach;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::common::{ExpectedVersion, IncludeDeleted};
use crate::domain::sales::bill::{Bill, BillFilter, BillPatch, BillSort};
use crate::error::{Entity, Error, Result};
use crate::id::{BillId, OrderId};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories;
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;
use crate::service::sales::order::OrderService;

/// The service of the bills and credit notes of a shop. They are created by the calls of [`OrderService`].
///
/// A customer reads the bills of its own orders without a permission.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop, order: ecom_core::id::OrderId) -> ecom_core::Result<()> {
/// use ecom_core::common::IncludeDeleted;
/// use ecom_core::sales::BillPatch;
///
/// let bill = shop.bills().of_order(order, IncludeDeleted::No).await?.remove(0);
/// let paid = BillPatch { paid: Some(true), ..BillPatch::default() };
/// let bill = shop.bills().patch(bill.id, bill.audit.version.into(), paid).await?;
/// println!("{} for {} is paid", bill.number, bill.totals.total);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BillService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> BillService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a bill; one of a soft-deleted order only if `deleted` asks for it (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: BillId, deleted: IncludeDeleted) -> Result<Bill> {
        let reach = self.who.reach(Permission::BillsRead)?;
        self.who.require_shown(deleted)?;
        let mut db = self.cx.storage.connect().await?;
        let gone = || Error::not_found(Entity::Bill, id);
        let bill = db.bills().get(id, deleted).await?.ok_or_else(gone)?;
        check_owner(&mut *db, reach, bill.order_id, gone).await?;
        Ok(bill)
    }

    /// Returns the bill with a number, such as `BILL-2026-000123`; one of a soft-deleted order only if `deleted` asks
    /// for it (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_number(&self, number: &str, deleted: IncludeDeleted) -> Result<Bill> {
        let reach = self.who.reach(Permission::BillsRead)?;
        self.who.require_shown(deleted)?;
        let gone = || Error::not_found(Entity::Bill, number);
        // No number contains such a character, and not every database accepts it.
        if number.contains(char::is_control) {
            return Err(gone());
        }
        let mut db = self.cx.storage.connect().await?;
        let bill = db.bills().get_by_number(number, deleted).await?.ok_or_else(gone)?;
        check_owner(&mut *db, reach, bill.order_id, gone).await?;
        Ok(bill)
    }

    /// Returns the bills of an order, and then its credit notes, oldest first; those of a soft-deleted order only if
    /// `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound` if there is no such order, `Unavailable`.
    pub async fn of_order(&self, order: OrderId, deleted: IncludeDeleted) -> Result<Vec<Bill>> {
        let reach = self.who.reach(Permission::BillsRead)?;
        self.who.require_shown(deleted)?;
        let mut db = self.cx.storage.connect().await?;
        let gone = || Error::not_found(Entity::Order, order);
        check_owner(&mut *db, reach, order, gone).await?;
        let bills = db.bills().of_order(order, deleted).await?;
        // Every order has a bill.
        if bills.is_empty() { Err(gone()) } else { Ok(bills) }
    }

    /// Returns a page of bills and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`]. A customer without `bills:read` must name an order of its own.
    ///
    /// # Errors
    /// `Validation` of a range of dates that ends before it begins, `NotFound` of an order of somebody else that a
    /// customer names, `Unavailable`.
    pub async fn list(
        &self,
        filter: &BillFilter,
        sort: BillSort,
        paging: &Paging,
    ) -> Result<(Page<Bill>, Option<Total>)> {
        let reach = self.who.reach(Permission::BillsRead)?;
        self.who.require_shown(filter.include_deleted)?;
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        match filter.order {
            Some(order) => check_owner(&mut *db, reach, order, || Error::not_found(Entity::Order, order)).await?,
            None => reach.require_all()?,
        }
        let page = db.bills().list(filter, sort, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.bills().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Patches the payment type or the discount of a bill, or records that it was paid (R39).
    ///
    /// # Errors
    /// `NotFound`, also if its order is soft-deleted, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `BILL_FROZEN`,
    /// `ORDER_STATUS_CONFLICT`, `Validation`, `Unavailable`.
    pub async fn patch(&self, id: BillId, expected: ExpectedVersion, patch: BillPatch) -> Result<Bill> {
        let patch = &patch;
        self.cx.write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch).await?, tx)) }).await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: BillId,
        expected: ExpectedVersion,
        patch: &BillPatch,
    ) -> Result<Bill> {
        self.who.require(Permission::BillsWrite)?;
        if patch.discount.is_present() {
            self.who.require(Permission::OrdersDiscount)?;
        }
        let expected = expected.or_named(patch.version)?;
        let gone = || Error::not_found(Entity::Bill, id);
        tx.started();
        let order = tx.bills().get(id, IncludeDeleted::No).await?.ok_or_else(gone)?.order_id;
        let locked = tx.orders().lock(&[order]).await?.pop();
        // The order was live before it was locked, and may have been deleted since.
        let before = locked.filter(|r| r.order.audit.is_live()).ok_or_else(gone)?;
        let bill = before.bills.iter().find(|b| b.id == id).ok_or_else(gone)?.clone();
        expected.check(Entity::Bill, id, bill.audit.version, self.cx.config.last_write_wins)?;
        let orders = OrderService::new(self.cx, self.who);
        let Some(step) = before.patch_bill(id, patch, &orders.stamp())? else { return tx.ended(Ok(bill)) };
        let patched = step.record.bills.iter().find(|b| b.id == id).cloned();
        orders.save(tx, before, step).await?;
        tx.ended(patched.ok_or_else(gone))
    }
}

/// Answers with the error of `gone` if an order is not one that the principal may read.
async fn check_owner<R: Repositories + ?Sized>(
    db: &mut R,
    reach: Reach,
    order: OrderId,
    gone: impl FnOnce() -> Error + Send,
) -> Result<()> {
    if reach == Reach::All {
        return Ok(());
    }
    let owner = db.orders().get(order, IncludeDeleted::Yes).await?.and_then(|order| order.customer_id);
    reach.check(owner, gone)
}
