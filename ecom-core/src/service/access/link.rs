//! The customer of a user that has verified its email address, and the orders that become the customer's.

use std::sync::Arc;

use crate::domain::access::principal::Principal;
use crate::domain::access::role::BuiltInRole;
use crate::domain::access::user::User;
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::customer::CustomerInput;
use crate::error::Result;
use crate::id::CustomerId;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};
use crate::service::sales::customer::CustomerService;

/// Returns the live customer that a user belongs to after its email address is verified, or `None` if there is none.
///
/// A user that already has a customer keeps it; if that customer is deleted, the result is `None`. Otherwise, it
/// becomes the live customer with the same email, ignoring the case of ASCII letters, unless another user is that
/// customer. If there is none, a user with the role `customer` becomes a new one, if its name has at least two words:
/// the last word is the last name. The transaction then holds a lock on the customer, and must not have locked the user
/// before (R24).
pub(super) async fn customer_of(cx: &Arc<Context>, tx: &mut Tx<'_>, user: &User) -> Result<Option<CustomerId>> {
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

/// Assigns the orders that guests placed with the email address of a user to its customer. The transaction must hold the
/// customer, and must just have verified the address: a user that has only registered it gets no orders (R45).
///
/// Orders are the last rows that such a transaction locks (R24). The stored answers about them need no change, because
/// they name the orders.
pub(super) async fn link_orders(cx: &Arc<Context>, tx: &mut Tx<'_>, user: &User, customer: CustomerId) -> Result<()> {
    let by = user.actor();
    let linked = tx.orders().link(&user.email, customer, cx.now(), &by).await?;
    let edited = |(id, version)| Change::event_only(EventKind::OrderUpdated, id, version, &by);
    tx.emit_all(linked.into_iter().map(edited).collect()).await
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
