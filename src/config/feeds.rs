//! The file of feeds that `ECOM_FEEDS` names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ecom_core::catalog::{ColumnMap, Feed, ImportFormat, ImportKind, ImportOptions};
use ecom_core::{Error, FieldCode, Result, ValidationErrors};
use serde::Deserialize;

use super::sources::unreadable;

/// A feed of the file that `ECOM_FEEDS` names: a source that the shop polls, and imports when it has changed.
///
/// The file has a table `[[feed]]` for each. A feed has exactly one of `url`, `file` and `dummyjson`:
///
/// ```toml
/// [[feed]]
/// name = "erp"
/// url = "https://erp.example.com/products.csv.gz"
/// kind = "products"
/// interval = 300
/// source = "erp"
/// batch = 500
/// delay = 50
/// headers_from = { Authorization = "/run/secrets/erp" }
///
/// [feed.columns.columns]
/// "Item No." = "sku"
/// "Name" = "title"
/// "Net Price" = "price"
///
/// [[feed]]
/// name = "demo"
/// dummyjson = "https://dummyjson.com/products"
/// kind = "products"
/// interval = 3600
///
/// [[feed]]
/// name = "warehouse"
/// file = "/srv/export/customers.ndjson"
/// kind = "customers"
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FeedSettings {
    /// The name, which identifies the feed in all processes.
    pub name: String,
    /// A URL, which may contain a user and a password.
    pub url: Option<String>,
    /// The path of a file, which is imported again when it is replaced or written.
    pub file: Option<PathBuf>,
    /// The URL of an API whose pages are those of DummyJSON.
    pub dummyjson: Option<String>,
    /// The kind of the records: `products`, `categories`, `customers` or `carts`.
    pub kind: String,
    /// The time from the end of a poll to the next one, in seconds: 1 to 2,592,000 (30 days). Default 300.
    #[serde(default = "default_interval")]
    pub interval: u64,
    /// The system that the ids of the records belong to.
    pub source: Option<String>,
    /// The format: `json`, `ndjson`, `csv`, `shopify`, `woocommerce` or `dead_letters`; detected if absent.
    pub format: Option<String>,
    /// The column map of a CSV file.
    pub columns: Option<ColumnMap>,
    /// The number of records of a transaction, 1 to 10,000. Default: that of
    /// [`ImportOptions::batch`](ecom_core::catalog::ImportOptions::batch).
    pub batch: Option<usize>,
    /// The pause after each transaction, in milliseconds, at most 60,000. Default 0.
    #[serde(default)]
    pub delay: u64,
    /// Whether to create categories that products name and that do not exist. Default true.
    #[serde(default = "default_true")]
    pub create_categories: bool,
    /// The maximum number of bytes of the source, both as they are transferred and after decompression. Default 4 GiB.
    pub max_bytes: Option<u64>,
    /// The number of records of a page of `dummyjson`. Default 100.
    pub page: Option<u32>,
    /// Networks and addresses that `url` and `dummyjson` may lead to although they are not public, such as
    /// `10.1.0.0/16`.
    #[serde(default)]
    pub allow: Vec<String>,
    /// For each header of the requests of `url` and `dummyjson`, the path of a file that contains its value.
    #[serde(default)]
    pub headers_from: BTreeMap<String, PathBuf>,
}

fn default_interval() -> u64 {
    Feed::EVERY.as_secs()
}

fn default_true() -> bool {
    true
}

impl fmt::Debug for FeedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URLs can contain passwords.
        f.debug_struct("FeedSettings").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl FeedSettings {
    /// Reads the feeds of a TOML file. No message shows a value.
    pub(super) fn read(path: &str, errors: &mut ValidationErrors) -> Vec<Self> {
        const NAME: &str = "ECOM_FEEDS";
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                errors.push(NAME, FieldCode::ReferenceNotFound, unreadable(&e));
                return Vec::new();
            }
        };
        Self::parse(&text, errors)
    }

    fn parse(text: &str, errors: &mut ValidationErrors) -> Vec<Self> {
        const NAME: &str = "ECOM_FEEDS";
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            // The error of the parser shows the line, which may contain a secret.
            Err(e) => {
                let e: toml::de::Error = e;
                let line = e.span().map_or(0, |s| text[..s.start.min(text.len())].lines().count().max(1));
                let message = format!("must be valid TOML; the error is at or after line {line}");
                errors.push(NAME, FieldCode::Malformed, message);
                return Vec::new();
            }
        };
        let mut feeds = Vec::new();
        for (key, value) in table {
            let toml::Value::Array(items) = value else {
                let message = "must contain only tables `[[feed]]`";
                errors.push(format!("{NAME}: {key}"), FieldCode::Unknown, message);
                continue;
            };
            if key != "feed" {
                errors.push(format!("{NAME}: {key}"), FieldCode::Unknown, "must be `feed`");
                continue;
            }
            for (n, item) in items.into_iter().enumerate() {
                let name =
                    item.get("name").and_then(toml::Value::as_str).map_or_else(|| format!("{}", n + 1), str::to_owned);
                match item.try_into::<Self>() {
                    Ok(feed) => {
                        if let Err(Error::Validation(e)) = feed.feed().map(drop) {
                            errors.0.extend(e.0.into_iter().map(|mut e| {
                                e.field = format!("{NAME}: {name}.{}", e.field);
                                e
                            }));
                        }
                        feeds.push(feed);
                    }
                    Err(e) => {
                        // Other messages contain values.
                        let is_about_a_name =
                            ["unknown field", "missing field"].iter().any(|s| e.message().starts_with(s));
                        let message = if is_about_a_name { e.message() } else { "a value has the wrong type" };
                        errors.push(format!("{NAME}: {name}"), FieldCode::Malformed, message);
                    }
                }
            }
        }
        feeds
    }

    /// Returns the feed with its source.
    ///
    /// # Errors
    /// `Validation` if a setting is out of bounds, or if the feature `ingest` is not compiled in.
    pub(super) fn feed(&self) -> Result<Feed> {
        let mut errors = ValidationErrors::default();
        let kind = ImportKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind).unwrap_or_else(|| {
            errors.push("kind", FieldCode::Malformed, "must be `products`, `categories`, `customers` or `carts`");
            ImportKind::Products
        });
        let format = match (self.format.as_deref(), &self.columns) {
            (None, None) => None,
            (None | Some("csv"), Some(map)) => Some(ImportFormat::Csv(map.clone())),
            (Some("csv"), None) => Some(ImportFormat::Csv(ColumnMap::own())),
            (Some(_), Some(_)) => {
                errors.push("columns", FieldCode::Inconsistent, "must be absent unless the format is `csv`");
                None
            }
            (Some("json"), None) => Some(ImportFormat::Json),
            (Some("ndjson"), None) => Some(ImportFormat::NdJson),
            (Some("shopify"), None) => Some(ImportFormat::Shopify),
            (Some("woocommerce"), None) => Some(ImportFormat::WooCommerce),
            (Some("dead_letters"), None) => Some(ImportFormat::DeadLetters),
            (Some(_), None) => {
                let message = "must be `json`, `ndjson`, `csv`, `shopify`, `woocommerce` or `dead_letters`";
                errors.push("format", FieldCode::Malformed, message);
                None
            }
        };
        let (settings, limit) = (self.clone(), self.max_bytes);
        let options = move || {
            let mut options = ImportOptions::default()
                .create_categories(settings.create_categories)
                .delay(std::time::Duration::from_millis(settings.delay));
            options.source.clone_from(&settings.source);
            options.format.clone_from(&format);
            options.batch = settings.batch;
            options.max_bytes = Some(limit.unwrap_or(4 << 30));
            options
        };
        let source = self.open(&mut errors)?;
        errors.into_result()?;
        let every = std::time::Duration::from_secs(self.interval);
        Ok(Feed::new(&self.name, kind, source).every(every).options(options))
    }

    #[cfg(not(feature = "ingest"))]
    #[expect(clippy::unused_self, reason = "it has the form of the one with the feature")]
    fn open(&self, _: &mut ValidationErrors) -> Result<std::sync::Arc<dyn ecom_core::port::ImportFeed>> {
        let message = "needs the feature `ingest`, which is not compiled in";
        Err(Error::invalid("feed", FieldCode::Inconsistent, message))
    }

    #[cfg(feature = "ingest")]
    fn open(&self, errors: &mut ValidationErrors) -> Result<std::sync::Arc<dyn ecom_core::port::ImportFeed>> {
        use std::sync::Arc;

        use ecom_ingest::{DummyJsonFeed, FileFeed, HttpFeed, HttpFeedOptions};
        use ecom_outbound::OutboundOptions;

        let http = || {
            let mut outbound = OutboundOptions::default();
            for network in &self.allow {
                outbound = outbound.allow(network)?;
            }
            let mut options = HttpFeedOptions::default().outbound(outbound);
            options.max_bytes = self.max_bytes.unwrap_or(options.max_bytes);
            for (name, path) in &self.headers_from {
                let value = std::fs::read_to_string(path)
                    .map_err(|e| Error::invalid("headers_from", FieldCode::ReferenceNotFound, unreadable(&e)))?;
                options = options.header(name, value.trim())?;
            }
            Ok::<_, Error>(options)
        };
        match (&self.url, &self.file, &self.dummyjson) {
            (Some(url), None, None) => Ok(Arc::new(HttpFeed::new(url, http()?)?)),
            (None, Some(path), None) => Ok(Arc::new(FileFeed::new(path))),
            (None, None, Some(url)) => {
                let feed = DummyJsonFeed::new(url, http()?)?;
                Ok(Arc::new(match self.page {
                    Some(page) => feed.page(page),
                    None => feed,
                }))
            }
            _ => {
                let message = "must be set if `file` and `dummyjson` are not, and absent otherwise";
                errors.push("url", FieldCode::Inconsistent, message);
                Err(Error::Validation(std::mem::take(errors)))
            }
        }
    }
}

#[cfg(all(test, feature = "ingest"))]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<FeedSettings>, BTreeMap<String, String>) {
        let mut errors = ValidationErrors::default();
        let feeds = FeedSettings::parse(text, &mut errors);
        (feeds, errors.0.into_iter().map(|e| (e.field, e.message)).collect())
    }

    #[test]
    fn the_example_of_the_docs_is_read() {
        let docs = include_str!("feeds.rs");
        let example = docs.split("```toml").nth(1).unwrap().split("```").next().unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "Bearer secret-1\n").unwrap();
        let example = example.replace("///", "").replace("/run/secrets/erp", secret.path().to_str().unwrap());
        let (feeds, errors) = read(&example);
        assert_eq!(errors, BTreeMap::new());
        let built: Vec<Feed> = feeds.iter().map(|feed| feed.feed().unwrap()).collect();
        let shown = |feed: &Feed| (feed.name().to_owned(), feed.source().location(), feed.interval().as_secs());
        let expected = [
            ("erp", "https://erp.example.com/products.csv.gz", 300),
            ("demo", "https://dummyjson.com/products", 3_600),
            ("warehouse", "customers.ndjson", 300),
        ];
        let expected = expected.map(|(name, location, every)| (name.to_owned(), location.to_owned(), every));
        assert_eq!(built.iter().map(shown).collect::<Vec<_>>(), expected);
        assert!(!format!("{built:?} {feeds:?}").contains("secret-1"));
    }

    #[test]
    fn r17_each_bad_setting_is_named_and_no_message_shows_a_value() {
        let (_, errors) = read(
            r#"
            [[feed]]
            name = "a"
            url = "http://u:secret@10.0.0.1/x"
            kind = "products"
            [[feed]]
            name = "b"
            file = "x"
            url = "secret"
            kind = "secret"
            format = "secret"
            [[feed]]
            name = "c"
            file = "x"
            kind = "products"
            interval = "secret"
            [[feed]]
            name = "d"
            file = "x"
            kind = "products"
            intervall = 5
            [[feed]]
            url = "https://example.com/"
            [[feed]]
            name = "f"
            url = "https://example.com/"
            kind = "products"
            allow = ["secret"]
            "#,
        );
        let fields: Vec<&str> = errors.keys().map(String::as_str).collect();
        let expected = ["5", "a.url", "b.format", "b.kind", "b.url", "c", "d", "f.allow"];
        assert_eq!(fields, expected.map(|field| format!("ECOM_FEEDS: {field}")));
        assert!(!format!("{errors:?}").contains("secret"), "{errors:?}");
        assert!(errors["ECOM_FEEDS: d"].contains("intervall"), "{errors:?}");
        assert!(!read("[[feed]]\nname = \"secret").1["ECOM_FEEDS"].contains("secret"));
    }
}
