//! The test vectors in `tests/vectors/`: they are what the generator makes, and this crate comes to their outcomes,
//! with its own RSA key and with that of aws-lc-rs.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "../../examples/make_vectors/vectors/mod.rs"]
mod generator;

mod aws_lc;
mod outcome;
mod replay;

use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/vectors")
        .join(name)
}

#[test]
fn the_files_are_what_the_generator_makes() {
    for (name, text) in generator::all() {
        let stored = std::fs::read_to_string(path(name)).unwrap();
        assert!(
            stored == text,
            "{name} differs: run `cargo run -p sealpost-core --example make_vectors` and look at what changed"
        );
    }
}
