//! What the clients of a broker that is put to the test know of it: whether it is up, and whether the end is near.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

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
    calm: bool,
    ending: bool,
}

impl Weather {
    /// Of a broker that is up.
    #[must_use]
    pub fn of(broker: SocketAddr) -> Weather {
        let now = Now {
            up: true,
            calm: false,
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

    /// Whether the broker is up, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.now.lock().unwrap().up
    }

    /// Says that publishers should finish, and readers read as fast as they can.
    pub fn end(&self) {
        let mut now = self.now.lock().unwrap();
        (now.calm, now.ending) = (true, true);
        drop(now);
        self.changed.notify_all();
    }

    /// Says that there is no more trouble to come.
    pub fn calm_down(&self) {
        self.now.lock().unwrap().calm = true;
        self.changed.notify_all();
    }

    /// Says that the end is near when the guard is dropped: also when a test fails, which otherwise would wait for its threads for ever.
    #[must_use]
    pub fn end_in_any_case(&self) -> impl Drop + '_ {
        EndInAnyCase(self)
    }

    /// Likewise, and only when a test fails.
    #[must_use]
    pub fn end_if_it_fails(&self) -> impl Drop + '_ {
        EndIfItFails(self)
    }

    /// Whether that has been said.
    #[must_use]
    pub fn ending(&self) -> bool {
        self.now.lock().unwrap().ending
    }

    /// Where the broker listens.
    #[must_use]
    pub fn broker(&self) -> SocketAddr {
        self.broker
    }

    /// Waits, unless there is no more trouble to come. Returns whether that has been said.
    pub fn wait(&self, time: Duration) -> bool {
        let now = self.now.lock().unwrap();
        let waited = self.changed.wait_timeout_while(now, time, |now| !now.calm);
        waited.unwrap().0.calm
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

struct EndIfItFails<'a>(&'a Weather);

impl Drop for EndIfItFails<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

struct EndInAnyCase<'a>(&'a Weather);

impl Drop for EndInAnyCase<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
