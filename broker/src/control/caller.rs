//! A command's end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(target_os = "linux")]
use rustix::process::PidfdFlags;

use super::answer::{Answer, End, Item, MAX_ANSWER};
use super::request::Request;
use super::socket_path;

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
    /// It goes on for longer than the caller waits.
    #[error("the broker still runs after {} s", .0.as_secs())]
    TookTooLong(Duration),
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
        let path = match socket_path(data) {
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
    pub fn ask(mut self, request: &Request, mut item: impl FnMut(Item)) -> Result<(), CallError> {
        self.say(request)?;
        let mut lines = BufReader::new(self.0);
        loop {
            match read(&mut lines)? {
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Some(Answer::Item(value)) => item(value),
                Some(Answer::End(End::Done)) => return Ok(()),
                Some(Answer::End(End::Failed { message, hint })) => {
                    return Err(CallError::Refused { message, hint });
                }
            }
        }
    }

    /// Asks the broker to end, hands on what it says, and returns when the process is gone.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::TookTooLong`] when it has not ended `within` that time.
    pub fn see_off(
        mut self,
        within: Duration,
        mut item: impl FnMut(Item),
    ) -> Result<(), CallError> {
        let until = Instant::now() + within;
        let process = Process::at_the_other_end(&self.0);
        self.say(&Request::Drain { wait: true })?;
        let mut lines = BufReader::new(self.0);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CallError::TookTooLong(within));
            }
            lines.get_ref().set_read_timeout(Some(left))?;
            match read(&mut lines) {
                Ok(None) => break,
                Err(CallError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    break;
                }
                Err(CallError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(CallError::TookTooLong(within));
                }
                Err(error) => return Err(error),
                Ok(Some(Answer::Item(value))) => item(value),
                Ok(Some(Answer::End(End::Done))) => {}
                Ok(Some(Answer::End(End::Failed { message, hint }))) => {
                    return Err(CallError::Refused { message, hint });
                }
            }
        }
        // The connection closes a moment before the process is gone, and its locks with it.
        if process.is_none_or(|process| process.ends_by(until)) {
            Ok(())
        } else {
            Err(CallError::TookTooLong(within))
        }
    }

    fn say(&mut self, request: &Request) -> Result<(), CallError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        Ok(self.0.write_all(&line)?)
    }
}

/// The broker's process, where the system can be asked to tell of its end.
#[derive(Debug)]
struct Process(#[cfg(target_os = "linux")] OwnedFd);

impl Process {
    #[cfg(target_os = "linux")]
    fn at_the_other_end(stream: &UnixStream) -> Option<Process> {
        let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
        let process = rustix::process::pidfd_open(peer.pid, PidfdFlags::empty()).ok()?;
        Some(Process(process))
    }

    #[cfg(not(target_os = "linux"))]
    fn at_the_other_end(_: &UnixStream) -> Option<Process> {
        None
    }

    /// Waits until it has ended; whether it had by then.
    #[cfg(target_os = "linux")]
    fn ends_by(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        let left = Timespec::try_from(left).ok();
        poll(&mut ended, left.as_ref()).is_ok_and(|ended| ended > 0)
    }

    #[cfg(not(target_os = "linux"))]
    fn ends_by(&self, _: Instant) -> bool {
        true
    }
}

/// The next line; none at the end.
fn read(lines: &mut BufReader<UnixStream>) -> Result<Option<Answer>, CallError> {
    let mut line = Vec::new();
    lines.take(MAX_ANSWER).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}
