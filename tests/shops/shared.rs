//! Shops with equal ids and slugs that share a Redis and a search server: none sees what belongs to the other one.

use std::sync::atomic::{AtomicBool, AtomicU64};

use ecom::access::{SecretKey, UserInput};
use ecom::catalog::ProductPatch;
use ecom::clock::SystemClock;
use ecom::common::{DeleteMode, Patch};
use ecom::id::{IdSource, UuidV7Source};
use ecom::platform::Pass;
use ecom::port::{Quota, RateKey};
use ecom::uuid::Uuid;

use super::*;

/// A source of ids, which are random until `are_equal` is set, and then the same in each shop.
#[derive(Debug)]
struct EqualIds {
    random: UuidV7Source,
    are_equal: Arc<AtomicBool>,
    next: AtomicU64,
}

impl IdSource for EqualIds {
    fn next(&self) -> Uuid {
        /// It is greater than the ids that the clock gives.
        const FIRST: u128 = 0x01dd_0000_0000_7000_8000_0000_0000_0000;
        if self.are_equal.load(Ordering::SeqCst) {
            Uuid::from_u128(FIRST + u128::from(self.next.fetch_add(1, Ordering::SeqCst)))
        } else {
            self.random.next()
        }
    }
}

/// The shops share the cache of a URL, and a search server unless `search` is `none`. With `are_copies`, their
/// databases have the same identity, as those of a shop and its copy.
async fn see_only_their_own(cache: String, search: String, are_copies: bool) {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}/{{shop}}/shop.db", dir.path().display());
    let are_equal = Arc::new(AtomicBool::new(are_copies));
    let (has_search, of_ids) = (search != "none", are_equal.clone());
    let new = move |_: &ecom::ShopName| {
        let random = UuidV7Source::new(Arc::new(SystemClock));
        let ids = EqualIds { random, are_equal: of_ids.clone(), next: AtomicU64::new(0) };
        ShopBuilder::new()
            .database(&database)
            .search(&search)
            .cache(&cache)
            .secret_key(SecretKey::from_random([7; 32]))
            .ids(Arc::new(ids))
            .config(ShopConfig::default().search_log(false))
    };
    let shops = Shops::new(limits(), new).unwrap();
    // One name begins with the other one.
    let (one, two) = (shops.create("acme").await.unwrap(), shops.create("acme_2").await.unwrap());
    assert_eq!(one.identity().await.unwrap() == two.identity().await.unwrap(), are_copies);
    are_equal.store(true, Ordering::SeqCst);
    let mut products = Vec::new();
    for (shop, title) in [(&one, "Lamp of the first"), (&two, "Lamp of the second")] {
        let input = ProductInput { slug: Some("lamp".to_owned()), ..lamp(title) };
        products.push(shop.products().create(&input).await.unwrap());
    }
    let [of_one, of_two] = &products[..] else { panic!("two products") };
    assert_eq!((of_one.id, &of_one.slug), (of_two.id, &of_two.slug));

    // The second reads come from the cache.
    for (shop, product) in [(&one, of_one), (&two, of_two), (&one, of_one), (&two, of_two)] {
        assert_eq!(shop.products().get(product.id).await.unwrap().title, product.title);
        assert_eq!(shop.products().get_by_slug("lamp").await.unwrap().title, product.title);
        assert_eq!(titles(shop).await, [product.title.as_str()]);
    }
    for shop in [&one, &two] {
        assert!(shop.products().get(of_one.id).await.unwrap().hit, "the cache has it");
    }
    // A write of one shop makes nothing of the other one stale.
    let patch = ProductPatch { title: Patch::Set("New lamp".to_owned()), ..ProductPatch::default() };
    one.products().patch(of_one.id, of_one.audit.version.into(), patch).await.unwrap();
    assert_eq!(one.products().get(of_one.id).await.unwrap().title, "New lamp");
    let kept = two.products().get(of_two.id).await.unwrap();
    assert_eq!((kept.title.as_str(), kept.hit), (of_two.title.as_str(), true));

    let (key, quota) = (RateKey::new("test", b"192.0.2.1"), Quota::new(1, Duration::from_secs(86_400)));
    for shop in [&one, &two] {
        assert!(shop.rate_limiter().is_shared());
        assert!(shop.rate_limiter().check(key, quota).await.retry_after.is_none(), "each shop has its own quota");
        assert!(shop.rate_limiter().check(key, quota).await.retry_after.is_some());
    }

    // The session is known to the cache of the first shop.
    let user = UserInput {
        email: "ada@example.com".to_owned(),
        password: Some("correct horse battery".into()),
        ..UserInput::default()
    };
    let tokens = one.auth().register(&user, None).await.unwrap();
    one.auth().authenticate(&tokens.access).await.unwrap();
    let refused =
        [two.auth().authenticate(&tokens.access).await.err(), two.auth().refresh(&tokens.refresh).await.err()];
    for error in refused {
        assert!(matches!(error, Some(Error::Unauthenticated)), "{error:?}");
    }
    one.auth().refresh(&tokens.refresh).await.unwrap();

    if has_search {
        let found = async |shop: &Shop, titles: &[&str]| {
            wait_until("the search finds what the shop has", async || {
                shop.run_background_pass(Pass::Events, std::future::pending()).await;
                finds(shop, "lamp").await == titles
            })
            .await;
        };
        found(&one, &["New lamp"]).await;
        found(&two, &[&of_two.title]).await;
        // A rebuild removes the indices of its own shop only.
        one.index().rebuild().await.unwrap();
        assert_eq!(finds(&two, "lamp").await, [of_two.title.as_str()]);
        two.products().delete(of_two.id, of_two.audit.version.into(), DeleteMode::Soft).await.unwrap();
        found(&two, &[]).await;
        assert_eq!(finds(&one, "lamp").await, ["New lamp"]);
    }
    shops.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r15_shops_on_one_redis_and_one_elasticsearch_see_their_own_only() {
    let (redis, index) = (test_servers::redis(), test_servers::elasticsearch());
    let cache = format!("{}?prefix={}&timeout_ms=5000", redis.url, redis.prefix);
    let search = format!("elasticsearch+{}?index={}_{{shop}}&replicas=0", index.url, index.name);
    see_only_their_own(cache, search, false).await;
    assert!(index.indices().iter().any(|name| name.contains("_acme-")), "each shop has an index of its own");
}

/// The prefix of the keys separates shops whose databases have the same identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r15_copies_of_a_shop_on_one_redis_see_their_own_only() {
    let redis = test_servers::redis();
    let cache = format!("tiered+{}?prefix={}{{shop}}:&timeout_ms=5000", redis.url, redis.prefix);
    see_only_their_own(cache, "none".to_owned(), true).await;
}

#[cfg(feature = "meilisearch")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r15_shops_on_one_meilisearch_see_their_own_only() {
    let Some(index) = test_servers::meilisearch() else { return };
    let redis = test_servers::redis();
    let cache = format!("{}?prefix={}&timeout_ms=5000", redis.url, redis.prefix);
    let search = format!("meilisearch+{}?index={}_{{shop}}", index.url, index.name);
    see_only_their_own(cache, search, false).await;
}
