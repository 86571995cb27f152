//! The contract of [`CategoryRepository`](crate::port::CategoryRepository).

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::catalog::category::Category;
use crate::domain::catalog::category::CategoryFilter;
use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::common::{Attributes, ExternalRef, IncludeDeleted};
use crate::error::ErrorCode;
use crate::id::{CategoryId, IdSource as _, ProductId};
use crate::paging::{Keyset, Paging, Total};
use crate::port::catalog::category::CategoryUsage;
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::sample::Env;
use crate::testkit::{code_of, is_taken};
use crate::text::{Slug, fold_key};

suite! {
    /// Runs the suite of [`CategoryRepository`](crate::port::CategoryRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    category_suite, category: fixture => &fixture.storage, __category_tests: [
        every_field_survives_a_round_trip,
        every_field_is_updated,
        many_are_read_by_id_in_order,
        r02_soft_deleted_categories_are_hidden_unless_asked_for,
        r02_a_deleted_category_comes_back,
        r02_name_and_slug_are_free_again_after_soft_delete,
        r02_a_restore_into_a_taken_name_is_refused,
        sibling_names_are_unique_whatever_their_case_and_width,
        root_names_are_unique,
        accents_make_another_name,
        a_name_is_free_under_another_parent,
        slugs_are_unique_over_the_whole_tree,
        external_references_are_unique,
        an_update_into_a_taken_name_or_slug_is_refused,
        categories_are_found_by_external_reference,
        taken_slugs_are_the_bases_and_their_numbers_and_nothing_else,
        taken_slugs_know_what_was_cut_to_make_room_for_its_number,
        lists_filter_by_parent,
        lists_are_sorted_by_folded_name_and_page_exactly_once,
        counts_stop_at_their_bound,
        the_subtree_of_a_path_is_itself_and_what_is_below,
        the_tree_has_parents_first_and_siblings_by_name,
        r03_rewriting_paths_moves_revisions_not_versions,
        r03_a_move_takes_products_and_counts_along,
        r03_the_tree_lock_makes_writers_wait_for_each_other,
        r01_an_update_from_an_old_version_changes_nothing,
        r04_usage_counts_children_and_products_live_and_all,
        r04_purge_removes_for_good_and_frees_its_keys,
        r04_a_category_that_is_referred_to_is_not_purged,
        product_counts_follow_every_change_of_a_product,
        a_product_in_two_branches_counts_once_above_them,
        an_update_leaves_the_product_counts,
    ]
}

async fn get(storage: &Arc<dyn Storage>, id: CategoryId) -> Option<Category> {
    read!(storage, categories.get(id, IncludeDeleted::No))
}

async fn counts(storage: &Arc<dyn Storage>, category: &Category) -> (i64, i64) {
    let c = get(storage, category.id).await.expect("`get` must find a category that was inserted");
    (c.product_count, c.subtree_product_count)
}

/// A category with all fields and one without optional fields are read back as they were inserted.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let root = env.category("Root", None);
    let mut full = env.full_category("Kopfhörer & Zubehör", Some(&root));
    full.description = full.description.map(|d| d + &"x".repeat(4_000));
    let deleted = Category { audit: env.deleted(&full.audit), ..env.full_category("Gone", Some(&full)) };
    env.insert_categories(storage, &[&root, &full, &deleted]).await.unwrap();
    for expected in [&root, &full, &deleted] {
        let found = read!(storage, categories.get(expected.id, IncludeDeleted::Yes));
        assert_eq!(found.as_ref(), Some(expected), "`get` must return every field as it was inserted");
    }
    assert_eq!(get(storage, CategoryId(env.ids.next())).await, None, "`get` of an unknown id finds nothing");
}

/// An update sets and clears every field.
pub async fn every_field_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    let b = env.category("B", None);
    env.insert_categories(storage, &[&a, &b]).await.unwrap();

    let full = env.full_category("Renamed", Some(&b));
    let audit = env.edited_category(&a).audit;
    let after = Category {
        id: a.id,
        audit: crate::domain::common::Audit {
            created_at: a.audit.created_at,
            created_by: a.audit.created_by.clone(),
            ..audit
        },
        ..full
    };
    env.update_category(storage, &a, &after).await.unwrap();
    assert_eq!(get(storage, a.id).await.as_ref(), Some(&after), "an update writes every field");

    let emptied = Category {
        description: None,
        attributes: Attributes::default(),
        external: None,
        parent_id: None,
        path: after.slug.to_string(),
        ..env.edited_category(&after)
    };
    env.update_category(storage, &after, &emptied).await.unwrap();
    assert_eq!(get(storage, a.id).await.as_ref(), Some(&emptied), "an update empties every field that can be empty");
    assert_eq!(get(storage, b.id).await.as_ref(), Some(&b), "an update must not change other rows");
}

/// The result has the existing categories, each once, ordered by id.
pub async fn many_are_read_by_id_in_order(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Category> = (0..120).map(|n| env.category(&format!("C {n}"), None)).collect();
    env.insert_categories(storage, &all.iter().collect::<Vec<_>>()).await.unwrap();
    let mut ids: Vec<CategoryId> = all.iter().rev().map(|c| c.id).collect();
    ids.push(all[3].id);
    ids.push(CategoryId(env.ids.next()));
    assert_eq!(
        read!(storage, categories.get_many(&ids, IncludeDeleted::No)),
        all,
        "`get_many` must return each existing category once, ordered by id"
    );
    assert_eq!(read!(storage, categories.get_many(&[], IncludeDeleted::Yes)), [], "`get_many` of no ids finds nothing");
    let slugs: Vec<String> = vec!["c-7".into(), "c-3".into(), "nowhere".into()];
    assert_eq!(
        read!(storage, categories.get_by_slugs(&slugs)),
        [all[3].clone(), all[7].clone()],
        "`get_by_slugs` must return each existing category once, ordered by id"
    );
    assert_eq!(read!(storage, categories.get_by_slugs(&[])), [], "`get_by_slugs` of no slugs finds nothing");
}

/// Every read hides soft-deleted rows, and reads that can include them return them.
pub async fn r02_soft_deleted_categories_are_hidden_unless_asked_for(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let live = env.full_category("Live", None);
    let gone = env.full_category("Gone", None);
    env.insert_categories(storage, &[&live, &gone]).await.unwrap();
    let gone = env.soft_delete_category(storage, &gone).await.unwrap();
    let ids = [live.id, gone.id];
    let hide = CategoryFilter::default();
    let include = CategoryFilter { include_deleted: IncludeDeleted::Yes, ..hide.clone() };

    assert_eq!(get(storage, gone.id).await, None, "`get` hides a soft-deleted category");
    assert_eq!(
        read!(storage, categories.get(gone.id, IncludeDeleted::Yes)).as_ref(),
        Some(&gone),
        "`get` returns a soft-deleted category if it is asked for"
    );
    assert_eq!(
        read!(storage, categories.get_many(&ids, IncludeDeleted::No)),
        [live.clone()],
        "`get_many` leaves soft-deleted categories out"
    );
    assert_eq!(
        read!(storage, categories.get_many(&ids, IncludeDeleted::Yes)),
        [live.clone(), gone.clone()],
        "`get_many` returns soft-deleted categories if they are asked for"
    );
    assert_eq!(
        read!(storage, categories.get_by_slugs(&["live".into(), "gone".into()])),
        [live.clone()],
        "`get_by_slugs` hides soft-deleted categories"
    );
    assert_eq!(
        read!(storage, categories.list(&hide, &Paging::first(9))).items,
        [live.clone()],
        "a list leaves soft-deleted categories out"
    );
    assert_eq!(
        read!(storage, categories.list(&include, &Paging::first(9))).items,
        [gone.clone(), live.clone()],
        "a list has soft-deleted categories if they are asked for"
    );
    assert_eq!(
        read!(storage, categories.count(&hide, 9)),
        Total { count: 1, exact: true },
        "`count` must leave soft-deleted categories out"
    );
    assert_eq!(
        read!(storage, categories.count(&include, 9)),
        Total { count: 2, exact: true },
        "`count` must include soft-deleted categories if they are asked for"
    );
    assert_eq!(read!(storage, categories.tree()), [live.clone()], "the tree has live categories only");
    assert_eq!(
        read!(storage, categories.subtree("gone")),
        [gone.clone()],
        "`subtree` must include soft-deleted categories"
    );
}

/// A restore is an update that clears `deleted_at`.
pub async fn r02_a_deleted_category_comes_back(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let c = env.category("C", None);
    env.insert_categories(storage, &[&c]).await.unwrap();
    let gone = env.soft_delete_category(storage, &c).await.unwrap();
    let mut back = env.edited_category(&gone);
    back.audit.deleted_at = None;
    env.update_category(storage, &gone, &back).await.unwrap();
    assert_eq!(get(storage, c.id).await, Some(back), "a category that is restored is read with all its fields");
}

/// Other rows can use the name and the slug of a deleted row.
pub async fn r02_name_and_slug_are_free_again_after_soft_delete(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = env.category("Audio", None);
    env.insert_categories(storage, &[&old]).await.unwrap();
    env.soft_delete_category(storage, &old).await.unwrap();
    let new = env.category("Audio", None);
    env.insert_categories(storage, &[&new])
        .await
        .expect("the name and the slug of a soft-deleted category must be free");
    assert_eq!(
        read!(storage, categories.get_by_slugs(&["audio".into()])),
        [new],
        "a slug that a live category has taken over from a soft-deleted one must find the live category"
    );
}

/// The restore does not take the name back from another row.
pub async fn r02_a_restore_into_a_taken_name_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = env.category("Audio", None);
    env.insert_categories(storage, &[&old]).await.unwrap();
    let gone = env.soft_delete_category(storage, &old).await.unwrap();
    let new = Category { slug: Slug::trusted("audio-2".into()), path: "audio-2".into(), ..env.category("AUDIO", None) };
    env.insert_categories(storage, &[&new]).await.unwrap();
    let mut back = env.edited_category(&gone);
    back.audit.deleted_at = None;
    is_taken("name", env.update_category(storage, &gone, &back).await, "restore");
    assert_eq!(get(storage, old.id).await, None, "a restore that is refused must change nothing");
}

/// Returns a category with a unique slug, so that only its name can conflict.
fn named(env: &Env, name: &str, slug: &str, parent: Option<&Category>) -> Category {
    let slug = Slug::trusted(slug.to_owned());
    Category { path: Category::path_under(parent, &slug), slug, ..env.category(name, parent) }
}

/// The folded keys of names are compared.
pub async fn sibling_names_are_unique_whatever_their_case_and_width(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let root = env.category("Root", None);
    let first = named(&env, "Straße Audio", "one", Some(&root));
    env.insert_categories(storage, &[&root, &first]).await.unwrap();
    for (n, name) in ["Straße Audio", "STRASSE AUDIO", "ｓｔｒａsse audio", " strasse   Audio "].iter().enumerate()
    {
        let twin = named(&env, name, &format!("twin-{n}"), Some(&root));
        is_taken("name", env.insert_categories(storage, &[&twin]).await, name);
        assert_eq!(get(storage, twin.id).await, None, "an insert that is refused must store nothing");
    }
}

/// Roots are siblings, although they have no parent.
pub async fn root_names_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    env.insert_categories(storage, &[&named(&env, "Audio", "one", None)]).await.unwrap();
    let twin = named(&env, "AUDIO", "two", None);
    is_taken("name", env.insert_categories(storage, &[&twin]).await, "a second root with the same name");
}

/// `Cafe` and `Café` are different names, but both encodings of `é` are the same.
pub async fn accents_make_another_name(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let plain = named(&env, "Cafe", "one", None);
    let accent = named(&env, "Café", "two", None);
    env.insert_categories(storage, &[&plain, &accent])
        .await
        .expect("names that differ only in an accent must not conflict");
    let twin = named(&env, "CAFE\u{301}", "three", None);
    is_taken("name", env.insert_categories(storage, &[&twin]).await, "a name whose accent is a combining character");
}

/// Only siblings must have different names.
pub async fn a_name_is_free_under_another_parent(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.category("A", None), env.category("B", None));
    let under_a = named(&env, "Cables", "cables", Some(&a));
    let under_b = named(&env, "Cables", "cables-2", Some(&b));
    let root = named(&env, "Cables", "cables-3", None);
    env.insert_categories(storage, &[&a, &b, &under_a, &under_b, &root]).await.unwrap();
    assert_eq!(get(storage, under_b.id).await, Some(under_b), "a name is free under another parent");
}

/// No two live categories have the same slug, wherever they are in the tree.
pub async fn slugs_are_unique_over_the_whole_tree(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    let b = named(&env, "B", "b", Some(&a));
    env.insert_categories(storage, &[&a, &b]).await.unwrap();
    let twin = named(&env, "Other", "b", None);
    is_taken("slug", env.insert_categories(storage, &[&twin]).await, "slug");
    // Slugs within one call are compared too.
    let pair = [&named(&env, "X", "x", None), &named(&env, "Y", "x", None)];
    is_taken("slug", env.insert_categories(storage, &pair).await, "two equal slugs in one call");
    assert_eq!(get(storage, pair[0].id).await, None, "a call that is refused must store none of its rows");
}

/// No two live categories have the same source and external id. The same id from another source is different.
pub async fn external_references_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let with = |name: &str, source: &str, id: &str| Category {
        external: Some(ExternalRef::new(source, id)),
        ..env.category(name, None)
    };
    env.insert_categories(storage, &[&with("A", "erp", "1"), &with("B", "erp", "2"), &with("C", "shop", "1")])
        .await
        .unwrap();
    let twin = with("D", "erp", "1");
    is_taken("external_id", env.insert_categories(storage, &[&twin]).await, "external");
}

/// An update is refused as an insert is.
pub async fn an_update_into_a_taken_name_or_slug_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    let b = env.category("B", None);
    env.insert_categories(storage, &[&a, &b]).await.unwrap();
    let renamed = Category { name: "a".into(), ..env.edited_category(&b) };
    is_taken("name", env.update_category(storage, &b, &renamed).await, "name");
    let moved = Category { slug: a.slug.clone(), path: a.path.clone(), ..env.edited_category(&b) };
    is_taken("slug", env.update_category(storage, &b, &moved).await, "slug");
    assert_eq!(get(storage, b.id).await, Some(b), "an update that is refused must change nothing");
}

/// Source and id are compared bytewise. Soft-deleted categories are found too.
pub async fn categories_are_found_by_external_reference(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let with = |name: &str, source: &str, id: &str| Category {
        external: Some(ExternalRef::new(source, id)),
        ..env.category(name, None)
    };
    let (a, b, c) = (with("A", "erp", "1"), with("B", "erp", "x"), with("C", "shop", "1"));
    env.insert_categories(storage, &[&a, &b, &c]).await.unwrap();
    let b = env.soft_delete_category(storage, &b).await.unwrap();
    let ids: Vec<String> = ["x", "1", "3"].map(str::to_owned).into();
    assert_eq!(
        read!(storage, categories.find_by_external("erp", &ids)),
        [a, b],
        "`find_by_external` must compare ids bytewise, and only within the given source"
    );
    assert_eq!(
        read!(storage, categories.find_by_external("ERP", &ids)),
        [],
        "`find_by_external` must compare sources bytewise"
    );
    assert_eq!(
        read!(storage, categories.find_by_external("erp", &[])),
        [],
        "`find_by_external` without ids must return nothing"
    );
}

/// The slugs of `a` are `a`, `a-2` and `a-10`, but not `ab`, `a-2b` and `a-b`.
pub async fn taken_slugs_are_the_bases_and_their_numbers_and_nothing_else(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Category> = ["a", "a-2", "a-10", "ab", "a-2b", "a-b", "c-3", "d", "e"]
        .iter()
        .map(|s| named(&env, &format!("Name of {s}"), s, None))
        .collect();
    env.insert_categories(storage, &all.iter().collect::<Vec<_>>()).await.unwrap();
    env.soft_delete_category(storage, &all[8]).await.unwrap();
    let bases = ["a", "c", "e", "nowhere"].map(|s| Slug::trusted(s.to_owned()));
    let mut taken: Vec<String> = read!(storage, categories.taken_slugs(&bases)).into_iter().collect();
    taken.sort();
    assert_eq!(
        taken,
        ["a", "a-10", "a-2", "c-3"],
        "`taken_slugs` must leave out `e`, which is soft-deleted, and `d`, which is not a given base"
    );
    assert!(read!(storage, categories.taken_slugs(&[])).is_empty(), "`taken_slugs` without bases must return nothing");
}

/// [`Slug::numbered`] shortens a slug of the maximum length.
pub async fn taken_slugs_know_what_was_cut_to_make_room_for_its_number(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let base = Slug::trusted("x".repeat(Slug::MAX));
    let all = [("one", base.clone()), ("two", base.numbered(2))].map(|(n, s)| named(&env, n, s.as_str(), None));
    env.insert_categories(storage, &all.iter().collect::<Vec<_>>()).await.unwrap();
    let taken = read!(storage, categories.taken_slugs(std::slice::from_ref(&base)));
    assert_eq!(base.first_free(&taken), base.numbered(3), "taken: {taken:?}");
}

/// Lists all categories, the roots, and the children of a category.
pub async fn lists_filter_by_parent(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.category("A", None), env.category("B", None));
    let (aa, ab) = (env.category("AA", Some(&a)), env.category("AB", Some(&a)));
    let aaa = env.category("AAA", Some(&aa));
    env.insert_categories(storage, &[&a, &b, &aa, &ab, &aaa]).await.unwrap();
    for (parent, expected) in [
        (None, vec![&a, &aa, &aaa, &ab, &b]),
        (Some(None), vec![&a, &b]),
        (Some(Some(a.id)), vec![&aa, &ab]),
        (Some(Some(b.id)), vec![]),
    ] {
        let filter = CategoryFilter { parent, include_deleted: IncludeDeleted::No };
        let page = read!(storage, categories.list(&filter, &Paging::first(50)));
        assert_eq!(
            page.items.iter().collect::<Vec<_>>(),
            expected,
            "a list must have the categories with the parent {parent:?}, sorted by name"
        );
        assert_eq!(page.next, None, "a page with all rows must have no `next`");
        let total = read!(storage, categories.count(&filter, 50));
        assert_eq!(total, Total { count: expected.len() as u64, exact: true }, "`count` must agree with the list");
    }
}

/// Both kinds of paging return each row exactly once in the same order, also for equal names.
pub async fn lists_are_sorted_by_folded_name_and_page_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let parents: Vec<Category> = (0..7).map(|n| env.category(&format!("parent {n}"), None)).collect();
    let mut all = parents.clone();
    // Each name occurs seven times, in several spellings, so that only the id orders them.
    for n in 0..130 {
        let name = ["zebra", "Ähre", "apfel", "ÄHRE", "Apfel"][n % 5].to_owned() + &format!(" {}", n / 35);
        let parent = &parents[(n / 5) % 7];
        all.push(named(&env, &name, &format!("n-{n}"), Some(parent)));
    }
    // Siblings have different names.
    let mut seen = std::collections::HashSet::new();
    all.retain(|c| seen.insert((c.parent_id, fold_key(&c.name))));
    env.insert_categories(storage, &all.iter().collect::<Vec<_>>()).await.unwrap();
    let mut expected = all;
    expected.sort_by_key(|c| (fold_key(&c.name), c.id));

    let filter = CategoryFilter::default();
    for limit in [7, 10, 1_000] {
        let mut by_cursor: Vec<Category> = Vec::new();
        let mut after: Option<Keyset> = None;
        let mut pages = Pages::over(expected.len());
        loop {
            pages.turn();
            let page = read!(storage, categories.list(&filter, &Paging::Keyset { after, limit }));
            assert!(page.items.len() <= limit as usize, "a page has at most `limit` rows");
            by_cursor.extend(page.items);
            let Some(next) = page.next else { break };
            assert_eq!(
                Keyset::decode(&next.encode(), &next.sort).unwrap(),
                next,
                "a decoded cursor must equal the one that was encoded"
            );
            after = Some(next);
        }
        assert_eq!(by_cursor, expected, "the pages by cursor, of {limit} rows, must together be the sorted list");
        let mut by_offset = Vec::new();
        let mut pages = Pages::over(expected.len());
        while let page =
            read!(storage, categories.list(&filter, &Paging::Offset { offset: by_offset.len() as u64, limit }))
            && !page.items.is_empty()
        {
            pages.turn();
            let more = by_offset.len() + page.items.len() < expected.len();
            assert_eq!(page.next.is_some(), more, "`next` must be set if and only if more rows follow");
            by_offset.extend(page.items);
        }
        assert_eq!(by_offset, expected, "the pages by offset, of {limit} rows, must together be the sorted list");
    }
}

/// A count is exact up to the bound, and a lower bound above it.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Category> = (0..12).map(|n| env.category(&format!("C {n}"), None)).collect();
    env.insert_categories(storage, &all.iter().collect::<Vec<_>>()).await.unwrap();
    let filter = CategoryFilter::default();
    assert_eq!(
        read!(storage, categories.count(&filter, 100)),
        Total { count: 12, exact: true },
        "a count under its bound is exact"
    );
    assert_eq!(
        read!(storage, categories.count(&filter, 12)),
        Total { count: 12, exact: true },
        "a count at its bound is exact"
    );
    assert_eq!(
        read!(storage, categories.count(&filter, 11)),
        Total { count: 11, exact: false },
        "a count must stop at its bound, and be exact only if it does not exceed the bound"
    );
}

/// Paths that only have the same beginning are not part of the subtree.
pub async fn the_subtree_of_a_path_is_itself_and_what_is_below(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("a", None);
    let like = [env.category("ab", None), env.category("a-b", None), env.category("a-2", None)];
    let ab = named(&env, "b", "b", Some(&a));
    let abc = named(&env, "c", "c", Some(&ab));
    let ab_like = named(&env, "b-c", "b-c", Some(&a));
    let deep_like = named(&env, "d", "d", Some(&like[1]));
    env.insert_categories(storage, &[&a, &like[0], &like[1], &like[2], &ab, &abc, &ab_like, &deep_like]).await.unwrap();
    let abc = env.soft_delete_category(storage, &abc).await.unwrap();

    let found = read!(storage, categories.subtree("a"));
    let place: HashMap<CategoryId, usize> = found.iter().enumerate().map(|(i, c)| (c.id, i)).collect();
    let mut ids: Vec<CategoryId> = found.iter().map(|c| c.id).collect();
    ids.sort();
    assert_eq!(
        ids,
        [a.id, ab.id, abc.id, ab_like.id],
        "`subtree` must include soft-deleted categories, and leave out those whose path only begins alike"
    );
    for c in &found {
        if let Some(parent) = c.parent_id {
            assert!(place[&parent] < place[&c.id], "`subtree` must return parents before their children");
        }
    }
    assert_eq!(
        read!(storage, categories.subtree("a/b")).len(),
        2,
        "`subtree` returns the category of the path and all below"
    );
    assert_eq!(read!(storage, categories.subtree("b")), [], "`subtree` of a path takes whole slugs from the root");
    assert_eq!(read!(storage, categories.subtree("nowhere")), [], "`subtree` of an unknown path is empty");
}

/// The tree contains live categories only.
pub async fn the_tree_has_parents_first_and_siblings_by_name(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    // The slugs have the reverse order, so that an order by path is not mistaken for an order by name.
    let mut all = Vec::new();
    for (n, name) in ["zebra", "Äpfel", "apfel", "Birne"].iter().enumerate() {
        let root = named(&env, name, &format!("r{}", 9 - n), None);
        for (m, child) in ["Über", "uber", "Aal"].iter().enumerate() {
            let child = named(&env, child, &format!("c{}-{}", 9 - n, 9 - m), Some(&root));
            all.push(named(&env, "leaf", &format!("l{n}-{m}"), Some(&child)));
            all.push(child);
        }
        all.push(root);
    }
    all.sort_by_key(Category::depth);
    env.insert_categories(storage, &all.iter().collect::<Vec<_>>()).await.unwrap();
    let leaf = all.last().unwrap().clone();
    env.soft_delete_category(storage, &leaf).await.unwrap();

    let tree = read!(storage, categories.tree());
    assert_eq!(tree.len(), all.len() - 1, "the tree has every live category once");
    let mut last: HashMap<Option<CategoryId>, String> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for c in &tree {
        if let Some(parent) = c.parent_id {
            assert!(
                seen.contains(&parent),
                "`tree` must return parents before their children, but {} comes before its parent",
                c.path
            );
        }
        seen.insert(c.id);
        let key = fold_key(&c.name);
        if let Some(before) = last.insert(c.parent_id, key.clone()) {
            assert!(before < key, "`tree` must sort siblings by name, but {before} comes before {key}");
        }
    }
}

/// Only the edited category has a new version. Its descendants, whose paths change, do not.
pub async fn r03_rewriting_paths_moves_revisions_not_versions(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    let b = env.category("B", Some(&a));
    let c = env.full_category("C", Some(&b));
    env.insert_categories(storage, &[&a, &b, &c]).await.unwrap();
    let paths = [(b.id, "z/b".to_owned()), (c.id, "z/b/c".to_owned())];
    attempt!(storage, categories.rewrite_paths(&paths)).unwrap();
    for (before, path) in [(&a, "a"), (&b, "z/b"), (&c, "z/b/c")] {
        let after = get(storage, before.id).await.unwrap();
        assert_eq!(after.path, path, "a new path is written to all that is below");
        assert_eq!(after.audit.version, before.audit.version, "`rewrite_paths` must not change the version of {path}");
        assert_eq!(
            after.revision > before.revision,
            before.id != a.id,
            "the revision must increase if and only if the path changes: {path}"
        );
    }
    attempt!(storage, categories.rewrite_paths(&[])).unwrap();
}

/// Moves a category as the service does, in one transaction.
pub async fn r03_a_move_takes_products_and_counts_along(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (x, y) = (env.category("X", None), env.category("Y", None));
    let a = env.category("A", Some(&x));
    let b = env.category("B", Some(&a));
    env.insert_categories(storage, &[&x, &y, &a, &b]).await.unwrap();
    let p = Product { categories: vec![(&b).into()], ..env.priced("P", 100, 1) };
    let q = Product { categories: vec![(&a).into(), (&y).into()], ..env.priced("Q", 100, 1) };
    env.insert_products(storage, &[p.clone(), q.clone()]).await.unwrap();
    assert_eq!(counts(storage, &x).await, (0, 2), "before the move, the old parent must count the products below it");
    assert_eq!(counts(storage, &y).await, (1, 1), "before the move, the new parent must count its own product");

    let before = get(storage, a.id).await.unwrap();
    let mut uow = storage.begin().await.unwrap();
    uow.categories().lock_tree().await.unwrap();
    let after = Category { parent_id: Some(y.id), path: "y/a".into(), ..env.edited_category(&before) };
    uow.categories().update(&before, &after).await.unwrap();
    uow.categories().rewrite_paths(&[(b.id, "y/a/b".into())]).await.unwrap();
    let ids = uow.products().ids_in_category(a.id, None, 100).await.unwrap();
    assert_eq!(ids, [p.id, q.id], "the products below a category that moves are found");
    uow.products().refresh_categories(&ids).await.unwrap();
    uow.commit().await.unwrap();

    assert_eq!(
        counts(storage, &x).await,
        (0, 0),
        "after the move, the old parent must count only the products that remain below it"
    );
    assert_eq!(
        counts(storage, &y).await,
        (1, 2),
        "Y must count the product Q once, although Q is below Y in two categories"
    );
    assert_eq!(counts(storage, &a).await, (1, 2), "a move must not change the counts of the moved category");
    let moved = read!(storage, products.get(p.id, IncludeDeleted::No)).unwrap();
    assert_eq!(moved.categories[0].path, "y/a/b", "after a move, a product shows the new path of its category");
    assert!(
        moved.revision > p.revision,
        "a move must increase the revision of the products below, because their documents show the path"
    );
    assert_eq!(moved.audit.version, p.audit.version, "the version must not change without an edit");
    let in_category = |category: &Category| crate::domain::catalog::product::ProductFilter {
        category: Some(category.id),
        ..Default::default()
    };
    assert_eq!(
        read!(storage, products.count(&in_category(&x), 9)).count,
        0,
        "after a move, a list of the old parent no longer has the products"
    );
    assert_eq!(
        read!(storage, products.count(&in_category(&y), 9)).count,
        2,
        "after a move, a list of the new parent has the products"
    );
}

/// No other writer changes the tree between a read under the lock and the commit.
pub async fn r03_the_tree_lock_makes_writers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let mut tasks = Vec::new();
    for seed in 0..8 {
        let storage = storage.clone();
        tasks.push(tokio::spawn(async move {
            let env = Env::new(seed);
            let mut uow = storage.begin().await.unwrap();
            uow.categories().lock_tree().await.unwrap();
            let n = uow.categories().count(&CategoryFilter::default(), 100).await.unwrap().count;
            tokio::task::yield_now().await;
            uow.categories().insert(&[env.category(&format!("number {n}"), None)]).await.unwrap();
            uow.commit().await.unwrap();
        }));
    }
    for t in tasks {
        t.await.expect("a writer that holds the lock of the tree must see the writes of the holders before it");
    }
    assert_eq!(
        read!(storage, categories.count(&CategoryFilter::default(), 100)).count,
        8,
        "every writer that waits for the lock of the tree must get it"
    );
}

/// An update from an old version changes neither the row nor anything else of the transaction.
pub async fn r01_an_update_from_an_old_version_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.category("A", None), env.category("B", None));
    env.insert_categories(storage, &[&a, &b]).await.unwrap();
    let winner = Category { description: Some("first".into()), ..env.edited_category(&b) };
    env.update_category(storage, &b, &winner).await.unwrap();

    let mut uow = storage.begin().await.unwrap();
    let other = Category { description: Some("with it".into()), ..env.edited_category(&a) };
    uow.categories().update(&a, &other).await.unwrap();
    let loser = Category { description: Some("second".into()), ..env.edited_category(&b) };
    let answer = uow.categories().update(&b, &loser).await;
    assert_eq!(
        code_of(answer, "an update from an outdated version"),
        ErrorCode::VersionConflict,
        "an update from an outdated version must fail with `VERSION_CONFLICT`"
    );
    drop(uow);
    assert_eq!(get(storage, a.id).await, Some(a), "a unit of work that is dropped must change nothing");
    assert_eq!(
        get(storage, b.id).await,
        Some(winner),
        "an update from an outdated version must not overwrite the newer one"
    );
}

/// The usage has the numbers of live and of all rows, for children and for products directly in the category.
pub async fn r04_usage_counts_children_and_products_live_and_all(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    let kids: Vec<Category> = (0..3).map(|n| env.category(&format!("kid {n}"), Some(&a))).collect();
    let grandchild = env.category("grandchild", Some(&kids[0]));
    env.insert_categories(storage, &[&a, &kids[0], &kids[1], &kids[2], &grandchild]).await.unwrap();
    env.soft_delete_category(storage, &kids[2]).await.unwrap();
    let products: Vec<Product> = (0..4)
        .map(|n| Product {
            categories: vec![if n == 3 { (&kids[0]).into() } else { (&a).into() }],
            status: if n == 0 { ProductStatus::Draft } else { ProductStatus::Active },
            ..env.priced(&format!("P {n}"), 100, 0)
        })
        .collect();
    env.insert_products(storage, &products).await.unwrap();
    env.soft_delete(storage, &products[1]).await.unwrap();
    assert_eq!(
        read!(storage, categories.usage(a.id)),
        CategoryUsage { live_children: 2, all_children: 3, live_products: 2, all_products: 3 },
        "`usage` counts children and products, live ones and all"
    );
    assert_eq!(
        read!(storage, categories.usage(grandchild.id)),
        CategoryUsage::default(),
        "`usage` of a category that nothing refers to is zero"
    );
}

/// Reads that include deleted rows do not find the category either.
pub async fn r04_purge_removes_for_good_and_frees_its_keys(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.full_category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    attempt!(storage, categories.purge(a.id)).unwrap();
    assert_eq!(
        read!(storage, categories.get(a.id, IncludeDeleted::Yes)),
        None,
        "a purged category is gone for reads of deleted ones too"
    );
    env.insert_categories(storage, &[&env.full_category("A", None)])
        .await
        .expect("the keys of a purged row must be free for new rows");
}

/// Children and products refer to the category, live or deleted.
pub async fn r04_a_category_that_is_referred_to_is_not_purged(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let tops: Vec<Category> = (0..4).map(|n| env.category(&format!("top {n}"), None)).collect();
    let live_child = env.category("live child", Some(&tops[0]));
    let dead_child = env.category("dead child", Some(&tops[1]));
    env.insert_categories(storage, &[&tops[0], &tops[1], &tops[2], &tops[3], &live_child, &dead_child]).await.unwrap();
    env.soft_delete_category(storage, &dead_child).await.unwrap();
    let live = Product { categories: vec![(&tops[2]).into()], ..env.priced("live", 100, 0) };
    let dead = Product { categories: vec![(&tops[3]).into()], ..env.priced("dead", 100, 0) };
    env.insert_products(storage, &[live, dead.clone()]).await.unwrap();
    env.soft_delete(storage, &dead).await.unwrap();
    for top in &tops {
        let answer = attempt!(storage, categories.purge(top.id));
        assert_eq!(
            code_of(answer, &top.name),
            ErrorCode::CategoryNotEmpty,
            "`purge` must refuse a category that is referred to: {}",
            top.name
        );
        assert!(get(storage, top.id).await.is_some(), "a category that is referred to is not purged");
    }
}

/// A product is inserted, gets another status, is soft-deleted, restored, moved to another category and purged.
pub async fn product_counts_follow_every_change_of_a_product(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let root = env.category("Root", None);
    let (a, b) = (env.category("A", Some(&root)), env.category("B", Some(&root)));
    env.insert_categories(storage, &[&root, &a, &b]).await.unwrap();
    let all = async |step: &str, of_root, of_a, of_b| {
        let found = (counts(storage, &root).await, counts(storage, &a).await, counts(storage, &b).await);
        assert_eq!(found, (of_root, of_a, of_b), "after {step}: the own and the subtree count of Root, A and B");
    };
    let p = Product { categories: vec![(&a).into()], ..env.priced("P", 100, 1) };
    let draft = Product { status: ProductStatus::Draft, categories: vec![(&a).into()], ..env.priced("Draft", 100, 1) };
    env.insert_products(storage, &[p.clone(), draft.clone()]).await.unwrap();
    all("an insert of an active product and a draft", (0, 1), (1, 1), (0, 0)).await;

    let published = Product { status: ProductStatus::Active, ..env.edited(&draft) };
    env.update_product(storage, &draft, &published).await.unwrap();
    all("a draft becomes active", (0, 2), (2, 2), (0, 0)).await;

    let archived = Product { status: ProductStatus::Archived, ..env.edited(&published) };
    env.update_product(storage, &published, &archived).await.unwrap();
    all("an active product is archived", (0, 1), (1, 1), (0, 0)).await;

    let gone = env.soft_delete(storage, &p).await.unwrap();
    all("a soft delete", (0, 0), (0, 0), (0, 0)).await;

    let mut back = env.edited(&gone);
    back.audit.deleted_at = None;
    env.update_product(storage, &gone, &back).await.unwrap();
    all("a restore", (0, 1), (1, 1), (0, 0)).await;

    let moved = Product { categories: vec![(&b).into(), (&root).into()], ..env.edited(&back) };
    env.update_product(storage, &back, &moved).await.unwrap();
    all("a change of categories", (1, 1), (0, 0), (1, 1)).await;

    attempt!(storage, products.purge(&moved)).unwrap();
    all("a purge", (0, 0), (0, 0), (0, 0)).await;
}

/// Each category counts a product once.
pub async fn a_product_in_two_branches_counts_once_above_them(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let root = env.category("Root", None);
    let (a, b) = (env.category("A", Some(&root)), env.category("B", Some(&root)));
    let deep = env.category("Deep", Some(&a));
    env.insert_categories(storage, &[&root, &a, &b, &deep]).await.unwrap();
    let p = Product {
        categories: vec![(&deep).into(), (&b).into(), (&a).into(), (&root).into()],
        ..env.priced("P", 100, 1)
    };
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    for c in [&root, &a, &b, &deep] {
        assert_eq!(counts(storage, c).await, (1, 1), "a category must count a product below it once: {}", c.name);
    }
    let ids: Vec<ProductId> = read!(storage, products.ids_in_category(root.id, None, 10));
    assert_eq!(ids, [p.id], "`ids_in_category` must list a product of several categories once");
}

/// An update does not write the product counts of its input.
pub async fn an_update_leaves_the_product_counts(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let p = Product { categories: vec![(&a).into()], ..env.priced("P", 100, 1) };
    env.insert_products(storage, &[p]).await.unwrap();
    let before = get(storage, a.id).await.unwrap();
    let after = Category { product_count: 0, subtree_product_count: 77, ..env.edited_category(&before) };
    env.update_category(storage, &before, &after).await.unwrap();
    assert_eq!(counts(storage, &a).await, (1, 1), "an update leaves the product counts as they are");
}
