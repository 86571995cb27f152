//! Every route declares who may call it, and behaves as it declares: the matrix of roles and routes, with rows of the
//! caller and of others. `docs/permissions.md` is the matrix, for people.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ecom_core::access::{BuiltInRole, Permission, Principal};
use ecom_core::id::CustomerId;
use ecom_http::{HttpConfig, openapi_json, router};
use serde_json::{Value, json};

use crate::feeds::{FEED, with_feed};
use crate::support::{API, Api, id, open};

/// One way to be admitted, as a route declares it.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Open,
    CartToken,
    Login,
    Own,
    Permissions(BTreeSet<Permission>),
}

struct Route {
    method: String,
    path: String,
    ways: Vec<Way>,
}

/// Reads the declarations from the OpenAPI document.
fn routes() -> Vec<Route> {
    let document: Value = serde_json::from_str(&openapi_json(&HttpConfig::default().api_prefix(""), "")).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            let declared = operation["security"].as_array();
            let declared = declared.unwrap_or_else(|| panic!("{method} {path} does not declare who may call it"));
            let ways = declared.iter().map(|way| way_of(&method, path, way)).collect();
            routes.push(Route { method, path: path.clone(), ways });
        }
    }
    routes
}

fn way_of(method: &str, path: &str, declared: &Value) -> Way {
    let declared = declared.as_object().unwrap();
    let Some((scheme, scopes)) = declared.iter().next() else { return Way::Open };
    let scopes: Vec<&str> = scopes.as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()).collect();
    match (scheme.as_str(), &scopes[..]) {
        ("cart_token", []) => Way::CartToken,
        ("bearer", []) => Way::Login,
        ("bearer", ["own"]) => Way::Own,
        ("bearer", names) => {
            let known = |name: &&str| name.parse().unwrap_or_else(|e| panic!("{method} {path}: {e}"));
            Way::Permissions(names.iter().map(known).collect())
        }
        other => panic!("{method} {path} declares {other:?}"),
    }
}

impl Route {
    fn has(&self, way: &Way) -> bool {
        self.ways.contains(way)
    }

    fn grants(&self, permissions: &BTreeSet<Permission>) -> bool {
        self.ways.iter().any(|way| matches!(way, Way::Permissions(needed) if needed.is_subset(permissions)))
    }
}

/// The callers of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Stranger,
    /// A stranger with the token of the cart.
    Guest,
    /// A customer who asks for what is its own.
    Owner,
    /// A customer who asks for what is another one's.
    Other,
    Role(BuiltInRole),
}

const CALLERS: [Caller; 7] = [
    Caller::Stranger,
    Caller::Guest,
    Caller::Owner,
    Caller::Other,
    Caller::Role(BuiltInRole::Staff),
    Caller::Role(BuiltInRole::Manager),
    Caller::Role(BuiltInRole::Admin),
];

impl Caller {
    fn is_admitted(self, route: &Route) -> bool {
        let is_open = route.has(&Way::Open);
        match self {
            Self::Stranger => is_open,
            Self::Guest => is_open || route.has(&Way::CartToken),
            Self::Owner => is_open || route.has(&Way::Login) || route.has(&Way::Own),
            // A request that is about nobody is open, and these are about another customer.
            Self::Other => (is_open && !route.has(&Way::Own)) || route.has(&Way::Login),
            Self::Role(role) => is_open || route.has(&Way::Login) || route.grants(&role.permissions()),
        }
    }
}

/// The rows that a request is about. They are new for every request, since it may delete them.
struct Rows<'a> {
    api: &'a Api,
    /// Whose rows they are.
    customer: String,
    /// The number of the request.
    n: u32,
    products: Cell<u32>,
}

impl Rows<'_> {
    async fn made(&self, path: &str, body: Value) -> Value {
        self.api.write("POST", path, body).await.ok(201).data()
    }

    async fn product(&self) -> Value {
        let n = format!("{}-{}", self.n, self.products.replace(self.products.get() + 1));
        self.made("/products", json!({"title": format!("P{n}"), "sku": format!("P-{n}"), "price": "2.00", "stock": 9}))
            .await
    }

    async fn order(&self) -> Value {
        let product = self.product().await;
        let line = json!({"sku_id": product["skus"][0]["id"], "quantity": 2, "unit_price": "2.00"});
        let body = json!({"customer_id": self.customer, "delivery_method": "on_hand", "lines": [line]});
        self.made("/orders", body).await
    }

    /// Returns a cart with a line: of the customer, or of a guest with its token.
    async fn cart(&self, is_of_guest: bool) -> (Value, String) {
        let product = self.product().await;
        let line = json!({"sku_id": product["skus"][0]["id"], "quantity": 1, "unit_price": "2.00"});
        let body = if is_of_guest { json!({}) } else { json!({"customer_id": self.customer}) };
        let made = self.api.write("POST", "/carts", body).await.data();
        let token = made["token"].as_str().unwrap_or_default().to_owned();
        let path = format!("{API}/carts/{}/lines", id(&made));
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("x-cart-token", &token)] };
        let cart = self.api.call("POST", &path, headers, Some(&line.to_string())).await.ok(200).data();
        (cart, token)
    }
}

fn key(value: &Value) -> String {
    id(value).to_owned()
}

/// A request for a route, that the service behind it gets to see.
struct Call {
    path: String,
    body: Option<Value>,
    cart_token: String,
}

impl Rows<'_> {
    async fn call(&self, route: &Route, is_guest: bool) -> Call {
        let mut query = query_of(route).to_owned();
        let (method, path) = (route.method.as_str(), route.path.as_str());
        let mut body = None;
        let mut cart_token = String::new();
        let mut with = |value: Value| body = Some(value);
        let n = self.n;
        let address = json!({"street": "Main Street", "city": "Rye"});
        let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        let mut target = String::new();
        let mut line = String::new();
        match first {
            "products" => {
                if path.contains("{id}") {
                    target = key(&self.product().await);
                }
                match (method, rest) {
                    ("POST", "{id}/reviews") => with(json!({"rating": 4, "customer_id": self.customer})),
                    ("POST", "{id}/skus") => with(json!({"code": format!("S-{n}"), "price": "1.00"})),
                    ("POST", "{id}/restore") => with(json!({"version": 1})),
                    ("POST", "{id}/events") => with(json!({"kind": "view"})),
                    // The service refuses the caller before it looks at the image.
                    ("POST", "{id}/images") => with(json!("an image")),
                    ("POST" | "PUT", _) => with(json!({"title": format!("Q{n}"), "price": "1.00"})),
                    ("PATCH", _) => with(json!({"title": "R", "version": 1})),
                    _ => {}
                }
            }
            "skus" => {
                if path.contains("{id}") {
                    target = key(&self.product().await["skus"][0]);
                }
                match (method, rest) {
                    ("POST", "{id}/stock") => with(json!({"delta": 1, "reason": "received"})),
                    ("PUT" | "PATCH", _) => with(json!({"price": "1.00", "version": 1})),
                    _ => {}
                }
            }
            "reviews" => {
                if path.contains("{id}") {
                    let product = self.product().await;
                    let input = json!({"rating": 4, "customer_id": self.customer});
                    target = key(&self.made(&format!("/products/{}/reviews", id(&product)), input).await);
                }
                match method {
                    "PUT" => with(json!({"rating": 3, "customer_id": self.customer, "version": 1})),
                    "PATCH" => with(json!({"rating": 3, "version": 1})),
                    _ => {}
                }
            }
            "categories" => {
                if path.contains("{id}") {
                    target = key(&self.made("/categories", json!({"name": format!("C{n}")})).await);
                }
                match (method, rest) {
                    ("POST", "{id}/move") => with(json!({"parent_id": null, "version": 1})),
                    ("POST", "{id}/restore") => {}
                    ("POST" | "PUT", _) => with(json!({"name": format!("D{n}")})),
                    ("PATCH", _) => with(json!({"name": format!("E{n}"), "version": 1})),
                    _ => {}
                }
            }
            "customers" => {
                target.clone_from(&self.customer);
                let new = json!({"first_name": "New", "last_name": "New", "email": format!("new{n}@example.com")});
                match (method, rest) {
                    ("POST", "{id}/addresses") => with(address),
                    ("POST", "{id}/restore" | "{id}/erase") => {}
                    ("POST", _) => with(new),
                    ("PUT", _) => {
                        let before = self.api.get(&format!("/customers/{target}")).await.ok(200).data();
                        with(json!({"first_name": "A", "last_name": "B", "email": before["email"]}));
                    }
                    ("PATCH", _) => with(json!({"first_name": "A"})),
                    _ => {}
                }
            }
            "addresses" => {
                if path.contains("{id}") {
                    let of = format!("/customers/{}/addresses", self.customer);
                    target = key(&self.made(&of, address.clone()).await);
                } else {
                    query = format!("customer_id={}", self.customer);
                }
                match method {
                    "PUT" => with(address),
                    "PATCH" => with(json!({"city": "London"})),
                    _ => {}
                }
            }
            "carts" => {
                if path.contains("{id}") {
                    let (cart, token) = self.cart(is_guest).await;
                    target = key(&cart);
                    line = key(&cart["lines"][0]);
                    if rest == "{id}/order" {
                        let mut checkout = json!({"delivery_method": "on_hand"});
                        if is_guest {
                            checkout["customer"] =
                                json!({"first_name": "G", "last_name": "G", "email": "g@example.com"});
                        }
                        let path = format!("{API}/carts/{target}/checkout");
                        let headers: &[(&str, &str)] = if is_guest { &[("x-cart-token", &token)] } else { &[] };
                        self.api.call("POST", &path, headers, Some(&checkout.to_string())).await.ok(201);
                    }
                    if rest == "{id}/lines" && method == "POST" {
                        let sku = &cart["lines"][0]["sku_id"];
                        with(json!({"sku_id": sku, "quantity": 1, "unit_price": "2.00"}));
                    }
                    if rest == "{id}/assign" {
                        with(json!({"customer_id": self.customer}));
                    }
                    if rest == "{id}/merge" {
                        let (into, into_token) = self.cart(true).await;
                        with(json!({"into": id(&into), "into_token": into_token}));
                    }
                    if rest == "{id}/checkout" {
                        with(json!({"delivery_method": "on_hand"}));
                    }
                    if method == "PATCH" {
                        with(if rest == "{id}" { json!({"email": "x@example.com"}) } else { json!({"quantity": 2}) });
                    }
                    cart_token = token;
                } else if method == "POST" {
                    with(if is_guest { json!({}) } else { json!({"customer_id": self.customer}) });
                } else {
                    query = format!("customer_id={}", self.customer);
                }
            }
            "order-lines" => query = format!("customer_id={}", self.customer),
            "orders" if method == "GET" && rest.is_empty() => query = format!("customer_id={}", self.customer),
            "orders" => {
                let mut order = Value::Null;
                if path.contains("{id}") {
                    order = self.order().await;
                    target = key(&order);
                    line = key(&order["lines"][0]);
                }
                match (method, rest) {
                    ("POST", "") => {
                        let sku = self.product().await["skus"][0]["id"].clone();
                        let line = json!({"sku_id": sku, "quantity": 1, "unit_price": "2.00"});
                        with(json!({"customer_id": self.customer, "delivery_method": "on_hand", "lines": [line]}));
                    }
                    ("POST", "{id}/edit") => with(json!({"change": [{"line_id": line, "quantity": 1}], "version": 1})),
                    ("POST", "{id}/lines") => {
                        let sku = &order["lines"][0]["sku_id"];
                        with(json!({"sku_id": sku, "quantity": 1, "unit_price": "2.00"}));
                    }
                    ("PATCH", "{id}") => with(json!({"delivery_method": "drive_thru"})),
                    ("PATCH", _) => with(json!({"quantity": 1})),
                    _ => {}
                }
            }
            "bills" => {
                if path.contains("{id}") {
                    let order = self.order().await;
                    let bill = self.api.get(&format!("/orders/{}/bill", id(&order))).await.ok(200).data();
                    target = key(&bill);
                } else {
                    query = format!("order_id={}", id(&self.order().await));
                }
                if method == "PATCH" {
                    with(json!({"paid": true, "version": 1}));
                }
            }
            "users" => {
                let input = json!({"email": format!("user{n}@example.com"), "roles": []});
                if path.contains("{id}") {
                    target = key(&self.made("/users", input.clone()).await);
                }
                match (method, rest) {
                    ("POST", "") | ("PUT", _) => with(json!({"email": format!("other{n}@example.com"), "roles": []})),
                    ("PATCH", _) => with(json!({"name": "N", "version": 1})),
                    _ => {}
                }
            }
            "roles" => {
                let input = json!({"name": format!("role{n}"), "permissions": []});
                if path.contains("{id}") {
                    target = key(&self.made("/roles", input.clone()).await);
                }
                match method {
                    "POST" => with(json!({"name": format!("new{n}"), "permissions": []})),
                    "PUT" => with(input),
                    "PATCH" => with(json!({"description": "D", "version": 1})),
                    _ => {}
                }
            }
            "api-keys" => {
                let input = json!({"name": "robot", "permissions": ["stock:read"]});
                if path.contains("{id}") {
                    target = key(&self.made("/api-keys", input.clone()).await);
                }
                match method {
                    "POST" => with(input),
                    "PATCH" => with(json!({"name": "other", "version": 1})),
                    _ => {}
                }
            }
            "webhooks" => {
                let input = json!({"url": format!("https://example.com/{n}"), "events": ["order.placed"]});
                if path.contains("{id}") {
                    target = key(&self.made("/webhooks", input.clone()).await);
                }
                if rest.starts_with("deliveries/{id}") {
                    let test = format!("{API}/webhooks/{target}/test");
                    target = key(&self.api.call("POST", &test, &[], None).await.ok(202).data());
                }
                match (method, rest) {
                    ("POST", "") => with(input),
                    ("PATCH", _) => with(json!({"enabled": false, "version": 1})),
                    _ => {}
                }
            }
            "ingest" => with(json!({"external_id": format!("i{n}"), "title": format!("I{n}"), "price": "1.00"})),
            "admin" if path.contains("{id}") => {
                let job = self.api.call("POST", &format!("{API}/admin/reindex"), &[], None).await.ok(202).data();
                target = key(&job);
            }
            "search" if method == "PUT" => {
                let name = if rest == "rules" { "rules" } else { "synonyms" };
                let version = self.api.get(path).await.ok(200).data()["version"].clone();
                with(json!({name: [], "version": version}));
            }
            "auth" => match rest {
                "password" => with(json!({"old_password": "wrong horse", "password": "battery staple"})),
                "login" => with(json!({"email": "nobody@example.com", "password": "wrong horse"})),
                "register" => {
                    let email = format!("reg{n}@example.com");
                    with(json!({"email": email, "password": "correct horse", "name": "R"}));
                }
                "logout" => with(json!({"refresh_token": "x"})),
                "verify" => with(json!({"token": "x"})),
                "me" if method == "PATCH" => with(json!({"name": "Ada Lovelace", "version": 1})),
                "keys/replace" => {}
                _ if method == "POST" => with(json!({"refresh_token": "x"})),
                _ => {}
            },
            _ => {}
        }
        let mut path =
            path.replace("{id}", &target).replace("{line_id}", &line).replace("{name}", FEED).replace("{kind}", "mail");
        if !query.is_empty() {
            path = format!("{path}?{query}");
        }
        Call { path, body, cart_token }
    }
}

/// Returns the query string that a route needs.
fn query_of(route: &Route) -> &'static str {
    match (route.method.as_str(), route.path.as_str()) {
        ("GET", "/products/search" | "/products/suggest") => "q=p",
        ("GET", "/skus") => "code=P-1",
        ("DELETE", "/users/{id}/sessions") => "",
        ("DELETE", _) => "version=1",
        ("POST", path) if path.ends_with("/restore") || path.ends_with("/images") => "version=1",
        _ => "",
    }
}

/// The routes whose refusals are about the credentials in the body, which these requests do not have.
fn is_about_credentials(route: &Route) -> bool {
    route.path.starts_with("/auth/") && route.method == "POST"
}

fn principal(caller: Caller, owner: &str) -> Principal {
    let customer = CustomerId(owner.parse().unwrap());
    match caller {
        Caller::Stranger | Caller::Guest => Principal::anonymous([]),
        Caller::Owner | Caller::Other => Principal::new("user:customer", []).with_customer(customer),
        Caller::Role(BuiltInRole::Admin) => Principal::trusted("user:admin"),
        Caller::Role(role) => Principal::new(format!("user:{}", role.as_str()), role.permissions()),
    }
}

#[tokio::test]
async fn r16_every_route_admits_whom_it_declares_and_nobody_else() {
    every_route_admits_whom_it_declares(with_feed(open().rate_limits(None)).await).await;
}

#[cfg(feature = "servers")]
#[tokio::test]
async fn r16_every_route_admits_whom_it_declares_on_postgres() {
    let database = test_servers::postgres().await;
    every_route_admits_whom_it_declares(Api::on_server(open().rate_limits(None), &database).await).await;
}

#[cfg(feature = "servers")]
#[tokio::test]
async fn r16_every_route_admits_whom_it_declares_on_mysql() {
    let database = test_servers::mysql().await;
    every_route_admits_whom_it_declares(Api::on_server(open().rate_limits(None), &database).await).await;
}

async fn every_route_admits_whom_it_declares(staff: Api) {
    let routes = routes();
    assert!(routes.len() > 100, "{}", routes.len());
    let mut n = 0;
    let mut wrong = Vec::new();
    for (caller, of) in CALLERS.into_iter().zip(0..) {
        let owner = id(&staff.customer("Ada", "L", &format!("ada{of}@example.com")).await).to_owned();
        let other = id(&staff.customer("Bob", "B", &format!("bob{of}@example.com")).await).to_owned();
        let config = HttpConfig::default().rate_limits(None).anonymous(principal(caller, &owner));
        let api =
            Api { router: router(staff.shop.clone(), config), shop: staff.shop.clone(), clock: staff.clock.clone() };
        for route in &routes {
            n += 1;
            let is_removed = route.method == "DELETE" || route.path.ends_with("/erase");
            let customer = match caller {
                Caller::Owner => owner.clone(),
                _ if is_removed && route.path.starts_with("/customers/") => {
                    id(&staff.customer("Eve", "E", &format!("eve{n}@example.com")).await).to_owned()
                }
                _ => other.clone(),
            };
            let is_stranger = matches!(caller, Caller::Stranger | Caller::Guest);
            let is_guest = caller == Caller::Guest
                || route.path.ends_with("/assign")
                || (is_stranger && route.path == "/carts" && route.method == "POST");
            let Call { path, body, cart_token } =
                Rows { api: &staff, customer, n, products: Cell::new(0) }.call(route, is_guest).await;
            let path = if path.starts_with("/health") || path == "/" { path } else { format!("{API}{path}") };
            let mut headers = Vec::new();
            if !cart_token.is_empty() {
                headers.push(("x-cart-token", cart_token.as_str()));
            }
            if route.path.ends_with("/images") {
                headers.push(("content-type", "image/png"));
            }
            let body = body.map(|body| body.to_string());
            let answer = api.call(&route.method, &path, &headers, body.as_deref()).await;
            let status = answer.status.as_u16();
            let is_login = !is_stranger;
            let fits = if caller.is_admitted(route) {
                // A user of its own may do what needs a login only after it has logged in.
                let needs_session = !is_login || route.has(&Way::Login);
                !matches!(status, 403 | 500)
                    && (status != 401 || is_about_credentials(route) || needs_session)
                    && (status != 404 || caller == Caller::Other)
            } else if is_login {
                status == 403 || (caller == Caller::Other && status == 404)
            } else {
                status == 401
            };
            if !fits {
                let text = String::from_utf8_lossy(&answer.bytes).into_owned();
                wrong.push(format!("{caller:?}: {} {}: {status} {text}", route.method, route.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{} requests are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_rest_of_the_request_is_read() {
    let api = with_feed(HttpConfig::default().rate_limits(None)).await;
    for route in routes().iter().filter(|route| !route.has(&Way::Open)) {
        let path = format!("{API}{}?unknown=1", route.path.replace("{id}", "%ff").replace("{line_id}", "-"));
        let headers = [("if-match", "3"), ("content-type", "text/plain"), ("idempotency-key", "")];
        for path in [path.clone(), path.replace('?', "/?")] {
            let answer = api.call(&route.method, &path, &headers, Some("{")).await;
            answer.refused(401, "UNAUTHENTICATED", "");
        }
        // With the token of a cart, the request is read.
        let headers = [&headers[..], &[("x-cart-token", "none")]].concat();
        let answer = api.call(&route.method, &path, &headers, Some("{")).await;
        assert_eq!(answer.status.as_u16() == 401, !route.has(&Way::CartToken), "{} {path}", route.method);
    }
}

#[test]
fn the_matrix_in_the_docs_is_that_of_the_routes() {
    let mut by_path: BTreeMap<String, Vec<Route>> = BTreeMap::new();
    for route in routes() {
        by_path.entry(route.path.clone()).or_default().push(route);
    }
    let mut text = String::from(
        "# Who may call which route\n\n\
         This file is generated from what the routes declare (`security` in the OpenAPI document). The test\n\
         `permissions` checks that the routes behave as declared.\n\n\
         *own* stands for a customer who uses its own rows; a row of another customer is answered like one that\n\
         does not exist. *token* stands for a guest who sends the token of the cart in `X-Cart-Token`. A user with\n\
         other roles, or an API key, needs the permission. The answer to a write contains the row, also for a caller\n\
         who lacks the permission to read it.\n\n\
         | Route | Without a login | Customer | Permission | staff | manager | admin |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for route in by_path.values().flatten() {
        let is_open = route.has(&Way::Open);
        let stranger = match (is_open, route.has(&Way::CartToken)) {
            (true, _) => "yes",
            (_, true) => "token",
            _ => "no",
        };
        let customer = match (is_open || route.has(&Way::Login), route.has(&Way::Own)) {
            (true, _) => "yes",
            (_, true) => "own",
            _ => "no",
        };
        let permissions: Vec<String> = route
            .ways
            .iter()
            .filter_map(|way| match way {
                Way::Permissions(needed) => Some(needed.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        let roles = [BuiltInRole::Staff, BuiltInRole::Manager, BuiltInRole::Admin];
        let roles = roles.map(|role| if Caller::Role(role).is_admitted(route) { "yes" } else { "no" });
        let _ = writeln!(
            text,
            "| `{} {}` | {stranger} | {customer} | {} | {} |",
            route.method,
            route.path,
            permissions.join(", "),
            roles.join(" | ")
        );
    }
    let path = format!("{}/../docs/permissions.md", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/permissions.md differs; run the tests with UPDATE_GOLDEN=1 to update it");
}
