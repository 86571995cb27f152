//! The cache on Redis keeps the contract of its port.
