//! A product by id over HTTP from a shared cache: from Redis against a plain program that reads the same bytes from
//! Redis, from two tiers against a plain handler that returns the same bytes. The server is this run's own.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use ecom::adapters::{RedisCache, RedisOptions, SqlStorage, SqliteOptions, TieredCache, TieredOptions};
use ecom::port::Cache;
use redis::AsyncCommands as _;
use test_servers::Server;

use crate::http::{load, once, serve};
use crate::support::{pair, shop_on};

const ROUNDS: usize = 7;

pub async fn run() {
    println!("redis: a product by id over HTTP, {} connections", crate::http::CONNECTIONS);
    let server = Server::redis().await;
    let shared = RedisCache::open(RedisOptions::from_url(&server.url()).expect("a URL")).await.expect("a cache");
    let (ours, path, body) = serve_shop(Arc::new(shared)).await;
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let () = connection.set("bare", body.as_slice()).await.expect("set");
    let bare = Router::new().route(
        "/api/v1/products/{id}",
        get(move || {
            let mut connection = connection.clone();
            async move {
                let value: Vec<u8> = connection.get("bare").await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
                Ok::<_, StatusCode>(([(CONTENT_TYPE, "application/json")], value))
            }
        }),
    );
    let bare = serve(bare).await;
    pair(
        "by id from Redis over HTTP, against bare axum and redis",
        "0.7",
        ROUNDS,
        async || load(ours, &path).await,
        async || load(bare, &path).await,
    )
    .await;

    let url = format!("tiered+{}", server.url());
    let tiered = TieredCache::open(TieredOptions::from_url(&url).expect("a URL")).await.expect("a cache");
    let (ours, path, body) = serve_shop(Arc::new(tiered)).await;
    let body = Bytes::from(body);
    let bare = Router::new().route(
        "/api/v1/products/{id}",
        get(move || {
            let body = body.clone();
            async move { ([(CONTENT_TYPE, "application/json")], body) }
        }),
    );
    let bare = serve(bare).await;
    pair(
        "by id from two tiers over HTTP, against a bare axum handler",
        "0.7",
        ROUNDS,
        async || load(ours, &path).await,
        async || load(bare, &path).await,
    )
    .await;
}

/// A shop with this cache; where it is served, the path of a product and its body.
async fn serve_shop(cache: Arc<dyn Cache>) -> (std::net::SocketAddr, String, Vec<u8>) {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).expect("a database");
    let b = shop_on(storage, cache, 100, tempfile::tempdir().expect("a folder")).await;
    let config = ecom_http::HttpConfig { access_log: false, ..ecom_http::HttpConfig::default() };
    let at = serve(ecom_http::router(b.shop.clone(), config)).await;
    let path = format!("/api/v1/products/{}", b.products[42]);
    once(at, &path).await;
    let answer = once(at, &path).await;
    assert!(String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("x-cache: hit"), "is cached");
    let body = answer.split(|b| *b == b'\n').next_back().map(<[u8]>::to_vec).unwrap_or_default();
    println!("  (an answer has {} bytes, {} of them body)", answer.len(), body.len());
    (at, path, body)
}
