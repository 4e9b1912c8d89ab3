//! Ports for programs that have to be told one, and for brokers that come back on theirs.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that Linux gives to outgoing connections (from 32,768 on), so that none of the many connections of the tests
/// beside this one takes a port between its choice and its use, or while a broker is away.
const PORTS: Range<u32> = 15_000..32_000;

/// Where this process goes on looking. Tests of two processes at a time begin far apart.
static NEXT: LazyLock<AtomicU32> =
    LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(1_009)));

/// A port that nobody listens on, and that nobody in this process is given again before all others have been.
#[must_use]
pub fn free_port() -> u16 {
    let count = PORTS.end - PORTS.start;
    (0..count)
        .map(|_| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % count)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
