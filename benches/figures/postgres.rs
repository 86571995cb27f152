//! Reads on PostgreSQL without a cache: in process against pgbench with the same statement, and over HTTP against a
//! plain program with the same statement. This run starts its own server, which flushes to disk.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use deadpool_postgres::Pool;
use ecom::adapters::{ServerOptions, SqlStorage};
use ecom::catalog::{ProductFilter, ProductSort, ProductStatus};
use ecom::common::IncludeDeleted;
use ecom::paging::Paging;
use ecom::port::{NoCache, Storage as _};
use serde::{Deserialize, Serialize};
use test_servers::Server;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::http::{load_each, once, serve};
use crate::pgbench;
use crate::support::{Bench, pair, shop_on, usd};

/// The number of tasks, of connections and of pgbench's clients.
const CLIENTS: usize = 64;
const PRICES: (i64, i64) = (2_000, 90_000);
const SECONDS: u64 = 3;
const ROUNDS: usize = 7;

pub async fn run() {
    println!("postgres: without a cache, {CLIENTS} clients");
    let server = Server::postgres().await;
    let mut options = ServerOptions::from_url(&server.url()).expect("a URL");
    options.max_connections = CLIENTS;
    let storage = SqlStorage::server(options).expect("a pool");
    let dir = tempfile::tempdir().expect("a folder");
    let b = Arc::new(shop_on(storage, Arc::new(NoCache), 10_000, dir).await);
    connect(&server).await.batch_execute("VACUUM ANALYZE").await.expect("statistics");

    let by_id = b.storage.product_text();
    let page = b.storage.list_text(&filter(&b), ProductSort::PriceAsc, &first_page()).expect("a list");
    let ids: Vec<Uuid> = (0..CLIENTS).map(|i| b.products[i * 131 % b.products.len()].0).collect();
    // pgbench turns a variable into a parameter of the prepared statement.
    let by_id_script = by_id.replace("$1", ":id");
    let page_script = page.replace("$1", ":category").replace("$2", ":low").replace("$3", ":high");
    assert!(!page_script.contains('$'), "{page_script}");

    pair(
        "by id in process, against pgbench",
        "0.9",
        ROUNDS,
        async || {
            let (b, ids) = (b.clone(), ids.clone());
            tasks(move |i| {
                let (b, id) = (b.clone(), ecom::id::ProductId(ids[i % ids.len()]));
                async move {
                    black_box(b.shop.products().get_fresh(id, IncludeDeleted::No).await.expect("a product"));
                }
            })
            .await
        },
        async || pgbench(&server, &b, &by_id_script).await,
    )
    .await;
    pair(
        "a page of 20 by category and price in process, against pgbench",
        "0.8",
        ROUNDS,
        async || {
            let b = b.clone();
            tasks(move |_| {
                let b = b.clone();
                async move {
                    let mut db = b.storage.connect().await.expect("a connection");
                    let page = db.products().list(&filter(&b), ProductSort::PriceAsc, &first_page()).await;
                    assert_eq!(black_box(page.expect("a page")).items.len(), 20);
                }
            })
            .await
        },
        async || pgbench(&server, &b, &page_script).await,
    )
    .await;

    let config = ecom_http::HttpConfig::default().access_log(false);
    let ours = serve(ecom_http::router(b.shop.clone(), config)).await;
    let bare = serve(bare(&server, by_id, page, b.category.0)).await;
    // Each connection requests another product, because the shop loads a product once for simultaneous requests.
    let paths: Vec<String> = ids.iter().map(|id| format!("/api/v1/products/{id}")).collect();
    let list = |low: usize| {
        format!("/api/v1/products?category={}&min_price={low}&max_price=900&sort=price_asc&cursor=", b.category)
    };
    let lists: Vec<String> = (20..20 + CLIENTS).map(list).collect();
    for (what, wanted, paths) in [("by id", "0.8", &paths), ("a page of 20", "0.8", &lists)] {
        println!("  ({} bytes against {})", once(ours, &paths[0]).await.len(), once(bare, &paths[0]).await.len());
        pair(
            &format!("{what} over HTTP, against bare axum, deadpool and tokio-postgres"),
            wanted,
            ROUNDS,
            async || load_each(ours, paths).await,
            async || load_each(bare, paths).await,
        )
        .await;
    }
}

/// Connects to the server without the library.
pub async fn connect(server: &Server) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn filter(b: &Bench) -> ProductFilter {
    ProductFilter {
        category: Some(b.category),
        min_price: Some(usd(PRICES.0)),
        max_price: Some(usd(PRICES.1)),
        status: Some(ProductStatus::Active),
        ..ProductFilter::default()
    }
}

fn first_page() -> Paging {
    Paging::Keyset { after: None, limit: 20 }
}

/// Runs [`CLIENTS`] tasks for some seconds, each of which repeats `one`.
async fn tasks<F>(one: impl Fn(usize) -> F + Clone + Send + 'static) -> (u64, Duration)
where
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for task in 0..CLIENTS {
        let one = one.clone();
        set.spawn(async move {
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                one(task).await;
                n += 1;
            }
            n
        });
    }
    let n: u64 = set.join_all().await.into_iter().sum();
    (n, start.elapsed())
}

/// Returns pgbench's rate with a statement that it prepares.
async fn pgbench(server: &Server, b: &Bench, text: &str) -> (u64, Duration) {
    // A single line, because pgbench takes a line that starts with a backslash for a command.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let variables = [
        ("id", b.products[0].to_string()),
        ("category", b.category.to_string()),
        ("low", PRICES.0.to_string()),
        ("high", PRICES.1.to_string()),
    ];
    pgbench::run(server, b.dir.path(), &format!("{line};\n"), &variables, CLIENTS, SECONDS).await
}

#[derive(Clone)]
struct Bare {
    pool: Pool,
    by_id: &'static str,
    page: Arc<str>,
    category: Uuid,
}

#[derive(Deserialize)]
struct Prices {
    min_price: i64,
    max_price: i64,
}

/// A plain program: deadpool, tokio-postgres, and each row as JSON.
fn bare(server: &Server, by_id: &'static str, page: String, category: Uuid) -> Router {
    let config: tokio_postgres::Config = server.url().parse().expect("a URL");
    let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
    let pool = Pool::builder(manager).max_size(CLIENTS).build().expect("a pool");
    Router::new()
        .route(
            "/api/v1/products/{id}",
            get(|State(s): State<Bare>, UrlPath(id): UrlPath<Uuid>| async move { rows(&s, s.by_id, &[&id]).await }),
        )
        .route(
            "/api/v1/products",
            get(|State(s): State<Bare>, Query(p): Query<Prices>| async move {
                rows(&s, &s.page, &[&s.category, &(p.min_price * 100), &(p.max_price * 100)]).await
            }),
        )
        .with_state(Bare { pool, by_id, page: page.into(), category })
}

/// The row as a plain program would return it: a product with one of its SKUs.
#[derive(Serialize)]
struct Plain<'r> {
    id: Uuid,
    title: &'r str,
    slug: &'r str,
    description: Option<&'r str>,
    brand: Option<&'r str>,
    tags: &'r serde_json::value::RawValue,
    images: &'r serde_json::value::RawValue,
    attributes: &'r serde_json::value::RawValue,
    numbers: Vec<i64>,
    sku: Option<Uuid>,
}

async fn rows(
    s: &Bare,
    text: &str,
    args: &[&(dyn ToSql + Sync)],
) -> Result<([(axum::http::HeaderName, &'static str); 1], Vec<u8>), StatusCode> {
    let failed = |_: tokio_postgres::Error| StatusCode::SERVICE_UNAVAILABLE;
    let client = s.pool.get().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let statement = client.prepare_cached(text).await.map_err(failed)?;
    let rows = client.query(&statement, args).await.map_err(failed)?;
    let plain: Vec<Plain<'_>> = rows.iter().map(plain).collect();
    let body = serde_json::to_vec(&plain).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], body))
}

fn plain(r: &tokio_postgres::Row) -> Plain<'_> {
    let mut numbers = Vec::with_capacity(16);
    let (mut texts, mut json, mut ids) = (Vec::with_capacity(8), Vec::with_capacity(4), Vec::with_capacity(2));
    for (i, column) in r.columns().iter().enumerate() {
        match column.type_().name() {
            "int8" => numbers.extend(r.get::<_, Option<i64>>(i)),
            "int4" => numbers.extend(r.get::<_, Option<i32>>(i).map(i64::from)),
            "text" => texts.push(r.get::<_, Option<&str>>(i)),
            "uuid" => ids.push(r.get::<_, Option<Uuid>>(i)),
            "jsonb" => json.push(r.get::<_, Option<tokio_postgres::types::Json<&serde_json::value::RawValue>>>(i)),
            _ => {}
        }
    }
    let json = |i: usize| json.get(i).and_then(|j| j.as_ref()).map_or(serde_json::value::RawValue::NULL, |j| j.0);
    let text = |i: usize| texts.get(i).copied().flatten();
    Plain {
        id: ids.first().copied().flatten().unwrap_or_default(),
        title: text(0).unwrap_or_default(),
        slug: text(1).unwrap_or_default(),
        description: text(2),
        brand: text(3),
        tags: json(0),
        images: json(1),
        attributes: json(2),
        numbers,
        sku: ids.get(1).copied().flatten(),
    }
}
