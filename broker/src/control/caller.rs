//! A command's end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::request::{Answer, MAX_ANSWER, Request};
use super::socket_path::SocketPath;

/// How long the broker may take for each line of its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running broker that can be asked.
#[derive(Debug)]
pub struct Caller(UnixStream);

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The broker said no.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// The socket failed, or the broker did not answer in time.
    #[error("the broker does not answer at its control socket: {0}")]
    Io(#[from] io::Error),
    /// What came is no answer.
    #[error("the broker's answer is not understood: {0}")]
    NotAnAnswer(#[from] serde_json::Error),
}

impl Caller {
    /// Connects to the broker that runs on a data directory; none if none does.
    ///
    /// # Errors
    /// When there is a socket and it cannot be used.
    pub fn connect(data: &Path) -> io::Result<Option<Caller>> {
        let path = match SocketPath::within(data) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match UnixStream::connect(path.as_path()) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Some(Caller(stream)))
            }
            // None was ever there, or the broker that made it is gone.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks, and hands on what comes.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn ask(mut self, request: &Request, mut item: impl FnMut(Value)) -> Result<(), CallError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.0.write_all(&line)?;
        let mut lines = BufReader::new(self.0);
        loop {
            let mut line = Vec::new();
            lines
                .by_ref()
                .take(MAX_ANSWER)
                .read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            match serde_json::from_slice(&line)? {
                Answer::Item { value } => item(value),
                Answer::Done => return Ok(()),
                Answer::Failed { message, hint } => {
                    return Err(CallError::Refused { message, hint });
                }
            }
        }
    }
}
