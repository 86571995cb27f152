//! The sender of webhooks, against a receiver on this machine that behaves in every way.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use ecom_core::catalog::ProductInput;
use ecom_core::config::ShopConfig;
use ecom_core::money::Currency;
use ecom_core::paging::Paging;
use ecom_core::platform::{EventKind, WebhookDeliveryFilter, WebhookDeliveryState, WebhookInput};
use ecom_core::port::{NoSearch, Storage as _, WebhookError, WebhookMessage, WebhookSender as _};
use ecom_core::{Shop, ShopParts};
use ecom_outbound::{HttpWebhookSender, OutboundOptions, WebhookSenderOptions};
use ecom_storage::SqlStorage;
use futures::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::Value;
use tokio::net::TcpListener;

/// The requests that a receiver has got: path, headers and body.
type Requests = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// A receiver on this machine, which answers as the path says.
struct Receiver {
    address: SocketAddr,
    requests: Requests,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(requests): State<Requests>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    requests.lock().push((uri.path().to_owned(), headers, body));
    let part = || Ok::<_, Infallible>(Bytes::from_static(b"first "));
    match uri.path() {
        "/redirect" => (StatusCode::FOUND, [(header::LOCATION, "/ok")]).into_response(),
        "/silent" => std::future::pending().await,
        "/busy" => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "120")]).into_response(),
        "/broken" => (StatusCode::INTERNAL_SERVER_ERROR, "no\u{0} luck\u{7}").into_response(),
        "/endless" => Response::new(Body::from_stream(stream::repeat_with(part))),
        "/slow" => Response::new(Body::from_stream(stream::iter([part()]).chain(stream::pending()))),
        _ => (StatusCode::OK, "thanks").into_response(),
    }
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Requests::default());
        let app = Router::new().fallback(answer).with_state(requests.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, requests, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn paths(&self) -> Vec<String> {
        self.requests.lock().iter().map(|(path, ..)| path.clone()).collect()
    }
}

/// Returns a sender that may call the receiver of a test, and nothing else that is private.
fn sender(outbound: OutboundOptions) -> HttpWebhookSender {
    let outbound = outbound.allow("127.0.0.1").unwrap();
    HttpWebhookSender::new(&WebhookSenderOptions::default().allow_http(true).outbound(outbound)).unwrap()
}

fn message(url: &str) -> WebhookMessage {
    WebhookMessage::new(url.parse().unwrap(), "msg_1".to_owned(), 1_614_265_330, "v1,abc=".to_owned(), "{}".to_owned())
}

/// Returns the status and the excerpt of an answer.
async fn sent(sender: &HttpWebhookSender, url: &str) -> Result<(u16, Option<String>), WebhookError> {
    sender.send(&message(url)).await.map(|answer| (answer.status, answer.excerpt))
}

#[tokio::test]
async fn a_message_is_a_post_with_the_headers_of_standard_webhooks() {
    let receiver = Receiver::start().await;
    let sender = sender(OutboundOptions::default());
    assert_eq!(sent(&sender, &receiver.url("/ok?key=1")).await.unwrap(), (200, Some("thanks".to_owned())));
    let (path, headers, body) = receiver.requests.lock()[0].clone();
    assert_eq!((path.as_str(), &body[..]), ("/ok", &b"{}"[..]));
    for (name, value) in [
        ("content-type", "application/json"),
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,abc="),
    ] {
        assert_eq!(headers.get(name).unwrap(), value, "{name}");
    }
}

#[tokio::test]
async fn answers_are_bounded_and_redirects_are_not_followed() {
    let receiver = Receiver::start().await;
    let sender = sender(OutboundOptions::default());
    assert_eq!(sent(&sender, &receiver.url("/redirect")).await.unwrap(), (302, None));
    assert_eq!(sent(&sender, &receiver.url("/broken")).await.unwrap(), (500, Some("no  luck".to_owned())));
    let (status, excerpt) = sent(&sender, &receiver.url("/endless")).await.unwrap();
    assert!(status == 200 && excerpt.as_ref().is_some_and(|text| text.len() <= 2_000), "{excerpt:?}");
    // A receiver that has accepted the message and then hangs has accepted it.
    assert_eq!(sent(&sender, &receiver.url("/slow")).await.unwrap(), (200, Some("first".to_owned())));
    let busy = sender.send(&message(&receiver.url("/busy"))).await.unwrap();
    assert_eq!((busy.status, busy.retry_after), (429, Some(Duration::from_secs(120))));
    assert_eq!(receiver.paths(), ["/redirect", "/broken", "/endless", "/slow", "/busy"]);
    // Nobody listens on the port of a listener that was dropped.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = format!("http://{free}/ok?key=secret");
    let error = sent(&sender, &gone).await.unwrap_err();
    assert!(error.context.contains("could not be opened"), "{error}");
    let shown = format!("{error:?} {error} {:?}", message(&gone));
    assert!(!shown.contains("secret"), "{shown}");
}

/// A resolver that answers each question in another way.
struct Names(Mutex<Vec<Vec<&'static str>>>);

impl Names {
    fn of(answers: impl IntoIterator<Item = Vec<&'static str>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self(Mutex::new(answers))
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let answer = self.0.lock().pop().unwrap_or_default();
        let all: Vec<SocketAddr> = answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        Box::pin(async move { Ok(Box::new(all.into_iter()) as Addrs) })
    }
}

/// A public name leads to each kind of private address, also after it has led to an allowed one.
#[tokio::test]
async fn a_name_that_leads_inward_is_refused() {
    let receiver = Receiver::start().await;
    let inward = [
        vec!["127.0.0.2"],
        vec!["10.0.0.1"],
        vec!["172.16.0.1"],
        vec!["192.168.0.1"],
        vec!["169.254.169.254"],
        vec!["::1"],
        vec!["fd00::1"],
        vec!["fe80::1"],
        vec!["::ffff:10.0.0.1"],
        vec!["100.100.100.200"],
    ];
    let answers = std::iter::once(vec!["127.0.0.1"]).chain(inward.clone());
    let sender = sender(OutboundOptions::default().resolver(Names::of(answers)));
    let url = format!("http://rebind.test:{}/ok", receiver.address.port());
    assert_eq!(sent(&sender, &url).await.unwrap().0, 200);
    // The connection of the first message is not used again.
    receiver.task.abort();
    for addresses in inward {
        let other = url.replace("rebind", &format!("rebind-{}", addresses[0].replace([':', '.'], "-")));
        let error = sent(&sender, &other).await.unwrap_err();
        assert!(error.context.contains("private network"), "{addresses:?}: {error}");
    }
    assert_eq!(receiver.paths(), ["/ok"]);
}

#[test]
fn urls_that_lead_inward_and_those_without_tls_are_refused_at_once() {
    let strict = HttpWebhookSender::new(&WebhookSenderOptions::default()).unwrap();
    let refuses = |sender: &HttpWebhookSender, url: &str| sender.refuses(&url.parse().unwrap()).is_some();
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost:8443/",
        "ftp://example.com/",
    ] {
        assert!(refuses(&strict, url), "{url}");
    }
    for (url, message) in [
        ("http://example.com/", "must begin with `https://`"),
        ("https://10.0.0.1/", "leads to an address of this machine or of a private network"),
    ] {
        let reason = strict.refuses(&url.parse().unwrap()).unwrap();
        assert!(reason.contains(message), "{url}: {reason}");
    }
    assert!(!refuses(&strict, "https://example.com:8443/hooks?a=b"));
    let lenient = sender(OutboundOptions::default());
    for url in ["http://example.com/", "http://127.0.0.1:8000/", "http://localhost/"] {
        assert!(!refuses(&lenient, url), "{url}");
    }
    assert!(refuses(&lenient, "http://127.0.0.2/"));
}

/// A shop delivers to a receiver that accepts, to one that never answers, to one that fails, and to one that leads
/// inward.
#[tokio::test]
async fn a_shop_delivers_whatever_other_receivers_do() {
    let receiver = Receiver::start().await;
    let storage = Arc::new(SqlStorage::open("sqlite::memory:").unwrap());
    storage.migrate(Currency::USD).await.unwrap();
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10));
    let config = config.webhook_timeout(Duration::from_secs(3));
    let sender = sender(OutboundOptions::default().resolver(Names::of([])));
    let webhooks: Option<Arc<dyn ecom_core::port::WebhookSender>> = Some(Arc::new(sender));
    let parts = ShopParts::new(storage, Arc::new(NoSearch));
    let shop = Shop::new(ShopParts { config, webhooks, ..parts }).unwrap();
    let mut made = Vec::new();
    for path in ["/ok", "/silent", "/broken", "/redirect"] {
        let input = WebhookInput::new(receiver.url(path), [EventKind::ProductCreated]);
        made.push(shop.webhooks().create(&input).await.unwrap());
    }
    let inward = WebhookInput::new("http://unknown.test/", [EventKind::ProductCreated]);
    made.push(shop.webhooks().create(&inward).await.unwrap());
    let background = shop.start();
    for n in 0..5 {
        let product = ProductInput::new(format!("P {n}")).price("1 USD".parse().unwrap());
        shop.products().create(&product).await.unwrap();
    }
    let list = async |filter: WebhookDeliveryFilter| {
        shop.webhooks().deliveries(&filter, &Paging::first(100)).await.unwrap().0.items
    };
    let accepted = WebhookDeliveryFilter { state: Some(WebhookDeliveryState::Succeeded), ..Default::default() };
    let failed = async |n: usize| {
        let of = WebhookDeliveryFilter { webhook_id: Some(made[n].webhook.id), ..Default::default() };
        list(of).await.into_iter().find_map(|delivery| delivery.error)
    };
    for _ in 0..60_000 {
        let all_failed = failed(1).await.and(failed(2).await).and(failed(3).await).and(failed(4).await);
        if list(accepted.clone()).await.len() == 5 && all_failed.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    background.shutdown().await;
    assert_eq!(list(accepted).await.len(), 5);
    let errors = ["did not answer within", "status 500", "redirects are not followed", "opened"];
    for (n, text) in (1..).zip(errors) {
        let error = failed(n).await.unwrap();
        assert!(error.contains(text), "{error}");
    }
    let ids: Vec<Value> = receiver.requests.lock().iter().filter(|(path, ..)| path == "/ok").map(body).collect();
    assert_eq!(ids.len(), 5, "each event arrives once");
    shop.close().await;
}

fn body((_, _, body): &(String, HeaderMap, Bytes)) -> Value {
    serde_json::from_slice(body).unwrap()
}
