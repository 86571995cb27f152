//! Demo data: customers, and some weeks of orders that end yesterday.
//!
//! The library itself makes them, in a shop on the same database whose clock runs through these weeks. The choices come
//! from a fixed sequence of numbers, so that every run places the same orders; only their dates depend on the day.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ecom::catalog::{ProductFilter, ProductListQuery, ProductSort, ProductStatus};
use ecom::clock::{Clock as _, ManualClock, SystemClock, Timestamp};
use ecom::common::{ExpectedVersion, ExternalRef};
use ecom::id::{AddressId, OrderId, SkuId};
use ecom::money::Money;
use ecom::paging::Paging;
use ecom::sales::{
    AddressFilter, Customer, CustomerFilter, CustomerSort, DeliveryMethod, GuestInput, OrderFilter, OrderInput,
    OrderLineInput, OrderSort, PaymentType,
};
use ecom::{Shop, ShopBuilder};

use crate::Result;

/// How many days have orders.
const DAYS: u64 = 42;
const DAY: u64 = 24 * 60 * 60;
const HOUR: u64 = 60 * 60;

/// A shop on the same database whose clock stands at a moment before the first order.
pub struct Past {
    /// The shop. It has neither search nor a cache; the shop of the server reads its events.
    pub shop: Shop,
    clock: Arc<ManualClock>,
    start: Timestamp,
}

impl Past {
    /// Opens the past of a shop that has no orders. Returns `None` if it has some.
    pub async fn of(shop: &Shop) -> Result<Option<Self>> {
        let (orders, _) = shop.orders().list(&OrderFilter::default(), OrderSort::default(), &Paging::first(1)).await?;
        if !orders.items.is_empty() {
            return Ok(None);
        }
        let now = SystemClock.now();
        let today = now.timestamp() - now.timestamp().rem_euclid(DAY.cast_signed());
        let start = today - (DAYS * DAY).cast_signed();
        // The catalog and the customers are older than the first order.
        let clock = Arc::new(ManualClock::at_micros((start - DAY.cast_signed()) * 1_000_000));
        let past = ShopBuilder::new()
            .with_storage(shop.storage().clone())
            .search("none")
            .cache("none")
            .clock(clock.clone())
            .config(shop.config().clone())
            .build()
            .await?;
        let start = Timestamp::from_timestamp(start, 0).ok_or("the clock of this machine is wrong")?;
        Ok(Some(Self { shop: past, clock, start }))
    }

    /// Places the orders, and delivers or cancels most of them: all in one transaction, so that a run that is
    /// interrupted leaves none. Returns how many there are.
    pub async fn orders(&self, source: &str) -> Result<usize> {
        let plan = self.plan(source).await?;
        let mut tx = self.shop.begin().await?;
        let orders = self.shop.orders();
        let mut placed: HashMap<usize, OrderId> = HashMap::new();
        for (at, (n, step)) in plan.steps {
            self.advance_to(at);
            match (step, placed.get(&n)) {
                (Step::Place, _) => {
                    let order = orders.place_in(&mut tx, &plan.orders[n]).await?;
                    placed.insert(n, order.id);
                }
                (Step::Start, Some(id)) => drop(orders.start_in(&mut tx, *id, ExpectedVersion::Unspecified).await?),
                (Step::Deliver, Some(id)) => drop(orders.deliver_in(&mut tx, *id, ExpectedVersion::Unspecified).await?),
                (Step::Cancel, Some(id)) => drop(orders.cancel_in(&mut tx, *id).await?),
                (_, None) => return Err("an order changes before it is placed".into()),
            }
        }
        tx.commit().await?.run().await;
        Ok(placed.len())
    }

    /// Sets the clock to a number of seconds after the first day began.
    fn advance_to(&self, seconds: u64) {
        let at = self.start + Duration::from_secs(seconds);
        self.clock.advance((at - self.clock.now()).to_std().unwrap_or_default());
    }

    async fn plan(&self, source: &str) -> Result<Plan> {
        let goods = self.goods().await?;
        let buyers = self.buyers(source).await?;
        if goods.is_empty() || buyers.is_empty() {
            return Err("the demo needs products in stock and its customers".into());
        }
        let mut dice = Dice(20_260_101);
        let mut plan = Plan::default();
        let mut left: Vec<i64> = goods.iter().map(|g| g.available).collect();
        for day in 0..DAYS {
            // Trade grows, and is better on two days of seven.
            let orders = 3 + day / 14 + 3 * u64::from(day % 7 >= 5) + dice.below(3);
            for _ in 0..orders {
                let at = day * DAY + 8 * HOUR + dice.below(13 * HOUR);
                let mut lines = Vec::new();
                let mut chosen = HashSet::new();
                for _ in 0..=dice.below(3) {
                    let i = dice.favourite(goods.len());
                    let quantity = if dice.below(4) == 0 { 2 } else { 1 };
                    // Some stock is left, so that the demo sells nothing out.
                    if left[i] >= quantity + 5 && chosen.insert(i) {
                        left[i] -= quantity;
                        lines.push(OrderLineInput::new(goods[i].sku, quantity, goods[i].price.amount()));
                    }
                }
                if lines.is_empty() {
                    continue;
                }
                let n = plan.orders.len();
                let (buyer, home) = &buyers[dice.favourite(buyers.len())];
                plan.orders.push(order(&mut dice, n, buyer, *home, lines));
                plan.history(&mut dice, n, at);
            }
        }
        Ok(plan)
    }

    /// Returns the SKUs of active products that are in stock.
    async fn goods(&self) -> Result<Vec<Good>> {
        let mut goods = Vec::new();
        let filter = ProductFilter { status: Some(ProductStatus::Active), ..ProductFilter::default() };
        let mut query = ProductListQuery { filter, sort: ProductSort::CreatedAsc, paging: Paging::first(500) };
        loop {
            let page = self.shop.products().list(&query).await?.value.page.clone();
            for product in &page.items {
                for sku in &product.skus {
                    let (sku, price, available) = (sku.id, sku.final_price(product.discount), sku.available());
                    goods.push(Good { sku, price, available });
                }
            }
            let Some(after) = page.next else { return Ok(goods) };
            query.paging = Paging::Keyset { after: Some(after), limit: 500 };
        }
    }

    /// Returns the customers of the demo, each with an address.
    async fn buyers(&self, source: &str) -> Result<Vec<(Customer, Option<AddressId>)>> {
        let all = Paging::first(1_000);
        let (customers, _) =
            self.shop.customers().list(&CustomerFilter::default(), CustomerSort::CreatedAsc, &all).await?;
        let (addresses, _) = self.shop.addresses().list(&AddressFilter::default(), &all).await?;
        let of_demo = |c: &Customer| c.external.as_ref().is_some_and(|x: &ExternalRef| x.source == source);
        let home = |c: &Customer| addresses.items.iter().find(|a| a.customer_id == c.id).map(|a| a.id);
        Ok(customers.items.iter().filter(|c| of_demo(c)).map(|c| (c.clone(), home(c))).collect())
    }
}

/// A SKU to sell.
struct Good {
    sku: SkuId,
    price: Money,
    available: i64,
}

#[derive(Clone, Copy)]
enum Step {
    Place,
    Start,
    Deliver,
    Cancel,
}

/// The orders, and what happens to them by time, in seconds after the first day began. No two steps have the same time.
#[derive(Default)]
struct Plan {
    orders: Vec<OrderInput>,
    steps: BTreeMap<u64, (usize, Step)>,
}

impl Plan {
    fn add(&mut self, mut at: u64, n: usize, step: Step) {
        while self.steps.contains_key(&at) {
            at += 1;
        }
        if at < DAYS * DAY {
            self.steps.insert(at, (n, step));
        }
    }

    /// Adds the history of an order. The latest orders are not delivered yet.
    fn history(&mut self, dice: &mut Dice, n: usize, at: u64) {
        self.add(at, n, Step::Place);
        let started = at + HOUR + dice.below(20 * HOUR);
        if dice.below(16) == 0 {
            self.add(started, n, Step::Cancel);
        } else {
            self.add(started, n, Step::Start);
            self.add(started + 4 * HOUR + dice.below(3 * DAY), n, Step::Deliver);
        }
    }
}

fn order(
    dice: &mut Dice,
    n: usize,
    buyer: &Customer,
    home: Option<AddressId>,
    lines: Vec<OrderLineInput>,
) -> OrderInput {
    let mut input = OrderInput { lines, ..OrderInput::default() };
    let method = dice.below(10);
    if dice.below(8) == 0 {
        let (first, last) = (buyer.first_name.clone(), buyer.last_name.clone());
        let email = format!("guest-{n}@example.com");
        input.customer = Some(GuestInput { first_name: first, last_name: last, email, telephone: None });
        input.delivery_method = Some(if method < 6 { DeliveryMethod::OnHand } else { DeliveryMethod::DriveThru });
    } else {
        input.customer_id = Some(buyer.id);
        input.address_id = home.filter(|_| method < 6);
        input.delivery_method = Some(match (input.address_id, method) {
            (Some(_), _) => DeliveryMethod::HomeDelivery,
            (None, 0..=8) => DeliveryMethod::OnHand,
            (None, _) => DeliveryMethod::DriveThru,
        });
    }
    if dice.below(3) > 0 {
        input.payment_type = PaymentType::Card;
        input.paid = true;
    }
    input.source("demo").external_id((n + 1).to_string())
}

/// A fixed sequence of numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }

    /// Returns a number below `n`. Low ones are more frequent.
    fn favourite(&mut self, n: usize) -> usize {
        let n = n as u64;
        let (a, b) = (self.below(n), self.below(n));
        usize::try_from(a * b / n).unwrap_or_default()
    }
}
