//! The macro that declares a port together with its forwarding twin.

/// Declares a port and its forwarding twin.
///
/// ```text
/// port! {
///     /// The suppliers of a shop.
///     pub trait SupplierRepository / ForwardSuppliers(&mut self): Send {
///         /// One supplier.
///         async fn get(&mut self, id: SupplierId) -> Result<Option<Supplier>>;
///     }
/// }
/// ```
///
/// makes three items:
///
/// - the trait `SupplierRepository` as it is written, an `#[async_trait]`;
/// - the trait `ForwardSuppliers`, whose `inner(&mut self) -> &mut dyn SupplierRepository` is required and whose other
///   methods call the same method of `inner`;
/// - `impl<F: ForwardSuppliers> SupplierRepository for F`.
///
/// An adapter implements the port. A wrapper implements the twin: `inner`, and the methods that it changes.
///
/// The receiver after the twin's name is the receiver of `inner`. Methods with a body go into a second block,
/// `provided { … }`. The twin does not forward them, so that in a wrapper they call the wrapper's own methods.
macro_rules! port {
    // The twin and its blanket implementation. `$a`, `$i` and `$m` never match anything. They are there because
    // `macro_rules` requires a variable in every repetition, and an optional word such as `async` is one.
    (@forward $Port:ident / $Forward:ident(& $(mut $($i:lifetime)?)? self): Send $(+ $($bound:ident)::+)* {
        $(
            $(#[$doc:meta])+
            $(async $($a:lifetime)?)? fn $method:ident(
                & $(mut $($m:lifetime)?)? self $(, $arg:ident: $ty:ty)* $(,)?
            ) $(-> $answer:ty)?;
        )+
    }) => {
        #[doc = concat!("A [`", stringify!($Port), "`] that forwards to another one what it does not change.")]
        #[async_trait::async_trait]
        pub trait $Forward: Send $(+ $($bound)::+)* {
            /// Returns the object that calls are forwarded to.
            fn inner(& $(mut $($i)?)? self) -> & $(mut $($i)?)? dyn $Port;
            $(
                #[doc = concat!("Forwards [`", stringify!($Port), "::", stringify!($method), "`].")]
                $(async $($a)?)? fn $method(& $(mut $($m)?)? self $(, $arg: $ty)*) $(-> $answer)? {
                    self.inner().$method($($arg),*) $(.await $($a)?)?
                }
            )+
        }

        #[async_trait::async_trait]
        impl<F: $Forward> $Port for F {
            $(
                $(async $($a)?)? fn $method(& $(mut $($m)?)? self $(, $arg: $ty)*) $(-> $answer)? {
                    $Forward::$method(self $(, $arg)*) $(.await $($a)?)?
                }
            )+
        }
    };
    (
        $(#[$attr:meta])*
        pub trait $Port:ident / $Forward:ident($($receiver:tt)+): Send $(+ $($bound:ident)::+)* { $($required:tt)+ }
        $(provided { $($provided:tt)+ })?
    ) => {
        $(#[$attr])*
        #[async_trait::async_trait]
        pub trait $Port: Send $(+ $($bound)::+)* {
            $($required)+
            $($($provided)+)?
        }

        port! { @forward $Port / $Forward($($receiver)+): Send $(+ $($bound)::+)* { $($required)+ } }
    };
}
