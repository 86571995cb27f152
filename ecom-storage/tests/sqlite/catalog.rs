//! Reads and lists of products and categories, the counts of categories, and slugs.

use ecom_core::catalog::{AvailabilityStatus, CategorySummary, Product, ProductFilter, ProductSort, ProductStatus};
use ecom_core::common::{Actor, ExternalRef, IncludeDeleted};
use ecom_core::id::*;
use ecom_core::money::{Currency, Money};
use ecom_core::paging::Paging;
use ecom_core::port::*;
use ecom_core::testkit::sample::usd;
use ecom_core::text::Slug;
use ecom_storage::SqlStorage;

use crate::support::{TestResult, category, file, memory, now, product, write_categories, write_products};

#[tokio::test]
async fn a_product_reads_as_it_was_written() -> TestResult {
    for (_dir, s) in [
        {
            let (d, s) = file().await;
            (Some(d), s)
        },
        (None, memory().await),
    ] {
        let top = category("Office", None);
        let below = category("Paper", Some(&top));
        write_categories(&s, &[top.clone(), below.clone()]).await?;
        let mut p = product("Field Notebook", &[&below], 999, 3);
        p.external = Some(ExternalRef::new("dummyjson", "1"));
        write_products(&s, std::slice::from_ref(&p)).await?;
        let mut c = s.connect().await?;
        assert_eq!(c.products().get(p.id, IncludeDeleted::No).await?.as_ref(), Some(&p));
        assert_eq!(c.products().get_by_slug("field-notebook").await?.as_ref(), Some(&p));
        assert_eq!(c.products().get_many(&[p.id], IncludeDeleted::No).await?, vec![p.clone()]);
        assert_eq!(c.products().find_by_external("dummyjson", &["1".to_owned()]).await?, vec![("1".to_owned(), p.id)]);
        for sort in ProductSort::ALL {
            for filter in [
                ProductFilter::default(),
                ProductFilter {
                    include_deleted: IncludeDeleted::Yes,
                    status: Some(ProductStatus::Active),
                    ..ProductFilter::default()
                },
                ProductFilter {
                    category: Some(top.id),
                    min_price: Some(usd(999)),
                    max_price: Some(usd(999)),
                    brand: Some("ACME".to_owned()),
                    tag: Some("new".to_owned()),
                    availability: Some(AvailabilityStatus::InStock),
                    status: Some(ProductStatus::Active),
                    include_deleted: IncludeDeleted::No,
                    updated_since: Some(p.audit.updated_at),
                },
            ] {
                let page = c.products().list(&filter, sort, &Paging::first(20)).await?;
                assert_eq!(page.items, vec![p.clone()]);
                assert_eq!(page.next, None);
                assert_eq!(c.products().count(&filter, 100).await?.count, 1);
                let found = c.products().filters(&filter).await?;
                assert_eq!(found.categories, vec![(CategorySummary::from(&below), 1)]);
                assert_eq!(found.brands, vec![("Acme".to_owned(), 1)]);
                assert_eq!(found.price, Some((usd(999), usd(999))));
            }
        }
        let t = c.categories().get(top.id, IncludeDeleted::No).await?.unwrap();
        assert_eq!((t.product_count, t.subtree_product_count, t.revision), (0, 1, 2));
        let b = c.categories().get(below.id, IncludeDeleted::No).await?.unwrap();
        assert_eq!((b.product_count, b.subtree_product_count, b.revision), (1, 1, 2));
        assert!(c.inventory().imbalances().await?.is_empty());
        drop(c);
        assert_eq!(s.identity().await?, s.identity().await?);
        s.ping().await?;
    }
    Ok(())
}

#[tokio::test]
async fn pages_by_cursor_and_by_offset_are_the_same_list() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    write_categories(&s, std::slice::from_ref(&top)).await?;
    let mut all: Vec<Product> = (0..90).map(|i| product(&format!("Pen {}", i % 30), &[&top], 100 + i % 7, 1)).collect();
    for (i, p) in all.iter_mut().enumerate() {
        p.slug = Slug::trusted(format!("pen-{i}"));
        p.skus[0].code = format!("pen-{i}");
        p.status = ProductStatus::ALL[i % 3];
        if i % 10 == 0 {
            p.audit.deleted_at = Some(now());
            p.skus.clear();
        }
    }
    write_products(&s, &all).await?;
    let mut c = s.connect().await?;
    for category in [None, Some(top.id)] {
        for (status, deleted) in [
            (None, IncludeDeleted::No),
            (None, IncludeDeleted::Yes),
            (Some(ProductStatus::Active), IncludeDeleted::No),
            (Some(ProductStatus::Draft), IncludeDeleted::Yes),
        ] {
            let filter = ProductFilter { category, status, include_deleted: deleted, ..ProductFilter::default() };
            let mut expected: Vec<&Product> = all
                .iter()
                .filter(|p| deleted == IncludeDeleted::Yes || p.audit.is_live())
                .filter(|p| status.is_none_or(|s| s == p.status))
                .collect();
            assert_eq!(c.products().count(&filter, 1_000).await?.count, expected.len() as u64);
            for sort in ProductSort::ALL {
                let price = |p: &Product| p.price_range().map_or(i64::MAX, |(lo, _)| lo.minor());
                expected.sort_by(|a, b| {
                    let o = match sort {
                        ProductSort::CreatedAsc | ProductSort::CreatedDesc => std::cmp::Ordering::Equal,
                        ProductSort::PriceAsc | ProductSort::PriceDesc => price(a).cmp(&price(b)),
                        ProductSort::TitleAsc | ProductSort::TitleDesc => {
                            ecom_core::text::fold_key(&a.title).cmp(&ecom_core::text::fold_key(&b.title))
                        }
                        ProductSort::RatingDesc => a.rating.mean.cmp(&b.rating.mean),
                    }
                    .then(a.id.cmp(&b.id));
                    if sort.is_descending() { o.reverse() } else { o }
                });
                let expected: Vec<ProductId> = expected.iter().map(|p| p.id).collect();
                let mut by_cursor = Vec::new();
                let mut after = None;
                loop {
                    let page = c.products().list(&filter, sort, &Paging::Keyset { after, limit: 7 }).await?;
                    by_cursor.extend(page.items.iter().map(|p| p.id));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(by_cursor, expected, "{sort:?} {filter:?}");
                let page = c.products().list(&filter, sort, &Paging::Offset { offset: 5, limit: 6 }).await?;
                let ids: Vec<ProductId> = page.items.iter().map(|p| p.id).collect();
                assert_eq!(ids, expected[5.min(expected.len())..11.min(expected.len())]);
            }
        }
    }
    Ok(())
}

/// Checks the maintained counts and listings against a full computation.
async fn check_listings(s: &SqlStorage) -> TestResult {
    let mut c = s.connect().await?;
    let tree = c.categories().tree().await?;
    let filter = ProductFilter::default();
    let all = c.products().list(&filter, ProductSort::CreatedAsc, &Paging::first(1_000)).await?.items;
    for category in &tree {
        let under =
            |p: &&Product| p.categories.iter().any(|pc| tree.iter().any(|t| t.id == pc.id && category.contains(t)));
        let ids: Vec<ProductId> = all.iter().filter(under).map(|p| p.id).collect();
        let filter = ProductFilter { category: Some(category.id), ..ProductFilter::default() };
        let listed = c.products().list(&filter, ProductSort::CreatedAsc, &Paging::first(1_000)).await?.items;
        assert_eq!(listed.iter().map(|p| p.id).collect::<Vec<_>>(), ids, "{}", category.path);
        let active = |p: &&Product| p.status == ProductStatus::Active;
        let direct = all.iter().filter(|p| p.categories.iter().any(|pc| pc.id == category.id)).filter(active).count();
        let subtree = all.iter().filter(under).filter(active).count();
        assert_eq!(
            (category.product_count, category.subtree_product_count),
            (i64::try_from(direct)?, i64::try_from(subtree)?),
            "{}",
            category.path
        );
    }
    Ok(())
}

#[tokio::test]
async fn r6_listings_and_counts_follow_products_and_the_tree() -> TestResult {
    let (_dir, s) = file().await;
    let a = category("A", None);
    let b = category("B", Some(&a));
    let c = category("C", Some(&b));
    let d = category("D", None);
    write_categories(&s, &[a.clone(), b.clone(), c.clone(), d.clone()]).await?;
    let mut p = product("One", &[&c, &b], 100, 1);
    let q = product("Two", &[&c, &d], 200, 1);
    let mut r = product("Three", &[&a], 300, 1);
    r.status = ProductStatus::Draft;
    write_products(&s, &[p.clone(), q.clone(), r.clone()]).await?;
    check_listings(&s).await?;

    // A product moves, another goes on sale, a price changes.
    let mut tx = s.begin().await?;
    let mut after = p.clone();
    after.categories = vec![CategorySummary::from(&d), CategorySummary::from(&a)];
    after.tags = vec!["old".to_owned()];
    after.skus[0].price = Money::from_minor(5, Currency::USD);
    after.revision += 1;
    after.audit.edited(now(), &Actor::system());
    tx.products().update(&p, &after).await?;
    tx.skus().update(&p.skus[0], &after.skus[0]).await?;
    p = after;
    let mut after = r.clone();
    after.status = ProductStatus::Active;
    after.audit.edited(now(), &Actor::system());
    tx.products().update(&r, &after).await?;
    tx.commit().await?;
    check_listings(&s).await?;
    assert_eq!(s.connect().await?.products().get(p.id, IncludeDeleted::No).await?, Some(p.clone()));

    // B moves under D: its path and that of everything below follow.
    let mut tx = s.begin().await?;
    tx.categories().lock_tree().await?;
    let before = tx.categories().get(b.id, IncludeDeleted::No).await?.ok_or("b")?;
    let subtree = tx.categories().subtree("a/b").await?;
    assert_eq!(subtree.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["a/b", "a/b/c"]);
    let touched = tx.products().ids_in_category(b.id, None, 100).await?;
    assert_eq!(touched, [q.id]);
    let mut moved = before.clone();
    moved.parent_id = Some(d.id);
    moved.path = "d/b".to_owned();
    moved.revision += 1;
    moved.audit.edited(now(), &Actor::system());
    tx.categories().update(&before, &moved).await?;
    tx.categories().rewrite_paths(&[(c.id, "d/b/c".to_owned())]).await?;
    tx.products().refresh_categories(&touched).await?;
    tx.commit().await?;
    check_listings(&s).await?;
    let found = s.connect().await?.products().get(q.id, IncludeDeleted::No).await?.ok_or("q")?;
    assert_eq!(found.revision, q.revision + 1);
    assert_eq!(found.categories[0].path, "d/b/c");

    let mut tx = s.begin().await?;
    tx.products().purge(&found).await?;
    tx.commit().await?;
    check_listings(&s).await?;
    let mut conn = s.connect().await?;
    assert_eq!(conn.products().get(q.id, IncludeDeleted::Yes).await?, None);
    assert!(conn.inventory().imbalances().await?.is_empty());
    assert_eq!(conn.categories().usage(b.id).await?.all_children, 1);
    assert_eq!(conn.categories().usage(c.id).await?, CategoryUsage::default());
    Ok(())
}

#[tokio::test]
async fn taken_slugs_are_the_base_and_its_numbers() -> TestResult {
    let (_dir, s) = file().await;
    let long = Slug::trusted("x".repeat(100));
    let slugs = ["pen", "pen-2", "pen-13", "pen-3g-case", "penny", "pe"].map(|s| Slug::trusted(s.to_owned()));
    let mut all: Vec<Product> = Vec::new();
    for slug in slugs.iter().chain([&long, &long.numbered(2)]) {
        let mut p = product("Pen", &[], 100, 0);
        p.slug = slug.clone();
        all.push(p);
    }
    write_products(&s, &all).await?;
    let mut c = s.connect().await?;
    let taken = c.products().taken_slugs(&[slugs[0].clone(), long.clone()]).await?;
    let second = long.numbered(2);
    let expected = ["pen", "pen-2", "pen-13", long.as_str(), second.as_str()];
    assert_eq!(taken, expected.iter().map(|s| (*s).to_owned()).collect());
    Ok(())
}
