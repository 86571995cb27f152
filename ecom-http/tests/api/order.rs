//! Orders: placing, editing, canceling, lists, histories, and bad input.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use ecom_core::access::{Permission, Principal};
use ecom_http::{HttpConfig, router};
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, column, golden, id, kept_private};

const NOBODY: &str = "019ab000-0000-7000-8000-000000000000";

/// The ids of SKUs: pens at 2.00 (100 in stock), books at 10.00 less 10 % (5 in stock).
pub struct Shop {
    pub api: Api,
    pub pen: String,
    pub book: String,
    pub ada: Value,
}

fn lane() -> Value {
    json!({"street": "Ockham Lane", "number": "12a", "city": "London", "postal_code": "SW1Y 4LB", "country": "gb"})
}

impl Shop {
    pub async fn new() -> Self {
        let api = Api::new().await;
        let pen = api.product(json!({"title": "Pen", "price": 2, "stock": 100, "sku": "PEN"})).await;
        let book = json!({
            "title": "Book", "discount_percentage": 10,
            "skus": [{"code": "BOOK-1", "price": 10, "stock": 5, "option_values": {"cover": "soft"}}],
        });
        let book = api.product(book).await;
        let ada = api.customer("Ada", "Lovelace", "ada@example.com").await;
        let sku = |p: &Value| p["skus"][0]["id"].as_str().unwrap().to_owned();
        Self { pen: sku(&pen), book: sku(&book), ada, api }
    }

    fn pens(&self, quantity: i64) -> Value {
        json!({"sku_id": self.pen, "quantity": quantity, "unit_price": "2.00"})
    }

    fn books(&self, quantity: i64) -> Value {
        json!({"sku_id": self.book, "quantity": quantity, "unit_price": 9})
    }

    /// An order of Ada, without lines.
    fn order(&self) -> Value {
        json!({"customer_id": id(&self.ada), "delivery_method": "on_hand"})
    }

    pub async fn place(&self, lines: Value) -> Value {
        self.api.clock.advance(Duration::from_secs(1));
        let mut body = self.order();
        body["lines"] = lines;
        self.api.write("POST", "/orders", body).await.ok(201).data()
    }

    pub async fn post(&self, order: &Value, step: &str, body: Value) -> Answer {
        self.api.write("POST", &format!("/orders/{}/{step}", id(order)), body).await
    }

    pub async fn bare(&self, order: &Value, step: &str) -> Answer {
        self.api.call("POST", &format!("{API}/orders/{}/{step}", id(order)), &[], None).await
    }

    pub async fn reread(&self, order: &Value) -> Value {
        self.api.get(&format!("/orders/{}", id(order))).await.ok(200).data()
    }

    async fn stock(&self) -> (i64, i64) {
        let of = async |sku: &str| self.api.get(&format!("/skus/{sku}/stock")).await.ok(200).data()["on_hand"].as_i64();
        (of(&self.pen).await.unwrap(), of(&self.book).await.unwrap())
    }

    pub async fn bills(&self, order: &Value) -> Vec<Value> {
        let list = kept_private(self.api.get(&format!("/orders/{}/bills", id(order))).await.ok(200));
        list.data().as_array().unwrap().clone()
    }
}

pub fn amounts(of: &Value) -> [&str; 3] {
    ["subtotal", "discount", "total"].map(|name| of[name].as_str().unwrap())
}

#[tokio::test]
async fn an_order_reads_as_its_golden_document() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let body = json!({
        "customer_id": id(&shop.ada),
        "lines": [
            {"sku": "pen", "quantity": 3, "unit_price": "2.00", "attributes": {"engraving": "Ada"}},
            shop.books(2),
        ],
        "extra_lines": [{"kind": "fee", "title": "Gift wrap", "unit_price": "1.50"}],
        "delivery_method": "home_delivery",
        "shipping_address": lane(),
        "billing_address": {"street": "Rue de Rivoli", "city": "Paris", "country": "FR"},
        "payment_type": "card",
        "tracking": "1Z-7",
        "discount": "2.55",
        "attributes": {"note": "ring twice"},
        "source": "web",
        "external_id": "7",
    });
    let made = kept_private(api.write("POST", "/orders", body).await.ok(201));
    let order = made.data();
    let path = format!("/orders/{}", id(&order));
    assert_eq!(made.header("location"), format!("{API}{path}"));
    assert_eq!(made.header("etag"), format!("\"1.1-{}\"", id(&order).replace('-', "")));
    let read = kept_private(api.get(&path).await.ok(200));
    assert_eq!(read.data(), order);
    golden(
        "order",
        &json!({"order": read.json(), "history": api.get(&format!("{path}/history")).await.ok(200).json()}),
    );
    assert_eq!(shop.stock().await, (97, 3));

    // By its number, with the same bytes and the same tag.
    let number = order["number"].as_str().unwrap();
    let by_number = kept_private(api.get(&format!("/orders/{number}")).await.ok(200));
    assert_eq!(by_number.json(), read.json());
    let url = format!("{API}{path}");
    for known in [read.header("etag"), by_number.header("etag"), "*"] {
        kept_private(api.call("GET", &url, &[("if-none-match", known)], None).await.ok(304));
    }
    // Numbers in place of strings, and every field on its own.
    let numbers = api.get(&format!("{path}?numbers=true")).await.ok(200);
    let text = String::from_utf8_lossy(&numbers.bytes);
    assert!(text.contains("\"total\":22.95,") && text.contains("\"unit_price\":9.00,"), "{text}");
    assert_ne!(numbers.header("etag"), read.header("etag"));
    let names: Vec<&str> = order.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(api.get(&format!("{path}?fields={}", names.join(","))).await.ok(200).data(), order);
    assert_eq!(api.get("/orders?fields=number").await.ok(200).data(), json!([{"number": number}]));
    for bad in [format!("{path}?fields=engine"), format!("{path}/lines?fields=sku"), format!("{path}/history?fields=x")]
    {
        api.get(&bad).await.refused(400, "BAD_REQUEST", "fields");
    }
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    for name in ["orders", "bills"] {
        kept_private(api.call("GET", root["links"][name].as_str().unwrap(), &[], None).await.ok(200));
    }

    // Lines have paths and the tag of their order.
    let lines = kept_private(api.get(&format!("{path}/lines")).await.ok(200));
    assert_eq!(lines.data(), order["lines"]);
    let one = format!("{path}/lines/{}", id(&order["lines"][1]));
    let line = kept_private(api.get(&one).await.ok(200));
    assert_eq!((&line.data(), line.header("etag")), (&order["lines"][1], read.header("etag")));
    assert_eq!(line.json()["links"]["self"], format!("{API}{one}"));
    assert_eq!(api.get(&format!("{one}?fields=code")).await.ok(200).data(), json!({"code": "BOOK-1"}));
    kept_private(
        api.call("GET", &format!("{API}{one}"), &[("if-none-match", line.header("etag"))], None).await.ok(304),
    );
}

#[tokio::test]
async fn r18_every_amount_of_an_order_is_explained() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let mut body = shop.order();
    body["lines"] = json!([shop.pens(3), shop.books(1)]);
    body["discount"] = json!("1.01");
    let order = api.write("POST", "/orders", body).await.ok(201).data();
    let units = json!({"version": 1, "lines": [{"line_id": id(&order["lines"][0]), "quantity": 2}]});
    shop.post(&order, "cancel", units).await.ok(200);
    let path = format!("/orders/{}/explain", id(&order));
    let read = kept_private(api.get(&path).await.ok(200));
    let data = read.data();
    assert_eq!((&data["order_id"], &data["version"], &data["currency"]), (&order["id"], &json!(2), &json!("USD")));
    let minor = |amount: &Value| amount.as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    let amounts = data["amounts"].as_array().unwrap();
    for amount in amounts {
        let sum: i64 = amount["parts"].as_array().unwrap().iter().map(|p| minor(&p["amount"])).sum();
        assert_eq!(sum, minor(&amount["amount"]), "{amount}");
    }
    let of = |kind: &str, name: &str| {
        let found = amounts.iter().find(|a| a["of"]["kind"] == kind && a["of"]["name"] == name);
        found.unwrap_or_else(|| panic!("{kind} {name}: {data}"))
    };
    assert_eq!(of("line", "subtotal")["parts"], json!([{"label": "3 × 2.00 USD", "amount": "6.00"}]));
    assert_eq!(of("credit_note", "subtotal")["parts"][0]["label"], "units 1–2 of 3 of line 1 (Pen)");
    assert!(of("line", "discount")["formula"].as_str().unwrap().ends_with("6.00 USD of 15.00 USD (R27)"));
    let due = of("order", "due");
    assert_eq!(
        minor(&due["amount"]),
        minor(&of("order", "total")["amount"]) - minor(&of("credit_note", "total")["amount"])
    );

    assert_eq!(api.get(&format!("/orders/{}", id(&order))).await.header("etag"), read.header("etag"));
    let known = [("if-none-match", read.header("etag"))];
    kept_private(api.call("GET", &format!("{API}{path}"), &known, None).await.ok(304));
    let picked = api.get(&format!("{path}?fields=number")).await.ok(200).data();
    assert_eq!(picked, json!({"number": order["number"]}));
    let numbers = api.get(&format!("{path}?numbers=true")).await.ok(200);
    assert!(String::from_utf8_lossy(&numbers.bytes).contains("\"amount\":6.00,"), "{numbers:?}");
    api.get("/orders/019ab000-0000-7000-8000-000000000000/explain").await.refused(404, "NOT_FOUND", "");
    api.get("/orders/x/explain").await.refused(400, "BAD_REQUEST", "");
}

#[tokio::test]
async fn a_guest_orders_without_an_account() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let guest = json!({"first_name": "Eve", "last_name": "Adams", "email": "Eve@Example.com", "telephone": "+44 (20) 7946-0018"});
    let body = json!({"customer": guest, "lines": [shop.pens(1)], "delivery_method": "drive_thru"});
    let order = kept_private(api.write("POST", "/orders", body).await.ok(201)).data();
    assert_eq!(order["customer_id"], Value::Null);
    assert_eq!(order["customer"]["telephone"], "+442079460018");
    assert_eq!(amounts(&order), ["2.00", "0.00", "2.00"]);
    let found = api.get("/orders?email=eve@example.com").await.ok(200).data();
    assert_eq!(found[0]["id"], order["id"]);
    assert_eq!(api.get(&format!("/customers/{}/orders", id(&shop.ada))).await.ok(200).data(), json!([]));
    // An empty order is filled later (R44).
    let body = json!({"customer": guest, "delivery_method": "on_hand"});
    let empty = api.write("POST", "/orders", body).await.ok(201).data();
    assert_eq!((&empty["lines"], &empty["total"]), (&json!([]), &json!("0.00")));
    shop.bare(&empty, "start").await.refused(409, "STATE_CONFLICT", "id");
}

#[tokio::test]
async fn an_address_of_the_customer_is_kept_as_it_was() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let address = api.address(&shop.ada, lane()).await;
    let mut body = shop.order();
    body["delivery_method"] = json!("home_delivery");
    body["address_id"] = address["id"].clone();
    let order = api.write("POST", "/orders", body).await.ok(201).data();
    assert_eq!(order["shipping_address"]["postal_code"], "SW1Y 4LB");
    let path = format!("/addresses/{}", id(&address));
    api.write("PATCH", &path, json!({"city": "Paris", "version": 1})).await.ok(200);
    assert_eq!(shop.reread(&order).await["shipping_address"]["city"], "London");
}

#[tokio::test]
async fn r09_lines_of_a_pending_order_are_edited() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let order = shop.place(json!([shop.pens(3)])).await;
    let path = format!("/orders/{}", id(&order));
    let lines = format!("{path}/lines");

    // Add one; Location has its path.
    let mut line = shop.books(2);
    line["version"] = json!(1);
    let added = kept_private(api.write("POST", &lines, line).await.ok(201));
    let order = added.data();
    assert_eq!((order["version"].as_i64(), order["lines"].as_array().unwrap().len()), (Some(2), 2));
    assert!(added.header("etag").starts_with("\"2.2-"));
    let book = format!("{lines}/{}", id(&order["lines"][1]));
    assert_eq!(added.header("location"), format!("{API}{book}"));
    assert_eq!(api.call("GET", added.header("location"), &[], None).await.ok(200).data(), order["lines"][1]);
    assert_eq!((amounts(&order), shop.stock().await), (["24.00", "0.00", "24.00"], (97, 3)));

    // Change its quantity, by If-Match.
    let url = format!("{API}{book}");
    let patch = |body: Value| {
        let (url, tag) = (url.clone(), added.header("etag").to_owned());
        async move { api.call("PATCH", &url, &[("if-match", &tag)], Some(&body.to_string())).await }
    };
    let changed = kept_private(patch(json!({"quantity": 4})).await.ok(200)).data();
    assert_eq!((&changed["lines"][1]["quantity"], &changed["total"]), (&json!(4), &json!("42.00")));
    assert_eq!(shop.stock().await, (97, 1));
    patch(json!({"quantity": 4})).await.refused(412, "VERSION_CONFLICT", "version");

    // The price stays until it is asked for.
    let product =
        api.get(&format!("/skus/{}", shop.book)).await.ok(200).data()["product_id"].as_str().unwrap().to_owned();
    let version = api.get(&format!("/products/{product}")).await.ok(200).data()["version"].clone();
    let body = json!({"discount_percentage": 50, "version": version});
    api.write("PATCH", &format!("/products/{product}"), body).await.ok(200);
    let fewer = api.write("PATCH", &book, json!({"quantity": 3, "version": 3})).await.ok(200).data();
    assert_eq!(fewer["lines"][1]["unit_price"], "9.00");
    let repriced = api.write("PATCH", &book, json!({"reprice": true, "version": 4})).await.ok(200).data();
    assert_eq!((&repriced["lines"][1]["unit_price"], &repriced["total"]), (&json!("5.00"), &json!("21.00")));

    // Removed, it is gone.
    api.call("DELETE", &url, &[], None).await.refused(428, "VERSION_REQUIRED", "version");
    api.call("DELETE", &format!("{url}?version=4"), &[], None).await.refused(409, "VERSION_CONFLICT", "version");
    let removed = kept_private(api.call("DELETE", &format!("{url}?version=5"), &[], None).await.ok(200));
    let order = shop.reread(&order).await;
    assert_eq!(removed.data(), order);
    assert!(removed.header("etag").starts_with("\"6.6-"));
    assert_eq!((order["lines"].as_array().unwrap().len(), shop.stock().await), (1, (97, 5)));
    api.get(&book).await.refused(404, "NOT_FOUND", "");
    api.write("PATCH", &book, json!({"quantity": 1, "version": 6})).await.refused(404, "NOT_FOUND", "");
    api.call("DELETE", &format!("{url}?version=6"), &[], None).await.refused(404, "NOT_FOUND", "");

    // Several changes at once, with a discount.
    let pen = id(&order["lines"][0]).to_owned();
    let edit = json!({
        "change": [{"line_id": pen, "quantity": 5}],
        "add": [{"sku": "BOOK-1", "quantity": 1, "unit_price": 5}],
        "add_extra": [{"kind": "custom", "title": "Engraving", "quantity": 2, "unit_price": "3.50"}],
        "discount": "2.20",
        "version": 6,
    });
    let edited = kept_private(shop.post(&order, "edit", edit).await.ok(200)).data();
    assert_eq!(amounts(&edited), ["22.00", "2.20", "19.80"]);
    assert_eq!(shop.stock().await, (95, 4));
    let kinds: Vec<&str> = edited["lines"].as_array().unwrap().iter().map(|l| l["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["sku", "sku", "custom"]);
    let bill = kept_private(api.get(&format!("{path}/bill")).await.ok(200)).data();
    assert_eq!(amounts(&bill), amounts(&edited));

    // Once started, no more.
    let started = kept_private(shop.bare(&order, "start").await.ok(200)).data();
    assert_eq!(started["status"], "in_progress");
    let before = api.everything().await;
    let conflict = |a: Answer| {
        let a = kept_private(a.refused(409, "ORDER_STATUS_CONFLICT", "status"));
        let detail = a.json()["error"]["details"][0].clone();
        assert_eq!((&detail["order"], &detail["status"]), (&order["id"], &json!("in_progress")));
    };
    let pen = format!("{lines}/{pen}");
    conflict(shop.post(&order, "edit", json!({"discount": 1, "version": 8})).await);
    let mut line = shop.pens(1);
    line["version"] = json!(8);
    conflict(api.write("POST", &lines, line).await);
    conflict(api.write("PATCH", &pen, json!({"quantity": 1, "version": 8})).await);
    conflict(api.call("DELETE", &format!("{API}{pen}?version=8"), &[], None).await);
    conflict(shop.bare(&order, "start").await);
    assert_eq!(before, api.everything().await);

    let history = kept_private(api.get(&format!("{path}/history")).await.ok(200));
    let expected = ["placed", "edited", "edited", "edited", "edited", "edited", "edited", "started"];
    assert_eq!(column(&history, "kind"), expected);
    let last = &history.data()[7];
    assert_eq!((&last["seq"], &last["from"], &last["to"]), (&json!(8), &json!("pending"), &json!("in_progress")));
    assert_eq!((&last["actor"], &history.data()[0]["from"]), (&json!("anonymous"), &Value::Null));
    assert_eq!(history.data()[5]["data"]["lines"][0]["to"], 0);
}

#[tokio::test]
async fn r10_an_order_is_canceled_once_however_often_it_is_asked() {
    let shop = Shop::new().await;
    let order = shop.place(json!([shop.pens(3), shop.books(1)])).await;
    assert_eq!(shop.stock().await, (97, 4));
    let canceled = kept_private(shop.bare(&order, "cancel").await.ok(200));
    let first = canceled.data();
    assert_eq!((&first["status"], &first["version"]), (&json!("canceled"), &json!(2)));
    assert!(first["canceled_at"].is_string());
    assert_eq!(first["total"], "15.00");
    assert_eq!(shop.stock().await, (100, 5));
    for body in [None, Some(json!({}))] {
        let again = match body {
            None => shop.bare(&order, "cancel").await,
            Some(body) => shop.post(&order, "cancel", body).await,
        };
        assert_eq!(again.ok(200).data(), first);
    }
    let all = futures::future::join_all((0..8).map(|_| shop.bare(&order, "cancel"))).await;
    assert!(all.iter().all(|a| a.status.as_u16() == 200));
    assert_eq!(shop.stock().await, (100, 5));
    let bills = shop.bills(&order).await;
    assert_eq!((bills.len(), &bills[0]["status"]), (1, &json!("void")));
    for step in ["start", "deliver"] {
        shop.bare(&order, step).await.refused(409, "ORDER_STATUS_CONFLICT", "status");
    }
    let line = id(&order["lines"][0]);
    let units = json!({"lines": [{"line_id": line, "quantity": 1}], "version": 2});
    shop.post(&order, "cancel", units).await.refused(409, "ORDER_STATUS_CONFLICT", "status");
}

#[tokio::test]
async fn r36_units_are_canceled_with_a_credit_note() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let mut body = shop.order();
    body["lines"] = json!([shop.pens(3)]);
    body["discount"] = json!("0.02");
    let order = api.write("POST", "/orders", body).await.ok(201).data();
    let path = format!("/orders/{}", id(&order));
    let line = id(&order["lines"][0]).to_owned();
    let units = |n: i64| json!([{"line_id": line, "quantity": n}]);
    let before = api.everything().await;
    for (body, status, code, field) in [
        (json!({"lines": units(1)}), 428, "VERSION_REQUIRED", "version"),
        (json!({"lines": units(1), "version": 9}), 409, "VERSION_CONFLICT", "version"),
        (json!({"lines": units(0), "version": 1}), 422, "VALIDATION_FAILED", "lines[0].quantity"),
        (json!({"lines": units(-1), "version": 1}), 422, "VALIDATION_FAILED", "lines[0].quantity"),
        (json!({"lines": units(4), "version": 1}), 422, "VALIDATION_FAILED", "lines[0].quantity"),
        (json!({"lines": [], "version": 1}), 422, "VALIDATION_FAILED", "lines"),
        (
            json!({"lines": [{"line_id": NOBODY, "quantity": 1}], "version": 1}),
            422,
            "VALIDATION_FAILED",
            "lines[0].line_id",
        ),
        (json!({"lines": [{"line_id": "x", "quantity": 1}], "version": 1}), 400, "BAD_REQUEST", "lines[0].line_id"),
        (json!({"lines": null}), 400, "BAD_REQUEST", "lines"),
        (json!({"lines": [[line, 1]], "version": 1}), 400, "BAD_REQUEST", "lines[0]"),
        (json!({"units": 1}), 400, "BAD_REQUEST", "units"),
        (json!({"version": 1}), 422, "VALIDATION_FAILED", "version"),
    ] {
        kept_private(shop.post(&order, "cancel", body).await.refused(status, code, field));
    }
    let url = format!("{API}{path}/cancel");
    api.call("POST", &url, &[("if-match", "\"1\"")], None).await.refused(422, "VALIDATION_FAILED", "version");
    assert_eq!(before, api.everything().await);

    let one = shop.post(&order, "cancel", json!({"lines": units(1), "version": 1})).await.ok(200).data();
    assert_eq!((&one["status"], &one["lines"][0]["canceled"]), (&json!("pending"), &json!(1)));
    assert_eq!((&one["total"], shop.stock().await.0), (&json!("5.98"), 98));
    let bills = shop.bills(&order).await;
    assert_eq!((&bills[1]["kind"], &bills[1]["corrects"]), (&json!("credit_note"), &bills[0]["id"]));
    assert_eq!(amounts(&bills[1]), ["2.00", "0.01", "1.99"]);
    assert_eq!(api.get(&format!("{path}/bill")).await.ok(200).data(), bills[0]);
    // The bill no longer changes (R39).
    let edit = json!({"change": [{"line_id": line, "quantity": 1}], "version": 2});
    let frozen = shop.post(&order, "edit", edit).await.refused(409, "BILL_FROZEN", "change[0].line_id");
    assert_eq!(frozen.json()["error"]["details"][0]["number"], bills[0]["number"]);
    let (url, body) = (format!("{path}/lines/{line}"), json!({"quantity": 1, "version": 2}));
    api.write("PATCH", &url, body).await.refused(409, "BILL_FROZEN", "line_id");
    // The rest cancels the order.
    let rest = shop.post(&order, "cancel", json!({"lines": units(2), "version": 2})).await.ok(200).data();
    assert_eq!((&rest["status"], shop.stock().await.0), (&json!("canceled"), 100));
    assert!(shop.bills(&order).await.iter().all(|b| b["status"] == "void"));
    let kinds = column(&api.get(&format!("{path}/history")).await.ok(200), "kind");
    assert_eq!(kinds, ["placed", "units_canceled", "canceled"]);
}

#[tokio::test]
async fn an_order_moves_on_and_its_delivery_changes() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let order = shop.place(json!([shop.pens(1)])).await;
    let path = format!("/orders/{}", id(&order));
    shop.bare(&order, "deliver").await.refused(409, "ORDER_STATUS_CONFLICT", "status");
    let patch = async |body: Value| api.write("PATCH", &path, body).await;
    patch(json!({"tracking": "1Z"})).await.refused(428, "VERSION_REQUIRED", "version");
    let home = json!({"delivery_method": "home_delivery", "version": 1});
    patch(home.clone()).await.refused(422, "VALIDATION_FAILED", "shipping_address");
    let mut home = home;
    home["shipping_address"] = lane();
    let patched = kept_private(patch(home).await.ok(200)).data();
    assert_eq!((&patched["version"], &patched["shipping_address"]["country"]), (&json!(2), &json!("GB")));
    let clear = json!({"shipping_address": null, "version": 2});
    patch(clear).await.refused(422, "VALIDATION_FAILED", "shipping_address");
    patch(json!({"delivery_method": null, "version": 2})).await.refused(422, "VALIDATION_FAILED", "delivery_method");
    patch(json!({"status": "delivered", "version": 2})).await.refused(400, "BAD_REQUEST", "status");
    patch(json!({"lines": [], "version": 2})).await.refused(400, "BAD_REQUEST", "lines");
    patch(json!({"shipping_address": ["Lane"], "version": 2})).await.refused(400, "BAD_REQUEST", "shipping_address");
    assert_eq!(patch(json!({"version": 2})).await.ok(200).data()["version"], 2);

    // A version is optional for a step, and is checked if it is there.
    shop.post(&order, "start", json!({"version": 1})).await.refused(409, "VERSION_CONFLICT", "version");
    let url = format!("{API}{path}");
    let stale = [("if-match", "\"1\"")];
    api.call("POST", &format!("{url}/start"), &stale, None).await.refused(412, "VERSION_CONFLICT", "version");
    assert_eq!(shop.post(&order, "start", json!({"version": 2})).await.ok(200).data()["status"], "in_progress");
    let tracking = patch(json!({"tracking": "1Z-7", "attributes": {"box": 3}, "version": 3})).await.ok(200).data();
    assert_eq!((&tracking["tracking"], &tracking["attributes"]), (&json!("1Z-7"), &json!({"box": 3})));
    assert_eq!(kept_private(shop.bare(&order, "deliver").await.ok(200)).data()["status"], "delivered");
    for step in ["start", "deliver", "cancel"] {
        shop.bare(&order, step).await.refused(409, "ORDER_STATUS_CONFLICT", "status");
    }
    patch(json!({"tracking": null, "version": 5})).await.refused(409, "ORDER_STATUS_CONFLICT", "status");
    let delete = format!("{url}?version=5");
    api.call("DELETE", &delete, &[], None).await.refused(409, "ORDER_STATUS_CONFLICT", "status");
    assert_eq!(shop.reread(&order).await["version"], 5);
}

#[tokio::test]
async fn order_lines_are_listed_by_every_filter_and_by_page_and_cursor() {
    let shop = Shop::new().await;
    let api = &shop.api;
    // Lines 1 to 6, as pens of a quantity and books: two orders of Ada, and one of a guest a day later.
    let first = shop.place(json!([shop.pens(1), shop.books(2)])).await;
    shop.place(json!([shop.pens(3)])).await;
    api.clock.advance(Duration::from_secs(86_400));
    let guest = json!({"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com"});
    let body = json!({
        "customer": guest, "delivery_method": "on_hand", "lines": [shop.pens(4), shop.books(1), shop.pens(6)],
    });
    let third = api.write("POST", "/orders", body).await.ok(201).data();
    shop.bare(&first, "start").await.ok(200);
    golden("order_lines", &kept_private(api.get("/order-lines?per_page=2").await.ok(200)).json());

    let book = first["lines"][1]["product_id"].as_str().unwrap().to_owned();
    let (of_first, of_ada) = (format!("order_id={}", id(&first)), format!("customer_id={}", id(&shop.ada)));
    let (pens, books) = (format!("sku_id={}", shop.pen), format!("product_id={book}"));
    let nobody = format!("customer_id={NOBODY}");
    let both = format!("{pens}&{of_ada}&sort=placed_asc");
    let of_both = |query: &str| format!("{of_first}&{query}");
    for (query, expected) in [
        ("", &[6, 1, 4, 3, 2, 1][..]),
        ("sort=placed_asc", &[1, 2, 3, 4, 1, 6]),
        (&of_first, &[2, 1]),
        (&pens, &[6, 4, 3, 1]),
        (&books, &[1, 2]),
        (&of_ada, &[3, 2, 1]),
        (&both, &[1, 3]),
        (&nobody, &[]),
        ("status=in_progress", &[2, 1]),
        (&of_both("status=pending"), &[]),
        ("from=2025-06-16", &[6, 1, 4]),
        ("until=2025-06-16", &[3, 2, 1]),
        ("from=2025-06-15&until=2025-06-15", &[]),
        ("per_page=4&page=2", &[2, 1]),
        ("skip=1&limit=2", &[1, 4]),
    ] {
        let list = kept_private(api.get(&format!("/order-lines?{query}")).await.ok(200));
        let found: Vec<i64> = list.data().as_array().unwrap().iter().map(|l| l["quantity"].as_i64().unwrap()).collect();
        assert_eq!(found, expected, "{query}");
    }
    assert_eq!(api.get("/order-lines?per_page=4").await.ok(200).json()["meta"]["pagination"]["total"], 6);
    for sort in ["placed_desc", "placed_asc"] {
        let whole = column(&api.get(&format!("/order-lines?sort={sort}")).await.ok(200), "id");
        let (mut walked, mut next) = (Vec::new(), Some(format!("{API}/order-lines?sort={sort}&per_page=2&cursor=")));
        while let Some(url) = next {
            let list = kept_private(api.call("GET", &url, &[], None).await.ok(200));
            walked.extend(column(&list, "id"));
            next = list.json()["links"]["next"].as_str().map(str::to_owned);
        }
        assert_eq!(walked, whole, "{sort}");
    }
    // Removed lines are not shown, and those of deleted orders on demand.
    let line = id(&third["lines"][0]);
    let url = format!("{API}/orders/{}/lines/{line}?version=1", id(&third));
    api.call("DELETE", &url, &[], None).await.ok(200);
    assert_eq!(column(&api.get("/order-lines").await.ok(200), "id").len(), 5);
    api.call("DELETE", &format!("{API}/orders/{}?version=2", id(&third)), &[], None).await.ok(204);
    assert_eq!(column(&api.get("/order-lines").await.ok(200), "id").len(), 3);
    assert_eq!(column(&api.get("/order-lines?include_deleted=true").await.ok(200), "id").len(), 5);
    let picked = api.get("/order-lines?fields=title,total&numbers=true&limit=1").await.ok(200).data();
    assert_eq!(picked, json!([{"title": "Pen", "total": 6.0}]));
    for (query, status, field) in [
        ("sort=total", 400, "sort"),
        ("status=lost", 400, "status"),
        ("order_id=1", 400, "order_id"),
        ("sku_id=1", 400, "sku_id"),
        ("product_id=pen", 400, "product_id"),
        ("from=now", 400, "from"),
        ("from=2025-06-18&until=2025-06-17", 422, "from"),
        ("cursor=e30", 400, "cursor"),
        ("email=a@example.com", 400, "email"),
        ("fields=lines", 400, "fields"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        kept_private(api.get(&format!("/order-lines?{query}")).await.refused(status, code, field));
    }
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    assert_eq!(root["links"]["order_lines"], format!("{API}/order-lines"));
}

#[tokio::test]
async fn r02_a_deleted_order_is_canceled_and_hidden() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let order = shop.place(json!([shop.pens(2)])).await;
    let path = format!("/orders/{}", id(&order));
    let url = format!("{API}{path}");
    // A paid order gets a credit note.
    let bill = api.get(&format!("{path}/bill")).await.ok(200).data();
    api.write("PATCH", &format!("/bills/{}", id(&bill)), json!({"paid": true, "version": 1})).await.ok(200);
    api.call("DELETE", &url, &[], None).await.refused(428, "VERSION_REQUIRED", "version");
    api.call("DELETE", &format!("{url}?version=1"), &[], None).await.refused(409, "VERSION_CONFLICT", "version");
    kept_private(api.call("DELETE", &format!("{url}?version=2"), &[], None).await.ok(204));
    assert_eq!(shop.stock().await.0, 100);
    let bills = api.get(&format!("{path}/bills?include_deleted=true")).await.ok(200).data();
    let notes: Vec<&Value> = bills.as_array().unwrap().iter().filter(|b| b["kind"] == "credit_note").collect();
    assert_eq!(
        (notes.len(), &notes[0]["total"], &notes[0]["version"]),
        (1, &json!("4.00"), &json!(2)),
        "it was made, and hidden"
    );
    assert_eq!(notes[0]["number"], "BILL-2025-000002");
    for hidden in [
        path.clone(),
        format!("{path}/lines"),
        format!("{path}/history"),
        format!("{path}/bills"),
        format!("/orders/{}", order["number"].as_str().unwrap()),
    ] {
        kept_private(api.get(&hidden).await.refused(404, "NOT_FOUND", ""));
    }
    assert_eq!(api.get("/orders").await.ok(200).data(), json!([]));
    let shown = kept_private(api.get(&format!("{path}?include_deleted=true")).await.ok(200)).data();
    assert!(shown["deleted_at"].is_string());
    assert_eq!(shown["status"], "canceled");
    assert_eq!(api.get("/orders?include_deleted=true").await.ok(200).data(), json!([shown]));
    for step in ["cancel", "start"] {
        shop.bare(&order, step).await.refused(404, "NOT_FOUND", "");
    }
    shop.bare(&order, "restore").await.refused(428, "VERSION_REQUIRED", "version");
    let back = kept_private(shop.post(&order, "restore", json!({"version": 4})).await.ok(200)).data();
    assert_eq!((&back["status"], &back["deleted_at"]), (&json!("canceled"), &Value::Null));
    shop.post(&order, "restore", json!({"version": 5})).await.refused(409, "STATE_CONFLICT", "id");
    let kinds = column(&api.get(&format!("{path}/history")).await.ok(200), "kind");
    assert_eq!(kinds, ["placed", "billed", "canceled", "deleted", "restored"]);
}

#[tokio::test]
async fn orders_are_listed_by_every_filter_and_by_page_and_cursor() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let eve = api.customer("Eve", "Adams", "eve@example.com").await;
    let place = async |customer: &Value, method: &str, lines: Value| {
        api.clock.advance(Duration::from_secs(86_400));
        let mut body = json!({"customer_id": id(customer), "delivery_method": method, "lines": lines});
        if method == "home_delivery" {
            body["shipping_address"] = lane();
        }
        api.write("POST", "/orders", body).await.ok(201).data()
    };
    // Placed on 2025-06-16, -17, -18 and -19.
    let a = place(&shop.ada, "on_hand", json!([shop.pens(1)])).await;
    let b = place(&shop.ada, "drive_thru", json!([shop.pens(1), shop.books(1)])).await;
    let c = place(&eve, "home_delivery", json!([shop.books(1)])).await;
    let d = place(&eve, "on_hand", json!([shop.pens(1)])).await;
    shop.bare(&b, "start").await.ok(200);
    shop.bare(&c, "cancel").await.ok(200);
    let numbers = |of: &[&Value]| of.iter().map(|o| o["number"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (of_ada, of_eve) = (format!("customer_id={}", id(&shop.ada)), format!("customer_id={}", id(&eve)));
    let placed = c["placed_at"].as_str().unwrap();
    for (query, expected) in [
        (String::new(), numbers(&[&d, &c, &b, &a])),
        ("sort=placed_asc".to_owned(), numbers(&[&a, &b, &c, &d])),
        (of_ada.clone(), numbers(&[&b, &a])),
        (format!("{of_eve}&delivery_method=on_hand"), numbers(&[&d])),
        (format!("customer_id={NOBODY}"), numbers(&[])),
        ("email=EVE@example.com".to_owned(), numbers(&[&d, &c])),
        ("email=eve".to_owned(), numbers(&[])),
        ("status=pending".to_owned(), numbers(&[&d, &a])),
        ("status=in_progress".to_owned(), numbers(&[&b])),
        ("status=delivered".to_owned(), numbers(&[])),
        ("status=canceled".to_owned(), numbers(&[&c])),
        ("delivery_method=home_delivery".to_owned(), numbers(&[&c])),
        (format!("sku_id={}", shop.book), numbers(&[&c, &b])),
        (format!("sku_id={}&status=canceled", shop.book), numbers(&[&c])),
        (format!("sku_id={}&{of_ada}&sort=placed_asc", shop.pen), numbers(&[&a, &b])),
        ("from=2025-06-18".to_owned(), numbers(&[&d, &c])),
        ("until=2025-06-18".to_owned(), numbers(&[&b, &a])),
        (format!("from={placed}"), numbers(&[&d, &c])),
        (format!("until={placed}"), numbers(&[&b, &a])),
        ("from=2025-06-17T00:00:00%2B02:00&until=2025-06-19".to_owned(), numbers(&[&c, &b])),
        ("per_page=2".to_owned(), numbers(&[&d, &c])),
        ("per_page=2&page=2".to_owned(), numbers(&[&b, &a])),
        ("skip=1&limit=2".to_owned(), numbers(&[&c, &b])),
    ] {
        let list = kept_private(api.get(&format!("/orders?{query}")).await.ok(200));
        assert_eq!(column(&list, "number"), expected, "{query}");
        assert_eq!(list.data().as_array().unwrap().iter().filter(|o| o["lines"] == json!([])).count(), 0);
    }
    let page = api.get("/orders?per_page=3").await.ok(200);
    assert_eq!(page.json()["meta"]["pagination"]["total"], 4);
    for (path, query, total) in [
        ("/orders".to_owned(), "sort=placed_desc", 4),
        ("/orders".to_owned(), "sort=placed_asc", 4),
        ("/orders".to_owned(), "status=pending", 2),
        (format!("/customers/{}/orders", id(&eve)), "sort=placed_asc", 2),
        (format!("/customers/{}/orders", id(&eve)), "status=pending", 1),
    ] {
        let whole = column(&api.get(&format!("{path}?{query}")).await.ok(200), "number");
        assert_eq!(whole.len(), total, "{path} {query}");
        let (mut walked, mut next) = (Vec::new(), Some(format!("{API}{path}?{query}&per_page=1&cursor=")));
        while let Some(url) = next {
            let list = kept_private(api.call("GET", &url, &[], None).await.ok(200));
            walked.extend(column(&list, "number"));
            next = list.json()["links"]["next"].as_str().map(str::to_owned);
        }
        assert_eq!(walked, whole, "{path} {query}");
    }
    api.get(&format!("/customers/{NOBODY}/orders")).await.refused(404, "NOT_FOUND", "");
    for (query, status, field) in [
        ("sort=total", 400, "sort"),
        ("status=lost", 400, "status"),
        ("delivery_method=drone", 400, "delivery_method"),
        ("customer_id=ada", 400, "customer_id"),
        ("sku_id=PEN", 400, "sku_id"),
        ("email=", 422, "email"),
        ("from=yesterday", 400, "from"),
        ("until=2025-02-30", 400, "until"),
        ("from=2025-06-19&until=2025-06-18", 422, "from"),
        ("cursor=e30", 400, "cursor"),
        ("per_page=0", 422, "per_page"),
        ("total=1", 400, "total"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        kept_private(api.get(&format!("/orders?{query}")).await.refused(status, code, field));
    }
}

#[tokio::test]
async fn r17_an_order_that_is_refused_names_its_fields_and_changes_nothing() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let eve = api.customer("Eve", "Adams", "eve@example.com").await;
    let hers = api.address(&eve, lane()).await;
    // A deleted SKU, a product that is archived, and one that is a draft.
    let gone = api.product(json!({"title": "Gone", "price": 1, "stock": 5, "sku": "GONE"})).await;
    api.call("DELETE", &format!("{API}/products/{}?version=1", id(&gone)), &[], None).await.ok(204);
    let archived = json!({"title": "Old", "price": 1, "stock": 5, "sku": "OLD", "status": "archived"});
    let archived = api.product(archived).await;
    api.product(json!({"title": "New", "price": 1, "stock": 5, "sku": "NEW", "status": "draft"})).await;
    let order = shop.place(json!([shop.pens(1)])).await;
    let before = api.everything().await;

    let line = |field: &str, value: Value| {
        let mut line = shop.pens(1);
        line[field] = value;
        line
    };
    let guest = |field: &str, value: Value| {
        let mut guest = json!({"first_name": "Eve", "last_name": "Adams", "email": "eve@example.com"});
        guest[field] = value;
        json!({"customer": guest, "delivery_method": "on_hand"})
    };
    let of_ada = |fields: Value| {
        let mut body = shop.order();
        body["lines"] = json!([shop.pens(1)]);
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let with_line = |line: Value| of_ada(json!({"lines": [line]}));
    let home = |country: &str| json!({"street": "Lane", "city": "London", "country": country});
    let old = archived["skus"][0]["id"].clone();
    for (body, status, field, kind) in [
        (with_line(line("quantity", json!(0))), 422, "lines[0].quantity", "out_of_bounds"),
        (with_line(line("quantity", json!(-1))), 422, "lines[0].quantity", "out_of_bounds"),
        (with_line(line("quantity", json!(1_000_001))), 422, "lines[0].quantity", "out_of_bounds"),
        (with_line(line("quantity", json!("2"))), 400, "lines[0].quantity", "malformed"),
        (with_line(line("quantity", json!(1.5))), 400, "lines[0].quantity", "malformed"),
        (with_line(line("sku_id", json!(NOBODY))), 422, "lines[0].sku_id", "reference_not_found"),
        (with_line(line("sku_id", json!("PEN"))), 400, "lines[0].sku_id", "malformed"),
        (with_line(line("sku_id", gone["skus"][0]["id"].clone())), 422, "lines[0].sku_id", "reference_not_found"),
        (with_line(line("sku_id", old)), 422, "lines[0].sku_id", "not_for_sale"),
        (with_line(json!({"sku": "GONE", "quantity": 1, "unit_price": 1})), 422, "lines[0].sku", "reference_not_found"),
        (with_line(json!({"sku": "OLD", "quantity": 1, "unit_price": 1})), 422, "lines[0].sku", "not_for_sale"),
        (with_line(json!({"sku": "NEW", "quantity": 1, "unit_price": 1})), 422, "lines[0].sku", "not_for_sale"),
        (with_line(json!({"sku": "NONE", "quantity": 1, "unit_price": 1})), 422, "lines[0].sku", "reference_not_found"),
        (with_line(json!({"quantity": 1, "unit_price": 1})), 422, "lines[0].sku_id", "required"),
        (with_line(json!({"sku": "PEN", "quantity": 1})), 422, "lines[0].unit_price", "required"),
        (with_line(line("unit_price", json!("-2"))), 422, "lines[0].unit_price", "out_of_bounds"),
        (with_line(line("unit_price", json!("2.001"))), 422, "lines[0].unit_price", "out_of_bounds"),
        (with_line(line("colour", json!("red"))), 400, "lines[0].colour", "unknown"),
        (with_line(json!([null, "PEN", 1, "2.00", {}, null])), 400, "lines[0]", "malformed"),
        (
            of_ada(json!({"address_id": id(&hers), "delivery_method": "home_delivery"})),
            422,
            "address_id",
            "reference_not_found",
        ),
        (of_ada(json!({"address_id": NOBODY})), 422, "address_id", "reference_not_found"),
        (of_ada(json!({"delivery_method": "home_delivery"})), 422, "shipping_address", "required"),
        (of_ada(json!({"delivery_method": "drone"})), 400, "delivery_method", "malformed"),
        (of_ada(json!({"delivery_method": null})), 422, "delivery_method", "required"),
        (of_ada(json!({"shipping_address": home("XX")})), 422, "shipping_address.country", "out_of_bounds"),
        (of_ada(json!({"billing_address": {"city": "London"}})), 422, "billing_address.street", "required"),
        (of_ada(json!({"billing_address": ["Lane", "London"]})), 400, "billing_address", "malformed"),
        (of_ada(json!({"discount": "2.01"})), 422, "discount", "out_of_bounds"),
        (of_ada(json!({"discount": -1})), 422, "discount", "out_of_bounds"),
        (of_ada(json!({"lines": [], "discount": 1})), 422, "discount", "out_of_bounds"),
        (of_ada(json!({"payment_type": "gold"})), 400, "payment_type", "malformed"),
        (of_ada(json!({"tracking": ""})), 422, "tracking", "required"),
        (of_ada(json!({"bill_number": "bill 1"})), 422, "bill_number", "out_of_bounds"),
        (of_ada(json!({"source": "web"})), 422, "external_id", "required"),
        (of_ada(json!({"number": "ORD-1"})), 400, "number", "unknown"),
        (of_ada(json!({"total": 1})), 400, "total", "unknown"),
        (
            of_ada(json!({"extra_lines": [{"kind": "sku", "title": "x", "unit_price": 1}]})),
            422,
            "extra_lines[0].kind",
            "out_of_bounds",
        ),
        (of_ada(json!({"customer_id": NOBODY})), 422, "customer_id", "reference_not_found"),
        (of_ada(json!({"customer_id": null})), 422, "customer_id", "required"),
        (
            of_ada(json!({"customer": {"first_name": "E", "last_name": "A", "email": "e@example.com"}})),
            422,
            "customer",
            "inconsistent",
        ),
        (guest("email", json!("eve")), 422, "customer.email", "out_of_bounds"),
        (guest("telephone", json!("12345")), 422, "customer.telephone", "out_of_bounds"),
        (guest("first_name", json!("")), 422, "customer.first_name", "required"),
        (guest("password", json!("x")), 400, "customer.password", "unknown"),
    ] {
        let text = body.to_string();
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        let a = kept_private(api.write("POST", "/orders", body).await);
        assert_eq!(a.status.as_u16(), status, "{text}: {}", String::from_utf8_lossy(&a.bytes));
        let e = a.refused(status, code, field).json()["error"].clone();
        let of_field = e["details"].as_array().unwrap().iter().find(|d| d["field"] == field).unwrap().clone();
        assert_eq!(of_field["code"], kind, "{text}: {e}");
    }

    // A wrong price, with both prices, and what is missing besides.
    let body = of_ada(json!({"lines": [line("unit_price", json!("1.99")), shop.books(6)]}));
    let wrong =
        kept_private(api.write("POST", "/orders", body).await.refused(409, "PRICE_MISMATCH", "lines[0].unit_price"));
    let details = wrong.json()["error"]["details"].clone();
    let expected = json!([
        {"field": "lines[0].unit_price", "sku_id": shop.pen, "expected": "2.00", "found": "1.99"},
        {"sku_id": shop.book, "requested": 6, "available": 5},
    ]);
    assert_eq!(details, expected);
    // Every SKU that is short, with the demand of all lines.
    let body = of_ada(json!({"lines": [shop.books(3), shop.pens(101), shop.books(3)]}));
    let short = kept_private(api.write("POST", "/orders", body).await.refused(409, "INSUFFICIENT_STOCK", ""));
    let mut details = short.json()["error"]["details"].as_array().unwrap().clone();
    details.sort_by_key(|d| d["requested"].as_i64());
    let expected = json!([
        {"sku_id": shop.book, "requested": 6, "available": 5},
        {"sku_id": shop.pen, "requested": 101, "available": 99},
    ]);
    assert_eq!(json!(details), expected);

    // Too many lines, and far too many.
    for n in [501, 10_000] {
        let body = of_ada(json!({"lines": vec![shop.pens(1); n]}));
        api.write("POST", "/orders", body).await.refused(422, "VALIDATION_FAILED", "lines");
    }
    let body = of_ada(json!({"lines": vec![shop.pens(1); 30_000]}));
    api.write("POST", "/orders", body).await.refused(413, "PAYLOAD_TOO_LARGE", "body");

    // Edits of an order.
    let path = format!("/orders/{}", id(&order));
    let (lines, pen) = (format!("{path}/lines"), format!("{path}/lines/{}", id(&order["lines"][0])));
    let versioned = |mut body: Value| {
        body["version"] = json!(1);
        body
    };
    let edit = format!("{path}/edit");
    let change = |field: &str, value: Value| {
        let mut change = json!({"line_id": id(&order["lines"][0]), "quantity": 1});
        change[field] = value;
        json!({"change": [change]})
    };
    for (method, path, body, status, code, field) in [
        ("POST", &lines, line("quantity", json!(0)), 422, "VALIDATION_FAILED", "quantity"),
        ("POST", &lines, line("sku_id", json!(NOBODY)), 422, "VALIDATION_FAILED", "sku_id"),
        ("POST", &lines, json!({"sku": "OLD", "quantity": 1, "unit_price": 1}), 422, "VALIDATION_FAILED", "sku"),
        ("POST", &lines, line("unit_price", json!(1)), 409, "PRICE_MISMATCH", "unit_price"),
        ("POST", &lines, line("quantity", json!(100)), 409, "INSUFFICIENT_STOCK", ""),
        ("POST", &lines, line("attributes", json!([1])), 400, "BAD_REQUEST", "attributes"),
        ("POST", &lines, line("kind", json!("fee")), 400, "BAD_REQUEST", "kind"),
        ("POST", &lines, json!({"sku": "PEN", "unit_price": 2}), 422, "VALIDATION_FAILED", "quantity"),
        ("PATCH", &pen, json!({"quantity": 0}), 422, "VALIDATION_FAILED", "quantity"),
        ("PATCH", &pen, json!({"quantity": -1}), 422, "VALIDATION_FAILED", "quantity"),
        ("PATCH", &pen, json!({"quantity": 1_000_001}), 422, "VALIDATION_FAILED", "quantity"),
        ("PATCH", &pen, json!({"quantity": 101}), 409, "INSUFFICIENT_STOCK", ""),
        ("PATCH", &pen, json!({}), 422, "VALIDATION_FAILED", "quantity"),
        ("PATCH", &pen, json!({"unit_price": 1}), 400, "BAD_REQUEST", "unit_price"),
        ("PATCH", &format!("{lines}/{NOBODY}"), json!({"quantity": 1}), 404, "NOT_FOUND", ""),
        ("PATCH", &format!("{lines}/first"), json!({"quantity": 1}), 400, "BAD_REQUEST", "line_id"),
        ("PATCH", &format!("/orders/x/lines/{NOBODY}"), json!({"quantity": 1}), 400, "BAD_REQUEST", "id"),
        ("POST", &edit, change("quantity", json!(-1)), 422, "VALIDATION_FAILED", "change[0].quantity"),
        ("POST", &edit, change("line_id", json!(NOBODY)), 422, "VALIDATION_FAILED", "change[0].line_id"),
        ("POST", &edit, json!({"add": [line("sku_id", json!(NOBODY))]}), 422, "VALIDATION_FAILED", "add[0].sku_id"),
        ("POST", &edit, json!({"add": vec![shop.pens(1); 501]}), 422, "VALIDATION_FAILED", "add"),
        (
            "POST",
            &edit,
            json!({"add_extra": vec![json!({"kind": "fee", "title": "Wrap", "unit_price": 1}); 500]}),
            422,
            "VALIDATION_FAILED",
            "add_extra",
        ),
        ("POST", &edit, json!({"discount": "2.01"}), 422, "VALIDATION_FAILED", "discount"),
        ("POST", &edit, json!({}), 422, "VALIDATION_FAILED", "change"),
        ("POST", &edit, json!({"remove": []}), 400, "BAD_REQUEST", "remove"),
    ] {
        let text: String = body.to_string().chars().take(300).collect();
        let a = kept_private(api.write(method, path, versioned(body)).await);
        assert_eq!(a.status.as_u16(), status, "{method} {path} {text}: {}", String::from_utf8_lossy(&a.bytes));
        a.refused(status, code, field);
    }
    for (method, path, status, code, field) in [
        ("GET", format!("/orders/{NOBODY}"), 404, "NOT_FOUND", ""),
        ("GET", "/orders/ORD-2025-999999".to_owned(), 404, "NOT_FOUND", ""),
        ("GET", format!("/orders/{NOBODY}/lines"), 404, "NOT_FOUND", ""),
        ("GET", format!("{lines}/{NOBODY}"), 404, "NOT_FOUND", ""),
        ("GET", format!("/orders/{NOBODY}/history"), 404, "NOT_FOUND", ""),
        ("GET", format!("/orders/{NOBODY}/bill"), 404, "NOT_FOUND", ""),
        ("GET", format!("/orders/{NOBODY}/bills"), 404, "NOT_FOUND", ""),
        ("GET", "/orders/ORD-1/lines".to_owned(), 400, "BAD_REQUEST", "id"),
        ("GET", "/customers/ada/orders".to_owned(), 400, "BAD_REQUEST", "id"),
        ("POST", format!("/orders/{NOBODY}/cancel"), 404, "NOT_FOUND", ""),
        ("POST", format!("/orders/{NOBODY}/start"), 404, "NOT_FOUND", ""),
        ("POST", format!("/orders/{NOBODY}/restore?version=1"), 404, "NOT_FOUND", ""),
        ("DELETE", format!("/orders/{NOBODY}?version=1"), 404, "NOT_FOUND", ""),
        ("DELETE", format!("{pen}?version=1&force=true"), 400, "BAD_REQUEST", "force"),
    ] {
        kept_private(api.call(method, &format!("{API}{path}"), &[], None).await.refused(status, code, field));
    }
    assert_eq!(before, api.everything().await, "bad input left something behind");
}

#[tokio::test]
async fn only_those_who_may_give_discounts_and_choose_numbers() {
    let shop = Shop::new().await;
    let Shop { api, .. } = &shop;
    let as_who = |principal: Principal| {
        Router::new().merge(api.router.clone()).layer(from_fn(move |mut request: Request, next: Next| {
            request.extensions_mut().insert(principal.clone());
            next.run(request)
        }))
    };
    let clerk = Principal::new("user:1", [Permission::OrdersWrite, Permission::OrdersRead]);
    let clerk = Api { router: as_who(clerk), shop: api.shop.clone(), clock: api.clock.clone() };
    let mut body = shop.order();
    body["lines"] = json!([shop.pens(1)]);
    let order = clerk.write("POST", "/orders", body.clone()).await.ok(201).data();
    assert_eq!(order["created_by"], "user:1");
    for (field, value) in [
        ("discount", json!(1)),
        ("discount", json!(0)),
        ("extra_lines", json!([{"kind": "fee", "title": "Wrap", "unit_price": 1}])),
        ("bill_number", json!("A-1")),
        ("paid", json!(true)),
        ("lines", json!([{"sku": "PEN", "quantity": 1, "price_override": 1}])),
    ] {
        let mut body = body.clone();
        body[field] = value;
        clerk.write("POST", "/orders", body).await.refused(403, "FORBIDDEN", "");
    }
    let path = format!("/orders/{}", id(&order));
    clerk.write("POST", &format!("{path}/edit"), json!({"discount": 1, "version": 1})).await.refused(
        403,
        "FORBIDDEN",
        "",
    );
    let line = json!({"sku": "PEN", "quantity": 1, "price_override": 1, "version": 1});
    clerk.write("POST", &format!("{path}/lines"), line).await.refused(403, "FORBIDDEN", "");
    for path in [
        "/bills".to_owned(),
        format!("{path}/bill"),
        format!("{path}/bills"),
        "/bills/BILL-2025-000001".to_owned(),
        format!("{path}?include_deleted=true"),
        format!("/customers/{}/orders", id(&shop.ada)),
    ] {
        kept_private(clerk.get(&path).await.refused(403, "FORBIDDEN", ""));
    }
    let nobody = Api { router: as_who(Principal::new("guest", [])), shop: api.shop.clone(), clock: api.clock.clone() };
    for path in ["/orders".to_owned(), path.clone(), format!("{path}/lines"), format!("{path}/history")] {
        nobody.get(&path).await.refused(403, "FORBIDDEN", "");
    }
    nobody.write("POST", "/orders", body.clone()).await.refused(403, "FORBIDDEN", "");
    // By default, a request without a principal is not that of staff.
    let plain = router(api.shop.clone(), HttpConfig::default());
    let plain = Api { router: plain, shop: api.shop.clone(), clock: api.clock.clone() };
    for (field, value) in [("discount", json!(1)), ("bill_number", json!("A-1")), ("paid", json!(true))] {
        let mut body = body.clone();
        body[field] = value;
        plain.write("POST", "/orders", body).await.refused(401, "UNAUTHENTICATED", "");
    }
    let bill = api.get("/bills").await.ok(200).data()[0].clone();
    let paid = json!({"paid": true, "version": 1});
    plain.write("PATCH", &format!("/bills/{}", id(&bill)), paid).await.refused(401, "UNAUTHENTICATED", "");
    // A trusted caller may.
    body["lines"] = json!([{"sku": "PEN", "quantity": 1, "price_override": "1.25"}]);
    body["bill_number"] = json!("A-1");
    body["paid"] = json!(true);
    let order = api.write("POST", "/orders", body.clone()).await.ok(201).data();
    assert_eq!(order["lines"][0]["unit_price"], "1.25");
    assert_eq!(order["lines"][0]["list_price"], "2.00");
    let bill = api.get("/bills/A-1").await.ok(200).data();
    assert_eq!((&bill["order_id"], &bill["status"]), (&order["id"], &json!("paid")));
    api.write("POST", "/orders", body).await.refused(409, "DUPLICATE", "bill_number");
}
