//! The program of the README, exactly as it is printed there.

include!(concat!(env!("OUT_DIR"), "/readme.rs"));
