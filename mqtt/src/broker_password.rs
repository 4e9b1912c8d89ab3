//! A service's password at a broker that knows no login by identity key, in a file.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The longest password, in bytes: far above any real one.
const MAX_LEN: u64 = 1_024;

/// A password, erased when dropped.
pub struct BrokerPassword(Zeroizing<String>);

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum BrokerPasswordError {
    /// The file could not be read.
    #[error("cannot read the password file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others on this machine can read it.
    #[error("the password file {path} can be read by others (mode {mode:03o})")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Its first line is empty, too long, or no text.
    #[error(
        "the first line of the password file {0} is no password: 1 to {MAX_LEN} bytes of UTF-8"
    )]
    Malformed(PathBuf),
}

impl BrokerPasswordError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            BrokerPasswordError::Io { .. } => "check the path and who may read it".to_owned(),
            BrokerPasswordError::Exposed { path, .. } => format!(
                "chmod 600 {}; if others may have read it, change the password at the broker",
                path.display()
            ),
            BrokerPasswordError::Malformed(_) => {
                "its first line is the password, as the broker knows it for this name".to_owned()
            }
        }
    }
}

impl BrokerPassword {
    /// Reads the first line of a file that nobody else can read.
    ///
    /// # Errors
    /// See [`BrokerPasswordError`].
    pub fn read(path: &Path) -> Result<BrokerPassword, BrokerPasswordError> {
        let io = |source| BrokerPasswordError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(BrokerPasswordError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let malformed = || BrokerPasswordError::Malformed(path.to_owned());
        // Room for all at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize + 3));
        file.take(MAX_LEN + 2).read_to_end(&mut bytes).map_err(io)?;
        let line = bytes
            .split(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.len() as u64 > MAX_LEN {
            return Err(malformed());
        }
        let text = std::str::from_utf8(line).map_err(|_| malformed())?;
        Ok(BrokerPassword(Zeroizing::new(text.to_owned())))
    }

    /// For a login only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for BrokerPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BrokerPassword(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn the_first_line_is_the_password_and_is_never_shown() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\nand more\n"] {
            let (_folder, path) = file(text.as_bytes(), 0o600);
            let password = BrokerPassword::read(&path).unwrap();
            assert_eq!(password.as_str(), "hunter2");
            assert_eq!(format!("{password:?}"), "BrokerPassword(..)");
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_without_a_password_is_refused() {
        for mode in [0o644, 0o640, 0o604] {
            let (_folder, path) = file(b"hunter2", mode);
            let error = BrokerPassword::read(&path).unwrap_err();
            assert!(
                matches!(error, BrokerPasswordError::Exposed { .. }),
                "{error}"
            );
        }
        for text in [&b""[..], b"\n", b"\xff", &[b'x'; 1_025], &[b'x'; 2_000]] {
            let (_folder, path) = file(text, 0o600);
            let error = BrokerPassword::read(&path).unwrap_err();
            assert!(
                matches!(error, BrokerPasswordError::Malformed(_)),
                "{error}"
            );
        }
        let (_folder, path) = file(&[b'x'; 1_024], 0o400);
        BrokerPassword::read(&path).unwrap();
        let error = BrokerPassword::read(Path::new("/no/such/file")).unwrap_err();
        assert!(matches!(error, BrokerPasswordError::Io { .. }), "{error}");
    }
}
