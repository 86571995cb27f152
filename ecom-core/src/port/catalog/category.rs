//! Categories.

use std::collections::HashSet;

use crate::domain::catalog::category::{Category, CategoryFilter};
use crate::domain::common::IncludeDeleted;
use crate::error::Result;
use crate::id::CategoryId;
use crate::paging::{Page, Paging, Total};
use crate::text::Slug;

/// What refers to a category (R4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CategoryUsage {
    /// Live child categories.
    pub live_children: u64,
    /// All child categories.
    pub all_children: u64,
    /// Live products directly in it.
    pub live_products: u64,
    /// All products directly in it.
    pub all_products: u64,
}

port! {
    /// The categories of a shop.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait CategoryRepository / ForwardCategories(&mut self): Send {
        /// One category.
        async fn get(&mut self, id: CategoryId, deleted: IncludeDeleted) -> Result<Option<Category>>;

        /// Those of `ids` that exist, by id.
        async fn get_many(&mut self, ids: &[CategoryId], deleted: IncludeDeleted) -> Result<Vec<Category>>;

        /// Live categories with one of `slugs`, by id.
        async fn get_by_slugs(&mut self, slugs: &[String]) -> Result<Vec<Category>>;

        /// Which of a source's external ids are here, soft-deleted ones too, by id.
        async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<Category>>;

        /// Locks the tree for a write that depends on paths, until the end of the transaction: creates, moves,
        /// deletes and restores of categories run one after the other. It comes before any other lock.
        async fn lock_tree(&mut self) -> Result<()>;

        /// Keeps the tree as it is until the end of the transaction, for a write that puts products into categories:
        /// many hold it at a time, and [`Self::lock_tree`] waits for them. It comes before any other lock.
        async fn hold_tree(&mut self) -> Result<()>;

        /// The slugs of live categories that are one of `bases` or one of them with a number (`-2`).
        async fn taken_slugs(&mut self, bases: &[Slug]) -> Result<HashSet<String>>;

        /// A page of a list by name, folded; ties by id.
        async fn list(&mut self, filter: &CategoryFilter, paging: &Paging) -> Result<Page<Category>>;

        /// How many categories match, counted up to `bound`.
        async fn count(&mut self, filter: &CategoryFilter, bound: u64) -> Result<Total>;

        /// The category at `path` and everything below, soft-deleted ones too, parents first.
        async fn subtree(&mut self, path: &str) -> Result<Vec<Category>>;

        /// All live categories, parents before children, siblings by name.
        async fn tree(&mut self) -> Result<Vec<Category>>;

        /// What refers to it.
        async fn usage(&mut self, id: CategoryId) -> Result<CategoryUsage>;

        /// Inserts categories; parents come before children.
        ///
        /// # Errors
        /// `DUPLICATE` for a taken name among siblings, slug or external id.
        async fn insert(&mut self, categories: &[Category]) -> Result<()>;

        /// Writes `after` over `before`. Product counts are the adapter's and are not written.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, else as [`Self::insert`].
        async fn update(&mut self, before: &Category, after: &Category) -> Result<()>;

        /// Gives categories new paths and moves their revisions (R3).
        async fn rewrite_paths(&mut self, paths: &[(CategoryId, String)]) -> Result<()>;

        /// Removes a category for good; nothing refers to it (R4).
        ///
        /// # Errors
        /// `CATEGORY_NOT_EMPTY` if something does.
        async fn purge(&mut self, id: CategoryId) -> Result<()>;
    }
}
