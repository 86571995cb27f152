//! The state of a feed: a source from which the shop imports again and again.
//!
//! The functions here make the next state from the one before. They do no I/O; the service and the background work
//! write what they return.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::common::{Actor, Audit};
use crate::domain::platform::idempotency::RequestHash;
use crate::id::{FeedId, JobId};

/// A text that identifies the content of a source at one time, such as the `ETag` of a URL. Only the adapter that made
/// it interprets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedVersion(String);

impl FeedVersion {
    /// The maximum length, in characters.
    pub const MAX: usize = 2_000;

    /// Returns a version, or `None` if the text cannot be stored, because it is longer than [`Self::MAX`] or contains
    /// a NUL character.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (text.chars().count() <= Self::MAX && !text.contains('\0')).then_some(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The state of a feed, which the shop stores: its version, its last import and its next poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedState {
    /// The id, which follows from the name.
    pub id: FeedId,
    /// The name.
    pub name: String,
    /// The hash of the settings that the versions belong to. With other settings, the source is imported again.
    pub settings: Vec<u8>,
    /// The version that the last complete import has read; `None` before the first complete import, or if the source
    /// has no versions.
    pub version: Option<FeedVersion>,
    /// The version whose import has begun and has not reached the end. The next import of the same version continues
    /// there.
    pub begun: Option<FeedVersion>,
    /// The number of records of `begun` that are done.
    pub done: u64,
    /// True while an import runs. It stays true if the process of the import dies, until the next poll.
    pub running: bool,
    /// The time at which the source was last polled.
    pub polled_at: Option<Timestamp>,
    /// When an import of the source last reached the end.
    pub imported_at: Option<Timestamp>,
    /// The time of the next poll. For a running import, it is the time after which the import is repeated if its
    /// process has died. A request moves it to the time of the request.
    pub next_poll_at: Timestamp,
    /// The job of the last import, until the job is removed.
    pub last_job: Option<JobId>,
    /// How many polls in a row have failed. While an import runs, it counts as one of them.
    pub failures: u32,
    /// Why the last poll has failed; `None` if it has not.
    pub last_error: Option<String>,
    /// When and by whom the feed was first polled and last changed, and its version.
    pub audit: Audit,
}

/// The pause after the first failure. Each pause that follows is twice as long, up to the interval of the feed, and at
/// least up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause of a feed with a short interval.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);
/// The longest pause that a source can ask for.
const MAX_ASKED: Duration = Duration::from_secs(86_400);

/// The error of an import whose process has died.
const DIED: &str = "the last import has no result, because its process died or lost its lease; it is repeated";

impl FeedState {
    /// The maximum length of the last error, in characters.
    pub const MAX_ERROR: usize = 1_000;

    /// Returns the id of the feed with a name.
    pub fn id_of(name: &str) -> FeedId {
        FeedId(RequestHash::of([b"feed".as_slice(), name.as_bytes()]).to_id())
    }

    /// Returns the state of a feed that was never polled. It is due at once.
    pub fn new(name: &str, now: Timestamp, by: &Actor) -> Self {
        Self {
            id: Self::id_of(name),
            name: name.to_owned(),
            settings: Vec::new(),
            version: None,
            begun: None,
            done: 0,
            running: false,
            polled_at: None,
            imported_at: None,
            next_poll_at: now,
            last_job: None,
            failures: 0,
            last_error: None,
            audit: Audit::created(now, by),
        }
    }

    /// Returns true if the time of the next poll has come.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_poll_at <= now
    }

    /// Returns the version that was imported with these settings.
    pub fn known(&self, settings: &[u8]) -> Option<&FeedVersion> {
        self.version.as_ref().filter(|_| self.settings == settings)
    }

    /// Returns how many records at the start of this version an unfinished import with these settings has done.
    pub fn resumes_at(&self, settings: &[u8], version: Option<&FeedVersion>) -> u64 {
        let same = version.is_some() && self.begun.as_ref() == version && self.settings == settings;
        if same { self.done } else { 0 }
    }

    fn edited(&self, now: Timestamp) -> Self {
        let mut after = self.clone();
        after.audit.edited(now, &Actor::system());
        after
    }

    /// Returns the state after a poll that has found nothing new. The next one comes after the interval.
    pub(crate) fn unchanged(&self, every: Duration, now: Timestamp) -> Self {
        Self {
            polled_at: Some(now),
            next_poll_at: later(now, every),
            running: false,
            failures: 0,
            last_error: None,
            ..self.edited(now)
        }
    }

    /// Returns the state while an import runs. If its process dies, it is repeated after the pause of a failure, so
    /// that an import that kills its process does not do so all the time.
    pub(crate) fn importing(
        &self,
        settings: &[u8],
        version: Option<&FeedVersion>,
        job: JobId,
        every: Duration,
        now: Timestamp,
    ) -> Self {
        let done = self.resumes_at(settings, version);
        let failures = self.failures.saturating_add(1);
        Self {
            settings: settings.to_vec(),
            // If the import ends early and the source goes back to the version before, that one is imported again.
            version: None,
            begun: version.cloned(),
            done,
            running: true,
            polled_at: Some(now),
            next_poll_at: later(now, pause(failures, every, None)),
            last_job: Some(job),
            failures,
            ..self.edited(now)
        }
    }

    /// Returns true while this job imports the feed.
    pub(crate) fn is_imported_by(&self, job: JobId) -> bool {
        self.running && self.last_job == Some(job)
    }

    /// Returns the state with the number of records that the import has done.
    pub(crate) fn progressed(&self, done: u64, now: Timestamp) -> Self {
        Self { done, ..self.edited(now) }
    }

    /// Returns the state after an import that has reached the end of the source.
    pub(crate) fn imported(&self, every: Duration, now: Timestamp) -> Self {
        Self {
            version: self.begun.clone(),
            begun: None,
            done: 0,
            running: false,
            imported_at: Some(now),
            next_poll_at: later(now, every),
            failures: 0,
            last_error: None,
            ..self.edited(now)
        }
    }

    /// Returns the state after an import that the end of the shop has stopped. Any process continues at once.
    pub(crate) fn stopped(&self, done: u64, now: Timestamp) -> Self {
        let failures = self.failures.saturating_sub(1);
        Self { done, running: false, next_poll_at: now, failures, ..self.edited(now) }
    }

    /// Returns the state after a poll or an import that has failed. `asked` is the pause that the source asks for.
    pub(crate) fn failed(
        &self,
        error: &str,
        done: u64,
        asked: Option<Duration>,
        every: Duration,
        now: Timestamp,
    ) -> Self {
        // An import that runs counts already.
        let failures = if self.running { self.failures } else { self.failures.saturating_add(1) };
        let last_error = Some(error.chars().filter(|c| *c != '\0').take(Self::MAX_ERROR).collect());
        Self {
            done,
            running: false,
            polled_at: if self.running { self.polled_at } else { Some(now) },
            next_poll_at: later(now, pause(failures, every, asked)),
            failures,
            last_error,
            ..self.edited(now)
        }
    }

    /// Returns the state of a feed whose process has died during an import. The feed is due.
    pub(crate) fn died(&self, now: Timestamp) -> Self {
        Self { running: false, last_error: Some(DIED.to_owned()), ..self.edited(now) }
    }

    /// Returns the state of a feed that somebody wants to be polled at once. An import that runs goes on.
    pub(crate) fn requested(&self, now: Timestamp, by: &Actor) -> Self {
        let mut after = self.edited(now);
        after.audit.updated_by = by.clone();
        after.next_poll_at = now;
        after
    }

    /// Returns true if somebody has requested a poll since the state was `before`. While a poll runs, only requests
    /// move the time of the next one.
    pub(crate) fn was_requested_since(&self, before: &Self) -> bool {
        // An interval can have nanoseconds, which are not stored.
        self.next_poll_at.timestamp_micros() != before.next_poll_at.timestamp_micros()
    }

    /// Returns the state of a feed that is polled once more at once, because a poll was requested during the last one.
    pub(crate) fn due(self, now: Timestamp) -> Self {
        Self { next_poll_at: now, ..self }
    }
}

/// Returns the pause after a number of failures in a row.
fn pause(failures: u32, every: Duration, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(every.max(MAX_PAUSE)).max(asked.unwrap_or_default().min(MAX_ASKED))
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    chrono::TimeDelta::from_std(by).ok().and_then(|by| now.checked_add_signed(by)).unwrap_or(Timestamp::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const SETTINGS: &[u8] = &[7; 32];

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    fn state() -> FeedState {
        FeedState::new("erp", at(0), &Actor::system())
    }

    fn version(text: &str) -> Option<FeedVersion> {
        FeedVersion::new(text)
    }

    fn job(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    #[test]
    fn a_version_is_known_once_its_import_has_reached_the_end() {
        let v1 = version("1");
        let running = state().importing(SETTINGS, v1.as_ref(), job(1), HOUR, at(1));
        assert_eq!((running.known(SETTINGS), running.running, running.failures), (None, true, 1));
        let done = running.progressed(40, at(2)).imported(HOUR, at(3));
        assert_eq!((done.known(SETTINGS), done.running, done.failures, done.done), (v1.as_ref(), false, 0, 0));
        assert_eq!((done.next_poll_at, done.imported_at), (at(3_603), Some(at(3))));
        assert_eq!(done.known(&[8; 32]), None, "with other settings, the source is imported again");
        assert_eq!(done.resumes_at(SETTINGS, v1.as_ref()), 0);
        // A part of the next version is in the shop. If the source goes back, the first one is imported again.
        let half =
            done.importing(SETTINGS, version("2").as_ref(), job(2), HOUR, at(4)).failed("x", 7, None, HOUR, at(5));
        assert_eq!((half.known(SETTINGS), half.resumes_at(SETTINGS, v1.as_ref())), (None, 0));
    }

    #[test]
    fn an_unfinished_import_is_continued_only_for_the_same_version_and_settings() {
        let v1 = version("1");
        let running = state().importing(SETTINGS, v1.as_ref(), job(1), HOUR, at(1));
        for over in [running.progressed(40, at(2)).died(at(9)), running.stopped(40, at(2))] {
            assert_eq!(over.resumes_at(SETTINGS, v1.as_ref()), 40);
            assert_eq!(over.resumes_at(SETTINGS, version("2").as_ref()), 0);
            assert_eq!(over.resumes_at(&[8; 32], v1.as_ref()), 0);
            assert_eq!(over.resumes_at(SETTINGS, None), 0);
            assert_eq!(over.importing(SETTINGS, v1.as_ref(), job(2), HOUR, at(10)).done, 40);
            assert_eq!(over.importing(SETTINGS, version("2").as_ref(), job(2), HOUR, at(10)).done, 0);
        }
        let unversioned = state().importing(SETTINGS, None, job(1), HOUR, at(1)).stopped(40, at(2));
        assert_eq!(unversioned.resumes_at(SETTINGS, None), 0, "nobody knows whether it is the same source");
        assert_eq!(unversioned.next_poll_at, at(2), "a stop is no failure");
        assert_eq!((unversioned.failures, unversioned.last_error), (0, None));
    }

    #[test]
    fn pauses_grow_up_to_the_interval_or_an_hour_and_end_with_a_success() {
        let pauses = |every, asked| {
            let mut state = state();
            let mut pauses = Vec::new();
            for n in 0..14 {
                // Every second failure is that of an import.
                if n % 2 == 1 {
                    state = state.importing(SETTINGS, None, job(1), every, at(0));
                }
                state = state.failed("down", 0, asked, every, at(0));
                pauses.push((state.next_poll_at - at(0)).num_seconds());
            }
            assert_eq!((state.failures, state.last_error.as_deref()), (14, Some("down")));
            let good = state.unchanged(every, at(0));
            assert_eq!((good.failures, good.last_error), (0, None));
            pauses
        };
        let minute = Duration::from_secs(60);
        assert_eq!(pauses(minute, None)[..9], [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        assert_eq!(pauses(24 * HOUR, None)[11..], [61_440, 86_400, 86_400]);
        assert_eq!(pauses(minute, Some(Duration::from_secs(100)))[..4], [100, 100, 120, 240]);
        assert_eq!(pauses(minute, Some(HOUR * 1_000))[0], 86_400);
    }

    #[test]
    fn an_import_that_kills_its_process_is_repeated_after_growing_pauses() {
        let mut state = state();
        let mut pauses = Vec::new();
        for n in 0..3 {
            state = state.importing(SETTINGS, None, job(n), HOUR, at(0));
            pauses.push((state.next_poll_at - at(0)).num_seconds());
            state = state.died(at(0));
            assert!(state.last_error.as_ref().is_some_and(|e| e.contains("died")), "{state:?}");
        }
        assert_eq!(pauses, [30, 60, 120]);
    }

    #[test]
    fn what_cannot_be_stored_is_no_version_and_a_long_error_is_cut() {
        assert!(FeedVersion::new("ä".repeat(FeedVersion::MAX)).is_some());
        assert_eq!(FeedVersion::new("ä".repeat(FeedVersion::MAX + 1)), None);
        assert_eq!(FeedVersion::new("a\0b"), None);
        let failed = state().failed(&"ä\0".repeat(5_000), 0, None, HOUR, at(0));
        assert_eq!(failed.last_error.unwrap(), "ä".repeat(FeedState::MAX_ERROR));
    }

    #[test]
    fn a_requested_poll_is_due_and_names_who_asked() {
        let by = Actor::new("user:1");
        let asked = state().unchanged(HOUR, at(0)).requested(at(5), &by);
        assert!(asked.is_due(at(5)) && !asked.is_due(at(4)));
        assert_eq!(asked.audit.updated_by, by);
    }

    #[test]
    fn a_request_during_an_import_is_seen_at_its_end() {
        let running = state().importing(SETTINGS, version("1").as_ref(), job(1), HOUR, at(1));
        assert!(!running.progressed(3, at(2)).was_requested_since(&running));
        let asked = running.progressed(3, at(2)).requested(at(3), &Actor::new("user:1")).progressed(4, at(4));
        assert!(asked.was_requested_since(&running) && asked.running);
        let ended = asked.imported(HOUR, at(5));
        assert_eq!(ended.next_poll_at, at(5) + HOUR);
        let again = ended.clone().due(at(5));
        assert_eq!(again, FeedState { next_poll_at: at(5), ..ended });
    }
}
