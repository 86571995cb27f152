//! A mailer for tests, which keeps the mails.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::access::Secret;
use crate::domain::platform::mail::{MailContent, MailMessage, MailText};
use crate::port::mailer::{MailError, MailTemplates, Mailer};
use crate::shop::Mailing;

/// A mailer that keeps the mails, and templates whose texts are their links. Both are made by [`Postbox::mailing`].
pub struct Postbox {
    mails: Mutex<Vec<MailMessage>>,
    /// The addresses that are refused, and whether the error is permanent.
    refused: Mutex<HashMap<String, bool>>,
    /// The permits of mails, each of which waits for one.
    permits: Semaphore,
    tried: Mutex<u64>,
}

impl Postbox {
    /// Returns a postbox that takes every mail.
    pub fn new() -> Arc<Self> {
        Self::held(Semaphore::MAX_PERMITS)
    }

    /// Returns a postbox whose mails wait for permits, with this number of permits.
    pub fn held(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            mails: Mutex::default(),
            refused: Mutex::default(),
            permits: Semaphore::new(permits),
            tried: Mutex::default(),
        })
    }

    /// Returns the settings with which a shop sends its mails to this postbox.
    pub fn mailing(self: &Arc<Self>) -> Mailing {
        Mailing { mailer: self.clone(), templates: Arc::new(Links) }
    }

    /// Returns the mails that have arrived.
    pub fn mails(&self) -> Vec<MailMessage> {
        self.mails.lock().clone()
    }

    /// Returns how many mails have arrived or been refused, or wait for a permit.
    pub fn tried(&self) -> u64 {
        *self.tried.lock()
    }

    /// Returns the token of the last mail of a kind to an address. The subject is the kind.
    pub fn token(&self, to: &str, kind: &str) -> Option<Secret> {
        let mails = self.mails.lock();
        let mail = mails.iter().rev().find(|mail| mail.to.address() == to && mail.subject == kind)?;
        mail.text.split_once("?token=").map(|(_, token)| Secret::new(token))
    }

    /// Refuses mails to an address from now on.
    pub fn refuse(&self, address: &str, is_permanent: bool) {
        self.refused.lock().insert(address.to_owned(), is_permanent);
    }

    /// Accepts mails to all addresses from now on.
    pub fn accept(&self) {
        self.refused.lock().clear();
    }

    /// Lets this number of waiting mails through.
    pub fn permit(&self, mails: usize) {
        self.permits.add_permits(mails);
    }
}

impl fmt::Debug for Postbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postbox").field("mails", &self.mails.lock().len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Mailer for Postbox {
    fn name(&self) -> &'static str {
        "postbox"
    }

    async fn send(&self, mail: &MailMessage) -> Result<(), MailError> {
        *self.tried.lock() += 1;
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
        match self.refused.lock().get(mail.to.address()) {
            Some(true) => return Err(MailError::permanent("the mail server refuses the mail").code(Some(550))),
            Some(false) => return Err(MailError::temporary("the mail server is away")),
            None => {}
        }
        self.mails.lock().push(mail.clone());
        Ok(())
    }

    async fn close(&self) {}
}

/// Templates whose subject is the kind of mail, and whose text is the link.
#[derive(Debug)]
struct Links;

impl MailTemplates for Links {
    fn render(&self, content: &MailContent) -> Result<MailText, MailError> {
        Ok(MailText { subject: content.kind.as_str().to_owned(), text: content.link.reveal().to_owned(), html: None })
    }
}
