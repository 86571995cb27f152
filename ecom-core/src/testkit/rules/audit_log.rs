//! The audit log has every edit of the catalog, of customers, of access and of settings, and no secret.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{category_input, fields, from, me, v};
use crate::access::{ApiKeyInput, ApiKeyPatch, BuiltInRole, Permission, RoleInput, RolePatch, Secret, UserInput};
use crate::catalog::ImportOptions;
use crate::domain::access::principal::Principal;
use crate::domain::common::{DeleteMode, Patch};
use crate::domain::platform::audit_log::{AuditLogEntry, AuditLogFilter};
use crate::domain::search::synonyms::Synonym;
use crate::error::FieldCode;
use crate::paging::Paging;
use crate::testkit::faults::Fault;

tests! {
    __shop_audit_log: [
        an_entry_has_what_an_edit_has_changed,
        an_edit_that_is_not_written_has_no_entry,
        the_entries_of_access_have_no_secrets,
        an_import_has_one_entry,
        the_entry_of_an_import_is_right_after_faults,
        r45_an_erasure_removes_the_values_of_a_customer_and_its_user,
        a_permanent_deletion_removes_the_values,
        r17_a_filter_that_matches_nothing_is_refused,
    ]
}

impl ShopFixture {
    /// Returns the entries of the audit log, oldest first.
    pub(super) async fn audit_log(&self) -> Vec<AuditLogEntry> {
        let filter = AuditLogFilter::default();
        let mut entries = self.shop.audit_log().list(&filter, &Paging::first(10_000)).await.unwrap().0.items;
        entries.reverse();
        entries
    }
}

/// Returns action, before and after of entries.
fn edits(entries: &[AuditLogEntry]) -> Vec<(&str, Value, Value)> {
    entries.iter().map(|e| (e.action.as_str(), json!(e.before), json!(e.after))).collect()
}

/// Returns records of products for an import.
fn lamps(title: &str, n: usize) -> String {
    let lamp = |i| json!({ "id": i, "title": format!("{title} {i}"), "price": 1, "category": "lamps" });
    let lines: Vec<String> = (0..n).map(|i| lamp(i).to_string()).collect();
    lines.join("\n")
}

/// A product with its SKUs, a category, and a setting, from creation to permanent deletion.
pub async fn an_entry_has_what_an_edit_has_changed(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let input = json!({ "title": "Lamp", "skus": [{ "code": "L-1", "price": "10.00", "stock": 5 }, { "price": 20 }] });
    let lamp = shop.products().create(&from(&input)).await.unwrap();
    let made = f.audit_log().await;
    assert_eq!(made.len(), 1, "{made:#?}");
    assert_eq!(
        (made[0].action.as_str(), made[0].entity(), made[0].aggregate_id),
        ("product.created", "product", lamp.id.0)
    );
    assert_eq!((&made[0].actor, made[0].occurred_at), (me().actor(), lamp.audit.created_at));
    assert_eq!(made[0].before, None);
    let after = json!(made[0].after);
    assert_eq!((&after["title"], &after["skus"][0]["code"]), (&json!("Lamp"), &json!("L-1")));
    assert_eq!(after["skus"][0].get("on_hand"), None, "the ledger has the stock: {after}");

    let patch = json!({ "title": "Desk lamp", "slug": "lamp", "skus": [
        { "id": lamp.skus[0].id, "code": "L-1", "price": "9.00", "stock": 7 },
        { "id": lamp.skus[1].id, "code": lamp.skus[1].code, "price": 20 },
    ] });
    let edited = shop.products().patch(lamp.id, v(1), from(&patch)).await.unwrap();
    shop.skus().delete(lamp.skus[1].id, v(1), DeleteMode::Soft).await.unwrap();
    shop.skus().delete(lamp.skus[1].id, v(2), DeleteMode::Force).await.unwrap();
    let now = f.fresh(lamp.id).await;
    shop.products().delete(lamp.id, v(now.audit.version), DeleteMode::Soft).await.unwrap();
    let gone = f.fresh(lamp.id).await;
    shop.products().restore(lamp.id, v(gone.audit.version)).await.unwrap();
    shop.products().delete(lamp.id, v(gone.audit.version + 1), DeleteMode::Force).await.unwrap();
    let log = f.audit_log().await;
    let log = edits(&log[1..]);
    let (first, second) = (lamp.skus[0].id, lamp.skus[1].id);
    assert_eq!(edited.skus[0].on_hand, 7);
    assert_eq!(log[0].0, "product.updated");
    assert_eq!(log[0].1["title"], "Lamp");
    assert_eq!(log[0].2["title"], "Desk lamp");
    assert_eq!(log[0].1["skus"], json!([{ "id": first, "price": { "amount": "10.00" } }]));
    assert_eq!(log[0].2["skus"], json!([{ "id": first, "price": { "amount": "9.00" } }]));
    for (n, what) in [(1, "a soft deletion"), (2, "a permanent deletion")] {
        assert_eq!(log[n].0, "product.updated", "{what}");
        assert_eq!((&log[n].1["skus"][0]["id"], &log[n].2["skus"]), (&json!(second), &json!([])), "{what}");
    }
    assert_eq!((log[3].0, &log[3].1), ("product.deleted", &json!({})));
    assert!(log[3].2["deleted_at"].is_string(), "{log:#?}");
    assert_eq!((log[4].0, &log[4].2), ("product.restored", &json!({})));
    assert!(log[4].1["deleted_at"].is_string(), "{log:#?}");
    assert_eq!((log[5].0, &log[5].1["title"], &log[5].2), ("product.purged", &json!("Desk lamp"), &Value::Null));
    assert_eq!(log[5].1["skus"][0]["code"], "L-1");
    assert_eq!(log.len(), 6);

    let before = f.audit_log().await.len();
    let category = shop.categories().create(&category_input("Lights", None)).await.unwrap();
    let name = from(&json!({ "name": "Lighting" }));
    shop.categories().patch(category.id, v(1), name).await.unwrap();
    let settings = shop.search_settings();
    let read = v(settings.synonyms().await.unwrap().audit.version);
    settings.replace_synonyms(read, vec![Synonym::two_way(["lamp", "light"])]).await.unwrap();
    let log = f.audit_log().await;
    let log = edits(&log[before..]);
    assert_eq!((log[0].0, log[1].0, log[2].0), ("category.created", "category.moved", "setting.changed"));
    assert_eq!(log[1].1, json!({ "name": "Lights", "slug": "lights", "path": "lights" }));
    assert_eq!(log[1].2, json!({ "name": "Lighting", "slug": "lighting", "path": "lighting" }));
    assert!(log[2].1["synonyms"].is_array() && log[2].2["synonyms"].to_string().contains("lamp"), "{log:#?}");
}

/// Neither a write that fails, nor one that changes nothing, nor a transaction that is rolled back.
pub async fn an_edit_that_is_not_written_has_no_entry(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let lamp = f.plain("Lamp").await;
    let before = f.audit_log().await;
    shop.products().patch(lamp.id, v(9), from(&json!({ "title": "Other" }))).await.unwrap_err();
    shop.products().patch(lamp.id, v(1), from(&json!({ "title": "Lamp" }))).await.unwrap();
    let stocked = shop.products().patch(lamp.id, v(1), from(&json!({ "stock": 77 }))).await.unwrap();
    let read = v(stocked.audit.version);
    let mut tx = f.shop.begin().await.unwrap();
    shop.products().patch_in(&mut tx, lamp.id, read, from(&json!({ "title": "Other" }))).await.unwrap();
    drop(tx);
    assert_eq!(f.audit_log().await, before);
    let (unsteady, storage) = f.unsteady();
    storage.plan(&[Fault::Contention, Fault::CommitLost]);
    unsteady.products().patch(lamp.id, read, from(&json!({ "title": "Other" }))).await.unwrap_err();
    assert_eq!(f.audit_log().await, before);
    storage.plan(&[Fault::Contention, Fault::AnswerLost]);
    unsteady.products().patch(lamp.id, read, from(&json!({ "title": "Other" }))).await.unwrap_err();
    assert_eq!(f.audit_log().await.len(), before.len() + 1, "the edit was written once, and so is its entry");
}

/// Passwords, hashes, the secrets of API keys and the keys of tokens.
pub async fn the_entries_of_access_have_no_secrets(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let role = shop.roles().create(&RoleInput::new("packer", [Permission::StockRead])).await.unwrap();
    let wider = RolePatch {
        permissions: Patch::Set(BTreeSet::from([Permission::StockRead, Permission::StockAdjust])),
        ..RolePatch::default()
    };
    shop.roles().patch(role.id, v(1), wider).await.unwrap();
    let key = shop.api_keys().create(&ApiKeyInput::new("robot", [Permission::StockRead])).await.unwrap();
    let renamed = ApiKeyPatch { name: Patch::Set("old robot".to_owned()), ..ApiKeyPatch::default() };
    shop.api_keys().patch(key.key.id, v(1), renamed).await.unwrap();
    shop.api_keys().delete(key.key.id, v(2)).await.unwrap();
    let password = Secret::new("correct horse battery staple");
    let input = UserInput::new("ada@example.com").password(password.clone()).role("packer");
    let user = shop.users().create(&input).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    let patch = from(&json!({ "password": "another horse battery", "blocked": true }));
    shop.users().patch(user.id, v(1), patch).await.unwrap();
    let registered = UserInput::new("eve@example.com").password(password.clone());
    let tokens = f.shop.auth().register(&registered, None).await.unwrap();
    f.shop.auth().replace_keys(me()).await.unwrap();
    shop.users().delete(user.id, v(2), DeleteMode::Soft).await.unwrap();

    let log = f.audit_log().await;
    let text = json!(log).to_string();
    let secrets = [
        password.reveal(),
        "another horse battery",
        key.secret.reveal(),
        tokens.access.reveal(),
        tokens.refresh.reveal(),
        "argon2",
        "sealed",
        &json!(key.key.hash.0).to_string(),
    ];
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}: {log:#?}");
    }
    let of = |action: &str| -> Vec<&AuditLogEntry> { log.iter().filter(|e| e.action == action).collect() };
    let widened = of("role.updated");
    assert_eq!(json!(widened[0].before), json!({ "permissions": [] }));
    assert_eq!(json!(widened[0].after), json!({ "permissions": ["stock:adjust"] }));
    assert_eq!(json!(of("api_key.updated")[0].after), json!({ "name": "old robot" }));
    assert_eq!(json!(of("api_key.deleted")[0].before)["permissions"], json!(["stock:read"]));
    let blocked = of("user.updated");
    assert_eq!(blocked.len(), 1, "{log:#?}");
    let changed: Vec<&String> = blocked[0].after.as_ref().unwrap().keys().collect();
    assert_eq!(changed, ["blocked_at", "password_set_at"]);
    let made = of("user.created");
    assert_eq!(made.len(), 2);
    assert_eq!(json!(made[0].after)["roles"], json!([role.id]));
    assert_eq!(made[1].actor.as_str(), format!("user:{}", made[1].aggregate_id), "who registers acts for itself");
    assert_eq!(of("user.deleted").len(), 1);
    let keys = of("setting.changed");
    assert!(!keys.is_empty() && keys.iter().all(|e| json!(e.after)["signing_keys"].is_array()), "{keys:#?}");
}

/// An import counts its changes, and a second run that changes nothing has no entry.
pub async fn an_import_has_one_entry(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let options = || ImportOptions::default().batch(7).source("crm").file("lamps.ndjson");
    let run = |text: String| async {
        let bytes = std::io::Cursor::new(text.into_bytes());
        shop.import().products(bytes, options(), |_| {}).await.unwrap()
    };
    assert_eq!(run(lamps("Lamp", 25)).await.inserted, 25);
    let log = f.audit_log().await;
    let changes = json!({ "category.created": 1, "product.created": 25 });
    let expected = json!({ "source": "crm", "file": "lamps.ndjson", "changes": changes });
    assert_eq!(edits(&log), [("import.products", Value::Null, expected)]);
    assert_eq!((log[0].entity(), &log[0].actor), ("import", me().actor()));
    assert_eq!(run(lamps("Lamp", 25)).await.unchanged, 25);
    assert_eq!(f.audit_log().await, log, "an import without changes has no entry");
    assert_eq!(run(lamps("Light", 3)).await.updated, 3);
    let again = f.audit_log().await;
    assert_eq!((again.len(), &again[0]), (2, &log[0]));
    assert_eq!(json!(again[1].after)["changes"], json!({ "product.updated": 3 }));

    let categories = std::io::Cursor::new(br#"{"id":"a","name":"A"}"#.to_vec());
    shop.import().categories(categories, options(), |_| {}).await.unwrap();
    let customer = br#"{"id":"1","first_name":"Ada","last_name":"Lovelace","email":"ada@example.com"}"#.to_vec();
    shop.import().customers(std::io::Cursor::new(customer), options(), |_| {}).await.unwrap();
    let log = f.audit_log().await;
    let actions: Vec<&str> = log[2..].iter().map(|e| e.action.as_str()).collect();
    assert_eq!(actions, ["import.categories", "import.customers"]);
    assert!(!json!(log).to_string().contains("Lovelace"), "{log:#?}");
    // Edits afterwards have entries of their own.
    f.plain("Later").await;
    assert_eq!(f.audit_log().await.len(), 5);
}

/// A batch that runs again counts once.
pub async fn the_entry_of_an_import_is_right_after_faults(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    storage.plan(&[Fault::Contention, Fault::AnswerLost, Fault::Contention, Fault::CommitLost]);
    let options = ImportOptions::default().batch(5).source("crm");
    let report =
        shop.import().products(std::io::Cursor::new(lamps("Lamp", 20).into_bytes()), options, |_| {}).await.unwrap();
    assert_eq!(report.read, 20);
    let log = f.audit_log().await;
    assert_eq!(log.len(), 1, "{log:#?}");
    assert_eq!(json!(log[0].after)["changes"], json!({ "category.created": 1, "product.created": 20 }));
}

/// The log still says who did what.
pub async fn r45_an_erasure_removes_the_values_of_a_customer_and_its_user(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let lamp = f.plain("Lamp").await;
    let person = |name: &str| {
        let email = format!("{}@example.com", name.to_lowercase());
        from(&json!({ "first_name": name, "last_name": "Lovelace", "email": email }))
    };
    let ada = shop.customers().create(&person("Ada")).await.unwrap();
    let eve = shop.customers().create(&person("Eve")).await.unwrap();
    let street = from(&json!({ "street": "Ockham Lane", "city": "London" }));
    let address = shop.addresses().create(ada.id, &street).await.unwrap();
    shop.addresses().delete(address.id, v(1)).await.unwrap();
    let review = from(&json!({ "rating": 4, "comment": "Ada liked it", "customer_id": ada.id }));
    let review = shop.reviews().create(lamp.id, &review).await.unwrap();
    let login = UserInput::new("login-of-ada@example.com").name("Ada Lovelace").role("staff");
    let user = shop.users().create(&login).await.unwrap();
    let linked = from(&json!({ "customer_id": ada.id }));
    shop.users().patch(user.id, v(1), linked).await.unwrap();
    let before = f.audit_log().await;
    shop.customers().erase(ada.id).await.unwrap();
    let log = f.audit_log().await;
    let text = json!(log).to_string().to_lowercase();
    for personal in ["ada@", "ockham", "ada liked", "\"ada\""] {
        assert!(!text.contains(personal), "{personal}: {log:#?}");
    }
    assert!(text.contains("eve@"), "{log:#?}");
    let actions = |log: &[AuditLogEntry]| log.iter().map(|e| e.action.clone()).collect::<Vec<_>>();
    let (kept, last) = log.split_at(before.len());
    assert_eq!(actions(kept), actions(&before), "the entries stay");
    assert_eq!(edits(last), [("customer.erased", Value::Null, Value::Null)], "the erasure is audited");
    assert_eq!(last[0].actor, *me().actor());
    let made = kept.iter().find(|e| e.action == "user.created").unwrap();
    assert_eq!(json!(made.after)["roles"], json!([BuiltInRole::Staff.id()]), "what a user may do stays");
    for (old, new) in before.iter().zip(kept) {
        let is_of_ada = old.customer_id == Some(ada.id) || old.aggregate_id == user.id.0;
        assert_eq!(new.erased_at.is_some(), is_of_ada, "{new:#?}");
        if !is_of_ada {
            assert_eq!(old, new);
        }
    }
    assert!(kept.iter().any(|e| e.customer_id == Some(eve.id) && e.after.is_some()));
    // A second erasure removes the values of entries that were written after the first one.
    shop.reviews().delete(review.id, v(1)).await.unwrap();
    assert!(json!(f.audit_log().await).to_string().contains("Ada liked"));
    shop.customers().erase(ada.id).await.unwrap();
    let log = f.audit_log().await;
    assert!(!json!(log).to_string().contains("Ada liked"), "{log:#?}");
    assert_eq!(log.last().unwrap().action, "review.deleted", "a repetition of the erasure has no entry");
}

/// Of a customer, and of a user.
pub async fn a_permanent_deletion_removes_the_values(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let ada = from(&json!({ "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com" }));
    let ada = shop.customers().create(&ada).await.unwrap();
    shop.customers().delete(ada.id, v(1), DeleteMode::Force).await.unwrap();
    let user = shop.users().create(&UserInput::new("eve@example.com")).await.unwrap();
    shop.users().delete(user.id, v(1), DeleteMode::Soft).await.unwrap();
    shop.users().delete(user.id, v(2), DeleteMode::Force).await.unwrap();
    let log = f.audit_log().await;
    let actions: Vec<&str> = log.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(actions, ["customer.created", "customer.purged", "user.created", "user.deleted", "user.purged"]);
    let text = json!(log).to_string();
    assert!(!text.contains("Lovelace") && !text.contains("@example.com"), "{log:#?}");
}

/// Before a backend is asked.
pub async fn r17_a_filter_that_matches_nothing_is_refused(f: &ShopFixture) {
    let reader = Principal::new("auditor", [Permission::AuditLogRead]);
    let filter = AuditLogFilter {
        actor: Some("x".repeat(101)),
        entity: Some("x".repeat(101)),
        action: Some("a\0".to_owned()),
        ..AuditLogFilter::default()
    };
    let listed = f.shop.acting_as(&reader).audit_log().list(&filter, &Paging::default()).await;
    let expected = ["actor", "entity", "action"].map(|field| (field.to_owned(), FieldCode::OutOfBounds));
    assert_eq!(fields(listed, "texts"), expected.into());
}
