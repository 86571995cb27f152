//! Searches that find a certain write: they wait until the index has applied its last event.

use std::time::Duration;

use ecom_core::id::EventId;
use ecom_core::{Error, FieldCode, ValidationErrors};
use serde::Deserialize;

use crate::resource::Reply;

/// How long a search waits by default.
const WAIT: Duration = Duration::from_secs(5);
/// The longest time that a client can choose, in milliseconds.
const MAX_WAIT_MS: u32 = 20_000;

/// The write that a search has to find.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AtLeastParams {
    /// The id of an event, as a write returns it in the header `X-Last-Event-Id`. The search waits until the index has
    /// applied the event and all events before it. If that takes longer than `wait_ms`, nothing is searched, and the
    /// response is 503 with `Retry-After`. An event that is older than the log counts as applied.
    #[serde(default)]
    at_least: Option<String>,
    /// How many milliseconds a search with `at_least` waits at most. 1 to 20,000, 5,000 by default.
    #[serde(default)]
    wait_ms: Option<u32>,
}

/// An event for which a search waits.
pub(super) struct AtLeast(Option<(EventId, Duration)>);

impl AtLeastParams {
    /// Reads the parameters. Pushes an error for each one that is malformed or out of bounds.
    pub(super) fn check(&self, errors: &mut ValidationErrors) -> AtLeast {
        let limit = self.wait_ms.map_or(WAIT, |ms| Duration::from_millis(ms.into()));
        if self.wait_ms.is_some_and(|ms| !(1..=MAX_WAIT_MS).contains(&ms)) {
            errors.push("wait_ms", FieldCode::OutOfBounds, format!("must be between 1 and {MAX_WAIT_MS}"));
        }
        let event = self.at_least.as_deref().and_then(|text| {
            let event = text.parse::<EventId>().ok();
            if event.is_none() {
                errors.push("at_least", FieldCode::Malformed, "must be the id of an event, which is a UUID");
            }
            event
        });
        AtLeast(event.map(|event| (event, limit)))
    }
}

impl AtLeast {
    /// Waits until the index has applied the event, if there is one.
    pub(super) async fn applied(self, reply: &Reply) -> Result<(), Error> {
        match self.0 {
            Some((event, limit)) => reply.shop().search().wait_for(event, limit).await,
            None => Ok(()),
        }
    }
}
