//! Reads of products: by id and slug, and lists with filters, sorts and pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;

use super::super::Runner;
use super::super::World;
use super::super::comparison::{Checked, Refusal, read, same};
use super::super::generator::{SLUGS, TAGS};
use crate::domain::catalog::category::CategorySummary;
use crate::domain::catalog::product::{Product, ProductFilter, ProductFilters, ProductSort, ProductStatus};
use crate::domain::catalog::sku::{AvailabilityStatus, Sku};
use crate::domain::common::IncludeDeleted;
use crate::error::{ErrorCode, Result};
use crate::id::{CategoryId, ProductId};
use crate::money::Money;
use crate::paging::{Keyset, Page, Paging, Total};
use crate::service::catalog::product::ProductListQuery;
use crate::service::run::read_through::Cached;
use crate::testkit::sample::usd;
use crate::text::fold_key;

/// How many lists are read again.
const LISTS: usize = 12;

impl World {
    /// Returns the lowest final price.
    fn price(&self, p: &Product) -> i64 {
        self.listed_skus(p).iter().map(|s| s.final_price(p.discount).minor()).min().unwrap_or(i64::MAX)
    }

    /// Returns the best availability.
    fn availability(&self, p: &Product) -> AvailabilityStatus {
        self.listed_skus(p).iter().map(Sku::availability).max().unwrap_or(AvailabilityStatus::OutOfStock)
    }

    fn matches(&self, (p, of): &(Product, Vec<CategoryId>), f: &ProductFilter) -> bool {
        let key = |t: &String| fold_key(t);
        (f.include_deleted == IncludeDeleted::Yes || p.audit.is_live())
            && f.status.is_none_or(|s| s == p.status)
            && f.category.is_none_or(|c| of.iter().any(|o| self.chain(*o).contains(&c)))
            && f.min_price.is_none_or(|n| self.price(p) >= n.minor())
            && f.max_price.is_none_or(|n| self.price(p) <= n.minor())
            && f.brand.as_ref().is_none_or(|b| p.brand.as_ref().map(key) == Some(fold_key(b)))
            && f.tag.as_ref().is_none_or(|t| p.tags.iter().map(key).any(|k| k == fold_key(t)))
            && f.availability.is_none_or(|a| a == self.availability(p))
            && f.updated_since.is_none_or(|t| p.audit.updated_at >= t)
    }

    /// Returns the ids of a whole list in its order.
    fn listed(&self, filter: &ProductFilter, sort: ProductSort) -> Vec<ProductId> {
        let mut found: Vec<(i64, String, ProductId)> = self
            .products
            .rows
            .values()
            .filter(|p| self.matches(p, filter))
            .map(|(p, _)| match sort {
                ProductSort::CreatedAsc | ProductSort::CreatedDesc => (0, String::new(), p.id),
                ProductSort::PriceAsc | ProductSort::PriceDesc => (self.price(p), String::new(), p.id),
                ProductSort::TitleAsc | ProductSort::TitleDesc => (0, fold_key(&p.title), p.id),
                ProductSort::RatingDesc => (i64::from(p.rating.mean.hundredths()), String::new(), p.id),
            })
            .collect();
        found.sort();
        if sort.is_descending() {
            found.reverse();
        }
        found.into_iter().map(|(.., id)| id).collect()
    }

    /// Returns the values by which a list can be narrowed, with their counts.
    fn filters(&self, filter: &ProductFilter) -> ProductFilters {
        let found: Vec<&(Product, Vec<CategoryId>)> =
            self.products.rows.values().filter(|p| self.matches(p, filter)).collect();
        let mut categories: BTreeMap<CategoryId, u64> = BTreeMap::new();
        let mut brands: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for (p, of) in &found {
            for c in of {
                *categories.entry(*c).or_default() += 1;
            }
            if let Some(b) = &p.brand {
                let entry = brands.entry(fold_key(b)).or_insert_with(|| (b.clone(), 0));
                // Of several spellings, the list shows the first in bytewise order.
                entry.0 = entry.0.clone().min(b.clone());
                entry.1 += 1;
            }
        }
        let mut categories: Vec<(CategorySummary, u64)> =
            categories.into_iter().map(|(id, n)| (self.summary(id), n)).collect();
        categories.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| (&a.path, a.id).cmp(&(&b.path, b.id))));
        // The sort is stable, so brands with the same count stay in the order of their keys.
        let mut brands: Vec<(String, u64)> = brands.into_values().collect();
        brands.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let prices = || found.iter().map(|(p, _)| self.price(p));
        ProductFilters {
            categories,
            brands,
            price: prices().min().zip(prices().max()).map(|(lo, hi)| (usd(lo), usd(hi))),
        }
    }
}

impl Runner<'_> {
    pub(super) async fn read_product(&mut self) -> Checked<()> {
        let id = self.some_product();
        self.begins(id);
        let answer = self.shop.products().get(id).await.map(|l| Product::clone(&l.value));
        let found = self.world.live_product(id).map(|(p, _)| p.id);
        self.product_or_gone(answer, found)
    }

    pub(super) async fn read_product_by_slug(&mut self) -> Checked<()> {
        let id = self.some_product();
        let known = self.world.live_product(id).map(|(p, _)| p.slug.to_string());
        let slug = known.unwrap_or_else(|| self.any(&SLUGS).to_owned());
        // Slugs are compared bytewise.
        let slug = if self.chance(5) { slug.to_uppercase() } else { slug };
        self.begins(&slug);
        let found = self.world.live_products().find(|(p, _)| p.slug.as_str() == slug).map(|(p, _)| p.id);
        let answer = self.shop.products().get_by_slug(&slug).await.map(|l| Product::clone(&l.value));
        self.product_or_gone(answer, found)
    }

    pub(super) async fn read_products(&mut self) -> Checked<()> {
        let ids: Vec<ProductId> = (0..=self.below(6)).map(|_| self.some_product()).collect();
        self.begins(&ids);
        let got = read("the read", self.shop.products().get_many(&ids).await)?;
        let want: Vec<ProductId> = ids.into_iter().filter(|id| self.world.live_product(*id).is_some()).collect();
        same("the ids", &got.iter().map(|p| p.id).collect(), &want)?;
        for p in got {
            self.product_answer(&p)?;
        }
        Ok(())
    }

    fn product_or_gone(&mut self, answer: Result<Product>, found: Option<ProductId>) -> Checked<()> {
        let refusals = if found.is_some() { Vec::new() } else { vec![Refusal::Code(ErrorCode::NotFound)] };
        if let Some(got) = self.judge(answer, &refusals)? {
            same("the id", &Some(got.id), &found)?;
            self.product_answer(&got)?;
        }
        Ok(())
    }

    fn some_filter(&mut self) -> ProductFilter {
        let mut f = ProductFilter::default();
        if self.chance(40) {
            f.category = Some(self.some_category());
        }
        if self.chance(25) {
            f.min_price = Some(usd(self.rng.random_range(0..3_000)));
        }
        if self.chance(25) {
            let lowest = f.min_price.map_or(0, Money::minor);
            f.max_price = Some(usd(self.rng.random_range(lowest..4_500)));
        }
        if self.chance(12) {
            f.brand = Some(self.any(&["acme", "ACMÉ", "ÄRGER", "茶庵", "nobody"]).to_owned());
        }
        if self.chance(12) {
            f.tag = Some(self.any(&TAGS).to_owned());
        }
        if self.chance(15) {
            f.availability = self.one_of(&AvailabilityStatus::ALL);
        }
        if self.chance(30) {
            f.status = self.one_of(&ProductStatus::ALL);
        }
        if self.chance(20) {
            f.include_deleted = IncludeDeleted::Yes;
        }
        if self.chance(8) {
            let back = self.rng.random_range(0..500);
            f.updated_since = Some(self.now() - Duration::from_millis(back));
        }
        f
    }

    pub(super) async fn list_products(&mut self) -> Checked<()> {
        let filter = self.some_filter();
        let sort = self.any(&ProductSort::ALL);
        let paging = Paging::Offset { offset: self.below(12) as u64, limit: 1 + self.below(9) as u32 };
        let query = ProductListQuery { filter, sort, paging };
        let place = self.below(LISTS);
        match self.world.products.lists.get_mut(place) {
            Some(old) => old.clone_from(&query),
            None => self.world.products.lists.push(query.clone()),
        }
        self.list(&query).await
    }

    /// Lists products as before. The writes since then may have changed what the list shows, or not.
    pub(super) async fn list_products_again(&mut self) -> Checked<()> {
        let place = self.below(LISTS);
        match self.world.products.lists.get(place).cloned() {
            Some(query) => self.list(&query).await,
            None => self.list_products().await,
        }
    }

    async fn list(&mut self, query: &ProductListQuery) -> Checked<()> {
        self.begins((&query.filter, query.sort, &query.paging));
        let want = self.world.listed(&query.filter, query.sort);
        let got = read("the list", self.shop.products().list(query).await)?;
        let want_total = Total { count: want.len() as u64, exact: true };
        same("the total", &got.value.total, &Some(want_total))?;
        let offset = match query.paging {
            Paging::Offset { offset, .. } => usize::try_from(offset).unwrap_or(usize::MAX),
            Paging::Keyset { .. } => 0,
        };
        self.page_of_products(&got.value.page, &want, offset, query.paging.limit() as usize)
    }

    /// Walks some pages of a list by their cursors.
    pub(super) async fn walk_products(&mut self) -> Checked<()> {
        let filter = self.some_filter();
        let sort = self.any(&ProductSort::ALL);
        let want = self.world.listed(&filter, sort);
        let limit = 1 + self.below(7);
        let pages = 1 + self.below(5);
        self.begins((&filter, sort, limit, pages));
        let mut after = None;
        for page in 0..pages {
            let paging = Paging::Keyset { after: after.clone(), limit: limit as u32 };
            let query = ProductListQuery { filter: filter.clone(), sort, paging };
            let got = read("the page", self.shop.products().list(&query).await)?;
            same("the total", &got.value.total, &None)?;
            self.page_of_products(&got.value.page, &want, page * limit, limit)?;
            // The cursor goes to the caller and back as a text.
            after = match &got.value.page.next {
                None => return Ok(()),
                Some(k) => Some(read("the cursor", Keyset::decode(&k.encode(), sort.as_str()))?),
            };
        }
        Ok(())
    }

    /// Compares the page of the list `all` that begins at `offset`.
    fn page_of_products(
        &mut self,
        got: &Page<Arc<Cached<Product>>>,
        all: &[ProductId],
        offset: usize,
        limit: usize,
    ) -> Checked<()> {
        let from = offset.min(all.len());
        let want = &all[from..(from + limit).min(all.len())];
        same("the page", &got.items.iter().map(|p| p.id).collect::<Vec<_>>(), &want.to_vec())?;
        same("whether there is more", &got.next.is_some(), &(from + limit < all.len()))?;
        for p in &got.items {
            self.product_answer(p)?;
        }
        Ok(())
    }

    pub(super) async fn narrow_products(&mut self) -> Checked<()> {
        let filter = self.some_filter();
        self.begins(&filter);
        let got = read("the filters", self.shop.products().filters(&filter).await)?.values.clone();
        same("the filters", &got, &self.world.filters(&filter))
    }
}
