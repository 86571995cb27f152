//! The mailer that writes to the log keeps the contract of its port, and logs no text at the level `info`.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use ecom_core::platform::MailAddress;
use ecom_core::testkit::{MailerFixture, ReceivedMail};
use ecom_mail::LogMailer;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

type Fields = HashMap<&'static str, String>;
type Events = Arc<Mutex<Vec<(tracing::Level, Fields)>>>;

struct Capture(Events);

struct Visitor<'f>(&'f mut Fields);

impl tracing::field::Visit for Visitor<'_> {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Visitor(&mut fields));
        self.0.lock().unwrap().push((*event.metadata().level(), fields));
    }
}

fn received(events: &Events) -> Vec<ReceivedMail> {
    let events = events.lock().unwrap();
    let of_mails = |level| events.iter().filter(move |(l, f)| *l == level && f.contains_key("subject"));
    for (_, fields) in of_mails(tracing::Level::INFO) {
        let mut names: Vec<_> = fields.keys().copied().collect();
        names.sort_unstable();
        assert_eq!(names, ["id", "message", "subject"]);
    }
    let mails = of_mails(tracing::Level::DEBUG).map(|(_, fields)| {
        let of = |name: &str| fields.get(name).cloned();
        let (from, to): (MailAddress, MailAddress) =
            (of("from").unwrap().parse().unwrap(), of("to").unwrap().parse().unwrap());
        ReceivedMail {
            from: from.address().to_owned(),
            to: vec![to.address().to_owned()],
            to_name: to.name().map(str::to_owned),
            subject: of("subject").unwrap(),
            text: of("text").unwrap(),
            html: of("html"),
            headers: Vec::new(),
        }
    });
    mails.collect()
}

async fn make() -> MailerFixture {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(Capture(events.clone()));
    // Each test has a thread and a runtime of its own.
    let guard = tracing::subscriber::set_default(subscriber);
    std::mem::forget(guard);
    MailerFixture::new(LogMailer, move || {
        let mails = received(&events);
        async move { mails }
    })
}

ecom_core::mailer_suite!(make);
