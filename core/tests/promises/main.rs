//! The promises of the public interface, one test each, named for the promise.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod bundles;
mod opening;
mod parsing;
mod people;
mod secrets;
mod trusting;
