//! Who somebody is, and what they may do.

pub mod admission;
pub mod audit;
pub mod nonces;
pub mod password;
pub mod permission;
pub mod registry;
pub mod rules;
pub mod throttle;
