//! Constraints of the schema, and the conflict that each becomes.

use ecom_core::access::{BuiltInRole, Permission};
use ecom_core::catalog::CategorySummary;
use ecom_core::common::{Actor, ExternalRef, IncludeDeleted};
use ecom_core::id::*;
use ecom_core::port::*;
use ecom_core::stock::StockConflict;
use ecom_core::text::Slug;
use ecom_core::{Conflict, Error, ErrorCode, FieldCode};

use ecom_core::testkit::sample::Env;

use crate::support::{
    TestResult, category, file, ids, movement, now, product, raw, sku, write_categories, write_products,
};

fn duplicate(e: &Error) -> Option<(&'static str, &str)> {
    match e {
        Error::Conflict(c) => match &**c {
            Conflict::Duplicate { field, value, .. } => Some((field, value)),
            _ => None,
        },
        _ => None,
    }
}

#[tokio::test]
async fn what_the_database_refuses_becomes_our_conflict() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    let mut below = category("Paper", Some(&top));
    below.external = Some(ExternalRef::new("shop", "1"));
    write_categories(&s, &[top.clone(), below.clone()]).await?;
    let mut p = product("Pen", &[&below], 100, 1);
    p.external = Some(ExternalRef::new("shop", "1"));
    write_products(&s, std::slice::from_ref(&p)).await?;

    // Roots are siblings of each other; a name is folded.
    let mut c = category("OFFICE", None);
    c.slug = Slug::trusted("other".to_owned());
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("name", "OFFICE")));
    c.name = "Other".to_owned();
    c.slug = top.slug.clone();
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("slug", "office")));
    c.slug = Slug::trusted("other".to_owned());
    c.external = below.external.clone();
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("external_id", "1")));
    c.external = None;
    c.parent_id = Some(CategoryId(ids().next()));
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    let Error::Validation(v) = &e else { return Err(e.into()) };
    assert_eq!((v.0[0].field.as_str(), v.0[0].code), ("parent_id", FieldCode::ReferenceNotFound));

    let mut q = product("Pen", &[], 100, 0);
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("slug", "pen")));
    q.slug = Slug::trusted("pencil".to_owned());
    q.external = p.external.clone();
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("external_id", "1")));
    q.external = None;
    q.skus = vec![sku(q.id, 0, "PEN-0", 1, 0)];
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("code", "PEN-0")));
    q.skus.clear();
    let gone = category("Gone", None);
    q.categories = vec![CategorySummary::from(&gone)];
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    let Error::Validation(v) = &e else { return Err(e.into()) };
    assert_eq!((v.0[0].field.as_str(), v.0[0].code), ("categories", FieldCode::ReferenceNotFound));
    assert!(v.0[0].message.contains(&gone.id.to_string()));

    let mut tx = s.begin().await?;
    let e = tx.categories().purge(below.id).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::CategoryNotEmpty);
    let e = tx.categories().purge(top.id).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::CategoryNotEmpty);
    let e = tx.inventory().apply(&[movement(p.skus[0].id, -11)]).await.unwrap_err();
    let Error::Conflict(c) = &e else { return Err(e.into()) };
    let Conflict::Stock(StockConflict::Insufficient { shortages }) = &**c else { return Err(e.into()) };
    assert_eq!((shortages[0].requested, shortages[0].available), (11, 10));
    let e = tx.inventory().apply(&[movement(SkuId(ids().next()), 1)]).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::NotFound);
    let mut stale = p.clone();
    stale.audit.version = 7;
    let e = tx.products().update(&stale, &stale).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VersionConflict);
    tx.rollback().await?;

    // The names are free again once their owner is soft-deleted.
    let mut after = p.clone();
    after.audit.edited(now(), &Actor::system());
    after.audit.deleted_at = Some(now());
    let mut tx = s.begin().await?;
    tx.products().update(&p, &after).await?;
    q.slug = p.slug.clone();
    q.external = p.external.clone();
    q.categories.clear();
    tx.products().insert(std::slice::from_ref(&q)).await?;
    assert_eq!(tx.categories().get(top.id, IncludeDeleted::No).await?.ok_or("gone")?.subtree_product_count, 0);
    tx.commit().await?;
    Ok(())
}

#[tokio::test]
async fn permissions_of_a_later_release_are_left_out() -> TestResult {
    let (dir, s) = file().await;
    let (role, key) = (Env::default().full_role("packer"), Env::default().api_key("robot"));
    let mut tx = s.begin().await?;
    tx.roles().insert(&role).await?;
    tx.api_keys().insert(&key).await?;
    tx.commit().await?;
    raw(&dir, r#"UPDATE roles SET permissions = '["stock:teleport","stock:read",""]' WHERE name = 'packer'"#).await?;
    raw(&dir, r#"UPDATE api_keys SET permissions = '["stock:teleport","stock:read"]'"#).await?;
    let mut c = s.connect().await?;
    let known = [Permission::StockRead].into();
    assert_eq!(c.roles().get(role.id).await?.ok_or("gone")?.permissions, known);
    assert_eq!(c.api_keys().get(key.id).await?.ok_or("gone")?.permissions, known);
    assert!(c.roles().all().await?.iter().all(|r| r.name != "packer" || r.permissions == known));
    Ok(())
}

#[tokio::test]
async fn what_the_schema_of_access_refuses() -> TestResult {
    let (dir, s) = file().await;
    let env = Env::default();
    let user = env.full_user("ada@example.com", None, &[BuiltInRole::Staff.id()]);
    let mut tx = s.begin().await?;
    tx.users().insert(&user).await?;
    tx.sessions().insert(&env.session(&user)).await?;
    tx.api_keys().insert(&env.api_key("robot")).await?;
    tx.commit().await?;
    for (why, sql) in [
        ("the name of a role is a word", "UPDATE roles SET name = 'No Role' WHERE name = 'staff'"),
        ("the name of a role begins with a letter", "UPDATE roles SET name = '2nd' WHERE name = 'staff'"),
        ("permissions are an array", "UPDATE roles SET permissions = '{}'"),
        ("permissions are an array", "UPDATE api_keys SET permissions = '1'"),
        ("a role of a user stays", "DELETE FROM roles WHERE name = 'staff'"),
        ("a password has a time", "UPDATE users SET password_set_at = NULL"),
        ("an end has a reason", "UPDATE sessions SET ended_at = 1"),
        ("a user with sessions stays", "DELETE FROM users"),
        ("a hash has 32 bytes", "UPDATE api_keys SET hash = X'00'"),
    ] {
        assert!(raw(&dir, sql).await.is_err(), "{why}: {sql}");
    }
    Ok(())
}
