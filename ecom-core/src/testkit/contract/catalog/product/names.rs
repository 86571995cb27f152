//! Slugs and external references are unique, and taken slugs are found.

use std::sync::Arc;

use super::support::{coded, matching};
use crate::domain::catalog::product::{Product, ProductFilter};
use crate::domain::common::ExternalRef;
use crate::port::storage::Storage;
use crate::testkit::is_taken;
use crate::testkit::sample::Env;
use crate::text::Slug;

tests! {
    __product_names: [
        slugs_are_unique,
        external_references_are_unique_and_found,
        taken_slugs_are_the_bases_and_their_numbers_and_nothing_else,
        taken_slugs_know_what_was_cut_to_make_room_for_its_number,
    ]
}

/// Inserts, rows within one insert, and updates must have different slugs. Titles can be the same.
pub async fn slugs_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = coded(&env, "Chair", "one");
    env.insert_products(storage, std::slice::from_ref(&first)).await.unwrap();
    let twin = coded(&env, "Chair", "two");
    is_taken("slug", env.insert_products(storage, &[twin]).await, "insert");
    let pair = [coded(&env, "Table", "three"), coded(&env, "Table", "four")];
    is_taken("slug", env.insert_products(storage, &pair).await, "two equal slugs in one call");
    let numbered = Product { slug: Slug::trusted("chair-2".into()), ..coded(&env, "Chair", "five") };
    env.insert_products(storage, std::slice::from_ref(&numbered)).await.expect("two products may have the same title");
    let clash = Product { slug: first.slug.clone(), ..env.edited(&numbered) };
    is_taken("slug", env.update_product(storage, &numbered, &clash).await, "update");
    assert_eq!(
        matching(storage, &ProductFilter::default()).await,
        [first.id, numbered.id],
        "a write that is refused must store nothing"
    );
}

/// No two live products have the same source and external id. They are compared bytewise, and soft-deleted products are
/// found too.
pub async fn external_references_are_unique_and_found(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let with = |title: &str, source: &str, id: &str| Product {
        external: Some(ExternalRef::new(source, id)),
        ..env.priced(title, 100, 0)
    };
    let (a, b, c) = (with("A", "erp", "1"), with("B", "erp", "x"), with("C", "shop", "1"));
    env.insert_products(storage, &[a.clone(), b.clone(), c.clone()]).await.unwrap();
    let twin = with("D", "erp", "1");
    is_taken("external_id", env.insert_products(storage, &[twin]).await, "external");
    env.soft_delete(storage, &b).await.unwrap();
    let ids: Vec<String> = ["x", "1", "X", "3"].map(str::to_owned).into();
    let mut found = read!(storage, products.find_by_external("erp", &ids));
    found.sort();
    assert_eq!(
        found,
        [("1".to_owned(), a.id), ("x".to_owned(), b.id)],
        "`find_by_external` must compare ids bytewise, only within the given source, and include soft-deleted products"
    );
    assert_eq!(
        read!(storage, products.find_by_external("erp", &[])),
        [],
        "`find_by_external` without ids must return nothing"
    );
}

/// The slugs of `a` are `a`, `a-2` and `a-10`, but not `ab`, `a-2b` and `a-b`.
pub async fn taken_slugs_are_the_bases_and_their_numbers_and_nothing_else(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Product> =
        ["a", "a-2", "a-10", "ab", "a-2b", "a-b", "c-3", "d", "e"].iter().map(|s| env.priced(s, 100, 0)).collect();
    env.insert_products(storage, &all).await.unwrap();
    env.soft_delete(storage, &all[8]).await.unwrap();
    let bases = ["a", "c", "e", "nowhere"].map(|s| Slug::trusted(s.to_owned()));
    let mut taken: Vec<String> = read!(storage, products.taken_slugs(&bases)).into_iter().collect();
    taken.sort();
    assert_eq!(
        taken,
        ["a", "a-10", "a-2", "c-3"],
        "`taken_slugs` must leave out `e`, which is soft-deleted, and `d`, which is not a given base"
    );
    assert!(read!(storage, products.taken_slugs(&[])).is_empty(), "`taken_slugs` without bases must return nothing");
}

/// [`Slug::numbered`] shortens a slug of the maximum length.
pub async fn taken_slugs_know_what_was_cut_to_make_room_for_its_number(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let base = Slug::trusted("x".repeat(Slug::MAX));
    let all =
        [("one", base.clone()), ("two", base.numbered(2))].map(|(n, slug)| Product { slug, ..env.priced(n, 1, 1) });
    env.insert_products(storage, &all).await.unwrap();
    let taken = read!(storage, products.taken_slugs(std::slice::from_ref(&base)));
    assert_eq!(base.first_free(&taken), base.numbered(3), "taken: {taken:?}");
}
