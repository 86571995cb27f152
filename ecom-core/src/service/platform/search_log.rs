//! The search log: counts them in memory, and adds the counts to the database from time to time.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::analytics::DayRange;
use crate::domain::platform::search_log::{SearchCount, SearchTerm, SearchTermSort};
use crate::error::{Result, WithCauses};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;

/// The searches of this process that the database does not have yet.
///
/// A search takes the lock for a moment and waits for nothing else. The number of terms is bounded, so that neither a
/// database that is down nor a flood of different texts fills the memory.
#[derive(Debug, Default)]
pub(crate) struct SearchCounts(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    terms: HashMap<(NaiveDate, Uuid), SearchTerm>,
    /// How many searches were not counted, because there were too many terms.
    lost: u64,
    /// The terms of the last day, so that the number of different terms per day is bounded.
    day: Option<NaiveDate>,
    of_day: HashSet<Uuid>,
}

impl Pending {
    /// Returns whether one of the terms of a day may be counted.
    fn has_room(&mut self, day: NaiveDate, term: Uuid) -> bool {
        if self.day != Some(day) {
            self.day = Some(day);
            self.of_day.clear();
        }
        self.of_day.contains(&term) || (self.of_day.len() < SearchCounts::CAPACITY && self.of_day.insert(term))
    }

    /// Adds a count. `is_later` is whether it is later than what is here.
    fn add(&mut self, day: NaiveDate, term: SearchTerm, is_later: bool) {
        let is_full = self.terms.len() >= SearchCounts::CAPACITY;
        match self.terms.entry((day, term.id)) {
            Entry::Occupied(mut here) if is_later => here.get_mut().add(term),
            Entry::Occupied(mut here) => {
                let later = std::mem::replace(here.get_mut(), term);
                here.get_mut().add(later);
            }
            Entry::Vacant(_) if is_full => self.lost = self.lost.saturating_add(term.searches),
            Entry::Vacant(free) => drop(free.insert(term)),
        }
    }
}

/// The counts that a call has taken and not written. They are put back when the call ends, also if it is abandoned.
struct Rest<'a> {
    counts: &'a SearchCounts,
    left: &'a [SearchCount],
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let mut pending = self.counts.0.lock();
        self.left.iter().cloned().for_each(|count| pending.add(count.day, count.term, false));
    }
}

impl SearchCounts {
    /// The most terms that wait for the next write, and the most different ones that a process counts on a day.
    const CAPACITY: usize = 10_000;
    /// The most counts that one transaction writes, so that other writes need not wait for long.
    const AT_ONCE: usize = 1_000;

    /// Counts a search.
    pub fn note(&self, day: NaiveDate, term: SearchTerm) {
        let mut pending = self.0.lock();
        if pending.has_room(day, term.id) {
            pending.add(day, term, true);
        } else {
            pending.lost = pending.lost.saturating_add(1);
        }
    }

    /// Takes all counts, in the order in which transactions lock their rows.
    fn take(&self) -> Vec<SearchCount> {
        let (terms, lost) = {
            let mut pending = self.0.lock();
            (std::mem::take(&mut pending.terms), std::mem::take(&mut pending.lost))
        };
        if lost > 0 {
            tracing::warn!(lost, "searches for new texts were not counted, because there were too many texts");
        }
        let mut counts: Vec<_> = terms.into_iter().map(|((day, _), term)| SearchCount { day, term }).collect();
        counts.sort_unstable_by_key(|count| (count.day, count.term.id));
        counts
    }

    /// Adds all counts of this process to the database. Those of a transaction that was certainly not written are kept
    /// for the next call. If the answer to a commit was lost, its counts are not written again.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn flush(&self, cx: &Arc<Context>) -> Result<()> {
        let counts = self.take();
        let mut rest = Rest { counts: self, left: &counts };
        for chunk in counts.chunks(Self::AT_ONCE) {
            let done = cx.write(|mut tx| async move {
                tx.search_log().add(chunk).await?;
                Ok(((), tx))
            });
            // If this call is dropped now, the transaction may be written or not.
            let before = rest.left;
            rest.left = &before[chunk.len()..];
            if let Err(error) = done.await {
                if !error.outcome_unknown() {
                    rest.left = before;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// [`Self::flush`] before the database is closed. It does not wait long for a database that is down.
    pub async fn flush_last(&self, cx: &Arc<Context>) {
        const LIMIT: Duration = Duration::from_secs(5);
        match tokio::time::timeout(LIMIT, self.flush(cx)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %WithCauses(&error), "the last searches were not counted"),
            Err(_) => tracing::warn!("the last searches were not counted, because the database did not answer in time"),
        }
    }
}

/// The service of the search log: which texts are searched for, and which find nothing.
///
/// Each process counts its searches in memory, and its background work ([`Shop::start`](crate::Shop::start)) adds the
/// counts to the database once per [`search_log_interval`](crate::config::ShopConfig::search_log_interval), as
/// [`Shop::close`](crate::Shop::close) does. A process that is killed loses the counts since then. The first page of a
/// search counts, also if its result comes from the cache; further pages and suggestions do not.
///
/// Texts that people type can contain personal data. They are removed after
/// [`search_log_retention`](crate::config::ShopConfig::search_log_retention), and
/// [`search_log`](crate::config::ShopConfig::search_log) turns the log off.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::paging::Paging;
/// use ecom_core::platform::DayRange;
///
/// let range = DayRange::last(30, shop.config().time_zone.day_of(shop.clock().now()));
/// let (page, _) = shop.search_log().without_result(&range, &Paging::first(10)).await?;
/// for term in page.items {
///     println!("{}: {} of {} searches found nothing", term.text, term.without_result, term.searches);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SearchLogService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> SearchLogService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a page of the texts that were searched for, the most frequent first, and, with [`Paging::Offset`], how
    /// many there are, counted up to [`total_bound`](crate::config::ShopConfig::total_bound).
    ///
    /// # Errors
    /// `Validation` for a range out of the bounds of [`DayRange::check`], for the limit of the page and for a
    /// cursor of another list, `Unavailable`.
    pub async fn popular(&self, range: &DayRange, paging: &Paging) -> Result<(Page<SearchTerm>, Option<Total>)> {
        self.list(range, SearchTermSort::Searches, paging).await
    }

    /// Returns a page of the texts for which at least one search found no product, those with the most such searches
    /// first, and their number as [`Self::popular`] does.
    ///
    /// # Errors
    /// As [`Self::popular`].
    pub async fn without_result(&self, range: &DayRange, paging: &Paging) -> Result<(Page<SearchTerm>, Option<Total>)> {
        self.list(range, SearchTermSort::WithoutResult, paging).await
    }

    async fn list(
        &self,
        range: &DayRange,
        sort: SearchTermSort,
        paging: &Paging,
    ) -> Result<(Page<SearchTerm>, Option<Total>)> {
        self.who.require(Permission::AnalyticsRead)?;
        range.check()?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.search_log().list(range, sort, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.search_log().count(range, sort, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Adds the counts of this process to the database at once. An application that does not run the background work
    /// calls it from time to time.
    ///
    /// # Errors
    /// `Unavailable`, and the counts are kept, unless it is unknown whether they were written.
    pub async fn flush(&self) -> Result<()> {
        self.who.require(Permission::AnalyticsRead)?;
        self.cx.searches.flush(self.cx).await
    }
}
