//! Verification of email addresses and resets of passwords over the API.

use std::sync::Arc;
use std::time::Duration;

use ecom_core::access::Secret;
use ecom_core::platform::Background;
use ecom_core::testkit::postbox::Postbox;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, id, kept_private};

const ADA: &str = "ada@example.com";

struct Mailed {
    api: Api,
    postbox: Arc<Postbox>,
    background: Background,
}

impl Mailed {
    async fn new() -> Self {
        let postbox = Postbox::new();
        let api = Api::mailing(postbox.mailing()).await;
        let background = api.shop.start();
        Self { api, postbox, background }
    }

    async fn auth(&self, what: &str, body: &Value) -> Answer {
        self.api.call("POST", &format!("{API}/auth/{what}"), &[], Some(&body.to_string())).await
    }

    async fn register(&self, email: &str) -> Value {
        let body = json!({"email": email, "password": "correct horse", "name": "Ada Lovelace"});
        self.auth("register", &body).await.ok(201).data()
    }

    /// Returns the token of a mail of a kind, once one has arrived that is not `before`.
    async fn token(&self, kind: &str, before: &str) -> String {
        for _ in 0..6_000 {
            let found = self.postbox.token(ADA, kind).map(|token: Secret| token.reveal().to_owned());
            if let Some(token) = found.filter(|token| token != before) {
                return token;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no mail of the kind {kind} arrives");
    }

    async fn end(self) {
        self.background.shutdown().await;
    }
}

#[tokio::test]
async fn a_user_verifies_its_address_and_becomes_a_customer() {
    let m = Mailed::new().await;
    let made = m.api.customer("Augusta", "King", "ADA@example.com").await;
    let tokens = m.register(ADA).await;
    assert_eq!((&tokens["user"]["customer_id"], &tokens["user"]["email_verified_at"]), (&Value::Null, &Value::Null));
    let first = m.token("verify_email", "").await;
    kept_private(m.auth("verify/resend", &json!({"email": ADA})).await.ok(202));
    let second = m.token("verify_email", &first).await;
    m.auth("verify", &json!({"token": first})).await.refused(422, "VALIDATION_FAILED", "token");
    let user = kept_private(m.auth("verify", &json!({"token": second})).await.ok(200)).data();
    assert!(user["email_verified_at"].is_string(), "{user}");
    assert_eq!(user["customer_id"], made["id"]);
    m.auth("verify", &json!({"token": second})).await.refused(422, "VALIDATION_FAILED", "token");
    m.end().await;
}

#[tokio::test]
async fn a_forgotten_password_is_reset() {
    let m = Mailed::new().await;
    let tokens = m.register(ADA).await;
    let known = kept_private(m.auth("forgot-password", &json!({"email": ADA})).await.ok(202));
    let unknown = kept_private(m.auth("forgot-password", &json!({"email": "nobody@example.com"})).await.ok(202));
    // Nothing tells the two apart.
    assert_eq!((known.bytes.as_slice(), unknown.bytes.as_slice()), (&[][..], &[][..]));
    assert_eq!(known.header("x-last-event-id").len(), unknown.header("x-last-event-id").len());
    assert!(!known.header("x-last-event-id").is_empty());
    let token = m.token("reset_password", "").await;
    let reset = |password: &str| json!({"token": token, "password": password});
    m.auth("reset-password", &reset("short")).await.refused(422, "VALIDATION_FAILED", "password");
    m.auth("reset-password", &reset("battery staple")).await.ok(204);
    m.auth("reset-password", &reset("battery staple")).await.refused(422, "VALIDATION_FAILED", "token");
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    m.auth("refresh", &refresh).await.refused(401, "UNAUTHENTICATED", "");
    let old = json!({"email": ADA, "password": "correct horse"});
    m.auth("login", &old).await.refused(401, "INVALID_CREDENTIALS", "");
    m.auth("login", &json!({"email": ADA, "password": "battery staple"})).await.ok(200);
    m.end().await;
}

#[tokio::test]
async fn an_address_gets_few_mails_an_hour() {
    let m = Mailed::new().await;
    m.register(ADA).await;
    let mut token = m.token("verify_email", "").await;
    for _ in 0..5 {
        m.auth("verify/resend", &json!({"email": "ADA@example.com"})).await.ok(202);
        token = m.token("verify_email", &token).await;
    }
    let sent = m.postbox.mails().len();
    for what in ["verify/resend", "verify/resend"] {
        let answer = m.auth(what, &json!({"email": ADA})).await.ok(202);
        assert_eq!(answer.header("x-last-event-id"), "");
    }
    // Mails of another kind have a limit of their own.
    m.auth("forgot-password", &json!({"email": ADA})).await.ok(202);
    m.token("reset_password", "").await;
    assert_eq!(m.postbox.mails().len(), sent + 1);
    m.end().await;
}

#[tokio::test]
async fn r20_a_login_takes_over_the_cart_of_a_guest() {
    let m = Mailed::new().await;
    let pen = m.api.product(json!({"title": "Pen", "price": 2, "stock": 20})).await;
    let line = |quantity: i64| json!({"sku_id": id(&pen["skus"][0]), "quantity": quantity, "unit_price": 2});
    let guest = async |quantity: i64| {
        let made = m.api.write("POST", "/carts", json!({"lines": [line(quantity)]})).await.ok(201).data();
        json!({"id": made["id"], "token": made["token"]})
    };
    let login = async |cart: Option<Value>| {
        let mut body = json!({"email": ADA, "password": "correct horse"});
        if let Some(cart) = cart {
            body["cart"] = cart;
        }
        m.auth("login", &body).await
    };
    let first = guest(2).await;
    m.register(ADA).await;
    assert!(login(None).await.ok(200).data().get("cart").is_none());
    // The user is no customer yet.
    let refused = login(Some(first.clone())).await.ok(200).data();
    assert_eq!((&refused["cart"]["id"], &refused["cart"]["error"]["code"]), (&Value::Null, &json!("STATE_CONFLICT")));
    let token = m.token("verify_email", "").await;
    let user = m.auth("verify", &json!({"token": token})).await.ok(200).data();
    for wrong in [json!({"id": first["id"], "token": "wrong"}), json!({"id": user["id"], "token": first["token"]})] {
        let refused = login(Some(wrong)).await.ok(200).data();
        assert_eq!((&refused["cart"]["id"], &refused["cart"]["error"]["code"]), (&Value::Null, &json!("NOT_FOUND")));
        assert!(refused["access_token"].is_string(), "the login succeeds");
    }
    let taken = login(Some(first.clone())).await.ok(200).data();
    assert_eq!(taken["cart"], json!({"id": first["id"], "error": null}));
    // A second guest's cart is merged into the customer's one, and a repeated login changes nothing.
    let second = guest(3).await;
    for _ in 0..2 {
        assert_eq!(login(Some(second.clone())).await.ok(200).data()["cart"]["id"], first["id"]);
    }
    let cart = m.api.get(&format!("/carts/{}", id(&first))).await.ok(200).data();
    assert_eq!((&cart["customer_id"], &cart["lines"][0]["quantity"]), (&user["customer_id"], &json!(3)));
    assert_eq!(cart["lines"].as_array().unwrap().len(), 1);
    // Not the password, but the cart is checked after it.
    let wrong = json!({"email": ADA, "password": "wrong", "cart": second});
    m.auth("login", &wrong).await.refused(401, "INVALID_CREDENTIALS", "");
    let malformed = json!({"email": ADA, "password": "correct horse", "cart": {"id": "x", "token": "y"}});
    m.auth("login", &malformed).await.refused(400, "BAD_REQUEST", "");
    m.end().await;
}

/// The answers to a guest's requests are erased with the customer that the guest has become.
#[tokio::test]
async fn r45_orders_of_a_guest_become_those_of_the_customer() {
    let m = Mailed::new().await;
    let pen = m.api.product(json!({"title": "Pen", "price": 2, "stock": 20})).await;
    let line = json!({"sku_id": id(&pen["skus"][0]), "quantity": 2, "unit_price": 2});
    let cart = m.api.write("POST", "/carts", json!({"email": ADA})).await.ok(201).data();
    let path = format!("{API}/carts/{}", id(&cart));
    let keyed = [("x-cart-token", cart["token"].as_str().unwrap()), ("idempotency-key", "1")];
    let guest = async |what: &str, body: &Value| {
        m.api.call("POST", &format!("{path}/{what}"), &keyed, Some(&body.to_string())).await
    };
    let of_cart = async || m.api.call("GET", &format!("{path}/order"), &keyed[..1], None).await;
    let buyer = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "Ada@Example.com"});
    let checkout = json!({"customer": buyer, "delivery_method": "on_hand"});
    guest("lines", &line).await.ok(200);
    let order = guest("checkout", &checkout).await.ok(201).data();
    let own = format!("/orders/{}", id(&order));
    let history = format!("{own}/history");
    m.register(ADA).await;
    let token = m.token("verify_email", "").await;
    assert_eq!(m.api.get(&own).await.ok(200).data()["customer_id"], Value::Null);
    let user = m.auth("verify", &json!({"token": token})).await.ok(200).data();
    assert!(user["customer_id"].is_string(), "{user}");

    let tokens = m.auth("login", &json!({"email": ADA, "password": "correct horse"})).await.ok(200).data();
    let authorization = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let ada = async |path: &str| {
        kept_private(
            m.api.call("GET", &format!("{API}{path}"), &[("authorization", &authorization)], None).await.ok(200),
        )
    };
    let listed = ada("/orders").await.data();
    assert_eq!((listed.as_array().unwrap().len(), id(&listed[0])), (1, id(&order)));
    let read = ada(&own).await.data();
    assert_eq!((&read["customer_id"], &read["version"]), (&user["customer_id"], &json!(2)));
    let last = ada(&history).await.data()[1].clone();
    assert_eq!((&last["kind"], &last["data"]), (&json!("patched"), &json!({"customer_id": user["customer_id"]})));
    assert_eq!(of_cart().await.ok(200).data(), read, "the token of the cart still opens the order");
    assert_eq!(guest("checkout", &checkout).await.ok(201).header("idempotency-replayed"), "true");

    let customer = user["customer_id"].as_str().unwrap();
    m.api.call("POST", &format!("{API}/customers/{customer}/erase"), &[], None).await.ok(200);
    for (what, body) in [("lines", &line), ("checkout", &checkout)] {
        guest(what, body).await.refused(409, "IDEMPOTENCY_ANSWER_ERASED", "Idempotency-Key");
    }
    let erased = m.api.get(&own).await.ok(200).data();
    assert!(erased["erased_at"].is_string() && !erased.to_string().to_lowercase().contains(ADA), "{erased}");
    assert_eq!(m.api.get(&history).await.ok(200).data()[1]["data"], json!({}));
    of_cart().await.refused(404, "NOT_FOUND", "");
    m.end().await;
}

#[tokio::test]
async fn mails_that_failed_are_jobs_to_run_again() {
    let m = Mailed::new().await;
    m.postbox.refuse(ADA, true);
    m.register(ADA).await;
    let mut failed = Value::Null;
    for _ in 0..6_000 {
        let jobs = m.api.get("/admin/jobs?kind=mail&state=failed").await.ok(200).data();
        if let Some(job) = jobs.as_array().unwrap().first() {
            failed = job.clone();
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(failed["last_error"], "the mail server refuses the mail (reply 550)");
    assert!(!failed.to_string().contains(ADA), "{failed}");
    m.postbox.accept();
    m.api.call("POST", &format!("{API}/admin/jobs/{}/retry", id(&failed)), &[], None).await.ok(202);
    m.token("verify_email", "").await;
    m.end().await;
}

#[tokio::test]
async fn a_shop_without_a_mailer_says_so() {
    let api = Api::new().await;
    for what in ["verify/resend", "forgot-password"] {
        let body = json!({"email": ADA}).to_string();
        let refused = api.call("POST", &format!("{API}/auth/{what}"), &[], Some(&body)).await;
        refused.refused(501, "UNSUPPORTED", "");
    }
}
