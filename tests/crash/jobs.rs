//! Jobs of an application in several processes that are killed.
//!
//! `ECOM_CRASH_JOBS` sets how many jobs each test enqueues: 100 by default, 10,000 for a long proof.

use std::collections::{HashMap, HashSet};
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::config::ShopConfig;
use ecom_core::id::SkuId;
use ecom_core::money::Currency;
use ecom_core::paging::Paging;
use ecom_core::platform::{
    Job, JobError, JobFilter, JobHandler, JobKind, JobQueue, JobRun, JobState, NewJob, TransactionalJobHandler,
};
use ecom_core::port::{NoSearch, Storage as _};
use ecom_core::{Shop, ShopParts, Tx};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{LIMIT, Place, Process, adjustment, input, me, say, storage};

const EXACT: &str = "exactly-once";
const PLAIN: &str = "at-least-once";
const BROKEN: &str = "broken";
const TICK: &str = "tick";

/// From this number of jobs on, a test is a long proof, which also waits until the schedule has fired twice.
const LONG_PROOF: usize = 10_000;
/// The longest time without progress after the last job, which includes two full minutes.
const TICK_LIMIT: Duration = Duration::from_secs(240);

/// The number of processes.
const PROCESSES: usize = 4;

/// Returns how many jobs a test enqueues.
fn jobs() -> usize {
    let given = std::env::var_os("ECOM_CRASH_JOBS").and_then(|n| n.into_string().ok());
    given.map_or(100, |n| n.parse().unwrap())
}

/// Adds a piece to the SKU that the job names.
#[derive(Debug)]
struct Add;

fn sku_of(run: &JobRun) -> SkuId {
    run.job().parameters["sku"].as_str().unwrap().parse().unwrap()
}

#[async_trait]
impl TransactionalJobHandler for Add {
    async fn run(&self, tx: &mut Tx<'_>, run: &JobRun) -> Result<(), JobError> {
        run.shop().inventory().adjust_in(tx, adjustment(sku_of(run), 1, run.job().id.to_string())).await?;
        Ok(())
    }
}

#[async_trait]
impl JobHandler for Add {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        run.shop().inventory().adjust(adjustment(sku_of(run), 1, run.job().id.to_string())).await?;
        Ok(())
    }
}

#[derive(Debug)]
struct Fail;

#[async_trait]
impl JobHandler for Fail {
    async fn run(&self, _: &JobRun) -> Result<(), JobError> {
        Err(JobError::new("the other system is away"))
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl JobHandler for Nothing {
    async fn run(&self, _: &JobRun) -> Result<(), JobError> {
        Ok(())
    }
}

async fn open(at: &Place) -> Shop {
    let storage = storage(at);
    storage.migrate(Currency::USD).await.unwrap();
    let config = ShopConfig::default().poll_interval(Duration::from_millis(20)).lease_ttl(Duration::from_secs(1));
    let pauses = (Duration::from_millis(10), Duration::from_millis(50));
    let job_queues = vec![
        JobQueue::transactional(EXACT, Add).max_attempts(100).pauses(pauses.0, pauses.1),
        JobQueue::new(PLAIN, Add).max_attempts(100).pauses(pauses.0, pauses.1),
        // A kill counts as an attempt as well.
        JobQueue::new(BROKEN, Fail).max_attempts(3).pauses(pauses.0, pauses.1),
        JobQueue::new(TICK, Nothing).max_attempts(100).cron("tick", "* * * * *"),
    ];
    let parts = ShopParts::new(Arc::new(storage), Arc::new(NoSearch));
    Shop::new(ShopParts { job_queues, config, ..parts }).unwrap()
}

/// Runs a child, which runs jobs until its death.
pub async fn child(at: &Place) {
    let shop = open(at).await;
    let _background = shop.start();
    say("ready");
    std::future::pending::<()>().await;
}

async fn counted(shop: &Shop, kind: &str, state: JobState) -> u64 {
    let queues = shop.jobs().queues().await.unwrap();
    queues.iter().find(|queue| queue.kind.as_str() == kind).map_or(0, |queue| queue.jobs[state.as_str()])
}

/// Returns all jobs of a kind.
async fn all(shop: &Shop, kind: &'static str) -> Vec<Job> {
    let filter = JobFilter { kind: Some(JobKind::from(kind)), state: None };
    let (mut jobs, mut after) = (Vec::new(), None);
    loop {
        let page = shop.jobs().list(&filter, &Paging::Keyset { after, limit: 100 }).await.unwrap().0;
        jobs.extend(page.items);
        after = page.next;
        if after.is_none() {
            return jobs;
        }
    }
}

/// Checks how often each job of a kind has added a piece to a SKU. The movements of stock name their jobs.
async fn each_takes_effect(shop: &Shop, kind: &'static str, sku: SkuId, times: impl RangeBounds<usize>) {
    let (mut effects, mut after) = (HashMap::<String, usize>::new(), None);
    loop {
        let page = shop.inventory().movements(sku, &Paging::Keyset { after, limit: 1_000 }).await.unwrap().0;
        for movement in page.items {
            *effects.entry(movement.reference.unwrap()).or_default() += 1;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let jobs = all(shop, kind).await;
    assert_eq!(effects.len(), jobs.len(), "only the jobs have effects");
    for job in jobs {
        let found = effects.get(&job.id.to_string()).copied().unwrap_or_default();
        assert!(times.contains(&found), "the job has taken effect {found} times: {job:?}");
    }
}

/// Returns the minutes in which the jobs of the schedule were created.
async fn minutes(shop: &Shop) -> Vec<i64> {
    all(shop, TICK).await.iter().map(|job| job.audit.created_at.timestamp() / 60).collect()
}

fn distinct(minutes: &[i64]) -> usize {
    minutes.iter().collect::<HashSet<_>>().len()
}

/// Four processes run the jobs, and one after the other is killed at a random moment and replaced.
pub async fn jobs_of_killed_processes_take_effect_once(at: &Place) {
    let shop = open(at).await;
    let mut skus = Vec::new();
    for name in ["a", "b"] {
        let made = serde_json::json!({ "title": name, "price": 1, "stock": 0 });
        skus.push(shop.acting_as(&me()).products().create(&input(&made)).await.unwrap().skus[0].id);
    }
    let total = jobs();
    let (exact, broken) = (total / 2, (total / 100).max(3));
    for n in 0..total {
        let (kind, sku) = if n < exact { (EXACT, skus[0]) } else { (PLAIN, skus[1]) };
        let job = NewJob::new(kind).parameter("sku", sku.to_string()).parameter("n", n);
        shop.jobs().enqueue(&job).await.unwrap();
    }
    for _ in 0..broken {
        shop.jobs().enqueue(&NewJob::new(BROKEN)).await.unwrap();
    }
    let start = || Process::start(at, "jobs work", "1");
    let mut processes: Vec<Process> = std::iter::repeat_with(start).take(PROCESSES).collect();
    let (mut kills, mut progress, mut done) = (0, Instant::now(), 0);
    let mut rng: StdRng = rand::make_rng();
    loop {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..400))).await;
        let succeeded =
            counted(&shop, EXACT, JobState::Succeeded).await + counted(&shop, PLAIN, JobState::Succeeded).await;
        let parked = counted(&shop, BROKEN, JobState::Failed).await;
        let have_ended = succeeded == total as u64 && parked == broken as u64;
        let ticks = if have_ended { distinct(&minutes(&shop).await) } else { 0 };
        if have_ended && (total < LONG_PROOF || ticks >= 2) {
            break;
        }
        if succeeded + parked > done {
            (progress, done) = (Instant::now(), succeeded + parked);
        }
        let limit = if have_ended { TICK_LIMIT } else { LIMIT };
        assert!(
            progress.elapsed() < limit,
            "{succeeded} of {total} jobs have succeeded, {parked} are parked, {ticks} minutes have a tick"
        );
        processes.remove(rng.random_range(0..PROCESSES)).kill();
        kills += 1;
        processes.push(start());
    }
    drop(processes);
    let minutes = minutes(&shop).await;
    println!("{total} jobs, {kills} kills, {} ticks", minutes.len());
    each_takes_effect(&shop, EXACT, skus[0], 1..=1).await;
    each_takes_effect(&shop, PLAIN, skus[1], 1..).await;
    let parked = all(&shop, BROKEN).await;
    assert!(parked.len() == broken && parked.iter().all(|job| job.state == JobState::Failed), "{parked:?}");
    assert_eq!(distinct(&minutes), minutes.len(), "a schedule fires once for each time");
    assert_eq!(shop.inventory().imbalances().await.unwrap(), []);
    shop.storage().close().await;
}
