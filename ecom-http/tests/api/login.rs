//! Logins, users, roles and API keys over the API.

use ecom_core::access::Principal;
use ecom_http::HttpConfig;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, open};

const LOGIN: &str = r#"{"email": "ada@example.com", "password": "correct horse"}"#;

impl Api {
    async fn auth(&self, what: &str, body: &str) -> Answer {
        self.call("POST", &format!("{API}/auth/{what}"), &[], Some(body)).await
    }

    /// Sends a request with a token or a key.
    async fn bearing(&self, token: &str, method: &str, path: &str, body: Option<&str>) -> Answer {
        let authorization = format!("Bearer {token}");
        self.call(method, &format!("{API}{path}"), &[("authorization", &authorization)], body).await
    }

    async fn user(&self, roles: &Value) -> Value {
        let body = json!({"email": "ada@example.com", "password": "correct horse", "name": "Ada", "roles": roles});
        self.call("POST", &format!("{API}/users"), &[], Some(&body.to_string())).await.ok(201).data()
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[tokio::test]
async fn a_token_acts_with_the_permissions_of_its_user() {
    let api = Api::new().await;
    let user = api.user(&json!(["staff"])).await;
    assert_eq!((&user["roles"], &user["has_password"]), (&json!(["staff"]), &json!(true)));
    assert!(user.get("password").is_none(), "{user}");
    let answer = api.auth("login", LOGIN).await.ok(200);
    assert_eq!(answer.header("cache-control"), "private, no-store");
    let tokens = answer.data();
    assert_eq!((text(&tokens, "token_type"), &tokens["user"]["id"]), ("Bearer", &user["id"]));
    let access = text(&tokens, "access_token");
    assert_eq!(api.bearing(access, "GET", "/auth/me", None).await.ok(200).data(), user);
    api.bearing(access, "GET", "/orders", None).await.ok(200);
    // The request without a login may do everything in this test, and the user may not.
    let product = r#"{"title": "Pen", "price": 1}"#;
    api.bearing(access, "POST", "/products", Some(product)).await.refused(403, "FORBIDDEN", "");
    let sessions = api.bearing(access, "GET", &format!("/users/{}/sessions", text(&user, "id")), None).await;
    sessions.refused(403, "FORBIDDEN", "");
    let sessions = api.call("GET", &format!("{API}/users/{}/sessions", text(&user, "id")), &[], None).await.ok(200);
    assert_eq!(sessions.data().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_caller_reads_its_permissions() {
    let api = Api::new().await;
    let user = api.user(&json!(["staff"])).await;
    let tokens = api.auth("login", LOGIN).await.ok(200).data();
    let caller = api.bearing(text(&tokens, "access_token"), "GET", "/permissions", None).await.ok(200);
    assert_eq!(caller.header("cache-control"), "private, no-store");
    let caller = caller.data();
    assert_eq!((&caller["anonymous"], &caller["customer_id"]), (&json!(false), &Value::Null));
    assert_eq!(text(&caller, "actor"), format!("user:{}", text(&user, "id")));
    let granted = caller["permissions"].as_array().unwrap();
    assert!(granted.contains(&json!("stock:adjust")) && !granted.contains(&json!("products:write")), "{caller}");
    api.bearing("no token", "GET", "/permissions", None).await.refused(401, "UNAUTHENTICATED", "");
    let stranger = Api::with(HttpConfig::default()).await.get("/permissions").await.ok(200).data();
    assert_eq!((&stranger["anonymous"], &stranger["permissions"]), (&json!(true), &json!([])));
}

#[tokio::test]
async fn a_user_edits_its_own_name_and_nothing_else() {
    let api = Api::new().await;
    let body = r#"{"email": "ada@example.com", "password": "correct horse"}"#;
    let tokens = api.auth("register", body).await.ok(201).data();
    let access = text(&tokens, "access_token");
    let read = api.bearing(access, "GET", "/auth/me", None).await.ok(200);
    let tag = read.header("etag").to_owned();
    assert!(tag.starts_with("\"1.1-"), "{tag}");
    let authorization = format!("Bearer {access}");
    let with = async |method: &str, header: (&str, &str), body: Option<&str>| {
        api.call(method, &format!("{API}/auth/me"), &[("authorization", &authorization), header], body).await
    };
    with("GET", ("if-none-match", &tag), None).await.ok(304);
    let name = r#"{"name": "Ada Lovelace"}"#;
    api.bearing(access, "PATCH", "/auth/me", Some(name)).await.refused(428, "VERSION_REQUIRED", "");
    let done = with("PATCH", ("if-match", &tag), Some(name)).await.ok(200);
    assert_eq!((&done.data()["name"], &done.data()["version"]), (&json!("Ada Lovelace"), &json!(2)));
    assert_eq!(done.json()["links"], read.json()["links"]);
    assert_eq!((done.header("cache-control"), done.header("etag")), ("private, no-store", &*tag.replace("1.1", "2.2")));
    assert!(!done.header("x-last-event-id").is_empty());
    with("PATCH", ("if-match", &tag), Some(name)).await.refused(412, "VERSION_CONFLICT", "");
    let by_body = r#"{"name": null, "version": 1}"#;
    api.bearing(access, "PATCH", "/auth/me", Some(by_body)).await.refused(409, "VERSION_CONFLICT", "");
    for (field, value) in [
        ("email", json!("eve@example.com")),
        ("password", json!("battery staple")),
        ("roles", json!(["admin"])),
        ("customer_id", Value::Null),
        ("blocked", json!(false)),
    ] {
        let patch = json!({"version": 2, field: value}).to_string();
        api.bearing(access, "PATCH", "/auth/me", Some(&patch)).await.refused(400, "BAD_REQUEST", field);
    }
    let long = json!({"version": 2, "name": "x".repeat(201)}).to_string();
    api.bearing(access, "PATCH", "/auth/me", Some(&long)).await.refused(422, "VALIDATION_FAILED", "name");
    let unchanged = api.bearing(access, "GET", "/auth/me", None).await.ok(200).data();
    assert_eq!(unchanged, done.data());
    // Neither a caller without a session nor an API key has a user.
    api.call("PATCH", &format!("{API}/auth/me"), &[], Some(name)).await.refused(401, "UNAUTHENTICATED", "");
}

#[tokio::test]
async fn a_bad_token_is_refused_everywhere() {
    let api = Api::new().await;
    for token in ["", "x", "a.b.c", "ecom_x", "\u{e4}"] {
        for path in ["/products", "/nowhere", "/auth/me"] {
            let refused = api.bearing(token, "GET", path, None).await;
            if token == "\u{e4}" {
                // Bytes that are no text are no token.
                assert_ne!(refused.status, 500);
                continue;
            }
            let refused = refused.refused(401, "UNAUTHENTICATED", "");
            assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"ecom\"");
        }
    }
    // A client that renews its tokens may send the old one too.
    let expired = [("authorization", "Bearer a.b.c")];
    let login = api.call("POST", &format!("{API}/auth/login"), &expired, Some(LOGIN)).await;
    login.refused(401, "INVALID_CREDENTIALS", "");
    api.call("GET", "/health/live", &expired, None).await.ok(200);
    // A proxy in front may use another scheme.
    let basic = [("authorization", "Basic dXNlcjpwYXNz")];
    api.call("GET", &format!("{API}/products"), &basic, None).await.ok(200);
    api.call("GET", &format!("{API}/auth/me"), &basic, None).await.refused(401, "UNAUTHENTICATED", "");
    // An application may have bearer tokens of its own.
    let own = Api::with(open().authentication(false)).await;
    own.bearing("x", "GET", "/products", None).await.ok(200);
}

#[tokio::test]
async fn tokens_are_refreshed_and_end_with_a_logout() {
    let api = Api::new().await;
    let body = r#"{"email": "ada@example.com", "password": "correct horse", "name": "Ada"}"#;
    let first = api.auth("register", body).await.ok(201).data();
    assert_eq!(first["user"]["roles"], json!(["customer"]));
    api.auth("register", body).await.refused(409, "DUPLICATE", "email");
    let refresh = json!({"refresh_token": first["refresh_token"]}).to_string();
    let second = api.auth("refresh", &refresh).await.ok(200).data();
    let access = text(&second, "access_token");
    let change = r#"{"old_password": "correct horse", "password": "battery staple"}"#;
    api.bearing(access, "POST", "/auth/password", Some(change)).await.ok(204);
    api.auth("login", LOGIN).await.refused(401, "INVALID_CREDENTIALS", "");
    api.bearing(access, "POST", "/auth/logout", None).await.ok(204);
    api.bearing(access, "GET", "/auth/me", None).await.refused(401, "UNAUTHENTICATED", "");
    api.auth("refresh", &refresh).await.refused(401, "UNAUTHENTICATED", "");
    let other = r#"{"email": "ada@example.com", "password": "battery staple"}"#;
    let tokens = api.auth("login", other).await.ok(200).data();
    let refresh = json!({"refresh_token": tokens["refresh_token"]}).to_string();
    api.auth("logout", &refresh).await.ok(204);
    api.auth("refresh", &refresh).await.refused(401, "UNAUTHENTICATED", "");
    // Neither a session nor a valid refresh token.
    api.auth("logout", "{}").await.refused(401, "UNAUTHENTICATED", "");
}

#[tokio::test]
async fn nobody_registers_an_address_that_looks_like_another_one() {
    let api = Api::new().await;
    let body = |email: &str| json!({"email": email, "password": "correct horse"}).to_string();
    for alike in ["\u{212a}im@example.com", "ada@stra\u{df}e.de", "\u{ff41}da@example.com"] {
        let refused = api.auth("register", &body(alike)).await.refused(422, "VALIDATION_FAILED", "email");
        let message = refused.json()["error"]["details"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("register it in that spelling"), "{message}");
    }
    for plain in ["KIM@example.com", "ada@xn--strae-oqa.de", "\u{fc}nal@example.com"] {
        api.auth("register", &body(plain)).await.ok(201);
    }
    // Staff may create such a user.
    api.write("POST", "/users", json!({"email": "eva@stra\u{df}e.de"})).await.ok(201);
}

#[tokio::test]
async fn nobody_registers_with_rights_of_their_choice() {
    let api = Api::new().await;
    let customer = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let tokens = {
        let body = r#"{"email": "bob@example.com", "password": "correct horse"}"#;
        api.auth("register", body).await.ok(201).data()
    };
    let own = format!("/users/{}", text(&tokens["user"], "id"));
    for (field, value) in [
        ("roles", json!(["admin"])),
        ("permissions", json!(["orders:read"])),
        ("customer_id", customer["id"].clone()),
        ("email_verified_at", json!("2025-01-01T00:00:00Z")),
        ("id", customer["id"].clone()),
        ("is_admin", json!(true)),
    ] {
        let mut body: Value = serde_json::from_str(LOGIN).unwrap();
        body[field] = value.clone();
        api.auth("register", &body.to_string()).await.refused(400, "BAD_REQUEST", field);
        // The user is not its own administrator.
        let patch = json!({"version": 1, field: value}).to_string();
        let refused = api.bearing(text(&tokens, "access_token"), "PATCH", &own, Some(&patch)).await;
        assert!(matches!(refused.status.as_u16(), 400 | 403), "{field}: {refused:?}");
    }
    api.auth("login", LOGIN).await.refused(401, "INVALID_CREDENTIALS", "");
    let unchanged = api.get(&own).await.ok(200).data();
    assert_eq!((&unchanged["roles"], &unchanged["customer_id"]), (&json!(["customer"]), &Value::Null));
}

/// An API whose refresh tokens are cookies, and the headers of its own pages.
async fn with_cookies() -> Api {
    let config = HttpConfig::default().refresh_cookie(true).cors_origins(vec!["https://app.example".to_owned()]);
    Api::with(config.anonymous(Principal::trusted("anonymous"))).await
}

const OWN: [(&str, &str); 2] = [("x-requested-with", "fetch"), ("sec-fetch-site", "same-origin")];

impl Api {
    async fn with_headers(&self, what: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        self.call("POST", &format!("{API}/auth/{what}"), headers, body).await
    }
}

/// Returns the pair of the cookie that a response sets.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_refresh_token_can_be_a_cookie() {
    let api = with_cookies().await;
    let body = r#"{"email": "ada@example.com", "password": "correct horse", "name": "Ada"}"#;
    let registered = api.with_headers("register", &OWN, Some(body)).await.ok(201);
    let logged_in = api.with_headers("login", &OWN, Some(LOGIN)).await.ok(200);
    for answer in [&registered, &logged_in] {
        assert!(answer.data().get("refresh_token").is_none(), "{}", answer.data());
        assert_eq!(answer.header("cache-control"), "private, no-store");
        let attributes: Vec<&str> = answer.header("set-cookie").split("; ").skip(1).collect();
        let expected = ["Path=/api/v1/auth", "Max-Age=604800", "HttpOnly", "SameSite=Strict", "Secure"];
        assert_eq!(attributes, expected);
    }
    let first = cookie(&logged_in);
    assert!(first.starts_with("__Secure-ecom-refresh=") && first.len() > 60, "{first}");
    let with = |cookie: &str| [OWN[0], OWN[1], ("cookie", cookie)].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let call = |what: &'static str, cookie: String| {
        let api = &api;
        async move {
            let headers = with(&cookie);
            let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            api.with_headers(what, &headers, None).await
        }
    };
    let refreshed = call("refresh", first.clone()).await.ok(200);
    let second = cookie(&refreshed);
    assert_ne!(second, first);
    let access = refreshed.data()["access_token"].as_str().unwrap().to_owned();
    api.bearing(&access, "GET", "/auth/me", None).await.ok(200);
    let ended = call("logout", second.clone()).await.ok(204);
    assert!(ended.header("set-cookie").starts_with("__Secure-ecom-refresh=; Path=/api/v1/auth; Max-Age=0; HttpOnly"));
    call("refresh", second).await.refused(401, "UNAUTHENTICATED", "");
    call("refresh", String::new()).await.refused(401, "UNAUTHENTICATED", "");
    api.bearing(&access, "GET", "/auth/me", None).await.refused(401, "UNAUTHENTICATED", "");
    // Without the setting, nothing sets or reads a cookie.
    let plain = Api::new().await;
    plain.user(&json!([])).await;
    let tokens = plain.auth("login", LOGIN).await.ok(200);
    assert_eq!(tokens.header("set-cookie"), "");
    let value = format!("__Secure-ecom-refresh={}", text(&tokens.data(), "refresh_token"));
    let refused = plain.with_headers("refresh", &[("cookie", &value)], Some("{}")).await;
    refused.refused(422, "VALIDATION_FAILED", "refresh_token");
    let local = Api::with(HttpConfig::default().refresh_cookie(true).refresh_cookie_secure(false)).await;
    let registered = local.with_headers("register", &OWN, Some(body)).await.ok(201);
    assert!(cookie(&registered).starts_with("ecom-refresh=") && !registered.header("set-cookie").contains("Secure"));
}

#[tokio::test]
async fn pages_of_others_cannot_use_the_cookie() {
    let api = with_cookies().await;
    api.user(&json!([])).await;
    let logged_in = api.with_headers("login", &OWN, Some(LOGIN)).await.ok(200);
    let (cookie, access) = (cookie(&logged_in), logged_in.data()["access_token"].as_str().unwrap().to_owned());
    let cookie = ("cookie", cookie.as_str());
    // A browser without Fetch Metadata tells the origin alone; a form cannot send the header.
    for (foreign, headers) in [
        ("a form of another site", vec![("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]),
        ("a form in an old browser", vec![("origin", "https://evil.example")]),
        ("a form of the own site", vec![("sec-fetch-site", "same-origin")]),
        ("a page of another site", vec![OWN[0], ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]),
        ("a page in an old browser", vec![OWN[0], ("host", "shop.example"), ("origin", "https://evil.example")]),
        ("a page of a neighbour", vec![OWN[0], ("sec-fetch-site", "same-site"), ("origin", "https://blog.example")]),
        ("a sandboxed page", vec![OWN[0], ("origin", "null")]),
        ("nobody knows", vec![OWN[0]]),
    ] {
        let sent: Vec<(&str, &str)> = headers.into_iter().chain([cookie]).collect();
        for what in ["refresh", "logout", "login", "register"] {
            let body = if what == "refresh" || what == "logout" { None } else { Some(LOGIN) };
            let refused = api.with_headers(what, &sent, body).await.refused(403, "FORBIDDEN", "");
            assert_eq!(refused.header("set-cookie"), "", "{foreign}");
        }
    }
    // Nothing has happened: the session goes on, and the token was not exchanged.
    api.bearing(&access, "GET", "/auth/me", None).await.ok(200);
    // Another origin of the site is allowed by the settings, and may read the response.
    let allowed = [OWN[0], ("sec-fetch-site", "same-site"), ("origin", "https://app.example"), cookie];
    let refreshed = api.with_headers("refresh", &allowed, None).await.ok(200);
    assert_eq!(refreshed.header("access-control-allow-credentials"), "true");
    assert_eq!(refreshed.header("access-control-allow-origin"), "https://app.example");
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-requested-with,content-type"),
    ];
    let preflight = api.call("OPTIONS", &format!("{API}/auth/refresh"), &preflight, None).await.ok(200);
    assert_eq!(preflight.header("access-control-allow-headers"), "x-requested-with,content-type");
    // An old browser on a page of this host.
    let own = [OWN[0], ("host", "shop.example"), ("origin", "https://shop.example")];
    api.with_headers("login", &own, Some(LOGIN)).await.ok(200);
    // A wildcard allows no origin to send the cookie.
    let any = HttpConfig::default().refresh_cookie(true).cors_origins(vec!["*".to_owned()]);
    let any = Api::with(any).await;
    let headers = [OWN[0], ("origin", "https://evil.example")];
    let refused = any.with_headers("login", &headers, Some(LOGIN)).await.refused(403, "FORBIDDEN", "");
    assert_eq!(refused.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn replaced_keys_make_access_tokens_void() {
    let api = Api::new().await;
    api.user(&json!(["manager"])).await;
    let tokens = api.auth("login", LOGIN).await.ok(200).data();
    let access = text(&tokens, "access_token");
    let before = api.get("/auth/jwks.json").await.ok(200).json();
    api.bearing(access, "POST", "/auth/keys/replace", None).await.refused(403, "FORBIDDEN", "");
    api.bearing(access, "GET", "/auth/me", None).await.ok(200);
    api.call("POST", &format!("{API}/auth/keys/replace"), &[], None).await.ok(204);
    api.bearing(access, "GET", "/auth/me", None).await.refused(401, "UNAUTHENTICATED", "");
    let after = api.get("/auth/jwks.json").await.ok(200).json();
    assert_eq!(after["keys"].as_array().unwrap().len(), 1);
    assert_ne!(after["keys"][0]["kid"], before["keys"][0]["kid"]);
    let refresh = json!({"refresh_token": tokens["refresh_token"]}).to_string();
    let next = api.auth("refresh", &refresh).await.ok(200).data();
    api.bearing(text(&next, "access_token"), "GET", "/auth/me", None).await.ok(200);
}

#[tokio::test]
async fn failed_logins_have_to_wait() {
    let api = Api::new().await;
    for _ in 0..5 {
        let refused = api.auth("login", LOGIN).await.refused(401, "INVALID_CREDENTIALS", "");
        assert_eq!(refused.header("www-authenticate"), "");
    }
    let refused = api.auth("login", LOGIN).await.refused(429, "RATE_LIMITED", "");
    assert_eq!(refused.header("retry-after"), "2");
}

#[tokio::test]
async fn nothing_with_a_secret_is_stored_with_a_key() {
    let api = Api::new().await;
    let key = [("idempotency-key", "one")];
    for (path, body) in [
        ("/auth/login", LOGIN),
        ("/auth/register", LOGIN),
        ("/auth/refresh", r#"{"refresh_token": "x"}"#),
        ("/auth/logout", "{}"),
        ("/auth/password", r#"{"old_password": "x", "password": "correct horse"}"#),
        ("/auth/verify", r#"{"token": "x"}"#),
        ("/auth/verify/resend", r#"{"email": "ada@example.com"}"#),
        ("/auth/forgot-password", r#"{"email": "ada@example.com"}"#),
        ("/auth/reset-password", r#"{"token": "x", "password": "correct horse"}"#),
        ("/users", r#"{"email": "ada@example.com"}"#),
        ("/api-keys", r#"{"name": "robot", "permissions": ["stock:adjust"]}"#),
    ] {
        let refused = api.call("POST", &format!("{API}{path}"), &key, Some(body)).await;
        refused.refused(400, "BAD_REQUEST", "Idempotency-Key");
    }
}

#[tokio::test]
async fn the_public_keys_verify_access_tokens() {
    let api = Api::new().await;
    let keys = api.call("GET", &format!("{API}/auth/jwks.json"), &[], None).await.ok(200).json();
    let [key] = keys["keys"].as_array().unwrap().as_slice() else { panic!("{keys}") };
    assert_eq!((text(key, "kty"), text(key, "crv"), text(key, "alg")), ("OKP", "Ed25519", "EdDSA"));
    assert_eq!(text(key, "x").len(), 43);
    assert!(key.get("d").is_none(), "the private key: {key}");
}

#[tokio::test]
async fn an_api_key_shows_its_secret_once() {
    let api = Api::new().await;
    let body = r#"{"name": "robot", "permissions": ["stock:adjust"]}"#;
    let made = api.call("POST", &format!("{API}/api-keys"), &[], Some(body)).await.ok(201);
    let path = made.header("location").to_owned();
    let key = made.data();
    let secret = text(&key, "secret");
    assert!(secret.starts_with(text(&key, "prefix")), "{key}");
    let read = api.call("GET", &path, &[], None).await.ok(200);
    assert!(!String::from_utf8_lossy(&read.bytes).contains(secret));
    let refused = api.bearing(secret, "POST", "/products", Some(r#"{"title": "Pen", "price": 1}"#)).await;
    refused.refused(403, "FORBIDDEN", "");
    // An API key has no user.
    api.bearing(secret, "GET", "/auth/me", None).await.refused(401, "UNAUTHENTICATED", "");
    let patch = r#"{"permissions": ["products:write"], "version": 1}"#;
    api.call("PATCH", &path, &[], Some(patch)).await.ok(200);
    api.bearing(secret, "POST", "/products", Some(r#"{"title": "Pen", "price": 1}"#)).await.ok(201);
    api.call("DELETE", &format!("{path}?version=2"), &[], None).await.ok(204);
    api.bearing(secret, "GET", "/products", None).await.refused(401, "UNAUTHENTICATED", "");
}

#[tokio::test]
async fn roles_and_users_are_edited() {
    let api = Api::new().await;
    let role = r#"{"name": "warehouse", "permissions": ["stock:adjust", "stock:read"]}"#;
    let made = api.call("POST", &format!("{API}/roles"), &[("idempotency-key", "r")], Some(role)).await.ok(201);
    let path = made.header("location").to_owned();
    assert_eq!(made.data()["built_in"], false);
    let list = api.call("GET", &format!("{API}/roles?fields=name"), &[], None).await.ok(200).data();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|r| text(r, "name")).collect();
    assert_eq!(names, ["admin", "customer", "manager", "staff", "warehouse"]);
    let bad = r#"{"name": "x", "permissions": ["stock:steal"]}"#;
    api.call("POST", &format!("{API}/roles"), &[], Some(bad)).await.refused(400, "BAD_REQUEST", "permissions[0]");
    let unknown = r#"{"email": "bob@example.com", "roles": ["cook"]}"#;
    let refused = api.call("POST", &format!("{API}/users"), &[], Some(unknown)).await;
    refused.refused(422, "VALIDATION_FAILED", "roles[0]");
    let user = api.user(&json!(["warehouse"])).await;
    let own = format!("{API}/users/{}", text(&user, "id"));
    api.call("DELETE", &format!("{path}?version=1"), &[], None).await.refused(409, "STATE_CONFLICT", "");
    let found = api.call("GET", &format!("{API}/users?email=ADA@example.com"), &[], None).await.ok(200);
    assert_eq!(found.data(), json!([user]));
    let patch = r#"{"blocked": true, "roles": null, "version": 1}"#;
    let blocked = api.call("PATCH", &own, &[], Some(patch)).await.ok(200).data();
    assert!(blocked["blocked_at"].is_string() && blocked["roles"] == json!([]), "{blocked}");
    api.auth("login", LOGIN).await.refused(401, "INVALID_CREDENTIALS", "");
    api.call("DELETE", &format!("{own}?version=2"), &[], None).await.ok(204);
    api.call("POST", &format!("{own}/restore?version=3"), &[], None).await.ok(200);
    api.call("DELETE", &format!("{path}?version=1"), &[], None).await.ok(204);
}

#[tokio::test]
async fn a_stranger_reaches_no_users_roles_and_keys() {
    let api = Api::with(HttpConfig::default()).await;
    for path in ["/users", "/roles", "/api-keys"] {
        api.call("GET", &format!("{API}{path}"), &[], None).await.refused(401, "UNAUTHENTICATED", "");
    }
    for (path, body) in [
        ("/users", r#"{"email": "ada@example.com", "roles": ["admin"]}"#),
        ("/roles", r#"{"name": "mine", "permissions": []}"#),
        ("/api-keys", r#"{"name": "mine", "permissions": ["products:write"]}"#),
    ] {
        api.call("POST", &format!("{API}{path}"), &[], Some(body)).await.refused(401, "UNAUTHENTICATED", "");
    }
}
