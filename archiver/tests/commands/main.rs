//! The commands that read an archive, as processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod command;
mod export;
mod prove;
mod query;
#[path = "../../../archive/tests/reading/sample.rs"]
mod sample;
mod verify;
