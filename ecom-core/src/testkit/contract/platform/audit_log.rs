//! The contract of [`AuditLogRepository`](crate::port::AuditLogRepository).

use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::domain::common::Actor;
use crate::domain::platform::audit_log::{AuditLogEntry, AuditLogFilter};
use crate::error::ErrorCode;
use crate::id::{AuditLogEntryId, CustomerId, IdSource as _, UserId};
use crate::paging::{Keyset, Page, Paging, SortKey};
use crate::port::storage::Storage;
use crate::testkit::check::{Pages, holds, same};
use crate::testkit::code_of;
use crate::testkit::sample::Env;

suite! {
    /// Runs the suite of [`AuditLogRepository`](crate::port::AuditLogRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    audit_log_suite, audit_log: fixture => &fixture.storage, __audit_log_tests: [
        an_entry_is_read_as_it_was_written,
        an_entry_of_an_import_is_locked_and_counts,
        a_list_filters_and_pages_both_ways,
        a_cursor_of_another_list_is_refused,
        what_is_erased_has_no_values,
    ]
}

fn map(value: &Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

/// Returns an entry with values before and after.
fn entry(env: &Env, action: &str, aggregate_id: Uuid) -> AuditLogEntry {
    AuditLogEntry {
        id: AuditLogEntryId(env.ids.next()),
        action: action.to_owned(),
        aggregate_id,
        customer_id: None,
        before: map(&json!({ "name": "Ada", "roles": [] })),
        after: map(&json!({ "name": "Grace", "roles": ["1"] })),
        erased_at: None,
        occurred_at: env.now(),
        actor: env.actor.clone(),
    }
}

async fn append(storage: &Arc<dyn Storage>, entries: &[AuditLogEntry]) {
    attempt!(storage, audit_log.append(entries)).unwrap();
}

async fn list(storage: &Arc<dyn Storage>, filter: &AuditLogFilter, paging: &Paging) -> Page<AuditLogEntry> {
    read!(storage, audit_log.list(filter, paging))
}

/// Returns the whole log, newest first.
async fn all(storage: &Arc<dyn Storage>) -> Vec<AuditLogEntry> {
    list(storage, &AuditLogFilter::default(), &Paging::first(10_000)).await.items
}

/// With all fields and with none, and with values as deep as those of a SKU can be.
pub async fn an_entry_is_read_as_it_was_written(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "An entry is read as it was written.";
    let deep = (0..30).fold(json!(1), |inner, _| json!({ "ü \"🛋\\": inner, "n": [null, 1.5, i64::MAX] }));
    let full = AuditLogEntry {
        customer_id: Some(CustomerId(env.ids.next())),
        before: map(&json!({ "skus": [{ "id": "1", "attributes": deep }], "text": "ä\\\"🛋".repeat(20_000) })),
        actor: Actor::new("Grüße, 世界 🛒".repeat(10)),
        ..entry(&env, "product.updated", env.ids.next())
    };
    let empty = AuditLogEntry { before: None, after: None, ..entry(&env, "product.created", env.ids.next()) };
    let none = AuditLogEntry { before: Some(Map::new()), ..entry(&env, "import.products", env.ids.next()) };
    append(storage, &[full.clone(), empty.clone()]).await;
    append(storage, std::slice::from_ref(&none)).await;
    same(all(storage).await, vec![none, empty, full], contract, "newest first");
    let long = map(&json!({ "description": "x".repeat(20_000) }));
    let one = || AuditLogEntry { after: long.clone(), ..entry(&env, "product.created", Uuid::nil()) };
    let many: Vec<_> = (0..1_200).map(|_| one()).collect();
    append(storage, &many).await;
    let total = read!(storage, audit_log.count(&AuditLogFilter::default(), 10_000));
    same((total.count, total.exact), (1_203, true), contract, "a large batch");
}

/// The entry of another import stays as it is.
pub async fn an_entry_of_an_import_is_locked_and_counts(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "The values after an import are replaced, and nothing else.";
    let one = entry(&env, "import.products", env.ids.next());
    let other = entry(&env, "import.products", env.ids.next());
    let missing = AuditLogEntryId(env.ids.next());
    append(storage, &[one.clone(), other.clone()]).await;
    same(attempt!(storage, audit_log.lock(missing)).unwrap(), None, "A missing entry is not locked.", missing);
    let mut edited = attempt!(storage, audit_log.lock(one.id)).unwrap().unwrap();
    same(&edited, &one, contract, "locked");
    edited.after = map(&json!({ "changes": { "product.created": 7 } }));
    attempt!(storage, audit_log.update(&edited)).unwrap();
    same(all(storage).await, vec![other, edited], contract, "updated");
}

/// Every filter, alone and together.
pub async fn a_list_filters_and_pages_both_ways(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let aggregates = [env.ids.next(), env.ids.next()];
    let actions = ["product.updated", "product.created", "role.updated"];
    let mut everything = Vec::new();
    for n in 0..24_usize {
        let mut made = entry(&env, actions[n % 3], aggregates[n % 2]);
        made.actor = Actor::new(format!("user:{}", n % 4));
        append(storage, std::slice::from_ref(&made)).await;
        everything.insert(0, made);
    }
    // Of the same time, so that the id decides.
    let time = env.now();
    let twins: Vec<_> =
        (0..5).map(|_| AuditLogEntry { occurred_at: time, ..entry(&env, "role.updated", aggregates[0]) }).collect();
    append(storage, &twins).await;
    everything.splice(0..0, twins.into_iter().rev());

    let some = |text: &str| Some(text.to_owned());
    let (early, late) = (everything[20].occurred_at, everything[8].occurred_at);
    let filters = [
        AuditLogFilter::default(),
        AuditLogFilter { actor: some("user:1"), ..AuditLogFilter::default() },
        AuditLogFilter { actor: some("user:none"), ..AuditLogFilter::default() },
        AuditLogFilter { entity: some("product"), ..AuditLogFilter::default() },
        AuditLogFilter { entity: some("prod"), ..AuditLogFilter::default() },
        AuditLogFilter { action: some("role.updated"), ..AuditLogFilter::default() },
        AuditLogFilter { action: some("Role.updated"), ..AuditLogFilter::default() },
        AuditLogFilter { aggregate_id: Some(aggregates[0]), ..AuditLogFilter::default() },
        AuditLogFilter { from: Some(early), ..AuditLogFilter::default() },
        AuditLogFilter { until: Some(late), ..AuditLogFilter::default() },
        AuditLogFilter {
            actor: some("user:2"),
            entity: some("product"),
            action: some("product.updated"),
            aggregate_id: Some(aggregates[0]),
            from: Some(early),
            until: Some(late),
        },
    ];
    for filter in &filters {
        let matches = |e: &&AuditLogEntry| {
            filter.actor.as_deref().is_none_or(|a| a == e.actor.as_str())
                && filter.entity.as_deref().is_none_or(|entity| entity == e.entity())
                && filter.action.as_ref().is_none_or(|action| *action == e.action)
                && filter.aggregate_id.is_none_or(|id| id == e.aggregate_id)
                && filter.from.is_none_or(|from| from <= e.occurred_at)
                && filter.until.is_none_or(|until| e.occurred_at < until)
        };
        let expected: Vec<_> = everything.iter().filter(matches).cloned().collect();
        let about = format!("{filter:?}");
        let contract = "A list has the entries that match, newest first, each on one page.";
        let (mut after, mut found, mut pages) = (None, Vec::new(), Pages::over(expected.len()));
        loop {
            pages.turn();
            let page = list(storage, filter, &Paging::Keyset { after, limit: 4 }).await;
            holds(page.items.len() <= 4, contract, &about);
            found.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        same(&found, &expected, contract, &about);
        for offset in [0, 2, expected.len() as u64, 100] {
            let page = list(storage, filter, &Paging::Offset { offset, limit: 5 }).await;
            let rows: Vec<_> = expected.iter().skip(offset as usize).take(5).cloned().collect();
            same(page.items, rows, contract, format_args!("{about} from {offset}"));
            same(page.next.is_some(), expected.len() as u64 > offset + 5, contract, &about);
        }
        let total = read!(storage, audit_log.count(filter, 10));
        let counted = (expected.len().min(10) as u64, expected.len() <= 10);
        same((total.count, total.exact), counted, "A count stops at its bound.", &about);
    }
}

/// A cursor that a client has changed is its mistake.
pub async fn a_cursor_of_another_list_is_refused(storage: &Arc<dyn Storage>) {
    let keys = [SortKey::Id, SortKey::Text("a".to_owned()), SortKey::Int(i64::MAX)];
    for key in keys {
        let after = Keyset { sort: "occurred_desc".to_owned(), key, id: Uuid::nil() };
        let paging = Paging::Keyset { after: Some(after), limit: 3 };
        let listed = attempt!(storage, audit_log.list(&AuditLogFilter::default(), &paging));
        same(code_of(listed, "cursor"), ErrorCode::Validation, "A cursor of another list is refused.", "cursor");
    }
}

/// The user of a customer was another's before, and was no customer before that.
pub async fn what_is_erased_has_no_values(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (ada, eve) = (CustomerId(env.ids.next()), CustomerId(env.ids.next()));
    let (user, other_user) = (env.ids.next(), env.ids.next());
    let of = |customer, action: &str, id| AuditLogEntry { customer_id: customer, ..entry(&env, action, id) };
    let entries = [
        of(Some(ada), "customer.updated", ada.0),
        of(Some(ada), "address.created", env.ids.next()),
        of(None, "user.created", user),
        of(Some(ada), "user.updated", user),
        of(None, "user.updated", user),
        // These stay.
        of(Some(eve), "customer.updated", eve.0),
        of(None, "user.created", other_user),
        of(None, "product.updated", env.ids.next()),
    ];
    append(storage, &entries).await;
    let now = env.now();
    attempt!(storage, audit_log.erase_customer(ada, now)).unwrap();
    let whole = all(storage).await;
    same(whole.iter().filter(|e| e.erased_at.is_some()).count(), 2, "The entries of users are erased apart.", "");
    attempt!(storage, audit_log.erase_users_of(ada, now)).unwrap();
    let contract = "The entries of a customer and of its user lose their values, and others keep them.";
    let expected = |erased: &[usize], now| -> Vec<_> {
        let one = |(n, e): (usize, &AuditLogEntry)| {
            if erased.contains(&n) { e.erased(now) } else { e.clone() }
        };
        entries.iter().enumerate().map(one).rev().collect()
    };
    same(all(storage).await, expected(&[0, 1, 2, 3, 4], now), contract, "a customer");
    let before = expected(&[0, 1, 2, 3, 4], now);
    // A second time changes nothing, not even the time.
    attempt!(storage, audit_log.erase_customer(ada, env.now())).unwrap();
    attempt!(storage, audit_log.erase_users_of(ada, env.now())).unwrap();
    same(all(storage).await, before.clone(), contract, "a repetition");
    let later = env.now();
    attempt!(storage, audit_log.erase_user(UserId(other_user), later)).unwrap();
    let mut after = before;
    after[1] = after[1].erased(later);
    same(all(storage).await, after, "The entries of a user lose their values.", "a user");
}
