//! The behaviour of a user.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use goose::prelude::*;
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::ledger::{Ledger, Lines, Outcome};
use crate::measure::{Kind, Measure, Mix, Sample, Verdict};
use crate::shop::{API, Catalog, Product, Sku, minor, number, rows, text};

const SORTS: [&str; 7] =
    ["created_desc", "created_asc", "price_asc", "price_desc", "title_asc", "title_desc", "rating_desc"];
const PRICES: [&str; 4] = ["10", "25", "50", "100"];

/// The state that all users share.
#[derive(Debug)]
pub struct Load {
    /// The products and categories that users choose from.
    pub catalog: Catalog,
    /// The writes that were sent and acknowledged.
    pub ledger: Arc<Ledger>,
    /// The shares of the kinds of requests.
    pub mix: Mix,
    /// Collects the samples.
    pub measure: Measure,
    /// The prefix of the references of this run.
    pub run: String,
    /// The source of the numbers of writes.
    pub numbers: AtomicU64,
}

/// The state of one user.
#[derive(Clone)]
struct Memory {
    /// The next page of the list that the user has read last.
    next: Option<String>,
}

/// An answer that arrived.
struct Answer {
    status: u16,
    etag: Option<String>,
    body: Value,
}

type Judged<T> = Result<(Verdict, T), Box<dyn std::error::Error + Send + Sync>>;

/// Returns one of `all`. The first ones are chosen more often, as in a shop: the first tenth gets a third of the views.
fn popular<T>(all: &[T]) -> &T {
    let u: f64 = rand::rng().random();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let i = (u * u * all.len() as f64) as usize;
    &all[i.min(all.len() - 1)]
}

fn any<T>(all: &[T]) -> &T {
    &all[rand::rng().random_range(0..all.len())]
}

fn chance(percent: u32) -> bool {
    rand::rng().random_range(0..100) < percent
}

/// Returns whether a body is an error in the envelope of errors.
fn is_error(body: &Value) -> bool {
    ["/error/code", "/error/message", "/error/request_id"].iter().all(|p| text(body, p).is_ok())
}

/// Returns the verdict on an answer that is not the expected one.
fn refused_or_wrong(answer: &Answer, refusals: &[u16]) -> Verdict {
    let status = answer.status;
    if !is_error(&answer.body) {
        return Verdict::Wrong(format!("{status} without the envelope of errors"));
    }
    if refusals.contains(&status) {
        return Verdict::Refused;
    }
    Verdict::Wrong(format!("{status} {}", text(&answer.body, "/error/code").unwrap_or_default()))
}

/// Returns the outcome of a write, according to its answer.
fn outcome(answer: Option<&Answer>) -> Outcome {
    match answer.map(|a| (a.status, text(&a.body, "/data/id"))) {
        Some((200..=299, Ok(id))) => Outcome::Acknowledged(id.to_owned()),
        Some((400..=499, _)) => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

impl Load {
    /// Sends a request and judges its answer. Returns `None` if there was no answer.
    async fn ask<T: Default>(
        &self,
        user: &mut GooseUser,
        kind: Kind,
        (method, path): (GooseMethod, &str),
        body: Option<(&Value, Option<&str>)>,
        judge: impl FnOnce(&Answer) -> Judged<T>,
    ) -> Result<(Option<Answer>, T), Box<TransactionError>> {
        let mut builder = user.get_request_builder(&method, path)?;
        if let Some((json, if_match)) = body {
            builder = builder.json(json);
            if let Some(tag) = if_match {
                builder = builder.header("if-match", tag);
            }
        }
        let request = GooseRequest::builder().path(path).name(kind.name()).set_request_builder(builder).build();
        let sent = Instant::now();
        let response = user.request(request).await?.response;
        let (mut hit, mut status) = (None, None);
        let read = match response {
            Ok(response) => {
                status = Some(response.status().as_u16());
                let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
                let etag = header("etag");
                hit = header("x-cache").map(|word| word == "HIT");
                response.bytes().await.map(|bytes| (etag, bytes))
            }
            Err(e) => Err(e),
        };
        let took = sent.elapsed();
        let mut value = T::default();
        let (answer, verdict) = match (read, status) {
            (Ok((etag, bytes)), Some(status)) => {
                // A body that is not JSON becomes null, and every check of it fails.
                let answer = Answer { status, etag, body: serde_json::from_slice(&bytes).unwrap_or_default() };
                let verdict = match judge(&answer) {
                    Ok((verdict, found)) => {
                        value = found;
                        verdict
                    }
                    Err(e) => Verdict::Wrong(format!("{status}: {e}")),
                };
                (Some(answer), verdict)
            }
            (Err(e), _) => {
                let what = if e.is_timeout() { "no answer in time" } else { "no answer: the connection failed" };
                (None, Verdict::Wrong(what.to_owned()))
            }
            (Ok(_), None) => unreachable!("a body comes after its status"),
        };
        self.measure.add(&Sample { kind, sent, took, status, hit, verdict });
        Ok((answer, value))
    }

    async fn browse(&self, user: &mut GooseUser) -> TransactionResult {
        let next = user.get_session_data_mut::<Memory>().and_then(|m| m.next.take()).filter(|_| chance(40));
        let path = next.unwrap_or_else(|| {
            let mut path = format!("{API}/products?per_page=20");
            if chance(60) {
                path.extend(["&category=", popular::<String>(&self.catalog.categories).as_str()]);
            }
            if chance(40) {
                path.extend(["&max_price=", *any::<&str>(&PRICES)]);
            }
            if chance(50) {
                path.extend(["&sort=", *any::<&str>(&SORTS)]);
            }
            path
        });
        let judge = |a: &Answer| -> Judged<Option<String>> {
            if a.status != 200 {
                return Ok((refused_or_wrong(a, &[]), None));
            }
            let rows = rows(&a.body)?;
            for row in rows {
                text(row, "/id")?;
            }
            text(&a.body, "/links/self")?;
            let more = a.body.pointer("/meta/pagination/has_next").and_then(Value::as_bool).ok_or("no has_next")?;
            let next = text(&a.body, "/links/next").ok().map(str::to_owned);
            if rows.len() > 20 || more != next.is_some() {
                return Err("more rows than were asked for, or no next page where there is one".into());
            }
            Ok((Verdict::Right, next))
        };
        let (_, next) = self.ask(user, Kind::Browse, (GooseMethod::Get, &path), None, judge).await?;
        user.set_session_data(Memory { next });
        Ok(())
    }

    /// Reads a product, and returns its entity tag and version.
    async fn read(&self, user: &mut GooseUser, p: &Product) -> Result<Option<(String, i64)>, Box<TransactionError>> {
        let by_slug = chance(50);
        let path = format!("{API}/products/{}", if by_slug { &p.slug } else { &p.id });
        let judge = |a: &Answer| {
            if a.status != 200 {
                return Ok((refused_or_wrong(a, &[]), None));
            }
            if text(&a.body, "/data/id")? != p.id || text(&a.body, "/data/slug")? != p.slug {
                return Err("another product".into());
            }
            text(&a.body, "/links/self")?;
            let tag = a.etag.clone().ok_or("no ETag")?;
            Ok((Verdict::Right, Some((tag, number(&a.body, "/data/version")?))))
        };
        Ok(self.ask(user, Kind::Read, (GooseMethod::Get, &path), None, judge).await?.1)
    }

    async fn search(&self, user: &mut GooseUser) -> TransactionResult {
        let mut path = format!("{API}/products/search?facets=all&q={}", popular(&self.catalog.words));
        // A filter may match no product.
        let narrowed = chance(30);
        if narrowed {
            path.extend(["&max_price=", *any::<&str>(&PRICES)]);
        }
        let judge = |a: &Answer| {
            if a.status != 200 {
                return Ok((refused_or_wrong(a, &[]), ()));
            }
            a.body.pointer("/meta/search").and_then(Value::as_object).ok_or("no meta.search")?;
            if rows(&a.body)?.is_empty() && !narrowed {
                return Err("finds nothing for a word of a title".into());
            }
            Ok((Verdict::Right, ()))
        };
        self.ask(user, Kind::Search, (GooseMethod::Get, &path), None, judge).await?;
        Ok(())
    }

    async fn categories(&self, user: &mut GooseUser) -> TransactionResult {
        let one = popular(&self.catalog.categories);
        let (path, is_list) = match rand::rng().random_range(0..3) {
            0 => (format!("{API}/categories/tree"), true),
            1 => (format!("{API}/categories?per_page=20"), true),
            _ => (format!("{API}/categories/{one}"), false),
        };
        let judge = |a: &Answer| {
            if a.status != 200 {
                return Ok((refused_or_wrong(a, &[]), ()));
            }
            if is_list {
                let first = rows(&a.body)?.first().ok_or("no categories")?;
                text(first, "/slug")?;
            } else if text(&a.body, "/data/slug")? != one {
                return Err("another category".into());
            }
            Ok((Verdict::Right, ()))
        };
        self.ask(user, Kind::Categories, (GooseMethod::Get, &path), None, judge).await?;
        Ok(())
    }

    async fn customers(&self, user: &mut GooseUser) -> TransactionResult {
        let one = any(&self.catalog.customers);
        let choice = rand::rng().random_range(0..3);
        let path = match choice {
            0 => format!("{API}/customers?per_page=20"),
            1 => format!("{API}/customers/{one}"),
            _ => format!("{API}/customers/{one}/orders?per_page=20"),
        };
        let judge = |a: &Answer| {
            if a.status != 200 {
                return Ok((refused_or_wrong(a, &[]), ()));
            }
            match choice {
                0 if rows(&a.body)?.is_empty() => return Err("no customers".into()),
                1 if text(&a.body, "/data/id")? != one => return Err("another customer".into()),
                2 => {
                    for order in rows(&a.body)? {
                        if text(order, "/customer_id")? != one {
                            return Err("the order of another customer".into());
                        }
                    }
                }
                _ => {}
            }
            Ok((Verdict::Right, ()))
        };
        self.ask(user, Kind::Customers, (GooseMethod::Get, &path), None, judge).await?;
        Ok(())
    }

    async fn order(&self, user: &mut GooseUser) -> TransactionResult {
        let n = self.numbers.fetch_add(1, Ordering::Relaxed);
        let customer = any(&self.catalog.customers);
        let mut chosen: Vec<(&Sku, i64)> = Vec::new();
        for _ in 0..rand::rng().random_range(1..=3) {
            let sku = popular(&self.catalog.skus);
            if chosen.iter().all(|(other, _)| other.id != sku.id) {
                chosen.push((sku, rand::rng().random_range(1..=2)));
            }
        }
        let lines: Lines = chosen.iter().map(|(sku, quantity)| (sku.id.clone(), *quantity)).collect();
        let line =
            |(sku, quantity): &(&Sku, i64)| json!({"sku_id": sku.id, "quantity": quantity, "unit_price": sku.price});
        let reference = format!("{}{n}", self.run);
        let body = json!({
            "customer_id": customer,
            "delivery_method": "on_hand",
            "payment_type": "card",
            "tracking": reference,
            "lines": chosen.iter().map(line).collect::<Vec<_>>(),
        });
        let judge = |a: &Answer| {
            if a.status != 201 {
                return Ok((refused_or_wrong(a, &[409]), ()));
            }
            let mut total = 0;
            for (sku, quantity) in &chosen {
                total += minor(&sku.price)? * quantity;
            }
            let found = a.body.pointer("/data/lines").and_then(Value::as_array).ok_or("an order without lines")?;
            if text(&a.body, "/data/customer_id")? != customer
                || text(&a.body, "/data/tracking")? != reference
                || found.len() != chosen.len()
                || minor(text(&a.body, "/data/total")?)? != total
            {
                return Err("another order".into());
            }
            text(&a.body, "/data/number")?;
            Ok((Verdict::Right, ()))
        };
        self.ledger.order_sent(n, lines);
        let path = format!("{API}/orders");
        let (answer, ()) = self.ask(user, Kind::Order, (GooseMethod::Post, &path), Some((&body, None)), judge).await?;
        self.ledger.order_ended(n, outcome(answer.as_ref()));
        Ok(())
    }

    async fn review(&self, user: &mut GooseUser) -> TransactionResult {
        let n = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (product, customer) = (popular(&self.catalog.products), any(&self.catalog.customers));
        let rating = format!("{}.{}", n % 5, n % 10);
        let comment = format!("A review by a load test: {}{n}", self.run);
        let body = json!({"customer_id": customer, "rating": rating, "comment": comment});
        let judge = |a: &Answer| {
            // A customer has one review of a product.
            if a.status != 201 {
                return Ok((refused_or_wrong(a, &[409]), ()));
            }
            if text(&a.body, "/data/product_id")? != product.id
                || text(&a.body, "/data/customer_id")? != customer
                || text(&a.body, "/data/comment")? != comment
            {
                return Err("another review".into());
            }
            Ok((Verdict::Right, ()))
        };
        self.ledger.review(n, Outcome::Unknown);
        let path = format!("{API}/products/{}/reviews", product.id);
        let (answer, ()) = self.ask(user, Kind::Review, (GooseMethod::Post, &path), Some((&body, None)), judge).await?;
        self.ledger.review(n, outcome(answer.as_ref()));
        Ok(())
    }

    async fn edit(&self, user: &mut GooseUser) -> TransactionResult {
        let p = popular(&self.catalog.products);
        let Some((tag, version)) = self.read(user, p).await? else { return Ok(()) };
        let n = self.numbers.fetch_add(1, Ordering::Relaxed);
        let warranty = format!("{} months ({}{n})", 12 + n % 48, self.run);
        let body = json!({"warranty_information": warranty});
        let judge = |a: &Answer| {
            if a.status != 200 {
                return Ok((refused_or_wrong(a, &[409, 412]), ()));
            }
            if number(&a.body, "/data/version")? != version + 1
                || text(&a.body, "/data/warranty_information")? != warranty
            {
                return Err("not the product after this edit".into());
            }
            Ok((Verdict::Right, ()))
        };
        self.ledger.edit_sent(&p.id);
        let path = format!("{API}/products/{}", p.id);
        let (answer, ()) =
            self.ask(user, Kind::Edit, (GooseMethod::Patch, &path), Some((&body, Some(&tag))), judge).await?;
        self.ledger.edit_ended(&p.id, &outcome(answer.as_ref()));
        Ok(())
    }

    /// Makes one request of a user, whose kind is chosen by the shares.
    async fn act(&self, user: &mut GooseUser) -> TransactionResult {
        // An edit reads the product first, and that read counts as one of the reads.
        let share = |kind: Kind| kind.share(self.mix);
        let weight = |kind: Kind| if kind == Kind::Read { share(kind) - share(Kind::Edit) } else { share(kind) };
        let mut left = rand::rng().random_range(0..Kind::ALL.into_iter().map(weight).sum());
        for kind in Kind::ALL {
            if left < weight(kind) {
                return match kind {
                    Kind::Browse => self.browse(user).await,
                    Kind::Read => self.read(user, popular(&self.catalog.products)).await.map(|_| ()),
                    Kind::Search => self.search(user).await,
                    Kind::Categories => self.categories(user).await,
                    Kind::Customers => self.customers(user).await,
                    Kind::Order => self.order(user).await,
                    Kind::Review => self.review(user).await,
                    Kind::Edit => self.edit(user).await,
                };
            }
            left -= weight(kind);
        }
        unreachable!("it is less than the sum of all")
    }
}

/// Returns the scenario for goose. Users pause for `think` between two requests.
///
/// # Errors
/// The error of goose if it refuses the pause.
pub fn scenario(load: &Arc<Load>, think: Option<(Duration, Duration)>) -> Result<Scenario, GooseError> {
    let mut scenario = Scenario::new("shop");
    if let Some((least, most)) = think {
        scenario = scenario.set_wait_time(least, most)?;
    }
    // There is only one transaction, because goose would run several in the same order for every user, and a short run
    // would reach only the first ones.
    let load = load.clone();
    let function: TransactionFunction = Arc::new(move |user| {
        let load = load.clone();
        Box::pin(async move { load.act(user).await })
    });
    Ok(scenario.register_transaction(Transaction::new(function).set_name("act")))
}
