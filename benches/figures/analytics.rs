//! Reports of analytics over a year with a million orders, on each database, through the router. The orders are made in
//! SQL, as for `orders-size`, and a rebuild computes the figures.

use std::time::Instant;

use axum::body::Body;
use axum::http::Request;
use ecom::access::Principal;
use ecom::platform::DayRange;
use ecom_http::HttpConfig;
use test_servers::{Kind, Server};
use tower::ServiceExt as _;

use crate::orders::size::{LARGE, TABLES, open};
use crate::size::{Database, settle};
use crate::support::{median, rounds};

const DAYS: u64 = 365;
const TIMES: usize = 51;

pub async fn run() {
    println!("analytics: reports over {DAYS} days with {LARGE} orders in the shop");
    for (database, name) in
        [(Database::Sqlite, "SQLite"), (Database::Postgres, "PostgreSQL"), (Database::MySql, "MariaDB")]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let server = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(Server::with(Kind::Postgres, &["shared_buffers=1GB"]).await),
            Database::MySql => Some(Server::with(Kind::MariaDb, &["innodb-buffer-pool-size=1G"]).await),
        };
        let url = match &server {
            None => format!("sqlite://{}", dir.path().join("shop.db").display()),
            Some(server) => server.url(),
        };
        let large = open(database, &url, LARGE).await;
        settle(database, &url, &TABLES).await;
        let shop = &large.b.shop;
        let start = Instant::now();
        let days = shop.analytics().rebuild().await.expect("the figures");
        println!("  ({name}: the figures of {days} days computed from the orders in {:.1?})", start.elapsed());
        settle(database, &url, &["sales_days", "product_days", "product_rollups"]).await;
        let range = DayRange::last(DAYS, shop.config().time_zone.day_of(shop.clock().now()));
        let report = shop.analytics().sales(&range).await.expect("a report");
        assert!(report.total.orders > LARGE as u64 / 2, "the orders are of the last year");
        let config = HttpConfig::default().access_log(false).rate_limits(None);
        let router = ecom_http::router(shop.clone(), config.anonymous(Principal::trusted("bench")));
        let days = format!("from={}&to={}", range.from, range.to);
        for (path, wanted) in [
            (format!("/api/v1/analytics/sales?{days}"), "; wanted below 20 ms"),
            (format!("/api/v1/analytics/sales?{days}&format=csv"), ""),
            (format!("/api/v1/analytics/funnel?{days}"), ""),
            (format!("/api/v1/analytics/top-products?{days}&cursor="), "; wanted below 50 ms"),
            (format!("/api/v1/analytics/top-products?{days}"), ""),
            ("/api/v1/analytics/low-stock?cursor=".to_owned(), ""),
        ] {
            let mut times = Vec::with_capacity(TIMES);
            for _ in 0..rounds(TIMES) {
                let request = Request::get(&path).body(Body::empty()).expect("a request");
                let start = Instant::now();
                let response = router.clone().oneshot(request).await.expect("a response");
                let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
                times.push(start.elapsed().as_secs_f64());
                assert!(!body.starts_with(b"{\"error\""), "{}", String::from_utf8_lossy(&body));
            }
            let path = path.replace(&days, "…");
            println!("{name}, {path}: {:.2} ms{wanted}", median(&mut times) * 1e3);
        }
    }
}
