//! A daemon's control socket: requests and answers are lines of JSON, from its own user of this machine and root alone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::socket_path::SocketPath;

/// Requests at once. They come from people and scripts of one machine.
const AT_ONCE: usize = 8;

/// How long a request may take to arrive, and each line of an answer to leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket, listening.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: SocketPath,
}

impl ControlSocket {
    /// Listens at `path`, in a directory whose lock the caller has: a socket that is there is left of a daemon that is gone.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(path: SocketPath) -> io::Result<ControlSocket> {
        match fs::remove_file(path.as_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path.as_path())?;
        // Between these two lines others may connect, if the umask lets them; each is asked who they are.
        fs::set_permissions(path.as_path(), Permissions::from_mode(0o600))?;
        Ok(ControlSocket { listener, path })
    }

    /// Lets `answer` serve each connection, until `stop`.
    pub async fn serve<F>(self, stop: CancellationToken, answer: impl Fn(UnixStream) -> F)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting at the control socket");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if !is_ours(&stream) {
                tracing::warn!(
                    "another user of this machine was turned away from the control socket"
                );
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!("too many requests at the control socket at once");
                continue;
            };
            let answering = answer(stream);
            tokio::spawn(async move {
                if let Err(error) = answering.await {
                    tracing::debug!(%error, "whoever asked at the control socket is gone");
                }
                drop(place);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Whoever looks for a daemon finds that there is none; if it stays, connecting to it fails, which says the same.
        let _ = fs::remove_file(self.path.as_path());
    }
}

/// Whether the process at the other end runs as the daemon's user, or as root.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Reads a request of at most `longest` bytes; or why what came is none.
///
/// # Errors
/// When the other end is gone, or takes too long.
pub async fn read_request<T: DeserializeOwned>(
    reader: impl AsyncRead + Unpin,
    longest: u64,
) -> io::Result<Result<T, String>> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(longest));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    Ok(match serde_json::from_slice(&line) {
        Ok(request) if line.ends_with(b"\n") => Ok(request),
        Ok(_) => Err("a request ends with a line break".into()),
        Err(error) => Err(error.to_string()),
    })
}

/// Writes a line of an answer.
///
/// # Errors
/// When the other end is gone, or takes too long.
pub async fn write_line(
    writer: &mut (impl AsyncWriteExt + Unpin),
    answer: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await?
}
