//! Servers that are killed, paused or protected. Each test has servers of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ecom_core::port::SearchProvider as _;
use ecom_search::{ElasticsearchOptions, ElasticsearchSearch};
use test_servers::security::{PASSWORD, USER, https};
use test_servers::{Kind, Server};

use crate::documents::{apply, at, found, state, upsert};

/// How long a test waits for what must happen. It is not a measure: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(180);

fn open(url: &str) -> ElasticsearchSearch {
    ElasticsearchSearch::open(ElasticsearchOptions::from_url(url).unwrap()).unwrap()
}

fn address(kind: Kind, server: &Server, parameters: &str) -> String {
    let product = if kind == Kind::OpenSearch { "opensearch" } else { "elasticsearch" };
    format!("{product}+{}?replicas=0&search_timeout_ms=2000&write_timeout_ms=5000{parameters}", server.url())
}

/// Repeats a call until it succeeds.
async fn eventually<T>(what: &str, call: impl AsyncFn() -> ecom_core::Result<T>) -> T {
    let since = std::time::Instant::now();
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) => assert!(since.elapsed() < LIMIT, "{what}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// R14: a writer repeats batches as the sync does, while the server is killed or paused. What it has acknowledged is
/// there afterwards, and the checkpoint is never ahead of it.
async fn nothing_is_lost(kind: Kind) {
    let mut server = Server::with(kind, &[]).await;
    let url = address(kind, &server, "");
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (url, stop, done) = (url.clone(), stop.clone(), done.clone());
        async move {
            let provider = open(&url);
            let mut seq = 0;
            while !stop.load(Ordering::SeqCst) {
                seq += 1;
                let since = std::time::Instant::now();
                while let Err(error) = apply(&provider, (1..=20).map(|n| upsert(n, seq)).collect(), at(seq)).await {
                    assert!(since.elapsed() < LIMIT, "applying: {error:?}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            seq
        }
    });
    let more = async |times: u64| {
        let before = done.load(Ordering::SeqCst);
        let since = std::time::Instant::now();
        while done.load(Ordering::SeqCst) < before + times {
            assert!(since.elapsed() < LIMIT, "the writer must go on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reader = open(&url);
    more(3).await;
    for round in 0..2 {
        if round == 0 {
            server.kill9().await;
            assert!(found(&reader, "lamp").await.is_err(), "a server that is down answers nothing");
            assert!(reader.ping().await.is_err());
            server.start().await;
        } else {
            server.pause();
            assert!(found(&reader, "lamp").await.is_err(), "a server that is paused answers nothing");
            server.resume();
        }
        more(3).await;
        assert_eq!(eventually("searching", async || found(&reader, "lamp").await).await, 20);
    }
    stop.store(true, Ordering::SeqCst);
    let last = writer.await.unwrap();
    eventually("ping", async || reader.ping().await).await;
    assert_eq!(reader.checkpoint().await.unwrap(), Some(at(last)));
    assert_eq!(state(&reader).await, (1..=20).map(|n| (n, last)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a server of its own: run with --ignored"]
async fn r14_nothing_is_lost_if_elasticsearch_is_killed_or_paused() {
    nothing_is_lost(Kind::Elasticsearch).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a server of its own: run with --ignored"]
async fn r14_nothing_is_lost_if_opensearch_is_killed_or_paused() {
    nothing_is_lost(Kind::OpenSearch).await;
}

/// A password, an API key, and TLS by an authority of one's own. No error shows a secret.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a server of its own: run with --ignored"]
async fn authentication_and_an_authority_of_ones_own_are_supported() {
    let server = Server::secured_elasticsearch().await;
    let (host, ca) = (format!("127.0.0.1:{}", server.port()), server.directory().join("config/ca.pem"));
    let url = |user: &str, parameters: &str| {
        format!("elasticsearch+https://{user}{host}?replicas=0&certificates={}{parameters}", ca.display())
    };
    let provider = open(&url(&format!("{USER}:{PASSWORD}@"), ""));
    assert_eq!(apply(&provider, vec![upsert(1, 1)], at(1)).await.unwrap(), 1);
    assert_eq!(found(&provider, "lamp").await.unwrap(), 1);
    let made = https(&server.url(), "POST", "/_security/api_key", r#"{"name": "test"}"#).unwrap();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let key = made["encoded"].as_str().unwrap().replace('=', "%3D").replace('+', "%2B");
    assert_eq!(found(&open(&url("", &format!("&api_key={key}"))), "lamp").await.unwrap(), 1);
    for refused in [
        url("", ""),
        url(&format!("{USER}:hunter2-wrong@"), ""),
        url("", "&api_key=hunter2"),
        url("", "&bearer=hunter2"),
        // The authority is not trusted.
        format!("elasticsearch+https://{USER}:{PASSWORD}@{host}"),
    ] {
        let provider = open(&refused);
        let error = found(&provider, "lamp").await.unwrap_err();
        let mut shown = format!("{error} {error:?} {provider:?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(e) = cause {
            shown = format!("{shown} {e} {e:?}");
            cause = e.source();
        }
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
