//! Imports carts of customers.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use crate::domain::access::principal::Principal;
use crate::domain::common::{Attributes, Audit, ExternalRef, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::cart::{Cart, CartLine, CartState, PricedCart};
use crate::domain::sales::customer::Customer;
use crate::domain::sales::offer::Offer;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::{CartId, CartLineId, CustomerId, ProductId, SkuId};
use crate::money::{Currency, ExactDecimal, Money, Percentage, price_of};
use crate::port::storage::Repositories as _;
use crate::service::catalog::import::batch::{BatchWriter, Outcome, Written, in_batches};
use crate::service::catalog::import::{
    BATCH, ForeignId, ImportKind, ImportOptions, ImportReport, ImportService, RecordSource, Rejection, Run, origin,
    stream,
};
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};
use crate::service::sales::cart::{CartService, add, check_amounts, check_count, offers, or_again};
use crate::text::{check_text, fold_key, shown};

/// Fields of DummyJSON's carts that the shop derives itself.
const DERIVED: &[&str] = &[
    "total",
    "discountedTotal",
    "totalProducts",
    "totalQuantity",
    "products[].title",
    "products[].total",
    "products[].discountedTotal",
    "products[].thumbnail",
];

/// A cart document. Fields that are not listed here are ignored, such as the totals of DummyJSON's carts, because the
/// shop prices its carts itself. Those that are listed must have the right type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CartRecord {
    /// DummyJSON: its id in DummyJSON, a number or a text.
    pub id: Option<ForeignId>,
    /// Ours: its id in `source`. Either this or `id` is required, so that a later import recognizes the cart.
    pub external_id: Option<ForeignId>,
    /// Ours: the system that the external ids belong to; by default that of the options.
    pub source: Option<String>,
    /// Required: the external id of the customer, in the same system.
    #[serde(alias = "userId")]
    pub customer_external_id: Option<ForeignId>,
    /// The lines. The quantities of equal lines are added.
    #[serde(alias = "products")]
    pub lines: Vec<CartLineRecord>,
    /// A JSON object, which is merged into the attributes of an existing cart.
    #[serde(deserialize_with = "Attributes::from_optional_input")]
    pub attributes: Option<Attributes>,
}

/// A line of a [`CartRecord`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CartLineRecord {
    /// The code of the SKU.
    pub sku: Option<String>,
    /// In place of `sku`: the external id of a product with one SKU, in the same system as the cart.
    #[serde(alias = "id")]
    pub product_external_id: Option<ForeignId>,
    /// Required: the number of pieces, 1–1,000,000.
    pub quantity: Option<i64>,
    /// The unit price that the shopper last saw. If it and `price` are absent, the current one.
    pub unit_price: Option<ExactDecimal>,
    /// DummyJSON: the unit price before the discount.
    pub price: Option<ExactDecimal>,
    /// DummyJSON: the discount on `price`, in percent.
    #[serde(alias = "discountPercentage")]
    pub discount_percentage: Option<ExactDecimal>,
    /// Free attributes.
    #[serde(deserialize_with = "Attributes::from_optional_input")]
    pub attributes: Option<Attributes>,
}

/// The SKU of a line.
#[derive(Debug)]
enum Named {
    Code(String),
    Product(String),
}

#[derive(Debug)]
struct Line {
    named: Named,
    quantity: i64,
    seen: Option<Money>,
    attributes: Attributes,
}

/// A record whose values a cart may have.
#[derive(Debug)]
struct Candidate {
    external: ExternalRef,
    customer: String,
    lines: Vec<Line>,
    attributes: Option<Attributes>,
}

impl CartRecord {
    /// Checks the record against the bounds of a cart.
    fn check(self, source: Option<&str>, currency: Currency) -> Result<Candidate, Rejection> {
        let mut errors = ValidationErrors::default();
        let (source, external_id) = origin(source, self.source, self.external_id, self.id);
        let external = ExternalRef::new(source, external_id.unwrap_or_default());
        if external.external_id.is_empty() {
            errors.push("external_id", FieldCode::Required, "is required, so that a later import recognizes the cart");
        } else {
            external.check("", &mut errors);
        }
        let customer = self.customer_external_id.map(|i| i.0).unwrap_or_default();
        if customer.is_empty() {
            let message = "is required, because nobody could open a cart without a customer";
            errors.push("customer_external_id", FieldCode::Required, message);
        } else {
            check_text("customer_external_id", &customer, 1, 255, &mut errors);
        }
        if let Some(attributes) = &self.attributes {
            attributes.check("attributes", &mut errors);
        }
        let mut lines = Vec::new();
        if self.lines.len() > Cart::MAX_LINES {
            errors.out_of_bounds("lines", format!("must have at most {} lines", Cart::MAX_LINES));
        } else {
            lines.extend(
                self.lines
                    .into_iter()
                    .enumerate()
                    .filter_map(|(i, l)| l.check(&format!("lines[{i}]."), currency, &mut errors)),
            );
        }
        errors.into_result().map_err(|e| Rejection::from(&e))?;
        Ok(Candidate { external, customer, lines, attributes: self.attributes })
    }
}

impl CartLineRecord {
    /// Returns the line, or pushes an error for each field that is out of bounds.
    fn check(self, prefix: &str, currency: Currency, errors: &mut ValidationErrors) -> Option<Line> {
        let at = |field: &str| format!("{prefix}{field}");
        let named = match (self.sku, self.product_external_id.map(|i| i.0)) {
            (Some(code), _) => {
                check_text(&at("sku"), &code, 1, 100, errors);
                Some(Named::Code(code))
            }
            (None, Some(id)) => {
                check_text(&at("product_external_id"), &id, 1, 255, errors);
                Some(Named::Product(id))
            }
            (None, None) => {
                errors.push(at("sku"), FieldCode::Required, "is required, or send `product_external_id`");
                None
            }
        };
        let quantity = self.quantity.unwrap_or_else(|| {
            errors.push(at("quantity"), FieldCode::Required, "is required");
            1
        });
        if !(1..=CartLine::MAX_QUANTITY).contains(&quantity) {
            errors.out_of_bounds(at("quantity"), format!("must be between 1 and {}", CartLine::MAX_QUANTITY));
        }
        let attributes = self.attributes.unwrap_or_default();
        attributes.check(&at("attributes"), errors);
        let discount = match self.discount_percentage.map(|d| Percentage::exact(d.0)) {
            Some(Err(why)) => {
                errors.out_of_bounds(at("discount_percentage"), why.to_string());
                Percentage::default()
            }
            Some(Ok(percent)) => percent,
            None => Percentage::default(),
        };
        let seen = match (self.unit_price, self.price) {
            (Some(price), _) => price_of(price, currency, &at("unit_price"), errors),
            (None, Some(price)) => price_of(price, currency, &at("price"), errors).map(|p| p.discounted(discount)),
            (None, None) => None,
        };
        Some(Line { named: named?, quantity, seen, attributes })
    }
}

impl ImportService<'_> {
    /// Imports carts of customers, in DummyJSON's format or our own ([`CartRecord`]). The source is a JSON array, an
    /// object with a `carts` array, or NDJSON. Customers and products are imported before, from the same system.
    ///
    /// A record is recognized by its external id. A shopper may have changed a cart since it was imported, so a record
    /// takes nothing out of it: the lines are merged into those of the cart, and of equal lines the greater quantity
    /// stays (R20). A cart that was ordered, or merged into another one, stays as it is. A customer has one open cart.
    /// If the customer of a new record has one, the lines are merged into it: a cart without an external id takes that
    /// of the record, and otherwise the record becomes a merged cart of its own, so that a later import recognizes it.
    ///
    /// A line keeps the price that its record has, as the one that the shopper last saw. If it is not the current one,
    /// the cart reports so, and a checkout is refused until the shopper confirms the current price (R8). Stock is not
    /// compared before a checkout. A product that is not active may be in a cart, which reports it. Refused records,
    /// batches and progress are as in [`Self::products`].
    ///
    /// # Errors
    /// As [`Self::products`].
    pub async fn carts<R: Read + Send + 'static>(
        &self,
        source: R,
        options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        let records = self.records(ImportKind::Carts, source, &options);
        self.carts_from(records, options, on_progress).await
    }

    /// Imports carts as [`Self::carts`] does, from a [`RecordSource`]. It ignores the `format` of the options.
    ///
    /// # Errors
    /// As [`Self::products`].
    pub async fn carts_from(
        &self,
        records: Box<dyn RecordSource>,
        mut options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        self.allow(ImportKind::Carts, &options)?;
        let (named, currency) = (options.source.clone(), self.cx.config.currency);
        let check = move |record: CartRecord| record.check(named.as_deref(), currency);
        let size = options.batch.unwrap_or(BATCH);
        let mut incoming = stream(records, &mut options, size, DERIVED, check);
        let cx = &self.begin(ImportKind::Carts, &options);
        let writer = Writer { cx, who: self.who };
        let mut run = Run::new(&incoming, options, on_progress);
        in_batches(&writer, &mut incoming, size, &mut run).await?;
        Ok(run.report)
    }
}

struct Writer<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

/// A cart that the batch changes or creates.
struct Work {
    /// The cart as it is stored; `None` if it is new.
    before: Option<Cart>,
    after: Cart,
}

/// The carts that the batch works on.
#[derive(Default)]
struct Carts {
    all: Vec<Work>,
    by_external: HashMap<ExternalRef, usize>,
    /// The open cart of each customer.
    open: HashMap<CustomerId, usize>,
}

impl Carts {
    fn push(&mut self, before: Option<Cart>, after: Cart) {
        let at = self.all.len();
        if let Some(external) = &after.external {
            self.by_external.insert(external.clone(), at);
        }
        if let (CartState::Open, Some(customer)) = (after.state, after.customer_id) {
            self.open.insert(customer, at);
        }
        self.all.push(Work { before, after });
    }

    fn change(&mut self, at: usize, after: Cart) {
        if let Some(external) = &after.external {
            self.by_external.insert(external.clone(), at);
        }
        if let Some(work) = self.all.get_mut(at) {
            work.after = after;
        }
    }

    fn at(&self, at: Option<&usize>) -> Option<(usize, &Cart)> {
        at.and_then(|i| Some((*i, &self.all.get(*i)?.after)))
    }
}

#[async_trait]
impl BatchWriter for Writer<'_> {
    type Candidate = Candidate;

    fn context(&self) -> &Arc<Context> {
        self.cx
    }

    fn key(c: &Candidate) -> (&'static str, String) {
        ("external_id", format!("{}\0{}", c.external.source, c.external.external_id))
    }

    async fn write_in(&self, tx: &mut Tx<'_>, candidates: &[Candidate]) -> Result<Written> {
        let customers = customers(tx, candidates).await?;
        let mut carts = self.lock(tx, candidates, &customers).await?;
        let skus = Skus::load(tx, candidates).await?;
        let in_carts = carts.all.iter().flat_map(|w| &w.after.lines).map(|l| l.sku_id);
        let offers = offers(tx, in_carts.chain(skus.all()).collect::<Vec<_>>()).await?;

        let mut written = Written::default();
        for c in candidates {
            let outcome = match customers.get(&(c.external.source.as_str(), c.customer.as_str())) {
                Some(customer) => self.decide(c, *customer, &mut carts, &skus, &offers),
                None => {
                    let message =
                        format!("`{}` is not the external id of a customer of this system", shown(&c.customer));
                    Err(Error::invalid("customer_external_id", FieldCode::ReferenceNotFound, message))
                }
            };
            written.outcomes.push(outcome.unwrap_or_else(|e| Outcome::Rejected(Rejection::from(&e))));
        }
        self.save(tx, carts).await?;
        Ok(written)
    }
}

impl Writer<'_> {
    /// Locks the carts of the records, and the open carts of their customers, who are held. Those that have expired are
    /// removed, as the background work would do.
    async fn lock(
        &self,
        tx: &mut Tx<'_>,
        candidates: &[Candidate],
        customers: &HashMap<(&str, &str), CustomerId>,
    ) -> Result<Carts> {
        let mut by_source: HashMap<&str, Vec<String>> = HashMap::new();
        for c in candidates {
            by_source.entry(&c.external.source).or_default().push(c.external.external_id.clone());
        }
        let mut ids: Vec<CartId> = Vec::new();
        for (source, external_ids) in by_source {
            ids.extend(tx.carts().find_by_external(source, &external_ids).await?);
        }
        let owners: Vec<CustomerId> = customers.values().copied().collect();
        ids.extend(tx.carts().find_open(&owners).await?);
        let found = tx.carts().lock(&ids).await?;
        let now = self.cx.now();
        let (expired, found): (Vec<Cart>, Vec<Cart>) = found.into_iter().partition(|cart| cart.is_expired(now));
        CartService::new(self.cx, self.who).purge(tx, &expired).await?;
        let mut carts = Carts::default();
        for cart in found {
            carts.push(Some(cart.clone()), cart);
        }
        Ok(carts)
    }

    /// Works a record into the carts.
    fn decide(
        &self,
        c: &Candidate,
        customer: CustomerId,
        carts: &mut Carts,
        skus: &Skus,
        offers: &HashMap<SkuId, Offer>,
    ) -> Result<Outcome> {
        let known = carts.at(carts.by_external.get(&c.external));
        if let Some((_, cart)) = known
            && cart.state != CartState::Open
        {
            return Ok(Outcome::Unchanged);
        }
        if known.is_some_and(|(_, cart)| cart.customer_id != Some(customer)) {
            let message = "must be the customer to whom the cart belongs";
            return Err(Error::invalid("customer_external_id", FieldCode::Inconsistent, message));
        }
        let lines = self.lines(c, skus, offers)?;
        let next_id = || CartLineId(self.cx.ids.next());
        let Some((at, open)) = known.or_else(|| carts.at(carts.open.get(&customer))) else {
            let mut cart = self.cart(c, customer);
            cart.lines = lines;
            fits(&cart, offers)?;
            carts.push(None, cart);
            return Ok(Outcome::Inserted);
        };
        let mut after = open.clone();
        after.take_lines(&lines, next_id);
        if let Some(attributes) = &c.attributes {
            after.attributes.merge(attributes);
            let mut errors = ValidationErrors::default();
            after.attributes.check("attributes", &mut errors);
            errors.into_result()?;
        }
        let merged = (after.external.as_ref() != Some(&c.external) && after.external.is_some()).then(|| Cart {
            state: CartState::Merged,
            merged_into: Some(after.id),
            lines,
            ..self.cart(c, customer)
        });
        if merged.is_none() {
            after.external = Some(c.external.clone());
        }
        fits(&after, offers)?;
        let changed = after != *open;
        carts.change(at, after);
        Ok(match merged {
            Some(cart) => {
                carts.push(None, cart);
                Outcome::Inserted
            }
            None if changed => Outcome::Updated,
            None => Outcome::Unchanged,
        })
    }

    /// Returns a new open cart without lines.
    fn cart(&self, c: &Candidate, customer: CustomerId) -> Cart {
        let now = self.cx.now();
        Cart {
            id: CartId(self.cx.ids.next()),
            token_hash: None,
            customer_id: Some(customer),
            email: None,
            currency: self.cx.config.currency,
            state: CartState::Open,
            merged_into: None,
            expires_at: now + self.cx.config.cart_ttl,
            attributes: c.attributes.clone().unwrap_or_default(),
            external: Some(c.external.clone()),
            audit: Audit::created(now, self.who.actor()),
            lines: Vec::new(),
        }
    }

    /// Returns the lines of a record, equal ones added up.
    fn lines(&self, c: &Candidate, skus: &Skus, offers: &HashMap<SkuId, Offer>) -> Result<Vec<CartLine>> {
        let mut errors = ValidationErrors::default();
        let mut given = Vec::with_capacity(c.lines.len());
        for (i, line) in c.lines.iter().enumerate() {
            let (field, key, found) = match &line.named {
                Named::Code(code) => ("sku", code, skus.by_code.get(&fold_key(code)).copied().ok_or("does not exist")),
                Named::Product(id) => ("product_external_id", id, skus.of_product(&c.external.source, id)),
            };
            let offer = found.and_then(|id| offers.get(&id).filter(|o| o.live).ok_or("does not exist"));
            match offer {
                Ok(offer) => given.push(CartLine {
                    id: CartLineId(self.cx.ids.next()),
                    sku_id: offer.sku_id,
                    attributes: line.attributes.clone(),
                    quantity: line.quantity,
                    seen_price: line.seen.unwrap_or_else(|| offer.unit_price()),
                }),
                Err(why) => {
                    let message = format!("`{}` {why}", shown(key));
                    errors.push(format!("lines[{i}].{field}"), FieldCode::ReferenceNotFound, message);
                }
            }
        }
        errors.into_result()?;
        let mut lines = Vec::new();
        add(&mut lines, given, |i| format!("lines[{i}].quantity"))?;
        Ok(lines)
    }

    /// Writes the carts that are new or differ.
    async fn save(&self, tx: &mut Tx<'_>, carts: Carts) -> Result<()> {
        let now = self.cx.now();
        let (mut new, mut changes) = (Vec::new(), Vec::new());
        for Work { before, mut after } in carts.all {
            let kind = match &before {
                None if after.state == CartState::Merged => EventKind::CartMerged,
                None => EventKind::CartCreated,
                Some(before) if *before != after => {
                    after.expires_at = now + self.cx.config.cart_ttl;
                    after.audit.edited(now, self.who.actor());
                    tx.carts().update(before, &after).await.map_err(or_again)?;
                    EventKind::CartUpdated
                }
                Some(_) => continue,
            };
            changes.push(Change::event_only(kind, after.id, after.audit.version, self.who.actor()));
            if before.is_none() {
                new.push(after);
            }
        }
        if !new.is_empty() {
            tx.carts().insert(&new).await.map_err(or_again)?;
        }
        tx.emit_all(changes).await
    }
}

/// Refuses a cart with too many lines or too large an amount.
fn fits(cart: &Cart, offers: &HashMap<SkuId, Offer>) -> Result<()> {
    check_count(&cart.lines)?;
    check_amounts(&PricedCart::new(cart.clone(), offers), "lines")
}

/// Holds the live customers whom records name, and returns them by source and external id.
async fn customers<'c>(
    tx: &mut Tx<'_>,
    candidates: &'c [Candidate],
) -> Result<HashMap<(&'c str, &'c str), CustomerId>> {
    let mut by_source: HashMap<&str, HashMap<&str, Option<CustomerId>>> = HashMap::new();
    for c in candidates {
        by_source.entry(&c.external.source).or_default().insert(&c.customer, None);
    }
    let mut found: Vec<Customer> = Vec::new();
    for (source, ids) in &by_source {
        let ids: Vec<String> = ids.keys().map(|id| (*id).to_owned()).collect();
        found.extend(tx.customers().find_by_external(source, &ids).await?);
    }
    let ids: Vec<CustomerId> = found.iter().filter(|c| c.audit.is_live()).map(|c| c.id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let held = tx.customers().hold(&ids).await?;
    let mut customers = HashMap::new();
    for customer in held.into_iter().filter(|c| c.audit.is_live()) {
        let Some(ExternalRef { source, external_id }) = &customer.external else { continue };
        if let Some((source, ids)) = by_source.get_key_value(source.as_str())
            && let Some((id, _)) = ids.get_key_value(external_id.as_str())
        {
            customers.insert((*source, *id), customer.id);
        }
    }
    Ok(customers)
}

/// The SKUs that records name.
struct Skus {
    by_code: HashMap<String, SkuId>,
    /// The SKUs of products, by source and external id.
    by_product: HashMap<(String, String), Vec<SkuId>>,
}

impl Skus {
    async fn load(tx: &mut Tx<'_>, candidates: &[Candidate]) -> Result<Self> {
        let mut codes = Vec::new();
        let mut by_source: HashMap<&str, Vec<String>> = HashMap::new();
        for c in candidates {
            for line in &c.lines {
                match &line.named {
                    Named::Code(code) => codes.push(code.clone()),
                    Named::Product(id) => by_source.entry(&c.external.source).or_default().push(id.clone()),
                }
            }
        }
        let by_code: HashMap<String, SkuId> = tx.offers().by_codes(&codes).await?.into_iter().collect();
        let mut ids: HashMap<ProductId, (String, String)> = HashMap::new();
        for (source, mut external_ids) in by_source {
            external_ids.sort_unstable();
            external_ids.dedup();
            let found = tx.products().find_by_external(source, &external_ids).await?;
            ids.extend(found.into_iter().map(|(external_id, id)| (id, (source.to_owned(), external_id))));
        }
        let mut by_product = HashMap::new();
        if !ids.is_empty() {
            let all: Vec<ProductId> = ids.keys().copied().collect();
            for product in tx.products().get_many(&all, IncludeDeleted::No).await? {
                if let Some(key) = ids.remove(&product.id) {
                    by_product.insert(key, product.skus.iter().map(|s| s.id).collect());
                }
            }
        }
        Ok(Self { by_code, by_product })
    }

    fn all(&self) -> impl Iterator<Item = SkuId> {
        self.by_code.values().chain(self.by_product.values().flatten()).copied()
    }

    /// Returns the only SKU of a product, or the reason why there is none.
    fn of_product(&self, source: &str, external_id: &str) -> Result<SkuId, &'static str> {
        match self.by_product.get(&(source.to_owned(), external_id.to_owned())).map(Vec::as_slice) {
            Some([sku]) => Ok(*sku),
            Some([]) | None => Err("is not the external id of a product of this system"),
            Some(_) => Err("has several SKUs: name one of them in `sku`"),
        }
    }
}
