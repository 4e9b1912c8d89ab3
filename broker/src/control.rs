//! The control socket: how commands of the same machine and user talk to the running broker.
//!
//! A Unix domain socket in the data directory. A request is one line of JSON; the answer is lines of JSON, the last of which
//! says how it ended. Whoever adds a request adds a variant of [`request::Request`] and its arm in
//! [`administration::Administration::perform`]; the same code then works on the files alone when no broker runs.

pub mod administration;
pub mod answer;
pub mod caller;
pub mod request;
pub mod socket;

use std::io;
use std::path::Path;

use sealpost_service::socket_path::SocketPath;

/// Where the socket is.
fn socket_path(data: &Path) -> io::Result<SocketPath> {
    SocketPath::within(data, "a data directory")
}
