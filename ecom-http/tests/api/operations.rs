//! What all resources share: the error envelope, headers, paths, compression, mounting, health, CORS and documentation.

use std::io::Read as _;

use axum::Router;
use ecom_core::access::Permission;
use ecom_http::router;
use serde_json::json;

use crate::support::{API, Api, golden, id, lamp, open};

#[tokio::test]
async fn an_error_reads_as_its_golden_envelope() {
    let api = Api::new().await;
    let body = json!({"title": "", "price": "-1", "discount_percentage": "100.01"}).to_string();
    let a = api.call("POST", &format!("{API}/products"), &[("x-request-id", "golden-1")], Some(&body)).await;
    golden("error", &a.refused(422, "VALIDATION_FAILED", "price").json());
}

#[tokio::test]
async fn every_response_has_an_id_and_is_safe() {
    let api = Api::new().await;
    let a = api.call("GET", "/health/live", &[("x-request-id", "abc-1")], None).await.ok(200);
    assert_eq!(a.header("x-request-id"), "abc-1");
    let long = "x".repeat(129);
    for bad in ["has space", long.as_str()] {
        let a = api.call("GET", "/health/live", &[("x-request-id", bad)], None).await.ok(200);
        assert_eq!(uuid::Uuid::try_parse(a.header("x-request-id")).unwrap().get_version_num(), 7);
    }
    for path in ["/", "/nowhere", "/api/v1/products", "/docs/"] {
        let a = api.call("GET", path, &[], None).await;
        assert_eq!(a.header("x-content-type-options"), "nosniff", "{path}");
        assert!(a.header("content-security-policy").contains("default-src 'none'"), "{path}");
        assert!(!a.header("x-request-id").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_methods_and_trailing_slashes() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    api.call("GET", "/nowhere", &[], None).await.refused(404, "NOT_FOUND", "");
    api.call("GET", "/nowhere/", &[], None).await.refused(404, "NOT_FOUND", "");
    api.call("GET", "/api/v1/nowhere", &[], None).await.refused(404, "NOT_FOUND", "");
    let a = api.call("DELETE", "/api/v1/products", &[], None).await.refused(405, "METHOD_NOT_ALLOWED", "");
    assert!(a.header("allow").contains("GET") && a.header("allow").contains("POST"), "{a:?}");
    let a = api.call("PUT", "/api/v1/products/", &[], None).await.refused(405, "METHOD_NOT_ALLOWED", "");
    assert!(a.header("allow").contains("GET"));
    let plain = api.get(&format!("/products/{}", id(&p))).await.ok(200);
    let slash = api.get(&format!("/products/{}/", id(&p))).await.ok(200);
    assert_eq!(plain.json(), slash.json());
    let list = api.get("/products/?per_page=1").await.ok(200).json();
    assert_eq!(list["links"]["self"], "/api/v1/products?per_page=1");
    api.write("POST", "/products/", json!({"title": "Second", "price": 2})).await.ok(201);
    api.call("HEAD", "/api/v1/products", &[], None).await.ok(200);
}

#[tokio::test]
async fn gzip_for_those_who_ask() {
    let api = Api::new().await;
    for i in 0..20 {
        api.product(json!({"title": format!("Thing {i}"), "price": 1})).await;
    }
    let path = format!("{API}/products");
    let plain = api.call("GET", &path, &[], None).await.ok(200);
    assert_eq!(plain.header("content-encoding"), "");
    let zipped = api.call("GET", &path, &[("accept-encoding", "br, gzip")], None).await.ok(200);
    // These clients accept no encoding that the server supports. The response is plain all the same, because a write
    // has already happened when it is encoded.
    for accepted in ["br, *;q=0", "identity;q=0"] {
        let plain = api.call("GET", &path, &[("accept-encoding", accepted)], None).await.ok(200);
        assert_eq!(plain.header("content-encoding"), "", "{accepted}");
    }
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert!(zipped.header("vary").to_ascii_lowercase().contains("accept-encoding"));
    assert!(zipped.bytes.starts_with(&[0x1f, 0x8b]) && zipped.bytes.len() * 3 < plain.bytes.len());
}

/// Compressed lists are kept, and found by their content only.
#[tokio::test]
async fn r15_a_compressed_list_is_the_list_as_it_is_now() {
    let api = Api::new().await;
    let path = format!("{API}/products?per_page=10");
    let gzip = [("accept-encoding", "gzip")];
    for n in 0..8 {
        api.product(json!({"title": format!("Thing {n}"), "price": n, "description": "long ".repeat(200)})).await;
        let plain = api.call("GET", &path, &[], None).await.ok(200);
        assert_eq!(plain.json()["data"][0]["title"], format!("Thing {n}"), "the newest is the first");
        for _ in 0..2 {
            let zipped = api.call("GET", &path, &gzip, None).await.ok(200);
            assert_eq!(zipped.header("content-encoding"), "gzip");
            assert_eq!(zipped.header("cache-control"), plain.header("cache-control"));
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&zipped.bytes[..]).read_to_end(&mut read).unwrap();
            assert_eq!(read, plain.bytes);
        }
    }
    assert!(api.call("HEAD", &path, &gzip, None).await.ok(200).bytes.is_empty());
}

#[tokio::test]
async fn the_router_can_be_nested_and_moved() {
    let api = Api::with(open().api_prefix("shop/")).await;
    let body = lamp().to_string();
    let nested = Router::new().nest("/outer", api.router.clone());
    let api = Api { router: nested, ..api };
    let made = api.call("POST", "/outer/shop/products", &[], Some(&body)).await.ok(201);
    let at = made.header("location").to_owned();
    assert!(at.starts_with("/outer/shop/products/"), "{at}");
    let read = api.call("GET", &at, &[], None).await.ok(200).json();
    assert_eq!(read["links"]["self"], at);
    assert_eq!(api.call("GET", &format!("{at}/"), &[], None).await.ok(200).json(), read);
    let root = api.call("GET", "/outer", &[], None).await.ok(200).json();
    assert_eq!(root["links"]["products"], "/outer/shop/products");
    // Another router over the same shop has links with its own prefix.
    let other = Api { router: router(api.shop.clone(), open()), ..api };
    let path = format!("{API}/products/{}", at.rsplit('/').next().unwrap());
    assert_eq!(other.call("GET", &path, &[], None).await.ok(200).json()["links"]["self"], path);
    // The path of a host can have parameters.
    let below = Router::new().nest("/shops/{shop}", other.router.clone());
    let below = Api { router: below, ..other };
    let slug = read["data"]["slug"].as_str().unwrap();
    for key in [slug, id(&read["data"])] {
        let found = below.call("GET", &format!("/shops/tea{API}/products/{key}"), &[], None).await.ok(200);
        assert_eq!(found.data()["id"], read["data"]["id"]);
    }
}

#[tokio::test]
async fn health_says_how_each_dependency_does() {
    let api = Api::new().await;
    for path in ["/health", "/health/ready"] {
        let h = api.call("GET", path, &[], None).await.ok(200).json();
        assert_eq!(h["status"], "healthy");
        assert_eq!(h["dependencies"]["database"]["adapter"], "sqlite");
        assert!(h["dependencies"]["search"]["latency_ms"].is_number());
        assert!(h["pool"]["max"].as_u64().unwrap() >= 1);
    }
    api.shop.storage().close().await;
    let down = api.call("GET", "/health", &[], None).await.ok(503).json();
    assert_eq!(
        (down["status"].as_str(), down["dependencies"]["database"]["status"].as_str()),
        (Some("unhealthy"), Some("down"))
    );
    api.call("GET", "/health/live", &[], None).await.ok(200);
    let a = api.get("/products").await.refused(503, "UNAVAILABLE", "");
    assert!(!a.header("retry-after").is_empty());
}

#[tokio::test]
async fn pages_other_origins_may_call_where_configured() {
    let api = Api::with(open().cors_origins(vec!["https://shop.example".to_owned()])).await;
    let origin = ("origin", "https://shop.example");
    let a = api.call("GET", "/api/v1/products", &[origin], None).await.ok(200);
    assert_eq!(a.header("access-control-allow-origin"), "https://shop.example");
    let a = api.call("GET", "/api/v1/products", &[("origin", "https://evil.example")], None).await.ok(200);
    assert_eq!(a.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn vary_is_on_every_response_once() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let path = format!("{API}/products/{}", id(&p));
    let tag = api.call("GET", &path, &[], None).await.header("etag").to_owned();
    let cors =
        Api { router: router(api.shop.clone(), open().cors_origins(vec!["https://shop.example".to_owned()])), ..api };
    let plain = Api { router: router(cors.shop.clone(), open()), shop: cors.shop.clone(), clock: cors.clock.clone() };
    for (api, vary) in [(&plain, "accept-encoding"), (&cors, "accept-encoding, origin")] {
        for encoding in ["identity", "gzip", "br"] {
            let accept = ("accept-encoding", encoding);
            let known = [accept, ("if-none-match", tag.as_str())];
            let origin = [accept, ("origin", "https://shop.example")];
            let calls = [
                ("GET", path.as_str(), &[accept][..], None, 200),
                ("GET", &path, &origin[..], None, 200),
                ("GET", &path, &known[..], None, 304),
                ("GET", "/api/v1/products", &[accept][..], None, 200),
                ("GET", "/api/v1/categories/tree", &[accept][..], None, 200),
                ("GET", "/openapi.json", &[accept][..], None, 200),
                ("GET", "/docs/swagger-ui-bundle.js", &[accept][..], None, 200),
                ("GET", "/api/v1/nowhere", &[accept][..], None, 404),
                ("PATCH", &path, &[accept][..], Some("{}"), 428),
            ];
            for (method, path, headers, body, status) in calls {
                let a = api.call(method, path, headers, body).await.ok(status);
                assert_eq!(a.all("vary"), [vary], "{method} {path} {headers:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_router_that_is_nested_twice_has_links_of_each_place() {
    let api = Api::new().await;
    let deep = Router::new().nest("/inner", api.router.clone());
    let both = Router::new().nest("/outer", deep).nest("/shop", api.router.clone());
    let api = Api { router: both, ..api };
    for base in ["/outer/inner", "/shop"] {
        let path = format!("{base}{API}/products");
        let made = api.call("POST", &path, &[], Some(&json!({"title": base, "price": 1}).to_string())).await.ok(201);
        assert!(made.header("location").starts_with(&format!("{path}/")), "{}", made.header("location"));
        let list = api.call("GET", &path, &[], None).await.ok(200).json();
        assert_eq!(list["links"]["self"], path);
        let doc = api.call("GET", &format!("{base}/openapi.json"), &[], None).await.ok(200).json();
        assert_eq!(doc["servers"][0]["url"], base);
    }
}

#[tokio::test]
#[should_panic(expected = "/shop")]
async fn a_router_that_is_nested_twice_at_one_path_panics_with_the_path() {
    let api = Api::new().await;
    let _ = Router::<()>::new().nest("/shop", api.router.clone()).nest("/shop", api.router);
}

#[tokio::test]
async fn the_sizes_of_a_page_are_settings() {
    let api = Api::with(open().page_size(2).max_page_size(3)).await;
    for i in 0..4 {
        let p = api.product(json!({"title": format!("Thing {i}"), "price": 1})).await;
        api.category(json!({"name": format!("Shelf {i}")})).await;
        let sku = p["skus"][0]["id"].as_str().unwrap();
        for _ in 0..3 {
            api.write("POST", &format!("/skus/{sku}/stock"), json!({"delta": 1})).await.ok(201);
        }
    }
    api.shop.index().catch_up().await.unwrap();
    let sku = api.get("/products").await.data()[0]["skus"][0]["id"].as_str().unwrap().to_owned();
    for path in ["/products", "/products/search", "/categories", &format!("/skus/{sku}/stock/movements")] {
        let list = api.get(path).await.ok(200).json();
        assert_eq!(
            (list["data"].as_array().unwrap().len(), &list["meta"]["pagination"]["per_page"]),
            (2, &json!(2)),
            "{path}"
        );
        api.get(&format!("{path}?limit=4")).await.refused(422, "VALIDATION_FAILED", "limit");
    }
    let doc = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    let parameters = doc["paths"]["/api/v1/products"]["get"]["parameters"].as_array().unwrap();
    let size = parameters.iter().find(|p| p["name"] == "per_page").unwrap();
    assert_eq!(size["description"], "The maximum number of rows on the page: 1 to 3, and 2 if absent.");
}

#[tokio::test]
async fn the_document_has_every_route_and_nothing_else() {
    let api = Api::new().await;
    let doc = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    let text = doc["info"]["description"].as_str().unwrap();
    for code in ecom_core::ErrorCode::ALL {
        assert!(text.contains(&format!("| `{code}` | ")), "R16: the table lacks {code}");
    }
    let paths = doc["paths"].as_object().unwrap();
    assert!(paths.len() >= 20, "{}", paths.len());
    let all = ["get", "post", "put", "patch", "delete"];
    let ids: Vec<&str> =
        paths.values().flat_map(|item| all.iter().filter_map(|m| item.get(*m)?["operationId"].as_str())).collect();
    assert_eq!(ids.len(), ids.iter().collect::<std::collections::HashSet<_>>().len(), "{ids:?}");
    for (path, item) in paths {
        let concrete = path.replace("{id}", "019ab000-0000-7000-8000-000000000000");
        // The response to a method that no route supports lists the supported methods in `Allow`.
        let allow = api.call("TRACE", &concrete, &[], None).await.ok(405).header("allow").to_ascii_lowercase();
        let mounted: Vec<&str> = all.into_iter().filter(|m| allow.split(',').any(|a| a == *m)).collect();
        let documented: Vec<&str> = all.into_iter().filter(|m| item.get(*m).is_some()).collect();
        assert_eq!(mounted, documented, "{path}: {allow}");
        for m in documented {
            let responses = item[m]["responses"].as_object().unwrap();
            assert!(responses.keys().any(|s| s.starts_with('2')), "{m} {path}");
            let own = path == "/" || path.starts_with("/health");
            assert!(own || responses.contains_key("422"), "{m} {path} has no errors");
        }
    }
    // Every reference names a schema that exists.
    let text = doc.to_string();
    let schemas = doc["components"]["schemas"].as_object().unwrap();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    // In a response to a request with `fields`, every field of the data is optional.
    for (path, whole) in [("/products/{id}", "Item_ProductView"), ("/products", "List_ProductView")] {
        let schema =
            &doc["paths"][format!("{API}{path}")]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let names: Vec<&str> =
            schema["anyOf"].as_array().unwrap().iter().map(|s| s["$ref"].as_str().unwrap()).collect();
        assert_eq!(names, [whole, &format!("Picked_{whole}")].map(|n| format!("#/components/schemas/{n}")));
        let data = |name: &str| {
            let data = &schemas[name]["properties"]["data"];
            if data["type"] == "array" { data["items"].clone() } else { data.clone() }
        };
        let (full, picked) = (data(whole), data(&format!("Picked_{whole}")));
        assert!(full["required"].as_array().unwrap().len() > 10 && picked.get("required").is_none(), "{path}");
        assert_eq!(full["properties"], picked["properties"], "{path}");
    }
    // R17: a creation refuses `version`, so its body has no such field, and the body of a replacement has it.
    let body = |method: &str, path: &str| {
        let schema = &doc["paths"][format!("{API}{path}")][method]["requestBody"]["content"]["application/json"];
        schemas[schema["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap()].clone()
    };
    for (create, replace) in [
        ("/products", "/products/{id}"),
        ("/products/{id}/skus", "/skus/{id}"),
        ("/products/{id}/reviews", "/reviews/{id}"),
        ("/categories", "/categories/{id}"),
        ("/customers", "/customers/{id}"),
        ("/customers/{id}/addresses", "/addresses/{id}"),
    ] {
        let (create, mut replace) = (body("post", create), body("put", replace));
        let version = replace["properties"].as_object_mut().unwrap().remove("version").unwrap();
        assert!(!version["description"].as_str().unwrap().contains("create"), "{version}");
        assert_eq!(create, replace);
    }
    assert!(body("post", "/orders/{id}/lines")["properties"]["version"].is_object(), "a line is an edit of its order");
    // Only operations whose path has an id can return 404, or a list that names an order, and only those with a body
    // can return 408.
    for (path, item) in paths.iter().filter(|(path, _)| path.starts_with(API)) {
        for (method, operation) in item.as_object().unwrap() {
            let has = |status: &str| operation["responses"].get(status).is_some();
            assert_eq!(has("404"), path.contains('{') || path.ends_with("/bills"), "{method} {path}");
            assert_eq!(has("408"), operation.get("requestBody").is_some(), "{method} {path}");
            assert!(has("414") && has("431"), "{method} {path}");
        }
    }
    for (schema, field) in [("CustomerInput", "email"), ("CustomerPatch", "email"), ("CustomerView", "email")] {
        // The schema of the view is inside that of its envelope.
        let object = schemas.get(schema).unwrap_or(&schemas["Item_CustomerView"]["properties"]["data"]);
        assert_eq!(object["properties"][field]["format"], "email", "{schema}");
    }
    // The texts contain no links of rustdoc.
    assert!(!text.contains("[`"), "{:?}", text.split("[`").nth(1).map(|t| t.chars().take(80).collect::<String>()));
    // A field of a patch is optional, is a value or null, and has no schema of its own.
    assert!(schemas.keys().all(|name| !name.starts_with("Patch")), "{:?}", schemas.keys());
    let patch = &schemas["ProductPatch"];
    assert!(patch.get("required").is_none());
    assert_eq!(patch["properties"]["title"]["type"], json!(["string", "null"]));
    assert_eq!(patch["properties"]["tags"]["type"], json!(["array", "null"]));
    assert_eq!(patch["properties"]["price"]["oneOf"][0]["$ref"], "#/components/schemas/ExactDecimal");
    assert_eq!(patch["properties"]["price"]["oneOf"][1]["type"], "null");
    assert!(schemas["ProductInput"]["properties"].as_object().unwrap().contains_key("discount_percentage"));
}

#[tokio::test]
async fn the_document_describes_what_requests_may_contain() {
    let api = Api::new().await;
    let doc = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    let schemas = &doc["components"]["schemas"];
    let words: Vec<&str> = Permission::ALL.iter().map(|p| p.as_str()).collect();
    assert_eq!(schemas["Permission"]["enum"], json!(words));
    // A list of permissions may name one twice.
    assert_eq!(schemas["RoleInput"]["properties"]["permissions"].get("uniqueItems"), None);
    // A decimal is a text or a number.
    assert_eq!(schemas["ExactDecimal"]["type"], json!(["string", "number"]));
    // A body that may be missing is not required, and one that is there is no null.
    for (path, is_required) in [("/admin/verify", false), ("/products/{id}/restore", false), ("/products", true)] {
        let body = &doc["paths"][format!("{API}{path}")]["post"]["requestBody"];
        assert_eq!(body["required"].as_bool().unwrap_or_default(), is_required, "{path}");
        assert!(body["content"]["application/json"]["schema"]["$ref"].is_string(), "{path}: {body}");
    }
    api.call("POST", &format!("{API}/admin/verify"), &[], None).await.ok(202);
    api.call("POST", &format!("{API}/admin/verify"), &[], Some("null")).await.refused(400, "BAD_REQUEST", "body");
    // Every text can be asked for, and for every text a mail can be requested, so neither has the format of an address.
    let parameters = doc["paths"][format!("{API}/customers")]["get"]["parameters"].as_array().unwrap();
    let email = parameters.iter().find(|p| p["name"] == "email").unwrap();
    assert_eq!(email["schema"].get("format"), None);
    assert_eq!(api.get("/customers?email=null").await.ok(200).data(), json!([]));
    assert_eq!(schemas["MailInput"]["properties"]["email"].get("format"), None);
}

#[cfg(feature = "admin")]
#[tokio::test]
async fn the_admin_page_consists_of_its_own_files() {
    let api = Api::new().await;
    assert_eq!(api.call("GET", "/", &[], None).await.ok(200).json()["links"]["admin"], "/admin");
    assert_eq!(api.call("GET", "/admin", &[], None).await.ok(308).header("location"), "/admin/");
    let page = api.call("GET", "/admin/", &[], None).await.ok(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    // A browser takes over the headers of a 304.
    let known = api.call("GET", "/admin/", &[("if-none-match", page.header("etag"))], None).await.ok(304);
    assert_eq!((known.header("content-security-policy"), known.bytes.len()), (policy.as_str(), 0));
    let html = String::from_utf8(page.bytes.clone()).unwrap();
    let files: Vec<&str> = html.split('"').filter(|part| part.contains(".js") || part.contains(".css")).collect();
    assert!(files.len() > 2, "{html}");
    for file in files {
        let loaded = api.call("GET", &format!("/admin/{file}"), &[], None).await.ok(200);
        assert!(loaded.header("cache-control").ends_with("immutable"), "{file}");
    }
    // A browser keeps neither the page itself nor the files of another release.
    for path in ["/admin/", "/admin/app.js", "/admin/v-0/app.js"] {
        let loaded = api.call("GET", path, &[], None).await.ok(200);
        assert_eq!(loaded.header("cache-control"), "public, no-cache", "{path}");
    }
    api.call("GET", "/admin/v-0/nothing.js", &[], None).await.refused(404, "NOT_FOUND", "");
    api.call("GET", "/admin/nothing.js", &[], None).await.refused(404, "NOT_FOUND", "");
    let without = Api::with(open().admin_page(false)).await;
    without.call("GET", "/admin/", &[], None).await.refused(404, "NOT_FOUND", "");
    assert_eq!(without.call("GET", "/", &[], None).await.ok(200).json()["links"].get("admin"), None);
}

#[tokio::test]
async fn the_pages_load_nothing_from_outside() {
    let api = Api::new().await;
    assert_eq!(api.call("GET", "/docs", &[], None).await.ok(308).header("location"), "/docs/");
    for path in ["/docs/", "/redoc"] {
        let a = api.call("GET", path, &[], None).await.ok(200);
        assert!(a.header("content-type").starts_with("text/html"), "{path}");
        let html = String::from_utf8(a.bytes.clone()).unwrap();
        for outside in ["src=\"http", "href=\"http", "src=\"//", "href=\"//", "@import", "fonts.googleapis", "cdn."] {
            assert!(!html.contains(outside), "{path} has {outside}");
        }
        let policy = a.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
    }
    let script = api.call("GET", "/docs/swagger-ui-bundle.js", &[], None).await.ok(200);
    assert!(script.header("content-type").contains("javascript"));
    api.call("GET", "/docs/nothing.js", &[], None).await.refused(404, "NOT_FOUND", "");
    // No path leads to a file of the machine.
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for file in [manifest, "Cargo.toml", "../Cargo.toml", "./Cargo.toml", "../../../../../../../../etc/passwd"] {
        for file in [file.to_owned(), file.replace('/', "%2f"), file.replace('.', "%2e"), file.replace('/', "%5c")] {
            api.call("GET", &format!("/docs/{file}"), &[], None).await.refused(404, "NOT_FOUND", "");
        }
    }
}
