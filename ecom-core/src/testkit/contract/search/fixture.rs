//! The fixture of the search suite.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::port::search::SearchProvider;
use crate::testkit::running::step;

/// A fresh, empty search engine for one test.
///
/// The suite drops and reopens a provider with the capability `own_checkpoint`. Its fixture has a function that opens
/// it again ([`Self::reopen_with`]), or declares that its index is lost ([`Self::in_memory`]).
pub struct SearchFixture {
    /// The provider.
    pub provider: Arc<dyn SearchProvider>,
    place: Place,
    /// A value that must be dropped after the provider.
    pub guard: Box<dyn Any + Send>,
}

/// Opens the index of a fixture again.
type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn SearchProvider>> + Send>;

/// The state of the index after the provider is dropped.
enum Place {
    Unknown,
    Gone,
    Kept(Reopen),
}

impl SearchFixture {
    /// Returns the fixture of a provider. `guard` is dropped after the provider; it can be `()`.
    pub fn new(provider: impl SearchProvider + 'static, guard: impl Any + Send) -> Self {
        Self { provider: Arc::new(provider), place: Place::Unknown, guard: Box::new(guard) }
    }

    /// Sets the function that opens the same index again after the provider was dropped:
    ///
    /// ```ignore
    /// async fn make() -> SearchFixture {
    ///     let directory = tempfile::tempdir().unwrap();
    ///     let path = directory.path().to_owned();
    ///     let open = move || MySearch::open(path.clone());
    ///     SearchFixture::new(open().await, directory).reopen_with(open)
    /// }
    /// ```
    #[must_use]
    pub fn reopen_with<P, F>(self, open: impl Fn() -> F + Send + 'static) -> Self
    where
        P: SearchProvider + 'static,
        F: Future<Output = P> + Send + 'static,
    {
        let reopen: Reopen = Box::new(move || {
            let opened = open();
            async move { Arc::new(opened.await) as Arc<dyn SearchProvider> }.boxed()
        });
        Self { place: Place::Kept(reopen), ..self }
    }

    /// Declares that the index is lost when the provider is dropped, so that it cannot be reopened. The tests of
    /// reopening are reported as skipped.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { place: Place::Gone, ..self }
    }

    /// Drops the provider and opens its index again. Returns `None` if the index is lost.
    ///
    /// # Panics
    /// If neither [`Self::reopen_with`] nor [`Self::in_memory`] was called.
    pub(super) async fn reopen(self) -> Option<Self> {
        step("the provider to close and to open again");
        let Self { provider, place, guard } = self;
        let name = provider.name();
        drop(provider);
        match place {
            Place::Unknown => panic!(
                "`{name}` claims `own_checkpoint`, but its fixture cannot open it again: add `.reopen_with(…)` to the \
                 SearchFixture, or `.in_memory()` if the index is gone with the provider"
            ),
            Place::Gone => None,
            Place::Kept(reopen) => {
                let provider = reopen().await;
                Some(Self { provider, place: Place::Kept(reopen), guard })
            }
        }
    }
}

impl SearchFixture {
    /// Drops the provider and opens its index again, as another process does. A fixture that cannot do that keeps the
    /// provider.
    pub(super) async fn in_another_process(self) -> Self {
        match self.place {
            Place::Kept(_) => self.reopen().await.unwrap(),
            Place::Unknown | Place::Gone => self,
        }
    }
}

impl fmt::Debug for SearchFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchFixture").field("provider", &self.provider).finish_non_exhaustive()
    }
}
