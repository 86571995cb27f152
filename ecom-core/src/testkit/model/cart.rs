//! Carts and their lines: their rows in the model, the operations on them, and their comparison.

use std::collections::{BTreeMap, BTreeSet};

use super::comparison::{Checked, Refusal, read, same};
use super::customer::Walk;
use super::generator::{attributes, decimal};
use super::{Operation, Part, Runner, World};
use crate::clock::Timestamp;
use crate::config::ShopConfig;
use crate::domain::access::principal::Principal;
use crate::domain::catalog::product::ProductStatus;
use crate::domain::common::{Attributes, Audit, ExpectedVersion, Patch};
use crate::domain::sales::cart::{
    Cart, CartAccess, CartFilter, CartInput, CartLine, CartLineInput, CartLinePatch, CartPatch, CartState, CartToken,
    PricedCart, PricedLine,
};
use crate::domain::sales::pricing::MAX_AMOUNT;
use crate::error::ErrorCode;
use crate::id::{CartId, CustomerId, SkuId};
use crate::money::{Currency, Money};
use crate::paging::Paging;
use crate::text::fold_key;

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_carts()) };

const OPERATIONS: &[Operation] = &[
    Operation { name: "create cart", weight: |_| 25, run: |r| Box::pin(r.create_cart()) },
    Operation { name: "add cart line", weight: |_| 60, run: |r| Box::pin(r.add_cart_line()) },
    Operation { name: "change cart line", weight: |_| 25, run: |r| Box::pin(r.change_cart_line()) },
    Operation { name: "remove cart line", weight: |_| 10, run: |r| Box::pin(r.remove_cart_line()) },
    Operation { name: "clear cart", weight: |_| 6, run: |r| Box::pin(r.clear_cart()) },
    Operation { name: "patch cart", weight: |_| 8, run: |r| Box::pin(r.patch_cart()) },
    Operation { name: "delete cart", weight: |_| 8, run: |r| Box::pin(r.delete_cart()) },
    Operation { name: "merge carts", weight: |_| 28, run: |r| Box::pin(r.merge_carts()) },
    Operation { name: "assign cart", weight: |_| 16, run: |r| Box::pin(r.assign_cart()) },
    Operation { name: "read cart", weight: |_| 15, run: |r| Box::pin(r.read_cart()) },
    Operation { name: "list carts", weight: |_| 8, run: |r| Box::pin(r.list_carts()) },
    Operation { name: "remove expired carts", weight: |_| 3, run: |r| Box::pin(r.remove_expired_carts()) },
];

const LINE_ATTRIBUTES: [&str; 4] = ["{}", "{}", "{\"engraving\": \"A\"}", "{\"b\": [1, 2.5], \"a\": null}"];

/// The carts of the model.
#[derive(Debug, Default)]
pub(super) struct Carts {
    rows: BTreeMap<CartId, Cart>,
    tokens: BTreeMap<CartId, CartToken>,
}

/// Returns the amount, or `None` if it is too large.
fn amount(minor: i128) -> Option<Money> {
    (minor <= i128::from(MAX_AMOUNT)).then(|| Money::from_minor(minor as i64, Currency::USD))
}

fn product_of(line: &PricedLine) -> i128 {
    i128::from(line.line.quantity) * i128::from(line.unit_price.minor())
}

fn is_equal(a: &CartLine, b: &CartLine) -> bool {
    a.sku_id == b.sku_id && a.attributes == b.attributes
}

impl World {
    /// Removes what permanent deletions of SKUs and customers have removed.
    fn settle_carts(&mut self) {
        let owners: BTreeSet<CustomerId> = self.carts.rows.values().filter_map(|cart| cart.customer_id).collect();
        for gone in owners.into_iter().filter(|id| !self.customers.rows.contains_key(id)).collect::<Vec<_>>() {
            self.erase_carts(gone);
        }
        let skus = &self.skus;
        for cart in self.carts.rows.values_mut() {
            cart.lines.retain(|l| skus.contains_key(&l.sku_id));
        }
    }

    /// Removes the carts of a customer, and those that were merged into them.
    pub(super) fn erase_carts(&mut self, customer: CustomerId) {
        let rows = &mut self.carts.rows;
        let mut gone: BTreeSet<CartId> =
            rows.values().filter(|c| c.customer_id == Some(customer)).map(|c| c.id).collect();
        loop {
            let count = gone.len();
            let merged = rows.values().filter(|c| c.merged_into.is_some_and(|into| gone.contains(&into)));
            let merged: Vec<CartId> = merged.map(|c| c.id).collect();
            gone.extend(merged);
            if gone.len() == count {
                break;
            }
        }
        rows.retain(|id, _| !gone.contains(id));
    }

    /// Returns the current price of a SKU, and whether it is for sale.
    pub(super) fn offered(&self, id: SkuId) -> Option<(Money, bool)> {
        let sku = self.skus.get(&id)?;
        let (product, _) = &self.products.rows[&sku.product_id];
        let live = sku.audit.is_live() && product.audit.is_live();
        Some((sku.final_price(product.discount), live && product.status == ProductStatus::Active))
    }

    /// Returns the cart as a read shows it.
    fn priced(&self, cart: &Cart) -> PricedCart {
        let lines: Vec<PricedLine> = cart
            .lines
            .iter()
            .map(|line| {
                let sku = &self.skus[&line.sku_id];
                let (current, is_for_sale) = self.offered(line.sku_id).unwrap();
                let unit_price = if is_for_sale { current } else { line.seen_price };
                let wanted: i64 = cart.lines.iter().filter(|l| l.sku_id == line.sku_id).map(|l| l.quantity).sum();
                PricedLine {
                    line: line.clone(),
                    product_id: sku.product_id,
                    code: sku.code.clone(),
                    title: self.products.rows[&sku.product_id].0.title.clone(),
                    option_values: sku.option_values.clone(),
                    unit_price,
                    line_total: amount(i128::from(line.quantity) * i128::from(unit_price.minor())),
                    available: if is_for_sale { sku.track_stock.then_some(sku.on_hand) } else { Some(0) },
                    price_changed: unit_price != line.seen_price,
                    unavailable: !is_for_sale,
                    insufficient_stock: is_for_sale && sku.track_stock && wanted > sku.on_hand,
                }
            })
            .collect();
        let subtotal = amount(lines.iter().filter(|l| !l.unavailable).map(product_of).sum());
        PricedCart { cart: cart.clone(), lines, subtotal }
    }

    fn has_large_amount(&self, cart: &Cart) -> bool {
        let priced = self.priced(cart);
        priced.subtotal.is_none() || priced.lines.iter().any(|l| l.line_total.is_none())
    }

    fn open_cart_of(&self, customer: CustomerId) -> Option<CartId> {
        let is_open = |c: &&Cart| c.customer_id == Some(customer) && c.state == CartState::Open;
        self.carts.rows.values().find(is_open).map(|c| c.id)
    }

    /// Returns why a cart cannot be changed.
    pub(super) fn closed(&self, id: CartId, now: Timestamp) -> Option<Refusal> {
        let code = match self.carts.rows.get(&id) {
            None => ErrorCode::NotFound,
            Some(c) if c.state == CartState::Merged => ErrorCode::CartMerged,
            Some(c) if c.state == CartState::Ordered => ErrorCode::CartOrdered,
            Some(c) if c.expires_at <= now => ErrorCode::CartExpired,
            Some(_) => return None,
        };
        Some(Refusal::Code(code))
    }

    fn external_cart(&self, of: &Cart) -> Vec<Refusal> {
        let taken =
            of.external.is_some() && self.carts.rows.values().any(|c| c.id != of.id && c.external == of.external);
        if taken { vec![Refusal::Duplicate("external_id")] } else { Vec::new() }
    }
}

/// Adds a line as a shopper does.
fn put(lines: &mut Vec<CartLine>, line: CartLine) {
    match lines.iter_mut().find(|l| is_equal(l, &line)) {
        Some(own) => (own.quantity, own.seen_price) = (own.quantity + line.quantity, line.seen_price),
        None => lines.push(line),
    }
}

/// Takes over lines as a merge does.
fn take(lines: &mut Vec<CartLine>, from: &[CartLine]) {
    for line in from {
        match lines.iter_mut().find(|l| is_equal(l, line)) {
            Some(own) => own.quantity = own.quantity.max(line.quantity),
            None => lines.push(line.clone()),
        }
    }
}

impl Carts {
    pub(super) fn get(&self, id: CartId) -> Option<&Cart> {
        self.rows.get(&id)
    }

    pub(super) fn set(&mut self, cart: Cart) {
        self.rows.insert(cart.id, cart);
    }
}

impl Runner<'_> {
    /// Returns mostly a cart that can be ordered, and sometimes one that was ordered.
    pub(super) fn some_cart_to_order(&mut self) -> CartId {
        self.world.settle_carts();
        let now = self.now();
        let can_be_ordered = |c: &&Cart| {
            let priced = self.world.priced(c);
            let is_good = |l: &PricedLine| !l.price_changed && !l.unavailable && !l.insufficient_stock;
            self.world.closed(c.id, now).is_none() && !priced.lines.is_empty() && priced.lines.iter().all(is_good)
        };
        let rows = &self.world.carts.rows;
        let good: Vec<CartId> = rows.values().filter(can_be_ordered).map(|c| c.id).collect();
        let ordered: Vec<CartId> = rows.values().filter(|c| c.state == CartState::Ordered).map(|c| c.id).collect();
        let found = match self.below(20) {
            0..14 => self.one_of(&good),
            14..17 => self.one_of(&ordered),
            _ => None,
        };
        found.unwrap_or_else(|| self.some_cart())
    }

    fn some_cart(&mut self) -> CartId {
        self.world.settle_carts();
        let now = self.now();
        let is_open = |c: &&Cart| c.state == CartState::Open && c.expires_at > now;
        let live: Vec<CartId> = self.world.carts.rows.values().filter(is_open).map(|c| c.id).collect();
        let all: Vec<CartId> = self.world.carts.rows.keys().copied().collect();
        // Those that were ordered are the most.
        let is_closed = |c: &&Cart| c.state == CartState::Merged || (c.state == CartState::Open && c.expires_at <= now);
        let closed: Vec<CartId> = self.world.carts.rows.values().filter(is_closed).map(|c| c.id).collect();
        if self.chance(8) { self.one_of(&closed).unwrap_or_else(Self::missing) } else { self.some_id(&live, &all) }
    }

    /// Returns what opens the cart: mostly the permission, sometimes its token, and sometimes a wrong token.
    pub(super) fn access(&mut self, id: CartId) -> (CartAccess, bool) {
        let own = self.world.carts.rows.get(&id).filter(|c| c.token_hash.is_some()).map(|c| c.id);
        let token = own.and_then(|id| self.world.carts.tokens.get(&id).cloned());
        match (self.below(20), token) {
            (0, _) => (CartToken::new("wrong").into(), false),
            (1..9, Some(token)) => (token.into(), true),
            _ => (CartAccess::Permission, true),
        }
    }

    /// Returns the cart and why a change of it is refused: for its access, its state or its version.
    fn opened(&mut self, id: CartId, opens: bool) -> (Option<Cart>, Vec<Refusal>) {
        let now = self.now();
        if !opens {
            return (None, vec![Refusal::Code(ErrorCode::NotFound)]);
        }
        match self.world.closed(id, now) {
            Some(refusal) => (None, vec![refusal]),
            None => (self.world.carts.rows.get(&id).cloned(), Vec::new()),
        }
    }

    /// Returns no version, or mostly the current one.
    fn optional_version(&mut self, cart: Option<&Cart>) -> (ExpectedVersion, Option<Refusal>) {
        let version = cart.map_or(1, |c| c.audit.version);
        match self.below(20) {
            0 => (ExpectedVersion::Exact(version + 1), Some(Refusal::Code(ErrorCode::VersionConflict))),
            1..5 => (ExpectedVersion::Exact(version), None),
            _ => (ExpectedVersion::Unspecified, None),
        }
    }

    /// Returns a line to add, the line that it becomes, and why it is refused.
    fn cart_line_input(&mut self, prefix: &str) -> (CartLineInput, Option<CartLine>, Vec<Refusal>) {
        let sku = self.some_sku();
        let offered = self.world.offered(sku);
        let price = offered.map_or(Money::from_minor(999, Currency::USD), |(price, _)| price);
        let mut input = CartLineInput::new(sku, 1 + self.below(6) as i64, price);
        let text = self.any(&LINE_ATTRIBUTES);
        input.attributes = attributes(text);
        let mut refusals = Vec::new();
        let field = |name: &str| Refusal::field(&format!("{prefix}{name}"));
        match self.below(40) {
            0 => {
                input.quantity = self.any(&[0, -1, CartLine::MAX_QUANTITY + 1]);
                refusals.push(field("quantity"));
            }
            1 => input.quantity = CartLine::MAX_QUANTITY,
            2 => input.unit_price = decimal(price.minor() + 1),
            _ => {}
        }
        let is_wrong = input.unit_price.0 != price.amount();
        if refusals.is_empty() {
            match offered {
                Some((_, true)) if is_wrong => refusals.push(Refusal::Code(ErrorCode::PriceMismatch)),
                Some((_, true)) => {}
                _ => refusals.push(field("sku_id")),
            }
        }
        if self.chance(10)
            && let Some(known) = self.world.skus.get(&sku).filter(|s| s.audit.is_live())
        {
            let code = known.code.to_uppercase();
            if fold_key(&code) == fold_key(&known.code) && code.chars().count() <= 100 {
                (input.sku_id, input.sku) = (None, Some(code));
                let by_code = |r: &mut Refusal| {
                    if *r == field("sku_id") {
                        *r = field("sku");
                    }
                };
                refusals.iter_mut().for_each(by_code);
            }
        }
        let line = CartLine {
            id: Self::missing(),
            sku_id: sku,
            attributes: input.attributes.clone(),
            quantity: input.quantity,
            seen_price: price,
        };
        let line = refusals.is_empty().then_some(line);
        (input, line, refusals)
    }

    /// Takes the ids of new lines over from the answer, compares it with the prediction, and stores it.
    fn cart_answer(&mut self, got: &PricedCart, mut want: Cart) -> Checked<()> {
        for (line, own) in want.lines.iter_mut().zip(&got.cart.lines) {
            if line.id != own.id && !got.cart.lines.iter().any(|l| l.id == line.id) {
                self.world.is_new(own.id.0)?;
                line.id = own.id;
            }
        }
        same("the answer", got, &self.world.priced(&want))?;
        self.world.carts.rows.insert(want.id, want);
        Ok(())
    }

    /// Records a change, if there is one.
    fn cart_changed(&self, before: &Cart, after: &mut Cart, who: &Principal) {
        if after != before {
            after.audit.edited(self.now(), who.actor());
            after.expires_at = self.now() + ShopConfig::default().cart_ttl;
        }
    }

    async fn create_cart(&mut self) -> Checked<()> {
        self.world.settle_carts();
        let who = self.principal();
        let now = self.now();
        let mut input = CartInput::default();
        if self.chance(50) {
            input.customer_id = Some(self.some_customer());
        }
        if self.chance(40) {
            input.email = Some(self.any(&["ada@example.com", "ADA@example.com", " bob@example.com "]).to_owned());
        }
        if self.chance(20) {
            input = input.attribute("n", self.below(3) as i64);
        }
        (input.source, input.external_id) = self.external_pair(5);
        let (mut first, mut lines) = (Vec::new(), Vec::new());
        for n in 0..self.below(3) {
            let (line, made, refusals) = self.cart_line_input(&format!("lines[{n}]."));
            input.lines.push(line);
            lines.extend(made);
            first.extend(refusals);
        }
        let bad_quantity = |l: &CartLineInput| !(1..=CartLine::MAX_QUANTITY).contains(&l.quantity);
        if self.chance(4) {
            input.email = Some("nobody".to_owned());
        }
        self.begins(&input);
        let mut bad: BTreeSet<String> = BTreeSet::new();
        bad.extend(input.email.iter().filter(|e| *e == "nobody").map(|_| "email".to_owned()));
        let places = input.lines.iter().enumerate().filter(|(_, l)| bad_quantity(l));
        bad.extend(places.map(|(n, _)| format!("lines[{n}].quantity")));
        let gone = input.customer_id.filter(|id| self.world.live_customer(*id).is_none());
        let refusals = if !bad.is_empty() {
            vec![Refusal::Fields(bad)]
        } else if gone.is_some() {
            vec![Refusal::field("customer_id")]
        } else if !first.is_empty() {
            // Fields are reported together, and before prices.
            let fields: BTreeSet<String> = first
                .iter()
                .filter_map(|r| if let Refusal::Fields(f) = r { Some(f.iter().cloned()) } else { None })
                .flatten()
                .collect();
            let price = Refusal::Code(ErrorCode::PriceMismatch);
            vec![if fields.is_empty() { price } else { Refusal::Fields(fields) }]
        } else {
            Vec::new()
        };
        let email = input.email.as_ref().map(|e| e.trim().to_owned());
        let external = super::shared::external(input.source.as_ref(), input.external_id.as_ref());
        let mut given = Vec::new();
        let mut refusals = refusals;
        for (n, line) in lines.into_iter().enumerate() {
            put(&mut given, line);
            if given.iter().any(|l| l.quantity > CartLine::MAX_QUANTITY) && refusals.is_empty() {
                refusals.push(Refusal::field(&format!("lines[{n}].quantity")));
            }
        }
        let open = input.customer_id.and_then(|id| self.world.open_cart_of(id));
        let expired = open.filter(|id| self.world.carts.rows[id].expires_at <= now);
        let open = open.filter(|id| Some(*id) != expired);
        let before = open.map(|id| self.world.carts.rows[&id].clone());
        let mut want = before.clone().unwrap_or_else(|| Cart {
            id: Self::missing(),
            token_hash: None,
            customer_id: input.customer_id,
            email: None,
            currency: Currency::USD,
            state: CartState::Open,
            merged_into: None,
            expires_at: now + ShopConfig::default().cart_ttl,
            attributes: Attributes::default(),
            external: None,
            audit: Audit::created(now, who.actor()),
            lines: Vec::new(),
        });
        want.email = email.or(want.email);
        want.attributes.merge(&input.attributes);
        want.external = want.external.or(external);
        take(&mut want.lines, &given);
        if let Some(before) = &before {
            self.cart_changed(before, &mut want, &who);
        }
        if refusals.is_empty() {
            if self.world.has_large_amount(&want) {
                refusals.push(Refusal::field("lines"));
            } else {
                let expired = expired.and_then(|id| self.world.carts.rows.remove(&id));
                refusals.extend(self.world.external_cart(&want));
                if !refusals.is_empty() {
                    self.world.carts.rows.extend(expired.map(|c| (c.id, c)));
                }
            }
        }
        let answer = self.shop.acting_as(&who).carts().create(&input).await;
        let Some(got) = self.judge(answer, &refusals)? else { return Ok(()) };
        same("whether it is new", &got.created, &before.is_none())?;
        same("whether there is a token", &got.token.is_some(), &input.customer_id.is_none())?;
        if before.is_none() {
            let id = got.cart.cart.id;
            self.world.is_new(id.0)?;
            want.id = id;
            want.token_hash = got.token.as_ref().map(CartToken::hash);
            self.world.carts.tokens.extend(got.token.map(|token| (id, token)));
        }
        self.cart_answer(&got.cart, want)
    }

    async fn add_cart_line(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let (input, line, bad) = self.cart_line_input("");
        let (before, mut refusals) = self.opened(id, opens);
        let (read, stale) = self.optional_version(before.as_ref());
        self.begins((id, opens, read, &input));
        if bad.contains(&Refusal::field("quantity")) {
            refusals = bad;
        } else if refusals.is_empty() {
            refusals = stale.map_or(bad, |stale| vec![stale]);
        }
        let mut want = before.clone();
        if let (true, Some(want), Some(line)) = (refusals.is_empty(), &mut want, line) {
            put(&mut want.lines, line);
            if want.lines.iter().any(|l| l.quantity > CartLine::MAX_QUANTITY) || self.world.has_large_amount(want) {
                refusals.push(Refusal::field("quantity"));
            }
            self.cart_changed(before.as_ref().unwrap(), want, &who);
        }
        let answer = self.shop.acting_as(&who).carts().add_line(id, &access, read, &input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.cart_answer(&got, want.unwrap())?;
        }
        Ok(())
    }

    async fn change_cart_line(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let (before, mut refusals) = self.opened(id, opens);
        let (read, stale) = self.optional_version(before.as_ref());
        let line = before.as_ref().and_then(|c| self.one_of(&c.lines));
        let mut patch = CartLinePatch::default();
        if self.chance(60) {
            patch.quantity = Some(self.any(&[1, 2, 3, 7, CartLine::MAX_QUANTITY]));
        }
        if self.chance(4) {
            patch.quantity = Some(0);
        }
        let offered = line.as_ref().and_then(|l| self.world.offered(l.sku_id));
        let price = offered.map_or(Money::from_minor(1, Currency::USD), |(price, _)| price);
        if self.chance(50) {
            let wrong = i64::from(self.chance(10));
            patch.unit_price = Some(decimal(price.minor() + wrong));
        }
        let line_id = line.as_ref().map_or_else(Self::missing, |l| l.id);
        self.begins((id, opens, read, line_id, &patch));
        let mut want = before.clone();
        if patch.quantity == Some(0) {
            refusals = vec![Refusal::field("quantity")];
        } else if refusals.is_empty() {
            refusals.extend(stale);
            match (&mut want, line) {
                (Some(want), Some(line)) if refusals.is_empty() => {
                    let own = want.lines.iter_mut().find(|l| l.id == line.id).unwrap();
                    own.quantity = patch.quantity.unwrap_or(own.quantity);
                    let raised = own.quantity > line.quantity;
                    match patch.unit_price {
                        Some(_) if !offered.is_some_and(|(_, is_for_sale)| is_for_sale) => {
                            refusals.push(Refusal::field("unit_price"));
                        }
                        Some(seen) if seen.0 != price.amount() => {
                            refusals.push(Refusal::Code(ErrorCode::PriceMismatch));
                        }
                        Some(_) => own.seen_price = price,
                        None => {}
                    }
                    if refusals.is_empty() && raised && self.world.has_large_amount(want) {
                        refusals.push(Refusal::field("quantity"));
                    }
                    self.cart_changed(before.as_ref().unwrap(), want, &who);
                }
                (Some(_), None) if refusals.is_empty() => refusals.push(Refusal::Code(ErrorCode::NotFound)),
                _ => {}
            }
        }
        let answer = self.shop.acting_as(&who).carts().change_line(id, &access, read, line_id, &patch).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.cart_answer(&got, want.unwrap())?;
        }
        Ok(())
    }

    async fn remove_cart_line(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let (before, mut refusals) = self.opened(id, opens);
        let (read, stale) = self.optional_version(before.as_ref());
        let line = before.as_ref().and_then(|c| self.one_of(&c.lines)).map(|l| l.id);
        let line_id = line.unwrap_or_else(Self::missing);
        self.begins((id, opens, read, line_id));
        if refusals.is_empty() {
            let gone = line.is_none().then_some(Refusal::Code(ErrorCode::NotFound));
            refusals.extend(stale.or(gone));
        }
        let want = before.map(|before| {
            let mut after = before.clone();
            after.lines.retain(|l| Some(l.id) != line);
            self.cart_changed(&before, &mut after, &who);
            after
        });
        let answer = self.shop.acting_as(&who).carts().remove_line(id, &access, read, line_id).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.cart_answer(&got, want.unwrap())?;
        }
        Ok(())
    }

    async fn clear_cart(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let (before, mut refusals) = self.opened(id, opens);
        let (read, stale) = self.optional_version(before.as_ref());
        self.begins((id, opens, read));
        if refusals.is_empty() {
            refusals.extend(stale);
        }
        let want = before.map(|before| {
            let mut after = Cart { lines: Vec::new(), ..before.clone() };
            self.cart_changed(&before, &mut after, &who);
            after
        });
        let answer = self.shop.acting_as(&who).carts().clear(id, &access, read).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.cart_answer(&got, want.unwrap())?;
        }
        Ok(())
    }

    async fn patch_cart(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let (before, mut refusals) = self.opened(id, opens);
        let (read, stale) = self.version(before.as_ref().map_or(1, |c| c.audit.version));
        let mut patch = CartPatch::default();
        if self.chance(60) {
            let new = Patch::Set("Zoë@example.com".to_owned());
            patch.email = self.any(&[Patch::Clear, new, Patch::Set(" ada@example.com".to_owned())]);
        }
        if self.chance(40) {
            patch.attributes = self.any(&[Patch::Clear, Patch::Set(attributes("{\"n\": null, \"z\": {\"y\": 1}}"))]);
        }
        let bad = self.chance(5);
        if bad {
            patch.email = Patch::Set("nobody".to_owned());
        }
        self.begins((id, opens, read, &patch));
        if refusals.is_empty() {
            refusals.extend(stale.or(bad.then(|| Refusal::field("email"))));
        }
        let want = before.map(|before| {
            let mut after = before.clone();
            patch.email.clone().apply(&mut after.email);
            after.email = after.email.map(|e| e.trim().to_owned());
            match &patch.attributes {
                Patch::Keep => {}
                Patch::Clear => after.attributes = Attributes::default(),
                Patch::Set(a) => after.attributes.merge(a),
            }
            self.cart_changed(&before, &mut after, &who);
            after
        });
        let answer = self.shop.acting_as(&who).carts().patch(id, &access, read, patch).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.cart_answer(&got, want.unwrap())?;
        }
        Ok(())
    }

    async fn delete_cart(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let found = self.world.carts.rows.get(&id).filter(|_| opens).map(|c| c.audit.version);
        let (read, stale) = self.version(found.unwrap_or(1));
        self.begins((id, opens, read));
        let refusals = match found {
            None => vec![Refusal::Code(ErrorCode::NotFound)],
            Some(_) if self.world.carts.rows[&id].state == CartState::Ordered => {
                vec![Refusal::Code(ErrorCode::CartOrdered)]
            }
            Some(_) => stale.into_iter().collect(),
        };
        let answer = self.shop.acting_as(&who).carts().delete(id, &access, read).await;
        if self.judge(answer, &refusals)?.is_some() {
            self.world.carts.rows.remove(&id);
        }
        Ok(())
    }

    /// Merges `from` into `into` in the model, and compares the answer.
    fn carts_merged(&mut self, from: &Cart, into: &Cart, got: &PricedCart, who: &Principal) -> Checked<()> {
        let mut after = into.clone();
        take(&mut after.lines, &from.lines);
        after.email = after.email.or_else(|| from.email.clone());
        self.cart_changed(into, &mut after, who);
        self.cart_answer(got, after)?;
        let mut merged = Cart { state: CartState::Merged, merged_into: Some(into.id), ..from.clone() };
        merged.audit.edited(self.now(), who.actor());
        self.world.carts.rows.insert(merged.id, merged);
        Ok(())
    }

    async fn merge_carts(&mut self) -> Checked<()> {
        let (mut from, into) = (self.some_cart(), self.some_cart());
        if self.chance(50) {
            let is_guest = |c: &&Cart| c.customer_id.is_none() && c.state == CartState::Open;
            let guests: Vec<CartId> = self.world.carts.rows.values().filter(is_guest).map(|c| c.id).collect();
            from = self.one_of(&guests).unwrap_or(from);
        }
        let ((from_access, opens_from), (into_access, opens_into)) = (self.access(from), self.access(into));
        let who = self.principal();
        let now = self.now();
        self.begins((from, opens_from, into, opens_into));
        let found = |id: CartId, opens: bool| self.world.carts.rows.get(&id).filter(|_| opens).cloned();
        let (source, target) = (found(from, opens_from), found(into, opens_into));
        let mut refusals = Vec::new();
        let mut is_repeated = false;
        if from == into {
            refusals.push(Refusal::field("into"));
        } else if let (Some(source), Some(_)) = (&source, &target) {
            is_repeated = source.merged_into == Some(into);
            refusals.extend(self.world.closed(into, now));
            if !is_repeated && refusals.is_empty() {
                refusals.extend(self.world.closed(from, now));
            }
            if !is_repeated && refusals.is_empty() && source.customer_id.is_some() {
                refusals.push(Refusal::Code(ErrorCode::StateConflict));
            }
        } else {
            refusals.push(Refusal::Code(ErrorCode::NotFound));
        }
        let answer = self.shop.acting_as(&who).carts().merge(from, &from_access, into, &into_access).await;
        let Some(got) = self.judge(answer, &refusals)? else { return Ok(()) };
        let (source, target) = (source.unwrap(), target.unwrap());
        if is_repeated {
            return same("a repeated merge", &got, &self.world.priced(&target));
        }
        self.carts_merged(&source, &target, &got, &who)
    }

    async fn assign_cart(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let customer = self.some_customer();
        let (access, opens) = self.access(id);
        let who = self.principal();
        let now = self.now();
        self.begins((id, opens, customer));
        let before = self.world.carts.rows.get(&id).filter(|_| opens).cloned();
        let own = self.world.open_cart_of(customer).map(|own| self.world.carts.rows[&own].clone());
        let is_current = |own: &Cart| own.expires_at > now;
        let mut refusals = Vec::new();
        let mut unchanged = None;
        if self.world.live_customer(customer).is_none() {
            refusals.push(Refusal::field("customer_id"));
        } else if let Some(before) = &before {
            let successor = own.clone().filter(|own| before.merged_into == Some(own.id) && is_current(own));
            if successor.is_some() {
                unchanged = successor;
            } else if let Some(refusal) = self.world.closed(id, now) {
                refusals.push(refusal);
            } else if before.customer_id == Some(customer) {
                unchanged = Some(before.clone());
            } else if before.customer_id.is_some() {
                refusals.push(Refusal::Code(ErrorCode::StateConflict));
            }
        } else {
            refusals.push(Refusal::Code(ErrorCode::NotFound));
        }
        let answer = self.shop.acting_as(&who).carts().assign(id, &access, customer).await;
        let Some(got) = self.judge(answer, &refusals)? else { return Ok(()) };
        if let Some(cart) = unchanged {
            return same("the answer", &got, &self.world.priced(&cart));
        }
        let before = before.unwrap();
        if let Some(own) = own {
            if is_current(&own) {
                return self.carts_merged(&before, &own, &got, &who);
            }
            self.world.carts.rows.remove(&own.id);
        }
        let mut after = Cart { customer_id: Some(customer), token_hash: None, ..before.clone() };
        self.cart_changed(&before, &mut after, &who);
        self.cart_answer(&got, after)
    }

    async fn read_cart(&mut self) -> Checked<()> {
        let id = self.some_cart();
        let (access, opens) = self.access(id);
        self.begins((id, opens));
        let (mut cart, mut refusals) = self.opened(id, opens);
        let ordered = self.world.carts.get(id).filter(|c| opens && c.state == CartState::Ordered);
        if let Some(ordered) = ordered {
            (cart, refusals) = (Some(ordered.clone()), Vec::new());
        }
        let answer = self.shop.carts().get(id, &access).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            same("the cart", &got, &self.world.priced(&cart.unwrap()))?;
        }
        Ok(())
    }

    async fn list_carts(&mut self) -> Checked<()> {
        self.world.settle_carts();
        let mut filter = CartFilter::default();
        if self.chance(30) {
            filter.customer = Some(self.some_customer());
        }
        if self.chance(50) {
            filter.state = self.one_of(CartState::ALL);
        }
        if self.chance(30) {
            filter.email = Some(self.any(&["Ada@EXAMPLE.com", "zoë@example.com", "%"]).to_owned());
        }
        let limit = 1 + self.below(8) as u32;
        self.begins((&filter, limit));
        let matches = |c: &&Cart| {
            filter.customer.is_none_or(|id| c.customer_id == Some(id))
                && filter.state.is_none_or(|state| c.state == state)
                && filter.email.as_ref().is_none_or(|e| c.email.as_ref().is_some_and(|o| fold_key(o) == fold_key(e)))
        };
        let want = self.world.carts.rows.values().rev().filter(matches).map(|c| self.world.priced(c)).collect();
        let mut walk = Walk::new(want, limit);
        while let Some(paging) = walk.next.take() {
            walk.reads(self.shop.carts().list(&filter, &paging).await)?;
        }
        Ok(())
    }

    async fn remove_expired_carts(&mut self) -> Checked<()> {
        self.world.settle_carts();
        self.begins(());
        let now = self.now();
        let count = self.world.carts.rows.len();
        self.world.carts.rows.retain(|_, c| c.expires_at > now || c.state == CartState::Ordered);
        let removed = (count - self.world.carts.rows.len()) as u64;
        same("how many", &read("the removal", self.shop.carts().remove_expired().await)?, &removed)
    }

    /// Compares all carts, in every state.
    async fn compare_carts(&mut self) -> Checked<()> {
        self.world.settle_carts();
        let (page, _) =
            read("the carts", self.shop.carts().list(&CartFilter::default(), &Paging::first(100_000)).await)?;
        let want: Vec<PricedCart> = self.world.carts.rows.values().rev().map(|c| self.world.priced(c)).collect();
        same("the carts", &page.items, &want)?;
        self.digest_at_end(&page.items.iter().map(|c| &c.cart).collect::<Vec<_>>());
        Ok(())
    }
}
