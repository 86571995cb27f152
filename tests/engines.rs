//! A shop on each search engine: the rules that depend on the engine, and a comparison with the database.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ecom_core::catalog::{AvailabilityStatus, ProductFilter, ProductListQuery, ProductSort, ProductStatus};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::CategoryId;
use ecom_core::money::{Currency, Money};
use ecom_core::paging::Paging;
use ecom_core::port::{NoCache, SearchProvider, Storage as _};
use ecom_core::search::{Facet, SearchFilter, SearchPage, SearchQuery, SearchSort};
use ecom_core::{Shop, ShopParts};
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::{SqlStorage, SqliteOptions};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

/// Returns a shop on a search server.
#[cfg(any(feature = "elasticsearch", feature = "meilisearch"))]
async fn shop_on<G: Send + 'static>(
    search: impl SearchProvider + 'static,
    index: G,
) -> ecom_core::testkit::shop::ShopFixture {
    use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};

    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let caches = |clock| {
        let options = MemoryCacheOptions::default().clock(clock);
        Arc::new(MemoryCache::new(options)) as _
    };
    ecom_core::testkit::shop::ShopFixture::new(storage, search, Box::new(caches), (dir, index))
}

#[cfg(feature = "meilisearch")]
mod meilisearch {
    use ecom_core::testkit::{run_test, shop::ShopFixture};
    use ecom_search::{MeilisearchOptions, MeilisearchSearch};
    use test_servers::TestMeilisearch;

    use super::*;

    pub(super) fn open(index: &TestMeilisearch) -> MeilisearchSearch {
        let url = format!("meilisearch+{}?index={}&search_timeout_ms=60000", index.url, index.name);
        MeilisearchSearch::open(MeilisearchOptions::from_url(&url).unwrap()).unwrap()
    }

    /// There is no package of the server, so these rules are tested only on a server that is given.
    #[test]
    fn the_rules_of_searches_hold() {
        if test_servers::meilisearch().is_none() {
            return;
        }
        let tests: Vec<ecom_core::testkit::Test<ShopFixture>> = ecom_core::shop_search_suite!(@tests);
        assert!(!tests.is_empty());
        for test in tests {
            run_test(test.name, move || async move {
                let index = test_servers::meilisearch().unwrap();
                (test.run)(shop_on(open(&index), index).await).await;
            });
        }
    }
}

#[cfg(feature = "elasticsearch")]
mod servers {
    use super::*;
    use ecom_core::testkit::shop::ShopFixture;
    use ecom_search::{ElasticsearchOptions, ElasticsearchSearch};
    use test_servers::TestIndex;

    pub(super) fn open(product: &str, index: &TestIndex) -> ElasticsearchSearch {
        let url = format!("{product}+{}?index={}&replicas=0&search_timeout_ms=60000", index.url, index.name);
        ElasticsearchSearch::open(ElasticsearchOptions::from_url(&url).unwrap()).unwrap()
    }

    async fn shop(product: &str, index: TestIndex) -> ShopFixture {
        shop_on(open(product, &index), index).await
    }

    pub(super) async fn on_elasticsearch() -> ShopFixture {
        shop("elasticsearch", test_servers::elasticsearch()).await
    }

    pub(super) async fn on_opensearch() -> ShopFixture {
        shop("opensearch", test_servers::opensearch()).await
    }

    mod elasticsearch {
        ecom_core::shop_search_suite!(crate::servers::on_elasticsearch);
    }

    mod opensearch {
        ecom_core::shop_search_suite!(crate::servers::on_opensearch);
    }
}

/// A number from the environment, for a longer run.
fn setting(name: &str, default: usize) -> usize {
    test_servers::given(name).map_or(default, |value| value.parse().unwrap())
}

/// A shop on SQLite with random products, and what their values are chosen from.
struct Generated {
    storage: Arc<SqlStorage>,
    shop: Shop,
    categories: Vec<CategoryId>,
    rng: StdRng,
}

const TAGS: [&str; 8] = ["new", "New", "sale", "eco", "gift", "Gift", "travel", "kids"];
const WORDS: [&str; 6] = ["Lamp", "Chair", "Kettle", "Shoe", "Bag", "Mug"];

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, Currency::USD)
}

fn brand(n: u32) -> String {
    // Two spellings of one brand.
    if n.is_multiple_of(2) { format!("Brand {}", n / 2) } else { format!("BRAND {}", n / 2) }
}

impl Generated {
    async fn new(products: usize) -> Self {
        let storage = Arc::new(SqlStorage::sqlite(SqliteOptions::memory()).unwrap());
        storage.migrate(Currency::USD).await.unwrap();
        let search = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
        let shop = Shop::new(ShopParts::new(storage.clone(), Arc::new(search))).unwrap();
        let mut rng = StdRng::seed_from_u64(0xEC0);
        let mut categories: Vec<CategoryId> = Vec::new();
        for n in 0..40 {
            // A third of them are roots.
            let parent = if n % 3 == 0 { None } else { categories.choose(&mut rng).copied() };
            let input =
                serde_json::from_value(json!({ "name": format!("Category {n}"), "parent_id": parent })).unwrap();
            categories.push(shop.categories().create(&input).await.unwrap().id);
        }
        for first in (0..products).step_by(250) {
            let mut tx = shop.begin().await.unwrap();
            for n in first..products.min(first + 250) {
                let tags: Vec<&str> = (0..rng.random_range(0..4)).map(|_| *TAGS.choose(&mut rng).unwrap()).collect();
                let own: Vec<CategoryId> =
                    (0..rng.random_range(0..3)).map(|_| *categories.choose(&mut rng).unwrap()).collect();
                let (mut tags, mut own) = (tags, own);
                tags.sort_by_key(|tag| tag.to_lowercase());
                tags.dedup_by_key(|tag| tag.to_lowercase());
                own.sort();
                own.dedup();
                let input = json!({
                    "title": format!("{} {n}", WORDS.choose(&mut rng).unwrap()),
                    "brand": (rng.random_range(0..10) > 0).then(|| brand(rng.random_range(0..60))),
                    "tags": tags,
                    "categories": own,
                    // Many products have the same price.
                    "price": usd(rng.random_range(0..300) * 50).amount(),
                    "stock": rng.random_range(0..20),
                    "status": if rng.random_range(0..10) == 0 { "draft" } else { "active" },
                });
                let input = serde_json::from_value(input).unwrap();
                shop.products().create_in(&mut tx, &input).await.unwrap();
            }
            tx.commit().await.unwrap().run().await;
        }
        Self { storage, shop, categories, rng }
    }

    fn filter(&mut self) -> ProductFilter {
        let rng = &mut self.rng;
        let mut one_in = |n: u32| rng.random_range(0..n) == 0;
        let (category, named, tagged, priced, available, any) =
            (one_in(3), one_in(4), one_in(4), one_in(3), one_in(4), one_in(5));
        let low = rng.random_range(0..200) * 50;
        ProductFilter {
            category: category.then(|| *self.categories.choose(rng).unwrap()),
            brand: named.then(|| brand(rng.random_range(0..60))),
            tag: tagged.then(|| TAGS.choose(rng).unwrap().to_string()),
            min_price: priced.then(|| usd(low)),
            max_price: (priced && rng.random_range(0..2) == 0).then(|| usd(low + rng.random_range(0..100) * 50)),
            availability: available.then(|| *AvailabilityStatus::ALL.choose(rng).unwrap()),
            status: (!any).then_some(ProductStatus::Active),
            include_deleted: IncludeDeleted::No,
            updated_since: None,
        }
    }
}

const BOUNDS: [i64; 4] = [0, 2_500, 5_000, 10_000];

fn searched(f: &ProductFilter, offset: u64) -> SearchQuery {
    let filter = SearchFilter {
        categories: f.category.into_iter().collect(),
        brands: f.brand.clone().into_iter().collect(),
        tags: f.tag.clone().into_iter().collect(),
        min_price: f.min_price,
        max_price: f.max_price,
        availability: f.availability.into_iter().collect(),
        status: f.status,
        ..SearchFilter::default()
    };
    let facets = vec![Facet::Categories, Facet::Brands, Facet::Prices, Facet::Tags, Facet::Availability];
    let price_bounds = BOUNDS.to_vec();
    SearchQuery {
        filter,
        sort: SearchSort::PriceAsc,
        offset,
        limit: 50,
        facets,
        price_bounds,
        ..SearchQuery::default()
    }
}

/// Returns the filter that stands for a value of a facet.
fn with_value(f: &ProductFilter, facet: Facet, value: &str) -> ProductFilter {
    let mut f = f.clone();
    match facet {
        Facet::Categories => f.category = Some(value.parse().unwrap()),
        Facet::Brands => f.brand = Some(value.to_owned()),
        Facet::Tags => f.tag = Some(value.to_owned()),
        Facet::Availability => f.availability = AvailabilityStatus::ALL.into_iter().find(|a| a.as_str() == value),
        Facet::Prices => {
            let low: i64 = value.parse().unwrap();
            let end = BOUNDS.iter().find(|bound| **bound > low);
            (f.min_price, f.max_price) = (Some(usd(low)), end.map(|end| usd(end - 1)));
        }
        Facet::Rating => unreachable!("the database has no filter by rating"),
    }
    f
}

/// Totals, order by price and counts of facets equal those of the database, for random filters.
async fn equals_the_database(engines: Vec<Arc<dyn SearchProvider>>, products: usize, filters: usize) {
    let mut generated = Generated::new(products).await;
    let mut shops = Vec::new();
    for search in engines {
        let name = search.name();
        let cache = Arc::new(NoCache);
        let shop = Shop::new(ShopParts { cache, ..ShopParts::new(generated.storage.clone(), search) }).unwrap();
        shop.index().catch_up().await.unwrap();
        shops.push((name, shop));
    }
    for n in 0..filters {
        let filter = generated.filter();
        let offset = if n % 3 == 0 { 0 } else { generated.rng.random_range(0..200) };
        let list = async |filter: ProductFilter, offset, limit| {
            let query =
                ProductListQuery { filter, sort: ProductSort::PriceAsc, paging: Paging::Offset { offset, limit } };
            let list = generated.shop.products().list(&query).await.unwrap();
            let ids: Vec<_> = list.page.items.iter().map(|product| product.id).collect();
            (list.total.unwrap(), ids)
        };
        let (total, ids) = list(filter.clone(), offset, 50).await;
        let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
        for (name, shop) in &shops {
            let about = format!("{name}, filter {n}: {filter:?} after {offset}");
            let found: SearchPage = shop.search().search(&searched(&filter, offset)).await.unwrap();
            assert_eq!(found.total, total, "{about}");
            assert_eq!(found.products.iter().map(|product| product.id).collect::<Vec<_>>(), ids, "{about}");
            for (facet, values) in &found.facets {
                // The database is asked for a few values of each facet, and the engines must agree in the others.
                for value in values.iter().take(3).chain(values.iter().rev().take(1)) {
                    let key = (format!("{facet:?}"), value.value.clone());
                    let count = match counted.get(&key) {
                        Some(count) => *count,
                        None => list(with_value(&filter, *facet, &value.value), 0, 1).await.0.count,
                    };
                    counted.insert(key, count);
                    assert_eq!(value.count, count, "{about}: {facet:?} {value:?}");
                }
            }
            let all = |page: &SearchPage| format!("{:?}", page.facets);
            let first = shops[0].1.search().search(&searched(&filter, offset)).await.unwrap();
            assert_eq!(all(&found), all(&first), "{about}");
        }
    }
}

#[tokio::test]
async fn r06_searches_equal_the_database_on_every_engine() {
    let memory = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
    #[cfg_attr(
        not(any(feature = "elasticsearch", feature = "meilisearch")),
        expect(unused_mut, reason = "the servers are more")
    )]
    let mut engines: Vec<Arc<dyn SearchProvider>> = vec![Arc::new(memory)];
    #[cfg(feature = "elasticsearch")]
    let indices = [("elasticsearch", test_servers::elasticsearch()), ("opensearch", test_servers::opensearch())];
    #[cfg(feature = "elasticsearch")]
    for (product, index) in &indices {
        engines.push(Arc::new(servers::open(product, index)));
    }
    #[cfg(feature = "meilisearch")]
    let index = test_servers::meilisearch();
    #[cfg(feature = "meilisearch")]
    if let Some(index) = &index {
        engines.push(Arc::new(meilisearch::open(index)));
    }
    let (products, filters) = (setting("ECOM_ENGINES_PRODUCTS", 1_000), setting("ECOM_ENGINES_FILTERS", 100));
    equals_the_database(engines, products, filters).await;
}
