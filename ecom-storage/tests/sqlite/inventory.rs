//! Stock, its movements and the availability that follows them.

use ecom_core::catalog::{AvailabilityStatus, ProductFilter};
use ecom_core::paging::Paging;
use ecom_core::port::*;
use ecom_core::stock::StockMovement;

use crate::support::{TestResult, file, movement, product, write_products};

#[tokio::test]
async fn stock_moves_availability_and_revision_together() -> TestResult {
    let (_dir, s) = file().await;
    let p = product("Pen", &[], 100, 2);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let mut tx = s.begin().await?;
    let all: Vec<StockMovement> = p.skus.iter().map(|s| movement(s.id, -7)).collect();
    let touched = tx.inventory().apply(&all).await?;
    assert_eq!(touched, [TouchedProduct { product_id: p.id, revision: 2 }]);
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
