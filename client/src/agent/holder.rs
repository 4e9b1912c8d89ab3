//! The agent itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sealpost_core::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Held, MAX_LINE, NAME, PATIENCE, Request, folder};
use crate::clock;
use crate::keystore::KeystoreKey;
use crate::local_socket::{SocketPath, is_ours, listen};

/// How often it looks whether its time is over by the machine's clock, which goes on while the machine sleeps.
const GLANCE: Duration = Duration::from_secs(1);

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The socket or its folder cannot be made.
    #[error("cannot listen in {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A held key, and who may ask for it.
#[derive(Debug)]
pub struct Holder {
    listener: UnixListener,
    path: SocketPath,
    key: KeystoreKey,
    until: Timestamp,
    /// The same by the clock that nobody sets.
    deadline: Instant,
}

impl Holder {
    /// Listens in this home, in the place of an agent that was there before. The key is forgotten at `until`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(home: &Path, key: KeystoreKey, until: Timestamp) -> Result<Holder, HolderError> {
        let folder = folder(home);
        let (listener, path) = listen(&folder, NAME).map_err(|source| HolderError::Io {
            path: folder,
            source,
        })?;
        let left = until.saturating_since(clock::now());
        Ok(Holder {
            listener,
            path,
            key,
            until,
            deadline: Instant::now() + left,
        })
    }

    /// Answers until the time is over, somebody locks it, or `stop`. One at a time: each is done in an instant, or cut off.
    pub async fn serve(self, stop: CancellationToken) {
        loop {
            if Instant::now() >= self.deadline || clock::now() >= self.until {
                return;
            }
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GLANCE) => continue,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, perhaps: not in a tight loop.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if !is_ours(&stream) {
                tracing::warn!("another user of this machine was turned away from the agent");
                continue;
            }
            match timeout(PATIENCE, self.answer(stream)).await {
                Ok(Ok(Request::Lock)) => return,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "whoever asked the agent is gone"),
                Err(_) => tracing::debug!("whoever asked the agent was too slow"),
            }
        }
    }

    async fn answer(&self, stream: UnixStream) -> io::Result<Request> {
        let (reader, mut writer) = stream.into_split();
        let mut line = Vec::new();
        BufReader::new(reader.take(MAX_LINE))
            .read_until(b'\n', &mut line)
            .await?;
        let request = serde_json::from_slice(&line)?;
        // The time may have run out while the machine slept.
        let is_over = clock::now() >= self.until;
        let held = match request {
            Request::Key if !is_over => Held::new(&self.key, self.until),
            _ => Held::without_key(self.until),
        };
        writer.write_all(&held.line()).await?;
        Ok(request)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path.as_path());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{key, lock, status};
    use super::*;
    use zeroize::Zeroizing;

    fn secret() -> KeystoreKey {
        KeystoreKey::new([7; 16], Zeroizing::new([42; 32]))
    }

    async fn asked<T: Send + 'static>(
        home: &Path,
        ask: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> T {
        let home = home.to_owned();
        tokio::task::spawn_blocking(move || ask(&home))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_held_key_is_given_until_it_is_locked_however_long_the_path_is() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("h".repeat(150));
        fs::create_dir(&home).unwrap();
        assert!(asked(&home, key).await.is_none());
        let until = clock::now().saturating_add(Duration::from_secs(60));
        let holder = Holder::bind(&home, secret(), until).unwrap();
        let served = tokio::spawn(holder.serve(CancellationToken::new()));
        let given = asked(&home, key).await.unwrap();
        assert_eq!((given.salt(), **given.key()), (&[7; 16], [42; 32]));
        assert_eq!(asked(&home, status).await, Some(until));
        assert!(asked(&home, lock).await);
        served.await.unwrap();
        assert!(!asked(&home, lock).await);
        assert!(asked(&home, key).await.is_none());
    }

    #[tokio::test]
    async fn junk_and_silence_at_the_socket_do_not_end_an_agent() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        let until = clock::now().saturating_add(Duration::from_secs(60));
        let holder = Holder::bind(&home, secret(), until).unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(holder.serve(stop.clone()));
        let path = super::super::folder(&home).join("agent.sock");
        for junk in [&b""[..], b"\n", b"{}\n", b"\"key", &[b'x'; 4_096]] {
            let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
            let _ = stream.write_all(junk);
        }
        assert!(asked(&home, key).await.is_some());
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_key_whose_time_is_over_is_given_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let holder = Holder::bind(folder.path(), secret(), clock::now()).unwrap();
        holder.serve(CancellationToken::new()).await;
        assert!(asked(folder.path(), key).await.is_none());
    }

    #[test]
    fn debug_shows_no_key() {
        let held = Held::new(&secret(), clock::now());
        let shown = format!("{held:?} {:?}", secret());
        // Twice, for the time may have it once.
        assert!(
            !shown.contains("42, 42") && !shown.contains("2a2a") && !shown.contains("Kio"),
            "{shown}"
        );
        assert_eq!(held.key().unwrap().salt(), &[7; 16]);
    }
}
