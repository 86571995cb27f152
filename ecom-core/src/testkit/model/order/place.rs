//! Placing orders, directly and from carts.

use std::collections::{BTreeMap, BTreeSet};

use super::amounts::{MAX_AMOUNT, settle, spread, totals, usd};
use super::{BillId, Checked, OrderId, Refusal, Runner, Taken, World};
use crate::domain::access::principal::Principal;
use crate::domain::common::{Attributes, Audit, ExternalRef};
use crate::domain::sales::bill::{Bill, BillKind, BillStatus, PaymentType};
use crate::domain::sales::cart::{Cart, CartState};
use crate::domain::sales::customer::AddressInput;
use crate::domain::sales::order::input::{CheckoutInput, ExtraLineInput, GuestInput, OrderInput, OrderLineInput};
use crate::domain::sales::order::{
    Buyer, ChangeKind, DeliveryMethod, LineKind, Order, OrderLine, OrderRecord, OrderStatus, PostalAddress,
};
use crate::error::ErrorCode;
use crate::id::{AddressId, CartId, CustomerId, SkuId};
use crate::testkit::model::generator::{attributes, decimal};
use crate::testkit::model::shared::{external, trimmed};
use crate::text::fold_key;

const LINE_ATTRIBUTES: [&str; 4] = ["{}", "{}", "{\"engraving\": \"A\"}", "{\"b\": [1, 2.5], \"a\": null}"];

/// A line that a call asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The path of the line in the input.
    pub field: String,
    pub by_code: bool,
    pub sku: SkuId,
    pub quantity: i64,
    /// The price that the buyer was shown, in minor units.
    pub shown: Option<i64>,
    /// The price that the staff gave, in minor units.
    pub fixed: Option<i64>,
    pub attributes: Attributes,
}

/// A custom line or a fee.
#[derive(Debug, Clone)]
pub(super) struct Extra {
    pub kind: LineKind,
    pub title: &'static str,
    pub quantity: i64,
    pub price: i64,
}

/// An order without its lines and its buyer.
struct Frame {
    input: OrderInput,
    bad: BTreeSet<String>,
    shipping: Option<PostalAddress>,
    billing: Option<PostalAddress>,
    extra: Vec<Extra>,
    discount: i64,
}

/// Returns the refusal for the first line whose list price or amount is too large. A line is its field, quantity, unit
/// price and list price.
fn too_large(lines: &[(String, i64, i64, i64)]) -> Option<Refusal> {
    lines.iter().find_map(|(field, quantity, price, list_price)| {
        if i128::from(*list_price) > MAX_AMOUNT {
            return Some(Refusal::field(&format!("{field}.unit_price")));
        }
        let is_large = i128::from(*quantity) * i128::from(*price) > MAX_AMOUNT;
        is_large.then(|| Refusal::field(&format!("{field}.quantity")))
    })
}

pub(super) fn postal(input: &AddressInput) -> PostalAddress {
    PostalAddress {
        street: input.street.trim().to_owned(),
        number: trimmed(input.number.as_ref()),
        city: input.city.trim().to_owned(),
        region: trimmed(input.region.as_ref()),
        postal_code: trimmed(input.postal_code.as_ref()),
        country: input.country.as_ref().map(|c| c.trim().to_uppercase()),
    }
}

impl World {
    /// Returns why lines cannot be sold together with another demand.
    pub(super) fn unsold(&self, asked: &[Asked], mut demand: BTreeMap<SkuId, i64>) -> Vec<Refusal> {
        let mut gone = BTreeSet::new();
        let mut is_wrong = false;
        for line in asked {
            match self.offered(line.sku) {
                Some((price, true)) => {
                    is_wrong |= line.fixed.is_none() && line.shown != Some(price.minor());
                    *demand.entry(line.sku).or_default() += line.quantity;
                }
                _ => {
                    let name = if line.by_code { "sku" } else { "sku_id" };
                    gone.insert(format!("{}.{name}", line.field));
                }
            }
        }
        let is_short = |(sku, wanted): (&SkuId, &i64)| {
            self.skus.get(sku).is_some_and(|s| *wanted > 0 && s.track_stock && *wanted > s.on_hand)
        };
        if !gone.is_empty() {
            return vec![Refusal::Fields(gone)];
        }
        if is_wrong {
            return vec![Refusal::Code(ErrorCode::PriceMismatch)];
        }
        if demand.iter().any(is_short) { vec![Refusal::Code(ErrorCode::InsufficientStock)] } else { Vec::new() }
    }

    /// Adds lines that can be sold to a record. Returns the stock that they take, or the refusal of an amount.
    pub(super) fn sold(
        &self,
        record: &mut OrderRecord,
        bill_seq: i32,
        asked: &[Asked],
        extra: &[Extra],
        extra_field: &str,
    ) -> Result<Vec<Taken>, Refusal> {
        let mut taken = Vec::new();
        let mut checked = Vec::new();
        let mut lines = Vec::new();
        for line in asked {
            let sku = &self.skus[&line.sku];
            let (product, _) = &self.products.rows[&sku.product_id];
            let price = line.fixed.unwrap_or_else(|| sku.final_price(product.discount).minor());
            checked.push((line.field.clone(), line.quantity, price, sku.price.minor()));
            lines.push(OrderLine {
                id: Runner::missing(),
                order_id: Runner::missing(),
                placed_at: record.order.placed_at,
                position: 0,
                bill_seq,
                kind: LineKind::Sku,
                sku_id: Some(sku.id),
                product_id: Some(sku.product_id),
                code: Some(sku.code.clone()),
                title: product.title.clone(),
                options: sku.option_values.clone(),
                attributes: line.attributes.clone(),
                takes_stock: sku.track_stock,
                list_price: sku.price,
                unit_price: usd(price),
                quantity: line.quantity,
                canceled: 0,
                totals: totals(0, 0),
            });
        }
        for (i, line) in extra.iter().enumerate() {
            checked.push((format!("{extra_field}[{i}]"), line.quantity, line.price, 0));
            lines.push(OrderLine {
                id: Runner::missing(),
                order_id: Runner::missing(),
                placed_at: record.order.placed_at,
                position: 0,
                bill_seq,
                kind: line.kind,
                sku_id: None,
                product_id: None,
                code: None,
                title: line.title.to_owned(),
                options: BTreeMap::new(),
                attributes: Attributes::default(),
                takes_stock: false,
                list_price: usd(line.price),
                unit_price: usd(line.price),
                quantity: line.quantity,
                canceled: 0,
                totals: totals(0, 0),
            });
        }
        if let Some(refusal) = too_large(&checked) {
            return Err(refusal);
        }
        for mut line in lines {
            line.position = record.order.lines.len() as i32 + 1;
            if let (true, Some(sku)) = (line.takes_stock, line.sku_id) {
                taken.push((sku, line.position, -line.quantity));
            }
            record.order.lines.push(line);
        }
        Ok(taken)
    }
}

impl Runner<'_> {
    fn sellable(&mut self) -> SkuId {
        let can_be_sold = |s: &&crate::domain::catalog::sku::Sku| {
            (!s.track_stock || s.on_hand > 0) && self.world.offered(s.id).is_some_and(|(_, is_for_sale)| is_for_sale)
        };
        let ids: Vec<SkuId> = self.world.skus.values().filter(can_be_sold).map(|s| s.id).collect();
        match self.one_of(&ids) {
            Some(id) if self.chance(95) => id,
            _ => self.some_sku(),
        }
    }

    /// Returns a line to sell, and the names of its bad fields.
    pub(super) fn asked_line(&mut self, field: String, bad: &mut BTreeSet<String>) -> (OrderLineInput, Asked) {
        let sku = self.sellable();
        let price = self.world.offered(sku).map_or(999, |(price, _)| price.minor());
        let on_hand = self.world.skus.get(&sku).map_or(1, |s| s.on_hand);
        let mut asked = Asked {
            field,
            by_code: false,
            sku,
            quantity: 1 + self.below(4) as i64,
            shown: Some(price),
            fixed: None,
            attributes: attributes(self.any(&LINE_ATTRIBUTES)),
        };
        match self.below(60) {
            0 => {
                asked.quantity = self.any(&[0, -1, OrderLine::MAX_QUANTITY + 1]);
                bad.insert(format!("{}.quantity", asked.field));
            }
            1 => asked.quantity = (on_hand + 1).clamp(1, OrderLine::MAX_QUANTITY),
            2 => asked.quantity = on_hand.clamp(1, OrderLine::MAX_QUANTITY),
            3 => asked.quantity = OrderLine::MAX_QUANTITY,
            4 | 5 => asked.shown = Some(price + 1),
            6 => {
                asked.shown = None;
                bad.insert(format!("{}.unit_price", asked.field));
            }
            7..11 => {
                asked.fixed = Some(self.any(&[0, 1, 333, 2_150, 1_000_000_000_000_000]));
                asked.shown = self.any(&[None, Some(price), Some(price + 1)]);
            }
            _ => {}
        }
        let mut input = OrderLineInput {
            sku_id: Some(sku),
            quantity: asked.quantity,
            unit_price: asked.shown.map(decimal),
            attributes: asked.attributes.clone(),
            price_override: asked.fixed.map(decimal),
            ..OrderLineInput::default()
        };
        if self.chance(12)
            && let Some(known) = self.world.skus.get(&sku).filter(|s| s.audit.is_live())
        {
            let code = known.code.to_uppercase();
            if fold_key(&code) == fold_key(&known.code) && code.chars().count() <= 100 {
                (input.sku_id, input.sku, asked.by_code) = (None, Some(code), true);
            }
        }
        (input, asked)
    }

    /// Returns custom lines and fees, and the names of their bad fields.
    pub(super) fn extra_lines(
        &mut self,
        field: &str,
        percent: u32,
        bad: &mut BTreeSet<String>,
    ) -> (Vec<ExtraLineInput>, Vec<Extra>) {
        let mut extra = Vec::new();
        while extra.len() < 2 && self.chance(percent) {
            let kind = self.any(&[LineKind::Custom, LineKind::Fee]);
            let title = self.any(&["Gift wrap 🎁", "Fee"]);
            let (quantity, price) = (self.any(&[1, 1, 2, 7]), self.any(&[0, 1, 450, 99_999]));
            extra.push(Extra { kind, title, quantity, price });
        }
        if self.chance(3)
            && let Some(first) = extra.first_mut()
        {
            first.quantity = 0;
            bad.insert(format!("{field}[0].quantity"));
        }
        let input = extra.iter().map(|e| ExtraLineInput {
            kind: e.kind,
            title: format!(" {} ", e.title),
            quantity: e.quantity,
            unit_price: decimal(e.price),
            attributes: Attributes::default(),
        });
        (input.collect(), extra)
    }

    /// Returns an order without lines and buyer. A customer's order may name an address.
    fn order_frame(&mut self, customer: Option<CustomerId>) -> Frame {
        let mut bad = BTreeSet::new();
        let delivery = self.one_of(DeliveryMethod::ALL).unwrap();
        let mut input = OrderInput { delivery_method: Some(delivery), ..OrderInput::default() };
        let (mut shipping, mut billing) = (None, None);
        let has_address = delivery == DeliveryMethod::HomeDelivery || self.chance(20);
        if has_address && self.chance(97) {
            if customer.is_some() && self.chance(50) {
                input.address_id = Some(self.some_address_of(customer));
            } else {
                let (address, wrong) = self.address_input();
                shipping = Some(postal(&address));
                bad.extend(wrong.into_iter().map(|name| format!("shipping_address.{name}")));
                input.shipping_address = Some(address);
            }
        } else if delivery == DeliveryMethod::HomeDelivery {
            bad.insert("shipping_address".to_owned());
        }
        if self.chance(10) {
            let (address, wrong) = self.address_input();
            billing = Some(postal(&address));
            bad.extend(wrong.into_iter().map(|name| format!("billing_address.{name}")));
            input.billing_address = Some(address);
        }
        if self.chance(1) {
            input.delivery_method = None;
            bad.insert("delivery_method".to_owned());
            if bad.remove("shipping_address") {
                // No address is missed, because it is not known whether one is needed.
                input.delivery_method = None;
            }
        }
        input.payment_type = self.any(&[PaymentType::Cash, PaymentType::Card]);
        if self.chance(20) {
            input.attributes = attributes(self.any(&LINE_ATTRIBUTES));
        }
        let mut discount = 0;
        if self.chance(35) {
            discount = self.below(2_000) as i64;
            input.discount = Some(decimal(discount));
        } else if self.chance(2) {
            input.discount = Some(decimal(-1));
            bad.insert("discount".to_owned());
        }
        if self.chance(12) {
            input.bill_number = Some(format!("INV/{}", self.below(60)));
        } else if self.chance(2) {
            input.bill_number = Some(self.any(&["inv", "", "X 1", "É"]).to_owned());
            bad.insert("bill_number".to_owned());
        }
        input.paid = self.chance(15);
        let (lines, extra) = self.extra_lines("extra_lines", 15, &mut bad);
        input.extra_lines = lines;
        Frame { input, bad, shipping, billing, extra, discount }
    }

    fn guest(&mut self, bad: &mut BTreeSet<String>) -> (GuestInput, Buyer) {
        let email = self.any(&["grace@example.com", "Grace@Example.com", "ada@example.com", "GRÜSSE@例え.jp"]);
        let (telephone, stored) = self.any(&[(None, None), (Some("+81 965-431-3024"), Some("+819654313024"))]);
        let mut guest = GuestInput {
            first_name: " Grace ".to_owned(),
            last_name: "Hopper".to_owned(),
            email: format!(" {email}"),
            telephone: telephone.map(str::to_owned),
        };
        let buyer = Buyer {
            first_name: Some("Grace".to_owned()),
            last_name: Some("Hopper".to_owned()),
            email: Some(email.to_owned()),
            telephone: stored.map(str::to_owned),
        };
        match self.below(40) {
            0 => {
                "nobody".clone_into(&mut guest.email);
                bad.insert("customer.email".to_owned());
            }
            1 => {
                guest.last_name.clear();
                bad.insert("customer.last_name".to_owned());
            }
            _ => {}
        }
        (guest, buyer)
    }

    /// Returns the buyer and the address of an order, or why it is refused.
    fn buyer_of(
        &self,
        customer: Option<CustomerId>,
        guest: Option<Buyer>,
        address: Option<AddressId>,
        inline: Option<PostalAddress>,
    ) -> Result<(Buyer, Option<PostalAddress>), Refusal> {
        let mut bad = BTreeSet::new();
        let buyer = match (customer, guest) {
            (None, guest) => guest.unwrap_or_default(),
            (Some(id), _) => match self.world.live_customer(id).cloned() {
                Some(c) => Buyer {
                    first_name: Some(c.first_name),
                    last_name: Some(c.last_name),
                    email: Some(c.email),
                    telephone: c.telephone,
                },
                None => {
                    bad.insert("customer_id".to_owned());
                    Buyer::default()
                }
            },
        };
        let shipping = match address {
            None => inline,
            Some(id) => {
                let own = self.world.live_address(id).filter(|a| Some(a.customer_id) == customer);
                if own.is_none() {
                    bad.insert("address_id".to_owned());
                }
                own.map(PostalAddress::from)
            }
        };
        if bad.is_empty() { Ok((buyer, shipping)) } else { Err(Refusal::Fields(bad)) }
    }

    /// Predicts the order, or why it is refused.
    fn predict(
        &self,
        frame: &Frame,
        (customer, guest): (Option<CustomerId>, Option<Buyer>),
        cart: Option<CartId>,
        asked: &[Asked],
        who: &Principal,
    ) -> Result<(OrderRecord, Vec<Taken>), Vec<Refusal>> {
        let now = self.now();
        let input = &frame.input;
        let (buyer, shipping_address) = self
            .buyer_of(customer, guest, input.address_id, frame.shipping.clone())
            .map_err(|refusal| vec![refusal])?;
        let refusals = self.world.unsold(asked, BTreeMap::new());
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let audit = Audit::created(now, who.actor());
        let external: Option<ExternalRef> = external(input.source.as_ref(), input.external_id.as_ref());
        let order = Order {
            id: Self::missing(),
            number: String::new(),
            cart_id: cart,
            customer_id: customer,
            buyer,
            status: OrderStatus::Pending,
            delivery_method: input.delivery_method.unwrap(),
            shipping_address,
            billing_address: frame.billing.clone(),
            tracking: trimmed(input.tracking.as_ref()),
            prices_include_tax: false,
            totals: totals(0, 0),
            engine: 1,
            placed_at: now,
            canceled_at: None,
            erased_at: None,
            attributes: input.attributes.clone(),
            external,
            lines: Vec::new(),
            audit: audit.clone(),
        };
        let bill = Bill {
            id: BillId(Self::missing::<OrderId>().0),
            order_id: Self::missing(),
            kind: BillKind::Bill,
            seq: 1,
            corrects: None,
            number: input.bill_number.clone().unwrap_or_default(),
            totals: totals(0, 0),
            payment_type: input.payment_type,
            status: if input.paid { BillStatus::Paid } else { BillStatus::Open },
            date: now,
            audit,
        };
        let mut record = OrderRecord { order, adjustments: Vec::new(), bills: vec![bill] };
        let taken = self.world.sold(&mut record, 1, asked, &frame.extra, "extra_lines").map_err(|r| vec![r])?;
        if !spread(&mut record, 1, frame.discount) {
            return Err(vec![Refusal::field("discount")]);
        }
        if !settle(&mut record) {
            return Err(vec![Refusal::field("lines")]);
        }
        let refusals = self.world.order_conflicts(&record.order, input.bill_number.as_ref());
        if refusals.is_empty() { Ok((record, taken)) } else { Err(refusals) }
    }

    pub(super) async fn place_order(&mut self) -> Checked<()> {
        let who = self.principal();
        let customer = if self.chance(60) { Some(self.some_customer()) } else { None };
        let mut frame = self.order_frame(customer);
        let mut guest = None;
        frame.input.customer_id = customer;
        if customer.is_none() {
            let (input, buyer) = self.guest(&mut frame.bad);
            (frame.input.customer, guest) = (Some(input), Some(buyer));
        }
        match self.below(60) {
            0 => {
                (frame.input.customer_id, frame.input.customer) = (None, None);
                frame.bad.retain(|field| !field.starts_with("customer."));
                frame.bad.insert("customer_id".to_owned());
                if frame.input.address_id.is_some() {
                    frame.bad.insert("address_id".to_owned());
                }
            }
            1 if customer.is_some() => {
                frame.input.customer = Some(self.guest(&mut BTreeSet::new()).0);
                frame.bad.insert("customer".to_owned());
            }
            _ => {}
        }
        if self.chance(10) {
            frame.input.tracking = Some(" 1Z 🧺 ".to_owned());
        } else if self.chance(1) {
            frame.input.tracking = Some(" ".to_owned());
            frame.bad.insert("tracking".to_owned());
        }
        (frame.input.source, frame.input.external_id) = self.external_pair(6);
        let mut asked = Vec::new();
        for n in 0..self.any(&[0, 1, 1, 2, 2, 3, 4]) {
            let (input, line) = self.asked_line(format!("lines[{n}]"), &mut frame.bad);
            frame.input.lines.push(input);
            asked.push(line);
        }
        self.begins(&frame.input);
        let predicted = if frame.bad.is_empty() {
            self.predict(&frame, (customer, guest), None, &asked, &who)
        } else {
            Err(vec![Refusal::Fields(frame.bad.clone())])
        };
        let refusals = predicted.as_ref().err().cloned().unwrap_or_default();
        let answer = self.shop.acting_as(&who).orders().place(&frame.input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let Ok((want, taken)) = predicted else { return Ok(()) };
            self.order_written(Some(&got), got.id, want, &[ChangeKind::Placed], &taken, &who).await?;
        }
        Ok(())
    }

    /// A checkout of a cart that was ordered returns its order, whatever else is asked for.
    pub(super) async fn check_out(&mut self) -> Checked<()> {
        let id = self.some_cart_to_order();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let now = self.now();
        let cart = self.world.carts.get(id).filter(|_| opens).cloned();
        let customer = cart.as_ref().and_then(|c| c.customer_id);
        let mut frame = self.order_frame(customer);
        let mut guest = None;
        let sends_guest = if self.chance(95) { customer.is_none() } else { customer.is_some() };
        if sends_guest {
            let (input, buyer) = self.guest(&mut frame.bad);
            (frame.input.customer, guest) = (Some(input), Some(buyer));
        }
        let input = CheckoutInput {
            customer: frame.input.customer.clone(),
            delivery_method: frame.input.delivery_method,
            address_id: frame.input.address_id,
            shipping_address: frame.input.shipping_address.clone(),
            billing_address: frame.input.billing_address.clone(),
            payment_type: frame.input.payment_type,
            attributes: frame.input.attributes.clone(),
            discount: frame.input.discount,
            extra_lines: frame.input.extra_lines.clone(),
            bill_number: frame.input.bill_number.clone(),
            paid: frame.input.paid,
        };
        self.begins((id, opens, &input));
        let mut before = None;
        let predicted = match &cart {
            _ if !frame.bad.is_empty() => Err(vec![Refusal::Fields(frame.bad.clone())]),
            None => Err(vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(cart) => {
                before = self.world.order_of_cart(id).cloned();
                match self.world.closed(id, now) {
                    _ if before.as_ref().is_some_and(|r| r.order.audit.is_live()) => Err(Vec::new()),
                    // A soft-deleted order is not shown.
                    _ if before.is_some() => Err(vec![Refusal::Code(ErrorCode::CartOrdered)]),
                    Some(refusal) => Err(vec![refusal]),
                    None => {
                        let mut bad = BTreeSet::new();
                        if cart.lines.is_empty() {
                            bad.insert("lines".to_owned());
                        }
                        if sends_guest == customer.is_some() {
                            bad.insert("customer".to_owned());
                        }
                        if bad.is_empty() {
                            self.predict(&frame, (customer, guest), Some(id), &asked_by(cart), &who)
                        } else {
                            Err(vec![Refusal::Fields(bad)])
                        }
                    }
                }
            }
        };
        let refusals = predicted.as_ref().err().cloned().unwrap_or_default();
        let answer = self.shop.acting_as(&who).orders().checkout(id, &access, &input).await;
        let Some(got) = self.judge(answer, &refusals)? else { return Ok(()) };
        if let Some(before) = before {
            return super::same("the order of the cart", &got, &before.order);
        }
        let Ok((want, taken)) = predicted else { return Ok(()) };
        self.order_written(Some(&got), got.id, want, &[ChangeKind::Placed], &taken, &who).await?;
        let mut ordered = Cart { state: CartState::Ordered, ..cart.unwrap() };
        ordered.audit.edited(now, who.actor());
        self.world.carts.set(ordered);
        Ok(())
    }
}

/// Returns the lines of a cart as an order asks for them.
fn asked_by(cart: &Cart) -> Vec<Asked> {
    let asked = |(n, line): (usize, &crate::domain::sales::cart::CartLine)| Asked {
        field: format!("lines[{n}]"),
        by_code: false,
        sku: line.sku_id,
        quantity: line.quantity,
        shown: Some(line.seen_price.minor()),
        fixed: None,
        attributes: line.attributes.clone(),
    };
    cart.lines.iter().enumerate().map(asked).collect()
}
