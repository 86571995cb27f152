//! The figures of analytics.

use chrono::NaiveDate;

use crate::clock::Timestamp;
use crate::domain::platform::analytics::{
    AnalyticsState, CreatedCarts, DayFigures, DayRange, DaySales, Funnel, LowStockSku, ProductSales, ProductSalesSort,
    ProductViews,
};
use crate::error::Result;
use crate::id::OrderId;
use crate::paging::{Page, Paging, Total};

port! {
    /// The figures of analytics: by day, in the time zone of the shop and in its currency.
    ///
    /// The figures of sales are computed from the orders of a day ([`Self::compute`]) and stored as a whole
    /// ([`Self::replace`]). Carts and views are counted.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait AnalyticsRepository / ForwardAnalytics(&mut self): Send {
        /// Returns the state of the figures. A new database has the time zone UTC. It requires a rebuild
        /// if it has had orders before it had figures.
        async fn state(&mut self) -> Result<AnalyticsState>;

        /// As [`Self::state`], and locks it until the end of the transaction.
        async fn lock(&mut self) -> Result<AnalyticsState>;

        /// Writes the state, which the caller has locked.
        async fn update(&mut self, after: &AnalyticsState) -> Result<()>;

        /// Moves the version of the state from `version` to the next one, and returns false if the state has another
        /// version. Of two transactions that have computed figures at the same version, one gets true, so that older
        /// figures never replace newer ones.
        async fn claim(&mut self, version: i64) -> Result<bool>;

        /// Returns the times at which these orders were placed, and at which units of them were canceled.
        async fn times(&mut self, orders: &[OrderId]) -> Result<Vec<Timestamp>>;

        /// Returns the first time at `from` or later at which an order was placed or units were canceled.
        async fn next_sale(&mut self, from: Timestamp) -> Result<Option<Timestamp>>;

        /// Returns the first day at `from` or later that has figures of sales.
        async fn next_day(&mut self, from: NaiveDate) -> Result<Option<NaiveDate>>;

        /// Computes the figures of the time from `from` until before `until` from orders. Soft-deleted orders count.
        /// Three statements.
        async fn compute(&mut self, from: Timestamp, until: Timestamp) -> Result<DayFigures>;

        /// Replaces the stored figures of sales of a day. Figures that are the same are not written.
        async fn replace(&mut self, day: NaiveDate, figures: &DayFigures) -> Result<()>;

        /// Adds up the figures of products over spans of days before `today`, so that [`Self::top_products`] reads
        /// fewer rows for a long range. A call looks at the days from `from` on, and rolls up the first spans that have
        /// to be, as many as a short transaction may. Returns the day from which the next call looks on, so that a walk
        /// through many years takes time in proportion to their number. Returns `None` if no span from `from` on has to
        /// be rolled up, and also if the storage needs no such sums. The caller has locked the state. A report must
        /// return the same figures before and after this call: it must not use a sum over a day whose figures were
        /// replaced since, not even if a process of the previous release replaced them.
        async fn roll_up(&mut self, from: NaiveDate, today: NaiveDate) -> Result<Option<NaiveDate>>;

        /// Discards the sums of [`Self::roll_up`], which then makes them anew. The caller has locked the state.
        async fn discard_rollups(&mut self) -> Result<()>;

        /// Adds to the numbers of carts. A day is at most once in `carts`.
        async fn add_carts(&mut self, carts: &[CreatedCarts]) -> Result<()>;

        /// Adds to the views of products, and to those of their days. A day has each product at most once in `views`.
        /// The number of statements grows by one for each 128 views.
        async fn add_views(&mut self, views: &[ProductViews]) -> Result<()>;

        /// Returns the sales of the days that have some, in order: one statement.
        async fn sales(&mut self, range: &DayRange) -> Result<Vec<(NaiveDate, DaySales)>>;

        /// Returns the views and carts of the days that have some, in order: one statement. The orders are 0.
        async fn traffic(&mut self, range: &DayRange) -> Result<Vec<(NaiveDate, Funnel)>>;

        /// Returns a page of the products that were sold or canceled on these days, in the order of `sort` and, with
        /// equal figures, by ascending id. With [`Paging::Offset`], it also returns their number, counted up to
        /// `bound`. It takes at most three statements, whatever the limit is.
        ///
        /// # Errors
        /// `Validation` for a cursor of another list.
        async fn top_products(
            &mut self,
            range: &DayRange,
            sort: ProductSalesSort,
            paging: &Paging,
            bound: u64,
        ) -> Result<(Page<ProductSales>, Option<Total>)>;

        /// Returns a page of the SKUs that are low in stock: those of active products that track their stock, of which
        /// at most the low-stock threshold is available. The ones with the fewest available pieces come first, equal
        /// ones by id.
        ///
        /// # Errors
        /// `Validation` for a cursor of another list.
        async fn low_stock(&mut self, paging: &Paging) -> Result<Page<LowStockSku>>;

        /// Counts the SKUs that are low in stock, up to `bound`.
        async fn count_low_stock(&mut self, bound: u64) -> Result<Total>;
    }
}
