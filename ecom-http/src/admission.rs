//! The refusal of strangers before anything else in their requests is read.
//!
//! Every method of a service checks permissions itself. This check comes before, so that a stranger neither makes the
//! server read a body for nothing nor learns from errors what a request would have to contain.

use std::collections::{BTreeMap, HashMap};

use axum::extract::MatchedPath;
use axum::http::Method;
use axum::http::request::Parts;
use ecom_core::Error;
use ecom_core::access::{Permission, Principal};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::path::Operation;

use crate::error::ApiResult;
use crate::extract::X_CART_TOKEN;

/// The routes that need a login, as their handlers declare in `security`, with the ways in which a request is admitted.
#[derive(Debug, Default)]
pub(crate) struct Admission(HashMap<String, Vec<(Method, Vec<Way>)>>);

/// A way in which a request is admitted.
#[derive(Debug)]
enum Way {
    /// The token of a guest's cart, which the service checks.
    CartToken,
    /// A login, whose permissions the service checks. A caller without a login needs these permissions, at least one.
    Bearer(Vec<Permission>),
}

impl Admission {
    /// Reads what the handlers declare.
    pub(crate) fn of(document: &Document) -> Self {
        let mut routes: HashMap<String, Vec<_>> = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ] {
                if let Some(ways) = operation.as_ref().and_then(ways) {
                    routes.entry(path.clone()).or_default().push((method, ways));
                }
            }
        }
        Self(routes)
    }

    /// Refuses a request of a principal who has not logged in, unless the route admits it. It admits requests for
    /// routes that it does not know, such as those of a nested router: the services decide.
    pub(crate) fn check(&self, parts: &Parts, principal: &Principal) -> ApiResult<()> {
        if !principal.is_anonymous() {
            return Ok(());
        }
        let path = parts.extensions.get::<MatchedPath>().and_then(|path| self.0.get(path.as_str()));
        let ways = path.and_then(|methods| methods.iter().find(|(method, _)| *method == parts.method));
        let is_admitted = ways.is_none_or(|(_, ways)| {
            ways.iter().any(|way| match way {
                Way::CartToken => parts.headers.contains_key(X_CART_TOKEN),
                Way::Bearer(needed) => !needed.is_empty() && needed.iter().all(|p| principal.may(*p)),
            })
        });
        if is_admitted { Ok(()) } else { Err(Error::Unauthenticated.into()) }
    }
}

/// Returns the ways into an operation; `None` if it is open.
fn ways(operation: &Operation) -> Option<Vec<Way>> {
    let declared = serde_json::to_value(&operation.security).unwrap_or_default();
    let declared: Vec<BTreeMap<String, Vec<String>>> = serde_json::from_value(declared).unwrap_or_default();
    if declared.is_empty() || declared.iter().any(BTreeMap::is_empty) {
        return None;
    }
    let way = |(scheme, scopes): (String, Vec<String>)| match scheme.as_str() {
        "cart_token" => Way::CartToken,
        // `own` is no permission.
        _ => Way::Bearer(scopes.iter().filter_map(|scope| scope.parse().ok()).collect()),
    };
    Some(declared.into_iter().flatten().map(way).collect())
}
