//! Records the purpose, the time and the answer of each request.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The shares of the kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mix {
    /// Browse 40 %, read one 25, search 15, place an order 10, write a review 5, edit 5.
    Shop,
    /// The mix that an older system stated: browse 40 %, read one 25, categories 15, customers 10, writes 10, which are
    /// orders 4, reviews 3 and edits 3.
    Stated,
}

impl Mix {
    /// Returns the name of the mix in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Stated => "stated",
        }
    }
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A page of a list.
    Browse,
    /// One product, by id or slug.
    Read,
    /// A search.
    Search,
    /// Categories: the tree, a list, or one.
    Categories,
    /// Customers: a list, one, or the orders of one.
    Customers,
    /// An order of one to three lines.
    Order,
    /// A review of a product.
    Review,
    /// A change of a product, with the version that was read.
    Edit,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Browse,
        Self::Read,
        Self::Search,
        Self::Categories,
        Self::Customers,
        Self::Order,
        Self::Review,
        Self::Edit,
    ];

    /// Returns the name of the kind in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browse => "browse",
            Self::Read => "read one",
            Self::Search => "search",
            Self::Categories => "categories",
            Self::Customers => "customers",
            Self::Order => "place an order",
            Self::Review => "write a review",
            Self::Edit => "edit",
        }
    }

    /// Returns the share of the kind among the requests, in percent.
    pub const fn share(self, mix: Mix) -> u32 {
        match (self, mix) {
            (Self::Browse, _) => 40,
            (Self::Read, _) => 25,
            (Self::Search, Mix::Shop) | (Self::Categories, Mix::Stated) => 15,
            (Self::Order, Mix::Shop) | (Self::Customers, Mix::Stated) => 10,
            (Self::Review | Self::Edit, Mix::Shop) => 5,
            (Self::Order, Mix::Stated) => 4,
            (Self::Review | Self::Edit, Mix::Stated) => 3,
            (Self::Search, Mix::Stated) | (Self::Categories | Self::Customers, Mix::Shop) => 0,
        }
    }
}

/// The verdict on an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The expected answer.
    Right,
    /// A refusal that is correct, because another user was faster (409, 412).
    Refused,
    /// Any other answer, with a description of what is wrong.
    Wrong(String),
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The purpose of the request.
    pub kind: Kind,
    /// The time at which it was sent.
    pub sent: Instant,
    /// The time until the last byte of the answer.
    pub took: Duration,
    /// The status of the answer; `None` if there was no answer.
    pub status: Option<u16>,
    /// Whether `X-Cache` reported a hit; `None` without the header.
    pub hit: Option<bool>,
    /// The verdict on the answer.
    pub verdict: Verdict,
}

/// The longest time that is distinguished from longer ones, in microseconds.
const LONGEST: u64 = 120_000_000;
/// The maximum number of different wrong answers in the report.
const EXAMPLES: usize = 10;

/// A distribution of times in microseconds.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_max(LONGEST, 3).expect("the bounds are constants that fit"))
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST));
    }

    /// Returns the number of recorded times.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the time in milliseconds that this share of the requests did not exceed, or 0 if there are none.
    pub fn quantile(&self, part: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(part) as f64 / 1000.0 }
    }

    /// Returns the longest time, in milliseconds.
    pub fn max(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }
}

/// The results of one kind of requests, or of all kinds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The times of all requests, however they were answered.
    pub times: Times,
    /// Requests that were refused correctly.
    pub refused: u64,
    /// Requests with a wrong answer or none.
    pub wrong: u64,
}

/// The totals of a run.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// The results of all kinds together.
    pub all: Tally,
    /// The results of each kind, in the order of [`Kind::ALL`].
    pub kinds: [Tally; 8],
    /// The times of reads that the cache answered.
    pub from_cache: Times,
    /// Reads with an `X-Cache` header that the cache did not answer.
    pub misses: u64,
    /// Requests by kind and status; 0 if there was no answer.
    pub statuses: BTreeMap<(Kind, u16), u64>,
    /// Descriptions of wrong answers, and how often each occurred.
    pub examples: BTreeMap<String, u64>,
    /// Requests that were sent before all users had started. They are judged, but in no other figure.
    pub before: u64,
    /// The number of these requests with a wrong answer.
    pub wrong_before: u64,
    last: Option<Instant>,
}

/// Collects the samples of all users.
#[derive(Debug)]
pub struct Measure {
    ramp: Duration,
    first: OnceLock<Instant>,
    sums: Mutex<Sums>,
}

impl Measure {
    /// Creates a collector for a run whose users have all started after `ramp`.
    pub fn new(ramp: Duration) -> Self {
        Self { ramp, first: OnceLock::new(), sums: Mutex::default() }
    }

    /// Adds a sample.
    pub fn add(&self, sample: &Sample) {
        let from = *self.first.get_or_init(|| sample.sent) + self.ramp;
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Verdict::Wrong(what) = &sample.verdict {
            let full = sums.examples.len() >= EXAMPLES;
            let text = format!("{}: {what}", sample.kind.name());
            let text = if full && !sums.examples.contains_key(&text) { "others".to_owned() } else { text };
            *sums.examples.entry(text).or_default() += 1;
        }
        if sample.sent < from {
            sums.before += 1;
            sums.wrong_before += u64::from(matches!(sample.verdict, Verdict::Wrong(_)));
            return;
        }
        sums.last = sums.last.max(Some(sample.sent + sample.took));
        *sums.statuses.entry((sample.kind, sample.status.unwrap_or(0))).or_default() += 1;
        match sample.hit {
            Some(true) => sums.from_cache.add(sample.took),
            Some(false) => sums.misses += 1,
            None => {}
        }
        let Sums { all, kinds, .. } = &mut *sums;
        for tally in [all, &mut kinds[sample.kind as usize]] {
            tally.times.add(sample.took);
            match sample.verdict {
                Verdict::Right => {}
                Verdict::Refused => tally.refused += 1,
                Verdict::Wrong(_) => tally.wrong += 1,
            }
        }
    }

    /// Returns the totals so far, and the number of seconds over which they were measured.
    pub fn sums(&self) -> (Sums, f64) {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seconds = match (self.first.get(), sums.last) {
            (Some(first), Some(last)) => last.saturating_duration_since(*first + self.ramp).as_secs_f64(),
            _ => 0.0,
        };
        (sums, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_a_mix_make_a_hundred() {
        for mix in [Mix::Shop, Mix::Stated] {
            assert_eq!(Kind::ALL.iter().map(|kind| kind.share(mix)).sum::<u32>(), 100, "{mix:?}");
        }
    }
}
