//! A server that refuses, answers garbage or does not answer: a clear error, nothing lost, nothing half done. These
//! tests need a server, in front of which a proxy makes the faults.

use std::time::{Duration, Instant};

use ecom_core::Error;
use ecom_core::port::{Applied, BuildProgress, SearchProvider as _};
use ecom_search::{MeilisearchOptions, MeilisearchSearch};
use serde_json::{Value, json};
use test_servers::TestMeilisearch;

use crate::documents::{at, document, found, product, state, upsert};
use crate::proxy::{Fault, Proxy};

/// A provider behind a proxy, on an index with three products.
struct Faulty {
    provider: MeilisearchSearch,
    proxy: Proxy,
    index: TestMeilisearch,
}

/// Returns the address of a server and its key.
fn address(index: &TestMeilisearch) -> (&str, &str) {
    let (key, host) = index.url.trim_start_matches("http://").split_once('@').unwrap();
    (host, key.trim_start_matches(':'))
}

async fn faulty(parameters: &str) -> Option<Faulty> {
    let index = test_servers::meilisearch()?;
    let (host, key) = address(&index);
    let proxy = Proxy::before(host).await;
    let url = format!("meilisearch+{}?index={}&api_key={key}{parameters}", proxy.url, index.name);
    let provider = MeilisearchSearch::open(MeilisearchOptions::from_url(&url).unwrap()).unwrap();
    let ops = (1..=3).map(|n| upsert(n, 1)).collect();
    assert_eq!(provider.apply(ops, None, at(1)).await.unwrap(), Some(written(3)));
    Some(Faulty { provider, proxy, index })
}

fn written(n: u64) -> Applied {
    Applied { written: n, refused: 0 }
}

/// Returns whether a write may have happened, for an error that says that the server is not available.
fn unknown(error: &Error) -> bool {
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(!error.to_string().contains("127.0.0.1"), "{error} must not show an address");
    error.outcome_unknown()
}

/// How long a test waits for what must happen. It is not a measure: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(120);
const BUSY: &str = r#"{"message": "busy", "code": "too_many_search_requests", "type": "system"}"#;
const BROKEN: &str = r#"{"message": "broken", "code": "internal", "type": "internal"}"#;
const SEARCH: &str = "POST multi-search";
const WRITE: &str = "POST /documents?";

#[tokio::test]
async fn a_search_is_repeated_if_the_server_is_busy() {
    let Some(f) = faulty("").await else { return };
    f.proxy.fail(SEARCH, 1, Fault::Answer(503, BUSY));
    f.proxy.fail(SEARCH, 1, Fault::Answer(429, "<html>"));
    f.proxy.fail(SEARCH, 1, Fault::LoseAnswer);
    let before = f.proxy.count(SEARCH);
    assert_eq!(found(&f.provider, "lamp").await.unwrap(), 3);
    assert_eq!(f.proxy.count(SEARCH) - before, 5, "one call for typing errors and one for the hits");
}

#[tokio::test]
async fn answers_that_are_no_results_are_errors() {
    let Some(f) = faulty("").await else { return };
    for fault in [
        Fault::Answer(500, BROKEN),
        Fault::Answer(400, BROKEN),
        Fault::Answer(403, "{}"),
        Fault::Answer(302, "{}"),
        Fault::Answer(200, "garbage"),
        Fault::Answer(200, "{}"),
        Fault::Answer(200, r#"{"results": []}"#),
        Fault::Answer(200, r#"{"results": [{"hits": [{"id": "no id"}], "estimatedTotalHits": 1}]}"#),
        Fault::Answer(404, "not found"),
    ] {
        f.proxy.fail(SEARCH, 1, fault);
        unknown(&found(&f.provider, "lamp").await.unwrap_err());
    }
    assert_eq!(found(&f.provider, "lamp").await.unwrap(), 3);
}

#[tokio::test]
async fn a_server_that_hangs_costs_a_time_limit_and_then_nothing() {
    let Some(f) = faulty("&search_timeout_ms=500").await else { return };
    f.proxy.fail(SEARCH, u32::MAX, Fault::Hang);
    let before = f.proxy.count(SEARCH);
    for _ in 0..20 {
        unknown(&found(&f.provider, "lamp").await.unwrap_err());
    }
    let made = f.proxy.count(SEARCH) - before;
    assert!((3..20).contains(&made), "{made} of 20 calls were sent: after three failures, most fail at once");
    f.proxy.heal();
    // It recovers by itself.
    for _ in 0..1_000 {
        if found(&f.provider, "lamp").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("searches must work again once the server answers");
}

#[tokio::test]
async fn r14_a_write_whose_answer_is_lost_moves_documents_and_checkpoint_together() {
    let Some(f) = faulty("").await else { return };
    f.proxy.fail(WRITE, 1, Fault::Answer(500, BROKEN));
    assert!(unknown(&f.provider.apply(vec![upsert(1, 2)], Some(at(1)), at(2)).await.unwrap_err()));
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    assert_eq!(state(&f.provider).await, [(1, 1), (2, 1), (3, 1)]);
    // The server is busy with writes for a moment.
    f.proxy.fail(WRITE, 2, Fault::Answer(429, BUSY));
    assert_eq!(f.provider.apply(vec![upsert(1, 2)], Some(at(1)), at(2)).await.unwrap(), Some(written(1)));
    for (seq, fault) in [(3, Fault::LoseAnswer), (4, Fault::Edit(|_| "garbage".to_owned()))] {
        f.proxy.fail(WRITE, 1, fault);
        let (before, after) = (at(seq - 1), at(seq));
        assert!(unknown(&f.provider.apply(vec![upsert(1, seq)], Some(before), after).await.unwrap_err()));
        // The server carries it out. Until then, the index has the old checkpoint with the old documents.
        let since = Instant::now();
        while f.provider.checkpoint().await.unwrap() != Some(after) {
            assert!(since.elapsed() < LIMIT, "the server carries out the write");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(state(&f.provider).await, [(1, seq), (2, 1), (3, 1)]);
        assert_eq!(f.provider.apply(vec![upsert(1, seq)], Some(before), after).await.unwrap(), None);
    }
    // A task that fails is an error with its reason.
    let failed = |_: String| {
        let error = json!({"code": "no_space_left_on_device", "message": "no space"});
        json!({"uid": 1, "status": "failed", "error": error}).to_string()
    };
    f.proxy.fail("GET /tasks/", 1, Fault::Edit(failed));
    let error = f.provider.apply(vec![upsert(1, 9)], Some(at(4)), at(9)).await.unwrap_err();
    assert!(!unknown(&error));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("no_space_left_on_device"), "{cause}");
}

#[tokio::test]
async fn r14_a_checkpoint_that_another_process_has_moved_stays() {
    let Some(f) = faulty("").await else { return };
    for before in [None, Some(at(7))] {
        assert_eq!(f.provider.apply(vec![upsert(1, 5)], before, at(9)).await.unwrap(), None);
    }
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    assert_eq!(state(&f.provider).await, [(1, 1), (2, 1), (3, 1)]);
}

/// A write is on its way while another process replaces the index. Whichever of them the server sees first, the
/// checkpoint is that of the new index, which lacks the changes before the write.
#[tokio::test]
async fn r14_a_write_that_meets_a_new_index_moves_no_checkpoint() {
    let Some(f) = faulty("").await else { return };
    f.proxy.fail(WRITE, 1, Fault::Delay);
    let (host, key) = address(&f.index);
    let url = format!("meilisearch+http://{host}?index={}&api_key={key}", f.index.name);
    let other = MeilisearchSearch::open(MeilisearchOptions::from_url(&url).unwrap()).unwrap();
    let write = f.provider.apply(vec![upsert(1, 2), upsert(9, 1)], Some(at(1)), at(30));
    let replace = async {
        let mut build = other.begin_rebuild(at(1).into(), None).await.unwrap();
        build.add(vec![document(1, 1), document(2, 1)], product(2)).await.unwrap();
        build.publish(at(20)).await.unwrap();
    };
    let (written, ()) = tokio::join!(write, replace);
    written.unwrap();
    for provider in [&f.provider, &other] {
        assert_eq!(provider.checkpoint().await.unwrap(), Some(at(20)));
    }
    assert_eq!(f.provider.apply(vec![upsert(3, 1)], Some(at(30)), at(31)).await.unwrap(), None);
    assert!(f.provider.apply(vec![upsert(3, 1)], Some(at(20)), at(31)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_call_that_is_too_large_is_divided_and_a_refused_document_does_not_stop_the_others() {
    let Some(f) = faulty("").await else { return };
    f.proxy.fail(WRITE, 2, Fault::Answer(413, ""));
    let ops = (11..=18).map(|n| upsert(n, 1)).collect();
    assert_eq!(f.provider.apply(ops, Some(at(1)), at(2)).await.unwrap(), Some(written(8)));
    assert_eq!(state(&f.provider).await.len(), 11);
    // The call has the document, whose words the index knows, and the checkpoint.
    f.proxy.fail(WRITE, 2, Fault::Answer(413, ""));
    let applied = f.provider.apply(vec![upsert(1, 2)], Some(at(2)), at(3)).await.unwrap();
    assert_eq!(applied, Some(Applied { written: 0, refused: 1 }));
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(3)));
    assert_eq!(state(&f.provider).await[0], (1, 1));
}

#[tokio::test]
async fn a_rebuild_that_fails_leaves_the_index_and_one_whose_answer_is_lost_is_published() {
    let Some(f) = faulty("").await else { return };
    f.proxy.fail("POST swap-indexes", 1, Fault::Answer(400, BROKEN));
    let mut build = f.provider.begin_rebuild(at(1).into(), None).await.unwrap();
    build.add(vec![document(7, 1)], product(7)).await.unwrap();
    assert!(!unknown(&build.publish(at(5)).await.unwrap_err()), "the server has refused to switch");
    assert_eq!(state(&f.provider).await, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    // A batch that was only partly added is never published.
    let mut build = f.provider.begin_rebuild(at(1).into(), None).await.unwrap();
    f.proxy.fail(WRITE, 1, Fault::LoseAnswer);
    build.add(vec![document(7, 1)], product(7)).await.unwrap_err();
    build.add(vec![document(6, 1)], product(6)).await.unwrap_err();
    build.publish(at(5)).await.unwrap_err();
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    f.proxy.fail("POST swap-indexes", 1, Fault::LoseAnswer);
    let mut build = f.provider.begin_rebuild(at(1).into(), None).await.unwrap();
    build.add(vec![document(8, 1)], product(8)).await.unwrap();
    assert_eq!(build.publish(at(6)).await.unwrap(), 0);
    assert_eq!(state(&f.provider).await, [(8, 1)]);
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(6)));
    assert_eq!(f.index.indexes().len(), 1, "everything else is removed");
}

/// A build whose answers are lost is continued, and one with a task that the server could not carry out is not.
#[tokio::test]
async fn r14_a_build_is_continued_unless_a_task_of_it_has_failed() {
    let Some(f) = faulty("").await else { return };
    for fails in [false, true] {
        let mut build = f.provider.begin_rebuild(at(2).into(), None).await.unwrap();
        for n in 1..=3 {
            build.add(vec![document(n, 1)], product(n)).await.unwrap();
        }
        if fails {
            let path = format!("/indexes/{}/documents", f.index.indexes().into_iter().max().unwrap());
            let (status, answer) = test_servers::http(&f.index.url, "POST", &path, r#"[{"id": "not an id"}]"#).unwrap();
            assert_eq!(status, 202, "{answer}");
        }
        f.proxy.fail(WRITE, 1, Fault::LoseAnswer);
        build.add(vec![document(4, 1)], product(4)).await.unwrap_err();
        drop(build);
        let mut build = f.provider.begin_rebuild(at(9).into(), Some(at(2).position)).await.unwrap();
        let progress = BuildProgress { start: at(2).into(), after: product(4) };
        assert_eq!(build.continued(), Some(progress).filter(|_| !fails));
        build.add(vec![document(5, 1)], product(5)).await.unwrap();
        build.publish(at(3)).await.unwrap();
        let all = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)];
        assert_eq!(state(&f.provider).await, if fails { &all[4..] } else { &all[..] });
        assert_eq!(f.index.indexes().len(), 1, "everything else is removed");
    }
}

/// An index that ecom did not make is neither used nor changed.
#[tokio::test]
async fn an_index_of_somebody_else_under_our_name_is_refused() {
    let Some(index) = test_servers::meilisearch() else { return };
    let name = format!("{}-f1", index.name);
    let body = format!(r#"{{"uid": "{name}"}}"#);
    let (status, answer) = test_servers::http(&index.url, "POST", "/indexes", &body).unwrap();
    assert_eq!(status, 202, "{answer}");
    let task: Value = serde_json::from_str(&answer).unwrap();
    let path = format!("/tasks/{}", task["taskUid"]);
    let since = Instant::now();
    while !test_servers::http(&index.url, "GET", &path, "").unwrap().1.contains("succeeded") {
        assert!(since.elapsed() < LIMIT, "the server makes the index");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let url = format!("meilisearch+{}?index={}", index.url, index.name);
    let provider = MeilisearchSearch::open(MeilisearchOptions::from_url(&url).unwrap()).unwrap();
    let rebuild = async { provider.begin_rebuild(at(1).into(), None).await.map(drop) };
    for result in [provider.apply(vec![upsert(1, 1)], None, at(1)).await.map(drop), rebuild.await] {
        let error = result.unwrap_err();
        assert!(!unknown(&error));
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(&format!("`{name}`")) && cause.contains("remove it"), "{cause}");
    }
    assert_eq!(index.indexes(), [name.as_str()], "nothing is left");
}

/// No error shows a key.
#[tokio::test]
async fn a_wrong_key_is_refused() {
    let Some(index) = test_servers::meilisearch() else { return };
    let (host, _) = address(&index);
    for key in [":hunter2@", ""] {
        let url = format!("meilisearch+http://{key}{host}?index={}", index.name);
        let provider = MeilisearchSearch::open(MeilisearchOptions::from_url(&url).unwrap()).unwrap();
        let error = found(&provider, "lamp").await.unwrap_err();
        let mut shown = format!("{error} {error:?} {provider:?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(e) = cause {
            shown = format!("{shown} {e} {e:?}");
            cause = e.source();
        }
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("40"), "{shown}");
    }
}

#[tokio::test]
async fn a_closed_provider_refuses_calls() {
    let Some(f) = faulty("").await else { return };
    f.provider.close().await;
    unknown(&found(&f.provider, "lamp").await.unwrap_err());
    assert!(!unknown(&f.provider.apply(Vec::new(), Some(at(1)), at(2)).await.unwrap_err()));
}
