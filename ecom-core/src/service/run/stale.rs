//! Decides which cached documents an event makes stale (R15), both for the process that writes and for the processes
//! that read the event.
//!
//! Most documents follow from the kind and the id of the event. The others, such as the categories that count a product
//! and the parts of the catalog that lists are made from ([`listing`](super::listing)), are known only to the write. It
//! stores their keys in [`Event::data`], as an array of texts under `stale`.

use std::collections::HashSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::after_commit::Forget;
use crate::domain::platform::outbox::{Event, EventDetails, EventKind};
use crate::error::Entity;
use crate::id::{CategoryId, ProductId, SessionId, SettingId};
use crate::port::cache::CacheKey;

/// The field of [`Event::data`] that holds the keys.
const FIELD: &str = "stale";
/// Stands for all documents.
const EVERYTHING: &str = "*";

/// The documents with all categories: the tree, and the lists.
pub(crate) const OF_CATEGORIES: [CacheKey; 2] = [CacheKey::CategoryTree, CacheKey::CategoryListing];

/// Returns the documents that every event of this kind makes stale.
pub(super) fn implied(kind: EventKind, id: Uuid) -> HashSet<CacheKey> {
    match kind.entity() {
        Entity::Product => HashSet::from([CacheKey::Product(ProductId(id))]),
        Entity::Setting => HashSet::from([CacheKey::Setting(SettingId(id))]),
        Entity::Category => [CacheKey::Category(CategoryId(id))].into_iter().chain(OF_CATEGORIES).collect(),
        Entity::Role => HashSet::from([CacheKey::Roles]),
        Entity::Session => HashSet::from([CacheKey::Session(SessionId(id))]),
        _ => HashSet::new(),
    }
}

/// Returns the data of an event with these details that makes these documents stale, besides those of its kind.
pub(super) fn data(details: EventDetails, stale: &Forget) -> Value {
    let mut fields = details.into_fields();
    let texts = match stale {
        Forget::Everything => vec![EVERYTHING.to_owned()],
        Forget::Keys(keys) => {
            let mut texts: Vec<String> = keys.iter().map(CacheKey::to_string).collect();
            texts.sort_unstable();
            texts
        }
    };
    if !texts.is_empty() {
        fields.insert(FIELD.to_owned(), json!(texts));
    }
    if fields.is_empty() { Value::Null } else { Value::Object(fields) }
}

/// Returns the documents that a batch of events makes stale. Keys that this release does not know belong to documents
/// that it does not cache, and are skipped.
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
    Forget::Keys(keys)
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
            event(EventKind::ProductUpdated, data(EventDetails::default(), &Forget::Keys(HashSet::from([slug])))),
            event(EventKind::StockChanged, json!({FIELD: ["of-a-later-release:1"]})),
        ];
        let Forget::Keys(keys) = of(events.iter()) else { panic!("not everything") };
        let product = CacheKey::Product(ProductId(Uuid::from_u128(7)));
        assert_eq!(keys, HashSet::from([product, slug]));
        assert_eq!(
            of([event(EventKind::CategoryMoved, data(EventDetails::default(), &Forget::Everything))].iter()),
            Forget::Everything
        );
    }
}
