//! Bills and credit notes: documents, payment, lists, and bad input.

use serde_json::{Value, json};

use crate::order::{Shop, amounts};
use crate::support::{API, column, golden, id, kept_private};

const NOBODY: &str = "019ab000-0000-7000-8000-000000000000";

fn pens(shop: &Shop, quantity: i64) -> Value {
    json!([{"sku_id": shop.pen, "quantity": quantity, "unit_price": 2}])
}

#[tokio::test]
async fn a_bill_reads_as_its_golden_document() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let order = shop.place(pens(&shop, 3)).await;
    let of_order = format!("/orders/{}/bill", id(&order));
    let newest = kept_private(api.get(&of_order).await.ok(200));
    let bill = newest.data();
    let path = format!("/bills/{}", id(&bill));
    let read = kept_private(api.get(&path).await.ok(200));
    golden("bill", &read.json());
    assert_eq!(read.json(), newest.json());
    assert_eq!(read.header("etag"), format!("\"1.1-{}\"", id(&bill).replace('-', "")));
    let by_number = api.get(&format!("/bills/{}", bill["number"].as_str().unwrap())).await.ok(200);
    assert_eq!((by_number.json(), by_number.header("etag")), (read.json(), read.header("etag")));
    for path in [&path, &of_order] {
        let known = [("if-none-match", read.header("etag"))];
        kept_private(api.call("GET", &format!("{API}{path}"), &known, None).await.ok(304));
    }
    let names: Vec<&str> = bill.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(api.get(&format!("{path}?fields={}", names.join(","))).await.ok(200).data(), bill);
    let numbers = api.get(&format!("{path}?numbers=true")).await.ok(200);
    assert!(String::from_utf8_lossy(&numbers.bytes).contains("\"total\":6.00,"), "{numbers:?}");
    assert_eq!(shop.bills(&order).await, [bill]);
}

#[tokio::test]
async fn r39_a_bill_is_edited_until_it_is_paid() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let order = shop.place(pens(&shop, 3)).await;
    let bill = api.get(&format!("/orders/{}/bill", id(&order))).await.ok(200).data();
    let path = format!("/bills/{}", id(&bill));
    let patch = async |body: Value| kept_private(api.write("PATCH", &path, body).await);
    patch(json!({"payment_type": "card"})).await.refused(428, "VERSION_REQUIRED", "version");
    let changed = patch(json!({"payment_type": "card", "discount": "0.60", "version": 1})).await.ok(200);
    assert!(changed.header("etag").starts_with("\"2.2-"));
    assert_eq!((amounts(&changed.data()), &changed.data()["payment_type"]), (["6.00", "0.60", "5.40"], &json!("card")));
    let order = shop.reread(&order).await;
    assert_eq!((amounts(&order), &order["version"]), (["6.00", "0.60", "5.40"], &json!(2)));
    assert_eq!(order["lines"][0]["discount"], "0.60");

    let before = api.everything().await;
    let url = format!("{API}{path}");
    let stale = [("if-match", "\"1\"")];
    api.call("PATCH", &url, &stale, Some("{\"paid\": true}")).await.refused(412, "VERSION_CONFLICT", "version");
    for (body, status, code, field) in [
        (json!({"discount": "6.01", "version": 2}), 422, "VALIDATION_FAILED", "discount"),
        (json!({"discount": "-1", "version": 2}), 422, "VALIDATION_FAILED", "discount"),
        (json!({"discount": "0.001", "version": 2}), 422, "VALIDATION_FAILED", "discount"),
        (json!({"payment_type": null, "version": 2}), 422, "VALIDATION_FAILED", "payment_type"),
        (json!({"payment_type": "gold", "version": 2}), 400, "BAD_REQUEST", "payment_type"),
        (json!({"paid": "yes", "version": 2}), 400, "BAD_REQUEST", "paid"),
        (json!({"total": 1, "version": 2}), 400, "BAD_REQUEST", "total"),
        (json!({"paid": true, "version": 1}), 409, "VERSION_CONFLICT", "version"),
    ] {
        patch(body).await.refused(status, code, field);
    }
    assert_eq!(before, api.everything().await);
    assert_eq!(patch(json!({"paid": false, "version": 2})).await.ok(200).data()["version"], 2);

    let paid = patch(json!({"paid": true, "version": 2})).await.ok(200).data();
    assert_eq!((&paid["status"], &paid["version"]), (&json!("paid"), &json!(3)));
    assert_eq!(patch(json!({"paid": true, "version": 3})).await.ok(200).data()["version"], 3);
    patch(json!({"paid": false, "version": 3})).await.refused(422, "VALIDATION_FAILED", "paid");
    for (field, body) in [
        ("discount", json!({"discount": null, "version": 3})),
        ("payment_type", json!({"payment_type": "cash", "version": 3})),
    ] {
        let frozen = patch(body).await.refused(409, "BILL_FROZEN", field);
        assert_eq!(frozen.json()["error"]["details"][0]["bill"], bill["id"]);
    }
    // Further lines go on a bill of their own, which is the newest one.
    let line = json!({"sku_id": shop.pen, "quantity": 1, "unit_price": 2, "version": 3});
    shop.post(&order, "lines", line).await.ok(201);
    let newest = api.get(&format!("/orders/{}/bill", id(&order))).await.ok(200).data();
    assert_eq!((&newest["seq"], &newest["total"], &newest["status"]), (&json!(2), &json!("2.00"), &json!("open")));
    // Canceling credits what was paid, and voids what was not.
    shop.bare(&order, "cancel").await.ok(200);
    let bills = shop.bills(&order).await;
    let of = |name: &str| bills.iter().map(|b| b[name].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((of("kind"), of("status")), (vec!["bill", "bill", "credit_note"], vec!["paid", "void", "open"]));
    assert_eq!((of("total"), &bills[2]["corrects"]), (vec!["5.40", "2.00", "5.40"], &bill["id"]));
    let void = format!("/bills/{}", id(&bills[1]));
    let body = json!({"paid": true, "version": bills[1]["version"]});
    api.write("PATCH", &void, body).await.refused(409, "BILL_FROZEN", "paid");
    api.call("DELETE", &url, &[], None).await.refused(405, "METHOD_NOT_ALLOWED", "");
}

#[tokio::test]
async fn r02_the_bills_of_a_deleted_order_are_shown_on_demand() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let order = shop.place(pens(&shop, 2)).await;
    let bill = shop.bills(&order).await.remove(0);
    assert_eq!(bill["deleted_at"], Value::Null);
    let path = format!("/bills/{}", id(&bill));
    api.call("DELETE", &format!("{API}/orders/{}?version=1", id(&order)), &[], None).await.ok(204);
    let number = format!("/bills/{}", bill["number"].as_str().unwrap());
    let of_order = ["bill", "bills"].map(|part| format!("/orders/{}/{part}", id(&order)));
    for path in [&path, &number, &of_order[0], &of_order[1]] {
        kept_private(api.get(path).await.refused(404, "NOT_FOUND", ""));
        let shown = kept_private(api.get(&format!("{path}?include_deleted=true")).await.ok(200)).data();
        let shown = if shown.is_array() { shown[0].clone() } else { shown };
        assert_eq!((&shown["id"], &shown["status"]), (&bill["id"], &json!("void")), "{path}");
        assert!(shown["deleted_at"].is_string(), "{path}: {shown}");
    }
    let body = json!({"payment_type": "card", "version": 3});
    api.write("PATCH", &path, body).await.refused(404, "NOT_FOUND", "");
    assert_eq!(column(&api.get("/bills").await.ok(200), "id"), [""; 0]);
    assert_eq!(column(&api.get("/bills?include_deleted=true").await.ok(200), "id"), [id(&bill)]);
}

#[tokio::test]
async fn bills_are_listed_by_every_filter_and_by_page_and_cursor() {
    let shop = Shop::new().await;
    let api = &shop.api;
    let day = std::time::Duration::from_secs(86_400);
    // BILL-…1 of 2025-06-16, …2 of -17, …3 of -18, and the credit note …4 of -18.
    let mut orders = Vec::new();
    for n in 1..=3 {
        api.clock.advance(day);
        orders.push(shop.place(pens(&shop, n)).await);
    }
    let paid = api.get(&format!("/orders/{}/bill", id(&orders[1]))).await.ok(200).data();
    api.write("PATCH", &format!("/bills/{}", id(&paid)), json!({"paid": true, "version": 1})).await.ok(200);
    let line = id(&orders[2]["lines"][0]);
    let units = json!({"lines": [{"line_id": line, "quantity": 1}], "version": 1});
    api.clock.advance(std::time::Duration::from_secs(1));
    shop.post(&orders[2], "cancel", units).await.ok(200);
    shop.bare(&orders[0], "cancel").await.ok(200);
    let of_third = format!("order_id={}", id(&orders[2]));
    let bills = format!("{of_third}&kind=bill");
    let nobody = format!("order_id={NOBODY}");
    for (query, expected) in [
        ("", &[4, 3, 2, 1][..]),
        ("sort=date_asc", &[1, 2, 3, 4]),
        ("kind=bill", &[3, 2, 1]),
        ("kind=credit_note", &[4]),
        ("status=open", &[4, 3]),
        ("status=paid", &[2]),
        ("status=void", &[1]),
        (&of_third, &[4, 3]),
        (&bills, &[3]),
        (&nobody, &[]),
        ("from=2025-06-18", &[4, 3]),
        ("until=2025-06-17", &[1]),
        ("from=2025-06-17&until=2025-06-18T00:00:00Z&status=paid", &[2]),
        ("per_page=3&page=2", &[1]),
        ("skip=1&limit=2", &[3, 2]),
    ] {
        let list = kept_private(api.get(&format!("/bills?{query}")).await.ok(200));
        let expected: Vec<String> = expected.iter().map(|n| format!("BILL-2025-{n:06}")).collect();
        assert_eq!(column(&list, "number"), expected, "{query}");
    }
    assert_eq!(api.get("/bills?per_page=3").await.ok(200).json()["meta"]["pagination"]["total"], 4);
    for sort in ["date_desc", "date_asc"] {
        let whole = column(&api.get(&format!("/bills?sort={sort}")).await.ok(200), "number");
        let (mut walked, mut next) = (Vec::new(), Some(format!("{API}/bills?sort={sort}&per_page=1&cursor=")));
        while let Some(url) = next {
            let list = kept_private(api.call("GET", &url, &[], None).await.ok(200));
            walked.extend(column(&list, "number"));
            next = list.json()["links"]["next"].as_str().map(str::to_owned);
        }
        assert_eq!(walked, whole, "{sort}");
    }
    for (path, status, field) in [
        ("/bills?sort=total", 400, "sort"),
        ("/bills?kind=invoice", 400, "kind"),
        ("/bills?status=lost", 400, "status"),
        ("/bills?order_id=1", 400, "order_id"),
        ("/bills?from=now", 400, "from"),
        ("/bills?from=2025-06-18&until=2025-06-17", 422, "from"),
        ("/bills?cursor=e30", 400, "cursor"),
        ("/bills?customer_id=1", 400, "customer_id"),
        ("/bills?fields=lines", 400, "fields"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        kept_private(api.get(path).await.refused(status, code, field));
    }
    for path in [format!("/bills/{NOBODY}"), "/bills/BILL-2025-999999".to_owned()] {
        kept_private(api.get(&path).await.refused(404, "NOT_FOUND", ""));
    }
    api.write("PATCH", "/bills/BILL-2025-000001", json!({"version": 1})).await.refused(400, "BAD_REQUEST", "id");
    api.write("PATCH", &format!("/bills/{NOBODY}"), json!({"version": 1})).await.refused(404, "NOT_FOUND", "");
}
