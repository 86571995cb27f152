//! Reads, and a catalog of 137 products, that several topics use.

use std::sync::Arc;

use crate::domain::catalog::category::Category;
use crate::domain::catalog::product::{
    Product, ProductFilter, ProductSort, ProductStatus, RatingSource, RatingSummary,
};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::IncludeDeleted;
use crate::id::ProductId;
use crate::money::{Percentage, Rating};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Storage;
use crate::testkit::sample::Env;
use crate::testkit::sample::usd;
use crate::text::{Slug, fold_key};

pub(super) async fn get(storage: &Arc<dyn Storage>, id: ProductId) -> Option<Product> {
    read!(storage, products.get(id, IncludeDeleted::No))
}

pub(super) async fn list(
    storage: &Arc<dyn Storage>,
    filter: &ProductFilter,
    sort: ProductSort,
    paging: &Paging,
) -> Page<Product> {
    read!(storage, products.list(filter, sort, paging))
}

/// Returns the ids of all matching products, in ascending order.
pub(super) async fn matching(storage: &Arc<dyn Storage>, filter: &ProductFilter) -> Vec<ProductId> {
    let page = list(storage, filter, ProductSort::CreatedAsc, &Paging::first(1_000)).await;
    assert_eq!(page.next, None, "a page with all rows must have no `next`");
    let mut ids: Vec<ProductId> = page.items.iter().map(|p| p.id).collect();
    let total = read!(storage, products.count(filter, 1_000));
    assert_eq!(total, Total { count: ids.len() as u64, exact: true }, "`count` must agree with the list: {filter:?}");
    ids.sort();
    ids
}

pub(super) fn percent(n: i64) -> Percentage {
    Percentage::from_hundredths(n * 100).unwrap()
}

/// Returns a product whose code is not derived from its title.
pub(super) fn coded(env: &Env, title: &str, code: &str) -> Product {
    let mut p = env.product(title);
    env.add_sku(&mut p, code, 100, 1);
    p
}

/// A catalog with many equal sort values, and with every combination that filters distinguish.
pub(super) struct Catalog {
    pub(super) categories: Vec<Category>,
    /// The products, by id. Every 11th is soft-deleted.
    pub(super) products: Vec<Product>,
}

pub(super) const CATALOG_SIZE: usize = 137;

/// Stores a catalog of 137 products.
pub(super) async fn catalog(storage: &Arc<dyn Storage>) -> Catalog {
    let env = Env::default();
    let audio = env.category("audio", None);
    let phones = env.category("phones", Some(&audio));
    let deep = env.category("deep", Some(&phones));
    let like = env.category("audio 2", None);
    let empty = env.category("empty", None);
    let categories = vec![audio, phones, deep, like, empty];
    env.insert_categories(storage, &categories.iter().collect::<Vec<_>>()).await.unwrap();

    let mut products: Vec<Product> = Vec::new();
    for n in 0..CATALOG_SIZE {
        let mut p = env.product(["alpha", "Beta", "ALPHA", "ährig", "Zeta", "beta 2", "Älter"][n % 7]);
        p.slug = Slug::trusted(format!("p-{n}"));
        p.brand = [Some("Acme"), Some("ACME"), Some("Ærø"), Some("Bolt & Co"), None][n % 5].map(str::to_owned);
        p.status =
            [ProductStatus::Active, ProductStatus::Active, ProductStatus::Draft, ProductStatus::Archived][n / 3 % 4];
        p.tags = ["new", "Sale", "sALE", "été"][n % 4..].iter().take(1 + n % 2).map(|t| (*t).to_owned()).collect();
        p.tags.dedup_by_key(|t| fold_key(t));
        p.categories = match n % 6 {
            0 => vec![],
            5 => vec![(&categories[2]).into(), (&categories[3]).into()],
            m => vec![(&categories[m - 1]).into()],
        };
        p.discount = percent((n % 4) as i64 * 15);
        let mean = Rating::from_hundredths((n % 6) as i64 * 100).unwrap();
        p.rating = RatingSummary { mean, count: n as i64, source: RatingSource::Reviews };
        for m in 0..=n % 3 {
            let price = ((n * 37 + m * 11) % 20) as i64 * 250;
            env.add_sku(&mut p, &format!("c-{n}-{m}"), price, [0, 4, 40][(n + m) % 3]);
        }
        // Five products have the same time of creation, so that the id orders them.
        if n % 5 != 0 {
            p.audit.created_at = products[n - 1].audit.created_at;
        }
        if n % 11 == 10 {
            p.audit = env.deleted(&p.audit);
        }
        products.push(p);
    }
    let mut scattered = products.clone();
    scattered.sort_by_key(|p| p.id.0.as_u128().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for chunk in scattered.chunks(50) {
        env.insert_products(storage, chunk).await.unwrap();
    }
    Catalog { categories, products }
}

impl Catalog {
    /// Returns the ids of the matching products, according to the contract.
    pub(super) fn matching(&self, f: &ProductFilter) -> Vec<ProductId> {
        self.products.iter().filter(|p| self.matches(p, f)).map(|p| p.id).collect()
    }

    pub(super) fn matches(&self, p: &Product, f: &ProductFilter) -> bool {
        let path = f.category.map(|id| self.categories.iter().find(|c| c.id == id).unwrap().path.clone());
        let price = p.price_range().unwrap().0.minor();
        let same = |a: &str, b: &str| fold_key(a) == fold_key(b);
        path.is_none_or(|path| p.categories.iter().any(|c| c.path == path || c.path.starts_with(&format!("{path}/"))))
            && f.min_price.is_none_or(|min| price >= min.minor())
            && f.max_price.is_none_or(|max| price <= max.minor())
            && f.brand.as_ref().is_none_or(|b| p.brand.as_ref().is_some_and(|have| same(have, b)))
            && f.tag.as_ref().is_none_or(|t| p.tags.iter().any(|have| same(have, t)))
            && f.availability.is_none_or(|a| p.availability() == a)
            && f.status.is_none_or(|s| p.status == s)
            && (f.include_deleted == IncludeDeleted::Yes || p.audit.is_live())
            && f.updated_since.is_none_or(|t| p.audit.updated_at >= t)
    }

    /// Returns all values of each filter, `None` first.
    pub(super) fn choices(&self) -> [Vec<ProductFilter>; 8] {
        let none = ProductFilter::default;
        let or_none = |mut v: Vec<ProductFilter>| {
            v.insert(0, ProductFilter::default());
            v
        };
        [
            or_none(self.categories.iter().map(|c| ProductFilter { category: Some(c.id), ..none() }).collect()),
            or_none(
                [(Some(1_000), None), (None, Some(2_000)), (Some(500), Some(3_000)), (Some(i64::MAX), None)]
                    .map(|(min, max)| ProductFilter { min_price: min.map(usd), max_price: max.map(usd), ..none() })
                    .into(),
            ),
            or_none(["acme", "ÆRØ", "nobody"].map(|b| ProductFilter { brand: Some(b.into()), ..none() }).into()),
            or_none(["SALE", "été", "ete"].map(|t| ProductFilter { tag: Some(t.into()), ..none() }).into()),
            or_none(AvailabilityStatus::ALL.map(|a| ProductFilter { availability: Some(a), ..none() }).into()),
            or_none(ProductStatus::ALL.map(|s| ProductFilter { status: Some(s), ..none() }).into()),
            or_none(vec![ProductFilter { include_deleted: IncludeDeleted::Yes, ..none() }]),
            or_none(
                [10, 70, 130]
                    .map(|n| {
                        let since = self.products[n].audit.updated_at + chrono::TimeDelta::microseconds(1);
                        ProductFilter { updated_since: Some(since), ..none() }
                    })
                    .into(),
            ),
        ]
    }
}
