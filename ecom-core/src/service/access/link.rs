//! The customer of a user that has verified its email address, and the orders that become the customer's.

use std::sync::Arc;

use crate::domain::access::principal::Principal;
use crate::domain::access::role::BuiltInRole;
use crate::domain::access::session::SessionEnd;
use crate::domain::access::user::User;
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::customer::CustomerInput;
use crate::error::{Error, Result};
use crate::id::CustomerId;
use crate::port::storage::Repositories as _;
use crate::service::access::user::written;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};
use crate::service::sales::customer::CustomerService;

/// An edit of a user by itself, which may make it a customer. The transaction has locked the user.
pub(super) struct OwnEdit {
    before: User,
    /// The user as it becomes.
    pub after: User,
    /// The live customer whose orders this edit completes. The transaction holds it.
    customer: Option<CustomerId>,
}

impl OwnEdit {
    /// Finds the customer of a user whose email address is verified after the edit, and then locks the user, because
    /// customers are locked before users (R24). `read` is the user as the transaction has read it.
    ///
    /// # Errors
    /// `Contention` if the user has changed since it was read.
    pub(super) async fn with_customer(
        cx: &Arc<Context>,
        tx: &mut Tx<'_>,
        read: &User,
        edit: impl Fn(&mut User) + Send,
    ) -> Result<Self> {
        let mut wanted = read.clone();
        edit(&mut wanted);
        let customer = customer_of(cx, tx, &wanted).await?;
        let mut found = Self::alone(tx, read, edit).await?;
        found.after.customer_id = found.after.customer_id.or(customer);
        Ok(Self { customer, ..found })
    }

    /// Locks a user for an edit that leaves its customer as it is.
    ///
    /// # Errors
    /// `Contention` if the user has changed since it was read.
    pub(super) async fn alone(tx: &mut Tx<'_>, read: &User, edit: impl Fn(&mut User) + Send) -> Result<Self> {
        let locked = tx.users().lock(read.id).await?;
        let is_as_read = |user: &User| user.audit.version == read.audit.version;
        let before = locked.filter(is_as_read).ok_or(Error::Contention { source: None })?;
        let mut after = before.clone();
        edit(&mut after);
        Ok(Self { before, after, customer: None })
    }

    /// Writes the user, if it differs, and ends its sessions if there is a reason to. Assigns the orders that guests
    /// have placed with the email address of the user to its customer. Returns the user.
    ///
    /// Orders are the last rows that such a transaction locks (R24). The stored answers about them need no change,
    /// because they name the orders.
    pub(super) async fn write(self, cx: &Arc<Context>, tx: &mut Tx<'_>, ends: Option<SessionEnd>) -> Result<User> {
        let Self { before, mut after, customer } = self;
        let (now, who) = (cx.now(), Principal::new(after.actor(), []));
        if after != before {
            after.audit.edited(now, who.actor());
            let updated = tx.users().update(&before, &after).await;
            // If another user has become the customer meanwhile, the next attempt finds it.
            tx.or_next_name(updated, |field| field == "customer_id")?;
            written(tx, Change::edited(EventKind::UserUpdated, &before, &after, who.actor()), ends, now, &who).await?;
        }
        if let Some(customer) = customer {
            let linked = tx.orders().link(&after.email, customer, now, who.actor()).await?;
            let edited = |(id, version)| Change::event_only(EventKind::OrderUpdated, id, version, who.actor());
            tx.emit_all(linked.into_iter().map(edited).collect()).await?;
        }
        Ok(after)
    }
}

/// Returns the live customer that a user belongs to if its email address is verified, or `None` if there is none.
///
/// A user that already has a customer keeps it; if that customer is deleted, the result is `None`. Otherwise, it
/// becomes the live customer with the same email, ignoring the case of ASCII letters, unless another user is that
/// customer. If there is none, a user with the role `customer` becomes a new one, if its name has at least two words:
/// the last word is the last name. The transaction then holds a lock on the customer, and must not have locked the user
/// before (R24).
async fn customer_of(cx: &Arc<Context>, tx: &mut Tx<'_>, user: &User) -> Result<Option<CustomerId>> {
    if let Some(own) = user.customer_id {
        let held = tx.customers().hold(&[own]).await?.pop();
        return Ok(held.filter(|c| c.audit.is_live()).map(|c| c.id));
    }
    let found = tx.customers().find_by_emails(std::slice::from_ref(&user.email)).await?.pop();
    let Some(found) = found else { return new_customer(cx, tx, user).await };
    let held = tx.customers().hold(&[found.id]).await?.pop();
    // The customer may have been deleted, or have another email, since it was found. It is found by a key that takes
    // different addresses for the same, such as those of `straße.de` and `strasse.de`, which can have two owners. Only
    // the case of ASCII letters is certain not to matter.
    let held = held.filter(|c| c.audit.is_live() && c.email.eq_ignore_ascii_case(&user.email));
    let Some(held) = held else { return Ok(None) };
    let is_taken = tx.users().get_by_customer(held.id).await?.is_some();
    Ok((!is_taken).then_some(held.id))
}

async fn new_customer(cx: &Arc<Context>, tx: &mut Tx<'_>, user: &User) -> Result<Option<CustomerId>> {
    let Some((first, last)) = user.name.as_deref().and_then(names) else { return Ok(None) };
    if !user.roles.contains(&BuiltInRole::Customer.id()) {
        return Ok(None);
    }
    // A name of a user can be longer than one of a customer.
    let Ok(values) = CustomerInput::new(first, last, &user.email).check() else { return Ok(None) };
    let who = Principal::new(user.actor(), []);
    let customer = CustomerService::new(cx, &who).made(values);
    let inserted = tx.customers().insert(std::slice::from_ref(&customer)).await;
    // If another transaction has created the customer meanwhile, the next attempt finds it.
    tx.or_next_name(inserted, |field| field == "email")?;
    tx.emit(Change::created(EventKind::CustomerCreated, &customer, who.actor())).await?;
    Ok(Some(customer.id))
}

/// Splits a name before its last word.
fn names(name: &str) -> Option<(&str, &str)> {
    let (first, last) = name.trim().rsplit_once(char::is_whitespace)?;
    Some((first.trim_end(), last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_the_last_name() {
        assert_eq!(names(" Ada  Lovelace "), Some(("Ada", "Lovelace")));
        assert_eq!(names("Maria del Carmen García"), Some(("Maria del Carmen", "García")));
        assert_eq!((names("Ada"), names(" ")), (None, None));
    }
}
