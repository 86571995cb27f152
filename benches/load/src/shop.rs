//! Reads the shop over its API, apart from the load: its state before and after.

use std::error::Error;
use std::time::Duration;

use serde_json::Value;

use crate::ledger::{Findings, Ledger, Movement};

/// The result of a call that can fail for any reason.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The path of the API.
pub const API: &str = "/api/v1";
/// The number of SKUs that are adjusted. Their ledgers are read at the end.
const SKUS: usize = 200;

/// A product as users know it.
#[derive(Clone, Debug)]
pub struct Product {
    /// The id of the product.
    pub id: String,
    /// The slug of the product.
    pub slug: String,
}

/// The data that users choose from.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// All products.
    pub products: Vec<Product>,
    /// Slugs of categories that have products.
    pub categories: Vec<String>,
    /// Words, each of which occurs in the title of a product.
    pub words: Vec<String>,
    /// Ids of SKUs to adjust.
    pub skus: Vec<String>,
}

/// A client of the API.
#[derive(Clone, Debug)]
pub struct Shop {
    client: reqwest::Client,
    host: String,
}

/// Returns a text in a JSON value.
pub fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("an answer has no text at {pointer}").into())
}

/// Returns a whole number in a JSON value.
pub fn number(value: &Value, pointer: &str) -> Result<i64> {
    value.pointer(pointer).and_then(Value::as_i64).ok_or_else(|| format!("an answer has no number at {pointer}").into())
}

/// Returns the rows of a list.
pub fn rows(value: &Value) -> Result<&[Value]> {
    Ok(value.pointer("/data").and_then(Value::as_array).ok_or("an answer has no list at /data")?)
}

impl Shop {
    /// Creates a client of the server at `http://host:port`.
    ///
    /// # Errors
    /// If no client can be created.
    pub fn new(host: &str) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(40)).build()?;
        Ok(Self { client, host: host.trim_end_matches('/').to_owned() })
    }

    /// Reads a path of the server. Temporary failures are retried for a minute, so that the comparison has a result
    /// even after a load under which something failed.
    async fn get(&self, path: &str) -> Result<Value> {
        let mut tries = 0;
        loop {
            let failed = match self.client.get(format!("{}{path}", self.host)).send().await {
                Ok(answer) if answer.status() == 200 => return Ok(answer.json().await?),
                Ok(answer) if answer.status() == 503 => "503".to_owned(),
                Ok(answer) => return Err(format!("{path} answers {}", answer.status()).into()),
                Err(e) => e.to_string(),
            };
            tries += 1;
            if tries == 60 {
                return Err(format!("{path}: {failed}").into());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Reads every row of a list, page by page.
    async fn all(&self, first: String) -> Result<Vec<Value>> {
        let (mut found, mut next) = (Vec::new(), Some(first));
        while let Some(path) = next {
            let page = self.get(&path).await?;
            found.extend_from_slice(rows(&page)?);
            next = text(&page, "/links/next").ok().map(str::to_owned);
        }
        Ok(found)
    }

    /// Reads the catalog, and records the stock of the SKUs to adjust.
    ///
    /// # Errors
    /// If the server does not answer, or the shop is empty.
    pub async fn begin(&self, ledger: &Ledger) -> Result<Catalog> {
        let mut catalog = Catalog::default();
        for product in self.all(format!("{API}/products?per_page=100&cursor=")).await? {
            let (id, slug) = (text(&product, "/id")?.to_owned(), text(&product, "/slug")?.to_owned());
            ledger.begin_product(&id, number(&product, "/version")?);
            for category in product.pointer("/categories").and_then(Value::as_array).into_iter().flatten() {
                catalog.categories.push(text(category, "/slug")?.to_owned());
            }
            // Only words that are not stop words, and that the search does not split.
            let long = |w: &&str| w.len() >= 5 && w.bytes().all(|b| b.is_ascii_alphabetic());
            catalog.words.extend(text(&product, "/title")?.split(' ').filter(long).map(str::to_lowercase));
            if let Ok(sku) = text(&product, "/skus/0/id") {
                catalog.skus.push(sku.to_owned());
            }
            catalog.products.push(Product { id, slug });
        }
        for list in [&mut catalog.categories, &mut catalog.words] {
            list.sort_unstable();
            list.dedup();
        }
        // The SKUs are spread over the catalog, and are the same in every run.
        let step = catalog.skus.len().div_ceil(SKUS).max(1);
        catalog.skus = catalog.skus.into_iter().step_by(step).collect();
        for (what, there) in [
            ("products", catalog.products.len()),
            ("products in categories", catalog.categories.len()),
            ("products with SKUs", catalog.skus.len()),
            ("titles with words", catalog.words.len()),
        ] {
            if there == 0 {
                return Err(format!("the shop has no {what}: start the server with its sample").into());
            }
        }
        for sku in &catalog.skus {
            let newest = self.get(&format!("{API}/skus/{sku}/stock/movements?per_page=1")).await?;
            let newest = text(&newest, "/data/0/id").ok().map(str::to_owned);
            ledger.begin_stock(sku, self.on_hand(sku).await?, newest);
        }
        Ok(catalog)
    }

    async fn on_hand(&self, sku: &str) -> Result<i64> {
        number(&self.get(&format!("{API}/skus/{sku}/stock")).await?, "/data/on_hand")
    }

    /// Returns the movements of a SKU that came after `newest`.
    async fn movements(&self, sku: &str, newest: Option<&str>, run: &str) -> Result<Vec<Movement>> {
        let mut found = Vec::new();
        let mut next = Some(format!("{API}/skus/{sku}/stock/movements?per_page=100&cursor="));
        while let Some(path) = next {
            let page = self.get(&path).await?;
            for row in rows(&page)? {
                if Some(text(row, "/id")?) == newest {
                    return Ok(found);
                }
                let ours = text(row, "/reference").ok().and_then(|r| r.strip_prefix(run)?.parse().ok());
                found.push((ours, number(row, "/delta")?));
            }
            next = text(&page, "/links/next").ok().map(str::to_owned);
        }
        Ok(found)
    }

    /// Compares what the server acknowledged with its state now. `run` is the prefix of the references of this run.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn check(&self, ledger: &Ledger, run: &str) -> Result<Findings> {
        let mut findings = Findings::default();
        for (sku, told) in ledger.stocks() {
            let movements = self.movements(&sku, told.newest.as_deref(), run).await?;
            findings.stock(&sku, &told, &movements, self.on_hand(&sku).await?);
        }
        for (id, told) in ledger.products() {
            let product = self.get(&format!("{API}/products/{id}")).await?;
            findings.edits(&id, &told, number(&product, "/data/version")?);
        }
        Ok(findings)
    }
}
