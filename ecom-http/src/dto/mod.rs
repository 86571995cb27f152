//! The representations in responses. Requests are read into the inputs of the domain, which are not repeated here.

mod access {
    pub(crate) mod api_key;
    pub(crate) mod role;
    pub(crate) mod user;
}
mod catalog {
    pub(crate) mod category;
    pub(crate) mod feed;
    pub(crate) mod import;
    pub(crate) mod product;
    pub(crate) mod review;
    pub(crate) mod sku;
}
mod envelope;
mod sales {
    pub(crate) mod bill;
    pub(crate) mod cart;
    pub(crate) mod customer;
    pub(crate) mod order;
}
mod platform {
    pub(crate) mod analytics;
    pub(crate) mod audit;
    pub(crate) mod audit_log;
    pub(crate) mod job;
    pub(crate) mod live;
    pub(crate) mod search_log;
    pub(crate) mod webhook;
}
mod search;
mod stock {
    pub(crate) mod inventory;
}

pub(crate) use access::api_key::ApiKeyView;
pub(crate) use access::role::RoleView;
pub(crate) use access::user::{
    CallerView, LoginInput, LogoutInput, MailInput, PasswordInput, RefreshInput, RegisterInput, ResetInput,
    SessionView, TakenCartView, TokensView, UserView, VerifyEmailInput,
};
pub(crate) use catalog::category::{CategoryNode, CategoryView, MoveInput, tree};
pub(crate) use catalog::feed::FeedView;
pub(crate) use catalog::import::{ImportView, Rows};
pub(crate) use catalog::product::{FiltersView, ProductView};
pub(crate) use catalog::review::ReviewView;
pub(crate) use catalog::sku::{DimensionsView, SkuView};
pub(crate) use envelope::{Fields, Item, JSON, Links, List, ListFrame, RenderedItem, RenderedList, WholeList, json};
pub(crate) use platform::analytics::{
    FunnelReportView, FunnelView, LowStockView, ProductEventInput, ProductEventKind, ProductSalesView, SalesReportView,
    SalesView,
};
pub(crate) use platform::audit::AuditView;
pub(crate) use platform::audit_log::AuditLogEntryView;
pub(crate) use platform::job::{JobQueueView, JobView, VerifyInput};
pub(crate) use platform::live::{LiveEventView, LiveTicketView};
pub(crate) use platform::search_log::SearchTermView;
pub(crate) use platform::webhook::{WebhookDeliveryView, WebhookView};
pub(crate) use sales::bill::BillView;
pub(crate) use sales::cart::{AssignInput, CartView, MergeInput};
pub(crate) use sales::customer::{AddressView, CustomerView};
pub(crate) use sales::order::{
    AddLineInput, CancelInput, ChangeLineInput, OrderChangeView, OrderExplanationView, OrderLineView, OrderView,
    shown_lines,
};
pub(crate) use search::{
    FacetView, Facets, HighlightsView, RulesInput, RulesView, SearchMeta, SuggestionsView, SynonymsInput, SynonymsView,
};
pub(crate) use stock::inventory::{AdjustInput, AdjustedView, MovementView, StockView};

use std::fmt::{Display, Write as _};

use arrayvec::ArrayString;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

/// Serializes a short text in one call. `collect_str` would enter the serializer once for each formatted piece, of
/// which a time has a dozen.
fn short<S: Serializer>(value: impl Display, s: S) -> Result<S::Ok, S::Error> {
    let mut text = ArrayString::<64>::new();
    match write!(text, "{value}") {
        Ok(()) => s.serialize_str(&text),
        Err(_) => s.collect_str(&value),
    }
}

/// Serializes a time as RFC 3339 in UTC, with as many digits of a second as needed: 0, 3, 6 or 9.
fn time<S: Serializer>(at: &DateTime<Utc>, s: S) -> Result<S::Ok, S::Error> {
    // This is the format of the time's `Debug`.
    short(format_args!("{at:?}"), s)
}

/// As [`time`], for a time that can be absent.
#[expect(clippy::ref_option, reason = "serde calls it with the field")]
fn maybe_time<S: Serializer>(at: &Option<DateTime<Utc>>, s: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, s),
        None => s.serialize_none(),
    }
}

/// An exact decimal. It is a JSON string, or a JSON number if the client or the configuration requests numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    value: Decimal,
    number: bool,
}

impl Amount {
    pub(crate) const fn new(value: Decimal, number: bool) -> Self {
        Self { value, number }
    }
}

impl utoipa::PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Number]))
            .description(Some("An exact decimal: a string, or a number if the request has `numbers=true`."))
            .examples([serde_json::json!("9.99")])
            .into()
    }
}

impl utoipa::ToSchema for Amount {}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.number {
            // The digits are written as they are, because a float would change some of them.
            RawValue::from_string(self.value.to_string()).map_err(serde::ser::Error::custom)?.serialize(s)
        } else {
            short(self.value, s)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_as_chrono_does() {
        #[derive(Serialize)]
        struct Times(#[serde(serialize_with = "time")] DateTime<Utc>);
        for text in [
            "2026-11-21T14:56:00Z",
            "1969-12-31T23:59:59.999Z",
            "2026-02-28T00:00:00.000001Z",
            "+12026-02-28T00:00:00Z",
        ] {
            let at: DateTime<Utc> = text.parse().unwrap();
            assert_eq!(serde_json::to_string(&Times(at)).unwrap(), serde_json::to_string(&at).unwrap());
        }
    }

    #[test]
    fn amounts_are_exact_both_ways() {
        let d: Decimal = "90071992547409.93".parse().unwrap();
        let json = |number| serde_json::to_string(&Amount::new(d, number)).unwrap();
        assert_eq!(json(false), "\"90071992547409.93\"");
        assert_eq!(json(true), "90071992547409.93");
    }
}
