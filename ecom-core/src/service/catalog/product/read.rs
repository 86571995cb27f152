//! Reads of products: through the cache, or from the database as they are now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ListedIds, ProductFilterValues, ProductList, ProductListQuery, ProductService};
use crate::domain::access::principal::Permission;
use crate::domain::catalog::product::{Product, ProductFilter, ProductStatus};
use crate::domain::common::IncludeDeleted;
use crate::error::{Entity, Error, Result};
use crate::id::ProductId;
use crate::paging::{Page, Paging};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories as _;
use crate::service::catalog::category::CategoryService;
use crate::service::run::listing;
use crate::service::run::read_through::{Cacheable, Cached, Lookup, text_hash};
use crate::service::run::transaction::Tx;
use crate::text::{Slug, shown};

impl ProductService<'_> {
    /// Returns a live product that the principal may read, if this process holds it in its cache: the fast path of
    /// [`Self::get`].
    pub fn cached(&self, id: ProductId) -> Option<Arc<Cached<Product>>> {
        self.cx.cache.local::<Product>(&CacheKey::Product(id)).filter(|product| self.shows(product))
    }

    /// Returns true if the principal may read a product: an active one, or one of another status with `products:read`
    /// or `products:write`.
    pub(crate) fn shows(&self, product: &Product) -> bool {
        product.status == ProductStatus::Active || self.reads_all()
    }

    /// Returns true if the principal may read products of every status.
    pub(crate) fn reads_all(&self) -> bool {
        self.who.reads_all_products()
    }

    /// Narrows a filter by status to the products that the principal may read.
    ///
    /// # Errors
    /// `Forbidden` and `Unauthenticated` if the filter asks for products of a status that it may not read.
    pub(crate) fn readable(&self, status: Option<ProductStatus>) -> Result<Option<ProductStatus>> {
        match status {
            _ if self.reads_all() => Ok(status),
            None | Some(ProductStatus::Active) => Ok(Some(ProductStatus::Active)),
            Some(_) => Err(self.who.lacks(Permission::ProductsRead)),
        }
    }

    /// Returns a live product, from the cache or the database (R15).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: ProductId) -> Result<Lookup<Product>> {
        if let Some(value) = self.cached(id) {
            return Ok(Lookup { value, hit: true });
        }
        self.cx
            .cache
            .get_or_load(CacheKey::Product(id), self.cx.config.product_ttl, async {
                self.cx.storage.connect().await?.products().get(id, IncludeDeleted::No).await
            })
            .await?
            .filter(|found| self.shows(&found.value))
            .ok_or_else(|| Error::not_found(Entity::Product, id))
    }

    /// Returns a product as the database has it now; soft-deleted ones only if `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_fresh(&self, id: ProductId, deleted: IncludeDeleted) -> Result<Product> {
        self.who.require_shown(deleted)?;
        self.cx
            .storage
            .connect()
            .await?
            .products()
            .get(id, deleted)
            .await?
            .filter(|product| self.shows(product))
            .ok_or_else(|| Error::not_found(Entity::Product, id))
    }

    /// Returns a product as a transaction sees it, with the writes of the transaction; soft-deleted ones only if
    /// `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_in(&self, tx: &mut Tx<'_>, id: ProductId, deleted: IncludeDeleted) -> Result<Product> {
        self.who.require_shown(deleted)?;
        let found = tx.products().get(id, deleted).await?.filter(|product| self.shows(product));
        found.ok_or_else(|| Error::not_found(Entity::Product, id))
    }

    /// Returns a live product by its slug, from the cache or the database (R15).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_slug(&self, slug: &str) -> Result<Lookup<Product>> {
        if Slug::parse(slug).is_err() {
            return Err(Error::not_found(Entity::Product, shown(slug)));
        }
        let key = CacheKey::ProductSlug(text_hash(slug));
        let find = async || self.cx.storage.connect().await?.products().get_by_slug(slug).await;
        let hint = self
            .cx
            .cache
            .get_or_load(key, self.cx.config.product_ttl, async { Ok(find().await?.map(|p| p.id)) })
            .await?
            .ok_or_else(|| Error::not_found(Entity::Product, slug))?;
        // The entry is only a hint: the product that it leads to is checked for its slug.
        match self.get(**hint.value).await {
            Ok(found) if found.value.slug.as_str() == slug => Ok(Lookup { hit: found.hit && hint.hit, ..found }),
            _ => {
                // If the cache cannot be invalidated, the next read with this hint ends up here again.
                let _ = self.cx.cache.invalidate(&[key]).await;
                let value = find().await?.filter(|product| self.shows(product));
                let value = value.ok_or_else(|| Error::not_found(Entity::Product, slug))?;
                Ok(Lookup { value: Arc::new(Cached::new(value)), hit: false })
            }
        }
    }

    /// Returns live products by id, in the order of `ids`. Those that the cache lacks are read together. Products that
    /// do not exist or that the principal may not read are left out.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn get_many(&self, ids: &[ProductId]) -> Result<Vec<Arc<Cached<Product>>>> {
        let here: Vec<Option<Arc<Cached<Product>>>> = ids.iter().map(|id| self.cached(*id)).collect();
        if here.iter().all(Option::is_some) {
            return Ok(here.into_iter().flatten().collect());
        }
        let mut found: HashMap<ProductId, Arc<Cached<Product>>> =
            here.into_iter().flatten().map(|p| (p.id, p)).collect();
        let cache = &self.cx.cache;
        let missing = |found: &HashMap<ProductId, _>| {
            let mut seen = HashSet::new();
            let mut ids = ids.to_vec();
            ids.retain(|id| !found.contains_key(id) && seen.insert(*id));
            let keys: Vec<CacheKey> = ids.iter().copied().map(CacheKey::Product).collect();
            (ids, keys)
        };
        let (_, keys) = missing(&found);
        if !keys.is_empty() {
            found.extend(cache.get_many::<Product>(&keys).await.into_iter().flatten().map(|p| (p.id, p)));
        }
        let (absent, keys) = missing(&found);
        if !absent.is_empty() {
            let tokens = cache.begin_many(&keys).await;
            let read =
                async { self.cx.storage.connect().await?.products().get_many(&absent, IncludeDeleted::No).await };
            let read = read.await.map(|read| found.extend(read.into_iter().map(|p| (p.id, Arc::new(Cached::new(p))))));
            let loads = absent.iter().zip(keys).zip(tokens);
            let loads = loads.map(|((id, key), token)| (key, token, found.get(id).cloned())).collect();
            cache.fill_many(loads, self.cx.config.product_ttl).await;
            read?;
        }
        Ok(ids.iter().filter_map(|id| found.get(id).filter(|product| self.shows(product)).cloned()).collect())
    }

    /// Returns a page of products and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// The cache has the ids of a page until a write can have changed which products are on it, in which order, or how
    /// many match (R15). The products themselves are read as by [`Self::get_many`]. [`Lookup::hit`] is whether the ids
    /// came from the cache.
    ///
    /// # Errors
    /// `Validation` for a brand or tag that no product can have and for price bounds in the wrong order,
    /// `CURRENCY_MISMATCH`, `Unavailable`.
    pub async fn list(&self, query: &ProductListQuery) -> Result<Lookup<ProductList>> {
        let query = &ProductListQuery { filter: self.narrowed(&query.filter)?, ..query.clone() };
        query.filter.check(self.cx.config.currency)?;
        query.paging.check()?;
        // The products that were loaded with the ids, which need not be read again.
        let loaded = Mutex::new(None);
        let load = |text: String| {
            let loaded = &loaded;
            async move {
                let list = self.listed(query).await?;
                let ids = Page { items: list.page.items.iter().map(|p| p.id).collect(), next: list.page.next.clone() };
                let total = list.total;
                *loaded.lock() = Some(list);
                Ok(ListedIds { query: text, page: ids, total })
            }
        };
        let parts = |within: Option<&Slug>| listing::of_page(&query.filter, query.sort, within);
        let text = format!("{query:?}");
        let found = self.answered(&query.filter, CacheKey::ProductList, text, |ids| &ids.query, parts, load).await?;
        if let Some(list) = loaded.into_inner() {
            return Ok(Lookup { value: Arc::new(Cached::new(list)), hit: false });
        }
        let ListedIds { page, total, .. } = &**found.value;
        let items = self.get_many(&page.items).await?;
        if items.len() < page.items.len() {
            // A product was removed since the ids were read.
            let list = Box::pin(self.listed(query)).await?;
            return Ok(Lookup { value: Arc::new(Cached::new(list)), hit: false });
        }
        let page = Page { items, next: page.next.clone() };
        Ok(Lookup { value: Arc::new(Cached::new(ProductList { page, total: *total })), hit: found.hit })
    }

    /// Returns a page as the database has it now.
    async fn listed(&self, query: &ProductListQuery) -> Result<ProductList> {
        let mut db = self.cx.storage.connect().await?;
        let page = db.products().list(&query.filter, query.sort, &query.paging).await?;
        let total = match query.paging {
            Paging::Offset { .. } => Some(db.products().count(&query.filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok(ProductList { page: page.map(|product| Arc::new(Cached::new(product))), total })
    }

    /// Reads the answer to a query through the cache. `query_of` returns the query that an answer belongs to, since two
    /// queries can have the same key, and `parts` the parts of the catalog that the answer is made from.
    async fn answered<T: Cacheable, F: Future<Output = Result<T>> + Send>(
        &self,
        filter: &ProductFilter,
        key: fn(u128) -> CacheKey,
        query: String,
        query_of: fn(&T) -> &str,
        parts: impl Fn(Option<&Slug>) -> Vec<CacheKey> + Send + Sync,
        load: impl Fn(String) -> F + Send + Sync,
    ) -> Result<Lookup<T>> {
        if listing::is_cached(filter) {
            // Futures that only a miss needs are boxed, so that a hit does not make room for them.
            let key = key(text_hash(&query));
            let load = async { Box::pin(load(query.clone())).await.map(Some) };
            let parts = async {
                let Some(category) = filter.category else { return Ok(Some(parts(None))) };
                // A category that does not exist has no lists that are worth keeping.
                let slug = Box::pin(CategoryService::new(self.cx, self.who).slug(category)).await?;
                Ok(slug.map(|slug| parts(Some(&slug))))
            };
            let found = self.cx.cache.get_or_make(key, self.cx.config.product_ttl, parts, load).await?;
            if let Some(found) = found.filter(|found| query_of(found) == query) {
                return Ok(found);
            }
        }
        Ok(Lookup { value: Arc::new(Cached::new(Box::pin(load(query)).await?)), hit: false })
    }

    /// Returns a filter for the products that the principal may read, and refuses one for others.
    fn narrowed(&self, filter: &ProductFilter) -> Result<ProductFilter> {
        self.who.require_shown(filter.include_deleted)?;
        Ok(ProductFilter { status: self.readable(filter.status)?, ..filter.clone() })
    }

    /// Returns the values by which the products that match could be narrowed (`meta.filters`). They are cached until a
    /// write can have changed them.
    ///
    /// # Errors
    /// `Validation` for a brand or tag that no product can have and for price bounds in the wrong order,
    /// `CURRENCY_MISMATCH`, `Unavailable`.
    pub async fn filters(&self, filter: &ProductFilter) -> Result<Lookup<ProductFilterValues>> {
        let filter = &self.narrowed(filter)?;
        filter.check(self.cx.config.currency)?;
        let load = |query: String| async {
            let values = self.cx.storage.connect().await?.products().filters(filter).await?;
            Ok(ProductFilterValues { query, values })
        };
        let parts = |within: Option<&Slug>| listing::of_filter_values(filter, within);
        let query = format!("{filter:?}");
        self.answered(filter, CacheKey::ProductFilters, query, |found| &found.query, parts, load).await
    }
}
