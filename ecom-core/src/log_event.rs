//! The named events of the log, which operators search for and set alerts on.
//!
//! A line of a named event has the target [`TARGET`], and its field `event` is one of the names below. The other fields
//! are ids, numbers and words of the shop, and never names, addresses or secrets of people. The event of a write is
//! logged after its commit, and a write that is rolled back logs none. `docs/log-events.md` has the names and their
//! fields in a table.
//!
//! A line is missing if the process dies between the commit and the line. Code that must not miss an event reads the
//! outbox instead ([`Consumer`](crate::platform::Consumer)).

use tracing::Level;

/// The target of every named event.
pub const TARGET: &str = "ecom::event";

/// A named event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEvent {
    /// The name, which is the field `event` of the line.
    pub name: &'static str,
    /// The level of the line.
    pub level: Level,
    /// What has happened.
    pub meaning: &'static str,
    /// The other fields of the line, and what each contains. A field that does not apply is left out.
    pub fields: &'static [(&'static str, &'static str)],
}

macro_rules! log_events {
    ($(
        $(#[doc = $meaning:literal])+
        $name:ident = $text:literal, $level:ident, { $($field:literal: $what:literal),* $(,)? };
    )*) => {
        $($(#[doc = $meaning])+ pub const $name: &str = $text;)*

        /// All named events, sorted by name.
        pub const ALL: &[LogEvent] = &[$(LogEvent {
            name: $text,
            level: Level::$level,
            meaning: concat!($($meaning),+).trim_ascii_start(),
            fields: &[$(($field, $what)),*],
        }),*];
    };
}

log_events! {
    /// An audit has found rows that contradict a rule, or an order that it could not check.
    AUDIT_FINDING = "audit_finding", ERROR, {
        "entity": "`sku` or `order`",
        "id": "the id of the row",
        "finding": "what is wrong, with the number of the rule",
    };
    /// The cache that processes share does not answer. Reads go to the database until it does.
    CACHE_LOST = "cache_lost", WARN, { "error": "why" };
    /// The cache that processes share answers again.
    CACHE_RESTORED = "cache_restored", INFO, {};
    /// A server of the database was refused, because its answers could be wrong.
    DATABASE_REFUSED = "database_refused", ERROR, { "reason": "why, and what to do" };
    /// Events were removed before a consumer has read them; it rebuilds what it derives from them.
    EVENTS_MISSED = "events_missed", WARN, { "consumer": "the name of the consumer" };
    /// A feed could not be read, or its import has failed.
    FEED_FAILED = "feed_failed", WARN, {
        "feed": "the name of the feed",
        "job": "the job of the import, if it has begun",
        "error": "why",
        "next": "when it is polled again",
    };
    /// An import has ended. The job has all of its counters.
    IMPORT_FINISHED = "import_finished", INFO, {
        "job": "the job of the import",
        "of": "the kind of the records, such as `products`",
        "read": "how many records were read",
        "written": "how many rows were inserted or updated",
        "unchanged": "how many rows already had the values of their records",
        "rejected": "how many records were refused",
        "complete": "whether the source was read to its end",
    };
    /// A search index was built, because it was new or could not follow the log.
    INDEX_BUILT = "index_built", INFO, { "engine": "the search engine", "documents": "how many documents it has" };
    /// A job stays failed. `POST /admin/jobs/{id}/retry` runs it again.
    JOB_PARKED = "job_parked", ERROR, {
        "job": "the job",
        "kind": "its kind",
        "attempts": "how many runs have failed",
        "error": "why the last run has failed",
    };
    /// A request was refused by a rate limit.
    LIMIT_HIT = "limit_hit", INFO, {
        "quota": "`address`, `principal`, `login`, `registration` or `orders`",
    };
    /// The rate limiter that processes share does not answer. Each process counts by itself until it does.
    LIMITER_LOST = "limiter_lost", WARN, { "error": "why" };
    /// The rate limiter that processes share answers again.
    LIMITER_RESTORED = "limiter_restored", INFO, {};
    /// A login was refused: the address or the password is wrong, or the user is blocked.
    LOGIN_FAILED = "login_failed", INFO, { "user": "the user with the address, if there is one" };
    /// A mail was passed to the mailer.
    MAIL_SENT = "mail_sent", INFO, {
        "job": "the job of the mail",
        "mail": "the kind of the mail",
        "about": "the id of the user, the order, the cart or the event that it is about",
    };
    /// An order was canceled.
    ORDER_CANCELED = "order_canceled", INFO, { "order": "the order", "number": "its number" };
    /// An order was placed.
    ORDER_PLACED = "order_placed", INFO, {
        "order": "the order",
        "number": "its number",
        "lines": "how many lines it has",
        "total": "its total, in the currency of the shop",
        "currency": "that currency (ISO 4217)",
    };
    /// A bill of an order was paid.
    PAYMENT_RECORDED = "payment_recorded", INFO, { "order": "the order", "number": "its number" };
    /// Most connections of the pool of the database are in use. Each process logs it at most once a minute for each
    /// percentage.
    POOL_HIGH = "pool_high", WARN, {
        "percent": "80 or 90",
        "in_use": "how many connections are in use",
        "max": "how many there can be",
        "waiting": "how many callers wait for one",
    };
    /// An order, a checkout or a change of a cart was refused, because the request has another price than the current
    /// one.
    PRICE_MISMATCH = "price_mismatch", WARN, {
        "sku": "the SKU",
        "expected": "the current price",
        "found": "the price of the request",
    };
    /// A search engine does not answer. Searches use the fallback, or fail.
    SEARCH_LOST = "search_lost", WARN, { "engine": "the search engine", "error": "why" };
    /// A search engine answers again.
    SEARCH_RESTORED = "search_restored", INFO, { "engine": "the search engine" };
    /// A refresh token was used a second time, so that somebody else may have it. Its session has ended.
    SESSION_REUSED = "session_reused", WARN, { "session": "the session", "user": "its user" };
    /// A statement has taken longer than a second.
    SLOW_STATEMENT = "slow_statement", WARN, {
        "statement": "its verb and its first table, such as `select products`",
        "took_ms": "how many milliseconds it took",
    };
    /// A SKU has become low: its availability was `in_stock`, and is `limited` or `out_of_stock` now.
    STOCK_LOW = "stock_low", INFO, {
        "sku": "the SKU",
        "product": "its product",
        "available": "how many pieces can be sold",
        "threshold": "its low-stock threshold",
    };
    /// An order or a change of an order was refused, because too little was available.
    STOCK_SHORT = "stock_short", INFO, {
        "sku": "the SKU",
        "requested": "how many pieces were asked for",
        "available": "how many there are",
    };
    /// A webhook was switched off. `PATCH /webhooks/{id}` with `enabled` switches it on again.
    WEBHOOK_DISABLED = "webhook_disabled", WARN, {
        "webhook": "the webhook",
        "reason": "`failing` or `gone`",
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::{assert_has_table, text_of, users_of};

    #[test]
    fn the_docs_have_the_table_of_all_events() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name), "the events are sorted by name, and each is listed once");
        let rows = ALL.iter().map(|event| {
            let fields: Vec<String> = event.fields.iter().map(|(field, what)| format!("`{field}`: {what}")).collect();
            let level = event.level.as_str().to_ascii_lowercase();
            [format!("`{}`", event.name), level, event.meaning.to_owned(), fields.join("; ")]
        });
        let page = "docs/log-events.md";
        assert_has_table(page, ["Event", "Level", "Meaning", "Fields"], rows);
        assert_eq!(text_of(page).matches("\n| `").count(), ALL.len(), "no other table has rows like these");
    }

    #[test]
    fn each_event_is_logged_somewhere() {
        let text = users_of("ecom-core/src/log_event.rs");
        for event in ALL {
            let name = event.name.to_ascii_uppercase();
            assert!(text.contains(&format!("log_event::{name}")), "nothing logs `{name}`");
        }
    }
}
