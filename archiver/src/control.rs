//! The control socket, `control.sock` in the archive's directory: who runs a command asks the archiver that runs, for only that one
//! may write. A request is a line of JSON, and so is the answer.

pub mod answer;
pub mod caller;
pub mod request;
pub mod socket;

use std::io;
use std::path::Path;

use sealpost_service::socket_path::SocketPath;

/// Where the socket is.
fn socket_path(directory: &Path) -> io::Result<SocketPath> {
    SocketPath::within(directory, "an archive directory")
}
