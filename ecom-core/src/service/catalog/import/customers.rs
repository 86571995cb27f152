//! Imports customers with their addresses.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use crate::domain::access::principal::Principal;
use crate::domain::common::{Attributes, Audit};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::customer::{Address, AddressInput, Customer, CustomerInput};
use crate::error::{Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::{AddressId, CustomerId};
use crate::port::storage::Repositories as _;
use crate::service::catalog::import::batch::{BatchWriter, Outcome, Written, in_batches};
use crate::service::catalog::import::country::country_code;
use crate::service::catalog::import::{
    BATCH, ForeignId, ImportKind, ImportOptions, ImportReport, ImportService, RecordSource, Rejection, Run, origin,
    stream,
};
use crate::service::catalog::product::duplicate;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};
use crate::service::sales::customer::{CustomerService, with_address_values, with_customer_values};
use crate::text::fold_key;

/// A customer document. Fields that are not listed here are ignored, such as the passwords and bank accounts of
/// DummyJSON's users. Those that are listed must have the right type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CustomerRecord {
    /// DummyJSON: its id in DummyJSON, a number or a text.
    pub id: Option<ForeignId>,
    /// Ours: its id in `source`.
    pub external_id: Option<ForeignId>,
    /// Ours: the system that `external_id` belongs to; by default that of the options.
    pub source: Option<String>,
    /// Required.
    #[serde(alias = "firstName")]
    pub first_name: Option<String>,
    /// Required.
    #[serde(alias = "lastName")]
    pub last_name: Option<String>,
    /// Required.
    pub email: Option<String>,
    /// The telephone number; spaces, dots, dashes and parentheses are removed. If absent, an existing customer keeps its
    /// own.
    #[serde(alias = "phone")]
    pub telephone: Option<String>,
    /// A JSON object. If absent, an existing customer keeps its own.
    #[serde(deserialize_with = "Attributes::from_optional_input")]
    pub attributes: Option<Attributes>,
    /// DummyJSON: the address.
    pub address: Option<AddressRecord>,
    /// Ours: the addresses.
    pub addresses: Option<Vec<AddressRecord>>,
}

/// An address of a [`CustomerRecord`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AddressRecord {
    /// DummyJSON: the house number and the street, or the street alone.
    pub address: Option<String>,
    /// Required, unless `address` has it.
    pub street: Option<String>,
    /// The house number.
    pub number: Option<String>,
    /// Required.
    pub city: Option<String>,
    /// The state or province.
    #[serde(alias = "state")]
    pub region: Option<String>,
    /// The postal code.
    #[serde(alias = "postalCode")]
    pub postal_code: Option<String>,
    /// The country: its ISO 3166-1 code (alpha-2 or alpha-3), or its English name.
    pub country: Option<String>,
}

/// A record whose values a customer may have.
#[derive(Debug)]
struct Candidate {
    values: CustomerInput,
    has_attributes: bool,
    addresses: Vec<AddressInput>,
}

impl CustomerRecord {
    /// Checks the record against the bounds of a customer.
    fn check(self, source: Option<&str>) -> Result<Candidate, Rejection> {
        let mut errors = ValidationErrors::default();
        let (source, external_id) = origin(source, self.source, self.external_id, self.id);
        for (field, value) in [("first_name", &self.first_name), ("last_name", &self.last_name), ("email", &self.email)]
        {
            if value.is_none() {
                errors.push(field, FieldCode::Required, "is required");
            }
        }
        let has_attributes = self.attributes.is_some();
        let input = CustomerInput {
            first_name: self.first_name.unwrap_or_default(),
            last_name: self.last_name.unwrap_or_default(),
            email: self.email.unwrap_or_default(),
            telephone: self.telephone,
            attributes: self.attributes.unwrap_or_default(),
            source: external_id.is_some().then_some(source),
            external_id,
            version: None,
        };
        let values = errors.nested("", input.check()).map_err(|e| Rejection::from(&e))?;
        let mut addresses: Vec<AddressInput> = Vec::new();
        for (i, record) in self.addresses.into_iter().flatten().chain(self.address).enumerate() {
            let prefix = format!("addresses[{i}].");
            if let Some(address) = errors.nested(&prefix, record.check()).map_err(|e| Rejection::from(&e))?
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
        if addresses.len() > Customer::MAX_ADDRESSES {
            errors.out_of_bounds("addresses", format!("must have at most {} addresses", Customer::MAX_ADDRESSES));
        }
        match values {
            Some(values) if errors.0.is_empty() => Ok(Candidate { values, has_attributes, addresses }),
            _ => Err(Rejection::from(&Error::Validation(errors))),
        }
    }
}

impl AddressRecord {
    fn check(self) -> Result<AddressInput> {
        let mut errors = ValidationErrors::default();
        let (mut street, mut number) = (self.street, self.number);
        if let (None, Some(address)) = (&street, &self.address) {
            // In the United States, the house number comes first.
            let address = address.trim();
            match address.split_once(' ').filter(|(first, _)| first.starts_with(|c: char| c.is_ascii_digit())) {
                Some((first, rest)) if number.is_none() => {
                    (street, number) = (Some(rest.to_owned()), Some(first.to_owned()));
                }
                _ => street = Some(address.to_owned()),
            }
        }
        for (field, value) in [("street", &street), ("city", &self.city)] {
            if value.is_none() {
                errors.push(field, FieldCode::Required, "is required");
            }
        }
        let country = self.country.filter(|c| !c.trim().is_empty());
        let code = country.as_deref().and_then(country_code);
        if country.is_some() && code.is_none() {
            errors.out_of_bounds("country", "must be an ISO 3166-1 country code or the English name of a country");
        }
        let input = AddressInput {
            street: street.unwrap_or_default(),
            number,
            city: self.city.unwrap_or_default(),
            region: self.region,
            postal_code: self.postal_code,
            country: code.map(str::to_owned),
            version: None,
        };
        match errors.nested("", input.check())? {
            Some(address) if errors.0.is_empty() => Ok(address),
            _ => Err(Error::Validation(errors)),
        }
    }
}

impl Candidate {
    /// Returns the values that replace a customer. Fields that the record leaves out stay as they are.
    fn over(&self, before: &Customer) -> CustomerInput {
        let mut values = self.values.clone();
        values.telephone = values.telephone.or_else(|| before.telephone.clone());
        if !self.has_attributes {
            values.attributes = before.attributes.clone();
        }
        values
    }

    /// Returns the addresses that a customer does not have.
    fn missing(&self, own: &[&Address]) -> Vec<&AddressInput> {
        self.addresses.iter().filter(|a| !own.iter().any(|own| is_same(a, own))).collect()
    }
}

fn is_same(a: &AddressInput, b: &Address) -> bool {
    a.street == b.street
        && a.number == b.number
        && a.city == b.city
        && a.region == b.region
        && a.postal_code == b.postal_code
        && a.country == b.country
}

/// The customer that a record is written to.
enum Target {
    Insert,
    Update(Box<Customer>),
    Rejected(Rejection),
}

impl ImportService<'_> {
    /// Imports customers with their addresses, in the format of DummyJSON's users or our own ([`CustomerRecord`]). The
    /// source is a JSON array, an object with an array in `customers` or `users`, one object, or NDJSON.
    ///
    /// A record is recognized by its external id, else by its email, which takes over a customer that has no external
    /// id. Fields that the record leaves out stay as they are. Addresses that the customer does not have are added, and
    /// none is changed or removed, because a customer adds some in the shop. A customer who agrees with the record is
    /// not written. Refused records, batches and progress are as in [`Self::products`]. The dead letters contain the
    /// beginning of the records, and thus personal data.
    ///
    /// # Errors
    /// As [`Self::products`].
    pub async fn customers<R: Read + Send + 'static>(
        &self,
        source: R,
        options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        let records = self.records(ImportKind::Customers, source, &options);
        self.customers_from(records, options, on_progress).await
    }

    /// Imports customers as [`Self::customers`] does, from a [`RecordSource`]. It ignores the `format` of the options.
    ///
    /// # Errors
    /// As [`Self::products`].
    pub async fn customers_from(
        &self,
        records: Box<dyn RecordSource>,
        mut options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        self.allow(ImportKind::Customers, &options)?;
        let named = options.source.clone();
        let check = move |record: CustomerRecord| record.check(named.as_deref());
        let size = options.batch.unwrap_or(BATCH);
        let mut incoming = stream(records, &mut options, size, &[], check);
        let cx = &self.begin(ImportKind::Customers, &options);
        let writer = Writer { cx, who: self.who };
        let mut run = Run::new(&incoming, options, on_progress);
        in_batches(&writer, &mut incoming, size, &mut run).await?;
        Ok(run.report)
    }
}

struct Writer<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

#[async_trait]
impl BatchWriter for Writer<'_> {
    type Candidate = Candidate;

    fn context(&self) -> &Arc<Context> {
        self.cx
    }

    fn key(c: &Candidate) -> (&'static str, String) {
        match (&c.values.source, &c.values.external_id) {
            (Some(source), Some(id)) => ("external_id", format!("x\0{source}\0{id}")),
            _ => ("email", format!("e\0{}", fold_key(&c.values.email))),
        }
    }

    async fn write_in(&self, tx: &mut Tx<'_>, candidates: &[Candidate]) -> Result<Written> {
        let targets = targets(tx, candidates).await?;
        let known: Vec<CustomerId> = targets
            .iter()
            .filter_map(|t| match t {
                Target::Update(before) => Some(before.id),
                _ => None,
            })
            .collect();
        let mut owned: HashMap<CustomerId, Vec<Address>> = HashMap::new();
        if !known.is_empty() {
            for address in tx.addresses().of_customers(&known).await? {
                owned.entry(address.customer_id).or_default().push(address);
            }
        }
        let own = |id: CustomerId| owned.get(&id).into_iter().flatten().collect::<Vec<_>>();

        let mut written = Written::default();
        let (mut inserts, mut updates) = (Vec::new(), Vec::new());
        for (c, target) in candidates.iter().zip(targets) {
            written.outcomes.push(match target {
                Target::Rejected(why) => Outcome::Rejected(why),
                Target::Insert => {
                    inserts.push(c);
                    Outcome::Inserted
                }
                Target::Update(before) => {
                    let missing = c.missing(&own(before.id)).len();
                    if owned.get(&before.id).map_or(0, Vec::len) + missing > Customer::MAX_ADDRESSES {
                        let why = format!("must not add to more than {} addresses", Customer::MAX_ADDRESSES);
                        Outcome::Rejected(Rejection::field("addresses", FieldCode::OutOfBounds, why))
                    } else if missing == 0 && with_customer_values(&before, c.over(&before)) == *before {
                        Outcome::Unchanged
                    } else {
                        updates.push((before.id, c));
                        Outcome::Updated
                    }
                }
            });
        }
        let mut addresses = Vec::new();
        updates.sort_unstable_by_key(|(id, _)| *id);
        let customers = CustomerService::new(self.cx, self.who);
        for (id, c) in updates {
            let before = tx.customers().lock(id).await?.filter(|c| c.audit.is_live());
            let before = before.ok_or_else(|| Error::not_found(Entity::Customer, id))?;
            customers.update_in(tx, before.clone(), c.over(&before)).await?;
            // Read again, now that their customer is locked.
            let own = tx.addresses().of_customers(&[id]).await?;
            let missing = c.missing(&own.iter().collect::<Vec<_>>());
            addresses.extend(missing.into_iter().map(|a| self.address(id, a)));
        }
        let mut new = Vec::with_capacity(inserts.len());
        for c in inserts {
            let customer = customers.made(c.values.clone());
            addresses.extend(c.addresses.iter().map(|a| self.address(customer.id, a)));
            new.push(customer);
        }
        if !new.is_empty() {
            tx.customers().insert(&new).await?;
        }
        if !addresses.is_empty() {
            tx.addresses().insert(&addresses).await?;
        }
        let actor = self.who.actor();
        let created = new.iter().map(|c| Change::created(EventKind::CustomerCreated, c, actor));
        let added = addresses.iter().map(|a| Change::created(EventKind::AddressCreated, a, actor));
        tx.emit_all(created.chain(added).collect()).await?;
        Ok(written)
    }
}

impl Writer<'_> {
    fn address(&self, customer: CustomerId, values: &AddressInput) -> Address {
        let audit = Audit::created(self.cx.now(), self.who.actor());
        with_address_values(AddressId(self.cx.ids.next()), customer, values.clone(), audit)
    }
}

/// Returns the customer of each record: by external id, else by email.
async fn targets(tx: &mut Tx<'_>, candidates: &[Candidate]) -> Result<Vec<Target>> {
    let mut by_source: HashMap<&str, Vec<String>> = HashMap::new();
    for c in candidates {
        if let (Some(source), Some(id)) = (&c.values.source, &c.values.external_id) {
            by_source.entry(source).or_default().push(id.clone());
        }
    }
    let mut external: HashMap<(&str, String), Customer> = HashMap::new();
    for (source, ids) in by_source {
        for customer in tx.customers().find_by_external(source, &ids).await? {
            let Some(reference) = &customer.external else { continue };
            let key = (source, reference.external_id.clone());
            // A live customer may have the reference of a deleted one.
            if customer.audit.is_live() || !external.contains_key(&key) {
                external.insert(key, customer);
            }
        }
    }
    let emails: Vec<String> = candidates.iter().map(|c| c.values.email.clone()).collect();
    let by_email: HashMap<String, Customer> =
        tx.customers().find_by_emails(&emails).await?.into_iter().map(|c| (fold_key(&c.email), c)).collect();

    let mut taken: HashSet<CustomerId> = HashSet::new();
    let mut claimed: HashSet<String> = HashSet::new();
    let mut targets = Vec::with_capacity(candidates.len());
    for c in candidates {
        let key = fold_key(&c.values.email);
        let owner = by_email.get(&key);
        let reference = c.values.source.as_deref().zip(c.values.external_id.clone());
        let own = reference.as_ref().and_then(|r| external.get(r)).or_else(|| {
            // A record does not take over the customer of another record. The customer may be its own: another import
            // may have inserted it after `external` was read.
            owner.filter(|o| match (&o.external, &reference) {
                (Some(theirs), Some((source, id))) => theirs.source == *source && theirs.external_id == *id,
                _ => true,
            })
        });
        let is_taken = claimed.contains(&key) || owner.is_some_and(|o| own.is_none_or(|own| own.id != o.id));
        targets.push(match own {
            Some(own) if !own.audit.is_live() => {
                let message = format!("customer {} is deleted: restore it or delete it permanently first", own.id);
                Target::Rejected(Rejection::from(&Conflict::State { message }.into()))
            }
            _ if is_taken => {
                Target::Rejected(Rejection::from(&duplicate(Entity::Customer, "email", c.values.email.clone())))
            }
            Some(own) if !taken.insert(own.id) => {
                Target::Rejected(Rejection::from(&duplicate(Entity::Customer, "external_id", own.id.to_string())))
            }
            Some(own) => Target::Update(Box::new(own.clone())),
            None => Target::Insert,
        });
        if !matches!(targets.last(), Some(Target::Rejected(_))) {
            claimed.insert(key);
        }
    }
    Ok(targets)
}
