//! Clients of others: what they publish comes back to them.

use std::process::Command;

use crate::{Process, root};

/// A program of `tests/clients`.
#[must_use]
pub fn client_program(path: &str) -> Command {
    Command::new(root().join("tests/clients").join(path))
}

/// It connects, and gets back what it has published.
pub fn assert_round_trip(what: &str, mut command: Command) {
    let mut client = Process::spawn(what, &mut command);
    let status = client.wait();
    assert!(status.success(), "{command:?}: {:?}", client.stderr());
    client.expect("round trip done");
}
