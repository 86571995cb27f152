//! Products are inserted, read, locked and updated with all their fields.

use std::sync::Arc;

use super::support::{catalog, get, list, matching};
use crate::domain::catalog::category::Category;
use crate::domain::catalog::product::{Image, Product, ProductFilter, ProductSort, ProductStatus, RatingSummary};
use crate::domain::common::{Attributes, IncludeDeleted};
use crate::error::ErrorCode;
use crate::id::{IdSource as _, ProductId};
use crate::money::Percentage;
use crate::paging::Paging;
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::code_of;
use crate::testkit::sample::Env;
use crate::testkit::sample::usd;
use crate::text::Slug;

tests! {
    __product_records: [
        every_field_survives_a_round_trip,
        many_are_read_by_id_in_order,
        a_lock_reads_in_id_order_and_deleted_ones_too,
        locked_edits_are_never_lost,
        a_single_read_is_one_statement,
        a_page_costs_the_same_statements_for_5_and_100_rows,
        r16_a_category_that_is_gone_is_a_bad_reference,
        every_field_is_updated,
        tags_images_and_categories_are_replaced_in_order,
        r01_an_update_from_an_old_version_changes_nothing,
        revisions_walks_everything,
        r03_refreshing_categories_moves_revisions_once,
    ]
}

/// A product with all fields and one without optional fields are read back by every kind of read.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.category("A", None), env.full_category("B", None));
    env.insert_categories(storage, &[&a, &b]).await.unwrap();
    let mut full = env.full_product("Full Ünïcödé 🛒", &[&b, &a]);
    full.description = full.description.map(|d| d + &"x".repeat(49_000));
    let minimal = env.priced("Minimal", 0, 0);
    env.insert_products(storage, &[full.clone(), minimal.clone()]).await.unwrap();
    for expected in [&full, &minimal] {
        assert_eq!(
            get(storage, expected.id).await.as_ref(),
            Some(expected),
            "`get` returns every field as it was inserted"
        );
        assert_eq!(
            read!(storage, products.get_by_slug(expected.slug.as_str())).as_ref(),
            Some(expected),
            "`get_by_slug` returns every field as it was inserted"
        );
    }
    let both = [full.clone(), minimal.clone()];
    assert_eq!(
        read!(storage, products.get_many(&[full.id, minimal.id], IncludeDeleted::No)),
        both,
        "`get_many` returns every field as it was inserted"
    );
    let page = list(storage, &ProductFilter::default(), ProductSort::CreatedAsc, &Paging::first(9)).await;
    assert_eq!(page.items, both, "a list must return every field as it was inserted");
    assert_eq!(get(storage, ProductId(env.ids.next())).await, None, "`get` of an unknown id finds nothing");
    assert_eq!(read!(storage, products.get_by_slug("nowhere")), None, "`get_by_slug` of an unknown slug finds nothing");
}

/// The result has the existing products, each once, ordered by id.
pub async fn many_are_read_by_id_in_order(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Product> = (0..137).map(|n| env.priced(&format!("P {n}"), n, n)).collect();
    env.insert_products(storage, &all).await.unwrap();
    let mut ids: Vec<ProductId> = all.iter().rev().map(|p| p.id).collect();
    ids.push(all[3].id);
    ids.push(ProductId(env.ids.next()));
    assert_eq!(
        read!(storage, products.get_many(&ids, IncludeDeleted::No)),
        all,
        "`get_many` must return each existing product once, ordered by id"
    );
    assert_eq!(read!(storage, products.get_many(&[], IncludeDeleted::Yes)), [], "`get_many` of no ids finds nothing");
}

/// A write locks the products that it changes.
pub async fn a_lock_reads_in_id_order_and_deleted_ones_too(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut all: Vec<Product> = (0..5).map(|n| env.full_product(&format!("P {n}"), &[])).collect();
    env.insert_products(storage, &all).await.unwrap();
    all[2] = env.soft_delete(storage, &all[2]).await.unwrap();
    let mut ids: Vec<ProductId> = all.iter().rev().map(|p| p.id).collect();
    ids.push(ids[1]);
    ids.push(ProductId(env.ids.next()));
    let mut uow = storage.begin().await.unwrap();
    assert_eq!(
        uow.products().lock(&ids).await.unwrap(),
        all,
        "`lock` returns the rows by id, once each, soft-deleted ones too"
    );
    assert_eq!(uow.products().lock(&[]).await.unwrap(), [], "`lock` of no ids returns nothing");
    uow.rollback().await.unwrap();
}

/// Editors read under the lock and write, and no edit is lost.
pub async fn locked_edits_are_never_lost(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = env.priced("P", 100, 1);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let (storage, id) = (storage.clone(), p.id);
            tokio::spawn(async move {
                let env = Env::new(n);
                let mut uow = storage.begin().await.unwrap();
                let before = uow.products().lock(&[id]).await.unwrap().pop().unwrap();
                let mut after = env.edited(&before);
                after.tags.push(format!("editor {n}"));
                uow.products().update(&before, &after).await.unwrap();
                uow.commit().await.unwrap();
            })
        })
        .collect();
    for t in tasks {
        t.await.unwrap();
    }
    let found = get(storage, p.id).await.unwrap();
    assert_eq!(
        (found.tags.len(), found.audit.version, found.revision),
        (16, 17, 17),
        "16 writers each lock, read and update the product, and no update may be lost"
    );
}

/// The read includes SKUs and categories.
pub async fn a_single_read_is_one_statement(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let p = env.full_product("P", &[&a]);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    let mut connection = storage.connect().await.unwrap();
    let before = storage.statements();
    assert!(
        connection.products().get(p.id, IncludeDeleted::No).await.unwrap().is_some(),
        "`get` finds a product that was inserted"
    );
    assert_eq!(storage.statements() - before, 1, "`get` must take one statement");
    let before = storage.statements();
    assert!(
        connection.products().get_by_slug("p").await.unwrap().is_some(),
        "`get_by_slug` finds a product that was inserted"
    );
    assert_eq!(storage.statements() - before, 1, "`get_by_slug` must take one statement");
}

/// The number of statements does not depend on the number of rows.
pub async fn a_page_costs_the_same_statements_for_5_and_100_rows(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let ids: Vec<ProductId> = catalog.products.iter().map(|p| p.id).collect();
    let mut connection = storage.connect().await.unwrap();
    let filter = ProductFilter { include_deleted: IncludeDeleted::Yes, ..ProductFilter::default() };
    let narrow =
        ProductFilter { category: Some(catalog.categories[0].id), min_price: Some(usd(1)), ..ProductFilter::default() };
    let mut cost = Vec::new();
    for rows in [5_u32, 100] {
        let start = storage.statements();
        let page = connection.products().list(&filter, ProductSort::PriceAsc, &Paging::first(rows)).await.unwrap();
        assert_eq!(page.items.len(), rows as usize, "a page must have `limit` rows if so many match");
        let listed = storage.statements();
        connection.products().list(&narrow, ProductSort::TitleAsc, &Paging::first(rows)).await.unwrap();
        let narrowed = storage.statements();
        let many = connection.products().get_many(&ids[..rows as usize], IncludeDeleted::Yes).await.unwrap();
        assert_eq!(many.len(), rows as usize, "`get_many` must return every existing product");
        let end = storage.statements();
        assert_eq!((listed - start, narrowed - listed), (1, 1), "a page must take one statement");
        cost.push(end - narrowed);
    }
    assert_eq!(cost[0], cost[1], "`get_many` of 100 products must take as many statements as `get_many` of 5");
}

/// Inserts and updates fail and write nothing.
pub async fn r16_a_category_that_is_gone_is_a_bad_reference(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let nowhere = env.category("Nowhere", None);
    let p = Product { categories: vec![(&nowhere).into()], ..env.priced("P", 100, 1) };
    let answer = env.insert_products(storage, std::slice::from_ref(&p)).await;
    assert_eq!(
        code_of(answer, "a category that does not exist"),
        ErrorCode::Validation,
        "an insert with an unknown category is refused as `VALIDATION_FAILED`"
    );
    assert_eq!(
        read!(storage, products.get(p.id, IncludeDeleted::Yes)),
        None,
        "an insert that is refused must store nothing"
    );

    let p = env.priced("Q", 100, 1);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    let after = Product { categories: vec![(&nowhere).into()], ..env.edited(&p) };
    let answer = env.update_product(storage, &p, &after).await;
    assert_eq!(
        code_of(answer, "a category that does not exist"),
        ErrorCode::Validation,
        "an update to an unknown category is refused as `VALIDATION_FAILED`"
    );
    assert_eq!(get(storage, p.id).await, Some(p), "an update that is refused must change nothing");
}

/// An update sets and clears every field.
pub async fn every_field_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let (p, other) = (env.priced("P", 100, 1), env.full_product("Other", &[&a]));
    env.insert_products(storage, &[p.clone(), other.clone()]).await.unwrap();
    let full = env.full_product("Renamed", &[&a]);
    let edited = env.edited(&p);
    let after = Product { id: p.id, skus: p.skus.clone(), audit: edited.audit, revision: 12, ..full };
    env.update_product(storage, &p, &after).await.unwrap();
    assert_eq!(get(storage, p.id).await.as_ref(), Some(&after), "an update writes every field");
    assert_eq!(
        read!(storage, products.get_by_slug("p")),
        None,
        "the old slug must not find the product after its change"
    );

    let emptied = Product {
        description: None,
        brand: None,
        status: ProductStatus::Draft,
        categories: Vec::new(),
        tags: Vec::new(),
        images: Vec::new(),
        attributes: Attributes::default(),
        discount: Percentage::default(),
        warranty_information: None,
        shipping_information: None,
        rating: RatingSummary::default(),
        external: None,
        ..env.edited(&after)
    };
    env.update_product(storage, &after, &emptied).await.unwrap();
    assert_eq!(get(storage, p.id).await.as_ref(), Some(&emptied), "an update empties every field that can be empty");
    assert_eq!(get(storage, other.id).await.as_ref(), Some(&other), "an update must not change other rows");
}

/// Entries are added, removed and reordered, and lists follow.
pub async fn tags_images_and_categories_are_replaced_in_order(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let cats: Vec<Category> = (0..4).map(|n| env.category(&format!("C {n}"), None)).collect();
    env.insert_categories(storage, &cats.iter().collect::<Vec<_>>()).await.unwrap();
    let mut before = env.full_product("P", &[&cats[2], &cats[0]]);
    env.insert_products(storage, std::slice::from_ref(&before)).await.unwrap();
    let image = |n: usize| {
        let size = u32::try_from(n).ok().filter(|n| n % 2 == 1);
        Image { url: format!("/i/{n}.png"), alt: None, primary: n == 3, width: size, height: size }
    };
    for (tags, images, categories) in [
        (vec!["b", "a"], vec![3, 1], vec![0, 2]),
        (vec!["a", "b"], vec![1, 3], vec![0, 2, 3]),
        (vec!["c", "b"], vec![3], vec![3, 1]),
        (vec![], vec![], vec![]),
        (vec!["z"], vec![2, 3], vec![1]),
    ] {
        let after = Product {
            tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            images: images.iter().map(|n| image(*n)).collect(),
            categories: categories.iter().map(|n: &usize| (&cats[*n]).into()).collect(),
            ..env.edited(&before)
        };
        env.update_product(storage, &before, &after).await.unwrap();
        assert_eq!(
            get(storage, before.id).await.as_ref(),
            Some(&after),
            "an update writes tags, images and categories in their order"
        );
        for tag in ["a", "b", "c", "z", "zebra"] {
            let filter = ProductFilter { tag: Some(tag.into()), ..ProductFilter::default() };
            assert_eq!(
                matching(storage, &filter).await.len(),
                usize::from(tags.contains(&tag)),
                "a filter by the tag {tag} must find the product if and only if it has the tag"
            );
        }
        for (n, c) in cats.iter().enumerate() {
            let filter = ProductFilter { category: Some(c.id), ..ProductFilter::default() };
            assert_eq!(
                matching(storage, &filter).await.len(),
                usize::from(categories.contains(&n)),
                "a filter by category {n} must find the product if and only if it is in the category"
            );
        }
        before = after;
    }
}

/// An update from an old version changes neither the row nor anything else of the transaction.
pub async fn r01_an_update_from_an_old_version_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (p, q) = (env.full_product("P", &[]), env.full_product("Q", &[]));
    env.insert_products(storage, &[p.clone(), q.clone()]).await.unwrap();
    let winner = Product { title: "first".into(), ..env.edited(&q) };
    env.update_product(storage, &q, &winner).await.unwrap();

    let mut uow = storage.begin().await.unwrap();
    uow.products().lock(&[p.id, q.id]).await.unwrap();
    uow.products().update(&p, &Product { tags: vec!["x".into()], ..env.edited(&p) }).await.unwrap();
    let loser = Product { title: "second".into(), tags: vec!["lost".into()], ..env.edited(&q) };
    let answer = uow.products().update(&q, &loser).await;
    assert_eq!(
        code_of(answer, "an update from an outdated version"),
        ErrorCode::VersionConflict,
        "an update from an outdated version must fail with `VERSION_CONFLICT`"
    );
    drop(uow);
    assert_eq!(get(storage, p.id).await, Some(p), "a unit of work that is dropped must change nothing");
    assert_eq!(
        get(storage, q.id).await,
        Some(winner),
        "an update from an outdated version must not overwrite the newer one"
    );
    let lost = ProductFilter { tag: Some("lost".into()), ..ProductFilter::default() };
    assert_eq!(matching(storage, &lost).await, [], "an update that is refused must not appear in any list");
}

/// The pages contain soft-deleted products too, and are ordered by id.
pub async fn revisions_walks_everything(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let (mut found, mut after) = (Vec::new(), None);
    let mut pages = Pages::over(catalog.products.len());
    loop {
        pages.turn();
        let page = read!(storage, products.revisions(after, 20));
        assert!(page.len() <= 20, "a page of `revisions` has at most `limit` rows");
        let Some(last) = page.last() else { break };
        after = Some(last.0);
        found.extend(page);
    }
    assert_eq!(
        found,
        catalog.products.iter().map(|p| (p.id, p.revision)).collect::<Vec<_>>(),
        "the pages of `revisions` list every product once, by id, soft-deleted ones too"
    );
}

/// A call increases each revision once, and no version.
pub async fn r03_refreshing_categories_moves_revisions_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let within = Product { categories: vec![(&a).into()], ..env.priced("in", 100, 1) };
    let without = env.priced("out", 100, 1);
    env.insert_products(storage, &[within.clone(), without.clone()]).await.unwrap();
    let slug = Slug::trusted("renamed".into());
    let renamed = Category { name: "Renamed".into(), path: slug.to_string(), slug, ..env.edited_category(&a) };
    let mut uow = storage.begin().await.unwrap();
    uow.categories().lock_tree().await.unwrap();
    uow.categories().update(&a, &renamed).await.unwrap();
    uow.products().refresh_categories(&[within.id]).await.unwrap();
    uow.products().refresh_categories(&[]).await.unwrap();
    uow.commit().await.unwrap();
    let expected = Product { categories: vec![(&renamed).into()], revision: within.revision + 1, ..within };
    assert_eq!(
        get(storage, expected.id).await,
        Some(expected),
        "`refresh_categories` must increase the revision once, keep the version, and show the new name"
    );
    assert_eq!(
        get(storage, without.id).await,
        Some(without),
        "`refresh_categories` leaves products that it does not name as they are"
    );
}
