//! Which cached documents an event makes stale (R15): the one place that says so to the process that writes and to
//! the processes that read the event.
//!
//! Most follow from the kind and the id. The others, such as the categories that count a product, are written into
//! [`Event::data`] by the transaction that knows them, as the texts of their keys under `stale`.

use std::collections::HashSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::after_commit::Forget;
use crate::domain::platform::outbox::{Event, EventKind};
use crate::error::Entity;
use crate::id::{CategoryId, ProductId};
use crate::port::cache::CacheKey;

/// The field of [`Event::data`].
const FIELD: &str = "stale";
/// Stands for all documents.
const EVERYTHING: &str = "*";

/// What every event of a kind makes stale.
pub(super) fn implied(kind: EventKind, id: Uuid) -> Vec<CacheKey> {
    match kind.entity() {
        Entity::Product => vec![CacheKey::Product(ProductId(id)), CacheKey::ProductLists],
        Entity::Category => vec![CacheKey::Category(CategoryId(id)), CacheKey::CategoryTree],
        _ => Vec::new(),
    }
}

/// The data of an event that makes these documents stale besides.
pub(super) fn data(keys: &HashSet<CacheKey>) -> Value {
    if keys.is_empty() {
        return Value::Null;
    }
    let mut texts: Vec<String> = keys.iter().map(CacheKey::to_string).collect();
    texts.sort_unstable();
    json!({ FIELD: texts })
}

/// The data of an event that makes all documents stale.
pub(super) fn everything() -> Value {
    json!({ FIELD: [EVERYTHING] })
}

/// What a batch of events makes stale. Keys that this release does not know are of documents that it does not cache.
pub(crate) fn of<'e>(events: impl Iterator<Item = &'e Event>) -> Forget {
    let mut keys = HashSet::new();
    for event in events {
        keys.extend(implied(event.kind, event.aggregate_id));
        for text in event.data.get(FIELD).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if text == EVERYTHING {
                return Forget::Everything;
            }
            keys.extend(CacheKey::parse(text));
        }
    }
    Forget::Keys(keys.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::common::Actor;
    use crate::id::EventId;

    fn event(kind: EventKind, data: Value) -> Event {
        let occurred_at = chrono::DateTime::UNIX_EPOCH;
        let (id, aggregate_id) = (EventId(Uuid::nil()), Uuid::from_u128(7));
        Event { id, kind, aggregate_id, revision: 1, data, occurred_at, actor: Actor::system() }
    }

    #[test]
    fn r15_an_event_names_what_it_makes_stale() {
        let slug = CacheKey::CategorySlug(9);
        let events = [
            event(EventKind::ProductUpdated, data(&HashSet::from([slug]))),
            event(EventKind::StockChanged, json!({FIELD: ["of-a-later-release:1"]})),
        ];
        let Forget::Keys(keys) = of(events.iter()) else { panic!("not everything") };
        let keys: HashSet<_> = keys.into_iter().collect();
        let product = CacheKey::Product(ProductId(Uuid::from_u128(7)));
        assert_eq!(keys, HashSet::from([product, CacheKey::ProductLists, slug]));
        assert_eq!(of([event(EventKind::CategoryMoved, everything())].iter()), Forget::Everything);
    }
}
