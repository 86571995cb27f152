//! Each filter of a list, and all of them together, finds the products that it describes.

use std::collections::HashSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::support::{catalog, get, list, matching, percent};
use crate::domain::catalog::category::{Category, CategorySummary};
use crate::domain::catalog::product::{Product, ProductFilter, ProductSort};
use crate::domain::catalog::sku::{AvailabilityStatus, Sku};
use crate::domain::common::IncludeDeleted;
use crate::money::Percentage;
use crate::paging::Paging;
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::fresh_seed;
use crate::testkit::sample::{Env, usd};

tests! {
    __product_filters: [
        r06_category_filter_takes_the_subtree,
        price_filters_use_the_lowest_final_price,
        list_prices_follow_discounts_and_skus,
        availability_filters_use_the_best_sku,
        brands_and_tags_are_compared_by_their_folded_key,
        each_filter_agrees_with_the_model,
        combined_filters_agree_with_the_model,
        filters_say_what_a_list_could_be_narrowed_by,
        ids_in_category_walks_the_subtree,
    ]
}

/// The filter finds products in the category and its descendants, but not in siblings or ancestors, and each product
/// once.
pub async fn r06_category_filter_takes_the_subtree(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let audio = env.category("audio", None);
    let like = env.category("audio 2", None);
    let phones = env.category("phones", Some(&audio));
    let wireless = env.category("wireless", Some(&phones));
    env.insert_categories(storage, &[&audio, &like, &phones, &wireless]).await.unwrap();
    let within = |title: &str, categories: &[&Category]| Product {
        categories: categories.iter().map(|c| CategorySummary::from(*c)).collect(),
        ..env.priced(title, 100, 1)
    };
    let at_top = within("at top", &[&audio]);
    let deep = within("deep", &[&wireless]);
    let twice = within("twice", &[&wireless, &phones, &audio, &like]);
    let beside = within("beside", &[&like]);
    let nowhere = within("nowhere", &[]);
    let all = [at_top.clone(), deep.clone(), twice.clone(), beside.clone(), nowhere.clone()];
    env.insert_products(storage, &all).await.unwrap();
    for (category, expected) in [
        (&audio, vec![at_top.id, deep.id, twice.id]),
        (&phones, vec![deep.id, twice.id]),
        (&wireless, vec![deep.id, twice.id]),
        (&like, vec![twice.id, beside.id]),
    ] {
        let filter = ProductFilter { category: Some(category.id), ..ProductFilter::default() };
        assert_eq!(
            matching(storage, &filter).await,
            expected,
            "a filter by the category {} must find the products in its subtree, each once",
            category.path
        );
    }
    let unknown = ProductFilter { category: Some(env.category("unknown", None).id), ..ProductFilter::default() };
    assert_eq!(matching(storage, &unknown).await, [], "a filter by an unknown category must find no products");
}

/// The price is after the discount and rounded. The bounds are part of the range.
pub async fn price_filters_use_the_lowest_final_price(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    // 9.99 less 10.48 % is 8.943048, which is rounded to 8.94.
    let odd = Product { discount: Percentage::from_hundredths(1_048).unwrap(), ..env.priced("odd", 999, 1) };
    let mut several = env.priced("several", 5_000, 1);
    env.add_sku(&mut several, "cheap", 1_000, 1);
    env.add_sku(&mut several, "dear", 9_000, 1);
    several.discount = percent(50);
    let free = Product { discount: percent(100), ..env.priced("free", 700, 1) };
    env.insert_products(storage, &[odd.clone(), several.clone(), free.clone()]).await.unwrap();
    for (min, max, expected) in [
        (None, None, vec![odd.id, several.id, free.id]),
        (Some(894), Some(894), vec![odd.id]),
        (Some(895), None, vec![]),
        (None, Some(893), vec![several.id, free.id]),
        (Some(500), Some(500), vec![several.id]),
        (Some(501), Some(10_000), vec![odd.id]),
        (None, Some(0), vec![free.id]),
        (Some(0), None, vec![odd.id, several.id, free.id]),
        (Some(1), Some(i64::MAX), vec![odd.id, several.id]),
    ] {
        let filter = ProductFilter { min_price: min.map(usd), max_price: max.map(usd), ..ProductFilter::default() };
        assert_eq!(matching(storage, &filter).await, expected, "{min:?}..={max:?}");
    }
}

/// The values by which lists sort and filter are written together with the product.
pub async fn list_prices_follow_discounts_and_skus(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let mut p = Product { categories: vec![(&a).into()], ..env.priced("P", 1_000, 1) };
    env.add_sku(&mut p, "second", 2_400, 1);
    let q = Product { categories: vec![(&a).into()], ..env.priced("Q", 1_500, 1) };
    env.insert_products(storage, &[p.clone(), q.clone()]).await.unwrap();
    let check = async |step: &str, price: i64| {
        for category in [None, Some(a.id)] {
            let exactly = ProductFilter {
                category,
                min_price: Some(usd(price)),
                max_price: Some(usd(price)),
                ..ProductFilter::default()
            };
            assert_eq!(
                matching(storage, &exactly).await,
                [p.id],
                "after {step}: a filter by the lowest final price must find the product"
            );
            let filter = ProductFilter { category, ..ProductFilter::default() };
            let first = list(storage, &filter, ProductSort::PriceAsc, &Paging::first(1)).await.items;
            assert_eq!(
                first[0].id,
                if price < 1_500 { p.id } else { q.id },
                "after {step}: the cheapest product must come first"
            );
        }
    };
    check("an insert", 1_000).await;
    let discounted = Product { discount: percent(25), ..env.edited(&p) };
    env.update_product(storage, &p, &discounted).await.unwrap();
    check("a discount", 750).await;

    // The price of a SKU is written together with its product, in one transaction.
    let before = &discounted.skus[0];
    let mut sku = Sku { price: usd(4_000), ..before.clone() };
    sku.audit.edited(env.now(), &env.actor);
    let mut repriced = env.edited(&discounted);
    repriced.skus[0] = sku.clone();
    let mut uow = storage.begin().await.unwrap();
    uow.products().lock(&[p.id]).await.unwrap();
    uow.skus().update(before, &sku).await.unwrap();
    uow.products().update(&discounted, &repriced).await.unwrap();
    uow.commit().await.unwrap();
    check("a new price, which makes the other SKU the cheapest", 1_800).await;
    assert_eq!(get(storage, p.id).await, Some(repriced), "a product is read as it was updated with its SKU");
}

/// The filter compares the best availability of the live SKUs.
pub async fn availability_filters_use_the_best_sku(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut mixed = env.priced("mixed", 100, 0);
    env.add_sku(&mut mixed, "plenty", 100, 50);
    let mut low = env.priced("low", 100, 0);
    env.add_sku(&mut low, "few", 100, 5);
    let mut none = env.priced("none", 100, 0);
    let promised = env.sku(&none, "promised", 100, 9);
    none.skus.push(Sku { reserved: 9, ..promised });
    env.insert_products(storage, &[mixed.clone(), low.clone(), none.clone()]).await.unwrap();
    for (status, id) in [
        (AvailabilityStatus::InStock, mixed.id),
        (AvailabilityStatus::Limited, low.id),
        (AvailabilityStatus::OutOfStock, none.id),
    ] {
        let filter = ProductFilter { availability: Some(status), ..ProductFilter::default() };
        assert_eq!(
            matching(storage, &filter).await,
            [id],
            "the filter must find the products whose best SKU is {}",
            status.as_str()
        );
    }
}

/// Case and width are ignored, and accents are not. A part of a brand does not match.
pub async fn brands_and_tags_are_compared_by_their_folded_key(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p =
        Product { brand: Some("Café Größe".into()), tags: vec!["Café Größe".into()], ..env.priced("P", 1, 1) };
    let q = Product { brand: Some("Cafe Grosse".into()), tags: vec!["Cafe Grosse".into()], ..env.priced("Q", 1, 1) };
    env.insert_products(storage, &[p.clone(), q.clone()]).await.unwrap();
    for (text, expected) in [
        ("Café Größe", vec![p.id]),
        ("CAFÉ GRÖSSE", vec![p.id]),
        ("cafe\u{301}  ｇröße", vec![p.id]),
        ("CAFE GROSSE", vec![q.id]),
        ("Café", vec![]),
        ("%", vec![]),
        ("", vec![]),
    ] {
        let brand = ProductFilter { brand: Some(text.into()), ..ProductFilter::default() };
        assert_eq!(matching(storage, &brand).await, expected, "a filter by brand must compare folded keys: {text}");
        let tag = ProductFilter { tag: Some(text.into()), ..ProductFilter::default() };
        assert_eq!(matching(storage, &tag).await, expected, "a filter by tag must compare folded keys: {text}");
    }
}

/// Lists with one filter, for every value of every filter.
pub async fn each_filter_agrees_with_the_model(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let mut told_apart = HashSet::new();
    for filter in catalog.choices().iter().flatten() {
        let expected = catalog.matching(filter);
        assert_eq!(
            matching(storage, filter).await,
            expected,
            "a list must have exactly the products that match {filter:?}"
        );
        told_apart.insert(expected);
    }
    assert!(told_apart.len() > 15, "the test itself is at fault: too many of its filters find the same products");
}

/// Lists with random combinations of filters. Products must match all of them.
pub async fn combined_filters_agree_with_the_model(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let choices = catalog.choices();
    let seed = fresh_seed();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..150 {
        let picks: Vec<&ProductFilter> = choices.iter().map(|c| &c[rng.random_range(0..c.len())]).collect();
        let [category, price, brand, tag, availability, status, deleted, since] = picks[..] else { unreachable!() };
        let keep = |rng: &mut StdRng| rng.random_bool(0.4);
        let mut filter = ProductFilter {
            category: category.category,
            include_deleted: deleted.include_deleted,
            ..Default::default()
        };
        if keep(&mut rng) {
            (filter.min_price, filter.max_price) = (price.min_price, price.max_price);
        }
        if keep(&mut rng) {
            filter.brand.clone_from(&brand.brand);
        }
        if keep(&mut rng) {
            filter.tag.clone_from(&tag.tag);
        }
        if keep(&mut rng) {
            filter.availability = availability.availability;
        }
        if keep(&mut rng) {
            filter.status = status.status;
        }
        if keep(&mut rng) {
            filter.updated_since = since.updated_since;
        }
        assert_eq!(matching(storage, &filter).await, catalog.matching(&filter), "seed {seed}: {filter:?}");
    }
}

/// The result has the direct categories and the brands of matching products with their numbers, most products first,
/// and the range of prices.
pub async fn filters_say_what_a_list_could_be_narrowed_by(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let top = env.category("Top", None);
    let (a, b) = (env.category("A", Some(&top)), env.category("B", None));
    env.insert_categories(storage, &[&top, &a, &b]).await.unwrap();
    let make = |n: i64, categories: &[&Category], brand: Option<&str>| Product {
        categories: categories.iter().map(|c| CategorySummary::from(*c)).collect(),
        brand: brand.map(str::to_owned),
        discount: percent(50),
        ..env.priced(&format!("P {n}"), n * 200, 1)
    };
    let mut products = vec![
        make(1, &[&a], Some("Acme")),
        make(2, &[&a, &b], Some("Acme")),
        make(3, &[&a], Some("Acme")),
        make(4, &[&b], Some("Bolt")),
        make(5, &[], Some("Bolt")),
        make(6, &[], None),
    ];
    let mut gone = make(99, &[&b], Some("Gone"));
    gone.audit = env.deleted(&gone.audit);
    products.push(gone);
    env.insert_products(storage, &products).await.unwrap();

    let all = read!(storage, products.filters(&ProductFilter::default()));
    assert_eq!(
        all.categories,
        [((&a).into(), 3), ((&b).into(), 2)],
        "`filters` must count the products directly in each category, the largest count first"
    );
    assert_eq!(
        all.brands,
        [("Acme".to_owned(), 3), ("Bolt".to_owned(), 2)],
        "`filters` must count the brands of the matching products, the largest count first"
    );
    assert_eq!(all.price, Some((usd(100), usd(600))), "the price range must consist of final prices");

    let below = ProductFilter { category: Some(top.id), ..ProductFilter::default() };
    let below = read!(storage, products.filters(&below));
    assert_eq!(
        below.categories,
        [((&a).into(), 3), ((&b).into(), 1)],
        "with a category filter, `filters` must count the categories of the matching products, the largest count first"
    );
    assert_eq!(
        below.brands,
        [("Acme".to_owned(), 3)],
        "with a category filter, `filters` must count the brands of the matching products"
    );
    assert_eq!(
        below.price,
        Some((usd(100), usd(300))),
        "with a category filter, the price range must be that of the matching products"
    );

    let nothing = ProductFilter { brand: Some("nobody".into()), ..ProductFilter::default() };
    let nothing = read!(storage, products.filters(&nothing));
    assert!(
        nothing.categories.is_empty() && nothing.brands.is_empty() && nothing.price.is_none(),
        "if no product matches, `filters` must be empty"
    );
}

/// The pages contain soft-deleted products too, and are ordered by id.
pub async fn ids_in_category_walks_the_subtree(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    for category in &catalog.categories {
        let filter = ProductFilter {
            category: Some(category.id),
            include_deleted: IncludeDeleted::Yes,
            ..ProductFilter::default()
        };
        let (mut found, mut after) = (Vec::new(), None);
        let mut pages = Pages::over(catalog.products.len());
        loop {
            pages.turn();
            let page = read!(storage, products.ids_in_category(category.id, after, 9));
            assert!(page.len() <= 9, "a page of `ids_in_category` has at most `limit` rows");
            let Some(last) = page.last() else { break };
            after = Some(*last);
            found.extend(page);
        }
        assert_eq!(
            found,
            catalog.matching(&filter),
            "the pages of `ids_in_category` must list the products in the subtree of {} once, by id",
            category.path
        );
    }
}
