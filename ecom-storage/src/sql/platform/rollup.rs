//! Rollups of the figures of products: sums over spans of 4, 16 and 64 days, so that a report over a long range reads
//! few rows.
//!
//! `product_days` has the figures, and a row of `product_rollups` is the sum of those of one product over a span. The
//! spans of a length follow on each other from [`FIRST_DAY`], and each consists of four spans of the length before, or
//! of four days. For each length, the row of a day in `sales_days` records how many days of its span had sales when the
//! span was rolled up. A rollup is valid if each day with sales of its span has recorded the number of days with sales
//! that the span has now.
//!
//! Every release replaces the figures of a day by deleting the row of the day and inserting it again, which sets the
//! recorded numbers to 0. A day that loses its last sale or gets its first one changes the number of days with sales.
//! So a rollup is no longer valid if a day of its span has changed, even if a process of a release without rollups has
//! changed it. Reports then read the days themselves, until the background work has rolled them up again.

use chrono::{Days, NaiveDate};
use ecom_core::platform::DayRange;

/// The first day of the first spans. Orders before it do not exist.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).expect("it is a date");
/// The lengths of the spans, in days. With these, a report over a year reads about 14 rows for a product that was sold
/// each day, instead of 365.
pub const LENGTHS: [i64; LEVELS] = [4, 16, 64];
/// The number of lengths.
pub const LEVELS: usize = 3;
/// The longest of the lengths.
const LONGEST: i64 = LENGTHS[LEVELS - 1];
/// How many of the longest spans are read at once to find those that have to be rolled up.
const READ_AT_ONCE: i64 = 8;

/// Which rollups have the figures of a day with sales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolledUp {
    /// The day.
    pub day: NaiveDate,
    /// For each length, the number of days with sales that the span of the day had when it was rolled up; 0 if the
    /// figures of the day have changed since then.
    pub counts: [i64; LEVELS],
}

/// A span that has to be rolled up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The index of its length.
    pub level: usize,
    /// Its first day.
    pub first: NaiveDate,
    /// Its last day.
    pub last: NaiveDate,
    /// The number of days with sales.
    pub count: i64,
    /// The first days of the next shorter spans within it that have sales. A span of the shortest length has the days
    /// with sales themselves.
    pub parts: Vec<NaiveDate>,
}

/// The rollups and the days that a report over a range reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cover {
    /// For each length, the first days of the rollups.
    pub rollups: [Vec<NaiveDate>; LEVELS],
    /// The days whose own figures it reads.
    pub days: Vec<NaiveDate>,
}

/// Returns the first day of the span of this length that has the day.
fn first_of(day: NaiveDate, length: i64) -> NaiveDate {
    let into = (day - FIRST_DAY).num_days().rem_euclid(length);
    day.checked_sub_days(Days::new(into.unsigned_abs())).unwrap_or(day)
}

/// Returns the last day of the span that begins with `first`.
fn last_of(first: NaiveDate, length: i64) -> NaiveDate {
    first.checked_add_days(Days::new(length.unsigned_abs().saturating_sub(1))).unwrap_or(NaiveDate::MAX)
}

/// Returns the days of each span of this length. The days are in order.
fn spans(days: &[RolledUp], length: i64) -> impl Iterator<Item = &[RolledUp]> {
    days.chunk_by(move |a, b| first_of(a.day, length) == first_of(b.day, length))
}

/// Returns whether the rollup of a span is valid. `days` are all days with sales of the span.
fn is_valid(days: &[RolledUp], level: usize) -> bool {
    days.iter().all(|of| of.counts[level] == number(days))
}

/// Returns the number of days.
fn number(days: &[RolledUp]) -> i64 {
    i64::try_from(days.len()).unwrap_or(i64::MAX)
}

/// Returns the days of some of the longest spans: of the span that has `day`, and of those after it.
pub fn stretch(day: NaiveDate) -> DayRange {
    let from = first_of(day, LONGEST);
    DayRange { from, to: last_of(from, READ_AT_ONCE * LONGEST) }
}

/// Returns the spans that end before `today` and whose rollups are not valid, all within the first of the longest spans
/// that has any. They are in an order in which the parts of each span are valid once the spans before it are rolled up.
/// `days` are the days with sales of a [`stretch`], in order.
pub fn outdated(days: &[RolledUp], today: NaiveDate) -> Vec<Span> {
    let mut all = spans(days, LONGEST).map(|days| outdated_within(days, today));
    all.find(|outdated| !outdated.is_empty()).unwrap_or_default()
}

/// As [`outdated`], for the days with sales of one of the longest spans.
fn outdated_within(days: &[RolledUp], today: NaiveDate) -> Vec<Span> {
    let mut outdated = Vec::new();
    for (level, length) in LENGTHS.into_iter().enumerate() {
        for of in spans(days, length) {
            let Some(first) = of.first().map(|of| first_of(of.day, length)) else { continue };
            let last = last_of(first, length);
            if last < today && !is_valid(of, level) {
                let part = level.checked_sub(1).map_or(1, |shorter| LENGTHS[shorter]);
                let mut parts: Vec<NaiveDate> = of.iter().map(|of| first_of(of.day, part)).collect();
                parts.dedup();
                outdated.push(Span { level, first, last, count: number(of), parts });
            }
        }
    }
    outdated
}

/// Returns the rollups and the days that a report over a range reads: the longest spans that are within the range and
/// have valid rollups, and the days that are left. `days` are the days with sales of the range, in order.
pub fn cover(range: &DayRange, days: &[RolledUp]) -> Cover {
    let mut cover = Cover::default();
    let mut rest = days.to_vec();
    for (level, length) in LENGTHS.into_iter().enumerate().rev() {
        let mut left = Vec::with_capacity(rest.len());
        for of in spans(&rest, length) {
            let first = of.first().map(|of| first_of(of.day, length));
            let is_within = |first: &NaiveDate| *first >= range.from && last_of(*first, length) <= range.to;
            match first.filter(is_within) {
                Some(first) if is_valid(of, level) => cover.rollups[level].push(first),
                _ => left.extend_from_slice(of),
            }
        }
        rest = left;
    }
    cover.days = rest.into_iter().map(|of| of.day).collect();
    cover
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length and the first day of what is read or rolled up. A day has the length 1.
    type Part = (i64, i64);

    fn day(n: i64) -> NaiveDate {
        FIRST_DAY.checked_add_days(Days::new(n.unsigned_abs())).unwrap()
    }

    fn days(of: impl IntoIterator<Item = i64>) -> Vec<RolledUp> {
        of.into_iter().map(|n| RolledUp { day: day(n), counts: [0; LEVELS] }).collect()
    }

    fn within(all: &[RolledUp], from: NaiveDate, to: NaiveDate) -> Vec<RolledUp> {
        all.iter().copied().filter(|of| (from..=to).contains(&of.day)).collect()
    }

    /// Rolls up all spans that end before `today`, as the repository does.
    fn roll_up(all: &mut [RolledUp], today: i64) -> Vec<Part> {
        let mut done = Vec::new();
        loop {
            let spans = outdated(&within(all, FIRST_DAY, day(today - 1)), day(today));
            if spans.is_empty() {
                return done;
            }
            for span in spans {
                if let Some(shorter) = span.level.checked_sub(1) {
                    for first in &span.parts {
                        let part = within(all, *first, last_of(*first, LENGTHS[shorter]));
                        assert!(is_valid(&part, shorter), "{span:?} has parts that are not valid");
                    }
                }
                for of in all.iter_mut().filter(|of| (span.first..=span.last).contains(&of.day)) {
                    of.counts[span.level] = span.count;
                }
                done.push((LENGTHS[span.level], (span.first - FIRST_DAY).num_days()));
                assert!(done.len() < 1_000, "the end is never reached: {span:?}");
            }
        }
    }

    /// Returns what a report over `from..=to` reads, in order.
    fn read(all: &[RolledUp], from: i64, to: i64) -> Vec<Part> {
        let range = DayRange { from: day(from), to: day(to) };
        let with_sales = within(all, range.from, range.to);
        let cover = cover(&range, &with_sales);
        let mut read: Vec<(i64, NaiveDate)> = cover.days.iter().map(|day| (1, *day)).collect();
        for (length, firsts) in LENGTHS.into_iter().zip(&cover.rollups) {
            read.extend(firsts.iter().map(|first| (length, *first)));
        }
        read.sort_unstable_by_key(|(_, first)| *first);
        let found: Vec<_> = read.iter().flat_map(|(n, first)| within(all, *first, last_of(*first, *n))).collect();
        assert_eq!(found, with_sales, "a day is read once: {read:?}");
        read.into_iter().map(|(length, first)| (length, (first - FIRST_DAY).num_days())).collect()
    }

    #[test]
    fn a_report_reads_the_longest_spans_within_its_range() {
        let mut all = days(0..200);
        assert_eq!(read(&all, 0, 199).len(), 200, "nothing is rolled up");
        assert_eq!(roll_up(&mut all, 150).len(), 37 + 9 + 2);
        assert_eq!(roll_up(&mut all, 150).len(), 0, "everything is rolled up");
        assert_eq!(read(&all, 0, 127), [(64, 0), (64, 64)]);
        let days = [(1, 1), (1, 2), (1, 3), (4, 4), (4, 8), (4, 12), (16, 16), (16, 32), (16, 48), (16, 64), (1, 80)];
        assert_eq!(read(&all, 1, 80), days);
        assert_eq!(read(&all, 128, 150), [(16, 128), (4, 144), (1, 148), (1, 149), (1, 150)]);
        assert_eq!(read(&all, 5, 6), [(1, 5), (1, 6)]);
    }

    #[test]
    fn a_span_whose_days_have_changed_is_not_read_until_it_is_rolled_up_again() {
        let mut all = days((0..64).filter(|n| n % 4 != 3));
        roll_up(&mut all, 64);
        assert_eq!(read(&all, 0, 63), [(64, 0)]);
        let mut replaced = all.clone();
        replaced[1].counts = [0; LEVELS];
        let mut without_sales = all.clone();
        without_sales.remove(1);
        let mut with_first_sale = all.clone();
        with_first_sale.insert(3, days([3])[0]);
        for (mut all, changed) in
            [(replaced, vec![0, 1, 2]), (without_sales, vec![0, 2]), (with_first_sale, vec![0, 1, 2, 3])]
        {
            let mut expected: Vec<Part> = changed.into_iter().map(|n| (1, n)).collect();
            expected.extend([(4, 4), (4, 8), (4, 12), (16, 16), (16, 32), (16, 48)]);
            assert_eq!(read(&all, 0, 63), expected);
            assert_eq!(roll_up(&mut all, 64), [(4, 0), (16, 0), (64, 0)]);
            assert_eq!(read(&all, 0, 63), [(64, 0)]);
        }
    }

    #[test]
    fn a_stretch_has_whole_spans_of_every_length() {
        let DayRange { from, to } = stretch(day(130));
        assert_eq!((from, to), (day(128), day(128 + READ_AT_ONCE * LONGEST - 1)));
        let next = to.succ_opt().unwrap();
        for length in LENGTHS {
            assert_eq!((first_of(from, length), first_of(next, length)), (from, next), "{length}");
        }
        assert_eq!(stretch(next).from, next);
        assert_eq!(stretch(NaiveDate::MAX).to, NaiveDate::MAX, "it ends with the last day that there is");
    }

    #[test]
    fn spans_without_sales_are_neither_read_nor_rolled_up() {
        let mut all = days([5, 70]);
        assert_eq!(roll_up(&mut all, 1_000), [(4, 4), (16, 0), (64, 0), (4, 68), (16, 64), (64, 64)]);
        assert_eq!(read(&all, 0, 900), [(64, 0), (64, 64)]);
        assert_eq!(read(&all, 10, 60).len(), 0);
        assert_eq!(roll_up(&mut [], 1_000).len(), 0);
    }
}
