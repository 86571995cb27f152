//! The refusal of callers before anything else in their requests is read, by what the routes declare.
//!
//! Every method of a service checks permissions itself. These checks come before: a stranger neither makes the server
//! read a body for nothing nor learns from errors what a request would have to contain, and nobody gets the stored
//! response to a request that they may no longer make.

use std::collections::{BTreeMap, HashMap};

use axum::extract::MatchedPath;
use axum::http::Method;
use axum::http::request::Parts;
use ecom_core::Error;
use ecom_core::access::{Permission, Principal};
use ecom_core::id::CustomerId;
use ecom_core::platform::{AnswerSubject, StoredAnswer};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::path::Operation;

use crate::error::ApiResult;
use crate::extract::{RequestTarget, X_CART_TOKEN};

/// The routes, with the ways in which a request is admitted, as their handlers declare in `security`.
#[derive(Debug, Default)]
pub(crate) struct Admission(HashMap<String, Vec<(Method, Vec<Way>)>>);

/// A way in which a request is admitted.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Anybody.
    Open,
    /// The token of a guest's cart, which the service checks.
    CartToken,
    /// Anybody who has logged in.
    Login,
    /// A customer, for its own rows.
    Own,
    /// A caller with these permissions.
    Permissions(Vec<Permission>),
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
                if let Some(operation) = operation {
                    routes.entry(path.clone()).or_default().push((method, ways(operation)));
                }
            }
        }
        Self(routes)
    }

    /// Returns true if there is a route with this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Refuses a request of a principal who has not logged in, unless the route admits it. It admits requests for
    /// routes that it does not know: the services decide.
    pub(crate) fn check(&self, parts: &Parts, principal: &Principal) -> ApiResult<()> {
        if !principal.is_anonymous() {
            return Ok(());
        }
        let is_admitted = self.ways(parts).is_none_or(|ways| {
            ways.iter().any(|way| match way {
                Way::Open => true,
                Way::CartToken => parts.headers.contains_key(X_CART_TOKEN),
                Way::Permissions(needed) => may(principal, needed),
                Way::Login | Way::Own => false,
            })
        });
        if is_admitted { Ok(()) } else { Err(Error::Unauthenticated.into()) }
    }

    /// Returns true if the route with this path, which must have no parameters, admits anybody.
    pub(crate) fn is_open(&self, method: &Method, path: &str) -> bool {
        let route = self.0.get(path).and_then(|methods| methods.iter().find(|(of, _)| of == method));
        route.is_some_and(|(_, ways)| ways.contains(&Way::Open))
    }

    /// Refuses a request with an idempotency key if its caller lacks the permissions for the route, because the
    /// services check nothing if the response is stored. Returns which responses the caller may get.
    pub(crate) fn check_keyed(&self, parts: &Parts, principal: &Principal) -> ApiResult<Replays> {
        // The open way does not count: a key is for callers who are admitted in another way.
        let ways = self.ways(parts).unwrap_or_default().iter().filter(|way| **way != Way::Open);
        let mut lacking = None;
        let mut own = None;
        for way in ways {
            match way {
                Way::Permissions(needed) if !may(principal, needed) => {
                    lacking = lacking.or(needed.iter().copied().find(|permission| !principal.may(*permission)));
                }
                Way::CartToken if !parts.headers.contains_key(X_CART_TOKEN) => {}
                Way::Own => own = principal.customer(),
                _ => return Ok(Replays::All),
            }
        }
        let Some(permission) = lacking else { return Ok(Replays::All) };
        match own {
            Some(customer) => Ok(Replays::Own(customer, permission)),
            None => Err(principal.require(permission).err().unwrap_or(Error::Forbidden { permission }).into()),
        }
    }

    /// Returns the ways into the route of a request, or `None` if the route is unknown.
    fn ways(&self, parts: &Parts) -> Option<&[Way]> {
        let path = parts.extensions.get::<MatchedPath>()?.as_str();
        let methods = self.0.get(path).or_else(|| self.0.get(below(path, RequestTarget::of(parts).base())))?;
        methods.iter().find(|(method, _)| *method == parts.method).map(|(_, ways)| &ways[..])
    }
}

/// Returns a matched path below the one at which the host has nested the router, whose segments can be parameters.
fn below<'a>(path: &'a str, base: &str) -> &'a str {
    path.match_indices('/').nth(base.matches('/').count()).map_or("", |(at, _)| &path[at..])
}

fn may(principal: &Principal, needed: &[Permission]) -> bool {
    needed.iter().all(|permission| principal.may(*permission))
}

/// The stored responses that a caller may get.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Replays {
    /// All responses that are stored for the caller.
    All,
    /// The responses without personal data of customers other than this one. The caller is this customer, and lacks
    /// this permission.
    Own(CustomerId, Permission),
}

impl Replays {
    /// Refuses a stored response.
    pub(crate) fn check(self, stored: &StoredAnswer) -> Result<(), Error> {
        match (self, stored.subject()) {
            (Self::Own(own, permission), Some(AnswerSubject::Customer(customer))) if customer != own => {
                Err(Error::Forbidden { permission })
            }
            _ => Ok(()),
        }
    }
}

/// Returns the ways into an operation.
fn ways(operation: &Operation) -> Vec<Way> {
    let declared = serde_json::to_value(&operation.security).unwrap_or_default();
    let declared: Vec<BTreeMap<String, Vec<String>>> = serde_json::from_value(declared).unwrap_or_default();
    if declared.is_empty() {
        return vec![Way::Open];
    }
    let way = |schemes: BTreeMap<String, Vec<String>>| {
        let Some((scheme, scopes)) = schemes.into_iter().next() else { return Way::Open };
        match scopes.first().map(String::as_str) {
            None if scheme == "cart_token" => Way::CartToken,
            None => Way::Login,
            Some("own") => Way::Own,
            Some(_) => Way::Permissions(scopes.iter().filter_map(|scope| scope.parse().ok()).collect()),
        }
    };
    declared.into_iter().map(way).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_route_is_that_of_the_router() {
        for (path, base, own) in [
            ("/api/v1/carts/{id}", "", "/api/v1/carts/{id}"),
            ("/shop/api/v1/carts/{id}", "/shop", "/api/v1/carts/{id}"),
            ("/{city}/{shop}/carts", "/rye/tea", "/carts"),
            ("/shop", "/shop", ""),
        ] {
            assert_eq!(below(path, base), own);
        }
    }
}
