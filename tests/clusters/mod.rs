//! The clusters that teams run, under orders of several processes, with nodes that are killed: nothing acknowledged is
//! lost, nothing is oversold, and nobody has to do anything. `tests/run clusters` runs these tests.

mod galera;
mod patroni;
mod search;
mod sentinel;

use std::path::Path;
use std::time::{Duration, Instant};

use ecom_core::Shop;

use super::orders::{Crew, acknowledged, all_orders, stocked_with, wrong_with};
use super::{Place, Process};

/// How long a test waits for what must happen. It is not a measure: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(300);
/// How many orders the processes place before, between and after the faults.
const ORDERS: usize = 200;
/// The pieces of each SKU. Every order sells the first one; the others are sold out in between.
const PIECES: [i64; 4] = [1_000_000, 100, 100, 100];

/// Runs a test of a cluster.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// A place in a directory, with a database at a URL.
fn place(dir: &Path, database: String) -> Place {
    Place { dir: dir.to_owned(), database: Some(database), ..Place::default() }
}

/// Processes that place orders all the time.
struct Sale<'a> {
    name: &'static str,
    shop: Shop,
    crew: Crew<'a>,
    /// What has happened, with the time.
    events: Vec<(Instant, String)>,
}

impl<'a> Sale<'a> {
    /// Starts a process in each place, and waits until they sell.
    async fn begin(name: &'static str, at: &'a [Place]) -> Self {
        let shop = stocked_with(&at[0], PIECES).await;
        let mut crew = Crew::of(at.iter().collect(), "orders sell and cancel");
        crew.tell("go on");
        let sale = Self { name, shop, crew, events: Vec::new() };
        sale.goes_on().await;
        sale
    }

    /// Records what has happened.
    fn note(&mut self, event: &str) {
        self.events.push((Instant::now(), event.to_owned()));
    }

    /// Waits until the processes have placed more orders together, and each of them some.
    async fn goes_on(&self) {
        let counts = || self.crew.processes.iter().map(count).collect::<Vec<_>>();
        let (before, since) = (counts(), Instant::now());
        loop {
            let more: Vec<usize> = counts().iter().zip(&before).map(|(now, before)| now - before).collect();
            if more.iter().sum::<usize>() >= ORDERS && more.iter().all(|&n| n >= ORDERS / 20) {
                return;
            }
            assert!(since.elapsed() < LIMIT, "{}: the shop does not sell: {more:?}", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the sale, prints its figures, and checks what the processes have acknowledged in each of these shops.
    async fn end(self, others: &[Shop]) {
        let of = |process: &Process| process.accepted.lock().unwrap().clone();
        let mut accepted: Vec<Instant> = self.crew.processes.iter().flat_map(of).collect();
        let (name, said) = (self.name, self.crew.end());
        accepted.sort_unstable();
        let gaps = || accepted.windows(2).map(|pair| (pair[0], pair[1]));
        // What came before the next event belongs to an event.
        let ends = self.events.iter().skip(1).map(|(at, _)| *at).chain(accepted.last().copied());
        for ((at, event), end) in self.events.iter().zip(ends) {
            let longest = gaps().filter(|(from, to)| to > at && *from < end).map(|(from, to)| to - from).max();
            println!("{name}: {event}: {:.1?} without an accepted order", longest.unwrap_or_default());
        }
        let longest = gaps().map(|(from, to)| to - from).max().unwrap_or_default();
        let unknown = said.iter().filter(|line| line.starts_with("unknown ")).count();
        println!(
            "{name}: {} orders accepted in {:.0?}, {unknown} answers unknown, longest time without one {longest:.1?}",
            accepted.len(),
            accepted[accepted.len() - 1] - accepted[0],
        );
        for shop in std::iter::once(&self.shop).chain(others) {
            assert_eq!(wrong_with(shop, PIECES).await, Vec::<String>::new(), "{name}");
            acknowledged(&said, &all_orders(shop).await, true);
        }
        println!("{name}: the audit finds nothing");
    }
}

/// How many orders a process has placed.
fn count(process: &Process) -> usize {
    process.accepted.lock().unwrap().len()
}
