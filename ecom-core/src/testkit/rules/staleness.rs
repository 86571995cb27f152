//! After a write of another process, no cached document stays old (R15). A test covers every pair of a kind of product
//! or category event and a kind of cached document.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::ShopFixture;
use super::support::{PATIENCE, from, in_category, me, until, v};
use crate::config::ShopConfig;
use crate::domain::catalog::category::{Category, CategoryFilter};
use crate::domain::catalog::product::{Product, ProductFilter, ProductPatch, ProductSort, ProductStatus};
use crate::domain::catalog::review::{ReviewFilter, ReviewInput, ReviewSort};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::error::Result;
use crate::id::{CategoryId, ProductId};
use crate::paging::Paging;
use crate::port::cache::NoCache;
use crate::service::catalog::product::ProductListQuery;
use crate::shop::Shop;
use crate::testkit::sample::usd;

tests! {
    __shop_staleness: [
        r15_no_document_stays_old_after_any_write_of_another_process,
    ]
}

/// A branch of three categories with two products in its leaf, and another leaf.
struct Scene {
    root: Category,
    mid: Category,
    leaf: Category,
    beside: Category,
    product: Product,
    gone: Product,
}

impl Scene {
    async fn new(f: &ShopFixture, n: usize) -> Self {
        let root = f.category(&format!("Root {n}"), None).await;
        let mid = f.category(&format!("Mid {n}"), Some(&root)).await;
        let leaf = f.category(&format!("Leaf {n}"), Some(&mid)).await;
        let beside = f.category(&format!("Beside {n}"), Some(&mid)).await;
        let product = f.plain_in(&format!("Product {n}"), &[&leaf]).await;
        let gone = f.plain_in(&format!("Gone {n}"), &[&leaf]).await;
        f.delete(&gone, DeleteMode::Soft).await.unwrap();
        let empty = f.category(&format!("Empty {n}"), Some(&mid)).await;
        f.delete_category(empty.id, DeleteMode::Soft).await.unwrap();
        let gone = f.fresh(gone.id).await;
        Self { root, mid, leaf, beside, product, gone }
    }

    fn categories(&self) -> [&Category; 4] {
        [&self.root, &self.mid, &self.leaf, &self.beside]
    }

    /// Returns every document of the scene that a cache may contain, as text, by the kind of read.
    async fn documents(&self, shop: &Shop) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        for p in [&self.product, &self.gone] {
            let by_id = shop.products().get(p.id).await.map(|found| (**found.value).clone());
            shown.insert(format!("product {} by id", p.slug), text(by_id));
            let by_slug = shop.products().get_by_slug(p.slug.as_str()).await.map(|found| (**found.value).clone());
            shown.insert(format!("product {} by slug", p.slug), text(by_slug));
        }
        for c in self.categories() {
            let by_id = shop.categories().get(c.id).await.map(|found| (**found.value).clone());
            shown.insert(format!("category {} by id", c.slug), text(by_id));
            let by_slug = shop.categories().get_by_slug(c.slug.as_str()).await.map(|found| (**found.value).clone());
            shown.insert(format!("category {} by slug", c.slug), text(by_slug));
            let products = shop.products().list(&list(in_category(c.id), ProductSort::TitleAsc)).await;
            shown.insert(format!("products in {}", c.slug), text(products.map(|found| (**found.value).clone())));
            let below = CategoryFilter { parent: Some(Some(c.id)), include_deleted: IncludeDeleted::No };
            shown.insert(format!("categories below {}", c.slug), text(categories(shop, &below).await));
        }
        let tree = shop.categories().tree().await.map(|found| (**found.value).clone());
        shown.insert("tree".to_owned(), text(tree));
        let roots = CategoryFilter { parent: Some(None), include_deleted: IncludeDeleted::No };
        shown.insert("roots".to_owned(), text(categories(shop, &roots).await));
        for (category, place) in [(None, ""), (Some(self.leaf.id), " in the leaf")] {
            lists(shop, category, place, &mut shown).await;
        }
        shown
    }
}

/// Reads lists of products that filter and sort by everything, and the values by which they can be narrowed.
async fn lists(shop: &Shop, category: Option<CategoryId>, place: &str, shown: &mut BTreeMap<String, String>) {
    let any = ProductFilter { category, ..ProductFilter::default() };
    for (name, filter) in [
        ("", any.clone()),
        ("cheap ", ProductFilter { max_price: Some(usd(700)), ..any.clone() }),
        ("brand of ", ProductFilter { brand: Some("acme".to_owned()), ..any.clone() }),
        ("tagged ", ProductFilter { tag: Some("green".to_owned()), ..any.clone() }),
        ("in stock: ", ProductFilter { availability: Some(AvailabilityStatus::InStock), ..any.clone() }),
        ("active ", ProductFilter { status: Some(ProductStatus::Active), ..any.clone() }),
    ] {
        let sorts = [ProductSort::CreatedDesc, ProductSort::PriceAsc, ProductSort::TitleAsc, ProductSort::RatingDesc];
        for sort in sorts.into_iter().filter(|sort| name.is_empty() || *sort == ProductSort::CreatedDesc) {
            let products = shop.products().list(&list(filter.clone(), sort)).await;
            let products = text(products.map(|found| (**found.value).clone()));
            shown.insert(format!("{name}products{place} by {}", sort.as_str()), products);
        }
        let values = shop.products().filters(&filter).await.map(|found| found.values.clone());
        shown.insert(format!("values of {name}products{place}"), text(values));
    }
}

fn list(filter: ProductFilter, sort: ProductSort) -> ProductListQuery {
    ProductListQuery { filter, sort, paging: Paging::Offset { offset: 0, limit: 100 } }
}

async fn categories(shop: &Shop, filter: &CategoryFilter) -> Result<Vec<Category>> {
    let paging = Paging::Offset { offset: 0, limit: 100 };
    Ok(shop.categories().list(filter, &paging).await?.value.page.items.clone())
}

fn text<T: std::fmt::Debug>(read: Result<T>) -> String {
    match read {
        Ok(value) => format!("{value:?}"),
        Err(e) => e.code().to_string(),
    }
}

/// Makes the write with number `step` whose event has this kind, and returns false if there is none. Every kind of
/// product and category event needs at least one write here.
async fn writes(f: &ShopFixture, s: &Scene, kind: EventKind, step: usize) -> bool {
    let patch = async |id: ProductId, patch: serde_json::Value| {
        let version = f.fresh(id).await.audit.version;
        f.shop.acting_as(me()).products().patch(id, v(version), from::<ProductPatch>(&patch)).await.unwrap();
    };
    let version_of = async |id: CategoryId| v(f.fresh_category(id).await.audit.version);
    let id = s.product.id;
    match (kind, step) {
        (EventKind::ProductCreated, 0) => drop(f.plain_in("Another", &[&s.leaf]).await),
        (EventKind::ProductUpdated, 0) => patch(id, json!({"title": "New title"})).await,
        (EventKind::ProductUpdated, 1) => patch(id, json!({"status": "draft"})).await,
        (EventKind::ProductUpdated, 2) => patch(id, json!({"status": "active"})).await,
        (EventKind::ProductUpdated, 3) => patch(id, json!({"categories": [s.beside.id.to_string()]})).await,
        (EventKind::ProductUpdated, 4) => patch(id, json!({"categories": []})).await,
        (EventKind::ProductUpdated, 5) => patch(id, json!({"slug": format!("{}-renamed", s.product.slug)})).await,
        (EventKind::ProductUpdated, 6) => patch(id, json!({"discount_percentage": "50"})).await,
        (EventKind::ProductUpdated, 7) => {
            f.shop.acting_as(me()).reviews().create(id, &ReviewInput::new(4)).await.unwrap();
        }
        (EventKind::ProductUpdated, 8) => {
            let reviews = f.shop.acting_as(me()).reviews();
            let filter = ReviewFilter { product: Some(id), ..ReviewFilter::default() };
            let all = reviews.list(&filter, ReviewSort::default(), &Paging::default()).await.unwrap().0.items;
            reviews.patch(all[0].id, v(1), from(&json!({"rating": 1}))).await.unwrap();
        }
        (EventKind::ProductUpdated, 9) => {
            let reviews = f.shop.acting_as(me()).reviews();
            let filter = ReviewFilter { product: Some(id), ..ReviewFilter::default() };
            let all = reviews.list(&filter, ReviewSort::default(), &Paging::default()).await.unwrap().0.items;
            reviews.delete(all[0].id, v(2)).await.unwrap();
        }
        (EventKind::ProductUpdated, 10) => patch(id, json!({"brand": "Acme"})).await,
        (EventKind::ProductUpdated, 11) => patch(id, json!({"brand": "ACME"})).await,
        (EventKind::ProductUpdated, 12) => patch(id, json!({"tags": ["green"]})).await,
        (EventKind::ProductUpdated, 13) => patch(id, json!({"price": "6.00"})).await,
        (EventKind::ProductUpdated, 14) => {
            f.shop.acting_as(me()).skus().create(id, &from(&json!({"price": "0.50"}))).await.unwrap();
        }
        (EventKind::ProductDeleted, 0) => f.delete(&f.fresh(id).await, DeleteMode::Soft).await.unwrap(),
        (EventKind::ProductRestored, 0) => {
            f.shop.acting_as(me()).products().restore(s.gone.id, v(s.gone.audit.version)).await.unwrap();
        }
        (EventKind::ProductPurged, 0) => f.delete(&f.fresh(id).await, DeleteMode::Force).await.unwrap(),
        (EventKind::StockChanged, 0) => drop(f.adjust(s.product.skus[0].id, -10).await.unwrap()),
        (EventKind::CategoryCreated, 0) => drop(f.category("New below", Some(&s.mid)).await),
        (EventKind::CategoryUpdated, 0) => {
            let (read, patch) = (version_of(s.mid.id).await, from(&json!({"description": "new"})));
            f.shop.acting_as(me()).categories().patch(s.mid.id, read, patch).await.unwrap();
        }
        (EventKind::CategoryMoved, 0) => drop(f.rename_category(s.mid.id, "Renamed").await.unwrap()),
        (EventKind::CategoryMoved, 1) => drop(f.move_category(s.leaf.id, Some(s.root.id)).await.unwrap()),
        (EventKind::CategoryDeleted, 0) => f.delete_category(s.beside.id, DeleteMode::Soft).await.unwrap(),
        (EventKind::CategoryRestored, 0) => {
            f.delete_category(s.beside.id, DeleteMode::Soft).await.unwrap();
            let read = version_of(s.beside.id).await;
            f.shop.acting_as(me()).categories().restore(s.beside.id, read).await.unwrap();
        }
        (EventKind::CategoryPurged, 0) => f.delete_category(s.beside.id, DeleteMode::Force).await.unwrap(),
        _ => return false,
    }
    true
}

/// Another process reads each document before the write, so that its cache contains the document. After that process
/// has read the event, the document must equal the database.
pub async fn r15_no_document_stays_old_after_any_write_of_another_process(f: &ShopFixture) {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10));
    let other = f.another(config.clone(), f.cache());
    let truth = f.another(config, std::sync::Arc::new(NoCache));
    let background = other.start();
    for (n, kind) in EventKind::ALL.iter().copied().enumerate() {
        if !matches!(kind.entity(), crate::Entity::Product | crate::Entity::Category) {
            // No cached document depends on events of this kind.
            continue;
        }
        let scene = Scene::new(f, n).await;
        // Only the writes below change what is stored.
        let mut stored = scene.documents(&truth).await;
        let mut step = 0;
        loop {
            // The other process has caught up, and its cache contains the documents.
            until("no document is old before the write", async || scene.documents(&other).await == stored).await;
            let head = f.head().await;
            if !writes(f, &scene, kind, step).await {
                break;
            }
            assert!(
                f.events_after(head).await.iter().any(|e| e.kind == kind),
                "{kind:?}: write {step} must write an event of this kind"
            );
            stored = scene.documents(&truth).await;
            let mut stale: Vec<&String> = Vec::new();
            let start = std::time::Instant::now();
            while start.elapsed() < PATIENCE {
                let shown = scene.documents(&other).await;
                stale = stored.iter().filter(|(way, text)| shown[*way] != **text).map(|(way, _)| way).collect();
                if stale.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(
                stale.is_empty(),
                "{kind:?}, write {step}: another process must not show old documents, but shows {stale:?}"
            );
            step += 1;
        }
        assert!(step > 0, "the test itself is at fault: it makes no write of the kind {kind:?}");
    }
    background.shutdown().await;
}
