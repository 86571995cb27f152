//! The paged API of DummyJSON.

use std::io::Read as _;

use ecom_core::Result;
use ecom_core::catalog::FeedVersion;
use ecom_core::port::{FeedContent, FeedError, Fetched, ImportFeed};
use flate2::read::MultiGzDecoder;
use reqwest::Url;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::{HttpFeedOptions, HttpSource};
use crate::spool::Spool;

/// The largest page, after decompression.
const MAX_PAGE: usize = 32 << 20;
/// How often the source is read from its beginning if it changes while it is read.
const TRIES: u32 = 3;

/// An API with pages like those of [DummyJSON](https://dummyjson.com): `?limit=…&skip=…` returns an object with the
/// records in `products`, `users`, `customers`, `carts`, `categories` or `records`, and optionally with the number of
/// all records in `total`.
///
/// All pages are read into a temporary file before the import, and the hash of their records is the version. If `total`
/// changes between two pages, records may have moved from one page to another, so the source is read from its beginning
/// again; if it has changed during three such reads, the call fails. A page without records is the last one.
#[derive(Debug, Clone)]
pub struct DummyJsonFeed {
    source: HttpSource,
    page: u32,
}

/// A page.
#[derive(Deserialize)]
struct Page {
    #[serde(alias = "products", alias = "users", alias = "customers", alias = "carts", alias = "categories")]
    records: Vec<Box<RawValue>>,
    #[serde(default)]
    total: Option<u64>,
}

impl DummyJsonFeed {
    /// Returns the feed of a URL such as `https://dummyjson.com/products`, with pages of 100 records. Nothing is called
    /// yet. [`HttpFeedOptions::max_bytes`] counts the records of all pages.
    ///
    /// # Errors
    /// `Validation` on field `url` if it is not a URL of `http` or `https` or contains an address that is refused,
    /// `Internal` if the HTTP client cannot be made.
    pub fn new(url: &str, options: HttpFeedOptions) -> Result<Self> {
        Ok(Self { source: HttpSource::new(url, options)?, page: 100 })
    }

    /// Sets the number of records to ask for in each page; 0 counts as 1. A server may return fewer.
    pub fn page(mut self, limit: u32) -> Self {
        self.page = limit.max(1);
        self
    }

    async fn page_at(&self, skip: u64) -> Result<Page, FeedError> {
        let mut url: Url = self.source.url.clone();
        let others: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != "limit" && name != "skip")
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair("limit", &self.page.to_string())
            .append_pair("skip", &skip.to_string());
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let response = self.source.call(&url, headers).await?;
        let mut body = self.source.body(response);
        let mut text = Vec::new();
        let too_large =
            || FeedError::new(format!("a page of the source is larger than {MAX_PAGE} bytes; ask for fewer records"));
        while let Some(part) = self.source.next(&mut body).await? {
            if text.len() + part.len() > MAX_PAGE {
                return Err(too_large());
            }
            text.extend_from_slice(&part);
        }
        if text.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            let limit = MAX_PAGE as u64 + 1;
            let read = MultiGzDecoder::new(text.as_slice()).take(limit).read_to_end(&mut plain);
            read.map_err(|e| FeedError::new("a page of the source is not valid gzip").source(e))?;
            if plain.len() > MAX_PAGE {
                return Err(too_large());
            }
            text = plain;
        }
        serde_json::from_slice(&text).map_err(|e| {
            let message = format!(
                "the page at skip={skip} is not an object with the records in `products`, `users`, `carts` or \
                 `categories`"
            );
            FeedError::new(message).source(e)
        })
    }

    /// Reads all pages. Returns `None` if the source has changed meanwhile.
    async fn read(&self) -> Result<Option<Spool>, FeedError> {
        let mut spool = Spool::new(self.source.options.max_bytes)?;
        let (mut skip, mut total, mut first): (u64, _, Option<String>) = (0, None, None);
        loop {
            let page = self.page_at(skip).await?;
            if skip == 0 {
                total = page.total;
            } else if page.total != total {
                tracing::debug!(skip, before = total, now = page.total, "a paged source changes while it is read");
                return Ok(None);
            }
            let Some(head) = page.records.first() else { break };
            // Such a source would never end.
            if first.as_ref().is_some_and(|first| first == head.get()) {
                let message = format!("the page at skip={skip} repeats the page before it: the source ignores `skip`");
                return Err(FeedError::new(message));
            }
            first = Some(head.get().to_owned());
            for record in &page.records {
                // Strings of JSON contain no line breaks, so these are between them.
                let mut line = record.get().replace(['\n', '\r'], " ");
                line.push('\n');
                spool.write(line.as_bytes()).await?;
            }
            skip += page.records.len() as u64;
            if total.is_some_and(|total| skip >= total) {
                break;
            }
        }
        if let Some(total) = total.filter(|total| skip < *total) {
            tracing::warn!(total, records = skip, "a paged source has fewer records than its total");
        }
        Ok(Some(spool))
    }
}

#[async_trait::async_trait]
impl ImportFeed for DummyJsonFeed {
    fn location(&self) -> String {
        self.source.location()
    }

    fn identity(&self) -> String {
        format!("dummyjson {}", self.source.url)
    }

    async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError> {
        for _ in 0..TRIES {
            let Some(spool) = self.read().await? else { continue };
            let (file, hash) = spool.end().await?;
            let version = FeedVersion::new(format!("sha256:{hash}"));
            if known.is_some() && known == version.as_ref() {
                return Ok(Fetched::Unchanged);
            }
            return Ok(Fetched::Changed(FeedContent::from_reader(version, file)));
        }
        Err(FeedError::new(format!("`total` has changed during each of {TRIES} reads of the pages of the source")))
    }
}
