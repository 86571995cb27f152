//! The shop's writes inside the host's own transaction, beside the host's own tables: both happen or neither.
//! `cargo run --example transaction --features postgres,mysql -- sqlite://shop.db`, or `postgres://…`, or `mysql://…`.

use ecom::adapters::SqlRepositories;
use ecom::catalog::ProductInput;
use ecom::common::Actor;
use ecom::port::Repositories;
use ecom::{AfterCommit, Shop, ShopBuilder};
use serde_json::{from_value, json};
use sqlx::Connection as _;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("say the URL of a database")?;
    let shop = ShopBuilder::new().database(&url).search("tantivy::memory:").build().await?;
    let currency = shop.config().currency;
    // A table of the host's own; its migrations live in a table of their own too.
    let table = "CREATE TABLE IF NOT EXISTS supplier_notes (product_slug VARCHAR(100), note VARCHAR(100))";

    let after = match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "sqlite" => {
            let mut host = sqlx::SqliteConnection::connect(&url).await?;
            sqlx::query(table).execute(&mut host).await?;
            // Takes the lock of the one writer at once.
            let mut tx = host.begin_with("BEGIN IMMEDIATE").await?;
            let (slug, after) = write(&shop, &mut SqlRepositories::on_sqlite(&mut tx, currency)).await?;
            sqlx::query("INSERT INTO supplier_notes VALUES (?, 'first harvest')").bind(slug).execute(&mut *tx).await?;
            tx.commit().await?;
            after
        }
        #[cfg(feature = "postgres")]
        "postgres" => {
            let mut host = sqlx::PgConnection::connect(&url).await?;
            sqlx::query(table).execute(&mut host).await?;
            // As the shop's own, whatever the database defaults to.
            let mut tx = host.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
            let (slug, after) = write(&shop, &mut SqlRepositories::on_postgres(&mut tx, currency)).await?;
            sqlx::query("INSERT INTO supplier_notes VALUES ($1, 'first harvest')").bind(slug).execute(&mut *tx).await?;
            tx.commit().await?;
            after
        }
        #[cfg(feature = "mysql")]
        "mysql" => {
            let mut host = sqlx::MySqlConnection::connect(&url).await?;
            sqlx::query(table).execute(&mut host).await?;
            // As the shop's own: a statement sees what has committed.
            sqlx::query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").execute(&mut host).await?;
            let mut tx = host.begin().await?;
            let (slug, after) = write(&shop, &mut SqlRepositories::on_mysql(&mut tx, currency)).await?;
            sqlx::query("INSERT INTO supplier_notes VALUES (?, 'first harvest')").bind(slug).execute(&mut *tx).await?;
            tx.commit().await?;
            after
        }
        _ => return Err("a database that is not built in".into()),
    };
    // Caches and the index learn of it now; forgotten, they learn of it from the outbox.
    after.run(&shop).await;
    Ok(())
}

/// Where another transaction was in the way this fails with `Error::Contention`: the host runs its own again.
async fn write(shop: &Shop, tx: &mut dyn Repositories) -> Result<(String, AfterCommit), Failure> {
    let input: ProductInput = from_value(json!({ "title": "Gyokuro", "price": "18.00", "stock": 12 }))?;
    let values = input.check(shop.config().currency)?;
    let (made, after) = shop.products().create_many_in(tx, vec![values], &Actor::new("host")).await?;
    let product = made.first().ok_or("nothing was made")?;
    println!("{} of {} is in", product.title, product.skus.len());
    Ok((product.slug.to_string(), after))
}
