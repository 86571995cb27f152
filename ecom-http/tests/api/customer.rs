//! Customers and their addresses: documents, versions, soft deletion, lists, and bad input.

use serde_json::{Value, json};

use crate::support::{API, Answer, Api, column, golden, id, kept_private};

const NOBODY: &str = "019ab000-0000-7000-8000-000000000000";

fn ada() -> Value {
    json!({"first_name": "Ada", "last_name": "Lovelace", "email": "Ada@Example.com", "telephone": "+44 (20) 7946-0018"})
}

fn lane() -> Value {
    json!({"street": "Ockham Lane", "number": "12a", "city": "London", "postal_code": "SW1Y 4LB", "country": "gb"})
}

impl Api {
    /// Returns all customers and addresses, including soft-deleted ones.
    async fn people(&self) -> (Value, Value) {
        let all =
            async |path: &str| self.get(&format!("{path}?include_deleted=true&per_page=100")).await.ok(200).json();
        (all("/customers").await, all("/addresses").await)
    }
}

#[tokio::test]
async fn a_customer_and_an_address_read_as_their_golden_documents() {
    let api = Api::new().await;
    let mut body = ada();
    body["attributes"] = json!({"newsletter": true});
    body["source"] = json!("crm");
    body["external_id"] = json!("7");
    let made = kept_private(api.write("POST", "/customers", body).await.ok(201));
    let c = made.data();
    assert_eq!(made.header("location"), format!("{API}/customers/{}", id(&c)));
    assert_eq!(made.header("etag"), format!("\"1.1-{}\"", id(&c).replace('-', "")));
    let path = format!("/customers/{}/addresses", id(&c));
    let added = kept_private(api.write("POST", &path, lane()).await.ok(201));
    let a = added.data();
    assert_eq!(added.header("location"), format!("{API}/addresses/{}", id(&a)));
    assert_eq!(added.header("etag"), format!("\"1.1-{}\"", id(&a).replace('-', "")));
    let customer = kept_private(api.get(&format!("/customers/{}", id(&c))).await.ok(200));
    let address = kept_private(api.get(&format!("/addresses/{}", id(&a))).await.ok(200));
    golden("customer", &json!({"customer": customer.json(), "address": address.json()}));
    assert_eq!((customer.data(), address.data()), (c, a));
    // The root document links both collections.
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    for name in ["customers", "addresses"] {
        let link = root["links"][name].as_str().unwrap();
        assert_eq!(link, format!("{API}/{name}"));
        kept_private(api.call("GET", link, &[], None).await.ok(200));
    }
}

#[tokio::test]
async fn r45_a_customer_is_erased_with_its_orders() {
    use ecom_core::access::{Permission, Principal};

    let api = Api::new().await;
    let mut body = ada();
    body["source"] = json!("crm");
    body["external_id"] = json!("7");
    let c = api.write("POST", "/customers", body).await.ok(201).data();
    api.address(&c, lane()).await;
    let path = format!("/customers/{}", id(&c));
    let order = json!({"customer_id": id(&c), "delivery_method": "home_delivery", "shipping_address": lane()});
    let order = api.write("POST", "/orders", order).await.ok(201).data();
    let url = format!("{API}{path}/erase");
    let erase = async || kept_private(api.call("POST", &url, &[], None).await.ok(200));
    api.write("POST", &format!("{path}/erase"), json!({"version": 1})).await.refused(400, "BAD_REQUEST", "version");
    let unknown = format!("{API}/customers/{NOBODY}/erase");
    api.call("POST", &unknown, &[], None).await.refused(404, "NOT_FOUND", "");

    let erased = erase().await;
    assert_eq!(erased.header("etag"), format!("\"2.2-{}\"", id(&c).replace('-', "")));
    let data = erased.data();
    let fields = ["first_name", "last_name", "email", "telephone", "source", "external_id", "version"];
    let email = format!("{}@erased.invalid", id(&c));
    let expected = [json!("erased"), json!("erased"), json!(email), Value::Null, Value::Null, Value::Null, json!(2)];
    assert_eq!(fields.map(|name| data[name].clone()), expected);
    assert!(data["erased_at"].is_string() && data["deleted_at"] == data["erased_at"], "{data}");
    assert_eq!(erase().await.json(), erased.json(), "a repetition changes nothing");
    api.get(&path).await.refused(404, "NOT_FOUND", "");
    assert_eq!(api.get(&format!("{path}?include_deleted=true")).await.ok(200).json(), erased.json());
    api.write("POST", &format!("{path}/restore"), json!({"version": 2})).await.refused(409, "STATE_CONFLICT", "id");
    assert_eq!(api.people().await.1["data"], json!([]));

    let shown = api.get(&format!("/orders/{}", id(&order))).await.ok(200).data();
    let nobody = json!({"first_name": null, "last_name": null, "email": null, "telephone": null});
    assert_eq!((&shown["customer"], &shown["shipping_address"]), (&nobody, &Value::Null));
    assert_eq!((&shown["number"], &shown["total"], &shown["version"]), (&order["number"], &order["total"], &json!(2)));
    assert_eq!(shown["erased_at"], data["erased_at"]);
    let patch = json!({"tracking": "1Z", "version": 2});
    api.write("PATCH", &format!("/orders/{}", id(&order)), patch).await.refused(409, "STATE_CONFLICT", "id");

    let clerk = Principal::new("clerk", Permission::ALL.iter().copied().filter(|p| *p != Permission::CustomersErase));
    let api = Api::with(ecom_http::HttpConfig::default().anonymous(clerk)).await;
    let c = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let url = format!("{API}/customers/{}/erase", id(&c));
    let refused = api.call("POST", &url, &[], None).await.refused(403, "FORBIDDEN", "");
    assert!(String::from_utf8_lossy(&refused.bytes).contains("customers:erase"));
}

#[tokio::test]
async fn every_field_can_be_picked_and_each_choice_has_a_tag() {
    let api = Api::new().await;
    let c = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let a = api.address(&c, lane()).await;
    for (collection, document) in [("customers", &c), ("addresses", &a)] {
        let path = format!("/{collection}/{}", id(document));
        let names: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        let picked = api.get(&format!("{path}?fields={}", names.join(","))).await.ok(200);
        assert_eq!(picked.data(), *document);
        let some = kept_private(api.get(&format!("{path}?fields=id")).await.ok(200));
        assert_eq!(some.data(), json!({"id": document["id"]}));
        assert_ne!(some.header("etag"), picked.header("etag"));
        let rows = kept_private(api.get(&format!("/{collection}?fields=id")).await.ok(200));
        assert_eq!(rows.data(), json!([{"id": document["id"]}]));
        for bad in [format!("{path}?fields=id,password"), format!("/{collection}?fields=password")] {
            api.get(&bad).await.refused(400, "BAD_REQUEST", "fields");
        }

        // `If-None-Match` also accepts the weak tag of a compressed document.
        let url = format!("{API}{path}");
        for query in ["", "?fields=id"] {
            let url = format!("{url}{query}");
            let tag = api.call("GET", &url, &[], None).await.ok(200).header("etag").to_owned();
            for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
                let same = kept_private(api.call("GET", &url, &[("if-none-match", &known)], None).await.ok(304));
                assert_eq!((same.header("etag"), same.bytes.len()), (tag.as_str(), 0));
            }
        }
        let zipped = api.call("GET", &url, &[("accept-encoding", "gzip")], None).await.ok(200);
        assert!(zipped.header("etag").starts_with("W/\""), "{zipped:?}");
    }
}

#[tokio::test]
async fn r01_writes_name_the_version_that_they_read() {
    let api = Api::new().await;
    let c = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let a = api.address(&c, lane()).await;
    for (path, change, put) in [
        (format!("/customers/{}", id(&c)), json!({"first_name": "Augusta"}), ada()),
        (format!("/addresses/{}", id(&a)), json!({"city": "Paris"}), lane()),
    ] {
        let url = format!("{API}{path}");
        let first = api.get(&path).await.ok(200).header("etag").to_owned();
        let patch = async |tag: &str| api.call("PATCH", &url, &[("if-match", tag)], Some(&change.to_string())).await;
        let changed = kept_private(patch(&first).await.ok(200));
        assert_eq!(changed.data()["version"], 2);
        assert!(changed.header("etag").starts_with("\"2.2-"), "{changed:?}");
        api.call("GET", &url, &[("if-none-match", &first)], None).await.ok(200);
        // The version is outdated (in the header and in the body), belongs to another document, or is missing.
        patch(&first).await.refused(412, "VERSION_CONFLICT", "version");
        patch(&format!("\"2.2-{}\"", NOBODY.replace('-', ""))).await.refused(412, "VERSION_CONFLICT", "If-Match");
        patch("2").await.refused(400, "BAD_REQUEST", "If-Match");
        let with = |body: &Value, version: i64| {
            let mut body = body.clone();
            body["version"] = json!(version);
            body
        };
        for (method, body) in [("PATCH", &change), ("PUT", &put)] {
            api.write(method, &path, with(body, 1)).await.refused(409, "VERSION_CONFLICT", "version");
            api.write(method, &path, body.clone()).await.refused(428, "VERSION_REQUIRED", "version");
        }
        api.call("DELETE", &url, &[], None).await.refused(428, "VERSION_REQUIRED", "version");
        api.call("DELETE", &format!("{url}?version=1"), &[], None).await.refused(409, "VERSION_CONFLICT", "version");
        api.call("DELETE", &url, &[("if-match", &first)], None).await.refused(412, "VERSION_CONFLICT", "version");
        // A patch that changes nothing does not increase the version.
        assert_eq!(api.write("PATCH", &path, with(&json!({}), 2)).await.ok(200).data()["version"], 2);
        let replaced = kept_private(api.write("PUT", &path, with(&put, 2)).await.ok(200));
        assert_eq!(replaced.data()["version"], 3);
        kept_private(api.call("DELETE", &format!("{url}?version=3"), &[], None).await.ok(204));
        kept_private(api.get(&path).await.refused(404, "NOT_FOUND", ""));
        if path.starts_with("/customers") {
            let restore = format!("{path}/restore");
            api.write("POST", &restore, json!({"version": 1})).await.refused(409, "VERSION_CONFLICT", "version");
            api.call("POST", &format!("{API}{restore}"), &[], None).await.refused(428, "VERSION_REQUIRED", "version");
            let other = format!("{restore}?version=9");
            api.write("POST", &other, json!({"version": 4})).await.refused(422, "VALIDATION_FAILED", "version");
            let back = kept_private(api.write("POST", &restore, json!({"version": 4})).await.ok(200));
            assert_eq!(back.data()["version"], 5);
            api.write("POST", &restore, json!({"version": 5})).await.refused(409, "STATE_CONFLICT", "id");
        }
    }
    // The address was removed permanently, so a read that includes soft-deleted rows does not find it either.
    api.get(&format!("/addresses/{}?include_deleted=true", id(&a))).await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn a_patch_merges_and_a_put_clears() {
    let api = Api::new().await;
    let mut body = ada();
    body["attributes"] = json!({"a": 1, "b": 2});
    body["source"] = json!("crm");
    body["external_id"] = json!("7");
    let c = api.write("POST", "/customers", body).await.ok(201).data();
    let path = format!("/customers/{}", id(&c));
    let patch = json!({"attributes": {"a": null, "c": 3}, "telephone": null, "version": 1});
    let c = api.write("PATCH", &path, patch).await.ok(200).data();
    assert_eq!(c["attributes"], json!({"b": 2, "c": 3}));
    assert_eq!((&c["telephone"], &c["email"]), (&json!(null), &json!("Ada@Example.com")));
    api.write("PATCH", &path, json!({"email": null, "version": 2})).await.refused(422, "VALIDATION_FAILED", "email");
    // A customer can change the case of its own email: this is an edit and not a duplicate.
    let put = json!({"first_name": "A", "last_name": "L", "email": "ada@example.com", "version": 2});
    let c = api.write("PUT", &path, put).await.ok(200).data();
    assert_eq!((&c["attributes"], &c["email"]), (&json!({}), &json!("ada@example.com")));
    assert_eq!((&c["source"], &c["external_id"]), (&json!("crm"), &json!("7")));

    let a = api.address(&c, lane()).await;
    assert_eq!((a["country"].as_str(), &a["customer_id"]), (Some("GB"), &c["id"]));
    let path = format!("/addresses/{}", id(&a));
    let a = api.write("PATCH", &path, json!({"number": null, "country": "fr", "version": 1})).await.ok(200).data();
    assert_eq!((&a["number"], &a["country"], &a["city"]), (&json!(null), &json!("FR"), &json!("London")));
    let put = json!({"street": "Rue de Rivoli", "city": "Paris", "version": 2});
    let a = api.write("PUT", &path, put).await.ok(200).data();
    assert_eq!((&a["postal_code"], &a["country"], &a["customer_id"]), (&json!(null), &json!(null), &c["id"]));
}

#[tokio::test]
async fn r02_addresses_hide_and_return_with_their_customer() {
    let api = Api::new().await;
    let c = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let a = api.address(&c, lane()).await;
    let (customer, address) = (format!("/customers/{}", id(&c)), format!("/addresses/{}", id(&a)));
    let own = format!("{customer}/addresses");
    let tags = async |path: &str| api.get(path).await.ok(200).header("etag").to_owned();
    let operators = format!("{address}?include_deleted=true");
    let live = tags(&operators).await;
    api.call("DELETE", &format!("{API}{customer}?version=1"), &[], None).await.ok(204);
    // The document of the address shows the deletion, so its entity tag changes, although its version does not.
    let hidden = tags(&operators).await;
    assert_ne!(hidden, live);
    for path in [&customer, &address, &own] {
        kept_private(api.get(path).await.refused(404, "NOT_FOUND", ""));
        kept_private(api.get(&format!("{path}?include_deleted=true")).await.ok(200));
    }
    assert_eq!(api.get("/addresses").await.ok(200).data(), json!([]));
    assert_eq!(api.get("/customers").await.ok(200).data(), json!([]));
    let listed = api.get("/addresses?include_deleted=true").await.ok(200).data();
    assert_eq!(listed[0]["id"], a["id"]);
    assert!(listed[0]["deleted_at"].is_string(), "{listed}");
    // A soft-deleted customer cannot get new addresses, and its addresses cannot be edited.
    api.write("POST", &own, lane()).await.refused(404, "NOT_FOUND", "");
    api.write("PATCH", &address, json!({"city": "Paris", "version": 1})).await.refused(404, "NOT_FOUND", "");
    api.get(&format!("/addresses?customer_id={}", id(&c))).await.refused(422, "VALIDATION_FAILED", "customer_id");

    // Another customer can use the email in the meantime, and the restore is refused while it does.
    let other = api.customer("Other", "Ada", "ADA@example.com").await;
    let restore = format!("{customer}/restore?version=2");
    api.write("POST", &restore, json!({})).await.refused(409, "DUPLICATE", "email");
    api.call("DELETE", &format!("{API}/customers/{}?version=1&force=true", id(&other)), &[], None).await.ok(204);
    kept_private(api.write("POST", &restore, json!({})).await.ok(200));
    let shown = api.get(&address).await.ok(200).data();
    assert_eq!((&shown["id"], &shown["deleted_at"]), (&a["id"], &json!(null)));
    let url = format!("{API}{operators}");
    api.call("GET", &url, &[("if-none-match", &hidden)], None).await.ok(200);
    api.call("GET", &url, &[("if-none-match", &live)], None).await.ok(304);
    assert_eq!(api.get(&own).await.ok(200).data(), json!([shown]));

    // A force delete also removes the addresses of the customer.
    api.call("DELETE", &format!("{API}{customer}?version=3&force=true"), &[], None).await.ok(204);
    for path in [customer, address, own] {
        api.get(&format!("{path}?include_deleted=true")).await.refused(404, "NOT_FOUND", "");
    }
    let (customers, addresses) = api.people().await;
    assert_eq!((&customers["data"], &addresses["data"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn customers_are_listed_by_name_email_page_and_cursor() {
    let api = Api::new().await;
    for (first, last, email) in [
        ("Ada", "Lovelace", "ada@example.com"),
        ("Grace", "Hopper", "grace@example.com"),
        ("Alan", "Turing", "alan@example.com"),
        ("Adele", "Goldberg", "adele@example.com"),
    ] {
        api.customer(first, last, email).await;
    }
    for (query, expected) in [
        ("", &["Adele", "Alan", "Grace", "Ada"][..]),
        ("sort=created_asc", &["Ada", "Grace", "Alan", "Adele"]),
        ("sort=name_asc", &["Adele", "Grace", "Ada", "Alan"]),
        ("name=AD&sort=created_asc", &["Ada", "Adele"]),
        ("name=hop", &["Grace"]),
        ("name=ada%20love", &["Ada"]),
        ("name=lovelace%20a", &["Ada"]),
        ("name=none", &[]),
        ("email=GRACE@EXAMPLE.COM", &["Grace"]),
        ("email=grace", &[]),
        ("email=grace@example.com&name=ada", &[]),
        ("per_page=2", &["Adele", "Alan"]),
        ("per_page=2&page=2", &["Grace", "Ada"]),
        ("skip=1&limit=2", &["Alan", "Grace"]),
    ] {
        let list = kept_private(api.get(&format!("/customers?{query}")).await.ok(200));
        assert_eq!(column(&list, "first_name"), expected, "{query}");
    }
    let page = api.get("/customers?per_page=3").await.ok(200);
    assert_eq!(page.json()["meta"]["pagination"]["total"], 4);
    assert!(page.header("link").contains("rel=\"next\""), "{page:?}");
    // In every sort, the pages by cursor contain each row once.
    for sort in ["created_desc", "created_asc", "name_asc"] {
        let whole = column(&api.get(&format!("/customers?sort={sort}")).await.ok(200), "email");
        let (mut walked, mut next) = (Vec::new(), Some(format!("{API}/customers?sort={sort}&per_page=1&cursor=")));
        while let Some(url) = next {
            let list = kept_private(api.call("GET", &url, &[], None).await.ok(200));
            assert!(list.json()["meta"]["pagination"].get("total").is_none());
            walked.extend(column(&list, "email"));
            next = list.json()["links"]["next"].as_str().map(str::to_owned);
        }
        assert_eq!(walked, whole, "{sort}");
    }
    // A cursor of another sort is refused.
    let list = api.get("/customers?sort=name_asc&per_page=1&cursor=").await.ok(200).json();
    let cursor = list["meta"]["pagination"]["next_cursor"].as_str().unwrap();
    api.get(&format!("/customers?cursor={cursor}")).await.refused(400, "BAD_REQUEST", "cursor");
}

#[tokio::test]
async fn addresses_are_listed_by_customer_city_street_and_cursor() {
    let api = Api::new().await;
    let ada = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let alan = api.customer("Alan", "Turing", "alan@example.com").await;
    let none = api.customer("Grace", "Hopper", "grace@example.com").await;
    for (customer, street, city) in [
        (&ada, "Ockham Lane", "London"),
        (&ada, "Rue de Rivoli", "Paris"),
        (&alan, "Ockham Road", "LONDON"),
        (&alan, "Straße des 17. Juni", "Berlin"),
    ] {
        api.address(customer, json!({"street": street, "city": city})).await;
    }
    let of_ada = format!("customer_id={}", id(&ada));
    let of_ada_in_london = format!("{of_ada}&city=london");
    let of_none = format!("customer_id={}", id(&none));
    for (query, expected) in [
        ("", &["Ockham Lane", "Rue de Rivoli", "Ockham Road", "Straße des 17. Juni"][..]),
        ("city=london", &["Ockham Lane", "Ockham Road"]),
        ("city=lond", &[]),
        ("street=OCKHAM", &["Ockham Lane", "Ockham Road"]),
        ("street=strasse", &["Straße des 17. Juni"]),
        ("street=Ockham%20R&city=London", &["Ockham Road"]),
        (&of_ada, &["Ockham Lane", "Rue de Rivoli"]),
        (&of_ada_in_london, &["Ockham Lane"]),
        (&of_none, &[]),
        ("per_page=1&page=2", &["Rue de Rivoli"]),
        ("skip=3", &["Straße des 17. Juni"]),
    ] {
        let list = kept_private(api.get(&format!("/addresses?{query}")).await.ok(200));
        assert_eq!(column(&list, "street"), expected, "{query}");
    }
    let own = format!("/customers/{}/addresses", id(&ada));
    assert_eq!(column(&api.get(&own).await.ok(200), "street"), ["Ockham Lane", "Rue de Rivoli"]);
    let first = kept_private(api.get(&format!("{own}?per_page=1&cursor=&fields=street")).await.ok(200));
    assert_eq!(first.data(), json!([{"street": "Ockham Lane"}]));
    let next = first.json()["links"]["next"].as_str().unwrap().to_owned();
    let second = api.call("GET", &next, &[], None).await.ok(200);
    assert_eq!(column(&second, "street"), ["Rue de Rivoli"]);
    assert_eq!(second.json()["meta"]["pagination"]["has_next"], false);
}

#[tokio::test]
async fn r17_bad_input_names_its_fields_and_leaves_nothing_behind() {
    let api = Api::new().await;
    let c = api.write("POST", "/customers", ada()).await.ok(201).data();
    let a = api.address(&c, lane()).await;
    let before = api.people().await;
    let (customer, address) = (format!("/customers/{}", id(&c)), format!("/addresses/{}", id(&a)));
    let own = format!("{customer}/addresses");
    let refused = async |method: &str, path: &str, body: Value, status: u16, field: &str| {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        let text = body.to_string();
        let a = kept_private(api.write(method, path, body).await);
        assert_eq!(a.status.as_u16(), status, "{method} {path} {text}: {}", String::from_utf8_lossy(&a.bytes));
        let a = a.refused(status, code, field);
        shows_no_sql(&a);
    };
    let long = |n: usize| json!("x".repeat(n));
    for (field, value, status) in [
        ("email", json!("ada"), 422),
        ("email", json!("ada@"), 422),
        ("email", json!("ada@localhost"), 422),
        ("email", json!("a b@example.com"), 422),
        ("email", json!("Ada <ada@example.org>"), 422),
        ("email", json!(format!("{}@example.com", "x".repeat(250))), 422),
        ("email", json!(""), 422),
        ("email", json!("ada@example.org\u{0}"), 422),
        ("email", json!(7), 400),
        ("telephone", json!("12345"), 422),
        ("telephone", json!("+44 20 CALL ME"), 422),
        ("telephone", json!("0012345678"), 422),
        ("telephone", json!("1".repeat(21)), 422),
        ("telephone", json!(442_079_460_018_i64), 400),
        ("first_name", json!("  "), 422),
        ("first_name", long(101), 422),
        ("last_name", json!("a\nb"), 422),
        ("attributes", json!([1]), 400),
        ("attributes", json!({"a": "x".repeat(17_000)}), 422),
        ("external_id", json!("7"), 422),
        ("password", json!("secret"), 400),
        ("id", json!(NOBODY), 400),
    ] {
        let mut body = json!({"first_name": "Eve", "last_name": "Adams", "email": "eve@example.com"});
        body[field] = value.clone();
        // An external id without a source is refused with an error for `source`.
        let named = if field == "external_id" { "source" } else { field };
        refused("POST", "/customers", body.clone(), status, named).await;
        body["version"] = json!(1);
        refused("PUT", &customer, body, status, named).await;
        if field != "external_id" {
            refused("PATCH", &customer, json!({field: value, "version": 1}), status, field).await;
        }
    }
    for (field, value, status) in [
        ("country", json!("XX"), 422),
        ("country", json!("GBR"), 422),
        ("country", json!("England"), 422),
        ("country", json!(""), 422),
        ("country", json!(44), 400),
        ("street", json!(""), 422),
        ("street", long(256), 422),
        ("city", long(101), 422),
        ("number", long(51), 422),
        ("region", long(101), 422),
        ("postal_code", long(21), 422),
        ("planet", json!("Earth"), 400),
        ("customer_id", json!(NOBODY), 400),
    ] {
        let mut body = lane();
        body[field] = value.clone();
        refused("POST", &own, body.clone(), status, field).await;
        body["version"] = json!(1);
        refused("PUT", &address, body, status, field).await;
        refused("PATCH", &address, json!({field: value, "version": 1}), status, field).await;
    }
    // The error names all bad fields at once, and missing fields too.
    let many = api.write("POST", "/customers", json!({"first_name": "", "last_name": "", "email": "x"})).await;
    assert_eq!(many.refused(422, "VALIDATION_FAILED", "email").json()["error"]["details"].as_array().unwrap().len(), 3);
    refused("POST", "/customers", json!({"first_name": "Eve", "last_name": "Adams"}), 422, "email").await;
    refused("POST", &own, json!({"street": "Lane"}), 422, "city").await;

    // An email that differs only in case is a duplicate. The error names the field.
    let eve = json!({"first_name": "Eve", "last_name": "Adams", "email": "ADA@example.COM"});
    let duplicate = kept_private(api.write("POST", "/customers", eve).await.refused(409, "DUPLICATE", "email"));
    shows_no_sql(&duplicate);
    let mut imported = json!({"first_name": "Eve", "last_name": "Adams", "email": "eve@example.com"});
    imported["source"] = json!("crm");
    refused("POST", "/customers", imported, 422, "external_id").await;

    // Ids that do not exist, and keys that are not ids.
    for (method, path) in [
        ("GET", format!("/customers/{NOBODY}")),
        ("GET", format!("/customers/{NOBODY}/addresses")),
        ("GET", format!("/addresses/{NOBODY}")),
        ("DELETE", format!("/customers/{NOBODY}?version=1")),
        ("DELETE", format!("/addresses/{NOBODY}?version=1")),
        ("POST", format!("/customers/{NOBODY}/restore?version=1")),
    ] {
        let a = kept_private(api.call(method, &format!("{API}{path}"), &[], None).await);
        shows_no_sql(&a.refused(404, "NOT_FOUND", ""));
    }
    api.write("POST", &format!("/customers/{NOBODY}/addresses"), lane()).await.refused(404, "NOT_FOUND", "");
    for path in ["/customers/ada", "/customers/ada/addresses", "/addresses/home"] {
        kept_private(api.get(path).await.refused(400, "BAD_REQUEST", "id"));
    }
    for path in ["/customers/ada", "/addresses/home"] {
        refused("PATCH", path, json!({"version": 1}), 400, "id").await;
    }
    refused("POST", "/customers/ada/addresses", lane(), 400, "id").await;
    for (path, status, field) in [
        ("/customers?sort=email", 400, "sort"),
        ("/customers?name=", 422, "name"),
        ("/customers?email=", 422, "email"),
        ("/customers?name=%00", 422, "name"),
        ("/customers?phone=1", 400, "phone"),
        ("/customers?name=a&name=b", 400, "name"),
        ("/customers?per_page=101", 422, "per_page"),
        ("/customers?page=0&name=", 422, "page"),
        ("/customers?page=0&name=", 422, "name"),
        ("/customers?cursor=!!!", 400, "cursor"),
        ("/customers?numbers=true", 400, "numbers"),
        ("/addresses?customer_id=ada", 400, "customer_id"),
        ("/addresses?city=", 422, "city"),
        ("/addresses?street=", 422, "street"),
        ("/addresses?country=GB", 400, "country"),
        ("/addresses?sort=name_asc", 400, "sort"),
        ("/addresses?cursor=e30", 400, "cursor"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        shows_no_sql(&kept_private(api.get(path).await.refused(status, code, field)));
    }
    api.get(&format!("/addresses?customer_id={NOBODY}")).await.refused(422, "VALIDATION_FAILED", "customer_id");
    // A delete of an address is always permanent, so there is no parameter `force`.
    let force = format!("{API}{address}?version=1&force=true");
    api.call("DELETE", &force, &[], None).await.refused(400, "BAD_REQUEST", "force");

    assert_eq!(before, api.people().await, "bad input must not change any row");
}

#[tokio::test]
async fn a_failing_database_shows_no_sql() {
    let api = Api::new().await;
    let c = api.customer("Ada", "Lovelace", "ada@example.com").await;
    api.shop.storage().close().await;
    for path in ["/customers".to_owned(), format!("/customers/{}", id(&c)), "/addresses".to_owned()] {
        shows_no_sql(&kept_private(api.get(&path).await.refused(503, "UNAVAILABLE", "")));
    }
    shows_no_sql(&kept_private(api.write("POST", "/customers", ada()).await.refused(503, "UNAVAILABLE", "")));
}

#[track_caller]
fn shows_no_sql(a: &Answer) {
    let text = String::from_utf8_lossy(&a.bytes).to_ascii_lowercase();
    for word in ["select ", "insert ", "update ", "sqlite", "unique constraint", "email_key", "customers_email_live"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[tokio::test]
async fn a_customer_has_at_most_100_addresses() {
    let api = Api::new().await;
    let c = api.customer("Ada", "Lovelace", "ada@example.com").await;
    for i in 0..100 {
        api.address(&c, json!({"street": format!("Lane {i}"), "city": "London"})).await;
    }
    let path = format!("/customers/{}/addresses", id(&c));
    api.write("POST", &path, lane()).await.refused(422, "VALIDATION_FAILED", "customer_id");
    let list = api.get(&path).await.ok(200).json();
    assert_eq!(list["meta"]["pagination"]["total"], 100);
}

#[tokio::test]
async fn of_two_customers_with_one_email_at_once_one_is_made() {
    let api = Api::new().await;
    let made = futures::future::join_all((0..8).map(|_| api.write("POST", "/customers", ada()))).await;
    let (won, lost): (Vec<_>, Vec<_>) = made.into_iter().partition(|a| a.status.as_u16() == 201);
    assert_eq!(won.len(), 1);
    for a in lost {
        shows_no_sql(&a.refused(409, "DUPLICATE", "email"));
    }
}
