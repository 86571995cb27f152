//! A customer reads and changes its own rows without a permission, and no others (R16). A caller who has not logged in
//! uses the catalog and the cart of a guest.

use std::fmt;

use serde_json::json;

use super::ShopFixture;
use super::support::{fields, flat, from, me, v};
use crate::access::{Permission as P, Principal};
use crate::catalog::{Product, ProductFilter, ProductListQuery, ProductStatus, ReviewFilter, ReviewInput, ReviewSort};
use crate::common::{DeleteMode, ExpectedVersion, IncludeDeleted};
use crate::error::{Error, ErrorCode, FieldCode, Result};
use crate::paging::Paging;
use crate::sales::{
    AddressFilter, AddressInput, BillFilter, BillPatch, BillSort, CancelUnits, CartAccess, CartFilter, CartInput,
    CartLineInput, CartPatch, CheckoutInput, Customer, CustomerFilter, CustomerInput, CustomerSort, DeliveryMethod,
    GuestInput, LineChange, OrderEdit, OrderFilter, OrderInput, OrderLineFilter, OrderLineInput, OrderPatch, OrderSort,
};
use crate::search::{SearchFilter, SearchQuery};

tests! {
    __shop_own_rows: [
        r16_a_customer_reads_and_changes_its_own_rows,
        r16_the_rows_of_others_do_not_exist_for_a_customer,
        r16_a_customer_may_not_do_what_staff_may,
        r08_a_customer_edits_an_order_at_the_current_prices_only,
        r16_a_stranger_is_asked_to_log_in,
        r16_a_guest_follows_the_order_by_the_token_of_the_cart,
        r16_strangers_see_no_drafts,
    ]
}

const NO: IncludeDeleted = IncludeDeleted::No;
const OWN: &CartAccess = &CartAccess::Permission;
const ANY: ExpectedVersion = ExpectedVersion::Unspecified;

async fn customer(f: &ShopFixture, name: &str) -> (Customer, Principal) {
    let input = CustomerInput::new(name, "Tester", format!("{name}@example.com"));
    let customer = f.shop.acting_as(me()).customers().create(&input).await.unwrap();
    let who = Principal::new(format!("user:{name}"), []).with_customer(customer.id);
    (customer, who)
}

fn line(product: &Product) -> OrderLineInput {
    OrderLineInput::new(product.skus[0].id, 1, product.skus[0].price.amount())
}

fn home() -> AddressInput {
    AddressInput::new("St James's Square", "London")
}

fn page() -> Paging {
    Paging::Offset { offset: 0, limit: 10 }
}

/// Checks that a call was answered as if the row did not exist.
#[track_caller]
fn gone<T: fmt::Debug>(what: &str, outcome: Result<T>) {
    match outcome {
        Err(Error::NotFound { .. }) => {}
        other => panic!("{what}: the row must not exist for the caller, but the call returns {other:?}"),
    }
}

#[track_caller]
fn refused<T: fmt::Debug>(what: &str, permission: P, outcome: Result<T>) {
    match outcome {
        Err(Error::Forbidden { permission: named }) => assert_eq!(named, permission, "{what}"),
        other => panic!("{what}: the call must be refused, but returns {other:?}"),
    }
}

#[track_caller]
fn unknown<T: fmt::Debug>(what: &str, outcome: Result<T>) {
    match outcome {
        Err(Error::Unauthenticated) => {}
        other => panic!("{what}: a stranger must be asked to log in, but the call returns {other:?}"),
    }
}

/// Every call that a customer may make about what is its own succeeds, and lists have its own rows.
pub async fn r16_a_customer_reads_and_changes_its_own_rows(f: &ShopFixture) {
    let p = f.plain_in("P", &[]).await;
    let (ada, who) = customer(f, "ada").await;
    let (bob, _) = customer(f, "bob").await;
    f.shop.orders().place(&OrderInput::new(bob.id, DeliveryMethod::OnHand).line(line(&p))).await.unwrap();
    f.shop.addresses().create(bob.id, &home()).await.unwrap();
    let of_bob = CartInput { customer_id: Some(bob.id), ..CartInput::default() };
    f.shop.carts().create(&of_bob).await.unwrap();
    let shop = f.shop.acting_as(&who);

    let customers = shop.customers();
    assert_eq!(customers.get(ada.id, NO).await.unwrap(), ada);
    let patch = from(&json!({ "first_name": "Augusta", "telephone": "+4420794600" }));
    let patched = customers.patch(ada.id, v(1), patch).await.unwrap();
    assert_eq!((patched.first_name.as_str(), patched.audit.updated_by.as_str()), ("Augusta", "user:ada"));
    let put = CustomerInput::new("Ada", "King", "ada@example.com");
    customers.replace(ada.id, v(2), &put).await.unwrap();

    let addresses = shop.addresses();
    let address = addresses.create(ada.id, &home()).await.unwrap();
    assert_eq!(addresses.get(address.id, NO).await.unwrap(), address);
    let (listed, total) = addresses.list(&AddressFilter::default(), &page()).await.unwrap();
    assert_eq!((listed.items, total.unwrap().count), (vec![address.clone()], 1), "the list has the own rows");
    addresses.patch(address.id, v(1), from(&json!({ "city": "Rye" }))).await.unwrap();
    addresses.replace(address.id, v(2), &home()).await.unwrap();

    let carts = shop.carts();
    let own = CartInput { customer_id: Some(ada.id), ..CartInput::default() };
    let cart = carts.create(&own.line(CartLineInput::new(p.skus[0].id, 1, p.skus[0].price))).await.unwrap().cart;
    let id = cart.cart.id;
    assert_eq!(carts.list(&CartFilter::default(), &page()).await.unwrap().0.items, [cart]);
    carts.patch(id, OWN, v(1), CartPatch::default()).await.unwrap();
    let guest = shop.carts().create(&CartInput::default()).await.unwrap();
    let token = CartAccess::from(guest.token.unwrap());
    let assigned = carts.assign(guest.cart.cart.id, &token, ada.id).await.unwrap();
    assert_eq!(assigned.cart.id, id, "the cart of a guest is merged into the own cart");
    let bought = shop.orders().checkout(id, OWN, &CheckoutInput::new(DeliveryMethod::OnHand)).await.unwrap();
    assert_eq!((bought.customer_id, bought.audit.created_by.as_str()), (Some(ada.id), "user:ada"));
    assert_eq!(shop.orders().get_by_cart(id, OWN).await.unwrap(), bought);

    let orders = shop.orders();
    let placed = OrderInput::new(ada.id, DeliveryMethod::HomeDelivery).address_id(address.id).line(line(&p));
    let placed = orders.place(&placed).await.unwrap();
    assert_eq!(orders.get(placed.id, NO).await.unwrap(), placed);
    assert_eq!(orders.get_by_number(&placed.number, NO).await.unwrap(), placed);
    orders.explain(placed.id, NO).await.unwrap();
    let (listed, total) = orders.list(&OrderFilter::default(), OrderSort::PlacedAsc, &page()).await.unwrap();
    assert_eq!((listed.items, total.unwrap().count), (vec![bought.clone(), placed.clone()], 2));
    let (lines, _) = orders.lines(&OrderLineFilter::default(), OrderSort::PlacedAsc, &page()).await.unwrap();
    assert_eq!(lines.items.len(), 2);
    let edit = OrderEdit::default().with(LineChange::quantity(placed.lines[0].id, 2));
    orders.edit(placed.id, v(1), &edit).await.unwrap();
    let patch: OrderPatch = from(&json!({ "delivery_method": "drive_thru" }));
    orders.patch(placed.id, v(2), patch).await.unwrap();
    let unit = [CancelUnits { line_id: placed.lines[0].id, quantity: 1 }];
    orders.cancel_units(placed.id, v(3), &unit).await.unwrap();
    orders.cancel(placed.id).await.unwrap();
    assert_eq!(orders.history(placed.id, NO).await.unwrap().len(), 5);

    let bills = shop.bills();
    let bill = bills.of_order(bought.id, NO).await.unwrap().remove(0);
    assert_eq!(bills.get(bill.id, NO).await.unwrap(), bill);
    assert_eq!(bills.get_by_number(&bill.number, NO).await.unwrap(), bill);
    let filter = BillFilter { order: Some(bought.id), ..BillFilter::default() };
    assert_eq!(bills.list(&filter, BillSort::default(), &page()).await.unwrap().0.items, [bill]);

    let reviews = shop.reviews();
    let review = reviews.create(p.id, &ReviewInput::new(4)).await.unwrap();
    assert_eq!(review.customer_id, Some(ada.id), "the review is that of the customer who writes it");
    reviews.patch(review.id, v(1), from(&json!({ "rating": 5 }))).await.unwrap();
    reviews.replace(review.id, v(2), &ReviewInput::new(3).customer_id(ada.id)).await.unwrap();
    reviews.delete(review.id, v(3)).await.unwrap();
    addresses.delete(address.id, v(3)).await.unwrap();
}

/// A customer gets the same answer for a row of another customer as for one that does not exist, and changes nothing.
pub async fn r16_the_rows_of_others_do_not_exist_for_a_customer(f: &ShopFixture) {
    let p = f.plain_in("P", &[]).await;
    let (ada, _) = customer(f, "ada").await;
    let (_, who) = customer(f, "bob").await;
    let staff = f.shop.acting_as(me());
    let address = staff.addresses().create(ada.id, &home()).await.unwrap();
    let own = CartInput { customer_id: Some(ada.id), ..CartInput::default() };
    let own = own.line(CartLineInput::new(p.skus[0].id, 1, p.skus[0].price));
    let cart = staff.carts().create(&own).await.unwrap().cart.cart;
    let guest = staff.carts().create(&CartInput::default()).await.unwrap();
    let (guest, token) = (guest.cart.cart.id, CartAccess::from(guest.token.unwrap()));
    let of_guest = GuestInput::new("G", "G", "guest@example.com");
    let placed = staff.orders().place(&OrderInput::new(ada.id, DeliveryMethod::OnHand).line(line(&p))).await.unwrap();
    let by_guest = OrderInput::for_guest(of_guest, DeliveryMethod::OnHand).line(line(&p));
    let by_guest = staff.orders().place(&by_guest).await.unwrap();
    let bill = staff.bills().of_order(placed.id, NO).await.unwrap().remove(0);
    let review = staff.reviews().create(p.id, &ReviewInput::new(4).customer_id(ada.id)).await.unwrap();
    let before = f.snapshot().await;
    let shop = f.shop.acting_as(&who);

    let (customers, addresses) = (shop.customers(), shop.addresses());
    gone("read a customer", customers.get(ada.id, NO).await);
    gone("patch a customer", customers.patch(ada.id, v(1), from(&json!({ "first_name": "A" }))).await);
    let put = CustomerInput::new("Eve", "E", "ada@example.com");
    gone("replace a customer", customers.replace(ada.id, v(1), &put).await);
    gone("read an address", addresses.get(address.id, NO).await);
    gone("create an address", addresses.create(ada.id, &home()).await);
    gone("patch an address", addresses.patch(address.id, v(1), from(&json!({ "city": "Rye" }))).await);
    gone("replace an address", addresses.replace(address.id, v(1), &home()).await);
    gone("delete an address", addresses.delete(address.id, v(1)).await);
    let filter = AddressFilter { customer: Some(ada.id), ..AddressFilter::default() };
    refused("list addresses", P::CustomersRead, addresses.list(&filter, &page()).await);

    let carts = shop.carts();
    for (what, cart) in [("a customer's", cart.id), ("a guest's", guest)] {
        gone(what, carts.get(cart, OWN).await);
        gone(what, carts.patch(cart, OWN, v(1), CartPatch::default()).await);
        gone(what, carts.clear(cart, OWN, ANY).await);
        gone(what, carts.delete(cart, OWN, v(1)).await);
        gone(what, shop.orders().checkout(cart, OWN, &CheckoutInput::new(DeliveryMethod::OnHand)).await);
        gone(what, shop.orders().get_by_cart(cart, OWN).await);
    }
    gone("merge into a cart", carts.merge(guest, &token, cart.id, OWN).await);
    refused("assign to another", P::CartsWrite, carts.assign(guest, &token, ada.id).await);
    refused("create a cart of another", P::CartsWrite, carts.create(&own).await);
    let filter = CartFilter { customer: Some(ada.id), ..CartFilter::default() };
    refused("list carts", P::CartsRead, carts.list(&filter, &page()).await);

    let orders = shop.orders();
    let unit = [CancelUnits { line_id: placed.lines[0].id, quantity: 1 }];
    for order in [&placed, &by_guest] {
        gone("read an order", orders.get(order.id, NO).await);
        gone("read an order by number", orders.get_by_number(&order.number, NO).await);
        gone("read an order by a number with NUL", orders.get_by_number("\0", NO).await);
        gone("explain an order", orders.explain(order.id, NO).await);
        gone("read a history", orders.history(order.id, NO).await);
        let edit = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 2));
        gone("edit an order", orders.edit(order.id, v(1), &edit).await);
        gone("patch an order", orders.patch(order.id, v(1), OrderPatch::default()).await);
        gone("cancel an order", orders.cancel(order.id).await);
        gone("cancel units", orders.cancel_units(order.id, v(1), &unit).await);
        gone("read the bills of an order", shop.bills().of_order(order.id, NO).await);
    }
    let foreign = OrderInput::new(ada.id, DeliveryMethod::OnHand).line(line(&p));
    refused("place an order of another", P::OrdersWrite, orders.place(&foreign).await);
    let of_guest = OrderInput::for_guest(GuestInput::new("G", "G", "g@example.com"), DeliveryMethod::OnHand);
    refused("place an order of a guest", P::OrdersWrite, orders.place(&of_guest.line(line(&p))).await);
    let filter = OrderFilter { customer: Some(ada.id), ..OrderFilter::default() };
    refused("list orders", P::OrdersRead, orders.list(&filter, OrderSort::default(), &page()).await);
    let filter = OrderLineFilter { customer: Some(ada.id), ..OrderLineFilter::default() };
    refused("list order lines", P::OrdersRead, orders.lines(&filter, OrderSort::default(), &page()).await);
    assert!(orders.list(&OrderFilter::default(), OrderSort::default(), &page()).await.unwrap().0.items.is_empty());

    let bills = shop.bills();
    gone("read a bill", bills.get(bill.id, NO).await);
    gone("read a bill by number", bills.get_by_number(&bill.number, NO).await);
    gone("read a bill by a number with NUL", bills.get_by_number("\0", NO).await);
    let filter = BillFilter { order: Some(placed.id), ..BillFilter::default() };
    gone("list the bills of an order", bills.list(&filter, BillSort::default(), &page()).await);
    let reviews = shop.reviews();
    let w = P::ReviewsWrite;
    refused("review as another", w, reviews.create(p.id, &ReviewInput::new(1).customer_id(ada.id)).await);
    refused("patch a review", w, reviews.patch(review.id, v(1), from(&json!({ "rating": 1 }))).await);
    refused("replace a review", w, reviews.replace(review.id, v(1), &ReviewInput::new(1)).await);
    refused("delete a review", w, reviews.delete(review.id, v(1)).await);
    assert_eq!(f.snapshot().await, before, "nothing has changed");
}

/// A customer may not do with its own rows what only staff may.
pub async fn r16_a_customer_may_not_do_what_staff_may(f: &ShopFixture) {
    let p = f.plain_in("P", &[]).await;
    let (ada, who) = customer(f, "ada").await;
    let shop = f.shop.acting_as(&who);
    let order = || OrderInput::new(ada.id, DeliveryMethod::OnHand).line(line(&p));
    let placed = shop.orders().place(&order()).await.unwrap();
    let started = f.shop.orders().place(&order()).await.unwrap();
    f.shop.orders().start(started.id, v(1)).await.unwrap();
    let bill = shop.bills().of_order(placed.id, NO).await.unwrap().remove(0);
    let before = f.snapshot().await;

    let (customers, w) = (shop.customers(), P::CustomersWrite);
    for (what, patch) in [
        ("another email address", json!({ "email": "bob@example.com" })),
        ("attributes", json!({ "attributes": { "credit": 1000 } })),
    ] {
        refused(what, w, customers.patch(ada.id, v(1), from(&patch)).await);
    }
    let put = |email: &str| CustomerInput::new("Ada", "Tester", email);
    refused("replace the email address", w, customers.replace(ada.id, v(1), &put("eve@example.com")).await);
    let external = put("ada@example.com").source("crm").external_id("1");
    refused("an external id", w, customers.replace(ada.id, v(1), &external).await);
    refused("create a customer", w, customers.create(&CustomerInput::new("E", "E", "e@example.com")).await);
    refused("delete the profile", w, customers.delete(ada.id, v(1), DeleteMode::Soft).await);
    refused("erase the profile", P::CustomersErase, customers.erase(ada.id).await);
    let all = customers.list(&CustomerFilter::default(), CustomerSort::default(), &page()).await;
    refused("list customers", P::CustomersRead, all);

    let (orders, w) = (shop.orders(), P::OrdersWrite);
    refused("start an order", w, orders.start(placed.id, v(1)).await);
    refused("deliver an order", w, orders.deliver(placed.id, v(1)).await);
    refused("delete an order", w, orders.delete(placed.id, v(1)).await);
    refused("restore an order", w, orders.restore(placed.id, v(1)).await);
    for (what, patch) in
        [("tracking", json!({ "tracking": "T-1" })), ("attributes", json!({ "attributes": { "vip": true } }))]
    {
        refused(what, w, orders.patch(placed.id, v(1), from(&patch)).await);
    }
    refused("give a discount", P::OrdersDiscount, orders.place(&order().discount(1)).await);
    let discount = OrderEdit::default().discount(1);
    refused("discount an order", P::OrdersDiscount, orders.edit(placed.id, v(1), &discount).await);
    refused("pay an order", P::BillsWrite, orders.place(&order().paid(true)).await);
    let tracked = OrderInput { tracking: Some("T-1".to_owned()), ..order() };
    refused("track an order", w, orders.place(&tracked).await);
    refused("name an external order", w, orders.place(&order().source("shop").external_id("1")).await);
    let paid = BillPatch { paid: Some(true), ..BillPatch::default() };
    refused("pay a bill", P::BillsWrite, shop.bills().patch(bill.id, v(1), paid).await);
    let all = shop.bills().list(&BillFilter::default(), BillSort::default(), &page()).await;
    refused("list bills", P::BillsRead, all);
    refused("read a deleted order", P::DeletedRead, orders.get(placed.id, IncludeDeleted::Yes).await);

    // The shop is working on it.
    let unit = [CancelUnits { line_id: started.lines[0].id, quantity: 1 }];
    refused("cancel an order in progress", w, orders.cancel(started.id).await);
    refused("cancel units of an order in progress", w, orders.cancel_units(started.id, v(2), &unit).await);
    let patch: OrderPatch = from(&json!({ "delivery_method": "drive_thru" }));
    refused("change the delivery of an order in progress", w, orders.patch(started.id, v(2), patch).await);
    assert_eq!(f.snapshot().await, before, "nothing has changed");
}

/// A customer keeps what staff has granted on a pending order, and gets no more of it.
pub async fn r08_a_customer_edits_an_order_at_the_current_prices_only(f: &ShopFixture) {
    let p = f.plain_in("P", &[]).await;
    let (ada, who) = customer(f, "ada").await;
    let (staff, orders) = (f.shop.acting_as(me()), f.shop.acting_as(&who));
    let orders = orders.orders();
    let order = || OrderInput::new(ada.id, DeliveryMethod::OnHand);
    let quantity = |line: &crate::sales::OrderLine, n| OrderEdit::default().with(LineChange::quantity(line.id, n));
    let w = P::OrdersWrite;

    // A price that staff has set is not that of further units.
    let cheap: OrderInput = {
        let line = json!({ "sku_id": p.skus[0].id, "quantity": 2, "price_override": "1.00" });
        from(&json!({ "customer_id": ada.id, "delivery_method": "on_hand", "lines": [line] }))
    };
    let cheap = staff.orders().place(&cheap).await.unwrap();
    let more = orders.edit(cheap.id, v(1), &quantity(&cheap.lines[0], 5)).await;
    assert!(matches!(&more, Err(error) if error.code() == ErrorCode::PriceMismatch), "{more:?}");
    // The price of a draft is not shown.
    let p = f.patch(&p, json!({ "status": "draft" })).await.unwrap();
    let more = orders.edit(cheap.id, v(1), &quantity(&cheap.lines[0], 5)).await;
    assert_eq!(fields(more, "more of a draft")["change[0].line_id"], FieldCode::NotForSale);
    let p = f.patch(&p, json!({ "status": "active" })).await.unwrap();
    let fewer = orders.edit(cheap.id, v(1), &quantity(&cheap.lines[0], 1)).await.unwrap();
    assert_eq!(fewer.totals.total.to_string(), "1.00 USD");
    staff.orders().edit(cheap.id, v(2), &quantity(&cheap.lines[0], 3)).await.unwrap();

    // A discount is an amount, which would stay the same for fewer units.
    let given = order().line(OrderLineInput::new(p.skus[0].id, 2, p.skus[0].price.amount())).discount(5);
    let given = staff.orders().place(&given).await.unwrap();
    refused("edit a discounted order", w, orders.edit(given.id, v(1), &quantity(&given.lines[0], 1)).await);

    // Fees and custom lines are those of staff.
    let fee: OrderInput = from(&json!({
        "customer_id": ada.id, "delivery_method": "on_hand",
        "lines": [{ "sku_id": p.skus[0].id, "quantity": 1, "unit_price": "9.99" }],
        "extra_lines": [{ "kind": "fee", "title": "Express", "quantity": 1, "unit_price": "25.00" }],
    }));
    let fee = staff.orders().place(&fee).await.unwrap();
    let extra = fee.lines.iter().find(|line| line.sku_id.is_none()).unwrap();
    refused("remove a fee", w, orders.edit(fee.id, v(1), &quantity(extra, 0)).await);
    let unit = [CancelUnits { line_id: extra.id, quantity: 1 }];
    refused("cancel a fee", w, orders.cancel_units(fee.id, v(1), &unit).await);
    let goods = fee.lines.iter().find(|line| line.sku_id.is_some()).unwrap();
    orders.edit(fee.id, v(1), &quantity(goods, 2)).await.unwrap();
}

/// Without a login, everything but the catalog and the cart of a guest is answered with `UNAUTHENTICATED`.
pub async fn r16_a_stranger_is_asked_to_log_in(f: &ShopFixture) {
    let p = f.plain_in("P", &[]).await;
    let (ada, _) = customer(f, "ada").await;
    let placed = f.shop.orders().place(&OrderInput::new(ada.id, DeliveryMethod::OnHand).line(line(&p))).await.unwrap();
    let before = f.snapshot().await;
    let who = Principal::anonymous([]);
    let shop = f.shop.acting_as(&who);
    unknown("read an order", shop.orders().get(placed.id, NO).await);
    unknown("list orders", shop.orders().list(&OrderFilter::default(), OrderSort::default(), &page()).await);
    let order = OrderInput::for_guest(GuestInput::new("G", "G", "g@example.com"), DeliveryMethod::OnHand);
    unknown("place an order", shop.orders().place(&order.line(line(&p))).await);
    unknown("cancel an order", shop.orders().cancel(placed.id).await);
    unknown("read a customer", shop.customers().get(ada.id, NO).await);
    unknown("erase a customer", shop.customers().erase(ada.id).await);
    unknown("create a product", shop.products().create(&flat("Q")).await);
    unknown("purge a product", shop.products().delete(p.id, v(1), DeleteMode::Force).await);
    unknown("review a product", shop.reviews().create(p.id, &ReviewInput::new(1)).await);
    unknown("list carts", shop.carts().list(&CartFilter::default(), &page()).await);
    unknown("read deleted products", shop.products().get_fresh(p.id, IncludeDeleted::Yes).await);
    unknown("list users", shop.users().list(&crate::access::UserFilter::default(), &page()).await);
    unknown("audit the shop", shop.audit().run().await);
    assert_eq!(f.snapshot().await, before, "nothing has changed");
    let clerk = Principal::anonymous([P::OrdersRead]);
    f.shop.acting_as(&clerk).orders().get(placed.id, NO).await.unwrap();
}

/// A guest reads the order by the cart that it was made from, and nobody else does.
pub async fn r16_a_guest_follows_the_order_by_the_token_of_the_cart(f: &ShopFixture) {
    let p = f.plain_in("P", &[]).await;
    let (_, bob) = customer(f, "bob").await;
    let who = Principal::anonymous([]);
    let shop = f.shop.acting_as(&who);
    let line = CartLineInput::new(p.skus[0].id, 1, p.skus[0].price);
    let made = shop.carts().create(&CartInput::default().line(line)).await.unwrap();
    let (cart, token) = (made.cart.cart.id, CartAccess::from(made.token.unwrap()));
    gone("there is no order yet", shop.orders().get_by_cart(cart, &token).await);
    let guest = GuestInput::new("Gus", "Guest", "gus@example.com");
    let checkout = CheckoutInput::for_guest(guest, DeliveryMethod::OnHand);
    let order = shop.orders().checkout(cart, &token, &checkout).await.unwrap();
    assert_eq!(shop.orders().get_by_cart(cart, &token).await.unwrap(), order);
    let other = CartAccess::from(crate::sales::CartToken::new("something else"));
    gone("with another token", shop.orders().get_by_cart(cart, &other).await);
    unknown("without a token", shop.orders().get_by_cart(cart, OWN).await);
    gone("as a customer", f.shop.acting_as(&bob).orders().get_by_cart(cart, OWN).await);
    unknown("by id", shop.orders().get(order.id, NO).await);
}

/// Products that are drafts or archived exist for those with `products:read` or `products:write` only.
pub async fn r16_strangers_see_no_drafts(f: &ShopFixture) {
    let shown = f.plain_in("Shown", &[]).await;
    let draft = from(&json!({ "title": "Secret", "price": 1, "sku": "SECRET", "status": "draft" }));
    let draft = f.shop.products().create(&draft).await.unwrap();
    let review = f.shop.reviews().create(draft.id, &ReviewInput::new(5)).await.unwrap();
    f.shop.index().catch_up().await.unwrap();
    let drafts = |status| {
        let filter = ProductFilter { status, ..ProductFilter::default() };
        ProductListQuery { filter, ..ProductListQuery::default() }
    };
    let reader = Principal::new("reader", [P::ProductsRead]);
    let writer = Principal::new("writer", [P::ProductsWrite]);
    for who in [&reader, &writer] {
        let shop = f.shop.acting_as(who);
        assert_eq!(shop.products().get(draft.id).await.unwrap().status, ProductStatus::Draft);
        assert_eq!(shop.skus().get_by_code("SECRET").await.unwrap().product_id, draft.id);
        assert_eq!(shop.products().list(&drafts(Some(ProductStatus::Draft))).await.unwrap().page.items.len(), 1);
    }
    let (_, ada) = customer(f, "ada").await;
    let stranger = Principal::anonymous([]);
    // Twice, so that the second time the cache has the product.
    for who in [&stranger, &ada, &stranger, &ada] {
        let shop = f.shop.acting_as(who);
        let products = shop.products();
        gone("by id", products.get(draft.id).await.map(|found| found.value.id));
        gone("by slug", products.get_by_slug(draft.slug.as_str()).await.map(|found| found.value.id));
        gone("as it is now", products.get_fresh(draft.id, NO).await);
        assert!(products.cached(draft.id).is_none());
        let many = products.get_many(&[draft.id, shown.id]).await.unwrap();
        assert_eq!(many.iter().map(|product| product.id).collect::<Vec<_>>(), [shown.id]);
        let all = products.list(&drafts(None)).await.unwrap();
        assert_eq!(all.page.items.iter().map(|product| product.id).collect::<Vec<_>>(), [shown.id]);
        let listed = products.list(&drafts(Some(ProductStatus::Draft))).await.map(|found| found.hit);
        assert!(matches!(listed, Err(Error::Unauthenticated | Error::Forbidden { permission: P::ProductsRead })));
        let skus = shop.skus();
        gone("a SKU by id", skus.get(draft.skus[0].id, NO).await);
        gone("a SKU by code", skus.get_by_code("SECRET").await);
        gone("the SKUs of a product", skus.of_product(draft.id, NO).await);
        let query =
            SearchQuery { text: "secret".to_owned(), filter: SearchFilter::default(), ..SearchQuery::default() };
        if shop.search().capabilities().full_text {
            assert!(shop.search().search(&query).await.unwrap().products.is_empty());
        }
        gone("the stock of a SKU", shop.inventory().level(draft.skus[0].id).await);
        gone("a review", shop.reviews().get(review.id, NO).await);
        let reviews = ReviewFilter { product: Some(draft.id), ..ReviewFilter::default() };
        gone("the reviews", shop.reviews().list(&reviews, ReviewSort::default(), &page()).await);
        let (every, total) =
            shop.reviews().list(&ReviewFilter::default(), ReviewSort::default(), &page()).await.unwrap();
        assert!(every.items.is_empty() && total.is_none_or(|total| total.count == 0), "{every:?}");
        let reviews = ReviewFilter { product: Some(shown.id), ..ReviewFilter::default() };
        assert!(shop.reviews().list(&reviews, ReviewSort::default(), &page()).await.unwrap().0.items.is_empty());
    }
    let reviewed = f.shop.acting_as(&ada).reviews().create(draft.id, &ReviewInput::new(1)).await;
    assert!(matches!(&reviewed, Err(error) if error.code() == ErrorCode::Validation), "{reviewed:?}");
}
