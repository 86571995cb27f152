//! Feeds: a source that changes is imported once, in one process, to its end.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use super::ShopFixture;
use super::support::{LONG, fields, me, until};
use crate::catalog::{Feed, FeedStatus, ImportFormat, ImportKind, ImportOptions, ProductFilter};
use crate::clock::Clock as _;
use crate::config::ShopConfig;
use crate::domain::catalog::feed::{FeedState, FeedVersion};
use crate::domain::platform::job::{Job, JobFilter, JobKind, JobState};
use crate::error::{ErrorCode, FieldCode};
use crate::paging::Paging;
use crate::port::{FeedContent, FeedError, Fetched, ImportFeed};
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;

tests! {
    __shop_feeds: [
        a_feed_is_imported_once_for_each_of_its_versions,
        a_feed_without_versions_is_imported_at_every_poll,
        two_processes_import_each_version_once,
        the_import_of_a_process_that_dies_is_repeated_and_continues,
        a_version_counts_once_its_import_has_reached_the_end,
        failures_of_a_feed_are_shown_and_the_pauses_grow,
        a_stop_ends_an_import_and_another_process_continues,
        other_settings_import_a_feed_again,
        a_poll_can_be_requested,
        a_poll_that_is_requested_during_a_poll_follows_it,
        feeds_that_cannot_work_are_refused,
    ]
}

/// The interval of the feeds of these tests. Processes look whether a feed is due ten times in an interval, but by the
/// clock of the machine, so that a longer interval would take longer.
const EVERY: Duration = Duration::from_secs(2);
/// The pause after the first failure.
const PAUSE: Duration = Duration::from_secs(30);
/// A pause that a source asks for, longer than that after the third failure.
const ASKED: Duration = Duration::from_secs(300);

/// What follows the text of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    /// The connection breaks off.
    Break,
    /// Nothing arrives any more.
    Hang,
    /// The source ends once the test allows it.
    Wait,
    /// The source ends, and does not answer before the test allows it.
    Late,
}

/// A source that a test changes.
#[derive(Debug)]
struct Source {
    version: Option<FeedVersion>,
    text: String,
    then: Then,
    /// The errors of the next polls.
    errors: Vec<FeedError>,
    panics: bool,
}

#[derive(Debug)]
pub(super) struct TestFeed {
    source: Mutex<Source>,
    polls: AtomicUsize,
    /// Lets a source continue that waits or is late.
    go_on: Arc<Notify>,
}

impl TestFeed {
    /// Returns a source without records and versions.
    pub(super) fn new() -> Arc<Self> {
        let source = Source { version: None, text: String::new(), then: Then::End, errors: Vec::new(), panics: false };
        Arc::new(Self { source: Mutex::new(source), polls: AtomicUsize::new(0), go_on: Arc::default() })
    }

    /// Returns a source with the first version: some products.
    fn of(count: usize) -> Arc<Self> {
        let feed = Self::new();
        feed.set(Some("1"), &products(count, "5"));
        feed
    }

    fn set(&self, version: Option<&str>, text: &str) {
        let mut source = self.source.lock();
        source.version = version.and_then(FeedVersion::new);
        text.clone_into(&mut source.text);
    }

    fn then(&self, then: Then) {
        self.source.lock().then = then;
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl ImportFeed for TestFeed {
    fn location(&self) -> String {
        "the test".to_owned()
    }

    fn identity(&self) -> String {
        "the test".to_owned()
    }

    async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        let is_late = self.source.lock().then == Then::Late;
        if is_late {
            self.go_on.notified().await;
        }
        let mut source = self.source.lock();
        assert!(!source.panics, "a password");
        if let Some(error) = source.errors.pop() {
            return Err(error);
        }
        if known.is_some() && known == source.version.as_ref() {
            return Ok(Fetched::Unchanged);
        }
        let version = source.version.clone();
        let text = Bytes::from(source.text.clone());
        Ok(Fetched::Changed(match source.then {
            Then::End | Then::Late => FeedContent::from_reader(version, io::Cursor::new(text)),
            Then::Break => FeedContent::from_reader(version, io::Cursor::new(text).chain(Broken)),
            Then::Hang => {
                let stream = futures::stream::iter([Ok(text)]).chain(futures::stream::pending());
                FeedContent::from_stream(version, stream, Duration::MAX)
            }
            Then::Wait => {
                let go_on = self.go_on.clone();
                let rest = futures::stream::once(async move {
                    go_on.notified().await;
                    Ok(Bytes::from_static(b"\n"))
                });
                let stream = futures::stream::iter([Ok(text)]).chain(rest);
                FeedContent::from_stream(version, stream.boxed(), Duration::MAX)
            }
        }))
    }
}

/// The end of a connection that has broken off.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::ConnectionReset.into())
    }
}

/// Returns products as JSON lines.
fn products(count: usize, price: &str) -> String {
    let line = |n| format!("{}\n", json!({ "external_id": n, "title": format!("Lamp {n}"), "price": price }));
    (0..count).map(line).collect()
}

/// Returns a feed of products whose every record is a batch.
fn feed(source: &Arc<TestFeed>) -> Feed {
    Feed::new("erp", ImportKind::Products, source.clone()).every(EVERY).options(|| ImportOptions::default().batch(1))
}

/// Returns a process that polls feeds, and looks often whether they are due.
fn process(f: &ShopFixture, feeds: Vec<Feed>, lease_ttl: Duration) -> Shop {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10)).lease_ttl(lease_ttl);
    Shop::new(ShopParts { feeds, config, ..f.parts() }).unwrap()
}

async fn state(f: &ShopFixture) -> Option<FeedState> {
    read!(f.storage, feeds.get(FeedState::id_of("erp")))
}

/// Waits until the state of the feed is as wanted, and returns it.
async fn reaches(f: &ShopFixture, what: &str, holds: impl Fn(&FeedState) -> bool) -> FeedState {
    let mut last = None;
    until(what, async || {
        last = state(f).await;
        last.as_ref().is_some_and(&holds)
    })
    .await;
    last.unwrap()
}

/// Waits until a version was imported to its end.
async fn imported(f: &ShopFixture, version: &str) -> FeedState {
    let version = FeedVersion::new(version);
    reaches(f, "the import has ended", |state| state.version == version && !state.running).await
}

/// Returns the jobs of imports, oldest first.
async fn jobs(f: &ShopFixture) -> Vec<Job> {
    let filter = JobFilter { kind: Some(JobKind::IMPORT), state: None };
    let mut jobs = f.shop.jobs().list(&filter, &Paging::first(100)).await.unwrap().0.items;
    jobs.reverse();
    jobs
}

fn counters(job: &Job) -> BTreeMap<&str, u64> {
    job.counters.iter().map(|(name, n)| (name.as_str(), *n)).collect()
}

/// The second version has another price, and the third one the same records.
pub async fn a_feed_is_imported_once_for_each_of_its_versions(f: &ShopFixture) {
    let source = TestFeed::of(3);
    let background = process(f, vec![feed(&source)], LONG).start();
    let first = imported(f, "1").await;
    let now = f.clock.now();
    assert_eq!((first.polled_at, first.imported_at, first.next_poll_at), (Some(now), Some(now), now + EVERY));
    let all = jobs(f).await;
    assert_eq!((all.len(), all[0].state, first.last_job), (1, JobState::Succeeded, Some(all[0].id)));
    assert_eq!(all[0].parameters, *json!({ "of": "products", "file": "erp", "feed": "erp" }).as_object().unwrap());
    assert_eq!((all[0].audit.created_by.as_str(), counters(&all[0])["inserted"]), ("feed:erp", 3));
    assert_eq!(f.listed(ProductFilter::default()).await, ["Lamp 0", "Lamp 1", "Lamp 2"]);

    f.clock.advance(EVERY);
    let second = reaches(f, "it is polled again", |state| state.polled_at == Some(f.clock.now())).await;
    assert_eq!((second.imported_at, source.polls()), (first.imported_at, 2));
    assert_eq!(jobs(f).await.len(), 1, "an unchanged source makes no job");

    source.set(Some("2"), &products(3, "6"));
    f.clock.advance(EVERY);
    imported(f, "2").await;
    assert_eq!(counters(&jobs(f).await[1]), BTreeMap::from([("read", 3), ("updated", 3)]));

    let head = f.head().await;
    source.set(Some("3"), &products(3, "6"));
    f.clock.advance(EVERY);
    imported(f, "3").await;
    assert_eq!(counters(&jobs(f).await[2]), BTreeMap::from([("read", 3), ("unchanged", 3)]));
    assert_eq!(f.events_after(head).await, [], "records that agree with their rows write nothing");
    background.shutdown().await;
    assert_eq!((jobs(f).await.len(), source.polls()), (3, 4));
}

/// Nobody knows whether the source has changed.
pub async fn a_feed_without_versions_is_imported_at_every_poll(f: &ShopFixture) {
    let source = TestFeed::new();
    source.set(None, &products(2, "5"));
    let background = process(f, vec![feed(&source)], LONG).start();
    for n in 1..=3 {
        until("it is imported", async || jobs(f).await.len() == n).await;
        reaches(f, "the import has ended", |state| !state.running && state.imported_at == Some(f.clock.now())).await;
        f.clock.advance(EVERY);
    }
    background.shutdown().await;
    assert_eq!(counters(&jobs(f).await[2]), BTreeMap::from([("read", 2), ("unchanged", 2)]));
}

/// The background work of both shops polls without a pause.
pub async fn two_processes_import_each_version_once(f: &ShopFixture) {
    let source = TestFeed::new();
    source.set(Some("1"), &products(1, "5"));
    let running: Vec<_> = (0..2).map(|_| process(f, vec![feed(&source)], LONG).start()).collect();
    imported(f, "1").await;
    // Both processes have nothing to do when the clock advances.
    for n in 2..=5 {
        source.set(Some(&n.to_string()), &products(n, "5"));
        f.clock.advance(EVERY);
        imported(f, &n.to_string()).await;
    }
    for background in running {
        background.shutdown().await;
    }
    let all = jobs(f).await;
    let read: Vec<u64> = all.iter().map(|job| counters(job)["read"]).collect();
    assert_eq!(read, [1, 2, 3, 4, 5], "each version must be imported once");
    assert!(all.iter().all(|job| job.state == JobState::Succeeded), "{all:?}");
    assert_eq!(state(f).await.unwrap().failures, 0);
}

/// The process is killed after three of five records, and the next one continues after them.
pub async fn the_import_of_a_process_that_dies_is_repeated_and_continues(f: &ShopFixture) {
    let source = TestFeed::of(5);
    let whole = source.source.lock().text.clone();
    source.set(Some("1"), &whole.split_inclusive('\n').take(3).collect::<String>());
    source.then(Then::Hang);
    let first = process(f, vec![feed(&source)], Duration::from_secs(1)).start();
    let dying = reaches(f, "the progress is noted", |state| state.done == 3).await;
    assert_eq!((dying.running, &dying.version, dying.failures), (true, &None, 1));
    drop(first);
    source.set(Some("1"), &whole);
    source.then(Then::End);
    f.clock.advance(PAUSE);
    let second = process(f, vec![feed(&source)], LONG).start();
    let done = imported(f, "1").await;
    assert_eq!((done.failures, &done.last_error, done.done, &done.begun), (0, &None, 0, &None));
    let dead = jobs(f).await[0].id;
    until("the job of the dead process is over", async || {
        f.shop.jobs().get(dead).await.unwrap().state == JobState::Failed
    })
    .await;
    second.shutdown().await;
    let all = jobs(f).await;
    assert_eq!((all.len(), all[1].state), (2, JobState::Succeeded));
    assert_eq!(counters(&all[1]), BTreeMap::from([("read", 2), ("inserted", 2), ("skipped", 3)]));
    assert_eq!(f.listed(ProductFilter::default()).await.len(), 5);
    assert_eq!(source.polls(), 2);
}

/// The connection breaks off after two of three records, and then the source is another one.
pub async fn a_version_counts_once_its_import_has_reached_the_end(f: &ShopFixture) {
    let source = TestFeed::of(2);
    source.then(Then::Break);
    let background = process(f, vec![feed(&source)], LONG).start();
    let failed = reaches(f, "the import has failed", |state| state.last_error.is_some()).await;
    assert_eq!((&failed.version, failed.running, failed.failures, failed.done), (&None, false, 1, 2));
    assert!(failed.last_error.as_ref().is_some_and(|e| e.contains("ended early")), "{failed:?}");
    assert_eq!(failed.next_poll_at, f.clock.now() + PAUSE);
    let job = jobs(f).await.remove(0);
    assert_eq!((job.state, counters(&job)["inserted"]), (JobState::Failed, 2), "what was read stays");

    f.clock.advance(PAUSE);
    let again = reaches(f, "it has failed again", |state| state.failures == 2 && !state.running).await;
    assert_eq!((&again.version, again.next_poll_at), (&None, f.clock.now() + 2 * PAUSE));
    source.set(Some("2"), &products(3, "5"));
    source.then(Then::End);
    f.clock.advance(2 * PAUSE);
    let good = imported(f, "2").await;
    assert_eq!((good.failures, good.last_error), (0, None));
    background.shutdown().await;
    let all = jobs(f).await;
    assert_eq!(counters(&all[1]), BTreeMap::from([("read", 0), ("skipped", 2)]), "the same version continues");
    let whole = BTreeMap::from([("read", 3), ("inserted", 1), ("unchanged", 2)]);
    assert_eq!(counters(&all[2]), whole, "another version is imported from its beginning");
}

/// The source is down, asks for a pause, and then its adapter panics.
pub async fn failures_of_a_feed_are_shown_and_the_pauses_grow(f: &ShopFixture) {
    let source = TestFeed::of(1);
    let down = || FeedError::new("the server has answered with the status 503");
    source.source.lock().errors = vec![down().retry_after(Some(ASKED)), down(), down()];
    let shop = process(f, vec![feed(&source)], LONG);
    let background = shop.start();
    for (failures, pause) in [(1, PAUSE), (2, 2 * PAUSE), (3, ASKED)] {
        let failed = reaches(f, "it has failed", |state| state.failures == failures).await;
        assert_eq!(failed.last_error.as_deref(), Some("the server has answered with the status 503"));
        assert_eq!((failed.next_poll_at, failed.polled_at), (f.clock.now() + pause, Some(f.clock.now())));
        let shown = shop.feeds().list().await.unwrap();
        assert_eq!(shown.iter().map(|status| &status.state).collect::<Vec<_>>(), [&failed]);
        f.clock.advance(pause);
    }
    let good = imported(f, "1").await;
    assert_eq!((good.failures, good.last_error), (0, None));
    assert_eq!((source.polls(), jobs(f).await.len()), (4, 1), "a poll that fails makes no job");
    source.source.lock().panics = true;
    f.clock.advance(EVERY);
    let panicked = reaches(f, "it has panicked", |state| state.failures == 1).await;
    let error = panicked.last_error.unwrap();
    assert!(error.contains("panicked") && !error.contains("password"), "{error}");
    background.shutdown().await;
}

/// The source sends nothing any more while the shop stops.
pub async fn a_stop_ends_an_import_and_another_process_continues(f: &ShopFixture) {
    let source = TestFeed::of(5);
    let whole = source.source.lock().text.clone();
    source.set(Some("1"), &whole.split_inclusive('\n').take(3).collect::<String>());
    source.then(Then::Hang);
    let first = process(f, vec![feed(&source)], Duration::from_secs(1)).start();
    reaches(f, "three records are written", |state| state.done == 3).await;
    first.shutdown().await;
    let stopped = state(f).await.unwrap();
    assert_eq!((stopped.running, stopped.done, stopped.failures, &stopped.last_error), (false, 3, 0, &None));
    let job = jobs(f).await.remove(0);
    assert_eq!(job.state, JobState::Failed);
    assert!(job.last_error.is_some_and(|e| e.contains("the shop was stopped")), "the job must say why");
    source.set(Some("1"), &whole);
    source.then(Then::End);
    // The ids of jobs sort by time.
    f.clock.advance(Duration::from_secs(1));
    let second = process(f, vec![feed(&source)], LONG).start();
    imported(f, "1").await;
    second.shutdown().await;
    assert_eq!(counters(&jobs(f).await[1]), BTreeMap::from([("read", 2), ("inserted", 2), ("skipped", 3)]));
}

/// The records belong to another system now.
pub async fn other_settings_import_a_feed_again(f: &ShopFixture) {
    let source = TestFeed::of(2);
    let background = process(f, vec![feed(&source)], LONG).start();
    imported(f, "1").await;
    background.shutdown().await;
    let options = || ImportOptions::default().source("erp");
    let background = process(f, vec![feed(&source).options(options)], LONG).start();
    f.clock.advance(EVERY);
    reaches(f, "it is imported again", |state| state.imported_at == Some(f.clock.now())).await;
    background.shutdown().await;
    assert_eq!(counters(&jobs(f).await[1])["inserted"], 2);
}

/// Before the first poll and between two.
pub async fn a_poll_can_be_requested(f: &ShopFixture) {
    let source = TestFeed::of(1);
    let shop = process(f, vec![feed(&source)], LONG);
    let listed = async || shop.feeds().list().await.unwrap().remove(0);
    let FeedStatus { feed, state, .. } = listed().await;
    assert_eq!((feed.name(), feed.interval(), feed.source().location()), ("erp", EVERY, "the test".to_owned()));
    assert_eq!((state.polled_at, state.is_due(f.clock.now()), state.version), (None, true, None));
    let requested = shop.acting_as(me()).feeds().poll("erp").await.unwrap().state;
    assert_eq!(&requested.audit.updated_by, me().actor());
    let background = shop.start();
    imported(f, "1").await;
    source.set(Some("2"), &products(2, "5"));
    f.clock.advance(Duration::from_secs(1));
    let requested = shop.acting_as(me()).feeds().poll("erp").await.unwrap().state;
    assert_eq!((&requested.audit.updated_by, requested.next_poll_at), (me().actor(), f.clock.now()));
    imported(f, "2").await;
    background.shutdown().await;
    assert_eq!(code_of(shop.feeds().poll("other").await, "there is no such feed"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.feeds().poll("erp").await, "this process has no feed"), ErrorCode::NotFound);
    assert!(f.shop.feeds().list().await.unwrap().is_empty());
}

/// Another process requests the poll: first during an import, and then while the source is being asked.
pub async fn a_poll_that_is_requested_during_a_poll_follows_it(f: &ShopFixture) {
    let source = TestFeed::of(2);
    source.then(Then::Wait);
    let other = process(f, vec![feed(&source)], LONG);
    let background = process(f, vec![feed(&source)], LONG).start();
    reaches(f, "an import runs", |state| state.running).await;
    f.clock.advance(Duration::from_secs(1));
    let requested = other.acting_as(me()).feeds().poll("erp").await.unwrap().state;
    assert!(requested.running && requested.next_poll_at == f.clock.now(), "{requested:?}");
    source.set(Some("2"), &products(3, "5"));
    source.then(Then::End);
    source.go_on.notify_one();
    let second = imported(f, "2").await;
    assert_eq!((second.next_poll_at, source.polls()), (f.clock.now() + EVERY, 2), "one more poll");

    source.then(Then::Late);
    f.clock.advance(EVERY);
    until("the source is asked", async || source.polls() == 3).await;
    f.clock.advance(Duration::from_secs(1));
    other.acting_as(me()).feeds().poll("erp").await.unwrap();
    source.then(Then::End);
    source.go_on.notify_one();
    let fourth = reaches(f, "it is polled again", |state| state.next_poll_at == f.clock.now() + EVERY).await;
    background.shutdown().await;
    assert_eq!((fourth.version, fourth.failures, source.polls()), (FeedVersion::new("2"), 0, 4));
    assert_eq!(jobs(f).await.len(), 2);
}

/// All problems are named at once.
pub async fn feeds_that_cannot_work_are_refused(f: &ShopFixture) {
    let source = TestFeed::new();
    let with = |name: &str| Feed::new(name, ImportKind::Customers, source.clone());
    let shopify = || ImportOptions::default().format(ImportFormat::Shopify).batch(0);
    let feeds = vec![
        with("a"),
        with("a").every(Duration::from_millis(999)),
        with("b").options(shopify),
        with("An ERP"),
        with(""),
        with(&"x".repeat(65)),
        with("c").options(|| ImportOptions::default().delay(Duration::from_secs(61))),
    ];
    let refused = fields(Shop::new(ShopParts { feeds, ..f.parts() }), "feeds");
    let expected = [
        ("feeds.a.interval", FieldCode::OutOfBounds),
        ("feeds.a.name", FieldCode::Inconsistent),
        ("feeds.b.batch", FieldCode::OutOfBounds),
        ("feeds.b.format", FieldCode::Inconsistent),
        ("feeds.c.delay", FieldCode::OutOfBounds),
        ("feeds[3].name", FieldCode::Malformed),
        ("feeds[4].name", FieldCode::Malformed),
        ("feeds[5].name", FieldCode::Malformed),
    ];
    assert_eq!(refused, expected.map(|(field, code)| (field.to_owned(), code)).into());
}
