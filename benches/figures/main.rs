//! Measures the figures of `docs/figures.md`. Each is the ratio of two rates or times that one run measures in turn.
//!
//! `cargo bench --bench figures` runs `read`, `list`, `stock`, `orders`, `search`, `import`, `http`, `jobs`, `live`,
//! `access`, `logins`, `slow-clients`, `shipped`, `memory` and `gap`; `shipped` and `memory` build the server and start
//! it.
//! `cargo bench --bench figures -- read list` runs only those two. With `--features postgres,mysql,redis,elasticsearch`
//! it also runs `postgres`, `table-postgres`, `orders-postgres`, `jobs-postgres`, `orders-mysql`, `redis`, `engines`
//! (or one of them, such as `engines-opensearch`), `size`, `orders-size` and `analytics`, on servers that it starts
//! itself and that flush to disk as in production. `size` creates a million products on each database, `orders-size`
//! and `analytics` a million orders, and `table-postgres` imports a million rows, which takes some minutes. So does
//! `table`, which runs only if it is named.
//!
//! With `--once`, each pair is measured once instead of several times, to see whether a figure can be measured at all.

#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

mod access;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod analytics;
#[cfg(feature = "elasticsearch")]
mod engines;
mod gap;
mod http;
mod import;
mod jobs;
#[cfg(feature = "elasticsearch")]
mod keeper;
mod list;
mod live;
mod orders;
#[cfg(feature = "postgres")]
mod pgbench;
mod plain;
#[cfg(feature = "postgres")]
mod postgres;
mod read;
#[cfg(feature = "redis")]
mod redis;
mod search;
mod shipped;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod size;
mod stock;
mod support;
mod table;

// Both sides of a comparison use the allocator of the reference server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if std::env::args().any(|a| a == "--once") {
        support::measure_once();
    }
    if let [mode, file] = &wanted[..]
        && mode == shipped::BARE
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(shipped::bare(std::path::Path::new(file)));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let is = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if is("read") {
        runtime.block_on(read::run());
    }
    if is("stock") {
        runtime.block_on(stock::run());
    }
    if is("orders") {
        runtime.block_on(orders::sqlite::run());
    }
    if is("list") {
        runtime.block_on(list::run());
    }
    if is("search") {
        runtime.block_on(search::run());
    }
    #[cfg(feature = "elasticsearch")]
    if is("engines") || wanted.iter().any(|w| w.starts_with("engines-")) {
        runtime.block_on(engines::run(|name| is("engines") || is(&format!("engines-{name}"))));
    }
    if is("import") {
        runtime.block_on(import::run());
    }
    if wanted.iter().any(|w| w == "table") {
        runtime.block_on(table::run());
    }
    if is("http") {
        runtime.block_on(http::run());
    }
    if is("access") {
        runtime.block_on(access::run());
    }
    if is("logins") {
        runtime.block_on(access::logins());
    }
    if is("slow-clients") {
        runtime.block_on(access::slow_clients());
    }
    if is("shipped") {
        runtime.block_on(shipped::run());
    }
    if is("memory") {
        runtime.block_on(shipped::memory());
    }
    if is("gap") {
        gap::run();
    }
    #[cfg(feature = "postgres")]
    if is("postgres") {
        runtime.block_on(postgres::run());
    }
    #[cfg(feature = "postgres")]
    if is("table-postgres") {
        runtime.block_on(table::on_postgres());
    }
    if is("jobs") {
        runtime.block_on(jobs::on_sqlite());
    }
    if is("live") {
        runtime.block_on(live::run());
    }
    #[cfg(feature = "postgres")]
    if is("jobs-postgres") {
        runtime.block_on(jobs::on_postgres());
    }
    #[cfg(feature = "postgres")]
    if is("orders-postgres") {
        runtime.block_on(orders::postgres::run());
    }
    #[cfg(feature = "mysql")]
    if is("orders-mysql") {
        runtime.block_on(orders::mysql::run());
    }
    #[cfg(feature = "redis")]
    if is("redis") {
        runtime.block_on(redis::run());
    }
    #[cfg(all(feature = "postgres", feature = "mysql"))]
    if is("size") {
        runtime.block_on(size::run());
    }
    #[cfg(all(feature = "postgres", feature = "mysql"))]
    if is("orders-size") {
        runtime.block_on(orders::size::run());
    }
    #[cfg(all(feature = "postgres", feature = "mysql"))]
    if is("analytics") {
        runtime.block_on(analytics::run());
    }
}
