//! The contract of [`CustomerRepository`](crate::port::CustomerRepository) and
//! [`AddressRepository`](crate::port::AddressRepository).

use std::sync::Arc;

use crate::domain::common::{Attributes, Audit, ExternalRef, IncludeDeleted};
use crate::domain::sales::cart::{Cart, CartFilter, CartState};
use crate::domain::sales::customer::{Address, AddressFilter, Customer, CustomerFilter, CustomerSort};
use crate::error::{Error, ErrorCode, FieldCode};
use crate::id::{AddressId, CustomerId, IdSource as _};
use crate::paging::{Keyset, Page, Paging, SortKey, Total};
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::sample::Env;
use crate::testkit::{code_of, is_taken};
use crate::text::fold_key;

suite! {
    /// Runs the suite of [`CustomerRepository`](crate::port::CustomerRepository) and
    /// [`AddressRepository`](crate::port::AddressRepository). Takes the path of an `async fn() -> StorageFixture`; see
    /// [`testkit`](crate::testkit).
    customer_suite, customer: fixture => &fixture.storage, __customer_tests: [
        every_field_survives_a_round_trip,
        every_field_is_updated,
        the_longest_texts_survive_a_round_trip,
        emails_are_unique_whatever_their_case_and_width,
        external_references_are_unique,
        an_update_into_a_taken_email_or_reference_is_refused,
        r01_an_update_from_an_old_version_changes_nothing,
        r02_soft_deleted_customers_are_hidden_unless_asked_for,
        r02_email_and_reference_are_free_again_after_soft_delete,
        r02_a_restore_into_a_taken_email_is_refused,
        r02_addresses_hide_and_return_with_their_customer,
        r05_purge_removes_a_customer_with_its_addresses,
        r45_an_erasure_leaves_a_row_without_addresses_and_carts,
        r45_a_cart_that_is_merged_meanwhile_is_removed_too,
        the_lock_of_a_customer_makes_writers_wait_for_each_other,
        customers_are_found_by_the_beginning_of_their_name,
        customers_are_found_by_email,
        every_sort_pages_through_all_customers_exactly_once,
        a_cursor_of_another_sort_is_refused,
        counts_stop_at_their_bound,
        an_address_of_nobody_is_refused,
        addresses_are_updated_by_version,
        an_address_is_purged_alone,
        addresses_are_listed_by_customer_city_and_street,
        address_lists_page_exactly_once,
        a_page_costs_one_statement_whatever_its_size,
    ]
}

async fn get(storage: &Arc<dyn Storage>, id: CustomerId) -> Option<Customer> {
    read!(storage, customers.get(id, IncludeDeleted::No))
}

async fn get_address(storage: &Arc<dyn Storage>, id: AddressId) -> Option<Address> {
    read!(storage, addresses.get(id, IncludeDeleted::No))
}

async fn list(
    storage: &Arc<dyn Storage>,
    filter: &CustomerFilter,
    sort: CustomerSort,
    paging: &Paging,
) -> Page<Customer> {
    read!(storage, customers.list(filter, sort, paging))
}

async fn list_addresses(storage: &Arc<dyn Storage>, filter: &AddressFilter) -> Vec<Address> {
    let total = read!(storage, addresses.count(filter, 1_000));
    let page = read!(storage, addresses.list(filter, &Paging::first(1_000)));
    assert_eq!(
        (total, page.next),
        (Total { count: page.items.len() as u64, exact: true }, None),
        "a list that fits on one page must have no `next`, and `count` must agree with it: {filter:?}"
    );
    page.items
}

/// Returns the audit fields after an edit.
fn edited(env: &Env, audit: &Audit) -> Audit {
    let mut audit = audit.clone();
    audit.edited(env.now(), &env.actor);
    audit
}

/// Returns the row after a restore.
fn restored(env: &Env, customer: &Customer) -> Customer {
    let mut back = customer.clone();
    back.audit.restored(env.now(), &env.actor);
    back
}

fn of(customer: &Customer) -> AddressFilter {
    AddressFilter { customer: Some(customer.id), ..AddressFilter::default() }
}

/// Rows with all fields, and rows without optional fields, are read back as they were inserted.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let full = env.full_customer("Zoë", "O'Brien-Ærø", "Zoë.O+tag@Example.com");
    let minimal = env.customer("茶", "庵", "grüße@例え.jp");
    let gone = Customer {
        audit: env.deleted(&full.audit),
        erased_at: Some(env.now()),
        ..env.full_customer("Gone", "Away", "gone@example.com")
    };
    let addresses = [
        env.full_address(&full, "Rue de l'Église \"7\"", "Saint-Étienne"),
        env.address(&full, "渋谷", "東京都"),
        Address { audit: gone.audit.clone(), ..env.full_address(&gone, "Nowhere", "Gone") },
    ];
    env.insert_customers(storage, &[full.clone(), minimal.clone(), gone.clone()], &addresses).await.unwrap();
    for expected in [&full, &minimal, &gone] {
        let found = read!(storage, customers.get(expected.id, IncludeDeleted::Yes));
        assert_eq!(found.as_ref(), Some(expected), "a customer is read as it was inserted");
    }
    for expected in &addresses {
        let found = read!(storage, addresses.get(expected.id, IncludeDeleted::Yes));
        assert_eq!(found.as_ref(), Some(expected), "an address is read as it was inserted");
    }
    assert_eq!(get(storage, CustomerId(env.ids.next())).await, None, "`get` of an unknown customer finds nothing");
    assert_eq!(
        get_address(storage, AddressId(env.ids.next())).await,
        None,
        "`get` of an unknown address finds nothing"
    );
}

/// An update sets and clears every field.
pub async fn every_field_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.customer("A", "A", "a@example.com"), env.customer("B", "B", "b@example.com"));
    env.insert_customers(storage, &[a.clone(), b.clone()], &[]).await.unwrap();
    let full = env.full_customer("Ada", "Lovelace", "ada@example.com");
    let after = Customer { id: a.id, audit: edited(&env, &a.audit), ..full };
    env.update_customer(storage, &a, &after).await.unwrap();
    assert_eq!(get(storage, a.id).await.as_ref(), Some(&after), "an update must write every field");
    let emptied = Customer {
        telephone: None,
        attributes: Attributes::default(),
        external: None,
        audit: edited(&env, &after.audit),
        ..after.clone()
    };
    env.update_customer(storage, &after, &emptied).await.unwrap();
    assert_eq!(get(storage, a.id).await.as_ref(), Some(&emptied), "an update must empty every field that can be empty");
    assert_eq!(get(storage, b.id).await.as_ref(), Some(&b), "an update must not change other rows");
    // Lists find the customer by the new name and email, and not by the old ones.
    for (name, found) in [("lovelace", vec![emptied.clone()]), ("a a", vec![])] {
        let filter = CustomerFilter { name: Some(name.to_owned()), ..CustomerFilter::default() };
        assert_eq!(
            list(storage, &filter, CustomerSort::NameAsc, &Paging::first(9)).await.items,
            found,
            "after an update, a list must find the customer by the new name only: {name}"
        );
    }
    env.insert_customers(storage, &[env.customer("New", "A", "A@example.com")], &[])
        .await
        .expect("an email that no customer has any longer must be free");
}

/// The names have the maximum length, with characters of four bytes, and with characters whose key is longer than the
/// text.
pub async fn the_longest_texts_survive_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let email = |c: &str, last: &str| format!("{}{last}@example.com", c.repeat(254 - 12 - 1));
    let mut customers = Vec::new();
    let mut addresses = Vec::new();
    for (n, c) in ["🎧", "ﷺ", "ß", "x"].iter().enumerate() {
        let mut customer = env.full_customer(&c.repeat(100), &c.repeat(100), &email(c, "y"));
        customer.external = Some(ExternalRef::new("ä".repeat(100), format!("{}{n}", "🎧".repeat(254))));
        let address = Address {
            number: Some(c.repeat(50)),
            region: Some(c.repeat(100)),
            postal_code: Some(c.repeat(20)),
            ..env.full_address(&customer, &c.repeat(255), &c.repeat(100))
        };
        // It differs from the first one only after the length that an index can store.
        customers.push(env.customer(&c.repeat(100), "B", &email(c, "z")));
        customers.push(customer);
        addresses.push(address);
    }
    env.insert_customers(storage, &customers, &addresses).await.unwrap();
    for customer in &customers {
        assert_eq!(
            get(storage, customer.id).await.as_ref(),
            Some(customer),
            "texts of the maximum length must be read as they were inserted"
        );
        let twin = env.customer("T", "T", &customer.email.replace("example.com", "Example.COM"));
        let taken = env.insert_customers(storage, &[twin], &[]).await;
        is_taken("email", taken, &customer.email);
        let filter = CustomerFilter { email: Some(customer.email.clone()), ..CustomerFilter::default() };
        let found = list(storage, &filter, CustomerSort::CreatedAsc, &Paging::first(9)).await;
        assert_eq!(found.items, [customer.clone()], "texts of the maximum length must be found by a filter");
    }
    for address in &addresses {
        assert_eq!(
            get_address(storage, address.id).await.as_ref(),
            Some(address),
            "texts of the maximum length must be read as they were inserted"
        );
        let whole = AddressFilter {
            city: Some(address.city.clone()),
            street: Some(address.street.clone()),
            ..AddressFilter::default()
        };
        assert_eq!(
            list_addresses(storage, &whole).await,
            [address.clone()],
            "texts of the maximum length must be found by a filter"
        );
    }
}

/// The folded keys of emails are compared.
pub async fn emails_are_unique_whatever_their_case_and_width(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = env.customer("Ada", "L", "Straße.Ada@example.com");
    env.insert_customers(storage, std::slice::from_ref(&first), &[]).await.unwrap();
    for email in [
        "Straße.Ada@example.com",
        "STRASSE.ADA@EXAMPLE.COM",
        "strasse.ａｄａ@example.com",
        "Ｓtrasse.Ada@ｅｘａｍｐｌｅ.com",
    ] {
        let twin = env.customer("Twin", "L", email);
        is_taken("email", env.insert_customers(storage, &[twin.clone()], &[]).await, email);
        assert_eq!(get(storage, twin.id).await, None, "an insert that is refused must store nothing");
    }
    // Accents are compared, and both encodings of an accent are the same.
    let accent = env.customer("Zoë", "L", "zoë@example.com");
    env.insert_customers(storage, &[accent, env.customer("Zoe", "L", "zoe@example.com")], &[]).await.unwrap();
    let twin = env.customer("Zoë", "L", "ZOE\u{308}@example.com");
    is_taken("email", env.insert_customers(storage, &[twin], &[]).await, "an accent");
    // Emails within one call are compared too.
    let pair = [env.customer("X", "X", "x@example.com"), env.customer("Y", "Y", "X@example.com")];
    is_taken("email", env.insert_customers(storage, &pair, &[]).await, "two equal emails in one call");
    assert_eq!(get(storage, pair[0].id).await, None, "a call that is refused must store none of its rows");
}

/// No two live customers have the same source and external id, which are compared bytewise.
pub async fn external_references_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let with = |email: &str, source: &str, id: &str| Customer {
        external: Some(ExternalRef::new(source, id)),
        ..env.customer("A", "B", &format!("{email}@example.com"))
    };
    let all = [with("a", "crm", "1"), with("b", "crm", "2"), with("c", "shop", "1"), with("d", "CRM", "1")];
    env.insert_customers(storage, &all, &[]).await.unwrap();
    let ids = ["2", "1", "3"].map(str::to_owned);
    let found = read!(storage, customers.find_by_external("crm", &ids));
    assert_eq!(found, all[..2], "customers are found by source and external id");
    let taken = env.insert_customers(storage, &[with("e", "crm", "1")], &[]).await;
    is_taken("external_id", taken, "external");
}

/// An update is refused as an insert is.
pub async fn an_update_into_a_taken_email_or_reference_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.full_customer("A", "A", "a@example.com"), env.full_customer("B", "B", "b@example.com"));
    env.insert_customers(storage, &[a.clone(), b.clone()], &[]).await.unwrap();
    let email = Customer { email: "A@EXAMPLE.com".to_owned(), audit: edited(&env, &b.audit), ..b.clone() };
    is_taken("email", env.update_customer(storage, &b, &email).await, "email");
    let external = Customer { external: a.external.clone(), audit: edited(&env, &b.audit), ..b.clone() };
    is_taken("external_id", env.update_customer(storage, &b, &external).await, "external");
    assert_eq!(get(storage, b.id).await, Some(b), "an update that is refused must change nothing");
    let own = Customer { email: "A@EXAMPLE.COM".to_owned(), audit: edited(&env, &a.audit), ..a.clone() };
    env.update_customer(storage, &a, &own).await.expect("a customer must be able to change the case of its own email");
}

/// An update from an old version changes neither the row nor anything else of the transaction.
pub async fn r01_an_update_from_an_old_version_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.customer("A", "A", "a@example.com"), env.customer("B", "B", "b@example.com"));
    let home = env.address(&a, "Home", "Town");
    env.insert_customers(storage, &[a.clone(), b.clone()], &[home.clone()]).await.unwrap();
    let renamed =
        |c: &Customer, name: &str| Customer { first_name: name.to_owned(), audit: edited(&env, &c.audit), ..c.clone() };
    let winner = renamed(&b, "First");
    env.update_customer(storage, &b, &winner).await.unwrap();

    let mut uow = storage.begin().await.unwrap();
    uow.customers().lock(a.id).await.unwrap();
    uow.customers().update(&a, &Customer { audit: env.deleted(&a.audit), ..a.clone() }).await.unwrap();
    let answer = uow.customers().update(&b, &renamed(&b, "Second")).await;
    assert_eq!(
        code_of(answer, "an update from an outdated version"),
        ErrorCode::VersionConflict,
        "an update from an outdated version must fail with `VERSION_CONFLICT`"
    );
    drop(uow);
    assert_eq!(get(storage, a.id).await, Some(a), "a unit of work that is dropped must change nothing");
    assert_eq!(get(storage, b.id).await, Some(winner), "the newer version must remain");
    assert_eq!(
        get_address(storage, home.id).await,
        Some(home),
        "a unit of work that is dropped must not change the addresses"
    );
}

/// Every read hides soft-deleted rows, and reads that can include them return them.
pub async fn r02_soft_deleted_customers_are_hidden_unless_asked_for(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (live, gone) = (env.customer("Ada", "L", "ada@example.com"), env.customer("Bob", "L", "bob@example.com"));
    env.insert_customers(storage, &[live.clone(), gone.clone()], &[]).await.unwrap();
    let gone = env.soft_delete_customer(storage, &gone).await.unwrap();
    assert_eq!(get(storage, gone.id).await, None, "`get` hides a soft-deleted customer");
    assert_eq!(
        read!(storage, customers.get(gone.id, IncludeDeleted::Yes)).as_ref(),
        Some(&gone),
        "`get` must return a soft-deleted customer if it is asked for"
    );
    for sort in CustomerSort::ALL {
        for (deleted, count) in [(IncludeDeleted::No, 1), (IncludeDeleted::Yes, 2)] {
            let by_name =
                CustomerFilter { name: Some("l".to_owned()), include_deleted: deleted, ..CustomerFilter::default() };
            let by_email = CustomerFilter {
                email: Some(gone.email.clone()),
                include_deleted: deleted,
                ..CustomerFilter::default()
            };
            for (filter, count) in [(by_name, count), (by_email, count - 1)] {
                let page = list(storage, &filter, sort, &Paging::first(9)).await;
                assert_eq!(
                    page.items.len(),
                    count,
                    "a list must include soft-deleted customers only if they are asked for: {filter:?}"
                );
                assert_eq!(
                    page.items.contains(&gone),
                    deleted == IncludeDeleted::Yes,
                    "a list must include soft-deleted customers only if they are asked for: {filter:?}"
                );
                let total = read!(storage, customers.count(&filter, 9));
                assert_eq!(total, Total { count: count as u64, exact: true }, "`count` must agree with the list");
            }
        }
    }
    let mut uow = storage.begin().await.unwrap();
    assert_eq!(uow.customers().lock(gone.id).await.unwrap(), Some(gone), "`lock` must return a soft-deleted customer");
    assert_eq!(
        uow.customers().lock(CustomerId(env.ids.next())).await.unwrap(),
        None,
        "`lock` of an unknown customer must return nothing"
    );
}

/// Other customers can use the email and the reference of a deleted customer.
pub async fn r02_email_and_reference_are_free_again_after_soft_delete(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = env.full_customer("Ada", "L", "ada@example.com");
    env.insert_customers(storage, std::slice::from_ref(&old), &[]).await.unwrap();
    env.soft_delete_customer(storage, &old).await.unwrap();
    let new = Customer { email: "ADA@example.com".to_owned(), ..env.full_customer("Ada", "L", "ada@example.com") };
    env.insert_customers(storage, &[new.clone()], &[])
        .await
        .expect("the email and the external id of a soft-deleted customer must be free");
    let emails = ["Ada@Example.com", "nobody@example.com"].map(str::to_owned);
    assert_eq!(read!(storage, customers.find_by_emails(&emails)), [new.clone()], "a live one is found by email");
    let reference = old.external.clone().unwrap();
    let same = read!(storage, customers.find_by_external(&reference.source, &[reference.external_id]));
    assert_eq!(same.iter().map(|c| c.id).collect::<Vec<_>>(), [old.id, new.id], "both are found by external id");
    // Any number of deleted customers can have the same ones.
    env.soft_delete_customer(storage, &new).await.unwrap();
    env.insert_customers(storage, &[env.full_customer("Ada", "L", "ada@example.com")], &[]).await.unwrap();
}

/// The restored customer would have the same email as a live one.
pub async fn r02_a_restore_into_a_taken_email_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = env.customer("Ada", "L", "ada@example.com");
    let home = env.address(&old, "Home", "Town");
    env.insert_customers(storage, std::slice::from_ref(&old), std::slice::from_ref(&home)).await.unwrap();
    let gone = env.soft_delete_customer(storage, &old).await.unwrap();
    env.insert_customers(storage, &[env.customer("Ada", "M", "ADA@EXAMPLE.COM")], &[]).await.unwrap();
    let answer = env.update_customer(storage, &gone, &restored(&env, &gone)).await;
    is_taken("email", answer, "restore");
    assert_eq!(get(storage, old.id).await, None, "a restore that is refused must change nothing");
    assert_eq!(
        get_address(storage, home.id).await,
        None,
        "a restore that is refused must not show the addresses of the customer"
    );
}

/// Addresses have the time of the deletion of their customer, and their versions stay.
pub async fn r02_addresses_hide_and_return_with_their_customer(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.customer("A", "A", "a@example.com"), env.customer("B", "B", "b@example.com"));
    let of_a = [env.full_address(&a, "One", "Town"), env.address(&a, "Two", "Town")];
    let of_b = env.address(&b, "Three", "Town");
    let all = [of_a[0].clone(), of_a[1].clone(), of_b.clone()];
    env.insert_customers(storage, &[a.clone(), b.clone()], &all).await.unwrap();
    let mut both = read!(storage, addresses.of_customers(&[b.id, a.id]));
    both.sort_unstable_by_key(|address| all.iter().position(|x| x.id == address.id));
    assert_eq!(both, all, "the addresses of several customers are read together");
    let gone = env.soft_delete_customer(storage, &a).await.unwrap();
    let visible = read!(storage, addresses.of_customers(&[a.id, b.id]));
    assert_eq!(visible, [of_b.clone()], "the addresses of a soft-deleted customer are left out");
    let town = AddressFilter { city: Some("town".to_owned()), ..AddressFilter::default() };
    let with_deleted =
        |filter: &AddressFilter| AddressFilter { include_deleted: IncludeDeleted::Yes, ..filter.clone() };
    let hidden =
        of_a.clone().map(|x| Address { audit: Audit { deleted_at: gone.audit.deleted_at, ..x.audit.clone() }, ..x });
    assert_eq!(list_addresses(storage, &of(&a)).await, [], "the addresses of a soft-deleted customer are hidden");
    assert_eq!(
        list_addresses(storage, &with_deleted(&of(&a))).await,
        hidden,
        "a list must include soft-deleted addresses if they are asked for"
    );
    assert_eq!(
        list_addresses(storage, &town).await,
        [of_b.clone()],
        "a list by city must leave soft-deleted addresses out"
    );
    assert_eq!(
        list_addresses(storage, &with_deleted(&town)).await.len(),
        3,
        "a list by city must include soft-deleted addresses if they are asked for"
    );
    for x in &hidden {
        assert_eq!(get_address(storage, x.id).await, None, "`get` hides the address of a deleted customer");
        assert_eq!(
            read!(storage, addresses.get(x.id, IncludeDeleted::Yes)).as_ref(),
            Some(x),
            "`get` must return the address of a soft-deleted customer if it is asked for"
        );
    }
    let back = restored(&env, &gone);
    env.update_customer(storage, &gone, &back).await.unwrap();
    assert_eq!(list_addresses(storage, &of(&a)).await, of_a, "a restore of a customer must restore its addresses");
    assert_eq!(list_addresses(storage, &town).await, all, "a list by city must include restored addresses");
    assert_eq!(get(storage, a.id).await, Some(back), "a restored customer must have all its fields");
}

/// The addresses of a live and of a soft-deleted customer are removed, and other customers keep their addresses.
pub async fn r05_purge_removes_a_customer_with_its_addresses(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.full_customer("A", "A", "a@example.com"), env.full_customer("B", "B", "b@example.com"));
    let c = env.customer("C", "C", "c@example.com");
    let addresses = [env.address(&a, "A", "A"), env.address(&b, "B", "B"), env.address(&c, "C", "C")];
    env.insert_customers(storage, &[a.clone(), b.clone(), c.clone()], &addresses).await.unwrap();
    env.soft_delete_customer(storage, &b).await.unwrap();
    for gone in [&a, &b] {
        attempt!(storage, customers.purge(gone.id)).unwrap();
        assert_eq!(
            read!(storage, customers.get(gone.id, IncludeDeleted::Yes)),
            None,
            "a purged row must not be found, even by a read that includes soft-deleted rows"
        );
    }
    let every = AddressFilter { include_deleted: IncludeDeleted::Yes, ..AddressFilter::default() };
    assert_eq!(
        list_addresses(storage, &every).await,
        [addresses[2].clone()],
        "a purge must remove the addresses of the customer and no others"
    );
    assert_eq!(get(storage, c.id).await, Some(c), "a purge leaves other customers as they are");
    env.insert_customers(storage, &[env.full_customer("A", "A", "a@example.com")], &[])
        .await
        .expect("the keys of a purged row must be free for new rows");
    attempt!(storage, customers.purge(a.id)).expect("a purge of a row that does not exist must succeed");
}

/// Live and soft-deleted customers are erased. Their carts in every state are removed, and those of guests that their
/// orders were made from, or that were merged into one of these, directly or by way of others.
pub async fn r45_an_erasure_leaves_a_row_without_addresses_and_carts(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = env.priced("Lamp", 100, 1);
    env.insert_products(storage, std::slice::from_ref(&lamp)).await.unwrap();
    let (a, b) = (env.full_customer("A", "A", "a@example.com"), env.full_customer("B", "B", "b@example.com"));
    let c = env.full_customer("C", "C", "c@example.com");
    let addresses = [env.full_address(&a, "A", "A"), env.address(&b, "B", "B"), env.address(&c, "C", "C")];
    env.insert_customers(storage, &[a.clone(), b.clone(), c.clone()], &addresses).await.unwrap();
    let line = || vec![env.cart_line(lamp.skus[0].id, 1, 100)];
    let of = |customer: &Customer, n: usize| env.full_cart(Some(customer), &format!("{n}@example.com"), line());
    let open = of(&a, 1);
    let ordered = Cart { state: CartState::Ordered, ..of(&a, 2) };
    let own = Cart { state: CartState::Merged, merged_into: Some(open.id), ..of(&a, 3) };
    let near = Cart { state: CartState::Merged, merged_into: Some(ordered.id), ..env.full_cart(None, "4", line()) };
    let far = Cart { state: CartState::Merged, merged_into: Some(near.id), ..env.full_cart(None, "5", line()) };
    let bought = Cart { state: CartState::Ordered, ..env.full_cart(None, "8", line()) };
    let mut linked = env.order_of(&lamp, 1);
    (linked.order.customer_id, linked.order.cart_id) = (Some(a.id), Some(bought.id));
    let (kept, guest) = (of(&c, 6), env.full_cart(None, "a@example.com", line()));
    let mut of_guest = env.order_of(&lamp, 1);
    of_guest.order.cart_id = Some(guest.id);
    env.insert_orders(storage, &[linked, of_guest]).await.unwrap();
    let other = Cart { state: CartState::Merged, merged_into: Some(kept.id), ..env.full_cart(None, "7", line()) };
    let stays = [kept.clone(), guest.clone(), other.clone()];
    attempt!(storage, carts.insert(&[open, ordered, own, near, far, bought, kept, guest, other])).unwrap();

    let mut moved = a.erased(env.now(), &env.actor);
    let mut stale = a.clone();
    stale.audit.version += 1;
    let refused = attempt!(storage, customers.erase(&stale, &moved));
    assert_eq!(code_of(refused, "an erasure from an old version"), ErrorCode::VersionConflict);
    assert_eq!(get(storage, a.id).await.as_ref(), Some(&a), "an erasure that is refused must change nothing");
    attempt!(storage, customers.erase(&a, &moved)).unwrap();
    assert_eq!(read!(storage, customers.get(a.id, IncludeDeleted::Yes)).as_ref(), Some(&moved));
    assert_eq!(get(storage, a.id).await, None, "an erased customer is soft-deleted");
    let mut left = read!(storage, carts.list(&CartFilter::default(), &Paging::first(20))).items;
    left.sort_unstable_by_key(|cart| stays.iter().position(|s| s.id == cart.id));
    assert_eq!(left, stays, "the carts of others stay");

    let gone = env.soft_delete_customer(storage, &b).await.unwrap();
    attempt!(storage, customers.erase(&gone, &gone.erased(env.now(), &env.actor))).unwrap();
    let every = AddressFilter { include_deleted: IncludeDeleted::Yes, ..AddressFilter::default() };
    assert_eq!(list_addresses(storage, &every).await, [addresses[2].clone()], "the addresses of others stay");
    assert_eq!(get(storage, c.id).await, Some(c), "other customers stay");
    let reference = a.external.clone().unwrap();
    assert_eq!(read!(storage, customers.find_by_external(&reference.source, &[reference.external_id])), []);
    assert_eq!(read!(storage, customers.find_by_emails(&[a.email.clone(), moved.email.clone()])), []);
    let by_email = CustomerFilter {
        email: Some(a.email.clone()),
        include_deleted: IncludeDeleted::Yes,
        ..CustomerFilter::default()
    };
    assert_eq!(read!(storage, customers.count(&by_email, 9)).count, 0, "no list finds the email");
    env.insert_customers(storage, &[env.full_customer("A", "A", "a@example.com")], &[])
        .await
        .expect("the email and the external id of an erased customer must be free");

    // The database itself refuses to show an erased customer again.
    let erased = moved.clone();
    moved.audit.restored(env.now(), &env.actor);
    assert!(env.update_customer(storage, &erased, &moved).await.is_err(), "an erased customer stays soft-deleted");
}

/// The cart of a guest is merged into that of the customer by a transaction that holds both while the erasure begins.
pub async fn r45_a_cart_that_is_merged_meanwhile_is_removed_too(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ada = env.customer("Ada", "L", "ada@example.com");
    env.insert_customers(storage, std::slice::from_ref(&ada), &[]).await.unwrap();
    let (own, guest) = (env.full_cart(Some(&ada), "a", Vec::new()), env.full_cart(None, "b", Vec::new()));
    attempt!(storage, carts.insert(&[own.clone(), guest.clone()])).unwrap();
    let mut merging = storage.begin().await.unwrap();
    merging.carts().lock(&[own.id, guest.id]).await.unwrap();
    let erasure = {
        let (storage, ada) = (storage.clone(), ada.clone());
        tokio::spawn(async move {
            let env = Env::new(7);
            let mut erasing = storage.begin().await.unwrap();
            erasing.customers().lock(ada.id).await.unwrap();
            erasing.customers().erase(&ada, &ada.erased(env.now(), &env.actor)).await.unwrap();
            erasing.commit().await.unwrap();
        })
    };
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let merged = Cart {
        state: CartState::Merged,
        merged_into: Some(own.id),
        audit: edited(&env, &guest.audit),
        ..guest.clone()
    };
    merging.carts().update(&guest, &merged).await.unwrap();
    merging.commit().await.unwrap();
    erasure.await.unwrap();
    assert_eq!(read!(storage, carts.list(&CartFilter::default(), &Paging::first(9))).items, []);
}

/// A transaction that holds the lock reads all writes of the holders before it.
pub async fn the_lock_of_a_customer_makes_writers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let customer = env.customer("Ada", "L", "ada@example.com");
    env.insert_customers(storage, std::slice::from_ref(&customer), &[]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let (storage, customer) = (storage.clone(), customer.clone());
        tasks.spawn(async move {
            let env = Env::new(seed);
            let mut uow = storage.begin().await.unwrap();
            let locked = uow.customers().lock(customer.id).await.unwrap().unwrap();
            let n = uow.addresses().count(&of(&customer), 100).await.unwrap().count;
            assert_eq!(
                locked.first_name,
                if n == 0 { "Ada".to_owned() } else { format!("Ada {n}") },
                "`lock` must return the row as the holder before has written it"
            );
            tokio::task::yield_now().await;
            uow.addresses().insert(&[env.address(&customer, &format!("Street {n}"), "Town")]).await.unwrap();
            let first_name = format!("Ada {}", n + 1);
            let after = Customer { first_name, audit: edited(&env, &locked.audit), ..locked.clone() };
            uow.customers().update(&locked, &after).await.unwrap();
            uow.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    let mut streets: Vec<String> =
        list_addresses(storage, &of(&customer)).await.into_iter().map(|a| a.street).collect();
    streets.sort();
    assert_eq!(
        streets,
        (0..8).map(|n| format!("Street {n}")).collect::<Vec<_>>(),
        "every writer that waits for the lock of a customer must get it"
    );
}

/// Customers are found by the last name and by the full name, folded. Wildcards in a name have no meaning.
pub async fn customers_are_found_by_the_beginning_of_their_name(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let names = [
        ("Ada", "Lovelace"),
        ("Love", "Jones"),
        ("Émile", "Straße"),
        ("Emile", "Strasser"),
        ("100%", "_under"),
        ("茶", "庵"),
        ("Ada Maria", "King"),
    ];
    let all: Vec<Customer> =
        names.iter().enumerate().map(|(n, (f, l))| env.customer(f, l, &format!("c{n}@example.com"))).collect();
    env.insert_customers(storage, &all, &[]).await.unwrap();
    for (name, expected) in [
        ("l", vec![1, 0]),
        ("LOVE", vec![1, 0]),
        ("ｌｏｖｅ", vec![1, 0]),
        ("lovel", vec![0]),
        ("Lovelace", vec![0]),
        ("love jones", vec![1]),
        ("ada l", vec![0]),
        ("ada", vec![6, 0]),
        ("ADA  maria", vec![6]),
        ("strasse", vec![2, 3]),
        ("STRASSER", vec![3]),
        ("émile", vec![2]),
        ("E\u{301}mile", vec![2]),
        ("emile", vec![3]),
        ("ovelace", vec![]),
        ("maria", vec![]),
        ("_", vec![4]),
        ("%", vec![]),
        ("100%", vec![4]),
        ("庵", vec![5]),
        ("茶 庵", vec![5]),
        ("zzz", vec![]),
        ("Lovelace, Ada", vec![]),
    ] {
        let filter = CustomerFilter { name: Some(name.to_owned()), ..CustomerFilter::default() };
        let found = list(storage, &filter, CustomerSort::NameAsc, &Paging::first(50)).await;
        let expected: Vec<&Customer> = expected.into_iter().map(|n: usize| &all[n]).collect();
        assert_eq!(
            found.items.iter().collect::<Vec<_>>(),
            expected,
            "a list must have the customers whose name begins with {name}, sorted by name"
        );
        assert_eq!(
            read!(storage, customers.count(&filter, 50)).count,
            expected.len() as u64,
            "`count` must agree with the list: {name}"
        );
        let paged = list(storage, &filter, CustomerSort::NameAsc, &Paging::first(1)).await;
        assert_eq!(
            paged.next.is_some(),
            expected.len() > 1,
            "`next` must be set if and only if more rows follow: {name}"
        );
    }
}

/// Customers are found by the folded email.
pub async fn customers_are_found_by_email(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ada = env.customer("Ada", "L", "Ada.L@Example.com");
    env.insert_customers(storage, &[ada.clone(), env.customer("Ada", "M", "ada.m@example.com")], &[]).await.unwrap();
    for (email, found) in [
        ("Ada.L@Example.com", true),
        ("ADA.L@EXAMPLE.COM", true),
        ("ａda.l@example.com", true),
        ("ada.l@example.co", false),
        ("ada.l@example.com.", false),
        ("ada_l@example.com", false),
        ("%", false),
    ] {
        let filter = CustomerFilter { email: Some(email.to_owned()), ..CustomerFilter::default() };
        let page = list(storage, &filter, CustomerSort::CreatedDesc, &Paging::first(9)).await;
        assert_eq!(
            page.items,
            if found { vec![ada.clone()] } else { vec![] },
            "a filter by email must compare the whole folded email: {email}"
        );
        let other = CustomerFilter { name: Some("m".to_owned()), ..filter };
        let both = list(storage, &other, CustomerSort::CreatedDesc, &Paging::first(9)).await;
        assert_eq!(both.items, [], "{email}: a customer must match all conditions of a filter");
    }
}

/// Both kinds of paging, with names that only the id orders, with and without deleted rows and filters.
pub async fn every_sort_pages_through_all_customers_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut all: Vec<Customer> = (0..90)
        .map(|n| {
            let (first, last) =
                [("Ada", "Zebra"), ("ADA", "ZEBRA"), ("Ähre", "Apfel"), ("b", "ÄHRE"), ("B", "apfel")][n % 5];
            env.customer(first, &format!("{last} {}", n / 40), &format!("c{n}@example.com"))
        })
        .collect();
    env.insert_customers(storage, &all, &[]).await.unwrap();
    for n in [0, 44, 89] {
        all[n] = env.soft_delete_customer(storage, &all[n]).await.unwrap();
    }
    let name_key = |c: &Customer| fold_key(&format!("{} {}", c.last_name, c.first_name));
    for sort in CustomerSort::ALL {
        let mut sorted = all.clone();
        match sort {
            CustomerSort::CreatedAsc => sorted.sort_by_key(|c| c.id),
            CustomerSort::CreatedDesc => sorted.sort_by_key(|c| std::cmp::Reverse(c.id)),
            CustomerSort::NameAsc => sorted.sort_by_key(|c| (name_key(c), c.id)),
        }
        for (deleted, name) in [
            (IncludeDeleted::No, None),
            (IncludeDeleted::Yes, None),
            (IncludeDeleted::No, Some("zebra")),
            (IncludeDeleted::Yes, Some("b")),
        ] {
            let filter = CustomerFilter { name: name.map(str::to_owned), email: None, include_deleted: deleted };
            let matches = |c: &&Customer| {
                let first_last = fold_key(&format!("{} {}", c.first_name, c.last_name));
                (deleted == IncludeDeleted::Yes || c.audit.is_live())
                    && name.is_none_or(|n| name_key(c).starts_with(n) || first_last.starts_with(n))
            };
            let expected: Vec<Customer> = sorted.iter().filter(matches).cloned().collect();
            assert!(expected.len() > 10, "the test itself is at fault: its sample must fill several pages");
            for limit in [7, 30, 1_000] {
                let at = format!("{} of {filter:?}, pages of {limit}", sort.as_str());
                let (mut by_cursor, mut after) = (Vec::new(), None::<Keyset>);
                let mut pages = Pages::over(expected.len());
                loop {
                    pages.turn();
                    let page = list(storage, &filter, sort, &Paging::Keyset { after, limit }).await;
                    assert!(page.items.len() <= limit as usize, "a page has at most `limit` rows: {at}");
                    by_cursor.extend(page.items);
                    let Some(next) = page.next else { break };
                    assert_eq!(
                        Keyset::decode(&next.encode(), sort.as_str()).unwrap(),
                        next,
                        "a decoded cursor must equal the one that was encoded"
                    );
                    after = Some(next);
                }
                assert_eq!(by_cursor, expected, "the pages by cursor must together be the sorted list: {at}");
                let mut by_offset = Vec::new();
                let mut pages = Pages::over(expected.len());
                loop {
                    pages.turn();
                    let offset = by_offset.len() as u64;
                    let page = list(storage, &filter, sort, &Paging::Offset { offset, limit }).await;
                    by_offset.extend(page.items);
                    let more = by_offset.len() < expected.len();
                    assert_eq!(page.next.is_some(), more, "`next` must be set if and only if more rows follow: {at}");
                    if page.next.is_none() {
                        break;
                    }
                }
                assert_eq!(by_offset, expected, "the pages by offset must together be the sorted list: {at}");
            }
        }
    }
    let beyond = Paging::Offset { offset: 10_000, limit: 10 };
    let page = list(storage, &CustomerFilter::default(), CustomerSort::NameAsc, &beyond).await;
    assert_eq!((page.items, page.next), (vec![], None), "a page past the end must be empty and have no `next`");
}

/// A cursor whose key does not match the sort order is an error of the caller.
pub async fn a_cursor_of_another_sort_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    env.insert_customers(storage, &[env.customer("A", "A", "a@example.com")], &[]).await.unwrap();
    let text = SortKey::Text("a".to_owned());
    for (sort, key) in [
        (CustomerSort::NameAsc, SortKey::Id),
        (CustomerSort::NameAsc, SortKey::Int(1)),
        (CustomerSort::CreatedAsc, text.clone()),
        (CustomerSort::CreatedDesc, text.clone()),
    ] {
        let after = Some(Keyset { sort: sort.as_str().to_owned(), key, id: env.ids.next() });
        let paging = Paging::Keyset { after, limit: 5 };
        let mut connection = storage.connect().await.unwrap();
        let answer = connection.customers().list(&CustomerFilter::default(), sort, &paging).await;
        assert_eq!(
            code_of(answer, sort.as_str()),
            ErrorCode::Validation,
            "a cursor of another sort must be refused with `VALIDATION_FAILED`"
        );
    }
    let after = Some(Keyset { sort: "created_asc".to_owned(), key: text, id: env.ids.next() });
    let paging = Paging::Keyset { after, limit: 5 };
    let mut connection = storage.connect().await.unwrap();
    let answer = connection.addresses().list(&AddressFilter::default(), &paging).await;
    assert_eq!(
        code_of(answer, "addresses"),
        ErrorCode::Validation,
        "a cursor of another sort must be refused with `VALIDATION_FAILED`"
    );
}

/// A count is exact up to the bound, and a lower bound above it.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let all: Vec<Customer> = (0..12).map(|n| env.customer("A", "B", &format!("c{n}@example.com"))).collect();
    let addresses: Vec<Address> = all.iter().map(|c| env.address(c, "Street", "Town")).collect();
    env.insert_customers(storage, &all, &addresses).await.unwrap();
    for (bound, total) in [(100, (12, true)), (12, (12, true)), (11, (11, false))] {
        let total = Total { count: total.0, exact: total.1 };
        assert_eq!(
            read!(storage, customers.count(&CustomerFilter::default(), bound)),
            total,
            "a count must stop at its bound, and be exact only if it does not exceed the bound"
        );
        assert_eq!(
            read!(storage, addresses.count(&AddressFilter::default(), bound)),
            total,
            "a count must stop at its bound, and be exact only if it does not exceed the bound"
        );
    }
}

/// The error names the field.
pub async fn an_address_of_nobody_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (known, nobody) = (env.customer("A", "A", "a@example.com"), env.customer("B", "B", "b@example.com"));
    let addresses = [env.address(&known, "One", "Town"), env.address(&nobody, "Two", "Town")];
    match env.insert_customers(storage, &[known], &addresses).await {
        Err(Error::Validation(e)) => {
            assert_eq!(e.0.len(), 1, "the error must name one field: {e:?}");
            assert_eq!(
                (e.0[0].field.as_str(), e.0[0].code),
                ("customer_id", FieldCode::ReferenceNotFound),
                "an address of an unknown customer is refused as a bad reference in `customer_id`"
            );
            assert!(
                e.0[0].message.contains(&nobody.id.to_string()),
                "the message must contain the id of the unknown customer: {e:?}"
            );
        }
        other => panic!(
            "an address of an unknown customer must be refused as a bad reference, but the call returns {other:?}"
        ),
    }
    assert_eq!(
        list_addresses(storage, &AddressFilter::default()).await,
        [],
        "a call that is refused must store none of its rows"
    );
    assert_eq!(
        read!(storage, customers.count(&CustomerFilter::default(), 9)).count,
        0,
        "an insert that is refused must store nothing"
    );
}

/// An update sets and clears every field, and an update from an old version changes nothing.
pub async fn addresses_are_updated_by_version(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let customer = env.customer("Ada", "L", "ada@example.com");
    let (a, b) = (env.address(&customer, "A", "Town"), env.address(&customer, "B", "Town"));
    env.insert_customers(storage, &[customer.clone()], &[a.clone(), b.clone()]).await.unwrap();
    let full = Address { id: a.id, audit: edited(&env, &a.audit), ..env.full_address(&customer, "Ä", "City") };
    env.update_address(storage, &a, &full).await.unwrap();
    assert_eq!(get_address(storage, a.id).await.as_ref(), Some(&full), "an update must write every field");
    let emptied = Address {
        number: None,
        region: None,
        postal_code: None,
        country: None,
        audit: edited(&env, &full.audit),
        ..full.clone()
    };
    env.update_address(storage, &full, &emptied).await.unwrap();
    let stale = Address { street: "Mine".to_owned(), audit: edited(&env, &full.audit), ..full.clone() };
    let answer = env.update_address(storage, &full, &stale).await;
    assert_eq!(
        code_of(answer, "an update from an outdated version"),
        ErrorCode::VersionConflict,
        "an update from an outdated version must fail with `VERSION_CONFLICT`"
    );
    assert_eq!(
        list_addresses(storage, &of(&customer)).await,
        [emptied.clone(), b],
        "a write of one address must not change the others"
    );
    let by = |city: &str| AddressFilter { city: Some(city.to_owned()), ..AddressFilter::default() };
    assert_eq!(
        list_addresses(storage, &by("city")).await,
        [emptied],
        "a list by city must find the new city of an address"
    );
    assert_eq!(get(storage, customer.id).await, Some(customer), "an update of an address must not change its customer");
}

/// The customer and its other addresses stay.
pub async fn an_address_is_purged_alone(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let customer = env.customer("Ada", "L", "ada@example.com");
    let (a, b) = (env.address(&customer, "A", "Town"), env.address(&customer, "B", "Town"));
    env.insert_customers(storage, &[customer.clone()], &[a.clone(), b.clone()]).await.unwrap();
    attempt!(storage, addresses.purge(a.id)).unwrap();
    assert_eq!(
        read!(storage, addresses.get(a.id, IncludeDeleted::Yes)),
        None,
        "a purged row must not be found, even by a read that includes soft-deleted rows"
    );
    assert_eq!(list_addresses(storage, &of(&customer)).await, [b], "a write of one address must not change the others");
    assert_eq!(get(storage, customer.id).await, Some(customer), "a purge of an address must not change its customer");
    attempt!(storage, addresses.purge(a.id)).expect("a purge of a row that does not exist must succeed");
}

/// The city and the beginning of the street are compared folded. Addresses must match all filters.
pub async fn addresses_are_listed_by_customer_city_and_street(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (ada, bob) = (env.customer("Ada", "L", "ada@example.com"), env.customer("Bob", "L", "bob@example.com"));
    let all = [
        env.address(&ada, "Große Straße", "Köln"),
        env.address(&bob, "GROSSE STRASSE", "KÖLN"),
        env.address(&ada, "Grosser Weg", "Kölnisch"),
        env.address(&bob, "100% _", "Koln"),
        env.address(&ada, "銀座", "東京"),
    ];
    env.insert_customers(storage, &[ada.clone(), bob.clone()], &all).await.unwrap();
    for (customer, city, street, expected) in [
        (None, None, None, vec![0, 1, 2, 3, 4]),
        (Some(&ada), None, None, vec![0, 2, 4]),
        (None, Some("köln"), None, vec![0, 1]),
        (None, Some("KO\u{308}LN"), None, vec![0, 1]),
        (None, Some("köl"), None, vec![]),
        (None, Some("koln"), None, vec![3]),
        (None, None, Some("grosse"), vec![0, 1, 2]),
        (None, None, Some("GROẞE S"), vec![0, 1]),
        (None, None, Some("ｇｒｏｓｓｅｒ"), vec![2]),
        (None, None, Some("strasse"), vec![]),
        (None, None, Some("%"), vec![]),
        (None, None, Some("100%"), vec![3]),
        (None, None, Some("銀"), vec![4]),
        (Some(&bob), Some("Köln"), Some("grosse"), vec![1]),
        (Some(&bob), Some("東京"), None, vec![]),
    ] {
        let filter = AddressFilter {
            customer: customer.map(|c: &Customer| c.id),
            city: city.map(str::to_owned),
            street: street.map(str::to_owned),
            include_deleted: IncludeDeleted::No,
        };
        let expected: Vec<Address> = expected.into_iter().map(|n: usize| all[n].clone()).collect();
        assert_eq!(
            list_addresses(storage, &filter).await,
            expected,
            "a list must have exactly the addresses that match {filter:?}, the oldest first"
        );
    }
}

/// Both kinds of paging return the oldest address first.
pub async fn address_lists_page_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let customers: Vec<Customer> = (0..3).map(|n| env.customer("A", "B", &format!("c{n}@example.com"))).collect();
    let all: Vec<Address> = (0..60).map(|n| env.address(&customers[n % 3], &format!("{}", n % 4), "Town")).collect();
    env.insert_customers(storage, &customers, &all).await.unwrap();
    for filter in [
        AddressFilter::default(),
        of(&customers[1]),
        AddressFilter { city: Some("TOWN".to_owned()), ..of(&customers[2]) },
    ] {
        let matches = |a: &&Address| filter.customer.is_none_or(|c| a.customer_id == c);
        let expected: Vec<Address> = all.iter().filter(matches).cloned().collect();
        for limit in [1, 7, 100] {
            let (mut by_cursor, mut after) = (Vec::new(), None::<Keyset>);
            let mut pages = Pages::over(expected.len());
            loop {
                pages.turn();
                let page = read!(storage, addresses.list(&filter, &Paging::Keyset { after, limit }));
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
                read!(storage, addresses.list(&filter, &Paging::Offset { offset: by_offset.len() as u64, limit }))
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
}

/// A single row and a count cost one statement too.
pub async fn a_page_costs_one_statement_whatever_its_size(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let customers: Vec<Customer> =
        (0..110).map(|n| env.full_customer("A", "B", &format!("c{n}@example.com"))).collect();
    let addresses: Vec<Address> = customers.iter().map(|c| env.full_address(c, "Street", "Town")).collect();
    env.insert_customers(storage, &customers, &addresses).await.unwrap();
    let mut connection = storage.connect().await.unwrap();
    let mut before = storage.statements();
    let mut costs_one = |what: &str| {
        assert_eq!(storage.statements() - before, 1, "{what} must take one statement");
        before = storage.statements();
    };
    let customers_filter = CustomerFilter { name: Some("b".to_owned()), ..CustomerFilter::default() };
    let addresses_filter = AddressFilter { city: Some("town".to_owned()), ..AddressFilter::default() };
    for limit in [5, 100] {
        for sort in CustomerSort::ALL {
            let page = connection.customers().list(&customers_filter, sort, &Paging::first(limit)).await.unwrap();
            assert_eq!(page.items.len(), limit as usize, "a page of customers must have `limit` rows if so many match");
            costs_one("a page of customers");
        }
        let page = connection.addresses().list(&addresses_filter, &Paging::first(limit)).await.unwrap();
        assert_eq!(page.items.len(), limit as usize, "a page of addresses must have `limit` rows if so many match");
        costs_one("a page of addresses");
    }
    connection.customers().count(&customers_filter, 1_000).await.unwrap();
    costs_one("a count of customers");
    connection.addresses().count(&addresses_filter, 1_000).await.unwrap();
    costs_one("a count of addresses");
    connection.customers().get(customers[0].id, IncludeDeleted::No).await.unwrap();
    costs_one("a customer");
    connection.addresses().get(addresses[0].id, IncludeDeleted::No).await.unwrap();
    costs_one("an address");
}
