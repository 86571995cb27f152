//! Searches over 100,000 products: through the shop, and by Tantivy itself over the same files, with the query, the
//! filter and the collectors that a plain program would use.
//!
//! The words of a round come again and again, as those of shoppers do, but no search is answered by the cache of
//! results. The products of the hits are in the cache.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::Shop;
use ecom::adapters::{MemoryCache, MemoryCacheOptions, SqlStorage, SqliteOptions, TantivyOptions, TantivySearch};
use ecom::catalog::{ProductInput, ProductStatus};
use ecom::id::CategoryId;
use ecom::port::SearchProvider as _;
use ecom::search::{Facet, SearchFilter, SearchQuery, SearchRequest, Synonyms};
use tantivy::collector::{Count, TopDocs};
use tantivy::columnar::Column;
use tantivy::query::{BooleanQuery, ConstScoreQuery, FuzzyTermQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Index, Searcher, SegmentReader, Term};

use crate::support::{input, median, pair, shop_of, usd};

const PRODUCTS: usize = 100_000;
/// How many words are searched for the first time in a turn.
const NEW_WORDS: usize = 500;
/// Each is the word of about 5,900 products.
const QUALITIES: [&str; 17] = [
    "compact",
    "classic",
    "foldable",
    "portable",
    "vintage",
    "modern",
    "rugged",
    "silent",
    "wireless",
    "ergonomic",
    "organic",
    "premium",
    "handmade",
    "slim",
    "durable",
    "insulated",
    "adjustable",
];
/// Each is the word of about 2,000 products.
const THINGS: [&str; 50] = [
    "lantern",
    "kettle",
    "backpack",
    "keyboard",
    "blanket",
    "speaker",
    "monitor",
    "toaster",
    "umbrella",
    "notebook",
    "wallet",
    "bottle",
    "cushion",
    "mattress",
    "curtain",
    "freezer",
    "headset",
    "hammer",
    "ladder",
    "mirror",
    "pillow",
    "printer",
    "scooter",
    "scissors",
    "sneaker",
    "stapler",
    "suitcase",
    "sweater",
    "tablet",
    "teapot",
    "thermometer",
    "toolbox",
    "tripod",
    "trousers",
    "vacuum",
    "wardrobe",
    "webcam",
    "whistle",
    "wrench",
    "zipper",
    "armchair",
    "bookshelf",
    "candle",
    "dresser",
    "earphones",
    "flashlight",
    "griddle",
    "hairdryer",
    "jacket",
    "kayak",
];
/// Each rare word is that of 25 products.
const RARE: usize = PRODUCTS / 25;

/// Returns the rare word of a number: six syllables, of which the last checks the others, so that no word is another one
/// with two letters mistyped.
fn rare(n: usize) -> String {
    const SYLLABLES: [&str; 6] = ["ba", "ke", "li", "mo", "nu", "dy"];
    let spread = n * 2_657 % 7_776;
    let mut digits: Vec<usize> = (0..5).map(|place| spread / 6usize.pow(place) % 6).collect();
    digits.push(digits.iter().sum::<usize>() % 6);
    digits.into_iter().map(|digit| SYLLABLES[digit]).collect()
}

/// Returns a product whose title has a word of each kind.
fn product(i: usize, category: CategoryId) -> ProductInput {
    // The words are spread without a random source, so that every run measures the same.
    let spread = |n: usize, of: usize| (i.wrapping_mul(n) >> 7) % of;
    let (quality, thing) = (QUALITIES[spread(48_271, 17)], THINGS[spread(69_621, 50)]);
    let title = format!("{quality} {thing} {} {i}", rare(i * 7_919 % RARE));
    ProductInput { title, ..input(i, category) }
}

/// Tantivy over the files of the index.
struct Raw {
    searcher: Searcher,
    stems: Vec<Field>,
    words: Vec<Field>,
    status: Field,
    /// The halves of the ids, by segment.
    ids: Vec<[Column<u64>; 2]>,
}

impl Raw {
    fn open(directory: &Path) -> Self {
        let generation = std::fs::read_dir(directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.join("meta.json").exists())
            .expect("a generation");
        let searcher = Index::open_in_dir(generation).expect("an index").reader().expect("a reader").searcher();
        let schema = searcher.schema().clone();
        let all = |kind: &str| {
            let names = ["title", "brand", "tags", "category_names", "description"];
            names.map(|name| schema.get_field(&format!("{name}_{kind}")).expect("a field")).to_vec()
        };
        let id =
            |segment: &SegmentReader| ["id_high", "id_low"].map(|c| segment.fast_fields().u64(c).expect("a column"));
        let ids = searcher.segment_readers().iter().map(id).collect();
        let status = schema.get_field("status").expect("a field");
        Self { stems: all("stems"), words: all("words"), status, ids, searcher }
    }

    /// Returns how many active products have all words, after a search for the ids of the best 20.
    fn search(&self, words: &[String], distance: u8) -> usize {
        let term = |term| -> Box<dyn Query> { Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs)) };
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for word in words {
            let fields: Vec<Box<dyn Query>> = if distance == 0 {
                self.stems.iter().map(|field| term(Term::from_field_text(*field, word))).collect()
            } else {
                let fuzzy = |field: &Field| -> Box<dyn Query> {
                    Box::new(FuzzyTermQuery::new(Term::from_field_text(*field, word), distance, true))
                };
                self.words.iter().map(fuzzy).collect()
            };
            clauses.push((Occur::Must, Box::new(BooleanQuery::union(fields))));
        }
        let active = TermQuery::new(Term::from_field_u64(self.status, 1), IndexRecordOption::Basic);
        clauses.push((Occur::Must, Box::new(ConstScoreQuery::new(Box::new(active), 0.0))));
        let collectors = (TopDocs::with_limit(20).order_by_score(), Count);
        let (top, count) = self.searcher.search(&BooleanQuery::new(clauses), &collectors).expect("results");
        for (_, at) in top {
            std::hint::black_box(self.ids[at.segment_ord as usize].each_ref().map(|column| column.first(at.doc_id)));
        }
        count
    }
}

/// The searches of a shop that are made in turn, none of which the cache can answer.
struct Searches<'a> {
    shop: &'a Shop,
    texts: Vec<String>,
    facets: Vec<Facet>,
    turn: Cell<i64>,
}

impl<'a> Searches<'a> {
    fn new(shop: &'a Shop, texts: Vec<String>, facets: &[Facet]) -> Self {
        Self { shop, texts, facets: facets.to_vec(), turn: Cell::new(0) }
    }

    async fn run(&self, n: usize) -> (u64, Duration) {
        let mut took = Duration::ZERO;
        for i in 0..n {
            let turn = self.turn.replace(self.turn.get() + 1);
            let mut query = SearchQuery {
                text: self.texts[i % self.texts.len()].clone(),
                limit: 20,
                facets: self.facets.clone(),
                ..SearchQuery::default()
            };
            // They belong to the key of a cached result. Without the facet of prices, nothing else reads them.
            query.price_bounds = vec![turn, 10_000_000, 20_000_000];
            let start = Instant::now();
            let page = self.shop.search().search(&query).await.expect("results");
            took += start.elapsed();
            assert!(!page.hit && !page.products.is_empty());
        }
        (n as u64, took)
    }
}

pub async fn run() {
    println!("search: 100,000 products, Tantivy in a directory");
    let dir = tempfile::tempdir().expect("a folder");
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).expect("a database");
    let cache = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
    let index = dir.path().join("index");
    let b = shop_of(storage, cache, TantivyOptions::directory(&index), PRODUCTS, dir, product).await;
    let start = Instant::now();
    let built = b.shop.index().rebuild().await.expect("an index");
    println!("rebuild: {} documents in {:.1?}", built.written, start.elapsed());
    let start = Instant::now();
    let followed = b.shop.index().catch_up().await.expect("in step");
    println!("following {} events: {:.1?}", followed.events, start.elapsed());
    measure(&b.shop, &index).await;
}

/// Measures the searches of a shop whose index is in a directory.
async fn measure(shop: &Shop, index: &Path) {
    let raw = Raw::open(index);
    let segments: Vec<u32> = raw.searcher.segment_readers().iter().map(SegmentReader::max_doc).collect();
    println!("segments: {segments:?}, {} bytes", raw.searcher.space_usage().expect("files").total().get_bytes());
    let engine = TantivySearch::open(TantivyOptions::directory(index)).await.expect("an index");
    against_raw(shop, &engine, &raw).await;
    times(shop).await;
}

async fn against_raw(shop: &Shop, engine: &TantivySearch, raw: &Raw) {
    let stem = |word: &str| ecom::search::Language::English.stem(word);
    let mistyped = |word: &&str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.swap(3, 4);
        letters.into_iter().collect::<String>()
    };
    let common: Vec<String> = QUALITIES.iter().map(|w| (*w).to_owned()).collect();
    let rares: Vec<String> = (0..200).map(|n| rare(n * 19)).collect();
    let two: Vec<String> = QUALITIES.iter().zip(THINGS).map(|(a, b)| format!("{a} {b}")).collect();
    // Words of fewer than eight letters may differ by one edit, which is also the limit of the query on Tantivy.
    let typos: Vec<String> = THINGS.iter().filter(|w| w.len() < 8).map(mistyped).collect();
    for (what, texts, distance, n) in [
        ("one common word", common, 0, 2_000),
        ("one rare word", rares, 0, 10_000),
        ("two words", two, 0, 2_000),
        ("a typo", typos, 1, 2_000),
    ] {
        let words = |text: &String| -> Vec<String> {
            text.split(' ').map(|w| if distance == 0 { stem(w) } else { w.to_owned() }).collect()
        };
        let queries: Vec<Vec<String>> = texts.iter().map(words).collect();
        let baseline = async || {
            let start = Instant::now();
            for i in 0..n {
                assert!(raw.search(&queries[i % queries.len()], distance) > 0);
            }
            (n as u64, start.elapsed())
        };
        let plain = Searches::new(shop, texts.clone(), &[]);
        pair(&format!("{what}, against Tantivy"), "0.5", 5, async || plain.run(n).await, baseline).await;
        let alone = async || engine_alone(engine, &texts, n).await;
        pair(&format!("{what}, the engine without the shop, against Tantivy"), "none", 3, alone, baseline).await;
        let faceted = Searches::new(shop, texts.clone(), &Facet::ALL);
        let (a, b) = (async || faceted.run(n / 4).await, async || plain.run(n / 4).await);
        pair(&format!("{what}, all facets, against none"), "0.25", 5, a, b).await;
    }
    for (what, distance) in [("rare words for the first time", 0), ("typos for the first time", 2)] {
        let mut words: Vec<String> = (0..RARE).map(rare).collect();
        if distance > 0 {
            words = words.iter().map(|word| word.replacen('a', "e", 2)).collect();
        }
        let place = Cell::new(0);
        let ours = async || {
            let from = place.replace((place.get() + NEW_WORDS) % RARE);
            engine_alone(engine, &words[from..from + NEW_WORDS], NEW_WORDS).await
        };
        let baseline = async || {
            let start = Instant::now();
            for word in &words[place.get()..place.get() + NEW_WORDS] {
                raw.search(std::slice::from_ref(word), distance);
            }
            (NEW_WORDS as u64, start.elapsed())
        };
        pair(&format!("{what}, the engine without the shop, against Tantivy"), "none", 5, ours, baseline).await;
    }
}

/// Searches in the index, without the products of the hits.
async fn engine_alone(engine: &TantivySearch, texts: &[String], n: usize) -> (u64, Duration) {
    let synonyms = Synonyms::default();
    let filter = SearchFilter { status: Some(ProductStatus::Active), ..SearchFilter::default() };
    let start = Instant::now();
    for i in 0..n {
        let text = texts[i % texts.len()].clone();
        let query = SearchQuery { text, filter: filter.clone(), limit: 20, ..SearchQuery::default() };
        let request = SearchRequest::new(query, &synonyms).expect("a request");
        std::hint::black_box(engine.search(&request).await.expect("results"));
    }
    (n as u64, start.elapsed())
}

/// Prints the times of other searches.
async fn times(shop: &Shop) {
    let all = |text: &str| SearchQuery {
        text: text.to_owned(),
        limit: 20,
        facets: Facet::ALL.to_vec(),
        ..SearchQuery::default()
    };
    let narrow =
        SearchFilter { brands: vec!["brand 3".to_owned()], max_price: Some(usd(30_000)), ..SearchFilter::default() };
    for (what, query) in [
        ("everything, all facets", all("")),
        ("all match, all facets", all("measured")),
        ("filtered, all facets", SearchQuery { filter: narrow, ..all("measured") }),
        ("a typo, all facets", all("mesaured prodcut")),
        ("two words, of which few have both, no facets", SearchQuery { facets: Vec::new(), ..all("measured 4711") }),
        ("deep page", SearchQuery { facets: Vec::new(), offset: 9_000, ..all("measured") }),
    ] {
        let mut times = Vec::new();
        let mut total = 0;
        for turn in 0..11 {
            let query = SearchQuery { price_bounds: vec![turn, 10_000, 20_000], ..query.clone() };
            let start = Instant::now();
            total = shop.search().search(&query).await.expect("results").total.count;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        println!("{what}: {total} match, {:.2} ms", median(&mut times));
    }
}
