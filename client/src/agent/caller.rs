//! A command's end of the agent's socket. That there is no agent is never an error: then the passphrase is asked for.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use sealpost_core::Timestamp;
use zeroize::Zeroizing;

use super::{Held, MAX_LINE, NAME, PATIENCE, Request, folder};
use crate::keystore::KeystoreKey;
use crate::local_socket::SocketPath;

/// The key that the agent of this home holds, if there is one.
#[must_use]
pub fn key(home: &Path) -> Option<KeystoreKey> {
    ask(home, Request::Key)?.key()
}

/// Until when the agent of this home holds its key, if there is one.
#[must_use]
pub fn status(home: &Path) -> Option<Timestamp> {
    ask(home, Request::Status)?.until()
}

/// Makes the agent of this home forget its key. Says whether there was one.
#[must_use]
pub fn lock(home: &Path) -> bool {
    ask(home, Request::Lock).is_some()
}

fn ask(home: &Path, request: Request) -> Option<Held> {
    match call(home, request) {
        Ok(held) => Some(held),
        Err(error) => {
            let nobody = matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            );
            if !nobody {
                tracing::warn!(%error, "the agent cannot be asked");
            }
            None
        }
    }
}

fn call(home: &Path, request: Request) -> io::Result<Held> {
    let path = SocketPath::within(&folder(home), NAME)?;
    let mut stream = UnixStream::connect(path.as_path())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Zeroizing::new(Vec::with_capacity(MAX_LINE as usize));
    // A buffer of the line's own length: no copy of the key stays in a larger one.
    BufReader::with_capacity(1, stream.take(MAX_LINE)).read_until(b'\n', &mut answer)?;
    Held::parse(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer is malformed"))
}
