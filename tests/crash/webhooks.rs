//! Webhooks of two processes that are killed, to a receiver that fails, hangs, redirects, breaks off and dies.
//!
//! The clock of these processes runs faster than that of the machine, so that pauses and leases soon end.
//! `ECOM_CRASH_KILLS` sets how many processes each test kills, as in the tests of orders.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ecom_core::catalog::CategoryInput;
use ecom_core::clock::{Clock, SystemClock, Timestamp};
use ecom_core::config::ShopConfig;
use ecom_core::money::Currency;
use ecom_core::paging::Paging;
use ecom_core::platform::{EventKind, OutboxPosition, WebhookDeliveryFilter, WebhookDeliveryState, WebhookInput};
use ecom_core::port::{NoSearch, Storage as _};
use ecom_core::{Shop, ShopParts};
use ecom_outbound::{HttpWebhookSender, OutboundOptions, WebhookSenderOptions};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use super::orders::kills;
use super::{LIMIT, Place, Process, adjustment, input, me, say, storage};

/// The address of the receiver, and one that the processes must not call. Little else listens on these addresses of
/// this machine, so that a receiver gets its port again after it has died.
const HOST: &str = "127.0.0.3";
const FORBIDDEN_HOST: &str = "127.0.0.2";
const STOCK: &str = "/stock";
const CATEGORIES: &str = "/categories";
/// The factor by which the clock of the processes is faster.
const SPEED: i32 = 20;
const PROCESSES: usize = 2;
const PRODUCTS: usize = 12;
/// The events that happen before each kill.
const EVENTS: usize = 60;

/// A clock that runs faster than that of the machine since this moment. All processes of a test have the same one.
#[derive(Debug)]
struct FastClock(Timestamp);

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        self.0 + (SystemClock.now() - self.0) * SPEED
    }
}

async fn open(at: &Place, base: Timestamp) -> Shop {
    let storage = storage(at);
    storage.migrate(Currency::USD).await.unwrap();
    let outbound = OutboundOptions::default().allow(HOST).unwrap();
    let options = WebhookSenderOptions::default().allow_http(true).outbound(outbound);
    let sender = HttpWebhookSender::new(&options).unwrap();
    // The lease of an attempt lasts 41 s by the fast clock, which is twice its time limit by the clock of the machine.
    let config = ShopConfig::default()
        .poll_interval(Duration::from_millis(20))
        .lease_ttl(Duration::from_secs(40))
        .webhook_timeout(Duration::from_secs(1));
    let parts = ShopParts::new(Arc::new(storage), Arc::new(NoSearch));
    Shop::new(ShopParts { clock: Arc::new(FastClock(base)), webhooks: Some(Arc::new(sender)), config, ..parts })
        .unwrap()
}

/// Runs a child, which delivers until its death. Its name is the time at which the fast clock began.
pub async fn child(at: &Place, name: &str) {
    let base = Timestamp::from_timestamp_micros(name.parse().unwrap()).unwrap();
    let shop = open(at, base).await;
    let _background = shop.start();
    say("ready");
    std::future::pending::<()>().await;
}

/// What the receiver does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accept,
    Fail,
    Redirect,
    BreakOff,
    Hang,
}

impl Answer {
    fn random() -> Self {
        let mut rng: StdRng = rand::make_rng();
        match rng.random_range(0..100) {
            0..5 => Self::Fail,
            5..10 => Self::Redirect,
            10..15 => Self::BreakOff,
            15 => Self::Hang,
            _ => Self::Accept,
        }
    }
}

/// A message that has arrived.
#[derive(Debug)]
struct Arrived {
    path: String,
    event: Uuid,
    aggregate: Uuid,
    is_accepted: bool,
}

type Messages = Arc<Mutex<Vec<Arrived>>>;

/// A receiver of webhooks on this machine.
struct Receiver {
    address: SocketAddr,
    /// The address to which it redirects.
    forbidden: SocketAddr,
    messages: Messages,
    running: Option<JoinHandle<()>>,
}

impl Receiver {
    async fn start(forbidden: SocketAddr) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let messages = Messages::default();
        let running = Some(tokio::spawn(listen(listener, messages.clone(), forbidden)));
        Self { address, forbidden, messages, running }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns how many messages it has accepted.
    fn accepted(&self) -> usize {
        self.messages.lock().unwrap().iter().filter(|message| message.is_accepted).count()
    }

    /// Closes the listener and all connections.
    async fn die(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }

    async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.running = Some(tokio::spawn(listen(listener, self.messages.clone(), self.forbidden)));
    }
}

/// Takes connections until the task is aborted, which also aborts the tasks of the connections.
async fn listen(listener: TcpListener, messages: Messages, forbidden: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (io, _) = listener.accept().await.unwrap();
        connections.spawn(converse(io, messages.clone(), forbidden));
    }
}

/// Takes the message of a connection and answers it.
async fn converse(io: TcpStream, messages: Messages, forbidden: SocketAddr) {
    let mut io = BufReader::new(io);
    let Some((path, body)) = read(&mut io).await else { return };
    let message: Value = serde_json::from_slice(&body).unwrap();
    let id = |name: &str| message["data"][name].as_str().unwrap().parse::<Uuid>().unwrap();
    let answer = Answer::random();
    let (event, aggregate, is_accepted) = (id("id"), id("aggregate_id"), answer == Answer::Accept);
    messages.lock().unwrap().push(Arrived { path, event, aggregate, is_accepted });
    let status = match answer {
        Answer::Accept => "200 OK".to_owned(),
        Answer::Fail => "500 Internal Server Error".to_owned(),
        Answer::Redirect => format!("302 Found\r\nlocation: http://{forbidden}/"),
        Answer::BreakOff => return,
        Answer::Hang => return std::future::pending().await,
    };
    let response = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    // It fails if the sender was killed meanwhile.
    let _ = io.write_all(response.as_bytes()).await;
}

/// Reads a request and returns its path and its body, or `None` if the connection ends before.
async fn read(io: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if io.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if head.is_empty() {
            line.clone_into(&mut head);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    io.read_exact(&mut body).await.ok()?;
    Some((head.split(' ').nth(1)?.to_owned(), body))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < LIMIT, "this must happen, and has not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns how many deliveries are in a state.
async fn count(shop: &Shop, state: WebhookDeliveryState) -> u64 {
    let filter = WebhookDeliveryFilter { state: Some(state), ..WebhookDeliveryFilter::default() };
    let page = Paging::Offset { offset: 0, limit: 1 };
    shop.webhooks().deliveries(&filter, &page).await.unwrap().1.unwrap().count
}

/// Returns the events of each aggregate in their order, by the path of the webhook that receives them.
async fn events(shop: &Shop) -> HashMap<(&'static str, Uuid), Vec<Uuid>> {
    let (mut events, mut at) = (HashMap::<_, Vec<Uuid>>::new(), OutboxPosition::default());
    loop {
        let batch = shop.events().read(at, 1_000).await.unwrap();
        for (_, event) in batch.events {
            let path = match event.kind {
                EventKind::StockChanged => STOCK,
                EventKind::CategoryCreated => CATEGORIES,
                _ => continue,
            };
            events.entry((path, event.aggregate_id)).or_default().push(event.id.0);
        }
        if !batch.full {
            return events;
        }
        at = batch.end;
    }
}

/// One process after the other is killed at a random moment and replaced while events happen. The receiver fails at
/// random, and is dead in every third round.
pub async fn r13_webhooks_of_killed_processes_arrive_in_order(at: &Place) {
    let stranger = std::net::TcpListener::bind((FORBIDDEN_HOST, 0)).unwrap();
    stranger.set_nonblocking(true).unwrap();
    let mut receiver = Receiver::start(stranger.local_addr().unwrap()).await;
    let base = SystemClock.now();
    let shop = open(at, base).await;
    let mut skus = Vec::new();
    for n in 0..PRODUCTS {
        let made = serde_json::json!({ "title": format!("P {n}"), "price": 1, "stock": 0 });
        skus.push(shop.acting_as(&me()).products().create(&input(&made)).await.unwrap().skus[0].id);
    }
    let subscribe = async |path: &str, kinds: &[EventKind], enabled: bool| {
        let webhook = WebhookInput { enabled, ..WebhookInput::new(receiver.url(path), kinds.iter().copied()) };
        shop.webhooks().create(&webhook).await.unwrap().webhook.id
    };
    let id = subscribe(STOCK, &[EventKind::StockChanged], true).await;
    subscribe(CATEGORIES, &[EventKind::CategoryCreated], true).await;
    subscribe("/off", &[EventKind::StockChanged, EventKind::CategoryCreated], false).await;

    let name = base.timestamp_micros().to_string();
    let start = || Process::start(at, "webhooks", &name);
    let mut processes: Vec<Process> = std::iter::repeat_with(start).take(PROCESSES).collect();
    let mut rng: StdRng = rand::make_rng();
    for round in 0..kills() {
        let is_dead = round % 3 == 1;
        if is_dead {
            receiver.die().await;
        }
        let seen = receiver.accepted();
        for n in 0..EVENTS {
            let sku = skus[rng.random_range(0..PRODUCTS)];
            shop.inventory().adjust(adjustment(sku, 1, format!("{round}-{n}"))).await.unwrap();
        }
        let category = CategoryInput { name: format!("C {round}"), ..CategoryInput::default() };
        shop.acting_as(&me()).categories().create(&category).await.unwrap();
        if is_dead {
            let fails = async || shop.webhooks().get(id).await.unwrap().health.failures > 2;
            until("several attempts fail while the receiver is dead", fails).await;
        } else {
            until("messages arrive", async || receiver.accepted() > seen + EVENTS / 4).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..50))).await;
        processes.remove(rng.random_range(0..PROCESSES)).kill();
        processes.push(start());
        if is_dead {
            receiver.revive().await;
        }
    }
    let events: HashMap<(&str, Uuid), Vec<Uuid>> = events(&shop).await;
    let total: usize = events.values().map(Vec::len).sum();
    let all_succeed = async || count(&shop, WebhookDeliveryState::Succeeded).await == total as u64;
    until("every delivery succeeds", all_succeed).await;
    drop(processes);
    receiver.die().await;
    assert_eq!(count(&shop, WebhookDeliveryState::Pending).await + count(&shop, WebhookDeliveryState::Failed).await, 0);

    let arrived = std::mem::take(&mut *receiver.messages.lock().unwrap());
    println!("{total} events, {} kills, {} messages", kills(), arrived.len());
    let mut accepted = HashSet::<(&str, Uuid)>::new();
    for message in &arrived {
        let of_aggregate = events.get(&(&*message.path, message.aggregate));
        let of_aggregate = of_aggregate.unwrap_or_else(|| panic!("this webhook does not receive it: {message:?}"));
        let place = of_aggregate.iter().position(|event| *event == message.event);
        let place = place.unwrap_or_else(|| panic!("there is no such event: {message:?}"));
        let are_accepted = of_aggregate[..place].iter().all(|earlier| accepted.contains(&(&*message.path, *earlier)));
        assert!(are_accepted, "an earlier event of the aggregate has not arrived yet: {message:?}");
        if message.is_accepted {
            accepted.insert((&*message.path, message.event));
        }
    }
    assert_eq!(accepted.len(), total, "every event arrives");
    let called = stranger.accept();
    assert!(called.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "no redirect is followed");
    shop.storage().close().await;
}
