//! The program of the README, as it is printed there.

include!(concat!(env!("OUT_DIR"), "/readme.rs"));
