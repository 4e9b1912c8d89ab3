//! The writer of a connection: acknowledgements, answers and deliveries out, and the last word.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::GOODBYE_WAIT;
use super::stream::Writer;
use crate::clock;
use crate::delivery::mailbox::Mailbox;
use crate::delivery::scribe::Scribe;
use crate::delivery::session::{Filled, Session};
use crate::delivery::wire::Wire;

/// How long one write to a client may take. A client that reads nothing for so long is gone or stuck; if its session is
/// durable it finds its mail when it comes back.
const WRITE_WAIT: Duration = Duration::from_secs(30);

/// Bytes gathered for one write.
const WRITE_AT_ONCE: usize = 64 * 1024;

/// The writing side of a connection.
struct Desk {
    wire: Arc<Wire>,
    session: Arc<Session>,
    pen: Mutex<Pen>,
}

/// What one at a time has who writes.
struct Pen {
    writer: Writer,
    /// What is on its way out. Of it nothing is lost when whoever writes stops in the middle.
    out: BytesMut,
    unflushed: bool,
}

/// What there is to do once all is written that was due.
enum Next {
    Nothing,
    Load(Arc<Mailbox>),
    /// The connection is over, and its last word may be said.
    Goodbye,
    /// There is no writing any more.
    Broken,
}

/// Writes whatever is due until the connection is closed.
pub(super) fn write(
    writer: Writer,
    wire: Arc<Wire>,
    session: Arc<Session>,
) -> impl Future<Output = ()> + Send {
    // Also if this panics: a connection that cannot write is to end, not to go on reading.
    let ends = HangUp(Arc::clone(&wire));
    let pen = Pen {
        writer,
        out: BytesMut::new(),
        unflushed: false,
    };
    let desk = Arc::new(Desk {
        wire,
        session,
        pen: Mutex::new(pen),
    });
    let scribe = Arc::downgrade(&desk);
    desk.wire.set_scribe(scribe);
    // No `async fn`, which sets aside room for each of its arguments twice.
    async move {
        let _ends = ends;
        // Boxed, because it is large and over when nothing is due.
        while Box::pin(desk.write()).await {
            desk.wire.woken().await;
        }
    }
}

impl Desk {
    /// Writes all that is due. Returns whether the connection goes on.
    async fn write(&self) -> bool {
        let mut pen = self.pen.lock().await;
        loop {
            match pen.write_due(&self.wire, &self.session).await {
                Next::Nothing => return true,
                Next::Load(mailbox) => tokio::select! {
                    () = mailbox.load() => {}
                    () = self.wire.closed() => {}
                },
                Next::Goodbye => {
                    let Pen { writer, out, .. } = &mut *pen;
                    self.wire.write_goodbye(out);
                    let _ = timeout(GOODBYE_WAIT, async {
                        writer.write_all(out).await?;
                        writer.shutdown().await
                    })
                    .await;
                    return false;
                }
                Next::Broken => return false,
            }
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Scribe for Desk {
    fn wake(&self) {
        self.wire.wake_task();
    }

    fn write_now(&self) {
        let write = || {
            self.pen.try_lock().is_ok_and(|mut pen| {
                let writing = pin!(pen.write_due(&self.wire, &self.session));
                // What has to wait is left to the task, which polls it with a waker of its own.
                let polled = writing.poll(&mut Context::from_waker(Waker::noop()));
                matches!(polled, Poll::Ready(Next::Nothing))
            })
        };
        // Whoever writes here is somebody else's connection, and not to end with this one.
        let written = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
            self.wire.hang_up();
            false
        });
        if !written {
            self.wake();
        }
    }
}

impl Pen {
    /// Writes what is due, and says what is next. Whoever stops in the middle loses nothing.
    async fn write_due(&mut self, wire: &Arc<Wire>, session: &Session) -> Next {
        loop {
            if (self.unflushed || !self.out.is_empty()) && !self.write_out(wire).await {
                return Next::Broken;
            }
            wire.write_due(&mut self.out);
            let filled = if wire.is_closed() {
                Filled::Gone
            } else {
                session.fill(wire, &mut self.out, WRITE_AT_ONCE, clock::now())
            };
            if matches!(filled, Filled::Gone) || wire.is_closed() {
                return Next::Goodbye;
            }
            if self.out.is_empty() {
                // An idle connection keeps no buffer.
                self.out = BytesMut::new();
                return match filled {
                    Filled::Load(mailbox) => Next::Load(mailbox),
                    _ => Next::Nothing,
                };
            }
        }
    }

    /// Returns whether all of it was written in time.
    async fn write_out(&mut self, wire: &Wire) -> bool {
        self.unflushed = true;
        tokio::select! {
            written = timeout(WRITE_WAIT, async {
                self.writer.write_all_buf(&mut self.out).await?;
                // TLS and WebSocket may keep a part of it back otherwise.
                self.writer.flush().await
            }) => {
                let written = matches!(written, Ok(Ok(())));
                self.unflushed = !written;
                written
            }
            // Whoever ends the connection does not wait for a client that does not read.
            () = async { wire.closed().await; tokio::time::sleep(GOODBYE_WAIT).await } => false,
        }
    }
}

struct HangUp(Arc<Wire>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}
