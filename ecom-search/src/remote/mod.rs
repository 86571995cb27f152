//! The shared parts of the adapters of search servers: admission of calls, failures, and settings.

mod failure;
mod gate;
mod options;

pub(crate) use failure::{Failure, first_chars};
pub(crate) use gate::Gate;
pub(crate) use options::{Limits, ServerUrl, bad, certificates, check_index, check_secret, number};
