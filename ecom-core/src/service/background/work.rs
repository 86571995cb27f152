//! The work of a background task.

use async_trait::async_trait;

use crate::error::BoxError;
use crate::port::platform::outbox::Lease;

/// Work that is done in steps.
#[async_trait]
pub(crate) trait Work: Send {
    /// Does a part of the work, and returns true if there may be more. If there is a lease, it is held at the
    /// beginning, and the call is dropped at an await once it is lost.
    async fn step(&mut self, lease: Option<&mut Lease>) -> Result<bool, BoxError>;
}
