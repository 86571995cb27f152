//! What goes over the wire. Inputs are the domain's own types; these are the views.

mod category;
mod envelope;
mod product;
mod search;
mod sku;
mod stock;

pub(crate) use category::*;
pub(crate) use envelope::*;
pub(crate) use product::*;
pub(crate) use search::*;
pub(crate) use sku::*;
pub(crate) use stock::*;

use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

/// An exact decimal: a string, or a number where the client or the configuration asks.
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
            .description(Some("An exact decimal: a string, or a number with `numbers=true`."))
            .examples([serde_json::json!("9.99")])
            .into()
    }
}

impl utoipa::ToSchema for Amount {}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.number {
            // The digits as they are: a float would change some.
            RawValue::from_string(self.value.to_string()).map_err(serde::ser::Error::custom)?.serialize(s)
        } else {
            s.collect_str(&self.value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_both_ways() {
        let d: Decimal = "90071992547409.93".parse().unwrap();
        let json = |number| serde_json::to_string(&Amount::new(d, number)).unwrap();
        assert_eq!(json(false), "\"90071992547409.93\"");
        assert_eq!(json(true), "90071992547409.93");
    }
}
