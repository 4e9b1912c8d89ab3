//! Does what the interface asks for, in the store, in a thread of its own: a disk that is slow stops no key.

mod filing;
mod shown;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use sealpost_core::{Content, IdentityKey, MessageId, Realm, Timestamp, UserId};
use sealpost_mqtt::Route;
use tokio::sync::{Notify, mpsc};

use self::filing::Filing;
pub use self::filing::news;
pub use self::shown::problem;
use self::shown::{everybody, items, mark_of, words};
use super::hint::in_the_chat;
use super::state::{Change, Dealing, Effect, Hit, Level, Msg, Which};
use super::text::at_most;
use crate::comparison::Comparison;
use crate::contact::{self, Trusted, offered_identity};
use crate::conversation::{
    self, ChangeError, DELETION_WARNING, LIFETIME_WARNING, Named, parse_lifetime,
};
use crate::exit::{Code, Failure};
use crate::outgoing::{enqueue, permit};
use crate::search::Search;
use crate::store::{Edge, HistoryRange, Mark, Place, SendState, Side, Store, StoreError};
use crate::terminal::clean_line;
use crate::trust_policy::TrustPolicy;
use crate::{clock, their_link};

/// How often we look whether another process, or our own session, wrote something.
const GLANCE: Duration = Duration::from_millis(100);
/// Of how many messages that came at once the interface is told one by one.
const MAX_TOLD: u32 = 20;
/// How many messages a search looks at before it looks for other work.
const SEARCH_STEP: usize = 500;
/// How much of a message is shown of what was found, in bytes.
const MAX_SHOWN: usize = 400;
/// How much is found at most.
const MAX_FOUND: usize = 1_000;
/// How many messages that failed are looked through.
const MAX_UNFINISHED: u32 = 100_000;

/// Who we are, for comparisons and links.
#[derive(Debug, Clone)]
pub struct Us {
    /// Our name.
    pub user: UserId,
    /// Our deployment.
    pub realm: Realm,
    /// Our identity.
    pub identity: IdentityKey,
    /// Our contact link, or why there is none.
    pub link: Result<String, Failure>,
    /// Our keys are withdrawn.
    pub retired: bool,
}

/// What the desk is asked for.
#[derive(Debug)]
pub enum Order {
    /// This.
    Do(Effect),
    /// We are this now.
    Us(Box<Us>),
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    /// Its own connection.
    pub store: Store,
    /// Who we are.
    pub us: Us,
    /// To whom may be sent.
    pub policy: TrustPolicy,
    /// Whether senders learn that their messages were shown.
    pub read_receipts: bool,
    /// Where our broker is, beside which links name others.
    pub broker: Route,
    /// Tells the session that there is something to send.
    pub nudge: Arc<Notify>,
}

struct Work {
    desk: Desk,
    out: mpsc::Sender<Msg>,
    open: Option<UserId>,
    /// The last message that the interface was told of.
    told: i64,
    version: u32,
    dirty: bool,
    search: Option<Searching>,
    filing: Filing,
    /// The newest message of who is talked to that the interface was told of, and what was the last of all that had come by then.
    told_newest: Option<(Mark, i64)>,
}

struct Searching {
    number: u64,
    search: Search,
    /// What is still to be looked at, oldest first.
    places: Vec<Place>,
    found: usize,
}

/// The interface is gone.
struct Gone;

impl Desk {
    /// Works until nobody asks any more.
    pub fn work(self, orders: &Receiver<Order>, out: mpsc::Sender<Msg>) {
        let told = self.store.last_received().unwrap_or(0);
        let mut work = Work {
            desk: self,
            out,
            open: None,
            told,
            version: 0,
            dirty: true,
            search: None,
            filing: Filing::default(),
            told_newest: None,
        };
        while let Ok(()) = work.turn(orders) {}
    }
}

impl Work {
    fn turn(&mut self, orders: &Receiver<Order>) -> Result<(), Gone> {
        let wait = match self.dirty || self.search.is_some() {
            true => Duration::ZERO,
            false => GLANCE,
        };
        match orders.recv_timeout(wait) {
            Ok(Order::Do(effect)) => {
                if let Err(failure) = self.obey(effect) {
                    self.tell(failed(&failure?))?;
                }
                // Orders first, so that what came of them is shown once.
                return Ok(());
            }
            Ok(Order::Us(us)) => self.desk.us = *us,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Gone),
        }
        self.finish_errands()?;
        let version = self.desk.store.data_version().unwrap_or(self.version);
        if version != self.version || self.dirty {
            (self.version, self.dirty) = (version, false);
            if let Err(error) = self.refresh() {
                self.tell(failed(&error?))?;
                // Again in a while, not at once and for ever.
                std::thread::sleep(GLANCE);
            }
        }
        if let Err(error) = self.search_on() {
            self.search = None;
            self.tell(failed(&error?))?;
        }
        Ok(())
    }

    fn tell(&self, msg: Msg) -> Result<(), Gone> {
        self.out.blocking_send(msg).map_err(|_| Gone)
    }

    /// What has changed.
    fn refresh(&mut self) -> Result<(), Result<Failure, Gone>> {
        let store = &self.desk.store;
        let fresh = store.unshown(self.told, MAX_TOLD).map_err(of_store)?;
        let last = store.last_received().map_err(of_store)?;
        let people = everybody(store).map_err(of_store)?;
        let newest = match &self.open {
            Some(user) => {
                let items = items(store, user, Edge::End).map_err(of_store)?;
                let theirs = items.iter().rev().find(|item| item.state.is_none());
                self.told_newest = theirs.map(|item| (item.mark, last));
                Some(Msg::Newest(user.clone(), items))
            }
            None => None,
        };
        for message in fresh {
            let text = words(&message.body);
            self.tell(Msg::Arrived(message.from, text)).map_err(Err)?;
        }
        self.told = last.max(self.told);
        self.tell(Msg::People(people)).map_err(Err)?;
        if let Some(newest) = newest {
            self.tell(newest).map_err(Err)?;
        }
        Ok(())
    }

    fn obey(&mut self, effect: Effect) -> Result<(), Result<Failure, Gone>> {
        let told = match effect {
            Effect::Open(user) => {
                self.open = Some(user);
                self.dirty = true;
                None
            }
            Effect::Load(user, edge) => {
                let items = items(&self.desk.store, &user, edge).map_err(of_store)?;
                Some(Msg::Page(user, edge, items))
            }
            Effect::LoadAround(user, mark) => {
                let store = &self.desk.store;
                let next = Mark {
                    number: mark.number + 1,
                    ..mark
                };
                let mut around = items(store, &user, Edge::Before(next)).map_err(of_store)?;
                around.extend(items(store, &user, Edge::After(mark)).map_err(of_store)?);
                Some(Msg::Around(user, mark, around))
            }
            Effect::Shown(user, mark) => {
                let receipt = self.desk.read_receipts;
                let store = &mut self.desk.store;
                // A number is a place in the order of arrival; `mark` has it where it is one of theirs that really came. What came behind
                // it and is part of another message, an edit or a deletion, was shown with that.
                let number = match &self.told_newest {
                    Some((newest, last)) if *newest == mark => (*last).max(mark.number),
                    _ => mark.number,
                };
                if mark.kind == 1 {
                    self.dirty |= store
                        .mark_shown_up_to(&user, number, receipt)
                        .map_err(of_store)?;
                }
                None
            }
            Effect::Send(to, text) => {
                self.send(&to, text).map_err(Ok)?;
                None
            }
            Effect::Compare(user) => Some(self.compare(&user)?),
            Effect::SayVerified(user) => Some(self.verified(user, None)?),
            Effect::CheckTheirs(user, theirs) => Some(self.verified(user, Some(&theirs))?),
            Effect::Decide(user, fingerprint) => Some(self.decide(user, fingerprint.as_deref())?),
            Effect::Deal(user, how) => Some(self.deal(&user, how).map_err(Ok)?),
            Effect::Change(user, change) => self.change(&user, change).map_err(Ok)?,
            Effect::Offer(user, path) => self.offer(user, &path).map_err(Ok)?,
            Effect::Save(number, folder) => Some(self.save(number, folder).map_err(Ok)?),
            Effect::Cancel(number) => Some(self.cancel(number).map_err(Ok)?),
            Effect::Files => Some(self.files().map_err(of_store)?),
            Effect::Paths(command, path) => Some(filing::paths(&command, &path)),
            Effect::Add(link) => {
                let link = their_link::parse(&link).map_err(Ok)?;
                let us = &self.desk.us;
                let me = (&us.realm, &us.user, &us.identity);
                let taken = their_link::take(&mut self.desk.store, me, &self.desk.broker, &link)
                    .map_err(Ok)?;
                if let Some(contradiction) = taken.contradicts {
                    self.tell(Msg::Said(Level::Alarm, taken.event.human()))
                        .map_err(Err)?;
                    return Err(Ok(contradiction));
                }
                self.dirty = true;
                if let Some(elsewhere) = taken.elsewhere {
                    self.tell(Msg::Said(Level::Note, elsewhere)).map_err(Err)?;
                }
                Some(Msg::Added(taken.user, true))
            }
            Effect::OwnLink => {
                let link = self.desk.us.link.clone().map_err(Ok)?;
                Some(Msg::OwnLink {
                    link,
                    fingerprint: self.desk.us.identity.fingerprint(),
                })
            }
            Effect::Search(number, with, text) => {
                let search = Search::parse(&text);
                let search = search.map_err(|error| Ok(Failure::from(error)))?;
                let range = HistoryRange {
                    with,
                    ..HistoryRange::default()
                };
                let mut places = self
                    .desk
                    .store
                    .history(&range, u32::MAX)
                    .map_err(of_store)?;
                places.reverse();
                self.search = Some(Searching {
                    number,
                    search,
                    places,
                    found: 0,
                });
                None
            }
            Effect::StopSearch => {
                self.search = None;
                None
            }
            Effect::Retry(user) => Some(self.failed_ones(&user, true).map_err(of_store)?),
            Effect::Drop(user) => Some(self.failed_ones(&user, false).map_err(of_store)?),
            // The terminal's.
            Effect::Notify(..)
            | Effect::Copy(_)
            | Effect::Redraw
            | Effect::Suspend
            | Effect::Quit => None,
        };
        match told {
            Some(msg) => self.tell(msg).map_err(Err),
            None => Ok(()),
        }
    }

    fn deal(&mut self, user: &UserId, how: Dealing) -> Result<Msg, Failure> {
        let store = &mut self.desk.store;
        let text = match how {
            Dealing::Accept => match store.accept_contact(user)? {
                true => format!("{user} is let in, and learns when their messages arrive."),
                false => format!("{user} is no contact yet."),
            },
            Dealing::Block => {
                store.block(user)?;
                format!("{user} is blocked: what they send is dropped, and they are told nothing.")
            }
            Dealing::Unblock => match store.unblock(user)? {
                true => format!("What {user} sends is let in again."),
                false => format!("{user} is not blocked."),
            },
            Dealing::Mute => {
                store.mute(user, Some(Timestamp::MAX))?;
                format!("Nobody is told when a message of {user} comes. /unmute")
            }
            Dealing::Unmute => {
                store.mute(user, None)?;
                format!("You are told again when a message of {user} comes.")
            }
        };
        self.dirty = true;
        self.desk.nudge.notify_one();
        Ok(Msg::Said(Level::Note, text))
    }

    fn change(&mut self, user: &UserId, change: Change) -> Result<Option<Msg>, Failure> {
        let Desk { store, us, .. } = &mut self.desk;
        let named = |store: &Store, which: Option<Which>, ours| -> Result<Named, Failure> {
            let named = match which {
                None => conversation::last(store, user, ours)?,
                Some(Which { mine, id }) => MessageId::parse(&id).ok().map(|id| Named {
                    partner: user.clone(),
                    ours: mine,
                    id,
                }),
            };
            named.ok_or_else(|| ChangeError::NotHere.into())
        };
        let said = |text: String| Some(Msg::Said(Level::Note, text));
        let (content, told) = match change {
            Change::Reply(which, text) => {
                let to = named(store, which, false)?;
                (Some(conversation::answer(&us.user, &to, text)), None)
            }
            Change::Edit(which, text) => {
                let of = named(store, which, true)?;
                (Some(conversation::edit(store, &of, text)?), None)
            }
            Change::Erase(which) => {
                conversation::erase_here(store, &named(store, Some(which), false)?)?;
                (None, said("It is gone here. Nobody is told.".to_owned()))
            }
            Change::Delete(which) => {
                let of = named(store, which, true)?;
                match conversation::delete(store, &of)? {
                    None => (
                        None,
                        said("It is deleted, and had not left this machine.".to_owned()),
                    ),
                    content => (
                        content,
                        said(format!("{user} is asked to delete it. {DELETION_WARNING}")),
                    ),
                }
            }
            Change::Expire(time) => {
                let lifetime = parse_lifetime(&time)
                    .map_err(|words| Failure::new(Code::Usage, "that is no such time", words))?;
                let content = conversation::set_lifetime(store, user, lifetime, clock::now())?;
                let told = match lifetime {
                    Some(_) => {
                        format!("Messages from now on disappear after {time}. {LIFETIME_WARNING}")
                    }
                    None => "Messages from now on stay.".to_owned(),
                };
                (Some(content), said(told))
            }
        };
        if let Some(content) = content {
            self.post(user, &content)?;
        }
        self.dirty = true;
        Ok(told)
    }

    fn send(&mut self, to: &UserId, text: String) -> Result<(), Failure> {
        self.post(to, &Content::Text { text })
    }

    fn post(&mut self, to: &UserId, content: &Content) -> Result<(), Failure> {
        let Desk {
            store, policy, us, ..
        } = &mut self.desk;
        permit(store, *policy, us.retired, to)?;
        enqueue(store, to, content, clock::now())?;
        self.dirty = true;
        self.desk.nudge.notify_one();
        Ok(())
    }

    fn comparison(&self, user: &UserId) -> Result<Comparison, Failure> {
        let contact = self.desk.store.contact(user)?.ok_or_else(|| {
            Failure::new(
                Code::Failed,
                format!("{user} is not a contact yet"),
                "Exchange a message first, or add their link.",
            )
        })?;
        let us = &self.desk.us;
        let (ours, theirs) = ((&us.user, &us.identity), (user, &contact.pin.identity));
        Ok(Comparison::of(&us.realm, ours, theirs))
    }

    fn compare(&self, user: &UserId) -> Result<Msg, Result<Failure, Gone>> {
        let comparison = self.comparison(user).map_err(Ok)?;
        Ok(Msg::Compare {
            with: user.clone(),
            number: comparison.number().to_string(),
            code: comparison.code(),
        })
    }

    /// Keeps what came of a comparison: a plain yes, or what they see, or a no.
    fn verified(
        &mut self,
        user: UserId,
        theirs: Option<&str>,
    ) -> Result<Msg, Result<Failure, Gone>> {
        let comparison = self.comparison(&user).map_err(Ok)?;
        let same = match theirs {
            None => Ok(()),
            Some(text) if ["n", "no"].contains(&text.to_lowercase().as_str()) => {
                Err(comparison.differs())
            }
            Some(text) if text.contains(':') => comparison.check_code(text),
            Some(digits) => comparison.check_number(digits),
        };
        let outcome = comparison.conclude(&mut self.desk.store, same);
        let outcome =
            outcome.map_err(|failure| (clean_line(&failure.message), in_the_chat(&failure.hint)));
        self.dirty = true;
        Ok(Msg::Compared(user, outcome))
    }

    fn decide(
        &mut self,
        user: UserId,
        fingerprint: Option<&str>,
    ) -> Result<Msg, Result<Failure, Gone>> {
        let store = &mut self.desk.store;
        let contact = store.contact(&user).map_err(of_store)?;
        let offered = contact.as_ref().and_then(offered_identity);
        // What was shown, and nothing that came in its place.
        let shown = offered.filter(|offered| Some(offered.fingerprint().as_str()) == fingerprint);
        let same = shown.is_some() == fingerprint.is_some();
        let decided = match same {
            true => contact::trust(store, &user, shown.as_ref(), clock::now()).map_err(of_store)?,
            false => None,
        };
        self.dirty = true;
        self.desk.nudge.notify_one();
        let outcome = match decided {
            Some(Trusted::Accepted(_) | Trusted::Resumed(_) | Trusted::Nothing(_)) => Ok(()),
            Some(Trusted::Changed) | None => Err((
                format!("what is offered for {user} changed meanwhile, or expired"),
                "Look again.".to_owned(),
            )),
        };
        Ok(Msg::Decided(user, outcome))
    }

    /// Tries again, or forgets, what failed with somebody.
    fn failed_ones(&mut self, user: &UserId, again: bool) -> Result<Msg, StoreError> {
        let store = &mut self.desk.store;
        let unfinished = store.unfinished(MAX_UNFINISHED)?;
        let failed: Vec<MessageId> = unfinished
            .into_iter()
            .filter(|entry| entry.to == *user && entry.state == SendState::Failed)
            .map(|entry| entry.id)
            .collect();
        for id in &failed {
            match again {
                true => store.retry_outgoing(id, clock::now())?,
                false => store.drop_outgoing(id)?,
            };
        }
        self.dirty = true;
        self.desk.nudge.notify_one();
        let text = match (failed.len(), again) {
            (0, _) => format!("Nothing to {user} has failed."),
            (count, true) => format!("{count} messages to {user} are tried again."),
            (count, false) => format!("{count} messages to {user} are forgotten."),
        };
        Ok(Msg::Said(Level::Note, text))
    }

    fn search_on(&mut self) -> Result<(), Result<Failure, Gone>> {
        let Some(searching) = &mut self.search else {
            return Ok(());
        };
        let mut hits = Vec::new();
        for _ in 0..SEARCH_STEP {
            let Some(place) = searching.places.pop() else {
                break;
            };
            let entry = self.desk.store.history_entry(place).map_err(of_store)?;
            let Some(entry) = entry else { continue };
            let content = std::str::from_utf8(&entry.body)
                .ok()
                .and_then(|json| Content::parse(json).ok());
            if content.is_some_and(|content| searching.search.matches(&content)) {
                let text = at_most(&words(&entry.body), MAX_SHOWN).to_owned();
                hits.push(Hit {
                    with: entry.partner().clone(),
                    mark: mark_of(place, &entry),
                    at: entry.at(),
                    mine: matches!(entry.side, Side::Ours(_)),
                    text,
                });
            }
        }
        searching.found += hits.len();
        let done = searching.places.is_empty() || searching.found >= MAX_FOUND;
        let number = searching.number;
        if done {
            self.search = None;
        }
        self.tell(Msg::Found(number, hits, done)).map_err(Err)
    }
}

fn of_store(error: StoreError) -> Result<Failure, Gone> {
    Ok(error.into())
}

fn failed(failure: &Failure) -> Msg {
    Msg::Failed(clean_line(&failure.message), in_the_chat(&failure.hint))
}
