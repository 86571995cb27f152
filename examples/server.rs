//! The reference server: `cargo run --release --example server`.

fn main() {}
