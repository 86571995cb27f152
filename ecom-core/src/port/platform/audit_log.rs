//! The audit log.

use crate::clock::Timestamp;
use crate::domain::platform::audit_log::{AuditLogEntry, AuditLogFilter};
use crate::error::Result;
use crate::id::{AuditLogEntryId, CustomerId, UserId};
use crate::paging::{Page, Paging, Total};

port! {
    /// The audit log of a shop. Entries stay as they are, except that an import counts its changes and that personal
    /// data is removed.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait AuditLogRepository / ForwardAuditLog(&mut self): Send {
        /// Inserts entries, in a statement for many of them.
        async fn append(&mut self, entries: &[AuditLogEntry]) -> Result<()>;

        /// Locks an entry until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: AuditLogEntryId) -> Result<Option<AuditLogEntry>>;

        /// Writes the `after` of an entry that the transaction has locked.
        async fn update(&mut self, entry: &AuditLogEntry) -> Result<()>;

        /// Returns a page of entries, newest first: one statement whatever the limit.
        async fn list(&mut self, filter: &AuditLogFilter, paging: &Paging) -> Result<Page<AuditLogEntry>>;

        /// Counts the entries that match, up to `bound`.
        async fn count(&mut self, filter: &AuditLogFilter, bound: u64) -> Result<Total>;

        /// Removes the values of the entries about a customer: its own, and those of its addresses and reviews, not
        /// those of its user.
        async fn erase_customer(&mut self, id: CustomerId, now: Timestamp) -> Result<()>;

        /// Removes personal data from the entries of the users that are or were a customer
        /// ([`AuditLogEntry::erased`]), also from those of the time before they were.
        async fn erase_users_of(&mut self, customer: CustomerId, now: Timestamp) -> Result<()>;

        /// Removes personal data from the entries of a user ([`AuditLogEntry::erased`]).
        async fn erase_user(&mut self, id: UserId, now: Timestamp) -> Result<()>;
    }
}
