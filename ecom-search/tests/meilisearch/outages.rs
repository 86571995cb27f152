//! A server that is killed or paused. The test has a server of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecom_core::port::SearchProvider as _;
use ecom_search::{MeilisearchOptions, MeilisearchSearch};
use test_servers::Server;

use crate::documents::{at, found, state, upsert};

/// How long a test waits for what must happen. It is not a measure: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(180);

fn open(server: &Server) -> MeilisearchSearch {
    let url = format!("meilisearch+{}?search_timeout_ms=2000&write_timeout_ms=5000", server.url());
    MeilisearchSearch::open(MeilisearchOptions::from_url(&url).unwrap()).unwrap()
}

/// Repeats a call until it succeeds.
async fn eventually<T>(what: &str, call: impl AsyncFn() -> ecom_core::Result<T>) -> T {
    let since = Instant::now();
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
#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a server of its own: run with --ignored"]
async fn r14_nothing_is_lost_if_meilisearch_is_killed_or_paused() {
    let Some(mut server) = Server::meilisearch().await else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (provider, stop, done) = (open(&server), stop.clone(), done.clone());
        async move {
            let mut last = None;
            while !stop.load(Ordering::SeqCst) {
                let since = Instant::now();
                let seq = last.map_or(1, |checkpoint: ecom_core::port::Checkpoint| checkpoint.position.seq + 1);
                let ops = || (1..=20).map(|n| upsert(n, seq)).collect();
                loop {
                    match provider.apply(ops(), last, at(seq)).await {
                        Ok(Some(_)) => break,
                        // A call that failed has written after all.
                        Ok(None) => match provider.checkpoint().await {
                            Ok(stored) => {
                                assert_eq!(stored, Some(at(seq)), "nobody else writes");
                                break;
                            }
                            Err(error) => assert!(since.elapsed() < LIMIT, "reading: {error:?}"),
                        },
                        Err(error) => assert!(since.elapsed() < LIMIT, "applying: {error:?}"),
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                last = Some(at(seq));
                done.fetch_add(1, Ordering::SeqCst);
            }
            last
        }
    });
    let more = async |times: u64| {
        let before = done.load(Ordering::SeqCst);
        let since = Instant::now();
        while done.load(Ordering::SeqCst) < before + times {
            assert!(since.elapsed() < LIMIT, "the writer must go on");
            assert!(!writer.is_finished(), "the writer must go on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reader = open(&server);
    more(3).await;
    for round in 0..4 {
        if round % 2 == 0 {
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
    assert_eq!(reader.checkpoint().await.unwrap(), last);
    let revision = last.unwrap().position.seq;
    assert_eq!(state(&reader).await, (1..=20).map(|n| (n, revision)).collect::<Vec<_>>());
}
