//! The broker's end of the control socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::administration::Administration;
use super::answer::{Answer, End, Item};
use super::request::{MAX_REQUEST, Request};
use super::socket_path::SocketPath;

/// Requests at once. They come from people and scripts of one machine.
const AT_ONCE: usize = 8;

/// How long a request may take to arrive, and each line of an answer to leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines of an answer that wait to leave.
const ITEMS: usize = 16;

/// The socket, listening.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: SocketPath,
}

impl ControlSocket {
    /// Listens in the data directory, whose lock the caller has: a socket that is there is left of a broker that is gone.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(data: &Path) -> io::Result<ControlSocket> {
        let path = SocketPath::within(data)?;
        match fs::remove_file(path.as_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path.as_path())?;
        // Between these two lines others may connect, if the umask lets them; each is asked who they are.
        fs::set_permissions(path.as_path(), Permissions::from_mode(0o600))?;
        Ok(ControlSocket { listener, path })
    }

    /// Serves requests until `shutdown`.
    pub async fn serve(self, administration: Arc<Administration>, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
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
        // Whoever looks for a broker finds that there is none; if it stays, connecting to it fails, which says the same.
        let _ = fs::remove_file(self.path.as_path());
    }
}

/// Whether the process at the other end runs as the broker's user, or as root.
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
    let request = match serde_json::from_slice::<Request>(&line) {
        Ok(request) if line.ends_with(b"\n") => request,
        read => {
            let why = match read {
                Err(error) => error.to_string(),
                Ok(_) => "a request ends with a line break".into(),
            };
            let failed = End::Failed {
                message: format!("not a request: {why}"),
                hint: "the command and the broker may be of different versions".into(),
            };
            return write(&mut writer, &Answer::End(failed)).await;
        }
    };
    let (items, mut ready) = mpsc::channel::<Item>(ITEMS);
    let performing = administration.perform(request, items);
    tokio::pin!(performing);
    // What was begun is done, also if nobody listens any more.
    let mut listening = Ok(());
    let performed = loop {
        tokio::select! {
            biased;
            Some(item) = ready.recv() => {
                if listening.is_ok() {
                    listening = write(&mut writer, &Answer::Item(item)).await;
                }
            }
            performed = &mut performing => break performed,
        }
    };
    while let Ok(item) = ready.try_recv() {
        if listening.is_ok() {
            listening = write(&mut writer, &Answer::Item(item)).await;
        }
    }
    listening?;
    let last = match performed {
        Ok(()) => End::Done,
        Err(failure) => End::Failed {
            message: failure.message,
            hint: failure.hint,
        },
    };
    write(&mut writer, &Answer::End(last)).await
}

async fn write(writer: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await?
}

#[cfg(test)]
mod tests;
