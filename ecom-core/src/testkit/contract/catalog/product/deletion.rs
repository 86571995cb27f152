//! Soft-deleted products are hidden and can be restored (R2), and purged products are removed permanently (R5).

use std::sync::Arc;

use super::support::{coded, get, matching};
use crate::domain::catalog::product::ProductFilter;
use crate::domain::common::IncludeDeleted;
use crate::port::storage::Storage;
use crate::testkit::is_taken;
use crate::testkit::sample::Env;

tests! {
    __product_deletion: [
        r02_soft_deleted_products_are_hidden_unless_asked_for,
        r02_a_deleted_product_comes_back,
        r02_slug_is_free_again_after_soft_delete,
        r02_a_restore_into_a_taken_slug_is_refused,
        r05_purge_removes_product_skus_and_ledger,
    ]
}

/// Every read hides soft-deleted rows, and reads that can include them return them.
pub async fn r02_soft_deleted_products_are_hidden_unless_asked_for(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let live = env.full_product("Live", &[&a]);
    let gone = env.full_product("Gone", &[&a]);
    env.insert_products(storage, &[live.clone(), gone.clone()]).await.unwrap();
    let gone = env.soft_delete(storage, &gone).await.unwrap();
    let ids = [live.id, gone.id];
    assert_eq!(get(storage, gone.id).await, None, "`get` hides a soft-deleted product");
    assert_eq!(
        read!(storage, products.get(gone.id, IncludeDeleted::Yes)).as_ref(),
        Some(&gone),
        "`get` returns a soft-deleted product if it is asked for"
    );
    assert_eq!(read!(storage, products.get_by_slug("gone")), None, "`get_by_slug` hides a soft-deleted product");
    assert_eq!(
        read!(storage, products.get_many(&ids, IncludeDeleted::No)),
        [live.clone()],
        "`get_many` leaves soft-deleted products out"
    );
    assert_eq!(
        read!(storage, products.get_many(&ids, IncludeDeleted::Yes)),
        [live.clone(), gone.clone()],
        "`get_many` returns soft-deleted products if they are asked for"
    );
    for category in [None, Some(a.id)] {
        let hide = ProductFilter { category, ..ProductFilter::default() };
        let include = ProductFilter { include_deleted: IncludeDeleted::Yes, ..hide.clone() };
        assert_eq!(matching(storage, &hide).await, [live.id], "a list leaves soft-deleted products out");
        assert_eq!(matching(storage, &include).await, ids, "a list has soft-deleted products if they are asked for");
    }
    assert_eq!(
        read!(storage, products.ids_in_category(a.id, None, 9)),
        ids,
        "`ids_in_category` must include soft-deleted products, because a move refreshes them too"
    );
    assert_eq!(read!(storage, products.revisions(None, 9)).len(), 2, "`revisions` lists soft-deleted products too");
}

/// A restore is an update that clears `deleted_at`.
pub async fn r02_a_deleted_product_comes_back(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = env.full_product("P", &[]);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    let gone = env.soft_delete(storage, &p).await.unwrap();
    let mut back = env.edited(&gone);
    back.audit.deleted_at = None;
    env.update_product(storage, &gone, &back).await.unwrap();
    assert_eq!(
        get(storage, p.id).await.as_ref(),
        Some(&back),
        "a product that is restored is read with all its fields"
    );
    assert_eq!(
        matching(storage, &ProductFilter::default()).await,
        [p.id],
        "a product that is restored is in lists again"
    );
}

/// Other products can use the slug of a deleted product.
pub async fn r02_slug_is_free_again_after_soft_delete(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = coded(&env, "Chair", "one");
    env.insert_products(storage, std::slice::from_ref(&old)).await.unwrap();
    env.soft_delete(storage, &old).await.unwrap();
    let new = coded(&env, "Chair", "two");
    env.insert_products(storage, std::slice::from_ref(&new))
        .await
        .expect("the slug of a soft-deleted product must be free");
    assert_eq!(
        read!(storage, products.get_by_slug("chair")),
        Some(new),
        "a slug that a live product has taken over from a soft-deleted one must find the live product"
    );
}

/// The restore does not take the slug back from another product.
pub async fn r02_a_restore_into_a_taken_slug_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = coded(&env, "Chair", "one");
    env.insert_products(storage, std::slice::from_ref(&old)).await.unwrap();
    let gone = env.soft_delete(storage, &old).await.unwrap();
    env.insert_products(storage, &[coded(&env, "Chair", "two")]).await.unwrap();
    let mut back = env.edited(&gone);
    back.audit.deleted_at = None;
    is_taken("slug", env.update_product(storage, &gone, &back).await, "restore");
    assert_eq!(
        read!(storage, products.get(old.id, IncludeDeleted::Yes)),
        Some(gone),
        "a restore that is refused must change nothing"
    );
}

/// Reads that include deleted rows do not find the product either, and other products can use its keys.
pub async fn r05_purge_removes_product_skus_and_ledger(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = env.category("A", None);
    env.insert_categories(storage, &[&a]).await.unwrap();
    let (p, other) = (env.full_product("P", &[&a]), env.full_product("Other", &[&a]));
    env.insert_products(storage, &[p.clone(), other.clone()]).await.unwrap();
    attempt!(storage, inventory.apply(&[env.movement(p.skus[0].id, 5)])).unwrap();
    let current = get(storage, p.id).await.unwrap();
    attempt!(storage, products.purge(&current)).unwrap();
    assert_eq!(
        read!(storage, products.get(p.id, IncludeDeleted::Yes)),
        None,
        "a purged product must not be found, even by a read that includes soft-deleted products"
    );
    assert_eq!(read!(storage, skus.of_product(p.id, IncludeDeleted::Yes)), [], "the SKUs of a purged product are gone");
    assert_eq!(
        read!(storage, inventory.count_movements(p.skus[0].id)),
        0,
        "the stock movements of a purged product are gone"
    );
    let include =
        ProductFilter { category: Some(a.id), include_deleted: IncludeDeleted::Yes, ..ProductFilter::default() };
    assert_eq!(matching(storage, &include).await, [other.id], "a purged product is in no list");
    assert_eq!(get(storage, other.id).await, Some(other), "a purge leaves other products as they are");
    assert_eq!(
        read!(storage, inventory.imbalances()),
        [],
        "after a purge, the stock of every remaining SKU must be the sum of its movements"
    );
    env.insert_products(storage, &[env.full_product("P", &[&a])])
        .await
        .expect("the keys of a purged row must be free for new rows");
}
