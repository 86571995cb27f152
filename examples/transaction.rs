//! Writes of the shop and of the host in one transaction on the host's connection: a product and an order of the shop,
//! and a row of a table of the host beside the order. All of them happen, or none does. Run it
//! with `cargo run --example transaction --features postgres,mysql -- sqlite://shop.db`, or with `postgres://…` or
//! `mysql://…`.

use ecom::catalog::ProductInput;
use ecom::sales::{DeliveryMethod, GuestInput, Order, OrderInput, OrderLineInput};
use ecom::{Shop, ShopBuilder, Tx, adapters};
use sqlx::{AssertSqlSafe, Connection, Executor};

type Failure = Box<dyn std::error::Error>;

/// A table of the host. The host creates it with its own migrations.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS parcels (order_number VARCHAR(50) PRIMARY KEY, shelf VARCHAR(10))";

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

/// Places an order of the shop and writes the parcel of the host in one transaction.
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
    let order = write(shop, &mut tx).await?;
    // The number of an order has letters, digits and dashes only. Other values would be bound.
    let parcel = AssertSqlSafe(format!("INSERT INTO parcels VALUES ('{}', 'A7')", order.number));
    tx.connection::<C>().ok_or("a connection of the host's")?.execute(parcel).await?;
    // After the commit, `AfterCommit` invalidates caches and wakes the background work. If it is not run, the background
    // work finds the write in the outbox a little later.
    tx.commit().await?.run().await;
    let level = shop.inventory().level(order.lines[0].sku_id.ok_or("a line without a SKU")?).await?;
    println!("an order over {} and its parcel are in, {} left", order.totals.total, level.available());
    Ok(())
}

/// Writes a product, and an order that sells it. If another transaction conflicts, this fails with `Error::Contention`, and the host runs its
/// transaction again.
async fn write(shop: &Shop, tx: &mut Tx<'_>) -> Result<Order, Failure> {
    let input = ProductInput::new("Gyokuro").price("18.00 USD".parse()?).stock(12);
    let product = shop.products().create_in(tx, &input).await?;
    let ada = GuestInput::new("Ada", "Lovelace", "ada@example.com");
    let two = OrderLineInput::new(product.skus[0].id, 2, product.skus[0].price.amount());
    let order = shop.orders().place_in(tx, &OrderInput::for_guest(ada, DeliveryMethod::OnHand).line(two)).await?;
    Ok(order)
}
