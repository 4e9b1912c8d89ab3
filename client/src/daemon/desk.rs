//! What clients ask for, and who is given what. No sockets here.
//!
//! Events go to all subscribers. Messages go to one of them, the one that subscribed first: two would each take what the
//! other is to deal with. When it goes, the next is given what it has not acknowledged.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use sealpost_core::{Content, Timestamp, UserId};
use serde_json::Value;
use tokio::task::JoinSet;

use super::protocol::{self, Acknowledge, Call, Dealing, Outcome, Refusal};
use super::{ClientId, Coming, Line, Lines, MessageName};
use crate::clock;
use crate::contact::{self, listed};
use crate::conversation;
use crate::event::{Event, Time};
use crate::exit::{Code, Failure};
use crate::files::{self, FileError, Source, SourceError};
use crate::incoming;
use crate::outgoing::{enqueue, enqueue_once, enqueued_before, permit};
use crate::store::{Store, StoreError};
use crate::trust_policy::TrustPolicy;

/// How many messages are handed out and not acknowledged: 2 MB of text at most wait for a client, 13 MB where every byte
/// has to be escaped.
const MAX_HANDED_OUT: usize = 32;
/// How many messages of the outbox are listed at once, the oldest.
const MAX_LISTED: u32 = 1_000;
/// How many files are read at once.
const MAX_READING: usize = 4;

/// How we are connected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// Whether it is up.
    pub connected: bool,
    /// The broker, or the last one that was tried.
    pub broker: String,
    /// Our keys are withdrawn: nothing can be sent.
    pub retired: bool,
}

/// Who we are, which does not change while a daemon runs.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Our name.
    pub user: UserId,
    /// Our deployment.
    pub realm: String,
    /// To whom may be sent.
    pub trust: TrustPolicy,
    /// Whether senders learn that their messages were shown.
    pub read_receipts: bool,
}

#[derive(Debug)]
struct Client {
    lines: Lines,
    subscribed: Option<Subscription>,
}

#[derive(Debug, Clone, Copy)]
struct Subscription {
    acknowledge: Acknowledge,
    /// The first has the lowest.
    turn: u64,
}

/// Answers clients.
#[derive(Debug)]
pub struct Desk {
    store: Store,
    manners: Manners,
    connection: Connection,
    /// When that began.
    since: Timestamp,
    /// Why there is no connection, when it was told.
    reason: Option<String>,
    clients: BTreeMap<ClientId, Client>,
    turns: u64,
    /// Who is given messages.
    reader: Option<ClientId>,
    /// What they were given and have not acknowledged.
    handed_out: HashSet<MessageName>,
    /// Those of them that were written to their socket, and could not be marked shown yet: the disk is full. They stay
    /// handed out, and are so bounded.
    unmarked: Vec<MessageName>,
    /// The number of the last message that they were given.
    after: i64,
    /// Whether something was written into the outbox.
    wrote: bool,
    /// Files that are read, to be offered.
    reading: JoinSet<Read>,
}

/// A file that was read for a client.
#[derive(Debug)]
struct Read {
    client: ClientId,
    /// Of their request.
    id: Option<Value>,
    to: UserId,
    source: Result<Source, SourceError>,
}

fn that_is_you() -> Refusal {
    Failure::new(Code::Usage, "that is you", "Name somebody else.").into()
}

impl Desk {
    /// With its own connection to the store.
    #[must_use]
    pub fn new(store: Store, manners: Manners) -> Desk {
        Desk {
            store,
            manners,
            connection: Connection::default(),
            since: clock::now(),
            reason: None,
            clients: BTreeMap::new(),
            turns: 0,
            reader: None,
            handed_out: HashSet::new(),
            unmarked: Vec::new(),
            after: 0,
            wrote: false,
            reading: JoinSet::new(),
        }
    }

    /// How we are connected now.
    pub fn set_connection(&mut self, connection: Connection) {
        if connection.connected != self.connection.connected {
            self.since = clock::now();
        }
        if connection.connected {
            self.reason = None;
        }
        self.connection = connection;
    }

    /// Whether something was written into the outbox since this was asked last.
    pub fn wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// Deals with what comes through the door.
    ///
    /// # Errors
    /// When the store fails.
    pub fn take(&mut self, coming: Coming) -> Result<(), StoreError> {
        match coming {
            Coming::Joined(client, lines) => {
                let subscribed = None;
                self.clients.insert(client, Client { lines, subscribed });
            }
            Coming::Line(client, line) => {
                let request = protocol::parse(&line);
                let result = match request.call {
                    // All of it is read before there is an answer.
                    Ok(Call::SendFile { to, path }) => {
                        match self.read(client, request.id.clone(), to, path) {
                            Ok(()) => return self.hand_out(),
                            Err(refusal) => Err(refusal),
                        }
                    }
                    call => call.and_then(|call| self.answer(client, call)),
                };
                if let Some(id) = request.id {
                    self.put(client, protocol::answer(&id, result), None);
                }
            }
            Coming::TooLong(client) => {
                let answer = protocol::answer(&serde_json::Value::Null, Err(Refusal::too_long()));
                self.put(client, answer, None);
            }
            Coming::Written(client, name) => {
                // Marked when they are handed out next, which is now.
                if self.reader == Some(client) {
                    self.unmarked.push(name);
                }
            }
            Coming::Gone(client) => self.part(client),
        }
        self.hand_out()
    }

    /// Begins to read a file that is to be offered.
    fn read(
        &mut self,
        client: ClientId,
        id: Option<Value>,
        to: UserId,
        path: PathBuf,
    ) -> Result<(), Refusal> {
        if to == self.manners.user {
            return Err(that_is_you());
        }
        let (policy, retired) = (self.manners.trust, self.connection.retired);
        permit(&self.store, policy, retired, &to)?;
        files::check_size(&self.store, Source::size(&path)?)?;
        if self.reading.len() >= MAX_READING {
            return Err(Failure::new(
                Code::Failed,
                "too many files are being read",
                "Ask again when those are answered.",
            )
            .into());
        }
        self.reading.spawn_blocking(move || Read {
            client,
            id,
            to,
            source: Source::look(&path, |_| {}),
        });
        Ok(())
    }

    /// Waits until a file was read, offers it, and answers. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn offer_what_was_read(&mut self) -> Result<(), StoreError> {
        let read = loop {
            match self.reading.join_next().await {
                Some(Ok(read)) => break read,
                Some(Err(error)) => tracing::error!(%error, "a file could not be read"),
                None => std::future::pending().await,
            }
        };
        let Read {
            client,
            id,
            to,
            source,
        } = read;
        let result = source.map_err(Refusal::from).and_then(|source| {
            let (policy, retired) = (self.manners.trust, self.connection.retired);
            permit(&self.store, policy, retired, &to)?;
            Ok(files::offer(&mut self.store, &to, &source, clock::now())?)
        });
        let result = result.map(|(number, id)| {
            self.wrote = true;
            Outcome::Offered {
                id: id.to_string(),
                number,
            }
        });
        if let Some(id) = id {
            self.put(client, protocol::answer(&id, result), None);
        }
        self.hand_out()
    }

    fn file(&self, number: i64) -> Result<Outcome, Refusal> {
        let entry = self.store.file(number)?.ok_or(FileError::Unknown)?;
        Ok(Outcome::File(Box::new(Event::file(&entry))))
    }

    /// Tells subscribers.
    pub fn tell(&mut self, event: &Event) {
        if let Event::Status {
            reason: Some(reason),
            ..
        } = event
        {
            self.reason = Some(reason.clone());
        }
        let text = protocol::notification(event);
        let subscribers: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.subscribed.is_some())
            .map(|(id, _)| *id)
            .collect();
        for client in subscribers {
            self.put(client, text.clone(), None);
        }
    }

    /// Gives the reader what there is for them, as much as they may have at once.
    ///
    /// # Errors
    /// When the store fails.
    pub fn hand_out(&mut self) -> Result<(), StoreError> {
        self.mark_shown()?;
        // Each turn ends with nothing left to give, or with one client fewer.
        while let Some((client, acknowledge)) = self.choose_reader() {
            let room = MAX_HANDED_OUT.saturating_sub(self.handed_out.len());
            let room = u32::try_from(room).unwrap_or(0);
            let messages = match room {
                0 => Vec::new(),
                room => incoming::unshown_after(&self.store, self.after, room)?,
            };
            if messages.is_empty() {
                return Ok(());
            }
            for (number, message) in messages {
                if let Some(gap) = incoming::gap_event(&self.store, &message)? {
                    self.put(client, protocol::notification(&gap), None);
                }
                let text = protocol::notification(&incoming::event(&self.store, &message)?);
                let name = (message.from, message.id);
                let acknowledges = (acknowledge == Acknowledge::Auto).then(|| name.clone());
                self.put(client, text, acknowledges);
                if self.reader != Some(client) {
                    break;
                }
                self.handed_out.insert(name);
                self.after = number;
            }
        }
        Ok(())
    }

    fn choose_reader(&mut self) -> Option<(ClientId, Acknowledge)> {
        if self.reader.is_none() {
            self.handed_out.clear();
            self.unmarked.clear();
            self.after = 0;
            self.reader = self
                .clients
                .iter()
                .filter_map(|(id, client)| Some((client.subscribed?.turn, *id)))
                .min()
                .map(|(_, id)| id);
        }
        let reader = self.reader?;
        let subscribed = self.clients.get(&reader)?.subscribed?;
        Some((reader, subscribed.acknowledge))
    }

    fn answer(&mut self, client: ClientId, call: Call) -> Result<Outcome, Refusal> {
        match call {
            Call::Send {
                to,
                content,
                key,
                reply,
            } => {
                if to == self.manners.user {
                    return Err(that_is_you());
                }
                let content = match (reply, content) {
                    (Some(id), Content::Text { text }) => {
                        let named = conversation::by_id(&self.store, &id, Some(&to))?;
                        conversation::answer(&self.manners.user, &named, text)
                    }
                    (_, content) => content,
                };
                if let Some(key) = &key
                    && let Some(id) = enqueued_before(&self.store, key, &to, &content)?
                {
                    // Whatever we think of them by now: the answer is the same.
                    return Ok(Outcome::Sent { id: id.to_string() });
                }
                let (policy, retired) = (self.manners.trust, self.connection.retired);
                permit(&self.store, policy, retired, &to)?;
                let now = clock::now();
                let id = match key {
                    None => enqueue(&mut self.store, &to, &content, now)?,
                    Some(key) => enqueue_once(&mut self.store, &key, &to, &content, now)?,
                };
                self.wrote = true;
                Ok(Outcome::Sent { id: id.to_string() })
            }
            Call::Edit { id, with, text } => {
                let named = conversation::by_id(&self.store, &id, with.as_ref())?;
                let content = conversation::edit(&self.store, &named, text)?;
                self.post(&named.partner, &content)
            }
            Call::Delete { id, with, here } => {
                let named = conversation::by_id(&self.store, &id, with.as_ref())?;
                if here {
                    conversation::erase_here(&mut self.store, &named)?;
                    return Ok(Outcome::Done {});
                }
                match conversation::delete(&mut self.store, &named)? {
                    Some(content) => self.post(&named.partner, &content),
                    None => Ok(Outcome::Done {}),
                }
            }
            Call::Expire { with, lifetime } => {
                let now = clock::now();
                let content = conversation::set_lifetime(&self.store, &with, lifetime, now)?;
                self.post(&with, &content)
            }
            Call::Requests => Ok(Outcome::Listed(contact::requests(&self.store)?)),
            Call::Conversations => {
                let all = self.store.conversations()?;
                Ok(Outcome::Listed(
                    all.iter().map(Event::conversation).collect(),
                ))
            }
            Call::Deal { user, how } => self.deal(&user, how),
            // Dealt with before.
            Call::SendFile { .. } => Ok(Outcome::Done {}),
            Call::Files => {
                let entries = self.store.files(MAX_LISTED)?;
                Ok(Outcome::Listed(entries.iter().map(Event::file).collect()))
            }
            Call::SaveFile { file, folder } => {
                let entry = files::find(&self.store, &file)?;
                files::save(&mut self.store, entry.number, &folder, clock::now())?;
                self.wrote = true;
                self.file(entry.number)
            }
            Call::CancelFile { file } => {
                let entry = files::find(&self.store, &file)?;
                files::cancel(&mut self.store, entry.number, clock::now())?;
                self.wrote = true;
                self.file(entry.number)
            }
            Call::Status => Ok(Outcome::Status {
                user: self.manners.user.to_string(),
                realm: self.manners.realm.clone(),
                state: match self.connection.connected {
                    true => "connected",
                    false => "disconnected",
                },
                broker: self.connection.broker.clone(),
                since: Time(self.since),
                reason: self.reason.clone(),
                queued: self.store.queued()?,
            }),
            Call::Outbox => {
                let entries = self.store.unfinished(MAX_LISTED)?;
                Ok(Outcome::Listed(entries.iter().map(Event::outbox).collect()))
            }
            Call::Contacts => {
                let contacts = self.store.contacts()?;
                Ok(Outcome::Listed(contacts.iter().map(listed).collect()))
            }
            Call::Subscribe(acknowledge) => {
                let turn = self.turns;
                let Some(client) = self.clients.get_mut(&client) else {
                    return Ok(Outcome::Done {});
                };
                if client.subscribed.is_some() {
                    return Err(Failure::new(
                        Code::Usage,
                        "this connection has subscribed already",
                        "Once is enough.",
                    )
                    .into());
                }
                client.subscribed = Some(Subscription { acknowledge, turn });
                self.turns += 1;
                Ok(Outcome::Done {})
            }
            Call::Ack { from, id } => {
                let name = (from, id);
                if self.reader != Some(client) || !self.handed_out.contains(&name) {
                    return Err(Failure::new(
                        Code::Failed,
                        "this connection was not given that message, or has acknowledged it",
                        "What was not acknowledged comes again to the next subscriber.",
                    )
                    .into());
                }
                self.acknowledge(&name)?;
                Ok(Outcome::Done {})
            }
        }
    }

    /// Writes a message into the outbox.
    fn post(&mut self, to: &UserId, content: &Content) -> Result<Outcome, Refusal> {
        if *to == self.manners.user {
            return Err(Failure::new(Code::Usage, "that is you", "Name somebody else.").into());
        }
        let (policy, retired) = (self.manners.trust, self.connection.retired);
        permit(&self.store, policy, retired, to)?;
        let id = enqueue(&mut self.store, to, content, clock::now())?;
        self.wrote = true;
        Ok(Outcome::Sent { id: id.to_string() })
    }

    fn deal(&mut self, user: &UserId, how: Dealing) -> Result<Outcome, Refusal> {
        if *user == self.manners.user {
            return Err(Failure::new(Code::Usage, "that is you", "Name somebody else.").into());
        }
        match how {
            Dealing::Accept => {
                if !self.store.accept_contact(user)? {
                    return Err(Failure::new(
                        Code::Failed,
                        format!("{user} is not a contact yet"),
                        "Who asks to be let in is among the requests.",
                    )
                    .into());
                }
            }
            Dealing::Block => self.store.block(user)?,
            Dealing::Unblock => drop(self.store.unblock(user)?),
            Dealing::Mute(seconds) => {
                let until = seconds.map_or(Timestamp::MAX, |seconds| {
                    clock::now().saturating_add(std::time::Duration::from_secs(seconds))
                });
                self.store.mute(user, Some(until))?;
            }
            Dealing::Unmute => self.store.mute(user, None)?,
            Dealing::Set { receipts, notify } => {
                if let Some(receipts) = receipts {
                    self.store.set_receipts(user, receipts)?;
                }
                if let Some(notify) = notify {
                    self.store.set_notify(user, notify)?;
                }
            }
        }
        // Receipts, perhaps.
        self.wrote = true;
        Ok(Outcome::Done {})
    }

    /// Marks what was written to its reader, as far as that is possible now.
    fn mark_shown(&mut self) -> Result<(), StoreError> {
        while let Some(name) = self.unmarked.first().cloned() {
            match self.acknowledge(&name) {
                Ok(()) => drop(self.unmarked.remove(0)),
                Err(StoreError::DiskFull | StoreError::Busy) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, name: &MessageName) -> Result<(), StoreError> {
        let (from, id) = name;
        self.store
            .mark_shown(from, id, self.manners.read_receipts)?;
        self.handed_out.remove(name);
        Ok(())
    }

    /// Puts a line into a client's queue. Who lets it fill up is disconnected: what they were not given stays.
    fn put(&mut self, client: ClientId, text: String, acknowledges: Option<MessageName>) {
        let Some(there) = self.clients.get(&client) else {
            return;
        };
        let line = Line { text, acknowledges };
        if there.lines.queue.try_send(line).is_err() {
            tracing::warn!("a client of the daemon that reads too slowly was disconnected");
            there.lines.cut.cancel();
            self.part(client);
        }
    }

    fn part(&mut self, client: ClientId) {
        self.clients.remove(&client);
        if self.reader == Some(client) {
            self.reader = None;
        }
    }
}

#[cfg(test)]
mod tests;
