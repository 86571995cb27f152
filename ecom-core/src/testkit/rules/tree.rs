//! Categories are renamed and moved, their products follow (R3), and lists of a category include its subtree (R6).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::ShopFixture;
use super::support::{category_input, conflict, fields, flat, from, in_category, me, v};
use crate::domain::catalog::category::{Category, CategoryPatch};
use crate::domain::catalog::product::{ProductInput, ProductPatch, ProductSort};
use crate::domain::common::{DeleteMode, IncludeDeleted, Patch};
use crate::domain::search::query::SearchFilter;
use crate::error::{CatalogConflict, Conflict, Error, ErrorCode, Result};
use crate::id::{CategoryId, ProductId};
use crate::paging::{Paging, Total};
use crate::service::catalog::product::ProductListQuery;
use crate::shop::Shop;
use crate::testkit::{code_of, fresh_seed};

tests! {
    __shop_tree: [
        r03_a_rename_rewrites_the_whole_subtree,
        r03_products_follow_a_moved_category,
        r03_a_move_under_itself_or_below_is_refused,
        r03_the_tree_is_at_most_32_deep,
        r03_random_tree_operations_match_a_model,
        r03_moves_and_product_writes_at_once_agree_in_the_end,
        r06_a_category_takes_its_subtree,
    ]
}

/// The paths of soft-deleted categories change too, so that they are right after a restore.
pub async fn r03_a_rename_rewrites_the_whole_subtree(f: &ShopFixture) {
    let a = f.category("Electronics", None).await;
    let b = f.category("Audio", Some(&a)).await;
    let c = f.category("Headphones", Some(&b)).await;
    let gone = f.category("Radios", Some(&b)).await;
    let near = f.category("Electronics old", None).await;
    f.delete_category(gone.id, DeleteMode::Soft).await.unwrap();
    let head = f.head().await;
    let renamed = f.rename_category(a.id, "Gadgets & Devices").await.unwrap();
    assert_eq!((renamed.slug.as_str(), renamed.path.as_str()), ("gadgets-devices", "gadgets-devices"));
    for (id, path) in [
        (b.id, "gadgets-devices/audio"),
        (c.id, "gadgets-devices/audio/headphones"),
        (gone.id, "gadgets-devices/audio/radios"),
        (near.id, "electronics-old"),
    ] {
        let now = f.fresh_category(id).await;
        assert_eq!(now.path, path);
        assert_eq!(
            now.audit.version,
            if id == gone.id { 2 } else { 1 },
            "a rename of an ancestor must not increase the version"
        );
    }
    assert_eq!(f.events_after(head).await.len(), 1);
    let above = f.shop.categories().ancestors(c.id).await.unwrap();
    assert_eq!(above.iter().map(|c| c.id).collect::<Vec<_>>(), [a.id, b.id]);
    assert_eq!(f.shop.categories().resolve("gadgets-devices/audio").await.unwrap().value.id, b.id);
    assert_eq!(code_of(f.shop.categories().resolve("electronics/audio").await, "the old path"), ErrorCode::NotFound);
    f.shop.acting_as(me()).categories().restore(gone.id, v(2)).await.unwrap();
    let chosen =
        f.shop.acting_as(me()).categories().patch(b.id, v(1), from(&json!({ "slug": "sound" }))).await.unwrap();
    assert_eq!((chosen.name.as_str(), chosen.path.as_str()), ("Audio", "gadgets-devices/sound"));
    let renamed = f.rename_category(b.id, "Hi-fi").await.unwrap();
    assert_eq!(renamed.slug.as_str(), "sound", "a rename must keep a slug that was chosen");

    // The children of a deleted category do not follow a live category that has taken over the path.
    let (old, child) = (f.category("Twin", None).await, f.category("Twin child", None).await);
    f.move_category(child.id, Some(old.id)).await.unwrap();
    f.delete_category(child.id, DeleteMode::Soft).await.unwrap();
    f.delete_category(old.id, DeleteMode::Soft).await.unwrap();
    let new = f.category("Twin", None).await;
    f.rename_category(new.id, "Other").await.unwrap();
    assert_eq!(f.fresh_category(old.id).await.path, "twin");
    assert_eq!(f.fresh_category(child.id).await.path, "twin/twin-child");
}

/// The representations of the products, lists, searches and the product counts follow a move.
pub async fn r03_products_follow_a_moved_category(f: &ShopFixture) {
    let (a, b) = (f.category("A", None).await, f.category("B", None).await);
    let mid = f.category("Mid", Some(&a)).await;
    let low = f.category("Low", Some(&mid)).await;
    let p = f.plain_in("P", &[&low]).await;
    let gone = f.plain_in("Gone", &[&low]).await;
    f.delete(&gone, DeleteMode::Soft).await.unwrap();
    f.plain_in("Q", &[&a]).await;
    assert_eq!(f.listed(in_category(a.id)).await, ["P", "Q"]);
    f.index_is_in_step("before").await;

    let moved = f.move_category(mid.id, Some(b.id)).await.unwrap();
    assert_eq!(moved.path, "b/mid");
    let now = f.fresh(p.id).await;
    assert_eq!(now.categories[0].path, "b/mid/low");
    assert_eq!(
        (now.audit.version, now.revision > p.revision),
        (1, true),
        "a move must increase the revision and not the version"
    );
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, now);
    assert_eq!(f.listed(in_category(a.id)).await, ["Q"]);
    assert_eq!(f.listed(in_category(b.id)).await, ["P"]);
    let count = async |id| f.fresh_category(id).await.subtree_product_count;
    assert_eq!((count(a.id).await, count(b.id).await, count(mid.id).await), (1, 1, 1));
    f.index_is_in_step("after the move").await;
    let within = |id| SearchFilter { categories: vec![id], ..SearchFilter::default() };
    assert_eq!(f.searched("", within(a.id)).await, ["Q"]);
    assert_eq!(f.searched("", within(b.id)).await, ["P"]);
    f.rename_category(low.id, "Deepest").await.unwrap();
    f.index_is_in_step("after the rename").await;
    assert_eq!(
        f.searched("deepest", SearchFilter::default()).await,
        ["P"],
        "a search must find a product by the new name of its category"
    );
    assert_eq!(f.fresh(gone.id).await.categories[0].path, "b/mid/deepest");
    f.move_category(mid.id, None).await.unwrap();
    assert_eq!(f.fresh(p.id).await.categories[0].path, "mid/deepest");
    assert!(f.listed(in_category(b.id)).await.is_empty());
}

/// Uses move and PUT.
pub async fn r03_a_move_under_itself_or_below_is_refused(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let c = f.category("C", Some(&b)).await;
    let before = f.snapshot().await;
    for parent in [a.id, b.id, c.id] {
        match conflict(f.move_category(a.id, Some(parent)).await, "a cycle") {
            Conflict::Catalog(CatalogConflict::CategoryCycle { category, parent: named }) => {
                assert_eq!((category, named), (a.id.0, parent.0));
            }
            other => panic!("{other}"),
        }
        let put = f.shop.acting_as(me()).categories().replace(a.id, v(1), &category_input("A", Some(parent))).await;
        assert_eq!(code_of(put, "PUT"), ErrorCode::CategoryCycle);
    }
    assert_eq!(f.snapshot().await, before);
    assert_eq!(f.move_category(c.id, Some(a.id)).await.unwrap().path, "a/c");
}

/// Uses create and the move of a subtree.
pub async fn r03_the_tree_is_at_most_32_deep(f: &ShopFixture) {
    let mut chain = vec![f.category("L1", None).await];
    for n in 2..=Category::MAX_DEPTH {
        let next = f.category(&format!("L{n}"), chain.last()).await;
        chain.push(next);
    }
    let last = chain.last().unwrap();
    assert_eq!(last.depth(), 32);
    let top = f.category("Top", None).await;
    let side = f.category("Side", None).await;
    f.category("Below", Some(&side)).await;
    let before = f.snapshot().await;
    let deeper = f.shop.acting_as(me()).categories().create(&category_input("L33", Some(last.id))).await;
    assert!(fields(deeper, "a category that is one level too deep").contains_key("parent_id"));
    let moved = f.move_category(chain[0].id, Some(top.id)).await;
    assert!(fields(moved, "a move that is one level too deep").contains_key("parent_id"));
    let moved = f.move_category(side.id, Some(chain[30].id)).await;
    assert!(fields(moved, "a move whose descendants are too deep").contains_key("parent_id"));
    assert_eq!(f.snapshot().await, before);
    assert_eq!(f.move_category(side.id, Some(chain[29].id)).await.unwrap().depth(), 31);
}

#[derive(Debug, Clone)]
struct Node {
    slug: String,
    parent: Option<CategoryId>,
    live: bool,
}

fn model_path(tree: &BTreeMap<CategoryId, Node>, id: CategoryId) -> String {
    let node = &tree[&id];
    node.parent.map_or_else(|| node.slug.clone(), |p| format!("{}/{}", model_path(tree, p), node.slug))
}

fn model_contains(tree: &BTreeMap<CategoryId, Node>, above: CategoryId, id: CategoryId) -> bool {
    above == id || tree[&id].parent.is_some_and(|p| model_contains(tree, above, p))
}

/// Categories are created, renamed, moved, deleted and restored at random. A failure names its seed.
pub async fn r03_random_tree_operations_match_a_model(f: &ShopFixture) {
    tree_history(f, fresh_seed()).await;
}

/// Replays a random history of the tree.
pub async fn tree_history(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tree: BTreeMap<CategoryId, Node> = BTreeMap::new();
    let mut products: BTreeMap<ProductId, CategoryId> = BTreeMap::new();
    for step in 0..f.steps(150) {
        let at = format!("seed {seed}, step {step}");
        let ids: Vec<CategoryId> = tree.keys().copied().collect();
        let live: Vec<CategoryId> = ids.iter().copied().filter(|id| tree[id].live).collect();
        let pick =
            |rng: &mut StdRng, from: &[CategoryId]| (!from.is_empty()).then(|| from[rng.random_range(0..from.len())]);
        let name = format!("N {}", rng.random_range(0..12));
        let one = pick(&mut rng, &live);
        let other = if rng.random_bool(0.2) { None } else { pick(&mut rng, &live) };
        let used = |id: CategoryId, tree: &BTreeMap<CategoryId, Node>, all: bool| {
            tree.values().any(|n| n.parent == Some(id) && (all || n.live)) || products.values().any(|c| *c == id)
        };
        match (rng.random_range(0..10), one) {
            (0..=3, _) | (_, None) => {
                match f.shop.acting_as(me()).categories().create(&category_input(&name, other)).await {
                    Ok(c) => {
                        tree.insert(c.id, Node { slug: c.slug.to_string(), parent: other, live: true });
                        if rng.random_bool(0.4) {
                            let p = f.plain_in(&format!("P {step}"), &[&c]).await;
                            products.insert(p.id, c.id);
                        }
                    }
                    Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
                }
            }
            (4, Some(id)) => match f.rename_category(id, &name).await {
                Ok(c) => tree.get_mut(&id).unwrap().slug = c.slug.to_string(),
                Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
            },
            (5..=6, Some(id)) => {
                let cycle = other.is_some_and(|o| model_contains(&tree, id, o));
                match f.move_category(id, other).await {
                    Ok(_) if !cycle => tree.get_mut(&id).unwrap().parent = other,
                    Ok(c) => panic!("{at}: a move that makes a cycle must be refused, but returns {c:?}"),
                    Err(e) if cycle => assert_eq!(e.code(), ErrorCode::CategoryCycle, "{at}: {e}"),
                    Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
                }
            }
            (7, Some(id)) => match f.delete_category(id, DeleteMode::Soft).await {
                Ok(()) if !used(id, &tree, false) => tree.get_mut(&id).unwrap().live = false,
                Ok(()) => panic!("{at}: a soft delete of a category in use must be refused"),
                Err(e) => assert!(used(id, &tree, false) && e.code() == ErrorCode::CategoryNotEmpty, "{at}: {e}"),
            },
            (8, Some(id)) if rng.random_bool(0.5) => match f.delete_category(id, DeleteMode::Force).await {
                Ok(()) if !used(id, &tree, true) => drop(tree.remove(&id)),
                Ok(()) => panic!("{at}: a force delete of a category in use must be refused"),
                Err(e) => assert!(used(id, &tree, true) && e.code() == ErrorCode::CategoryNotEmpty, "{at}: {e}"),
            },
            _ => {
                let gone: Vec<CategoryId> = ids.iter().copied().filter(|id| !tree[id].live).collect();
                if let Some(id) = pick(&mut rng, &gone) {
                    let version = f.fresh_category(id).await.audit.version;
                    let under_deleted = tree[&id].parent.is_some_and(|p| !tree[&p].live);
                    match f.shop.acting_as(me()).categories().restore(id, v(version)).await {
                        Ok(_) if !under_deleted => tree.get_mut(&id).unwrap().live = true,
                        Ok(c) => panic!("{at}: a restore under a deleted parent must be refused, but returns {c:?}"),
                        Err(e) if under_deleted => assert_eq!(e.code(), ErrorCode::StateConflict, "{at}: {e}"),
                        Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
                    }
                }
            }
        }
        if step % 10 == 9 {
            matches_the_model(f, &tree, &products, &at).await;
        }
    }
    f.index_is_in_step(&format!("seed {seed}")).await;
}

/// Categories are created, renamed, moved and deleted while products are created, moved between them, deleted and
/// restored.
pub async fn r03_moves_and_product_writes_at_once_agree_in_the_end(f: &ShopFixture) {
    tree_storm(f, fresh_seed()).await;
}

/// Runs the random operations of a seed. Their interleaving depends on the machine.
pub async fn tree_storm(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut categories = Vec::new();
    for n in 0..3 {
        let root = f.category(&format!("Root {n}"), None).await;
        for m in 0..2 {
            let mid = f.category(&format!("Mid {n} {m}"), Some(&root)).await;
            categories.push(f.category(&format!("Leaf {n} {m}"), Some(&mid)).await.id);
            categories.push(mid.id);
        }
        categories.push(root.id);
    }
    let mut products = Vec::new();
    for n in 0..10 {
        let category = f.fresh_category(categories[n % categories.len()]).await;
        products.push(f.plain_in(&format!("P {n}"), &[&category]).await.id);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_u64 {
        let (shop, mut rng) = (f.shop.clone(), StdRng::seed_from_u64(seed ^ (task << 48)));
        let (categories, mut products) = (categories.clone(), products.clone());
        tasks.spawn(async move {
            let mut done = 0;
            for step in 0..25 {
                let category = categories[rng.random_range(0..categories.len())];
                let other = categories[rng.random_range(0..categories.len())];
                let product = products[rng.random_range(0..products.len())];
                let what = rng.random_range(0..10);
                let outcome = tree_write(&shop, (task, step), what, category, other, product).await;
                match outcome {
                    Ok(made) => {
                        done += 1;
                        products.extend(made);
                    }
                    Err(e) => {
                        let expected = [
                            ErrorCode::VersionConflict,
                            ErrorCode::CategoryCycle,
                            ErrorCode::CategoryNotEmpty,
                            ErrorCode::Duplicate,
                            ErrorCode::NotFound,
                            ErrorCode::Validation,
                            ErrorCode::StateConflict,
                        ];
                        assert!(expected.contains(&e.code()), "seed {seed}: {e:?}");
                    }
                }
            }
            done
        });
    }
    let done: i32 = tasks.join_all().await.into_iter().sum();
    assert!(done > 50, "seed {seed}: the test itself is at fault: only {done} of 200 writes have succeeded");

    let stored = f.snapshot().await;
    let tree: BTreeMap<CategoryId, Node> = stored
        .categories
        .iter()
        .map(|c| (c.id, Node { slug: c.slug.to_string(), parent: c.parent_id, live: c.audit.is_live() }))
        .collect();
    let at = format!("seed {seed}");
    for c in &stored.categories {
        assert_eq!(c.path, model_path(&tree, c.id), "{at}: a category must have the path of its ancestors");
        let live = stored.products.iter().filter(|p| p.audit.is_live());
        let own = live.clone().filter(|p| p.categories.iter().any(|of| of.id == c.id)).count();
        let below: BTreeSet<ProductId> =
            live.filter(|p| p.categories.iter().any(|of| model_contains(&tree, c.id, of.id))).map(|p| p.id).collect();
        if c.audit.is_live() {
            assert!(
                c.parent_id.is_none_or(|p| tree[&p].live),
                "{at}: {} must not be live under a deleted category",
                c.path
            );
            assert_eq!(c.product_count, own as i64, "{at}: the product count of {}", c.path);
            assert_eq!(c.subtree_product_count, below.len() as i64, "{at}: the subtree count of {}", c.path);
            let filter = in_category(c.id);
            let query = ProductListQuery { filter, sort: ProductSort::CreatedAsc, paging: Paging::first(1_000) };
            let list = f.shop.products().list(&query).await.unwrap();
            let listed: BTreeSet<ProductId> = list.value.page.items.iter().map(|p| p.id).collect();
            assert_eq!(listed, below, "{at}: the list of {}", c.path);
        } else {
            assert_eq!(own, 0, "{at}: a deleted category must have no live products");
        }
    }
    for of in stored.products.iter().flat_map(|p| &p.categories) {
        assert_eq!(of.path, model_path(&tree, of.id), "{at}: the category of a product must have its current path");
    }
    f.index_is_in_step(&at).await;
}

/// Makes one random write, and returns the product that it has created.
async fn tree_write(
    shop: &Shop,
    (task, step): (u64, u64),
    what: u32,
    category: CategoryId,
    other: CategoryId,
    product: ProductId,
) -> Result<Option<ProductId>> {
    let products = shop.acting_as(me()).products();
    let categories = shop.acting_as(me()).categories();
    let version = async || Ok::<_, Error>(v(categories.get_fresh(category, IncludeDeleted::Yes).await?.audit.version));
    match what {
        0 | 1 => {
            let parent = (step % 3 > 0).then(|| other.to_string());
            categories.move_to(category, version().await?, parent).await?;
        }
        2 => {
            let patch = CategoryPatch { name: Patch::Set(format!("Name {task} {step}")), ..CategoryPatch::default() };
            categories.patch(category, version().await?, patch).await?;
        }
        3 => {
            categories.create(&category_input(&format!("New {task} {step}"), Some(category))).await?;
        }
        4 => match categories.get_fresh(category, IncludeDeleted::No).await {
            Ok(c) => categories.delete(category, v(c.audit.version), DeleteMode::Soft).await?,
            Err(_) => drop(categories.restore(category, version().await?).await?),
        },
        5 | 6 => {
            let input = ProductInput {
                categories: Some(vec![category.to_string(), other.to_string()]),
                ..flat(&format!("P {task} {step}"))
            };
            return products.create(&input).await.map(|p| Some(p.id));
        }
        7 | 8 => {
            let read = products.get_fresh(product, IncludeDeleted::Yes).await?;
            let patch = ProductPatch { categories: Patch::Set(vec![category.to_string()]), ..ProductPatch::default() };
            products.patch(product, v(read.audit.version), patch).await?;
        }
        _ => {
            let read = products.get_fresh(product, IncludeDeleted::Yes).await?;
            if read.audit.is_live() {
                products.delete(product, v(read.audit.version), DeleteMode::Soft).await?;
            } else {
                products.restore(product, v(read.audit.version)).await?;
            }
        }
    }
    Ok(None)
}

async fn matches_the_model(
    f: &ShopFixture,
    tree: &BTreeMap<CategoryId, Node>,
    products: &BTreeMap<ProductId, CategoryId>,
    at: &str,
) {
    let stored = f.snapshot().await;
    assert_eq!(stored.categories.len(), tree.len(), "{at}: the stored categories must be those of the model");
    for c in &stored.categories {
        let node = &tree[&c.id];
        assert_eq!(
            (c.parent_id, c.audit.is_live()),
            (node.parent, node.live),
            "{at}: a category must have the parent and the state of the model"
        );
        assert_eq!(c.path, model_path(tree, c.id), "{at}: the path of a category whose `live` is {}", node.live);
        let own = products.values().filter(|of| **of == c.id).count();
        let below: BTreeSet<ProductId> =
            products.iter().filter(|(_, of)| model_contains(tree, c.id, **of)).map(|(p, _)| *p).collect();
        if node.live {
            assert_eq!(c.product_count, own as i64, "{at}: the product count of {}", c.path);
            assert_eq!(c.subtree_product_count, below.len() as i64, "{at}: the subtree count of {}", c.path);
            let query = ProductListQuery {
                filter: in_category(c.id),
                sort: ProductSort::CreatedAsc,
                paging: Paging::first(1_000),
            };
            let list = f.shop.products().list(&query).await.unwrap();
            let listed: BTreeSet<ProductId> = list.value.page.items.iter().map(|p| p.id).collect();
            assert_eq!(listed, below, "{at}: the list of {}", c.path);
        }
    }
    for p in &stored.products {
        assert_eq!(
            p.categories[0].path,
            model_path(tree, products[&p.id]),
            "{at}: the category of a product must have its current path"
        );
    }
    let shown = f.shop.categories().tree().await.unwrap();
    let live: BTreeSet<CategoryId> = tree.iter().filter(|(_, n)| n.live).map(|(id, _)| *id).collect();
    assert_eq!(
        shown.value.iter().map(|c| c.id).collect::<BTreeSet<_>>(),
        live,
        "{at}: the tree must contain exactly the live categories"
    );
    let mut seen = HashSet::new();
    for c in shown.value.iter() {
        assert!(
            c.parent_id.is_none_or(|p| seen.contains(&p)),
            "{at}: the tree must have parents before their children"
        );
        seen.insert(c.id);
    }
}

/// Lists, counts, filters and searches by a category include its descendants, and each product once.
pub async fn r06_a_category_takes_its_subtree(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let c = f.category("C", Some(&b)).await;
    let ab = f.category("A B", None).await;
    f.plain_in("In a", &[&a]).await;
    f.plain_in("In c", &[&c]).await;
    f.plain_in("In all", &[&a, &b, &c]).await;
    f.plain_in("Beside", &[&ab]).await;
    f.plain("Nowhere").await;
    f.index_is_in_step("before").await;
    for (id, expected) in [
        (a.id, vec!["In a", "In all", "In c"]),
        (b.id, vec!["In all", "In c"]),
        (c.id, vec!["In all", "In c"]),
        (ab.id, vec!["Beside"]),
    ] {
        assert_eq!(f.listed(in_category(id)).await, expected);
        let within = SearchFilter { categories: vec![id], ..SearchFilter::default() };
        assert_eq!(f.searched("", within).await, expected);
        let paging = Paging::Offset { offset: 0, limit: 1 };
        let query = ProductListQuery { filter: in_category(id), sort: ProductSort::PriceAsc, paging };
        let total = f.shop.products().list(&query).await.unwrap().value.total;
        assert_eq!(total, Some(Total { count: expected.len() as u64, exact: true }));
        assert_eq!(f.fresh_category(id).await.subtree_product_count, expected.len() as i64);
    }
}
