//! Lists are sorted, and their pages contain every product exactly once.

use std::collections::HashSet;
use std::sync::Arc;

use super::support::{catalog, get, list, matching};
use crate::domain::catalog::product::{Product, ProductFilter, ProductSort, ProductStatus};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::IncludeDeleted;
use crate::id::ProductId;
use crate::paging::{Keyset, Paging, Total};
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::sample::Env;
use crate::testkit::sample::usd;
use crate::text::fold_key;

tests! {
    __product_paging: [
        every_sort_pages_through_everything_exactly_once,
        filtered_lists_page_exactly_once,
        rows_that_come_and_go_move_no_cursor,
        a_product_without_skus_has_no_price_and_is_listed,
        counts_stop_at_their_bound,
    ]
}

/// Returns the value by which a list sorts, in a comparable form.
fn sort_value(p: &Product, sort: ProductSort) -> (i64, String) {
    match sort {
        ProductSort::CreatedDesc | ProductSort::CreatedAsc => (p.audit.created_at.timestamp_micros(), String::new()),
        ProductSort::PriceAsc | ProductSort::PriceDesc => (p.price_range().unwrap().0.minor(), String::new()),
        ProductSort::TitleAsc | ProductSort::TitleDesc => (0, fold_key(&p.title)),
        ProductSort::RatingDesc => (i64::from(p.rating.mean.hundredths()), String::new()),
    }
}

/// Returns the products of all pages, by cursor.
async fn walk(storage: &Arc<dyn Storage>, filter: &ProductFilter, sort: ProductSort, limit: u32) -> Vec<Product> {
    let (mut found, mut after) = (Vec::new(), None::<Keyset>);
    // No catalog of the suite has more products.
    let mut pages = Pages::over(10_000);
    loop {
        pages.turn();
        let page = list(storage, filter, sort, &Paging::Keyset { after, limit }).await;
        assert!(page.items.len() <= limit as usize, "a page has at most `limit` rows");
        found.extend(page.items);
        let Some(next) = page.next else { return found };
        assert_eq!(
            Keyset::decode(&next.encode(), &next.sort).unwrap(),
            next,
            "a decoded cursor must equal the one that was encoded"
        );
        after = Some(next);
    }
}

/// Reads a list by both kinds of paging, compares it with the expected products, and returns their order.
async fn check_walk(
    storage: &Arc<dyn Storage>,
    filter: &ProductFilter,
    sort: ProductSort,
    expected: &[ProductId],
) -> Vec<ProductId> {
    let at = format!("{} of {filter:?}", sort.as_str());
    let reference = walk(storage, filter, sort, 1_000).await;
    let order: Vec<ProductId> = reference.iter().map(|p| p.id).collect();
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "{at}: the list must have every matching product exactly once");
    let mut ties = HashSet::new();
    for pair in reference.windows(2) {
        let (a, b) = (sort_value(&pair[0], sort), sort_value(&pair[1], sort));
        if a == b {
            ties.insert(pair[0].id < pair[1].id);
        } else {
            assert_eq!(a > b, sort.is_descending(), "{at}: the list must be sorted, but {a:?} comes before {b:?}");
        }
    }
    assert!(ties.len() < 2, "{at}: products with equal sort values must be ordered by id, all in the same direction");
    for limit in [1, 10, 34] {
        if limit == 1 && expected.len() > 40 {
            continue;
        }
        let by_cursor: Vec<ProductId> = walk(storage, filter, sort, limit).await.iter().map(|p| p.id).collect();
        assert_eq!(by_cursor, order, "{at}: the pages by cursor, of {limit} rows, must together be the list");
        let mut by_offset: Vec<ProductId> = Vec::new();
        let mut pages = Pages::over(order.len());
        loop {
            pages.turn();
            let offset = by_offset.len() as u64;
            let page = list(storage, filter, sort, &Paging::Offset { offset, limit }).await;
            by_offset.extend(page.items.iter().map(|p| p.id));
            assert_eq!(
                page.next.is_some(),
                by_offset.len() < order.len(),
                "{at}: `next` must be set if and only if more rows follow"
            );
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(by_offset, order, "{at}: the pages by offset, of {limit} rows, must together be the list");
    }
    order
}

/// Both kinds of paging, with equal sort values, with and without deleted products.
pub async fn every_sort_pages_through_everything_exactly_once(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let mut sorts = HashSet::new();
    for sort in ProductSort::ALL {
        for deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
            let filter = ProductFilter { include_deleted: deleted, ..ProductFilter::default() };
            check_walk(storage, &filter, sort, &catalog.matching(&filter)).await;
            // A page by number ends at the same position as a page by cursor.
            let page = list(storage, &filter, sort, &Paging::Offset { offset: 20, limit: 10 }).await;
            let next = Paging::Keyset { after: page.next.clone(), limit: 10 };
            let by_cursor = list(storage, &filter, sort, &next).await;
            let by_offset = list(storage, &filter, sort, &Paging::Offset { offset: 30, limit: 10 }).await;
            assert_eq!(
                by_cursor.items, by_offset.items,
                "the page after a cursor must be the page at the offset behind it"
            );
            sorts.insert(page.next.unwrap().sort);
        }
    }
    assert_eq!(sorts.len(), ProductSort::ALL.len(), "every sort must name itself in its cursors");
    let beyond = Paging::Offset { offset: 10_000, limit: 10 };
    let page = list(storage, &ProductFilter::default(), ProductSort::PriceAsc, &beyond).await;
    assert_eq!((page.items, page.next), (vec![], None), "a page past the end must be empty and have no `next`");
}

/// Filtered lists are paged as unfiltered ones are.
pub async fn filtered_lists_page_exactly_once(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let base = ProductFilter { category: Some(catalog.categories[0].id), ..ProductFilter::default() };
    for filter in [
        ProductFilter { include_deleted: IncludeDeleted::Yes, ..base.clone() },
        ProductFilter {
            status: Some(ProductStatus::Active),
            min_price: Some(usd(500)),
            max_price: Some(usd(4_000)),
            ..base.clone()
        },
        ProductFilter { tag: Some("sale".into()), ..base.clone() },
        ProductFilter { brand: Some("acme".into()), ..ProductFilter::default() },
        ProductFilter { availability: Some(AvailabilityStatus::InStock), ..ProductFilter::default() },
        ProductFilter { status: Some(ProductStatus::Archived), ..ProductFilter::default() },
    ] {
        let expected = catalog.matching(&filter);
        assert!(expected.len() > 5, "the test itself is at fault: too few products match {filter:?}");
        for sort in ProductSort::ALL {
            check_walk(storage, &filter, sort, &expected).await;
        }
    }
}

/// Pages by cursor contain each remaining row once, although rows are inserted and deleted before the position.
pub async fn rows_that_come_and_go_move_no_cursor(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Product> = (0..30).map(|n| env.priced(&format!("P {n}"), 1_000 + n / 3, 1)).collect();
    env.insert_products(storage, &all).await.unwrap();
    let filter = ProductFilter::default();
    let first = list(storage, &filter, ProductSort::PriceAsc, &Paging::first(10)).await;
    env.insert_products(storage, &[env.priced("cheapest", 1, 1)]).await.unwrap();
    // The row of the cursor itself is deleted too.
    env.soft_delete(storage, first.items.last().unwrap()).await.unwrap();
    let rest = list(storage, &filter, ProductSort::PriceAsc, &Paging::Keyset { after: first.next, limit: 100 }).await;
    let mut seen: Vec<ProductId> = first.items.iter().chain(&rest.items).map(|p| p.id).collect();
    seen.sort();
    assert_eq!(
        seen,
        all.iter().map(|p| p.id).collect::<Vec<_>>(),
        "pages by cursor must contain each row that existed during the whole walk exactly once"
    );
}

/// All SKUs of the product were deleted, for example.
pub async fn a_product_without_skus_has_no_price_and_is_listed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let bare = env.product("bare");
    let priced = env.priced("priced", 500, 9);
    env.insert_products(storage, &[bare.clone(), priced.clone()]).await.unwrap();
    assert_eq!(get(storage, bare.id).await.as_ref(), Some(&bare), "a product without SKUs is read as it was inserted");
    for sort in ProductSort::ALL {
        let walked = walk(storage, &ProductFilter::default(), sort, 1).await;
        assert_eq!(
            walked.iter().map(|p| p.id).collect::<HashSet<_>>().len(),
            2,
            "in the order {}, the list must have each product once, with or without a price",
            sort.as_str()
        );
        assert_eq!(
            walked.len(),
            2,
            "in the order {}, the list must have each product once, with or without a price",
            sort.as_str()
        );
    }
    for (min, max) in [(Some(0), None), (None, Some(i64::MAX)), (Some(0), Some(i64::MAX))] {
        let filter = ProductFilter { min_price: min.map(usd), max_price: max.map(usd), ..ProductFilter::default() };
        assert_eq!(
            matching(storage, &filter).await,
            [priced.id],
            "a product without a price must match no price filter: {min:?}..={max:?}"
        );
    }
    let out = ProductFilter { availability: Some(AvailabilityStatus::OutOfStock), ..ProductFilter::default() };
    assert_eq!(matching(storage, &out).await, [bare.id], "a product without SKUs is out of stock, and is listed");
    assert_eq!(
        read!(storage, products.filters(&ProductFilter::default())).price,
        Some((usd(500), usd(500))),
        "the price range must ignore products without SKUs"
    );
}

/// A count, filtered or not, is exact up to the bound, and a lower bound above it.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    for filter in [
        ProductFilter::default(),
        ProductFilter { category: Some(catalog.categories[0].id), ..ProductFilter::default() },
        ProductFilter { tag: Some("sale".into()), min_price: Some(usd(100)), ..ProductFilter::default() },
    ] {
        let n = catalog.matching(&filter).len() as u64;
        for (bound, expected) in [
            (n + 1, Total { count: n, exact: true }),
            (n, Total { count: n, exact: true }),
            (n - 1, Total { count: n - 1, exact: false }),
            (1, Total { count: 1, exact: false }),
        ] {
            assert_eq!(
                read!(storage, products.count(&filter, bound)),
                expected,
                "`count` with the bound {bound}: {filter:?}"
            );
        }
    }
}
