//! A principal can make exactly the calls for which it has the permission.

use std::collections::HashSet;

use serde_json::json;
use uuid::Uuid;

use super::ShopFixture;
use super::support::{category_input, flat, from, me, v};
use crate::access::{
    ApiKeyInput, ApiKeyPatch, Permission as P, Principal, RoleInput, RolePatch, UserFilter, UserInput, UserPatch,
};
use crate::catalog::{
    CategoryFilter, ImageInput, ImportKind, ImportOptions, ProductFilter, ProductListQuery, ProductStatus,
    ReviewFilter, ReviewInput, ReviewSort,
};
use crate::clock::Clock as _;
use crate::common::{DeleteMode, ExpectedVersion, IncludeDeleted};
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, JobId, RoleId, UserId, WebhookDeliveryId, WebhookId};
use crate::paging::Paging;
use crate::platform::{
    AuditLogFilter, DayRange, EventKind, JobFilter, JobKind, NewJob, OutboxPosition, ProductSalesSort,
    WebhookDeliveryFilter, WebhookInput, WebhookPatch, WebhookRotation,
};
use crate::sales::{
    AddressFilter, AddressInput, BillFilter, BillPatch, BillSort, CancelUnits, CartAccess, CartFilter, CartInput,
    CartLineInput, CartLinePatch, CartPatch, CheckoutInput, CustomerFilter, CustomerInput, CustomerSort,
    DeliveryMethod, LineChange, OrderEdit, OrderFilter, OrderInput, OrderLineFilter, OrderLineInput, OrderPatch,
    OrderSort,
};
use crate::stock::{StockAdjustment, StockReason};

tests! {
    __shop_access: [
        what_a_principal_may_not_do_is_refused_before_anything_happens,
        what_a_principal_may_do_is_done_and_names_it,
        the_live_catalog_needs_no_permission,
    ]
}

/// Makes every call that needs a permission, as a principal who has all other permissions.
pub async fn what_a_principal_may_not_do_is_refused_before_anything_happens(f: &ShopFixture) {
    use IncludeDeleted::Yes;

    let top = f.category("Top", None).await;
    let p = f.plain_in("P", &[]).await;
    let sku = p.skus[0].id;
    let people = f.shop.acting_as(me());
    let ada = people.customers().create(&CustomerInput::new("Ada", "Lovelace", "ada@example.com")).await.unwrap();
    let home = AddressInput::new("St James's Square", "London");
    let address = people.addresses().create(ada.id, &home).await.unwrap();
    let review = people.reviews().create(p.id, &ReviewInput::new(4)).await.unwrap();
    let new = CartInput::default().line(CartLineInput::new(sku, 1, p.skus[0].price));
    let made = people.carts().create(&new).await.unwrap();
    let (cart, token) = (made.cart.cart, CartAccess::from(made.token.unwrap()));
    let cart_line = cart.lines[0].id;
    let other_cart = people.carts().create(&CartInput::default()).await.unwrap().cart.cart;
    let line = OrderLineInput::new(sku, 1, p.skus[0].price.amount());
    let order = OrderInput::new(ada.id, DeliveryMethod::OnHand).line(line);
    let placed = people.orders().place(&order).await.unwrap();
    let bill = people.bills().of_order(placed.id, IncludeDeleted::No).await.unwrap().remove(0);
    let before = f.snapshot().await;

    let mut needed = HashSet::new();
    let mut refused = |what: &str, permission: P, outcome: Result<()>| {
        match outcome {
            Err(Error::Forbidden { permission: named }) => {
                assert_eq!(named, permission, "{what}: the error must name the missing permission");
            }
            other => {
                panic!("{what}: a principal without `{permission}` must be refused, but the call returns {other:?}")
            }
        }
        needed.insert(permission);
    };
    let without = |missing: P| Principal::new("user:clerk", P::ALL.iter().copied().filter(|p| *p != missing));

    let who = without(P::ProductsWrite);
    let shop = f.shop.acting_as(&who);
    let (products, skus) = (shop.products(), shop.skus());
    let pen = flat("Pen");
    let w = P::ProductsWrite;
    refused("create a product", w, products.create(&pen).await.map(drop));
    refused("replace a product", w, products.replace(p.id, v(1), &pen).await.map(drop));
    refused("patch a product", w, products.patch(p.id, v(1), from(&json!({ "title": "Q" }))).await.map(drop));
    let image = ImageInput::new("/a.png");
    refused("add an image", w, products.add_image(p.id, v(1), &image).await.map(drop));
    let (media, content) = (shop.media(), bytes::Bytes::new());
    refused("upload an image", w, media.upload(content.clone()).await.map(drop));
    refused("upload an image for a product", w, media.upload_for(p.id, v(1), None, content).await.map(drop));
    refused("remove unused images", w, media.remove_unused().await.map(drop));
    refused("delete a product", w, products.delete(p.id, v(1), DeleteMode::Soft).await);
    refused("restore a product", w, products.restore(p.id, v(1)).await.map(drop));
    let input = from(&json!({ "price": 1 }));
    refused("create a SKU", w, skus.create(p.id, &input).await.map(drop));
    refused("replace a SKU", w, skus.replace(sku, v(1), &input).await.map(drop));
    refused("patch a SKU", w, skus.patch(sku, v(1), from(&json!({ "price": 2 }))).await.map(drop));
    refused("delete a SKU", w, skus.delete(sku, v(1), DeleteMode::Soft).await);
    refused("restore a SKU", w, skus.restore(sku, v(1)).await.map(drop));
    let import = shop.import().products(std::io::empty(), ImportOptions::default(), |_| {}).await.map(drop);
    refused("import products", w, import);

    let edit = OrderEdit::default().with(LineChange::quantity(placed.lines[0].id, 0));
    let paid = BillPatch { paid: Some(true), ..BillPatch::default() };
    let units = [CancelUnits { line_id: placed.lines[0].id, quantity: 1 }];
    let who = without(P::OrdersRead);
    let orders = f.shop.acting_as(&who).orders();
    let r = P::OrdersRead;
    refused("read an order", r, orders.get(placed.id, IncludeDeleted::No).await.map(drop));
    refused("read an order by number", r, orders.get_by_number(&placed.number, IncludeDeleted::No).await.map(drop));
    refused("read the record of an order", r, orders.record(placed.id, IncludeDeleted::No).await.map(drop));
    refused("explain an order", r, orders.explain(placed.id, IncludeDeleted::No).await.map(drop));
    refused("read the history of an order", r, orders.history(placed.id, IncludeDeleted::No).await.map(drop));
    let all = OrderFilter::default();
    refused("list orders", r, orders.list(&all, OrderSort::default(), &Paging::first(1)).await.map(drop));
    let lines = orders.lines(&OrderLineFilter::default(), OrderSort::default(), &Paging::first(1)).await.map(drop);
    refused("list order lines", r, lines);
    let who = without(P::OrdersWrite);
    let orders = f.shop.acting_as(&who).orders();
    let w = P::OrdersWrite;
    refused("place an order", w, orders.place(&order).await.map(drop));
    let checkout = CheckoutInput::new(DeliveryMethod::OnHand);
    let staff = &CartAccess::Permission;
    refused("check out a cart", w, orders.checkout(cart.id, staff, &checkout).await.map(drop));
    refused("edit an order", w, orders.edit(placed.id, v(1), &edit).await.map(drop));
    refused("patch an order", w, orders.patch(placed.id, v(1), OrderPatch::default()).await.map(drop));
    refused("start an order", w, orders.start(placed.id, v(1)).await.map(drop));
    refused("deliver an order", w, orders.deliver(placed.id, v(1)).await.map(drop));
    refused("cancel an order", w, orders.cancel(placed.id).await.map(drop));
    refused("cancel units", w, orders.cancel_units(placed.id, v(1), &units).await.map(drop));
    refused("delete an order", w, orders.delete(placed.id, v(1)).await);
    refused("restore an order", w, orders.restore(placed.id, v(1)).await.map(drop));
    let who = without(P::OrdersDiscount);
    let shop = f.shop.acting_as(&who);
    let w = P::OrdersDiscount;
    refused("give a discount", w, shop.orders().place(&order.clone().discount(1)).await.map(drop));
    refused(
        "give a discount on an order",
        w,
        shop.orders().edit(placed.id, v(1), &edit.clone().discount(1)).await.map(drop),
    );
    let discount = BillPatch { discount: crate::common::Patch::Set(1.into()), ..BillPatch::default() };
    refused("give a discount on a bill", w, shop.bills().patch(bill.id, v(1), discount).await.map(drop));
    let who = without(P::BillsRead);
    let shop = f.shop.acting_as(&who);
    let r = P::BillsRead;
    refused("read a bill", r, shop.bills().get(bill.id, IncludeDeleted::No).await.map(drop));
    let by_number = shop.bills().get_by_number(&bill.number, IncludeDeleted::No).await.map(drop);
    refused("read a bill by number", r, by_number);
    let of_order = shop.bills().of_order(placed.id, IncludeDeleted::No).await.map(drop);
    refused("read the bills of an order", r, of_order);
    let list = shop.bills().list(&BillFilter::default(), BillSort::default(), &Paging::first(1)).await.map(drop);
    refused("list bills", r, list);
    refused("read the bills of a record", r, shop.orders().record(placed.id, IncludeDeleted::No).await.map(drop));
    let who = without(P::BillsWrite);
    let shop = f.shop.acting_as(&who);
    let w = P::BillsWrite;
    refused("pay a bill", w, shop.bills().patch(bill.id, v(1), paid.clone()).await.map(drop));
    refused("place a paid order", w, shop.orders().place(&order.clone().paid(true)).await.map(drop));
    refused("choose the number of a bill", w, shop.orders().place(&order.clone().bill_number("B-1")).await.map(drop));
    let who = without(P::AuditRun);
    refused("audit the shop", P::AuditRun, f.shop.acting_as(&who).audit().run().await.map(drop));

    let who = without(P::CategoriesWrite);
    let shop = f.shop.acting_as(&who);
    let categories = shop.categories();
    let w = P::CategoriesWrite;
    let other = category_input("Other", None);
    refused("create a category", w, categories.create(&other).await.map(drop));
    refused("replace a category", w, categories.replace(top.id, v(1), &other).await.map(drop));
    refused("patch a category", w, categories.patch(top.id, v(1), from(&json!({ "name": "T" }))).await.map(drop));
    refused("move a category", w, categories.move_to(top.id, v(1), None).await.map(drop));
    refused("delete a category", w, categories.delete(top.id, v(1), DeleteMode::Soft).await);
    refused("restore a category", w, categories.restore(top.id, v(1)).await.map(drop));
    let import = shop.import().categories(std::io::empty(), ImportOptions::default(), |_| {}).await.map(drop);
    refused("import categories", w, import);
    let import = shop.import().products(std::io::empty(), ImportOptions::default(), |_| {}).await.map(drop);
    refused("import products with their categories", w, import);

    let who = without(P::CustomersWrite);
    let shop = f.shop.acting_as(&who);
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let w = P::CustomersWrite;
    let eve = CustomerInput::new("Eve", "E", "eve@example.com");
    refused("create a customer", w, customers.create(&eve).await.map(drop));
    refused("replace a customer", w, customers.replace(ada.id, v(1), &eve).await.map(drop));
    refused("patch a customer", w, customers.patch(ada.id, v(1), from(&json!({ "first_name": "A" }))).await.map(drop));
    refused("delete a customer", w, customers.delete(ada.id, v(1), DeleteMode::Soft).await);
    refused("restore a customer", w, customers.restore(ada.id, v(1)).await.map(drop));
    refused("create an address", w, addresses.create(ada.id, &home).await.map(drop));
    let import = shop.import().customers(std::io::empty(), ImportOptions::default(), |_| {}).await.map(drop);
    refused("import customers", w, import);
    refused("replace an address", w, addresses.replace(address.id, v(1), &home).await.map(drop));
    refused("patch an address", w, addresses.patch(address.id, v(1), from(&json!({ "city": "Rye" }))).await.map(drop));
    refused("delete an address", w, addresses.delete(address.id, v(1)).await);

    let who = without(P::CustomersErase);
    let customers = f.shop.acting_as(&who).customers();
    refused("erase a customer", P::CustomersErase, customers.erase(ada.id).await.map(drop));

    let (no_user, no_role, no_key) = (UserId(Uuid::nil()), RoleId(Uuid::nil()), ApiKeyId(Uuid::nil()));
    let page = Paging::first(1);
    let who = without(P::UsersRead);
    let users = f.shop.acting_as(&who).users();
    let r = P::UsersRead;
    refused("read a user", r, users.get(no_user, IncludeDeleted::No).await.map(drop));
    refused("list users", r, users.list(&UserFilter::default(), &page).await.map(drop));
    refused("list the sessions of a user", r, users.sessions(no_user).await.map(drop));
    let who = without(P::UsersWrite);
    let users = f.shop.acting_as(&who).users();
    let w = P::UsersWrite;
    let login = UserInput::new("eve@example.com");
    refused("create a user", w, users.create(&login).await.map(drop));
    refused("replace a user", w, users.replace(no_user, v(1), &login).await.map(drop));
    refused("patch a user", w, users.patch(no_user, v(1), UserPatch::default()).await.map(drop));
    refused("delete a user", w, users.delete(no_user, v(1), DeleteMode::Soft).await);
    refused("restore a user", w, users.restore(no_user, v(1)).await.map(drop));
    refused("end the sessions of a user", w, users.end_sessions(no_user).await.map(drop));
    let who = without(P::RolesRead);
    let service = f.shop.acting_as(&who).roles();
    refused("read a role", P::RolesRead, service.get(no_role).await.map(drop));
    refused("list roles", P::RolesRead, service.list().await.map(drop));
    let who = without(P::RolesWrite);
    let service = f.shop.acting_as(&who).roles();
    let w = P::RolesWrite;
    let clerk = RoleInput::new("clerk", []);
    refused("create a role", w, service.create(&clerk).await.map(drop));
    refused("replace a role", w, service.replace(no_role, v(1), &clerk).await.map(drop));
    refused("patch a role", w, service.patch(no_role, v(1), RolePatch::default()).await.map(drop));
    refused("delete a role", w, service.delete(no_role, v(1)).await);
    let who = without(P::ApiKeysRead);
    let keys = f.shop.acting_as(&who).api_keys();
    refused("read an API key", P::ApiKeysRead, keys.get(no_key).await.map(drop));
    refused("list API keys", P::ApiKeysRead, keys.list(&page).await.map(drop));
    let who = without(P::ApiKeysWrite);
    let keys = f.shop.acting_as(&who).api_keys();
    let w = P::ApiKeysWrite;
    let robot = ApiKeyInput::new("robot", [P::StockRead]);
    refused("create an API key", w, keys.create(&robot).await.map(drop));
    refused("create the key of an administrator", w, keys.ensure_admin(&keys.new_secret()).await.map(drop));
    refused("patch an API key", w, keys.patch(no_key, v(1), ApiKeyPatch::default()).await.map(drop));
    refused("delete an API key", w, keys.delete(no_key, v(1)).await);
    let who = without(P::SigningKeysWrite);
    refused("replace the keys of access tokens", P::SigningKeysWrite, f.shop.auth().replace_keys(&who).await);

    let who = without(P::ReviewsWrite);
    let reviews = f.shop.acting_as(&who).reviews();
    let w = P::ReviewsWrite;
    let five = ReviewInput::new(5).customer_id(ada.id);
    refused("create a review", w, reviews.create(p.id, &five).await.map(drop));
    refused("replace a review", w, reviews.replace(review.id, v(1), &five).await.map(drop));
    refused("patch a review", w, reviews.patch(review.id, v(1), from(&json!({ "rating": 1 }))).await.map(drop));
    refused("delete a review", w, reviews.delete(review.id, v(1)).await);

    let who = without(P::SearchRead);
    let settings = f.shop.acting_as(&who).search_settings();
    refused("read the synonyms", P::SearchRead, settings.synonyms().await.map(drop));
    refused("read the rules", P::SearchRead, settings.rules().await.map(drop));
    let who = without(P::SearchWrite);
    let settings = f.shop.acting_as(&who).search_settings();
    refused("edit the synonyms", P::SearchWrite, settings.replace_synonyms(v(1), Vec::new()).await.map(drop));
    refused("edit the rules", P::SearchWrite, settings.replace_rules(v(1), Vec::new()).await.map(drop));

    let who = without(P::CustomersRead);
    let shop = f.shop.acting_as(&who);
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let (r, page) = (P::CustomersRead, Paging::default());
    refused("read a customer", r, customers.get(ada.id, IncludeDeleted::No).await.map(drop));
    let list = customers.list(&CustomerFilter::default(), CustomerSort::default(), &page).await.map(drop);
    refused("list customers", r, list);
    refused("read an address", r, addresses.get(address.id, IncludeDeleted::No).await.map(drop));
    refused("list addresses", r, addresses.list(&AddressFilter::default(), &page).await.map(drop));

    let (staff, any) = (&CartAccess::Permission, ExpectedVersion::Unspecified);
    let who = without(P::CartsWrite);
    let carts = f.shop.acting_as(&who).carts();
    let w = P::CartsWrite;
    let line = CartLineInput::new(sku, 1, p.skus[0].price);
    let own = CartInput { customer_id: Some(ada.id), ..CartInput::default() };
    refused("create the cart of a customer", w, carts.create(&own).await.map(drop));
    let foreign = CartInput::default().source("shop").external_id("1");
    refused("create an imported cart", w, carts.create(&foreign).await.map(drop));
    let import = f.shop.acting_as(&who).import();
    let import = import.carts(std::io::empty(), ImportOptions::default(), |_| {}).await.map(drop);
    refused("import carts", w, import);
    refused("patch a cart", w, carts.patch(cart.id, staff, v(1), CartPatch::default()).await.map(drop));
    refused("delete a cart", w, carts.delete(cart.id, staff, v(1)).await);
    refused("add a line", w, carts.add_line(cart.id, staff, any, &line).await.map(drop));
    let seven = CartLinePatch::quantity(7);
    refused("change a line", w, carts.change_line(cart.id, staff, any, cart_line, &seven).await.map(drop));
    refused("remove a line", w, carts.remove_line(cart.id, staff, any, cart_line).await.map(drop));
    refused("clear a cart", w, carts.clear(cart.id, staff, any).await.map(drop));
    refused("merge a cart", w, carts.merge(cart.id, &token, other_cart.id, staff).await.map(drop));
    refused("merge a cart", w, carts.merge(other_cart.id, staff, cart.id, &token).await.map(drop));
    refused("assign a cart", w, carts.assign(cart.id, &token, ada.id).await.map(drop));
    refused("remove expired carts", w, carts.remove_expired().await.map(drop));
    let who = without(P::CartsRead);
    let carts = f.shop.acting_as(&who).carts();
    refused("read a cart", P::CartsRead, carts.get(cart.id, staff).await.map(drop));
    refused("list carts", P::CartsRead, carts.list(&CartFilter::default(), &page).await.map(drop));

    let who = without(P::StockAdjust);
    let adjustment = StockAdjustment::new(sku, 1, StockReason::Received);
    refused("adjust stock", P::StockAdjust, f.shop.acting_as(&who).inventory().adjust(adjustment).await.map(drop));
    let who = without(P::StockRead);
    let inventory = f.shop.acting_as(&who).inventory();
    refused("read the ledger", P::StockRead, inventory.movements(sku, &page).await.map(drop));
    refused("check the ledger", P::StockRead, inventory.imbalances().await.map(drop));

    let who = without(P::ImportRun);
    let import = f.shop.acting_as(&who).import();
    let (i, options) = (P::ImportRun, ImportOptions::default);
    refused("import products", i, import.products(std::io::empty(), options(), |_| {}).await.map(drop));
    refused("import categories", i, import.categories(std::io::empty(), options(), |_| {}).await.map(drop));
    refused("import customers", i, import.customers(std::io::empty(), options(), |_| {}).await.map(drop));
    refused("import carts", i, import.carts(std::io::empty(), options(), |_| {}).await.map(drop));
    let records = import.records(ImportKind::Carts, std::io::empty(), &options());
    let job = import.as_job(ImportKind::Carts, records, options(), |_| {}).await.map(drop);
    refused("import carts as a job", i, job);
    let feeds = f.shop.acting_as(&who).feeds();
    refused("poll a feed", i, feeds.poll("erp").await.map(drop));
    let who = without(P::IndexWrite);
    let index = f.shop.acting_as(&who).index();
    refused("follow the log", P::IndexWrite, index.catch_up().await.map(drop));
    refused("rebuild the index", P::IndexWrite, index.rebuild().await.map(drop));
    refused("verify the index", P::IndexWrite, index.verify(true).await.map(drop));
    let jobs = f.shop.acting_as(&who).jobs();
    refused("enqueue a reindex", P::IndexWrite, jobs.enqueue_reindex().await.map(drop));
    refused("enqueue a verify", P::IndexWrite, jobs.enqueue_verify(true).await.map(drop));
    let who = without(P::JobsRead);
    let jobs = f.shop.acting_as(&who).jobs();
    let any_job = JobId(Uuid::nil());
    refused("read a job", P::JobsRead, jobs.get(any_job).await.map(drop));
    refused("rejections of a job", P::JobsRead, jobs.rejections(any_job, None, 1).await.map(drop));
    refused("list queues of jobs", P::JobsRead, jobs.queues().await.map(drop));
    refused("list jobs", P::JobsRead, jobs.list(&JobFilter::default(), &page).await.map(drop));
    refused("list feeds", P::JobsRead, f.shop.acting_as(&who).feeds().list().await.map(drop));
    let who = without(P::JobsWrite);
    let jobs = f.shop.acting_as(&who).jobs();
    let (any_kind, new_job) = (JobKind::MAIL, NewJob::new("any"));
    refused("run a job again", P::JobsWrite, jobs.retry(any_job).await.map(drop));
    refused("cancel a job", P::JobsWrite, jobs.cancel(any_job).await.map(drop));
    refused("enqueue a job", P::JobsWrite, jobs.enqueue(&new_job).await.map(drop));
    refused("pause a queue", P::JobsWrite, jobs.pause(&any_kind).await.map(drop));
    refused("resume a queue", P::JobsWrite, jobs.resume(&any_kind).await.map(drop));
    let analytics = f.shop.acting_as(&who).analytics();
    refused("rebuild figures", P::JobsWrite, analytics.rebuild().await.map(drop));
    refused("enqueue a rebuild of figures", P::JobsWrite, analytics.enqueue_rebuild().await.map(drop));
    let who = without(P::AnalyticsRead);
    let log = f.shop.acting_as(&who).search_log();
    let range = DayRange::last(1, f.clock.now().date_naive());
    refused("read popular searches", P::AnalyticsRead, log.popular(&range, &page).await.map(drop));
    refused("read searches without result", P::AnalyticsRead, log.without_result(&range, &page).await.map(drop));
    refused("write the counts of searches", P::AnalyticsRead, log.flush().await);
    let analytics = f.shop.acting_as(&who).analytics();
    let a = P::AnalyticsRead;
    refused("read sales", a, analytics.sales(&range).await.map(drop));
    refused("read the funnel", a, analytics.funnel(&range).await.map(drop));
    let sort = ProductSalesSort::Revenue;
    refused("list top products", a, analytics.top_products(&range, sort, &page).await.map(drop));
    refused("list low stock", a, analytics.low_stock(&page).await.map(drop));
    refused("write the counts of views", a, analytics.flush().await);
    let who = without(P::AuditLogRead);
    let log = f.shop.acting_as(&who).audit_log();
    refused("read the audit log", P::AuditLogRead, log.list(&AuditLogFilter::default(), &page).await.map(drop));
    let who = without(P::WebhooksRead);
    let webhooks = f.shop.acting_as(&who).webhooks();
    let (no_webhook, no_delivery) = (WebhookId(Uuid::nil()), WebhookDeliveryId(Uuid::nil()));
    refused("read a webhook", P::WebhooksRead, webhooks.get(no_webhook).await.map(drop));
    refused("list webhooks", P::WebhooksRead, webhooks.list(&page).await.map(drop));
    refused("read a delivery", P::WebhooksRead, webhooks.delivery(no_delivery).await.map(drop));
    let list = webhooks.deliveries(&WebhookDeliveryFilter::default(), &page).await.map(drop);
    refused("list deliveries", P::WebhooksRead, list);
    let who = without(P::WebhooksWrite);
    let webhooks = f.shop.acting_as(&who).webhooks();
    let w = P::WebhooksWrite;
    let hook = WebhookInput::new("https://example.com/", [EventKind::OrderPlaced]);
    refused("create a webhook", w, webhooks.create(&hook).await.map(drop));
    refused("patch a webhook", w, webhooks.patch(no_webhook, v(1), WebhookPatch::default()).await.map(drop));
    refused("delete a webhook", w, webhooks.delete(no_webhook, v(1)).await);
    let rotation = WebhookRotation::default();
    refused("replace a secret", w, webhooks.rotate_secret(no_webhook, &rotation).await.map(drop));
    refused("test a webhook", w, webhooks.test(no_webhook).await.map(drop));
    refused("replay a delivery", w, webhooks.replay(no_delivery).await.map(drop));
    let who = without(P::EventsRead);
    let events = f.shop.acting_as(&who).events();
    refused("read events", P::EventsRead, events.read(OutboxPosition::default(), 1).await.map(drop));
    refused("read the end of the log", P::EventsRead, events.head().await.map(drop));
    refused("read the bounds of the log", P::EventsRead, events.bounds().await.map(drop));

    let others = P::ALL.iter().copied().filter(|p| !matches!(p, P::ProductsRead | P::ProductsWrite));
    let who = Principal::new("user:clerk", others);
    let filter = ProductFilter { status: Some(ProductStatus::Draft), ..ProductFilter::default() };
    let query = ProductListQuery { filter, ..ProductListQuery::default() };
    refused("list drafts", P::ProductsRead, f.shop.acting_as(&who).products().list(&query).await.map(drop));

    let who = without(P::DeletedRead);
    let shop = f.shop.acting_as(&who);
    let d = P::DeletedRead;
    refused("read a deleted product", d, shop.products().get_fresh(p.id, Yes).await.map(drop));
    let filter = ProductFilter { include_deleted: Yes, ..ProductFilter::default() };
    refused("read filters of deleted products", d, shop.products().filters(&filter).await.map(drop));
    let query = ProductListQuery { filter, ..ProductListQuery::default() };
    refused("read deleted products", d, shop.products().list(&query).await.map(drop));
    refused("read a deleted SKU", d, shop.skus().get(sku, Yes).await.map(drop));
    refused("read deleted SKUs", d, shop.skus().of_product(p.id, Yes).await.map(drop));
    refused("read a deleted category", d, shop.categories().get_fresh(top.id, Yes).await.map(drop));
    let filter = CategoryFilter { include_deleted: Yes, ..CategoryFilter::default() };
    refused("read deleted categories", d, shop.categories().list(&filter, &page).await.map(drop));
    refused("read a deleted customer", d, shop.customers().get(ada.id, Yes).await.map(drop));
    let filter = CustomerFilter { include_deleted: Yes, ..CustomerFilter::default() };
    refused(
        "read deleted customers",
        d,
        shop.customers().list(&filter, CustomerSort::default(), &page).await.map(drop),
    );
    refused("read a deleted address", d, shop.addresses().get(address.id, Yes).await.map(drop));
    let filter = AddressFilter { include_deleted: Yes, ..AddressFilter::default() };
    refused("read deleted addresses", d, shop.addresses().list(&filter, &page).await.map(drop));
    let filter = OrderLineFilter { include_deleted: Yes, ..OrderLineFilter::default() };
    let list = shop.orders().lines(&filter, OrderSort::default(), &page).await.map(drop);
    refused("list the lines of deleted orders", d, list);
    refused("read a bill of a deleted order", d, shop.bills().get(bill.id, Yes).await.map(drop));
    let by_number = shop.bills().get_by_number(&bill.number, Yes).await.map(drop);
    refused("read a bill of a deleted order by number", d, by_number);
    refused("read the bills of a deleted order", d, shop.bills().of_order(placed.id, Yes).await.map(drop));
    let filter = BillFilter { include_deleted: Yes, ..BillFilter::default() };
    let list = shop.bills().list(&filter, BillSort::default(), &page).await.map(drop);
    refused("list the bills of deleted orders", d, list);
    refused("a review of a deleted product", d, shop.reviews().get(review.id, Yes).await.map(drop));
    let filter = ReviewFilter { include_deleted: Yes, ..ReviewFilter::default() };
    let list = shop.reviews().list(&filter, ReviewSort::default(), &page).await.map(drop);
    refused("reviews of deleted products", d, list);

    let who = without(P::ForceDelete);
    let shop = f.shop.acting_as(&who);
    let force = DeleteMode::Force;
    refused("purge a product", P::ForceDelete, shop.products().delete(p.id, v(1), force).await);
    refused("purge a SKU", P::ForceDelete, shop.skus().delete(sku, v(1), force).await);
    refused("purge a category", P::ForceDelete, shop.categories().delete(top.id, v(1), force).await);
    refused("purge a customer", P::ForceDelete, shop.customers().delete(ada.id, v(1), force).await);

    // The `…_in` forms refuse the principal too, although the transaction is already open.
    let nobody = Principal::new("nobody", []);
    let shop = f.shop.acting_as(&nobody);
    let mut tx = f.shop.begin().await.unwrap();
    let w = P::ProductsWrite;
    refused("create_in", w, shop.products().create_in(&mut tx, &pen).await.map(drop));
    refused("replace_in", w, shop.products().replace_in(&mut tx, p.id, v(1), &pen).await.map(drop));
    refused("add_image_in", w, shop.products().add_image_in(&mut tx, p.id, v(1), &image).await.map(drop));
    refused("create a SKU in", w, shop.skus().create_in(&mut tx, p.id, &input).await.map(drop));
    refused("create a category in", P::CategoriesWrite, shop.categories().create_in(&mut tx, &other).await.map(drop));
    refused("create a customer in", P::CustomersWrite, shop.customers().create_in(&mut tx, &eve).await.map(drop));
    let erase = shop.customers().erase_in(&mut tx, ada.id).await.map(drop);
    refused("erase a customer in", P::CustomersErase, erase);
    let delete = shop.addresses().delete_in(&mut tx, address.id, v(1)).await;
    refused("delete an address in", P::CustomersWrite, delete);
    let settings = shop.search_settings();
    let synonyms = settings.replace_synonyms_in(&mut tx, v(1), Vec::new()).await.map(drop);
    refused("edit the synonyms in", P::SearchWrite, synonyms);
    let rules = settings.replace_rules_in(&mut tx, v(1), Vec::new()).await.map(drop);
    refused("edit the rules in", P::SearchWrite, rules);
    let reviews = shop.reviews();
    refused("create a review in", P::ReviewsWrite, reviews.create_in(&mut tx, p.id, &five).await.map(drop));
    let put = reviews.replace_in(&mut tx, review.id, v(1), &five).await.map(drop);
    refused("replace a review in", P::ReviewsWrite, put);
    let patch = reviews.patch_in(&mut tx, review.id, v(1), from(&json!({ "rating": 1 }))).await.map(drop);
    refused("patch a review in", P::ReviewsWrite, patch);
    refused("delete a review in", P::ReviewsWrite, reviews.delete_in(&mut tx, review.id, v(1)).await);
    refused(
        "add a line in",
        P::CartsWrite,
        shop.carts().add_line_in(&mut tx, cart.id, staff, any, &line).await.map(drop),
    );
    refused(
        "assign a cart in",
        P::CartsWrite,
        shop.carts().assign_in(&mut tx, cart.id, &token, ada.id).await.map(drop),
    );
    refused("read a cart in", P::CartsRead, shop.carts().get_in(&mut tx, cart.id, staff).await.map(drop));
    refused("place an order in", P::OrdersWrite, shop.orders().place_in(&mut tx, &order).await.map(drop));
    refused("cancel an order in", P::OrdersWrite, shop.orders().cancel_in(&mut tx, placed.id).await.map(drop));
    refused("edit an order in", P::OrdersWrite, shop.orders().edit_in(&mut tx, placed.id, v(1), &edit).await.map(drop));
    let pay = shop.bills().patch_in(&mut tx, bill.id, v(1), &paid).await.map(drop);
    refused("pay a bill in", P::BillsWrite, pay);
    let jobs = shop.jobs();
    refused("enqueue a reindex in", P::IndexWrite, jobs.enqueue_reindex_in(&mut tx).await.map(drop));
    refused("enqueue a verify in", P::IndexWrite, jobs.enqueue_verify_in(&mut tx, true).await.map(drop));
    refused("run a job again in", P::JobsWrite, jobs.retry_in(&mut tx, any_job).await.map(drop));
    refused("cancel a job in", P::JobsWrite, jobs.cancel_in(&mut tx, any_job).await.map(drop));
    refused("enqueue a job in", P::JobsWrite, jobs.enqueue_in(&mut tx, &new_job).await.map(drop));
    refused("pause a queue in", P::JobsWrite, jobs.pause_in(&mut tx, &any_kind).await.map(drop));
    refused("resume a queue in", P::JobsWrite, jobs.resume_in(&mut tx, &any_kind).await.map(drop));
    let webhooks = shop.webhooks();
    let w = P::WebhooksWrite;
    refused("create a webhook in", w, webhooks.create_in(&mut tx, &hook).await.map(drop));
    let patch = webhooks.patch_in(&mut tx, no_webhook, v(1), WebhookPatch::default()).await.map(drop);
    refused("patch a webhook in", w, patch);
    refused("delete a webhook in", w, webhooks.delete_in(&mut tx, no_webhook, v(1)).await);
    refused("replace a secret in", w, webhooks.rotate_secret_in(&mut tx, no_webhook, &rotation).await.map(drop));
    refused("test a webhook in", w, webhooks.test_in(&mut tx, no_webhook).await.map(drop));
    refused("replay a delivery in", w, webhooks.replay_in(&mut tx, no_delivery).await.map(drop));
    refused("adjust_in", P::StockAdjust, shop.inventory().adjust_in(&mut tx, adjustment_of(sku)).await.map(drop));
    drop(tx);

    assert_eq!(f.snapshot().await, before, "a refused call must write nothing");
    let unproven: Vec<&P> = P::ALL.iter().filter(|p| !needed.contains(p)).collect();
    assert!(unproven.is_empty(), "the test itself is at fault: it makes no call that needs {unproven:?}");
}

fn adjustment_of(sku: crate::id::SkuId) -> StockAdjustment {
    StockAdjustment::new(sku, 1, StockReason::Received)
}

/// Makes calls as a principal who has only the required permissions. Rows and events record the principal.
pub async fn what_a_principal_may_do_is_done_and_names_it(f: &ShopFixture) {
    let clerk = Principal::new("user:clerk", [P::ProductsWrite, P::StockAdjust]);
    let shop = f.shop.acting_as(&clerk);
    let p = shop.products().create(&flat("Pen")).await.unwrap();
    assert_eq!(&p.audit.created_by, clerk.actor());
    let adjusted = shop.inventory().adjust(adjustment_of(p.skus[0].id)).await.unwrap();
    assert_eq!(&adjusted.movement.created_by, clerk.actor());
    let trusted = f.shop.products().replace(p.id, v(1), &flat("Ink")).await.unwrap();
    assert_eq!((&trusted.audit.created_by, trusted.audit.updated_by.as_str()), (clerk.actor(), "system"));

    let events = f.shop.events().read(OutboxPosition::default(), 100).await.unwrap().events;
    let actors: Vec<&str> = events.iter().map(|(_, e)| e.actor.as_str()).collect();
    assert_eq!(actors, ["user:clerk", "user:clerk", "system"]);
    let stock: Vec<i64> = events.iter().flat_map(|(_, e)| e.stock_changes()).map(|c| c.delta).collect();
    assert_eq!(stock, [10, 1, -1], "the opening stock, the adjustment, and the stock of the replacement");
}

/// Reads of live products, categories and reviews succeed without any permission.
pub async fn the_live_catalog_needs_no_permission(f: &ShopFixture) {
    let top = f.category("Top", None).await;
    let p = f.plain_in("P", &[&top]).await;
    let review = f.shop.reviews().create(p.id, &ReviewInput::new(4)).await.unwrap();
    let nobody = Principal::new("nobody", []);
    let shop = f.shop.acting_as(&nobody);
    assert_eq!(shop.reviews().get(review.id, IncludeDeleted::No).await.unwrap(), review);
    let list = shop.reviews().list(&ReviewFilter::default(), ReviewSort::default(), &Paging::default()).await.unwrap();
    assert_eq!(list.0.items, [review]);
    assert_eq!(*shop.products().get(p.id).await.unwrap(), *f.shop.products().get(p.id).await.unwrap());
    assert_eq!(shop.products().list(&ProductListQuery::default()).await.unwrap().page.items.len(), 1);
    assert_eq!(shop.categories().tree().await.unwrap().len(), 1);
    assert_eq!(shop.skus().of_product(p.id, IncludeDeleted::No).await.unwrap().len(), 1);
    assert_eq!(shop.inventory().level(p.skus[0].id).await.unwrap().on_hand, 10);
}
