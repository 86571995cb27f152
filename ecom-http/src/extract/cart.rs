//! The header that opens a guest's cart.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::request::Parts;
use ecom_core::sales::{CartAccess, CartToken};

/// The header with the token of a guest's cart.
pub(crate) const X_CART_TOKEN: HeaderName = HeaderName::from_static("x-cart-token");

/// What lets the caller into a cart: the token in the header `X-Cart-Token`, or else the caller's permission.
pub(crate) struct CartKey(pub CartAccess);

impl<S: Sync> FromRequestParts<S> for CartKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // A value that is not text opens no cart.
        let token = parts.headers.get(X_CART_TOKEN).map(|value| CartToken::new(value.to_str().unwrap_or_default()));
        Ok(Self(token.map_or(CartAccess::Permission, CartAccess::Token)))
    }
}
