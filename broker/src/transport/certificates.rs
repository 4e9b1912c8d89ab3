//! The certificates in use: renewed while the broker runs, without ending a connection.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::tls::{CertificateFiles, Loaded, TlsError};
use crate::clock;
use rustls::ServerConfig;
use sealpost_core::Timestamp;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When the log begins to warn of a certificate that ends, and how often it does. Public certificates are renewed a month
/// before their end, so one that is not has been forgotten.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const WARN_EVERY: Duration = Duration::from_secs(DAY);

/// Seconds.
const DAY: u64 = 24 * 60 * 60;

/// The certificates in use.
#[derive(Debug)]
pub struct Certificates {
    files: CertificateFiles,
    /// One reading at a time, so that an older one never replaces a newer one.
    looking: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Loaded,
    /// What the files looked like when they were last read.
    seen: Looks,
    /// Why the last reading failed; it is tried again then, and said once.
    complaint: Option<String>,
    warned: Option<Timestamp>,
}

/// What tells one state of a file from another without reading it: device, inode, size, and time of change.
type Looks = Vec<Option<(u64, u64, u64, i64, i64)>>;

impl Certificates {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(files: CertificateFiles) -> Result<Certificates, TlsError> {
        let seen = looks(&files);
        warn_of_open_key(&files.key);
        let current = files.load()?;
        let certificates = Certificates {
            files,
            looking: Mutex::default(),
            state: Mutex::new(State {
                current,
                seen,
                complaint: None,
                warned: None,
            }),
        };
        certificates.warn_of_expiry(clock::now());
        Ok(certificates)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the next handshake.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().current.config)
    }

    /// Renews the certificates when their files change, until it is dropped.
    pub async fn renew(self: &Arc<Certificates>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let certificates = Arc::clone(self);
            // Files may lie on a network.
            let looked = tokio::task::spawn_blocking(move || {
                // It says itself what is wrong.
                let _ = certificates.look(false);
                certificates.warn_of_expiry(clock::now());
            });
            if let Err(error) = looked.await {
                tracing::error!(%error, "certificates were not looked at");
            }
        }
    }

    /// Reads the files again, however they look. Waits for the disk. What is bad changes nothing, and is logged too.
    ///
    /// # Errors
    /// Why the files cannot be used.
    pub fn reload(&self) -> Result<(), String> {
        self.look(true)
    }

    /// Reads the files again if they have changed, could not be read the last time, or if asked to. What is bad changes
    /// nothing, and is said.
    pub(super) fn look(&self, asked: bool) -> Result<(), String> {
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        // Before reading: what changes in between is seen the next time.
        let seen = looks(&self.files);
        {
            let state = self.lock();
            if !asked && seen == state.seen && state.complaint.is_none() {
                return Ok(());
            }
        }
        let loaded = self.files.load().map_err(|error| error.to_string());
        let loaded = loaded.and_then(|loaded| {
            if loaded.expires < clock::now() {
                return Err(format!("{:?} has expired", self.files.certificate));
            }
            Ok(loaded)
        });
        let mut state = self.lock();
        state.seen = seen;
        match loaded {
            Ok(loaded) => {
                let days = loaded.expires.saturating_since(clock::now()).as_secs() / DAY;
                tracing::info!(certificate = ?self.files.certificate, days, "TLS uses the files as they are now; connections go on");
                state.current = loaded;
                state.complaint = None;
                state.warned = None;
                Ok(())
            }
            Err(why) => {
                if asked || state.complaint.as_ref() != Some(&why) {
                    tracing::error!(why, "TLS goes on with the certificate that it has");
                }
                state.complaint = Some(why.clone());
                Err(why)
            }
        }
    }

    fn warn_of_expiry(&self, now: Timestamp) {
        let mut state = self.lock();
        let expires = state.current.expires;
        if expires.saturating_since(now) > WARN_BEFORE
            || state
                .warned
                .is_some_and(|warned| now.saturating_since(warned) < WARN_EVERY)
        {
            return;
        }
        state.warned = Some(now);
        let days = expires.saturating_since(now).as_secs() / DAY;
        if now > expires {
            tracing::error!(certificate = ?self.files.certificate, "the certificate has expired; clients that check it will not connect");
        } else {
            tracing::warn!(certificate = ?self.files.certificate, days, "the certificate expires soon");
        }
    }
}

fn looks(files: &CertificateFiles) -> Looks {
    let paths = [
        Some(&files.certificate),
        Some(&files.key),
        files.client_ca.as_ref(),
    ];
    let look = |path: &Path| -> io::Result<_> {
        // Through symbolic links: some renew by changing where one points.
        let metadata = std::fs::metadata(path)?;
        Ok((
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ))
    };
    let present = paths.into_iter().flatten();
    present.map(|path| look(path).ok()).collect()
}

fn warn_of_open_key(key: &Path) {
    const OTHERS: u32 = 0o007;
    if std::fs::metadata(key).is_ok_and(|metadata| metadata.mode() & OTHERS != 0) {
        tracing::warn!(
            ?key,
            "every user of this machine can read the private key: chmod o= it"
        );
    }
}
