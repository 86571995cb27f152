//! Customers and their addresses: their rows in the model, the operations on them, and their comparison.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use uuid::Uuid;

use super::World;
use super::comparison::{Checked, Refusal, read, same};
use super::generator::{ATTRIBUTES, attributes, bad_text};
use super::shared::{external, trimmed};
use super::{Operation, Part, Runner};
use crate::domain::access::principal::Principal;
use crate::domain::common::{Attributes, Audit, DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::sales::customer::{
    Address, AddressFilter, AddressInput, AddressPatch, Customer, CustomerFilter, CustomerInput, CustomerPatch,
    CustomerSort,
};
use crate::error::{ErrorCode, Result};
use crate::id::{AddressId, CustomerId};
use crate::paging::{Page, Paging, Total};
use crate::shop::Shop;
use crate::text::fold_key;

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_customers()) };

const OPERATIONS: &[Operation] = &[
    Operation { name: "create customer", weight: |_| 20, run: |r| Box::pin(r.create_customer()) },
    Operation { name: "patch customer", weight: |_| 22, run: |r| Box::pin(r.patch_customer()) },
    Operation { name: "replace customer", weight: |_| 8, run: |r| Box::pin(r.replace_customer()) },
    Operation { name: "delete customer", weight: |_| 8, run: |r| Box::pin(r.delete_customer(DeleteMode::Soft)) },
    Operation {
        name: "force-delete customer",
        weight: |_| 14,
        run: |r| Box::pin(r.delete_customer(DeleteMode::Force)),
    },
    Operation { name: "restore customer", weight: |_| 8, run: |r| Box::pin(r.restore_customer()) },
    Operation { name: "erase customer", weight: |_| 3, run: |r| Box::pin(r.erase_customer()) },
    Operation { name: "read customer", weight: |_| 5, run: |r| Box::pin(r.read_customer()) },
    Operation { name: "list customers", weight: |_| 12, run: |r| Box::pin(r.list_customers()) },
    Operation { name: "create address", weight: |_| 25, run: |r| Box::pin(r.create_address()) },
    Operation { name: "patch address", weight: |_| 14, run: |r| Box::pin(r.patch_address()) },
    Operation { name: "replace address", weight: |_| 6, run: |r| Box::pin(r.replace_address()) },
    Operation { name: "delete address", weight: |_| 6, run: |r| Box::pin(r.delete_address()) },
    Operation { name: "read address", weight: |_| 4, run: |r| Box::pin(r.read_address()) },
    Operation { name: "list addresses", weight: |_| 10, run: |r| Box::pin(r.list_addresses()) },
];

/// Emails of which some are equal to a person, and some to the library.
const EMAILS: [&str; 10] = [
    "ada@example.com",
    "ADA@Example.COM",
    " ada@example.com ",
    "ａda@example.com",
    "grüße@例え.jp",
    "GRÜßE@例え.jp",
    "grüsse@例え.jp",
    "gru\u{308}sse@例え.jp",
    "o'brien+tag@mail.example.co.uk",
    "grusse@例え.jp",
];
const BAD_EMAILS: [&str; 6] = ["ada", "ada@", "@example.com", "ada@example", "a b@example.com", "a@b@example.com"];
/// Telephone numbers and the forms in which they are stored.
const TELEPHONES: [(&str, &str); 4] = [
    ("+81 965-431-3024", "+819654313024"),
    ("(202) 555.0143", "2025550143"),
    ("1234567", "1234567"),
    ("+12345678901234567890", "+12345678901234567890"),
];
const BAD_TELEPHONES: [&str; 6] = ["", "123456", "0123456789", "++1234567", "12 34 56 7a", "123456789012345678901"];
const STREETS: [&str; 7] =
    ["Große Straße", "GROSSE STRASSE", "grosser Weg", "銀座", "Rue de l'Église", "100% _", " a  b "];
const CITIES: [&str; 7] = ["Köln", "KÖLN", "Ko\u{308}ln", "Koln", "東京", "Ｋöln", " New  York "];
const COUNTRIES: [&str; 4] = ["GB", "gb", " De ", "JP"];
const BAD_COUNTRIES: [&str; 5] = ["", "G", "GBR", "XX", "ÉÉ"];

/// The customers of the model.
#[derive(Debug, Default)]
pub(super) struct Customers {
    pub(super) rows: BTreeMap<CustomerId, Customer>,
    /// Each address as if its customer was live.
    addresses: BTreeMap<AddressId, Address>,
}

impl World {
    pub(super) fn live_customer(&self, id: CustomerId) -> Option<&Customer> {
        self.customers.rows.get(&id).filter(|c| c.audit.is_live())
    }

    fn live_customers(&self) -> impl Iterator<Item = &Customer> {
        self.customers.rows.values().filter(|c| c.audit.is_live())
    }

    /// Returns all addresses as reads show them, those of deleted customers too.
    fn addresses(&self) -> impl Iterator<Item = Address> {
        self.customers.addresses.values().map(|a| {
            let mut shown = a.clone();
            shown.audit.deleted_at = self.customers.rows[&a.customer_id].audit.deleted_at;
            shown
        })
    }

    pub(super) fn live_address(&self, id: AddressId) -> Option<Address> {
        self.addresses().find(|a| a.id == id && a.audit.is_live())
    }

    /// Returns the customers of a list in its order.
    fn matching_customers(&self, filter: &CustomerFilter, sort: CustomerSort) -> Vec<Customer> {
        let name = filter.name.as_deref().map(fold_key);
        let email = filter.email.as_deref().map(fold_key);
        let matches = |c: &&Customer| {
            (filter.include_deleted == IncludeDeleted::Yes || c.audit.is_live())
                && name.as_ref().is_none_or(|n| names(c).iter().any(|own| own.starts_with(n)))
                && email.as_ref().is_none_or(|e| fold_key(&c.email) == *e)
        };
        let mut found: Vec<Customer> = self.customers.rows.values().filter(matches).cloned().collect();
        match sort {
            CustomerSort::CreatedAsc => found.sort_by_key(|c| c.id),
            CustomerSort::CreatedDesc => found.sort_by_key(|c| Reverse(c.id)),
            CustomerSort::NameAsc => found.sort_by_cached_key(|c| {
                let [key, _] = names(c);
                (key, c.id)
            }),
        }
        found
    }

    /// Returns the addresses of a list in its order.
    fn matching_addresses(&self, filter: &AddressFilter) -> Vec<Address> {
        let matches = |a: &Address| {
            (filter.include_deleted == IncludeDeleted::Yes || a.audit.is_live())
                && filter.customer.is_none_or(|c| a.customer_id == c)
                && filter.city.as_ref().is_none_or(|c| fold_key(&a.city) == fold_key(c))
                && filter.street.as_ref().is_none_or(|s| fold_key(&a.street).starts_with(&fold_key(s)))
        };
        self.addresses().filter(matches).collect()
    }

    /// Returns the unique values of `c` that another customer has.
    fn customer_conflicts(&self, c: &Customer) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let others = || self.live_customers().filter(|o| o.id != c.id);
        if others().any(|o| fold_key(&o.email) == fold_key(&c.email)) {
            refusals.push(Refusal::Duplicate("email"));
        }
        if c.external.is_some() && others().any(|o| o.external == c.external) {
            refusals.push(Refusal::Duplicate("external_id"));
        }
        refusals
    }
}

/// Writes the values of a good input into `c`.
fn written(c: &mut Customer, input: &CustomerInput) {
    input.first_name.trim().clone_into(&mut c.first_name);
    input.last_name.trim().clone_into(&mut c.last_name);
    input.email.trim().clone_into(&mut c.email);
    let stored = |t: &String| TELEPHONES.iter().find(|(sent, kept)| t == sent || t == kept).unwrap().1.to_owned();
    c.telephone = input.telephone.as_ref().map(stored);
    c.attributes = input.attributes.clone();
    if let Some(x) = external(input.source.as_ref(), input.external_id.as_ref()) {
        c.external = Some(x);
    }
}

/// Writes the values of a good input into `a`.
fn written_address(a: &mut Address, input: &AddressInput) {
    input.street.trim().clone_into(&mut a.street);
    input.city.trim().clone_into(&mut a.city);
    a.number = trimmed(input.number.as_ref());
    a.region = trimmed(input.region.as_ref());
    a.postal_code = trimmed(input.postal_code.as_ref());
    a.country = input.country.as_ref().map(|c| c.trim().to_uppercase());
}

/// Returns the keys of the last and the first name, by which lists are sorted, and of the first and the last name.
fn names(c: &Customer) -> [String; 2] {
    [[&c.last_name, &c.first_name], [&c.first_name, &c.last_name]].map(|[a, b]| fold_key(&format!("{a} {b}")))
}

/// Reads a list from its beginning: the first page by number and some more by cursor.
pub(super) struct Walk<T> {
    want: Vec<T>,
    got: Vec<T>,
    limit: u32,
    /// The next page to read.
    pub(super) next: Option<Paging>,
}

impl<T: Clone + PartialEq + Debug> Walk<T> {
    pub(super) fn new(want: Vec<T>, limit: u32) -> Self {
        Self { want, got: Vec::new(), limit, next: Some(Paging::Offset { offset: 0, limit }) }
    }

    /// Compares a page with the list that must be read.
    pub(super) fn reads(&mut self, answer: Result<(Page<T>, Option<Total>)>) -> Checked<()> {
        let (page, total) = read("the page", answer)?;
        let exact = Total { count: self.want.len() as u64, exact: true };
        same("the total", &total, &self.got.is_empty().then_some(exact))?;
        self.got.extend(page.items);
        let n = self.got.len().min(self.want.len());
        same("the list", &self.got, &self.want[..n].to_vec())?;
        same("whether there is more", &page.next.is_some(), &(n < self.want.len()))?;
        let after = page.next.filter(|_| n < 20);
        self.next = after.map(|k| Paging::Keyset { after: Some(k), limit: self.limit });
        Ok(())
    }
}

impl Runner<'_> {
    pub(super) fn some_customer(&mut self) -> CustomerId {
        let live: Vec<CustomerId> = self.world.live_customers().map(|c| c.id).collect();
        let all: Vec<CustomerId> = self.world.customers.rows.keys().copied().collect();
        self.some_id(&live, &all)
    }

    /// Returns mostly a deleted customer.
    fn deleted_customer(&mut self) -> CustomerId {
        let gone: Vec<CustomerId> =
            self.world.customers.rows.values().filter(|c| !c.audit.is_live()).map(|c| c.id).collect();
        if self.chance(5) { self.some_customer() } else { self.one_of(&gone).unwrap_or_else(Self::missing) }
    }

    /// Returns mostly an address of this customer.
    pub(super) fn some_address_of(&mut self, customer: Option<CustomerId>) -> AddressId {
        let own: Vec<AddressId> =
            self.world.addresses().filter(|a| Some(a.customer_id) == customer).map(|a| a.id).collect();
        match self.one_of(&own) {
            Some(id) if self.chance(90) => id,
            _ => self.some_address(),
        }
    }

    fn some_address(&mut self) -> AddressId {
        let live: Vec<AddressId> = self.world.addresses().filter(|a| a.audit.is_live()).map(|a| a.id).collect();
        let all: Vec<AddressId> = self.world.customers.addresses.keys().copied().collect();
        self.some_id(&live, &all)
    }

    fn email(&mut self) -> String {
        if self.chance(25) { self.any(&EMAILS).to_owned() } else { format!("Bob.{}@example.com", self.below(300)) }
    }

    fn optional(&mut self, percent: u32, of: &[&str]) -> Option<String> {
        if self.chance(percent) { self.one_of(of).map(str::to_owned) } else { None }
    }

    /// Returns an input and the names of its bad fields.
    fn customer_input(&mut self) -> (CustomerInput, BTreeSet<String>) {
        let (source, external_id) = self.external_pair(10);
        let mut input = CustomerInput {
            first_name: self.word(),
            last_name: self.word(),
            email: self.email(),
            telephone: if self.chance(50) { Some(self.any(&TELEPHONES).0.to_owned()) } else { None },
            attributes: attributes(self.any(&ATTRIBUTES)),
            source,
            external_id,
            version: None,
        };
        let mut bad = BTreeSet::new();
        if self.chance(8) {
            let field = match self.below(6) {
                0 => {
                    input.first_name = bad_text(&mut self.rng, 100);
                    "first_name"
                }
                1 => {
                    self.any(&BAD_EMAILS).clone_into(&mut input.email);
                    input.last_name = bad_text(&mut self.rng, 100);
                    bad.insert("last_name".to_owned());
                    "email"
                }
                2 => {
                    input.email = bad_text(&mut self.rng, 254);
                    "email"
                }
                3 => {
                    input.telephone = Some(self.any(&BAD_TELEPHONES).to_owned());
                    "telephone"
                }
                4 => {
                    (input.source, input.external_id) = (Some("erp".to_owned()), None);
                    "external_id"
                }
                _ => {
                    input.attributes = attributes(&format!("{{\"a\": \"{}\"}}", "x".repeat(Attributes::MAX_BYTES)));
                    "attributes"
                }
            };
            bad.insert(field.to_owned());
        }
        (input, bad)
    }

    /// Returns an input and the names of its bad fields.
    pub(super) fn address_input(&mut self) -> (AddressInput, BTreeSet<String>) {
        let mut input = AddressInput {
            street: self.any(&STREETS).to_owned(),
            number: self.optional(50, &["12", "12½ b", " ", "一"]),
            city: self.any(&CITIES).to_owned(),
            region: self.optional(30, &["Île-de-France", "  ", "é🎧"]),
            postal_code: self.optional(50, &["N1 9GU", "〒150-0001", ""]),
            country: self.optional(60, &COUNTRIES),
            version: None,
        };
        let mut bad = BTreeSet::new();
        if self.chance(8) {
            let field = match self.below(4) {
                0 => {
                    input.street = bad_text(&mut self.rng, 255);
                    "street"
                }
                1 => {
                    input.city = bad_text(&mut self.rng, 100);
                    input.number = Some("x".repeat(51));
                    bad.insert("number".to_owned());
                    "city"
                }
                2 => {
                    input.postal_code = Some("a\u{7}b".to_owned());
                    "postal_code"
                }
                _ => {
                    input.country = Some(self.any(&BAD_COUNTRIES).to_owned());
                    "country"
                }
            };
            bad.insert(field.to_owned());
        }
        (input, bad)
    }

    fn customer_answer(&self, got: &Customer) -> Checked<()> {
        same("the answer", &Some(got), &self.world.customers.rows.get(&got.id))
    }

    fn address_answer(&self, got: &Address) -> Checked<()> {
        same("the answer", &Some(got), &self.world.addresses().find(|a| a.id == got.id).as_ref())
    }

    /// Compares a customer and its addresses with the model, as reads show them with and without deleted rows.
    async fn customer_and_addresses(&mut self, id: CustomerId) -> Checked<()> {
        for deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
            let shown = |audit: &Audit| deleted == IncludeDeleted::Yes || audit.is_live();
            let want = self.world.customers.rows.get(&id).filter(|c| shown(&c.audit));
            let got = self.shop.customers().get(id, deleted).await;
            same("reading it", &got.as_ref().ok(), &want)?;
            same("the refusal", &got.err().map(|e| e.code()), &want.is_none().then_some(ErrorCode::NotFound))?;
            let filter = AddressFilter { customer: Some(id), include_deleted: deleted, ..AddressFilter::default() };
            let got = self.shop.addresses().list(&filter, &Paging::first(1_000)).await.ok().map(|(page, _)| page.items);
            let addresses = || self.world.addresses().filter(|a| a.customer_id == id && shown(&a.audit)).collect();
            same("its addresses", &got, &want.map(|_| addresses()))?;
        }
        Ok(())
    }

    async fn create_customer(&mut self) -> Checked<()> {
        let (input, bad) = self.customer_input();
        let who = self.principal();
        self.begins(&input);
        let mut want = None;
        let refusals = if bad.is_empty() {
            let mut c = Customer {
                id: CustomerId(Uuid::nil()),
                first_name: String::new(),
                last_name: String::new(),
                email: String::new(),
                telephone: None,
                attributes: Attributes::default(),
                external: None,
                erased_at: None,
                audit: Audit::created(self.now(), who.actor()),
            };
            written(&mut c, &input);
            let refusals = self.world.customer_conflicts(&c);
            want = Some(c);
            refusals
        } else {
            vec![Refusal::Fields(bad)]
        };
        let answer = self.shop.acting_as(&who).customers().create(&input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.is_new(got.id.0)?;
            self.world.customers.rows.insert(got.id, Customer { id: got.id, ..want.unwrap() });
            self.customer_answer(&got)?;
        }
        Ok(())
    }

    async fn write_customer(
        &mut self,
        id: CustomerId,
        input: Option<CustomerInput>,
        bad: BTreeSet<String>,
        call: impl AsyncFnOnce(&Shop, ExpectedVersion, &Principal) -> Result<Customer>,
    ) -> Checked<()> {
        let who = self.principal();
        let now = self.now();
        let mut refusals = if bad.is_empty() { Vec::new() } else { vec![Refusal::Fields(bad)] };
        let mut want = None;
        let read = match self.world.live_customer(id).cloned() {
            None => {
                refusals.push(Refusal::Code(ErrorCode::NotFound));
                ExpectedVersion::Exact(1)
            }
            Some(before) => {
                let (read, stale) = self.version(before.audit.version);
                refusals.extend(stale);
                if let Some(input) = input.as_ref().filter(|_| refusals.is_empty()) {
                    let mut after = before.clone();
                    written(&mut after, input);
                    refusals = self.world.customer_conflicts(&after);
                    if after != before {
                        after.audit.edited(now, who.actor());
                    }
                    want = Some(after);
                }
                read
            }
        };
        self.begins((id, read, &input));
        let answer = call(&self.shop, read, &who).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.customers.rows.insert(id, want.unwrap());
            self.customer_answer(&got)?;
        }
        Ok(())
    }

    async fn replace_customer(&mut self) -> Checked<()> {
        let id = self.some_customer();
        let (input, bad) = self.customer_input();
        let sent = input.clone();
        self.write_customer(id, Some(input), bad, async move |shop, read, who| {
            shop.acting_as(who).customers().replace(id, read, &sent).await
        })
        .await
    }

    async fn patch_customer(&mut self) -> Checked<()> {
        let id = self.some_customer();
        let mut patch = CustomerPatch::default();
        if self.chance(35) {
            patch.first_name = Patch::Set(self.word());
        }
        if self.chance(35) {
            patch.last_name = Patch::Set(self.word());
        }
        if self.chance(35) {
            patch.email = Patch::Set(self.email());
        }
        if self.chance(30) {
            let telephone = self.any(&TELEPHONES).0.to_owned();
            patch.telephone = if self.chance(30) { Patch::Clear } else { Patch::Set(telephone) };
        }
        if self.chance(30) {
            let a = attributes(self.any(&ATTRIBUTES));
            patch.attributes = if self.chance(20) { Patch::Clear } else { Patch::Set(a) };
        }
        let mut bad = BTreeSet::new();
        if self.chance(6) {
            let field = match self.below(3) {
                0 => {
                    patch.email = Patch::Clear;
                    "email"
                }
                1 => {
                    patch.first_name = Patch::Set(bad_text(&mut self.rng, 100));
                    "first_name"
                }
                _ => {
                    patch.telephone = Patch::Set(self.any(&BAD_TELEPHONES).to_owned());
                    "telephone"
                }
            };
            bad.insert(field.to_owned());
        }
        let input = self.world.customers.rows.get(&id).map(|c| {
            let mut input = CustomerInput {
                first_name: c.first_name.clone(),
                last_name: c.last_name.clone(),
                email: c.email.clone(),
                telephone: c.telephone.clone(),
                attributes: c.attributes.clone(),
                ..CustomerInput::default()
            };
            if let Patch::Set(name) = &patch.first_name {
                input.first_name.clone_from(name);
            }
            if let Patch::Set(name) = &patch.last_name {
                input.last_name.clone_from(name);
            }
            if let Patch::Set(email) = &patch.email {
                input.email.clone_from(email);
            }
            patch.telephone.clone().apply(&mut input.telephone);
            match &patch.attributes {
                Patch::Keep => {}
                Patch::Clear => input.attributes = Attributes::default(),
                Patch::Set(a) => input.attributes.merge(a),
            }
            input
        });
        self.write_customer(id, input, bad, async move |shop, read, who| {
            shop.acting_as(who).customers().patch(id, read, patch).await
        })
        .await
    }

    async fn delete_customer(&mut self, mode: DeleteMode) -> Checked<()> {
        let force = mode == DeleteMode::Force;
        let id = if force && self.chance(60) { self.deleted_customer() } else { self.some_customer() };
        let who = self.principal();
        let now = self.now();
        let found = self.world.customers.rows.get(&id).filter(|c| force || c.audit.is_live());
        let (read, refusals) = match found.map(|c| c.audit.version) {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(version) => {
                let (read, stale) = self.version(version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if force && self.world.is_buyer(id) {
                    refusals.push(Refusal::Code(ErrorCode::HasSales));
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).customers().delete(id, read, mode).await;
        if self.judge(answer, &refusals)?.is_none() {
            return Ok(());
        }
        if force {
            self.world.customers.rows.remove(&id);
            self.world.customers.addresses.retain(|_, a| a.customer_id != id);
            for review in self.world.reviews.values_mut().filter(|r| r.customer_id == Some(id)) {
                review.customer_id = None;
                review.audit.version += 1;
            }
        } else {
            self.world.customers.rows.get_mut(&id).unwrap().audit.deleted(now, who.actor());
        }
        self.customer_and_addresses(id).await
    }

    async fn restore_customer(&mut self) -> Checked<()> {
        let id = self.deleted_customer();
        let who = self.principal();
        let now = self.now();
        let (read, refusals) = match self.world.customers.rows.get(&id).cloned() {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(c) => {
                let (read, stale) = self.version(c.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if c.audit.is_live() || c.erased_at.is_some() {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    refusals = self.world.customer_conflicts(&c);
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).customers().restore(id, read).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.customers.rows.get_mut(&id).unwrap().audit.restored(now, who.actor());
            self.customer_answer(&got)?;
            self.customer_and_addresses(id).await?;
        }
        Ok(())
    }

    async fn erase_customer(&mut self) -> Checked<()> {
        let id = if self.chance(40) { self.deleted_customer() } else { self.some_customer() };
        let who = self.principal();
        let now = self.now();
        self.begins(id);
        let is_known = self.world.customers.rows.contains_key(&id);
        let refusals = if is_known { Vec::new() } else { vec![Refusal::Code(ErrorCode::NotFound)] };
        let answer = self.shop.acting_as(&who).customers().erase(id).await;
        let Some(got) = self.judge(answer, &refusals)? else { return Ok(()) };
        let c = self.world.customers.rows.get_mut(&id).unwrap();
        if c.erased_at.is_none() {
            let mut audit = c.audit.clone();
            audit.edited(now, who.actor());
            audit.deleted_at = Some(audit.deleted_at.unwrap_or(now));
            *c = Customer {
                id,
                first_name: "erased".to_owned(),
                last_name: "erased".to_owned(),
                email: format!("{id}@erased.invalid"),
                telephone: None,
                attributes: Attributes::default(),
                external: None,
                erased_at: Some(now),
                audit,
            };
        }
        self.world.customers.addresses.retain(|_, a| a.customer_id != id);
        self.world.erase_carts(id);
        self.orders_erased(id, &who).await?;
        same("the answer", &got, &self.world.customers.rows[&id])?;
        self.customer_and_addresses(id).await
    }

    async fn read_customer(&mut self) -> Checked<()> {
        let id = self.some_customer();
        self.begins(id);
        self.customer_and_addresses(id).await
    }

    async fn list_customers(&mut self) -> Checked<()> {
        let deleted = if self.chance(30) { IncludeDeleted::Yes } else { IncludeDeleted::No };
        let sort = self.any(&CustomerSort::ALL);
        let mut filter = CustomerFilter { include_deleted: deleted, ..CustomerFilter::default() };
        let id = self.some_customer();
        let known = self.world.customers.rows.get(&id).cloned();
        match (self.below(5), known) {
            (0, Some(c)) => {
                filter.email = Some(self.any(&[c.email.clone(), c.email.to_uppercase(), format!(" {} ", c.email)]));
            }
            (1 | 2, Some(c)) => {
                let first_last = format!("{} {}", c.first_name, c.last_name);
                let name = self.any(&[c.last_name.clone(), first_last, c.last_name.to_uppercase()]);
                let head: String = name.chars().take(1 + self.below(12)).collect();
                filter.name = Some(head).filter(|h| !h.trim().is_empty());
            }
            (3, _) => filter.name = Some(self.any(&["te", "Ｓ", "a b", "100%", "_", "nobody"]).to_owned()),
            _ => {}
        }
        let limit = 1 + self.below(8) as u32;
        self.begins((&filter, sort, limit));
        let mut walk = Walk::new(self.world.matching_customers(&filter, sort), limit);
        while let Some(paging) = walk.next.take() {
            walk.reads(self.shop.customers().list(&filter, sort, &paging).await)?;
        }
        Ok(())
    }

    async fn create_address(&mut self) -> Checked<()> {
        let customer = self.some_customer();
        let (input, bad) = self.address_input();
        let who = self.principal();
        self.begins((customer, &input));
        let own = self.world.addresses().filter(|a| a.customer_id == customer).count();
        let mut refusals = if bad.is_empty() { Vec::new() } else { vec![Refusal::Fields(bad)] };
        if self.world.live_customer(customer).is_none() {
            refusals.push(Refusal::Code(ErrorCode::NotFound));
        } else if refusals.is_empty() && own >= Customer::MAX_ADDRESSES {
            refusals.push(Refusal::field("customer_id"));
        }
        let answer = self.shop.acting_as(&who).addresses().create(customer, &input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.is_new(got.id.0)?;
            let mut want = Address {
                id: got.id,
                customer_id: customer,
                street: String::new(),
                number: None,
                city: String::new(),
                region: None,
                postal_code: None,
                country: None,
                audit: Audit::created(self.now(), who.actor()),
            };
            written_address(&mut want, &input);
            self.world.customers.addresses.insert(got.id, want);
            self.address_answer(&got)?;
        }
        Ok(())
    }

    async fn write_address(
        &mut self,
        id: AddressId,
        input: Option<AddressInput>,
        bad: BTreeSet<String>,
        call: impl AsyncFnOnce(&Shop, ExpectedVersion, &Principal) -> Result<Address>,
    ) -> Checked<()> {
        let who = self.principal();
        let now = self.now();
        let mut refusals = if bad.is_empty() { Vec::new() } else { vec![Refusal::Fields(bad)] };
        let mut want = None;
        let read = match self.world.live_address(id) {
            None => {
                refusals.push(Refusal::Code(ErrorCode::NotFound));
                ExpectedVersion::Exact(1)
            }
            Some(before) => {
                let (read, stale) = self.version(before.audit.version);
                refusals.extend(stale);
                if let Some(input) = input.as_ref().filter(|_| refusals.is_empty()) {
                    let mut after = before.clone();
                    written_address(&mut after, input);
                    if after != before {
                        after.audit.edited(now, who.actor());
                    }
                    want = Some(after);
                }
                read
            }
        };
        self.begins((id, read, &input));
        let answer = call(&self.shop, read, &who).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.customers.addresses.insert(id, want.unwrap());
            self.address_answer(&got)?;
        }
        Ok(())
    }

    async fn replace_address(&mut self) -> Checked<()> {
        let id = self.some_address();
        let (input, bad) = self.address_input();
        let sent = input.clone();
        self.write_address(id, Some(input), bad, async move |shop, read, who| {
            shop.acting_as(who).addresses().replace(id, read, &sent).await
        })
        .await
    }

    async fn patch_address(&mut self) -> Checked<()> {
        let id = self.some_address();
        let mut patch = AddressPatch::default();
        let mut bad = BTreeSet::new();
        if self.chance(40) {
            patch.street = Patch::Set(self.any(&STREETS).to_owned());
        }
        if self.chance(40) {
            patch.city = Patch::Set(self.any(&CITIES).to_owned());
        }
        if self.chance(30) {
            patch.number = self.any(&[Patch::Clear, Patch::Set(" 7 ".to_owned()), Patch::Set(" ".to_owned())]);
        }
        if self.chance(30) {
            patch.region = self.any(&[Patch::Clear, Patch::Set("Ærø".to_owned())]);
        }
        if self.chance(30) {
            patch.postal_code = self.any(&[Patch::Clear, Patch::Set("1000".to_owned())]);
        }
        if self.chance(30) {
            patch.country = self.any(&[Patch::Clear, Patch::Set("fr".to_owned())]);
        }
        if self.chance(6) {
            if self.chance(50) {
                patch.city = Patch::Clear;
                bad.insert("city".to_owned());
            } else {
                patch.country = Patch::Set(self.any(&BAD_COUNTRIES).to_owned());
                bad.insert("country".to_owned());
            }
        }
        let input = self.world.customers.addresses.get(&id).map(|a| {
            let mut input = AddressInput {
                street: a.street.clone(),
                number: a.number.clone(),
                city: a.city.clone(),
                region: a.region.clone(),
                postal_code: a.postal_code.clone(),
                country: a.country.clone(),
                version: None,
            };
            if let Patch::Set(street) = &patch.street {
                input.street.clone_from(street);
            }
            if let Patch::Set(city) = &patch.city {
                input.city.clone_from(city);
            }
            patch.number.clone().apply(&mut input.number);
            patch.region.clone().apply(&mut input.region);
            patch.postal_code.clone().apply(&mut input.postal_code);
            patch.country.clone().apply(&mut input.country);
            input
        });
        self.write_address(id, input, bad, async move |shop, read, who| {
            shop.acting_as(who).addresses().patch(id, read, patch).await
        })
        .await
    }

    async fn delete_address(&mut self) -> Checked<()> {
        let id = self.some_address();
        let who = self.principal();
        let (read, refusals) = match self.world.live_address(id) {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(a) => {
                let (read, stale) = self.version(a.audit.version);
                (read, stale.into_iter().collect())
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).addresses().delete(id, read).await;
        if self.judge(answer, &refusals)?.is_some() {
            let gone = self.world.customers.addresses.remove(&id).unwrap();
            self.customer_and_addresses(gone.customer_id).await?;
        }
        Ok(())
    }

    async fn read_address(&mut self) -> Checked<()> {
        let id = self.some_address();
        self.begins(id);
        let got = self.shop.addresses().get(id, IncludeDeleted::No).await;
        same("the address", &got.ok(), &self.world.live_address(id))?;
        let got = self.shop.addresses().get(id, IncludeDeleted::Yes).await;
        same("the address", &got.ok(), &self.world.addresses().find(|a| a.id == id))
    }

    async fn list_addresses(&mut self) -> Checked<()> {
        let deleted = if self.chance(30) { IncludeDeleted::Yes } else { IncludeDeleted::No };
        let mut filter = AddressFilter { include_deleted: deleted, ..AddressFilter::default() };
        if self.chance(40) {
            filter.customer = Some(self.some_customer());
        }
        if self.chance(40) {
            filter.city = Some(self.any(&["köln", "KOLN", "東京", "new york", "New", "%"]).to_owned());
        }
        if self.chance(40) {
            filter.street = Some(self.any(&["grosse", "GROẞE STR", "銀", "rue de l", "A B", "100%", "_"]).to_owned());
        }
        let limit = 1 + self.below(8) as u32;
        self.begins((&filter, limit));
        let is_shown = |c: &Customer| deleted == IncludeDeleted::Yes || c.audit.is_live();
        if let Some(id) = filter.customer
            && !self.world.customers.rows.get(&id).is_some_and(is_shown)
        {
            let answer = self.shop.addresses().list(&filter, &Paging::first(limit)).await;
            return self.judge(answer, &[Refusal::Code(ErrorCode::NotFound)]).map(drop);
        }
        let mut walk = Walk::new(self.world.matching_addresses(&filter), limit);
        while let Some(paging) = walk.next.take() {
            walk.reads(self.shop.addresses().list(&filter, &paging).await)?;
        }
        Ok(())
    }

    /// Compares all customers and addresses, deleted ones too.
    async fn compare_customers(&mut self) -> Checked<()> {
        let all = CustomerFilter { include_deleted: IncludeDeleted::Yes, ..CustomerFilter::default() };
        let paging = Paging::first(100_000);
        let (page, _) =
            read("the customers", self.shop.customers().list(&all, CustomerSort::CreatedAsc, &paging).await)?;
        same("the customers", &page.items, &self.world.customers.rows.values().cloned().collect())?;
        self.digest_at_end(&page.items);
        let all = AddressFilter { include_deleted: IncludeDeleted::Yes, ..AddressFilter::default() };
        let (page, _) = read("the addresses", self.shop.addresses().list(&all, &paging).await)?;
        same("the addresses", &page.items, &self.world.addresses().collect())?;
        self.digest_at_end(&page.items);
        Ok(())
    }
}
