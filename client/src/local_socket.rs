//! Unix sockets that answer our own user alone: in a folder of mode 0700, themselves of mode 0600, and the system is asked
//! who connects.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Bytes of a path that every system takes for a socket: 104 on the BSDs, 108 on Linux, a NUL among them.
const LONGEST: usize = 100;

/// A path short enough for a socket.
#[derive(Debug)]
pub(crate) struct SocketPath {
    path: PathBuf,
    // A longer one goes through the open folder.
    _folder: Option<File>,
}

impl SocketPath {
    /// The path of the socket in a folder that is ours alone.
    ///
    /// # Errors
    /// When the folder is not there, is somebody else's, or others can get at it.
    pub(crate) fn within(folder: &Path, name: &str) -> io::Result<SocketPath> {
        let metadata = std::fs::metadata(folder)?;
        let own = rustix::process::geteuid().as_raw();
        if metadata.uid() != own || metadata.mode() & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} is not yours alone", folder.display()),
            ));
        }
        let path = folder.join(name);
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
            path: through.join(name),
            _folder: Some(folder),
        })
    }

    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }
}

/// Listens, in the place of who listened there before. The folder is made when it is not there.
pub(crate) fn listen(folder: &Path, name: &str) -> io::Result<(UnixListener, SocketPath)> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let path = SocketPath::within(folder, name)?;
    match fs::symlink_metadata(path.as_path()) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path.as_path())?,
        // Somebody's file is not ours to remove.
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path.as_path())?;
    // The folder keeps others out meanwhile.
    fs::set_permissions(path.as_path(), Permissions::from_mode(0o600))?;
    Ok((listener, path))
}

/// Whether the process at the other end runs as our user.
pub(crate) fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}
