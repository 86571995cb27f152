//! The clock, which is injected. `Utc::now` is banned outside of this file (clippy.toml).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, SubsecRound, Utc};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZoneDatabase;

use crate::error::{Error, FieldCode};

/// A point in time, in UTC. The library stores it with microsecond precision.
pub type Timestamp = DateTime<Utc>;

/// A clock that all services share.
pub type SharedClock = Arc<dyn Clock>;

/// A source of the current time.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time in UTC, truncated to microseconds, which every database can store.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clock of the machine")]
    fn now(&self) -> Timestamp {
        Utc::now().trunc_subsecs(6)
    }
}

/// A clock that only moves when a test advances it.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Returns a clock at a number of microseconds since 1970-01-01T00:00:00Z.
    pub const fn at_micros(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

/// A time zone, by its name in the database of IANA, such as `Europe/Berlin`. The rules of the zones are compiled into
/// the library, so that all processes of a shop agree on them, whatever is installed on their machines.
///
/// ```
/// use ecom_core::clock::TimeZone;
///
/// let berlin: TimeZone = "Europe/Berlin".parse()?;
/// let late = "2026-03-28T23:30:00Z".parse()?;
/// assert_eq!(berlin.day_of(late).to_string(), "2026-03-29");
/// assert_eq!(berlin.start_of(berlin.day_of(late)).to_rfc3339(), "2026-03-28T23:00:00+00:00");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TimeZone(jiff::tz::TimeZone);

impl TimeZone {
    /// The maximum length of a name, in bytes.
    pub const MAX: usize = 64;

    /// Returns UTC.
    pub const fn utc() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }

    /// Returns the name of the zone.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Returns the moment at which a day begins. It is midnight, or the first moment after it if the clocks skip
    /// midnight. A day ends at the start of the next one, and so has 23 or 25 hours if the clocks change.
    pub fn start_of(&self, day: NaiveDate) -> Timestamp {
        self.midnight(day).unwrap_or_else(|| day.and_time(NaiveTime::MIN).and_utc())
    }

    fn midnight(&self, day: NaiveDate) -> Option<Timestamp> {
        let (year, month, day) =
            (i16::try_from(day.year()).ok()?, i8::try_from(day.month()).ok()?, i8::try_from(day.day()).ok()?);
        let midnight = Date::new(year, month, day).ok()?.to_datetime(Time::midnight());
        DateTime::from_timestamp_micros(self.0.to_timestamp(midnight).ok()?.as_microsecond())
    }

    /// Returns the day that a moment belongs to: the one that began last.
    pub fn day_of(&self, at: Timestamp) -> NaiveDate {
        let day = self.date_of(at).unwrap_or_else(|| at.date_naive());
        // If the clocks go back over midnight, the date goes back too, but the next day has begun.
        match (day.pred_opt(), day.succ_opt()) {
            (Some(before), _) if at < self.start_of(day) => before,
            (_, Some(after)) if at >= self.start_of(after) => after,
            _ => day,
        }
    }

    fn date_of(&self, at: Timestamp) -> Option<NaiveDate> {
        let at = jiff::Timestamp::from_microsecond(at.timestamp_micros()).ok()?;
        let date = self.0.to_datetime(at).date();
        let (month, day) = (u32::try_from(date.month()).ok()?, u32::try_from(date.day()).ok()?);
        NaiveDate::from_ymd_opt(i32::from(date.year()), month, day)
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Zones of one name are equal.
impl PartialEq for TimeZone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for TimeZone {}

impl FromStr for TimeZone {
    type Err = Error;

    /// Finds the zone of a name, in any case.
    ///
    /// # Errors
    /// `Validation` on field `time_zone` if no zone has the name.
    fn from_str(name: &str) -> Result<Self, Error> {
        let found = if name.len() <= Self::MAX { TimeZoneDatabase::bundled().get(name).ok() } else { None };
        found.filter(|zone| zone.iana_name().is_some()).map(Self).ok_or_else(|| {
            let message = "must be the name of a time zone of IANA, such as `Europe/Berlin` or `UTC`";
            Error::invalid("time_zone", FieldCode::OutOfBounds, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        name.parse().unwrap()
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn r46_days_are_local_days_across_daylight_saving() {
        let berlin = zone("europe/berlin");
        assert_eq!(berlin.name(), "Europe/Berlin");
        let hours = |of: &str| {
            let day = day(of);
            (berlin.start_of(day.succ_opt().unwrap()) - berlin.start_of(day)).num_hours()
        };
        assert_eq!((hours("2026-03-28"), hours("2026-03-29"), hours("2026-10-25")), (24, 23, 25));
        // The clocks of Cuba skip midnight.
        let havana = zone("America/Havana");
        assert_eq!(havana.start_of(day("2026-03-08")).to_rfc3339(), "2026-03-08T05:00:00+00:00");
        // Samoa skipped a whole day.
        let apia = zone("Pacific/Apia");
        assert_eq!(apia.start_of(day("2011-12-30")), apia.start_of(day("2011-12-31")));
    }

    /// Every moment belongs to the one day between whose start and end it is.
    #[test]
    fn r46_every_moment_belongs_to_one_day() {
        for name in ["UTC", "Europe/Berlin", "America/Havana", "Pacific/Apia", "Asia/Kolkata", "America/St_Johns"] {
            let zone = zone(name);
            let start: Timestamp = "2009-01-01T00:00:00Z".parse().unwrap();
            for step in 0..40_000 {
                let at = start + chrono::TimeDelta::minutes(step * 47);
                let day = zone.day_of(at);
                let next = zone.start_of(day.succ_opt().unwrap());
                assert!(zone.start_of(day) <= at && at < next, "{name}: {at} is not within {day}");
            }
        }
    }

    #[test]
    fn r17_an_unknown_time_zone_is_refused() {
        for bad in ["", "Berlin", "Europe/Atlantis", "+02:00", "UTC+1", "../../etc/passwd", &"x".repeat(100)] {
            assert!(bad.parse::<TimeZone>().is_err(), "{bad}");
        }
        assert_eq!(zone("UTC"), TimeZone::utc());
    }
}
