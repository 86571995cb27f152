//! A product by id over HTTP from a shared cache: from Redis against a plain program that reads the same bytes from
//! Redis, and from two tiers against a plain handler that returns the same bytes. This run starts its own server.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use ecom::adapters::{
    DEFAULT_DECODED_BYTES, RedisCache, RedisOptions, SqlStorage, SqliteOptions, TieredCache, TieredOptions,
};
use ecom::port::Cache;
use redis::AsyncCommands as _;
use test_servers::Server;

use crate::http::{CONNECTIONS, load_each, once, serve};
use crate::support::{pair, shop_on};

const ROUNDS: usize = 7;

pub async fn run() {
    println!("redis: products by id over HTTP, {CONNECTIONS} connections, each its own product");
    let server = Server::redis().await;
    for decoded in [DEFAULT_DECODED_BYTES, 0] {
        let mut options = RedisOptions::from_url(&server.url()).expect("a URL");
        options.decoded_bytes = decoded;
        let (ours, products) = serve_shop(Arc::new(RedisCache::open(options).await.expect("a cache"))).await;
        let (paths, bodies): (Vec<String>, Vec<Bytes>) = products.into_iter().unzip();
        let bare = serve(bare_redis(&server, &paths, &bodies).await).await;
        let note = if decoded == 0 { ", decoding every time" } else { "" };
        pair(
            &format!("by id from Redis over HTTP{note}, against bare axum and redis"),
            if decoded == 0 { "nothing" } else { "0.7" },
            ROUNDS,
            async || load_each(ours, &paths).await,
            async || load_each(bare, &paths).await,
        )
        .await;
    }

    let url = format!("tiered+{}", server.url());
    let tiered = TieredCache::open(TieredOptions::from_url(&url).expect("a URL")).await.expect("a cache");
    let (ours, products) = serve_shop(Arc::new(tiered)).await;
    let (paths, bodies): (Vec<String>, Vec<Bytes>) = products.into_iter().unzip();
    let body = bodies[0].clone();
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
        async || load_each(ours, &paths).await,
        async || load_each(bare, &paths).await,
    )
    .await;
}

/// Returns a plain program, in which the path is the key, and the value is the body of the response.
async fn bare_redis(server: &Server, paths: &[String], bodies: &[Bytes]) -> Router {
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    for (path, body) in paths.iter().zip(bodies) {
        let () = connection.set(path, &body[..]).await.expect("set");
    }
    Router::new().route(
        "/api/v1/products/{id}",
        get(move |path: axum::http::Uri| {
            let mut connection = connection.clone();
            async move {
                let value: Vec<u8> = connection.get(path.path()).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
                Ok::<_, StatusCode>(([(CONTENT_TYPE, "application/json")], value))
            }
        }),
    )
}

/// Serves a shop with this cache. Returns its address, and paths of products with their bodies.
async fn serve_shop(cache: Arc<dyn Cache>) -> (std::net::SocketAddr, Vec<(String, Bytes)>) {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).expect("a database");
    let b = shop_on(storage, cache, 100, tempfile::tempdir().expect("a folder")).await;
    let config = ecom_http::HttpConfig::default().access_log(false);
    let at = serve(ecom_http::router(b.shop.clone(), config)).await;
    let mut products = Vec::new();
    for id in &b.products[..CONNECTIONS] {
        let path = format!("/api/v1/products/{id}");
        once(at, &path).await;
        let answer = once(at, &path).await;
        assert!(String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("x-cache: hit"), "is cached");
        let body = answer.split(|b| *b == b'\n').next_back().map(Bytes::copy_from_slice).unwrap_or_default();
        products.push((path, body));
    }
    println!("  (a body has {} bytes)", products[0].1.len());
    (at, products)
}
