//! What the tests of promises between processes share: real programs on free ports, a bound on every wait, and nothing
//! left running.
//!
//! Failures here are failures of the test, so this crate panics with what it saw.
#![forbid(unsafe_code)]

mod archiver;
mod broker;
mod client;
mod clock;
mod command_words;
mod crowd;
mod daemon_program;
mod deployment;
mod device;
mod filler;
mod flood;
mod forged_file;
mod forger;
mod http;
mod lab;
mod mosquitto;
mod nats;
pub mod packet;
pub mod page;
mod pane;
mod port;
mod process;
mod proxy;
mod publisher;
pub mod raw;
mod round_trip;
mod schema;
mod sensor;
mod small_disk;
mod stage;
mod subscriber;
mod traffic;
mod weather;

pub use archiver::Archiver;
pub use broker::{Broker, BrokerOptions};
pub use client::{Answer, Person};
pub use clock::Clock;
pub use command_words::misunderstood;
pub use crowd::Crowd;
pub use daemon_program::Program;
pub use deployment::{Deployment, Kind};
pub use device::{Device, Link, now};
pub use filler::Filler;
pub use flood::Flood;
pub use forged_file::ForgedFile;
pub use forger::{Forger, Forgery};
pub use http::get;
pub use lab::{Lab, exporter};
pub use mosquitto::Mosquitto;
pub use nats::{NODES, Nats};
pub use pane::Pane;
pub use port::free_port;
pub use process::{Process, resident_kib};
pub use proxy::Proxy;
pub use publisher::Publisher;
pub use raw::Raw;
pub use round_trip::{assert_round_trip, client_program};
pub use schema::Schema;
pub use sensor::{DEVICE_PROGRAM, Sensor, events_of};
pub use small_disk::SmallDisk;
pub use stage::Stage;
pub use subscriber::{Habit, Subscriber};
pub use traffic::Traffic;
pub use weather::Weather;

use std::path::PathBuf;
use std::time::Duration;

/// How long anything may take before the test gives up on it. Far above what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of one of the programs, as `cargo build` left it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path of this test");
    let dir = test
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>");
    let program = dir.join(name);
    assert!(
        program.exists(),
        "{program:?} is not built: run `cargo build --workspace` first (`make test` does)"
    );
    program
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
