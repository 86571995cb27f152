//! The Tantivy adapter: the suite of the port, on disk and in memory, and the promises of this adapter alone.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ecom_core::Error;
use ecom_core::port::{IndexOp, SearchDocument, SearchProvider as _};
use ecom_core::search::{SearchFilter, SearchQuery, SearchRequest, Synonyms};
use ecom_core::testkit::SearchFixture;
use ecom_search::{TantivyOptions, TantivySearch};

#[path = "support/documents.rs"]
mod documents;

use documents::{apply, at, document, found, product, state, upsert};

async fn on_disk() -> SearchFixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let reopen = move || {
        let path = path.clone();
        async move { open(&path).await }
    };
    SearchFixture::new(reopen().await, dir).reopen_with(reopen)
}

async fn in_memory() -> SearchFixture {
    SearchFixture::new(TantivySearch::open(TantivyOptions::memory()).await.unwrap(), ()).in_memory()
}

mod disk {
    ecom_core::search_suite!(crate::on_disk);
}

mod memory {
    ecom_core::search_suite!(crate::in_memory);
}

const INDEX: &str = "ECOM_TEST_INDEX";

async fn open(dir: &Path) -> TantivySearch {
    TantivySearch::open(TantivyOptions::directory(dir)).await.unwrap()
}

/// Returns the names of the files in the directory of an index.
fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn generations(dir: &Path) -> usize {
    entries(dir).iter().filter(|n| n.starts_with("gen-") || n.starts_with("dead-")).count()
}

/// Waits until what another process has committed is visible.
async fn soon<F: Future<Output = bool>>(what: &str, mut seen: impl FnMut() -> F) {
    let start = Instant::now();
    while !seen().await {
        assert!(start.elapsed() < Duration::from_secs(120), "another process does not see {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn r14_reopening_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    {
        let search = open(dir.path()).await;
        assert!(search.acquire_writer().await.unwrap());
        apply(&search, vec![upsert(1, 5), upsert(2, 5)], at(1)).await.unwrap();
        apply(&search, vec![IndexOp::Delete { id: product(2), revision: 6 }], at(2)).await.unwrap();
    }
    for round in 0..3 {
        let search = open(dir.path()).await;
        assert_eq!(state(&search).await, [(1, 5)], "readable before anybody writes");
        assert_eq!(search.checkpoint().await.unwrap(), Some(at(2 + round)));
        assert_eq!(found(&search, "SKU-1").await.unwrap(), 1);
        assert!(search.acquire_writer().await.unwrap());
        let late = vec![upsert(1, 5), upsert(2, 6)];
        assert_eq!(apply(&search, late, at(3 + round)).await.unwrap(), 0, "tombstones are kept too");
        assert_eq!(state(&search).await, [(1, 5)]);
    }
}

/// Runs on a runtime with one thread, which nothing may block.
#[tokio::test]
async fn of_two_instances_one_writes_and_both_read() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (open(dir.path()).await, open(dir.path()).await);
    assert_eq!(found(&reader, "").await.unwrap(), 0, "an index that nobody has written to is empty");
    assert!(writer.acquire_writer().await.unwrap());
    assert!(!reader.acquire_writer().await.unwrap());
    let refused = apply(&reader, vec![upsert(9, 1)], at(9)).await.unwrap_err();
    assert!(refused.is_retryable() && !refused.outcome_unknown(), "{refused:?}");
    assert!(reader.begin_rebuild(at(1).into(), None).await.is_err());
    for n in 1..4u64 {
        apply(&writer, vec![upsert(n.into(), 1)], at(n.cast_signed())).await.unwrap();
        assert_eq!(found(&writer, "lamp").await.unwrap(), n);
        soon("a commit", || async { found(&reader, "lamp").await.unwrap() == n }).await;
        assert_eq!(reader.checkpoint().await.unwrap(), Some(at(n.cast_signed())), "the checkpoint is always current");
    }
    for round in 0..3 {
        let mut build = writer.begin_rebuild(at(1).into(), None).await.unwrap();
        build.add((1..=10 + round).map(|n| document(n, 1)).collect(), product(99)).await.unwrap();
        assert_eq!(generations(dir.path()), 2);
        build.publish(at(20)).await.unwrap();
        assert_eq!(generations(dir.path()), 1, "the old generation is removed");
        soon("a rebuild", || async { u128::from(found(&reader, "lamp").await.unwrap()) == 10 + round }).await;
    }
    assert!(!reader.acquire_writer().await.unwrap());
    drop(writer);
    assert!(reader.acquire_writer().await.unwrap(), "the next process takes over");
    assert_eq!(apply(&reader, vec![upsert(50, 1)], at(50)).await.unwrap(), 1);
    assert_eq!(found(&reader, "lamp").await.unwrap(), 13);
}

/// So that a process with many indices has memory for a few writers only.
#[tokio::test]
async fn a_writer_that_is_released_leaves_the_index_open() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (open(dir.path()).await, open(dir.path()).await);
    assert!(first.acquire_writer().await.unwrap());
    apply(&first, vec![upsert(1, 1)], at(1)).await.unwrap();
    for n in 1..4u64 {
        let (old, new) = if n % 2 == 1 { (&first, &second) } else { (&second, &first) };
        assert!(!new.acquire_writer().await.unwrap());
        old.release_writer().await.unwrap();
        old.release_writer().await.unwrap();
        assert_eq!(found(old, "lamp").await.unwrap(), n, "searches go on");
        assert!(new.acquire_writer().await.unwrap(), "another process may write");
        apply(new, vec![upsert(u128::from(n) + 1, 1)], at(n.cast_signed() + 1)).await.unwrap();
        soon("a commit", || async { found(old, "lamp").await.unwrap() == n + 1 }).await;
        assert!(!old.acquire_writer().await.unwrap());
    }
    let memory = TantivySearch::open(TantivyOptions::memory().writer_memory(15_000_000)).await.unwrap();
    apply(&memory, vec![upsert(1, 1)], at(1)).await.unwrap();
    memory.release_writer().await.unwrap();
    apply(&memory, vec![upsert(2, 1)], at(2)).await.unwrap();
    assert_eq!(found(&memory, "lamp").await.unwrap(), 2);
}

/// The pass of a shop ends while a job rebuilds its index.
#[tokio::test]
async fn r14_a_build_keeps_the_right_to_write_that_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (open(dir.path()).await, open(dir.path()).await);
    apply(&first, vec![upsert(1, 1)], at(1)).await.unwrap();
    for (n, is_published) in [(3, false), (5, true)] {
        let mut build = first.begin_rebuild(at(1).into(), None).await.unwrap();
        build.add(vec![document(2, 1)], product(2)).await.unwrap();
        first.release_writer().await.unwrap();
        assert!(!second.acquire_writer().await.unwrap(), "it would remove the files of the build");
        assert_eq!(apply(&first, vec![upsert(n, 1)], at(2)).await.unwrap(), 1);
        build.add(vec![document(4, 1)], product(4)).await.unwrap();
        if is_published {
            build.publish(at(5)).await.unwrap();
        } else {
            drop(build);
        }
        first.release_writer().await.unwrap();
        assert!(second.acquire_writer().await.unwrap(), "the build has ended");
        assert_eq!(state(&second).await, if is_published { [(2, 1), (4, 1)] } else { [(1, 1), (3, 1)] });
        second.release_writer().await.unwrap();
    }
}

/// A writer that is killed in a commit leaves files that Tantivy knows and that no commit names. It numbers the lists
/// of deleted documents by operations, so that the next writer needs the same names.
/// The reader has opened the directory on its own, as another process does. It searches right after it has read the
/// checkpoint, while the writer commits and rebuilds.
#[tokio::test(flavor = "multi_thread")]
async fn r15_another_instance_finds_what_its_checkpoint_names() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (open(dir.path()).await, open(dir.path()).await);
    assert!(writer.acquire_writer().await.unwrap());
    let cheap = |seq: i64| SearchDocument { price: Some(seq), ..document(1, seq) };
    apply(&writer, vec![IndexOp::Upsert(Box::new(cheap(1)))], at(1)).await.unwrap();
    let last = 150;
    let follow = tokio::spawn(async move {
        let mut seen = 0;
        while seen < last {
            seen = reader.checkpoint().await.unwrap().map_or(0, |at| at.position.seq);
            let price = Some(ecom_core::money::Money::from_minor(seen, ecom_core::money::Currency::USD));
            let filter = SearchFilter { min_price: price, ..SearchFilter::default() };
            let request =
                SearchRequest::new(SearchQuery { filter, ..SearchQuery::default() }, &Synonyms::default()).unwrap();
            let hits = reader.search(&request).await.unwrap().hits.len();
            assert_eq!(hits, 1, "the checkpoint names position {seen}, and the search finds an older document");
        }
    });
    for seq in 2..=last {
        if seq % 10 == 0 {
            let mut build = writer.begin_rebuild(at(1).into(), None).await.unwrap();
            build.add(vec![cheap(seq)], product(99)).await.unwrap();
            build.publish(at(seq)).await.unwrap();
        } else {
            apply(&writer, vec![IndexOp::Upsert(Box::new(cheap(seq)))], at(seq)).await.unwrap();
        }
    }
    follow.await.unwrap();
}

#[tokio::test]
async fn r14_the_files_of_a_commit_that_did_not_end_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let search = open(dir.path()).await;
    apply(&search, (0..10).map(|n| upsert(n, 1)).collect(), at(1)).await.unwrap();
    drop(search);

    let generation = dir.path().join(entries(dir.path()).iter().find(|n| n.starts_with("gen-")).unwrap());
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(generation.join(name)).unwrap()).unwrap()
    };
    let (meta, mut managed) = (json("meta.json"), json(".managed.json"));
    let segment = meta["segments"][0]["segment_id"].as_str().unwrap().replace('-', "");
    let last = meta["opstamp"].as_u64().unwrap();
    for operation in last..last + 50 {
        let name = format!("{segment}.{operation}.del");
        fs::write(generation.join(&name), "half a li").unwrap();
        managed.as_array_mut().unwrap().push(name.into());
    }
    fs::write(generation.join(".managed.json"), managed.to_string()).unwrap();

    let search = open(dir.path()).await;
    assert!(search.acquire_writer().await.unwrap());
    assert_eq!(apply(&search, (0..5).map(|n| upsert(n, 2)).collect(), at(2)).await.unwrap(), 5);
    assert_eq!(state(&search).await, (0..10).map(|n| (n, if n < 5 { 2 } else { 1 })).collect::<Vec<_>>());
    let left =
        fs::read_dir(&generation).unwrap().filter(|e| e.as_ref().unwrap().path().extension() == Some("del".as_ref()));
    assert!(left.count() <= 1, "the files are removed");
}

#[tokio::test]
async fn a_dropped_rebuild_leaves_nothing_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let search = open(dir.path()).await;
    assert!(search.acquire_writer().await.unwrap());
    let before = entries(dir.path());
    let mut build = search.begin_rebuild(at(1).into(), None).await.unwrap();
    build.add((0..100).map(|n| document(n, 1)).collect(), product(99)).await.unwrap();
    assert_ne!(entries(dir.path()), before);
    drop(build);
    assert_eq!(entries(dir.path()), before);
}

/// Returns the content of the child's index once it has applied everything up to `seq`.
fn model(seq: i64) -> Vec<(u128, i64)> {
    let mut live = BTreeMap::new();
    for s in 1..=seq {
        let (upserted, deleted) = targets(s);
        live.insert(upserted, s);
        live.remove(&deleted);
    }
    live.into_iter().collect()
}

fn targets(seq: i64) -> (u128, u128) {
    let seq = u128::try_from(seq).unwrap();
    (seq * 7 % 23, seq * 5 % 23 + 23 * (seq % 2))
}

/// [`r14_killed_writers_lose_nothing_that_was_acknowledged`] runs it in a child process, until it kills that process.
#[tokio::test]
async fn child_that_applies_until_it_is_killed() {
    let Some(dir) = std::env::var_os(INDEX) else { return };
    let search = open(Path::new(&dir)).await;
    assert!(search.acquire_writer().await.unwrap());
    let mut seq = search.checkpoint().await.unwrap().map_or(0, |c| c.position.seq);
    loop {
        if seq % 9 == 8 {
            let mut build = search.begin_rebuild(at(1).into(), None).await.unwrap();
            let documents = model(seq).into_iter().map(|(n, revision)| document(n, revision)).collect();
            build.add(documents, product(99)).await.unwrap();
            build.publish(at(seq)).await.unwrap();
        }
        seq += 1;
        let (upserted, deleted) = targets(seq);
        let ops = vec![upsert(upserted, seq), IndexOp::Delete { id: product(deleted), revision: seq }];
        apply(&search, ops, at(seq)).await.unwrap();
        println!("\nacknowledged {seq}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_killed_writers_lose_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path()).await;
    for round in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_applies_until_it_is_killed", "--nocapture"])
            .env(INDEX, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = |until: i64| {
            let mut last = None;
            for line in lines.by_ref() {
                if let Some(seq) = line.unwrap().strip_prefix("acknowledged ") {
                    last = Some(seq.parse::<i64>().unwrap());
                    if last >= Some(until) {
                        break;
                    }
                }
            }
            last
        };
        let first = acknowledged(0).expect("the child applies");
        assert!(!witness.acquire_writer().await.unwrap(), "the child has the right to write");
        let checkpoint = witness.checkpoint().await.unwrap().unwrap();
        assert!(checkpoint.position.seq >= first, "a reader sees what another process has committed");
        // This process never sees documents without their checkpoint, or a checkpoint without its documents.
        let (start, mut conclusive) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(40 + 37 * round) || conclusive == 0 {
            assert!(start.elapsed() < Duration::from_secs(120), "the checkpoint changes too fast to be compared");
            let before = witness.checkpoint().await.unwrap();
            let seen = state(&witness).await;
            if before == witness.checkpoint().await.unwrap() {
                assert_eq!(seen, model(before.unwrap().position.seq));
                conclusive += 1;
            }
        }
        // Killed at any moment: between commits, in a commit, in a rebuild.
        child.kill().unwrap();
        let last = acknowledged(i64::MAX).unwrap_or(first);
        child.wait().unwrap();

        for search in [open(dir.path()).await, witness.clone()] {
            let reached = search.checkpoint().await.unwrap().unwrap().position.seq;
            // The last one may have been committed although its answer was lost.
            assert!((last..=last + 1).contains(&reached), "acknowledged {last}, found {reached}");
            assert_eq!(state(&search).await, model(reached), "documents and checkpoint agree");
        }
        let next = open(dir.path()).await;
        assert!(next.acquire_writer().await.unwrap(), "the right to write is free after a kill");
        assert_eq!(generations(dir.path()), 1, "the unfinished build was removed");
        let reached = next.checkpoint().await.unwrap().unwrap().position.seq;
        assert_eq!(state(&next).await, model(reached));
    }
}

/// Changes every file of the only generation whose name matches.
fn damage(dir: &Path, matches: impl Fn(&str) -> bool, change: impl Fn(&mut Vec<u8>)) {
    let generation = entries(dir).into_iter().find(|n| n.starts_with("gen-")).unwrap();
    let mut changed = 0;
    for name in entries(&dir.join(&generation)) {
        if matches(&name) {
            let path = dir.join(&generation).join(name);
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(&path, bytes).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 0);
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from));
    *bytes = text.replace(from, to).into_bytes();
}

#[tokio::test]
async fn r14_what_cannot_be_read_gives_way_to_an_empty_index() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 9] = [
        ("CURRENT is garbage", |d| fs::write(d.join("CURRENT"), b"\xff\x00garbage").unwrap()),
        ("CURRENT names what is not there", |d| {
            fs::write(d.join("CURRENT"), br#"{"format":1,"generation":99}"#).unwrap();
        }),
        ("another format", |d| fs::write(d.join("CURRENT"), br#"{"format":9999,"generation":1}"#).unwrap()),
        ("the generation is gone", |d| fs::remove_dir_all(d.join("gen-1")).unwrap()),
        ("meta.json is garbage", |d| damage(d, |n| n == "meta.json", |b| *b = b"{".to_vec())),
        ("meta.json is empty", |d| damage(d, |n| n == "meta.json", Vec::clear)),
        ("another schema", |d| damage(d, |n| n == "meta.json", |b| replace(b, "title_stems", "title_stemz"))),
        ("segments are cut short", |d| damage(d, |n| n.contains('-') || n.len() > 30, |b| b.truncate(b.len() / 2))),
        ("segments are damaged inside", |d| {
            damage(
                d,
                |n| n.len() > 30,
                |b| {
                    let middle = b.len() / 3;
                    b[middle] ^= 0x55;
                },
            );
        }),
    ];
    for (what, case) in cases {
        let dir = tempfile::tempdir().unwrap();
        {
            let search = open(dir.path()).await;
            assert!(search.acquire_writer().await.unwrap());
            apply(&search, (1..50).map(|n| upsert(n, 1)).collect(), at(1)).await.unwrap();
        }
        case(dir.path());
        let search = open(dir.path()).await;
        assert!(search.acquire_writer().await.unwrap(), "{what}");
        assert_eq!(search.checkpoint().await.unwrap(), None, "{what}: the caller is told to rebuild");
        assert_eq!(found(&search, "").await.unwrap(), 0, "{what}");
        assert_eq!(generations(dir.path()), 1, "{what}: the broken one is removed");
        apply(&search, vec![upsert(1, 1)], at(2)).await.unwrap();
        assert_eq!(found(&search, "lamp").await.unwrap(), 1, "{what}");
        drop(search);
        let search = open(dir.path()).await;
        assert_eq!(search.checkpoint().await.unwrap(), Some(at(2)), "{what}");
    }
}

#[tokio::test]
async fn r16_a_place_that_cannot_be_written_to_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret-file");
    fs::write(&file, "").unwrap();
    let broken = |name: &str| {
        let index = dir.path().join("secret-index");
        fs::create_dir_all(index.join(name)).unwrap();
        index
    };
    let cases = [
        (file.join("index"), "must not be a file, nor lie below one"),
        (file.clone(), "must not be a file"),
        (broken("writer.lock"), "cannot be written to"),
        (broken("CURRENT"), "remove the directory, so that the index is rebuilt"),
    ];
    for (i, (path, advice)) in cases.into_iter().enumerate() {
        if i == 3 {
            fs::remove_dir(path.join("writer.lock")).unwrap();
        }
        let error = TantivySearch::open(TantivyOptions::directory(path)).await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Validation(_)), "{error:?}");
        assert!(message.contains("search: ") && message.contains(advice), "{message}");
        assert!(!message.contains("secret-"), "{message}");
    }
}

/// Merges, deletes and many small commits leave the index correct and small.
#[tokio::test]
async fn many_small_commits_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let search = open(dir.path()).await;
    assert!(search.acquire_writer().await.unwrap());
    for revision in 1..=60 {
        let ops = (0..20).map(|n| upsert(n, revision)).collect();
        assert_eq!(apply(&search, ops, at(revision)).await.unwrap(), 20);
        assert_eq!(found(&search, "lamp").await.unwrap(), 20);
    }
    assert_eq!(state(&search).await, (0..20).map(|n| (n, 60)).collect::<Vec<_>>());
    let files = fs::read_dir(dir.path().join("gen-1")).unwrap().count();
    assert!(files < 300, "{files} files");
}
