//! Where the control socket is.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The socket's name in a daemon's directory.
const NAME: &str = "control.sock";

/// Bytes of a path that every system takes for a socket: 104 on the BSDs, 108 on Linux, a NUL among them.
const LONGEST: usize = 100;

/// A path short enough for a socket.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    // A longer one goes through the open directory.
    _dir: Option<File>,
}

impl SocketPath {
    /// The path of the socket in a daemon's directory, however long that directory's own path is. `kind` says what that directory
    /// is, with its article.
    ///
    /// # Errors
    /// When the directory cannot be opened, or its path is too long on a system without `/proc`.
    pub fn within(directory: &Path, kind: &str) -> io::Result<SocketPath> {
        let path = directory.join(NAME);
        if path.as_os_str().as_bytes().len() <= LONGEST {
            return Ok(SocketPath { path, _dir: None });
        }
        let dir = File::open(directory)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        if !through.exists() {
            let why =
                format!("{path:?} is too long for a socket; choose {kind} with a shorter path");
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, why));
        }
        Ok(SocketPath {
            path: through.join(NAME),
            _dir: Some(dir),
        })
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}
