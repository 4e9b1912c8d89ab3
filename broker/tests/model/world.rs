//! What MQTT promises, in memory: sessions, subscriptions, retained messages and what each client is owed.
//!
//! It says no more than the standards do: order within a topic and not across topics; a message once, for a broker that
//! does not crash; QoS 0 to somebody who is away may come or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) as_published: bool,
    pub(crate) id: Option<usize>,
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

#[derive(Debug, Clone)]
struct InFlight {
    pkid: u16,
    due: Due,
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
            self.sessions.remove(client);
        }
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
        let Some(session) = self.sessions.get_mut(client) else {
            return true;
        };
        session.connected = false;
        for due in &mut session.owed {
            due.optional |= due.qos == 0;
        }
        let ended = !session.durable;
        if ended {
            self.sessions.remove(client);
        }
        ended
    }

    /// Whether the session outlives its connection.
    pub(crate) fn keeps(&self, client: &str) -> bool {
        self.sessions
            .get(client)
            .is_some_and(|session| session.durable)
    }

    /// The session has ended.
    pub(crate) fn forget(&mut self, client: &str) {
        self.sessions.remove(client);
    }

    /// A client subscribes. `forward`: retain handling, 0 to 2.
    pub(crate) fn subscribe(&mut self, client: &str, filter: &str, asked: Asked, forward: u8) {
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
                    });
                }
            }
        }
    }

    /// A client unsubscribes. Returns whether it was subscribed.
    pub(crate) fn unsubscribe(&mut self, client: &str, filter: &str) -> bool {
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
            });
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
        let session = self.sessions.get_mut(client).ok_or("no session")?;
        if session.resend > 0 {
            let at = session.unacknowledged();
            if at >= session.window {
                return Err(format!("more than {} in flight", session.window));
            }
            let again = session.in_flight.get(at).ok_or("nothing to send again")?;
            session.resend -= 1;
            return match same(&again.due, got) && got.dup && got.pkid == again.pkid {
                true => Ok(()),
                false => Err(format!("{again:?} was to be sent again")),
            };
        }
        if got.dup {
            return Err("a duplicate of nothing".into());
        }
        let of_topic = |due: &Due| due.topic == got.topic;
        loop {
            let Some(at) = session.owed.iter().position(of_topic) else {
                return Err("nothing is owed on that topic".into());
            };
            let due = session.owed.remove(at).expect("an index just found");
            if same(&due, got) {
                if got.qos == 0 {
                    return Ok(());
                }
                if session.in_flight.len() >= session.window {
                    return Err(format!("more than {} in flight", session.window));
                }
                let taken = session.in_flight.iter().any(|other| other.pkid == got.pkid);
                if got.pkid == 0 || taken {
                    return Err("a packet identifier that is 0 or taken".into());
                }
                let pkid = got.pkid;
                session.in_flight.push_back(InFlight { pkid, due });
                return Ok(());
            }
            if !due.optional {
                return Err(format!("{due:?} was owed first"));
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

    /// The client acknowledges the oldest in flight; returns its packet identifier and QoS.
    pub(crate) fn acknowledge(&mut self, client: &str) -> Option<(u16, u8)> {
        let session = self.sessions.get_mut(client)?;
        if session.unacknowledged() == 0 {
            return None;
        }
        let oldest = session.in_flight.pop_front()?;
        Some((oldest.pkid, oldest.due.qos))
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
