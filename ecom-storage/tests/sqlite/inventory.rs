//! Stock, its movements, and the availability that depends on them.

use ecom_core::catalog::{AvailabilityStatus, ProductFilter};
use ecom_core::common::IncludeDeleted;
use ecom_core::paging::Paging;
use ecom_core::port::*;
use ecom_core::stock::StockConflict;
use ecom_core::stock::StockMovement;
use ecom_core::{Conflict, Error, ErrorCode};

use crate::support::{TestResult, file, movement, product, raw, write_products};

#[tokio::test]
async fn stock_moves_availability_and_revision_together() -> TestResult {
    let (_dir, s) = file().await;
    let p = product("Pen", &[], 100, 2);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let mut tx = s.begin().await?;
    let all: Vec<StockMovement> = p.skus.iter().map(|s| movement(s.id, -7)).collect();
    let touched = tx.inventory().apply(&all).await?;
    assert_eq!(touched, [TouchedProduct { product_id: p.id, revision: 2, availability_changed: true }]);
    tx.commit().await?;
    let filter = |a| ProductFilter { availability: Some(a), ..ProductFilter::default() };
    let mut c = s.connect().await?;
    assert_eq!(c.products().count(&filter(AvailabilityStatus::Limited), 10).await?.count, 1);
    assert_eq!(c.products().count(&filter(AvailabilityStatus::InStock), 10).await?.count, 0);
    let page = c.inventory().movements(p.skus[0].id, &Paging::first(1)).await?;
    assert_eq!(page.items, vec![all[0].clone()]);
    let page = c.inventory().movements(p.skus[0].id, &Paging::Keyset { after: page.next, limit: 1 }).await?;
    assert_eq!((page.items[0].delta, page.next), (10, None));
    assert_eq!(c.inventory().count_movements(p.skus[0].id).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_shortage_names_what_is_available_and_not_what_is_on_hand() -> TestResult {
    let (dir, s) = file().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    for (reserve, available) in [("UPDATE skus SET reserved = 4", 6), ("UPDATE skus SET reserved = 12", 0)] {
        raw(&dir, reserve).await?;
        let mut tx = s.begin().await?;
        let e = tx.inventory().apply(&[movement(p.skus[0].id, -11)]).await.unwrap_err();
        let Error::Conflict(c) = &e else { return Err(e.into()) };
        let Conflict::Stock(StockConflict::Insufficient { shortages }) = &**c else { return Err(e.into()) };
        assert_eq!((shortages[0].requested, shortages[0].available), (11, available));
        tx.rollback().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_number_or_word_that_this_release_does_not_know_is_an_error() -> TestResult {
    for sql in [
        "PRAGMA ignore_check_constraints = 1; UPDATE products SET rating_source = 7",
        "PRAGMA ignore_check_constraints = 1; UPDATE products SET status = 7, listing_state = 7",
        "UPDATE stock_movements SET reason = 'stolen'",
    ] {
        let (dir, s) = file().await;
        let p = product("Pen", &[], 100, 1);
        write_products(&s, std::slice::from_ref(&p)).await?;
        raw(&dir, sql).await?;
        let mut db = s.connect().await?;
        let e = if sql.contains("products") {
            db.products().get(p.id, IncludeDeleted::No).await.unwrap_err()
        } else {
            db.inventory().movements(p.skus[0].id, &Paging::first(1)).await.unwrap_err()
        };
        assert_eq!(e.code(), ErrorCode::Internal, "{sql}");
        let source = std::error::Error::source(&e).ok_or("a source")?.to_string();
        assert!(source.contains("`7`") || source.contains("`stolen`"), "{source}");
    }
    Ok(())
}
