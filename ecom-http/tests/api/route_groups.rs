//! Routers with a part of the API, for areas of the shop that run as services of their own.

use ecom_http::{HttpConfig, RouteGroup, openapi_json, router};
use serde_json::{Value, json};

use crate::support::{API, Api, lamp, open};

/// Returns an API with the routes of these groups, over the shop of another one.
fn part(of: &Api, config: HttpConfig, names: &[&str]) -> Api {
    let groups: Vec<RouteGroup> = names.iter().map(|name| name.parse().unwrap()).collect();
    let router = router(of.shop.clone(), config.route_groups(groups));
    Api { router, shop: of.shop.clone(), clock: of.clock.clone() }
}

fn paths(config: &HttpConfig) -> Vec<String> {
    let document: Value = serde_json::from_str(&openapi_json(config, "")).unwrap();
    document["paths"].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn a_router_has_the_routes_of_its_groups_and_no_others() {
    let whole = Api::new().await;
    let id = whole.product(lamp()).await["id"].as_str().unwrap().to_owned();
    let by_id = format!("/products/{id}");
    for (names, there, absent) in [
        (
            &["catalog", "search"][..],
            &["/products", &*by_id, "/categories/tree", "/products/search?q=lamp", "/search/rules"][..],
            &["/orders", "/users", "/admin/jobs", "/carts"][..],
        ),
        (&["search"][..], &["/products/search?q=lamp"][..], &["/products", &*by_id, "/orders"][..]),
        (&["orders", "carts"][..], &["/orders", "/carts"][..], &["/bills", "/products", "/customers"][..]),
        (&[] as &[&str], &[] as &[&str], &["/products", "/orders"][..]),
    ] {
        let api = part(&whole, open(), names);
        for path in there {
            api.get(path).await.ok(200);
        }
        for path in absent {
            api.get(path).await.refused(404, "NOT_FOUND", "");
            api.call("DELETE", &format!("{API}{path}/"), &[], None).await.refused(404, "NOT_FOUND", "");
        }
        api.call("GET", "/health", &[], None).await.ok(200);
        let document = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
        let paths = document["paths"].as_object().unwrap();
        let has = |path: &str| paths.contains_key(&format!("{API}{}", path.split('?').next().unwrap()));
        assert!(there.iter().all(|path| has(path) || **path == *by_id), "{names:?}: {:?}", paths.keys());
        assert!(!absent.iter().any(|path| has(path)), "{names:?}: {:?}", paths.keys());
        // Each link leads to a route of this router, and each tag has one.
        let root = api.call("GET", "/", &[], None).await.ok(200).json();
        let links = root["links"].as_object().unwrap().values().map(|link| link.as_str().unwrap());
        let links: Vec<&str> = links.filter(|link| link.starts_with(API)).collect();
        assert!(links.iter().all(|link| paths.contains_key(*link)), "{names:?}: {links:?}");
        assert_eq!(links.is_empty(), names.is_empty(), "{links:?}");
        for tag in document["tags"].as_array().unwrap() {
            let mut operations = paths.values().flat_map(|item| item.as_object().unwrap().values());
            assert!(operations.any(|operation| operation["tags"] == json!([tag["name"]])), "{names:?}: {tag}");
        }
    }
}

#[test]
fn the_areas_have_all_routes_and_each_route_has_one_area() {
    let all = paths(&HttpConfig::default());
    let alone = |group| paths(&HttpConfig::default().root_routes(false).route_groups(vec![group]));
    let mut parts: Vec<String> = RouteGroup::AREAS.into_iter().flat_map(alone).collect();
    parts.extend(paths(&HttpConfig::default().route_groups(Vec::new())));
    assert_eq!(parts.len(), all.len());
    parts.sort_unstable();
    let mut sorted = all;
    sorted.sort_unstable();
    assert_eq!(parts, sorted);
}

#[test]
fn an_unknown_group_is_refused_with_the_names_of_all() {
    for name in ["katalog", "", "Catalog", "search settings", "catalog,search"] {
        let message = name.parse::<RouteGroup>().unwrap_err().to_string();
        for group in RouteGroup::all() {
            assert!(message.contains(group.name()), "{name}: {message}");
        }
    }
    let all = RouteGroup::all();
    for group in &all {
        assert_eq!(group.name().parse::<RouteGroup>(), Ok(*group));
        assert_eq!(all.iter().filter(|other| *other == group).count(), 1, "{group}");
    }
    assert!(all.contains(&"orders".parse().unwrap()) && all.contains(&RouteGroup::PLATFORM));
}

/// The service of logins makes the tokens, and the other services accept them.
#[tokio::test]
async fn a_service_without_the_routes_of_logins_accepts_tokens_and_keys() {
    let whole = Api::new().await;
    let user = json!({"email": "ada@example.com", "password": "correct horse", "name": "Ada", "roles": ["staff"]});
    whole.write("POST", "/users", user).await.ok(201);
    let access = part(&whole, HttpConfig::default(), &["access"]);
    let sales = part(&whole, HttpConfig::default(), &["sales"]);
    let login = json!({"email": "ada@example.com", "password": "correct horse"});
    let tokens = access.write("POST", "/auth/login", login.clone()).await.ok(200).data();
    sales.write("POST", "/auth/login", login).await.refused(404, "NOT_FOUND", "");
    sales.get("/orders").await.refused(401, "UNAUTHENTICATED", "");
    let orders = format!("{API}/orders");
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    sales.call("GET", &orders, &[("authorization", &bearer)], None).await.ok(200);
    sales.call("GET", &orders, &[("authorization", "Bearer ecom_x")], None).await.refused(401, "UNAUTHENTICATED", "");
}
