//! Categories.

use std::collections::HashSet;

use crate::domain::catalog::category::{Category, CategoryFilter};
use crate::domain::common::IncludeDeleted;
use crate::error::Result;
use crate::id::CategoryId;
use crate::paging::{Page, Paging, Total};
use crate::text::Slug;

/// How many rows refer to a category (R4).
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
        /// Returns one category.
        async fn get(&mut self, id: CategoryId, deleted: IncludeDeleted) -> Result<Option<Category>>;

        /// Returns those of `ids` that exist, by id.
        async fn get_many(&mut self, ids: &[CategoryId], deleted: IncludeDeleted) -> Result<Vec<Category>>;

        /// Returns the live categories with one of `slugs`, by id.
        async fn get_by_slugs(&mut self, slugs: &[String]) -> Result<Vec<Category>>;

        /// Returns the categories with one of these external ids of a source, soft-deleted ones too, by id.
        async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<Category>>;

        /// Locks the tree until the end of the transaction, for a write that depends on paths: creates, moves, deletes
        /// and restores of categories run one after the other. It comes before any other lock.
        async fn lock_tree(&mut self) -> Result<()>;

        /// Keeps the tree as it is until the end of the transaction, for a write that puts products into categories.
        /// Several transactions may hold it at once, and [`Self::lock_tree`] waits for them. It comes before any other
        /// lock.
        async fn hold_tree(&mut self) -> Result<()>;

        /// Returns the slugs of live categories that are one of `bases`, or one of them with a number (`-2`).
        async fn taken_slugs(&mut self, bases: &[Slug]) -> Result<HashSet<String>>;

        /// Returns a page of a list by folded name; ties by id.
        async fn list(&mut self, filter: &CategoryFilter, paging: &Paging) -> Result<Page<Category>>;

        /// Counts the categories that match, up to `bound`.
        async fn count(&mut self, filter: &CategoryFilter, bound: u64) -> Result<Total>;

        /// Returns the category at `path` and everything below it, soft-deleted ones too, parents first.
        async fn subtree(&mut self, path: &str) -> Result<Vec<Category>>;

        /// Returns all live categories, parents before children, siblings by name.
        async fn tree(&mut self) -> Result<Vec<Category>>;

        /// Returns how many rows refer to a category.
        async fn usage(&mut self, id: CategoryId) -> Result<CategoryUsage>;

        /// Inserts categories; parents come before children.
        ///
        /// # Errors
        /// `DUPLICATE` if a live sibling has the name, or a live category the slug or external id.
        async fn insert(&mut self, categories: &[Category]) -> Result<()>;

        /// Writes `after` over `before`. The adapter maintains product counts itself and does not write these.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, else as [`Self::insert`].
        async fn update(&mut self, before: &Category, after: &Category) -> Result<()>;

        /// Gives categories new paths and increases their revisions (R3).
        async fn rewrite_paths(&mut self, paths: &[(CategoryId, String)]) -> Result<()>;

        /// Removes a category for good. No row may refer to it (R4).
        ///
        /// # Errors
        /// `CATEGORY_NOT_EMPTY` if a row refers to it.
        async fn purge(&mut self, id: CategoryId) -> Result<()>;
    }
}
