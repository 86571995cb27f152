//! The search log: counts them in memory, and adds the counts to the database from time to time.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::NaiveDate;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::analytics::DayRange;
use crate::domain::platform::search_log::{SearchCount, SearchTerm, SearchTermSort};
use crate::error::Result;
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::counts::{Count, Counts};
use crate::service::run::transaction::Tx;

impl Count for SearchCount {
    type Key = (NaiveDate, Uuid);

    const WHAT: &'static str = "searches";

    fn key(&self) -> Self::Key {
        (self.day, self.term.id)
    }

    fn times(&self) -> u64 {
        self.term.searches
    }

    fn add(&mut self, later: Self) {
        self.term.add(later.term);
    }

    async fn write(tx: &mut Tx<'_>, counts: &[Self]) -> Result<()> {
        tx.search_log().add(counts).await
    }
}

/// The searches of this process that the database does not have yet.
#[derive(Debug, Default)]
pub(crate) struct SearchCounts {
    counts: Counts<SearchCount>,
    today: Mutex<Today>,
}

/// The different terms that were counted on the current day, which bounds their number.
#[derive(Debug, Default)]
struct Today {
    day: Option<NaiveDate>,
    terms: HashSet<Uuid>,
}

impl Today {
    /// Returns whether this term may be counted on this day.
    fn has_room(&mut self, day: NaiveDate, term: Uuid) -> bool {
        if self.day != Some(day) {
            self.day = Some(day);
            self.terms.clear();
        }
        self.terms.contains(&term) || (self.terms.len() < Counts::<SearchCount>::CAPACITY && self.terms.insert(term))
    }
}

impl SearchCounts {
    /// Counts a search, unless this process has counted too many different texts on that day.
    pub fn note(&self, day: NaiveDate, term: SearchTerm) {
        let has_room = self.today.lock().has_room(day, term.id);
        if has_room {
            self.counts.note(SearchCount { day, term });
        } else {
            self.counts.lose(1);
        }
    }

    /// [`Counts::flush`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn flush(&self, cx: &Arc<Context>) -> Result<()> {
        self.counts.flush(cx).await
    }

    /// [`Counts::flush_last`].
    pub async fn flush_last(&self, cx: &Arc<Context>) {
        self.counts.flush_last(cx).await;
    }
}

/// The service of the search log: which texts are searched for, and which find nothing.
///
/// Each process counts its searches in memory, and its background work ([`Shop::start`](crate::Shop::start)) adds the
/// counts to the database once per [`search_log_interval`](crate::config::ShopConfig::search_log_interval), as
/// [`Shop::close`](crate::Shop::close) does. A process that is killed loses the counts since then. The first page of a
/// search counts, also if its result comes from the cache; further pages, suggestions and the searches of
/// [`SearchService::uncounted`](crate::search::SearchService::uncounted) do not.
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
