//! Analytics: the figures of sales by day, which are computed from orders, and what is counted.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::NaiveDate;
use ecom_core::catalog::ProductStatus;
use ecom_core::clock::Timestamp;
use ecom_core::id::{OrderId, ProductId, SkuId};
use ecom_core::money::{Currency, Money};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::platform::{
    AnalyticsState, CreatedCarts, DayFigures, DayRange, DaySales, Funnel, LowStockSku, ProductDay, ProductSales,
    ProductSalesSort, ProductViews,
};
use ecom_core::port::AnalyticsRepository;
use ecom_core::sales::{LineKind, Totals};
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{Builder, MAX_LIST, bad_cursor, count, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, read_totals};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};
use crate::sql::platform::rollup::{self, Cover, LENGTHS, RolledUp, Span};

/// The sales of a day, as a row.
struct SalesRow {
    day: NaiveDate,
    sales: DaySales,
}

/// The sales of a product on a day, as a row.
struct ProductRow {
    day: NaiveDate,
    of: ProductDay,
}

/// The columns of the sales of days.
static SALES: Table<SalesRow> = Table {
    name: "sales_days",
    entity: Entity::Order,
    columns: &[
        Column::fixed("day", |r| r.day.into()),
        Column::fixed("currency", |r| r.sales.placed.total.currency().code().into()),
        Column::fixed("orders", |r| number(r.sales.orders)),
        Column::fixed("checkouts", |r| number(r.sales.checkouts)),
        Column::fixed("units", |r| r.sales.units.into()),
        Column::Totals(|r| &r.sales.placed),
        Column::fixed("canceled_units", |r| r.sales.canceled_units.into()),
        Column::fixed("canceled_subtotal", |r| r.sales.canceled.subtotal.minor().into()),
        Column::fixed("canceled_discount", |r| r.sales.canceled.discount.minor().into()),
        Column::fixed("canceled_tax_added", |r| r.sales.canceled.tax_added.minor().into()),
        Column::fixed("canceled_tax_included", |r| r.sales.canceled.tax_included.minor().into()),
        Column::fixed("canceled_total", |r| r.sales.canceled.total.minor().into()),
    ],
    unique: &[],
    parent: None,
};

/// The columns of the sales of products on days.
static PRODUCTS: Table<ProductRow> = Table {
    name: "product_days",
    entity: Entity::Product,
    columns: &[
        Column::fixed("day", |r| r.day.into()),
        Column::fixed("currency", |r| r.of.revenue.currency().code().into()),
        Column::fixed("product_id", |r| r.of.product_id.into()),
        Column::fixed("units", |r| r.of.units.into()),
        Column::fixed("revenue", |r| r.of.revenue.minor().into()),
        Column::fixed("canceled_units", |r| r.of.canceled_units.into()),
        Column::fixed("canceled", |r| r.of.canceled.minor().into()),
    ],
    unique: &[],
    parent: None,
};

static STATE: Sql = Sql::new("SELECT time_zone, version, requested, built FROM analytics_state WHERE id = 1");
static UPDATE: Sql =
    Sql::new("UPDATE analytics_state SET time_zone = $1, version = $2, requested = $3, built = $4 WHERE id = 1");
static CLAIM: Sql = Sql::new("UPDATE analytics_state SET version = version + 1 WHERE id = 1 AND version = $1");
static NEXT_SALE: Sql = Sql::new(
    "SELECT (SELECT MIN(placed_at) FROM orders WHERE placed_at >= $1), \
     (SELECT MIN(at) FROM order_cancellations WHERE at >= $1)",
);
static NEXT_DAY: Sql = Sql::new("SELECT day FROM sales_days WHERE day >= $1 ORDER BY day LIMIT 1");
// One currency per database, so that no sum mixes currencies (R40).
static ORDERS_OF: Sql = Sql::new(
    "SELECT COUNT(*), COUNT(cart_id), CAST(coalesce(SUM(subtotal), 0) AS {bigint}), \
     CAST(coalesce(SUM(shipping), 0) AS {bigint}), CAST(coalesce(SUM(discount), 0) AS {bigint}), \
     CAST(coalesce(SUM(tax_added), 0) AS {bigint}), CAST(coalesce(SUM(tax_included), 0) AS {bigint}), \
     CAST(coalesce(SUM(total), 0) AS {bigint}) FROM orders WHERE placed_at >= $1 AND placed_at < $2",
);
static LINES_OF: Sql = Sql::new(
    "SELECT product_id, kind, CAST(SUM(quantity) AS {bigint}), CAST(SUM(total) AS {bigint}) FROM order_lines \
     WHERE placed_at >= $1 AND placed_at < $2 AND quantity > 0 GROUP BY product_id, kind",
);
static CANCELED_OF: Sql = Sql::new(
    "SELECT product_id, kind, CAST(SUM(units) AS {bigint}), CAST(SUM(subtotal) AS {bigint}), \
     CAST(SUM(discount) AS {bigint}), CAST(SUM(tax_added) AS {bigint}), CAST(SUM(tax_included) AS {bigint}), \
     CAST(SUM(total) AS {bigint}) FROM order_cancellations WHERE at >= $1 AND at < $2 GROUP BY product_id, kind",
);
static DELETE_SALES: Sql = Sql::new("DELETE FROM sales_days WHERE day = $1 AND currency = $2");
static PRODUCTS_OF: Sql =
    Sql::of(&PRODUCTS, "SELECT {*} FROM product_days WHERE day = $1 AND currency = $2 ORDER BY product_id");
static DELETE_PRODUCTS: Sql = Sql::new("DELETE FROM product_days WHERE ");
static ADD_TRAFFIC: Sql = Sql::new("INSERT INTO traffic_days (day, views, carts) VALUES ");
static ADD_VIEWS: Sql = Sql::new("INSERT INTO product_views (product_id, day, views) VALUES ");
static SALES_OF: Sql =
    Sql::of(&SALES, "SELECT {*} FROM sales_days WHERE day >= $1 AND day <= $2 AND currency = $3 ORDER BY day");
static ROLLED_UP: Sql = Sql::new(
    "SELECT day, rolled_up_4, rolled_up_16, rolled_up_64 FROM sales_days \
     WHERE day >= $1 AND day <= $2 AND currency = $3 ORDER BY day",
);
static DISCARD_ROLLUPS: Sql =
    Sql::new("UPDATE sales_days SET rolled_up_4 = 0, rolled_up_16 = 0, rolled_up_64 = 0 WHERE currency = $1");
static TRAFFIC_OF: Sql =
    Sql::new("SELECT day, views, carts FROM traffic_days WHERE day >= $1 AND day <= $2 ORDER BY day");
static LOW_STOCK: Sql =
    Sql::new("SELECT s.id, s.code, s.product_id, p.title, s.on_hand, s.reserved, s.low_stock_threshold");

/// The maximum number of rows that one statement adds counts to.
const AT_ONCE: usize = 128;
/// After how many rows of rollups a transaction leaves further spans to the next one.
const ROLLED_UP_AT_ONCE: u64 = 1_000;

/// The analytics of a SQL database.
pub type SqlAnalytics<'c> = SqlRepository<'c, dyn AnalyticsRepository>;

/// Returns a count as a column has it.
fn number(n: u64) -> Value<'static> {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

fn read_state(r: &Row) -> Result<AnalyticsState> {
    Ok(AnalyticsState { time_zone: r.string(0)?, version: r.i64(1)?, requested: r.i64(2)?, built: r.i64(3)? })
}

fn read_sales(r: &Row, currency: Currency) -> Result<(NaiveDate, DaySales)> {
    let money = |column: usize| Ok::<_, Error>(Money::from_minor(r.i64(column)?, currency));
    let sales = DaySales {
        orders: r.count(const { SALES.at("orders") })?,
        checkouts: r.count(const { SALES.at("checkouts") })?,
        units: r.i64(const { SALES.at("units") })?,
        placed: read_totals(r, const { SALES.at("subtotal") }, currency)?,
        canceled_units: r.i64(const { SALES.at("canceled_units") })?,
        canceled: Totals {
            subtotal: money(const { SALES.at("canceled_subtotal") })?,
            shipping: Money::from_minor(0, currency),
            discount: money(const { SALES.at("canceled_discount") })?,
            tax_added: money(const { SALES.at("canceled_tax_added") })?,
            tax_included: money(const { SALES.at("canceled_tax_included") })?,
            total: money(const { SALES.at("canceled_total") })?,
        },
    };
    Ok((r.date(const { SALES.at("day") })?, sales))
}

fn read_product(r: &Row, currency: Currency) -> Result<ProductDay> {
    Ok(ProductDay {
        product_id: ProductId(r.uuid(const { PRODUCTS.at("product_id") })?),
        units: r.i64(const { PRODUCTS.at("units") })?,
        revenue: Money::from_minor(r.i64(const { PRODUCTS.at("revenue") })?, currency),
        canceled_units: r.i64(const { PRODUCTS.at("canceled_units") })?,
        canceled: Money::from_minor(r.i64(const { PRODUCTS.at("canceled") })?, currency),
    })
}

/// Returns the units that count: a fee has none.
fn units_of(kind: LineKind, units: i64) -> i64 {
    if kind == LineKind::Fee { 0 } else { units }
}

/// Returns a sum, or an error if it does not fit into 64 bits.
fn sum(a: i64, b: i64) -> Result<i64> {
    a.checked_add(b).ok_or(Error::Internal { context: "adding up the figures of a day", source: None })
}

/// Adds the amounts of a row, whose columns begin at `first`.
fn add_amounts(to: &mut [i64; 5], r: &Row, first: usize) -> Result<()> {
    for (i, amount) in to.iter_mut().enumerate() {
        *amount = sum(*amount, r.i64(first + i)?)?;
    }
    Ok(())
}

/// Returns the name of the sum by which a list sorts.
const fn sorted_by(sort: ProductSalesSort) -> &'static str {
    match sort {
        ProductSalesSort::Revenue => "net_revenue",
        ProductSalesSort::Units => "net_units",
    }
}

/// Returns that sum as SQL.
const fn net(sort: ProductSalesSort) -> &'static str {
    match sort {
        ProductSalesSort::Revenue => "SUM(revenue) - SUM(canceled)",
        ProductSalesSort::Units => "SUM(units) - SUM(canceled_units)",
    }
}

/// Adds ` FROM (…)` with the rows of products that a report reads. There must be at least one day with sales.
fn from_cover(b: &mut Builder<'_>, columns: &str, cover: &Cover, currency: Currency) {
    let mut before = " FROM (SELECT ";
    for (length, first_days) in LENGTHS.iter().zip(&cover.rollups).filter(|(_, days)| !days.is_empty()) {
        b.push(before).push(columns).push(" FROM product_rollups WHERE days = ").push(&length.to_string());
        b.push(" AND currency = ").bind(currency.code()).push(" AND first_day IN ").list(first_days);
        before = " UNION ALL SELECT ";
    }
    if !cover.days.is_empty() {
        b.push(before).push(columns).push(" FROM product_days WHERE currency = ").bind(currency.code());
        b.push(" AND day IN ").list(&cover.days);
    }
    b.push(") figures");
}

/// Adds the SKUs that are low in stock.
fn low(b: &mut Builder<'_>) {
    b.push(
        " FROM skus s JOIN products p ON p.id = s.product_id WHERE s.deleted_at IS NULL AND p.deleted_at IS NULL \
         AND s.track_stock = 1 AND s.on_hand - s.reserved <= s.low_stock_threshold AND p.status = ",
    );
    b.bind(ProductStatus::Active);
}

impl SqlAnalytics<'_> {
    /// Replaces the rows of the products of a day that differ, and returns whether there are any.
    async fn replace_products(&mut self, day: NaiveDate, products: &[ProductDay]) -> Result<bool> {
        let currency = self.0.currency()?;
        let rows = self.0.fetch_all(&PRODUCTS_OF, vec![day.into(), currency.code().into()]).await?;
        let old = rows.iter().map(|r| read_product(r, currency)).collect::<Result<Vec<_>>>()?;
        let new: BTreeMap<ProductId, &ProductDay> = products.iter().map(|p| (p.product_id, p)).collect();
        let same: BTreeMap<ProductId, &ProductDay> =
            old.iter().filter(|p| new.get(&p.product_id) == Some(p)).map(|p| (p.product_id, p)).collect();
        let gone: Vec<ProductId> =
            old.iter().map(|p| p.product_id).filter(|product| !same.contains_key(product)).collect();
        for ids in gone.chunks(MAX_LIST) {
            let mut b = Builder::on(&DELETE_PRODUCTS, self.0.dialect());
            b.push("day = ").bind(day).push(" AND currency = ").bind(currency.code());
            b.push(" AND product_id IN ").list(ids);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        let changed: Vec<ProductRow> = products
            .iter()
            .filter(|p| !same.contains_key(&p.product_id))
            .map(|of| ProductRow { day, of: *of })
            .collect();
        PRODUCTS.insert(&mut self.0, &changed).await?;
        Ok(!gone.is_empty() || !changed.is_empty())
    }

    /// Returns the days with sales of a range, in order, and which rollups have their figures.
    async fn rolled_up(&mut self, range: &DayRange) -> Result<Vec<RolledUp>> {
        let currency = self.0.currency()?;
        let args = vec![range.from.into(), range.to.into(), currency.code().into()];
        let read = |r: &Row| Ok(RolledUp { day: r.date(0)?, counts: [r.i64(1)?, r.i64(2)?, r.i64(3)?] });
        self.0.fetch_all(&ROLLED_UP, args).await?.iter().map(read).collect()
    }

    /// Returns what a report over a range reads; `None` if no day of the range has sales. If figures change before the
    /// report reads them, its rollups have the sums from before the change, because a rollup is only replaced as a
    /// whole.
    async fn cover(&mut self, range: &DayRange) -> Result<Option<Cover>> {
        let days = self.rolled_up(range).await?;
        Ok((!days.is_empty()).then(|| rollup::cover(range, &days)))
    }

    /// Counts the products that a report reads.
    async fn count_products(&mut self, cover: &Cover, bound: u64) -> Result<Total> {
        let currency = self.0.currency()?;
        count(&mut self.0, bound, |b| {
            from_cover(b, "product_id", cover, currency);
            b.push(" GROUP BY product_id");
        })
        .await
    }

    /// Replaces the rollups of these spans, in their order, as far as a short transaction may.
    async fn replace_rollups(&mut self, spans: &[Span]) -> Result<()> {
        let mut rows = 0;
        for span in spans {
            rows += self.replace_rollup(span).await?;
            if rows >= ROLLED_UP_AT_ONCE {
                break;
            }
        }
        Ok(())
    }

    /// Replaces the rollup of a span, whose parts have valid figures, and returns its number of rows. It reads at most
    /// four times as many.
    async fn replace_rollup(&mut self, span: &Span) -> Result<u64> {
        let (currency, dialect) = (self.0.currency()?.code(), self.0.dialect());
        let length = LENGTHS[span.level].to_string();
        let mut b = Builder::new("DELETE FROM product_rollups WHERE days = ");
        b.push(&length).push(" AND first_day = ").bind(span.first).push(" AND currency = ").bind(currency);
        let (text, args) = b.done();
        self.0.execute(text, args).await?;

        let mut b = Builder::new(
            "INSERT INTO product_rollups \
             (days, first_day, currency, product_id, units, revenue, canceled_units, canceled) SELECT ",
        );
        b.push(&length).push(", ").bind(span.first).push(&dialect.render(
            ", currency, product_id, CAST(SUM(units) AS {bigint}), CAST(SUM(revenue) AS {bigint}), \
             CAST(SUM(canceled_units) AS {bigint}), CAST(SUM(canceled) AS {bigint})",
        ));
        let from_parts = span.level.checked_sub(1).map_or_else(
            || " FROM product_days WHERE day IN ".to_owned(),
            |shorter| format!(" FROM product_rollups WHERE days = {} AND first_day IN ", LENGTHS[shorter]),
        );
        b.push(&from_parts).list(&span.parts);
        b.push(" AND currency = ").bind(currency).push(" GROUP BY currency, product_id");
        let (text, args) = b.done();
        let rows = self.0.execute(text, args).await?;

        let mut b = Builder::new("UPDATE sales_days SET rolled_up_");
        b.push(&length).push(" = ").bind(span.count).push(" WHERE day >= ").bind(span.first);
        b.push(" AND day <= ").bind(span.last).push(" AND currency = ").bind(currency);
        let (text, args) = b.done();
        self.0.execute(text, args).await?;
        Ok(rows)
    }

    /// Adds rows of counts to those that are stored: `row` pushes the values of one, and `existing` is the name of the
    /// fragment that adds them to a row that exists.
    async fn add<T: Sync>(
        &mut self,
        head: &'static Sql,
        existing: &str,
        rows: &[T],
        row: impl Fn(&mut Builder<'_>, &T) + Send,
    ) -> Result<()> {
        let dialect = self.0.dialect();
        let mut rest = rows;
        while !rest.is_empty() {
            // Powers of two, so that there are few different texts.
            let n = AT_ONCE.min(1 << rest.len().ilog2());
            let (now, later) = rest.split_at(n);
            rest = later;
            let mut b = Builder::on(head, dialect);
            for (i, of) in now.iter().enumerate() {
                b.push(if i == 0 { "(" } else { ",(" });
                row(&mut b, of);
                b.push(")");
            }
            b.push(&dialect.render(existing));
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(())
    }

    /// Adds to the views and carts of days.
    async fn add_traffic(&mut self, days: &BTreeMap<NaiveDate, (u64, u64)>) -> Result<()> {
        let days: Vec<_> = days.iter().map(|(day, counts)| (*day, *counts)).collect();
        self.add(&ADD_TRAFFIC, "{add_traffic}", &days, |b, (day, (views, carts))| {
            b.bind(*day).push(",").bind(number(*views)).push(",").bind(number(*carts));
        })
        .await
    }
}

#[async_trait]
impl AnalyticsRepository for SqlAnalytics<'_> {
    async fn state(&mut self) -> Result<AnalyticsState> {
        let row = self.0.fetch_optional(&STATE, Vec::new()).await?;
        let missing =
            Error::Internal { context: "reading the state of the figures, whose row is missing", source: None };
        row.as_ref().map(read_state).transpose()?.ok_or(missing)
    }

    async fn lock(&mut self) -> Result<AnalyticsState> {
        lock_rows(&mut self.0, "analytics_state", "id", &[1_i32]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.state().await
    }

    async fn update(&mut self, after: &AnalyticsState) -> Result<()> {
        let AnalyticsState { time_zone, version, requested, built } = after;
        let args = vec![Value::from(time_zone), (*version).into(), (*requested).into(), (*built).into()];
        self.0.execute(&UPDATE, args).await?;
        Ok(())
    }

    async fn claim(&mut self, version: i64) -> Result<bool> {
        Ok(self.0.execute(&CLAIM, vec![version.into()]).await? == 1)
    }

    async fn times(&mut self, orders: &[OrderId]) -> Result<Vec<Timestamp>> {
        let mut times = Vec::with_capacity(orders.len());
        for ids in orders.chunks(MAX_LIST) {
            for head in
                ["SELECT placed_at FROM orders WHERE id IN ", "SELECT at FROM order_cancellations WHERE order_id IN "]
            {
                let mut b = Builder::new(head);
                b.list(ids);
                let (text, args) = b.done();
                for row in self.0.fetch_all(text, args).await? {
                    times.push(row.time(0)?);
                }
            }
        }
        Ok(times)
    }

    async fn next_sale(&mut self, from: Timestamp) -> Result<Option<Timestamp>> {
        let Some(row) = self.0.fetch_optional(&NEXT_SALE, vec![from.into()]).await? else { return Ok(None) };
        Ok(row.opt_time(0)?.into_iter().chain(row.opt_time(1)?).min())
    }

    async fn next_day(&mut self, from: NaiveDate) -> Result<Option<NaiveDate>> {
        let row = self.0.fetch_optional(&NEXT_DAY, vec![from.into()]).await?;
        row.map(|r| r.date(0)).transpose()
    }

    async fn compute(&mut self, from: Timestamp, until: Timestamp) -> Result<DayFigures> {
        let currency = self.0.currency()?;
        let money = |minor| Money::from_minor(minor, currency);
        let mut sales = DaySales::none(currency);
        if let Some(r) = self.0.fetch_optional(&ORDERS_OF, vec![from.into(), until.into()]).await? {
            sales.orders = r.count(0)?;
            sales.checkouts = r.count(1)?;
            sales.placed = Totals {
                subtotal: money(r.i64(2)?),
                shipping: money(r.i64(3)?),
                discount: money(r.i64(4)?),
                tax_added: money(r.i64(5)?),
                tax_included: money(r.i64(6)?),
                total: money(r.i64(7)?),
            };
        }
        let mut products: BTreeMap<ProductId, ProductDay> = BTreeMap::new();
        let new =
            |product_id| ProductDay { product_id, units: 0, revenue: money(0), canceled_units: 0, canceled: money(0) };
        for r in self.0.fetch_all(&LINES_OF, vec![from.into(), until.into()]).await? {
            let (kind, units, total) = (r.stored(1)?, r.i64(2)?, r.i64(3)?);
            sales.units = sum(sales.units, units_of(kind, units))?;
            if let Some(id) = r.opt_uuid(0)?.map(ProductId) {
                let product = products.entry(id).or_insert_with(|| new(id));
                product.units = sum(product.units, units)?;
                product.revenue = money(sum(product.revenue.minor(), total)?);
            }
        }
        let mut canceled = [0; 5];
        for r in self.0.fetch_all(&CANCELED_OF, vec![from.into(), until.into()]).await? {
            let (kind, units, total) = (r.stored(1)?, r.i64(2)?, r.i64(7)?);
            sales.canceled_units = sum(sales.canceled_units, units_of(kind, units))?;
            add_amounts(&mut canceled, &r, 3)?;
            if let Some(id) = r.opt_uuid(0)?.map(ProductId) {
                let product = products.entry(id).or_insert_with(|| new(id));
                product.canceled_units = sum(product.canceled_units, units)?;
                product.canceled = money(sum(product.canceled.minor(), total)?);
            }
        }
        let [subtotal, discount, tax_added, tax_included, total] = canceled.map(money);
        sales.canceled = Totals { subtotal, shipping: money(0), discount, tax_added, tax_included, total };
        Ok(DayFigures { sales, products: products.into_values().collect() })
    }

    async fn replace(&mut self, day: NaiveDate, figures: &DayFigures) -> Result<()> {
        let currency = self.0.currency()?;
        let args = vec![day.into(), day.into(), currency.code().into()];
        let stored = self.0.fetch_optional(&SALES_OF, args).await?;
        let stored = stored.map(|r| read_sales(&r, currency)).transpose()?.map(|(_, sales)| sales);
        let has_sales = figures.sales != DaySales::none(currency) || !figures.products.is_empty();
        let sales = has_sales.then_some(figures.sales);
        let has_changed = self.replace_products(day, &figures.products).await?;
        if stored == sales && !has_changed {
            return Ok(());
        }
        // The new row says that no rollup has the figures of the day.
        self.0.execute(&DELETE_SALES, vec![day.into(), currency.code().into()]).await?;
        if let Some(sales) = sales {
            SALES.insert(&mut self.0, &[SalesRow { day, sales }]).await?;
        }
        Ok(())
    }

    async fn roll_up(&mut self, from: NaiveDate, today: NaiveDate) -> Result<Option<NaiveDate>> {
        let mut next = Some(from);
        while let Some(from) = next {
            let Some(first) = self.next_day(from).await?.filter(|day| *day < today) else { break };
            let stretch = rollup::stretch(first);
            let days = self.rolled_up(&DayRange { to: stretch.to.min(today), ..stretch }).await?;
            let outdated = rollup::outdated(&days, today);
            if let Some(span) = outdated.first() {
                self.replace_rollups(&outdated).await?;
                // The next call begins with the longest span that has just been rolled up, perhaps in part.
                return Ok(Some(rollup::stretch(span.first).from));
            }
            next = stretch.to.succ_opt();
        }
        Ok(None)
    }

    async fn discard_rollups(&mut self) -> Result<()> {
        let currency = self.0.currency()?;
        self.0.execute(&DISCARD_ROLLUPS, vec![currency.code().into()]).await?;
        Ok(())
    }

    async fn add_carts(&mut self, carts: &[CreatedCarts]) -> Result<()> {
        self.add_traffic(&carts.iter().map(|of| (of.day, (0, of.carts))).collect()).await
    }

    async fn add_views(&mut self, views: &[ProductViews]) -> Result<()> {
        // All transactions lock the rows in one order.
        let mut sorted = views.to_vec();
        sorted.sort_unstable_by_key(|of| (of.product_id, of.day));
        let mut days: BTreeMap<NaiveDate, (u64, u64)> = BTreeMap::new();
        for of in &sorted {
            let (views, _) = days.entry(of.day).or_default();
            *views = views.saturating_add(of.views);
        }
        self.add_traffic(&days).await?;
        self.add(&ADD_VIEWS, "{add_views}", &sorted, |b, of| {
            b.bind(of.product_id).push(",").bind(of.day).push(",").bind(number(of.views));
        })
        .await
    }

    async fn sales(&mut self, range: &DayRange) -> Result<Vec<(NaiveDate, DaySales)>> {
        let currency = self.0.currency()?;
        let args = vec![range.from.into(), range.to.into(), currency.code().into()];
        self.0.fetch_all(&SALES_OF, args).await?.iter().map(|r| read_sales(r, currency)).collect()
    }

    async fn traffic(&mut self, range: &DayRange) -> Result<Vec<(NaiveDate, Funnel)>> {
        let rows = self.0.fetch_all(&TRAFFIC_OF, vec![range.from.into(), range.to.into()]).await?;
        let read = |r: &Row| Ok((r.date(0)?, Funnel { views: r.count(1)?, carts: r.count(2)?, ..Funnel::default() }));
        rows.iter().map(read).collect()
    }

    async fn top_products(
        &mut self,
        range: &DayRange,
        sort: ProductSalesSort,
        paging: &Paging,
        bound: u64,
    ) -> Result<(Page<ProductSales>, Option<Total>)> {
        let after = match paging {
            Paging::Keyset { after: Some(k), .. } => {
                let SortKey::Int(n) = k.key else { return Err(bad_cursor()) };
                Some((n, k.id))
            }
            _ => None,
        };
        let is_counted = matches!(paging, Paging::Offset { .. });
        let Some(cover) = self.cover(range).await? else {
            let none = Total { count: 0, exact: true };
            return Ok((Page { items: Vec::new(), next: None }, is_counted.then_some(none)));
        };
        let (currency, dialect) = (self.0.currency()?, self.0.dialect());
        let mut b = Builder::new(dialect.render(
            "SELECT t.product_id, p.title, t.all_units, t.all_revenue, t.all_canceled_units, t.all_canceled, \
             (SELECT CAST(coalesce(SUM(v.views), 0) AS {bigint}) FROM product_views v \
             WHERE v.product_id = t.product_id AND v.day >= ",
        ));
        b.bind(range.from).push(" AND v.day <= ").bind(range.to).push(&dialect.render(
            ") FROM (SELECT product_id, CAST(SUM(units) AS {bigint}) AS all_units, \
             CAST(SUM(revenue) AS {bigint}) AS all_revenue, CAST(SUM(canceled_units) AS {bigint}) AS all_canceled_units, \
             CAST(SUM(canceled) AS {bigint}) AS all_canceled, \
             CAST(SUM(units) - SUM(canceled_units) AS {bigint}) AS net_units, \
             CAST(SUM(revenue) - SUM(canceled) AS {bigint}) AS net_revenue",
        ));
        from_cover(&mut b, "product_id, units, revenue, canceled_units, canceled", &cover, currency);
        b.push(" GROUP BY product_id");
        let (by, net) = (sorted_by(sort), net(sort));
        if let Some((n, id)) = after {
            b.push(" HAVING ").push(net).push(" < ").bind(n).push(" OR (").push(net).push(" = ").bind(n);
            b.push(" AND product_id > ").bind(id).push(")");
        }
        page(&mut b, &format!("{by} DESC, product_id"), paging);
        b.push(") t JOIN products p ON p.id = t.product_id ORDER BY t.").push(by).push(" DESC, t.product_id");
        let (text, args) = b.done();
        let read = |r: &Row| {
            Ok(ProductSales {
                product_id: ProductId(r.uuid(0)?),
                title: r.string(1)?,
                units: r.i64(2)?,
                revenue: Money::from_minor(r.i64(3)?, currency),
                canceled_units: r.i64(4)?,
                canceled: Money::from_minor(r.i64(5)?, currency),
                views: r.count(6)?,
            })
        };
        let products = self.0.fetch_all(text, args).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
        let page = Page::from_overfetch(products, paging.limit(), |p| Keyset {
            sort: sort.as_str().to_owned(),
            key: SortKey::Int(sort.figure(p)),
            id: p.product_id.0,
        });
        let total = if is_counted { Some(self.count_products(&cover, bound).await?) } else { None };
        Ok((page, total))
    }

    async fn low_stock(&mut self, paging: &Paging) -> Result<Page<LowStockSku>> {
        let mut b = Builder::on(&LOW_STOCK, self.0.dialect());
        low(&mut b);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            let SortKey::Int(n) = k.key else { return Err(bad_cursor()) };
            b.push(" AND (s.on_hand - s.reserved > ").bind(n).push(" OR (s.on_hand - s.reserved = ").bind(n);
            b.push(" AND s.id > ").bind(k.id).push("))");
        }
        page(&mut b, "s.on_hand - s.reserved, s.id", paging);
        let (text, args) = b.done();
        let read = |r: &Row| {
            Ok(LowStockSku {
                sku_id: SkuId(r.uuid(0)?),
                code: r.string(1)?,
                product_id: ProductId(r.uuid(2)?),
                title: r.string(3)?,
                on_hand: r.i64(4)?,
                reserved: r.i64(5)?,
                low_stock_threshold: r.i64(6)?,
            })
        };
        let skus = self.0.fetch_all(text, args).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(skus, paging.limit(), |sku| Keyset {
            sort: LOW_STOCK_SORT.to_owned(),
            key: SortKey::Int(sku.available()),
            id: sku.sku_id.0,
        }))
    }

    async fn count_low_stock(&mut self, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| low(b)).await
    }
}

/// The sort order of the list of SKUs that are low in stock, in its cursors.
const LOW_STOCK_SORT: &str = "available_asc";
