//! The archiver's end of the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;

use sealpost_service::control_socket::{self, read_request, write_line};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::request::{MAX_REQUEST, Request};
use super::socket_path;
use crate::administration::Administration;

/// The socket, listening.
#[derive(Debug)]
pub struct ControlSocket(control_socket::ControlSocket);

impl ControlSocket {
    /// Listens in the archive's directory, whose lock the caller has: a socket that is there is left of an archiver that is gone.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(directory: &Path) -> io::Result<ControlSocket> {
        control_socket::ControlSocket::bind(socket_path(directory)?).map(ControlSocket)
    }

    /// Serves requests until `stop`.
    pub async fn serve(self, administration: Arc<Administration>, stop: CancellationToken) {
        let answer = move |stream| {
            let administration = Arc::clone(&administration);
            async move { answer(stream, &administration).await }
        };
        self.0.serve(stop, answer).await;
    }
}

async fn answer(stream: UnixStream, administration: &Administration) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let answer = match read_request::<Request>(&mut reader, MAX_REQUEST).await? {
        // What was begun is done, also if nobody listens any more.
        Ok(request) => administration.perform(request).await,
        Err(why) => Answer::failed(
            format!("not a request: {why}"),
            "the command and the archiver may be of different versions",
        ),
    };
    write_line(&mut writer, &answer).await
}
