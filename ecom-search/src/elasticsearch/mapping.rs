//! The settings and the mapping of an index, and its documents.
//!
//! A document has two halves. The first is for people, dashboards and other services: the [`SearchDocument`] under the
//! names of its fields. The second, `search`, is what this adapter searches. It is indexed and not stored. The words
//! come from [`FieldWords`], which stems them alike for every engine, so the server only splits them at spaces.

use std::collections::{BTreeSet, HashSet};

use ecom_core::port::{BuildProgress, Checkpoint, SearchDocument};
use ecom_core::search::{FieldWords, Pairs, code_forms};
use ecom_core::text::fold_key;
use serde_json::{Map, Value, json};

use super::config::ElasticsearchOptions;
use crate::ranking::Weight;
use crate::terms::{attribute_key, json_text, spelled};

/// The format of the index. Increase it with every change of this file: processes of both formats then use indices of
/// their own, and the first process of the new one builds its index.
pub(super) const FORMAT: u32 = 1;

/// The id of the document that contains the checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The id of the document that says how far the build of an index is.
pub(super) const PROGRESS: &str = "progress";

/// A source of full text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// The beginning of the names of its fields.
    name: &'static str,
    pub(super) weight: f32,
    pairs: Pairs,
}

/// The sources of full text, except codes.
pub(super) const SOURCES: [Source; 5] = [
    Source { name: "search.title", weight: Weight::TITLE, pairs: Pairs::All },
    Source { name: "search.brand", weight: Weight::BRAND, pairs: Pairs::All },
    Source { name: "search.tags", weight: Weight::TAGS, pairs: Pairs::All },
    Source { name: "search.category_names", weight: Weight::CATEGORY_NAMES, pairs: Pairs::All },
    Source { name: "search.description", weight: Weight::DESCRIPTION, pairs: Pairs::Units },
];

/// All sources together, for searches that do not ask in which one a word is.
pub(super) const ANY: [Source; 1] = [Source { name: "search.any", weight: 0.0, pairs: Pairs::All }];

impl Source {
    /// Stemmed words, for matches and their frequency.
    pub(super) fn stems(self) -> String {
        format!("{}.stems", self.name)
    }

    /// Words as written (folded), for typing errors and prefixes.
    pub(super) fn words(self) -> String {
        format!("{}.words", self.name)
    }

    /// Two neighboring words as one, stemmed.
    pub(super) fn pairs(self) -> String {
        format!("{}.pairs", self.name)
    }

    fn key(self) -> &'static str {
        self.name.trim_start_matches("search.")
    }
}

/// The names of the other fields that searches use.
pub(super) mod field {
    pub(crate) const ID: &str = "id";
    pub(crate) const REVISION: &str = "revision";
    pub(crate) const LIVE: &str = "search.live";
    pub(crate) const CODES: &str = "search.codes";
    pub(crate) const CATEGORY: &str = "search.category";
    pub(crate) const BRAND_KEY: &str = "search.brand_key";
    pub(crate) const BRAND_SPELLED: &str = "search.brand_spelled";
    pub(crate) const TAG_KEY: &str = "search.tag_key";
    pub(crate) const TAG_SPELLED: &str = "search.tag_spelled";
    pub(crate) const ATTRIBUTE: &str = "search.attribute";
    pub(crate) const PRICE: &str = "price";
    pub(crate) const RATING: &str = "rating";
    pub(crate) const AVAILABILITY: &str = "availability";
    pub(crate) const STATUS: &str = "status";
    pub(crate) const CREATED: &str = "search.created";
}

/// The deepest page plus its length: 10,000 and 1,000.
const DEEPEST_HIT: u32 = 11_000;

/// Returns the body of the call that makes an index which has these aliases.
pub(super) fn new_index(options: &ElasticsearchOptions, aliases: [&str; 2]) -> Value {
    // Only this adapter refreshes, once all changes of a call are written, so that no search finds half of them.
    let mut index = json!({
        "number_of_shards": options.shards,
        "max_result_window": DEEPEST_HIT,
        "refresh_interval": "-1",
    });
    if let Some(replicas) = options.replicas {
        index["number_of_replicas"] = replicas.into();
    }
    json!({"settings": {"index": index}, "mappings": mapping(), "aliases": {aliases[0]: {}, aliases[1]: {}}})
}

fn mapping() -> Value {
    let keyword = || json!({"type": "keyword"});
    let shown = || json!({"type": "keyword", "ignore_above": 1_000});
    let number = || json!({"type": "long"});
    let stored = || json!({"type": "object", "enabled": false});
    let words = |options: &str, norms: bool| json!({"type": "text", "analyzer": "whitespace", "index_options": options, "norms": norms});
    let source = |counted: bool| {
        let stems = if counted { words("freqs", true) } else { words("docs", false) };
        json!({"properties": {"stems": stems, "words": words("docs", false), "pairs": words("docs", false)}})
    };
    let mut search = json!({
        "live": {"type": "boolean"},
        "codes": keyword(), "category": keyword(), "attribute": keyword(),
        "brand_key": keyword(), "brand_spelled": keyword(), "tag_key": keyword(), "tag_spelled": keyword(),
        "created": number(),
        "any": source(false),
    });
    for s in SOURCES {
        search[s.key()] = source(true);
    }
    json!({
        "dynamic": false,
        "_meta": {"format": FORMAT, "made_by": "ecom"},
        "_source": {"excludes": ["search"]},
        "properties": {
            "id": keyword(), "revision": number(),
            "title": shown(), "brand": shown(), "tags": shown(), "codes": shown(),
            "description": {"type": "text", "index": false},
            "categories": {"properties": {"id": keyword(), "name": shown(), "slug": shown(), "path": shown()}},
            "images": stored(), "attributes": stored(), "checkpoint": stored(),
            "price": number(), "list_price": number(), "discount": stored_number(),
            "language": keyword(), "availability": keyword(), "rating": number(), "status": keyword(),
            "created_at": {"type": "date"}, "updated_at": {"type": "date"},
            "search": {"properties": search},
        },
    })
}

/// A number that is a text in JSON.
fn stored_number() -> Value {
    json!({"type": "double", "index": false, "doc_values": true})
}

/// Returns the document of a live product.
pub(super) fn document(d: &SearchDocument) -> serde_json::Result<Value> {
    let mut search = Map::new();
    let mut add = |source: Source, texts: &[&str]| {
        let mut all = [String::new(), String::new(), String::new()];
        for text in texts {
            let found = FieldWords::of(text, source.pairs, d.language);
            for (list, more) in all.iter_mut().zip([found.stems, found.words, found.pairs]) {
                for word in more {
                    list.push_str(&word);
                    list.push(' ');
                }
            }
        }
        let [stems, words, pairs] = all;
        for (name, list) in [("stems", &stems), ("words", &words), ("pairs", &pairs)] {
            if !list.is_empty() {
                let lists = search.entry("any").or_insert_with(|| json!({}))[name].take();
                let mut lists = if let Value::Array(lists) = lists { lists } else { Vec::new() };
                lists.push(list.as_str().into());
                search["any"][name] = lists.into();
            }
        }
        search.insert(source.key().to_owned(), json!({"stems": stems, "words": words, "pairs": pairs}));
    };
    let [title, brand, tags, category_names, description] = SOURCES;
    add(title, &[&d.title]);
    add(brand, &d.brand.iter().map(String::as_str).collect::<Vec<_>>());
    add(tags, &d.tags.iter().map(String::as_str).collect::<Vec<_>>());
    let mut seen = BTreeSet::new();
    let categories: Vec<_> = d.categories.iter().filter(|c| seen.insert(c.id)).collect();
    add(category_names, &categories.iter().map(|c| c.name.as_str()).collect::<Vec<_>>());
    add(description, &d.description.iter().map(String::as_str).collect::<Vec<_>>());
    if let Some(brand) = &d.brand {
        let key = fold_key(brand);
        search.insert("brand_spelled".to_owned(), spelled(&key, brand).into());
        search.insert("brand_key".to_owned(), key.into());
    }
    let mut keys = HashSet::new();
    let mut spellings = Vec::new();
    for tag in &d.tags {
        let key = fold_key(tag);
        if !keys.contains(&key) {
            spellings.push(spelled(&key, tag));
            keys.insert(key);
        }
    }
    search.insert("tag_key".to_owned(), json!(keys));
    search.insert("tag_spelled".to_owned(), json!(spellings));
    search.insert("category".to_owned(), json!(categories.iter().map(|c| c.id).collect::<Vec<_>>()));
    let codes: BTreeSet<String> = d.codes.iter().flat_map(|code| code_forms(code)).collect();
    search.insert("codes".to_owned(), json!(codes));
    let attributes: Vec<String> =
        d.attributes.0.iter().map(|(name, value)| attribute_key(name, &json_text(value))).collect();
    search.insert("attribute".to_owned(), json!(attributes));
    search.insert("created".to_owned(), d.created_at.timestamp_micros().into());
    search.insert("live".to_owned(), true.into());
    let mut document = serde_json::to_value(d)?;
    document["search"] = Value::Object(search);
    Ok(document)
}

/// Returns what stays in the index of a deleted product, so that an older document that arrives late is recognized
/// (R14).
pub(super) fn tombstone() -> Value {
    json!({"search": {"live": false}})
}

/// Returns the document that says how far the build of a generation is. A build is continued only with the same
/// settings of the index.
pub(super) fn progress_document(progress: BuildProgress, options: &ElasticsearchOptions) -> Value {
    json!({"progress": progress, "settings": settings(options), "search": {"live": false}})
}

/// Returns the settings of an index that depend on the options.
pub(super) fn settings(options: &ElasticsearchOptions) -> Value {
    json!({"shards": options.shards, "replicas": options.replicas})
}

/// Returns the document of a checkpoint.
pub(super) fn checkpoint_document(checkpoint: Checkpoint) -> Value {
    json!({"checkpoint": checkpoint, "search": {"live": false}})
}
