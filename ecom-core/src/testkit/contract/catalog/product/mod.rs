//! What every [`ProductRepository`](crate::port::ProductRepository) must do.

use std::collections::HashSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::domain::{
    Attributes, AvailabilityStatus, Category, CategorySummary, Deleted, ExternalRef, Image, Product, ProductFilter,
    ProductSort, ProductStatus, RatingSource, RatingSummary, Sku,
};
use crate::error::ErrorCode;
use crate::id::{IdSource as _, ProductId};
use crate::money::{Percentage, Rating};
use crate::paging::{Keyset, Page, Paging, Total};
use crate::port::Storage;
use crate::testkit::sample::{Env, usd};
use crate::testkit::{code_of, duplicate_field, fresh_seed};
use crate::text::{Slug, fold_key};

/// Runs the suite of [`ProductRepository`](crate::port::ProductRepository). Takes the path of an
/// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
#[macro_export]
macro_rules! product_suite {
    ($make:path) => {
        $crate::__suite! {
            product, fixture => &fixture.storage, $make, [
                every_field_survives_a_round_trip,
                many_are_read_by_id_in_order,
                a_lock_reads_in_id_order_and_deleted_ones_too,
                locked_edits_are_never_lost,
                a_single_read_is_one_statement,
                a_page_costs_the_same_statements_for_5_and_100_rows,
                r02_soft_deleted_products_are_hidden_unless_asked_for,
                r02_a_deleted_product_comes_back,
                r02_slug_is_free_again_after_soft_delete,
                r02_a_restore_into_a_taken_slug_is_refused,
                slugs_are_unique,
                external_references_are_unique_and_found,
                taken_slugs_are_the_bases_and_their_numbers_and_nothing_else,
                taken_slugs_know_what_was_cut_to_make_room_for_its_number,
                r16_a_category_that_is_gone_is_a_bad_reference,
                every_field_is_updated,
                tags_images_and_categories_are_replaced_in_order,
                r01_an_update_from_an_old_version_changes_nothing,
                r06_category_filter_takes_the_subtree,
                price_filters_use_the_lowest_final_price,
                list_prices_follow_discounts_and_skus,
                availability_filters_use_the_best_sku,
                brands_and_tags_are_compared_by_their_folded_key,
                each_filter_agrees_with_the_model,
                combined_filters_agree_with_the_model,
                every_sort_pages_through_everything_exactly_once,
                filtered_lists_page_exactly_once,
                rows_that_come_and_go_move_no_cursor,
                a_product_without_skus_has_no_price_and_is_listed,
                counts_stop_at_their_bound,
                filters_say_what_a_list_could_be_narrowed_by,
                ids_in_category_walks_the_subtree,
                revisions_walks_everything,
                r03_refreshing_categories_moves_revisions_once,
                r05_purge_removes_product_skus_and_ledger,
            ]
        }
    };
}

async fn get(storage: &Arc<dyn Storage>, id: ProductId) -> Option<Product> {
    read!(storage, products.get(id, Deleted::Hide))
}

async fn list(storage: &Arc<dyn Storage>, filter: &ProductFilter, sort: ProductSort, paging: &Paging) -> Page<Product> {
    read!(storage, products.list(filter, sort, paging))
}

/// Ids of all that match, by id.
async fn matching(storage: &Arc<dyn Storage>, filter: &ProductFilter) -> Vec<ProductId> {
    let page = list(storage, filter, ProductSort::CreatedAsc, &Paging::first(1_000)).await;
    assert_eq!(page.next, None);
    let mut ids: Vec<ProductId> = page.items.iter().map(|p| p.id).collect();
    let total = read!(storage, products.count(filter, 1_000));
    assert_eq!(total, Total { count: ids.len() as u64, exact: true }, "count and list agree: {filter:?}");
    ids.sort();
    ids
}

/// Full and minimal, by every way to read.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.category("A", None), env.full_category("B", None));
    env.insert_categories(storage, &[&a, &b]).await.unwrap();
    let mut full = env.full_product("Full Ünïcödé 🛒", &[&b, &a]);
    full.description = full.description.map(|d| d + &"x".repeat(49_000));
    let minimal = env.priced("Minimal", 0, 0);
    env.insert_products(storage, &[full.clone(), minimal.clone()]).await.unwrap();
    for expected in [&full, &minimal] {
        assert_eq!(get(storage, expected.id).await.as_ref(), Some(expected));
        assert_eq!(read!(storage, products.get_by_slug(expected.slug.as_str())).as_ref(), Some(expected));
    }
    let both = [full.clone(), minimal.clone()];
    assert_eq!(read!(storage, products.get_many(&[full.id, minimal.id], Deleted::Hide)), both);
    let page = list(storage, &ProductFilter::default(), ProductSort::CreatedAsc, &Paging::first(9)).await;
    assert_eq!(page.items, both, "a list shows whole products");
    assert_eq!(get(storage, ProductId(env.ids.next())).await, None);
    assert_eq!(read!(storage, products.get_by_slug("nowhere")), None);
}

/// Those that exist, once each, by id.
pub async fn many_are_read_by_id_in_order(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Product> = (0..137).map(|n| env.priced(&format!("P {n}"), n, n)).collect();
    env.insert_products(storage, &all).await.unwrap();
    let mut ids: Vec<ProductId> = all.iter().rev().map(|p| p.id).collect();
    ids.push(all[3].id);
    ids.push(ProductId(env.ids.next()));
    assert_eq!(read!(storage, products.get_many(&ids, Deleted::Hide)), all);
    assert_eq!(read!(storage, products.get_many(&[], Deleted::Include)), []);
}

/// What a write starts from.
pub async fn a_lock_reads_in_id_order_and_deleted_ones_too(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut all: Vec<Product> = (0..5).map(|n| env.full_product(&format!("P {n}"), &[])).collect();
    env.insert_products(storage, &all).await.unwrap();
    all[2] = env.soft_delete(storage, &all[2]).await.unwrap();
    let mut ids: Vec<ProductId> = all.iter().rev().map(|p| p.id).collect();
    ids.push(ids[1]);
    ids.push(ProductId(env.ids.next()));
    let mut uow = storage.begin().await.unwrap();
    assert_eq!(uow.products().lock(&ids).await.unwrap(), all);
    assert_eq!(uow.products().lock(&[]).await.unwrap(), []);
    uow.rollback().await.unwrap();
}

/// Read under the lock, write, and no editor's work is lost.
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
    assert_eq!((found.tags.len(), found.audit.version, found.revision), (16, 17, 17));
}

/// With SKUs and categories.
pub async fn a_single_read_is_one_statement(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let p = env.full_product("P", &[&a]);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    let mut connection = storage.connect().await.unwrap();
    let before = storage.statements();
    assert!(connection.products().get(p.id, Deleted::Hide).await.unwrap().is_some());
    assert_eq!(storage.statements() - before, 1, "by id");
    let before = storage.statements();
    assert!(connection.products().get_by_slug("p").await.unwrap().is_some());
    assert_eq!(storage.statements() - before, 1, "by slug");
}

/// A fixed number, whatever the page shows.
pub async fn a_page_costs_the_same_statements_for_5_and_100_rows(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let ids: Vec<ProductId> = catalog.products.iter().map(|p| p.id).collect();
    let mut connection = storage.connect().await.unwrap();
    let filter = ProductFilter { deleted: Deleted::Include, ..ProductFilter::default() };
    let narrow =
        ProductFilter { category: Some(catalog.categories[0].id), min_price: Some(1), ..ProductFilter::default() };
    let mut cost = Vec::new();
    for rows in [5_u32, 100] {
        let start = storage.statements();
        let page = connection.products().list(&filter, ProductSort::PriceAsc, &Paging::first(rows)).await.unwrap();
        assert_eq!(page.items.len(), rows as usize);
        let listed = storage.statements();
        connection.products().list(&narrow, ProductSort::TitleAsc, &Paging::first(rows)).await.unwrap();
        let narrowed = storage.statements();
        let many = connection.products().get_many(&ids[..rows as usize], Deleted::Include).await.unwrap();
        assert_eq!(many.len(), rows as usize);
        let end = storage.statements();
        assert_eq!((listed - start, narrowed - listed), (1, 1), "a page is one statement");
        cost.push(end - narrowed);
    }
    assert_eq!(cost[0], cost[1], "100 products by id cost what 5 cost");
}

/// Every read hides them, those that can show them do so.
pub async fn r02_soft_deleted_products_are_hidden_unless_asked_for(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let live = env.full_product("Live", &[&a]);
    let gone = env.full_product("Gone", &[&a]);
    env.insert_products(storage, &[live.clone(), gone.clone()]).await.unwrap();
    let gone = env.soft_delete(storage, &gone).await.unwrap();
    let ids = [live.id, gone.id];
    assert_eq!(get(storage, gone.id).await, None);
    assert_eq!(read!(storage, products.get(gone.id, Deleted::Include)).as_ref(), Some(&gone));
    assert_eq!(read!(storage, products.get_by_slug("gone")), None);
    assert_eq!(read!(storage, products.get_many(&ids, Deleted::Hide)), [live.clone()]);
    assert_eq!(read!(storage, products.get_many(&ids, Deleted::Include)), [live.clone(), gone.clone()]);
    for category in [None, Some(a.id)] {
        let hide = ProductFilter { category, ..ProductFilter::default() };
        let include = ProductFilter { deleted: Deleted::Include, ..hide.clone() };
        assert_eq!(matching(storage, &hide).await, [live.id]);
        assert_eq!(matching(storage, &include).await, ids);
    }
    assert_eq!(read!(storage, products.ids_in_category(a.id, None, 9)), ids, "what a move must refresh");
    assert_eq!(read!(storage, products.revisions(None, 9)).len(), 2);
}

/// Restoring is an update without `deleted_at`.
pub async fn r02_a_deleted_product_comes_back(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = env.full_product("P", &[]);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    let gone = env.soft_delete(storage, &p).await.unwrap();
    let mut back = env.edited(&gone);
    back.audit.deleted_at = None;
    env.update_product(storage, &gone, &back).await.unwrap();
    assert_eq!(get(storage, p.id).await.as_ref(), Some(&back));
    assert_eq!(matching(storage, &ProductFilter::default()).await, [p.id]);
}

/// A product with another code than its title's.
fn coded(env: &Env, title: &str, code: &str) -> Product {
    let mut p = env.product(title);
    env.add_sku(&mut p, code, 100, 1);
    p
}

/// The slug of a deleted row is no longer taken.
pub async fn r02_slug_is_free_again_after_soft_delete(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = coded(&env, "Chair", "one");
    env.insert_products(storage, std::slice::from_ref(&old)).await.unwrap();
    env.soft_delete(storage, &old).await.unwrap();
    let new = coded(&env, "Chair", "two");
    env.insert_products(storage, std::slice::from_ref(&new)).await.expect("the slug is free again");
    assert_eq!(read!(storage, products.get_by_slug("chair")), Some(new));
}

/// What was taken in the meantime is not taken back.
pub async fn r02_a_restore_into_a_taken_slug_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = coded(&env, "Chair", "one");
    env.insert_products(storage, std::slice::from_ref(&old)).await.unwrap();
    let gone = env.soft_delete(storage, &old).await.unwrap();
    env.insert_products(storage, &[coded(&env, "Chair", "two")]).await.unwrap();
    let mut back = env.edited(&gone);
    back.audit.deleted_at = None;
    assert_eq!(duplicate_field(env.update_product(storage, &gone, &back).await, "restore"), "slug");
    assert_eq!(read!(storage, products.get(old.id, Deleted::Include)), Some(gone));
}

/// On insert, within one insert, on update; titles may be alike.
pub async fn slugs_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = coded(&env, "Chair", "one");
    env.insert_products(storage, std::slice::from_ref(&first)).await.unwrap();
    let twin = coded(&env, "Chair", "two");
    assert_eq!(duplicate_field(env.insert_products(storage, &[twin]).await, "insert"), "slug");
    let pair = [coded(&env, "Table", "three"), coded(&env, "Table", "four")];
    assert_eq!(duplicate_field(env.insert_products(storage, &pair).await, "within a call"), "slug");
    let numbered = Product { slug: Slug::trusted("chair-2".into()), ..coded(&env, "Chair", "five") };
    env.insert_products(storage, std::slice::from_ref(&numbered)).await.expect("titles may be alike");
    let clash = Product { slug: first.slug.clone(), ..env.edited(&numbered) };
    assert_eq!(duplicate_field(env.update_product(storage, &numbered, &clash).await, "update"), "slug");
    assert_eq!(matching(storage, &ProductFilter::default()).await, [first.id, numbered.id]);
}

/// One live product per source and external id; found bytewise, soft-deleted ones too.
pub async fn external_references_are_unique_and_found(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let with = |title: &str, source: &str, id: &str| Product {
        external: Some(ExternalRef::new(source, id)),
        ..env.priced(title, 100, 0)
    };
    let (a, b, c) = (with("A", "erp", "1"), with("B", "erp", "x"), with("C", "shop", "1"));
    env.insert_products(storage, &[a.clone(), b.clone(), c.clone()]).await.unwrap();
    let twin = with("D", "erp", "1");
    assert_eq!(duplicate_field(env.insert_products(storage, &[twin]).await, "external"), "external_id");
    env.soft_delete(storage, &b).await.unwrap();
    let ids: Vec<String> = ["x", "1", "X", "3"].map(str::to_owned).into();
    let mut found = read!(storage, products.find_by_external("erp", &ids));
    found.sort();
    assert_eq!(found, [("1".to_owned(), a.id), ("x".to_owned(), b.id)]);
    assert_eq!(read!(storage, products.find_by_external("erp", &[])), []);
}

/// `a`, `a-2`, `a-10`; not `ab`, `a-2b`, `a-b`.
pub async fn taken_slugs_are_the_bases_and_their_numbers_and_nothing_else(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Product> =
        ["a", "a-2", "a-10", "ab", "a-2b", "a-b", "c-3", "d", "e"].iter().map(|s| env.priced(s, 100, 0)).collect();
    env.insert_products(storage, &all).await.unwrap();
    env.soft_delete(storage, &all[8]).await.unwrap();
    let bases = ["a", "c", "e", "nowhere"].map(|s| Slug::trusted(s.to_owned()));
    let mut taken: Vec<String> = read!(storage, products.taken_slugs(&bases)).into_iter().collect();
    taken.sort();
    assert_eq!(taken, ["a", "a-10", "a-2", "c-3"], "`e` is deleted, `d` was not asked for");
    assert!(read!(storage, products.taken_slugs(&[])).is_empty());
}

/// [`Slug::numbered`] cuts a slug of full length.
pub async fn taken_slugs_know_what_was_cut_to_make_room_for_its_number(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let base = Slug::trusted("x".repeat(Slug::MAX));
    let all =
        [("one", base.clone()), ("two", base.numbered(2))].map(|(n, slug)| Product { slug, ..env.priced(n, 1, 1) });
    env.insert_products(storage, &all).await.unwrap();
    let taken = read!(storage, products.taken_slugs(std::slice::from_ref(&base)));
    assert_eq!(base.first_free(&taken), base.numbered(3), "taken: {taken:?}");
}

/// Insert and update; nothing is kept.
pub async fn r16_a_category_that_is_gone_is_a_bad_reference(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let nowhere = env.category("Nowhere", None);
    let p = Product { categories: vec![(&nowhere).into()], ..env.priced("P", 100, 1) };
    let answer = env.insert_products(storage, std::slice::from_ref(&p)).await;
    assert_eq!(code_of(answer, "a category that is not there"), ErrorCode::Validation);
    assert_eq!(read!(storage, products.get(p.id, Deleted::Include)), None);

    let p = env.priced("Q", 100, 1);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    let after = Product { categories: vec![(&nowhere).into()], ..env.edited(&p) };
    let answer = env.update_product(storage, &p, &after).await;
    assert_eq!(code_of(answer, "a category that is not there"), ErrorCode::Validation);
    assert_eq!(get(storage, p.id).await, Some(p));
}

/// To something and to nothing.
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
    assert_eq!(get(storage, p.id).await.as_ref(), Some(&after));
    assert_eq!(read!(storage, products.get_by_slug("p")), None);

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
    assert_eq!(get(storage, p.id).await.as_ref(), Some(&emptied));
    assert_eq!(get(storage, other.id).await.as_ref(), Some(&other), "other rows stay as they are");
}

/// Add, remove, reorder; lists follow.
pub async fn tags_images_and_categories_are_replaced_in_order(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let cats: Vec<Category> = (0..4).map(|n| env.category(&format!("C {n}"), None)).collect();
    env.insert_categories(storage, &cats.iter().collect::<Vec<_>>()).await.unwrap();
    let mut before = env.full_product("P", &[&cats[2], &cats[0]]);
    env.insert_products(storage, std::slice::from_ref(&before)).await.unwrap();
    let image = |n: usize| Image { url: format!("/i/{n}.png"), alt: None, primary: n == 3 };
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
        assert_eq!(get(storage, before.id).await.as_ref(), Some(&after));
        for tag in ["a", "b", "c", "z", "zebra"] {
            let filter = ProductFilter { tag: Some(tag.into()), ..ProductFilter::default() };
            assert_eq!(matching(storage, &filter).await.len(), usize::from(tags.contains(&tag)), "tag {tag}");
        }
        for (n, c) in cats.iter().enumerate() {
            let filter = ProductFilter { category: Some(c.id), ..ProductFilter::default() };
            assert_eq!(matching(storage, &filter).await.len(), usize::from(categories.contains(&n)), "category {n}");
        }
        before = after;
    }
}

/// Not this row, and nothing else of the transaction.
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
    assert_eq!(code_of(answer, "an update from an old version"), ErrorCode::VersionConflict);
    drop(uow);
    assert_eq!(get(storage, p.id).await, Some(p));
    assert_eq!(get(storage, q.id).await, Some(winner));
    let lost = ProductFilter { tag: Some("lost".into()), ..ProductFilter::default() };
    assert_eq!(matching(storage, &lost).await, []);
}

/// Itself and below; not its neighbours, not what is above; each product once.
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
        assert_eq!(matching(storage, &filter).await, expected, "{}", category.path);
    }
    let unknown = ProductFilter { category: Some(env.category("unknown", None).id), ..ProductFilter::default() };
    assert_eq!(matching(storage, &unknown).await, []);
}

fn percent(n: i64) -> Percentage {
    Percentage::from_hundredths(n * 100).unwrap()
}

/// After the discount, rounded; bounds belong to the range.
pub async fn price_filters_use_the_lowest_final_price(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    // 9.99 less 10.48 % is 8.943048: 8.94.
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
        let filter = ProductFilter { min_price: min, max_price: max, ..ProductFilter::default() };
        assert_eq!(matching(storage, &filter).await, expected, "{min:?}..={max:?}");
    }
}

/// What lists derive from a product is written with it.
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
            let exactly =
                ProductFilter { category, min_price: Some(price), max_price: Some(price), ..ProductFilter::default() };
            assert_eq!(matching(storage, &exactly).await, [p.id], "{step}");
            let filter = ProductFilter { category, ..ProductFilter::default() };
            let first = list(storage, &filter, ProductSort::PriceAsc, &Paging::first(1)).await.items;
            assert_eq!(first[0].id, if price < 1_500 { p.id } else { q.id }, "{step}");
        }
    };
    check("an insert", 1_000).await;
    let discounted = Product { discount: percent(25), ..env.edited(&p) };
    env.update_product(storage, &p, &discounted).await.unwrap();
    check("a discount", 750).await;

    // A SKU's price is written with its product, in one transaction.
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
    check("a new price: now the other SKU is the cheapest", 1_800).await;
    assert_eq!(get(storage, p.id).await, Some(repriced));
}

/// Best over the live SKUs.
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
        assert_eq!(matching(storage, &filter).await, [id], "{}", status.as_str());
    }
}

/// Case and width do not count, accents do; a brand is not a part of one.
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
        assert_eq!(matching(storage, &brand).await, expected, "brand {text}");
        let tag = ProductFilter { tag: Some(text.into()), ..ProductFilter::default() };
        assert_eq!(matching(storage, &tag).await, expected, "tag {text}");
    }
}

/// A catalog with many ties and every combination that filters tell apart.
struct Catalog {
    categories: Vec<Category>,
    /// By id; every 11th is soft-deleted.
    products: Vec<Product>,
}

const CATALOG_SIZE: usize = 137;

/// Stores a catalog of 137 products, in no particular order.
async fn catalog(storage: &Arc<dyn Storage>) -> Catalog {
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
        // Five of the same moment, so that the id decides.
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
    /// Ids of the products that match, by the words of the contract.
    fn matching(&self, f: &ProductFilter) -> Vec<ProductId> {
        self.products.iter().filter(|p| self.matches(p, f)).map(|p| p.id).collect()
    }

    fn matches(&self, p: &Product, f: &ProductFilter) -> bool {
        let path = f.category.map(|id| self.categories.iter().find(|c| c.id == id).unwrap().path.clone());
        let price = p.price_range().unwrap().0.minor();
        let same = |a: &str, b: &str| fold_key(a) == fold_key(b);
        path.is_none_or(|path| p.categories.iter().any(|c| c.path == path || c.path.starts_with(&format!("{path}/"))))
            && f.min_price.is_none_or(|min| price >= min)
            && f.max_price.is_none_or(|max| price <= max)
            && f.brand.as_ref().is_none_or(|b| p.brand.as_ref().is_some_and(|have| same(have, b)))
            && f.tag.as_ref().is_none_or(|t| p.tags.iter().any(|have| same(have, t)))
            && f.availability.is_none_or(|a| p.availability() == a)
            && f.status.is_none_or(|s| p.status == s)
            && (f.deleted == Deleted::Include || p.audit.is_live())
            && f.updated_since.is_none_or(|t| p.audit.updated_at >= t)
    }

    /// All values of each filter, `None` first.
    fn choices(&self) -> [Vec<ProductFilter>; 8] {
        let none = ProductFilter::default;
        let or_none = |mut v: Vec<ProductFilter>| {
            v.insert(0, ProductFilter::default());
            v
        };
        [
            or_none(self.categories.iter().map(|c| ProductFilter { category: Some(c.id), ..none() }).collect()),
            or_none(
                [(Some(1_000), None), (None, Some(2_000)), (Some(500), Some(3_000)), (Some(i64::MAX), None)]
                    .map(|(min_price, max_price)| ProductFilter { min_price, max_price, ..none() })
                    .into(),
            ),
            or_none(["acme", "ÆRØ", "nobody"].map(|b| ProductFilter { brand: Some(b.into()), ..none() }).into()),
            or_none(["SALE", "été", "ete"].map(|t| ProductFilter { tag: Some(t.into()), ..none() }).into()),
            or_none(AvailabilityStatus::ALL.map(|a| ProductFilter { availability: Some(a), ..none() }).into()),
            or_none(ProductStatus::ALL.map(|s| ProductFilter { status: Some(s), ..none() }).into()),
            or_none(vec![ProductFilter { deleted: Deleted::Include, ..none() }]),
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

/// One filter at a time, every value.
pub async fn each_filter_agrees_with_the_model(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let mut told_apart = HashSet::new();
    for filter in catalog.choices().iter().flatten() {
        let expected = catalog.matching(filter);
        assert_eq!(matching(storage, filter).await, expected, "{filter:?}");
        told_apart.insert(expected);
    }
    assert!(told_apart.len() > 15, "the catalog tells the filters apart");
}

/// Random combinations: everything given must hold.
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
        let mut filter = ProductFilter { category: category.category, deleted: deleted.deleted, ..Default::default() };
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

/// The value that a list sorts by, as something that compares.
fn sort_value(p: &Product, sort: ProductSort) -> (i64, String) {
    match sort {
        ProductSort::CreatedDesc | ProductSort::CreatedAsc => (p.audit.created_at.timestamp_micros(), String::new()),
        ProductSort::PriceAsc | ProductSort::PriceDesc => (p.price_range().unwrap().0.minor(), String::new()),
        ProductSort::TitleAsc | ProductSort::TitleDesc => (0, fold_key(&p.title)),
        ProductSort::RatingDesc => (i64::from(p.rating.mean.hundredths()), String::new()),
    }
}

/// All pages by cursor.
async fn walk(storage: &Arc<dyn Storage>, filter: &ProductFilter, sort: ProductSort, limit: u32) -> Vec<Product> {
    let (mut found, mut after) = (Vec::new(), None::<Keyset>);
    loop {
        let page = list(storage, filter, sort, &Paging::Keyset { after, limit }).await;
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items);
        let Some(next) = page.next else { return found };
        assert_eq!(Keyset::decode(&next.encode(), &next.sort).unwrap(), next, "a cursor crosses the wire");
        after = Some(next);
    }
}

/// Walks a list both ways and checks it against what must be in it; returns the order.
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
    assert_eq!(sorted, expected, "{at}: everything exactly once");
    let mut ties = HashSet::new();
    for pair in reference.windows(2) {
        let (a, b) = (sort_value(&pair[0], sort), sort_value(&pair[1], sort));
        if a == b {
            ties.insert(pair[0].id < pair[1].id);
        } else {
            assert_eq!(a > b, sort.is_descending(), "{at}: {a:?} comes before {b:?}");
        }
    }
    assert!(ties.len() < 2, "{at}: ids decide ties in one direction");
    for limit in [1, 10, 34] {
        if limit == 1 && expected.len() > 40 {
            continue;
        }
        let by_cursor: Vec<ProductId> = walk(storage, filter, sort, limit).await.iter().map(|p| p.id).collect();
        assert_eq!(by_cursor, order, "{at}: by cursor, pages of {limit}");
        let mut by_offset: Vec<ProductId> = Vec::new();
        loop {
            let offset = by_offset.len() as u64;
            let page = list(storage, filter, sort, &Paging::Offset { offset, limit }).await;
            by_offset.extend(page.items.iter().map(|p| p.id));
            assert_eq!(page.next.is_some(), by_offset.len() < order.len(), "{at}: `next` says whether there is more");
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(by_offset, order, "{at}: by offset, pages of {limit}");
    }
    order
}

/// Both pagings, with ties, with and without deleted ones.
pub async fn every_sort_pages_through_everything_exactly_once(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let mut sorts = HashSet::new();
    for sort in ProductSort::ALL {
        for deleted in [Deleted::Hide, Deleted::Include] {
            let filter = ProductFilter { deleted, ..ProductFilter::default() };
            check_walk(storage, &filter, sort, &catalog.matching(&filter)).await;
            // A page by number leads to the same place as one by cursor.
            let page = list(storage, &filter, sort, &Paging::Offset { offset: 20, limit: 10 }).await;
            let next = Paging::Keyset { after: page.next.clone(), limit: 10 };
            let by_cursor = list(storage, &filter, sort, &next).await;
            let by_offset = list(storage, &filter, sort, &Paging::Offset { offset: 30, limit: 10 }).await;
            assert_eq!(by_cursor.items, by_offset.items);
            sorts.insert(page.next.unwrap().sort);
        }
    }
    assert_eq!(sorts.len(), ProductSort::ALL.len(), "a cursor says which sort it belongs to");
    let beyond = Paging::Offset { offset: 10_000, limit: 10 };
    let page = list(storage, &ProductFilter::default(), ProductSort::PriceAsc, &beyond).await;
    assert_eq!((page.items, page.next), (vec![], None));
}

/// As without a filter.
pub async fn filtered_lists_page_exactly_once(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let base = ProductFilter { category: Some(catalog.categories[0].id), ..ProductFilter::default() };
    for filter in [
        ProductFilter { deleted: Deleted::Include, ..base.clone() },
        ProductFilter {
            status: Some(ProductStatus::Active),
            min_price: Some(500),
            max_price: Some(4_000),
            ..base.clone()
        },
        ProductFilter { tag: Some("sale".into()), ..base.clone() },
        ProductFilter { brand: Some("acme".into()), ..ProductFilter::default() },
        ProductFilter { availability: Some(AvailabilityStatus::InStock), ..ProductFilter::default() },
        ProductFilter { status: Some(ProductStatus::Archived), ..ProductFilter::default() },
    ] {
        let expected = catalog.matching(&filter);
        assert!(expected.len() > 5, "{filter:?}");
        for sort in ProductSort::ALL {
            check_walk(storage, &filter, sort, &expected).await;
        }
    }
}

/// A walk by cursor shows each row that stays, once, whatever comes and goes before its place.
pub async fn rows_that_come_and_go_move_no_cursor(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Product> = (0..30).map(|n| env.priced(&format!("P {n}"), 1_000 + n / 3, 1)).collect();
    env.insert_products(storage, &all).await.unwrap();
    let filter = ProductFilter::default();
    let first = list(storage, &filter, ProductSort::PriceAsc, &Paging::first(10)).await;
    env.insert_products(storage, &[env.priced("cheapest", 1, 1)]).await.unwrap();
    // The very row that the cursor names goes, too.
    env.soft_delete(storage, first.items.last().unwrap()).await.unwrap();
    let rest = list(storage, &filter, ProductSort::PriceAsc, &Paging::Keyset { after: first.next, limit: 100 }).await;
    let mut seen: Vec<ProductId> = first.items.iter().chain(&rest.items).map(|p| p.id).collect();
    seen.sort();
    assert_eq!(seen, all.iter().map(|p| p.id).collect::<Vec<_>>());
}

/// Such as one whose SKUs were all deleted.
pub async fn a_product_without_skus_has_no_price_and_is_listed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let bare = env.product("bare");
    let priced = env.priced("priced", 500, 9);
    env.insert_products(storage, &[bare.clone(), priced.clone()]).await.unwrap();
    assert_eq!(get(storage, bare.id).await.as_ref(), Some(&bare));
    for sort in ProductSort::ALL {
        let walked = walk(storage, &ProductFilter::default(), sort, 1).await;
        assert_eq!(walked.iter().map(|p| p.id).collect::<HashSet<_>>().len(), 2, "{}", sort.as_str());
        assert_eq!(walked.len(), 2, "{}", sort.as_str());
    }
    for (min, max) in [(Some(0), None), (None, Some(i64::MAX)), (Some(0), Some(i64::MAX))] {
        let filter = ProductFilter { min_price: min, max_price: max, ..ProductFilter::default() };
        assert_eq!(matching(storage, &filter).await, [priced.id], "no price is in no range: {min:?}..={max:?}");
    }
    let out = ProductFilter { availability: Some(AvailabilityStatus::OutOfStock), ..ProductFilter::default() };
    assert_eq!(matching(storage, &out).await, [bare.id]);
    assert_eq!(read!(storage, products.filters(&ProductFilter::default())).price, Some((500, 500)));
}

/// Exact under the bound and at it, a lower bound above it; filtered or not.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    for filter in [
        ProductFilter::default(),
        ProductFilter { category: Some(catalog.categories[0].id), ..ProductFilter::default() },
        ProductFilter { tag: Some("sale".into()), min_price: Some(100), ..ProductFilter::default() },
    ] {
        let n = catalog.matching(&filter).len() as u64;
        for (bound, expected) in [
            (n + 1, Total { count: n, exact: true }),
            (n, Total { count: n, exact: true }),
            (n - 1, Total { count: n - 1, exact: false }),
            (1, Total { count: 1, exact: false }),
        ] {
            assert_eq!(read!(storage, products.count(&filter, bound)), expected, "up to {bound}: {filter:?}");
        }
    }
}

/// Direct categories and brands with how many, most first, and the range of prices, over what matches.
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
    assert_eq!(all.categories, [((&a).into(), 3), ((&b).into(), 2)], "directly in, most first");
    assert_eq!(all.brands, [("Acme".to_owned(), 3), ("Bolt".to_owned(), 2)]);
    assert_eq!(all.price, Some((100, 600)), "final prices");

    let below = ProductFilter { category: Some(top.id), ..ProductFilter::default() };
    let below = read!(storage, products.filters(&below));
    assert_eq!(below.categories, [((&a).into(), 3), ((&b).into(), 1)]);
    assert_eq!(below.brands, [("Acme".to_owned(), 3)]);
    assert_eq!(below.price, Some((100, 300)));

    let nothing = ProductFilter { brand: Some("nobody".into()), ..ProductFilter::default() };
    let nothing = read!(storage, products.filters(&nothing));
    assert!(nothing.categories.is_empty() && nothing.brands.is_empty() && nothing.price.is_none());
}

/// Soft-deleted ones too, by id, in pages.
pub async fn ids_in_category_walks_the_subtree(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    for category in &catalog.categories {
        let filter =
            ProductFilter { category: Some(category.id), deleted: Deleted::Include, ..ProductFilter::default() };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = read!(storage, products.ids_in_category(category.id, after, 9));
            assert!(page.len() <= 9);
            let Some(last) = page.last() else { break };
            after = Some(*last);
            found.extend(page);
        }
        assert_eq!(found, catalog.matching(&filter), "{}", category.path);
    }
}

/// Soft-deleted ones too, by id, in pages.
pub async fn revisions_walks_everything(storage: &Arc<dyn Storage>) {
    let catalog = catalog(storage).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = read!(storage, products.revisions(after, 20));
        assert!(page.len() <= 20);
        let Some(last) = page.last() else { break };
        after = Some(last.0);
        found.extend(page);
    }
    assert_eq!(found, catalog.products.iter().map(|p| (p.id, p.revision)).collect::<Vec<_>>());
}

/// Once per call, without an edit.
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
    assert_eq!(get(storage, expected.id).await, Some(expected));
    assert_eq!(get(storage, without.id).await, Some(without));
}

/// Nothing of it stays, not even for reads of deleted rows; its keys are free.
pub async fn r05_purge_removes_product_skus_and_ledger(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let (p, other) = (env.full_product("P", &[&a]), env.full_product("Other", &[&a]));
    env.insert_products(storage, &[p.clone(), other.clone()]).await.unwrap();
    attempt!(storage, inventory.apply(&[env.movement(p.skus[0].id, 5)])).unwrap();
    let current = get(storage, p.id).await.unwrap();
    attempt!(storage, products.purge(&current)).unwrap();
    assert_eq!(read!(storage, products.get(p.id, Deleted::Include)), None);
    assert_eq!(read!(storage, skus.of_product(p.id, Deleted::Include)), []);
    assert_eq!(read!(storage, inventory.count_movements(p.skus[0].id)), 0);
    let include = ProductFilter { category: Some(a.id), deleted: Deleted::Include, ..ProductFilter::default() };
    assert_eq!(matching(storage, &include).await, [other.id]);
    assert_eq!(get(storage, other.id).await, Some(other));
    assert_eq!(read!(storage, inventory.imbalances()), []);
    env.insert_products(storage, &[env.full_product("P", &[&a])]).await.expect("its keys are free");
}
