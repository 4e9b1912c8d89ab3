//! The ledger: what was sent, what was acknowledged, and who must get it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rumqttd::protocol::QoS;
use sealpost_core::Timestamp;

use super::reader::Reader;
use crate::protocol::message::Message;
use crate::protocol::topic_name::{FilterName, TopicName};

/// A message as its publisher sent it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) publisher: &'static str,
    pub(super) topic: &'static str,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) empty: bool,
    pub(super) supersedes: bool,
    pub(super) expires: Option<Timestamp>,
}

/// Who must get a message: a session, or whoever of a group.
type Owed = (&'static str, bool);

/// What was published on a topic as retained, in the one order.
#[derive(Debug)]
struct Retention {
    id: u32,
    empty: bool,
    expires: Option<Timestamp>,
    acknowledged: bool,
}

/// The ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) sent: Vec<Sent>,
    acknowledged: BTreeSet<u32>,
    /// Messages that were refused, and never posted but that once: nobody may get these.
    refused: BTreeSet<u32>,
    owed: HashMap<u32, BTreeSet<Owed>>,
    /// The place in the one order of the last time that a message was posted.
    places: HashMap<u32, usize>,
    posts: usize,
    /// Messages that were posted more than once, and so have no place of their own in the order.
    again: BTreeSet<u32>,
    retained: BTreeMap<&'static str, Vec<Retention>>,
    /// The last bundle that its owner published, which the registry keeps.
    bundle: Option<u32>,
    /// By reader: the place of the last bundle that it must get.
    bundles: HashMap<&'static str, usize>,
}

pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let filter = FilterName::parse(filter).unwrap();
    let inner = match filter.shared() {
        Ok(Some((_, inner))) => inner,
        _ => filter,
    };
    inner.matches(&TopicName::parse(topic.as_bytes()).unwrap())
}

impl Ledger {
    /// A message is about to be sent; returns its number.
    pub(super) fn note(&mut self, sent: Sent) -> u32 {
        let id = u32::try_from(self.sent.len()).unwrap();
        if sent.supersedes {
            self.bundle = Some(id);
        }
        self.sent.push(sent);
        id
    }

    /// The bundle that a restart brings back.
    pub(super) fn bundle(&self) -> Option<Arc<Message>> {
        let id = self.bundle?;
        Some(Arc::new(Message {
            // Each process has its own for it.
            number: 0,
            topic: TopicName::parse(b"keys/x").unwrap(),
            payload: id.to_string().into(),
            properties: None,
            expires: None,
            sender: None,
            supersedes: true,
        }))
    }

    /// A message comes out of the one order.
    pub(super) fn posted(&mut self, id: u32, readers: &[Reader]) {
        let sent = &self.sent[id as usize];
        self.posts += 1;
        if self.places.insert(id, self.posts).is_some() {
            self.again.insert(id);
        }
        if sent.retain && !sent.supersedes {
            self.retained
                .entry(sent.topic)
                .or_default()
                .push(Retention {
                    id,
                    empty: sent.empty,
                    expires: sent.expires,
                    acknowledged: false,
                });
        }
        let mut owed = BTreeSet::new();
        if sent.qos != QoS::AtMostOnce {
            for reader in readers.iter().filter(|reader| reader.durable) {
                for filter in reader.granted() {
                    if !matches(filter, sent.topic) {
                        continue;
                    }
                    match filter.starts_with("$share") {
                        true => owed.insert((filter, true)),
                        false => owed.insert((reader.name, false)),
                    };
                }
            }
        }
        self.owed.insert(id, owed);
    }

    /// A publisher has its acknowledgement.
    pub(super) fn acknowledged(&mut self, id: u32) {
        self.acknowledged.insert(id);
        let sent = &self.sent[id as usize];
        if let Some(retained) = self.retained.get_mut(sent.topic) {
            let last = retained.iter_mut().rev().find(|it| it.id == id);
            if let Some(last) = last {
                last.acknowledged = true;
            }
        }
        if sent.supersedes {
            let place = self.places[&id];
            for (name, _) in self.owed[&id].iter().filter(|(_, group)| !group) {
                let bundle = self.bundles.entry(name).or_default();
                *bundle = place.max(*bundle);
            }
        }
    }

    /// A publisher has been told that there is no room.
    pub(super) fn refused(&mut self, id: u32) {
        // One that was posted before a crash, too, may have been taken then.
        if !self.again.contains(&id) {
            self.refused.insert(id);
        }
        let sent = &self.sent[id as usize];
        assert!(!sent.supersedes, "a bundle is never refused");
        if let Some(retained) = self.retained.get_mut(sent.topic)
            && let Some(last) = retained.iter().rposition(|it| it.id == id)
        {
            retained.remove(last);
        }
    }

    /// How many messages were refused.
    pub(super) fn refusals(&self) -> usize {
        self.refused.len()
    }

    /// A reader has asked for its session's end: from now on nothing is certain of what it was owed.
    pub(super) fn ended(&mut self, name: &'static str) {
        for owed in self.owed.values_mut() {
            owed.remove(&(name, false));
        }
        self.bundles.remove(name);
    }

    /// A group without a durable member is as mortal as those that it has.
    pub(super) fn groups_may_have_ended(&mut self, readers: &[Reader]) {
        for filter in ["$share/g/a/#", "$share/h/#"] {
            let durable = readers.iter().filter(|reader| reader.durable);
            if !durable
                .clone()
                .any(|it| it.granted().any(|other| other == filter))
            {
                for owed in self.owed.values_mut() {
                    owed.remove(&(filter, true));
                }
            }
        }
    }

    /// What is retained must be what was acknowledged last, or what came after it.
    pub(super) fn check_retained(&self, found: &BTreeMap<String, Option<u32>>, now: Timestamp) {
        for (topic, history) in &self.retained {
            let last = history.iter().rposition(|it| it.acknowledged);
            let id = found.get(*topic).copied().flatten();
            let fits = |it: &Retention| {
                let gone = it.empty || it.expires.is_some_and(|expires| expires <= now);
                id == Some(it.id) || (id.is_none() && gone)
            };
            let from = last.unwrap_or(0);
            let fine = (last.is_none() && id.is_none())
                || history
                    .get(from..)
                    .is_some_and(|later| later.iter().any(fits));
            assert!(
                fine,
                "retained on {topic}: found {id:?}, and of {:?} the one at {last:?} was acknowledged",
                history
                    .iter()
                    .map(|it| (it.id, it.empty))
                    .collect::<Vec<_>>()
            );
        }
    }

    /// Everybody has all that was acknowledged.
    pub(super) fn check(&self, readers: &[Reader]) {
        let got_of = |reader: &Reader| reader.got.iter().map(|got| got.0).collect::<BTreeSet<_>>();
        let got = readers
            .iter()
            .map(|reader| (reader.name, got_of(reader)))
            .collect::<HashMap<_, _>>();
        for id in &self.acknowledged {
            let sent = &self.sent[*id as usize];
            if sent.empty || sent.expires.is_some() || sent.supersedes {
                continue;
            }
            for (who, group) in &self.owed[id] {
                let has = match group {
                    true => got.values().any(|got| got.contains(id)),
                    false => got[who].contains(id),
                };
                assert!(has, "{who} never got {id}, acknowledged: {sent:?}");
            }
        }
        for reader in readers {
            for (id, _) in &reader.got {
                assert!(
                    !self.refused.contains(id),
                    "{} got {id}, which was refused",
                    reader.name
                );
            }
            self.check_order(reader);
            let due = self.bundles.get(reader.name);
            if let Some(due) = due.filter(|_| reader.durable) {
                let place = reader
                    .bundle
                    .map(|id| self.places.get(&id).copied().unwrap_or(usize::MAX));
                assert!(
                    place.is_some_and(|place| place >= *due),
                    "{} has an older bundle ({:?}) than the one acknowledged",
                    reader.name,
                    reader.bundle
                );
            }
        }
    }

    fn check_order(&self, reader: &Reader) {
        let mut last = HashMap::new();
        let mut seen = BTreeSet::new();
        let mut once = BTreeSet::new();
        for (id, qos) in &reader.got {
            if *qos == QoS::ExactlyOnce {
                assert!(once.insert(id), "{} got {id} twice at QoS 2", reader.name);
            }
            let sent = &self.sent[*id as usize];
            // Members of a group get what others leave.
            if seen.insert(id) && !reader.shares() && !self.again.contains(id) {
                let last = last.entry((sent.publisher, sent.topic)).or_insert(*id);
                assert!(*last <= *id, "{} got {id} after {last}", reader.name);
                *last = *id;
            }
        }
    }
}
