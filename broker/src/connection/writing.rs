//! The writer of a connection: acknowledgements, answers and deliveries out, and the last word.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::GOODBYE_WAIT;
use super::stream::Writer;
use crate::clock;
use crate::delivery::session::{Filled, Session};
use crate::delivery::wire::Wire;

/// How long one write to a client may take. A client that reads nothing for so long is gone or stuck; if its session is
/// durable it finds its mail when it comes back.
const WRITE_WAIT: Duration = Duration::from_secs(30);

/// Bytes gathered for one write.
const WRITE_AT_ONCE: usize = 64 * 1024;

/// Writes whatever is due until the connection is closed.
pub(super) fn write(
    mut writer: Writer,
    wire: Arc<Wire>,
    session: Arc<Session>,
) -> impl Future<Output = ()> + Send {
    // Also if this panics: a connection that cannot write is to end, not to go on reading.
    let wire = HangUp(wire);
    // No `async fn`, which sets aside room for each of its arguments twice.
    async move {
        // Boxed, because it is large and over when nothing is due; so is its buffer.
        while Box::pin(write_due(&mut writer, &wire.0, &session)).await {
            wire.0.wake.notified().await;
        }
    }
}

/// Writes all that is due. Returns whether the connection goes on.
async fn write_due(writer: &mut Writer, wire: &Arc<Wire>, session: &Session) -> bool {
    let mut out = BytesMut::new();
    loop {
        wire.write_due(&mut out);
        let filled = if wire.is_closed() {
            Filled::Gone
        } else {
            session.fill(wire, &mut out, WRITE_AT_ONCE, clock::now())
        };
        if matches!(filled, Filled::Gone) || wire.is_closed() {
            wire.write_goodbye(&mut out);
            let _ = timeout(GOODBYE_WAIT, async {
                writer.write_all(&out).await?;
                writer.shutdown().await
            })
            .await;
            return false;
        }
        if !out.is_empty() {
            if !write_out(writer, wire, &out).await {
                return false;
            }
            out.clear();
        } else if let Filled::Load(mailbox) = filled {
            tokio::select! {
                () = mailbox.load() => {}
                () = wire.closed() => {}
            }
        } else {
            return true;
        }
    }
}

/// Returns whether all of it was written in time.
async fn write_out(writer: &mut Writer, wire: &Wire, out: &[u8]) -> bool {
    tokio::select! {
        written = timeout(WRITE_WAIT, async {
            writer.write_all(out).await?;
            // TLS and WebSocket may keep a part of it back otherwise.
            writer.flush().await
        }) => matches!(written, Ok(Ok(()))),
        // Whoever ends the connection does not wait for a client that does not read.
        () = async { wire.closed().await; tokio::time::sleep(GOODBYE_WAIT).await } => false,
    }
}

struct HangUp(Arc<Wire>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}
