//! Who somebody is, and what they may do.

pub mod admission;
pub mod permission;
pub mod registry;
