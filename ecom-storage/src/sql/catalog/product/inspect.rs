//! The statements over products, as benches and tests inspect them.

use ecom_core::Result;
use ecom_core::catalog::{ProductFilter, ProductSort};
use ecom_core::paging::Paging;

use super::GET;
use super::query::list_statement;
use crate::sql::engine::pool::SqlStorage;

impl SqlStorage {
    /// Returns the statement that reads one product, for the bench that runs it on a bare driver.
    #[doc(hidden)]
    pub fn product_text(&self) -> &'static str {
        &GET.prepared(self.dialect()).text
    }

    /// Returns the statement of a list, for the bench that runs it on a bare driver.
    ///
    /// # Errors
    /// `Validation` for a cursor of another list.
    #[doc(hidden)]
    pub fn list_text(&self, filter: &ProductFilter, sort: ProductSort, paging: &Paging) -> Result<String> {
        Ok(list_statement(self.dialect(), filter, sort, paging)?.0)
    }

    /// Returns the plan that the database makes for a list, for tests that check the use of indexes.
    #[doc(hidden)]
    pub async fn explain_list(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        paging: &Paging,
    ) -> Result<Vec<String>> {
        let (text, args) = list_statement(self.dialect(), filter, sort, paging)?;
        self.explain(&text, args).await
    }
}
