//! The contract of [`RoleRepository`](crate::port::RoleRepository).

use std::sync::Arc;
use std::time::Duration;

use crate::domain::access::principal::Permission;
use crate::domain::access::role::{BuiltInRole, Role};
use crate::error::ErrorCode;
use crate::id::{IdSource as _, RoleId};
use crate::port::storage::Storage;
use crate::testkit::check::{holds, same};
use crate::testkit::sample::Env;
use crate::testkit::{code_of, is_taken};

suite! {
    /// Runs the suite of [`RoleRepository`](crate::port::RoleRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    role_suite, role: fixture => &fixture.storage, __role_tests: [
        the_built_in_roles_exist_without_permissions,
        a_role_is_read_as_it_was_written,
        every_field_of_a_role_is_updated,
        the_names_of_roles_are_unique,
        r01_a_role_of_another_version_is_not_overwritten,
        a_rolled_back_role_does_not_exist,
        roles_are_held_by_id,
        several_transactions_hold_a_role_at_once,
        the_lock_of_a_role_makes_writers_wait_for_each_other,
        a_deletion_waits_for_the_users_that_get_the_role,
        a_role_is_used_while_any_user_has_it,
        reads_of_roles_take_one_statement,
    ]
}

fn edited(env: &Env, role: &Role) -> Role {
    let mut after = role.clone();
    after.audit.edited(env.now(), &env.actor);
    after
}

async fn insert(storage: &Arc<dyn Storage>, role: &Role) {
    attempt!(storage, roles.insert(role)).unwrap();
}

/// Returns the roles that tests have created.
async fn own(storage: &Arc<dyn Storage>) -> Vec<Role> {
    read!(storage, roles.all()).into_iter().filter(|role| role.built_in().is_none()).collect()
}

/// The migrations create them, and the release knows their permissions.
pub async fn the_built_in_roles_exist_without_permissions(storage: &Arc<dyn Storage>) {
    let contract = "Each built-in role exists from the beginning, with version 1 and without permissions.";
    let names: Vec<String> = read!(storage, roles.all()).into_iter().map(|role| role.name).collect();
    same(names, ["admin", "customer", "manager", "staff"].map(str::to_owned).to_vec(), contract, "`all`");
    for built_in in BuiltInRole::ALL {
        let role = read!(storage, roles.get(built_in.id())).expect("a built-in role must exist");
        same(role.name.as_str(), built_in.as_str(), contract, built_in.as_str());
        same((role.permissions, role.audit.version), ([].into(), 1), contract, built_in.as_str());
        holds(role.audit.is_live(), contract, built_in.as_str());
    }
}

/// The names are sorted bytewise.
pub async fn a_role_is_read_as_it_was_written(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "A role is read as it was written.";
    let longest = Role { description: Some("🎧".repeat(255)), ..env.full_role(&"z".repeat(50)) };
    let one = Role { permissions: [Permission::ForceDelete].into(), ..env.role("a1") };
    let mut all = vec![env.role("ab"), one, env.full_role("a-b"), env.full_role("a_b"), longest];
    for role in &all {
        insert(storage, role).await;
        same(read!(storage, roles.get(role.id)), Some(role.clone()), contract, &role.name);
        same(attempt!(storage, roles.lock(role.id)).unwrap(), Some(role.clone()), contract, "`lock`");
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    same(own(storage).await, all, "`all` returns the roles by name.", "names with `-`, `_` and digits");
    let unknown = RoleId(env.ids.next());
    same(read!(storage, roles.get(unknown)), None, "A role that does not exist is not found.", "`get`");
    same(attempt!(storage, roles.lock(unknown)).unwrap(), None, "A role that does not exist is not found.", "`lock`");
}

/// The description and the permissions can be emptied.
pub async fn every_field_of_a_role_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (before, other) = (env.role("packer"), env.full_role("other"));
    insert(storage, &before).await;
    insert(storage, &other).await;
    let full = Role { id: before.id, audit: edited(&env, &before).audit, ..env.full_role("packer") };
    attempt!(storage, roles.update(&before, &full)).unwrap();
    let contract = "An update writes every field of one row.";
    same(read!(storage, roles.get(before.id)), Some(full.clone()), contract, "all fields");
    let emptied = Role { description: None, permissions: [].into(), ..edited(&env, &full) };
    attempt!(storage, roles.update(&full, &emptied)).unwrap();
    same(own(storage).await, vec![other, emptied], contract, "emptied, and the other role");
}

/// The name of a deleted role is free.
pub async fn the_names_of_roles_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = env.role("packer");
    insert(storage, &first).await;
    let twin = env.role("packer");
    is_taken("name", attempt!(storage, roles.insert(&twin)), "a second role with the name");
    is_taken("name", attempt!(storage, roles.insert(&env.role("admin"))), "the name of a built-in role");
    same(own(storage).await, vec![first.clone()], "A refused insert writes nothing.", "two roles");
    attempt!(storage, roles.delete(first.id)).unwrap();
    insert(storage, &twin).await;
    same(own(storage).await, vec![twin], "The name of a deleted role is free.", "the second role");
    attempt!(storage, roles.delete(first.id)).expect("a deletion of a role that does not exist must succeed");
}

/// The version of the row is compared.
pub async fn r01_a_role_of_another_version_is_not_overwritten(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let role = env.role("packer");
    let first = Role { description: Some("First".to_owned()), ..edited(&env, &role) };
    let missing = attempt!(storage, roles.update(&role, &first));
    assert_eq!(code_of(missing, "the row does not exist"), ErrorCode::NotFound);
    insert(storage, &role).await;
    attempt!(storage, roles.update(&role, &first)).unwrap();
    let late = Role { description: Some("Second".to_owned()), ..edited(&env, &role) };
    let refused = attempt!(storage, roles.update(&role, &late));
    assert_eq!(code_of(refused, "the row has another version"), ErrorCode::VersionConflict);
    same(read!(storage, roles.get(role.id)), Some(first), "A refused update changes nothing.", "version 2");
}

/// The transaction itself sees the role.
pub async fn a_rolled_back_role_does_not_exist(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let role = env.full_role("packer");
    let mut unit = storage.begin().await.unwrap();
    unit.roles().insert(&role).await.unwrap();
    same(unit.roles().get(role.id).await.unwrap(), Some(role), "A transaction reads what it wrote.", "`get`");
    unit.rollback().await.unwrap();
    same(own(storage).await, vec![], "A transaction that is rolled back writes nothing.", "`insert`");
}

/// Ids of other roles, and ids that occur twice, do no harm.
pub async fn roles_are_held_by_id(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b, c) = (env.role("c"), env.full_role("b"), env.role("a"));
    for role in [&a, &b, &c] {
        insert(storage, role).await;
    }
    let unknown = RoleId(env.ids.next());
    let contract = "`hold` returns the roles that exist, by id.";
    let held = attempt!(storage, roles.hold(&[c.id, unknown, a.id, a.id])).unwrap();
    same(held, vec![a, c], contract, "two of three, and one that does not exist");
    same(attempt!(storage, roles.hold(&[])).unwrap(), vec![], contract, "no role");
    same(attempt!(storage, roles.hold(&[unknown])).unwrap(), vec![], contract, "a role that does not exist");
}

/// A database with one writer has no locks of rows.
pub async fn several_transactions_hold_a_role_at_once(storage: &Arc<dyn Storage>) {
    if storage.has_one_writer() {
        return;
    }
    let env = Env::default();
    let role = env.role("packer");
    insert(storage, &role).await;
    let (mut one, mut two) = (storage.begin().await.unwrap(), storage.begin().await.unwrap());
    let contract = "Several transactions hold a role at once.";
    for (n, unit) in [&mut one, &mut two].into_iter().enumerate() {
        same(unit.roles().hold(&[role.id]).await.unwrap(), vec![role.clone()], contract, n);
        unit.users().insert(&env.full_user(&format!("u{n}@example.com"), None, &[role.id])).await.unwrap();
    }
    one.commit().await.unwrap();
    two.commit().await.unwrap();
}

/// A transaction that holds the lock reads the writes of the holders before it.
pub async fn the_lock_of_a_role_makes_writers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let role = env.role("packer");
    insert(storage, &role).await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let (storage, id) = (storage.clone(), role.id);
        tasks.spawn(async move {
            let mut unit = storage.begin().await.unwrap();
            let before = unit.roles().lock(id).await.unwrap().unwrap();
            tokio::task::yield_now().await;
            let description = format!("{}+", before.description.clone().unwrap_or_default());
            let after = Role { description: Some(description), ..edited(&Env::new(seed), &before) };
            unit.roles().update(&before, &after).await.unwrap();
            unit.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    let description = read!(storage, roles.get(role.id)).unwrap().description;
    same(description, Some("++++++++".to_owned()), "Writers that lock a role lose no write.", "eight writers");
}

/// One transaction gives the role to a user while another one wants to delete it.
pub async fn a_deletion_waits_for_the_users_that_get_the_role(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let role = env.role("packer");
    insert(storage, &role).await;
    let mut giving = storage.begin().await.unwrap();
    same(giving.roles().hold(&[role.id]).await.unwrap().len(), 1, "`hold` returns the roles that exist.", "one role");
    let deleting = {
        let (storage, id) = (storage.clone(), role.id);
        tokio::spawn(async move {
            let mut unit = storage.begin().await.unwrap();
            unit.roles().lock(id).await.unwrap().expect("the role exists");
            let is_used = unit.roles().is_used(id).await.unwrap();
            if !is_used {
                unit.roles().delete(id).await.unwrap();
            }
            unit.commit().await.unwrap();
            is_used
        })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    giving.users().insert(&env.full_user("ada@example.com", None, &[role.id])).await.unwrap();
    giving.commit().await.unwrap();
    let contract = "A transaction that locks a role waits for those that hold it, and sees the users that they wrote.";
    holds(deleting.await.unwrap(), contract, "`is_used`");
    same(own(storage).await, vec![role], contract, "the role");
}

/// Soft-deleted users count, since they can be restored.
pub async fn a_role_is_used_while_any_user_has_it(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (role, other) = (env.role("packer"), env.role("other"));
    insert(storage, &role).await;
    insert(storage, &other).await;
    let contract = "A role is used while any user has it, live or soft-deleted.";
    holds(!read!(storage, roles.is_used(role.id)), contract, "no user");
    let user = env.full_user("ada@example.com", None, &[role.id]);
    env.insert_users(storage, &[user.clone()]).await.unwrap();
    holds(read!(storage, roles.is_used(role.id)), contract, "a live user");
    holds(!read!(storage, roles.is_used(other.id)), contract, "another role");
    let gone = env.soft_delete_user(storage, &user).await.unwrap();
    holds(read!(storage, roles.is_used(role.id)), contract, "a soft-deleted user");
    attempt!(storage, users.purge(gone.id)).unwrap();
    holds(!read!(storage, roles.is_used(role.id)), contract, "a purged user");
    attempt!(storage, roles.delete(role.id)).unwrap();
    same(own(storage).await, vec![other], "A deletion removes one role.", "the other role stays");
}

/// The number of roles does not matter.
pub async fn reads_of_roles_take_one_statement(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let roles: Vec<Role> = (0..40).map(|n| env.full_role(&format!("r{n}"))).collect();
    for role in &roles {
        insert(storage, role).await;
    }
    let ids: Vec<RoleId> = roles.iter().map(|role| role.id).collect();
    let mut unit = storage.begin().await.unwrap();
    let mut before = storage.statements();
    let mut costs_one = |what: &str| {
        same(storage.statements() - before, 1, "A read of roles takes one statement.", what);
        before = storage.statements();
    };
    same(unit.roles().all().await.unwrap().len(), 44, "`all` returns all roles.", "40 and the built-in ones");
    costs_one("`all`");
    unit.roles().get(ids[0]).await.unwrap();
    costs_one("`get`");
    unit.roles().is_used(ids[0]).await.unwrap();
    costs_one("`is_used`");
    same(unit.roles().hold(&ids).await.unwrap().len(), 40, "`hold` returns the roles that exist.", "40");
    costs_one("`hold`");
    unit.rollback().await.unwrap();
}
