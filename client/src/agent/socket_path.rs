//! Where the agent's socket is.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The socket's name in its folder.
const NAME: &str = "agent.sock";
/// Bytes of a path that every system takes for a socket: 104 on the BSDs, 108 on Linux, a NUL among them.
const LONGEST: usize = 100;

/// A path short enough for a socket.
#[derive(Debug)]
pub(super) struct SocketPath {
    path: PathBuf,
    // A longer one goes through the open folder.
    _folder: Option<File>,
}

impl SocketPath {
    /// The path of the socket in a folder that is ours alone.
    ///
    /// # Errors
    /// When the folder is not there, is somebody else's, or others can get at it.
    pub(super) fn within(folder: &Path) -> io::Result<SocketPath> {
        let metadata = std::fs::metadata(folder)?;
        let own = rustix::process::geteuid().as_raw();
        if metadata.uid() != own || metadata.mode() & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} is not yours alone", folder.display()),
            ));
        }
        let path = folder.join(NAME);
        if path.as_os_str().as_bytes().len() <= LONGEST {
            return Ok(SocketPath {
                path,
                _folder: None,
            });
        }
        let folder = File::open(folder)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        if !through.exists() {
            let why = format!(
                "{} is too long for a socket; choose a --home with a shorter path",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, why));
        }
        Ok(SocketPath {
            path: through.join(NAME),
            _folder: Some(folder),
        })
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.path
    }
}
