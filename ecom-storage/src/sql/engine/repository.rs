//! The one type behind all repositories.

use std::marker::PhantomData;

use crate::sql::engine::executor::Executor;

/// A repository of a SQL database on a borrowed connection. `Port` is the trait that it implements, such as
/// `dyn ProductRepository`.
pub struct SqlRepository<'c, Port: ?Sized>(pub Executor<'c>, PhantomData<fn(&Port)>);

impl<'c, Port: ?Sized> SqlRepository<'c, Port> {
    /// Creates the repository on a connection.
    pub const fn new(executor: Executor<'c>) -> Self {
        Self(executor, PhantomData)
    }
}
