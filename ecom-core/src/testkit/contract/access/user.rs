//! The contract of [`UserRepository`](crate::port::UserRepository), and what purges and erasures of customers do with
//! their users.

use std::sync::Arc;

use crate::domain::access::role::BuiltInRole;
use crate::domain::access::session::OneTimePurpose;
use crate::domain::access::user::{PasswordHash, User, UserFilter};
use crate::domain::common::IncludeDeleted;
use crate::domain::sales::customer::Customer;
use crate::error::{Error, ErrorCode, FieldCode, Result};
use crate::id::{CustomerId, IdSource as _, RoleId, UserId};
use crate::paging::{Keyset, Page, Paging, SortKey};
use crate::port::storage::Storage;
use crate::testkit::check::{Pages, holds, same};
use crate::testkit::sample::Env;
use crate::testkit::{code_of, is_taken};

suite! {
    /// Runs the suite of [`UserRepository`](crate::port::UserRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    user_suite, user: fixture => &fixture.storage, __user_tests: [
        a_user_is_read_as_it_was_written,
        every_field_of_a_user_is_updated,
        the_emails_of_live_users_are_unique_whatever_their_case_and_width,
        a_customer_has_one_live_user,
        an_update_of_a_user_into_a_taken_email_or_customer_is_refused,
        of_users_with_one_email_that_are_inserted_at_once_one_is_stored,
        a_role_or_a_customer_that_does_not_exist_is_refused,
        r01_a_user_of_another_version_is_not_overwritten,
        r02_soft_deleted_users_are_hidden_unless_asked_for,
        r02_email_and_customer_are_free_again_after_soft_delete,
        a_rolled_back_user_does_not_exist,
        the_lock_of_a_user_makes_writers_wait_for_each_other,
        a_list_filters_users_and_pages_both_ways,
        a_cursor_of_another_list_of_users_is_refused,
        a_hash_of_a_password_is_replaced_if_it_is_still_the_same,
        r05_a_purged_user_is_gone_with_its_sessions_and_tokens,
        r05_the_users_of_a_purged_customer_stay_without_it,
        r45_an_erased_customer_takes_the_data_of_its_users_along,
        users_take_a_fixed_number_of_statements,
    ]
}

async fn get(storage: &Arc<dyn Storage>, id: UserId) -> Option<User> {
    read!(storage, users.get(id, IncludeDeleted::Yes))
}

async fn list(storage: &Arc<dyn Storage>, filter: &UserFilter, paging: &Paging) -> Page<User> {
    read!(storage, users.list(filter, paging))
}

fn edited(env: &Env, user: &User) -> User {
    let mut after = user.clone();
    after.audit.edited(env.now(), &env.actor);
    after
}

fn restored(env: &Env, user: &User) -> User {
    let mut after = user.clone();
    after.audit.restored(env.now(), &env.actor);
    after
}

/// Inserts customers and returns them.
async fn customers(env: &Env, storage: &Arc<dyn Storage>, n: usize) -> Vec<Customer> {
    let all: Vec<Customer> = (0..n).map(|n| env.customer("A", "B", &format!("customer{n}@example.com"))).collect();
    env.insert_customers(storage, &all, &[]).await.unwrap();
    all
}

/// Inserts roles and returns their ids.
async fn roles(env: &Env, storage: &Arc<dyn Storage>, n: usize) -> Vec<RoleId> {
    let mut unit = storage.begin().await.unwrap();
    let mut ids = Vec::with_capacity(n);
    for n in 0..n {
        let role = env.role(&format!("role{n}"));
        unit.roles().insert(&role).await.unwrap();
        ids.push(role.id);
    }
    unit.commit().await.unwrap();
    ids
}

/// Panics unless the call was refused because of a reference in this field.
#[track_caller]
fn is_bad_reference<T: std::fmt::Debug>(field: &str, result: Result<T>, what: &str) {
    match result {
        Err(Error::Validation(e)) => {
            let found: Vec<_> = e.0.iter().map(|f| (f.field.as_str(), f.code)).collect();
            same(found, vec![(field, FieldCode::ReferenceNotFound)], "A bad reference is refused by its field.", what);
        }
        other => panic!("{what}: the call must be refused as a bad reference, but returns {other:?}"),
    }
}

/// Users with all fields, without optional ones, and with the longest texts.
pub async fn a_user_is_read_as_it_was_written(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "A user is read as it was written.";
    let (owners, roles) = (customers(&env, storage, 2).await, roles(&env, storage, 3).await);
    let minimal = env.user("grüße@例え.jp");
    let full = env.full_user("Zoë.O+tag@Example.com", owners.first(), &[roles[2], BuiltInRole::Staff.id(), roles[0]]);
    let gone = User {
        audit: env.deleted(&full.audit),
        ..env.full_user("gone@example.com", owners.get(1), &[BuiltInRole::Admin.id()])
    };
    let longest = User {
        name: Some("🎧".repeat(200)),
        password: Some(PasswordHash::new("x".repeat(512))),
        ..env.full_user(&format!("{}y@example.com", "ﷺ".repeat(254 - 12 - 1)), None, &roles)
    };
    env.insert_users(storage, &[minimal.clone(), full.clone(), gone.clone(), longest.clone()]).await.unwrap();
    for user in [&minimal, &full, &gone, &longest] {
        same(get(storage, user.id).await.as_ref(), Some(user), contract, &user.email);
        same(attempt!(storage, users.lock(user.id)).unwrap().as_ref(), Some(user), contract, "`lock`");
        let live = Some(user).filter(|user| user.audit.is_live());
        let found = read!(storage, users.get_by_email(&user.email));
        same(found.as_ref(), live, "`get_by_email` returns the live user with the email.", &user.email);
        if let Some(customer) = user.customer_id {
            let found = read!(storage, users.get_by_customer(customer));
            same(found.as_ref(), live, "`get_by_customer` returns the live user of the customer.", &user.email);
        }
    }
    for email in ["ZOË.O+TAG@EXAMPLE.COM", "zoe\u{308}.o+tag@ｅxample.com"] {
        let found = read!(storage, users.get_by_email(email));
        same(found.as_ref(), Some(&full), "`get_by_email` ignores the case.", email);
    }
    same(read!(storage, users.get_by_email("zoe.o+tag@example.com")), None, "Accents are compared.", "`get_by_email`");
    let (unknown, contract) = (UserId(env.ids.next()), "A user that does not exist is not found.");
    same(get(storage, unknown).await, None, contract, "`get`");
    same(attempt!(storage, users.lock(unknown)).unwrap(), None, contract, "`lock`");
    same(read!(storage, users.get_by_customer(CustomerId(env.ids.next()))), None, contract, "`get_by_customer`");
}

/// Fields and roles are set, changed and cleared.
pub async fn every_field_of_a_user_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (owners, roles) = (customers(&env, storage, 1).await, roles(&env, storage, 3).await);
    let (before, other) = (env.user("a@example.com"), env.full_user("other@example.com", None, &roles));
    env.insert_users(storage, &[before.clone(), other.clone()]).await.unwrap();
    let contract = "An update writes every field of one user.";
    let full = User {
        id: before.id,
        audit: edited(&env, &before).audit,
        ..env.full_user("ada@example.com", owners.first(), &roles[..2])
    };
    env.update_user(storage, &before, &full).await.unwrap();
    same(get(storage, before.id).await, Some(full.clone()), contract, "all fields");
    let moved = User { roles: vec![roles[1], roles[2]], ..edited(&env, &full) };
    env.update_user(storage, &full, &moved).await.unwrap();
    same(get(storage, before.id).await, Some(moved.clone()), contract, "other roles");
    let emptied = User { id: before.id, audit: edited(&env, &moved).audit, ..env.user("ada@example.com") };
    env.update_user(storage, &moved, &emptied).await.unwrap();
    same(get(storage, before.id).await, Some(emptied.clone()), contract, "emptied");
    same(get(storage, other.id).await, Some(other), contract, "the other user");
    same(read!(storage, users.get_by_email("a@example.com")), None, "An email that nobody has is free.", "the first");
    same(read!(storage, users.get_by_email("ADA@example.com")), Some(emptied), contract, "`get_by_email`");
    env.insert_users(storage, &[env.full_user("A@example.com", owners.first(), &[])])
        .await
        .expect("an email and a customer that no user has any longer must be free");
}

/// The folded keys of emails are compared.
pub async fn the_emails_of_live_users_are_unique_whatever_their_case_and_width(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    env.insert_users(storage, &[env.user("Straße.Ada@example.com")]).await.unwrap();
    for email in ["Straße.Ada@example.com", "STRASSE.ADA@EXAMPLE.COM", "strasse.ａｄａ@example.com"] {
        let twin = env.user(email);
        is_taken("email", env.insert_users(storage, &[twin.clone()]).await, email);
        same(get(storage, twin.id).await, None, "A refused insert writes nothing.", email);
    }
    // Customers have emails of their own.
    env.insert_customers(storage, &[env.customer("Ada", "L", "straße.ada@example.com")], &[]).await.unwrap();
}

/// Many users are no customer.
pub async fn a_customer_has_one_live_user(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owners = customers(&env, storage, 2).await;
    env.insert_users(storage, &[env.user("a@example.com"), env.user("b@example.com")]).await.unwrap();
    env.insert_users(storage, &[env.full_user("c@example.com", owners.first(), &[])]).await.unwrap();
    let twin = env.full_user("d@example.com", owners.first(), &[]);
    is_taken("customer_id", env.insert_users(storage, &[twin.clone()]).await, "a second user of a customer");
    same(get(storage, twin.id).await, None, "A refused insert writes nothing.", "the second user");
    env.insert_users(storage, &[env.full_user("d@example.com", owners.get(1), &[])]).await.unwrap();
}

/// Also if the update restores a user.
pub async fn an_update_of_a_user_into_a_taken_email_or_customer_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owners = customers(&env, storage, 1).await;
    let (first, second) = (env.full_user("a@example.com", owners.first(), &[]), env.user("b@example.com"));
    env.insert_users(storage, &[first.clone(), second.clone()]).await.unwrap();
    let contract = "A refused update changes nothing.";
    let renamed = User { email: "A@Example.com".to_owned(), ..edited(&env, &second) };
    is_taken("email", env.update_user(storage, &second, &renamed).await, "a taken email");
    let linked = User { customer_id: Some(owners[0].id), ..edited(&env, &second) };
    is_taken("customer_id", env.update_user(storage, &second, &linked).await, "a taken customer");
    same(get(storage, second.id).await, Some(second.clone()), contract, "the second user");
    let gone = env.soft_delete_user(storage, &first).await.unwrap();
    env.update_user(storage, &second, &linked).await.unwrap();
    is_taken("customer_id", env.update_user(storage, &gone, &restored(&env, &gone)).await, "a restore");
    let renamed = User { email: "A@Example.com".to_owned(), customer_id: None, ..edited(&env, &linked) };
    env.update_user(storage, &linked, &renamed).await.unwrap();
    is_taken("email", env.update_user(storage, &gone, &restored(&env, &gone)).await, "a restore");
    same(get(storage, first.id).await, Some(gone), contract, "the first user");
}

/// The others fail with `DUPLICATE`.
pub async fn of_users_with_one_email_that_are_inserted_at_once_one_is_stored(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..12 {
        let storage = storage.clone();
        tasks.spawn(async move {
            let env = Env::new(100 + seed);
            let user = env.full_user("ada@example.com", None, &[BuiltInRole::Customer.id()]);
            loop {
                match env.insert_users(&storage, &[user.clone()]).await {
                    Err(Error::Contention { .. }) => {}
                    result => break (user, result),
                }
            }
        });
    }
    let (mut stored, contract) = (Vec::new(), "Of users with one email that are inserted at once, one is stored.");
    for (user, result) in tasks.join_all().await {
        match result {
            Ok(()) => stored.push(user),
            refused => is_taken("email", refused, "another user has the email"),
        }
    }
    same(stored.len(), 1, contract, "how many inserts have succeeded");
    same(read!(storage, users.get_by_email("ada@example.com")), stored.pop(), contract, "the stored user");
    let page = list(storage, &UserFilter::default(), &Paging::first(50)).await;
    same(page.items.len(), 1, contract, env.actor.as_str());
}

/// The error names the field.
pub async fn a_role_or_a_customer_that_does_not_exist_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let known = env.user("known@example.com");
    env.insert_users(storage, &[known.clone()]).await.unwrap();
    let nobody = env.customer("No", "Body", "nobody@example.com");
    let lost = env.full_user("lost@example.com", Some(&nobody), &[]);
    is_bad_reference("customer_id", env.insert_users(storage, &[lost.clone()]).await, "a new user of nobody");
    let odd = env.full_user("odd@example.com", None, &[BuiltInRole::Staff.id(), RoleId(env.ids.next())]);
    is_bad_reference("roles", env.insert_users(storage, &[odd.clone()]).await, "a new user with an unknown role");
    let linked = User { customer_id: Some(nobody.id), ..edited(&env, &known) };
    is_bad_reference("customer_id", env.update_user(storage, &known, &linked).await, "a user that is nobody");
    let granted = User { roles: vec![RoleId(env.ids.next())], ..edited(&env, &known) };
    is_bad_reference("roles", env.update_user(storage, &known, &granted).await, "a user with an unknown role");
    let page = list(storage, &UserFilter::default(), &Paging::first(9)).await;
    same(page.items, vec![known], "A refused call writes nothing.", "the only user");
}

/// The version of the row is compared.
pub async fn r01_a_user_of_another_version_is_not_overwritten(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let user = env.user("ada@example.com");
    let first = User { name: Some("First".to_owned()), ..edited(&env, &user) };
    let missing = attempt!(storage, users.update(&user, &first));
    assert_eq!(code_of(missing, "the row does not exist"), ErrorCode::NotFound);
    env.insert_users(storage, &[user.clone()]).await.unwrap();
    env.update_user(storage, &user, &first).await.unwrap();
    let late = User { roles: vec![BuiltInRole::Admin.id()], ..edited(&env, &user) };
    let refused = env.update_user(storage, &user, &late).await;
    assert_eq!(code_of(refused, "the row has another version"), ErrorCode::VersionConflict);
    same(get(storage, user.id).await, Some(first), "A refused update changes nothing, roles included.", "version 2");
}

/// Lists, counts and reads hide them. A restored user is shown again.
pub async fn r02_soft_deleted_users_are_hidden_unless_asked_for(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owners = customers(&env, storage, 1).await;
    let user = env.full_user("ada@example.com", owners.first(), &[BuiltInRole::Staff.id()]);
    env.insert_users(storage, &[user.clone()]).await.unwrap();
    let gone = env.soft_delete_user(storage, &user).await.unwrap();
    let contract = "A soft-deleted user is hidden, unless the caller asks for soft-deleted users.";
    same(read!(storage, users.get(user.id, IncludeDeleted::No)), None, contract, "`get`");
    same(get(storage, user.id).await, Some(gone.clone()), contract, "`get` of soft-deleted users");
    same(attempt!(storage, users.lock(user.id)).unwrap(), Some(gone.clone()), contract, "`lock`");
    same(read!(storage, users.get_by_email(&user.email)), None, contract, "`get_by_email`");
    same(read!(storage, users.get_by_customer(owners[0].id)), None, contract, "`get_by_customer`");
    for role in [None, Some(BuiltInRole::Staff.id())] {
        let live = UserFilter { role, ..UserFilter::default() };
        let all = UserFilter { include_deleted: IncludeDeleted::Yes, ..live.clone() };
        same(list(storage, &live, &Paging::first(9)).await.items, vec![], contract, format_args!("{live:?}"));
        same(list(storage, &all, &Paging::first(9)).await.items, vec![gone.clone()], contract, format_args!("{all:?}"));
        same(read!(storage, users.count(&live, 9)).count, 0, contract, format_args!("{live:?}"));
        same(read!(storage, users.count(&all, 9)).count, 1, contract, format_args!("{all:?}"));
    }
    let back = restored(&env, &gone);
    env.update_user(storage, &gone, &back).await.unwrap();
    same(read!(storage, users.get(user.id, IncludeDeleted::No)), Some(back), contract, "restored");
}

/// Several soft-deleted users have the same email and customer.
pub async fn r02_email_and_customer_are_free_again_after_soft_delete(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owners = customers(&env, storage, 1).await;
    for n in 0..3 {
        let user = env.full_user("Ada@example.com", owners.first(), &[]);
        env.insert_users(storage, &[user.clone()])
            .await
            .unwrap_or_else(|e| panic!("email and customer of a soft-deleted user must be free ({n}): {e}"));
        env.soft_delete_user(storage, &user).await.unwrap();
    }
    let by_customer = UserFilter {
        customer: Some(owners[0].id),
        email: Some("ADA@EXAMPLE.COM".to_owned()),
        include_deleted: IncludeDeleted::Yes,
        ..UserFilter::default()
    };
    same(read!(storage, users.count(&by_customer, 9)).count, 3, "Soft-deleted users stay.", "three users");
}

/// The transaction itself sees the user.
pub async fn a_rolled_back_user_does_not_exist(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let user = env.full_user("ada@example.com", None, &[BuiltInRole::Manager.id()]);
    let mut unit = storage.begin().await.unwrap();
    unit.users().insert(&user).await.unwrap();
    let found = unit.users().get(user.id, IncludeDeleted::No).await.unwrap();
    same(found, Some(user.clone()), "A transaction reads what it wrote.", "`get`");
    unit.rollback().await.unwrap();
    let contract = "A transaction that is rolled back writes nothing.";
    same(get(storage, user.id).await, None, contract, "`insert`");
    holds(!read!(storage, roles.is_used(BuiltInRole::Manager.id())), contract, "its role");
}

/// A transaction that holds the lock reads the writes of the holders before it, those of roles too.
pub async fn the_lock_of_a_user_makes_writers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let roles = roles(&env, storage, 8).await;
    let user = env.user("ada@example.com");
    env.insert_users(storage, &[user.clone()]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (seed, role) in (0..).zip(roles.clone()) {
        let (storage, id) = (storage.clone(), user.id);
        tasks.spawn(async move {
            let mut unit = storage.begin().await.unwrap();
            let before = unit.users().lock(id).await.unwrap().unwrap();
            tokio::task::yield_now().await;
            let mut after = edited(&Env::new(seed), &before);
            after.roles.push(role);
            after.roles.sort_unstable();
            unit.users().update(&before, &after).await.unwrap();
            unit.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    let found = get(storage, user.id).await.unwrap();
    same(found.roles, roles, "Writers that lock a user lose no write.", "eight roles");
    same(found.audit.version, 9, "Writers that lock a user lose no write.", "the version");
}

/// Both kinds of paging, with every filter.
pub async fn a_list_filters_users_and_pages_both_ways(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (owners, roles) = (customers(&env, storage, 4).await, roles(&env, storage, 2).await);
    let mut all: Vec<User> = Vec::new();
    for n in 0..23 {
        let held: Vec<RoleId> = match n % 4 {
            0 => vec![],
            1 => vec![roles[0]],
            2 => vec![roles[1], roles[0]],
            _ => vec![BuiltInRole::Customer.id(), roles[1]],
        };
        let mut user = env.full_user(&format!("U{}@example.com", n / 3), owners.get(n / 3), &held);
        user.name = Some(format!("n{n}"));
        if n % 3 < 2 {
            user.audit = env.deleted(&user.audit);
        }
        env.insert_users(storage, &[user.clone()]).await.unwrap();
        all.insert(0, user);
    }
    let contract = "A list has the users that match, newest first, each on one page.";
    for role in [None, Some(roles[0]), Some(roles[1]), Some(BuiltInRole::Staff.id())] {
        for email in [None, Some("u1@EXAMPLE.com".to_owned()), Some("u".to_owned())] {
            for customer in [None, Some(owners[1].id), Some(CustomerId(env.ids.next()))] {
                for include_deleted in [IncludeDeleted::Yes, IncludeDeleted::No] {
                    let filter = UserFilter { email: email.clone(), role, customer, include_deleted };
                    let matches = |u: &&User| {
                        role.is_none_or(|role| u.roles.contains(&role))
                            && email.as_ref().is_none_or(|e| e.to_lowercase() == u.email.to_lowercase())
                            && customer.is_none_or(|c| u.customer_id == Some(c))
                            && (include_deleted == IncludeDeleted::Yes || u.audit.is_live())
                    };
                    let expected: Vec<User> = all.iter().filter(matches).cloned().collect();
                    let about = format!("{filter:?}");
                    let (mut after, mut found, mut pages) = (None, Vec::new(), Pages::over(expected.len()));
                    loop {
                        pages.turn();
                        let page = list(storage, &filter, &Paging::Keyset { after, limit: 4 }).await;
                        holds(page.items.len() <= 4, contract, &about);
                        found.extend(page.items);
                        match page.next {
                            Some(next) => after = Some(Keyset::decode(&next.encode(), &next.sort).unwrap()),
                            None => break,
                        }
                    }
                    same(&found, &expected, contract, &about);
                    for offset in [0, 2, 100] {
                        let page = list(storage, &filter, &Paging::Offset { offset, limit: 5 }).await;
                        let rows: Vec<User> = expected.iter().skip(offset as usize).take(5).cloned().collect();
                        same(page.items, rows, contract, format_args!("{about} from {offset}"));
                        same(page.next.is_some(), expected.len() as u64 > offset + 5, contract, &about);
                    }
                    let total = read!(storage, users.count(&filter, 5));
                    let counted = (expected.len().min(5) as u64, expected.len() <= 5);
                    same((total.count, total.exact), counted, "A count stops at its bound.", &about);
                }
            }
        }
    }
}

/// The key of the cursor has another type than that of the list.
pub async fn a_cursor_of_another_list_of_users_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for key in [SortKey::Int(1), SortKey::Text("a".to_owned())] {
        let after = Some(Keyset { sort: "created_desc".to_owned(), key, id: env.ids.next() });
        let mut connection = storage.connect().await.unwrap();
        match connection.users().list(&UserFilter::default(), &Paging::Keyset { after, limit: 5 }).await {
            Err(Error::Validation(e)) => {
                let found = (e.0[0].field.as_str(), e.0[0].code);
                same(found, ("cursor", FieldCode::Malformed), "It is refused.", "cursor");
            }
            other => panic!("a cursor of another list must be refused, but the call returns {other:?}"),
        }
    }
}

/// The version stays, and of several at once one replaces it.
pub async fn a_hash_of_a_password_is_replaced_if_it_is_still_the_same(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (user, other) = (env.full_user("a@example.com", None, &[]), env.full_user("b@example.com", None, &[]));
    let none = env.user("c@example.com");
    env.insert_users(storage, &[user.clone(), other.clone(), none.clone()]).await.unwrap();
    let contract = "The hash of a password is replaced if it is still the same.";
    let (old, new) = (user.password.clone().unwrap(), PasswordHash::new("$argon2id$v=19$m=65536,t=3,p=1$bmV3$aGFzaA"));
    for (id, before, expected) in [
        (user.id, &new, false),
        (none.id, &old, false),
        (UserId(env.ids.next()), &old, false),
        (user.id, &old, true),
        (user.id, &old, false),
    ] {
        let replaced = attempt!(storage, users.rehash(id, before, &new)).unwrap();
        same(replaced, expected, contract, format_args!("{id}"));
    }
    let after = User { password: Some(new.clone()), ..user };
    same(get(storage, after.id).await, Some(after.clone()), "Nothing but the hash changes.", "the user");
    same(get(storage, other.id).await, Some(other), contract, "another user with the same hash");
    same(get(storage, none.id).await, Some(none), contract, "a user without a password");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (storage, id, before) = (storage.clone(), after.id, new.clone());
        let next = PasswordHash::new(format!("hash {n}"));
        tasks.spawn(async move { attempt!(storage, users.rehash(id, &before, &next)).unwrap().then_some(next) });
    }
    let replaced: Vec<PasswordHash> = tasks.join_all().await.into_iter().flatten().collect();
    same(replaced.len(), 1, contract, "eight at once");
    same(get(storage, after.id).await.unwrap().password, replaced.first().cloned(), contract, "the stored hash");
}

/// Other users, and the roles and the customer of the user, stay.
pub async fn r05_a_purged_user_is_gone_with_its_sessions_and_tokens(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owners = customers(&env, storage, 1).await;
    let roles = roles(&env, storage, 2).await;
    let user = env.full_user("a@example.com", owners.first(), &roles);
    let other = env.full_user("b@example.com", None, &roles[..1]);
    env.insert_users(storage, &[user.clone(), other.clone()]).await.unwrap();
    let sessions = [env.session(&user), env.session(&user), env.session(&other)];
    let tokens = [
        env.one_time_token(&user, OneTimePurpose::VerifyEmail),
        env.one_time_token(&user, OneTimePurpose::ResetPassword),
        env.one_time_token(&other, OneTimePurpose::VerifyEmail),
    ];
    for session in &sessions {
        attempt!(storage, sessions.insert(session)).unwrap();
    }
    for token in &tokens {
        attempt!(storage, sessions.put_token(token)).unwrap();
    }
    attempt!(storage, users.purge(user.id)).unwrap();
    let contract = "A purged user is gone with its sessions and tokens, and others stay.";
    same(get(storage, user.id).await, None, contract, "the user");
    same(get(storage, other.id).await, Some(other), contract, "the other user");
    for (n, session) in sessions.into_iter().enumerate() {
        let expected = Some(session.clone()).filter(|_| n == 2);
        same(read!(storage, sessions.get(session.id)), expected, contract, format_args!("session {n}"));
    }
    for (n, token) in tokens.into_iter().enumerate() {
        let taken = attempt!(storage, sessions.take_token(&token.hash, token.purpose)).unwrap();
        same(taken, Some(token).filter(|_| n == 2), contract, format_args!("token {n}"));
    }
    holds(!read!(storage, roles.is_used(roles[1])), contract, "its roles are free");
    same(read!(storage, roles.all()).len(), 6, contract, "the roles themselves");
    let customer = read!(storage, customers.get(owners[0].id, IncludeDeleted::No));
    same(customer.as_ref(), owners.first(), contract, "the customer");
    attempt!(storage, users.purge(user.id)).expect("a purge of a user that does not exist must succeed");
}

/// Live and soft-deleted users lose their customer, and their versions increase.
pub async fn r05_the_users_of_a_purged_customer_stay_without_it(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owners = customers(&env, storage, 2).await;
    let first = env.full_user("a@example.com", owners.first(), &[BuiltInRole::Customer.id()]);
    env.insert_users(storage, &[first.clone()]).await.unwrap();
    let gone = env.soft_delete_user(storage, &first).await.unwrap();
    let live = env.full_user("a@example.com", owners.first(), &[]);
    let other = env.full_user("b@example.com", owners.get(1), &[]);
    env.insert_users(storage, &[live.clone(), other.clone()]).await.unwrap();
    let session = env.session(&live);
    attempt!(storage, sessions.insert(&session)).unwrap();
    attempt!(storage, customers.purge(owners[0].id)).unwrap();
    let contract = "The users of a purged customer lose it, and their versions increase.";
    for before in [gone, live] {
        let mut after = User { customer_id: None, ..before.clone() };
        after.audit.version += 1;
        same(get(storage, before.id).await, Some(after), contract, &before.email);
    }
    same(get(storage, other.id).await, Some(other), contract, "the user of another customer");
    same(read!(storage, sessions.get(session.id)), Some(session), contract, "their sessions go on");
}

/// The users are soft-deleted, and their emails are free.
pub async fn r45_an_erased_customer_takes_the_data_of_its_users_along(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owners = customers(&env, storage, 2).await;
    let first = env.full_user("a@example.com", owners.first(), &[BuiltInRole::Customer.id()]);
    env.insert_users(storage, &[first.clone()]).await.unwrap();
    let gone = env.soft_delete_user(storage, &first).await.unwrap();
    let live = env.full_user("A@example.com", owners.first(), &[BuiltInRole::Customer.id()]);
    let other = env.full_user("b@example.com", owners.get(1), &[]);
    env.insert_users(storage, &[live.clone(), other.clone()]).await.unwrap();
    let (session, kept) = (env.session(&live), env.session(&other));
    for session in [&session, &kept] {
        attempt!(storage, sessions.insert(session)).unwrap();
    }
    let token = env.one_time_token(&live, OneTimePurpose::ResetPassword);
    attempt!(storage, sessions.put_token(&token)).unwrap();
    let erased = owners[0].erased(env.now(), &env.actor);
    let mut stale = owners[0].clone();
    stale.audit.version += 1;
    let refused = attempt!(storage, customers.erase(&stale, &erased));
    assert_eq!(code_of(refused, "an erasure from an old version"), ErrorCode::VersionConflict);
    same(get(storage, live.id).await, Some(live.clone()), "A refused erasure changes nothing.", "the user");
    attempt!(storage, customers.erase(&owners[0], &erased)).unwrap();
    let contract = "An erasure of a customer erases its users, and removes their sessions and tokens.";
    for before in [gone, live] {
        let after = before.erased(erased.audit.updated_at, &erased.audit.updated_by);
        same(after.email.as_str(), format!("{}@erased.invalid", before.id).as_str(), contract, "the email");
        holds(after.name.is_none() && after.password.is_none() && !after.audit.is_live(), contract, "the user");
        same(get(storage, before.id).await, Some(after), contract, &before.email);
    }
    same(read!(storage, sessions.get(session.id)), None, contract, "the session");
    same(attempt!(storage, sessions.take_token(&token.hash, token.purpose)).unwrap(), None, contract, "the token");
    let by_email = UserFilter {
        email: Some("a@example.com".to_owned()),
        include_deleted: IncludeDeleted::Yes,
        ..UserFilter::default()
    };
    same(read!(storage, users.count(&by_email, 9)).count, 0, contract, "no list finds the email");
    same(get(storage, other.id).await, Some(other), contract, "the user of another customer");
    same(read!(storage, sessions.get(kept.id)), Some(kept), contract, "the session of another user");
    env.insert_users(storage, &[env.user("a@example.com")]).await.expect("the email of an erased user must be free");
}

/// The numbers of users and of roles do not matter.
pub async fn users_take_a_fixed_number_of_statements(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (owners, roles) = (customers(&env, storage, 1).await, roles(&env, storage, 64).await);
    let all: Vec<User> = (0..40).map(|n| env.full_user(&format!("u{n}@example.com"), None, &roles[..8])).collect();
    env.insert_users(storage, &all).await.unwrap();
    let one = env.full_user("one@example.com", owners.first(), &roles[..1]);
    let many = env.full_user("many@example.com", None, &roles);
    let mut unit = storage.begin().await.unwrap();
    let mut before = storage.statements();
    let mut spent = || {
        let spent = storage.statements() - before;
        before += spent;
        spent
    };
    let read = "A read of users takes one statement.";
    for limit in [5, 40] {
        for role in [None, Some(roles[0])] {
            let filter = UserFilter { role, ..UserFilter::default() };
            let page = unit.users().list(&filter, &Paging::first(limit)).await.unwrap();
            same(page.items.len(), limit as usize, "A page has `limit` rows if so many match.", limit);
            same(spent(), 1, read, "`list`");
            unit.users().count(&filter, 1_000).await.unwrap();
            same(spent(), 1, read, "`count`");
        }
    }
    unit.users().insert(&one).await.unwrap();
    let inserted = spent();
    unit.users().insert(&many).await.unwrap();
    same(spent(), inserted, "An insert takes a fixed number of statements.", "1 and 64 roles");
    let other = User { roles: roles[1..2].to_vec(), ..edited(&env, &one) };
    unit.users().update(&one, &other).await.unwrap();
    let updated = spent();
    let fewer = User { roles: roles[..32].to_vec(), ..edited(&env, &many) };
    unit.users().update(&many, &fewer).await.unwrap();
    same(spent(), updated, "An update takes a fixed number of statements.", "1 and 32 roles");
    unit.users().get(many.id, IncludeDeleted::No).await.unwrap();
    same(spent(), 1, read, "`get`");
    unit.users().get_by_email("many@example.com").await.unwrap();
    same(spent(), 1, read, "`get_by_email`");
    unit.users().get_by_customer(owners[0].id).await.unwrap();
    same(spent(), 1, read, "`get_by_customer`");
    unit.rollback().await.unwrap();
}
