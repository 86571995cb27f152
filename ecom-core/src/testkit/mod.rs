//! Behaviour suites: what every adapter of a port must do (feature `testkit`).

pub mod search;
