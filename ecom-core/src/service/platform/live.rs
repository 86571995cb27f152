//! Live events: subscriptions to what happens in the shop, in every process that has subscribers.
//!
//! Each process has one reader of the log, which passes the events to all its subscriptions. A subscription that
//! continues after an earlier event first reads the log itself, up to the place where it joins the reader. Its buffer is
//! bounded: nobody waits for a subscriber that does not take its events, and its subscription ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::domain::access::principal::Principal;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::live::{LiveEnd, LiveFilter, LiveMessage, LiveScope, ReadEvent};
use crate::domain::platform::outbox::{Event, OutboxPosition};
use crate::error::{Entity, Error, Result};
use crate::id::{CustomerId, EventId, OrderId, ProductId};
use crate::log_event;
use crate::port::storage::Connection;
use crate::service::access::auth::AuthService;
use crate::service::background::Background;
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;

/// How many events are read at once.
const READ_AT_ONCE: u32 = 200;
/// How many subscriptions of a process read the log at once while they catch up, so that many of them, such as those of
/// clients that all come back at once, do not take all connections to the database.
const CATCHING_UP: usize = 2;
/// The time between two reads, so that a busy shop reads several events at once.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest pause after a read that has failed.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// The service of live events.
///
/// Subscriptions work without [`Shop::start`](crate::Shop::start).
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> ecom_core::Result<()> {
/// use ecom_core::platform::{LiveFilter, LiveKind, LiveMessage};
///
/// let filter = LiveFilter { kinds: [LiveKind::Stock].into(), ..LiveFilter::default() };
/// let mut live = shop.live().subscribe(&filter, None).await?;
/// while let Some(message) = live.next().await {
///     match message {
///         LiveMessage::Event(event) => println!("{}: {:?}", event.aggregate_id, event.stock),
///         LiveMessage::Reset => println!("events were missed: read the stock again"),
///         LiveMessage::End(why) => println!("over: {why:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LiveService<'a> {
    pub(super) cx: &'a Arc<Context>,
    pub(super) who: &'a Principal,
}

impl<'a> LiveService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Subscribes to the events that the filter asks for and the principal may see: those that commit after this call
    /// or, with `after`, those that come after that event in the log. The nil id stands for the beginning of the log.
    ///
    /// Each event comes once, and the events of one aggregate come in their order. If the log does not have the event
    /// `after` any more, the first message is [`LiveMessage::Reset`].
    ///
    /// Everybody may subscribe to changes of categories, and to changes of stock, prices and products of products that
    /// are active when the event is read. Other products need `products:read` or `products:write`. Orders need
    /// `orders:read`; a customer gets the events of its own orders.
    ///
    /// # Errors
    /// `Forbidden` or `Unauthenticated` if the filter names orders and the principal may see none, `Unauthenticated` if
    /// the session or the API key of the principal has ended, `Validation` for too many ids, `Unavailable`.
    pub async fn subscribe(&self, filter: &LiveFilter, after: Option<EventId>) -> Result<LiveEvents> {
        // Refused before anything is read.
        LiveScope::of(self.who, filter)?;
        let start = OutboxPosition::default();
        let mut db = log(self.cx).settled().await?;
        let found = match after {
            Some(id) if id.0.is_nil() => Some(start),
            Some(id) => db.outbox().find(id).await?,
            None => None,
        };
        let horizon = db.outbox().horizon().await?;
        let head = db.outbox().head().await?;
        // The principal may come from a cache. What ends it after this read is an event after the head.
        let who = AuthService::new(self.cx).fresh(&mut *db, self.who).await?;
        let scope = Arc::new(LiveScope::of(&who, filter)?);
        // The beginning of the log counts only if the log still has all its events.
        let found = if after.is_none() { Some(head) } else { found.filter(|at| *at > start || horizon == start) };
        let at = found.unwrap_or(head);
        let last = if at == head { last_event(&mut *db, head).await? } else { after };
        drop(db);
        let mut ready = VecDeque::new();
        if found.is_none() {
            ready.push_back(LiveMessage::Reset);
        }
        let (cx, opened) = (self.cx.silent(), head);
        let reading = JoinSet::new();
        Ok(LiveEvents { cx, scope, opened, at, last, ready, reading, joined: None, is_over: false })
    }

    /// Ends all subscriptions of this process, with [`LiveEnd::Closed`]. Servers call it when they begin to shut down,
    /// so that they do not wait for streams without an end. New subscriptions can still begin.
    pub fn end_all(&self) {
        self.cx.live.end(|_| true, LiveEnd::Closed);
    }

    /// Returns how many subscriptions of this process wait for events.
    pub fn subscribers(&self) -> usize {
        self.cx.live.state.lock().members.len()
    }
}

fn log(cx: &Arc<Context>) -> EventLog<'_> {
    EventLog::new(cx, Principal::system())
}

/// Returns the last event of the log; `None` if this release does not know its kind, or if the log has none.
async fn last_event(db: &mut dyn Connection, head: OutboxPosition) -> Result<Option<EventId>> {
    if head == OutboxPosition::default() {
        return Ok(Some(EventId(uuid::Uuid::nil())));
    }
    let batch = db.outbox().read(OutboxPosition { seq: head.seq - 1 }, 1).await?;
    Ok(batch.events.first().filter(|(at, _)| *at == head).map(|(_, event)| event.id))
}

/// Events that were read from the log.
struct Read {
    events: Vec<Arc<ReadEvent>>,
    /// The position up to which they were read.
    end: OutboxPosition,
    full: bool,
    /// Whether the log has lost events after the position at which the read began, or before it.
    is_torn: bool,
}

/// Reads events with the products and customers that decide who may see them. The number of statements does not depend
/// on the number of events.
async fn read(cx: &Arc<Context>, after: OutboxPosition) -> Result<Read> {
    let mut db = log(cx).settled().await?;
    let batch = db.outbox().read(after, READ_AT_ONCE).await?;
    // Only asked if there may be a gap, so that following a busy log costs one statement.
    let hole = batch.end != after && batch.events.first().is_none_or(|(first, _)| first.seq != after.seq + 1);
    let mut is_torn = hole && after < db.outbox().horizon().await?;
    // If nothing was read, the log may end before this position: another database has taken over, without the last
    // events of the one before.
    if batch.end == after && after != OutboxPosition::default() {
        is_torn = db.outbox().head().await? < after;
    }
    let unique = |ids: HashSet<ProductId>| ids.into_iter().collect::<Vec<_>>();
    let products = unique(batch.events.iter().filter_map(|(_, event)| ReadEvent::product_of(event)).collect());
    let products =
        if products.is_empty() { Vec::new() } else { db.products().get_many(&products, IncludeDeleted::Yes).await? };
    let of_order = |event: &Event| (event.kind.entity() == Entity::Order).then_some(OrderId(event.aggregate_id));
    let orders: HashSet<OrderId> = batch.events.iter().filter_map(|(_, event)| of_order(event)).collect();
    let customers: HashMap<OrderId, Option<CustomerId>> = if orders.is_empty() {
        HashMap::new()
    } else {
        db.orders().customers(&orders.into_iter().collect::<Vec<_>>()).await?.into_iter().collect()
    };
    drop(db);
    let products: HashMap<_, _> = products.iter().map(|product| (product.id, product)).collect();
    let events = batch.events.into_iter().map(|(position, event)| {
        let product = ReadEvent::product_of(&event).and_then(|id| products.get(&id).copied());
        let customer = of_order(&event).and_then(|id| customers.get(&id).copied().flatten());
        Arc::new(ReadEvent::new(position, event, product, customer))
    });
    Ok(Read { events: events.collect(), end: batch.end, full: batch.full, is_torn })
}

/// The subscriptions of a process that wait for events, and the state of the reader.
pub(crate) struct Live {
    state: Mutex<State>,
    /// Wakes the reader when the last subscription has ended.
    left: Notify,
    /// A permit for each read of a subscription that catches up.
    catching_up: Semaphore,
}

impl Default for Live {
    fn default() -> Self {
        Self { state: Mutex::default(), left: Notify::new(), catching_up: Semaphore::new(CATCHING_UP) }
    }
}

#[derive(Default)]
struct State {
    members: HashMap<u64, Member>,
    next_member: u64,
    is_running: bool,
    /// Whether the shop was closed, so that no subscription can join any more.
    is_closed: bool,
    /// The position up to which the reader has passed on events.
    position: OutboxPosition,
    /// The last event that it has passed on or left out, with its position.
    last: Option<(OutboxPosition, EventId)>,
}

struct Member {
    scope: Arc<LiveScope>,
    /// The subscription gets the events after this position.
    from: OutboxPosition,
    events: mpsc::Sender<Arc<ReadEvent>>,
    end: watch::Sender<Option<LiveEnd>>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("subscribers", &self.state.lock().members.len()).finish_non_exhaustive()
    }
}

impl Live {
    /// Ends all subscriptions, and those that join later, because the shop is closed.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.end(|_| true, LiveEnd::Closed);
    }

    /// Ends subscriptions.
    fn end(&self, which: impl Fn(&Member) -> bool, why: LiveEnd) {
        let ended: Vec<Member> = {
            let mut state = self.state.lock();
            state.members.extract_if(|_, member| which(member)).map(|(_, member)| member).collect()
        };
        for member in ended {
            member.end.send_replace(Some(why));
        }
        self.left.notify_one();
    }

    /// Passes events on to the subscriptions that get them.
    fn pass(&self, read: &Read) {
        let mut state = self.state.lock();
        let State { members, position, last, .. } = &mut *state;
        for event in &read.events {
            members.retain(|_, member| {
                if event.position <= member.from {
                    return true;
                }
                if member.scope.is_revoked_by(&event.event) {
                    member.end.send_replace(Some(LiveEnd::Revoked));
                    return false;
                }
                if !member.scope.gets(event) {
                    return true;
                }
                match member.events.try_send(event.clone()) {
                    Ok(()) => true,
                    Err(TrySendError::Full(_)) => {
                        member.end.send_replace(Some(LiveEnd::Lagged));
                        false
                    }
                    Err(TrySendError::Closed(_)) => false,
                }
            });
            *last = Some((event.position, event.event.id));
        }
        *position = read.end;
    }
}

/// The reader of a process. It is over once there are no subscriptions. If it ends in another way, such as with the
/// shop or with its runtime, it ends all subscriptions.
struct Reader<'a> {
    cx: &'a Context,
    /// Whether another reader may run already.
    is_over: bool,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let ended = {
            let mut state = self.cx.live.state.lock();
            state.is_running = false;
            std::mem::take(&mut state.members)
        };
        for member in ended.into_values() {
            member.end.send_replace(Some(LiveEnd::Closed));
        }
    }
}

/// Reads the log for all subscriptions until there are none.
async fn follow(cx: Arc<Context>, mut stopped: watch::Receiver<bool>) {
    let mut reader = Reader { cx: &cx, is_over: false };
    let mut written = cx.events.subscribe();
    let mut backoff = cx.config.poll_interval;
    loop {
        written.mark_unchanged();
        let at = {
            let mut state = cx.live.state.lock();
            if state.members.is_empty() {
                // In one step with the look, so that a subscription that joins now starts another reader.
                state.is_running = false;
                reader.is_over = true;
                return;
            }
            state.position
        };
        let pause = match read(&cx, at).await {
            Ok(read) if read.is_torn => {
                // Nobody knows what was in between, so every receiver asks again after its last event.
                let (event, consumer) = (log_event::EVENTS_MISSED, "live");
                tracing::warn!(
                    target: log_event::TARGET,
                    event,
                    consumer,
                    "events were removed before they were passed on to live subscriptions"
                );
                return;
            }
            Ok(read) => {
                backoff = cx.config.poll_interval;
                cx.live.pass(&read);
                if read.full { Duration::ZERO } else { cx.config.poll_interval }
            }
            Err(error) => {
                tracing::warn!(%error, "the log could not be read for live subscriptions; it is tried again");
                backoff = (backoff * 2).min(MAX_BACKOFF);
                cx.jitter(backoff)
            }
        };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
            () = cx.live.left.notified() => {}
            () = wake(&mut written, pause) => {}
        }
    }
}

/// Waits until this process has written events, or until a pause is over.
async fn wake(written: &mut watch::Receiver<()>, pause: Duration) {
    let long = pause.saturating_sub(PAUSE);
    tokio::time::sleep(PAUSE.min(pause)).await;
    tokio::select! {
        _ = written.changed() => {}
        () = tokio::time::sleep(long) => {}
    }
}

/// A subscription that has joined the reader.
struct Joined {
    member: u64,
    /// The position from which on the reader passes on events. Those before are read from the log.
    from: OutboxPosition,
    events: mpsc::Receiver<Arc<ReadEvent>>,
    end: watch::Receiver<Option<LiveEnd>>,
}

/// A subscription to live events. It ends when it is dropped.
pub struct LiveEvents {
    cx: Arc<Context>,
    scope: Arc<LiveScope>,
    /// The end of the log when the subscription was made.
    opened: OutboxPosition,
    /// The position up to which the subscription has got its events.
    at: OutboxPosition,
    /// The last event up to that position, whether the subscription gets it or not; `None` if it is not known.
    last: Option<EventId>,
    /// Messages that were made from the log and not yet taken.
    ready: VecDeque<LiveMessage>,
    /// A read of the log that is under way. It is a task, so that it ends even if nobody waits for the next message:
    /// others wait for their turn to read.
    reading: JoinSet<Result<Read>>,
    joined: Option<Joined>,
    is_over: bool,
}

impl fmt::Debug for LiveEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveEvents").field("scope", &self.scope).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Drop for LiveEvents {
    fn drop(&mut self) {
        if let Some(joined) = &self.joined {
            let left = {
                let mut state = self.cx.live.state.lock();
                state.members.remove(&joined.member);
                state.members.is_empty()
            };
            if left {
                self.cx.live.left.notify_one();
            }
        }
    }
}

impl LiveEvents {
    /// Waits for the next message. Returns `None` after [`LiveMessage::End`]. If the call is dropped before it ends, no
    /// message is lost.
    pub async fn next(&mut self) -> Option<LiveMessage> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.is_over {
                return None;
            }
            let behind = match &self.joined {
                None => self.at < self.opened,
                Some(joined) => self.at < joined.from,
            };
            if behind {
                if let Err(error) = self.catch_up().await {
                    tracing::warn!(%error, "the log could not be read for a live subscription");
                    return Some(self.end(LiveEnd::Unavailable));
                }
                continue;
            }
            let Some(joined) = &mut self.joined else {
                self.joined = Some(self.join());
                continue;
            };
            let Some(read) = joined.events.recv().await else {
                let why = joined.end.borrow().unwrap_or(LiveEnd::Closed);
                return Some(self.end(why));
            };
            self.at = read.position;
            self.last = Some(read.event.id);
            if let Some(event) = self.scope.view(&read) {
                return Some(LiveMessage::Event(event));
            }
        }
    }

    /// Returns the messages as a stream.
    pub fn into_stream(self) -> impl Stream<Item = LiveMessage> + Send {
        futures::stream::unfold(self, |mut live| async move { live.next().await.map(|message| (message, live)) })
    }

    /// Returns the last event of the log that this subscription has passed, whether it got the event or not. A receiver
    /// that has got all messages so far can go on after it. Returns `None` while messages wait, and if the event is not
    /// known.
    pub fn passed(&mut self) -> Option<EventId> {
        if !self.ready.is_empty() {
            return None;
        }
        if let Some(joined) = &self.joined
            && self.at >= joined.from
        {
            let state = self.cx.live.state.lock();
            // The reader passes events on under the same lock, so that none is on its way.
            let is_member = state.members.contains_key(&joined.member);
            if !joined.events.is_empty() {
                return None;
            }
            if is_member && state.position > self.at {
                if let Some((at, id)) = state.last
                    && at > self.at
                {
                    self.last = Some(id);
                }
                self.at = state.position;
            }
        }
        self.last
    }

    /// Returns a future that is ready once the shop has ended this subscription, even while messages wait in its
    /// buffer: a server that still sends one to a slow client gives up then. Its value is the reason of the end.
    pub fn ended(&self) -> impl Future<Output = LiveEnd> + Send + use<> {
        let end = self.joined.as_ref().map(|joined| joined.end.clone());
        async move {
            match end {
                Some(mut end) => match end.wait_for(Option::is_some).await {
                    Ok(why) => why.unwrap_or(LiveEnd::Closed),
                    Err(_) => LiveEnd::Closed,
                },
                None => std::future::pending().await,
            }
        }
    }

    fn end(&mut self, why: LiveEnd) -> LiveMessage {
        self.is_over = true;
        LiveMessage::End(why)
    }

    /// Reads events that come before those of the reader of this process.
    async fn catch_up(&mut self) -> Result<()> {
        if self.reading.is_empty() {
            let (cx, at) = (self.cx.clone(), self.at);
            self.reading.spawn(async move {
                // One batch at a time, so that a subscription that is far behind does not keep others waiting.
                let _turn = cx.live.catching_up.acquire().await;
                read(&cx, at).await
            });
        }
        let Some(done) = self.reading.join_next().await else { return Ok(()) };
        let read = done.map_err(|e| Error::internal("reading the log for a live subscription", e))??;
        let from = self.joined.as_ref().map(|joined| joined.from);
        // There is something to read, unless it was removed.
        if read.is_torn || read.end == self.at {
            let (at, last) = match from {
                Some(from) => (from, None),
                None => {
                    let mut db = log(&self.cx).settled().await?;
                    let head = db.outbox().head().await?;
                    (head, last_event(&mut *db, head).await?)
                }
            };
            (self.at, self.last) = (at, last);
            self.ready.push_back(LiveMessage::Reset);
            return Ok(());
        }
        let until = from.map_or(read.end, |from| from.min(read.end));
        for read in read.events.iter().filter(|read| read.position <= until) {
            if read.position > self.opened && self.scope.is_revoked_by(&read.event) {
                let end = self.end(LiveEnd::Revoked);
                self.ready.push_back(end);
                return Ok(());
            }
            self.ready.extend(self.scope.view(read).map(LiveMessage::Event));
            self.last = Some(read.event.id);
        }
        self.at = until;
        Ok(())
    }

    /// Joins the reader of this process, and starts it if there is none.
    fn join(&self) -> Joined {
        let (events, received) = mpsc::channel(self.cx.config.live_buffer);
        let (end, ended) = watch::channel(None);
        let mut state = self.cx.live.state.lock();
        let member = state.next_member;
        state.next_member += 1;
        if state.is_closed {
            end.send_replace(Some(LiveEnd::Closed));
            return Joined { member, from: self.at, events: received, end: ended };
        }
        if !state.is_running {
            state.is_running = true;
            state.position = self.at;
            state.last = None;
            let (_, stopped) = Background::stop(&self.cx);
            tokio::spawn(follow(self.cx.clone(), stopped));
        }
        // The reader may be ahead, and then the events in between are read from the log; or it is behind, and what it
        // passes on up to here was read already.
        let from = state.position.max(self.at);
        state.members.insert(member, Member { scope: self.scope.clone(), from, events, end });
        Joined { member, from, events: received, end: ended }
    }
}
