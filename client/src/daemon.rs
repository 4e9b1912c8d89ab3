//! The daemon's interface: JSON-RPC 2.0, one object a line, on a Unix socket.
//!
//! `protocol` reads requests, the [`Desk`] answers them and hands out messages, without sockets; the [`Door`] is the
//! socket. A message is marked shown when who was given it says so, or when it was written to them, if they asked for
//! that: whatever ends before, it comes again.

mod desk;
mod door;
mod protocol;

use sealpost_core::MessageId;
use sealpost_core::UserId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use desk::{Connection, Desk, Manners};
pub use door::{Door, DoorError};
pub(crate) use protocol::Written;

/// The longest request, in bytes: the longest message with every byte of it written as a `\u` escape, and its frame.
const MAX_REQUEST: usize = 6 * sealpost_core::MAX_PLAINTEXT + 1_024;
/// How many lines wait for one client; who lets more pile up is disconnected. Twice what is handed out and one list.
const MAX_LINES: usize = 256;

/// A connection of a client, by the order they came in.
pub type ClientId = u64;

/// What comes through the door.
#[derive(Debug)]
pub enum Coming {
    /// Somebody connected.
    Joined(ClientId, Lines),
    /// They sent a line.
    Line(ClientId, Vec<u8>),
    /// They sent a line longer than `MAX_REQUEST`, of which nothing more is read.
    TooLong(ClientId),
    /// A message was written to them that is acknowledged by that.
    Written(ClientId, MessageName),
    /// They are gone.
    Gone(ClientId),
}

/// How a message is named: ids are their senders' own.
pub type MessageName = (UserId, MessageId);

/// What goes out to a client.
#[derive(Debug)]
pub struct Line {
    /// Without its line end.
    text: String,
    /// The message that is acknowledged when this is written.
    acknowledges: Option<MessageName>,
}

/// The way out to one client.
#[derive(Debug)]
pub struct Lines {
    queue: mpsc::Sender<Line>,
    /// Ends the connection at once.
    cut: CancellationToken,
}

impl Lines {
    fn new() -> (Lines, mpsc::Receiver<Line>, CancellationToken) {
        let (queue, lines) = mpsc::channel(MAX_LINES);
        let cut = CancellationToken::new();
        let lines_out = Lines {
            queue,
            cut: cut.clone(),
        };
        (lines_out, lines, cut)
    }
}
