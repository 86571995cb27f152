//! How many callers place orders, for how long, and of which SKUs. `placing.rs` and both programs of `benches/peers`
//! use it, so it needs no other crate.

/// The number of callers at once: of tasks, of connections and of pgbench's clients.
pub const CALLERS: usize = 64;
pub const SECONDS: u64 = 3;

/// Returns the places of the two SKUs of an order.
pub type Choice = fn(usize, usize) -> (usize, usize);

/// SKUs that are spread over the catalog.
pub fn spread(n: usize, skus: usize) -> (usize, usize) {
    let mixed = n.wrapping_mul(2_654_435_761) >> 7;
    (mixed % skus, (mixed / 7 + 1) % skus)
}

/// Returns a number for the `n`th order of a caller, which differs from those of the others.
pub const fn number(caller: usize, n: usize) -> usize {
    caller * 1_000_003 + n
}
