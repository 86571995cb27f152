//! The audit, which recomputes stock and amounts from their rows and compares them with the stored sums (R41).

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::audit::{AuditFinding, AuditReport, LedgerSum};
use crate::domain::sales::cart::CartState;
use crate::domain::sales::order::OrderRecord;
use crate::error::{Entity, Result, WithCauses};
use crate::id::{OrderId, OrderLineId, SkuId};
use crate::log_event;
use crate::metrics;
use crate::port::sales::order::OrderTrace;
use crate::port::storage::Connection;
use crate::service::run::context::Context;
use crate::service::run::notice::LOGGED_AT_ONCE;
use crate::service::sales::order::TRIES;

/// How many SKUs or orders one batch checks.
const BATCH: u32 = 200;

/// The service that audits a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> ecom_core::Result<()> {
/// let report = shop.audit().run().await?;
/// for finding in &report.findings {
///     println!("{} {}: {}", finding.entity, finding.id, finding.message);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AuditService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> AuditService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Recomputes the stock of every SKU from its ledger, and every sum, discount, credit note and status of every
    /// order from its rows (R2, R7, R11, R18, R19, R23, R27, R35, R36, R39, R45). It reads in many short batches,
    /// blocks no writer, and can run while the shop sells.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn run(&self) -> Result<AuditReport> {
        self.who.require(Permission::AuditRun)?;
        let mut report = AuditReport::default();
        self.audit_stock(&mut report).await?;
        self.audit_orders(&mut report).await?;
        metrics::count(metrics::AUDITS_TOTAL, &[], 1);
        metrics::count(metrics::AUDIT_FINDINGS_TOTAL, &[], report.findings.len() as u64);
        let event = log_event::AUDIT_FINDING;
        for AuditFinding { entity, id, message } in report.findings.iter().take(LOGGED_AT_ONCE) {
            tracing::error!(target: log_event::TARGET, event, %entity, %id, finding = message, "an audit has a finding");
        }
        Ok(report)
    }

    async fn audit_stock(&self, report: &mut AuditReport) -> Result<()> {
        let mut after: Option<SkuId> = None;
        loop {
            // A connection for each batch, so that the audit does not hold one for long.
            let sums = self.ledgers(after).await?;
            for sum in &sums {
                let mut find = |message: String| {
                    report.findings.push(AuditFinding { entity: Entity::Sku, id: sum.sku_id.0, message });
                };
                if sum.on_hand != sum.ledger {
                    find(format!("on hand is {}, but the ledger adds up to {} (R11)", sum.on_hand, sum.ledger));
                }
                if sum.on_hand < 0 {
                    find(format!("on hand is {} (R7)", sum.on_hand));
                }
                if sum.orphans > 0 {
                    find(format!("{} movements name an order line that does not sell this SKU (R23)", sum.orphans));
                }
            }
            report.skus += sums.len() as u64;
            match sums.last() {
                Some(last) => after = Some(last.sku_id),
                None => return Ok(()),
            }
        }
    }

    /// Returns the sums of the next SKUs. Some SKUs have so many movements that the database needs too long for a whole
    /// batch of them, so that a smaller one is tried then.
    async fn ledgers(&self, after: Option<SkuId>) -> Result<Vec<LedgerSum>> {
        let mut batch = BATCH;
        loop {
            match self.cx.storage.connect().await?.inventory().ledgers(after, batch).await {
                Err(error) if error.is_retryable() && batch > 1 => {
                    tracing::debug!(error = %WithCauses(&error), batch, "the ledgers of fewer SKUs are read at a time");
                    batch = (batch / 10).max(1);
                }
                read => return read,
            }
        }
    }

    async fn audit_orders(&self, report: &mut AuditReport) -> Result<()> {
        let mut after: Option<OrderId> = None;
        loop {
            let mut db = self.cx.storage.connect().await?;
            let ids = db.orders().ids_after(after, BATCH).await?;
            let mut left = ids.clone();
            for _ in 0..TRIES {
                if left.is_empty() {
                    break;
                }
                left = check(&mut *db, &left, report).await?;
            }
            for id in left {
                let message = "changed so often that it could not be checked: run the audit again".to_owned();
                report.findings.push(AuditFinding { entity: Entity::Order, id: id.0, message });
            }
            report.orders += ids.len() as u64;
            match ids.last() {
                Some(last) if ids.len() == BATCH as usize => after = Some(*last),
                _ => return Ok(()),
            }
        }
    }
}

/// Checks orders, and returns those that changed meanwhile. Every change of an order, its lines, its bills or its stock
/// increases the version of the order, so what is read between two reads of one version belongs together.
async fn check(db: &mut dyn Connection, ids: &[OrderId], report: &mut AuditReport) -> Result<Vec<OrderId>> {
    let records = db.orders().records(ids).await?;
    let moved: HashMap<OrderLineId, i64> = db.orders().moved(ids).await?.into_iter().collect();
    let traces: HashMap<OrderId, OrderTrace> = db.orders().traces(ids).await?.into_iter().map(|t| (t.id, t)).collect();
    let mut changed = Vec::new();
    for record in records {
        let id = record.order.id;
        let Some(trace) = traces.get(&id) else { continue };
        let (version, entries) = (trace.version, trace.entries);
        if version != record.order.audit.version {
            changed.push(id);
            continue;
        }
        let mut find = |message: String| {
            report.findings.push(AuditFinding { entity: Entity::Order, id: id.0, message });
        };
        record.findings().into_iter().for_each(&mut find);
        stock_findings(&record, &moved).into_iter().for_each(&mut find);
        if entries != version {
            find(format!("the history has {entries} entries, but the order has version {version} (R19)"));
        }
        let status = record.order.status.as_str();
        if let Some(last) = trace.status.filter(|last| *last != record.order.status) {
            find(format!("the status is {status}, but the history ends with {} (R19)", last.as_str()));
        }
        if trace.cart.is_some_and(|state| state != CartState::Ordered) {
            find("the cart that it was made from is not ordered (R20)".to_owned());
        }
    }
    Ok(changed)
}

/// Returns the lines whose movements are not those of the units that were sold and not canceled (R23).
fn stock_findings(record: &OrderRecord, moved: &HashMap<OrderLineId, i64>) -> Vec<String> {
    let lines = record.order.lines.iter().filter_map(|line| {
        let taken = -moved.get(&line.id).copied().unwrap_or(0);
        let expected = if line.takes_stock { line.remaining() } else { 0 };
        (taken != expected)
            .then(|| format!("line {}: the ledger took {taken} pieces, but {expected} units are sold (R23)", line.id))
    });
    lines.collect()
}
