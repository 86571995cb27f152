//! Orders of four processes on one database, which are killed at random: nothing is oversold, nothing acknowledged is
//! lost, and every key is honoured once.
//!
//! `ECOM_CRASH_KILLS` sets how many processes each test kills: 5 by default, 50 for a long proof.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ecom_core::common::{ExpectedVersion, IncludeDeleted};
use ecom_core::config::ShopConfig;
use ecom_core::id::{BillId, CartId, OrderId, OrderLineId, SkuId};
use ecom_core::money::Currency;
use ecom_core::paging::Paging;
use ecom_core::platform::{KeyedCall, Once, RequestHash, StoredAnswer};
use ecom_core::port::{Cache, NoCache, NoSearch, SearchProvider, Storage as _};
use ecom_core::sales::{
    CancelUnits, CartAccess, CartInput, CartLineInput, CartToken, CheckoutInput, DeliveryMethod, GuestInput,
    LineChange, Order, OrderEdit, OrderFilter, OrderInput, OrderLineInput, OrderSort, OrderStatus,
};
use ecom_core::search::SearchQuery;
use ecom_core::{ErrorCode, Result, Shop, ShopParts};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use super::{HashOneOf as _, Place, Process, engine, input, say, storage};

const PROCESSES: usize = 4;
/// The shoppers of each process; four times as many in all as there are pieces.
const SHOPPERS: usize = 100;
const STOCK: i64 = 100;
/// The SKU that every order sells, and the others.
const CODES: [&str; 4] = ["hot", "pen", "ink", "cap"];
const SCARCE: [i64; CODES.len()] = [STOCK; CODES.len()];
/// The calls of a process that run at once.
const AT_ONCE: usize = 16;
/// The callers of one key in each process.
const CALLERS: usize = 40;
const ANY: ExpectedVersion = ExpectedVersion::Unspecified;
const STAFF: &CartAccess = &CartAccess::Permission;

/// Opens a shop that has no index and no cache, since orders need none, unless the place names them.
pub async fn open(at: &Place) -> Shop {
    let storage = storage(at);
    storage.migrate(Currency::USD).await.unwrap();
    let search: Arc<dyn SearchProvider> = if at.search.is_some() { engine(at).await } else { Arc::new(NoSearch) };
    let cache: Arc<dyn Cache> = match &at.cache {
        None => Arc::new(NoCache),
        #[cfg(feature = "redis")]
        Some(url) => {
            let options = ecom_storage::cache::RedisOptions::from_url(url).unwrap();
            Arc::new(ecom_storage::cache::RedisCache::open(options).await.unwrap())
        }
        #[cfg(not(feature = "redis"))]
        Some(_) => panic!("Redis is not built in"),
    };
    let config = ShopConfig::default().poll_interval(Duration::from_millis(100));
    Shop::new(ShopParts { cache, config, ..ShopParts::new(Arc::new(storage), search) }).unwrap()
}

/// Returns how many processes each test kills.
pub fn kills() -> usize {
    let given = std::env::var_os("ECOM_CRASH_KILLS").and_then(|n| n.into_string().ok());
    given.map_or(5, |n| n.parse().unwrap())
}

/// Makes a call again until it has an answer. With `any outcome`, also after a call that may have had its effect.
macro_rules! insist {
    (any outcome, $call:expr) => {
        insist!(@ |_: &ecom_core::Error| true, $call)
    };
    (known outcome, $call:expr) => {
        insist!(@ |e: &ecom_core::Error| !e.outcome_unknown(), $call)
    };
    (@ $again:expr, $call:expr) => {{
        let mut tries = 0;
        loop {
            match $call.await {
                Err(e) if e.is_retryable() && $again(&e) => {
                    tries += 1;
                    assert!(tries < 10_000, "a call is never answered: {e:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => break done,
            }
        }
    }};
}

// ---------------------------------------------------------------- the children

/// Runs a child: the role `orders …` with the commands that the parent writes to its input.
pub async fn child(at: &Place, role: &str, name: &str) {
    let shop = open(at).await;
    let _background = at.search.is_some().then(|| shop.start());
    let (to, commands) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    match role {
        "orders sell" => sell(at, shop, name, false, commands).await,
        "orders sell and cancel" => sell(at, shop, name, true, commands).await,
        "orders one key" => one_key(shop, commands).await,
        "orders together" => together(shop, commands).await,
        "orders naive" => naive(at, shop, name, commands).await,
        other => panic!("no such role: {other}"),
    }
}

async fn sku(shop: &Shop, code: &str) -> SkuId {
    insist!(any outcome, shop.skus().get_by_code(code)).unwrap().id
}

fn line(sku: SkuId, quantity: i64) -> OrderLineInput {
    OrderLineInput::new(sku, quantity, "10".parse::<ecom_core::money::ExactDecimal>().unwrap())
}

fn guest(email: String) -> GuestInput {
    GuestInput { first_name: "Grace".into(), last_name: "Hopper".into(), email, telephone: None }
}

/// Places an order at most once for a key, and returns the stored answer.
async fn place_once(shop: &Shop, key: &str, input: &OrderInput) -> Result<(OrderId, String, String)> {
    let named = shop.idempotency().key("orders.place", key)?;
    let summary = |order: &Order| (order.id, order.number.clone(), order.totals.total.to_string());
    let answer = move |order: &Order, _| StoredAnswer::json(&summary(order));
    let call = KeyedCall::new(named, RequestHash::of([key.as_bytes()]), answer);
    match shop.orders().place_once(input, call).await? {
        Once::Ran(order) => Ok(summary(&order)),
        Once::Replayed(answer) => answer.read(),
    }
}

/// A third of the orders has no key.
const fn has_key(visit: usize) -> bool {
    visit % 3 != 2
}

/// The shoppers of one process.
struct Shoppers {
    shop: Shop,
    name: String,
    skus: Vec<SkuId>,
    cancels: bool,
    /// Whether each shopper searches first.
    searches: bool,
    /// The visits of killed processes, which are not begun again.
    begun: BTreeSet<usize>,
    next: AtomicUsize,
    turns: Semaphore,
}

impl Shoppers {
    /// Sends the next shopper, unless everybody has come and nobody comes twice.
    async fn next(&self, twice: bool) -> bool {
        let _turn = self.turns.acquire().await.unwrap();
        let mut visit = self.next.fetch_add(1, Ordering::SeqCst);
        while self.begun.contains(&visit) {
            visit = self.next.fetch_add(1, Ordering::SeqCst);
        }
        if visit >= SHOPPERS && !twice {
            return false;
        }
        self.begin(visit).await;
        true
    }

    async fn begin(&self, visit: usize) {
        say(&format!("begin {} {visit}", self.name));
        self.shops(visit).await;
    }

    fn input(&self, visit: usize) -> (String, OrderInput) {
        let key = format!("{}-{visit}", self.name);
        let email = format!("shopper{}-{}@example.com", self.name, visit % SHOPPERS);
        let order = OrderInput::for_guest(guest(email), DeliveryMethod::OnHand).attribute("key", key.as_str());
        // In both orders, so that locks would wait in a circle if they were taken in the order of the lines.
        let order = match visit % 4 {
            0 => order.line(line(self.skus[0], 1)),
            1 => order.line(line(self.skus[0], 1)).line(line(self.skus[1], 1)),
            2 => order.line(line(self.skus[2], 1)).line(line(self.skus[0], 1)),
            _ => order.line(line(self.skus[1], 1)).line(line(self.skus[2], 1)).line(line(self.skus[0], 1)),
        };
        (key, order)
    }

    async fn place(&self, visit: usize) -> Option<OrderId> {
        let (key, input) = self.input(visit);
        let placed = if has_key(visit) {
            insist!(any outcome, place_once(&self.shop, &key, &input)).map(|(id, ..)| id)
        } else {
            insist!(known outcome, self.shop.orders().place(&input)).map(|order| order.id)
        };
        match placed {
            Ok(id) => {
                say(&format!("placed {key} {id}"));
                Some(id)
            }
            // Without a key, nobody knows whether the order was placed.
            Err(e) if e.outcome_unknown() => {
                say(&format!("unknown {key}"));
                None
            }
            Err(e) => {
                assert_eq!(e.code(), ErrorCode::InsufficientStock, "{key}: {e:?}");
                say(&format!("refused {key}"));
                None
            }
        }
    }

    /// Places an order, and edits and cancels it, if the shop cancels. All of it can be repeated.
    async fn shops(&self, visit: usize) {
        let key = self.input(visit).0;
        if self.searches {
            let query =
                SearchQuery { text: CODES[visit % CODES.len()].to_owned(), limit: 10, ..SearchQuery::default() };
            match self.shop.search().search(&query).await {
                Ok(found) => assert!(found.total.count <= CODES.len() as u64, "{found:?}"),
                Err(e) => assert!(e.is_retryable(), "{key}: {e:?}"),
            }
        }
        if let Some(id) = self.place(visit).await
            && self.cancels
        {
            if visit.is_multiple_of(2) {
                self.edit(&key, id).await;
            }
            if visit.is_multiple_of(6) {
                self.cancel_a_unit(&key, id).await;
            }
            // Some keep what they have bought, but not so many that the last piece is sold early.
            if !visit.is_multiple_of(40) {
                let canceled = insist!(any outcome, self.shop.orders().cancel(id)).unwrap();
                assert_eq!(canceled.status, OrderStatus::Canceled);
                say(&format!("canceled {key} {id} {}", canceled.audit.version));
            }
        }
        say(&format!("done {key}"));
    }

    async fn read(&self, id: OrderId) -> Order {
        insist!(any outcome, self.shop.orders().get(id, IncludeDeleted::No)).unwrap()
    }

    /// Adds a piece to the hot line, and a line.
    async fn edit(&self, key: &str, id: OrderId) {
        let order = self.read(id).await;
        let hot = order.lines.iter().find(|l| l.sku_id == Some(self.skus[0])).unwrap().id;
        let edit = OrderEdit::default().with(LineChange::quantity(hot, 2)).line(line(self.skus[3], 1));
        // It names the version as the order was placed, so that a repetition does not edit twice.
        let edited = insist!(any outcome, self.shop.orders().edit(id, ExpectedVersion::Exact(1), &edit));
        changed("edited", key, id, edited);
    }

    async fn cancel_a_unit(&self, key: &str, id: OrderId) {
        let order = self.read(id).await;
        if order.status == OrderStatus::Canceled || order.lines.iter().any(|l| l.canceled > 0) {
            return;
        }
        let line_id = order.lines.iter().find(|l| l.sku_id == Some(self.skus[0])).unwrap().id;
        let (version, units) = (ExpectedVersion::Exact(order.audit.version), [CancelUnits { line_id, quantity: 1 }]);
        let canceled = insist!(any outcome, self.shop.orders().cancel_units(id, version, &units));
        changed("returned", key, id, canceled);
    }
}

fn changed(verb: &str, key: &str, id: OrderId, changed: Result<Order>) {
    match changed {
        Ok(order) => say(&format!("{verb} {key} {id} {}", order.audit.version)),
        // The first one has happened, and its answer was lost.
        Err(e) if e.code() == ErrorCode::VersionConflict => {}
        Err(e) => assert_eq!(e.code(), ErrorCode::InsufficientStock, "{key}: {e:?}"),
    }
}

async fn sell(at: &Place, shop: Shop, name: &str, cancels: bool, mut commands: UnboundedReceiver<String>) {
    let mut skus = Vec::new();
    for code in CODES {
        skus.push(sku(&shop, code).await);
    }
    // The visits of the processes of this name that were killed, each with whether it was done.
    let before = std::fs::read_to_string(at.dir.join(format!("{name}.visits"))).unwrap();
    let before: Vec<(usize, bool)> = before.lines().map(|l| l.split_once(' ').unwrap()).map(read_visit).collect();
    let (begun, next) = (before.iter().map(|(visit, _)| *visit).collect(), AtomicUsize::new(0));
    let turns = Semaphore::new(AT_ONCE);
    let (name, searches) = (name.to_owned(), at.search.is_some());
    let shoppers = Arc::new(Shoppers { shop, name, skus, cancels, searches, begun, next, turns });
    let closed = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for (visit, done) in before {
        // Repeats each visit whose answer was lost, and some of the others.
        if has_key(visit) && (!done || visit.is_multiple_of(8)) {
            let shoppers = shoppers.clone();
            tasks.spawn(async move {
                let _turn = shoppers.turns.acquire().await.unwrap();
                if done {
                    shoppers.place(visit).await;
                } else {
                    shoppers.begin(visit).await;
                }
                true
            });
        }
    }
    say("ready");
    while let Some(command) = commands.recv().await {
        if command == "rush" {
            for _ in 0..AT_ONCE {
                let shoppers = shoppers.clone();
                tasks.spawn(async move {
                    while shoppers.next(false).await {}
                    false
                });
            }
            break;
        }
        if command == "go on" {
            for _ in 0..AT_ONCE {
                let (shoppers, closed) = (shoppers.clone(), closed.clone());
                tasks.spawn(async move {
                    while !closed.load(Ordering::SeqCst) {
                        shoppers.next(true).await;
                    }
                    false
                });
            }
            continue;
        }
        for _ in 0..command.parse().unwrap() {
            let shoppers = shoppers.clone();
            tasks.spawn(async move { shoppers.next(true).await });
        }
    }
    closed.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    say("end");
}

fn read_visit((visit, done): (&str, &str)) -> (usize, bool) {
    (visit.parse().unwrap(), done == "done")
}

/// Makes one call from many tasks for each command, which is the key.
async fn one_key(shop: Shop, mut commands: UnboundedReceiver<String>) {
    let hot = sku(&shop, "hot").await;
    say("ready");
    while let Some(key) = commands.recv().await {
        let mut tasks = JoinSet::new();
        for _ in 0..CALLERS {
            let (shop, key) = (shop.clone(), key.clone());
            tasks.spawn(async move {
                let order = OrderInput::for_guest(guest(format!("{key}@example.com")), DeliveryMethod::OnHand);
                let order = order.line(line(hot, 1)).attribute("key", key.as_str());
                let (id, number, total) = insist!(any outcome, place_once(&shop, &key, &order)).unwrap();
                say(&format!("answer {key} {id} {number} {total}"));
            });
        }
        tasks.join_all().await;
        say(&format!("ended {key}"));
    }
}

/// Cancels an order, checks out a cart or merges carts from many tasks.
async fn together(shop: Shop, mut commands: UnboundedReceiver<String>) {
    let hot = sku(&shop, "hot").await;
    say("ready");
    while let Some(command) = commands.recv().await {
        let words: Vec<&str> = command.split(' ').collect();
        let mut tasks = JoinSet::new();
        match words.as_slice() {
            ["cancel", order, times] => {
                let id: OrderId = order.parse().unwrap();
                for _ in 0..times.parse().unwrap() {
                    let shop = shop.clone();
                    tasks.spawn(async move {
                        let order = insist!(any outcome, shop.orders().cancel(id)).unwrap();
                        say(&format!("answer {:?} {}", order.status, order.audit.version));
                    });
                }
            }
            ["checkout", cart, token, times] => {
                let cart: CartId = cart.parse().unwrap();
                for _ in 0..times.parse().unwrap() {
                    let (shop, access) = (shop.clone(), CartAccess::from(CartToken::new(*token)));
                    tasks.spawn(async move {
                        let buyer = guest("grace@example.com".into());
                        let input = CheckoutInput::for_guest(buyer, DeliveryMethod::OnHand);
                        let order = insist!(any outcome, shop.orders().checkout(cart, &access, &input)).unwrap();
                        say(&format!("answer {} {}", order.id, order.number));
                    });
                }
            }
            ["merge", name, into, carts @ ..] => {
                let into: CartId = into.parse().unwrap();
                for (n, from) in carts.iter().enumerate() {
                    let (shop, name, from): (_, _, CartId) = (shop.clone(), (*name).to_owned(), from.parse().unwrap());
                    tasks.spawn(async move {
                        let price = ecom_core::money::Money::from_minor(1_000, Currency::USD);
                        let own = CartLineInput::new(hot, 1, price).attribute("own", format!("{name}-{n}"));
                        insist!(known outcome, shop.carts().add_line(into, STAFF, ANY, &own)).unwrap();
                        insist!(any outcome, shop.carts().merge(from, STAFF, into, STAFF)).unwrap();
                    });
                }
            }
            other => panic!("no such command: {other:?}"),
        }
        tasks.join_all().await;
        say("ended");
    }
}

// ---------------------------------------------------------------- the parent

/// Processes of one role.
pub struct Crew<'a> {
    /// The place of each process.
    at: Vec<&'a Place>,
    role: &'static str,
    pub processes: Vec<Process>,
    /// What each has printed, those before it that were killed included.
    said: Vec<Vec<String>>,
    /// How many visits the kills have interrupted.
    interrupted: usize,
    random: u64,
}

impl<'a> Crew<'a> {
    /// Starts four processes in one place.
    fn start(at: &'a Place, role: &'static str) -> Self {
        Self::of(vec![at; PROCESSES], role)
    }

    /// Starts a process in each place.
    pub fn of(at: Vec<&'a Place>, role: &'static str) -> Self {
        let random = std::collections::hash_map::RandomState::new().hash_one_of(role);
        let said = vec![Vec::new(); at.len()];
        let mut crew = Self { at, role, processes: Vec::new(), said, interrupted: 0, random };
        for n in 0..crew.at.len() {
            let process = crew.process(n);
            crew.processes.push(process);
        }
        for process in &crew.processes {
            process.line("ready");
        }
        crew
    }

    fn process(&self, n: usize) -> Process {
        let (mut visits, said) = (BTreeMap::new(), &self.said[n]);
        for line in said {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["begin", _, visit] => drop(visits.entry(visit).or_insert("begun")),
                ["done", key] => drop(visits.insert(key.split_once('-').unwrap().1, "done")),
                _ => {}
            }
        }
        let visits: Vec<String> = visits.into_iter().map(|(visit, done)| format!("{visit} {done}")).collect();
        std::fs::write(self.at[n].dir.join(format!("{n}.visits")), visits.join("\n")).unwrap();
        Process::start(self.at[n], self.role, &n.to_string())
    }

    pub fn tell(&mut self, command: &str) {
        for process in &mut self.processes {
            process.tell(command);
        }
    }

    /// Returns a number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.random = std::collections::hash_map::RandomState::new().hash_one_of(&self.random.to_string());
        self.random % n
    }

    /// Kills one of the processes at a random moment of the next milliseconds, and starts another in its place, which
    /// it returns.
    async fn kill_one(&mut self, within: u64) -> usize {
        let wait = Duration::from_millis(self.below(within));
        tokio::time::sleep(wait).await;
        let n = usize::try_from(self.below(self.at.len() as u64)).unwrap();
        let killed = self.processes.remove(n);
        let said = killed.kill();
        let (mut begun, mut done) = (0, 0);
        for line in &said {
            begun += usize::from(line.starts_with("begin "));
            done += usize::from(line.starts_with("done "));
        }
        self.interrupted += begun - done.min(begun);
        self.said[n].extend(said);
        let next = self.process(n);
        next.line("ready");
        self.processes.insert(n, next);
        n
    }

    /// Waits for the end of all, and returns what each process has printed.
    pub fn end(mut self) -> Vec<String> {
        for process in &mut self.processes {
            process.close();
        }
        let ended = self.processes.into_iter().map(Process::end);
        self.said.into_iter().flatten().chain(ended.flatten()).collect()
    }
}

/// Opens a shop with `STOCK` pieces of each SKU.
async fn stocked(at: &Place) -> Shop {
    stocked_with(at, SCARCE).await
}

/// Opens a shop with so many pieces of each of the SKUs.
pub async fn stocked_with(at: &Place, pieces: [i64; CODES.len()]) -> Shop {
    let shop = open(at).await;
    for (code, pieces) in CODES.iter().zip(pieces) {
        let product = serde_json::json!({ "title": code, "price": 10, "stock": pieces, "sku": code });
        shop.products().create(&input(&product)).await.unwrap();
    }
    shop
}

pub async fn all_orders(shop: &Shop) -> Vec<Order> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let filter = OrderFilter { include_deleted: IncludeDeleted::Yes, ..OrderFilter::default() };
        let paging = Paging::Keyset { after, limit: 200 };
        let (page, _) = shop.orders().list(&filter, OrderSort::default(), &paging).await.unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// The pieces of a SKU that are sold and not canceled.
fn sold(orders: &[Order], sku: SkuId) -> i64 {
    orders.iter().flat_map(|o| &o.lines).filter(|l| l.sku_id == Some(sku)).map(|l| l.quantity - l.canceled).sum()
}

/// The oracle: returns what is wrong with a shop that had `STOCK` pieces of each SKU, and nothing if nothing is.
async fn wrong(shop: &Shop) -> Vec<String> {
    wrong_with(shop, SCARCE).await
}

/// As [`wrong`], for a shop that had so many pieces of each of the SKUs.
pub async fn wrong_with(shop: &Shop, pieces: [i64; CODES.len()]) -> Vec<String> {
    let report = shop.audit().run().await.unwrap();
    let mut wrong: Vec<String> = report.findings.iter().map(|f| format!("audit: {f:?}")).collect();
    wrong.extend(shop.inventory().imbalances().await.unwrap().iter().map(|i| format!("ledger: {i:?}")));
    let orders = all_orders(shop).await;
    assert_eq!(report.orders, orders.len() as u64, "the audit reads every order");
    for (code, pieces) in CODES.iter().zip(pieces) {
        let sku = sku(shop, code).await;
        let (sold, left) = (sold(&orders, sku), shop.inventory().level(sku).await.unwrap().on_hand);
        if sold + left != pieces || left < 0 {
            wrong.push(format!("stock: of {pieces} {code}, {sold} are sold and {left} are left"));
        }
    }
    wrong
}

/// The orders of each key, which is an attribute of theirs.
fn by_key(orders: &[Order]) -> BTreeMap<String, Vec<&Order>> {
    let mut keys: BTreeMap<String, Vec<&Order>> = BTreeMap::new();
    for order in orders {
        keys.entry(order.attributes.0["key"].as_str().unwrap().to_owned()).or_default().push(order);
    }
    keys
}

/// Checks what the processes have acknowledged.
pub fn acknowledged(said: &[String], orders: &[Order], cancels: bool) {
    let keys = by_key(orders);
    let (mut begun, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut placed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut verbs: BTreeMap<&str, usize> = BTreeMap::new();
    for line in said {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begin", name, visit] => drop(begun.insert(format!("{name}-{visit}"))),
            ["done", key] => drop(done.insert(key.to_owned())),
            ["placed", key, id] => drop(placed.entry(key).or_default().insert(id)),
            ["refused" | "unknown", _] => {}
            [verb @ ("edited" | "returned" | "canceled"), key, id, version] => {
                let order = keys[key].iter().find(|o| o.id.to_string() == id).unwrap();
                assert!(order.audit.version >= version.parse().unwrap(), "lost: {line}: {order:#?}");
                assert!(verb != "canceled" || order.status == OrderStatus::Canceled, "lost: {line}: {order:#?}");
            }
            _ => continue,
        }
        *verbs.entry(words[0]).or_default() += 1;
    }
    println!("{verbs:?}");
    for (key, ids) in &placed {
        assert_eq!(ids.len(), 1, "{key} was answered with several orders: {ids:?}");
        let found: Vec<String> = keys.get(*key).into_iter().flatten().map(|o| o.id.to_string()).collect();
        assert_eq!(found, ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>(), "{key}");
    }
    let mut lost = 0;
    for (key, found) in &keys {
        assert_eq!(found.len(), 1, "{key} has several orders");
        assert!(begun.contains(key), "{key} was never asked for");
        // An order without a key is not asked for again after its answer was lost.
        let visit: usize = key.split_once('-').unwrap().1.parse().unwrap();
        if placed.contains_key(key.as_str()) {
            continue;
        }
        assert!(!has_key(visit), "{key} was placed, and not acknowledged in the end");
        lost += 1;
    }
    let open = begun.difference(&done).filter(|key| has_key(key.rsplit('-').next().unwrap().parse().unwrap()));
    assert_eq!(open.collect::<Vec<_>>(), Vec::<&String>::new(), "a shopper with a key was never answered");
    println!("{} visits, {} orders, {lost} of them acknowledged to nobody", begun.len(), orders.len());
    assert!(!cancels || verbs.contains_key("canceled") && verbs.contains_key("edited"));
}

async fn sells(at: &Place, cancels: bool) {
    let shop = stocked(at).await;
    let mut crew = Crew::start(at, if cancels { "orders sell and cancel" } else { "orders sell" });
    let kills = kills();
    // Without cancels, the processes are killed while the first hundred orders are placed.
    let visits = if cancels { 12 } else { (25 / kills).max(1) };
    for _ in 0..kills {
        crew.tell(&visits.to_string());
        crew.kill_one(60).await;
    }
    crew.tell("rush");
    let (interrupted, said) = (crew.interrupted, crew.end());
    println!("{kills} kills on {}, {interrupted} visits interrupted", shop.storage().name());
    assert_eq!(wrong(&shop).await, Vec::<String>::new());
    let orders = all_orders(&shop).await;
    acknowledged(&said, &orders, cancels);
    let visits = said.iter().filter(|line| line.starts_with("begin ")).collect::<BTreeSet<_>>().len();
    assert!(visits >= PROCESSES * SHOPPERS, "only {visits} of all shoppers came");
    if !cancels {
        let hot = sku(&shop, "hot").await;
        assert_eq!((sold(&orders, hot), shop.inventory().level(hot).await.unwrap().on_hand), (STOCK, 0));
    }
    shop.storage().close().await;
}

pub async fn r07_r12_killed_processes_sell_each_piece_once(at: &Place) {
    sells(at, false).await;
}

pub async fn r07_r09_r10_r12_killed_processes_edit_and_cancel_and_lose_nothing(at: &Place) {
    sells(at, true).await;
}

/// In each round, 4 × 40 callers use one key, and one process is killed and asks again.
pub async fn r12_one_key_of_many_callers_in_killed_processes_makes_one_order(at: &Place) {
    let shop = stocked(at).await;
    let mut crew = Crew::start(at, "orders one key");
    let rounds = kills();
    for round in 0..rounds {
        let key = format!("key{round}");
        crew.tell(&key);
        let n = crew.kill_one(60).await;
        crew.processes[n].tell(&key);
        for process in &crew.processes {
            process.line(&format!("ended {key}"));
        }
    }
    let said = crew.end();
    assert_eq!(wrong(&shop).await, Vec::<String>::new());
    let orders = all_orders(&shop).await;
    let keys = by_key(&orders);
    assert_eq!((keys.len(), orders.len()), (rounds, rounds), "one order for each key");
    let mut answers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in said.iter().filter_map(|l| l.strip_prefix("answer ")) {
        let (key, answer) = line.split_once(' ').unwrap();
        answers.entry(key).or_default().push(answer);
    }
    for (key, of_key) in &answers {
        let order = keys[*key][0];
        let expected = format!("{} {} {}", order.id, order.number, order.totals.total);
        assert!(of_key.len() >= PROCESSES * CALLERS, "{key} has {} answers", of_key.len());
        assert!(of_key.iter().all(|answer| *answer == expected), "{key}: not all are {expected}: {of_key:?}");
    }
    let given: usize = answers.values().map(Vec::len).sum();
    println!("{rounds} kills on {}: {given} answers for {} keys", shop.storage().name(), answers.len());
    assert_eq!(answers.len(), rounds);
    shop.storage().close().await;
}

/// Returns the answers of four processes to a command for each.
fn all_at_once(at: &Place, commands: &[String; PROCESSES]) -> Vec<String> {
    let mut crew = Crew::start(at, "orders together");
    for (process, command) in crew.processes.iter_mut().zip(commands) {
        process.tell(command);
    }
    let said = crew.end();
    assert_eq!(said.iter().filter(|l| *l == "ended").count(), PROCESSES);
    said.iter().filter_map(|l| l.strip_prefix("answer ").map(str::to_owned)).collect()
}

pub async fn r10_two_hundred_cancels_of_one_order_restore_its_stock_once(at: &Place) {
    let shop = stocked(at).await;
    let mut order = OrderInput::for_guest(guest("grace@example.com".into()), DeliveryMethod::OnHand);
    for code in CODES {
        order = order.line(line(sku(&shop, code).await, 7));
    }
    let order = shop.orders().place(&order).await.unwrap();
    let answers = all_at_once(at, &[(); PROCESSES].map(|()| format!("cancel {} 50", order.id)));
    assert_eq!((answers.len(), answers.iter().collect::<BTreeSet<_>>().len()), (200, 1), "{:?}", answers.first());
    assert_eq!(answers[0], "Canceled 2");
    assert_eq!(wrong(&shop).await, Vec::<String>::new());
    for code in CODES {
        let sku = sku(&shop, code).await;
        assert_eq!(shop.inventory().level(sku).await.unwrap().on_hand, STOCK);
        let (page, _) = shop.inventory().movements(sku, &Paging::first(10)).await.unwrap();
        assert_eq!(page.items.iter().map(|m| m.delta).collect::<Vec<_>>(), [7, -7, STOCK], "newest first");
    }
    assert_eq!(shop.orders().history(order.id, IncludeDeleted::No).await.unwrap().len(), 2);
    shop.storage().close().await;
}

pub async fn r20_a_hundred_checkouts_of_one_cart_make_one_order(at: &Place) {
    let shop = stocked(at).await;
    let price = ecom_core::money::Money::from_minor(1_000, Currency::USD);
    let mut cart = CartInput::default();
    for code in CODES {
        cart = cart.line(CartLineInput::new(sku(&shop, code).await, 3, price));
    }
    let made = shop.carts().create(&cart).await.unwrap();
    let (cart, token) = (made.cart.cart.id, made.token.unwrap());
    let answers = all_at_once(at, &[(); PROCESSES].map(|()| format!("checkout {cart} {} 25", token.reveal())));
    assert_eq!((answers.len(), answers.iter().collect::<BTreeSet<_>>().len()), (100, 1), "{:?}", answers.first());
    assert_eq!(wrong(&shop).await, Vec::<String>::new());
    let orders = all_orders(&shop).await;
    assert_eq!((orders.len(), orders[0].cart_id), (1, Some(cart)));
    assert_eq!(answers[0], format!("{} {}", orders[0].id, orders[0].number));
    assert_eq!(sold(&orders, sku(&shop, "hot").await), 3);
    shop.storage().close().await;
}

/// Each of four processes merges the same sixteen carts into one, in another order, while it adds lines of its own.
pub async fn r20_merges_of_several_processes_lose_no_line(at: &Place) {
    const CARTS: i64 = 16;
    let shop = stocked(at).await;
    let (hot, price) = (sku(&shop, "hot").await, ecom_core::money::Money::from_minor(1_000, Currency::USD));
    let into = shop.carts().create(&CartInput::default()).await.unwrap().cart.cart.id;
    let mut carts: Vec<String> = Vec::new();
    for n in 0..CARTS {
        let mut cart = CartInput::default().line(CartLineInput::new(hot, n + 1, price));
        for m in 0..5 {
            cart = cart.line(CartLineInput::new(hot, 1, price).attribute("n", n * 5 + m));
        }
        carts.push(shop.carts().create(&cart).await.unwrap().cart.cart.id.to_string());
    }
    let mut name = 0;
    all_at_once(
        at,
        &[(); PROCESSES].map(|()| {
            name += 1;
            carts.rotate_left(5);
            format!("merge p{name} {into} {}", carts.join(" "))
        }),
    );
    let lines = shop.carts().get(into, STAFF).await.unwrap().cart.lines;
    let with = |name: &str| lines.iter().filter(|l| l.attributes.0.contains_key(name)).count();
    let own = PROCESSES * carts.len();
    assert_eq!((with("n"), with("own"), lines.len()), (carts.len() * 5, own, carts.len() * 5 + own + 1));
    assert!(lines.iter().all(|l| l.quantity == if l.attributes.0.is_empty() { CARTS } else { 1 }), "{lines:#?}");
    shop.storage().close().await;
}

// ---------------------------------------------------------------- the control

/// Enough to sell more pieces than there are.
const NAIVE_ROUNDS: usize = 4;
const NAIVE_AT_ONCE: usize = 8;

/// A shop that reads the stock, checks it and writes it, without a lock. Its tasks read before any of them writes, so
/// that it always loses the race.
async fn naive(at: &Place, shop: Shop, name: &str, mut commands: UnboundedReceiver<String>) {
    let hot = sku(&shop, "hot").await;
    let template = all_orders(&shop).await[0].id;
    say("ready");
    commands.recv().await.unwrap();
    for round in 0..NAIVE_ROUNDS {
        let barrier = Arc::new(Barrier::new(NAIVE_AT_ONCE));
        let mut tasks = JoinSet::new();
        for task in 0..NAIVE_AT_ONCE {
            let (shop, barrier, database) = (shop.clone(), barrier.clone(), Naive::of(at));
            let number = format!("NAIVE-{name}-{round}-{task}");
            tasks.spawn(async move {
                let read = insist!(any outcome, shop.inventory().level(hot)).unwrap().on_hand;
                barrier.wait().await;
                if read < 1 {
                    return;
                }
                let (order, line) = insist!(known outcome, naive_order(&shop, template, &number)).unwrap();
                database.take(line, hot, read).await;
                say(&format!("placed {order}"));
            });
        }
        tasks.join_all().await;
    }
}

/// Writes an order as the library does, and nothing else.
async fn naive_order(shop: &Shop, template: OrderId, number: &str) -> Result<(OrderId, OrderLineId)> {
    let mut record = shop.orders().record(template, IncludeDeleted::No).await?;
    let mut history = shop.orders().history(template, IncludeDeleted::No).await?;
    let (id, line, bill) = (OrderId(shop.ids().next()), OrderLineId(shop.ids().next()), BillId(shop.ids().next()));
    (record.order.id, record.order.number, history[0].order_id) = (id, number.to_owned(), id);
    (record.order.lines[0].id, record.order.lines[0].order_id) = (line, id);
    (record.bills[0].id, record.bills[0].order_id, record.bills[0].number) = (bill, id, number.to_owned());
    let mut tx = shop.storage().begin().await?;
    tx.orders().insert(&[record], &history).await?;
    tx.commit().await?;
    Ok((id, line))
}

/// The database of a naive shop.
struct Naive {
    url: String,
}

impl Naive {
    fn of(at: &Place) -> Self {
        let file = || format!("sqlite://{}", at.dir.join("shop.db").display());
        Self { url: at.database.clone().unwrap_or_else(file) }
    }

    fn literal(&self, id: uuid::Uuid) -> String {
        if self.url.starts_with("postgres") { format!("'{id}'") } else { format!("X'{}'", id.simple()) }
    }

    /// Writes a movement and what is left of what was read.
    async fn take(&self, line: OrderLineId, sku: SkuId, read: i64) {
        let (line, sku) = (self.literal(line.0), self.literal(sku.0));
        let movement = format!(
            "INSERT INTO stock_movements (id, sku_id, delta, reason, created_at, created_by, order_line_id)
             SELECT {line}, sku_id, -1, reason, created_at, created_by, {line}
             FROM (SELECT * FROM stock_movements WHERE sku_id = {sku} LIMIT 1) any_of_them"
        );
        let left = format!("UPDATE skus SET on_hand = {} WHERE id = {sku}", read - 1);
        for sql in [movement, left] {
            let mut tries = 0;
            while let Err(e) = self.execute(&sql).await {
                tries += 1;
                assert!(tries < 100, "{e}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn execute(&self, sql: &str) -> sqlx::Result<()> {
        macro_rules! on {
            ($Connection:ty) => {{
                let mut c = <$Connection>::connect(&self.url).await?;
                sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut c).await?;
                c.close().await
            }};
        }
        #[cfg(feature = "postgres")]
        if self.url.starts_with("postgres") {
            return on!(sqlx::PgConnection);
        }
        #[cfg(feature = "mysql")]
        if self.url.starts_with("mysql") || self.url.starts_with("mariadb") {
            return on!(sqlx::MySqlConnection);
        }
        on!(sqlx::SqliteConnection)
    }
}

/// The control of the tests above: a shop that oversells is found out by the same oracle.
pub async fn r41_a_naive_shop_is_caught(at: &Place) {
    let shop = stocked(at).await;
    let hot = sku(&shop, "hot").await;
    let order = OrderInput::for_guest(guest("grace@example.com".into()), DeliveryMethod::OnHand).line(line(hot, 1));
    shop.orders().place(&order).await.unwrap();
    assert_eq!(wrong(&shop).await, Vec::<String>::new());
    let mut crew = Crew::start(at, "orders naive");
    crew.tell("go");
    let placed = crew.end().iter().filter(|l| l.starts_with("placed ")).count();
    // Each round of each process takes at most one piece, whatever it sells.
    assert_eq!(placed, PROCESSES * NAIVE_ROUNDS * NAIVE_AT_ONCE, "a naive shop sees pieces that are gone");
    let orders = all_orders(&shop).await;
    assert_eq!(sold(&orders, hot), i64::try_from(placed).unwrap() + 1);
    let wrong = wrong(&shop).await;
    println!("{wrong:#?}");
    for oracle in ["audit: ", "ledger: ", "stock: "] {
        assert!(wrong.iter().any(|w| w.starts_with(oracle)), "{oracle}is blind: {wrong:#?}");
    }
    shop.storage().close().await;
}
