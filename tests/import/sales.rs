//! Customers and carts: those of DummyJSON, and records of our own.
//!
//! The users, carts and products of DummyJSON are in ../shared/data, which is not a part of this project. Where it is
//! missing, the test that uses them says so and tests nothing.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use ecom::catalog::{ImportKind, ImportReport};
use ecom::common::{ExpectedVersion, IncludeDeleted};
use ecom::paging::Paging;
use ecom::sales::{
    Address, AddressFilter, Cart, CartAccess, CartFilter, CartLineInput, CartState, CheckoutInput, Customer,
    CustomerFilter, CustomerSort, DeliveryMethod, PricedCart, SalesConflict,
};
use ecom::stock::StockConflict;
use ecom::{Conflict, Error, Shop};
use serde_json::{Value, json};

use crate::support::{
    Letters, all_products, assert_balanced, counts, data, fields, find, import, lines, outbox_head, record, shop,
};

on_each_database! {
    dummyjson_users_and_carts_import_whole_and_those_in_stock_are_checked_out,
    customers_are_recognized_by_external_id_or_email_and_keep_what_a_record_leaves_out,
    bad_customers_and_carts_name_each_field,
    r20_several_carts_of_a_customer_become_one_open_cart,
    a_cart_keeps_the_price_that_its_shopper_saw_and_an_open_cart_of_the_shop_takes_its_id,
}

const STAFF: &CartAccess = &CartAccess::Permission;

async fn import_customers(shop: &Shop, text: impl Into<Vec<u8>>) -> (ImportReport, Vec<Value>) {
    let letters = Letters::default();
    let report = shop.import().customers(Cursor::new(text.into()), letters.options(), |_| {}).await.unwrap();
    (report, letters.read())
}

async fn import_carts(shop: &Shop, text: impl Into<Vec<u8>>) -> (ImportReport, Vec<Value>) {
    let letters = Letters::default();
    let report = shop.import().carts(Cursor::new(text.into()), letters.options(), |_| {}).await.unwrap();
    (report, letters.read())
}

const ALL: Paging = Paging::Offset { offset: 0, limit: 1_000 };

async fn customers(shop: &Shop) -> Vec<Customer> {
    shop.customers().list(&CustomerFilter::default(), CustomerSort::CreatedAsc, &ALL).await.unwrap().0.items
}

async fn addresses(shop: &Shop) -> Vec<Address> {
    shop.addresses().list(&AddressFilter::default(), &ALL).await.unwrap().0.items
}

async fn carts(shop: &Shop) -> Vec<PricedCart> {
    let mut all = shop.carts().list(&CartFilter::default(), &ALL).await.unwrap().0.items;
    all.sort_by_key(|c| c.cart.id);
    all
}

fn external(cart: &Cart) -> &str {
    &cart.external.as_ref().unwrap().external_id
}

/// The demand of a cart of DummyJSON for each product.
fn demand(cart: &Value) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    for line in cart["products"].as_array().unwrap() {
        *all.entry(line["id"].to_string()).or_default() += line["quantity"].as_i64().unwrap();
    }
    all
}

/// Returns the shortages that a refusal names: SKU, requested and available.
fn shortages(refusal: &Error) -> Vec<(ecom::id::SkuId, i64, i64)> {
    let Error::Conflict(conflict) = refusal else { panic!("{refusal}") };
    let Conflict::Stock(StockConflict::Insufficient { shortages }) = &**conflict else { panic!("{refusal}") };
    shortages.iter().map(|s| (ecom::id::SkuId(s.sku_id), s.requested, s.available)).collect()
}

async fn dummyjson_users_and_carts_import_whole_and_those_in_stock_are_checked_out() {
    let files = ["dummyjson-products.json", "dummyjson-users.json", "dummyjson-carts.json"].map(data);
    let [Some(products), Some(users), Some(source)] = files else { return };
    let shop = shop().await;
    import(&shop, products).await;

    let (report, letters) = import_customers(&shop, users.clone()).await;
    assert_eq!(counts(&report), [208, 208, 0, 0, 0], "{letters:?}");
    let people = customers(&shop).await;
    let homes = addresses(&shop).await;
    assert_eq!((people.len(), homes.len()), (208, 208));
    let told: Vec<Value> = serde_json::from_slice(&users).unwrap();
    for user in &told {
        let customer = {
            let id = user["id"].to_string();
            people.iter().find(|c| c.external.as_ref().unwrap().external_id == id).unwrap()
        };
        assert_eq!(customer.email, user["email"].as_str().unwrap());
        let digits: String = user["phone"].as_str().unwrap().chars().filter(|c| !" .-()".contains(*c)).collect();
        assert_eq!(customer.telephone.as_deref(), Some(digits.as_str()));
        let home = homes.iter().find(|a| a.customer_id == customer.id).unwrap();
        assert_eq!(home.country.as_deref(), Some("US"), "United States has become a code");
        let street = format!("{} {}", home.number.as_deref().unwrap(), home.street);
        assert_eq!(street, user["address"]["address"].as_str().unwrap().trim());
        assert_eq!(home.region.as_deref(), user["address"]["state"].as_str());
        assert!(customer.attributes.0.is_empty(), "neither passwords nor bank accounts are kept");
    }

    let (report, letters) = import_carts(&shop, source.clone()).await;
    assert_eq!(counts(&report), [208, 208, 0, 0, 0], "{letters:?}");
    let told: Vec<Value> = serde_json::from_slice(&source).unwrap();
    let told: HashMap<String, &Value> = told.iter().map(|c| (c["id"].to_string(), c)).collect();
    let all = all_products(&shop).await;
    let sku = |product: &str| find(&all, product).default_sku().unwrap();
    let mut found = carts(&shop).await;
    for cart in &found {
        let wanted = demand(told[external(&cart.cart)]);
        // 12 carts name a product twice: the quantities are added.
        let lines: BTreeMap<_, _> = cart.lines.iter().map(|l| (l.line.sku_id, l.line.quantity)).collect();
        assert_eq!(lines, wanted.iter().map(|(id, n)| (sku(id).id, *n)).collect());
        assert_eq!(lines.len(), cart.lines.len());
        assert!(cart.lines.iter().all(|l| !l.price_changed), "the discounted prices of the carts are the current ones");
    }

    let (head, statements) = (outbox_head(&shop).await, shop.storage().statements());
    let (again, _) = import_customers(&shop, users).await;
    assert_eq!(counts(&again), [208, 0, 0, 208, 0]);
    let (again, _) = import_carts(&shop, source.clone()).await;
    assert_eq!(counts(&again), [208, 0, 0, 208, 0]);
    let statements = shop.storage().statements() - statements;
    assert!(statements < 80, "six batches of unchanged records took {statements} statements");
    assert_eq!(outbox_head(&shop).await, head, "nothing was written");
    assert_eq!((customers(&shop).await, addresses(&shop).await), (people, homes), "versions and times stand still");
    assert_eq!(carts(&shop).await, found);

    // Each cart alone, with all of the imported stock: nothing is committed.
    let checkout = CheckoutInput::new(DeliveryMethod::OnHand);
    found.sort_by_key(|c| external(&c.cart).parse::<u32>().unwrap());
    let mut fits = 0;
    for cart in &found {
        let mut tx = shop.begin().await.unwrap();
        let placed = shop.orders().checkout_in(&mut tx, cart.cart.id, STAFF, &checkout).await;
        drop(tx);
        let wanted = demand(told[external(&cart.cart)]);
        let mut short: Vec<_> =
            wanted.iter().map(|(id, n)| (sku(id).id, *n, sku(id).on_hand)).filter(|(_, n, there)| n > there).collect();
        match placed {
            Ok(order) => {
                fits += 1;
                assert!(short.is_empty());
                assert_eq!(order.lines.len(), cart.lines.len());
            }
            Err(refusal) => {
                let mut named = shortages(&refusal);
                named.sort_unstable();
                short.sort_unstable();
                assert_eq!(named, short, "the refusal names every short SKU");
                assert!(!short.is_empty());
            }
        }
    }
    assert_eq!(fits, 166, "so many carts fit into the imported stock, each for itself");

    // One after the other, they share the stock.
    let mut left: HashMap<_, _> =
        all.iter().map(|p| (p.default_sku().unwrap().id, p.default_sku().unwrap().on_hand)).collect();
    let mut placed = 0;
    for cart in &found {
        let wanted = demand(told[external(&cart.cart)]);
        let wanted: Vec<_> = wanted.iter().map(|(id, n)| (sku(id).id, *n)).collect();
        match shop.orders().checkout(cart.cart.id, STAFF, &checkout).await {
            Ok(_) => {
                placed += 1;
                for (id, n) in &wanted {
                    *left.get_mut(id).unwrap() -= n;
                }
            }
            Err(refusal) => {
                for (id, requested, available) in shortages(&refusal) {
                    assert_eq!(left[&id], available);
                    assert!(wanted.contains(&(id, requested)) && requested > available);
                }
            }
        }
        assert!(left.values().all(|n| *n >= 0));
    }
    assert_eq!(placed, 143, "so many carts are ordered in the order of their ids");
    assert_balanced(&shop).await;

    // Ordered carts are recognized, and stay as they are.
    let (again, _) = import_carts(&shop, source).await;
    assert_eq!(counts(&again), [208, 0, 0, 208, 0]);
}

fn customer(id: &str, email: &str) -> Value {
    json!({"external_id": id, "source": "crm", "first_name": "Ada", "last_name": "Lovelace", "email": email})
}

async fn customers_are_recognized_by_external_id_or_email_and_keep_what_a_record_leaves_out() {
    let shop = shop().await;
    let mut ada = customer("1", "ada@example.com");
    ada["telephone"] = json!("+44 (20) 7946-0018");
    ada["attributes"] = json!({"vip": true});
    ada["addresses"] = json!([
        {"street": "Ockham Lane", "city": "London", "country": "United Kingdom"},
        {"street": "Ockham Lane", "city": "London", "country": "GB"},
    ]);
    let (report, letters) = import_customers(&shop, json!({"customers": [ada]}).to_string()).await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0], "{letters:?}");
    let before = customers(&shop).await.remove(0);
    assert_eq!(before.telephone.as_deref(), Some("+442079460018"));
    assert_eq!(addresses(&shop).await.len(), 1, "both are the same address");

    let (report, _) = import_customers(&shop, customer("1", "ada@example.com").to_string()).await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0], "a record without the other fields changes nothing");
    let mut moved = customer("1", "lovelace@example.com");
    moved["addresses"] = json!([{"street": "Marylebone", "number": "1", "city": "London", "country": "GBR"}]);
    let (report, letters) = import_customers(&shop, moved.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let after = customers(&shop).await.remove(0);
    assert_eq!((after.id, after.email.as_str()), (before.id, "lovelace@example.com"));
    assert_eq!((&after.telephone, &after.attributes), (&before.telephone, &before.attributes));
    assert_eq!(addresses(&shop).await.len(), 2, "an address is added, and none removed");

    // A customer of the shop is taken over by the record with the same email.
    let own = ecom::sales::CustomerInput::new("Grace", "Hopper", "grace@example.com");
    let own = shop.customers().create(&own).await.unwrap();
    let (report, letters) = import_customers(&shop, customer("2", "GRACE@example.com").to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let taken = shop.customers().get(own.id, IncludeDeleted::No).await.unwrap();
    assert_eq!(taken.external.unwrap().external_id, "2");

    // The customer of another record is not.
    let (report, letters) = import_customers(&shop, customer("3", "grace@example.com").to_string()).await;
    assert_eq!(
        (report.rejected, letters[0]["code"].as_str(), fields(&letters[0])),
        (1, Some("DUPLICATE"), vec!["email".to_owned()])
    );
    shop.customers().delete(own.id, ExpectedVersion::Exact(2), ecom::common::DeleteMode::Soft).await.unwrap();
    let (report, letters) = import_customers(&shop, customer("2", "grace@example.com").to_string()).await;
    assert_eq!(
        (report.rejected, letters[0]["code"].as_str()),
        (1, Some("STATE_CONFLICT")),
        "a deleted customer stays so"
    );
}

async fn bad_customers_and_carts_name_each_field() {
    let shop = shop().await;
    let mut bad = customer("1", "no email");
    bad["first_name"] = Value::Null;
    bad["telephone"] = json!("0123");
    bad["addresses"] = json!([{"city": "London", "country": "Atlantis"}]);
    let twice = customer("5", "a@example.com");
    let text = lines(&[
        bad,
        customer("2", "a@example.com"),
        customer("3", "A@example.com"),
        customer("2", "b@example.com"),
        twice,
    ]);
    let (report, letters) = import_customers(&shop, text).await;
    assert_eq!(counts(&report), [5, 1, 0, 0, 4], "{letters:#?}");
    let mut named = fields(&letters[0]);
    named.sort_unstable();
    assert_eq!(named, ["addresses[0].country", "addresses[0].street", "email", "first_name", "telephone"]);
    assert_eq!(fields(&letters[1]), ["email"]);

    import(&shop, lines(&[record(1)])).await;
    let cart = |id: &str, user: Value, line: Value| json!({"external_id": id, "source": "crm", "customer_external_id": user, "lines": [line]});
    let line = json!({"sku": "SKU-1", "quantity": 1});
    let rows = [
        cart("1", json!("2"), json!({"sku": "SKU-9", "quantity": 1})),
        cart("2", json!("9"), line.clone()),
        cart("3", Value::Null, line.clone()),
        cart("4", json!("2"), json!({"quantity": 0, "price": -1})),
        cart("5", json!("2"), json!({"product_external_id": "1", "quantity": 1})),
        cart("6", json!("2"), json!({"sku": "SKU-1", "quantity": 1_000_001})),
        json!({"customer_external_id": "2", "lines": [line]}),
    ];
    let (report, letters) = import_carts(&shop, lines(&rows)).await;
    assert_eq!(counts(&report), [7, 0, 0, 0, 7], "{letters:#?}");
    let mut letters = letters;
    letters.sort_by_key(|l| l["index"].as_u64());
    let named: Vec<_> = letters.iter().map(fields).collect();
    assert_eq!(named[0], ["lines[0].sku"]);
    assert_eq!(named[1], ["customer_external_id"]);
    assert_eq!(named[2], ["customer_external_id"]);
    assert_eq!(named[3], ["lines[0].sku", "lines[0].quantity", "lines[0].price"]);
    assert_eq!(named[4], ["lines[0].product_external_id"], "the product is one of another system");
    assert_eq!(named[5], ["lines[0].quantity"]);
    assert_eq!(named[6], ["external_id"]);
    assert_eq!(carts(&shop).await, []);
}

/// R20: a customer has one open cart, also if the source has several.
async fn r20_several_carts_of_a_customer_become_one_open_cart() {
    let shop = shop().await;
    import(&shop, lines(&[record(1), record(2), record(3)])).await;
    import_customers(&shop, customer("1", "ada@example.com").to_string()).await;
    let cart = |id: &str, lines: Value| json!({"external_id": id, "source": "crm", "customer_external_id": "1", "lines": lines});
    let rows = lines(&[
        cart("a", json!([{"sku": "SKU-1", "quantity": 1}, {"sku": "sku-2", "quantity": 3}])),
        cart("b", json!([{"sku": "SKU-2", "quantity": 2}, {"sku": "SKU-3", "quantity": 4}])),
    ]);
    let (report, letters) = import_carts(&shop, rows.clone()).await;
    assert_eq!(counts(&report), [2, 2, 0, 0, 0], "{letters:?}");
    let found = carts(&shop).await;
    let [a, b] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (external(&a.cart), a.cart.state, external(&b.cart), b.cart.state),
        ("a", CartState::Open, "b", CartState::Merged)
    );
    assert_eq!(b.cart.merged_into, Some(a.cart.id));
    let quantities =
        |cart: &PricedCart| cart.lines.iter().map(|l| (l.code.clone(), l.line.quantity)).collect::<BTreeMap<_, _>>();
    let of = |numbers: &[(u32, i64)]| numbers.iter().map(|(n, q)| (format!("SKU-{n}"), *q)).collect::<BTreeMap<_, _>>();
    assert_eq!(quantities(a), of(&[(1, 1), (2, 3), (3, 4)]), "of equal lines the greater quantity stays");

    let head = outbox_head(&shop).await;
    let (again, _) = import_carts(&shop, rows.clone()).await;
    assert_eq!(counts(&again), [2, 0, 0, 2, 0]);
    assert_eq!((outbox_head(&shop).await, carts(&shop).await), (head, found.clone()), "nothing was written");

    // What the shopper has added since stays in the cart.
    let sku = a.lines[0].line.sku_id;
    let more = CartLineInput::new(sku, 5, a.lines[0].unit_price);
    shop.carts().add_line(a.cart.id, STAFF, ExpectedVersion::Unspecified, &more).await.unwrap();
    let (again, _) = import_carts(&shop, rows.clone()).await;
    assert_eq!(counts(&again), [2, 0, 0, 2, 0]);
    assert_eq!(quantities(&carts(&shop).await[0]), of(&[(1, 6), (2, 3), (3, 4)]));
    let (more, _) = import_carts(&shop, cart("a", json!([{"sku": "SKU-2", "quantity": 5}])).to_string()).await;
    assert_eq!(counts(&more), [1, 0, 1, 0, 0]);
    assert_eq!(quantities(&carts(&shop).await[0]), of(&[(1, 6), (2, 5), (3, 4)]));

    // An ordered cart stays as it is, and the next new record opens another one.
    let checkout = CheckoutInput::new(DeliveryMethod::OnHand);
    let short = shop.orders().checkout(a.cart.id, STAFF, &checkout).await.unwrap_err();
    assert_eq!(shortages(&short), [(sku, 6, 5)]);
    let one = ecom::sales::CartLinePatch::quantity(1);
    shop.carts().change_line(a.cart.id, STAFF, ExpectedVersion::Unspecified, a.lines[0].line.id, &one).await.unwrap();
    shop.orders().checkout(a.cart.id, STAFF, &checkout).await.unwrap();
    let (again, _) = import_carts(&shop, rows).await;
    assert_eq!(counts(&again), [2, 0, 0, 2, 0]);
    let (new, _) = import_carts(&shop, cart("c", json!([{"sku": "SKU-1", "quantity": 1}])).to_string()).await;
    assert_eq!(counts(&new), [1, 1, 0, 0, 0]);
}

async fn a_cart_keeps_the_price_that_its_shopper_saw_and_an_open_cart_of_the_shop_takes_its_id() {
    let shop = shop().await;
    import(&shop, lines(&[record(1)])).await;
    let user = json!({"id": 7, "firstName": "Ada", "lastName": "L", "email": "ada@example.com"});
    import_customers(&shop, user.to_string()).await;
    let ada = customers(&shop).await[0].id;
    let own = ecom::sales::CartInput::default().customer_id(ada);
    let own = shop.carts().create(&own).await.unwrap().cart.cart;
    let text = json!([{"id": 1, "userId": 7, "products": [{"id": 1, "quantity": 2, "price": 20.00, "discountPercentage": 12.5}]}]);
    let (report, letters) = import_carts(&shop, text.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let cart = carts(&shop).await.remove(0);
    assert_eq!((cart.cart.id, external(&cart.cart)), (own.id, "1"));
    assert_eq!((cart.lines[0].line.seen_price.minor(), cart.lines[0].unit_price.minor()), (1_750, 999));
    assert!(cart.lines[0].price_changed);
    let refused = shop.orders().checkout(own.id, STAFF, &CheckoutInput::new(DeliveryMethod::OnHand)).await.unwrap_err();
    let Error::Conflict(conflict) = &refused else { panic!("{refused}") };
    assert!(matches!(&**conflict, Conflict::Sales(SalesConflict::PriceMismatch { .. })), "{refused}");
}

#[test]
fn the_kind_of_a_file_is_detected() {
    let user = json!({"id": 1, "firstName": "A", "lastName": "B", "address": {"address": "1 Main Street"}});
    let cart = json!({"id": 1, "products": [{"id": 1, "title": "T", "price": 1.5, "quantity": 1}], "userId": 1});
    for (value, kind) in [(user, ImportKind::Customers), (cart, ImportKind::Carts), (record(1), ImportKind::Products)] {
        let name = match kind {
            ImportKind::Customers => "users",
            ImportKind::Carts => "carts",
            _ => "products",
        };
        let forms = [value.to_string(), json!([value]).to_string(), json!({ name: [value], "total": 1 }).to_string()];
        for text in forms {
            assert_eq!(ImportKind::detect(text.as_bytes()), Some(kind), "{text}");
        }
    }
    for (name, kind) in [
        ("dummyjson-products.json", ImportKind::Products),
        ("dummyjson-users.json", ImportKind::Customers),
        ("dummyjson-carts.json", ImportKind::Carts),
    ] {
        let Some(file) = data(name) else { continue };
        assert_eq!(ImportKind::detect(&file[..file.len().min(64 * 1024)]), Some(kind), "{name}");
    }
}
