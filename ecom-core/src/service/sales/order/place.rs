//! Placing orders. Orders that arrive together share a commit; each has its own outcome.
//!
//! Locks are taken in one order (R24): idempotency keys, customers, carts, SKUs, products.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::Datelike as _;

use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::domain::platform::idempotency::{IdempotencyKey, RequestHash, StoredAnswer};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::cart::{Cart, CartEntry, CartState};
use crate::domain::sales::order::change::{self, Offers, Stamp, Step};
use crate::domain::sales::order::input::{CheckedLine, CheckedOrder, SkuRef};
use crate::domain::sales::order::{Buyer, Order, OrderRecord, PostalAddress};
use crate::domain::stock::inventory::{StockLevel, StockReason};
use crate::error::{Error, FieldCode, Result, SalesConflict, ValidationErrors};
use crate::id::{AddressId, CartId, CustomerId, EventId, OrderId, SkuId};
use crate::port::platform::idempotency::{Claim, Claimed};
use crate::port::sales::order::NumberedDocument;
use crate::port::storage::Repositories as _;
use crate::service::platform::idempotency::{KeyedCall, Once, erased, reused};
use crate::service::run::context::Context;
use crate::service::run::notice::Notice;
use crate::service::run::queue::{Batched, Done, MOST_ROWS, Queue};
use crate::service::run::read_through::text_hash;
use crate::service::run::transaction::{Change, Tx};
use crate::service::sales::order::{MISSING, movement, taken};
use crate::service::stock::inventory::post;

/// An order that waits to be placed.
pub(crate) struct Placing {
    /// The id of the order. It is made once per call, so that the order is found after an unknown outcome.
    pub id: OrderId,
    /// The id of the event of the order, which is made once per call for the same reason.
    pub event: EventId,
    pub input: CheckedOrder,
    /// The cart that the order is made from, and what lets the caller into it.
    pub cart: Option<(CartId, CartEntry)>,
    /// What makes the call run at most once, if the caller has sent a key.
    pub keyed: Option<KeyedCall<Order>>,
    pub actor: Actor,
}

/// What a call returns, with the event of the order if this batch has placed it.
pub(super) type Placed = Done<Once<OrderRecord>>;

impl Batched for Placing {
    type Answer = Once<OrderRecord>;

    const DOING: &'static str = "placing orders";

    fn queue(cx: &Context) -> &Queue<Self> {
        &cx.orders
    }

    fn most(cx: &Context) -> usize {
        cx.config.order_batch
    }

    fn rows(&self) -> usize {
        self.input.lines.len().max(1)
    }

    fn locks(&self, each: &mut dyn FnMut(u128)) {
        for line in &self.input.lines {
            each(match &line.sku {
                SkuRef::Id(id) => id.0.as_u128(),
                SkuRef::Code(code) => text_hash(code),
            });
        }
        if let Some((cart, _)) = &self.cart {
            each(cart.0.as_u128());
        }
        if let Some(keyed) = &self.keyed {
            each(text_hash(&format!("{}\0{}", keyed.key.scope(), keyed.key.key())));
        }
    }

    async fn run(cx: &Arc<Context>, tx: &mut Tx<'_>, calls: &[Self]) -> Result<Vec<Result<Placed>>> {
        place_all_in(cx, tx, calls).await
    }

    async fn recover(cx: &Arc<Context>, calls: &[Self]) -> Result<Vec<Option<Placed>>> {
        let carts = Carts::ids(calls);
        let mut lines: Vec<&CheckedLine> = Vec::new();
        for call in calls {
            lines.extend(&call.input.lines);
        }
        if lines.is_empty() && carts.is_empty() && calls.iter().all(|c| c.keyed.is_none()) {
            return Err(Error::Internal { context: "the lost transaction held no lock to wait for", source: None });
        }
        // This transaction is rolled back at the end. It waits until the lost one has ended.
        let mut tx = Tx::new(cx.clone(), cx.storage.begin().await?);
        Keys::claim(cx, &mut tx, calls).await?;
        tx.carts().lock(&carts).await?;
        lock_offers(&mut tx, BTreeSet::new(), lines).await?;
        let ids: Vec<OrderId> = calls.iter().map(|c| c.id).collect();
        let mut found: HashMap<OrderId, OrderRecord> =
            tx.orders().records(&ids).await?.into_iter().map(|r| (r.order.id, r)).collect();
        let written = |call: &Self| Some((Once::Ran(found.remove(&call.id)?), Some(call.event)));
        Ok(calls.iter().map(written).collect())
    }
}

/// Places all orders that are possible, in their order, with a fixed number of statements. Returns for each the order,
/// or why it was refused.
pub(super) async fn place_all_in(cx: &Arc<Context>, tx: &mut Tx<'_>, calls: &[Placing]) -> Result<Vec<Result<Placed>>> {
    let mut keys = Keys::claim(cx, tx, calls).await?;
    let of_carts = Carts::customers(tx, calls).await?;
    let buyers = Buyers::hold(tx, calls, of_carts).await?;
    let carts = Carts::lock(tx, calls).await?;
    let wanted = |call| match keys.stored(call)? {
        Some(answer) => Ok(Wanted::Done(Outcome::Answered(answer))),
        None => carts.wanted(call, cx.now()),
    };
    let wanted: Vec<Result<Wanted>> = calls.iter().map(wanted).collect();
    let mut lines: Vec<&CheckedLine> = Vec::new();
    for wanted in &wanted {
        if let Ok(Wanted::Order(input)) = wanted {
            lines.extend(&input.lines);
        }
    }
    if calls.len() > 1 && lines.len() > MOST_ROWS {
        // The lines of carts are only known here. The halves of the batch run again.
        return Err(Error::Internal { context: "the carts of a batch have too many lines", source: None });
    }
    let mut offers = lock_offers(tx, BTreeSet::new(), lines).await?;
    let levels: HashMap<SkuId, StockLevel> = offers.by_id.values().map(|offer| (offer.sku_id, offer.level())).collect();
    // The time is read after the locks were granted, so that the times of orders on one SKU are in their order.
    let now = cx.now();
    let mut steps: Vec<Step> = Vec::with_capacity(calls.len());
    let mut by: Vec<&Placing> = Vec::with_capacity(calls.len());
    let mut made_from: HashMap<CartId, usize> = HashMap::new();
    let mut outcomes: Vec<Result<Outcome>> = Vec::with_capacity(calls.len());
    for (at, (call, wanted)) in calls.iter().zip(wanted).enumerate() {
        let cart = call.cart.as_ref().map(|(id, _)| *id);
        let outcome = match wanted.and_then(|wanted| keys.after(call, wanted)) {
            Ok(Wanted::Order(input)) => match cart.and_then(|id| made_from.get(&id)) {
                // An earlier call of this batch checks out the same cart, so both get the same order.
                Some(first) => Ok(Outcome::Inserted(*first)),
                None => {
                    let stamp = Stamp { now, actor: &call.actor, ids: &*cx.ids };
                    let step = buyers.of(&input).and_then(|(buyer, shipping_address)| {
                        let (id, currency) = (call.id, cx.config.currency);
                        let place = change::Context { id, cart, buyer, shipping_address, currency, stamp: &stamp };
                        change::place(&input, place, &offers)
                    });
                    step.map(|step| {
                        offers.apply(&step.stock);
                        made_from.extend(cart.map(|id| (id, steps.len())));
                        steps.push(step);
                        by.push(call);
                        Outcome::Inserted(steps.len() - 1)
                    })
                }
            },
            Ok(Wanted::Done(outcome)) => Ok(outcome),
            Err(refusal) => Err(refusal),
        };
        if let (Ok(Outcome::Inserted(_) | Outcome::Placed(_)), Some(keyed)) = (&outcome, &call.keyed) {
            keys.done.insert(&keyed.key, (keyed.hash, at));
        }
        outcomes.push(outcome);
    }
    let records = insert_orders(cx, tx, steps, &by, &levels, calls).await?;
    let records: Vec<(OrderRecord, EventId)> = records.into_iter().zip(by.iter().map(|call| call.event)).collect();
    keys.answered(tx, calls, outcomes, &records).await
}

/// What a call of a batch asks for.
enum Wanted {
    /// An order to place.
    Order(Box<CheckedOrder>),
    /// Something that is already there.
    Done(Outcome),
}

/// The outcome of a call of a batch.
enum Outcome {
    /// The order is the one at this index of those that are inserted.
    Inserted(usize),
    /// An order that was placed before.
    Placed(Box<OrderRecord>),
    /// The answer of an earlier call with the same key.
    Answered(StoredAnswer),
    /// The answer of the call at this index of the batch, which has the same key.
    Twin(usize),
}

/// Writes new orders, with their numbers, movements of stock, carts and events. `by` has the call of each order, and
/// `levels` the stock before them. The event of an order comes after the events of its stock.
async fn insert_orders(
    cx: &Arc<Context>,
    tx: &mut Tx<'_>,
    steps: Vec<Step>,
    by: &[&Placing],
    levels: &HashMap<SkuId, StockLevel>,
    calls: &[Placing],
) -> Result<Vec<OrderRecord>> {
    let Some(first) = steps.first() else { return Ok(Vec::new()) };
    let (now, year) = (first.record.order.placed_at, first.record.order.placed_at.year());
    let unnumbered = steps.iter().flat_map(|s| &s.record.bills).filter(|b| b.number.is_empty()).count();
    let mut numbers = tx.orders().next_numbers(NumberedDocument::Order, year, steps.len()).await?.into_iter();
    let mut bill_numbers = tx.orders().next_numbers(NumberedDocument::Bill, year, unnumbered).await?.into_iter();
    let (mut records, mut history) = (Vec::with_capacity(steps.len()), Vec::with_capacity(steps.len()));
    let (mut movements, mut events) = (Vec::new(), Vec::with_capacity(steps.len()));
    for (Step { mut record, stock, change }, call) in steps.into_iter().zip(by) {
        let actor = &call.actor;
        record.order.number = taken(numbers.next())?;
        for bill in record.bills.iter_mut().filter(|b| b.number.is_empty()) {
            bill.number = taken(bill_numbers.next())?;
        }
        movements.extend(stock.iter().map(|s| movement(cx, s, StockReason::Order, &record.order, actor)));
        let mut placed = Change::event_only(EventKind::OrderPlaced, record.order.id, record.order.audit.version, actor);
        placed.event = Some(call.event);
        events.push(placed);
        records.push(record);
        history.push(change);
    }
    let written = tx.orders().insert(&records, &history).await;
    // A number that an import or a caller took is skipped (R43), unless this batch chose one itself.
    let chosen = calls.iter().any(|c| c.input.bill_number.is_some());
    tx.or_next_name(written, |field| field == "number" || (field == "bill_number" && !chosen))?;
    let mut changes = post(tx, &movements, levels).await?;
    changes.append(&mut events);
    // Each cart records who ordered it.
    let mut ordered: HashMap<&Actor, Vec<CartId>> = HashMap::new();
    for (record, call) in records.iter().zip(by) {
        if let Some(cart) = record.order.cart_id {
            ordered.entry(&call.actor).or_default().push(cart);
        }
    }
    for (actor, carts) in ordered {
        tx.carts().set_ordered(&carts, now, actor).await?;
    }
    tx.emit_all(changes).await?;
    for record in &records {
        tx.note(Notice::placed(&record.order));
    }
    Ok(records)
}

/// Locks the SKUs that lines name, and `more`, and returns them as they are sold.
pub(super) async fn lock_offers<'l>(
    tx: &mut Tx<'_>,
    more: BTreeSet<SkuId>,
    lines: impl IntoIterator<Item = &'l CheckedLine> + Send,
) -> Result<Offers> {
    let (mut ids, mut codes) = (more, Vec::new());
    for line in lines {
        match &line.sku {
            SkuRef::Id(id) => drop(ids.insert(*id)),
            SkuRef::Code(code) => codes.push(code.clone()),
        }
    }
    let by_code: HashMap<String, SkuId> = tx.offers().by_codes(&codes).await?.into_iter().collect();
    ids.extend(by_code.values());
    let ids: Vec<SkuId> = ids.into_iter().collect();
    let offers = tx.offers().lock(&ids).await?;
    Ok(Offers { by_id: offers.into_iter().map(|o| (o.sku_id, o)).collect(), by_code })
}

/// The customers and addresses that a batch of orders refers to, held against changes.
struct Buyers {
    customers: HashMap<CustomerId, Buyer>,
    addresses: HashMap<AddressId, (CustomerId, PostalAddress)>,
}

impl Buyers {
    async fn hold(tx: &mut Tx<'_>, calls: &[Placing], of_carts: Vec<CustomerId>) -> Result<Self> {
        let named = calls.iter().filter_map(|c| c.input.customer_id);
        let ids: BTreeSet<CustomerId> = named.chain(of_carts).collect();
        let ids: Vec<CustomerId> = ids.into_iter().collect();
        let held = tx.customers().hold(&ids).await?;
        let customers = held.into_iter().filter(|c| c.audit.is_live()).map(|c| {
            let buyer = Buyer {
                first_name: Some(c.first_name),
                last_name: Some(c.last_name),
                email: Some(c.email),
                telephone: c.telephone,
            };
            (c.id, buyer)
        });
        let customers = customers.collect();
        let ids: Vec<AddressId> = calls.iter().filter_map(|c| c.input.address_id).collect();
        let found = tx.addresses().get_many(&ids).await?;
        let addresses = found.into_iter().map(|a| (a.id, (a.customer_id, PostalAddress::from(a)))).collect();
        Ok(Self { customers, addresses })
    }

    /// Returns the buyer and the address of an order.
    ///
    /// # Errors
    /// `Validation` on `customer_id` and `address_id`. An address of another customer does not exist for this one.
    fn of(&self, input: &CheckedOrder) -> Result<(Buyer, Option<PostalAddress>)> {
        let mut errors = ValidationErrors::default();
        let buyer = match (&input.guest, input.customer_id) {
            (Some(guest), _) => Buyer {
                first_name: Some(guest.first_name.clone()),
                last_name: Some(guest.last_name.clone()),
                email: Some(guest.email.clone()),
                telephone: guest.telephone.clone(),
            },
            (None, Some(id)) => self.customers.get(&id).cloned().unwrap_or_else(|| {
                let message = format!("names customer `{id}`, which does not exist");
                errors.push("customer_id", FieldCode::ReferenceNotFound, message);
                Buyer::default()
            }),
            (None, None) => Buyer::default(),
        };
        let address = match input.address_id {
            Some(id) => match self.addresses.get(&id).filter(|(owner, _)| Some(*owner) == input.customer_id) {
                Some((_, address)) => Some(address.clone()),
                None => {
                    let message = format!("names address `{id}`, which this customer does not have");
                    errors.push("address_id", FieldCode::ReferenceNotFound, message);
                    None
                }
            },
            None => input.shipping_address.clone(),
        };
        errors.into_result()?;
        Ok((buyer, address))
    }
}

/// The carts that a batch makes orders from, locked, and the orders that were already made from them.
struct Carts {
    carts: HashMap<CartId, Cart>,
    orders: HashMap<CartId, OrderRecord>,
}

impl Carts {
    fn ids(calls: &[Placing]) -> Vec<CartId> {
        calls.iter().filter_map(|c| c.cart.as_ref().map(|(id, _)| *id)).collect()
    }

    /// Returns the customers of the carts, which are held before the carts are locked (R24).
    async fn customers(tx: &mut Tx<'_>, calls: &[Placing]) -> Result<Vec<CustomerId>> {
        let carts = tx.carts().get_many(&Self::ids(calls)).await?;
        Ok(carts.into_iter().filter_map(|cart| cart.customer_id).collect())
    }

    async fn lock(tx: &mut Tx<'_>, calls: &[Placing]) -> Result<Self> {
        let locked = tx.carts().lock(&Self::ids(calls)).await?;
        let carts: HashMap<CartId, Cart> = locked.into_iter().map(|c| (c.id, c)).collect();
        let ordered: Vec<CartId> = carts.values().filter(|c| c.state == CartState::Ordered).map(|c| c.id).collect();
        let mut orders = HashMap::new();
        if !ordered.is_empty() {
            let made = tx.orders().of_carts(&ordered).await?;
            let ids: Vec<OrderId> = made.iter().map(|(_, order)| *order).collect();
            let records = tx.orders().records(&ids).await?;
            orders.extend(records.into_iter().filter_map(|r| Some((r.order.cart_id?, r))));
        }
        Ok(Self { carts, orders })
    }

    /// Returns what a call asks for: the order that its cart has already become, or the input with the lines and the
    /// customer of the cart.
    ///
    /// # Errors
    /// `NotFound`, `CART_ORDERED` if the order of the cart is soft-deleted, `CART_EXPIRED`, `CART_MERGED`, and
    /// `Validation` of an empty cart and of a buyer who is missing or named twice.
    fn wanted(&self, call: &Placing, now: Timestamp) -> Result<Wanted> {
        let Some((id, access)) = &call.cart else { return Ok(Wanted::Order(Box::new(call.input.clone()))) };
        let cart = access.check(*id, self.carts.get(id).cloned())?;
        if let Some(made) = self.orders.get(id) {
            // A soft-deleted order is not shown, but the cart is ordered all the same.
            let hidden = SalesConflict::CartOrdered { cart: id.0 };
            let live = made.order.audit.is_live().then(|| made.clone()).ok_or(hidden)?;
            return Ok(Wanted::Done(Outcome::Placed(Box::new(live))));
        }
        cart.check_open(now)?;
        let mut input = call.input.clone();
        let mut errors = ValidationErrors::default();
        if cart.lines.is_empty() {
            errors.push("lines", FieldCode::Required, "is required: the cart has no lines");
        }
        match (cart.customer_id, &input.guest) {
            (Some(_), Some(_)) => {
                errors.push("customer", FieldCode::Inconsistent, "must not be sent: the cart belongs to a customer");
            }
            (None, None) => {
                errors.push("customer", FieldCode::Required, "is required: the cart belongs to a guest");
            }
            _ => {}
        }
        if input.address_id.is_some() && cart.customer_id.is_none() {
            let message = "requires a customer's cart: a guest sends `shipping_address`";
            errors.push("address_id", FieldCode::Inconsistent, message);
        }
        errors.into_result()?;
        input.customer_id = cart.customer_id;
        let lines = cart.lines.into_iter().enumerate().map(|(i, line)| CheckedLine {
            field: format!("lines[{i}]"),
            sku: SkuRef::Id(line.sku_id),
            hides_drafts: false,
            quantity: line.quantity,
            shown: Some(line.seen_price),
            fixed: None,
            attributes: line.attributes,
        });
        input.lines = lines.collect();
        Ok(Wanted::Order(Box::new(input)))
    }
}

/// The idempotency keys of a batch, claimed.
struct Keys<'c> {
    /// What each request has found.
    found: HashMap<(&'c IdempotencyKey, RequestHash), Claimed>,
    /// The keys that this batch has claimed, with the hash in their row.
    new: HashMap<&'c IdempotencyKey, RequestHash>,
    /// The first call with each key that has an order.
    done: HashMap<&'c IdempotencyKey, (RequestHash, usize)>,
}

impl<'c> Keys<'c> {
    async fn claim(cx: &Arc<Context>, tx: &mut Tx<'_>, calls: &'c [Placing]) -> Result<Self> {
        let mut seen = HashSet::new();
        let keyed = calls.iter().filter_map(|c| c.keyed.as_ref()).filter(|k| seen.insert((&k.key, k.hash)));
        let keyed: Vec<&KeyedCall<Order>> = keyed.collect();
        let claims: Vec<Claim> = keyed.iter().map(|k| k.claim(cx)).collect();
        let claimed = tx.idempotency().claim(&claims).await?;
        let (mut found, mut new) = (HashMap::new(), HashMap::new());
        for (k, claimed) in keyed.into_iter().zip(claimed) {
            if claimed == Claimed::New {
                new.insert(&k.key, k.hash);
            }
            found.insert((&k.key, k.hash), claimed);
        }
        Ok(Self { found, new, done: HashMap::new() })
    }

    /// Returns the stored answer of an earlier call, or `None` if there was no such call before this batch.
    fn stored(&self, call: &Placing) -> Result<Option<StoredAnswer>> {
        let Some(keyed) = &call.keyed else { return Ok(None) };
        match self.found.get(&(&keyed.key, keyed.hash)) {
            Some(Claimed::Answered(answer)) => Ok(Some(answer.clone())),
            Some(Claimed::Reused) if !self.new.contains_key(&keyed.key) => Err(reused(&keyed.key)),
            Some(Claimed::Erased) => Err(erased(&keyed.key)),
            _ => Ok(None),
        }
    }

    /// Returns what a call asks for, after the calls of this batch that came before it: the answer of the call with the
    /// same key, if that one has an order.
    fn after(&self, call: &Placing, wanted: Wanted) -> Result<Wanted> {
        let Some(keyed) = &call.keyed else { return Ok(wanted) };
        if matches!(wanted, Wanted::Done(Outcome::Answered(_))) {
            return Ok(wanted);
        }
        match (self.done.get(&keyed.key), self.new.get(&keyed.key)) {
            (Some((hash, first)), _) if *hash == keyed.hash => Ok(Wanted::Done(Outcome::Twin(*first))),
            (Some(_), _) => Err(reused(&keyed.key)),
            // The row has the hash of an earlier call, which was refused. The key is free after this commit.
            (None, Some(hash)) if *hash != keyed.hash => Err(Error::Contention { source: None }),
            (None, _) => Ok(wanted),
        }
    }

    /// Returns the results of the calls. Stores the answers of those that have an order, and frees the keys of those
    /// that were refused.
    async fn answered(
        &self,
        tx: &mut Tx<'_>,
        calls: &[Placing],
        outcomes: Vec<Result<Outcome>>,
        records: &[(OrderRecord, EventId)],
    ) -> Result<Vec<Result<Placed>>> {
        let mut answers: BTreeMap<usize, (IdempotencyKey, StoredAnswer)> = BTreeMap::new();
        let mut results = Vec::with_capacity(calls.len());
        for (at, (call, outcome)) in calls.iter().zip(outcomes).enumerate() {
            let (record, event) = match outcome {
                Ok(Outcome::Inserted(order)) => {
                    let (record, event) = records.get(order).cloned().ok_or(MISSING)?;
                    (record, Some(event))
                }
                Ok(Outcome::Placed(record)) => (*record, None),
                Ok(Outcome::Answered(answer)) => {
                    results.push(Ok((Once::Replayed(answer), None)));
                    continue;
                }
                Ok(Outcome::Twin(first)) => {
                    let (_, answer) = answers.get(&first).cloned().ok_or(MISSING)?;
                    results.push(Ok((Once::Replayed(answer), None)));
                    continue;
                }
                Err(refusal) => {
                    results.push(Err(refusal));
                    continue;
                }
            };
            if let Some(keyed) = &call.keyed {
                // The erasure of the customer removes the answer, also one that does not say whom it is about (R45).
                let answer = keyed.answer(&record.order, event)?;
                let subject = answer.subject().or_else(|| record.order.subject());
                answers.insert(at, (keyed.key.clone(), answer.about(subject)));
            }
            results.push(Ok((Once::Ran(record), event)));
        }
        let refused = self.new.keys().filter(|key| !self.done.contains_key(**key));
        let refused: Vec<IdempotencyKey> = refused.map(|key| (*key).clone()).collect();
        tx.idempotency().store(&answers.into_values().collect::<Vec<_>>()).await?;
        tx.idempotency().release(&refused).await?;
        Ok(results)
    }
}
