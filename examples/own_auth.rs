//! An application with its own authentication: `cargo run --example own_auth`.
//!
//! The application finds out who calls, in a layer of its own around the router of the shop, and puts the
//! [`Principal`] into the request. The shop then applies its policy: a customer uses its own rows, and staff what their
//! permissions allow. The example serves nothing; it sends some requests to the router and prints the answers.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use ecom::access::{Permission, Principal};
use ecom::http::{HttpConfig, router};
use ecom::id::CustomerId;
use ecom::sales::CustomerInput;
use ecom::{Shop, ShopBuilder};
use serde_json::json;
use tower::ServiceExt as _;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The sessions of the application, by the value of its cookie. A real application would ask its session store.
type Sessions = HashMap<&'static str, Session>;

/// A session of the application.
enum Session {
    Clerk,
    Customer(CustomerId),
}

/// Returns the principal of a session. The actor is recorded with every row and event that the caller writes.
fn principal_of(session: &Session) -> Principal {
    match session {
        Session::Clerk => Principal::new("clerk:7", [Permission::CustomersRead, Permission::OrdersRead]),
        Session::Customer(id) => Principal::new(format!("customer:{id}"), []).with_customer(*id),
    }
}

/// Returns the value of the cookie of the application.
fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get("cookie")?.to_str().ok()?;
    cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="))
}

/// Puts the caller into the request. A request without a cookie remains anonymous; one with a wrong cookie is refused.
async fn authenticate(State(sessions): State<Arc<Sessions>>, mut request: Request, next: Next) -> Response {
    if let Some(cookie) = session_cookie(request.headers()) {
        let Some(session) = sessions.get(cookie) else {
            let error = json!({"error": {"code": "SESSION_ENDED", "message": "your session has ended: log in"}});
            return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
        };
        request.extensions_mut().insert(principal_of(session));
    }
    next.run(request).await
}

/// Returns the application: the shop below `/shop`, behind the authentication of the application.
fn application(shop: Shop, sessions: Sessions) -> Router {
    // The bearer tokens of the shop are turned off, because the application has logins of its own.
    let config = HttpConfig::default().authentication(false).access_log(false).rate_limits(None);
    Router::new().nest("/shop", router(shop, config)).layer(from_fn_with_state(Arc::new(sessions), authenticate))
}

/// Sends a request and returns the status of the response.
async fn status(app: &Router, method: Method, path: &str, cookie: &str) -> Result<StatusCode> {
    let mut request = Request::builder().method(method).uri(path);
    if !cookie.is_empty() {
        request = request.header("cookie", format!("session={cookie}"));
    }
    Ok(app.clone().oneshot(request.body(Body::empty())?).await?.status())
}

#[tokio::main]
async fn main() -> Result<()> {
    let shop = ShopBuilder::new().database("sqlite::memory:").search("tantivy::memory:").build().await?;
    let ada = shop.customers().create(&CustomerInput::new("Ada", "Lovelace", "ada@example.com")).await?;
    let bob = shop.customers().create(&CustomerInput::new("Bob", "Builder", "bob@example.com")).await?;
    let sessions = HashMap::from([("c1", Session::Clerk), ("a1", Session::Customer(ada.id))]);
    let app = application(shop.clone(), sessions);

    let profile = |id| format!("/shop/api/v1/customers/{id}");
    for (who, cookie, path, expected) in [
        ("anybody reads the catalog", "", "/shop/api/v1/products".to_owned(), StatusCode::OK),
        ("nobody reads a customer without a session", "", profile(ada.id), StatusCode::UNAUTHORIZED),
        ("a session that has ended is refused", "x9", profile(ada.id), StatusCode::UNAUTHORIZED),
        ("Ada reads her own profile", "a1", profile(ada.id), StatusCode::OK),
        ("Ada does not learn of Bob", "a1", profile(bob.id), StatusCode::NOT_FOUND),
        ("the clerk reads every customer", "c1", profile(bob.id), StatusCode::OK),
        ("the clerk has no other permission", "c1", "/shop/api/v1/bills".to_owned(), StatusCode::FORBIDDEN),
    ] {
        let found = status(&app, Method::GET, &path, cookie).await?;
        println!("{who}: {found}");
        if found != expected {
            return Err(format!("{who}: {found}, and not {expected}").into());
        }
    }
    shop.close().await;
    Ok(())
}
