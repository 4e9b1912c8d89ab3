//! Writes the test vectors: `cargo run -p sealpost-core --example make_vectors`.
//!
//! Everything comes from fixed seeds, so running it again changes nothing; a test compares the files with what would
//! be written. The vectors are made without `sealpost-core`: from the same libraries, but from a second writing-down
//! of the formats, so that one slip cannot hide on both sides.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

mod vectors;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    for (name, text) in vectors::all() {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
