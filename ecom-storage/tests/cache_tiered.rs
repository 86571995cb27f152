//! The cache in two tiers keeps the contract of its port.
