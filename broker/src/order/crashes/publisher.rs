//! A publisher that keeps to the standards: what is unacknowledged is sent again, in order, with its packet identifier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rumqttd::protocol::QoS;

use super::ledger::{Ledger, Sent};
use super::{Connection, Process, ordered, packets};
use crate::delivery::receipt::Receipt;

/// There is no room.
const QUOTA_EXCEEDED: u8 = 0x97;

const TOPICS: [&str; 3] = ["a/1", "a/2", "b/1"];

#[derive(Debug)]
struct Flight {
    pkid: u16,
    id: u32,
    payload: Bytes,
    qos: QoS,
    /// Whether PUBREC has come.
    released: bool,
}

/// A publisher.
pub(super) struct Publisher {
    pub(super) name: &'static str,
    durable: bool,
    connection: Option<Connection>,
    /// Until a CONNACK comes.
    wants_clean: bool,
    /// Whether a CONNACK said that the session is kept.
    kept: bool,
    flights: VecDeque<Flight>,
    last_pkid: u16,
}

impl Publisher {
    pub(super) fn new(name: &'static str, durable: bool) -> Publisher {
        Publisher {
            name,
            durable,
            connection: None,
            wants_clean: false,
            kept: false,
            flights: VecDeque::new(),
            last_pkid: 0,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// The broker is gone.
    pub(super) fn cut_off(&mut self) {
        self.connection = None;
    }

    /// Connects, whether or not there is a connection: then that is taken over.
    pub(super) fn connect(&mut self, process: &Process, clean_start: bool) {
        self.wants_clean |= clean_start;
        if self.wants_clean {
            self.kept = false;
        }
        // Whoever is taken over is told by the board; its end there comes when it comes.
        self.connection = Some(process.connect(self.name, self.wants_clean, self.durable, None));
    }

    pub(super) fn hang_up(&mut self, process: &mut Process) {
        process.left.extend(self.connection.take());
    }

    /// Ends its session.
    pub(super) fn end(&mut self, process: &Process) {
        if let Some(connection) = self.connection.take() {
            process.leave(&connection, Some(Duration::ZERO));
        }
    }

    pub(super) fn publish(
        &mut self,
        process: &mut Process,
        ledger: &mut Ledger,
        rng: &mut SmallRng,
        window: usize,
    ) {
        let ready = self.connection.as_ref().is_some_and(|it| it.saw_it);
        if !ready || self.flights.len() >= window {
            return;
        }
        let supersedes = self.name == "p1" && rng.random_range(0..100) < 8;
        let dice = rng.random_range(0..10);
        let retain = supersedes || rng.random_range(0..100) < 20;
        let empty = retain && !supersedes && rng.random_range(0..100) < 20;
        let in_a_second = process.now.saturating_add(Duration::from_secs(1));
        let sent = Sent {
            publisher: self.name,
            topic: if supersedes {
                "keys/x"
            } else {
                TOPICS.choose(rng).unwrap()
            },
            qos: match dice {
                _ if supersedes => QoS::AtLeastOnce,
                0..2 => QoS::AtMostOnce,
                2..6 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            },
            retain,
            empty,
            supersedes,
            expires: (!supersedes && rng.random_range(0..100) < 5).then_some(in_a_second),
        };
        let id = ledger.note(sent.clone());
        let payload = if empty {
            Bytes::new()
        } else {
            format!("{id}{}", ".".repeat(rng.random_range(0..200))).into()
        };
        if sent.qos == QoS::AtMostOnce {
            let connection = self.connection.as_ref().unwrap();
            process
                .order
                .push_back((id, ordered(connection, &sent, payload, 0, None)));
            return;
        }
        while {
            self.last_pkid = self.last_pkid % 2_000 + 1;
            self.flights.iter().any(|it| it.pkid == self.last_pkid)
        } {}
        let flight = Flight {
            pkid: self.last_pkid,
            id,
            payload,
            qos: sent.qos,
            released: false,
        };
        self.send(process, ledger, &flight);
        self.flights.push_back(flight);
    }

    /// A will: of QoS 2, acknowledged to nobody.
    pub(super) fn leave_a_will(
        &mut self,
        process: &mut Process,
        ledger: &mut Ledger,
        rng: &mut SmallRng,
    ) {
        let Some(connection) = self.connection.as_ref().filter(|it| it.saw_it) else {
            return;
        };
        let sent = Sent {
            publisher: "wills",
            topic: TOPICS.choose(rng).unwrap(),
            qos: QoS::ExactlyOnce,
            retain: false,
            empty: false,
            supersedes: false,
            expires: None,
        };
        let id = ledger.note(sent.clone());
        process.order.push_back((
            id,
            ordered(connection, &sent, id.to_string().into(), 0, None),
        ));
    }

    fn send(&self, process: &mut Process, ledger: &Ledger, flight: &Flight) {
        let connection = self.connection.as_ref().unwrap();
        if flight.released {
            connection.session.release(connection.wire(), flight.pkid);
            return;
        }
        let wire = Arc::clone(connection.wire());
        let slot = wire.expect(flight.qos, flight.pkid, flight.payload.len());
        let receipt = Arc::new(Receipt::new(wire, slot));
        let exactly_once = flight.qos == QoS::ExactlyOnce;
        if exactly_once && !connection.session.receive(flight.pkid, &receipt) {
            return;
        }
        let pkid = if exactly_once { flight.pkid } else { 0 };
        let sent = &ledger.sent[flight.id as usize];
        let ordered = ordered(
            connection,
            sent,
            flight.payload.clone(),
            pkid,
            Some(receipt),
        );
        process.order.push_back((flight.id, ordered));
    }

    /// Reads what has come. Returns whether anything had.
    pub(super) fn read(&mut self, process: &mut Process, ledger: &mut Ledger) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        if connection.wire().goodbye().is_some() {
            process.left.extend(self.connection.take());
            return true;
        }
        let Some(present) = connection.connack() else {
            return connection.saw_it && self.read_answers(ledger);
        };
        assert!(present || !self.kept, "{}: the session is lost", self.name);
        assert!(!(present && self.wants_clean));
        self.wants_clean = false;
        self.kept = self.durable;
        if !present {
            // What became of these, nobody can say.
            self.flights.retain(|flight| flight.qos == QoS::AtLeastOnce);
        }
        for flight in &self.flights {
            self.send(process, ledger, flight);
        }
        true
    }

    fn read_answers(&mut self, ledger: &mut Ledger) -> bool {
        let connection = self.connection.as_ref().unwrap();
        let mut out = BytesMut::new();
        connection.wire().write_due(&mut out);
        for (first, body) in packets::split(&out) {
            let pkid = packets::number(&body);
            let position = self.flights.iter().position(|it| it.pkid == pkid);
            let position = position.expect("an acknowledgement of something");
            let reason = packets::reason(&body);
            match first >> 4 {
                4 | 5 if reason == QUOTA_EXCEEDED => {
                    let flight = self.flights.remove(position).unwrap();
                    assert!(!flight.released, "refused what was taken");
                    ledger.refused(flight.id);
                }
                4 => {
                    let flight = self.flights.remove(position).unwrap();
                    assert!(flight.qos == QoS::AtLeastOnce && reason < 0x80);
                    ledger.acknowledged(flight.id);
                }
                5 => {
                    let flight = &mut self.flights[position];
                    assert!(flight.qos == QoS::ExactlyOnce && reason < 0x80);
                    ledger.acknowledged(flight.id);
                    flight.released = true;
                    connection.session.release(connection.wire(), pkid);
                }
                7 => drop(self.flights.remove(position)),
                _ => panic!("{first:x}"),
            }
        }
        !out.is_empty()
    }

    /// All that it sent is acknowledged.
    pub(super) fn check_done(&self) {
        assert!(self.flights.is_empty(), "{}: {:?}", self.name, self.flights);
    }
}
