//! `storm`: clients whose sessions were kept, each with a message waiting, return at once, as after a cut of the network.

use std::thread;
use std::time::Instant;

use clap::Args;

use crate::connection::{Connection, ConnectionError, Limits};
use crate::load::{LoadError, Run, failed};
use crate::loopback::LoopbackAddr;
use crate::packet::{Packet, Qos, put_puback, put_publish};
use crate::report::{Report, Unit, add_latencies};

/// How many come.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Storm {
    /// Clients. Two files each have to be allowed: ulimit -n
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// How many of them are on their way at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    at_once: u32,
}

/// A client that is back, and when it had its message, in nanoseconds from the beginning of all.
struct Back {
    _connection: Connection,
    after: u64,
}

impl Storm {
    /// Runs it once.
    pub(crate) fn run(
        &self,
        broker: LoopbackAddr,
        pid: Option<u32>,
        limits: Limits,
    ) -> Result<Report, LoadError> {
        let run = Run::new(broker, pid, limits);
        for number in 0..self.clients {
            leave(&run, number).map_err(|source| failed("leaving", source))?;
        }
        let mut publisher = run.connect("p")?;
        for number in 0..self.clients {
            write_to(&mut publisher, number).map_err(|source| failed("p", source))?;
        }
        let begun = Instant::now();
        let (back, errors) = thread::scope(|scope| {
            let (clients, at_once) = (self.clients, self.at_once);
            let coming: Vec<_> = (0..at_once)
                .map(|first| {
                    scope.spawn(move || {
                        let mut back = Vec::new();
                        for number in (first..clients).step_by(at_once as usize) {
                            match come_back(&run, number) {
                                Ok(connection) => back.push(Back {
                                    _connection: connection,
                                    after: u64::try_from(begun.elapsed().as_nanos())
                                        .unwrap_or(u64::MAX),
                                }),
                                Err(error) => return (back, Some(error)),
                            }
                        }
                        (back, None)
                    })
                })
                .collect();
            let (mut back, mut errors) = (Vec::new(), Vec::new());
            for thread in coming {
                let (some, error) = thread.join().map_err(|_| LoadError::Panicked)?;
                back.extend(some);
                errors.extend(error);
            }
            Ok((back, errors))
        })?;
        let mut report = Report {
            work: format!(
                "storm: {} clients with kept sessions return, {} at a time, a message waiting for each",
                self.clients, self.at_once
            ),
            ..Report::default()
        };
        let served = back.len();
        let after: Vec<u64> = back.iter().map(|back| back.after).collect();
        let last = after.iter().max().copied().unwrap_or(0);
        // Exact up to 2^53.
        let seconds = last as f64 / 1e9;
        report.add("all served after", seconds, Unit::Seconds);
        report.add("served", served as f64 / seconds.max(1e-9), Unit::PerSecond);
        add_latencies(
            &mut report,
            ["half after", "p99 after", "p99.9 after", "last after"],
            after,
        );
        let missing = self.clients as usize - served;
        if missing > 0 {
            report
                .flaws
                .push(format!("{missing} of {} NOT SERVED", self.clients));
        }
        report.flaws.extend(errors.first().map(ToString::to_string));
        Ok(report)
    }
}

fn topic(number: u32) -> String {
    format!("inbox/bench-{number}")
}

/// Makes a session, and goes.
fn leave(run: &Run, number: u32) -> Result<(), ConnectionError> {
    let mut connection = run.open_small(&format!("c{number}"), false)?;
    connection.subscribe(&topic(number), Qos::AtLeastOnce)?;
    connection.close();
    Ok(())
}

/// Leaves a message for one who is away.
fn write_to(publisher: &mut Connection, number: u32) -> Result<(), ConnectionError> {
    let mut out = Vec::new();
    put_publish(
        &mut out,
        &topic(number),
        Qos::AtLeastOnce,
        false,
        1,
        b"while you were away",
    );
    publisher.send(&out)?;
    publisher.wait_for(|packet| matches!(packet, Packet::PubAck { .. }).then_some(()))
}

/// Comes back, and takes the message.
fn come_back(run: &Run, number: u32) -> Result<Connection, ConnectionError> {
    let mut connection = run.open_small(&format!("c{number}"), false)?;
    let expected = topic(number);
    let id = connection.wait_for(|packet| match packet {
        Packet::Publish { topic, id, .. } if *topic == expected.as_bytes() => *id,
        _ => None,
    })?;
    let mut out = Vec::new();
    put_puback(&mut out, id);
    connection.send(&out)?;
    Ok(connection)
}
