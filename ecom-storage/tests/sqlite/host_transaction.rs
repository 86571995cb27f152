//! Writes inside a transaction of the host application.

use ecom_core::common::Deleted;
use ecom_core::money::Currency;
use ecom_core::port::*;

use crate::support::{TestResult, file, product};

#[tokio::test]
async fn a_host_writes_inside_its_own_transaction() -> TestResult {
    use sqlx::Connection as _;
    let (dir, s) = file().await;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let mut c = sqlx::SqliteConnection::connect(&url).await?;
    let p = product("Pen", &[], 100, 0);
    for keep in [false, true] {
        let mut tx = c.begin_with("BEGIN IMMEDIATE").await?;
        let mut ours = ecom_storage::SqlRepositories::on_sqlite(&mut tx, Currency::USD);
        ours.products().insert(std::slice::from_ref(&p)).await?;
        if keep {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        assert_eq!(s.connect().await?.products().get(p.id, Deleted::Hide).await?.is_some(), keep);
    }
    Ok(())
}
