//! The mail that reminds a shopper of a cart: when it is asked for, and what is in it.
//!
//! A cart gets at most one such mail. Its row records that the mail was asked for ([`CartRepository::set_reminded`]),
//! in the transaction that creates the job, under the lock of the cart, which a checkout takes too.
//!
//! [`CartRepository::set_reminded`]: crate::port::CartRepository::set_reminded

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::access::secret::Secret;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::mail::{MailAbout, MailLine};
use crate::domain::sales::cart::{Cart, CartState};
use crate::domain::sales::order::OrderFilter;
use crate::error::{BoxError, Result};
use crate::id::{CartId, JobId};
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories;
use crate::service::background::work::Work;
use crate::service::platform::mail::{Letter, reminder_job};
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;
use crate::service::sales::cart::offers;

/// The most carts that one transaction asks for mails about.
const AT_ONCE: u32 = 100;
/// How long ago a cart may have become abandoned. If the setting is turned on, the shoppers of older carts get no mail.
const LOOKS_BACK: Duration = Duration::from_secs(86_400);
/// For how long an address gets no second mail about a guest's cart: a week. Anybody can create carts with it.
const PER_ADDRESS: Duration = Duration::from_secs(7 * 86_400);

/// Asks for the mails about carts that have not changed for some time.
pub(crate) struct Reminders {
    cx: Arc<Context>,
    /// The last cart that this process has looked at, by the time of its last change.
    seen: Option<(Timestamp, CartId)>,
}

impl Reminders {
    pub const NAME: &'static str = "abandoned-carts";

    /// Returns the work of a shop.
    pub fn new(cx: &Arc<Context>) -> Self {
        Self { cx: cx.clone(), seen: None }
    }

    /// Asks for the mails about the next carts. Returns how many carts it has looked at.
    async fn remind(&mut self, after: Duration) -> Result<u32> {
        let cx = &self.cx;
        let now = cx.now();
        let until = now - after;
        let oldest = (until - LOOKS_BACK, CartId(uuid::Uuid::nil()));
        let start = self.seen.map_or(oldest, |seen| seen.max(oldest));
        let idle = cx.storage.connect().await?.carts().idle(start, until, AT_ONCE).await?;
        let Some(last) = idle.last().copied() else { return Ok(0) };
        let ids: Vec<CartId> = idle.iter().map(|(_, id)| *id).collect();
        let ids = &ids;
        let enqueue = |mut tx: Tx<'static>| async move {
            let mut asked = 0_u64;
            let locked = tx.carts().lock(ids).await?;
            for cart in locked {
                // A shopper may have changed or ordered it before it was locked.
                if cart.audit.updated_at > until || !is_abandoned(&cart, now) {
                    continue;
                }
                let Some((email, _)) = receiver(&mut tx, &cart).await? else { continue };
                if cart.customer_id.is_none() && tx.carts().reminded_since(&email, now - PER_ADDRESS).await? {
                    continue;
                }
                // Another process has asked for it already if the row says so.
                if tx.carts().set_reminded(cart.id, now).await? {
                    let id = JobId(cx.ids.next());
                    tx.jobs().insert(&reminder_job(id, cart.id.0, cart.audit.version, now)).await?;
                    tx.wake();
                    asked += 1;
                }
            }
            Ok((asked, tx))
        };
        let asked = cx.write_at_length(enqueue).await?;
        tracing::debug!(asked, "mails about abandoned carts were asked for");
        self.seen = Some(last);
        Ok(u32::try_from(idle.len()).unwrap_or(u32::MAX))
    }
}

#[async_trait]
impl Work for Reminders {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let Some(after) = self.cx.config.abandoned_cart_after else { return Ok(false) };
        Ok(self.remind(after).await? >= AT_ONCE)
    }
}

/// Returns true for a cart that can still be ordered and that is not an imported one.
fn is_abandoned(cart: &Cart, now: Timestamp) -> bool {
    cart.state == CartState::Open && !cart.is_expired(now) && !cart.lines.is_empty() && cart.external.is_none()
}

/// Returns the address and the name for a mail about a cart; `None` if there is no address, or if somebody with the
/// address has placed an order since the cart was changed. A customer's cart has the address of the customer, whatever
/// the cart says. A guest's name is not known.
async fn receiver<R>(db: &mut R, cart: &Cart) -> Result<Option<(String, Option<String>)>>
where
    R: Repositories + ?Sized,
{
    let found = match cart.customer_id {
        Some(id) => {
            let found = db.customers().get(id, IncludeDeleted::No).await?;
            found
                .filter(|c| c.erased_at.is_none())
                .map(|c| (c.email, Some(format!("{} {}", c.first_name, c.last_name))))
        }
        None => cart.email.clone().map(|email| (email, None)),
    };
    let Some((email, name)) = found else { return Ok(None) };
    let since = OrderFilter { email: Some(email.clone()), from: Some(cart.audit.updated_at), ..OrderFilter::default() };
    let has_ordered = db.orders().count(&since, 1).await?.count > 0;
    Ok((!has_ordered).then_some((email, name)))
}

/// Returns the letter about a cart; `None` if it is no longer as it was when the mail was asked for, or if nothing in
/// it is for sale. Attributes of lines are not in the mail, because shoppers choose them.
pub(crate) async fn letter(cx: &Arc<Context>, id: CartId, version: i64) -> Result<Option<Letter>> {
    let mut db = cx.storage.connect().await?;
    let Some(cart) = db.carts().get(id).await?.filter(|cart| cart.audit.version == version) else { return Ok(None) };
    if !is_abandoned(&cart, cx.now()) || cx.config.abandoned_cart_after.is_none() {
        return Ok(None);
    }
    let Some((email, name)) = receiver(&mut *db, &cart).await? else { return Ok(None) };
    let offers = offers(&mut *db, cart.lines.iter().map(|line| line.sku_id)).await?;
    let for_sale = cart.lines.iter().filter_map(|line| {
        let offer = offers.get(&line.sku_id).filter(|offer| offer.is_for_sale())?;
        Some(MailLine::new(&offer.title, &offer.option_values, line.quantity, None))
    });
    let lines: Vec<MailLine> = for_sale.collect();
    let query = Some(Secret::new(format!("id={id}")));
    Ok((!lines.is_empty()).then_some(Letter { email, name, query, about: MailAbout::Cart(lines) }))
}
