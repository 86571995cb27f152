//! The rollups of the figures of products: what reads them, and processes that do not know them.

use chrono::NaiveDate;
use ecom_core::money::{Currency, Money};
use ecom_core::paging::Paging;
use ecom_core::platform::{DayFigures, DayRange, DaySales, ProductDay, ProductSalesSort};
use ecom_core::port::*;
use ecom_storage::SqlStorage;

use crate::support::{TestResult, file, product, raw, rows, write_products};

fn day(n: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, n).unwrap()
}

/// Rolls up all days before February, and returns the number of spans.
async fn roll_up(s: &SqlStorage) -> ecom_core::Result<usize> {
    let mut spans = 0;
    loop {
        let mut tx = s.begin().await?;
        tx.analytics().lock().await?;
        let has_rolled_up = tx.analytics().roll_up(NaiveDate::from_ymd_opt(2026, 2, 1).unwrap()).await?;
        tx.commit().await?;
        if !has_rolled_up {
            return Ok(spans);
        }
        spans += 1;
    }
}

/// Returns the units of the only product from January 3 to 10.
async fn units(s: &SqlStorage) -> ecom_core::Result<i64> {
    let range = DayRange { from: day(3), to: day(10) };
    let paging = Paging::first(10);
    let page = s.connect().await?.analytics().top_products(&range, ProductSalesSort::Units, &paging).await?;
    assert_eq!(page.items.len(), 1);
    Ok(page.items[0].units)
}

/// A product of which one unit was sold on each of these days.
async fn sold(s: &SqlStorage) -> TestResult {
    let pen = product("Pen", &[], 100, 1);
    write_products(s, std::slice::from_ref(&pen)).await?;
    let of_day = DayFigures {
        sales: DaySales { orders: 1, units: 1, ..DaySales::none(Currency::USD) },
        products: vec![ProductDay {
            product_id: pen.id,
            units: 1,
            revenue: Money::from_minor(100, Currency::USD),
            canceled_units: 0,
            canceled: Money::from_minor(0, Currency::USD),
        }],
    };
    let mut tx = s.begin().await?;
    for n in 1..=14 {
        tx.analytics().replace(day(n), &of_day).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// January 3 to 10 are two spans of four days. Rollups that somebody has changed by hand show what a report reads.
#[tokio::test]
async fn r46_a_report_reads_the_rollups_within_its_range() -> TestResult {
    let (dir, s) = file().await;
    sold(&s).await?;
    assert_eq!((units(&s).await?, roll_up(&s).await?, units(&s).await?), (8, 4 + 2 + 1, 8));
    raw(&dir, "UPDATE product_rollups SET units = units + 1000 WHERE days = 4").await?;
    assert_eq!(units(&s).await?, 2_008);
    raw(&dir, "UPDATE product_days SET units = units + 5 WHERE day = '2026-01-05'").await?;
    assert_eq!(units(&s).await?, 2_008);
    let mut tx = s.begin().await?;
    tx.analytics().discard_rollups().await?;
    tx.commit().await?;
    assert_eq!((units(&s).await?, roll_up(&s).await?, units(&s).await?), (13, 4 + 2 + 1, 13));
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
    sold(&s).await?;
    roll_up(&s).await?;
    for (replaced, expected) in [(REPLACE, 17), (REMOVE, 16)] {
        raw(&dir, replaced).await?;
        // The span of four days, that of 16 and that of 64.
        assert_eq!((units(&s).await?, roll_up(&s).await?, units(&s).await?), (expected, 3, expected));
    }
    let of_pen = "SELECT CAST(days AS TEXT), CAST(SUM(units) AS TEXT) FROM product_rollups GROUP BY days ORDER BY days";
    let of = |days: &str, units: &str| (days.to_owned(), units.to_owned());
    assert_eq!(rows(&dir, of_pen).await?, [of("4", "22"), of("16", "22"), of("64", "22")]);
    Ok(())
}
