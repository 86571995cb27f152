//! Query strings, which are read into a tuple of groups of parameters. Unknown parameters are refused.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use ecom_core::FieldCode;
use form_urlencoded::parse;
use percent_encoding::percent_decode_str;
use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::explain::explain;
use crate::app::App;
use crate::error::{ApiError, ApiResult, shorten};

/// The parameters of a query string, such as `Query<(Pages, Shape, ProductParams)>`.
///
/// Each group of parameters is a plain struct. `#[serde(flatten)]` could also combine them, but it does not read
/// numbers from a query string, and its errors do not name the field.
pub(crate) struct Query<P>(pub P);

impl<P: Params> FromRequestParts<Arc<App>> for Query<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        P::read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// A tuple of groups of parameters.
pub(crate) trait Params: Sized {
    /// Reads all groups. It fails for a parameter that none of them has.
    fn read(query: &str) -> ApiResult<Self>;
}

macro_rules! params {
    ($($group:ident)*) => {
        impl<$($group: DeserializeOwned),*> Params for ($($group,)*) {
            fn read(query: &str) -> ApiResult<Self> {
                check(query, &[$(names_of::<$group>()),*])?;
                Ok(($(group::<$group>(query)?,)*))
            }
        }
    };
}

params!();
params!(A);
params!(A B);
params!(A B C);
params!(A B C D);
params!(A B C D E);
params!(A B C D E F);
params!(A B C D E F G);

/// Returns the name of a parameter.
fn key(pair: &str) -> Option<std::borrow::Cow<'_, str>> {
    parse(pair.as_bytes()).next().map(|(key, _)| key)
}

/// Refuses parameters that no group has, and values that are not UTF-8.
fn check(query: &str, known: &[&[&str]]) -> ApiResult<()> {
    for pair in query.split('&') {
        let Some(key) = key(pair) else { continue };
        if !known.iter().any(|names| names.contains(&key.as_ref())) {
            return Err(ApiError::field(
                shorten(&key),
                FieldCode::Unknown,
                "is not a known parameter; check its spelling, or leave it out",
            ));
        }
        // The parser would replace such bytes by a replacement character.
        if pair.contains('%') && percent_decode_str(pair).decode_utf8().is_err() {
            return Err(ApiError::field(key, FieldCode::Malformed, "must be percent-encoded UTF-8"));
        }
    }
    Ok(())
}

/// Reads one group from its own parameters.
fn group<T: DeserializeOwned>(query: &str) -> ApiResult<T> {
    let names = names_of::<T>();
    let mut own = String::with_capacity(query.len());
    for pair in query.split('&').filter(|pair| key(pair).is_some_and(|key| names.contains(&key.as_ref()))) {
        own.extend([pair, "&"]);
    }
    // The deserializer takes an empty value for an absent one, whatever the type is. A text may be empty, but an empty
    // number or flag is refused, as any other text is.
    for pair in own.split('&').filter(|pair| pair.ends_with('=') || !pair.contains('=')) {
        if let Some((path, Err(error))) =
            key(pair).map(|name| (name, read::<T>(&format!("{}=x", pair.trim_end_matches('=')))))
            && error.path().to_string() == *path
        {
            return Err(explain(&path, &error.into_inner().to_string(), "query"));
        }
    }
    read(&own).map_err(|e| {
        let path = e.path().to_string();
        let times = own.split('&').filter(|pair| key(pair).is_some_and(|key| *key == *path)).count();
        if times > 1 {
            return ApiError::field(
                path,
                FieldCode::Malformed,
                format!("occurs {times} times, but must occur only once"),
            );
        }
        explain(&path, &e.into_inner().to_string(), "query")
    })
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, serde_path_to_error::Error<serde_html_form::de::Error>> {
    serde_path_to_error::deserialize(serde_html_form::Deserializer::from_bytes(query.as_bytes()))
}

/// Returns the names of the fields of a struct, which derived code hands to its deserializer.
fn names_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names = [].as_slice();
    // The result is always an error, because there is nothing to read.
    let _ = T::deserialize(Names(&mut names));
    names
}

struct Names<'n>(&'n mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = NoValue;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoValue> {
        *self.0 = fields;
        Err(NoValue::custom("no value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Numbered {
        page: Option<i64>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Named {
        tag: Vec<String>,
    }

    #[test]
    fn r17_groups_of_parameters_are_read_side_by_side() {
        let read = |query: &str| <(Numbered, Named)>::read(query).map_err(|e| format!("{e:?}"));
        let tags = |tags: &[&str]| Named { tag: tags.iter().map(|t| (*t).to_owned()).collect() };
        assert_eq!(read("tag=a&page=2&tag=b%26").unwrap(), (Numbered { page: Some(2) }, tags(&["a", "b&"])));
        assert_eq!(read("&p%61ge=3&tag=x&").unwrap(), (Numbered { page: Some(3) }, tags(&["x"])));
        for (query, field) in [("tag=a&pages=2", "pages"), ("tag=a&page=x", "page"), ("tag=a&page=1&page=2", "page")] {
            let error = read(query).unwrap_err();
            assert!(error.contains(&format!("\"field\": String(\"{field}\")")), "{query}: {error}");
        }
        assert!(<()>::read("").is_ok() && <()>::read("x=1").is_err());
    }

    #[test]
    fn r17_an_empty_value_is_a_text_and_no_number() {
        for query in ["page=", "page", "tag=a&p%61ge=", "page=&page=2"] {
            let error = format!("{:?}", <(Numbered, Named)>::read(query).unwrap_err());
            assert!(error.contains("\"field\": String(\"page\")"), "{query}: {error}");
        }
        assert_eq!(<(Named,)>::read("tag=&tag=a").unwrap().0.tag, ["", "a"]);
    }

    #[test]
    fn r17_a_parameter_that_takes_one_value_is_refused_twice() {
        let error = format!("{:?}", <(Numbered, Named)>::read("tag=a&page=1&p%61ge=2&tag=b").unwrap_err());
        assert!(error.contains("occurs 2 times, but must occur only once"), "{error}");
    }

    #[test]
    fn r17_values_that_are_not_utf8_are_refused() {
        for (query, field) in [("tag=%ff", "tag"), ("tag=a%C3&page=1", "tag"), ("tag=a&page=%ff", "page")] {
            let error = format!("{:?}", <(Numbered, Named)>::read(query).unwrap_err());
            assert!(error.contains(&format!("\"field\": String(\"{field}\")")) && error.contains("UTF-8"), "{error}");
        }
        let tags = |query: &str| <(Named,)>::read(query).map(|(named,)| named.tag).map_err(|e| format!("{e:?}"));
        assert_eq!(tags("tag=%C3%A9+%25ff&tag=100%").unwrap(), ["é %ff", "100%"]);
    }
}
