//! Reads the shop over its API, apart from the load: its state before and after.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ledger::{Audit, Findings, Ledger, Lines, Movement, Newest, Placed};

/// The result of a call that can fail for any reason.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The time limit of the audit.
const AUDIT: Duration = Duration::from_secs(600);
/// The path of the API.
pub const API: &str = "/api/v1";
/// The number of SKUs that are sold. Their ledgers are read at the end.
const SKUS: usize = 200;
/// The pieces that most of these SKUs get at the start, so that they are not sold out.
const RECEIVED: i64 = 100_000;
/// The number of customers who order and write reviews.
const CUSTOMERS: usize = 200;

/// A product as users know it.
#[derive(Clone, Debug)]
pub struct Product {
    /// The id of the product.
    pub id: String,
    /// The slug of the product.
    pub slug: String,
}

/// A SKU that is sold.
#[derive(Clone, Debug)]
pub struct Sku {
    /// The id of the SKU.
    pub id: String,
    /// The price of a piece, as the shop writes it.
    pub price: String,
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
    /// SKUs to order.
    pub skus: Vec<Sku>,
    /// Ids of the customers of this run.
    pub customers: Vec<String>,
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

/// Returns an amount in the minor unit of its currency. The shop writes all digits of it.
pub fn minor(amount: &str) -> Result<i64> {
    Ok(amount.replace('.', "").parse()?)
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

    /// Posts JSON.
    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.client.post(format!("{}{path}", self.host)).json(body).send().await?;
        let status = answer.status();
        if status != 201 {
            return Err(format!("POST {path} answers {status}: {}", answer.text().await.unwrap_or_default()).into());
        }
        Ok(answer.json().await?)
    }

    /// Runs the audit of the server, if it has one.
    async fn audit(&self) -> Result<Audit> {
        let answer = self.client.post(format!("{}{API}/admin/audit", self.host)).timeout(AUDIT).send().await?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(Audit::Absent),
            status => return Err(format!("the audit answers {status}").into()),
        }
        let body: Value = answer.json().await?;
        if body
            .pointer("/data/clean")
            .and_then(Value::as_bool)
            .ok_or("the audit does not report whether all is well")?
        {
            return Ok(Audit::Clean);
        }
        let findings = body.pointer("/data/findings").and_then(Value::as_array);
        Ok(Audit::Findings(findings.into_iter().flatten().map(Value::to_string).collect()))
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

    /// Reads every row that is newer than `last` from a list whose newest rows come first.
    async fn newer(&self, list: &str, last: Option<&str>) -> Result<Vec<Value>> {
        let (mut found, mut next) = (Vec::new(), Some(format!("{API}{list}?per_page=100&cursor=")));
        while let Some(path) = next {
            let page = self.get(&path).await?;
            for row in rows(&page)? {
                if Some(text(row, "/id")?) == last {
                    return Ok(found);
                }
                found.push(row.clone());
            }
            next = text(&page, "/links/next").ok().map(str::to_owned);
        }
        Ok(found)
    }

    async fn newest(&self, list: &str) -> Result<Option<String>> {
        let page = self.get(&format!("{API}{list}?per_page=1")).await?;
        Ok(text(&page, "/data/0/id").ok().map(str::to_owned))
    }

    /// Reads the catalog, creates the customers of the run, receives stock, and records the state of the shop. `run` is
    /// the prefix of the references of this run.
    ///
    /// # Errors
    /// If the server does not answer, or the shop is empty.
    pub async fn begin(&self, ledger: &Ledger, run: &str) -> Result<Catalog> {
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
            if let (Ok(sku), "active") = (text(&product, "/skus/0/id"), text(&product, "/status")?) {
                let price = text(&product, "/skus/0/final_price")?.to_owned();
                catalog.skus.push(Sku { id: sku.to_owned(), price });
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
            ("active products with SKUs", catalog.skus.len()),
            ("titles with words", catalog.words.len()),
        ] {
            if there == 0 {
                return Err(format!("the shop has no {what}: start the server with its sample").into());
            }
        }
        for (i, sku) in catalog.skus.iter().enumerate() {
            let path = format!("{API}/skus/{}/stock", sku.id);
            // Every tenth keeps its stock, so that some orders are refused.
            if i % 10 != 9 {
                let body = json!({"delta": RECEIVED, "reason": "received", "reference": format!("{run}stock")});
                self.post(&path, &body).await?;
            }
            let newest = self.get(&format!("{path}/movements?per_page=1")).await?;
            let newest = text(&newest, "/data/0/id").ok().map(str::to_owned);
            ledger.begin_stock(&sku.id, self.on_hand(&sku.id).await?, newest);
        }
        for n in 0..CUSTOMERS {
            let email = format!("{run}{n}@example.com");
            let body = json!({"first_name": "Load", "last_name": format!("Tester {n}"), "email": email});
            let created = self.post(&format!("{API}/customers"), &body).await?;
            catalog.customers.push(text(&created, "/data/id")?.to_owned());
        }
        ledger.begin(Newest { order: self.newest("/orders").await?, review: self.newest("/reviews").await? });
        Ok(catalog)
    }

    async fn on_hand(&self, sku: &str) -> Result<i64> {
        number(&self.get(&format!("{API}/skus/{sku}/stock")).await?, "/data/on_hand")
    }

    /// Returns the movements of a SKU that came after `newest`.
    async fn movements(&self, sku: &str, newest: Option<&str>) -> Result<Vec<Movement>> {
        let rows = self.newer(&format!("/skus/{sku}/stock/movements"), newest).await?;
        let movement = |row: &Value| Ok((text(row, "/reference").ok().map(str::to_owned), number(row, "/delta")?));
        rows.iter().map(movement).collect()
    }

    /// Compares what the server acknowledged with its state now. `run` is the prefix of the references of this run.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn check(&self, ledger: &Ledger, run: &str) -> Result<Findings> {
        let mut findings = Findings::default();
        let newest = ledger.newest();
        let ours = |reference: &str| reference.strip_prefix(run)?.parse::<u64>().ok();

        let mut placed = Vec::new();
        for row in self.newer("/orders", newest.order.as_deref()).await? {
            let mut lines = Lines::new();
            for line in row.pointer("/lines").and_then(Value::as_array).ok_or("an order has no lines")? {
                *lines.entry(text(line, "/sku_id")?.to_owned()).or_default() += number(line, "/quantity")?;
            }
            let ours = text(&row, "/tracking").ok().and_then(ours);
            let (id, number) = (text(&row, "/id")?.to_owned(), text(&row, "/number")?.to_owned());
            placed.push(Placed { ours, id, number, lines });
        }
        findings.orders(&ledger.orders(), &placed);
        let mut written = Vec::new();
        for row in self.newer("/reviews", newest.review.as_deref()).await? {
            let number = text(&row, "/comment").ok().and_then(|c| ours(c.rsplit(' ').next()?));
            written.extend(
                number
                    .map(|n| Ok::<_, Box<dyn Error + Send + Sync>>((n, text(&row, "/id")?.to_owned())))
                    .transpose()?,
            );
        }
        findings.reviews(&ledger.reviews(), &written);

        let mut sold: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
        for order in placed.iter().filter(|o| o.ours.is_some()) {
            for (sku, quantity) in &order.lines {
                sold.entry(sku).or_default().insert(&order.number, *quantity);
            }
        }
        for (sku, told) in ledger.stocks() {
            let movements = self.movements(&sku, told.newest.as_deref()).await?;
            let sold = sold.remove(sku.as_str()).unwrap_or_default();
            findings.stock(&sku, &told, &sold, &movements, self.on_hand(&sku).await?);
        }
        for (id, told) in ledger.products() {
            let product = self.get(&format!("{API}/products/{id}")).await?;
            findings.edits(&id, &told, number(&product, "/data/version")?);
        }
        findings.audit(self.audit().await?);
        Ok(findings)
    }
}
