//! Categories: the tree, its paths and its rules (R3, R4).

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::product::duplicate;
use super::product::names::is_numbered;
use super::resolver::Resolver;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::category::{
    Category, CategoryFilter, CategoryInput, CategoryPatch, ancestor_slugs, path_depth,
};
use crate::domain::common::{Audit, DeleteMode, ExpectedVersion, ExternalRef, IncludeDeleted, Patch};
use crate::domain::platform::outbox::EventKind;
use crate::error::{CatalogConflict, Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::paging::{Page, Paging, Total};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories;
use crate::service::run::context::Context;
use crate::service::run::read_through::{Cached, Lookup, text_hash};
use crate::service::run::transaction::{Change, Tx};
use crate::text::{Slug, shown, trimmed};

/// How many products of a moved category are updated per batch.
const REFRESH_BATCH: u32 = 500;

/// A page of categories with its total, as it is cached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoryList {
    /// The query, which distinguishes queries that share a cache key.
    query: String,
    /// The categories, and the cursor of the next page.
    pub page: Page<Category>,
    /// How many match; `None` with a cursor.
    pub total: Option<Total>,
}

/// The service of the categories of a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::CategoryInput;
///
/// let tea = shop.categories().create(&CategoryInput::new("Tea")).await?;
/// let green = shop.categories().create(&CategoryInput::new("Green tea").under(tea.id)).await?;
/// assert_eq!(green.path, "tea/green-tea");
/// // To the root.
/// shop.categories().move_to(green.id, green.audit.version.into(), None).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CategoryService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> CategoryService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a live category, from the cache or the database (R15).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: CategoryId) -> Result<Lookup<Category>> {
        // The slug is only a hint: the category that it leads to is checked for its id.
        let slug = self.slug(id).await?.ok_or_else(|| Error::not_found(Entity::Category, id))?;
        match self.get_by_slug(slug.value.as_str()).await {
            Ok(found) if found.value.id == id => Ok(found),
            _ => Ok(Lookup { value: Arc::new(Cached::new(self.get_fresh(id, IncludeDeleted::No).await?)), hit: false }),
        }
    }

    /// Returns the slug of a live category, from the cache or the database (R15).
    pub(super) async fn slug(&self, id: CategoryId) -> Result<Option<Lookup<Slug>>> {
        let load = async {
            let found = self.cx.storage.connect().await?.categories().get(id, IncludeDeleted::No).await?;
            Ok(found.map(|c| c.slug))
        };
        self.cx.cache.get_or_load(CacheKey::Category(id), self.cx.config.category_ttl, load).await
    }

    /// Returns a live category by its slug, from the cache or the database (R15).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_slug(&self, slug: &str) -> Result<Lookup<Category>> {
        if Slug::parse(slug).is_err() {
            return Err(Error::not_found(Entity::Category, shown(slug)));
        }
        let load = async || {
            let slugs = [slug.to_owned()];
            Ok::<_, Error>(self.cx.storage.connect().await?.categories().get_by_slugs(&slugs).await?.pop())
        };
        let key = CacheKey::CategorySlug(text_hash(slug));
        let found = self.cx.cache.get_or_load(key, self.cx.config.category_ttl, load()).await?;
        match found {
            Some(found) if found.value.slug.as_str() == slug => Ok(found),
            // The entry belongs to another slug with the same hash.
            Some(_) => {
                let c = load().await?.ok_or_else(|| Error::not_found(Entity::Category, slug))?;
                Ok(Lookup { value: Arc::new(Cached::new(c)), hit: false })
            }
            None => Err(Error::not_found(Entity::Category, slug)),
        }
    }

    /// Returns a category as the database has it now; soft-deleted ones only if `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_fresh(&self, id: CategoryId, deleted: IncludeDeleted) -> Result<Category> {
        self.who.require_shown(deleted)?;
        self.cx
            .storage
            .connect()
            .await?
            .categories()
            .get(id, deleted)
            .await?
            .ok_or_else(|| Error::not_found(Entity::Category, id))
    }

    /// Returns the live category that an id, a slug or a path names.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn resolve(&self, reference: &str) -> Result<Lookup<Category>> {
        if let Ok(id) = reference.parse() {
            return self.get(id).await;
        }
        let path = reference.trim_matches('/');
        let found = self.get_by_slug(path.rsplit('/').next().unwrap_or(path)).await?;
        if path.contains('/') && found.value.path != path {
            return Err(Error::not_found(Entity::Category, reference));
        }
        Ok(found)
    }

    /// Returns a page of categories by name, from the cache or the database (R15) and, with [`Paging::Offset`], how
    /// many match. A list with soft-deleted categories is always read from the database.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self, filter: &CategoryFilter, paging: &Paging) -> Result<Lookup<CategoryList>> {
        self.who.require_shown(filter.include_deleted)?;
        paging.check()?;
        let text = format!("{filter:?} {paging:?}");
        let load = |query: String| async {
            let mut db = self.cx.storage.connect().await?;
            let page = db.categories().list(filter, paging).await?;
            let total = match paging {
                Paging::Offset { .. } => Some(db.categories().count(filter, self.cx.config.total_bound).await?),
                Paging::Keyset { .. } => None,
            };
            Ok::<_, Error>(CategoryList { query, page, total })
        };
        if filter.include_deleted == IncludeDeleted::No {
            let key = CacheKey::CategoryList(text_hash(&text));
            let (parts, ttl) = (async { Ok(Some(vec![CacheKey::CategoryListing])) }, self.cx.config.category_ttl);
            let load = async { load(text.clone()).await.map(Some) };
            // The entry may belong to another query with the same hash.
            if let Some(found) = self.cx.cache.get_or_make(key, ttl, parts, load).await?
                && found.value.query == text
            {
                return Ok(found);
            }
        }
        Ok(Lookup { value: Arc::new(Cached::new(load(text).await?)), hit: false })
    }

    /// Returns all live categories, parents before children, from the cache or the database.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn tree(&self) -> Result<Lookup<Vec<Category>>> {
        self.cx
            .cache
            .get_or_load(CacheKey::CategoryTree, self.cx.config.category_ttl, async {
                Ok(Some(self.cx.storage.connect().await?.categories().tree().await?))
            })
            .await?
            .ok_or_else(|| Error::not_found(Entity::Category, "tree"))
    }

    /// Returns the categories above a category, root first.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn ancestors(&self, id: CategoryId) -> Result<Vec<Category>> {
        let found = self.get(id).await?;
        let slugs: Vec<String> = ancestor_slugs(&found.value.path).map(str::to_owned).collect();
        if slugs.is_empty() {
            return Ok(Vec::new());
        }
        let mut above = self.cx.storage.connect().await?.categories().get_by_slugs(&slugs).await?;
        above.sort_by_key(Category::depth);
        Ok(above)
    }

    /// Creates a category.
    ///
    /// # Errors
    /// `Validation`, also for a parent that does not exist, `DUPLICATE`, `Unavailable`.
    pub async fn create(&self, input: &CategoryInput) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        checked(input)?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction. It locks the tree, which must come before any other lock.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &CategoryInput) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        checked(input)?;
        tx.started();
        tx.categories().lock_tree().await?;
        let parent = parent_of(tx, input.parent_id.as_deref()).await?;
        let slug = match &input.slug {
            Some(s) => claim_slug(tx, s, None).await?,
            None => free_slug(tx, &input.name).await?,
        };
        let path = Category::path_under(parent.as_ref(), &slug);
        check_depth(path_depth(&path))?;
        let category = Category {
            id: CategoryId(self.cx.ids.next()),
            name: input.name.trim().to_owned(),
            slug,
            parent_id: parent.as_ref().map(|p| p.id),
            path,
            description: trimmed(input.description.as_deref()),
            attributes: input.attributes.clone(),
            external: ExternalRef::of(input.source.as_deref(), input.external_id.as_deref()),
            product_count: 0,
            subtree_product_count: 0,
            revision: 1,
            audit: Audit::created(self.cx.now(), self.who.actor()),
        };
        self.insert_in(tx, std::slice::from_ref(&category)).await?;
        tx.ended(Ok(category))
    }

    /// Inserts categories with their events. Their values must be checked, parents must come before children, and the
    /// tree must be locked.
    pub(crate) async fn insert_in(&self, tx: &mut Tx<'_>, categories: &[Category]) -> Result<()> {
        tx.categories().insert(categories).await?;
        let changes = categories
            .iter()
            .map(|c| Change::created(EventKind::CategoryCreated, c, self.who.actor()).shown_by([slug_key(&c.slug)]));
        tx.emit_all(changes.collect()).await
    }

    /// Replaces a category (PUT, R1). If the input has no slug, a slug that was made from this name stays.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `CATEGORY_CYCLE`, and those of [`Self::create`].
    pub async fn replace(&self, id: CategoryId, expected: ExpectedVersion, input: &CategoryInput) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        let expected = expected.or_named(input.version)?;
        checked(input)?;
        self.cx.write(|mut tx| async move { Ok((self.replace_in(&mut tx, id, expected, input).await?, tx)) }).await
    }

    /// [`Self::replace`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn replace_in(
        &self,
        tx: &mut Tx<'_>,
        id: CategoryId,
        expected: ExpectedVersion,
        input: &CategoryInput,
    ) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        let expected = expected.or_named(input.version)?;
        checked(input)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::No).await?;
        let written = self.update_in(tx, before, input.clone()).await;
        tx.ended(written)
    }

    /// Merges a patch into a category (RFC 7396, R1). A slug that was made from the name follows a new name (R3); a
    /// slug that the caller chose stays.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: CategoryId, expected: ExpectedVersion, patch: CategoryPatch) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: CategoryId,
        expected: ExpectedVersion,
        patch: CategoryPatch,
    ) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::No).await?;
        let input = merge(&before, patch)?;
        let written = self.update_in(tx, before, input).await;
        tx.ended(written)
    }

    /// Moves a category with everything below it under another parent, or to the root (R3).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn move_to(&self, id: CategoryId, expected: ExpectedVersion, parent: Option<String>) -> Result<Category> {
        self.patch(id, expected, to_parent(parent)).await
    }

    /// [`Self::move_to`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn move_to_in(
        &self,
        tx: &mut Tx<'_>,
        id: CategoryId,
        expected: ExpectedVersion,
        parent: Option<String>,
    ) -> Result<Category> {
        self.patch_in(tx, id, expected, to_parent(parent)).await
    }

    /// Writes values over a category that the transaction has locked.
    async fn update_in(&self, tx: &mut Tx<'_>, before: Category, input: CategoryInput) -> Result<Category> {
        checked(&input)?;
        let id = before.id;
        let parent = parent_of(tx, input.parent_id.as_deref()).await?;
        if let Some(p) = &parent
            && before.contains(p)
        {
            return Err(CatalogConflict::CategoryCycle { category: id.0, parent: p.id.0 }.into());
        }
        let slug = match &input.slug {
            Some(s) => claim_slug(tx, s, Some(&before.slug)).await?,
            None if is_numbered(&before.slug, &Slug::from_title(&input.name, "category")) => before.slug.clone(),
            None => free_slug(tx, &input.name).await?,
        };
        let mut after = before.clone();
        input.name.trim().clone_into(&mut after.name);
        after.path = Category::path_under(parent.as_ref(), &slug);
        after.slug = slug;
        after.parent_id = parent.as_ref().map(|p| p.id);
        after.description = trimmed(input.description.as_deref());
        after.attributes = input.attributes;
        if let Some((s, i)) = input.source.as_ref().zip(input.external_id.as_ref()) {
            after.external = Some(ExternalRef::new(s, i));
        }
        if after == before {
            return Ok(before);
        }
        after.revision += 1;
        after.audit.edited(self.cx.now(), self.who.actor());
        let moved = after.path != before.path;
        // Read before the paths change.
        let below = if moved { tx.categories().subtree(&before.path).await? } else { Vec::new() };
        tx.categories().update(&before, &after).await?;
        if moved {
            // A deleted category may have the path of a live one that took its slug, so parents decide what is below.
            let mut inside = HashSet::from([id]);
            let paths: Vec<(CategoryId, String)> = below
                .iter()
                .filter(|c| c.parent_id.is_some_and(|p| inside.contains(&p)) && inside.insert(c.id))
                .map(|c| (c.id, format!("{}{}", after.path, &c.path[before.path.len()..])))
                .collect();
            check_depth(paths.iter().map(|(_, p)| path_depth(p)).max().unwrap_or(0).max(after.depth()))?;
            tx.categories().rewrite_paths(&paths).await?;
        }
        if moved || after.name != before.name {
            refresh_products(tx, id).await?;
            let change = Change::edited(EventKind::CategoryMoved, &before, &after, self.who.actor());
            tx.emit(change.shown_everywhere()).await?;
        } else {
            let change = Change::edited(EventKind::CategoryUpdated, &before, &after, self.who.actor());
            tx.emit(change.shown_by([slug_key(&after.slug)])).await?;
        }
        // The counts changed with the products, so the category is read again.
        Ok(tx.categories().get(id, IncludeDeleted::Yes).await?.unwrap_or(after))
    }

    /// Locks the tree and reads a category for a write.
    async fn lock(
        &self,
        tx: &mut Tx<'_>,
        id: CategoryId,
        expected: ExpectedVersion,
        deleted: IncludeDeleted,
    ) -> Result<Category> {
        tx.categories().lock_tree().await?;
        let before = tx.categories().get(id, deleted).await?.ok_or_else(|| Error::not_found(Entity::Category, id))?;
        expected.check(Entity::Category, id, before.audit.version, self.cx.config.last_write_wins)?;
        Ok(before)
    }

    /// Deletes a category that nothing uses: softly (R2), or for good (R4).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `CATEGORY_NOT_EMPTY`, `Unavailable`.
    pub async fn delete(&self, id: CategoryId, expected: ExpectedVersion, mode: DeleteMode) -> Result<()> {
        self.who.require_delete(Permission::CategoriesWrite, mode)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected, mode).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(
        &self,
        tx: &mut Tx<'_>,
        id: CategoryId,
        expected: ExpectedVersion,
        mode: DeleteMode,
    ) -> Result<()> {
        self.who.require_delete(Permission::CategoriesWrite, mode)?;
        tx.started();
        let before = self.lock(tx, id, expected, mode.of()).await?;
        let usage = tx.categories().usage(id).await?;
        let (children, products) = match mode {
            DeleteMode::Soft => (usage.live_children, usage.live_products),
            DeleteMode::Force => (usage.all_children, usage.all_products),
        };
        if children + products > 0 {
            return Err(CatalogConflict::CategoryNotEmpty { category: id.0, children, products }.into());
        }
        // No list has products of an empty category.
        let shown_by = [slug_key(&before.slug)];
        match mode {
            DeleteMode::Soft => {
                let mut gone = before.clone();
                gone.audit.deleted(self.cx.now(), self.who.actor());
                gone.revision += 1;
                tx.categories().update(&before, &gone).await?;
                let change = Change::edited(EventKind::CategoryDeleted, &before, &gone, self.who.actor());
                tx.emit(change.shown_by(shown_by)).await?;
            }
            DeleteMode::Force => {
                tx.categories().purge(id).await?;
                let change = Change::removed(EventKind::CategoryPurged, &before, self.who.actor());
                tx.emit(change.shown_by(shown_by)).await?;
            }
        }
        tx.ended(Ok(()))
    }

    /// Restores a soft-deleted category under its parent, which must be live (R2).
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if it is not deleted or its parent is, `DUPLICATE` if its name or slug was taken
    /// in between, `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub async fn restore(&self, id: CategoryId, expected: ExpectedVersion) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.restore_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::restore`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub async fn restore_in(&self, tx: &mut Tx<'_>, id: CategoryId, expected: ExpectedVersion) -> Result<Category> {
        self.who.require(Permission::CategoriesWrite)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::Yes).await?;
        before.audit.check_deleted("category", id)?;
        let parent = match before.parent_id {
            None => None,
            Some(p) => {
                let live = tx.categories().get(p, IncludeDeleted::No).await?;
                Some(live.ok_or_else(|| Conflict::State {
                    message: format!("the parent category {p} is deleted: restore it first"),
                })?)
            }
        };
        claim_slug(tx, before.slug.as_str(), None).await?;
        let mut after = before.clone();
        after.path = Category::path_under(parent.as_ref(), &before.slug);
        after.audit.restored(self.cx.now(), self.who.actor());
        after.revision += 1;
        tx.categories().update(&before, &after).await?;
        refresh_products(tx, id).await?;
        let change = Change::edited(EventKind::CategoryRestored, &before, &after, self.who.actor());
        tx.emit(change.shown_everywhere()).await?;
        let written = tx.categories().get(id, IncludeDeleted::Yes).await?.unwrap_or(after);
        tx.ended(Ok(written))
    }
}

fn checked(input: &CategoryInput) -> Result<()> {
    let mut errors = ValidationErrors::default();
    input.check(&mut errors);
    errors.into_result()
}

/// Returns the patch that moves a category.
fn to_parent(parent: Option<String>) -> CategoryPatch {
    CategoryPatch { parent_id: parent.map_or(Patch::Clear, Patch::Set), ..CategoryPatch::default() }
}

/// Merges a patch into a category, and returns the result as an input.
fn merge(before: &Category, patch: CategoryPatch) -> Result<CategoryInput> {
    let mut e = ValidationErrors::default();
    let mut input = CategoryInput {
        name: before.name.clone(),
        slug: Some(before.slug.to_string()),
        parent_id: before.parent_id.map(|p| p.to_string()),
        description: before.description.clone(),
        attributes: before.attributes.clone(),
        ..CategoryInput::default()
    };
    let derived = is_numbered(&before.slug, &Slug::from_title(&before.name, "category"));
    if patch.name.is_present() && !patch.slug.is_present() && derived {
        input.slug = None;
    }
    patch.name.apply_required(&mut input.name, "name", &mut e);
    patch.slug.apply(&mut input.slug);
    patch.parent_id.apply(&mut input.parent_id);
    patch.description.apply(&mut input.description);
    patch.attributes.merge_into(&mut input.attributes);
    e.into_result()?;
    Ok(input)
}

/// Updates the products of a subtree after names or paths in it changed.
async fn refresh_products(tx: &mut Tx<'_>, id: CategoryId) -> Result<()> {
    let mut after: Option<ProductId> = None;
    loop {
        let ids = tx.products().ids_in_category(id, after, REFRESH_BATCH).await?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = Some(*last);
        tx.products().refresh_categories(&ids).await?;
    }
}

/// Returns the cache key of the category with a slug.
fn slug_key(slug: &Slug) -> CacheKey {
    CacheKey::CategorySlug(text_hash(slug.as_str()))
}

fn check_depth(depth: usize) -> Result<()> {
    if depth > Category::MAX_DEPTH {
        let max = Category::MAX_DEPTH;
        let message = format!("must not make the tree deeper than {max} levels: it would have {depth}");
        return Err(Error::invalid("parent_id", FieldCode::OutOfBounds, message));
    }
    Ok(())
}

async fn parent_of(tx: &mut dyn Repositories, reference: Option<&str>) -> Result<Option<Category>> {
    let Some(reference) = reference else { return Ok(None) };
    let shown = shown(reference);
    let missing = || {
        Error::invalid(
            "parent_id",
            FieldCode::ReferenceNotFound,
            format!("must be an existing category, but `{shown}` does not exist"),
        )
    };
    let reference = reference.to_owned();
    let id = Resolver::load(tx, std::iter::once(&reference)).await?.find(&reference).ok_or_else(missing)?.id;
    tx.categories().get(id, IncludeDeleted::No).await?.ok_or_else(missing).map(Some)
}

/// Returns the requested slug, unless it is taken. `current` is the slug that the category has already.
async fn claim_slug(tx: &mut dyn Repositories, wanted: &str, current: Option<&Slug>) -> Result<Slug> {
    let slug = Slug::trusted(wanted.to_owned());
    if current != Some(&slug) && tx.categories().taken_slugs(std::slice::from_ref(&slug)).await?.contains(slug.as_str())
    {
        return Err(duplicate(Entity::Category, "slug", wanted));
    }
    Ok(slug)
}

async fn free_slug(tx: &mut dyn Repositories, name: &str) -> Result<Slug> {
    let base = Slug::from_title(name, "category");
    let taken = tx.categories().taken_slugs(std::slice::from_ref(&base)).await?;
    Ok(base.first_free(&taken))
}
