//! Writes of the shop and of the host in one transaction on the host's connection: both happen, or neither does. Run it
//! with `cargo run --example transaction --features postgres,mysql -- sqlite://shop.db`, or with `postgres://…` or
//! `mysql://…`.

use ecom::catalog::ProductInput;
use ecom::{Shop, ShopBuilder, Tx, adapters};
use sqlx::{Connection, Executor};

type Failure = Box<dyn std::error::Error>;

/// A table of the host. The host creates it with its own migrations.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS supplier_notes (note VARCHAR(100))";
const NOTE: &str = "INSERT INTO supplier_notes VALUES ('first harvest')";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("give the URL of a database")?;
    let shop = ShopBuilder::new().database(&url).search("tantivy::memory:").build().await?;

    // An application needs only the branch of its own database.
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "sqlite" => harvest::<sqlx::SqliteConnection>(&shop, &url, adapters::begin_on_sqlite).await,
        #[cfg(feature = "postgres")]
        "postgres" => harvest::<sqlx::PgConnection>(&shop, &url, adapters::begin_on_postgres).await,
        #[cfg(feature = "mysql")]
        "mysql" => harvest::<sqlx::MySqlConnection>(&shop, &url, adapters::begin_on_mysql).await,
        _ => Err("a database that is not built in".into()),
    }
}

/// Creates a product of the shop and a note of the host in one transaction.
async fn harvest<C>(
    shop: &Shop,
    url: &str,
    begin: impl for<'c> AsyncFnOnce(&'c Shop, &'c mut C) -> ecom::Result<Tx<'c>>,
) -> Result<(), Failure>
where
    C: Connection + 'static,
    for<'c> &'c mut C: Executor<'c>,
{
    let mut host = C::connect(url).await?;
    host.execute(TABLE).await?;
    let mut tx = begin(shop, &mut host).await?;
    write(shop, &mut tx).await?;
    tx.connection::<C>().ok_or("a connection of the host's")?.execute(NOTE).await?;
    // After the commit, `AfterCommit` invalidates caches and wakes the background work. If it is not run, the background
    // work finds the write in the outbox a little later.
    tx.commit().await?.run().await;
    Ok(())
}

/// Writes a product. If another transaction conflicts, this fails with `Error::Contention`, and the host runs its
/// transaction again.
async fn write(shop: &Shop, tx: &mut Tx<'_>) -> Result<(), Failure> {
    let input = ProductInput::new("Gyokuro").price("18.00 USD".parse()?).stock(12);
    let product = shop.products().create_in(tx, &input).await?;
    println!("{} of {} is in", product.title, product.skus.len());
    Ok(())
}
