//! The socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::protocol::{Refusal, answer};
use super::{ClientId, Coming, Line, Lines, MAX_REQUEST};
use crate::home::Home;
use crate::local_socket::{SocketPath, is_ours, listen};

/// How many clients there are at most: each may have a request of 400 kB half read.
const MAX_CLIENTS: usize = 16;
/// How long a client may take to read a line before it is disconnected. It is on this machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long clients may take to read what waits for them when the daemon ends.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How much comes from clients before it is dealt with.
const COMING: usize = 32;

/// Why nobody can come in.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The socket or its folder cannot be made.
    #[error("cannot listen at {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process answers there.
    #[error("somebody else listens at {0}")]
    Taken(PathBuf),
}

/// A socket on which clients are served. Dropping it ends them.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    socket: SocketPath,
    coming: mpsc::Receiver<Coming>,
    clients: JoinSet<()>,
}

impl Door {
    /// Listens. Without a path at `HOME/daemon/daemon.sock`; the folder is made when it is not there.
    ///
    /// # Errors
    /// When the socket cannot be made, its folder is not ours alone, or somebody answers there.
    pub fn open(home: &Home, path: Option<PathBuf>) -> Result<Door, DoorError> {
        let path = path.unwrap_or_else(|| home.path().join("daemon").join("daemon.sock"));
        let failed = |source| DoorError::Io {
            path: path.clone(),
            source,
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name else {
            return Err(failed(io::ErrorKind::InvalidFilename.into()));
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if let Ok(there) = SocketPath::within(folder, name)
            && std::os::unix::net::UnixStream::connect(there.as_path()).is_ok()
        {
            return Err(DoorError::Taken(path));
        }
        let (listener, socket) = listen(folder, name).map_err(failed)?;
        let (sender, coming) = mpsc::channel(COMING);
        let mut clients = JoinSet::new();
        clients.spawn(accept(listener, sender));
        Ok(Door {
            path,
            socket,
            coming,
            clients,
        })
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What comes next. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Coming> {
        self.coming.recv().await
    }

    /// Lets nobody in any more, and waits a moment for clients to read what waits for them. They have to be let go of
    /// before.
    pub async fn close(mut self) {
        self.coming.close();
        let _ = timeout(LAST_LINES, self.clients.join_next()).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.socket.as_path());
    }
}

/// Ends when nobody takes what comes.
async fn accept(listener: UnixListener, coming: mpsc::Sender<Coming>) {
    let mut next: ClientId = 0;
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = coming.closed() => break,
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        let Ok((mut stream, _)) = accepted else {
            // Out of descriptors, perhaps: not in a tight loop.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if !is_ours(&stream) {
            tracing::warn!("another user of this machine was turned away from the daemon");
            continue;
        }
        if clients.len() >= MAX_CLIENTS {
            let line = answer(&Value::Null, Err(Refusal::too_many()));
            // It fits the empty buffer of a new socket; who does not take it knows it by the end.
            let _ = timeout(Duration::from_millis(100), stream.write_all(&framed(line))).await;
            continue;
        }
        clients.spawn(serve(next, stream, coming.clone()));
        next += 1;
    }
    drop((listener, coming));
    while clients.join_next().await.is_some() {}
}

async fn serve(client: ClientId, stream: UnixStream, coming: mpsc::Sender<Coming>) {
    let (lines, queue, cut) = Lines::new();
    if coming.send(Coming::Joined(client, lines)).await.is_err() {
        return;
    }
    let (reader, writer) = stream.into_split();
    let mut writing = std::pin::pin!(write(client, writer, queue, &coming));
    let stopped_reading = tokio::select! {
        read = read(client, reader, &coming) => {
            if let Err(error) = read {
                tracing::debug!(%error, "a client of the daemon is gone");
            }
            true
        }
        _ = &mut writing => false,
        () = cut.cancelled() => false,
    };
    let _ = coming.send(Coming::Gone(client)).await;
    // What they asked is answered, also to who has closed their side behind it.
    if stopped_reading {
        tokio::select! {
            _ = writing => {}
            () = cut.cancelled() => {}
        }
    }
}

async fn read(
    client: ClientId,
    reader: OwnedReadHalf,
    coming: &mpsc::Sender<Coming>,
) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let most = MAX_REQUEST as u64 + 1;
        let length = (&mut reader)
            .take(most)
            .read_until(b'\n', &mut line)
            .await?;
        if length == 0 {
            return Ok(());
        }
        if line.len() > MAX_REQUEST {
            let _ = coming.send(Coming::TooLong(client)).await;
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if coming.send(Coming::Line(client, line)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    client: ClientId,
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Line>,
    coming: &mpsc::Sender<Coming>,
) -> io::Result<()> {
    while let Some(Line { text, acknowledges }) = queue.recv().await {
        timeout(PATIENCE, writer.write_all(&framed(text))).await??;
        if let Some(name) = acknowledges
            && coming.send(Coming::Written(client, name)).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

fn framed(line: String) -> Vec<u8> {
    let mut bytes = line.into_bytes();
    bytes.push(b'\n');
    bytes
}
