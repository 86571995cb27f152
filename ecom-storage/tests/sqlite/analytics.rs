//! The rollups of the figures of products: what reads them, and processes that do not know them.

use chrono::{Days, NaiveDate};
use ecom_core::id::{IdSource as _, ProductId};
use ecom_core::money::{Currency, Money};
use ecom_core::paging::Paging;
use ecom_core::platform::{DayFigures, DayRange, DaySales, ProductDay, ProductSalesSort};
use ecom_core::port::*;
use ecom_storage::SqlStorage;

use crate::support::{TestResult, file, ids, memory, product, raw, rows, write_products};

fn day(n: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, n).unwrap()
}

/// Rolls up all days before February 2026, and returns how many transactions have rolled up some.
async fn roll_up(s: &SqlStorage) -> ecom_core::Result<u32> {
    let today = NaiveDate::from_ymd_opt(2026, 2, 1).unwrap();
    let (mut transactions, mut next) = (0, NaiveDate::from_ymd_opt(1970, 1, 1));
    while let Some(from) = next {
        let mut tx = s.begin().await?;
        tx.analytics().lock().await?;
        next = tx.analytics().roll_up(from, today).await?;
        tx.commit().await?;
        transactions += u32::from(next.is_some());
    }
    Ok(transactions)
}

/// Returns the units of the only product from January 3 to 10.
async fn units(s: &SqlStorage) -> ecom_core::Result<i64> {
    let range = DayRange { from: day(3), to: day(10) };
    let paging = Paging::first(10);
    let (page, _) = s.connect().await?.analytics().top_products(&range, ProductSalesSort::Units, &paging, 10).await?;
    assert_eq!(page.items.len(), 1);
    Ok(page.items[0].units)
}

/// Stores that one unit of each product was sold on each of these days.
async fn sold(s: &SqlStorage, products: &[ProductId], days: impl Iterator<Item = NaiveDate>) -> ecom_core::Result<()> {
    let of_product = |product_id: &ProductId| ProductDay {
        product_id: *product_id,
        units: 1,
        revenue: Money::from_minor(100, Currency::USD),
        canceled_units: 0,
        canceled: Money::from_minor(0, Currency::USD),
    };
    let of_day = DayFigures {
        sales: DaySales { orders: 1, units: 1, ..DaySales::none(Currency::USD) },
        products: products.iter().map(of_product).collect(),
    };
    let mut tx = s.begin().await?;
    for day in days {
        tx.analytics().replace(day, &of_day).await?;
    }
    tx.commit().await
}

/// Stores that one unit of a pen was sold on each of 14 days.
async fn pens_sold(s: &SqlStorage) -> ecom_core::Result<()> {
    let pen = product("Pen", &[], 100, 1);
    write_products(s, std::slice::from_ref(&pen)).await?;
    sold(s, &[pen.id], (1..=14).map(day)).await
}

/// January 3 to 10 are two spans of four days. Rollups that somebody has changed by hand show what a report reads.
#[tokio::test]
async fn r46_a_report_reads_the_rollups_within_its_range() -> TestResult {
    let (dir, s) = file().await;
    pens_sold(&s).await?;
    assert_eq!((units(&s).await?, roll_up(&s).await?, units(&s).await?), (8, 1, 8));
    let spans = "SELECT CAST(days AS TEXT), CAST(COUNT(*) AS TEXT) FROM product_rollups GROUP BY days ORDER BY days";
    let of = |days: &str, number: &str| (days.to_owned(), number.to_owned());
    assert_eq!(rows(&dir, spans).await?, [of("4", "4"), of("16", "2"), of("64", "1")]);
    raw(&dir, "UPDATE product_rollups SET units = units + 1000 WHERE days = 4").await?;
    assert_eq!(units(&s).await?, 2_008);
    raw(&dir, "UPDATE product_days SET units = units + 5 WHERE day = '2026-01-05'").await?;
    assert_eq!(units(&s).await?, 2_008);
    let mut tx = s.begin().await?;
    tx.analytics().discard_rollups().await?;
    tx.commit().await?;
    assert_eq!((units(&s).await?, roll_up(&s).await?, units(&s).await?), (13, 1, 13));
    Ok(())
}

/// These are the statements of the release before, whose processes do not know the rollups and go on during a rolling
/// upgrade.
#[tokio::test]
async fn r46_figures_that_the_release_before_replaces_are_read_at_once() -> TestResult {
    const REPLACE: &str = "\
        DELETE FROM sales_days WHERE day = '2026-01-05' AND currency = 'USD'; \
        INSERT INTO sales_days (day, currency, orders, checkouts, units, subtotal, shipping, discount, tax_added, \
        tax_included, total, canceled_units, canceled_subtotal, canceled_discount, canceled_tax_added, \
        canceled_tax_included, canceled_total) \
        VALUES ('2026-01-05', 'USD', 1, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); \
        UPDATE product_days SET units = 10 WHERE day = '2026-01-05'";
    const REMOVE: &str = "\
        DELETE FROM sales_days WHERE day = '2026-01-09' AND currency = 'USD'; \
        DELETE FROM product_days WHERE day = '2026-01-09' AND currency = 'USD'";
    let (dir, s) = file().await;
    pens_sold(&s).await?;
    roll_up(&s).await?;
    for (replaced, expected) in [(REPLACE, 17), (REMOVE, 16)] {
        raw(&dir, replaced).await?;
        assert_eq!((units(&s).await?, roll_up(&s).await?, units(&s).await?), (expected, 1, expected));
    }
    let of_pen = "SELECT CAST(days AS TEXT), CAST(SUM(units) AS TEXT) FROM product_rollups GROUP BY days ORDER BY days";
    let of = |days: &str, units: &str| (days.to_owned(), units.to_owned());
    assert_eq!(rows(&dir, of_pen).await?, [of("4", "22"), of("16", "22"), of("64", "22")]);
    Ok(())
}

/// Each transaction rolls up 64 days with the same number of statements, however many days are left.
#[tokio::test]
async fn r46_the_cost_of_rolling_up_grows_with_the_number_of_days() -> TestResult {
    // The 320 longest spans before February 2026 since January 1, 1970 end with January 26.
    let all = |spans: u64| (64 * (320 - spans)..64 * 320).map(|n| NaiveDate::default() + Days::new(n));
    let mut costs = Vec::new();
    for spans in [4, 8, 24] {
        let s = memory().await;
        sold(&s, &[ProductId(ids().next())], all(spans)).await?;
        let before = s.statements();
        assert_eq!(u64::from(roll_up(&s).await?), spans);
        costs.push(s.statements() - before);
    }
    assert_eq!((costs[1] - costs[0]) * 4, costs[2] - costs[1], "{costs:?}");
    Ok(())
}

/// 400 products have 400 rows for each span, and a transaction writes no further span after 1,000 rows.
#[tokio::test]
async fn r46_rollups_of_many_products_are_made_in_several_transactions() -> TestResult {
    let s = memory().await;
    let products: Vec<ProductId> = (0..400).map(|_| ProductId(ids().next())).collect();
    sold(&s, &products, (1..=14).map(day)).await?;
    // Three spans of four days, another one with two of 16 days, and one of 64 days.
    assert_eq!(roll_up(&s).await?, 3);
    Ok(())
}
