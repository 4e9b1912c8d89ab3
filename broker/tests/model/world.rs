//! What MQTT promises, in memory: sessions, subscriptions, retained messages and what each client is owed.
//!
//! It says no more than the standards do: order within a topic and not across topics; a message once, for a broker that
//! does not crash; QoS 0 to somebody who is away may come or not; a group's message to any one of its members.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) as_published: bool,
    pub(crate) id: Option<usize>,
}

impl Asked {
    /// A group's message, as the member that asks for this gets it.
    fn of_group(&self, due: &Due) -> Due {
        Due {
            qos: due.qos.min(self.qos),
            retain: due.retain && self.as_published,
            ids: self.id.into_iter().collect(),
            ..due.clone()
        }
    }
}

/// A message that a session is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) ids: BTreeSet<usize>,
    /// Whether it may fail to come: QoS 0 that met nobody.
    pub(crate) optional: bool,
    /// Whether it may have been sent to a connection that ended before it was read.
    pub(crate) again: bool,
}

/// A PUBLISH as a client got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// MQTT 3.1.1 has none.
    pub(crate) ids: Option<BTreeSet<usize>>,
    pub(crate) dup: bool,
    pub(crate) pkid: u16,
}

/// How far the delivery of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The client got PUBLISH.
    Sent,
    /// The client answered PUBREC.
    Received,
    /// The client got PUBREL.
    Released,
}

#[derive(Debug, Clone)]
struct InFlight {
    pkid: u16,
    due: Due,
    stage: Stage,
    /// The shared filter by which it came, and the message as the group has it.
    group: Option<(String, Due)>,
}

/// What a client answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// PUBACK.
    Acknowledged(u16),
    /// PUBREC.
    Received(u16),
    /// PUBCOMP.
    Complete(u16),
}

/// Those who share a subscription, and what none of them has.
#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<String, Asked>,
    owed: Vec<Due>,
}

/// One client's session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) durable: bool,
    connected: bool,
    window: usize,
    asked: BTreeMap<String, Asked>,
    owed: VecDeque<Due>,
    in_flight: VecDeque<InFlight>,
    /// How many of those in flight are to be sent again.
    resend: usize,
}

impl Session {
    /// What this connection was sent and has not acknowledged.
    fn unacknowledged(&self) -> usize {
        self.in_flight.len() - self.resend
    }
}

/// A publish.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct World {
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Publish>,
    /// By the whole filter, `$share/…`.
    groups: BTreeMap<String, Group>,
}

/// Where a group's packet identifiers begin, which the broker counts down; a session's own it counts up. A message that
/// comes both ways looks the same otherwise.
const SHARED_PKIDS: u16 = 0x8000;

/// The filter that a group shares.
fn shared(filter: &str) -> Option<&str> {
    let (_, inner) = filter.strip_prefix("$share/")?.split_once('/')?;
    Some(inner)
}

impl World {
    /// A client connects. Returns whether its session must be there.
    pub(crate) fn connect(
        &mut self,
        client: &str,
        clean: bool,
        durable: bool,
        window: usize,
    ) -> bool {
        let kept = self
            .sessions
            .get(client)
            .is_some_and(|session| session.durable);
        if clean || !kept {
            self.forget(client);
        }
        self.give_back(client, None);
        let present = self.sessions.contains_key(client);
        let session = self
            .sessions
            .entry(client.into())
            .or_insert_with(|| Session {
                durable,
                connected: true,
                window,
                asked: BTreeMap::new(),
                owed: VecDeque::new(),
                in_flight: VecDeque::new(),
                resend: 0,
            });
        (session.durable, session.connected) = (durable, true);
        session.window = window;
        session.resend = session.in_flight.len();
        present
    }

    /// A connection has ended. Returns whether the session ended with it.
    pub(crate) fn leave(&mut self, client: &str) -> bool {
        self.give_back(client, None);
        let Some(session) = self.sessions.get_mut(client) else {
            return true;
        };
        session.connected = false;
        for due in &mut session.owed {
            due.optional |= due.qos == 0;
        }
        let ended = !session.durable;
        if ended {
            self.forget(client);
        }
        ended
    }

    /// A session changes hands just now: QoS 0 may come or not, a will of the session's own too, which is published because the
    /// connection before was taken over. MQTT promises no more: at QoS 0 a message comes once or not at all (5.0, section
    /// 4.3.1), what waits at QoS 0 need not be part of the session (section 4.1), and between the two connections nobody
    /// is there to be sent it. The broker drops and counts it.
    pub(crate) fn excuse(&mut self, client: &str) {
        if let Some(session) = self.sessions.get_mut(client) {
            for due in &mut session.owed {
                due.optional |= due.qos == 0;
            }
        }
    }

    /// A connection ends before its client has read all: what is owed may have been sent.
    pub(crate) fn unread(&mut self, client: &str) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.owed.iter_mut().for_each(|due| due.again = true);
        }
        for group in self.groups.values_mut() {
            if let Some(asked) = group.members.get(client) {
                for due in &mut group.owed {
                    due.again = true;
                    due.optional |= due.qos.min(asked.qos) == 0;
                }
            }
        }
    }

    /// What a client has not acknowledged of its groups' messages, or of one group's, is for the others.
    fn give_back(&mut self, client: &str, of: Option<&str>) {
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        let mut kept = VecDeque::new();
        for in_flight in std::mem::take(&mut session.in_flight) {
            match in_flight.group {
                Some((filter, due)) if of.is_none_or(|of| of == filter) => {
                    if let Some(group) = self.groups.get_mut(&filter) {
                        group.owed.push(Due { again: true, ..due });
                    }
                }
                _ => kept.push_back(in_flight),
            }
        }
        session.in_flight = kept;
        for group in self.groups.values_mut() {
            if group.members.contains_key(client) {
                for due in &mut group.owed {
                    due.optional |= due.qos == 0;
                }
            }
        }
    }

    fn leave_group(&mut self, client: &str, filter: &str) -> bool {
        self.give_back(client, Some(filter));
        let Some(group) = self.groups.get_mut(filter) else {
            return false;
        };
        let known = group.members.remove(client).is_some();
        if group.members.is_empty() {
            self.groups.remove(filter);
        }
        known
    }

    /// Whether the session outlives its connection.
    pub(crate) fn keeps(&self, client: &str) -> bool {
        self.sessions
            .get(client)
            .is_some_and(|session| session.durable)
    }

    /// The session has ended.
    pub(crate) fn forget(&mut self, client: &str) {
        for filter in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.leave_group(client, &filter);
        }
        self.sessions.remove(client);
    }

    /// A client subscribes. `forward`: retain handling, 0 to 2.
    pub(crate) fn subscribe(&mut self, client: &str, filter: &str, asked: Asked, forward: u8) {
        if shared(filter).is_some() {
            // It brings nothing of what is retained.
            let group = self.groups.entry(filter.into()).or_default();
            group.members.insert(client.into(), asked);
            return;
        }
        let session = self.sessions.get_mut(client).expect("a session");
        let known = session.asked.insert(filter.into(), asked.clone()).is_some();
        if forward == 0 || (forward == 1 && !known) {
            for kept in self.retained.values() {
                if matches(filter, &kept.topic) {
                    session.owed.push_back(Due {
                        topic: kept.topic.clone(),
                        payload: kept.payload.clone(),
                        qos: kept.qos.min(asked.qos),
                        retain: true,
                        ids: asked.id.into_iter().collect(),
                        optional: false,
                        again: false,
                    });
                }
            }
        }
    }

    /// A client unsubscribes. Returns whether it was subscribed.
    pub(crate) fn unsubscribe(&mut self, client: &str, filter: &str) -> bool {
        if shared(filter).is_some() {
            return self.leave_group(client, filter);
        }
        let session = self.sessions.get_mut(client).expect("a session");
        session.asked.remove(filter).is_some()
    }

    /// Somebody publishes. `origin` is the session it comes from, if that lives.
    pub(crate) fn publish(&mut self, origin: Option<&str>, publish: &Publish) {
        for (client, session) in &mut self.sessions {
            let local = origin == Some(client.as_str());
            let found = session.asked.iter().filter(|(filter, asked)| {
                matches(filter, &publish.topic) && !(local && asked.no_local)
            });
            let found = found.map(|(_, asked)| asked).collect::<Vec<_>>();
            let Some(best) = found.iter().map(|asked| asked.qos).max() else {
                continue;
            };
            let qos = publish.qos.min(best);
            session.owed.push_back(Due {
                topic: publish.topic.clone(),
                payload: publish.payload.clone(),
                qos,
                retain: publish.retain && found.iter().any(|asked| asked.as_published),
                ids: found.iter().filter_map(|asked| asked.id).collect(),
                optional: qos == 0 && !session.connected,
                again: false,
            });
        }
        for (filter, group) in &mut self.groups {
            let sessions = &self.sessions;
            let connected = |member| {
                let session: Option<&Session> = sessions.get(member);
                session.is_some_and(|session| session.connected)
            };
            if shared(filter).is_some_and(|inner| matches(inner, &publish.topic)) {
                group.owed.push(Due {
                    topic: publish.topic.clone(),
                    payload: publish.payload.clone(),
                    qos: publish.qos.min(1),
                    retain: publish.retain,
                    ids: BTreeSet::new(),
                    optional: publish.qos == 0 && !group.members.keys().any(connected),
                    again: false,
                });
            }
        }
        if publish.retain {
            self.retained.remove(&publish.topic);
            if !publish.payload.is_empty() {
                self.retained.insert(publish.topic.clone(), publish.clone());
            }
        }
    }

    /// A client got a PUBLISH.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(crate) fn accept(&mut self, client: &str, got: &Got) -> Result<(), String> {
        if got.pkid >= SHARED_PKIDS {
            return self.accept_shared(client, got);
        }
        match self.accept_own(client, got) {
            Ok(optional) => {
                if optional {
                    self.may_be_shared(client, got);
                }
                Ok(())
            }
            Err(_) if got.qos == 0 && self.accept_shared(client, got).is_ok() => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// What needed not come by the client's own subscription may have come by a group's.
    fn may_be_shared(&mut self, client: &str, got: &Got) {
        for group in self.groups.values_mut() {
            if let Some(asked) = group.members.get(client) {
                for due in &mut group.owed {
                    due.optional |= same(&asked.of_group(due), got);
                }
            }
        }
    }

    fn accept_shared(&mut self, client: &str, got: &Got) -> Result<(), String> {
        let session = self.sessions.get_mut(client).ok_or("no session")?;
        if session.unacknowledged() >= session.window && got.qos > 0 {
            return Err(format!("more than {} in flight", session.window));
        }
        if session.in_flight.iter().any(|other| other.pkid == got.pkid) && got.qos > 0 {
            return Err("a packet identifier that is taken".into());
        }
        for (filter, group) in &mut self.groups {
            let Some(asked) = group.members.get(client) else {
                continue;
            };
            let fits = |due: &Due| same(&asked.of_group(due), got) && (due.again || !got.dup);
            // Of those that look the same, the one that has to come.
            let found = group.owed.iter().position(|due| fits(due) && !due.optional);
            let Some(at) = found.or_else(|| group.owed.iter().position(fits)) else {
                continue;
            };
            let original = group.owed.remove(at);
            if got.qos > 0 {
                let in_flight = InFlight {
                    pkid: got.pkid,
                    due: asked.of_group(&original),
                    stage: Stage::Sent,
                    group: Some((filter.clone(), original)),
                };
                // Before what is still to be sent again.
                let at = session.unacknowledged();
                session.in_flight.insert(at, in_flight);
            }
            return Ok(());
        }
        Err("no group of its owes that".into())
    }

    /// A client got a PUBREL.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(crate) fn accept_release(&mut self, client: &str, pkid: u16) -> Result<(), String> {
        let session = self.sessions.get_mut(client).ok_or("no session")?;
        let sent = session.unacknowledged();
        let again = session.in_flight.get_mut(sent);
        if let Some(again) = again.filter(|again| again.pkid == pkid) {
            if again.stage == Stage::Sent {
                return Err("a PUBREL before PUBREC".into());
            }
            if sent >= session.window {
                return Err(format!("more than {} in flight", session.window));
            }
            again.stage = Stage::Released;
            session.resend -= 1;
            return Ok(());
        }
        let mut waiting = session.in_flight.iter_mut().take(sent);
        let first = waiting.find(|in_flight| in_flight.stage == Stage::Received);
        match first {
            Some(first) if first.pkid == pkid => first.stage = Stage::Released,
            first => return Err(format!("{first:?} was to be released first")),
        }
        Ok(())
    }

    /// Whether this connection's client has sent a PUBREC and not yet got its PUBREL.
    pub(crate) fn awaits_release(&self, client: &str) -> bool {
        self.sessions.get(client).is_some_and(|session| {
            let mut sent = session.in_flight.iter().take(session.unacknowledged());
            sent.any(|in_flight| in_flight.stage == Stage::Received)
        })
    }

    /// A group's message that a connected member should have got.
    pub(crate) fn stuck(&self) -> Option<String> {
        self.groups.iter().find_map(|(filter, group)| {
            let due = group.owed.iter().find(|due| !due.optional)?;
            let takes = |member| {
                let session: Option<&Session> = self.sessions.get(member);
                session.is_some_and(|it| it.connected && it.unacknowledged() < it.window)
            };
            let member = group.members.keys().find(|member| takes(*member))?;
            Some(format!("{filter} owes {due:?}, and {member} takes it"))
        })
    }

    /// Whether what came needed not come.
    fn accept_own(&mut self, client: &str, got: &Got) -> Result<bool, String> {
        let session = self.sessions.get_mut(client).ok_or("no session")?;
        if session.resend > 0 {
            let at = session.unacknowledged();
            if at >= session.window {
                return Err(format!("more than {} in flight", session.window));
            }
            let again = session.in_flight.get(at).ok_or("nothing to send again")?;
            session.resend -= 1;
            let is_same = same(&again.due, got) && got.dup && got.pkid == again.pkid;
            return match is_same && again.stage == Stage::Sent {
                true => Ok(false),
                false => Err(format!("{again:?} was to be sent again")),
            };
        }
        let of_topic = |due: &Due| due.topic == got.topic;
        loop {
            let Some(at) = session.owed.iter().position(of_topic) else {
                return Err("nothing is owed on that topic".into());
            };
            let due = session.owed.get(at).expect("an index just found");
            if !same(due, got) && !due.optional {
                return Err(format!("{due:?} was owed first"));
            }
            let due = session.owed.remove(at).expect("an index just found");
            if same(&due, got) {
                if got.dup && !due.again {
                    return Err("a duplicate of nothing".into());
                }
                if got.qos == 0 {
                    return Ok(due.optional);
                }
                if session.in_flight.len() >= session.window {
                    return Err(format!("more than {} in flight", session.window));
                }
                let taken = session.in_flight.iter().any(|other| other.pkid == got.pkid);
                if got.pkid == 0 || taken {
                    return Err("a packet identifier that is 0 or taken".into());
                }
                let pkid = got.pkid;
                session.in_flight.push_back(InFlight {
                    pkid,
                    due,
                    stage: Stage::Sent,
                    group: None,
                });
                return Ok(false);
            }
        }
    }

    /// The client has read all that came.
    ///
    /// # Errors
    /// What should have come.
    pub(crate) fn settled(&mut self, client: &str) -> Result<(), String> {
        let session = self.sessions.get_mut(client).ok_or("no session")?;
        if session.unacknowledged() < session.window {
            if session.resend > 0 {
                return Err(format!("{} not sent again", session.resend));
            }
            if let Some(due) = session.owed.iter().find(|due| !due.optional) {
                return Err(format!("{due:?} did not come"));
            }
            session.owed.clear();
        }
        Ok(())
    }

    /// The client answers the oldest delivery that waits for it: a PUBREL if `complete` and there is one, else a PUBLISH.
    pub(crate) fn answer(&mut self, client: &str, complete: bool) -> Option<Answer> {
        let session = self.sessions.get_mut(client)?;
        let sent = session.unacknowledged();
        let at = |stage| {
            let mut sent = session.in_flight.iter().take(sent);
            sent.position(|in_flight| in_flight.stage == stage)
        };
        let (publish, release) = (at(Stage::Sent), at(Stage::Released));
        let at = if complete {
            release.or(publish)
        } else {
            publish.or(release)
        }?;
        let in_flight = session.in_flight.get_mut(at)?;
        let pkid = in_flight.pkid;
        if in_flight.stage == Stage::Sent && in_flight.due.qos == 2 {
            in_flight.stage = Stage::Received;
            return Some(Answer::Received(pkid));
        }
        let done = session.in_flight.remove(at)?;
        Some(match done.stage {
            Stage::Released => Answer::Complete(pkid),
            _ => Answer::Acknowledged(pkid),
        })
    }

    /// The PUBREC that the client answered has said that it does not want the message.
    pub(crate) fn refuse(&mut self, client: &str, pkid: u16) {
        let session = self.sessions.get_mut(client).expect("a session");
        session.in_flight.retain(|other| other.pkid != pkid);
    }
}

fn same(due: &Due, got: &Got) -> bool {
    (&due.topic, &due.payload, due.qos, due.retain)
        == (&got.topic, &got.payload, got.qos, got.retain)
        && got.ids.as_ref().is_none_or(|ids| *ids == due.ids)
}

/// Section 4.7, word for word and not as the broker does it.
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let (filter, topic) = (
        filter.split('/').collect::<Vec<_>>(),
        topic.split('/').collect::<Vec<_>>(),
    );
    fn walk(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => walk(filter, topic),
            ([one, filter @ ..], [other, topic @ ..]) => one == other && walk(filter, topic),
            _ => false,
        }
    }
    walk(&filter, &topic)
}
