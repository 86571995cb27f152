//! Writes run again if another transaction conflicts with them, but not if their outcome is unknown.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ShopFixture;
use super::feeds::TestFeed;
use super::support::{adjustment, category_input, flat, from, me, v};
use crate::catalog::{Feed, ImportKind};
use crate::config::ShopConfig;
use crate::domain::access::principal::Principal;
use crate::domain::catalog::category::Category;
use crate::domain::catalog::product::{ImageInput, Product};
use crate::domain::catalog::review::{Review, ReviewInput};
use crate::domain::catalog::sku::Sku;
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::job::JobKind;
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::webhook::{WebhookInput, WebhookPatch, WebhookRotation};
use crate::domain::sales::cart::{Cart, CartAccess, CartInput, CartLineInput, CartLinePatch};
use crate::domain::sales::customer::{Address, AddressInput, Customer, CustomerInput};
use crate::domain::search::synonyms::Synonym;
use crate::error::{ErrorCode, Result};
use crate::id::{
    AddressId, CartId, CartLineId, CategoryId, CustomerId, JobId, ProductId, SkuId, WebhookDeliveryId, WebhookId,
};
use crate::shop::{ActingShop, Shop, ShopParts};
use crate::testkit::duplicate_field;
use crate::testkit::faults::Fault;

tests! {
    __shop_writes: [
        a_write_that_another_was_in_the_way_of_is_run_again_and_written_once,
        r13_every_write_returns_its_last_event,
        every_edit_has_one_entry_in_the_audit_log,
        a_write_of_unknown_outcome_is_not_run_again,
        tries_of_a_write_end_and_leave_nothing,
        a_refusal_that_another_write_has_caused_comes_after_that_write_is_durable,
        a_transaction_with_a_failed_call_is_not_committed,
        a_call_refused_before_it_reads_leaves_its_transaction_usable,
        a_deadlock_with_a_host_leaves_an_answer_to_both,
        a_made_name_that_is_lost_to_another_is_made_again,
        products_of_one_title_made_at_once_all_get_a_name,
    ]
}

/// The write that polls a feed.
const POLL: usize = 47;
/// The number of kinds of writes that [`Written::write`] makes.
const WRITES: usize = 48;

/// The rows that some kinds of writes change, with the rows that refer to them. The others are not made.
#[derive(Default)]
struct Written {
    sale: Option<Sale>,
    other: Option<Product>,
    gone: Option<Product>,
    category: Option<Category>,
    gone_category: Option<Category>,
    gone_customer: Option<Customer>,
    webhook: Option<WebhookId>,
    /// The number of the round, which is part of names.
    n: usize,
}

/// A product and a customer, and the rows that refer to them.
struct Sale {
    product: Product,
    sku: Sku,
    gone_sku: Sku,
    customer: Customer,
    address: Address,
    review: Review,
    /// A cart with a line, and two without lines.
    cart: Cart,
    empty: Cart,
    other_cart: Cart,
}

impl Sale {
    async fn make(f: &ShopFixture, n: usize) -> Self {
        let two =
            json!({ "title": format!("P {n}"), "skus": [{ "price": 1, "stock": 5 }, { "price": 2 }, { "price": 3 }] });
        let product = f.product(two).await;
        f.shop.acting_as(me()).skus().delete(product.skus[2].id, v(1), DeleteMode::Soft).await.unwrap();
        let customers = f.shop.acting_as(me()).customers();
        let customer = customers.create(&customer_input(&format!("c{n}@example.com"))).await.unwrap();
        let address = f.shop.acting_as(me()).addresses().create(customer.id, &address_input()).await.unwrap();
        let input = ReviewInput::new(4).customer_id(customer.id);
        let review = f.shop.acting_as(me()).reviews().create(product.id, &input).await.unwrap();
        let carts = f.shop.acting_as(me()).carts();
        let line = cart_line(&product.skus[1]);
        let cart = carts.create(&CartInput::default().line(line)).await.unwrap().cart.cart;
        let empty = carts.create(&CartInput::default()).await.unwrap().cart.cart;
        let other_cart = carts.create(&CartInput::default()).await.unwrap().cart.cart;
        Self {
            product: f.fresh(product.id).await,
            sku: product.skus[1].clone(),
            gone_sku: f.shop.skus().get(product.skus[2].id, IncludeDeleted::Yes).await.unwrap(),
            customer,
            address,
            review,
            cart,
            empty,
            other_cart,
        }
    }
}

impl Written {
    /// Makes the rows for these kinds of writes.
    async fn make(f: &ShopFixture, n: usize, ways: &[usize]) -> Self {
        let mut on = Self { n, ..Self::default() };
        let any = |of: &[usize]| ways.iter().any(|way| of.contains(way));
        // The other kinds only create rows, or change one of those below, to which no row refers.
        if ways.iter().any(|way| !matches!(*way, 0 | 2 | 4 | 9..=12 | 14 | 20 | 39..=46 | POLL)) {
            on.sale = Some(Sale::make(f, n).await);
        }
        if any(&[2, 46]) {
            on.other = Some(f.plain(&format!("Other {n}")).await);
        }
        if any(&[4, 14]) {
            let gone = f.plain(&format!("Gone {n}")).await;
            f.delete(&gone, DeleteMode::Soft).await.unwrap();
            on.gone = Some(f.fresh(gone.id).await);
        }
        if any(&[10, 11]) {
            on.category = Some(f.category(&format!("C {n}"), None).await);
        }
        if any(&[12]) {
            let gone = f.category(&format!("Gone {n}"), None).await;
            f.delete_category(gone.id, DeleteMode::Soft).await.unwrap();
            on.gone_category = Some(f.fresh_category(gone.id).await);
        }
        if any(&[20]) {
            let customers = f.shop.acting_as(me()).customers();
            let gone = customers.create(&customer_input(&format!("gone{n}@example.com"))).await.unwrap();
            customers.delete(gone.id, v(1), DeleteMode::Soft).await.unwrap();
            on.gone_customer = Some(gone);
        }
        if any(&[42, 43, 44]) {
            on.webhook = Some(f.shop.webhooks().create(&webhook_input()).await.unwrap().webhook.id);
        }
        on
    }

    fn sale(&self) -> &Sale {
        self.sale.as_ref().unwrap()
    }

    fn other(&self) -> ProductId {
        self.other.as_ref().unwrap().id
    }

    async fn write(&self, shop: &Shop, way: usize) -> Result<()> {
        let shop = shop.acting_as(me());
        let (products, categories) = (shop.products(), shop.categories());
        match way {
            0 => products.create(&flat("New")).await.map(drop),
            2 => products.replace(self.other(), v(1), &flat("Put")).await.map(drop),
            4 => {
                let gone = self.gone.as_ref().unwrap();
                products.restore(gone.id, v(gone.audit.version)).await.map(drop)
            }
            9 => categories.create(&category_input(&format!("New {}", self.n), None)).await.map(drop),
            10 => {
                let c = self.category.as_ref().unwrap();
                categories.patch(c.id, v(1), from(&json!({ "name": format!("Other {}", self.n) }))).await.map(drop)
            }
            11 => categories.delete(self.category.as_ref().unwrap().id, v(1), DeleteMode::Soft).await,
            12 => {
                let c = self.gone_category.as_ref().unwrap();
                categories.restore(c.id, v(c.audit.version)).await.map(drop)
            }
            14 => {
                let gone = self.gone.as_ref().unwrap();
                products.delete(gone.id, v(gone.audit.version), DeleteMode::Force).await
            }
            20 => {
                let gone = self.gone_customer.as_ref().unwrap();
                shop.customers().restore(gone.id, v(2)).await.map(drop)
            }
            15..20 | 21..25 => self.write_customer(shop, way).await,
            25..29 => self.write_review(shop, way).await,
            29..38 => self.write_cart(shop, way).await,
            38 => shop.customers().erase(self.sale().customer.id).await.map(drop),
            39 => {
                let settings = shop.search_settings();
                let read = v(settings.synonyms().await?.audit.version);
                let synonym = Synonym::two_way([&format!("a {}", self.n), "b"]);
                settings.replace_synonyms(read, vec![synonym]).await.map(drop)
            }
            40 => shop.jobs().enqueue_verify(self.n.is_multiple_of(2)).await.map(drop),
            41 => shop.webhooks().create(&webhook_input()).await.map(drop),
            42..45 => self.write_webhook(shop, way).await,
            45 => shop.analytics().enqueue_rebuild().await.map(drop),
            46 => products.add_image(self.other(), v(1), &ImageInput::new("/a.png")).await.map(drop),
            POLL => shop.feeds().poll(FEED).await.map(drop),
            _ => self.write_product(shop, way).await,
        }
    }

    async fn write_product(&self, shop: ActingShop<'_>, way: usize) -> Result<()> {
        let (products, skus) = (shop.products(), shop.skus());
        let Sale { product: p, sku, gone_sku: gone, .. } = self.sale();
        match way {
            1 => products.patch(p.id, v(p.audit.version), from(&json!({ "brand": "b" }))).await.map(drop),
            3 => products.delete(p.id, v(p.audit.version), DeleteMode::Soft).await,
            5 => skus.create(p.id, &from(&json!({ "price": 1, "stock": 2 }))).await.map(drop),
            6 => skus.patch(sku.id, v(1), from(&json!({ "price": 7, "stock": 3 }))).await.map(drop),
            7 => skus.delete(sku.id, v(1), DeleteMode::Soft).await,
            8 => skus.restore(gone.id, v(gone.audit.version)).await.map(drop),
            _ => shop.inventory().adjust(adjustment(p.skus[0].id, -2)).await.map(drop),
        }
    }

    async fn write_customer(&self, shop: ActingShop<'_>, way: usize) -> Result<()> {
        let (customers, addresses) = (shop.customers(), shop.addresses());
        let (c, a) = (self.sale().customer.id, self.sale().address.id);
        let email = format!("new{}@example.com", self.n);
        match way {
            15 => customers.create(&customer_input(&email)).await.map(drop),
            16 => customers.patch(c, v(1), from(&json!({ "email": email }))).await.map(drop),
            17 => customers.replace(c, v(1), &customer_input(&email)).await.map(drop),
            18 => customers.delete(c, v(1), DeleteMode::Soft).await,
            19 => customers.delete(c, v(1), DeleteMode::Force).await,
            21 => addresses.create(c, &address_input()).await.map(drop),
            22 => addresses.patch(a, v(1), from(&json!({ "city": "Paris" }))).await.map(drop),
            23 => addresses.replace(a, v(1), &from(&json!({ "street": "S", "city": "C" }))).await.map(drop),
            _ => addresses.delete(a, v(1)).await,
        }
    }

    async fn write_review(&self, shop: ActingShop<'_>, way: usize) -> Result<()> {
        let (reviews, r) = (shop.reviews(), &self.sale().review);
        match way {
            25 => reviews.create(r.product_id, &ReviewInput::new(1)).await.map(drop),
            26 => reviews.patch(r.id, v(1), from(&json!({ "rating": "2.5" }))).await.map(drop),
            27 => reviews.replace(r.id, v(1), &ReviewInput::new(3)).await.map(drop),
            _ => reviews.delete(r.id, v(1)).await,
        }
    }

    async fn write_webhook(&self, shop: ActingShop<'_>, way: usize) -> Result<()> {
        let (webhooks, id) = (shop.webhooks(), self.webhook.unwrap());
        match way {
            42 => webhooks.patch(id, v(1), from(&json!({ "enabled": false }))).await.map(drop),
            43 => webhooks.rotate_secret(id, &WebhookRotation::default()).await.map(drop),
            _ => webhooks.delete(id, v(1)).await,
        }
    }

    /// Returns the number of events of a write. A write of a review also changes the rating of its product. A job and
    /// the state of a feed have no event.
    const fn events(way: usize) -> usize {
        match way {
            25..29 => 2,
            40 | 45 | POLL => 0,
            _ => 1,
        }
    }

    /// Returns the number of entries in the audit log. Stock, carts, jobs and the states of feeds have none.
    const fn entries(way: usize) -> usize {
        match way {
            13 | 29..38 | 40 | 45 | POLL => 0,
            _ => 1,
        }
    }

    async fn write_cart(&self, shop: ActingShop<'_>, way: usize) -> Result<()> {
        let (carts, staff, any) = (shop.carts(), &CartAccess::Permission, ExpectedVersion::Unspecified);
        let Sale { sku, customer, cart, empty, other_cart, .. } = self.sale();
        let (cart, empty, other, line) = (cart.id, empty.id, other_cart.id, cart.lines[0].id);
        match way {
            29 => carts.create(&CartInput::default()).await.map(drop),
            30 => carts.patch(cart, staff, v(1), from(&json!({ "email": "a@example.com" }))).await.map(drop),
            31 => carts.delete(cart, staff, v(1)).await,
            32 => carts.add_line(empty, staff, any, &cart_line(sku)).await.map(drop),
            33 => carts.change_line(cart, staff, any, line, &CartLinePatch::quantity(7)).await.map(drop),
            34 => carts.remove_line(cart, staff, any, line).await.map(drop),
            35 => carts.clear(cart, staff, any).await.map(drop),
            36 => carts.merge(empty, staff, other, staff).await.map(drop),
            _ => carts.assign(empty, staff, customer.id).await.map(drop),
        }
    }
}

fn cart_line(sku: &Sku) -> CartLineInput {
    CartLineInput::new(sku.id, 1, sku.price)
}

fn customer_input(email: &str) -> CustomerInput {
    from(&json!({ "first_name": "Ada", "last_name": "Lovelace", "email": email }))
}

fn webhook_input() -> WebhookInput {
    WebhookInput::new("https://example.com/hooks", [EventKind::OrderPlaced])
}

fn address_input() -> AddressInput {
    from(&json!({ "street": "Ockham Lane", "city": "London" }))
}

/// The name of the feed that is polled.
const FEED: &str = "erp";

/// Returns a feed whose source is never read, because nothing runs in the background.
fn feed() -> Feed {
    Feed::new(FEED, ImportKind::Products, TestFeed::new())
}

/// Returns the shop of the fixture, or a shop with a feed for the write that polls it.
fn shop_for(f: &ShopFixture, way: usize) -> Shop {
    if way == POLL { Shop::new(ShopParts { feeds: vec![feed()], ..f.parts() }).unwrap() } else { f.shop.clone() }
}

/// Makes every kind of write of every service.
pub async fn a_write_that_another_was_in_the_way_of_is_run_again_and_written_once(f: &ShopFixture) {
    let (shop, storage) = f.unsteady_with(vec![feed()]);
    for way in 0..WRITES {
        let on = Written::make(f, way, &[way]).await;
        let head = f.head().await;
        storage.plan(&[Fault::Contention; 3]);
        on.write(&shop, way).await.unwrap_or_else(|e| panic!("write {way}: {e:?}"));
        assert_eq!(storage.commits(), 4, "write {way}");
        let events = f.events_after(head).await;
        assert_eq!(events.len(), Written::events(way), "write {way}: {events:?}");
    }
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// An entry and the event of the same name agree.
pub async fn every_edit_has_one_entry_in_the_audit_log(f: &ShopFixture) {
    for way in 0..WRITES {
        let on = Written::make(f, way, &[way]).await;
        let (head, before) = (f.head().await, f.audit_log().await.len());
        on.write(&shop_for(f, way), way).await.unwrap_or_else(|e| panic!("write {way}: {e:?}"));
        let log = f.audit_log().await;
        let new = &log[before..];
        assert_eq!(new.len(), Written::entries(way), "write {way}: {new:#?}");
        let Some(entry) = new.first() else { continue };
        let events = f.events_after(head).await;
        let event = events.iter().find(|e| e.kind.as_str() == entry.action).unwrap_or_else(|| panic!("write {way}"));
        let of_event = (event.aggregate_id, &event.actor, event.occurred_at);
        assert_eq!((entry.aggregate_id, &entry.actor, entry.occurred_at), of_event, "write {way}");
        assert_eq!(&entry.actor, me().actor(), "write {way}");
        // The entries of an erasure, of the permanent deletion of a customer and of a new secret have no values.
        let has_values = entry.before.is_some() || entry.after.is_some();
        assert_eq!(has_values, !matches!(way, 19 | 38 | 43), "write {way}: {entry:#?}");
        assert!(!has_values || entry.before != entry.after, "write {way}: {entry:#?}");
    }
}

/// A shop that records has the event after each kind of write, and none after a write without events.
pub async fn r13_every_write_returns_its_last_event(f: &ShopFixture) {
    for way in 0..WRITES {
        let on = Written::make(f, way, &[way]).await;
        let head = f.head().await;
        let recording = shop_for(f, way).recording();
        on.write(&recording, way).await.unwrap_or_else(|e| panic!("write {way}: {e:?}"));
        let last = f.events_after(head).await.last().map(|event| event.id);
        assert_eq!(last.is_some(), Written::events(way) > 0, "write {way}");
        assert_eq!(recording.last_event(), last, "write {way}");
    }
}

/// The commit has happened or not. A second try could write twice.
pub async fn a_write_of_unknown_outcome_is_not_run_again(f: &ShopFixture) {
    let (shop, storage) = f.unsteady_with(vec![feed()]);
    for way in 0..WRITES {
        for (n, (fault, written)) in [(Fault::CommitLost, 0), (Fault::AnswerLost, 1)].into_iter().enumerate() {
            let on = Written::make(f, way * 2 + n, &[way]).await;
            let head = f.head().await;
            storage.plan(&[fault]);
            let error = on.write(&shop, way).await.expect_err("a write whose commit has no response must fail");
            assert!(error.outcome_unknown() && !error.is_contention(), "write {way}: {error:?}");
            assert_eq!(storage.commits(), 1, "write {way}");
            let events = f.events_after(head).await.len();
            assert_eq!(events, written * Written::events(way), "write {way} after {fault:?}");
        }
    }
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// After some tries, the client receives an error instead of waiting.
pub async fn tries_of_a_write_end_and_leave_nothing(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    let ways = [0, 6, 10, 13, 15, 21, 25, 29, 32, 37];
    let on = Written::make(f, 0, &ways).await;
    let before = f.snapshot().await;
    for way in ways {
        storage.plan(&[Fault::Contention; 100]);
        let error =
            on.write(&shop, way).await.expect_err("a write must fail if another transaction conflicts every time");
        assert!(error.is_contention() && error.is_retryable() && !error.outcome_unknown(), "write {way}: {error:?}");
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert!(
            (2..=8).contains(&storage.commits()),
            "write {way}: a write must be tried 2 to 8 times, but was tried {} times",
            storage.commits()
        );
    }
    assert_eq!(f.snapshot().await, before);
    // The transaction of a host runs once, because only the host can run it again.
    storage.plan(&[Fault::Contention; 1]);
    let mut tx = shop.begin().await.unwrap();
    shop.acting_as(me()).products().create_in(&mut tx, &flat("Host")).await.unwrap();
    assert!(tx.commit().await.unwrap_err().is_contention());
    assert_eq!(storage.commits(), 1);
    assert_eq!(f.snapshot().await, before);
}

/// Of many writers of one email, one succeeds. The others learn of its row, so others must be able to read it by then,
/// also if the storage is behind a wrapper, and if commits fail.
pub async fn a_refusal_that_another_write_has_caused_comes_after_that_write_is_durable(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    for round in 0..8 {
        let email = format!("c{round}@example.com");
        storage.plan(&[Fault::Contention; 2]);
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (shop, stored, email) = (shop.clone(), f.storage.clone(), email.clone());
            writers.spawn(async move {
                let written = shop.acting_as(me()).customers().create(&customer_input(&email)).await;
                let found = read!(stored, customers.find_by_emails(&[email]));
                (written, found)
            });
        }
        let mut succeeded = 0;
        for (written, found) in writers.join_all().await {
            match written {
                Ok(_) => succeeded += 1,
                refused => assert_eq!(duplicate_field(refused, "a second customer of an email"), "email"),
            }
            assert_eq!(found.len(), 1, "a caller must not learn of a row before it is committed");
        }
        assert_eq!(succeeded, 1, "one of the writers of an email must succeed");
    }
}

/// Every `…_in` call that fails makes its transaction one that cannot be committed, also if the host ignores the error.
pub async fn a_transaction_with_a_failed_call_is_not_committed(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let (products, skus, categories) = (shop.products(), shop.skus(), shop.categories());
    let (customers, addresses) = (shop.customers(), shop.addresses());
    let soft = DeleteMode::Soft;
    // A subtree that is one level too deep for its new place: the category is written before its children are checked.
    let mut deep = f.category("Deep 1", None).await;
    for n in 2..Category::MAX_DEPTH {
        deep = f.category(&format!("Deep {n}"), Some(&deep)).await;
    }
    let moved = f.category("Moved", None).await;
    f.category("Child", Some(&moved)).await;
    let taken = f.product(json!({ "title": "Taken", "slug": "taken", "price": 1 })).await;
    let ada = customer_input("ada@example.com");
    let known = customers.create(&ada).await.unwrap();
    let (carts, jobs) = (shop.carts(), shop.jobs());
    let cart = carts.create(&CartInput::default()).await.unwrap().cart.cart.id;
    let before = f.snapshot().await;

    let mut commits = [true, false].into_iter().cycle();
    macro_rules! fails {
        ($service:ident.$call:ident($($argument:expr),*)) => {
            let mut tx = f.shop.begin().await.unwrap();
            products.create_in(&mut tx, &flat("Before")).await.unwrap();
            let call = concat!(stringify!($service), ".", stringify!($call));
            $service.$call(&mut tx, $($argument),*).await.map(drop).expect_err(call);
            // A later call that succeeds does not make up for it.
            let _ = products.create_in(&mut tx, &flat("After")).await;
            let ended = if commits.next() == Some(true) { tx.commit().await } else { tx.finish() };
            let error = ended.map(drop).expect_err(call);
            assert_eq!(error.code(), ErrorCode::StateConflict, "{call}: {error:?}");
            assert!(error.to_string().contains("roll it back"), "{call}: {error}");
        };
    }
    let sku = from(&json!({ "price": 1 }));
    fails!(categories.move_to_in(moved.id, v(1), Some(deep.id.to_string())));
    fails!(products.create_in(&from(&json!({ "title": "Other", "slug": "taken", "price": 1 }))));
    fails!(products.create_many_in(&[flat("Good"), from(&json!({ "title": "Bad", "slug": "taken", "price": 1 }))]));
    fails!(products.replace_in(taken.id, v(9), &flat("Put")));
    fails!(products.patch_in(taken.id, v(1), from(&json!({ "title": "" }))));
    fails!(products.add_image_in(taken.id, v(9), &ImageInput::new("/a.png")));
    fails!(products.delete_in(taken.id, v(9), soft));
    fails!(products.restore_in(taken.id, v(1)));
    fails!(skus.create_in(ProductId(Uuid::nil()), &sku));
    fails!(skus.replace_in(taken.skus[0].id, v(9), &sku));
    fails!(skus.patch_in(taken.skus[0].id, v(9), from(&json!({ "price": 2 }))));
    fails!(skus.delete_in(taken.skus[0].id, v(1), soft));
    fails!(skus.restore_in(taken.skus[0].id, v(1)));
    fails!(categories.create_in(&category_input("Child", Some(CategoryId(Uuid::nil())))));
    fails!(categories.replace_in(moved.id, v(9), &category_input("Put", None)));
    fails!(categories.patch_in(moved.id, v(9), from(&json!({ "name": "Patch" }))));
    fails!(categories.delete_in(moved.id, v(1), soft));
    fails!(categories.restore_in(moved.id, v(1)));
    let nobody = CustomerId(Uuid::nil());
    let double = customer_input("ada@EXAMPLE.com");
    fails!(customers.create_in(&double));
    fails!(customers.replace_in(nobody, v(1), &ada));
    fails!(customers.patch_in(known.id, v(1), from(&json!({ "email": "" }))));
    fails!(customers.delete_in(nobody, v(1), soft));
    fails!(customers.erase_in(nobody));
    fails!(customers.restore_in(known.id, v(1)));
    let nowhere = AddressId(Uuid::nil());
    fails!(jobs.retry_in(JobId(Uuid::nil())));
    fails!(jobs.cancel_in(JobId(Uuid::nil())));
    // The state is written before the queue turns out to be unknown.
    fails!(jobs.pause_in(&JobKind::new("unknown")));
    let (webhooks, no_webhook) = (shop.webhooks(), WebhookId(Uuid::nil()));
    fails!(webhooks.patch_in(no_webhook, v(1), WebhookPatch::default()));
    fails!(webhooks.delete_in(no_webhook, v(1)));
    fails!(webhooks.rotate_secret_in(no_webhook, &WebhookRotation::default()));
    fails!(webhooks.test_in(no_webhook));
    fails!(webhooks.replay_in(WebhookDeliveryId(Uuid::nil())));
    fails!(addresses.create_in(nobody, &address_input()));
    fails!(addresses.replace_in(nowhere, v(1), &address_input()));
    fails!(addresses.patch_in(nowhere, v(1), from(&json!({ "city": "Paris" }))));
    fails!(addresses.delete_in(nowhere, v(1)));
    let (staff, any, no_line) = (&CartAccess::Permission, ExpectedVersion::Unspecified, CartLineId(Uuid::nil()));
    let unknown = CartLineInput::new(SkuId(Uuid::nil()), 1, taken.skus[0].price);
    fails!(carts.create_in(&CartInput::default().customer_id(nobody)));
    fails!(carts.patch_in(cart, staff, v(9), from(&json!({ "email": "a@example.com" }))));
    fails!(carts.delete_in(cart, staff, v(9)));
    fails!(carts.add_line_in(cart, staff, any, &unknown));
    fails!(carts.change_line_in(cart, staff, any, no_line, &CartLinePatch::quantity(2)));
    fails!(carts.remove_line_in(cart, staff, any, no_line));
    fails!(carts.clear_in(CartId(Uuid::nil()), staff, any));
    fails!(carts.merge_in(CartId(Uuid::nil()), staff, cart, staff));
    fails!(carts.assign_in(cart, staff, nobody));

    // A call whose future is dropped has not succeeded either.
    let mut tx = f.shop.begin().await.unwrap();
    // A database in memory may answer at once, so that the call ends.
    match products.create_in(&mut tx, &flat("Dropped")).now_or_never() {
        None => assert_eq!(tx.commit().await.unwrap_err().code(), ErrorCode::StateConflict),
        Some(created) => drop((created.unwrap(), tx)),
    }
    assert!(f.snapshot().await == before, "a transaction with a failed call has written something");
}

/// The host can commit a transaction in which such a call was refused.
pub async fn a_call_refused_before_it_reads_leaves_its_transaction_usable(f: &ShopFixture) {
    let stocked = f.plain("Stocked").await;
    let nobody = Principal::new("nobody", []);
    let shop = f.shop.acting_as(me());
    let (products, inventory) = (shop.products(), shop.inventory());
    let mut tx = f.shop.begin().await.unwrap();
    f.shop.acting_as(&nobody).products().create_in(&mut tx, &flat("Pen")).await.unwrap_err();
    products.create_in(&mut tx, &flat("")).await.unwrap_err();
    shop.categories().create_in(&mut tx, &category_input("", None)).await.unwrap_err();
    inventory.adjust_in(&mut tx, adjustment(stocked.skus[0].id, -1_000)).await.unwrap_err();
    inventory.adjust_in(&mut tx, adjustment(SkuId(Uuid::nil()), 1)).await.unwrap_err();
    inventory.adjust_in(&mut tx, adjustment(stocked.skus[0].id, -1)).await.unwrap();
    let pen = products.create_in(&mut tx, &flat("Pen")).await.unwrap();
    tx.commit().await.unwrap().run().await;
    assert_eq!(f.fresh(pen.id).await.title, "Pen");
    assert_eq!(f.fresh(stocked.id).await.skus[0].on_hand, 9);
}

/// A host locks SKUs in another order than the service, which locks those of a batch by id. The database decides which
/// transaction it aborts: the service runs its write again, and the host receives an error that allows a retry.
pub async fn a_deadlock_with_a_host_leaves_an_answer_to_both(f: &ShopFixture) {
    let (a, b) = (f.plain("A").await.skus[0].id, f.plain("B").await.skus[0].id);
    let mut host = f.storage.begin().await.unwrap();
    host.inventory().lock(&[b]).await.unwrap();
    let service = tokio::spawn({
        let shop = f.shop.clone();
        async move {
            let inventory = shop.inventory();
            let all = (0..64).map(|n| inventory.adjust(adjustment(if n % 2 == 0 { a } else { b }, 1)));
            futures::future::join_all(all).await
        }
    });
    // If the service has not locked a SKU in time, or waits for the right to write, there is no deadlock.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let locked = host.inventory().lock(&[a]).await;
    println!("the host {}", if locked.is_ok() { "continues" } else { "is aborted" });
    match locked {
        Ok(_) => host.commit().await.unwrap(),
        Err(e) => {
            assert!(e.is_contention(), "{e:?}");
            drop(host);
        }
    }
    for adjusted in service.await.unwrap() {
        adjusted.unwrap();
    }
    for sku in [a, b] {
        assert_eq!(f.shop.inventory().level(sku).await.unwrap().on_hand, 10 + 32);
    }
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// A name that the library has derived is free when it is checked and taken when it is written. The client, who has not
/// chosen the name, does not receive an error.
pub async fn a_made_name_that_is_lost_to_another_is_made_again(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    f.plain("Lamp").await;
    f.product(json!({ "title": "Unlike", "sku": "torch", "price": 1 })).await;
    let made = async |input: Value| shop.acting_as(me()).products().create(&from(&input)).await;

    storage.blind(true, false);
    let p = made(json!({ "title": "Lamp", "price": 1 })).await.unwrap();
    assert_eq!((p.slug.as_str(), p.skus[0].code.as_str()), ("lamp-2", "lamp-2"));
    storage.blind(false, true);
    let torch = made(json!({ "title": "Torch", "price": 1 })).await.unwrap();
    assert_eq!((torch.slug.as_str(), torch.skus[0].code.as_str()), ("torch", "torch-2"));
    storage.blind(true, false);
    let patch = from(&json!({ "title": "Lamp", "slug": null }));
    let moved = shop.acting_as(me()).products().patch(torch.id, v(1), patch).await.unwrap();
    assert_eq!(moved.slug.as_str(), "lamp-3");
    storage.blind(false, true);
    let sku = shop.acting_as(me()).skus().create(p.id, &from(&json!({ "price": 1 }))).await.unwrap();
    assert_eq!(sku.code, "lamp-2-2");
    f.product(json!({ "title": "Unlike", "sku": "lamp-2-3", "price": 1 })).await;
    storage.blind(false, true);
    let put = json!({ "title": "Lamp", "skus": [{ "code": "lamp-2", "price": 1 }, { "price": 1 }, { "price": 1 }] });
    let read = v(f.fresh(p.id).await.audit.version);
    let put = shop.acting_as(me()).products().replace(p.id, read, &from(&put)).await.unwrap();
    assert_eq!(put.skus.iter().map(|s| &*s.code).collect::<Vec<_>>(), ["lamp-2", "lamp-2-4", "lamp-2-5"]);

    // A name that the client has chosen is refused.
    storage.blind(true, false);
    let refused = made(json!({ "title": "Any", "slug": "lamp", "price": 1 })).await;
    assert_eq!(duplicate_field(refused, "a chosen slug"), "slug");
    // It is refused even if another name in the write is derived.
    let refused = made(json!({ "title": "Lamp", "sku": "LAMP", "price": 1 })).await;
    assert_eq!(duplicate_field(refused, "a chosen code"), "code");

    // The transaction of a host fails, with an error that allows a retry.
    storage.blind(true, false);
    let mut tx = shop.begin().await.unwrap();
    let error = shop.acting_as(me()).products().create_in(&mut tx, &flat("Lamp")).await.unwrap_err();
    assert!(error.is_contention(), "the transaction of a host must fail with an error that allows a retry: {error:?}");
}

/// Two processes create products with one title.
pub async fn products_of_one_title_made_at_once_all_get_a_name(f: &ShopFixture) {
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        tasks.spawn(async move { shop.acting_as(me()).products().create(&flat("Crème brûlée")).await.unwrap() });
    }
    let made = tasks.join_all().await;
    let slugs: BTreeSet<&str> = made.iter().map(|p| p.slug.as_str()).collect();
    let codes: BTreeSet<&str> = made.iter().map(|p| p.skus[0].code.as_str()).collect();
    assert_eq!((slugs.len(), codes.len()), (32, 32));
    for n in 1..=32 {
        let slug = if n == 1 { "creme-brulee".to_owned() } else { format!("creme-brulee-{n}") };
        assert!(slugs.contains(&*slug), "the slugs must be numbered without gaps, but {slug} is missing: {slugs:?}");
    }
}
