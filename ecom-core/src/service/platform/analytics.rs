//! Analytics: reports by day, and the figures behind them.
//!
//! The figures of sales of a day are computed from the orders of that day, as a whole, and then stored. So a repetition
//! does no harm, and a rebuild ends with the same figures as the background work that follows the log
//! (`service/background/analytics.rs`), whichever of the two comes last. Both compute outside of a transaction, so that
//! nothing waits for it, and then claim the version of the state that they have read before: if another one has
//! replaced figures meanwhile, they compute again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::NaiveDate;
use serde_json::Value;

use crate::clock::{TimeZone, Timestamp};
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::analytics::{
    AnalyticsState, DailyReport, DayFigures, DayRange, DaySales, Funnel, LowStockSku, ProductSales, ProductSalesSort,
    ProductViews,
};
use crate::domain::platform::job::{Job, JobKind, JobState};
use crate::domain::sales::order::{ChangeKind, Order, OrderCancellation, OrderChange};
use crate::error::{Error, Result};
use crate::id::{OrderId, OrderLineId, ProductId};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories;
use crate::service::background::worker::Progress;
use crate::service::catalog::product::ProductService;
use crate::service::platform::job::JobService;
use crate::service::platform::job_queue::{Handler, JobError, JobHandler, JobQueue, JobRun, NewJob, Runner};
use crate::service::run::context::Context;
use crate::service::run::counts::Count;
use crate::service::run::transaction::Tx;

/// How often figures are computed again, because others were replaced meanwhile.
const TRIES: usize = 20;
/// The first day that can have figures.
pub(crate) const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).expect("it is a date");
/// The first part of a day that is computed, and the shortest one.
const FIRST_PART: Duration = Duration::from_hours(1);
const SHORTEST_PART: Duration = Duration::from_mins(5);
/// The next part of a day is twice as long if one took less than this, and half as long if it took more than that. The
/// time limit of a statement is some seconds.
const QUICK: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(500);
/// How many orders a rebuild looks at in one transaction, if it has to record what was canceled.
const RECORDED_AT_ONCE: u32 = 100;
/// The unique key of the jobs that rebuild the figures.
const REBUILD_KEY: &str = "sales";

impl Count for ProductViews {
    type Key = (ProductId, NaiveDate);

    const WHAT: &'static str = "views of products";

    fn key(&self) -> Self::Key {
        (self.product_id, self.day)
    }

    fn times(&self) -> u64 {
        self.views
    }

    fn add(&mut self, later: Self) {
        self.views = self.views.saturating_add(later.views);
    }

    async fn write(tx: &mut Tx<'_>, counts: &[Self]) -> Result<()> {
        tx.analytics().add_views(counts).await
    }
}

/// The service of analytics: sales by day, the products that sell best, the SKUs that are low in stock, and the funnel
/// from views to orders. [`SearchLogService`](crate::platform::SearchLogService) has the searches.
///
/// Days are those of the time zone of the shop ([`ShopConfig::time_zone`](crate::config::ShopConfig::time_zone)).
/// Orders count on the day on which they were placed, with their lines as they are now, and canceled units on the day
/// on which they were canceled. The background work ([`Shop::start`](crate::Shop::start)) follows the log of events and
/// brings the figures up to date once per
/// [`analytics_interval`](crate::config::ShopConfig::analytics_interval).
///
/// Views of products are counted in memory and added to the database at the same interval, and by
/// [`Shop::close`](crate::Shop::close). A process that is killed loses those since then.
///
/// If the time zone changes, the first process that starts with the new one enqueues a job that rebuilds the figures of
/// sales ([`JobKind::ANALYTICS_REBUILD`]). Views, carts and searches keep the days on which they were counted.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::platform::DayRange;
///
/// let today = shop.config().time_zone.day_of(shop.clock().now());
/// let report = shop.analytics().sales(&DayRange::last(30, today)).await?;
/// for (day, sales) in &report.days {
///     println!("{day}: {} orders, {} net", sales.orders, sales.net().total);
/// }
/// println!("{:?} on average", report.total.average_order_value());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AnalyticsService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> AnalyticsService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns the sales of each day of a range, also of days without sales, and their sum.
    ///
    /// # Errors
    /// `Validation` for a range out of the bounds of [`DayRange::check`], `Unavailable`, `Internal` if a sum does not
    /// fit into 64 bits.
    pub async fn sales(&self, range: &DayRange) -> Result<DailyReport<DaySales>> {
        self.who.require(Permission::AnalyticsRead)?;
        range.check()?;
        let mut db = self.cx.storage.connect().await?;
        let state = db.analytics().state().await?;
        let found: BTreeMap<NaiveDate, DaySales> = db.analytics().sales(range).await?.into_iter().collect();
        let none = DaySales::none(self.cx.config.currency);
        let mut total = none;
        for sales in found.values() {
            let too_large = Error::Internal { context: "adding up the sales of a range", source: None };
            total = total.checked_add(sales).ok_or(too_large)?;
        }
        Ok(report(range, &state, &found, none, total))
    }

    /// Returns the views, carts and orders of each day of a range, also of days without any, and their sum. A cart
    /// counts on the day on which it was created.
    ///
    /// # Errors
    /// As [`Self::sales`].
    pub async fn funnel(&self, range: &DayRange) -> Result<DailyReport<Funnel>> {
        self.who.require(Permission::AnalyticsRead)?;
        range.check()?;
        let mut db = self.cx.storage.connect().await?;
        let state = db.analytics().state().await?;
        let mut found: BTreeMap<NaiveDate, Funnel> = db.analytics().traffic(range).await?.into_iter().collect();
        for (day, sales) in db.analytics().sales(range).await? {
            let of = found.entry(day).or_default();
            (of.checkouts, of.orders) = (sales.checkouts, sales.orders);
        }
        let total = found.values().fold(Funnel::default(), |sum, of| sum.plus(of));
        Ok(report(range, &state, &found, Funnel::default(), total))
    }

    /// Returns a page of the products that were sold or canceled on the days of a range, the best ones first, and, with
    /// [`Paging::Offset`], how many there are, counted up to [`total_bound`](crate::config::ShopConfig::total_bound).
    /// Products are sorted by what is left after cancellations.
    ///
    /// # Errors
    /// `Validation` for a range out of the bounds of [`DayRange::check`], for the limit of the page and for a cursor of
    /// another list, `Unavailable`.
    pub async fn top_products(
        &self,
        range: &DayRange,
        sort: ProductSalesSort,
        paging: &Paging,
    ) -> Result<(Page<ProductSales>, Option<Total>)> {
        self.who.require(Permission::AnalyticsRead)?;
        range.check()?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        db.analytics().top_products(range, sort, paging, self.cx.config.total_bound).await
    }

    /// Returns a page of the SKUs that are low in stock now, those with the fewest available pieces first, and their
    /// number as [`Self::top_products`] does. They are the SKUs of active products that track their stock, of which at
    /// most the low-stock threshold is available. A call reads the stock of all SKUs.
    ///
    /// # Errors
    /// `Validation` for the limit of the page and for a cursor of another list, `Unavailable`.
    pub async fn low_stock(&self, paging: &Paging) -> Result<(Page<LowStockSku>, Option<Total>)> {
        self.who.require(Permission::AnalyticsRead)?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.analytics().low_stock(paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.analytics().count_low_stock(self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Counts a view of a product that the principal may read. It needs no permission. The product is read from the
    /// cache or the database, and nothing is written before the next interval.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn note_view(&self, product: ProductId) -> Result<()> {
        ProductService::new(self.cx, self.who).get(product).await?;
        let day = self.cx.config.time_zone.day_of(self.cx.now());
        self.cx.views.note(ProductViews { day, product_id: product, views: 1 });
        Ok(())
    }

    /// Adds the views that this process has counted to the database at once. An application that does not run the
    /// background work calls it from time to time.
    ///
    /// # Errors
    /// `Unavailable`, and the views are kept, unless it is unknown whether they were written.
    pub async fn flush(&self) -> Result<()> {
        self.who.require(Permission::AnalyticsRead)?;
        self.cx.views.flush(self.cx).await
    }

    /// Enqueues a job that computes the figures of sales of all days anew, as [`Self::rebuild`] does. Its counter
    /// `days` is the number of days, and `recorded` that of orders whose cancellations an earlier release had not
    /// recorded. If such a job is queued already, it is returned, and no other one is made. The permission is
    /// `jobs:write`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn enqueue_rebuild(&self) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.enqueue_rebuild_in(&mut tx).await?, tx)) }).await
    }

    /// [`Self::enqueue_rebuild`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::enqueue_rebuild`].
    pub async fn enqueue_rebuild_in(&self, tx: &mut Tx<'_>) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        let job = NewJob::new(JobKind::ANALYTICS_REBUILD).unique_key(REBUILD_KEY);
        JobService::new(self.cx, self.who).insert(tx, &job).await
    }

    /// Computes the figures of sales of all days anew from the orders, and returns the number of days. Reports show the
    /// old figures of a day until its new ones are stored. The background work can go on meanwhile: both end with the
    /// same figures. A call that is interrupted does no harm. The permission is `jobs:write`.
    ///
    /// # Errors
    /// `Unavailable`, `Contention`.
    pub async fn rebuild(&self) -> Result<u64> {
        self.rebuild_counted(&Progress::default()).await
    }

    async fn rebuild_counted(&self, progress: &Progress) -> Result<u64> {
        self.who.require(Permission::JobsWrite)?;
        self.record_cancellations(progress).await?;
        loop {
            let begun = self.cx.storage.connect().await?.analytics().state().await?;
            let zone = begun.zone()?;
            let (mut from, mut days) = (FIRST_DAY, 0);
            while let Some(day) = self.next_day(&zone, from).await? {
                recompute(self.cx, day).await?;
                progress.add("days", 1);
                days += 1;
                let Some(next) = day.succ_opt() else { break };
                from = next;
            }
            if self.finish(&begun).await? {
                let mut next = Some(FIRST_DAY);
                while let Some(from) = next {
                    next = roll_up(self.cx, from).await?;
                }
                return Ok(days);
            }
            tracing::info!("the time zone has changed during a rebuild of the figures of sales, which begins again");
        }
    }

    /// Returns the first day at `from` or later that has sales, or figures of sales.
    async fn next_day(&self, zone: &TimeZone, from: NaiveDate) -> Result<Option<NaiveDate>> {
        let mut db = self.cx.storage.connect().await?;
        let sale = db.analytics().next_sale(zone.start_of(from)).await?.map(|at| zone.day_of(at).max(from));
        let stored = db.analytics().next_day(from).await?;
        Ok(sale.into_iter().chain(stored).min())
    }

    /// Records the end of a rebuild, and discards the sums over its days. Returns false if the time zone has changed
    /// since it began.
    async fn finish(&self, begun: &AnalyticsState) -> Result<bool> {
        let finish = |mut tx: Tx<'static>| async move {
            let state = tx.analytics().lock().await?;
            if state.time_zone != begun.time_zone {
                return Ok((false, tx));
            }
            tx.analytics().update(&state.rebuilt(begun)).await?;
            tx.analytics().discard_rollups().await?;
            Ok((true, tx))
        };
        self.cx.write(finish).await
    }

    /// Records what was canceled of orders while a release wrote them that did not record it.
    async fn record_cancellations(&self, progress: &Progress) -> Result<()> {
        let mut after = None;
        loop {
            let mut db = self.cx.storage.connect().await?;
            let ids = db.orders().without_cancellations(after, RECORDED_AT_ONCE).await?;
            drop(db);
            let Some(last) = ids.last().copied() else { return Ok(()) };
            let of_ids = &ids;
            let record = |mut tx: Tx<'static>| async move {
                let records = tx.orders().lock(of_ids).await?;
                let mut missing = Vec::new();
                for record in &records {
                    let history = tx.orders().history(record.order.id).await?;
                    let known = tx.orders().cancellations(record.order.id).await?;
                    missing.extend(unrecorded(&record.order, &history, &known));
                }
                tx.orders().add_cancellations(&missing).await?;
                Ok(((), tx))
            };
            self.cx.write_at_length(record).await?;
            progress.add("recorded", ids.len() as u64);
            after = Some(last);
        }
    }
}

/// Returns what was canceled of an order and is not recorded, by its history. What an erasure has cleared from the
/// history counts as canceled by the last change that can have done so.
pub(crate) fn unrecorded(
    order: &Order,
    history: &[OrderChange],
    known: &[OrderCancellation],
) -> Vec<OrderCancellation> {
    let mut found: Vec<OrderCancellation> = Vec::new();
    for line in &order.lines {
        let of_line = || known.iter().filter(|of| of.line_id == line.id);
        let mut from: i64 = of_line().map(|of| of.units).sum();
        let mut seqs: BTreeSet<i64> = of_line().map(|of| of.seq).collect();
        let mut cancel = |units: i64, change: &OrderChange| {
            let units = units.min(line.canceled - from);
            if let Some(of) = OrderCancellation::of(line, from, units, change.seq, change.at)
                && seqs.insert(change.seq)
            {
                from += units;
                found.push(of);
            }
        };
        for change in history.iter().filter(|change| change.kind == ChangeKind::UnitsCanceled) {
            cancel(units_in(change, line.id), change);
        }
        let can_cancel =
            |change: &&OrderChange| matches!(change.kind, ChangeKind::UnitsCanceled | ChangeKind::Canceled);
        for change in history.iter().rev().filter(can_cancel) {
            cancel(line.canceled, change);
        }
    }
    found.sort_by_key(|of| (of.seq, of.line_id));
    found
}

/// Returns how many units of a line a change has canceled, by the data of the history. It can name a line more than
/// once.
fn units_in(change: &OrderChange, line: OrderLineId) -> i64 {
    let lines = change.data.get("lines").and_then(Value::as_array).into_iter().flatten();
    let units = lines.filter_map(|of| {
        let id: OrderLineId = of.get("line_id").and_then(Value::as_str)?.parse().ok()?;
        if id == line { of.get("quantity").and_then(Value::as_i64) } else { None }
    });
    units.sum()
}

/// Returns a report with all days of a range.
fn report<T: Copy>(
    range: &DayRange,
    state: &AnalyticsState,
    found: &BTreeMap<NaiveDate, T>,
    none: T,
    total: T,
) -> DailyReport<T> {
    DailyReport {
        range: *range,
        time_zone: state.time_zone.clone(),
        is_complete: state.is_complete(),
        days: range.days().map(|day| (day, found.get(&day).copied().unwrap_or(none))).collect(),
        total,
    }
}

/// Computes the figures of days from the orders, as they are now.
pub(crate) async fn compute(
    db: &mut dyn Repositories,
    zone: &TimeZone,
    days: &BTreeSet<NaiveDate>,
) -> Result<Vec<(NaiveDate, DayFigures)>> {
    let mut figures = Vec::with_capacity(days.len());
    for day in days {
        let until = day.succ_opt().map_or_else(|| zone.start_of(*day), |next| zone.start_of(next));
        figures.push((*day, compute_in_parts(db, zone.start_of(*day), until).await?));
    }
    Ok(figures)
}

/// Computes the figures of the time from `from` until before `until` in parts. A statement over a day with very many
/// orders would exceed the time limit of statements at each try, and no later event would count.
async fn compute_in_parts(db: &mut dyn Repositories, from: Timestamp, until: Timestamp) -> Result<DayFigures> {
    let (mut at, mut length) = (from, FIRST_PART);
    let mut before: Option<DayFigures> = None;
    loop {
        let end = (at + length).min(until);
        let begun = Instant::now();
        let part = db.analytics().compute(at, end).await?;
        let took = begun.elapsed();
        let sum = match before.take() {
            None => Some(part),
            Some(before) => before.checked_add(part),
        };
        let sum = sum.ok_or(Error::Internal { context: "adding up the figures of a day", source: None })?;
        if end >= until {
            return Ok(sum);
        }
        if took < QUICK {
            length *= 2;
        } else if took > SLOW {
            length = (length / 2).max(SHORTEST_PART);
        }
        (at, before) = (end, Some(sum));
    }
}

/// Computes and replaces the figures of sales of a day.
async fn recompute(cx: &Arc<Context>, day: NaiveDate) -> Result<()> {
    let days = BTreeSet::from([day]);
    for _ in 0..TRIES {
        let mut db = cx.storage.connect().await?;
        let state = db.analytics().state().await?;
        let figures = compute(&mut *db, &state.zone()?, &days).await?;
        drop(db);
        let (figures, version) = (&figures, state.version);
        let replace = |mut tx: Tx<'static>| async move {
            let is_ours = tx.analytics().claim(version).await?;
            if is_ours {
                for (day, figures) in figures {
                    tx.analytics().replace(*day, figures).await?;
                }
            }
            Ok((is_ours, tx))
        };
        if cx.write_at_length(replace).await? {
            return Ok(());
        }
    }
    Err(Error::Contention { source: None })
}

/// Adds up the figures of some spans of days from `from` on that are over, in one transaction. Returns the day from
/// which to look on, or `None` if no span has to be rolled up.
pub(crate) async fn roll_up(cx: &Arc<Context>, from: NaiveDate) -> Result<Option<NaiveDate>> {
    let roll_up = |mut tx: Tx<'static>| async move {
        // Transactions that replace figures write the state, and wait for this one.
        let state = tx.analytics().lock().await?;
        let today = state.zone()?.day_of(cx.now());
        let next = tx.analytics().roll_up(from, today).await?;
        Ok((next, tx))
    };
    cx.write_at_length(roll_up).await
}

/// Requires a rebuild of the figures for a time zone, and enqueues its job. If there are no orders, no rebuild is
/// necessary.
pub(crate) async fn require_rebuild(cx: &Arc<Context>, zone: &TimeZone) -> Result<()> {
    let mut db = cx.storage.connect().await?;
    let first = db.analytics().next_sale(Timestamp::UNIX_EPOCH).await?;
    let stored = db.analytics().next_day(FIRST_DAY).await?;
    drop(db);
    let is_empty = first.is_none() && stored.is_none();
    let service = &AnalyticsService::new(cx, Principal::system());
    let require = |mut tx: Tx<'static>| async move {
        let state = tx.analytics().lock().await?.rebuild_required(zone);
        // An order that is placed meanwhile has an event that the background work has not seen.
        let after = if is_empty { state.rebuilt(&state) } else { state };
        tx.analytics().update(&after).await?;
        if !is_empty {
            service.enqueue_rebuild_in(&mut tx).await?;
        }
        Ok(((), tx))
    };
    cx.write(require).await
}

/// Checks, when a process begins with the background work, that the figures have the days of the time zone of its
/// settings, and that they are complete.
pub(crate) async fn prepare(cx: &Arc<Context>) -> Result<()> {
    let zone = &cx.config.time_zone;
    let state = cx.storage.connect().await?.analytics().state().await?;
    if state.is_complete() && state.time_zone == zone.name() {
        return Ok(());
    }
    let is_under_way = |mut tx: Tx<'static>| async move {
        // A rebuild that ends updates the state, which is locked here, before its job ends.
        let state = tx.analytics().lock().await?;
        let jobs = tx.jobs().tally(Some(&JobKind::ANALYTICS_REBUILD)).await?;
        let is_active = |job: &JobState| matches!(job, JobState::Queued | JobState::Running);
        let has_job = jobs.iter().any(|(_, job, number)| is_active(job) && *number > 0);
        Ok((state.time_zone == zone.name() && (state.is_complete() || has_job), tx))
    };
    if cx.write(is_under_way).await? {
        return Ok(());
    }
    require_rebuild(cx, zone).await
}

/// Returns the times at which orders count: those of their placing, and of their cancellations.
pub(crate) async fn days_of(
    db: &mut dyn Repositories,
    zone: &TimeZone,
    orders: &[OrderId],
) -> Result<BTreeSet<NaiveDate>> {
    if orders.is_empty() {
        return Ok(BTreeSet::new());
    }
    Ok(db.analytics().times(orders).await?.into_iter().map(|at| zone.day_of(at)).collect())
}

/// Returns the queue of rebuilds.
pub(crate) fn queue() -> JobQueue {
    JobQueue::of_shop(JobKind::ANALYTICS_REBUILD, Handler::Plain(Arc::new(Rebuild)), Runner::Worker)
}

/// Rebuilds the figures of sales.
#[derive(Debug)]
struct Rebuild;

#[async_trait]
impl JobHandler for Rebuild {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        AnalyticsService::new(&run.cx, Principal::system()).rebuild_counted(&run.progress).await?;
        Ok(())
    }
}
