//! The broker's end of the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;

use sealpost_service::control_socket::{self, read_request, write_line};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::administration::Administration;
use super::answer::{Answer, End, Item};
use super::request::{MAX_REQUEST, Request};
use super::socket_path;

/// Lines of an answer that wait to leave.
const ITEMS: usize = 16;

/// The socket, listening.
#[derive(Debug)]
pub struct ControlSocket(control_socket::ControlSocket);

impl ControlSocket {
    /// Listens in the data directory, whose lock the caller has: a socket that is there is left of a broker that is gone.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(data: &Path) -> io::Result<ControlSocket> {
        control_socket::ControlSocket::bind(socket_path(data)?).map(ControlSocket)
    }

    /// Serves requests until `shutdown`.
    pub async fn serve(self, administration: Arc<Administration>, shutdown: CancellationToken) {
        let answer = move |stream| {
            let administration = Arc::clone(&administration);
            async move { answer(stream, &administration).await }
        };
        self.0.serve(shutdown, answer).await;
    }
}

async fn answer(stream: UnixStream, administration: &Administration) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let request = match read_request::<Request>(&mut reader, MAX_REQUEST).await? {
        Ok(request) => request,
        Err(why) => {
            let failed = End::Failed {
                message: format!("not a request: {why}"),
                hint: "the command and the broker may be of different versions".into(),
            };
            return write_line(&mut writer, &Answer::End(failed)).await;
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
                    listening = write_line(&mut writer, &Answer::Item(item)).await;
                }
            }
            performed = &mut performing => break performed,
        }
    };
    while let Ok(item) = ready.try_recv() {
        if listening.is_ok() {
            listening = write_line(&mut writer, &Answer::Item(item)).await;
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
    write_line(&mut writer, &Answer::End(last)).await
}

#[cfg(test)]
mod tests;
