//! The archiver's end of the control socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::request::{MAX_REQUEST, Request};
use super::socket_path::SocketPath;
use crate::administration::Administration;

/// Requests at once. They come from people and scripts of one machine.
const AT_ONCE: usize = 8;

/// How long a request may take to arrive, and an answer to leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket, listening.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: SocketPath,
}

impl ControlSocket {
    /// Listens in the archive's directory, whose lock the caller has: a socket that is there is left of an archiver that is gone.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(directory: &Path) -> io::Result<ControlSocket> {
        let path = SocketPath::within(directory)?;
        match fs::remove_file(path.as_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path.as_path())?;
        // Between these two lines others may connect, if the umask lets them; each is asked who they are.
        fs::set_permissions(path.as_path(), Permissions::from_mode(0o600))?;
        Ok(ControlSocket { listener, path })
    }

    /// Serves requests until `stop`.
    pub async fn serve(self, administration: Arc<Administration>, stop: CancellationToken) {
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
            let administration = Arc::clone(&administration);
            tokio::spawn(async move {
                if let Err(error) = answer(stream, &administration).await {
                    tracing::debug!(%error, "whoever asked at the control socket is gone");
                }
                drop(place);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Whoever looks for an archiver finds that there is none; if it stays, connecting to it fails, which says the same.
        let _ = fs::remove_file(self.path.as_path());
    }
}

/// Whether the process at the other end runs as the archiver's user, or as root.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(stream: UnixStream, administration: &Administration) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice::<Request>(&line) {
        // What was begun is done, also if nobody listens any more.
        Ok(request) if line.ends_with(b"\n") => administration.perform(request).await,
        read => {
            let why = match read {
                Err(error) => error.to_string(),
                Ok(_) => "a request ends with a line break".into(),
            };
            Answer::failed(
                format!("not a request: {why}"),
                "the command and the archiver may be of different versions",
            )
        }
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await?
}
