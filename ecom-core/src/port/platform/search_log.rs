//! The search log.

use chrono::NaiveDate;

use crate::domain::platform::analytics::DayRange;
use crate::domain::platform::search_log::{SearchCount, SearchTerm, SearchTermSort};
use crate::error::Result;
use crate::paging::{Page, Paging, Total};

port! {
    /// How often texts were searched for, by day.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait SearchLogRepository / ForwardSearchLog(&mut self): Send {
        /// Adds counts to those that are stored for the same day and term, and takes over their texts. A day has each
        /// term at most once in `counts`. The number of statements grows by one for each 128 counts.
        async fn add(&mut self, counts: &[SearchCount]) -> Result<()>;

        /// Returns a page of the terms with their counts over the days of the range, in the order of `sort` and, with
        /// equal counts, by ascending id. The text of a term is that of its last day. One statement, whatever the
        /// limit.
        ///
        /// # Errors
        /// `Validation` for a cursor of another list.
        async fn list(
            &mut self,
            range: &DayRange,
            sort: SearchTermSort,
            paging: &Paging,
        ) -> Result<Page<SearchTerm>>;

        /// Counts the terms of the list, up to `bound`.
        async fn count(&mut self, range: &DayRange, sort: SearchTermSort, bound: u64) -> Result<Total>;

        /// Removes counts of the days before `day`, the oldest first and at most `limit`, and returns how many.
        async fn trim(&mut self, day: NaiveDate, limit: u32) -> Result<u64>;
    }
}
