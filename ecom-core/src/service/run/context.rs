//! The state that all services of a shop share.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::queue::Queue;
use super::read_through::ReadThrough;
use crate::clock::{SharedClock, Timestamp};
use crate::config::ShopConfig;
use crate::domain::platform::analytics::ProductViews;
use crate::domain::platform::audit_log::Import;
use crate::domain::platform::outbox::OutboxPosition;
use crate::error::Result;
use crate::id::{EventId, IdSource};
use crate::port::rate_limiter::RateLimiter;
use crate::port::storage::Storage;
use crate::port::webhook_sender::WebhookSender;
use crate::service::access::auth::Remembered;
use crate::service::access::crypto::SecretKey;
use crate::service::access::oidc::Oidc;
use crate::service::access::password::Passwords;
use crate::service::access::token::TokenKeys;
use crate::service::catalog::feed::Feed;
use crate::service::catalog::media::Uploads;
use crate::service::platform::job_queue::Queues;
use crate::service::platform::live::Live;
use crate::service::platform::search_log::SearchCounts;
use crate::service::run::counts::Counts;
use crate::service::sales::order::place::Placing;
use crate::service::search::settings::Ready;
use crate::service::search::state::Indices;
use crate::service::stock::inventory::Posting;
use crate::shop::{Mailing, Media};

/// What the services of a [`Shop`](crate::Shop) are made from: the state that they share with those of its clones, the
/// place where [`Shop::recording`](crate::Shop::recording) notes the last event, and the import that they work for.
#[derive(Debug)]
pub(crate) struct Context {
    shared: Arc<Shared>,
    last_event: Option<Arc<Mutex<Option<EventId>>>>,
    /// The import whose entry in the audit log counts the changes; `None` if each change has an entry of its own.
    pub import: Option<Arc<Import>>,
}

/// The state that all services of a shop share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub storage: Arc<dyn Storage>,
    pub cache: ReadThrough,
    pub rate_limiter: Arc<dyn RateLimiter>,
    pub clock: SharedClock,
    pub ids: Arc<dyn IdSource>,
    /// How mails are sent; `None` if none are.
    pub mailing: Option<Mailing>,
    /// The store of uploaded images; `None` if uploads are refused.
    pub media: Option<Media>,
    /// The uploads that are decoded, and those that wait.
    pub uploads: Uploads,
    /// The sender of webhooks; `None` if none are sent.
    pub webhooks: Option<Arc<dyn WebhookSender>>,
    /// The secret key of the shop, which encrypts the secrets of webhooks; `None` if it has none.
    pub secret_key: Option<SecretKey>,
    /// The sources that the background work polls.
    pub feeds: Vec<Feed>,
    /// The queues of jobs.
    pub queues: Queues,
    pub config: ShopConfig,
    /// Adjustments of stock that wait for the next commit.
    pub adjustments: Queue<Posting>,
    /// Orders that wait for the next commit.
    pub orders: Queue<Placing>,
    /// The settings that searches use.
    pub search_settings: Ready,
    /// The search indices.
    pub indices: Indices,
    /// The searches that the log in the database does not have yet.
    pub searches: SearchCounts,
    /// The views of products that the database does not have yet.
    pub views: Counts<ProductViews>,
    /// The position in the log up to which this process has dropped stale documents from its own cache; `None` before
    /// its background work has begun to.
    pub forgotten: Mutex<Option<OutboxPosition>>,
    /// The names of the application's consumers that this process runs or has run.
    pub consumers: Mutex<HashSet<String>>,
    /// Wakes the followers of the log. Each follower keeps one wake-up while it works.
    pub events: watch::Sender<()>,
    /// The subscriptions to live events in this process.
    pub live: Live,
    /// Held by a write while it makes the next name, after another write took the one that it had made.
    pub naming: tokio::sync::Mutex<()>,
    /// Stops the background work that was started, for [`Shop::close`](crate::Shop::close).
    pub background: Mutex<Vec<watch::Sender<bool>>>,
    /// The hashes of passwords.
    pub passwords: Passwords,
    /// The keys of access tokens.
    pub token_keys: TokenKeys,
    /// The issuer of OpenID Connect whose tokens the shop accepts.
    pub oidc: Option<Arc<Oidc>>,
    /// The credentials that this process has verified recently.
    pub logins: Remembered,
    /// The id of the database, after it was read once.
    pub identity: tokio::sync::OnceCell<uuid::Uuid>,
}

impl Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Context {
    /// Returns a context that notes no events.
    pub fn new(shared: Shared) -> Arc<Self> {
        Arc::new(Self { shared: Arc::new(shared), last_event: None, import: None })
    }

    /// Returns a context that notes the last event of its writes.
    pub fn recording(&self) -> Arc<Self> {
        Arc::new(Self { shared: self.shared.clone(), last_event: Some(Arc::default()), import: None })
    }

    /// Returns a context that notes no events, for work that one caller does for others.
    pub fn silent(&self) -> Arc<Self> {
        Arc::new(Self { shared: self.shared.clone(), last_event: None, import: None })
    }

    /// Returns a context whose changes are those of an import.
    pub fn importing(&self, import: Import) -> Arc<Self> {
        let (shared, last_event) = (self.shared.clone(), self.last_event.clone());
        Arc::new(Self { shared, last_event, import: Some(Arc::new(import)) })
    }

    /// Returns whether this is the context of an import in bulk, whose new products share events.
    pub fn imports_in_bulk(&self) -> bool {
        self.import.as_ref().is_some_and(|import| import.is_bulk)
    }

    /// Notes the last event of a write that was committed, if this context records and the write has events.
    pub fn note(&self, event: Option<EventId>) {
        if let Some((last, event)) = self.last_event.as_ref().zip(event) {
            *last.lock() = Some(event);
        }
    }

    /// Returns the last event that was noted.
    pub fn last_event(&self) -> Option<EventId> {
        self.last_event.as_ref().and_then(|last| *last.lock())
    }
}

impl Shared {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the id of the database.
    pub async fn database(&self) -> Result<uuid::Uuid> {
        self.identity.get_or_try_init(|| self.storage.identity()).await.copied()
    }

    /// Returns a pause between half of `pause` and all of it, so that callers that failed together do not retry
    /// together.
    pub fn jitter(&self, pause: Duration) -> Duration {
        // The end of an id is random, and replays from its seed.
        let [.., high, low] = self.ids.next().into_bytes();
        pause.mul_f64(0.5 + f64::from(u16::from_be_bytes([high, low])) / 131_072.0)
    }
}
