//! Extractors of the handlers. Their errors name the field that cannot be read (R17).

mod body;
mod cart;
mod explain;
mod filter;
mod paging;
mod params;
mod path;
mod query;
mod source;
mod target;
mod version;

pub(crate) use body::{Json, NoBody, OptionalJson, Received, VersionBody, receive, unversioned};
pub(crate) use cart::{CartKey, X_CART_TOKEN};
pub(crate) use filter::{day, moment, present, prices, word};

pub(crate) use paging::{Cursor, Paged, Pages, Style};
pub(crate) use params::{
    ById, ByKey, ByLine, ByName, ByNumber, CartTokenHeader, Force, IfMatchHeader, Numbers, OptionalIfMatchHeader,
    Picked, Shape, ShowDeleted, Version, Wish,
};
pub(crate) use path::{Id, Key, Kind, LineId, Name};
pub(crate) use query::{Params, Query};
pub(crate) use source::body_reader;
pub(crate) use target::RequestTarget;
pub(crate) use version::IfMatch;
