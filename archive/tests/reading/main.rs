//! What reads an archive, held against archives in a directory: whole ones, and ones that somebody tampered with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod changed_bytes;
mod gaps;
mod merging;
mod proof_vectors;
mod proofs;
mod querying;
mod sample;
mod tampering;
