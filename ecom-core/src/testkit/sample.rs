//! Valid values of every aggregate, which are the same at every run, and helpers that store them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::domain::access::api_key::ApiKey;
use crate::domain::access::principal::Permission;
use crate::domain::access::role::Role;
use crate::domain::access::secret::{Secret, SecretHash};
use crate::domain::access::session::{OneTimePurpose, OneTimeToken, Session};
use crate::domain::access::user::{PasswordHash, User};
use crate::domain::catalog::category::{Category, CategorySummary};
use crate::domain::catalog::product::{Image, Product, ProductStatus, RatingSource, RatingSummary};
use crate::domain::catalog::review::Review;
use crate::domain::catalog::sku::{Dimensions, Sku};
use crate::domain::common::{Actor, Attributes, Audit, ExternalRef};
use crate::domain::platform::outbox::{Event, EventKind};
use crate::domain::sales::bill::{Bill, BillKind, BillStatus, PaymentType};
use crate::domain::sales::cart::{Cart, CartLine, CartState};
use crate::domain::sales::customer::{Address, Customer};
use crate::domain::sales::order::{
    AdjustmentKind, Buyer, ChangeKind, DeliveryMethod, LineKind, Order, OrderAdjustment, OrderChange, OrderLine,
    OrderRecord, OrderStatus, PostalAddress, Totals,
};
use crate::domain::stock::inventory::{StockMovement, StockReason};
use crate::error::Result;
use crate::id::{
    AddressId, ApiKeyId, BillId, CartId, CartLineId, CategoryId, CustomerId, EventId, IdSource as _, OrderAdjustmentId,
    OrderId, OrderLineId, ProductId, ReviewId, RoleId, SessionId, SkuId, StockMovementId, UserId, UuidV7Source,
};
use crate::money::{Currency, Measure, Money, Percentage, Rating, Stars};
use crate::port::storage::Storage;
use crate::text::Slug;

/// The time at which every [`Env`] starts: 2026-01-02 03:04:05.678901 UTC.
const START_MICROS: i64 = 1_767_323_045_678_901;

/// An environment that is determined by its seed: a clock that advances one millisecond per call, and a source of ids.
#[derive(Debug)]
pub struct Env {
    /// The clock, which [`Env::now`] advances.
    pub clock: Arc<ManualClock>,
    /// The source of ids.
    pub ids: UuidV7Source,
    /// The actor of all changes.
    pub actor: Actor,
}

impl Default for Env {
    fn default() -> Self {
        Self::new(42)
    }
}

impl Env {
    /// Returns the environment of a seed.
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at_micros(START_MICROS));
        Self { ids: UuidV7Source::seeded(clock.clone(), seed), clock, actor: Actor::new("user:testkit") }
    }

    /// Returns a time that is later than all times before.
    pub fn now(&self) -> Timestamp {
        self.clock.advance(Duration::from_millis(1));
        self.clock.now()
    }

    /// Returns the audit fields of a row that is created now.
    pub fn audit(&self) -> Audit {
        Audit::created(self.now(), &self.actor)
    }

    /// Returns the audit fields of a row at version 3, which another actor has edited.
    pub fn edited_audit(&self) -> Audit {
        let mut audit = self.audit();
        audit.edited(self.now(), &Actor::new("system"));
        audit.edited(self.now(), &Actor::new("Grüße, 世界 🛒"));
        audit
    }

    /// Returns a category without optional fields.
    pub fn category(&self, name: &str, parent: Option<&Category>) -> Category {
        let slug = Slug::from_title(name, "category");
        Category {
            id: CategoryId(self.ids.next()),
            name: name.to_owned(),
            path: Category::path_under(parent, &slug),
            slug,
            parent_id: parent.map(|p| p.id),
            description: None,
            attributes: Attributes::default(),
            external: None,
            product_count: 0,
            subtree_product_count: 0,
            revision: 1,
            audit: self.audit(),
        }
    }

    /// Returns a category with all fields.
    pub fn full_category(&self, name: &str, parent: Option<&Category>) -> Category {
        let plain = self.category(name, parent);
        Category {
            description: Some(format!("All about {name}:\n\t\"quotes\", 'apostrophes', 100% \\ _ 🎧 ünïcödé")),
            attributes: attributes(),
            external: Some(ExternalRef::new("Legacy ERP", format!("cat/{name}/ä"))),
            revision: 7,
            audit: self.edited_audit(),
            ..plain
        }
    }

    /// Returns an active product without optional fields and without SKUs.
    pub fn product(&self, title: &str) -> Product {
        Product {
            id: ProductId(self.ids.next()),
            title: title.to_owned(),
            slug: Slug::from_title(title, "product"),
            description: None,
            brand: None,
            status: ProductStatus::Active,
            categories: Vec::new(),
            tags: Vec::new(),
            images: Vec::new(),
            attributes: Attributes::default(),
            discount: Percentage::default(),
            warranty_information: None,
            shipping_information: None,
            rating: RatingSummary::default(),
            external: None,
            skus: Vec::new(),
            revision: 1,
            audit: self.audit(),
        }
    }

    /// Returns an active product with one SKU, whose code is the slug in upper case.
    pub fn priced(&self, title: &str, price: i64, on_hand: i64) -> Product {
        let mut p = self.product(title);
        let code = p.slug.as_str().to_uppercase();
        self.add_sku(&mut p, &code, price, on_hand);
        p
    }

    /// Returns a product with all fields and three SKUs, in `categories`.
    pub fn full_product(&self, title: &str, categories: &[&Category]) -> Product {
        let mut p = Product {
            description: Some("Two lines\nwith a tab\t, \"quotes\", 100% \\ _ and 🧺 ünïcödé.".to_owned()),
            brand: Some("Ærø & Søn".to_owned()),
            status: ProductStatus::Archived,
            categories: categories.iter().map(|c| CategorySummary::from(*c)).collect(),
            tags: vec!["zebra".to_owned(), "Apple Pie".to_owned(), "mañana".to_owned()],
            images: vec![
                image("https://img.example/b.webp?x=1&y=2", Some("The back"), false),
                image("/media/a.png", None, true),
                image("https://img.example/c.jpg", Some("Größe 🎽"), false),
            ],
            attributes: attributes(),
            discount: Percentage::from_hundredths(1_048).unwrap(),
            warranty_information: Some("2 years".to_owned()),
            shipping_information: Some("Ships in 1–2 days".to_owned()),
            rating: RatingSummary {
                mean: Rating::from_hundredths(456).unwrap(),
                count: 12,
                source: RatingSource::External,
            },
            external: Some(ExternalRef::new("dummyjson", format!("p/{title}"))),
            revision: 9,
            audit: self.edited_audit(),
            ..self.product(title)
        };
        for (code, price, on_hand) in [("S", 1_999, 12), ("M", 2_499, 3), ("L", 2_999, 0)] {
            let code = format!("{}-{code}", p.slug.as_str().to_uppercase());
            let sku = self.full_sku(&p, &code, price, on_hand);
            p.skus.push(sku);
        }
        p
    }

    /// Returns a SKU without optional fields, positioned after the other SKUs of the product.
    pub fn sku(&self, product: &Product, code: &str, price: i64, on_hand: i64) -> Sku {
        Sku {
            id: SkuId(self.ids.next()),
            product_id: product.id,
            position: product.skus.len() as i32,
            code: code.to_owned(),
            option_values: BTreeMap::new(),
            attributes: Attributes::default(),
            price: usd(price),
            weight: None,
            dimensions: None,
            on_hand,
            reserved: 0,
            track_stock: true,
            low_stock_threshold: 5,
            barcode: None,
            external: None,
            audit: self.audit(),
        }
    }

    /// Returns a SKU with all fields.
    pub fn full_sku(&self, product: &Product, code: &str, price: i64, on_hand: i64) -> Sku {
        Sku {
            option_values: BTreeMap::from([
                ("size".to_owned(), code.to_owned()),
                ("Größe".to_owned(), "weit \"XL\"".to_owned()),
            ]),
            attributes: attributes(),
            weight: Some(measure(1_234)),
            dimensions: Some(Dimensions { width: measure(1), height: measure(0), depth: measure(100_000_000_000) }),
            reserved: on_hand.min(2),
            track_stock: false,
            low_stock_threshold: 4,
            barcode: Some(format!("40{code}")),
            external: Some(ExternalRef::new("dummyjson", format!("s/{code}"))),
            audit: self.edited_audit(),
            ..self.sku(product, code, price, on_hand)
        }
    }

    /// Adds a SKU without optional fields to a product, and returns its id.
    pub fn add_sku(&self, product: &mut Product, code: &str, price: i64, on_hand: i64) -> SkuId {
        let sku = self.sku(product, code, price, on_hand);
        let id = sku.id;
        product.skus.push(sku);
        id
    }

    /// Returns the movements whose sums are the stock on hand of new SKUs (R11).
    pub fn opening<'a>(&self, skus: impl IntoIterator<Item = &'a Sku>) -> Vec<StockMovement> {
        skus.into_iter()
            .filter(|s| s.on_hand != 0)
            .map(|s| StockMovement { reason: StockReason::Initial, ..self.movement(s.id, s.on_hand) })
            .collect()
    }

    /// Returns the movement of an adjustment.
    pub fn movement(&self, sku_id: SkuId, delta: i64) -> StockMovement {
        StockMovement {
            id: StockMovementId(self.ids.next()),
            sku_id,
            delta,
            reason: StockReason::Adjustment,
            reference: None,
            order_line_id: None,
            created_at: self.now(),
            created_by: self.actor.clone(),
        }
    }

    /// Returns a customer without optional fields.
    pub fn customer(&self, first_name: &str, last_name: &str, email: &str) -> Customer {
        Customer {
            id: CustomerId(self.ids.next()),
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            email: email.to_owned(),
            telephone: None,
            attributes: Attributes::default(),
            external: None,
            erased_at: None,
            audit: self.audit(),
        }
    }

    /// Returns a customer with all fields.
    pub fn full_customer(&self, first_name: &str, last_name: &str, email: &str) -> Customer {
        Customer {
            telephone: Some("+12345678901234567890".to_owned()),
            attributes: attributes(),
            external: Some(ExternalRef::new("Legacy CRM", format!("c/{email}/ä"))),
            audit: self.edited_audit(),
            ..self.customer(first_name, last_name, email)
        }
    }

    /// Returns an address without optional fields.
    pub fn address(&self, customer: &Customer, street: &str, city: &str) -> Address {
        Address {
            id: AddressId(self.ids.next()),
            customer_id: customer.id,
            street: street.to_owned(),
            number: None,
            city: city.to_owned(),
            region: None,
            postal_code: None,
            country: None,
            audit: self.audit(),
        }
    }

    /// Returns an address with all fields.
    pub fn full_address(&self, customer: &Customer, street: &str, city: &str) -> Address {
        Address {
            number: Some("12½ b".to_owned()),
            region: Some("Île-de-France".to_owned()),
            postal_code: Some("〒150-0001".to_owned()),
            country: Some("FR".to_owned()),
            audit: self.edited_audit(),
            ..self.address(customer, street, city)
        }
    }

    /// Returns a review without a comment. The rating is in tenths of a star.
    pub fn review(&self, product: &Product, customer: Option<&Customer>, tenths: i64) -> Review {
        Review {
            id: ReviewId(self.ids.next()),
            product_id: product.id,
            customer_id: customer.map(|c| c.id),
            rating: Stars::from_tenths(tenths).unwrap(),
            comment: None,
            audit: self.audit(),
        }
    }

    /// Returns a review with all fields.
    pub fn full_review(&self, product: &Product, customer: &Customer, tenths: i64) -> Review {
        Review {
            comment: Some("Two lines\nwith a tab\t, \"quotes\", 100% \\ _ and 🧺 ünïcödé.".to_owned()),
            audit: self.edited_audit(),
            ..self.review(product, Some(customer), tenths)
        }
    }

    /// Returns an open guest's cart without optional fields and without lines. No token opens it.
    pub fn cart(&self) -> Cart {
        let audit = self.audit();
        Cart {
            id: CartId(self.ids.next()),
            token_hash: None,
            customer_id: None,
            email: None,
            currency: Currency::USD,
            state: CartState::Open,
            merged_into: None,
            expires_at: audit.created_at + Duration::from_secs(86_400),
            attributes: Attributes::default(),
            external: None,
            audit,
            lines: Vec::new(),
        }
    }

    /// Returns a cart with all fields, of a customer or of a guest.
    pub fn full_cart(&self, customer: Option<&Customer>, email: &str, lines: Vec<CartLine>) -> Cart {
        Cart {
            customer_id: customer.map(|c| c.id),
            email: Some(email.to_owned()),
            attributes: attributes(),
            external: Some(ExternalRef::new("Legacy shop", format!("b/{email}/ä"))),
            audit: self.edited_audit(),
            lines,
            ..self.cart()
        }
    }

    /// Returns a line of a cart without attributes. The price is in minor units.
    pub fn cart_line(&self, sku_id: SkuId, quantity: i64, seen_price: i64) -> CartLine {
        CartLine {
            id: CartLineId(self.ids.next()),
            sku_id,
            attributes: Attributes::default(),
            quantity,
            seen_price: usd(seen_price),
        }
    }

    /// Returns a guest's pending order without optional fields and without lines, with its bill. Its numbers are unique.
    pub fn order(&self) -> OrderRecord {
        let audit = self.audit();
        let order = Order {
            id: OrderId(self.ids.next()),
            number: format!("N-{}", self.ids.next()),
            cart_id: None,
            customer_id: None,
            buyer: Buyer {
                first_name: Some("Grace".to_owned()),
                last_name: None,
                email: Some("grace@example.com".to_owned()),
                telephone: None,
            },
            status: OrderStatus::Pending,
            delivery_method: DeliveryMethod::OnHand,
            shipping_address: None,
            billing_address: None,
            tracking: None,
            prices_include_tax: false,
            totals: Totals::of(0, 0, Currency::USD),
            engine: 1,
            placed_at: audit.created_at,
            canceled_at: None,
            erased_at: None,
            attributes: Attributes::default(),
            external: None,
            lines: Vec::new(),
            audit,
        };
        let bill = self.bill(&order, BillKind::Bill, 1);
        OrderRecord { order, adjustments: Vec::new(), bills: vec![bill] }
    }

    /// Returns a bill or a credit note without amounts. The number is unique.
    pub fn bill(&self, order: &Order, kind: BillKind, seq: i32) -> Bill {
        let audit = self.audit();
        Bill {
            id: BillId(self.ids.next()),
            order_id: order.id,
            kind,
            seq,
            corrects: None,
            number: format!("B-{}", self.ids.next()),
            totals: Totals::of(0, 0, Currency::USD),
            payment_type: PaymentType::Cash,
            status: BillStatus::Open,
            date: audit.created_at,
            audit,
        }
    }

    /// Returns a line of the order's first bill, after its other lines, that sells the first SKU of a product without
    /// discount.
    pub fn order_line(&self, order: &Order, product: &Product, quantity: i64) -> OrderLine {
        let sku = &product.skus[0];
        OrderLine {
            id: OrderLineId(self.ids.next()),
            order_id: order.id,
            placed_at: order.placed_at,
            position: order.lines.len() as i32 + 1,
            bill_seq: 1,
            kind: LineKind::Sku,
            sku_id: Some(sku.id),
            product_id: Some(product.id),
            code: Some(sku.code.clone()),
            title: product.title.clone(),
            options: sku.option_values.clone(),
            attributes: Attributes::default(),
            takes_stock: sku.track_stock,
            list_price: sku.price,
            unit_price: sku.price,
            quantity,
            canceled: 0,
            totals: Totals::of(quantity * sku.price.minor(), 0, Currency::USD),
        }
    }

    /// Returns a discount on a line.
    pub fn adjustment(&self, line: &OrderLine, amount: i64) -> OrderAdjustment {
        OrderAdjustment {
            id: OrderAdjustmentId(self.ids.next()),
            order_id: line.order_id,
            line_id: line.id,
            kind: AdjustmentKind::Manual,
            label: "Discount".to_owned(),
            step: 1,
            amount: usd(amount),
        }
    }

    /// Returns a guest's order of one line, whose amounts add up.
    pub fn order_of(&self, product: &Product, quantity: i64) -> OrderRecord {
        let mut record = self.order();
        let line = self.order_line(&record.order, product, quantity);
        (record.order.totals, record.bills[0].totals) = (line.totals, line.totals);
        record.order.lines.push(line);
        record
    }

    /// Returns an order with all fields, from a cart, with lines of every kind, discounts, two bills and two credit
    /// notes. Its amounts only keep the checks of the database.
    pub fn full_order(&self, customer: &Customer, product: &Product) -> OrderRecord {
        let mut record = self.order();
        let order = &mut record.order;
        let sums = |subtotal: i64, discount: i64, shipping: i64| Totals {
            shipping: usd(shipping),
            tax_added: usd(123),
            tax_included: usd(45),
            total: usd(subtotal - discount + shipping + 123),
            ..Totals::of(subtotal, discount, Currency::USD)
        };
        let address = |street: &str| PostalAddress {
            street: street.to_owned(),
            number: Some("12½ b".to_owned()),
            city: "Saint-Étienne".to_owned(),
            region: Some("Île-de-France".to_owned()),
            postal_code: Some("〒150-0001".to_owned()),
            country: Some("FR".to_owned()),
        };
        *order = Order {
            cart_id: Some(CartId(self.ids.next())),
            customer_id: Some(customer.id),
            buyer: Buyer {
                first_name: Some("Zoë".to_owned()),
                last_name: Some("O'Brien-Ærø 茶".to_owned()),
                email: Some(customer.email.clone()),
                telephone: Some("+12345678901234567890".to_owned()),
            },
            status: OrderStatus::Canceled,
            delivery_method: DeliveryMethod::HomeDelivery,
            shipping_address: Some(address("Rue de l'Église \"7\"")),
            billing_address: Some(PostalAddress {
                street: "渋谷".to_owned(),
                city: "東京都".to_owned(),
                ..PostalAddress::default()
            }),
            tracking: Some("1Z 999 🧺 \"%_\\".to_owned()),
            prices_include_tax: true,
            totals: sums(999_999_999_999_999, 250, 499),
            engine: 7,
            canceled_at: Some(self.now()),
            erased_at: Some(self.now()),
            attributes: attributes(),
            external: Some(ExternalRef::new("Legacy shop", format!("o/{}/ä", order.id))),
            audit: self.edited_audit(),
            ..order.clone()
        };
        let sold = OrderLine {
            options: BTreeMap::from([("Größe".to_owned(), "weit \"XL\"".to_owned())]),
            attributes: attributes(),
            takes_stock: true,
            list_price: usd(1_000_000_000_000_000),
            unit_price: usd(333_333_333_333_333),
            canceled: 1,
            totals: Totals {
                shipping: usd(0),
                total: usd(999_999_999_999_999 - 250 + 123),
                ..sums(999_999_999_999_999, 250, 0)
            },
            ..self.order_line(order, product, 3)
        };
        order.lines.push(sold);
        for kind in [LineKind::Custom, LineKind::Fee] {
            let line = OrderLine {
                kind,
                bill_seq: 2,
                sku_id: None,
                product_id: None,
                code: None,
                title: "Gift wrap 🎁 in \"gold\"".to_owned(),
                takes_stock: false,
                list_price: usd(0),
                unit_price: usd(700),
                totals: Totals { total: usd(700 - 7 + 123), ..sums(700, 7, 0) },
                ..self.order_line(order, product, 1)
            };
            order.lines.push(line);
        }
        let [first, second, third] = &order.lines[..] else { return record };
        record.adjustments = vec![
            self.adjustment(first, 100),
            OrderAdjustment {
                kind: AdjustmentKind::Promotion,
                label: "Été: 10 % \"off\"".to_owned(),
                step: 2,
                ..self.adjustment(first, 150)
            },
            self.adjustment(second, 7),
            self.adjustment(third, 7),
        ];
        let bill =
            |kind: BillKind, seq: i32, corrects: Option<BillId>, status: BillStatus, payment_type: PaymentType| Bill {
                corrects,
                status,
                payment_type,
                totals: sums(4_000, 7, 499),
                audit: self.edited_audit(),
                ..self.bill(order, kind, seq)
            };
        let one = bill(BillKind::Bill, 1, None, BillStatus::Paid, PaymentType::Card);
        let two = bill(BillKind::Bill, 2, None, BillStatus::Void, PaymentType::Cash);
        let note = bill(BillKind::CreditNote, 1, Some(one.id), BillStatus::Open, PaymentType::Card);
        let other = bill(BillKind::CreditNote, 2, Some(two.id), BillStatus::Void, PaymentType::Cash);
        record.bills = vec![one, two, note, other];
        record
    }

    /// Returns the entry of the history that brought an order to its state.
    pub fn order_change(&self, record: &OrderRecord, kind: ChangeKind) -> OrderChange {
        OrderChange {
            order_id: record.order.id,
            seq: record.order.audit.version,
            kind,
            from: (kind != ChangeKind::Placed).then_some(OrderStatus::Pending),
            to: record.order.status,
            data: json!({ "why": "a test, ünïcödé", "n": 9_007_199_254_740_993_i64, "list": [1, null, true] }),
            actor: self.actor.clone(),
            at: record.order.audit.updated_at,
        }
    }

    /// Inserts orders, each with the first entry of its history, in a new unit of work.
    pub async fn insert_orders(&self, storage: &Arc<dyn Storage>, records: &[OrderRecord]) -> Result<()> {
        let changes: Vec<OrderChange> = records.iter().map(|r| self.order_change(r, ChangeKind::Placed)).collect();
        let mut uow = storage.begin().await?;
        uow.orders().insert(records, &changes).await?;
        uow.commit().await
    }

    /// Returns a role without a description and without permissions.
    pub fn role(&self, name: &str) -> Role {
        Role {
            id: RoleId(self.ids.next()),
            name: name.to_owned(),
            description: None,
            permissions: [].into(),
            audit: self.audit(),
        }
    }

    /// Returns a role with all fields and every permission.
    pub fn full_role(&self, name: &str) -> Role {
        Role {
            description: Some("Night shift: \"quotes\", 100% \\ _ and 🧺 ünïcödé.".to_owned()),
            permissions: Permission::ALL.iter().copied().collect(),
            audit: self.edited_audit(),
            ..self.role(name)
        }
    }

    /// Returns a user without optional fields and without roles.
    pub fn user(&self, email: &str) -> User {
        User {
            id: UserId(self.ids.next()),
            email: email.to_owned(),
            email_verified_at: None,
            name: None,
            password: None,
            password_set_at: None,
            roles: Vec::new(),
            customer_id: None,
            blocked_at: None,
            audit: self.audit(),
        }
    }

    /// Returns a blocked user with all fields, which has `roles`.
    pub fn full_user(&self, email: &str, customer: Option<&Customer>, roles: &[RoleId]) -> User {
        let mut roles = roles.to_vec();
        roles.sort_unstable();
        User {
            email_verified_at: Some(self.now()),
            name: Some("Zoë \"O'Brien\" 茶".to_owned()),
            password: Some(PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA")),
            password_set_at: Some(self.now()),
            roles,
            customer_id: customer.map(|c| c.id),
            blocked_at: Some(self.now()),
            audit: self.edited_audit(),
            ..self.user(email)
        }
    }

    /// Returns a hash that no other secret of the tests has.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.ids.next().as_bytes())
    }

    /// Returns an API key with one permission and without optional fields.
    pub fn api_key(&self, name: &str) -> ApiKey {
        let secret = ApiKey::secret(self.hash().0);
        ApiKey {
            id: ApiKeyId(self.ids.next()),
            name: name.to_owned(),
            prefix: ApiKey::prefix_of(&secret),
            hash: Secret::hash(&secret),
            permissions: [Permission::StockAdjust].into(),
            is_admin: false,
            expires_at: None,
            last_used_at: None,
            audit: self.audit(),
        }
    }

    /// Returns a session of a user, which can be refreshed for a week.
    pub fn session(&self, user: &User) -> Session {
        let now = self.now();
        Session {
            id: SessionId(self.ids.next()),
            user_id: user.id,
            family: self.hash(),
            token: self.hash(),
            user_agent: None,
            created_at: now,
            refreshed_at: now,
            expires_at: now + Duration::from_secs(7 * 86_400),
            ended: None,
        }
    }

    /// Returns a one-time token that is sent to the address of a user.
    pub fn one_time_token(&self, user: &User, purpose: OneTimePurpose) -> OneTimeToken {
        let expires_at = self.now() + Duration::from_secs(3_600);
        OneTimeToken { hash: self.hash(), user_id: user.id, purpose, email: user.email.clone(), expires_at }
    }

    /// Inserts users in a new unit of work.
    pub async fn insert_users(&self, storage: &Arc<dyn Storage>, users: &[User]) -> Result<()> {
        let mut uow = storage.begin().await?;
        for user in users {
            uow.users().insert(user).await?;
        }
        uow.commit().await
    }

    /// Updates `before` to `after` in a new unit of work.
    pub async fn update_user(&self, storage: &Arc<dyn Storage>, before: &User, after: &User) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.users().lock(before.id).await?;
        uow.users().update(before, after).await?;
        uow.commit().await
    }

    /// Soft-deletes a user and returns it after the deletion.
    pub async fn soft_delete_user(&self, storage: &Arc<dyn Storage>, user: &User) -> Result<User> {
        let after = User { audit: self.deleted(&user.audit), ..user.clone() };
        self.update_user(storage, user, &after).await?;
        Ok(after)
    }

    /// Returns an event about an aggregate at a revision.
    pub fn event(&self, kind: EventKind, aggregate_id: impl Into<Uuid>, revision: i64) -> Event {
        Event {
            id: EventId(self.ids.next()),
            kind,
            aggregate_id: aggregate_id.into(),
            revision,
            data: json!({ "why": "a test, ünïcödé", "n": 9_007_199_254_740_993_i64, "list": [1, null, true] }),
            occurred_at: self.now(),
            actor: self.actor.clone(),
        }
    }

    /// Returns the row, soft-deleted now.
    pub fn deleted(&self, audit: &Audit) -> Audit {
        let mut audit = audit.clone();
        let now = self.now();
        audit.edited(now, &self.actor);
        audit.deleted_at = Some(now);
        audit
    }

    /// Returns the product after an edit, with the next version and revision.
    pub fn edited(&self, product: &Product) -> Product {
        let mut p = product.clone();
        p.audit.edited(self.now(), &self.actor);
        p.revision += 1;
        p
    }

    /// Returns the category after an edit, with the next version and revision.
    pub fn edited_category(&self, category: &Category) -> Category {
        let mut c = category.clone();
        c.audit.edited(self.now(), &self.actor);
        c.revision += 1;
        c
    }

    /// Inserts categories in a new unit of work.
    pub async fn insert_categories(&self, storage: &Arc<dyn Storage>, categories: &[&Category]) -> Result<()> {
        let rows: Vec<Category> = categories.iter().map(|c| (*c).clone()).collect();
        let mut uow = storage.begin().await?;
        uow.categories().insert(&rows).await?;
        uow.commit().await
    }

    /// Inserts customers and addresses in a new unit of work.
    pub async fn insert_customers(
        &self,
        storage: &Arc<dyn Storage>,
        customers: &[Customer],
        addresses: &[Address],
    ) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.customers().insert(customers).await?;
        uow.addresses().insert(addresses).await?;
        uow.commit().await
    }

    /// Inserts reviews in a new unit of work.
    pub async fn insert_reviews(&self, storage: &Arc<dyn Storage>, reviews: &[Review]) -> Result<()> {
        let mut uow = storage.begin().await?;
        let mut products: Vec<ProductId> = reviews.iter().map(|r| r.product_id).collect();
        products.sort_unstable();
        products.dedup();
        for id in products {
            uow.reviews().lock_product(id).await?;
        }
        uow.reviews().insert(reviews).await?;
        uow.commit().await
    }

    /// Inserts products, their SKUs and the first movements of the SKUs in a new unit of work.
    pub async fn insert_products(&self, storage: &Arc<dyn Storage>, products: &[Product]) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.products().insert(products).await?;
        let skus: Vec<Sku> = products.iter().flat_map(|p| p.skus.iter().cloned()).collect();
        if !skus.is_empty() {
            uow.skus().insert(&skus, &self.opening(&skus)).await?;
        }
        uow.commit().await
    }

    /// Updates `before` to `after` in a new unit of work.
    pub async fn update_product(&self, storage: &Arc<dyn Storage>, before: &Product, after: &Product) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.products().lock(&[before.id]).await?;
        uow.products().update(before, after).await?;
        uow.commit().await
    }

    /// Updates `before` to `after` in a new unit of work.
    pub async fn update_category(&self, storage: &Arc<dyn Storage>, before: &Category, after: &Category) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.categories().lock_tree().await?;
        uow.categories().update(before, after).await?;
        uow.commit().await
    }

    /// Updates `before` to `after` in a new unit of work.
    pub async fn update_customer(&self, storage: &Arc<dyn Storage>, before: &Customer, after: &Customer) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.customers().lock(before.id).await?;
        uow.customers().update(before, after).await?;
        uow.commit().await
    }

    /// Updates `before` to `after` in a new unit of work.
    pub async fn update_address(&self, storage: &Arc<dyn Storage>, before: &Address, after: &Address) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.customers().lock(before.customer_id).await?;
        uow.addresses().update(before, after).await?;
        uow.commit().await
    }

    /// Updates `before` to `after` in a new unit of work.
    pub async fn update_review(&self, storage: &Arc<dyn Storage>, before: &Review, after: &Review) -> Result<()> {
        let mut uow = storage.begin().await?;
        uow.reviews().lock_product(before.product_id).await?;
        uow.reviews().update(before, after).await?;
        uow.commit().await
    }

    /// Soft-deletes a customer and returns it after the deletion.
    pub async fn soft_delete_customer(&self, storage: &Arc<dyn Storage>, customer: &Customer) -> Result<Customer> {
        let after = Customer { audit: self.deleted(&customer.audit), ..customer.clone() };
        self.update_customer(storage, customer, &after).await?;
        Ok(after)
    }

    /// Soft-deletes a product and returns it after the deletion.
    pub async fn soft_delete(&self, storage: &Arc<dyn Storage>, product: &Product) -> Result<Product> {
        let after = Product { audit: self.deleted(&product.audit), revision: product.revision + 1, ..product.clone() };
        self.update_product(storage, product, &after).await?;
        Ok(after)
    }

    /// Soft-deletes a category and returns it after the deletion.
    pub async fn soft_delete_category(&self, storage: &Arc<dyn Storage>, category: &Category) -> Result<Category> {
        let after =
            Category { audit: self.deleted(&category.audit), revision: category.revision + 1, ..category.clone() };
        self.update_category(storage, category, &after).await?;
        Ok(after)
    }
}

/// Returns an amount in USD, from cents.
pub fn usd(minor: i64) -> Money {
    Money::from_minor(minor, Currency::USD)
}

/// Returns a weight or length, from hundredths.
pub fn measure(hundredths: i64) -> Measure {
    Measure::from_hundredths(hundredths).unwrap()
}

/// Returns attributes with values of every JSON type.
pub fn attributes() -> Attributes {
    let value = json!({
        "text": "ünïcödé \"quoted\" \\ 🧲",
        "integer": 9_007_199_254_740_993_i64,
        "fraction": 1.5,
        "flag": false,
        "nothing": null,
        "list": ["b", "a", 3],
        "nested": { "deep": { "deeper": [] } },
        "": "an empty key",
    });
    Attributes(value.as_object().cloned().unwrap_or_default())
}

fn image(url: &str, alt: Option<&str>, primary: bool) -> Image {
    Image { url: url.to_owned(), alt: alt.map(str::to_owned), primary, width: None, height: None }
}
