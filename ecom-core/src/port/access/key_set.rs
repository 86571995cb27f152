//! The keys of an issuer of OpenID Connect.

use std::fmt;

use crate::error::Result;

port! {
    /// The source of the public keys of an issuer of OpenID Connect, which verify its tokens. `ecom_http::HttpKeySet`
    /// (feature `oidc`) fetches them from the issuer.
    pub trait KeySetSource / ForwardKeySet(&self): Send + Sync + fmt::Debug {
        /// Returns the JSON Web Key Set (RFC 7517) of the issuer, as JSON. Keys that cannot be used are ignored.
        ///
        /// # Errors
        /// Any error, which is logged. The caller goes on with the keys that it has, until they are too old.
        async fn fetch(&self) -> Result<Vec<u8>>;
    }
}
