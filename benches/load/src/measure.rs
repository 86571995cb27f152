//! What was asked, how long it took and how it was answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The purpose of a request, with its share of the mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A page of a list.
    Browse,
    /// One product, by id or slug.
    Read,
    /// A search.
    Search,
    /// Stands for an order: stock of one SKU, one piece out or in.
    Adjust,
    /// Stands for a review too: a change of a product, with the version that was read.
    Edit,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 5] = [Self::Browse, Self::Read, Self::Search, Self::Adjust, Self::Edit];

    /// Its name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browse => "browse",
            Self::Read => "read one",
            Self::Search => "search",
            Self::Adjust => "adjust stock",
            Self::Edit => "edit",
        }
    }

    /// Its share of the requests in percent.
    pub const fn share(self) -> u32 {
        match self {
            Self::Browse => 40,
            Self::Read => 25,
            Self::Search => 15,
            Self::Adjust | Self::Edit => 10,
        }
    }
}

/// How an answer is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What was asked for.
    Right,
    /// Refused as it should be: somebody else was faster (409, 412).
    Refused,
    /// Anything else, with what is wrong.
    Wrong(String),
}

/// One request that has ended.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it was for.
    pub kind: Kind,
    /// When it was sent.
    pub sent: Instant,
    /// Until the last byte of the answer.
    pub took: Duration,
    /// Its status; none where no answer came.
    pub status: Option<u16>,
    /// What `X-Cache` said.
    pub hit: Option<bool>,
    /// Whether the answer is right.
    pub verdict: Verdict,
}

/// The longest time that is told apart from longer ones, in microseconds.
const LONGEST: u64 = 120_000_000;
/// Different wrong answers that the report shows.
const EXAMPLES: usize = 10;

/// Times in microseconds.
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

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this part of all is not over, in milliseconds; 0 of none.
    pub fn quantile(&self, part: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(part) as f64 / 1000.0 }
    }

    /// The longest, in milliseconds.
    pub fn max(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }
}

/// What is known of one kind, or of all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of every request, however it was answered.
    pub times: Times,
    /// Refused as they should be.
    pub refused: u64,
    /// Answered wrong or not at all.
    pub wrong: u64,
}

/// The sums of a run.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Over all kinds.
    pub all: Tally,
    /// In the order of [`Kind::ALL`].
    pub kinds: [Tally; 5],
    /// Of reads that the cache answered.
    pub from_cache: Times,
    /// Reads with an `X-Cache` that the cache did not answer.
    pub misses: u64,
    /// By kind and status, 0 where no answer came.
    pub statuses: BTreeMap<(Kind, u16), u64>,
    /// What was wrong, and how often.
    pub examples: BTreeMap<String, u64>,
    /// Requests that were sent before all users were there; judged, and in no other figure.
    pub before: u64,
    /// Those of them that were answered wrong.
    pub wrong_before: u64,
    last: Option<Instant>,
}

/// Where users leave their samples.
#[derive(Debug)]
pub struct Measure {
    ramp: Duration,
    first: OnceLock<Instant>,
    sums: Mutex<Sums>,
}

impl Measure {
    /// For a run whose users are all there after `ramp`.
    pub fn new(ramp: Duration) -> Self {
        Self { ramp, first: OnceLock::new(), sums: Mutex::default() }
    }

    /// Takes a sample in.
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

    /// The sums so far, and how many seconds they were measured over.
    pub fn sums(&self) -> (Sums, f64) {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seconds = match (self.first.get(), sums.last) {
            (Some(first), Some(last)) => last.saturating_duration_since(*first + self.ramp).as_secs_f64(),
            _ => 0.0,
        };
        (sums, seconds)
    }
}
