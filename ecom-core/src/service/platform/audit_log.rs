//! The audit log. [`Tx::emit_all`](crate::service::run::transaction::Tx::emit_all) writes it; this service reads it.

use std::sync::Arc;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::audit_log::{AuditLogEntry, AuditLogFilter};
use crate::error::Result;
use crate::paging::{Page, Paging, Total};
use crate::service::run::context::Context;

/// The service of the audit log of a shop: who edited the catalog, customers, addresses, reviews, users, roles, API keys
/// and settings, when, and what the values were before and after.
///
/// The entry of an edit is written in the transaction of the edit. An import has one entry, which counts its changes.
/// Passwords, secrets and keys are in no entry. The entries of a customer and of its user lose their values if the
/// customer is erased (R45) or permanently deleted. Changes of stock are in its ledger
/// ([`InventoryService`](crate::stock::InventoryService)), and those of orders in their histories.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::paging::Paging;
/// use ecom_core::platform::AuditLogFilter;
///
/// let filter = AuditLogFilter { entity: Some("role".to_owned()), ..AuditLogFilter::default() };
/// let (page, _) = shop.audit_log().list(&filter, &Paging::default()).await?;
/// for entry in page.items {
///     println!("{} {} {}: {:?}", entry.occurred_at, entry.actor.as_str(), entry.action, entry.after);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AuditLogService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> AuditLogService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a page of entries, newest first, and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`]. It requires `audit_log:read`.
    ///
    /// # Errors
    /// `Validation` of a text that no entry can have, or if the limit of the page is out of bounds, `Unavailable`.
    pub async fn list(&self, filter: &AuditLogFilter, paging: &Paging) -> Result<(Page<AuditLogEntry>, Option<Total>)> {
        self.who.require(Permission::AuditLogRead)?;
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.audit_log().list(filter, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.audit_log().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }
}
