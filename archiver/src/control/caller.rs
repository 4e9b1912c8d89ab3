//! A command's end of the control socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::answer::{Answer, MAX_ANSWER};
use super::request::Request;
use super::socket_path;

/// How long the archiver may take: to take a line out of a large segment, all of it is compressed anew, and it waits until what is
/// before it is done.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a running archiver could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The socket failed, or the archiver did not answer in time.
    #[error("the archiver does not answer at its control socket: {0}")]
    Io(#[from] io::Error),
    /// What came is no answer.
    #[error("the archiver's answer is not understood: {0}")]
    NotAnAnswer(#[from] serde_json::Error),
}

/// Asks the archiver that runs in `directory`; `None` if none does.
///
/// # Errors
/// [`CallError`].
pub fn ask(directory: &Path, request: &Request) -> Result<Option<Answer>, CallError> {
    let path = match socket_path(directory) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut stream = match UnixStream::connect(path.as_path()) {
        Ok(stream) => stream,
        // None was ever there, or the archiver that made it is gone.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    line.clear();
    BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(serde_json::from_slice(&line)?))
}
