//! Gives messages to a command, one after the other, until it has dealt with each.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::time::Duration;

use sealpost_core::{Content, FileOffer, saved_name};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::Start;
use super::job::{Ended, Job, Output};
use crate::account::Account;
use crate::contact::offered_identity;
use crate::event::{Event, Printer};
use crate::exit::{Code, Failure};
use crate::incoming::{self, Message, Stored};
use crate::store::{FileState, MAX_OFFERS_PER_SENDER, Store, Wanted};
use crate::terminal::clean_line;

/// How long until a command that failed is tried again: twice as long each time, up to the longest.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_MOST: Duration = Duration::from_secs(60);

/// How often it is looked whether a file is here whose message was put off.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How many messages are put off: as many as one sender may have open offers.
const MAX_PUT_OFF: usize = MAX_OFFERS_PER_SENDER as usize;

/// What is to be done with messages.
#[derive(Debug)]
pub(super) struct Orders {
    /// For `/bin/sh -c`.
    pub(super) command: String,
    /// How long a run may take.
    pub(super) time: Duration,
    /// How often it is tried for a message.
    pub(super) tries: u32,
    /// With how many messages.
    pub(super) limit: u64,
    /// With which of those in the store.
    pub(super) wanted: Wanted,
    /// Whether senders learn that their messages were dealt with.
    pub(super) read_receipts: bool,
}

/// Does it.
#[derive(Debug)]
pub(super) struct Handler {
    orders: Orders,
    /// Its own connection: a session has another.
    store: Store,
    printer: Printer,
    /// The same for every message.
    variables: Vec<(&'static str, OsString)>,
}

/// What became of a message.
enum Outcome {
    DealtWith,
    GivenUp,
    Stopped,
}

impl Handler {
    pub(super) fn new(
        start: &Start,
        account: &Account,
        orders: Orders,
    ) -> Result<Handler, Failure> {
        let settings = &start.settings;
        let variables = vec![
            ("SEALPOST_TO", settings.user.as_str().into()),
            ("SEALPOST_USER", settings.user.as_str().into()),
            ("SEALPOST_HOME", start.home.path().into()),
            ("SEALPOST_REALM", settings.realm.as_str().into()),
            ("SEALPOST_BROKER", settings.broker.to_string().into()),
        ];
        Ok(Handler {
            orders,
            store: start.open_store(account)?,
            printer: start.another_printer(),
            variables,
        })
    }

    /// Works until it is over, or enough was done; says with how many messages it has dealt.
    ///
    /// # Errors
    /// When the store fails; and in the end, when messages were given up.
    pub(super) async fn work(
        &mut self,
        more: &Notify,
        over: &CancellationToken,
    ) -> Result<u64, Failure> {
        let (mut after, mut dealt, mut given_up) = (0, 0, 0);
        // Messages whose files are on their way.
        let mut put_off: VecDeque<Stored> = VecDeque::new();
        while dealt + given_up < self.orders.limit && !over.is_cancelled() {
            let mut next = None;
            for _ in 0..put_off.len() {
                match put_off.pop_front() {
                    Some(stored) if self.is_coming(&stored.message)? => put_off.push_back(stored),
                    stored => {
                        next = stored;
                        break;
                    }
                }
            }
            if next.is_none() {
                let batch = incoming::stored(&self.store, self.orders.wanted, after, 1)?;
                next = batch.into_iter().next();
                after = next.as_ref().map_or(after, |stored| stored.number);
            }
            let Some(stored) = next else {
                tokio::select! {
                    () = more.notified() => continue,
                    () = tokio::time::sleep(LOOK_AGAIN), if !put_off.is_empty() => continue,
                    () = over.cancelled() => break,
                }
            };
            if put_off.len() < MAX_PUT_OFF && self.is_coming(&stored.message)? {
                put_off.push_back(stored);
                continue;
            }
            match self.deal_with(&stored, over).await? {
                Outcome::DealtWith => dealt += 1,
                Outcome::GivenUp => given_up += 1,
                Outcome::Stopped => break,
            }
        }
        match given_up {
            0 => Ok(dealt),
            given_up => Err(Failure::new(
                Code::Failed,
                format!("{given_up} messages were not dealt with by --exec"),
                "They are kept, and the next `sealpost listen` begins with them.",
            )),
        }
    }

    async fn deal_with(
        &mut self,
        stored: &Stored,
        over: &CancellationToken,
    ) -> Result<Outcome, Failure> {
        let message = &stored.message;
        if !stored.shown
            && let Some(gap) = incoming::gap_event(&self.store, message)?
        {
            self.printer.print(&gap)?;
        }
        let mut wait = TRY_AGAIN;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let problem = match self.run(message, attempt, over).await? {
                Ended::Well => break,
                Ended::Stopped => return Ok(Outcome::Stopped),
                Ended::Badly(problem) => problem,
            };
            let last = attempt >= self.orders.tries;
            self.printer.print(&Event::Unhandled {
                from: message.from.to_string(),
                id: message.id.to_string(),
                attempts: attempt,
                problem,
                hint: match last {
                    true => {
                        "It is kept, and comes again with the next `sealpost listen`.".to_owned()
                    }
                    false => "It is tried again.".to_owned(),
                },
                retry_in: (!last).then_some(wait.as_secs_f64()),
            })?;
            if last {
                return Ok(Outcome::GivenUp);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = over.cancelled() => return Ok(Outcome::Stopped),
            }
            wait = (wait * 2).min(TRY_AGAIN_MOST);
        }
        if !stored.shown {
            let receipt = self.orders.read_receipts;
            self.store.mark_shown(&message.from, &message.id, receipt)?;
        }
        if self.printer.is_json() {
            self.printer.print(&Event::Handled {
                from: message.from.to_string(),
                id: message.id.to_string(),
                attempts: attempt,
            })?;
        }
        Ok(Outcome::DealtWith)
    }

    /// About the file that a message offers.
    fn file_variables(&self, message: &Message) -> Result<Vec<(&'static str, OsString)>, Failure> {
        let Some(offer) = FileOffer::read(&message.content) else {
            return Ok(Vec::new());
        };
        let mut variables = vec![
            ("SEALPOST_FILE_NAME", saved_name(offer.name()).into()),
            (
                "SEALPOST_FILE_SIZE",
                offer.chunking().size().to_string().into(),
            ),
        ];
        if let Some(entry) = self.store.file_from(&message.from, &message.id)? {
            variables.push(("SEALPOST_FILE_NUMBER", entry.number.to_string().into()));
            if entry.state == FileState::Saved
                && let Some(path) = entry.place
            {
                variables.push(("SEALPOST_FILE", path.into_os_string()));
            }
        }
        Ok(variables)
    }

    /// Whether a message offers a file that is on its way here, to be saved by itself: it is dealt with when that is done.
    fn is_coming(&self, message: &Message) -> Result<bool, Failure> {
        if self.store.file_rules().downloads.is_none()
            || FileOffer::read(&message.content).is_none()
        {
            return Ok(false);
        }
        let entry = self.store.file_from(&message.from, &message.id)?;
        Ok(entry.is_some_and(|entry| {
            matches!(entry.state, FileState::Moving | FileState::Checking)
                || entry.state == FileState::Offered && entry.cause.is_none()
        }))
    }

    async fn run(
        &self,
        message: &Message,
        attempt: u32,
        over: &CancellationToken,
    ) -> Result<Ended, Failure> {
        let input = match message.content.text() {
            Some(text) => text.to_owned(),
            // It was read from JSON.
            None => message.content.to_json().unwrap_or_default(),
        };
        let (edits, reply) = match &message.content {
            Content::Edit(edit) => (edit.of.to_string(), String::new()),
            Content::Reply(reply) => (String::new(), reply.to.id.to_string()),
            _ => (String::new(), String::new()),
        };
        // What the sender is to us now, which may have changed since the message came.
        let contact = self.store.contact(&message.from)?;
        let trust = match &contact {
            Some(contact) if offered_identity(contact).is_some() => "changed",
            Some(contact) if contact.pin.verified => "verified",
            _ => "known",
        };
        let fingerprint =
            contact.map_or_else(String::new, |contact| contact.pin.identity.fingerprint());
        let mut variables = self.variables.clone();
        variables.extend([
            ("SEALPOST_ID", message.id.to_string().into()),
            ("SEALPOST_FROM", message.from.as_str().into()),
            ("SEALPOST_TS", message.ts.to_string().into()),
            // The sender's word: a zero byte would be no variable.
            ("SEALPOST_KIND", clean_line(message.content.kind()).into()),
            ("SEALPOST_EDITS", edits.into()),
            ("SEALPOST_REPLY", reply.into()),
            ("SEALPOST_TRUST", trust.into()),
            ("SEALPOST_FINGERPRINT", fingerprint.into()),
            ("SEALPOST_ATTEMPT", attempt.to_string().into()),
        ]);
        variables.extend(self.file_variables(message)?);
        let output = match self.printer.is_json() {
            true => Output::Error,
            false => Output::Standard,
        };
        let job = Job {
            command: &self.orders.command,
            input: input.as_bytes(),
            variables: &variables,
            output,
            time: self.orders.time,
        };
        Ok(job.run(over).await)
    }
}
