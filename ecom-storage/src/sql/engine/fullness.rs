//! The warnings of a pool whose connections are nearly all in use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecom_core::log_event;

/// The percentages of which the pool warns, the highest first.
const LEVELS: [usize; 2] = [90, 80];
/// How often the pool warns of one percentage at most.
const EVERY: Duration = Duration::from_secs(60);

/// The times at which a pool has warned.
#[derive(Debug)]
pub struct Fullness {
    /// The origin of `warned`.
    start: Instant,
    /// The times of the last warnings of each level, in milliseconds since `start`, from 1; 0 if there was none.
    warned: [AtomicU64; LEVELS.len()],
}

impl Default for Fullness {
    fn default() -> Self {
        Self { start: Instant::now(), warned: Default::default() }
    }
}

impl Fullness {
    /// Logs a warning if the pool is nearly full and has not warned of that within the last minute. Returns the
    /// percentage of the warning.
    pub fn note(&self, in_use: usize, max: usize, waiting: usize) -> Option<usize> {
        let level = LEVELS.iter().position(|percent| in_use > 0 && in_use * 100 >= max * percent)?;
        let (last, percent) = (&self.warned[level], LEVELS[level]);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (before, now) = (last.load(Ordering::Relaxed), millis(self.start.elapsed()).saturating_add(1));
        if before != 0 && now - before.min(now) < millis(EVERY) {
            return None;
        }
        // Of several callers at once, one warns.
        last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let event = log_event::POOL_HIGH;
        tracing::warn!(
            target: log_event::TARGET,
            event,
            percent,
            in_use,
            max,
            waiting,
            "the pool of the database is nearly full: see `slow_statement`, or raise `max_connections` \
             (`ECOM_DATABASE_POOL`)"
        );
        Some(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_warns_of_each_percentage_once_in_a_minute() {
        let fullness = Fullness::default();
        assert_eq!([0, 1, 39].map(|in_use| fullness.note(in_use, 50, 0)), [None; 3]);
        assert_eq!([40, 44, 40].map(|in_use| fullness.note(in_use, 50, 0)), [Some(80), None, None]);
        assert_eq!([45, 50, 41].map(|in_use| fullness.note(in_use, 50, 3)), [Some(90), None, None]);
        assert_eq!(Fullness::default().note(0, 0, 0), None, "a pool without connections");
    }
}
