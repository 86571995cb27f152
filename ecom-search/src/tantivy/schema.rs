//! The fields of the index, and how text becomes words.

use std::collections::{BTreeSet, HashSet};

use ecom_core::catalog::{AvailabilityStatus, ProductStatus};
use ecom_core::id::ProductId;
use ecom_core::port::SearchDocument;
use ecom_core::search::{FieldWords, Pairs, code_forms};
use ecom_core::text::fold_key;
use tantivy::TantivyDocument;
use tantivy::schema::{
    BytesOptions, Field, IndexRecordOption, NumericOptions, STRING, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{TokenizerManager, WhitespaceTokenizer};

use crate::ranking::Weight;
use crate::terms::{attribute_key, json_text, spelled};

/// The format of the index. Increase it with every change of fields or of how text becomes words: an index of another
/// format is rebuilt.
pub(super) const FORMAT: u32 = 4;

const WORDS: &str = "ecom_words";

/// The names of the columns that are read by name.
pub(super) mod column {
    pub(crate) const REVISION: &str = "revision";
    pub(crate) const ID_HIGH: &str = "id_high";
    pub(crate) const ID_LOW: &str = "id_low";
    pub(crate) const LIVE: &str = "live";
    pub(crate) const BRAND: &str = "brand_facet";
    pub(crate) const TAGS: &str = "tag_facet";
    pub(crate) const CATEGORIES: &str = "category";
    pub(crate) const PRICE: &str = "price";
    pub(crate) const RATING: &str = "rating";
    pub(crate) const AVAILABILITY: &str = "availability";
    pub(crate) const STATUS: &str = "status";
    pub(crate) const CREATED: &str = "created_at";
}

/// A source of full text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextSource {
    /// Stemmed words, for matches and their frequency.
    pub(super) stems: Field,
    /// Words as written (folded), for typos and prefixes.
    pub(super) words: Field,
    /// Two neighboring words as one, stemmed: `headphones` for "head phones".
    pub(super) pairs: Field,
    /// Which neighbors the index has.
    pairs_of: Pairs,
    /// A constant of [`Weight`].
    pub(super) weight: f32,
}

/// The fields of the index.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) id: Field,
    id_high: Field,
    id_low: Field,
    revision: Field,
    pub(super) live: Field,
    pub(super) title: TextSource,
    pub(super) brand: TextSource,
    pub(super) tags: TextSource,
    pub(super) category_names: TextSource,
    pub(super) codes: Field,
    pub(super) description: TextSource,
    /// The words of all sources. Searches read its dictionary alone, in which they look for words with typing errors.
    pub(super) spelling: Field,
    pub(super) category: Field,
    pub(super) brand_key: Field,
    brand_facet: Field,
    pub(super) tag_key: Field,
    tag_facet: Field,
    pub(super) attribute: Field,
    pub(super) price: Field,
    pub(super) rating: Field,
    pub(super) availability: Field,
    pub(super) status: Field,
    created_at: Field,
}

impl Fields {
    /// Returns the schema and its fields.
    pub(super) fn new() -> (Schema, Self) {
        let mut b = Schema::builder();
        let fast = NumericOptions::default().set_fast();
        let both = NumericOptions::default().set_fast().set_indexed();
        let facet = TextOptions::default().set_fast("raw");
        let mut source = |name: &str, weight, pairs_of| {
            let stems = TextFieldIndexing::default()
                .set_tokenizer(WORDS)
                .set_index_option(IndexRecordOption::WithFreqs)
                .set_fieldnorms(true);
            let words = TextFieldIndexing::default()
                .set_tokenizer(WORDS)
                .set_index_option(IndexRecordOption::Basic)
                .set_fieldnorms(false);
            let pairs = TextFieldIndexing::default()
                .set_tokenizer(WORDS)
                .set_index_option(IndexRecordOption::Basic)
                .set_fieldnorms(false);
            let pairs = TextOptions::default().set_indexing_options(pairs);
            TextSource {
                pairs: b.add_text_field(&format!("{name}_pairs"), pairs),
                pairs_of,
                stems: b.add_text_field(&format!("{name}_stems"), TextOptions::default().set_indexing_options(stems)),
                words: b.add_text_field(&format!("{name}_words"), TextOptions::default().set_indexing_options(words)),
                weight,
            }
        };
        let title = source("title", Weight::TITLE, Pairs::All);
        let brand = source("brand", Weight::BRAND, Pairs::All);
        let tags = source("tags", Weight::TAGS, Pairs::All);
        let category_names = source("category_names", Weight::CATEGORY_NAMES, Pairs::All);
        let description = source("description", Weight::DESCRIPTION, Pairs::Units);
        let spelling = TextFieldIndexing::default()
            .set_tokenizer(WORDS)
            .set_index_option(IndexRecordOption::Basic)
            .set_fieldnorms(false);
        let fields = Self {
            id: b.add_bytes_field("id", BytesOptions::default().set_indexed()),
            id_high: b.add_u64_field(column::ID_HIGH, fast.clone()),
            id_low: b.add_u64_field(column::ID_LOW, fast.clone()),
            revision: b.add_i64_field(column::REVISION, fast.clone()),
            live: b.add_u64_field(column::LIVE, both.clone()),
            title,
            brand,
            tags,
            category_names,
            codes: b.add_text_field("codes", STRING),
            description,
            spelling: b.add_text_field("spelling", TextOptions::default().set_indexing_options(spelling)),
            category: b.add_bytes_field(column::CATEGORIES, BytesOptions::default().set_indexed().set_fast()),
            brand_key: b.add_text_field("brand_key", STRING),
            brand_facet: b.add_text_field(column::BRAND, facet.clone()),
            tag_key: b.add_text_field("tag_key", STRING),
            tag_facet: b.add_text_field(column::TAGS, facet),
            attribute: b.add_text_field("attribute", STRING),
            price: b.add_i64_field(column::PRICE, fast.clone()),
            rating: b.add_i64_field(column::RATING, fast.clone()),
            availability: b.add_u64_field(column::AVAILABILITY, both.clone()),
            status: b.add_u64_field(column::STATUS, both),
            created_at: b.add_i64_field(column::CREATED, fast),
        };
        (b.build(), fields)
    }

    /// Returns every source of full text except the codes.
    pub(super) const fn sources(&self) -> [TextSource; 5] {
        [self.title, self.brand, self.tags, self.category_names, self.description]
    }

    /// Returns the document of a live product.
    pub(super) fn document(&self, d: &SearchDocument) -> TantivyDocument {
        let mut doc = self.head(d.id, d.revision, true);
        let mut spelling = BTreeSet::new();
        let mut add = |doc: &mut TantivyDocument, source: TextSource, written: &str| {
            let found = FieldWords::of(written, source.pairs_of, d.language);
            doc.add_text(source.stems, found.stems.join(" "));
            doc.add_text(source.words, found.words.join(" "));
            doc.add_text(source.pairs, found.pairs.join(" "));
            spelling.extend(found.words);
        };
        add(&mut doc, self.title, &d.title);
        if let Some(brand) = &d.brand {
            add(&mut doc, self.brand, brand);
            let key = fold_key(brand);
            doc.add_text(self.brand_facet, spelled(&key, brand));
            doc.add_text(self.brand_key, key);
        }
        let mut seen = HashSet::new();
        for tag in &d.tags {
            add(&mut doc, self.tags, tag);
            let key = fold_key(tag);
            if seen.insert(key.clone()) {
                doc.add_text(self.tag_facet, spelled(&key, tag));
                doc.add_text(self.tag_key, key);
            }
        }
        let mut categories = BTreeSet::new();
        for category in &d.categories {
            if categories.insert(category.id) {
                add(&mut doc, self.category_names, &category.name);
                doc.add_bytes(self.category, category.id.0.as_bytes());
            }
        }
        if let Some(description) = &d.description {
            add(&mut doc, self.description, description);
        }
        doc.add_text(self.spelling, spelling.into_iter().collect::<Vec<_>>().join(" "));
        let codes: BTreeSet<String> = d.codes.iter().flat_map(|code| code_forms(code)).collect();
        for code in codes {
            doc.add_text(self.codes, code);
        }
        for (name, value) in &d.attributes.0 {
            doc.add_text(self.attribute, attribute_key(name, &json_text(value)));
        }
        if let Some(price) = d.price {
            doc.add_i64(self.price, price);
        }
        doc.add_i64(self.rating, d.rating);
        doc.add_u64(self.availability, availability_number(d.availability));
        doc.add_u64(self.status, status_number(d.status));
        doc.add_i64(self.created_at, d.created_at.timestamp_micros());
        doc
    }

    /// Returns what stays in the index of a deleted product, so that an older document that arrives late is recognized
    /// (R14).
    pub(super) fn tombstone(&self, id: ProductId, revision: i64) -> TantivyDocument {
        self.head(id, revision, false)
    }

    fn head(&self, id: ProductId, revision: i64, live: bool) -> TantivyDocument {
        let mut doc = TantivyDocument::new();
        let (high, low) = id.0.as_u64_pair();
        doc.add_bytes(self.id, id.0.as_bytes());
        doc.add_u64(self.id_high, high);
        doc.add_u64(self.id_low, low);
        doc.add_i64(self.revision, revision);
        doc.add_u64(self.live, u64::from(live));
        doc
    }
}

pub(super) const fn status_number(status: ProductStatus) -> u64 {
    match status {
        ProductStatus::Draft => 0,
        ProductStatus::Active => 1,
        ProductStatus::Archived => 2,
    }
}

/// Returns its position in [`AvailabilityStatus::ALL`].
pub(super) const fn availability_number(availability: AvailabilityStatus) -> u64 {
    match availability {
        AvailabilityStatus::OutOfStock => 0,
        AvailabilityStatus::Limited => 1,
        AvailabilityStatus::InStock => 2,
    }
}

/// Returns the tokenizer that the schema names. Its input comes from [`FieldWords`].
pub(super) fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(WORDS, WhitespaceTokenizer::default());
    tokenizers
}
