//! A subscriber that keeps to the standards, late.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::{Packet, QoS, RetainForwardRule, SubAck};

use super::ledger::Ledger;
use super::{Connection, Process, packets, poll_once};
use crate::delivery::bench::subscription;
use crate::delivery::session::Filled;
use crate::protocol::topic_name::FilterName;

#[derive(Debug, Clone, Copy)]
enum Answer {
    Ack(u16),
    Rec(u16),
    Comp(u16),
}

/// A subscriber.
pub(super) struct Reader {
    pub(super) name: &'static str,
    pub(super) durable: bool,
    /// Filters that it subscribes to, now and then.
    pub(super) choice: &'static [&'static str],
    qos: QoS,
    connection: Option<Connection>,
    wants_clean: bool,
    kept: bool,
    /// Subscriptions whose SUBACK has come.
    granted: BTreeSet<&'static str>,
    /// Those that were asked for on this connection, by packet identifier.
    asked: BTreeMap<u16, &'static str>,
    last_pkid: u16,
    /// Packet identifiers of QoS 2 messages that it has, until their release.
    unreleased: HashSet<u16>,
    answers: VecDeque<Answer>,
    loading: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// What it got, less what was retained before.
    pub(super) got: Vec<(u32, QoS)>,
    /// The last bundle that it got.
    pub(super) bundle: Option<u32>,
}

impl Reader {
    pub(super) fn new(
        name: &'static str,
        qos: QoS,
        durable: bool,
        choice: &'static [&'static str],
    ) -> Reader {
        Reader {
            name,
            durable,
            choice,
            qos,
            connection: None,
            wants_clean: false,
            kept: false,
            granted: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_pkid: 0,
            unreleased: HashSet::new(),
            answers: VecDeque::new(),
            loading: None,
            got: Vec::new(),
            bundle: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(super) fn granted(&self) -> impl Iterator<Item = &'static str> {
        self.granted.iter().copied()
    }

    /// Whether it is ever in a group.
    pub(super) fn shares(&self) -> bool {
        self.choice
            .iter()
            .any(|filter| filter.starts_with("$share"))
    }

    /// The connection is gone, however that came.
    pub(super) fn cut_off(&mut self, ledger: &mut Ledger) {
        self.connection = None;
        self.loading = None;
        self.answers.clear();
        self.asked.clear();
        if !self.durable {
            self.granted.clear();
            ledger.ended(self.name);
        }
    }

    pub(super) fn connect(
        &mut self,
        process: &Process,
        ledger: &mut Ledger,
        clean_start: bool,
        window: Option<u16>,
    ) {
        self.cut_off(ledger);
        self.wants_clean |= clean_start;
        if self.wants_clean {
            self.session_ends(ledger);
        }
        self.connection = Some(process.connect(self.name, self.wants_clean, self.durable, window));
    }

    fn session_ends(&mut self, ledger: &mut Ledger) {
        self.kept = false;
        self.granted.clear();
        ledger.ended(self.name);
    }

    pub(super) fn hang_up(&mut self, process: &mut Process, ledger: &mut Ledger) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // What is sent now is lost.
        let mut out = BytesMut::new();
        let _ = connection
            .session
            .fill(connection.wire(), &mut out, 1_000, process.now);
        process.left.push(connection);
        self.cut_off(ledger);
    }

    /// Ends its session, as a DISCONNECT with an expiry of 0 does.
    pub(super) fn end(&mut self, process: &mut Process, ledger: &mut Ledger) {
        if let Some(connection) = self.connection.take() {
            process.leave(&connection, Some(Duration::ZERO));
            // A crash may bring it back, and then it begins anew.
            self.wants_clean = true;
            self.session_ends(ledger);
            self.cut_off(ledger);
        }
    }

    pub(super) fn subscribe(&mut self, process: &Process, filter: &'static str) {
        let Some(connection) = self.connection.as_ref().filter(|it| it.saw_it) else {
            return;
        };
        self.last_pkid = self.last_pkid % 60_000 + 1;
        let pkid = self.last_pkid;
        self.asked.insert(pkid, filter);
        let wire = Arc::clone(connection.wire());
        wire.hold_deliveries();
        let rule = RetainForwardRule::OnEverySubscribe;
        let name = FilterName::parse(filter).unwrap();
        let subscribed = process.board.subscribe(
            &connection.session,
            &name,
            subscription(self.qos),
            &rule,
            process.now,
        );
        let answer = Packet::SubAck(
            SubAck {
                pkid,
                return_codes: Vec::new(),
            },
            None,
        );
        if subscribed.is_err() {
            self.asked.remove(&pkid);
        }
        match self.durable {
            true => process
                .board
                .journal()
                .after(move || wire.answer_and_release(answer)),
            false => wire.answer_and_release(answer),
        }
    }

    pub(super) fn unsubscribe(&mut self, process: &Process, filter: &'static str) {
        let Some(connection) = self.connection.as_ref().filter(|it| it.saw_it) else {
            return;
        };
        self.granted.remove(filter);
        self.asked.retain(|_, asked| *asked != filter);
        let name = FilterName::parse(filter).unwrap();
        process.board.unsubscribe(&connection.session, &name);
    }

    /// Reads what has come. `wait`: also for what has to be loaded. Returns whether anything had come.
    pub(super) async fn read(
        &mut self,
        process: &mut Process,
        ledger: &mut Ledger,
        wait: bool,
    ) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        if connection.wire().goodbye().is_some() {
            self.hang_up(process, ledger);
            return true;
        }
        if let Some(present) = connection.connack() {
            assert!(present || !self.kept, "{}: the session is lost", self.name);
            assert!(!(present && self.wants_clean));
            self.wants_clean = false;
            self.kept = self.durable;
            if !present {
                self.unreleased.clear();
            }
            return true;
        }
        if !connection.saw_it {
            return false;
        }
        if let Some(loading) = &mut self.loading {
            match wait {
                true => {
                    if !process.commit_all() {
                        return false;
                    }
                    loading.as_mut().await;
                }
                false if poll_once(loading.as_mut()).is_none() => return false,
                false => {}
            }
            self.loading = None;
        }
        let mut out = BytesMut::new();
        let wire = Arc::clone(connection.wire());
        wire.write_due(&mut out);
        let filled = connection
            .session
            .fill(&wire, &mut out, 1 << 20, process.now);
        let loads = matches!(filled, Filled::Load(_));
        if let Filled::Load(mailbox) = filled {
            self.loading = Some(Box::pin(async move { mailbox.load().await }));
        }
        for packet in packets::split(&out) {
            self.take(&packet, ledger);
        }
        loads || !out.is_empty()
    }

    fn take(&mut self, packet: &packets::Packet, ledger: &Ledger) {
        let (first, body) = packet;
        match first >> 4 {
            3 => self.take_message(&packets::delivery(packet), ledger),
            6 => {
                let pkid = packets::number(body);
                self.unreleased.remove(&pkid);
                self.answers.push_back(Answer::Comp(pkid));
            }
            9 => {
                if let Some(filter) = self.asked.remove(&packets::number(body)) {
                    self.granted.insert(filter);
                }
            }
            _ => panic!("{first:x}"),
        }
    }

    fn take_message(&mut self, got: &packets::Delivery, ledger: &Ledger) {
        let fresh = match got.qos {
            QoS::AtMostOnce => {
                assert!(!got.dup);
                true
            }
            QoS::AtLeastOnce => {
                self.answers.push_back(Answer::Ack(got.pkid));
                true
            }
            QoS::ExactlyOnce => {
                self.answers.push_back(Answer::Rec(got.pkid));
                self.unreleased.insert(got.pkid)
            }
        };
        let Some(id) = got.id.filter(|_| fresh) else {
            return;
        };
        let sent = &ledger.sent[id as usize];
        assert_eq!(
            sent.topic, got.topic,
            "{} got the mail of others",
            self.name
        );
        if sent.supersedes {
            self.bundle = Some(id);
        } else if !got.retain {
            self.got.push((id, got.qos));
        }
    }

    /// Sends some of the answers that are due. Returns whether there were any.
    pub(super) fn answer(&mut self, some: usize) -> bool {
        let Some(connection) = self.connection.as_ref().filter(|it| it.saw_it) else {
            return false;
        };
        let (session, wire) = (&connection.session, connection.wire());
        let some = some.min(self.answers.len());
        for answer in self.answers.drain(..some) {
            match answer {
                Answer::Ack(pkid) => session.acknowledge(wire, pkid),
                Answer::Rec(pkid) => session.received(wire, pkid),
                Answer::Comp(pkid) => session.complete(wire, pkid),
            }
        }
        some > 0
    }
}
