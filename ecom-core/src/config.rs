//! The settings of a shop. The host reads them from the environment, for example with `ecom::config` of the facade.

use std::num::NonZeroUsize;
use std::time::Duration;

use derive_setters::Setters;

use crate::clock::TimeZone;
use crate::domain::access::session::OneTimePurpose;
use crate::domain::platform::mail::MailAddress;
use crate::domain::search::language::Language;
use crate::error::{Result, ValidationErrors};
use crate::money::Currency;
use crate::service::access::token::TokenAlgorithm;

/// Settings of a [`crate::Shop`].
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct ShopConfig {
    /// The currency of the shop. Default USD.
    pub currency: Currency,
    /// Whether a write that does not name a version succeeds and overwrites changes that its caller has not seen (R1).
    /// Default false.
    pub last_write_wins: bool,
    /// Whether a product or a SKU that an order refers to cannot be deleted, not even softly (R5). Default false.
    pub keep_sold: bool,
    /// How many rows a list counts at most for its total. If there are more, the total is a lower bound. 1–1,000,000,
    /// default 10,000.
    pub total_bound: u64,
    /// How long a cached product, a cached list of products, or the cached result of a search is served (R15). At most
    /// one day, default 5 minutes.
    pub product_ttl: Duration,
    /// How long a cached category or the cached tree is served (R15). At most one day, default 1 hour.
    pub category_ttl: Duration,
    /// How often background consumers check for events of other processes. 10 ms to 60 s, default 500 ms.
    pub poll_interval: Duration,
    /// After how long another process takes over the shared consumers of a process that has died. The clocks of all
    /// processes must agree to within a fraction of this time. 1 s to 10 min, default 5 s.
    pub lease_ttl: Duration,
    /// The number of events, or of documents in a rebuild, that the index applies as one batch. 1–10,000, default 500.
    pub index_batch: u32,
    /// How long the outbox keeps events. A local index that has not been synchronized for longer is rebuilt. At least
    /// one minute, default 7 days.
    pub outbox_retention: Duration,
    /// How long an idempotency key is kept with its answer (R12). A request that is repeated later runs again. 1 min to
    /// 30 days, default 24 hours.
    pub idempotency_retention: Duration,
    /// The maximum number of stock adjustments that share one commit. 1–1,000, default 256.
    pub adjustment_batch: usize,
    /// The maximum number of orders that share one commit. 1–1,000, default 256.
    pub order_batch: usize,
    /// The maximum number of events that wait for the receiver of a live subscription. If there are more, the
    /// subscription ends, so that a slow receiver delays no other. 1–10,000, default 256.
    pub live_buffer: usize,
    /// How long a cart is kept after its last change. 1 hour to 365 days, default 30 days.
    pub cart_ttl: Duration,
    /// How long a search waits for its engine. An engine that takes longer counts as down. 10 ms to 60 s, default 10 s.
    pub search_timeout: Duration,
    /// Whether searches are counted by their texts ([`SearchLogService`](crate::platform::SearchLogService)). Texts
    /// that people type can contain personal data. Default true.
    pub search_log: bool,
    /// How often a process adds the searches that it has counted to the database. If it is killed, it loses the counts
    /// since the last time. 1 s to 1 hour, default 10 s.
    pub search_log_interval: Duration,
    /// How long the counts of a day are kept. 1 day to 10 years (3,660 days), default 90 days.
    pub search_log_retention: Duration,
    /// The time zone of the shop. Analytics and the search log count by its days, and a change rebuilds the figures of
    /// sales. Default UTC.
    pub time_zone: TimeZone,
    /// How often the figures of sales are brought up to date, and how often a process adds the views of products that
    /// it has counted to the database. A process that is killed loses the views since the last time. 1 s to 1 hour,
    /// default 10 s.
    pub analytics_interval: Duration,
    /// The lower bounds of the price ranges that searches count, in minor units of the currency: at most 50, in
    /// ascending order. Default 0, 2,500, 5,000, 10,000, 25,000, 50,000 and 100,000.
    pub price_bounds: Vec<i64>,
    /// How long an access token is valid. 1 min to 24 hours, default 15 min.
    pub access_token_ttl: Duration,
    /// How long a session goes on after its last refresh. 1 hour to 365 days, default 7 days.
    pub session_ttl: Duration,
    /// The issuer of access tokens, which tokens name and other services check: 1–255 characters. Default `ecom`.
    #[setters(into)]
    pub token_issuer: String,
    /// The algorithm by which access tokens are signed. Default Ed25519.
    pub token_algorithm: TokenAlgorithm,
    /// How long a key signs access tokens before a new key replaces it. 1 day to 365 days, default 30 days.
    pub signing_key_lifetime: Duration,
    /// How many passwords are hashed at a time. Each hash occupies a processor for some 20 ms and 19 MiB; while other
    /// work keeps the processors busy, up to twice as many hashes occupy memory. 1–64, default half of the processors,
    /// within these bounds.
    pub password_hashes: NonZeroUsize,
    /// The language of titles, descriptions and searches. If it changes, the index is rebuilt. Default English.
    pub search_language: Language,
    /// The name of the shop in mails: 1–100 characters. Default `Shop`.
    #[setters(into)]
    pub shop_name: String,
    /// The URL of the storefront, to whose pages the links in mails lead: `http` or `https`, without a query and
    /// without a slash at its end, at most 500 characters. Default `http://localhost:8000`.
    #[setters(into)]
    pub public_url: String,
    /// The sender of mails. Default `shop@example.com`, from which no mail server accepts mails.
    pub mail_from: MailAddress,
    /// Whether the buyer of a new order gets a mail that confirms it, if the shop has a mailer. Default true.
    pub order_confirmation: bool,
    /// How long a cart must not have changed before its shopper gets a mail that reminds of it: 15 min to 30 days, and
    /// less than `cart_ttl`. A cart gets one such mail at most, and none once it is ordered. Default `None`: no such
    /// mails are sent, because many countries require that the shopper has agreed to them.
    pub abandoned_cart_after: Option<Duration>,
    /// The address that gets a mail when SKUs become low. Default `None`: no such mails are sent.
    pub low_stock_mail: Option<MailAddress>,
    /// How long the token of a mail that verifies an email address is valid. 1 hour to 30 days, default 3 days.
    pub verification_ttl: Duration,
    /// How long the token of a mail that resets a password is valid. 5 min to 24 hours, default 1 hour.
    pub password_reset_ttl: Duration,
    /// The time limit of an attempt to deliver an event to a webhook. 100 ms to 60 s, default 10 s.
    pub webhook_timeout: Duration,
    /// How long a delivery to a webhook is kept after it was made, whether it has ended or not. 1 day to 365 days,
    /// default 30 days.
    pub webhook_retention: Duration,
    /// How long the deliveries to a webhook can fail, without a success in between, before the shop switches it off. 1
    /// min to 30 days, default 3 days.
    pub webhook_off_after: Duration,
    /// How long the files of an uploaded image are kept after the last upload of the image, and after the shop has
    /// found that nothing in the catalog names them any more: 1 day to 10 years. Default `None`: they are kept for ever,
    /// because an application may name files in places that the shop does not know, and because another shop, such as a
    /// copy of this one for tests, may use the same store.
    /// [`MediaService::remove_unused`](crate::catalog::MediaService::remove_unused) describes what counts as named.
    pub media_retention: Option<Duration>,
}

fn half_of_processors() -> NonZeroUsize {
    let all = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new((all / 2).min(64)).unwrap_or(NonZeroUsize::MIN)
}

impl Default for ShopConfig {
    fn default() -> Self {
        Self {
            currency: Currency::USD,
            last_write_wins: false,
            keep_sold: false,
            total_bound: 10_000,
            product_ttl: Duration::from_secs(5 * 60),
            category_ttl: Duration::from_secs(60 * 60),
            poll_interval: Duration::from_millis(500),
            lease_ttl: Duration::from_secs(5),
            index_batch: 500,
            outbox_retention: Duration::from_secs(7 * 24 * 3600),
            idempotency_retention: Duration::from_secs(24 * 3600),
            adjustment_batch: 256,
            order_batch: 256,
            live_buffer: 256,
            cart_ttl: Duration::from_secs(30 * 86_400),
            search_timeout: Duration::from_secs(10),
            search_log: true,
            search_log_interval: Duration::from_secs(10),
            search_log_retention: Duration::from_secs(90 * 86_400),
            time_zone: TimeZone::utc(),
            analytics_interval: Duration::from_secs(10),
            price_bounds: vec![0, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000],
            access_token_ttl: Duration::from_secs(15 * 60),
            session_ttl: Duration::from_secs(7 * 86_400),
            token_issuer: "ecom".to_owned(),
            token_algorithm: TokenAlgorithm::EdDsa,
            signing_key_lifetime: Duration::from_secs(30 * 86_400),
            password_hashes: half_of_processors(),
            search_language: Language::English,
            shop_name: "Shop".to_owned(),
            public_url: "http://localhost:8000".to_owned(),
            mail_from: MailAddress::unset(),
            order_confirmation: true,
            abandoned_cart_after: None,
            low_stock_mail: None,
            verification_ttl: Duration::from_secs(3 * 86_400),
            password_reset_ttl: Duration::from_secs(3_600),
            webhook_timeout: Duration::from_secs(10),
            webhook_retention: Duration::from_secs(30 * 86_400),
            webhook_off_after: Duration::from_secs(3 * 86_400),
            media_retention: None,
        }
    }
}

/// Returns true for a URL to which paths can be appended.
fn is_public_url(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    matches!(url.scheme(), "http" | "https")
        && text.len() <= 500
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && !text.ends_with('/')
        && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

impl ShopConfig {
    /// Returns how long a one-time token is valid.
    pub const fn one_time_ttl(&self, purpose: OneTimePurpose) -> Duration {
        match purpose {
            OneTimePurpose::VerifyEmail => self.verification_ttl,
            OneTimePurpose::ResetPassword => self.password_reset_ttl,
        }
    }

    /// Checks that all settings are within their bounds.
    ///
    /// # Errors
    /// `Validation` with each setting that is not.
    pub fn check(&self) -> Result<()> {
        let mut e = ValidationErrors::default();
        let mut within = |field: &str, ok: bool, bounds: &str| {
            if !ok {
                e.out_of_bounds(field, format!("must be {bounds}"));
            }
        };
        within("total_bound", (1..=1_000_000).contains(&self.total_bound), "between 1 and 1000000");
        within("poll_interval", (10..=60_000).contains(&self.poll_interval.as_millis()), "between 10 ms and 60 s");
        within("lease_ttl", (1_000..=600_000).contains(&self.lease_ttl.as_millis()), "between 1 s and 10 min");
        within("index_batch", (1..=10_000).contains(&self.index_batch), "between 1 and 10000");
        within("adjustment_batch", (1..=1_000).contains(&self.adjustment_batch), "between 1 and 1000");
        within("order_batch", (1..=1_000).contains(&self.order_batch), "between 1 and 1000");
        within("live_buffer", (1..=10_000).contains(&self.live_buffer), "between 1 and 10000");
        within("product_ttl", self.product_ttl <= Duration::from_secs(86_400), "at most one day");
        within("category_ttl", self.category_ttl <= Duration::from_secs(86_400), "at most one day");
        within("outbox_retention", self.outbox_retention >= Duration::from_secs(60), "at least one minute");
        let kept = self.idempotency_retention.as_millis();
        within("idempotency_retention", (60_000..=30 * 86_400_000).contains(&kept), "between 1 min and 30 days");
        let cart_ttl = Duration::from_secs(3_600)..=Duration::from_secs(365 * 86_400);
        within("cart_ttl", cart_ttl.contains(&self.cart_ttl), "between 1 hour and 365 days");
        within("search_timeout", (10..=60_000).contains(&self.search_timeout.as_millis()), "between 10 ms and 60 s");
        let interval = Duration::from_secs(1)..=Duration::from_secs(3_600);
        within("search_log_interval", interval.contains(&self.search_log_interval), "between 1 s and 1 hour");
        within("analytics_interval", interval.contains(&self.analytics_interval), "between 1 s and 1 hour");
        let kept = Duration::from_secs(86_400)..=Duration::from_secs(3_660 * 86_400);
        within("search_log_retention", kept.contains(&self.search_log_retention), "between 1 day and 3660 days");
        let minutes = |d: Duration| d.as_secs() / 60;
        within(
            "access_token_ttl",
            (1..=24 * 60).contains(&minutes(self.access_token_ttl)),
            "between 1 min and 24 hours",
        );
        within("session_ttl", (60..=365 * 1_440).contains(&minutes(self.session_ttl)), "between 1 hour and 365 days");
        within("session_ttl", self.session_ttl >= self.access_token_ttl, "at least `access_token_ttl`");
        let issuer = self.token_issuer.chars().count();
        within("token_issuer", (1..=255).contains(&issuer), "1 to 255 characters long");
        let lifetime = minutes(self.signing_key_lifetime);
        within("signing_key_lifetime", (1_440..=365 * 1_440).contains(&lifetime), "between 1 day and 365 days");
        within("password_hashes", self.password_hashes.get() <= 64, "at most 64");
        let named = self.shop_name.chars().count();
        let is_plain = !self.shop_name.contains(char::is_control) && !self.shop_name.trim().is_empty();
        within("shop_name", (1..=100).contains(&named) && is_plain, "1 to 100 characters on one line");
        within(
            "public_url",
            is_public_url(&self.public_url),
            "a URL of at most 500 characters that starts with `http://` or `https://` and has neither a user, a query, \
             a fragment nor a slash at its end",
        );
        if let Some(after) = self.abandoned_cart_after {
            let is_within = (15..=30 * 1_440).contains(&minutes(after)) && after < self.cart_ttl;
            within("abandoned_cart_after", is_within, "between 15 min and 30 days, and less than `cart_ttl`");
        }
        let ttl = minutes(self.verification_ttl);
        within("verification_ttl", (60..=30 * 1_440).contains(&ttl), "between 1 hour and 30 days");
        within(
            "password_reset_ttl",
            (5..=1_440).contains(&minutes(self.password_reset_ttl)),
            "between 5 min and 24 hours",
        );
        let limit = self.webhook_timeout.as_millis();
        within("webhook_timeout", (100..=60_000).contains(&limit), "between 100 ms and 60 s");
        let kept = minutes(self.webhook_retention);
        within("webhook_retention", (1_440..=365 * 1_440).contains(&kept), "between 1 day and 365 days");
        let off_after = minutes(self.webhook_off_after);
        within("webhook_off_after", (1..=30 * 1_440).contains(&off_after), "between 1 min and 30 days");
        if let Some(kept) = self.media_retention {
            within("media_retention", (1_440..=3_660 * 1_440).contains(&minutes(kept)), "between 1 day and 10 years");
        }
        let ascending = self.price_bounds.is_sorted_by(|a, b| a < b);
        within(
            "price_bounds",
            ascending && self.price_bounds.len() <= 50,
            "at most 50 prices in ascending order, without duplicates",
        );
        e.into_result()
    }
}
