//! Tests of the named events of the log: when they are logged, and what is in them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::access::Secret;
use crate::catalog::{Product, ProductInput};
use crate::log_event::{self, LogEvent, TARGET};
use crate::money::ExactDecimal;
use crate::platform::{JobError, JobHandler, JobQueue, JobRun, NewJob, Pass};
use crate::sales::{DeliveryMethod, GuestInput, OrderInput, OrderLineInput};
use crate::{Shop, ShopBuilder};

type Fields = BTreeMap<&'static str, String>;

/// The named events that this thread has logged. The shops of these tests have no other thread.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<Fields>>>);

struct Visitor<'f>(&'f mut Fields);

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Captured {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut fields = Fields::new();
        event.record(&mut Visitor(&mut fields));
        let named: &LogEvent = log_event::ALL.iter().find(|named| named.name == fields["event"]).unwrap();
        assert_eq!(*event.metadata().level(), named.level, "{fields:?}");
        let known = |field: &str| named.fields.iter().any(|(name, _)| *name == field);
        assert!(fields.keys().all(|field| known(field) || matches!(*field, "event" | "message")), "{fields:?}");
        self.0.lock().unwrap().push(fields);
    }
}

impl Captured {
    fn start() -> (Self, DefaultGuard) {
        let captured = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(captured.clone()));
        (captured, guard)
    }

    /// Returns the events since the last call.
    fn take(&self) -> Vec<Fields> {
        let fields = std::mem::take(&mut *self.0.lock().unwrap());
        let text = format!("{fields:?}").to_lowercase();
        for personal in ["grace", "hopper", "example.com"] {
            assert!(!text.contains(personal), "neither names nor addresses: {text}");
        }
        fields
    }

    /// Returns the names of the events since the last call.
    fn names(&self) -> Vec<String> {
        self.take().into_iter().map(|mut fields| fields.remove("event").unwrap()).collect()
    }
}

#[derive(Debug)]
struct Fails;

#[crate::async_trait]
impl JobHandler for Fails {
    async fn run(&self, _: &JobRun) -> Result<(), JobError> {
        Err(JobError::permanent("it cannot work"))
    }
}

async fn open() -> Shop {
    let builder = ShopBuilder::new().database("sqlite::memory:").search("none").mailer("log:");
    builder.job_queue(JobQueue::new("broken", Fails)).build().await.unwrap()
}

fn order(product: &Product, quantity: i64, price: &str) -> OrderInput {
    let guest = GuestInput::new("Grace", "Hopper", "grace@example.com");
    let line = OrderLineInput::new(product.skus[0].id, quantity, price.parse::<ExactDecimal>().unwrap());
    OrderInput::for_guest(guest, DeliveryMethod::OnHand).line(line)
}

#[tokio::test]
async fn writes_are_logged_after_their_commit_and_refusals_at_once() {
    let (log, _guard) = Captured::start();
    let shop = open().await;
    let pen = shop.products().create(&ProductInput::new("Pen").price("2 USD".parse().unwrap()).stock(8)).await.unwrap();
    assert!(log.names().is_empty());

    let mut tx = shop.begin().await.unwrap();
    shop.orders().place_in(&mut tx, &order(&pen, 3, "2.00")).await.unwrap();
    drop(tx);
    assert!(log.names().is_empty(), "nothing of a transaction that was rolled back is logged");
    let mut tx = shop.begin().await.unwrap();
    let placed = shop.orders().place_in(&mut tx, &order(&pen, 3, "2.00")).await.unwrap();
    let after = tx.commit().await.unwrap();
    assert!(log.names().is_empty());
    after.run().await;
    let events = log.take();
    assert_eq!(events.iter().map(|fields| &*fields["event"]).collect::<Vec<_>>(), ["stock_low", "order_placed"]);
    assert_eq!((&*events[0]["available"], &*events[0]["threshold"]), ("5", "5"));
    let shown = ["order", "number", "lines", "total", "currency"].map(|field| events[1][field].clone());
    assert_eq!(
        shown,
        [placed.id.to_string(), placed.number.clone(), "1".to_owned(), "6.00".to_owned(), "USD".to_owned()]
    );

    shop.orders().cancel(placed.id).await.unwrap();
    assert_eq!(log.names(), ["order_canceled"]);
    shop.orders().place(&order(&pen, 1, "2.00")).await.unwrap();
    assert_eq!(log.names(), ["order_placed"]);
    shop.orders().place(&order(&pen, 1, "1.00")).await.unwrap_err();
    let [wrong] = &*log.take() else { panic!("one event") };
    assert_eq!((&*wrong["event"], &*wrong["expected"], &*wrong["found"]), ("price_mismatch", "2.00 USD", "1.00 USD"));
    shop.orders().place(&order(&pen, 9, "2.00")).await.unwrap_err();
    assert_eq!(log.names(), ["stock_short"]);
    shop.auth().login("grace@example.com", &Secret::new("wrong password"), None).await.unwrap_err();
    let [failed] = &*log.take() else { panic!("one event") };
    assert!(failed["event"] == "login_failed" && !failed.contains_key("user"), "{failed:?}");
    assert!(shop.audit().run().await.unwrap().is_clean() && log.names().is_empty());
}

#[tokio::test]
async fn the_background_work_logs_mails_and_jobs_that_stay_failed() {
    let (log, _guard) = Captured::start();
    let shop = open().await;
    let pen =
        shop.products().create(&ProductInput::new("Pen").price("2 USD".parse().unwrap()).stock(80)).await.unwrap();
    let placed = shop.orders().place(&order(&pen, 1, "2.00")).await.unwrap();
    let job = shop.jobs().enqueue(&NewJob::new("broken")).await.unwrap();
    log.take();
    for _ in 0..3 {
        shop.run_background_pass(Pass::Everything, std::future::pending()).await;
    }
    let mut events = log.take();
    events.sort_by_key(|fields| fields["event"].clone());
    let [parked, sent] = &*events else { panic!("two events: {events:?}") };
    assert_eq!(
        (&*parked["event"], &parked["job"], &*parked["error"]),
        ("job_parked", &job.id.to_string(), "it cannot work")
    );
    assert_eq!(
        (&*sent["event"], &*sent["mail"], &sent["about"]),
        ("mail_sent", "order_confirmation", &placed.id.to_string())
    );
}
