//! What the clients of a broker that is killed again and again know of it: whether it is up, and whether the end is near.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};

use crate::PATIENCE;
use crate::raw::{Connect, Raw};

/// Whether a broker is up. Shared by all who use it.
///
/// Clients connect only while it is: whoever calls a free port of loopback over and over meets itself one day, and then
/// the broker cannot have its port back.
#[derive(Debug)]
pub struct Weather {
    broker: SocketAddr,
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy)]
struct Now {
    up: bool,
    ending: bool,
}

impl Weather {
    /// Of a broker that is up.
    #[must_use]
    pub fn of(broker: SocketAddr) -> Weather {
        let now = Now {
            up: true,
            ending: false,
        };
        Weather {
            broker,
            now: Mutex::new(now),
            changed: Condvar::new(),
        }
    }

    /// Says whether the broker is up.
    pub fn set_up(&self, up: bool) {
        self.now.lock().unwrap().up = up;
        self.changed.notify_all();
    }

    /// Says that publishers should finish, and readers read as fast as they can.
    pub fn end(&self) {
        self.now.lock().unwrap().ending = true;
    }

    /// Says so when the guard is dropped: also when a test fails, which otherwise would wait for its threads for ever.
    #[must_use]
    pub fn end_in_any_case(&self) -> impl Drop + '_ {
        EndInAnyCase(self)
    }

    /// Whether that has been said.
    #[must_use]
    pub fn ending(&self) -> bool {
        self.now.lock().unwrap().ending
    }

    /// Connects, as soon as the broker is up. Returns whether the session was there, too.
    #[must_use]
    pub fn connect(&self, connect: &Connect<'_>) -> (Raw, bool) {
        loop {
            let now = self.now.lock().unwrap();
            let (now, waited) = self
                .changed
                .wait_timeout_while(now, PATIENCE, |now| !now.up)
                .unwrap();
            assert!(!waited.timed_out(), "the broker stayed down");
            drop(now);
            // It may be killed in this moment.
            if let Some(connected) = Raw::try_connect(self.broker, connect) {
                return connected;
            }
            std::thread::yield_now();
        }
    }
}

struct EndInAnyCase<'a>(&'a Weather);

impl Drop for EndInAnyCase<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
