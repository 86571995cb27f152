//! Schedules of jobs: cron lines, and when each creates its next job.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use serde::{Deserialize, Serialize};

use super::job::named;
use crate::clock::Timestamp;
use crate::domain::common::{Actor, Audit};
use crate::id::JobScheduleId;

/// A cron line of five fields, in UTC: minute, hour, day of the month, month, and day of the week. `30 3 * * 1-5` is
/// 3:30 from Monday to Friday, and `@daily` is midnight.
#[derive(Clone)]
pub struct CronLine {
    line: String,
    cron: Box<Cron>,
}

impl CronLine {
    /// The maximum length of a line, in bytes.
    pub const MAX: usize = 200;

    /// Reads a cron line.
    ///
    /// # Errors
    /// A message that says what is wrong with the line, for example that a field is out of bounds, or that the line
    /// never matches, such as the 30th of February.
    pub fn parse(line: &str) -> Result<Self, String> {
        if line.len() > Self::MAX {
            return Err(format!("must have at most {} bytes", Self::MAX));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        let parsed = parser.parse(line).map_err(|e| format!("is not a cron line such as `30 3 * * 1-5`: {e}"))?;
        let parsed = Self { line: line.to_owned(), cron: Box::new(parsed) };
        match parsed.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(parsed),
            None => Err("is a cron line that no time matches".to_owned()),
        }
    }

    /// Returns the line.
    pub fn as_str(&self) -> &str {
        &self.line
    }

    /// Returns the first time after `time` that the line matches, or `None` if there is none.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.cron.find_next_occurrence(&time, false).ok()
    }
}

impl fmt::Debug for CronLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CronLine").field(&self.line).finish()
    }
}

/// The state of a schedule, which all processes share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The id, which [`Self::id_of`] derives from the name.
    pub id: JobScheduleId,
    /// The name.
    pub name: String,
    /// The cron line from which the next time was computed.
    pub cron: String,
    /// The time at which the schedule creates its next job.
    pub next_at: Timestamp,
    /// The time for which the schedule has created its last job; `None` before the first one.
    pub fired_at: Option<Timestamp>,
    /// When the schedule was first seen and last changed, and its version.
    pub audit: Audit,
}

impl ScheduleState {
    /// Returns the id of the schedule with a name.
    pub fn id_of(name: &str) -> JobScheduleId {
        JobScheduleId(named("job schedule", name))
    }

    /// Returns the state of a schedule that is new. It creates its first job at the next time that the line matches.
    pub fn new(name: &str, cron: &CronLine, now: Timestamp) -> Self {
        Self {
            id: Self::id_of(name),
            name: name.to_owned(),
            cron: cron.as_str().to_owned(),
            next_at: next(cron, now),
            fired_at: None,
            audit: Audit::created(now, &Actor::system()),
        }
    }

    /// Returns true if the time of the next job has come.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_at <= now
    }

    /// Returns the state with another cron line.
    pub(crate) fn replanned(&self, cron: &CronLine, now: Timestamp) -> Self {
        let mut after = Self { cron: cron.as_str().to_owned(), next_at: next(cron, now), ..self.clone() };
        after.audit.edited(now, &Actor::system());
        after
    }

    /// Returns the state after the schedule has created a job. Times that have passed meanwhile, because no process was
    /// there, are skipped.
    pub(crate) fn fired(&self, cron: &CronLine, now: Timestamp) -> Self {
        Self { fired_at: Some(self.next_at), ..self.replanned(cron, now) }
    }
}

/// Returns the first time after `now` that the line matches, or the end of time.
fn next(cron: &CronLine, now: Timestamp) -> Timestamp {
    // The last time that every database can store.
    const NEVER: i64 = 253_402_300_799;
    cron.next_after(now).or_else(|| Timestamp::from_timestamp(NEVER, 0)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_line_is_read_in_utc_and_a_bad_one_is_explained() {
        let line = CronLine::parse("30 3 * * 1-5").unwrap();
        // A Friday.
        let next = line.next_after(at("2026-01-02T03:30:00Z")).unwrap();
        assert_eq!(next, at("2026-01-05T03:30:00Z"));
        assert_eq!(line.next_after(at("2026-01-02T03:29:59.999999Z")), Some(at("2026-01-02T03:30:00Z")));
        assert_eq!(CronLine::parse("@daily").unwrap().next_after(next), Some(at("2026-01-06T00:00:00Z")));
        for bad in ["", "* * * *", "* * * * * *", "61 * * * *", "x * * * *", "0 0 30 2 *", &"*".repeat(10_000)] {
            let error = CronLine::parse(bad).map(|line| line.as_str().to_owned()).unwrap_err();
            assert!(!error.is_empty() && error.len() < 300, "{bad}: {error}");
        }
    }

    #[test]
    fn a_schedule_that_was_missed_creates_one_job() {
        let cron = CronLine::parse("0 * * * *").unwrap();
        let state = ScheduleState::new("hourly", &cron, at("2026-01-02T03:04:05Z"));
        assert!(!state.is_due(at("2026-01-02T03:59:59Z")) && state.is_due(at("2026-01-02T04:00:00Z")));
        let fired = state.fired(&cron, at("2026-01-02T09:30:00Z"));
        assert_eq!((fired.fired_at, fired.next_at), (Some(at("2026-01-02T04:00:00Z")), at("2026-01-02T10:00:00Z")));
        assert_eq!((fired.audit.version, fired.id), (2, ScheduleState::id_of("hourly")));
    }
}
