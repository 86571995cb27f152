//! Customers and their addresses follow the same rules as other rows (R1, R2, R5, R13, R16, R17).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ShopFixture;
use super::support::{conflict, fields, from, me, v};
use crate::config::ShopConfig;
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::customer::{Address, AddressFilter, Customer, CustomerFilter, CustomerInput, CustomerSort};
use crate::error::{Conflict, Entity, ErrorCode, FieldCode, Result};
use crate::id::{AddressId, CustomerId};
use crate::paging::{Paging, Total};
use crate::testkit::{code_of, duplicate_field};

tests! {
    __shop_customers: [
        r01_a_stale_version_of_a_customer_changes_nothing,
        r01_a_write_of_a_customer_says_which_version_it_read,
        r01_a_patch_of_a_customer_merges_and_a_put_replaces,
        r01_a_write_of_a_customer_that_changes_nothing_moves_no_version,
        r01_of_many_writers_of_one_customer_one_wins,
        r02_a_deleted_customer_hides_with_its_addresses_and_returns,
        r02_an_email_is_free_again_and_a_restore_finds_it_taken,
        r05_force_removes_a_customer_and_its_addresses_for_good,
        r13_each_write_of_a_customer_has_its_event_without_personal_data,
        r13_a_failed_write_of_a_customer_has_no_event,
        r16_errors_of_customers_have_their_codes_and_show_no_sql,
        r17_bad_customers_name_each_field_and_leave_nothing,
        r17_bad_addresses_name_each_field_and_leave_nothing,
        r17_a_customer_has_at_most_a_hundred_addresses,
        r17_lists_of_customers_refuse_what_nobody_is_called,
        of_customers_with_one_email_made_at_once_one_is_made,
        no_address_is_added_to_a_customer_who_is_gone,
        a_customer_and_its_addresses_are_written_together_or_not_at_all,
        lists_of_customers_and_addresses_count_and_page,
    ]
}

fn ada() -> Value {
    json!({
        "first_name": " Ada ",
        "last_name": "Lovelace",
        "email": " Ada@Example.com ",
        "telephone": "+44 (20) 7946-0018",
        "attributes": { "tier": "gold", "size": { "shoe": 38, "hat": 7 } },
        "source": "crm",
        "external_id": "1",
    })
}

fn home() -> Value {
    json!({ "street": " Ockham Lane ", "number": "12", "city": "London", "region": " ", "postal_code": "N1", "country": "gb" })
}

fn named(email: &str) -> CustomerInput {
    from(&json!({ "first_name": "Ada", "last_name": "Lovelace", "email": email }))
}

impl ShopFixture {
    async fn customer(&self, input: &Value) -> Customer {
        self.shop.acting_as(me()).customers().create(&from(input)).await.unwrap()
    }

    async fn address(&self, of: &Customer, input: &Value) -> Address {
        self.shop.acting_as(me()).addresses().create(of.id, &from(input)).await.unwrap()
    }

    async fn delete_customer(&self, c: &Customer, mode: DeleteMode) -> Result<()> {
        self.shop.acting_as(me()).customers().delete(c.id, v(c.audit.version), mode).await
    }

    async fn addresses_of(&self, c: &Customer, deleted: IncludeDeleted) -> Result<Vec<Address>> {
        let filter = AddressFilter { customer: Some(c.id), include_deleted: deleted, ..AddressFilter::default() };
        Ok(self.shop.addresses().list(&filter, &Paging::first(1_000)).await?.0.items)
    }
}

/// Patches, replaces and deletes a customer and an address, and restores a customer.
pub async fn r01_a_stale_version_of_a_customer_changes_nothing(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    customers.patch(c.id, v(1), from(&json!({ "first_name": "Augusta" }))).await.unwrap();
    addresses.patch(a.id, v(1), from(&json!({ "city": "Ockham" }))).await.unwrap();
    let gone = f.customer(&json!({ "first_name": "G", "last_name": "G", "email": "g@example.com" })).await;
    f.delete_customer(&gone, DeleteMode::Soft).await.unwrap();
    let before = f.snapshot().await;
    for stale in [v(0), v(1), v(3), v(i64::MAX)] {
        match conflict(customers.patch(c.id, stale, from(&json!({ "first_name": "Mine" }))).await, "patch") {
            Conflict::Version { entity: Entity::Customer, id, expected, actual: 2 } => {
                assert_eq!((id, v(expected)), (c.id.0, stale));
            }
            other => panic!("{other}"),
        }
        match conflict(addresses.patch(a.id, stale, from(&json!({ "city": "Mine" }))).await, "patch") {
            Conflict::Version { entity: Entity::Address, id, expected, actual: 2 } => {
                assert_eq!((id, v(expected)), (a.id.0, stale));
            }
            other => panic!("{other}"),
        }
        let results = [
            customers.replace(c.id, stale, &named("mine@example.com")).await.map(drop),
            customers.delete(c.id, stale, DeleteMode::Soft).await,
            customers.delete(c.id, stale, DeleteMode::Force).await,
            addresses.replace(a.id, stale, &from(&home())).await.map(drop),
            addresses.delete(a.id, stale).await,
        ];
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(code_of(result, &format!("write {n}")), ErrorCode::VersionConflict);
        }
    }
    assert_eq!(code_of(customers.restore(gone.id, v(1)).await, "a restore"), ErrorCode::VersionConflict);
    assert_eq!(f.snapshot().await, before);
}

/// A write without a version is refused, unless the last write wins in the shop.
pub async fn r01_a_write_of_a_customer_says_which_version_it_read(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let gone = f.customer(&json!({ "first_name": "G", "last_name": "G", "email": "g@example.com" })).await;
    f.delete_customer(&gone, DeleteMode::Soft).await.unwrap();
    let before = f.snapshot().await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let results = [
        customers.patch(c.id, ExpectedVersion::Unspecified, from(&json!({ "first_name": "Mine" }))).await.map(drop),
        customers.replace(c.id, ExpectedVersion::Unspecified, &named("mine@example.com")).await.map(drop),
        customers.delete(c.id, ExpectedVersion::Unspecified, DeleteMode::Soft).await,
        customers.delete(c.id, ExpectedVersion::Unspecified, DeleteMode::Force).await,
        customers.restore(gone.id, ExpectedVersion::Unspecified).await.map(drop),
        addresses.patch(a.id, ExpectedVersion::Unspecified, from(&json!({ "city": "Mine" }))).await.map(drop),
        addresses.replace(a.id, ExpectedVersion::Unspecified, &from(&home())).await.map(drop),
        addresses.delete(a.id, ExpectedVersion::Unspecified).await,
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(code_of(result, &format!("write {n}")), ErrorCode::VersionRequired);
    }
    assert_eq!(f.snapshot().await, before);

    let shop = f.another(ShopConfig::default().last_write_wins(true), f.cache());
    let patched = shop
        .acting_as(me())
        .customers()
        .patch(c.id, ExpectedVersion::Unspecified, from(&json!({ "first_name": "Mine" })))
        .await
        .unwrap();
    assert_eq!((patched.first_name.as_str(), patched.audit.version), ("Mine", 2));
    let stale = shop.acting_as(me()).customers().patch(c.id, v(1), from(&json!({ "first_name": "Old" }))).await;
    assert_eq!(code_of(stale, "a stale version in the request"), ErrorCode::VersionConflict);
    let patched = shop
        .acting_as(me())
        .addresses()
        .patch(a.id, ExpectedVersion::Unspecified, from(&json!({ "city": "Mine" })))
        .await
        .unwrap();
    assert_eq!((patched.city.as_str(), patched.audit.version), ("Mine", 2));
    shop.acting_as(me()).addresses().delete(a.id, ExpectedVersion::Unspecified).await.unwrap();
    shop.acting_as(me()).customers().delete(c.id, ExpectedVersion::Unspecified, DeleteMode::Soft).await.unwrap();
    shop.acting_as(me()).customers().restore(c.id, ExpectedVersion::Unspecified).await.unwrap();
}

/// A patch keeps fields that it leaves out, and null removes a field (RFC 7396). A PUT clears fields that it leaves
/// out, except the external reference.
pub async fn r01_a_patch_of_a_customer_merges_and_a_put_replaces(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    assert_eq!(
        (c.first_name.as_str(), c.email.as_str()),
        ("Ada", "Ada@Example.com"),
        "spaces around texts must be removed"
    );
    assert_eq!(c.telephone.as_deref(), Some("+442079460018"), "punctuation must be removed from a telephone number");
    assert_eq!((c.audit.version, &c.audit.created_by), (1, me().actor()));
    let customers = f.shop.acting_as(me()).customers();
    let patch = json!({ "last_name": "King", "attributes": { "tier": null, "size": { "hat": 8 }, "new": [1] } });
    let patched = customers.patch(c.id, v(1), from(&patch)).await.unwrap();
    let mut want = Customer { last_name: "King".to_owned(), audit: patched.audit.clone(), ..c.clone() };
    want.attributes = from(&json!({ "size": { "shoe": 38, "hat": 8 }, "new": [1] }));
    assert_eq!(patched, want);
    assert_eq!(patched.audit.version, 2);
    assert_eq!(customers.get(c.id, IncludeDeleted::No).await.unwrap(), want);
    let cleared = customers.patch(c.id, v(2), from(&json!({ "telephone": null, "attributes": null }))).await.unwrap();
    assert_eq!((cleared.telephone.as_deref(), cleared.attributes.0.len()), (None, 0));
    let put =
        json!({ "first_name": "Augusta", "last_name": "Byron", "email": "byron@example.com", "telephone": "1234567" });
    customers.replace(c.id, v(3), &from(&put)).await.unwrap();
    let put = customers.replace(c.id, v(4), &named("ADA@example.com")).await.unwrap();
    let want = Customer {
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
        email: "ADA@example.com".to_owned(),
        ..cleared
    };
    assert_eq!(put, Customer { audit: put.audit.clone(), ..want });
    assert_eq!(put.external, c.external, "a PUT must keep the external reference");
    assert_eq!(customers.get(c.id, IncludeDeleted::No).await.unwrap(), put);

    let a = f.address(&c, &home()).await;
    assert_eq!((a.street.as_str(), a.region.as_deref(), a.country.as_deref()), ("Ockham Lane", None, Some("GB")));
    let addresses = f.shop.acting_as(me()).addresses();
    let patch = json!({ "number": null, "region": "Surrey", "country": "fr" });
    let patched = addresses.patch(a.id, v(1), from(&patch)).await.unwrap();
    let want = Address {
        number: None,
        region: Some("Surrey".to_owned()),
        country: Some("FR".to_owned()),
        audit: patched.audit.clone(),
        ..a.clone()
    };
    assert_eq!((&patched, patched.audit.version), (&want, 2));
    let put = addresses.replace(a.id, v(2), &from(&json!({ "street": "Rue", "city": "Paris" }))).await.unwrap();
    assert_eq!(
        (put.number.as_deref(), put.region.as_deref(), put.postal_code.as_deref(), put.country.as_deref()),
        (None, None, None, None)
    );
    assert_eq!((put.customer_id, put.audit.version), (c.id, 3));
    assert_eq!(addresses.get(a.id, IncludeDeleted::No).await.unwrap(), put);
    assert_eq!(
        customers.get(c.id, IncludeDeleted::No).await.unwrap().audit.version,
        5,
        "an edit of an address must not increase the version of its customer"
    );
}

/// Such a write does not write an event either.
pub async fn r01_a_write_of_a_customer_that_changes_nothing_moves_no_version(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let before = f.snapshot().await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let again = customers.patch(c.id, v(1), from(&json!({ "telephone": "+44 20 7946 0018" }))).await.unwrap();
    assert_eq!(again, c);
    assert_eq!(customers.replace(c.id, v(1), &from(&ada())).await.unwrap(), c);
    assert_eq!(addresses.patch(a.id, v(1), from(&json!({ "country": "GB" }))).await.unwrap(), a);
    assert_eq!(addresses.replace(a.id, v(1), &from(&home())).await.unwrap(), a);
    assert_eq!(f.snapshot().await, before);
}

/// Sixteen tasks edit a customer and an address at the same time.
pub async fn r01_of_many_writers_of_one_customer_one_wins(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (shop, customer, address) = (f.shop.clone(), c.id, a.id);
        tasks.spawn(async move {
            let patch = from(&json!({ "first_name": format!("Editor {n}") }));
            let name = shop.acting_as(me()).customers().patch(customer, v(1), patch).await.map(|c| c.first_name);
            let patch = from(&json!({ "city": format!("City {n}") }));
            (name, shop.acting_as(me()).addresses().patch(address, v(1), patch).await.map(|a| a.city))
        });
    }
    let (names, cities): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
    let customer = f.shop.customers().get(c.id, IncludeDeleted::No).await.unwrap();
    let address = f.shop.addresses().get(a.id, IncludeDeleted::No).await.unwrap();
    for (results, stored) in [(names, customer.first_name), (cities, address.city)] {
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [stored]);
        assert!(lost.into_iter().all(|l| code_of(l, "an edit that came too late") == ErrorCode::VersionConflict));
    }
    assert_eq!((customer.audit.version, address.audit.version), (2, 2));
}

/// Reads, lists and writes do not find a soft-deleted customer and its addresses, unless the call includes soft-deleted
/// rows.
pub async fn r02_a_deleted_customer_hides_with_its_addresses_and_returns(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let other = f.customer(&json!({ "first_name": "O", "last_name": "O", "email": "o@example.com" })).await;
    let kept = f.address(&other, &home()).await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    f.delete_customer(&c, DeleteMode::Soft).await.unwrap();
    let gone = customers.get(c.id, IncludeDeleted::Yes).await.unwrap();
    assert_eq!((gone.audit.version, gone.audit.is_live()), (2, false));
    let hidden = addresses.get(a.id, IncludeDeleted::Yes).await.unwrap();
    assert_eq!((hidden.audit.version, hidden.audit.deleted_at), (1, gone.audit.deleted_at));
    assert_eq!(f.addresses_of(&c, IncludeDeleted::Yes).await.unwrap(), [hidden]);
    let everyone = |deleted| CustomerFilter { include_deleted: deleted, ..CustomerFilter::default() };
    let listed =
        customers.list(&everyone(IncludeDeleted::No), CustomerSort::CreatedAsc, &Paging::first(9)).await.unwrap();
    assert_eq!(listed.0.items, [other.clone()]);
    let listed =
        customers.list(&everyone(IncludeDeleted::Yes), CustomerSort::CreatedAsc, &Paging::first(9)).await.unwrap();
    assert_eq!(listed.0.items, [gone.clone(), other]);
    let london = AddressFilter { city: Some("LONDON".to_owned()), ..AddressFilter::default() };
    assert_eq!(addresses.list(&london, &Paging::first(9)).await.unwrap().0.items, [kept]);

    let before = f.snapshot().await;
    let results = [
        customers.get(c.id, IncludeDeleted::No).await.map(drop),
        customers.patch(c.id, v(2), from(&json!({ "first_name": "Mine" }))).await.map(drop),
        customers.replace(c.id, v(2), &named("mine@example.com")).await.map(drop),
        customers.delete(c.id, v(2), DeleteMode::Soft).await,
        f.addresses_of(&c, IncludeDeleted::No).await.map(drop),
        addresses.get(a.id, IncludeDeleted::No).await.map(drop),
        addresses.create(c.id, &from(&home())).await.map(drop),
        addresses.patch(a.id, v(1), from(&json!({ "city": "Mine" }))).await.map(drop),
        addresses.replace(a.id, v(1), &from(&home())).await.map(drop),
        addresses.delete(a.id, v(1)).await,
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(code_of(result, &format!("call {n}")), ErrorCode::NotFound, "call {n}");
    }
    assert_eq!(f.snapshot().await, before);

    let back = customers.restore(c.id, v(2)).await.unwrap();
    assert_eq!(back, Customer { audit: back.audit.clone(), ..c.clone() });
    assert_eq!((back.audit.version, back.audit.deleted_at), (3, None));
    assert_eq!(customers.get(c.id, IncludeDeleted::No).await.unwrap(), back);
    assert_eq!(f.addresses_of(&c, IncludeDeleted::No).await.unwrap(), [a]);
    assert_eq!(code_of(customers.restore(c.id, v(3)).await, "a restore of a live customer"), ErrorCode::StateConflict);
}

/// Another customer can use the email of a deleted customer, and a restore does not take it back.
pub async fn r02_an_email_is_free_again_and_a_restore_finds_it_taken(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    f.address(&c, &home()).await;
    let customers = f.shop.acting_as(me()).customers();
    let taken = customers.create(&named("ADA@EXAMPLE.COM")).await;
    assert_eq!(duplicate_field(taken, "a live email"), "email");
    f.delete_customer(&c, DeleteMode::Soft).await.unwrap();
    let second = customers.create(&named("ADA@EXAMPLE.COM")).await.unwrap();
    let before = f.snapshot().await;
    assert_eq!(duplicate_field(customers.restore(c.id, v(2)).await, "restore"), "email");
    assert_eq!(f.snapshot().await, before);
    customers.patch(second.id, v(1), from(&json!({ "email": "second@example.com" }))).await.unwrap();
    customers.restore(c.id, v(2)).await.unwrap();
    let back = customers.patch(second.id, v(2), from(&json!({ "email": "ada@example.COM" }))).await;
    assert_eq!(duplicate_field(back, "a patch"), "email");

    // The external id follows the same rule.
    let twin =
        json!({ "first_name": "T", "last_name": "T", "email": "t@example.com", "source": "crm", "external_id": "1" });
    assert_eq!(duplicate_field(customers.create(&from(&twin)).await, "an external id"), "external_id");
    customers.delete(c.id, v(3), DeleteMode::Soft).await.unwrap();
    f.customer(&twin).await;
    assert_eq!(duplicate_field(customers.restore(c.id, v(4)).await, "restore"), "external_id");
}

/// Removes a live customer and a soft-deleted one.
pub async fn r05_force_removes_a_customer_and_its_addresses_for_good(f: &ShopFixture) {
    let empty = f.snapshot().await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let c = f.customer(&ada()).await;
    let d = f.customer(&json!({ "first_name": "D", "last_name": "D", "email": "d@example.com" })).await;
    let of_both = [f.address(&c, &home()).await, f.address(&d, &home()).await];
    f.delete_customer(&d, DeleteMode::Soft).await.unwrap();
    customers.delete(d.id, v(2), DeleteMode::Force).await.unwrap();
    f.delete_customer(&c, DeleteMode::Force).await.unwrap();
    for (id, a) in [c.id, d.id].into_iter().zip(&of_both) {
        assert_eq!(code_of(customers.get(id, IncludeDeleted::Yes).await, "a removed customer"), ErrorCode::NotFound);
        assert_eq!(
            code_of(addresses.get(a.id, IncludeDeleted::Yes).await, "an address of a removed customer"),
            ErrorCode::NotFound
        );
        for version in 1..4 {
            assert_eq!(code_of(customers.restore(id, v(version)).await, "restore"), ErrorCode::NotFound);
        }
        assert_eq!(code_of(customers.delete(id, v(1), DeleteMode::Force).await, "again"), ErrorCode::NotFound);
        assert_eq!(code_of(addresses.create(id, &from(&home())).await, "an address"), ErrorCode::NotFound);
    }
    let left = f.snapshot().await;
    assert_eq!((&left.customers, &left.addresses), (&empty.customers, &empty.addresses));
    f.customer(&ada()).await;
}

/// Each write has one event of the right kind and version, in order. Events contain no personal data.
pub async fn r13_each_write_of_a_customer_has_its_event_without_personal_data(f: &ShopFixture) {
    use EventKind as K;
    let start = f.head().await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let c = f.customer(&ada()).await;
    customers.patch(c.id, v(1), from(&json!({ "email": "ada.king@example.com" }))).await.unwrap();
    customers.replace(c.id, v(2), &named("lovelace@example.com")).await.unwrap();
    let a = f.address(&c, &home()).await;
    addresses.patch(a.id, v(1), from(&json!({ "city": "Ockham" }))).await.unwrap();
    addresses.replace(a.id, v(2), &from(&home())).await.unwrap();
    customers.delete(c.id, v(3), DeleteMode::Soft).await.unwrap();
    customers.restore(c.id, v(4)).await.unwrap();
    addresses.delete(a.id, v(3)).await.unwrap();
    f.address(&c, &home()).await;
    customers.delete(c.id, v(5), DeleteMode::Force).await.unwrap();
    let events = f.events_after(start).await;
    let found: Vec<_> = events.iter().map(|e| (e.kind, e.revision)).collect();
    assert_eq!(
        found,
        [
            (K::CustomerCreated, 1),
            (K::CustomerUpdated, 2),
            (K::CustomerUpdated, 3),
            (K::AddressCreated, 1),
            (K::AddressUpdated, 2),
            (K::AddressUpdated, 3),
            (K::CustomerDeleted, 4),
            (K::CustomerRestored, 5),
            (K::AddressPurged, 4),
            (K::AddressCreated, 1),
            (K::CustomerPurged, 6),
        ]
    );
    for (n, e) in events.iter().enumerate() {
        let about = match e.kind.entity() {
            Entity::Customer => c.id.0,
            _ if n < 9 => a.id.0,
            _ => e.aggregate_id,
        };
        assert_eq!(
            (e.aggregate_id, &e.actor),
            (about, me().actor()),
            "an event must name its row and the principal: {e:?}"
        );
        let text = serde_json::to_string(e).unwrap().to_lowercase();
        for word in ["example.com", "ada", "lovelace", "7946", "ockham", "london"] {
            assert!(!text.contains(word), "an event must not contain personal data, but contains `{word}`: {text}");
        }
    }
}

/// The write fails in the library or in the database, or a host rolls it back.
pub async fn r13_a_failed_write_of_a_customer_has_no_event(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let other = f.customer(&json!({ "first_name": "O", "last_name": "O", "email": "o@example.com" })).await;
    let before = f.snapshot().await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    assert!(customers.create(&named("ada@example.com")).await.is_err());
    assert!(customers.create(&named("nothing")).await.is_err());
    assert!(customers.patch(other.id, v(1), from(&json!({ "email": "ADA@example.com" }))).await.is_err());
    assert!(customers.replace(other.id, v(1), &named("ADA@example.com")).await.is_err());
    assert!(
        f.delete_customer(&Customer { id: CustomerId(Uuid::from_u128(7)), ..c.clone() }, DeleteMode::Force)
            .await
            .is_err()
    );
    assert!(customers.restore(c.id, v(1)).await.is_err());
    assert!(addresses.create(CustomerId(Uuid::from_u128(7)), &from(&home())).await.is_err());
    assert!(addresses.patch(a.id, v(1), from(&json!({ "country": "XX" }))).await.is_err());
    assert!(addresses.delete(a.id, v(9)).await.is_err());
    let mut tx = f.shop.begin().await.unwrap();
    customers.delete_in(&mut tx, c.id, v(1), DeleteMode::Force).await.unwrap();
    customers.create_in(&mut tx, &named("ada@example.com")).await.unwrap();
    drop(tx);
    assert_eq!(f.snapshot().await, before);
}

/// The messages contain the values that the caller has sent.
pub async fn r16_errors_of_customers_have_their_codes_and_show_no_sql(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let (nobody, nowhere) = (CustomerId(Uuid::from_u128(9)), AddressId(Uuid::from_u128(9)));
    let twin =
        json!({ "first_name": "T", "last_name": "T", "email": "t@example.com", "source": "crm", "external_id": "1" });
    let injected = "'; DROP TABLE customers --";
    let of_nobody = AddressFilter { customer: Some(nobody), ..AddressFilter::default() };
    let patch = json!({ "email": injected });
    let cases = [
        (customers.get(nobody, IncludeDeleted::Yes).await.map(drop), ErrorCode::NotFound),
        (addresses.get(nowhere, IncludeDeleted::Yes).await.map(drop), ErrorCode::NotFound),
        (addresses.list(&of_nobody, &Paging::first(9)).await.map(drop), ErrorCode::NotFound),
        (addresses.create(nobody, &from(&home())).await.map(drop), ErrorCode::NotFound),
        (customers.create(&named("ADA@example.com")).await.map(drop), ErrorCode::Duplicate),
        (customers.create(&from(&twin)).await.map(drop), ErrorCode::Duplicate),
        (customers.create(&named(injected)).await.map(drop), ErrorCode::Validation),
        (customers.patch(c.id, v(1), from(&patch)).await.map(drop), ErrorCode::Validation),
        (customers.patch(c.id, v(9), from(&json!({}))).await.map(drop), ErrorCode::VersionConflict),
        (
            customers.patch(c.id, ExpectedVersion::Unspecified, from(&json!({}))).await.map(drop),
            ErrorCode::VersionRequired,
        ),
        (customers.restore(c.id, v(1)).await.map(drop), ErrorCode::StateConflict),
        (addresses.patch(a.id, v(9), from(&json!({}))).await.map(drop), ErrorCode::VersionConflict),
        (addresses.delete(a.id, ExpectedVersion::Unspecified).await, ErrorCode::VersionRequired),
        (addresses.delete(nowhere, v(1)).await, ErrorCode::NotFound),
    ];
    for (result, code) in cases {
        let error = result.expect_err(code.as_str());
        assert_eq!(error.code(), code, "{error:?}");
        assert!(
            !error.is_retryable() && !error.outcome_unknown(),
            "an error of the caller must not be retryable: {error:?}"
        );
        let message = error.to_string();
        assert!(!message.is_empty());
        for word in ["SELECT", "INSERT", "UPDATE", "sqlite", "SQL", "constraint", "UNIQUE", "customers", "email_key"] {
            assert!(!message.contains(word), "a message must not contain SQL or names of the schema: {message}");
        }
    }
    match conflict(customers.create(&named("ADA@example.com")).await, "a duplicate") {
        Conflict::Duplicate { entity: Entity::Customer, field: "email", value } => assert_eq!(value, "ADA@example.com"),
        other => panic!("{other}"),
    }
    let filter = CustomerFilter {
        name: Some(injected.to_owned()),
        email: Some(injected.to_owned()),
        ..CustomerFilter::default()
    };
    let found = customers.list(&filter, CustomerSort::NameAsc, &Paging::first(9)).await.unwrap();
    assert_eq!(found.0.items, []);
}

/// Each case has the fields of the input, and exactly the fields that the error must name.
pub async fn r17_bad_customers_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({ "first_name": "" }), vec!["first_name"]),
        (json!({ "first_name": " \u{a0} " }), vec!["first_name"]),
        (json!({ "first_name": long(101) }), vec!["first_name"]),
        (json!({ "first_name": long(1_000_000) }), vec!["first_name"]),
        (json!({ "last_name": "bell \u{7}" }), vec!["last_name"]),
        (json!({ "last_name": "a\u{0}b" }), vec!["last_name"]),
        (json!({ "email": "" }), vec!["email"]),
        (json!({ "email": "ada" }), vec!["email"]),
        (json!({ "email": "ada@example" }), vec!["email"]),
        (json!({ "email": "ada@@example.com" }), vec!["email"]),
        (json!({ "email": "Ada <ada@example.com>" }), vec!["email"]),
        (json!({ "email": "ada\n@example.com" }), vec!["email"]),
        (json!({ "email": format!("{}@example.com", long(250)) }), vec!["email"]),
        (json!({ "telephone": "" }), vec!["telephone"]),
        (json!({ "telephone": "call me" }), vec!["telephone"]),
        (json!({ "telephone": "0049 123456" }), vec!["telephone"]),
        (json!({ "telephone": "+123456" }), vec!["telephone"]),
        (json!({ "telephone": "+123456789012345678901" }), vec!["telephone"]),
        (json!({ "attributes": { "k": long(16 * 1024) } }), vec!["attributes"]),
        (json!({ "attributes": { "k": "\u{0}" } }), vec!["attributes"]),
        (
            json!({ "first_name": "", "last_name": long(101), "email": "no", "telephone": "no" }),
            vec!["email", "first_name", "last_name", "telephone"],
        ),
    ];
    let customers = f.shop.acting_as(me()).customers();
    for (bad, expected) in cases {
        let shown: String = bad.to_string().chars().take(200).collect();
        let mut input = json!({ "first_name": "Good", "last_name": "Good", "email": "good@example.com" });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        for result in [
            customers.create(&from(&input)).await,
            customers.replace(c.id, v(1), &from(&input)).await,
            customers.patch(c.id, v(1), from(&bad)).await,
        ] {
            let named = fields(result, &shown);
            assert_eq!(
                named.keys().map(String::as_str).collect::<Vec<_>>(),
                expected,
                "the error must name exactly the invalid fields: {shown}"
            );
        }
    }
    for (bad, field) in [
        (json!({ "source": "crm" }), "external_id"),
        (json!({ "external_id": "2" }), "source"),
        (json!({ "source": long(101), "external_id": "2" }), "source"),
        (json!({ "source": "crm", "external_id": "" }), "external_id"),
    ] {
        let mut input = json!({ "first_name": "Good", "last_name": "Good", "email": "good@example.com" });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        let named = fields(customers.create(&from(&input)).await, field);
        assert_eq!(named.keys().collect::<Vec<_>>(), [field], "the error must name exactly the invalid field: {bad}");
    }
    for field in ["first_name", "last_name", "email"] {
        let named = fields(customers.patch(c.id, v(1), from(&json!({ field: null }))).await, field);
        assert_eq!(named.into_iter().collect::<Vec<_>>(), [(field.to_owned(), FieldCode::Required)]);
    }
    // The email of another customer, in another case or width.
    for email in ["ADA@EXAMPLE.COM", "ａda@example.com"] {
        assert_eq!(duplicate_field(customers.create(&named(email)).await, email), "email");
    }
    assert_eq!(f.snapshot().await, before);
}

/// Uses create, PUT and PATCH, and an unknown customer.
pub async fn r17_bad_addresses_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let a = f.address(&c, &home()).await;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({ "street": "" }), vec!["street"]),
        (json!({ "street": long(256) }), vec!["street"]),
        (json!({ "city": "  " }), vec!["city"]),
        (json!({ "city": long(101) }), vec!["city"]),
        (json!({ "number": long(51) }), vec!["number"]),
        (json!({ "region": "a\u{0}b" }), vec!["region"]),
        (json!({ "postal_code": long(21) }), vec!["postal_code"]),
        (json!({ "country": "" }), vec!["country"]),
        (json!({ "country": "XX" }), vec!["country"]),
        (json!({ "country": "GBR" }), vec!["country"]),
        (json!({ "country": "United Kingdom" }), vec!["country"]),
        (
            json!({ "street": "", "city": "", "number": long(51), "region": long(101), "country": "ß" }),
            vec!["city", "country", "number", "region", "street"],
        ),
    ];
    let addresses = f.shop.acting_as(me()).addresses();
    for (bad, expected) in cases {
        let mut input = json!({ "street": "Good", "city": "Good" });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        for result in [
            addresses.create(c.id, &from(&input)).await,
            addresses.replace(a.id, v(1), &from(&input)).await,
            addresses.patch(a.id, v(1), from(&bad)).await,
        ] {
            let named = fields(result, &bad.to_string());
            assert_eq!(
                named.keys().map(String::as_str).collect::<Vec<_>>(),
                expected,
                "the error must name exactly the invalid fields: {bad}"
            );
        }
    }
    for field in ["street", "city"] {
        let named = fields(addresses.patch(a.id, v(1), from(&json!({ field: null }))).await, field);
        assert_eq!(named.into_iter().collect::<Vec<_>>(), [(field.to_owned(), FieldCode::Required)]);
    }
    let unknown = addresses.create(CustomerId(Uuid::from_u128(3)), &from(&home())).await;
    assert_eq!(code_of(unknown, "a customer who does not exist"), ErrorCode::NotFound);
    assert_eq!(f.snapshot().await, before);
}

/// Further addresses are refused until one is deleted, even if several are added at the same time.
pub async fn r17_a_customer_has_at_most_a_hundred_addresses(f: &ShopFixture) {
    let c = f.customer(&ada()).await;
    let mut tx = f.shop.begin().await.unwrap();
    for n in 0..Customer::MAX_ADDRESSES - 2 {
        let input = json!({ "street": format!("Street {n}"), "city": "Town" });
        f.shop.acting_as(me()).addresses().create_in(&mut tx, c.id, &from(&input)).await.unwrap();
    }
    tx.commit().await.unwrap().run().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (shop, id) = (f.shop.clone(), c.id);
        tasks.spawn(async move { shop.acting_as(me()).addresses().create(id, &from(&home())).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 2);
    for result in refused {
        assert_eq!(
            fields(result, "one address too many").into_iter().collect::<Vec<_>>(),
            [("customer_id".to_owned(), FieldCode::OutOfBounds)]
        );
    }
    let before = f.snapshot().await;
    assert_eq!(before.addresses.len(), Customer::MAX_ADDRESSES);
    assert!(
        fields(f.shop.acting_as(me()).addresses().create(c.id, &from(&home())).await, "101")
            .contains_key("customer_id")
    );
    assert_eq!(f.snapshot().await, before);
    f.shop.acting_as(me()).addresses().delete(before.addresses[0].id, v(1)).await.unwrap();
    f.address(&c, &home()).await;
    let other = f.customer(&json!({ "first_name": "O", "last_name": "O", "email": "o@example.com" })).await;
    f.address(&other, &home()).await;
}

/// The lists are refused before any statement is sent to the database.
pub async fn r17_lists_of_customers_refuse_what_nobody_is_called(f: &ShopFixture) {
    f.customer(&ada()).await;
    let statements = f.storage.statements();
    for text in ["", "  ", "a\0b", "a\u{7}", &"x".repeat(256), &"x".repeat(1_000_000)] {
        let shown: String = text.chars().take(10).collect();
        let some = || Some(text.to_owned());
        for (filter, field) in [
            (CustomerFilter { name: some(), ..CustomerFilter::default() }, "name"),
            (CustomerFilter { email: some(), ..CustomerFilter::default() }, "email"),
        ] {
            let answer = f.shop.customers().list(&filter, CustomerSort::CreatedAsc, &Paging::first(5)).await;
            assert_eq!(fields(answer, &shown).keys().collect::<Vec<_>>(), [field]);
        }
        for (filter, field) in [
            (AddressFilter { city: some(), ..AddressFilter::default() }, "city"),
            (AddressFilter { street: some(), ..AddressFilter::default() }, "street"),
        ] {
            let answer = f.shop.addresses().list(&filter, &Paging::first(5)).await;
            assert_eq!(fields(answer, &shown).keys().collect::<Vec<_>>(), [field]);
        }
    }
    assert_eq!(f.storage.statements(), statements);
}

/// Two processes create customers with different spellings of one email.
pub async fn of_customers_with_one_email_made_at_once_one_is_made(f: &ShopFixture) {
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        let email = ["ada@example.com", "ADA@Example.com", "ａda@example.com", "Ada@example.COM"][n % 4];
        tasks.spawn(async move { shop.acting_as(me()).customers().create(&named(email)).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1, "exactly one customer with the email must be created: {made:?}");
    assert!(refused.into_iter().all(|r| duplicate_field(r, "the second customer with the email") == "email"));
    let left = f.snapshot().await;
    assert_eq!(left.customers, [made.into_iter().next().unwrap().unwrap()]);
    assert_eq!(f.log().await.len(), 1);
}

/// Addresses are added while the customer is deleted, softly and by force. Either the customer is still live, or the
/// call is refused.
pub async fn no_address_is_added_to_a_customer_who_is_gone(f: &ShopFixture) {
    for mode in [DeleteMode::Soft, DeleteMode::Force] {
        let c = f.customer(&json!({ "first_name": "G", "last_name": "G", "email": "g@example.com" })).await;
        let first = f.address(&c, &home()).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..12 {
            let (shop, id) = (f.shop.clone(), c.id);
            tasks.spawn(async move {
                let mut made = BTreeSet::new();
                for m in 0..4 {
                    if (n, m) == (5, 2) {
                        shop.acting_as(me()).customers().delete(id, v(1), mode).await.unwrap();
                    }
                    match shop.acting_as(me()).addresses().create(id, &from(&home())).await {
                        Ok(a) => drop(made.insert(a.id)),
                        Err(e) => assert_eq!(e.code(), ErrorCode::NotFound, "{e:?}"),
                    }
                }
                made
            });
        }
        let mut made: BTreeSet<AddressId> = tasks.join_all().await.into_iter().flatten().collect();
        made.insert(first.id);
        assert!(made.len() < 49, "the test itself is at fault: the customer must be deleted while addresses are added");
        let stored: Vec<Address> = f.snapshot().await.addresses.into_iter().filter(|a| a.customer_id == c.id).collect();
        assert!(
            stored.iter().all(|a| !a.audit.is_live()),
            "a deleted customer must not have a live address: {stored:?}"
        );
        let left: BTreeSet<AddressId> = stored.iter().map(|a| a.id).collect();
        assert_eq!(left, if mode == DeleteMode::Soft { made } else { BTreeSet::new() });
    }
}

/// A transaction of a host is first dropped, and then committed.
pub async fn a_customer_and_its_addresses_are_written_together_or_not_at_all(f: &ShopFixture) {
    let before = f.snapshot().await;
    let shop = f.shop.acting_as(me());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    for commit in [false, true] {
        let mut tx = f.shop.begin().await.unwrap();
        let c = customers.create_in(&mut tx, &from(&ada())).await.unwrap();
        let a = addresses.create_in(&mut tx, c.id, &from(&home())).await.unwrap();
        let b = addresses.create_in(&mut tx, c.id, &from(&home())).await.unwrap();
        let a = addresses.patch_in(&mut tx, a.id, v(1), from(&json!({ "city": "Ockham" }))).await.unwrap();
        let b = addresses.replace_in(&mut tx, b.id, v(1), &from(&json!({ "street": "S", "city": "C" }))).await.unwrap();
        let c = customers.patch_in(&mut tx, c.id, v(1), from(&json!({ "telephone": null }))).await.unwrap();
        if !commit {
            drop(tx);
            assert_eq!(f.snapshot().await, before);
            continue;
        }
        tx.commit().await.unwrap().run().await;
        let after = f.snapshot().await;
        assert_eq!((after.customers, after.addresses), (vec![c.clone()], vec![a.clone(), b.clone()]));
        assert_eq!(f.events_after(before.head).await.len(), 6);

        let mut tx = f.shop.begin().await.unwrap();
        customers.delete_in(&mut tx, c.id, v(2), DeleteMode::Soft).await.unwrap();
        customers.restore_in(&mut tx, c.id, v(3)).await.unwrap();
        let c = customers.replace_in(&mut tx, c.id, v(4), &named("new@example.com")).await.unwrap();
        addresses.delete_in(&mut tx, a.id, v(2)).await.unwrap();
        tx.commit().await.unwrap().run().await;
        let after = f.snapshot().await;
        assert_eq!((after.customers, after.addresses), (vec![c], vec![b]));
    }
}

/// A page by number has the total, and a page by cursor does not. The list of a customer without addresses is empty,
/// and that of a customer who does not exist fails.
pub async fn lists_of_customers_and_addresses_count_and_page(f: &ShopFixture) {
    for n in 0..7 {
        let input =
            json!({ "first_name": format!("N{}", 9 - n), "last_name": "Same", "email": format!("c{n}@example.com") });
        let c = f.customer(&input).await;
        if n == 3 {
            f.address(&c, &home()).await;
            f.address(&c, &home()).await;
        }
    }
    let all = f.snapshot().await.customers;
    let customers = f.shop.acting_as(me()).customers();
    let filter = CustomerFilter { name: Some("SAME".to_owned()), ..CustomerFilter::default() };
    let (page, total) =
        customers.list(&filter, CustomerSort::NameAsc, &Paging::Offset { offset: 2, limit: 3 }).await.unwrap();
    let names: Vec<&str> = page.items.iter().map(|c| c.first_name.as_str()).collect();
    assert_eq!(names, ["N5", "N6", "N7"]);
    assert_eq!(total, Some(Total { count: 7, exact: true }));
    let (page, total) =
        customers.list(&filter, CustomerSort::NameAsc, &Paging::Keyset { after: page.next, limit: 3 }).await.unwrap();
    let names: Vec<&str> = page.items.iter().map(|c| c.first_name.as_str()).collect();
    assert_eq!((names.as_slice(), total, page.next), (["N8", "N9"].as_slice(), None, None));
    let by_email = CustomerFilter { email: Some("C4@EXAMPLE.com".to_owned()), ..CustomerFilter::default() };
    let found = customers.list(&by_email, CustomerSort::CreatedDesc, &Paging::first(9)).await.unwrap();
    assert_eq!(found.0.items, [all[4].clone()]);

    for (n, c) in all.iter().enumerate() {
        let filter = AddressFilter { customer: Some(c.id), ..AddressFilter::default() };
        let (page, total) = f.shop.addresses().list(&filter, &Paging::Offset { offset: 0, limit: 1 }).await.unwrap();
        let count = if n == 3 { 2 } else { 0 };
        assert_eq!((page.items.len(), page.next.is_some()), (count.min(1), count > 1));
        assert_eq!(total, Some(Total { count: count as u64, exact: true }));
    }
    let nobody = AddressFilter { customer: Some(CustomerId(Uuid::from_u128(1))), ..AddressFilter::default() };
    let answer = f.shop.addresses().list(&nobody, &Paging::first(5)).await;
    assert_eq!(code_of(answer, "a customer who does not exist"), ErrorCode::NotFound);
}
