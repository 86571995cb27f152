//! Servers that refuse, answer garbage or do not answer: a clear error, nothing lost, nothing half done.

use ecom_core::Error;
use ecom_core::port::{BuildProgress, IndexBuild, SearchProvider as _};
use ecom_search::{ElasticsearchOptions, ElasticsearchSearch};
use serde_json::{Value, json};
use test_servers::TestIndex;

use crate::documents::{apply, at, document, found, product, state, upsert};
use crate::proxy::{Fault, Proxy};

/// A provider behind a proxy, on an index with three products.
struct Faulty {
    provider: ElasticsearchSearch,
    proxy: Proxy,
    index: TestIndex,
}

async fn faulty(parameters: &str) -> Faulty {
    let index = test_servers::elasticsearch();
    let proxy = Proxy::before(&index.url).await;
    let url = format!("elasticsearch+{}?index={}&replicas=0{parameters}", proxy.url, index.name);
    let provider = ElasticsearchSearch::open(ElasticsearchOptions::from_url(&url).unwrap()).unwrap();
    let ops = (1..=3).map(|n| upsert(n, 1)).collect();
    assert_eq!(apply(&provider, ops, at(1)).await.unwrap(), 3);
    Faulty { provider, proxy, index }
}

/// Returns whether a write may have happened, for an error that says that the server is not available.
fn unknown(error: &Error) -> bool {
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(!error.to_string().contains("127.0.0.1"), "{error} must not show an address");
    error.outcome_unknown()
}

const BUSY: &str = r#"{"error": {"type": "es_rejected_execution_exception", "reason": "busy"}, "status": 429}"#;
const BROKEN: &str = r#"{"error": {"type": "exception", "reason": "broken"}, "status": 500}"#;

#[tokio::test]
async fn a_search_is_repeated_if_the_server_is_busy() {
    let f = faulty("").await;
    f.proxy.fail("POST _search", 1, Fault::Answer(429, BUSY));
    f.proxy.fail("POST _search", 1, Fault::Answer(503, "<html>"));
    f.proxy.fail("POST _search", 1, Fault::LoseAnswer);
    let before = f.proxy.count("POST _search");
    assert_eq!(found(&f.provider, "lamp").await.unwrap(), 3);
    assert_eq!(f.proxy.count("POST _search") - before, 4);
}

#[tokio::test]
async fn answers_that_are_no_results_are_errors() {
    let f = faulty("").await;
    for fault in [
        Fault::Answer(500, BROKEN),
        Fault::Answer(400, BROKEN),
        Fault::Answer(401, "{}"),
        Fault::Answer(200, "garbage"),
        Fault::Answer(200, "{}"),
        Fault::Answer(200, r#"{"hits": {"hits": [{"_id": "no id"}]}}"#),
        Fault::Answer(404, "not found"),
    ] {
        f.proxy.fail("POST _search", 1, fault);
        unknown(&found(&f.provider, "lamp").await.unwrap_err());
    }
    assert_eq!(found(&f.provider, "lamp").await.unwrap(), 3);
}

#[tokio::test]
async fn a_server_that_hangs_costs_a_time_limit_and_then_nothing() {
    let f = faulty("&search_timeout_ms=500").await;
    f.proxy.fail("POST _search", u32::MAX, Fault::Hang);
    let before = f.proxy.count("POST _search");
    for _ in 0..20 {
        unknown(&found(&f.provider, "lamp").await.unwrap_err());
    }
    let made = f.proxy.count("POST _search") - before;
    assert!((3..20).contains(&made), "{made} of 20 calls were sent: after three failures, most fail at once");
    f.proxy.heal();
    // It recovers by itself.
    for _ in 0..1_000 {
        if found(&f.provider, "lamp").await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("searches must work again once the server answers");
}

#[tokio::test]
async fn items_that_the_server_was_too_busy_for_are_sent_again() {
    let f = faulty("").await;
    let busy = |answer: String| {
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        answer["items"][1] = json!({"index": {"_id": "x", "status": 429, "error": {"type": "busy"}}});
        answer.to_string()
    };
    f.proxy.fail("POST _bulk", 1, Fault::Answer(429, BUSY));
    f.proxy.fail("POST _bulk", 1, Fault::Edit(busy));
    let ops = vec![upsert(4, 1), upsert(5, 1), upsert(6, 1)];
    // The second document was written in truth, so that the repetition finds it.
    assert_eq!(apply(&f.provider, ops, at(2)).await.unwrap(), 2);
    assert_eq!(state(&f.provider).await, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(2)));
}

#[tokio::test]
async fn a_document_that_the_server_refuses_does_not_stop_the_others() {
    let f = faulty("").await;
    let refused = |answer: String| {
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let error = json!({"type": "document_parsing_exception", "reason": "no"});
        answer["items"][0] = json!({"index": {"_id": "x", "status": 400, "error": error}});
        answer.to_string()
    };
    f.proxy.fail("POST _bulk", 1, Fault::Edit(refused));
    assert_eq!(apply(&f.provider, vec![upsert(4, 1), upsert(5, 1)], at(2)).await.unwrap(), 1);
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(2)));
}

#[tokio::test]
async fn r14_half_a_bulk_moves_no_checkpoint_and_loses_nothing() {
    let f = faulty("").await;
    let half = |answer: String| {
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        answer["items"].as_array_mut().unwrap().truncate(1);
        answer.to_string()
    };
    let ops = || vec![upsert(1, 2), upsert(4, 1)];
    for fault in [Fault::Edit(half), Fault::LoseAnswer, Fault::Answer(200, "garbage"), Fault::Answer(500, BROKEN)] {
        f.proxy.fail("POST _bulk", 1, fault);
        assert!(unknown(&apply(&f.provider, ops(), at(2)).await.unwrap_err()), "the write may have happened");
        assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    }
    apply(&f.provider, ops(), at(2)).await.unwrap();
    assert_eq!(state(&f.provider).await, [(1, 2), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(2)));
}

#[tokio::test]
async fn r14_a_checkpoint_that_another_process_has_moved_stays() {
    let f = faulty("").await;
    let conflict = r#"{"error": {"type": "version_conflict_engine_exception", "reason": "moved"}, "status": 409}"#;
    f.proxy.fail("PUT _doc/checkpoint", 1, Fault::Answer(409, conflict));
    let applied = f.provider.apply(vec![upsert(4, 1)], Some(at(1)), at(9)).await.unwrap();
    assert_eq!(applied, None, "the checkpoint has moved between reading and writing it");
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    // A lost answer does not keep the next call from moving it.
    f.proxy.fail("PUT _doc/checkpoint", 1, Fault::LoseAnswer);
    assert!(unknown(&apply(&f.provider, vec![upsert(5, 1)], at(9)).await.unwrap_err()));
    apply(&f.provider, vec![upsert(5, 1)], at(10)).await.unwrap();
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(10)));
}

/// A write is on its way while another process replaces the index. Whichever of them the server sees first, the
/// checkpoint is that of the new index, which lacks the changes before the write.
#[tokio::test]
async fn r14_a_write_that_meets_a_new_index_moves_no_checkpoint() {
    let f = faulty("").await;
    f.proxy.fail("POST _bulk", 1, Fault::Delay);
    let url = format!("elasticsearch+{}?index={}&replicas=0", f.index.url, f.index.name);
    let other = ElasticsearchSearch::open(ElasticsearchOptions::from_url(&url).unwrap()).unwrap();
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
async fn a_call_that_is_too_large_is_divided() {
    let f = faulty("").await;
    f.proxy.fail("POST _bulk", 2, Fault::Answer(413, ""));
    let ops = (11..=18).map(|n| upsert(n, 1)).collect();
    assert_eq!(apply(&f.provider, ops, at(2)).await.unwrap(), 8);
    assert_eq!(state(&f.provider).await.len(), 11);
}

#[tokio::test]
async fn a_rebuild_that_fails_leaves_the_index_and_one_whose_answer_is_lost_is_published() {
    let f = faulty("").await;
    f.proxy.fail("POST _aliases", 1, Fault::Answer(400, BROKEN));
    let mut build = f.provider.begin_rebuild(at(1).into(), None).await.unwrap();
    build.add(vec![document(7, 1)], product(7)).await.unwrap();
    assert!(!unknown(&build.publish(at(5)).await.unwrap_err()), "the server has refused to switch");
    assert_eq!(state(&f.provider).await, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    // A batch that was only partly added is never published.
    f.proxy.fail("POST _bulk", 1, Fault::LoseAnswer);
    let mut build = f.provider.begin_rebuild(at(1).into(), None).await.unwrap();
    // A batch is on its way while the next one is prepared.
    build.add(vec![document(7, 1)], product(7)).await.unwrap();
    build.add(vec![document(6, 1)], product(6)).await.unwrap_err();
    build.publish(at(5)).await.unwrap_err();
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(1)));
    f.proxy.fail("POST _aliases", 1, Fault::LoseAnswer);
    let mut build = f.provider.begin_rebuild(at(1).into(), None).await.unwrap();
    build.add(vec![document(8, 1)], product(8)).await.unwrap();
    build.publish(at(6)).await.unwrap();
    assert_eq!(state(&f.provider).await, [(8, 1)]);
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(6)));
    assert_eq!(f.index.indices().len(), 1, "everything else is removed");
}

/// A build that stops just before its index is put in use, is continued and published, and one whose index another
/// process is about to remove is not put in use.
#[tokio::test]
async fn r14_a_build_that_fails_at_its_end_is_continued() {
    let f = faulty("").await;
    let add = async |build: &mut dyn IndexBuild, from: u128| {
        for n in from..=4 {
            build.add(vec![document(n, 1)], product(n)).await.unwrap();
        }
    };
    for call in ["PUT _doc/checkpoint", "POST _aliases"] {
        let mut build = f.provider.begin_rebuild(at(2).into(), None).await.unwrap();
        add(&mut *build, 1).await;
        f.proxy.fail(call, 1, if call.starts_with("PUT") { Fault::LoseAnswer } else { Fault::Answer(503, BROKEN) });
        build.publish(at(2)).await.unwrap_err();
        let mut build = f.provider.begin_rebuild(at(9).into(), Some(at(2).position)).await.unwrap();
        let progress = build.continued().expect("a build that is continued");
        // That of a page comes with the next one.
        assert_eq!(progress, BuildProgress { start: at(2).into(), after: product(3) }, "{call}");
        add(&mut *build, 4).await;
        build.publish(at(3)).await.unwrap();
        assert_eq!(state(&f.provider).await, [(1, 1), (2, 1), (3, 1), (4, 1)]);
        assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(3)));
        assert_eq!(f.index.indices().len(), 1);
    }
    // Another process takes away the alias without which an index is not put in use.
    let mut build = f.provider.begin_rebuild(at(4).into(), None).await.unwrap();
    build.add(vec![document(7, 1)], product(7)).await.unwrap();
    let unfinished = f.index.indices().into_iter().max().unwrap();
    let remove = json!({"remove": {"index": unfinished, "alias": format!("{unfinished}-unfinished")}});
    let body = json!({"actions": [remove]}).to_string();
    let (status, answer) = test_servers::http(&f.index.url, "POST", "/_aliases", &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(!unknown(&build.publish(at(4)).await.unwrap_err()));
    assert_eq!(f.provider.checkpoint().await.unwrap(), Some(at(3)));
    f.provider.begin_rebuild(at(5).into(), None).await.unwrap().publish(at(5)).await.unwrap();
    assert_eq!(f.index.indices().len(), 1, "the next build removes it");
}

/// An index that ecom did not make is neither used nor changed.
#[tokio::test]
async fn an_index_of_somebody_else_under_our_name_is_refused() {
    for suffix in ["", "-f1"] {
        let index = test_servers::elasticsearch();
        let name = format!("{}{suffix}", index.name);
        let body = r#"{"mappings": {"properties": {"price": {"type": "text"}}}}"#;
        let (status, answer) = test_servers::http(&index.url, "PUT", &format!("/{name}"), body).unwrap();
        assert_eq!(status, 200, "{answer}");
        let url = format!("elasticsearch+{}?index={}&replicas=0", index.url, index.name);
        let provider = ElasticsearchSearch::open(ElasticsearchOptions::from_url(&url).unwrap()).unwrap();
        let error = apply(&provider, vec![upsert(1, 1)], at(1)).await.unwrap_err();
        assert!(!unknown(&error));
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(&format!("`{name}`")) && cause.contains("remove it"), "{cause}");
        assert_eq!(index.indices(), [name.as_str()], "nothing is left");
    }
}

#[tokio::test]
async fn a_closed_provider_refuses_calls() {
    let f = faulty("").await;
    f.provider.close().await;
    unknown(&found(&f.provider, "lamp").await.unwrap_err());
    assert!(!unknown(&apply(&f.provider, Vec::new(), at(2)).await.unwrap_err()));
}
