//! A random history of the catalog, checked step by step against a model of our own.
//!
//! [`run`] drives a [`Shop`] over any storage with an endless mix of what callers do and get wrong, all of it made from
//! one seed: products, SKUs, categories and stock are written, moved, deleted and restored; versions are stale, names
//! taken in another case or width, inputs bad, references gone; lists are filtered, sorted and walked by cursor. The
//! model says what each call must answer, value by value, or for which reasons it may be refused. At intervals all that is
//! stored is compared. The clock and the ids are made from the seed too, so that the same seed leaves the same state,
//! to the last id, on every database: [`Report::digest`] is a digest of that.
//!
//! A model knows the rules of SPEC 2 and 3, not the services: it shares with them only the pure functions that define a
//! key, a slug, a final price and a merge ([`fold_key`], [`Slug`], [`Sku::final_price`], [`Attributes::merge`]).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fmt::Debug;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::shop::MakeCache;
use crate::clock::{Clock as _, ManualClock, SharedClock, Timestamp};
use crate::config::ShopConfig;
use crate::domain::{
    Actor, Attributes, Audit, AvailabilityStatus, Category, CategoryInput, CategoryPatch, CategorySummary, DeleteMode,
    Deleted, Dimensions, DimensionsInput, ExternalRef, Image, ImageInput, Patch, Product, ProductFilter,
    ProductFilters, ProductInput, ProductPatch, ProductSort, ProductStatus, RatingSummary, Read, Sku, SkuInput,
    SkuPatch, StockLevel, StockMovement, StockReason,
};
use crate::error::{Conflict, Error, ErrorCode, Result};
use crate::id::{CategoryId, ProductId, SkuId, UuidV7Source};
use crate::money::{Currency, ExactDecimal, Measure, Money, Percentage};
use crate::paging::{Keyset, Page, Paging, Total};
use crate::port::{
    CategoryFilter, Checkpoint, IndexBuild, IndexOp, SearchCapabilities, SearchProvider, SearchQuery, SearchResults,
    Storage,
};
use crate::service::{ProductListQuery, StockAdjustment};
use crate::shop::{Shop, ShopParts};
use crate::text::{Slug, fold_key};

/// 2026-01-02 03:04:05.678901 UTC.
const START_MICROS: i64 = 1_767_323_045_678_901;
/// More live rows than this, and deletes get likelier.
const MANY_PRODUCTS: usize = 40;
const MANY_CATEGORIES: usize = 24;
/// No more than this in the library.
const MAX_STOCK: i64 = 1_000_000_000_000;

/// What a history is made of.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Everything is made from it.
    pub seed: u64,
    /// How many operations. A history of fewer is the beginning of one of more.
    pub operations: u64,
    /// All that is stored is compared after so many operations, and at the end.
    pub check_every: u64,
}

/// What a history that went as the model says was like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of every answer and of the whole state at the end: products, SKUs, categories and the ledger, with ids, times,
    /// versions and revisions.
    pub digest: String,
    /// How often each operation succeeded.
    pub done: BTreeMap<&'static str, u64>,
    /// How often each operation was refused, as the model said.
    pub refused: BTreeMap<(&'static str, &'static str), u64>,
}

/// Where the shop and the model part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Replays it.
    pub seed: u64,
    /// So many operations replay it.
    pub operations: u64,
    /// What was done.
    pub operation: String,
    /// What is wrong with the answer.
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, operations, operation, what } = self;
        write!(f, "seed {seed}, operation {operations}: {operation}: {what}\nreplay it with ")?;
        write!(f, "ECOM_MODEL_SEED={seed} ECOM_MODEL_OPS={operations}")
    }
}

impl std::error::Error for Divergence {}

/// Runs a history on an empty, migrated storage, with a cache of each process from `caches`.
///
/// # Errors
/// The first answer or state that is not as the model says.
pub async fn run(
    storage: Arc<dyn Storage>,
    caches: &MakeCache,
    options: &Options,
) -> std::result::Result<Report, Divergence> {
    let mut runner = Runner::new(storage, caches, options.seed);
    let mut done = 0;
    let outcome = async {
        while done < options.operations {
            done += 1;
            runner.step().await?;
            if done % options.check_every == 0 {
                "comparing all that is stored".clone_into(&mut runner.operation);
                runner.compare_all(false).await?;
            }
        }
        "comparing all that is stored".clone_into(&mut runner.operation);
        runner.compare_all(true).await
    }
    .await;
    match outcome {
        Ok(()) => Ok(Report {
            digest: format!("{:016x}", runner.digest.finish()),
            done: runner.done,
            refused: runner.refused,
        }),
        Err(what) => Err(Divergence { seed: options.seed, operations: done, operation: runner.operation, what }),
    }
}

// ---------------------------------------------------------------- the model

/// What the shop must hold. Products have no SKUs and no category summaries here, categories no path and no counts: these
/// follow from the rest.
#[derive(Debug, Default)]
struct World {
    categories: BTreeMap<CategoryId, Category>,
    products: BTreeMap<ProductId, (Product, Vec<CategoryId>)>,
    skus: BTreeMap<SkuId, Sku>,
    ledger: BTreeMap<SkuId, Vec<Moved>>,
}

/// Delta, reason, reference, when, by whom.
type Moved = (i64, StockReason, Option<String>, Timestamp, Actor);

impl World {
    fn live_category(&self, id: CategoryId) -> Option<&Category> {
        self.categories.get(&id).filter(|c| c.audit.is_live())
    }

    fn live_categories(&self) -> impl Iterator<Item = &Category> {
        self.categories.values().filter(|c| c.audit.is_live())
    }

    fn live_products(&self) -> impl Iterator<Item = &(Product, Vec<CategoryId>)> {
        self.products.values().filter(|(p, _)| p.audit.is_live())
    }

    fn live_skus(&self) -> impl Iterator<Item = &Sku> {
        self.skus.values().filter(|s| s.audit.is_live())
    }

    /// Itself and everything above, itself first.
    fn chain(&self, id: CategoryId) -> Vec<CategoryId> {
        let mut chain = vec![id];
        let mut at = id;
        while let Some(parent) = self.categories[&at].parent_id {
            chain.push(parent);
            at = parent;
        }
        chain
    }

    fn path(&self, id: CategoryId) -> String {
        let slugs: Vec<&str> = self.chain(id).iter().rev().map(|c| self.categories[c].slug.as_str()).collect();
        slugs.join("/")
    }

    /// Everything below, deleted ones too.
    fn below(&self, id: CategoryId) -> Vec<CategoryId> {
        self.categories.keys().copied().filter(|c| *c != id && self.chain(*c).contains(&id)).collect()
    }

    /// As it is read.
    fn category(&self, id: CategoryId) -> Category {
        let mut c = self.categories[&id].clone();
        c.path = self.path(id);
        let active = |p: &Product| p.audit.is_live() && p.status == ProductStatus::Active;
        let counted = |in_it: &dyn Fn(&CategoryId) -> bool| {
            self.products.values().filter(|(p, of)| active(p) && of.iter().any(in_it)).count() as i64
        };
        c.product_count = counted(&|of| *of == id);
        c.subtree_product_count = counted(&|of| self.chain(*of).contains(&id));
        c
    }

    fn summary(&self, id: CategoryId) -> CategorySummary {
        let c = &self.categories[&id];
        CategorySummary { id, name: c.name.clone(), slug: c.slug.clone(), path: self.path(id) }
    }

    fn skus_of(&self, id: ProductId) -> Vec<Sku> {
        let mut skus: Vec<Sku> = self.skus.values().filter(|s| s.product_id == id).cloned().collect();
        skus.sort_by_key(|s| (s.position, s.id));
        skus
    }

    /// As it is read.
    fn product(&self, id: ProductId) -> Product {
        let (p, of) = &self.products[&id];
        let skus = self.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        Product { categories: of.iter().map(|c| self.summary(*c)).collect(), skus, ..p.clone() }
    }

    /// The SKUs that a list knows it by: the live ones, or those that were deleted with it.
    fn listed_skus(&self, p: &Product) -> Vec<Sku> {
        self.skus_of(p.id).into_iter().filter(|s| s.audit.deleted_at == p.audit.deleted_at).collect()
    }

    fn price(&self, p: &Product) -> i64 {
        self.listed_skus(p).iter().map(|s| s.final_price(p.discount).minor()).min().unwrap_or(i64::MAX)
    }

    fn availability(&self, p: &Product) -> AvailabilityStatus {
        self.listed_skus(p).iter().map(Sku::availability).max().unwrap_or(AvailabilityStatus::OutOfStock)
    }

    fn matches(&self, (p, of): &(Product, Vec<CategoryId>), f: &ProductFilter) -> bool {
        let key = |t: &String| fold_key(t);
        (f.deleted == Deleted::Include || p.audit.is_live())
            && f.status.is_none_or(|s| s == p.status)
            && f.category.is_none_or(|c| of.iter().any(|o| self.chain(*o).contains(&c)))
            && f.min_price.is_none_or(|n| self.price(p) >= n)
            && f.max_price.is_none_or(|n| self.price(p) <= n)
            && f.brand.as_ref().is_none_or(|b| p.brand.as_ref().map(key) == Some(fold_key(b)))
            && f.tag.as_ref().is_none_or(|t| p.tags.iter().map(key).any(|k| k == fold_key(t)))
            && f.availability.is_none_or(|a| a == self.availability(p))
            && f.updated_since.is_none_or(|t| p.audit.updated_at >= t)
    }

    fn listed(&self, filter: &ProductFilter, sort: ProductSort) -> Vec<ProductId> {
        let mut found: Vec<(i64, String, ProductId)> = self
            .products
            .values()
            .filter(|p| self.matches(p, filter))
            .map(|(p, _)| match sort {
                ProductSort::CreatedAsc | ProductSort::CreatedDesc => (0, String::new(), p.id),
                ProductSort::PriceAsc | ProductSort::PriceDesc => (self.price(p), String::new(), p.id),
                ProductSort::TitleAsc | ProductSort::TitleDesc => (0, fold_key(&p.title), p.id),
                ProductSort::RatingDesc => (i64::from(p.rating.mean.hundredths()), String::new(), p.id),
            })
            .collect();
        found.sort();
        if sort.is_descending() {
            found.reverse();
        }
        found.into_iter().map(|(.., id)| id).collect()
    }

    fn filters(&self, filter: &ProductFilter) -> ProductFilters {
        let found: Vec<&(Product, Vec<CategoryId>)> =
            self.products.values().filter(|p| self.matches(p, filter)).collect();
        let mut categories: BTreeMap<CategoryId, u64> = BTreeMap::new();
        let mut brands: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for (p, of) in &found {
            for c in of {
                *categories.entry(*c).or_default() += 1;
            }
            if let Some(b) = &p.brand {
                let entry = brands.entry(fold_key(b)).or_insert_with(|| (b.clone(), 0));
                // Of several spellings the first in bytewise order.
                entry.0 = entry.0.clone().min(b.clone());
                entry.1 += 1;
            }
        }
        let mut categories: Vec<(CategorySummary, u64)> =
            categories.into_iter().map(|(id, n)| (self.summary(id), n)).collect();
        categories.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| (&a.path, a.id).cmp(&(&b.path, b.id))));
        // Stable: by key where the counts are the same.
        let mut brands: Vec<(String, u64)> = brands.into_values().collect();
        brands.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let prices = || found.iter().map(|(p, _)| self.price(p));
        ProductFilters { categories, brands, price: prices().min().zip(prices().max()) }
    }

    /// The live category that an id, a slug or a path names.
    fn resolve(&self, reference: &str) -> Option<CategoryId> {
        if let Ok(id) = reference.parse() {
            return self.live_category(id).map(|c| c.id);
        }
        let path = reference.trim_matches('/');
        let found = self.live_categories().find(|c| Some(c.slug.as_str()) == path.rsplit('/').next())?.id;
        (!path.contains('/') || self.path(found) == path).then_some(found)
    }

    fn category_slugs(&self) -> HashSet<String> {
        self.live_categories().map(|c| c.slug.to_string()).collect()
    }

    fn product_slugs(&self) -> HashSet<String> {
        self.live_products().map(|(p, _)| p.slug.to_string()).collect()
    }

    fn codes(&self) -> HashMap<String, SkuId> {
        self.live_skus().map(|s| (fold_key(&s.code), s.id)).collect()
    }

    /// What holds a category with these values back; `id` is itself, where it is there already.
    fn category_conflicts(&self, c: &Category) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let others = || self.live_categories().filter(|o| o.id != c.id);
        if others().any(|o| o.parent_id == c.parent_id && fold_key(&o.name) == fold_key(&c.name)) {
            refusals.push(Refusal::Duplicate("name"));
        }
        if others().any(|o| o.slug == c.slug) {
            refusals.push(Refusal::Duplicate("slug"));
        }
        if c.external.is_some() && others().any(|o| o.external == c.external) {
            refusals.push(Refusal::Duplicate("external_id"));
        }
        refusals
    }

    fn product_conflicts(&self, p: &Product) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let others = || self.live_products().filter(|(o, _)| o.id != p.id);
        if others().any(|(o, _)| o.slug == p.slug) {
            refusals.push(Refusal::Duplicate("slug"));
        }
        if p.external.is_some() && others().any(|(o, _)| o.external == p.external) {
            refusals.push(Refusal::Duplicate("external_id"));
        }
        refusals
    }

    /// `own`: SKUs that the same write makes or brings back, not counted against each other by code, which the write
    /// itself does.
    fn sku_conflicts(&self, own: &[Sku]) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (i, s) in own.iter().enumerate() {
            let others = || self.live_skus().filter(|o| own.iter().all(|w| w.id != o.id)).chain(&own[..i]);
            if others().any(|o| fold_key(&o.code) == fold_key(&s.code)) {
                refusals.push(Refusal::Duplicate("code"));
            }
            if s.external.is_some() && others().any(|o| o.external == s.external) {
                refusals.push(Refusal::Duplicate("external_id"));
            }
        }
        refusals
    }
}

/// True where `slug` is `base`, or `base` with a number.
fn is_made_from(slug: &Slug, base: &Slug) -> bool {
    let number = slug.as_str().rsplit('-').next().and_then(|n| n.parse::<u32>().ok());
    slug == base || number.is_some_and(|n| base.numbered(n) == *slug)
}

/// Why a call may be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    Code(ErrorCode),
    /// `DUPLICATE` of this field.
    Duplicate(&'static str),
    /// `VALIDATION` of exactly these fields.
    Fields(BTreeSet<String>),
}

impl Refusal {
    fn field(name: &str) -> Self {
        Self::Fields(BTreeSet::from([name.to_owned()]))
    }

    fn explains(&self, e: &Error) -> bool {
        match (self, e) {
            (Self::Duplicate(field), Error::Conflict(c)) => {
                matches!(**c, Conflict::Duplicate { field: f, .. } if f == *field)
            }
            (Self::Fields(fields), Error::Validation(v)) => {
                v.0.iter().map(|f| f.field.clone()).collect::<BTreeSet<_>>() == *fields
            }
            (Self::Code(code), e) => e.code() == *code,
            _ => false,
        }
    }
}

type Checked<T> = std::result::Result<T, String>;

fn same<T: PartialEq + Debug>(what: &str, got: &T, want: &T) -> Checked<()> {
    if got == want {
        return Ok(());
    }
    // Rows are long: what stands around the first difference says more.
    let (got, want) = (format!("{got:?}"), format!("{want:?}"));
    let alike = got.chars().zip(want.chars()).take_while(|(a, b)| a == b).count().saturating_sub(120);
    let excerpt = |text: &str| text.chars().skip(alike).take(400).collect::<String>();
    Err(format!("{what}\n  is      …{}\n  must be …{}", excerpt(&got), excerpt(&want)))
}

/// Calls that only read succeed.
fn read<T>(what: &str, answer: Result<T>) -> Checked<T> {
    answer.map_err(|e| format!("{what} fails: {e:?}"))
}

// ---------------------------------------------------------------- values

/// Some of these are the same to people, some to the library, some to a collation that knows neither case nor accents.
const WORDS: [&str; 34] = [
    "Tea",
    "TEA",
    "tea",
    "Téa",
    "Te\u{301}a",
    "TÉA",
    "Ｔｅａ",
    "𝕿𝖊𝖆",
    "Straße",
    "STRASSE",
    "strasse",
    "ﬁne",
    "FINE",
    "İstanbul",
    "istanbul",
    "ISTANBUL",
    "Σίσυφος",
    "ΣΊΣΥΦΟΣ",
    "茶",
    "🍵",
    "🍶",
    "a b",
    "A  b",
    "a\u{a0}B",
    "ab",
    "100% _\\",
    "O'Brien \"x\" `y`",
    "tea-2",
    "search",
    "Ærø",
    "ærø",
    "№ 5",
    "ñandú",
    "nandu",
];

const SLUGS: [&str; 8] = ["tea", "tea-2", "tea-3", "strasse", "x", "a-b", "fine-10", "0"];
const BAD_SLUGS: [&str; 6] = ["Tea", "té", "", "search", "0193b5a6-0000-7000-8000-000000000000", "--"];
const CODES: [&str; 12] = ["A", "a", "Ä", "ä", "A\u{308}", "Ａ", "tea", "TEA-2", "🧺", "ß", "SS", "a b"];
const TAGS: [&str; 8] = ["new", "NEW", "Sale", "sålé", "sale", "🎁", "ﬁn", "fin"];
const BRANDS: [&str; 8] = ["Acme", "ACME", "acmé", "Ärger", "ärger", "茶庵", "Z", "  "];
const EXTERNAL: [&str; 5] = ["1", "2", "a", "A", "ä"];
const ATTRIBUTES: [&str; 8] = [
    "{}",
    "{\"a\": 1}",
    "{\"a\": null, \"z\": {\"y\": [1, 2.5, \"é🎧\"], \"b\": false}, \"aa\": -0.1}",
    "{\"big\": 9007199254740993, \"neg\": -9223372036854775808, \"u\": 18446744073709551615}",
    "{\"small\": 1e-7, \"large\": 1e300, \"x\": 1.0, \"y\": 100}",
    "{\"\": \"\", \"quote\\\"\": \"back\\\\slash\\n\", \"a.b\": {\"$c\": []}}",
    "{\"z\": {\"y\": null, \"n\": {\"m\": 1}}}",
    "{\"K\": \"case\", \"k\": \"CASE\"}",
];

/// A text with one of the faults that are refused; `max` characters are allowed.
fn bad_text(rng: &mut StdRng, max: usize) -> String {
    match rng.random_range(0..5) {
        0 => String::new(),
        1 => " \u{a0} ".to_owned(),
        2 => "🍵".repeat(max + 1),
        3 => "a\0b".to_owned(),
        _ => "a\u{7}b".to_owned(),
    }
}

fn decimal(minor: i64) -> ExactDecimal {
    ExactDecimal(Decimal::new(minor, 2))
}

fn measure(d: ExactDecimal) -> Measure {
    Measure::exact(d.0).unwrap()
}

fn attributes(text: &str) -> Attributes {
    serde_json::from_str(text).unwrap()
}

fn trimmed(text: Option<&String>) -> Option<String> {
    text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

fn external(source: Option<&String>, id: Option<&String>) -> Option<ExternalRef> {
    Some(ExternalRef::new(source?, id?))
}

/// The values that an input asks for, over what is there.
fn written(s: &mut Sku, input: &SkuInput) {
    if let Some(code) = &input.code {
        code.trim().clone_into(&mut s.code);
    }
    s.option_values.clone_from(&input.option_values);
    s.attributes.clone_from(&input.attributes);
    s.price = Money::exact(input.price.unwrap().0, Currency::USD).unwrap();
    s.weight = input.weight.map(measure);
    s.dimensions = input.dimensions.map(|d| Dimensions {
        width: measure(d.width),
        height: measure(d.height),
        depth: measure(d.depth),
    });
    s.low_stock_threshold = input.low_stock_threshold.unwrap_or(5);
    s.barcode = input.barcode.as_ref().map(|b| b.trim().to_owned());
    if let Some(x) = external(input.source.as_ref(), input.external_id.as_ref()) {
        s.external = Some(x);
    }
}

/// The values that an input asks for, over what is there; not its slug, categories and SKUs.
fn written_product(p: &mut Product, input: &ProductInput) {
    input.title.trim().clone_into(&mut p.title);
    p.description = trimmed(input.description.as_ref());
    p.brand = trimmed(input.brand.as_ref());
    p.status = input.status;
    let mut seen = HashSet::new();
    p.tags = input.tags.iter().filter(|t| seen.insert(fold_key(t))).map(|t| t.trim().to_owned()).collect();
    let none_primary = input.images.iter().all(|i| !i.primary);
    p.images = input
        .images
        .iter()
        .enumerate()
        .map(|(i, image)| Image {
            url: image.url.clone(),
            alt: trimmed(image.alt.as_ref()),
            primary: image.primary || (none_primary && i == 0),
        })
        .collect();
    p.attributes.clone_from(&input.attributes);
    p.discount = input.discount_percentage.map_or_else(Percentage::default, |d| Percentage::exact(d.0).unwrap());
    p.warranty_information = trimmed(input.warranty_information.as_ref());
    p.shipping_information = trimmed(input.shipping_information.as_ref());
    if let Some(x) = external(input.source.as_ref(), input.external_id.as_ref()) {
        p.external = Some(x);
    }
}

/// What a product without any value is.
fn blank(id: ProductId, audit: Audit) -> Product {
    Product {
        id,
        title: String::new(),
        slug: Slug::trusted(String::new()),
        description: None,
        brand: None,
        status: ProductStatus::Active,
        categories: Vec::new(),
        tags: Vec::new(),
        images: Vec::new(),
        attributes: Attributes::default(),
        discount: Percentage::default(),
        warranty_information: None,
        shipping_information: None,
        rating: RatingSummary::default(),
        external: None,
        skus: Vec::new(),
        revision: 1,
        audit,
    }
}

fn blank_sku(id: SkuId, product_id: ProductId, position: usize, audit: Audit) -> Sku {
    Sku {
        id,
        product_id,
        position: position as i32,
        code: String::new(),
        option_values: BTreeMap::new(),
        attributes: Attributes::default(),
        price: Money::from_minor(0, Currency::USD),
        weight: None,
        dimensions: None,
        on_hand: 0,
        reserved: 0,
        low_stock_threshold: 5,
        barcode: None,
        external: None,
        audit,
    }
}

/// The flat fields as the one SKU that they mean.
fn flat_sku(input: &ProductInput) -> SkuInput {
    SkuInput {
        code: input.sku.clone(),
        price: input.price,
        weight: input.weight,
        dimensions: input.dimensions,
        stock: input.stock,
        low_stock_threshold: input.low_stock_threshold,
        barcode: input.barcode.clone(),
        ..SkuInput::default()
    }
}

fn hash_of(value: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    canonical(&serde_json::to_value(value).unwrap(), &mut hasher);
    hasher.finish()
}

/// The order of the keys of an object means nothing.
fn canonical(value: &serde_json::Value, to: &mut DefaultHasher) {
    match value {
        serde_json::Value::Array(a) => {
            a.len().hash(to);
            for v in a {
                canonical(v, to);
            }
        }
        serde_json::Value::Object(o) => {
            let sorted: BTreeMap<_, _> = o.iter().collect();
            sorted.len().hash(to);
            for (k, v) in sorted {
                k.hash(to);
                canonical(v, to);
            }
        }
        scalar => scalar.to_string().hash(to),
    }
}

/// The revision moves with whatever is shown, and never back. `shown` is what is seen now.
fn observe<T: PartialEq + Debug>(
    seen: &mut HashMap<Uuid, T>,
    id: Uuid,
    shown: T,
    revision: fn(&T) -> i64,
) -> Checked<()> {
    match seen.get(&id) {
        Some(before) if revision(before) > revision(&shown) => {
            return Err(format!("the revision went back from {}", revision(before)));
        }
        Some(before) if revision(before) == revision(&shown) => {
            return same("what this revision shows", &shown, before);
        }
        _ => {}
    }
    seen.insert(id, shown);
    Ok(())
}

/// The catalog has no need of one.
#[derive(Debug)]
struct NoIndex;

#[async_trait]
impl SearchProvider for NoIndex {
    fn name(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> SearchCapabilities {
        SearchCapabilities::default()
    }

    async fn search(&self, _: &SearchQuery) -> Result<SearchResults> {
        Err(Self::lacks())
    }

    async fn acquire_writer(&self) -> Result<bool> {
        Ok(false)
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(None)
    }

    async fn apply(&self, _: Vec<IndexOp>, _: Checkpoint) -> Result<u64> {
        Err(Self::lacks())
    }

    async fn begin_rebuild(&self) -> Result<Box<dyn IndexBuild>> {
        Err(Self::lacks())
    }

    async fn revisions(&self, _: Option<ProductId>, _: u32) -> Result<Vec<(ProductId, i64)>> {
        Err(Self::lacks())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

impl NoIndex {
    const fn lacks() -> Error {
        Error::Unsupported { provider: "none", capability: "an index" }
    }
}

// ---------------------------------------------------------------- the history

struct Runner<'a> {
    storage: Arc<dyn Storage>,
    caches: &'a MakeCache,
    clock: Arc<ManualClock>,
    ids: Arc<UuidV7Source>,
    shop: Shop,
    world: World,
    rng: StdRng,
    /// As they were seen last.
    seen_products: HashMap<Uuid, Product>,
    seen_categories: HashMap<Uuid, Category>,
    /// What is being done, for people.
    operation: String,
    kind: &'static str,
    done: BTreeMap<&'static str, u64>,
    refused: BTreeMap<(&'static str, &'static str), u64>,
    digest: DefaultHasher,
    /// Some histories grow deep trees.
    deep: bool,
}

impl<'a> Runner<'a> {
    fn new(storage: Arc<dyn Storage>, caches: &'a MakeCache, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at_micros(START_MICROS));
        let ids = Arc::new(UuidV7Source::seeded(clock.clone(), seed));
        let shop = Self::open(&storage, caches, &clock, &ids);
        Self {
            storage,
            caches,
            clock,
            ids,
            shop,
            world: World::default(),
            rng: StdRng::seed_from_u64(seed),
            seen_products: HashMap::new(),
            seen_categories: HashMap::new(),
            operation: String::new(),
            kind: "",
            done: BTreeMap::new(),
            refused: BTreeMap::new(),
            digest: DefaultHasher::new(),
            deep: seed % 4 == 3,
        }
    }

    fn open(storage: &Arc<dyn Storage>, caches: &MakeCache, clock: &Arc<ManualClock>, ids: &Arc<UuidV7Source>) -> Shop {
        let clock: SharedClock = clock.clone();
        Shop::new(ShopParts {
            storage: storage.clone(),
            search: Arc::new(NoIndex),
            cache: caches(clock.clone()),
            clock,
            ids: ids.clone(),
            config: ShopConfig::default(),
        })
        .unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// True in so many of a hundred cases.
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() { None } else { Some(items[self.below(items.len())].clone()) }
    }

    fn any<T: Clone, const N: usize>(&mut self, items: &[T; N]) -> T {
        let n = self.below(N);
        items[n].clone()
    }

    fn actor(&mut self) -> Actor {
        Actor::new(self.any(&["user:1", "system", "Grüße 🛒"]))
    }

    fn word(&mut self) -> String {
        let word = self.any(&WORDS);
        match self.below(20) {
            0..8 => word.to_owned(),
            8..18 => format!("{word} {}", self.below(12)),
            18 => format!(" {word} "),
            _ => format!("{word} {}", "long 長い".repeat(self.below(10))),
        }
    }

    fn code(&mut self) -> String {
        let code = self.any(&CODES);
        if self.chance(20) { code.to_owned() } else { format!("{code}{}", self.below(200)) }
    }

    /// Mostly the version that is there.
    fn version(&mut self, actual: i64) -> (Read, Option<Refusal>) {
        let stale = Some(Refusal::Code(ErrorCode::VersionConflict));
        match self.below(100) {
            0..4 => (Read::Version(actual - 1), stale),
            4..7 => (Read::Version(actual + 1), stale),
            7..10 => (Read::Unsaid, Some(Refusal::Code(ErrorCode::VersionRequired))),
            _ => (Read::Version(actual), None),
        }
    }

    fn missing() -> Uuid {
        Uuid::from_u128(0x0193_b5a6_0000_7000_8000_0000_0000_0001)
    }

    fn begins(&mut self, kind: &'static str, detail: impl Debug) {
        self.kind = kind;
        self.operation = format!("{kind} {detail:?}");
        self.operation.hash(&mut self.digest);
    }

    /// Compares success or refusal with what the model says.
    fn judge<T: Debug>(&mut self, answer: Result<T>, refusals: &[Refusal]) -> Checked<Option<T>> {
        match answer {
            Ok(value) if refusals.is_empty() => {
                *self.done.entry(self.kind).or_default() += 1;
                self.kind.hash(&mut self.digest);
                Ok(Some(value))
            }
            Ok(value) => Err(format!("succeeds with {value:?}, must be refused: {refusals:?}")),
            Err(e) if refusals.iter().any(|r| r.explains(&e)) => {
                *self.refused.entry((self.kind, e.code().as_str())).or_default() += 1;
                (self.kind, e.code().as_str()).hash(&mut self.digest);
                Ok(None)
            }
            Err(e) if refusals.is_empty() => Err(format!("fails with {e:?}, must succeed")),
            Err(e) => Err(format!("fails with {e:?}, must be refused for one of {refusals:?}")),
        }
    }

    async fn step(&mut self) -> Checked<()> {
        self.clock.advance(Duration::from_millis(1));
        let products = self.world.live_products().count();
        let categories = self.world.live_categories().count();
        let gone = self.world.products.len() - products;
        match self.rng.random_range(0..1_000) {
            0..90 if products > MANY_PRODUCTS => self.delete_product(DeleteMode::Soft).await,
            0..90 => self.create_product().await,
            90..170 => self.patch_product().await,
            170..220 => self.replace_product().await,
            220..245 => self.delete_product(DeleteMode::Soft).await,
            245..275 if gone > MANY_PRODUCTS / 2 => self.delete_product(DeleteMode::Force).await,
            245..260 => self.delete_product(DeleteMode::Force).await,
            260..285 => self.restore_product().await,
            285..335 if categories > MANY_CATEGORIES => self.delete_category(DeleteMode::Soft).await,
            285..335 => self.create_category().await,
            335..385 => self.patch_category().await,
            385..405 => self.replace_category().await,
            405..430 => self.move_category().await,
            430..450 => self.delete_category(DeleteMode::Soft).await,
            450..465 => self.delete_category(DeleteMode::Force).await,
            465..485 => self.restore_category().await,
            485..515 => self.create_sku().await,
            515..565 => self.patch_sku().await,
            565..585 => self.replace_sku().await,
            585..605 => self.delete_sku().await,
            605..620 => self.restore_sku().await,
            620..740 => self.adjust().await,
            740..840 => self.read_product().await,
            840..890 => self.list_products().await,
            890..905 => self.narrow_products().await,
            905..935 => self.read_category().await,
            935..960 => self.list_categories().await,
            960..985 => self.read_sku().await,
            985..997 => self.read_ledger().await,
            997 => {
                // Everything in the cache has had its time.
                self.clock.advance(Duration::from_secs(4_000));
                Ok(())
            }
            _ => {
                self.shop = Self::open(&self.storage, self.caches, &self.clock, &self.ids);
                Ok(())
            }
        }
    }

    // ------------------------------------------------------------ choosing

    fn some_product(&mut self) -> ProductId {
        let live: Vec<ProductId> = self.world.live_products().map(|(p, _)| p.id).collect();
        let all: Vec<ProductId> = self.world.products.keys().copied().collect();
        let from = if self.chance(94) { live } else { all };
        let found = self.one_of(&from);
        if self.chance(2) { ProductId(Self::missing()) } else { found.unwrap_or(ProductId(Self::missing())) }
    }

    fn deleted_product(&mut self) -> ProductId {
        let gone: Vec<ProductId> =
            self.world.products.values().filter(|(p, _)| !p.audit.is_live()).map(|(p, _)| p.id).collect();
        if self.chance(5) { self.some_product() } else { self.one_of(&gone).unwrap_or(ProductId(Self::missing())) }
    }

    fn some_category(&mut self) -> CategoryId {
        let live: Vec<CategoryId> = self.world.live_categories().map(|c| c.id).collect();
        let all: Vec<CategoryId> = self.world.categories.keys().copied().collect();
        let from = if self.chance(94) { live } else { all };
        let found = self.one_of(&from);
        if self.chance(2) { CategoryId(Self::missing()) } else { found.unwrap_or(CategoryId(Self::missing())) }
    }

    fn deleted_category(&mut self) -> CategoryId {
        let gone: Vec<CategoryId> =
            self.world.categories.values().filter(|c| !c.audit.is_live()).map(|c| c.id).collect();
        if self.chance(5) { self.some_category() } else { self.one_of(&gone).unwrap_or(CategoryId(Self::missing())) }
    }

    fn some_sku(&mut self) -> SkuId {
        let live: Vec<SkuId> = self.world.live_skus().map(|s| s.id).collect();
        let all: Vec<SkuId> = self.world.skus.keys().copied().collect();
        let from = if self.chance(94) { live } else { all };
        let found = self.one_of(&from);
        if self.chance(2) { SkuId(Self::missing()) } else { found.unwrap_or(SkuId(Self::missing())) }
    }

    fn deleted_sku(&mut self) -> SkuId {
        let gone: Vec<SkuId> = self.world.skus.values().filter(|s| !s.audit.is_live()).map(|s| s.id).collect();
        if self.chance(5) { self.some_sku() } else { self.one_of(&gone).unwrap_or(SkuId(Self::missing())) }
    }

    /// How a caller names a category; seldom one that is not there.
    fn category_reference(&mut self) -> String {
        let id = self.some_category();
        if !self.world.categories.contains_key(&id) {
            return self.any(&["no-such", "no/such", "0193b5a6-0000-7000-8000-0000000000ff"]).to_owned();
        }
        match self.below(4) {
            0 => self.world.categories[&id].slug.to_string(),
            1 => self.world.path(id),
            _ => id.to_string(),
        }
    }

    fn parent_reference(&mut self) -> Option<String> {
        if self.deep && self.chance(70) {
            let deepest = self.world.live_categories().max_by_key(|c| self.world.chain(c.id).len());
            return deepest.map(|c| c.id.to_string());
        }
        if self.chance(35) { None } else { Some(self.category_reference()) }
    }

    fn external_pair(&mut self, percent: u32) -> (Option<String>, Option<String>) {
        if !self.chance(percent) {
            return (None, None);
        }
        (Some(self.any(&["erp", "ERP"]).to_owned()), Some(self.any(&EXTERNAL).to_owned()))
    }

    // ------------------------------------------------------------ categories

    /// With the fields that are bad in it.
    fn category_input(&mut self) -> (CategoryInput, BTreeSet<String>) {
        let mut bad = BTreeSet::new();
        let (source, external_id) = self.external_pair(12);
        let mut input = CategoryInput {
            name: self.word(),
            slug: if self.chance(25) { Some(self.any(&SLUGS).to_owned()) } else { None },
            parent_id: self.parent_reference(),
            description: if self.chance(40) {
                Some(self.any(&["d", " two\nlines ", "  ", "ß🎧"]).to_owned())
            } else {
                None
            },
            attributes: attributes(self.any(&ATTRIBUTES)),
            source,
            external_id,
            version: None,
        };
        if self.chance(6) {
            match self.below(4) {
                0 => {
                    input.name = bad_text(&mut self.rng, 100);
                    bad.insert("name".to_owned());
                }
                1 => {
                    input.slug = Some(self.any(&BAD_SLUGS).to_owned());
                    bad.insert("slug".to_owned());
                }
                2 => {
                    input.description = Some("a\0".to_owned());
                    input.source = Some("erp".to_owned());
                    input.external_id = None;
                    bad.extend(["description".to_owned(), "external_id".to_owned()]);
                }
                _ => {
                    input.attributes = attributes(&format!("{{\"a\": \"{}\"}}", "x".repeat(Attributes::MAX_BYTES)));
                    bad.insert("attributes".to_owned());
                }
            }
        }
        (input, bad)
    }

    /// Puts the input's values into `c`; says what holds it back.
    fn place_category(&self, c: &mut Category, input: &CategoryInput) -> Vec<Refusal> {
        let before = self.world.categories.get(&c.id).cloned();
        let parent = match &input.parent_id {
            None => None,
            Some(r) => match self.world.resolve(r) {
                Some(id) => Some(id),
                None => return vec![Refusal::field("parent_id")],
            },
        };
        if let (Some(p), Some(b)) = (parent, &before)
            && self.world.chain(p).contains(&b.id)
        {
            return vec![Refusal::Code(ErrorCode::CategoryCycle)];
        }
        let made = Slug::from_title(&input.name, "category");
        c.slug = match (&input.slug, &before) {
            (Some(s), _) => Slug::trusted(s.clone()),
            (None, Some(b)) if is_made_from(&b.slug, &made) => b.slug.clone(),
            (None, _) => made.first_free(&self.world.category_slugs()),
        };
        input.name.trim().clone_into(&mut c.name);
        c.parent_id = parent;
        c.description = trimmed(input.description.as_ref());
        c.attributes = input.attributes.clone();
        if let Some(x) = external(input.source.as_ref(), input.external_id.as_ref()) {
            c.external = Some(x);
        }
        let mut refusals = self.world.category_conflicts(c);
        let above = parent.map_or(0, |p| self.world.chain(p).len());
        let own = |id| self.world.chain(id).len();
        let under = before
            .as_ref()
            .map_or(0, |b| self.world.below(b.id).into_iter().map(|d| own(d) - own(b.id)).max().unwrap_or(0));
        if above + 1 + under > 32 && before.is_none_or(|b| b.parent_id != c.parent_id || b.slug != c.slug) {
            refusals.push(Refusal::field("parent_id"));
        }
        refusals
    }

    /// Compares what a write answered, and takes its revision over.
    fn category_answer(&mut self, got: &Category) -> Checked<()> {
        let mut want = self.world.category(got.id);
        want.revision = got.revision;
        same("the answer", got, &want)?;
        observe(&mut self.seen_categories, got.id.0, want, |c| c.revision)
    }

    async fn create_category(&mut self) -> Checked<()> {
        let (input, bad) = self.category_input();
        let actor = self.actor();
        self.begins("create category", &input);
        let mut want = Category {
            id: CategoryId(Uuid::nil()),
            name: String::new(),
            slug: Slug::trusted(String::new()),
            parent_id: None,
            path: String::new(),
            description: None,
            attributes: Attributes::default(),
            external: None,
            product_count: 0,
            subtree_product_count: 0,
            revision: 1,
            audit: Audit::created(self.now(), &actor),
        };
        let refusals = if bad.is_empty() { self.place_category(&mut want, &input) } else { vec![Refusal::Fields(bad)] };
        let answer = self.shop.categories().create(&input, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.is_new(got.id.0)?;
            want.id = got.id;
            self.world.categories.insert(got.id, want);
            self.category_answer(&got)?;
        }
        Ok(())
    }

    /// Ids rise.
    fn is_new(&self, id: Uuid) -> Checked<()> {
        let known = self.world.categories.contains_key(&CategoryId(id))
            || self.world.products.contains_key(&ProductId(id))
            || self.world.skus.contains_key(&SkuId(id));
        if known { Err(format!("{id} is an old id")) } else { Ok(()) }
    }

    async fn write_category(
        &mut self,
        kind: &'static str,
        id: CategoryId,
        input: CategoryInput,
        bad: BTreeSet<String>,
        call: impl AsyncFnOnce(&Shop, Read, &Actor) -> Result<Category>,
    ) -> Checked<()> {
        let actor = self.actor();
        let mut refusals = if bad.is_empty() { Vec::new() } else { vec![Refusal::Fields(bad)] };
        let mut want = None;
        let read = match self.world.live_category(id).cloned() {
            None => {
                refusals.push(Refusal::Code(ErrorCode::NotFound));
                Read::Version(1)
            }
            Some(before) => {
                let (read, stale) = self.version(before.audit.version);
                if refusals.is_empty() && stale.is_none() {
                    let mut after = before.clone();
                    refusals = self.place_category(&mut after, &input);
                    if after != before {
                        after.audit.edited(self.now(), &actor);
                    }
                    want = Some(after);
                }
                refusals.extend(stale);
                read
            }
        };
        self.begins(kind, (id, read, &input));
        let answer = call(&self.shop, read, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.categories.insert(id, want.unwrap());
            self.category_answer(&got)?;
        }
        Ok(())
    }

    async fn replace_category(&mut self) -> Checked<()> {
        let id = self.some_category();
        let (mut input, bad) = self.category_input();
        if let Some(c) = self.world.categories.get(&id)
            && self.rng.random_range(0..2) == 0
        {
            input.parent_id = c.parent_id.map(|p| p.to_string());
        }
        let sent = input.clone();
        self.write_category("replace category", id, input, bad, async move |shop, read, actor| {
            shop.categories().replace(id, read, &sent, actor).await
        })
        .await
    }

    /// The whole that a patch asks for: a slug that was made from the name follows the name.
    fn patched(&self, id: CategoryId, patch: &CategoryPatch) -> CategoryInput {
        let Some(before) = self.world.categories.get(&id) else { return CategoryInput::default() };
        let derived = is_made_from(&before.slug, &Slug::from_title(&before.name, "category"));
        let follows = patch.name.is_said() && !patch.slug.is_said() && derived;
        let mut input = CategoryInput {
            name: before.name.clone(),
            slug: if follows { None } else { Some(before.slug.to_string()) },
            parent_id: before.parent_id.map(|p| p.to_string()),
            description: before.description.clone(),
            attributes: before.attributes.clone(),
            ..CategoryInput::default()
        };
        if let Patch::Set(name) = &patch.name {
            input.name.clone_from(name);
        }
        patch.slug.clone().apply(&mut input.slug);
        patch.parent_id.clone().apply(&mut input.parent_id);
        patch.description.clone().apply(&mut input.description);
        match &patch.attributes {
            Patch::Keep => {}
            Patch::Clear => input.attributes = Attributes::default(),
            Patch::Set(a) => input.attributes.merge(a),
        }
        input
    }

    async fn patch_category(&mut self) -> Checked<()> {
        let id = self.some_category();
        let mut bad = BTreeSet::new();
        let mut patch = CategoryPatch::default();
        if self.chance(50) {
            patch.name = Patch::Set(self.word());
        }
        if self.chance(15) {
            patch.slug = if self.chance(40) { Patch::Clear } else { Patch::Set(self.any(&SLUGS).to_owned()) };
        }
        if self.chance(20) {
            patch.parent_id = self.parent_reference().map_or(Patch::Clear, Patch::Set);
        }
        if self.chance(30) {
            patch.description = if self.chance(30) { Patch::Clear } else { Patch::Set(self.word()) };
        }
        if self.chance(30) {
            let a = attributes(self.any(&ATTRIBUTES));
            patch.attributes = if self.chance(20) { Patch::Clear } else { Patch::Set(a) };
        }
        if self.chance(5) {
            if self.chance(50) {
                patch.name = Patch::Clear;
                bad.insert("name".to_owned());
            } else {
                patch.slug = Patch::Set(self.any(&BAD_SLUGS).to_owned());
                bad.insert("slug".to_owned());
            }
        }
        let input = self.patched(id, &patch);
        self.write_category("patch category", id, input, bad, async move |shop, read, actor| {
            shop.categories().patch(id, read, patch, actor).await
        })
        .await
    }

    async fn move_category(&mut self) -> Checked<()> {
        let id = self.some_category();
        let parent = self.parent_reference();
        let patch =
            CategoryPatch { parent_id: parent.clone().map_or(Patch::Clear, Patch::Set), ..CategoryPatch::default() };
        let input = self.patched(id, &patch);
        self.write_category("move category", id, input, BTreeSet::new(), async move |shop, read, actor| {
            shop.categories().move_to(id, read, parent, actor).await
        })
        .await
    }

    async fn delete_category(&mut self, mode: DeleteMode) -> Checked<()> {
        let force = mode == DeleteMode::Force;
        let used = |w: &World, id: CategoryId, all: bool| {
            w.categories.values().any(|c| c.parent_id == Some(id) && (all || c.audit.is_live()))
                || w.products.values().any(|(p, of)| of.contains(&id) && (all || p.audit.is_live()))
        };
        // Mostly one that can go.
        let free: Vec<CategoryId> = self
            .world
            .categories
            .values()
            .filter(|c| (force || c.audit.is_live()) && !used(&self.world, c.id, force))
            .map(|c| c.id)
            .collect();
        let chosen = if self.chance(70) { self.one_of(&free) } else { None };
        let id = match chosen {
            Some(id) => id,
            None if force => self.deleted_category(),
            None => self.some_category(),
        };
        let actor = self.actor();
        let found = self.world.categories.get(&id).filter(|c| force || c.audit.is_live()).cloned();
        let (read, refusals) = match &found {
            None => (Read::Version(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(c) => {
                let (read, stale) = self.version(c.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if refusals.is_empty() && used(&self.world, id, force) {
                    refusals.push(Refusal::Code(ErrorCode::CategoryNotEmpty));
                }
                (read, refusals)
            }
        };
        self.begins(if force { "force-delete category" } else { "delete category" }, (id, read));
        let answer = self.shop.categories().delete(id, read, mode, &actor).await;
        if self.judge(answer, &refusals)?.is_some() {
            let now = self.now();
            if force {
                self.world.categories.remove(&id);
                self.seen_categories.remove(&id.0);
                let gone = self.shop.categories().get_fresh(id, Deleted::Include).await;
                same("reading it", &gone.err().map(|e| e.code()), &Some(ErrorCode::NotFound))?;
            } else {
                self.world.categories.get_mut(&id).unwrap().audit.deleted(now, &actor);
                let got = read_ok(self.shop.categories().get_fresh(id, Deleted::Include).await)?;
                self.category_answer(&got)?;
            }
        }
        Ok(())
    }

    async fn restore_category(&mut self) -> Checked<()> {
        let id = self.deleted_category();
        let actor = self.actor();
        let (read, refusals) = match self.world.categories.get(&id).cloned() {
            None => (Read::Version(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(c) => {
                let (read, stale) = self.version(c.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                let orphan = c.parent_id.is_some_and(|p| self.world.live_category(p).is_none());
                if c.audit.is_live() || orphan {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    refusals = self.world.category_conflicts(&c);
                }
                (read, refusals)
            }
        };
        self.begins("restore category", (id, read));
        let answer = self.shop.categories().restore(id, read, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let now = self.now();
            self.world.categories.get_mut(&id).unwrap().audit.restored(now, &actor);
            self.category_answer(&got)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------ products

    fn sku_input(&mut self) -> SkuInput {
        let dimensions = DimensionsInput { width: decimal(1_050), height: decimal(0), depth: decimal(123_456_789) };
        let options = [("size", "M"), ("Größe", "ß"), ("色", "赤")];
        SkuInput {
            code: if self.chance(55) { Some(self.code()) } else { None },
            price: Some(self.price()),
            stock: if self.chance(70) { Some(self.rng.random_range(0..30)) } else { None },
            low_stock_threshold: if self.chance(40) { Some(self.rng.random_range(0..15)) } else { None },
            barcode: if self.chance(25) { Some(self.any(&["400", "400 ", "é-1", "🍵"]).to_owned()) } else { None },
            weight: if self.chance(30) { Some(decimal(self.rng.random_range(0..10_000))) } else { None },
            dimensions: if self.chance(20) { Some(dimensions) } else { None },
            ..SkuInput {
                option_values: options[..self.below(4)]
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                attributes: attributes(self.any(&ATTRIBUTES)),
                ..SkuInput::default()
            }
        }
    }

    fn price(&mut self) -> ExactDecimal {
        match self.below(12) {
            0 => decimal(0),
            1 => decimal(9_007_199_254_740_993),
            _ => decimal(self.rng.random_range(1..4_000)),
        }
    }

    fn category_references(&mut self) -> Vec<String> {
        let n = self.below(4);
        (0..n).map(|_| self.category_reference()).collect()
    }

    /// A whole product, flat or with `skus`, without external ids of its SKUs; and the faults in it.
    fn product_input(&mut self, flat: bool) -> (ProductInput, Vec<Refusal>) {
        let mut input = ProductInput { title: self.word(), ..ProductInput::default() };
        if self.chance(20) {
            input.slug = Some(self.any(&SLUGS).to_owned());
        }
        if self.chance(40) {
            input.description = Some(self.any(&["d", " two\nlines ", "  ", "ß🎧"]).to_owned());
        }
        if self.chance(60) {
            input.brand = Some(self.any(&BRANDS).to_owned());
        }
        input.status = self.any(&[
            ProductStatus::Active,
            ProductStatus::Active,
            ProductStatus::Active,
            ProductStatus::Draft,
            ProductStatus::Archived,
        ]);
        match self.below(5) {
            0 => {}
            1 => input.category = Some(self.category_reference()),
            _ => input.categories = Some(self.category_references()),
        }
        let n = self.below(4);
        input.tags = (0..n).map(|_| self.any(&TAGS).to_owned()).collect();
        let n = self.below(3);
        input.images = (0..n)
            .map(|i| ImageInput {
                url: format!("https://img.example/{i}.webp?x=é"),
                alt: if i == 0 { Some(" ß ".to_owned()) } else { None },
                primary: i == 1,
            })
            .collect();
        input.attributes = attributes(self.any(&ATTRIBUTES));
        if self.chance(40) {
            input.discount_percentage = Some(self.discount());
        }
        if self.chance(20) {
            input.warranty_information = Some("2 years ♻".to_owned());
            input.shipping_information = Some(" ".to_owned());
        }
        (input.source, input.external_id) = self.external_pair(8);
        if flat {
            let s = self.sku_input();
            input.price = s.price;
            input.stock = s.stock;
            input.sku = s.code;
            input.weight = s.weight;
            input.dimensions = s.dimensions;
            input.barcode = s.barcode;
            input.low_stock_threshold = s.low_stock_threshold;
        } else {
            let n = 1 + self.below(3);
            let mut seen = HashSet::new();
            let mut skus: Vec<SkuInput> = (0..n).map(|_| self.sku_input()).collect();
            skus.retain(|s| s.code.as_ref().is_none_or(|c| seen.insert(fold_key(c))));
            input.skus = Some(skus);
        }
        let refusals = if self.chance(6) { vec![self.spoil(&mut input)] } else { Vec::new() };
        (input, refusals)
    }

    fn discount(&mut self) -> ExactDecimal {
        let any = decimal(self.rng.random_range(0..10_001));
        self.any(&[decimal(0), decimal(10_000), decimal(1_250), any])
    }

    /// Puts one fault into an input.
    fn spoil(&mut self, input: &mut ProductInput) -> Refusal {
        let sku_field = |field: &str, flat: bool| if flat { field.to_owned() } else { format!("skus[0].{field}") };
        let flat = input.skus.is_none();
        let field = match self.below(12) {
            0 => {
                input.title = bad_text(&mut self.rng, 255);
                "title".to_owned()
            }
            1 => {
                input.slug = Some(self.any(&BAD_SLUGS).to_owned());
                "slug".to_owned()
            }
            2 => {
                input.brand = Some("🍵".repeat(101));
                "brand".to_owned()
            }
            3 => {
                input.tags = vec!["ok".to_owned(), bad_text(&mut self.rng, 50)];
                "tags[1]".to_owned()
            }
            4 => {
                input.images = vec![ImageInput { url: "ftp://img.example/a".to_owned(), alt: None, primary: false }];
                "images[0].url".to_owned()
            }
            5 => {
                input.discount_percentage = Some(self.any(&[decimal(10_001), decimal(-1)]));
                "discount_percentage".to_owned()
            }
            6 => {
                let price = self.any(&[decimal(-1), ExactDecimal(Decimal::new(9_999, 3))]);
                match &mut input.skus {
                    Some(skus) => skus[0].price = Some(price),
                    None => input.price = Some(price),
                }
                sku_field("price", flat)
            }
            7 => {
                match &mut input.skus {
                    Some(skus) => skus[0].stock = Some(-1),
                    None => input.stock = Some(-1),
                }
                sku_field("stock", flat)
            }
            8 => {
                input.categories = Some(Vec::new());
                input.category = Some("x".to_owned());
                "category".to_owned()
            }
            9 => {
                input.attributes = attributes("{\"a\": [\"\\u0000\"]}");
                "attributes".to_owned()
            }
            10 if flat => {
                input.sku = Some(bad_text(&mut self.rng, 100));
                "sku".to_owned()
            }
            10 => {
                let code = Some("same".to_owned());
                let twin = SkuInput { code: Some("ＳＡＭＥ".to_owned()), ..self.sku_input() };
                input.skus = Some(vec![SkuInput { code, ..self.sku_input() }, twin]);
                "skus[1].code".to_owned()
            }
            _ => {
                input.currency = Some("EUR".to_owned());
                return Refusal::Code(ErrorCode::CurrencyMismatch);
            }
        };
        Refusal::field(&field)
    }

    /// The categories that an input names, each once.
    fn resolve_all(&self, input: &ProductInput) -> std::result::Result<Vec<CategoryId>, Refusal> {
        let all: Vec<&String> = input.categories.iter().flatten().chain(&input.category).collect();
        let mut of: Vec<CategoryId> = Vec::new();
        let mut gone = BTreeSet::new();
        for (i, r) in all.into_iter().enumerate() {
            match self.world.resolve(r) {
                Some(id) if of.contains(&id) => {}
                Some(id) => of.push(id),
                None => drop(gone.insert(format!("categories[{i}]"))),
            }
        }
        if gone.is_empty() { Ok(of) } else { Err(Refusal::Fields(gone)) }
    }

    fn product_answer(&mut self, got: &Product) -> Checked<()> {
        let mut want = self.world.product(got.id);
        want.revision = got.revision;
        same("the answer", got, &want)?;
        observe(&mut self.seen_products, got.id.0, want, |p| p.revision)
    }

    fn moved(&mut self, sku: SkuId, delta: i64, reason: StockReason, reference: Option<String>, actor: &Actor) {
        if delta != 0 {
            let row = (delta, reason, reference, self.now(), actor.clone());
            self.world.ledger.entry(sku).or_default().push(row);
        }
    }

    async fn create_product(&mut self) -> Checked<()> {
        let flat = self.chance(45);
        let (mut input, mut refusals) = self.product_input(flat);
        if let Some(skus) = &mut input.skus
            && refusals.is_empty()
        {
            for s in skus {
                (s.source, s.external_id) = self.external_pair(4);
            }
        }
        let actor = self.actor();
        self.begins("create product", &input);
        let audit = Audit::created(self.now(), &actor);
        let nil = ProductId(Uuid::nil());
        let mut want = blank(nil, audit.clone());
        let mut of = Vec::new();
        let mut skus = Vec::new();
        if refusals.is_empty() {
            written_product(&mut want, &input);
            want.slug = match &input.slug {
                Some(s) => Slug::trusted(s.clone()),
                None => Slug::from_title(&input.title, "product").first_free(&self.world.product_slugs()),
            };
            match self.resolve_all(&input) {
                Ok(found) => of = found,
                Err(refusal) => refusals.push(refusal),
            }
            let inputs = input.skus.clone().unwrap_or_else(|| vec![flat_sku(&input)]);
            let mut taken: HashSet<String> = self.world.codes().into_keys().collect();
            taken.extend(inputs.iter().filter_map(|s| s.code.as_deref()).map(fold_key));
            for (i, s) in inputs.iter().enumerate() {
                let mut sku = blank_sku(SkuId(Uuid::from_u128(i as u128)), nil, i, audit.clone());
                written(&mut sku, s);
                sku.on_hand = s.stock.unwrap_or(0);
                if s.code.is_none() {
                    sku.code = want.slug.first_free(&taken).to_string();
                }
                taken.insert(fold_key(&sku.code));
                skus.push(sku);
            }
            refusals.extend(self.world.product_conflicts(&want));
            refusals.extend(self.world.sku_conflicts(&skus));
        }
        let answer = self.shop.products().create(&input, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.is_new(got.id.0)?;
            want.id = got.id;
            let reason = if want.external.is_some() { StockReason::Import } else { StockReason::Initial };
            self.world.products.insert(got.id, (want, of));
            same("its SKUs", &got.skus.len(), &skus.len())?;
            for (mut sku, got) in skus.into_iter().zip(&got.skus) {
                self.is_new(got.id.0)?;
                (sku.id, sku.product_id) = (got.id, got.product_id);
                self.moved(sku.id, sku.on_hand, reason, None, &actor);
                self.world.skus.insert(sku.id, sku);
            }
            self.product_answer(&got)?;
        }
        Ok(())
    }

    /// A whole write over a product that is there: `values` over `before`.
    /// `named`: the SKUs that it names.
    async fn write_product(
        &mut self,
        kind: &'static str,
        id: ProductId,
        input: ProductInput,
        named: Option<Vec<SkuInput>>,
        bad: Vec<Refusal>,
        call: impl AsyncFnOnce(&Shop, Read, &Actor) -> Result<Product>,
    ) -> Checked<()> {
        let actor = self.actor();
        let now = self.now();
        let mut refusals = bad;
        let before = self.world.products.get(&id).filter(|(p, _)| p.audit.is_live()).cloned();
        let Some((before, before_of)) = before else {
            refusals.push(Refusal::Code(ErrorCode::NotFound));
            self.begins(kind, (id, &input, &named));
            let answer = call(&self.shop, Read::Version(1), &actor).await;
            return self.judge(answer, &refusals).map(drop);
        };
        let (read, stale) = self.version(before.audit.version);
        let mut after = before.clone();
        let mut of = before_of.clone();
        // Kept, made and given up; made ones have no id yet.
        let mut plan = Plan::default();
        if refusals.is_empty() && stale.is_none() {
            written_product(&mut after, &input);
            let made = Slug::from_title(&input.title, "product");
            after.slug = match &input.slug {
                Some(s) => Slug::trusted(s.clone()),
                None if is_made_from(&before.slug, &made) => before.slug.clone(),
                None => made.first_free(&self.world.product_slugs()),
            };
            match self.resolve_all(&input) {
                Ok(found) => of = found,
                Err(refusal) => refusals.push(refusal),
            }
            refusals.extend(self.world.product_conflicts(&after));
            if let Some(named) = &named {
                plan = self.plan_skus(id, &after.slug, named, now, &actor);
                refusals.append(&mut plan.refusals);
            }
        }
        refusals.extend(stale);
        self.begins(kind, (id, read, &input, &named));
        let answer = call(&self.shop, read, &actor).await;
        let Some(got) = self.judge(answer, &refusals)? else { return Ok(()) };
        if named.is_some() {
            same("its SKUs", &got.skus.len(), &plan.skus.len())?;
        }
        let opening = if after.external.is_some() { StockReason::Import } else { StockReason::Initial };
        let mut changed = after != before || of != before_of || !plan.gone.is_empty();
        for gone in &plan.gone {
            self.world.skus.get_mut(gone).unwrap().audit.deleted(now, &actor);
        }
        for (i, mut sku) in plan.skus.into_iter().enumerate() {
            let old = self.world.skus.get(&sku.id).cloned();
            let stock = old.as_ref().map_or(0, |o| o.on_hand);
            let reason = if old.is_some() { StockReason::Adjustment } else { opening };
            match old {
                None => {
                    sku.id = got.skus[i].id;
                    self.is_new(sku.id.0)?;
                    changed = true;
                }
                Some(old) => {
                    changed |= sku != old;
                    // Stock alone moves no version.
                    if (Sku { on_hand: old.on_hand, ..sku.clone() }) != old {
                        sku.audit.edited(now, &actor);
                    }
                }
            }
            self.moved(sku.id, sku.on_hand - stock, reason, None, &actor);
            self.world.skus.insert(sku.id, sku);
        }
        if changed {
            after.audit.edited(now, &actor);
        }
        self.world.products.insert(id, (after, of));
        self.product_answer(&got)
    }

    /// Which SKUs a product has after a write that names them: by id, else by code; a nameless one is the only SKU.
    fn plan_skus(&self, id: ProductId, slug: &Slug, named: &[SkuInput], now: Timestamp, actor: &Actor) -> Plan {
        let mut plan = Plan::default();
        let before: Vec<Sku> = self.world.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        let mut left: BTreeMap<SkuId, &Sku> = before.iter().map(|s| (s.id, s)).collect();
        let mut foreign = BTreeSet::new();
        let mut current: Vec<Option<Sku>> = Vec::new();
        for (i, s) in named.iter().enumerate() {
            let by_code = |code: &String| before.iter().find(|b| fold_key(&b.code) == fold_key(code)).map(|b| b.id);
            let found = match (s.id, &s.code) {
                (Some(id), _) => {
                    if !left.contains_key(&id) {
                        foreign.insert(format!("skus[{i}].id"));
                    }
                    Some(id)
                }
                (None, Some(code)) => by_code(code),
                (None, None) if before.len() == 1 && named.len() == 1 => Some(before[0].id),
                (None, None) => None,
            };
            current.push(found.and_then(|id| left.remove(&id)).cloned());
        }
        if !foreign.is_empty() {
            plan.refusals.push(Refusal::Fields(foreign));
            return plan;
        }
        plan.gone = left.into_keys().collect();
        // What is said is claimed in order; what this write gives up for good is free, but not made up again.
        let codes = self.world.codes();
        let mut taken: HashSet<String> = codes.keys().cloned().collect();
        taken.extend(named.iter().filter_map(|s| s.code.as_deref()).map(fold_key));
        let said: HashSet<String> = named.iter().filter_map(|s| s.code.as_deref()).map(fold_key).collect();
        let mut owners: HashMap<String, Option<SkuId>> = codes
            .into_iter()
            .filter(|(code, owner)| said.contains(code) && !plan.gone.contains(owner))
            .map(|(code, owner)| (code, Some(owner)))
            .collect();
        for (position, (s, current)) in named.iter().zip(current).enumerate() {
            let holder = current.as_ref().map(|c| c.id);
            let stock = current.as_ref().map_or(0, |c| c.on_hand);
            let nobody = SkuId(Uuid::from_u128(position as u128));
            let is_new = current.is_none();
            let mut sku = current.unwrap_or_else(|| blank_sku(nobody, id, position, Audit::created(now, actor)));
            written(&mut sku, s);
            sku.position = position as i32;
            sku.on_hand = s.stock.unwrap_or(stock);
            if is_new && s.code.is_none() {
                sku.code = slug.first_free(&taken).to_string();
            } else if owners.get(&fold_key(&sku.code)).is_some_and(|owner| *owner != holder || holder.is_none()) {
                plan.refusals.push(Refusal::Duplicate("code"));
            }
            owners.insert(fold_key(&sku.code), holder);
            taken.insert(fold_key(&sku.code));
            plan.skus.push(sku);
        }
        plan
    }

    async fn replace_product(&mut self) -> Checked<()> {
        let id = self.some_product();
        let current: Vec<Sku> = self.world.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        let flat = self.chance(if current.len() == 1 { 60 } else { 10 });
        let (mut input, mut bad) = self.product_input(flat);
        if flat {
            if bad.is_empty() && current.len() > 1 {
                bad.push(Refusal::Code(ErrorCode::FlatWriteRefused));
            }
        } else if bad.is_empty()
            && let Some(mut skus) = input.skus.take()
        {
            self.name_some(&current, &mut skus);
            input.skus = Some(skus);
        }
        let live = self.world.products.get(&id).is_some_and(|(p, _)| p.audit.is_live());
        // Only what is there has too many SKUs.
        if !live {
            bad.retain(|r| *r != Refusal::Code(ErrorCode::FlatWriteRefused));
        }
        let named = Some(input.skus.clone().unwrap_or_else(|| vec![flat_sku(&input)]));
        let sent = input.clone();
        self.write_product("replace product", id, input, named, bad, async move |shop, read, actor| {
            shop.products().replace(id, read, &sent, actor).await
        })
        .await
    }

    /// Makes some of the inputs mean SKUs that are there, by id or by code; seldom one of another product.
    fn name_some(&mut self, current: &[Sku], skus: &mut [SkuInput]) {
        let mut at = 0;
        for old in current {
            if at >= skus.len() {
                break;
            }
            match self.below(5) {
                0 => {}
                1 => {
                    let free = skus.iter().all(|s| s.code.as_deref().map(fold_key) != Some(fold_key(&old.code)));
                    if free {
                        skus[at].code = Some(self.any(&[old.code.clone(), old.code.to_uppercase()]));
                        // Upper case is not always the same key.
                        let key = fold_key(skus[at].code.as_ref().unwrap());
                        if skus
                            .iter()
                            .enumerate()
                            .any(|(i, s)| i != at && s.code.as_deref().map(fold_key) == Some(key.clone()))
                        {
                            skus[at].code = None;
                        }
                    }
                    at += 1;
                }
                2 => {
                    skus[at] = SkuInput { id: Some(old.id), ..SkuInput::from(old) };
                    if skus
                        .iter()
                        .enumerate()
                        .any(|(i, s)| i != at && s.code.as_deref().map(fold_key) == Some(fold_key(&old.code)))
                    {
                        skus[at].code = None;
                    }
                    at += 1;
                }
                _ => {
                    skus[at].id = Some(old.id);
                    at += 1;
                }
            }
        }
        if self.chance(3) {
            skus[0].id = Some(self.some_sku());
        }
    }

    async fn patch_product(&mut self) -> Checked<()> {
        let id = self.some_product();
        let (source, mut bad) = self.product_input(true);
        let mut patch = ProductPatch::default();
        let before = self.world.products.get(&id).filter(|(p, _)| p.audit.is_live()).cloned();
        let live: Vec<Sku> = self.world.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        // A fault of the whole input is not always one of the parts that are patched.
        bad.clear();
        if self.chance(35) {
            patch.title = Patch::Set(self.word());
        }
        if self.chance(15) {
            patch.slug = if self.chance(50) { Patch::Clear } else { Patch::Set(self.any(&SLUGS).to_owned()) };
        }
        if self.chance(25) {
            patch.description = source.description.clone().map_or(Patch::Clear, Patch::Set);
        }
        if self.chance(25) {
            patch.brand = self.any(&[Patch::Clear, Patch::Set("Acme".to_owned()), Patch::Set("acmé".to_owned())]);
        }
        if self.chance(25) {
            patch.status = Patch::Set(source.status);
        }
        if self.chance(25) {
            let all = self.category_references();
            match self.below(4) {
                0 => patch.categories = Patch::Clear,
                1 => patch.category = Patch::Set(self.category_reference()),
                _ => patch.categories = Patch::Set(all),
            }
        }
        if self.chance(20) {
            patch.tags =
                self.any(&[Patch::Clear, Patch::Set(vec!["NEW".to_owned(), " new".to_owned(), "🎁".to_owned()])]);
        }
        if self.chance(30) {
            let a = attributes(self.any(&ATTRIBUTES));
            patch.attributes = if self.chance(20) { Patch::Clear } else { Patch::Set(a) };
        }
        if self.chance(25) {
            patch.discount_percentage = if self.chance(30) { Patch::Clear } else { Patch::Set(self.discount()) };
        }
        let mut named = None;
        let flat = self.chance(if live.len() == 1 { 50 } else { 6 });
        if flat {
            if self.chance(60) {
                patch.price = Patch::Set(self.price());
            }
            if self.chance(50) || !patch.price.is_said() {
                patch.stock = Patch::Set(self.rng.random_range(0..30));
            }
            if self.chance(25) {
                patch.sku = Patch::Set(self.code());
            }
            if self.chance(25) {
                patch.barcode = self.any(&[Patch::Clear, Patch::Set("400".to_owned())]);
            }
            if live.len() > 1 {
                bad.push(Refusal::Code(ErrorCode::FlatWriteRefused));
            } else if let [only] = &live[..] {
                let mut s = SkuInput::from(only);
                s.id = Some(only.id);
                patch.price.clone().apply(&mut s.price);
                patch.stock.clone().apply(&mut s.stock);
                patch.sku.clone().apply(&mut s.code);
                patch.barcode.clone().apply(&mut s.barcode);
                named = Some(vec![s]);
            }
        } else if self.chance(10) {
            let mut skus = vec![self.sku_input()];
            self.name_some(&live, &mut skus);
            patch.skus = Patch::Set(skus.clone());
            named = Some(skus);
        }
        if bad.is_empty() && self.chance(5) {
            bad.push(match self.below(4) {
                0 => {
                    patch.title = Patch::Clear;
                    Refusal::field("title")
                }
                1 => {
                    patch.slug = Patch::Set(self.any(&BAD_SLUGS).to_owned());
                    Refusal::field("slug")
                }
                2 => {
                    patch.discount_percentage = Patch::Set(decimal(10_001));
                    Refusal::field("discount_percentage")
                }
                _ => {
                    patch.skus = Patch::Clear;
                    (patch.price, patch.stock, patch.sku, patch.barcode) =
                        (Patch::Keep, Patch::Keep, Patch::Keep, Patch::Keep);
                    Refusal::field("skus")
                }
            });
        }
        // The whole that the patch asks for; a slug that is not patched stays.
        let mut input = ProductInput::default();
        if let Some((p, of)) = &before {
            input = ProductInput {
                categories: Some(of.iter().map(ToString::to_string).collect()),
                ..ProductInput::from(p)
            };
            if let Patch::Set(t) = &patch.title {
                input.title.clone_from(t);
            }
            patch.slug.clone().apply(&mut input.slug);
            patch.description.clone().apply(&mut input.description);
            patch.brand.clone().apply(&mut input.brand);
            if let Patch::Set(s) = patch.status {
                input.status = s;
            }
            patch.categories.clone().apply(&mut input.categories);
            if let Patch::Set(c) = &patch.category {
                input.categories = None;
                input.category = Some(c.clone());
            }
            match &patch.tags {
                Patch::Keep => {}
                Patch::Clear => input.tags.clear(),
                Patch::Set(t) => input.tags.clone_from(t),
            }
            match &patch.attributes {
                Patch::Keep => {}
                Patch::Clear => input.attributes = Attributes::default(),
                Patch::Set(a) => input.attributes.merge(a),
            }
            patch.discount_percentage.clone().apply(&mut input.discount_percentage);
        } else {
            // Whatever is wrong with it, there is nothing to patch.
            bad.retain(|r| matches!(r, Refusal::Fields(_)));
        }
        self.write_product("patch product", id, input, named, bad, async move |shop, read, actor| {
            shop.products().patch(id, read, patch, actor).await
        })
        .await
    }

    async fn delete_product(&mut self, mode: DeleteMode) -> Checked<()> {
        let force = mode == DeleteMode::Force;
        let id = if force { self.deleted_product() } else { self.some_product() };
        let actor = self.actor();
        let found = self.world.products.get(&id).filter(|(p, _)| force || p.audit.is_live());
        let (read, refusals) = match found.map(|(p, _)| p.audit.version) {
            None => (Read::Version(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(version) => {
                let (read, stale) = self.version(version);
                (read, stale.into_iter().collect())
            }
        };
        self.begins(if force { "force-delete product" } else { "delete product" }, (id, read));
        let answer = self.shop.products().delete(id, read, mode, &actor).await;
        if self.judge(answer, &refusals)?.is_none() {
            return Ok(());
        }
        let now = self.now();
        if force {
            self.world.products.remove(&id);
            self.seen_products.remove(&id.0);
            let skus: Vec<SkuId> = self.world.skus_of(id).iter().map(|s| s.id).collect();
            for sku in skus {
                self.world.skus.remove(&sku);
                self.world.ledger.remove(&sku);
            }
            let gone = self.shop.products().get_fresh(id, Deleted::Include).await;
            return same("reading it", &gone.err().map(|e| e.code()), &Some(ErrorCode::NotFound));
        }
        self.world.products.get_mut(&id).unwrap().0.audit.deleted(now, &actor);
        for s in self.world.skus.values_mut().filter(|s| s.product_id == id && s.audit.is_live()) {
            s.audit.deleted(now, &actor);
        }
        let got = read_ok(self.shop.products().get_fresh(id, Deleted::Include).await)?;
        self.product_answer(&got)
    }

    async fn restore_product(&mut self) -> Checked<()> {
        let id = self.deleted_product();
        let actor = self.actor();
        let mut with = Vec::new();
        let (read, refusals) = match self.world.products.get(&id).cloned() {
            None => (Read::Version(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some((p, of)) => {
                let (read, stale) = self.version(p.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if p.audit.is_live() {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    if of.iter().any(|c| self.world.live_category(*c).is_none()) {
                        refusals.push(Refusal::Code(ErrorCode::StateConflict));
                    }
                    with = self.world.listed_skus(&p);
                    refusals.extend(self.world.product_conflicts(&p));
                    refusals.extend(self.world.sku_conflicts(&with));
                }
                (read, refusals)
            }
        };
        self.begins("restore product", (id, read));
        let answer = self.shop.products().restore(id, read, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let now = self.now();
            self.world.products.get_mut(&id).unwrap().0.audit.restored(now, &actor);
            for s in with {
                self.world.skus.get_mut(&s.id).unwrap().audit.restored(now, &actor);
            }
            self.product_answer(&got)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------ SKUs

    fn sku_answer(&mut self, got: &Sku) -> Checked<()> {
        same("the answer", got, &self.world.skus[&got.id])
    }

    /// A fault in a SKU's input, sometimes.
    fn spoil_sku(&mut self, input: &mut SkuInput) -> Vec<Refusal> {
        if !self.chance(6) {
            return Vec::new();
        }
        let field = match self.below(4) {
            0 => {
                input.code = Some(bad_text(&mut self.rng, 100));
                "code"
            }
            1 => {
                input.price = Some(self.any(&[decimal(-1), ExactDecimal(Decimal::new(1, 5))]));
                "price"
            }
            2 => {
                input.stock = Some(self.any(&[-1, MAX_STOCK + 1]));
                "stock"
            }
            _ => {
                input.barcode = Some(bad_text(&mut self.rng, 100));
                "barcode"
            }
        };
        vec![Refusal::field(field)]
    }

    /// The product of a SKU was edited with it.
    async fn product_edited(&mut self, id: ProductId, actor: &Actor) -> Checked<()> {
        let now = self.now();
        self.world.products.get_mut(&id).unwrap().0.audit.edited(now, actor);
        let got = read_ok(self.shop.products().get_fresh(id, Deleted::Include).await)?;
        self.product_answer(&got)
    }

    async fn create_sku(&mut self) -> Checked<()> {
        let product = self.some_product();
        let mut input = self.sku_input();
        (input.source, input.external_id) = self.external_pair(5);
        let mut refusals = self.spoil_sku(&mut input);
        let actor = self.actor();
        self.begins("create SKU", (product, &input));
        let mut want = None;
        let found = self.world.products.get(&product).filter(|(p, _)| p.audit.is_live()).map(|(p, _)| p.clone());
        match found {
            _ if !refusals.is_empty() => {}
            None => refusals.push(Refusal::Code(ErrorCode::NotFound)),
            Some(p) => {
                let live: Vec<Sku> = self.world.skus_of(product).into_iter().filter(|s| s.audit.is_live()).collect();
                let position = live.iter().map(|s| s.position + 1).max().unwrap_or(0);
                let audit = Audit::created(self.now(), &actor);
                let mut sku = blank_sku(SkuId(Uuid::nil()), product, position as usize, audit);
                written(&mut sku, &input);
                sku.on_hand = input.stock.unwrap_or(0);
                if input.code.is_none() {
                    let taken: HashSet<String> = self.world.codes().into_keys().collect();
                    sku.code = p.slug.first_free(&taken).to_string();
                }
                refusals = self.world.sku_conflicts(std::slice::from_ref(&sku));
                want = Some((sku, p));
            }
        }
        let answer = self.shop.skus().create(product, &input, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let (mut sku, p) = want.unwrap();
            self.is_new(got.id.0)?;
            sku.id = got.id;
            let reason = if p.external.is_some() { StockReason::Import } else { StockReason::Initial };
            self.moved(sku.id, sku.on_hand, reason, None, &actor);
            self.world.skus.insert(sku.id, sku);
            self.sku_answer(&got)?;
            self.product_edited(product, &actor).await?;
        }
        Ok(())
    }

    async fn write_sku(
        &mut self,
        kind: &'static str,
        id: SkuId,
        input: SkuInput,
        bad: Vec<Refusal>,
        call: impl AsyncFnOnce(&Shop, Read, &Actor) -> Result<Sku>,
    ) -> Checked<()> {
        let actor = self.actor();
        let now = self.now();
        let mut refusals = bad;
        let mut want = None;
        let read = match self.world.skus.get(&id).filter(|s| s.audit.is_live()).cloned() {
            None => {
                refusals.push(Refusal::Code(ErrorCode::NotFound));
                Read::Version(1)
            }
            Some(before) => {
                let (read, stale) = self.version(before.audit.version);
                if refusals.is_empty() && stale.is_none() {
                    let mut after = before.clone();
                    written(&mut after, &input);
                    refusals = self.world.sku_conflicts(std::slice::from_ref(&after));
                    if after != before {
                        after.audit.edited(now, &actor);
                    }
                    after.on_hand = input.stock.unwrap_or(before.on_hand);
                    want = Some((before, after));
                }
                refusals.extend(stale);
                read
            }
        };
        self.begins(kind, (id, read, &input));
        let answer = call(&self.shop, read, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let (before, after) = want.unwrap();
            self.moved(id, after.on_hand - before.on_hand, StockReason::Adjustment, None, &actor);
            let (changed, product) = (after != before, after.product_id);
            self.world.skus.insert(id, after);
            self.sku_answer(&got)?;
            if changed {
                self.product_edited(product, &actor).await?;
            }
        }
        Ok(())
    }

    async fn replace_sku(&mut self) -> Checked<()> {
        let id = self.some_sku();
        let mut input = self.sku_input();
        (input.source, input.external_id) = self.external_pair(5);
        let bad = self.spoil_sku(&mut input);
        let sent = input.clone();
        self.write_sku("replace SKU", id, input, bad, async move |shop, read, actor| {
            shop.skus().replace(id, read, &sent, actor).await
        })
        .await
    }

    async fn patch_sku(&mut self) -> Checked<()> {
        let id = self.some_sku();
        let mut patch = SkuPatch::default();
        if self.chance(30) {
            patch.code = Patch::Set(self.code());
        }
        if self.chance(30) {
            let changes = [("size", Some("L")), ("Größe", None), ("new", Some("ß"))];
            let n = self.below(4);
            patch.option_values =
                Patch::Set(changes[..n].iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect());
        }
        if self.chance(25) {
            let a = attributes(self.any(&ATTRIBUTES));
            patch.attributes = if self.chance(20) { Patch::Clear } else { Patch::Set(a) };
        }
        if self.chance(40) {
            patch.price = Patch::Set(self.price());
        }
        if self.chance(40) {
            patch.stock = Patch::Set(self.rng.random_range(0..40));
        }
        if self.chance(25) {
            patch.low_stock_threshold = Patch::Set(self.rng.random_range(0..15));
        }
        if self.chance(20) {
            patch.barcode = self.any(&[Patch::Clear, Patch::Set("400".to_owned()), Patch::Set("é-1".to_owned())]);
        }
        if self.chance(20) {
            patch.weight = self.any(&[Patch::Clear, Patch::Set(decimal(250))]);
        }
        let mut bad = Vec::new();
        if self.chance(5) {
            if self.chance(50) {
                patch.price = Patch::Clear;
                bad.push(Refusal::field("price"));
            } else {
                patch.stock = Patch::Set(-1);
                bad.push(Refusal::field("stock"));
            }
        }
        let mut input = SkuInput::default();
        if let Some(s) = self.world.skus.get(&id) {
            input = SkuInput::from(s);
            input.id = None;
            patch.code.clone().apply(&mut input.code);
            if let Patch::Set(changes) = &patch.option_values {
                for (k, v) in changes {
                    match v {
                        Some(v) => drop(input.option_values.insert(k.clone(), v.clone())),
                        None => drop(input.option_values.remove(k)),
                    }
                }
            }
            match &patch.attributes {
                Patch::Keep => {}
                Patch::Clear => input.attributes = Attributes::default(),
                Patch::Set(a) => input.attributes.merge(a),
            }
            patch.price.clone().apply(&mut input.price);
            patch.stock.clone().apply(&mut input.stock);
            patch.low_stock_threshold.clone().apply(&mut input.low_stock_threshold);
            patch.barcode.clone().apply(&mut input.barcode);
            patch.weight.clone().apply(&mut input.weight);
        }
        self.write_sku("patch SKU", id, input, bad, async move |shop, read, actor| {
            shop.skus().patch(id, read, patch, actor).await
        })
        .await
    }

    async fn delete_sku(&mut self) -> Checked<()> {
        let force = self.chance(40);
        let mode = if force { DeleteMode::Force } else { DeleteMode::Soft };
        let id = if force && self.chance(60) { self.deleted_sku() } else { self.some_sku() };
        let actor = self.actor();
        let now = self.now();
        let found = self.world.skus.get(&id).cloned();
        let product_live = |p| self.world.products.get(&p).is_some_and(|(p, _)| p.audit.is_live());
        let (read, refusals) = match &found {
            Some(s) if product_live(s.product_id) && (force || s.audit.is_live()) => {
                let (read, stale) = self.version(s.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                let others = self.world.live_skus().filter(|o| o.product_id == s.product_id && o.id != id).count();
                if others == 0 {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                }
                (read, refusals)
            }
            _ => (Read::Version(1), vec![Refusal::Code(ErrorCode::NotFound)]),
        };
        self.begins(if force { "force-delete SKU" } else { "delete SKU" }, (id, read));
        let answer = self.shop.skus().delete(id, read, mode, &actor).await;
        if self.judge(answer, &refusals)?.is_none() {
            return Ok(());
        }
        let was = found.unwrap();
        if force {
            self.world.skus.remove(&id);
            self.world.ledger.remove(&id);
        } else {
            self.world.skus.get_mut(&id).unwrap().audit.deleted(now, &actor);
        }
        if was.audit.is_live() {
            self.product_edited(was.product_id, &actor).await?;
        }
        let got = self.shop.skus().get(id, Deleted::Include).await.ok();
        same("reading it", &got.as_ref(), &self.world.skus.get(&id))
    }

    async fn restore_sku(&mut self) -> Checked<()> {
        let id = self.deleted_sku();
        let actor = self.actor();
        let found = self.world.skus.get(&id).cloned();
        let (read, refusals) = match &found {
            None => (Read::Version(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(s) => {
                let (read, stale) = self.version(s.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                let product = self.world.products.get(&s.product_id).is_some_and(|(p, _)| p.audit.is_live());
                if s.audit.is_live() || !product {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    refusals = self.world.sku_conflicts(std::slice::from_ref(s));
                }
                (read, refusals)
            }
        };
        self.begins("restore SKU", (id, read));
        let answer = self.shop.skus().restore(id, read, &actor).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let now = self.now();
            let s = self.world.skus.get_mut(&id).unwrap();
            s.audit.restored(now, &actor);
            let product = s.product_id;
            self.sku_answer(&got)?;
            self.product_edited(product, &actor).await?;
        }
        Ok(())
    }

    async fn adjust(&mut self) -> Checked<()> {
        let id = self.some_sku();
        let actor = self.actor();
        let on_hand = self.world.skus.get(&id).map_or(0, |s| s.on_hand);
        let delta = match self.below(20) {
            0 => 0,
            1 => -on_hand - 1,
            2 => -MAX_STOCK - 1,
            3 => MAX_STOCK - on_hand + 1,
            4 if on_hand > 0 => -on_hand,
            _ => self.rng.random_range(-8..12),
        };
        let reason = self.any(&[
            StockReason::Adjustment,
            StockReason::Received,
            StockReason::Returned,
            StockReason::Damaged,
            StockReason::Import,
        ]);
        let reason = if self.chance(2) { StockReason::Initial } else { reason };
        let reference = match self.below(10) {
            0 => Some("PO-1 é🎧".to_owned()),
            1 if self.chance(20) => Some("x".repeat(256)),
            _ => None,
        };
        let mut bad = BTreeSet::new();
        if delta == 0 || delta.abs() > MAX_STOCK {
            bad.insert("delta".to_owned());
        }
        if reason == StockReason::Initial {
            bad.insert("reason".to_owned());
        }
        if reference.as_ref().is_some_and(|r| r.len() > 255) {
            bad.insert("reference".to_owned());
        }
        let live = self.world.skus.get(&id).filter(|s| s.audit.is_live()).cloned();
        let refusals = match &live {
            _ if !bad.is_empty() => vec![Refusal::Fields(bad)],
            None => vec![Refusal::Code(ErrorCode::NotFound)],
            Some(s) if s.on_hand + delta < 0 => vec![Refusal::Code(ErrorCode::InsufficientStock)],
            Some(s) if s.on_hand + delta > MAX_STOCK => vec![Refusal::field("delta")],
            Some(_) => Vec::new(),
        };
        let adjustment =
            StockAdjustment { sku_id: id, delta, reason, reference: reference.clone(), actor: actor.clone() };
        self.begins("adjust stock", &adjustment);
        let answer = self.shop.inventory().adjust(adjustment).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.skus.get_mut(&id).unwrap().on_hand += delta;
            let s = &self.world.skus[&id];
            let want = StockLevel {
                sku_id: id,
                product_id: s.product_id,
                on_hand: s.on_hand,
                reserved: 0,
                low_stock_threshold: s.low_stock_threshold,
                live: true,
            };
            same("the level", &got.level, &want)?;
            let product = s.product_id;
            let movement = StockMovement {
                id: got.movement.id,
                sku_id: id,
                delta,
                reason,
                reference: reference.clone(),
                created_at: self.now(),
                created_by: actor.clone(),
            };
            same("the movement", &got.movement, &movement)?;
            self.moved(id, delta, reason, reference, &actor);
            let got = read("the product", self.shop.products().get(product).await)?;
            self.product_answer(&got.value)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------ reads

    async fn read_product(&mut self) -> Checked<()> {
        let id = self.some_product();
        let live = self.world.products.get(&id).filter(|(p, _)| p.audit.is_live()).map(|(p, _)| p.clone());
        match self.below(4) {
            0 => {
                let slug = live.as_ref().map_or_else(|| self.any(&SLUGS).to_owned(), |p| p.slug.to_string());
                // A slug is compared bytewise.
                let slug = if self.chance(5) { slug.to_uppercase() } else { slug };
                self.begins("read product by slug", &slug);
                let found = self.world.live_products().find(|(p, _)| p.slug.as_str() == slug).map(|(p, _)| p.id);
                let answer = self.shop.products().get_by_slug(&slug).await.map(|l| Product::clone(&l.value));
                self.product_or_gone(answer, found)
            }
            1 => {
                let mut ids = vec![id];
                for _ in 0..self.below(6) {
                    ids.push(self.some_product());
                }
                self.begins("read products", &ids);
                let got = read("the read", self.shop.products().get_many(&ids).await)?;
                let here = |id: &ProductId| self.world.products.get(id).is_some_and(|(p, _)| p.audit.is_live());
                let want: Vec<ProductId> = ids.into_iter().filter(here).collect();
                same("the ids", &got.iter().map(|p| p.id).collect(), &want)?;
                for p in got {
                    self.product_answer(&p)?;
                }
                Ok(())
            }
            _ => {
                self.begins("read product", id);
                let answer = self.shop.products().get(id).await.map(|l| Product::clone(&l.value));
                self.product_or_gone(answer, live.map(|p| p.id))
            }
        }
    }

    fn product_or_gone(&mut self, answer: Result<Product>, found: Option<ProductId>) -> Checked<()> {
        let refusals = if found.is_some() { Vec::new() } else { vec![Refusal::Code(ErrorCode::NotFound)] };
        if let Some(got) = self.judge(answer, &refusals)? {
            same("the id", &Some(got.id), &found)?;
            self.product_answer(&got)?;
        }
        Ok(())
    }

    fn some_filter(&mut self) -> ProductFilter {
        let mut f = ProductFilter::default();
        if self.chance(40) {
            f.category = Some(self.some_category());
        }
        if self.chance(25) {
            f.min_price = Some(self.rng.random_range(0..3_000));
        }
        if self.chance(25) {
            f.max_price = Some(self.rng.random_range(0..4_500));
        }
        if self.chance(12) {
            f.brand = Some(self.any(&["acme", "ACMÉ", "ÄRGER", "茶庵", "nobody"]).to_owned());
        }
        if self.chance(12) {
            f.tag = Some(self.any(&TAGS).to_owned());
        }
        if self.chance(15) {
            f.availability = self.one_of(&AvailabilityStatus::ALL);
        }
        if self.chance(30) {
            f.status = self.one_of(&ProductStatus::ALL);
        }
        if self.chance(20) {
            f.deleted = Deleted::Include;
        }
        if self.chance(8) {
            let back = self.rng.random_range(0..500);
            f.updated_since = Some(self.now() - Duration::from_millis(back));
        }
        f
    }

    async fn list_products(&mut self) -> Checked<()> {
        let filter = self.some_filter();
        let sort = self.any(&ProductSort::ALL);
        let want = self.world.listed(&filter, sort);
        if self.chance(40) {
            let paging = Paging::Offset { offset: self.below(12) as u64, limit: 1 + self.below(9) as u32 };
            self.begins("list products", (&filter, sort, &paging));
            let query = ProductListQuery { filter, sort, paging: paging.clone() };
            let got = read("the list", self.shop.products().list(&query).await)?;
            let want_total = Total { count: want.len() as u64, exact: true };
            same("the total", &got.value.total, &Some(want_total))?;
            return self.page_of_products(&got.value.page, &want, &paging);
        }
        let limit = 1 + self.below(7) as u32;
        let pages = 1 + self.below(5);
        self.begins("walk products", (&filter, sort, limit, pages));
        let mut after = None;
        let mut walked = 0;
        for _ in 0..pages {
            let paging = Paging::Keyset { after: after.clone(), limit };
            let query = ProductListQuery { filter: filter.clone(), sort, paging };
            let got = read("the page", self.shop.products().list(&query).await)?;
            same("the total", &got.value.total, &None)?;
            let at = Paging::Offset { offset: walked, limit };
            self.page_of_products(&got.value.page, &want, &at)?;
            walked += u64::from(limit);
            // As a caller hands it back.
            after = match &got.value.page.next {
                None => return Ok(()),
                Some(k) => Some(read("the cursor", Keyset::decode(&k.encode(), sort.as_str()))?),
            };
        }
        Ok(())
    }

    fn page_of_products(&mut self, got: &Page<Product>, all: &[ProductId], paging: &Paging) -> Checked<()> {
        let Paging::Offset { offset, limit } = paging else { unreachable!() };
        let (from, limit) = ((*offset as usize).min(all.len()), *limit as usize);
        let want = &all[from..(from + limit).min(all.len())];
        same("the page", &got.items.iter().map(|p| p.id).collect::<Vec<_>>(), &want.to_vec())?;
        same("whether there is more", &got.next.is_some(), &(from + limit < all.len()))?;
        for p in &got.items {
            self.product_answer(p)?;
        }
        Ok(())
    }

    async fn narrow_products(&mut self) -> Checked<()> {
        let filter = self.some_filter();
        self.begins("narrow products", &filter);
        let got = read("the filters", self.shop.products().filters(&filter).await)?;
        same("the filters", &got, &self.world.filters(&filter))
    }

    async fn read_category(&mut self) -> Checked<()> {
        match self.below(4) {
            0 => {
                let reference = self.category_reference();
                self.begins("resolve category", &reference);
                let answer = self.shop.categories().resolve(&reference).await.map(|l| Category::clone(&l.value));
                let found = self.world.resolve(&reference);
                self.category_or_gone(answer, found)
            }
            1 => {
                self.begins("read tree", ());
                let got = read("the tree", self.shop.categories().tree().await)?;
                let mut want: Vec<(usize, String, CategoryId)> = self
                    .world
                    .live_categories()
                    .map(|c| (self.world.chain(c.id).len(), fold_key(&c.name), c.id))
                    .collect();
                want.sort();
                same(
                    "its order",
                    &got.value.iter().map(|c| c.id).collect(),
                    &want.iter().map(|w| w.2).collect::<Vec<_>>(),
                )?;
                for c in got.value.iter() {
                    self.category_answer(c)?;
                }
                Ok(())
            }
            2 => {
                let id = self.some_category();
                self.begins("read ancestors", id);
                let answer = self.shop.categories().ancestors(id).await;
                let refusals = match self.world.live_category(id) {
                    Some(_) => Vec::new(),
                    None => vec![Refusal::Code(ErrorCode::NotFound)],
                };
                if let Some(got) = self.judge(answer, &refusals)? {
                    let mut want = self.world.chain(id);
                    want.remove(0);
                    want.reverse();
                    same("the ancestors", &got.iter().map(|c| c.id).collect(), &want)?;
                }
                Ok(())
            }
            _ => {
                let id = self.some_category();
                self.begins("read category", id);
                let answer = self.shop.categories().get(id).await.map(|l| Category::clone(&l.value));
                let found = self.world.live_category(id).map(|c| c.id);
                self.category_or_gone(answer, found)
            }
        }
    }

    fn category_or_gone(&mut self, answer: Result<Category>, found: Option<CategoryId>) -> Checked<()> {
        let refusals = if found.is_some() { Vec::new() } else { vec![Refusal::Code(ErrorCode::NotFound)] };
        if let Some(got) = self.judge(answer, &refusals)? {
            same("the id", &Some(got.id), &found)?;
            self.category_answer(&got)?;
        }
        Ok(())
    }

    async fn list_categories(&mut self) -> Checked<()> {
        let parent = match self.below(3) {
            0 => None,
            1 => Some(None),
            _ => Some(Some(self.some_category())),
        };
        let deleted = if self.chance(30) { Deleted::Include } else { Deleted::Hide };
        let filter = CategoryFilter { parent, deleted };
        let mut want: Vec<(String, CategoryId)> = self
            .world
            .categories
            .values()
            .filter(|c| deleted == Deleted::Include || c.audit.is_live())
            .filter(|c| parent.is_none_or(|p| c.parent_id == p))
            .map(|c| (fold_key(&c.name), c.id))
            .collect();
        want.sort();
        let want: Vec<CategoryId> = want.into_iter().map(|w| w.1).collect();
        let limit = 1 + self.below(8);
        self.begins("list categories", (&filter, limit));
        let mut paging = Paging::Offset { offset: 0, limit: limit as u32 };
        let mut got = Vec::new();
        loop {
            let (page, total) = read("the page", self.shop.categories().list(&filter, &paging).await)?;
            if matches!(paging, Paging::Offset { .. }) {
                same("the total", &total, &Some(Total { count: want.len() as u64, exact: true }))?;
            }
            for c in &page.items {
                self.category_answer(c)?;
            }
            got.extend(page.items.iter().map(|c| c.id));
            match page.next {
                Some(k) if got.len() < 20 => paging = Paging::Keyset { after: Some(k), limit: limit as u32 },
                next => {
                    same("the list", &got, &want[..got.len().min(want.len())].to_vec())?;
                    return same("whether there is more", &next.is_some(), &(got.len() < want.len()));
                }
            }
        }
    }

    async fn read_sku(&mut self) -> Checked<()> {
        let id = self.some_sku();
        match self.below(3) {
            0 => {
                let known = self.world.skus.get(&id).map(|s| s.code.clone());
                let code = match known {
                    Some(code) => {
                        self.any(&[code.clone(), code.to_uppercase(), code.to_lowercase(), format!(" {code}")])
                    }
                    None => self.code(),
                };
                self.begins("read SKU by code", &code);
                let found = self.world.live_skus().find(|s| fold_key(&s.code) == fold_key(&code)).map(|s| s.id);
                let answer = self.shop.skus().get_by_code(&code).await;
                let refusals = if found.is_some() { Vec::new() } else { vec![Refusal::Code(ErrorCode::NotFound)] };
                if let Some(got) = self.judge(answer, &refusals)? {
                    same("the id", &Some(got.id), &found)?;
                    self.sku_answer(&got)?;
                }
                Ok(())
            }
            1 => {
                let barcode = self.any(&["400", "é-1", "e-1", "É-1", "🍵"]);
                self.begins("find SKUs by barcode", barcode);
                let got = read("the read", self.shop.skus().find_by_barcode(barcode).await)?;
                let want: Vec<Sku> =
                    self.world.live_skus().filter(|s| s.barcode.as_deref() == Some(barcode)).cloned().collect();
                same("the SKUs", &got, &want)
            }
            _ => {
                self.begins("read SKU", id);
                let got = self.shop.skus().get(id, Deleted::Include).await.ok();
                same("the SKU", &got.as_ref(), &self.world.skus.get(&id))
            }
        }
    }

    async fn read_ledger(&mut self) -> Checked<()> {
        let id = self.some_sku();
        self.begins("read ledger", id);
        if !self.world.skus.contains_key(&id) {
            let answer = self.shop.inventory().level(id).await;
            return self.judge(answer, &[Refusal::Code(ErrorCode::NotFound)]).map(drop);
        }
        let level = read("the level", self.shop.inventory().level(id).await)?;
        let s = &self.world.skus[&id];
        same("on hand", &(level.on_hand, level.live), &(s.on_hand, s.audit.is_live()))?;
        self.compare_ledger(id).await.map(drop)
    }

    /// Walks the ledger of a SKU; says its rows, newest first.
    async fn compare_ledger(&mut self, id: SkuId) -> Checked<Vec<StockMovement>> {
        let mut want = self.world.ledger.get(&id).cloned().unwrap_or_default();
        want.reverse();
        let offset = Paging::Offset { offset: 0, limit: 50 };
        let (mut page, total) = read("the ledger", self.shop.inventory().movements(id, &offset).await)?;
        same("the number of movements", &total, &Some(Total { count: want.len() as u64, exact: true }))?;
        let mut rows = page.items;
        while let Some(after) = page.next.take() {
            let paging = Paging::Keyset { after: Some(after), limit: 50 };
            let (next, _) = read("the ledger", self.shop.inventory().movements(id, &paging).await)?;
            rows.extend(next.items);
            page.next = next.next;
        }
        let got = rows
            .iter()
            .map(|m| (m.delta, m.reason, m.reference.clone(), m.created_at, m.created_by.clone()))
            .collect::<Vec<_>>();
        same("the ledger", &got, &want)?;
        same("the sum of the ledger", &got.iter().map(|r| r.0).sum(), &self.world.skus[&id].on_hand)?;
        Ok(rows)
    }

    /// All that is stored; `digest`: into the digest too, with the whole ledger.
    async fn compare_all(&mut self, digest: bool) -> Checked<()> {
        let filter = ProductFilter { deleted: Deleted::Include, ..ProductFilter::default() };
        let mut after = None;
        let mut ids = Vec::new();
        loop {
            let query = ProductListQuery {
                filter: filter.clone(),
                sort: ProductSort::CreatedAsc,
                paging: Paging::Keyset { after: after.clone(), limit: 100 },
            };
            let found = read("the products", self.shop.products().list(&query).await)?;
            for p in &found.value.page.items {
                if !self.world.products.contains_key(&p.id) {
                    return Err(format!("there is a product too many: {p:?}"));
                }
                self.product_answer(p)?;
                let got = read("its SKUs", self.shop.skus().of_product(p.id, Deleted::Include).await)?;
                same("its SKUs", &got, &self.world.skus_of(p.id))?;
                if digest {
                    (hash_of(p), hash_of(&got)).hash(&mut self.digest);
                }
                ids.push(p.id);
            }
            after.clone_from(&found.value.page.next);
            if after.is_none() {
                break;
            }
        }
        same("all products", &ids, &self.world.products.keys().copied().collect())?;

        let all = CategoryFilter { parent: None, deleted: Deleted::Include };
        let (page, _) = read("the categories", self.shop.categories().list(&all, &Paging::first(1_000)).await)?;
        for c in &page.items {
            if !self.world.categories.contains_key(&c.id) {
                return Err(format!("there is a category too many: {c:?}"));
            }
            self.category_answer(c)?;
            if digest {
                hash_of(c).hash(&mut self.digest);
            }
        }
        same("the number of categories", &page.items.len(), &self.world.categories.len())?;

        // R11, by the shop's own query and by the model's.
        same("imbalances", &read("imbalances", self.shop.inventory().imbalances().await)?, &Vec::new())?;
        if digest {
            let skus: Vec<SkuId> = self.world.skus.keys().copied().collect();
            for id in skus {
                let rows = self.compare_ledger(id).await?;
                hash_of(&rows).hash(&mut self.digest);
            }
        }
        Ok(())
    }
}

/// Calls that only read succeed.
fn read_ok<T>(answer: Result<T>) -> Checked<T> {
    read("reading it again", answer)
}

/// What a write does to the SKUs of a product.
#[derive(Debug, Default)]
struct Plan {
    refusals: Vec<Refusal>,
    /// As they are after it; new ones under a number in place of an id.
    skus: Vec<Sku>,
    /// Deleted by it.
    gone: BTreeSet<SkuId>,
}
