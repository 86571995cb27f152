//! The named events of the log that writes have ([`log_event`]).
//!
//! A transaction collects them, and [`AfterCommit`](super::after_commit::AfterCommit) logs them, so that a write that
//! was rolled back logs none.

use crate::domain::platform::job::{Job, JobKind};
use crate::domain::sales::order::Order;
use crate::domain::stock::inventory::LowStock;
use crate::error::{Conflict, Error, FieldCode, PriceMismatch, Result, SalesConflict, Shortage, StockConflict};
use crate::id::{JobId, OrderId, SessionId, UserId};
use crate::log_event::{self, TARGET};
use crate::metrics;
use crate::money::Money;

/// The most findings, prices or shortages of one call that are logged.
pub(crate) const LOGGED_AT_ONCE: usize = 100;

/// A named event of a write.
#[derive(Debug)]
pub(crate) enum Notice {
    OrderPlaced { order: OrderId, number: String, lines: usize, total: Money },
    OrderCanceled { order: OrderId, number: String },
    PaymentRecorded { order: OrderId, number: String },
    StockLow(LowStock),
    SessionReused { session: SessionId, user: UserId },
    JobParked { job: JobId, kind: JobKind, attempts: u32, error: Option<String> },
}

impl Notice {
    /// Returns the event of an order that was placed.
    pub fn placed(order: &Order) -> Self {
        let (number, lines, total) = (order.number.clone(), order.lines.len(), order.totals.total);
        Self::OrderPlaced { order: order.id, number, lines, total }
    }

    /// Returns the event of a job that stays failed.
    pub fn parked(job: &Job) -> Self {
        let (kind, error) = (job.kind.clone(), job.last_error.clone());
        Self::JobParked { job: job.id, kind, attempts: job.attempts, error }
    }

    /// Logs and counts the event.
    pub fn log(&self) {
        match self {
            Self::OrderPlaced { order, number, lines, total } => {
                metrics::count(metrics::ORDERS_PLACED_TOTAL, &[], 1);
                tracing::info!(
                    target: TARGET,
                    event = log_event::ORDER_PLACED,
                    %order,
                    number,
                    lines,
                    total = %total.amount(),
                    currency = total.currency().code(),
                    "an order was placed"
                );
            }
            Self::OrderCanceled { order, number } => {
                metrics::count(metrics::ORDERS_CANCELED_TOTAL, &[], 1);
                let event = log_event::ORDER_CANCELED;
                tracing::info!(target: TARGET, event, %order, number, "an order was canceled");
            }
            Self::PaymentRecorded { order, number } => {
                let event = log_event::PAYMENT_RECORDED;
                tracing::info!(target: TARGET, event, %order, number, "a bill was paid");
            }
            Self::StockLow(low) => tracing::info!(
                target: TARGET,
                event = log_event::STOCK_LOW,
                sku = %low.sku_id,
                product = %low.product_id,
                available = low.available,
                threshold = low.threshold,
                "a SKU has become low in stock"
            ),
            Self::SessionReused { session, user } => {
                let event = log_event::SESSION_REUSED;
                tracing::warn!(target: TARGET, event, %session, %user, "a refresh token was used again");
            }
            Self::JobParked { job, kind, attempts, error } => tracing::error!(
                target: TARGET,
                event = log_event::JOB_PARKED,
                %job,
                kind = kind.as_str(),
                attempts,
                error,
                "a job stays failed until it is retried"
            ),
        }
    }
}

/// Logs the prices and the stock for which a sale was refused, and returns the result.
pub(crate) fn refusal<T>(result: Result<T>) -> Result<T> {
    if let Err(Error::Conflict(conflict)) = &result {
        match &**conflict {
            Conflict::Sales(SalesConflict::PriceMismatch { prices, shortages }) => {
                log_prices(prices);
                log_shortages(shortages);
            }
            Conflict::Stock(StockConflict::Insufficient { shortages }) => log_shortages(shortages),
            _ => {}
        }
    }
    result
}

/// Counts an order that the state of the shop has refused, and returns the result.
pub(crate) fn not_placed<T>(result: Result<T>) -> Result<T> {
    if let Err(error) = &result
        && let Some(reason) = reason(error)
    {
        metrics::count(metrics::ORDERS_REFUSED_TOTAL, &[("reason", reason)], 1);
    }
    result
}

/// Returns why the state of the shop has refused an order. `None` for a failure, a request that is wrong in itself, and
/// an idempotency key that is in use: the metrics of requests count those by their status.
fn reason(error: &Error) -> Option<&'static str> {
    match error {
        Error::Conflict(conflict) => match &**conflict {
            Conflict::Platform(_) | Conflict::CurrencyMismatch { .. } | Conflict::DatabaseCurrency { .. } => None,
            of_shop => Some(of_shop.code().as_str()),
        },
        // A product can be taken off sale after the client has read it, so the shop's state is the reason.
        Error::Validation(errors) => {
            errors.0.iter().any(|error| error.code == FieldCode::NotForSale).then_some("NOT_FOR_SALE")
        }
        _ => None,
    }
}

fn log_prices(prices: &[PriceMismatch]) {
    for PriceMismatch { sku_id, expected, found, .. } in prices.iter().take(LOGGED_AT_ONCE) {
        let event = log_event::PRICE_MISMATCH;
        tracing::warn!(target: TARGET, event, sku = %sku_id, %expected, %found, "a price is not the current one");
    }
}

fn log_shortages(shortages: &[Shortage]) {
    for Shortage { sku_id, requested, available, .. } in shortages.iter().take(LOGGED_AT_ONCE) {
        let event = log_event::STOCK_SHORT;
        tracing::info!(target: TARGET, event, sku = %sku_id, requested, available, "too little is available");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Dependency, PlatformConflict};

    #[test]
    fn an_order_is_refused_by_the_state_of_the_shop_only() {
        let field = |code| Error::invalid("lines[0].sku", code, "refers to a SKU");
        for (error, expected) in [
            (StockConflict::Insufficient { shortages: Vec::new() }.into(), Some("INSUFFICIENT_STOCK")),
            (SalesConflict::PriceMismatch { prices: Vec::new(), shortages: Vec::new() }.into(), Some("PRICE_MISMATCH")),
            (field(FieldCode::NotForSale), Some("NOT_FOR_SALE")),
            (field(FieldCode::ReferenceNotFound), None),
            (PlatformConflict::KeyReused { key: "k".to_owned() }.into(), None),
            (Error::Unavailable { dependency: Dependency::Database, outcome_unknown: true, source: None }, None),
            (Error::Contention { source: None }, None),
            (Error::Unauthenticated, None),
        ] {
            assert_eq!(reason(&error), expected, "{error}");
        }
    }
}
