//! The contract of [`ApiKeyRepository`](crate::port::ApiKeyRepository).

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::access::api_key::ApiKey;
use crate::domain::access::principal::Permission;
use crate::error::{Error, ErrorCode, FieldCode};
use crate::id::{ApiKeyId, IdSource as _};
use crate::paging::{Keyset, Page, Paging, SortKey};
use crate::port::storage::Storage;
use crate::testkit::check::{Pages, holds, same};
use crate::testkit::sample::Env;
use crate::testkit::{code_of, is_taken};

suite! {
    /// Runs the suite of [`ApiKeyRepository`](crate::port::ApiKeyRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    api_key_suite, api_key: fixture => &fixture.storage, __api_key_tests: [
        an_api_key_is_read_as_it_was_written,
        an_api_key_is_updated_except_for_its_secret_and_its_last_use,
        the_secrets_of_api_keys_are_unique,
        r01_an_api_key_of_another_version_is_not_overwritten,
        the_lock_of_an_api_key_makes_writers_wait_for_each_other,
        a_list_of_api_keys_pages_both_ways,
        a_cursor_of_another_list_of_api_keys_is_refused,
        the_latest_use_of_an_api_key_is_kept,
        the_uses_of_many_api_keys_take_few_statements,
        a_deleted_api_key_is_gone,
        expired_api_keys_are_found_the_oldest_first,
        reads_of_api_keys_take_one_statement,
    ]
}

fn full(env: &Env, name: &str) -> ApiKey {
    ApiKey {
        permissions: Permission::ALL.iter().copied().collect(),
        is_admin: true,
        expires_at: Some(env.now()),
        last_used_at: Some(env.now()),
        audit: env.edited_audit(),
        ..env.api_key(name)
    }
}

fn edited(env: &Env, key: &ApiKey) -> ApiKey {
    let mut after = key.clone();
    after.audit.edited(env.now(), &env.actor);
    after
}

async fn insert(storage: &Arc<dyn Storage>, key: &ApiKey) {
    attempt!(storage, api_keys.insert(key)).unwrap();
}

async fn get(storage: &Arc<dyn Storage>, id: ApiKeyId) -> Option<ApiKey> {
    read!(storage, api_keys.get(id))
}

async fn list(storage: &Arc<dyn Storage>, paging: &Paging) -> Page<ApiKey> {
    read!(storage, api_keys.list(paging))
}

/// Keys with all fields, and without optional ones.
pub async fn an_api_key_is_read_as_it_was_written(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "An API key is read as it was written.";
    let none = ApiKey { permissions: [].into(), ..env.api_key("no permission") };
    for key in [env.api_key("robot"), full(&env, "Größe \"1\" 🤖"), full(&env, &"🎧".repeat(100)), none] {
        insert(storage, &key).await;
        same(get(storage, key.id).await, Some(key.clone()), contract, &key.name);
        same(read!(storage, api_keys.get_by_hash(&key.hash)), Some(key.clone()), contract, "`get_by_hash`");
        same(attempt!(storage, api_keys.lock(key.id)).unwrap(), Some(key.clone()), contract, "`lock`");
    }
    let (unknown, contract) = (ApiKeyId(env.ids.next()), "A key that does not exist is not found.");
    same(get(storage, unknown).await, None, contract, "`get`");
    same(read!(storage, api_keys.get_by_hash(&env.hash())), None, contract, "`get_by_hash`");
    same(attempt!(storage, api_keys.lock(unknown)).unwrap(), None, contract, "`lock`");
}

/// A use that is noted while the key is edited is kept.
pub async fn an_api_key_is_updated_except_for_its_secret_and_its_last_use(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (before, other) = (env.api_key("robot"), full(&env, "other"));
    insert(storage, &before).await;
    insert(storage, &other).await;
    let used = env.now();
    attempt!(storage, api_keys.note_uses(&[(before.id, used)])).unwrap();
    let after = ApiKey {
        name: "Warehouse".to_owned(),
        permissions: [Permission::AuditRun, Permission::OrdersRead].into(),
        expires_at: Some(env.now()),
        ..edited(&env, &before)
    };
    attempt!(storage, api_keys.update(&before, &after)).unwrap();
    let contract = "An update writes every field except for the time of the last use.";
    let after = ApiKey { last_used_at: Some(used), ..after };
    same(get(storage, before.id).await, Some(after.clone()), contract, "all fields");
    let emptied = ApiKey { expires_at: None, last_used_at: None, ..edited(&env, &after) };
    attempt!(storage, api_keys.update(&after, &emptied)).unwrap();
    let kept = ApiKey { last_used_at: Some(used), ..emptied };
    same(get(storage, before.id).await, Some(kept), contract, "emptied");
    same(get(storage, other.id).await, Some(other), contract, "the other key");
}

/// The hash of a deleted key is free.
pub async fn the_secrets_of_api_keys_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = env.api_key("first");
    insert(storage, &first).await;
    let twin = ApiKey { hash: first.hash, ..env.api_key("twin") };
    is_taken("secret", attempt!(storage, api_keys.insert(&twin)), "a second key with the hash");
    same(get(storage, twin.id).await, None, "A refused insert writes nothing.", "the second key");
    attempt!(storage, api_keys.delete(first.id)).unwrap();
    insert(storage, &twin).await;
    same(read!(storage, api_keys.get_by_hash(&first.hash)), Some(twin), "A deleted key is gone.", "its hash");
}

/// The version of the row is compared.
pub async fn r01_an_api_key_of_another_version_is_not_overwritten(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let key = env.api_key("robot");
    let first = ApiKey { name: "First".to_owned(), ..edited(&env, &key) };
    let missing = attempt!(storage, api_keys.update(&key, &first));
    assert_eq!(code_of(missing, "the row does not exist"), ErrorCode::NotFound);
    insert(storage, &key).await;
    attempt!(storage, api_keys.update(&key, &first)).unwrap();
    let refused = attempt!(storage, api_keys.update(&key, &edited(&env, &key)));
    assert_eq!(code_of(refused, "the row has another version"), ErrorCode::VersionConflict);
    same(get(storage, key.id).await, Some(first), "A refused update changes nothing.", "version 2");
}

/// A transaction that holds the lock reads the writes of the holders before it.
pub async fn the_lock_of_an_api_key_makes_writers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let key = env.api_key("k");
    insert(storage, &key).await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let (storage, id) = (storage.clone(), key.id);
        tasks.spawn(async move {
            let mut unit = storage.begin().await.unwrap();
            let before = unit.api_keys().lock(id).await.unwrap().unwrap();
            tokio::task::yield_now().await;
            let after = ApiKey { name: format!("{}+", before.name), ..edited(&Env::new(seed), &before) };
            unit.api_keys().update(&before, &after).await.unwrap();
            unit.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    let name = get(storage, key.id).await.unwrap().name;
    same(name.as_str(), "k++++++++", "Writers that lock a key lose no write.", "eight writers");
}

/// The newest key comes first.
pub async fn a_list_of_api_keys_pages_both_ways(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut all = Vec::new();
    let contract = "A list has all keys, newest first, each on one page.";
    same(list(storage, &Paging::first(5)).await.items, vec![], contract, "no key");
    for n in 0..11 {
        let key = if n % 2 == 0 { full(&env, &format!("k{n}")) } else { env.api_key("same") };
        insert(storage, &key).await;
        all.insert(0, key);
    }
    for limit in [1, 4, 11, 50] {
        let (mut after, mut found, mut pages) = (None, Vec::new(), Pages::over(all.len()));
        loop {
            pages.turn();
            let page = list(storage, &Paging::Keyset { after, limit }).await;
            holds(page.items.len() <= limit as usize, contract, limit);
            found.extend(page.items);
            match page.next {
                Some(next) => after = Some(Keyset::decode(&next.encode(), &next.sort).unwrap()),
                None => break,
            }
        }
        same(&found, &all, contract, limit);
    }
    for offset in [0, 3, 11, 100] {
        let page = list(storage, &Paging::Offset { offset, limit: 5 }).await;
        let rows: Vec<ApiKey> = all.iter().skip(offset as usize).take(5).cloned().collect();
        same(page.items, rows, contract, format_args!("from {offset}"));
        same(page.next.is_some(), 11 > offset + 5, contract, format_args!("from {offset}"));
    }
    for (bound, expected) in [(100, (11, true)), (11, (11, true)), (10, (10, false))] {
        let total = read!(storage, api_keys.count(bound));
        same((total.count, total.exact), expected, "A count stops at its bound.", bound);
    }
}

/// The key of the cursor has another type than that of the list.
pub async fn a_cursor_of_another_list_of_api_keys_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for key in [SortKey::Int(1), SortKey::Text("a".to_owned())] {
        let after = Some(Keyset { sort: "created_desc".to_owned(), key, id: env.ids.next() });
        let mut connection = storage.connect().await.unwrap();
        match connection.api_keys().list(&Paging::Keyset { after, limit: 5 }).await {
            Err(Error::Validation(e)) => {
                let found = (e.0[0].field.as_str(), e.0[0].code);
                same(found, ("cursor", FieldCode::Malformed), "It is refused.", "cursor");
            }
            other => panic!("a cursor of another list must be refused, but the call returns {other:?}"),
        }
    }
}

/// The version and the times of the edits stay.
pub async fn the_latest_use_of_an_api_key_is_kept(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.api_key("a"), full(&env, "b"));
    insert(storage, &a).await;
    insert(storage, &b).await;
    let times: Vec<Timestamp> = (0..4).map(|_| env.now()).collect();
    let contract = "The latest use of each key is kept.";
    let unknown = ApiKeyId(env.ids.next());
    let note = async |uses: &[(ApiKeyId, Timestamp)]| attempt!(storage, api_keys.note_uses(uses)).unwrap();
    let last = async |key: &ApiKey| {
        let found = get(storage, key.id).await.unwrap();
        let unchanged = ApiKey { last_used_at: key.last_used_at, ..found.clone() };
        same(&unchanged, key, "A use changes nothing but the time of the last use.", &key.name);
        found.last_used_at
    };
    note(&[]).await;
    same(last(&a).await, None, contract, "no use");
    note(&[(unknown, times[3]), (a.id, times[1])]).await;
    same(last(&a).await, Some(times[1]), contract, "the first use, and a key that does not exist");
    same(last(&b).await, b.last_used_at, contract, "the other key");
    note(&[(b.id, times[0]), (a.id, times[0])]).await;
    same(last(&a).await, Some(times[1]), contract, "an earlier use");
    note(&[(a.id, times[2]), (b.id, times[3]), (a.id, times[3]), (a.id, times[0])]).await;
    same(last(&a).await, Some(times[3]), contract, "several uses in one call");
    same(last(&b).await, Some(times[3]), contract, "several keys in one call");
    // Of many at once, the latest stays.
    let mut tasks = tokio::task::JoinSet::new();
    let later: Vec<Timestamp> = (0..8).map(|_| env.now()).collect();
    for at in later.clone() {
        let (storage, ids) = (storage.clone(), [a.id, b.id]);
        tasks.spawn(async move { attempt!(storage, api_keys.note_uses(&ids.map(|id| (id, at)))).unwrap() });
    }
    tasks.join_all().await;
    same((last(&a).await, last(&b).await), (later.last().copied(), later.last().copied()), contract, "at once");
}

/// The statements are counted.
pub async fn the_uses_of_many_api_keys_take_few_statements(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let keys: Vec<ApiKey> = (0..150).map(|n| env.api_key(&format!("k{n}"))).collect();
    let mut unit = storage.begin().await.unwrap();
    for key in &keys {
        unit.api_keys().insert(key).await.unwrap();
    }
    let at = env.now();
    let uses: Vec<(ApiKeyId, Timestamp)> = keys.iter().map(|key| (key.id, at)).collect();
    let before = storage.statements();
    unit.api_keys().note_uses(&uses).await.unwrap();
    let spent = storage.statements() - before;
    unit.commit().await.unwrap();
    holds(spent <= 4, "The uses of 150 keys take at most four statements.", spent);
    let page = list(storage, &Paging::first(200)).await.items;
    let noted = page.iter().filter(|key| key.last_used_at == Some(at)).count();
    same(noted, 150, "The latest use of each key is kept.", "150 keys in one call");
}

/// Other keys stay.
pub async fn a_deleted_api_key_is_gone(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (key, other) = (full(&env, "key"), full(&env, "other"));
    insert(storage, &key).await;
    insert(storage, &other).await;
    let mut unit = storage.begin().await.unwrap();
    unit.api_keys().delete(key.id).await.unwrap();
    unit.rollback().await.unwrap();
    same(get(storage, key.id).await, Some(key.clone()), "A rollback undoes a deletion.", "`get`");
    attempt!(storage, api_keys.delete(key.id)).unwrap();
    let contract = "A deleted key is gone, and others stay.";
    same(list(storage, &Paging::first(5)).await.items, vec![other], contract, "`list`");
    same(read!(storage, api_keys.get_by_hash(&key.hash)), None, contract, "`get_by_hash`");
    attempt!(storage, api_keys.delete(key.id)).expect("a deletion of a key that does not exist must succeed");
}

/// The number of keys does not matter.
pub async fn reads_of_api_keys_take_one_statement(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let keys: Vec<ApiKey> = (0..30).map(|n| full(&env, &format!("k{n}"))).collect();
    for key in &keys {
        insert(storage, key).await;
    }
    let mut connection = storage.connect().await.unwrap();
    let mut before = storage.statements();
    let mut costs_one = |what: &str| {
        same(storage.statements() - before, 1, "A read of API keys takes one statement.", what);
        before = storage.statements();
    };
    for limit in [5, 30] {
        let page = connection.api_keys().list(&Paging::first(limit)).await.unwrap();
        same(page.items.len(), limit as usize, "A page has `limit` rows if there are so many.", limit);
        costs_one("`list`");
    }
    connection.api_keys().count(100).await.unwrap();
    costs_one("`count`");
    connection.api_keys().get(keys[0].id).await.unwrap();
    costs_one("`get`");
    connection.api_keys().get_by_hash(&keys[0].hash).await.unwrap();
    costs_one("`get_by_hash`");
}

/// A key that expires at the very time is not found, and neither is one that does not expire.
pub async fn expired_api_keys_are_found_the_oldest_first(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let now = env.now();
    let ends = [Some(-1), Some(0), None, Some(-2), Some(1)];
    let mut keys = Vec::new();
    for (n, end) in ends.into_iter().enumerate() {
        let expires_at = end.map(|offset| now + chrono::TimeDelta::microseconds(offset));
        let key = ApiKey { expires_at, ..env.api_key(&format!("key {n}")) };
        insert(storage, &key).await;
        keys.push(key.id);
    }
    let expired = async |limit: u32| read!(storage, api_keys.expired(now, limit));
    assert_eq!(expired(10).await, [keys[3], keys[0]]);
    assert_eq!(expired(1).await, [keys[3]]);
}
