//! The history as it is shown and as it lies in files: one message a line.

mod file;
mod line;

use std::collections::HashMap;

use schemars::JsonSchema;
use sealpost_core::{Content, MessageRef, UserId};
use serde::Serialize;

pub use file::{ExportError, ImportError, Imports, export, import};
pub use line::{HistoryLine, LineError, MAX_LINE};

use crate::contact::offered_identity;
use crate::conversation::ERASED;
use crate::event::{Event, Relation, Time, readable, relation_words};
use crate::moment;
use crate::store::{Contact, HistoryEntry, Side, Store, StoreError, snippet, stored_content};
use crate::terminal::headed;

/// Whom we trust how far, as of now.
#[derive(Debug)]
pub struct Trust(HashMap<UserId, &'static str>);

impl Trust {
    /// Of every contact.
    pub fn read(store: &Store) -> Result<Trust, StoreError> {
        let contacts = store.contacts()?;
        let word = |contact: Contact| {
            let word = match &contact {
                contact if contact.is_suspended() => "suspended",
                contact if offered_identity(contact).is_some() => "changed",
                contact if contact.pin.verified => "verified",
                _ => "known",
            };
            (contact.user, word)
        };
        Ok(Trust(contacts.into_iter().map(word).collect()))
    }

    /// `verified`, `known`, `changed` (another identity waits for a decision), `suspended`, or `unknown`.
    #[must_use]
    pub fn of(&self, user: &UserId) -> &'static str {
        self.0.get(user).copied().unwrap_or("unknown")
    }
}

/// A message of the history: the event that said how far it had got, and what it says.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Remembered {
    /// `message` for theirs; `queued`, `sent`, `delivered`, `read` or `failed` for ours.
    #[serde(flatten)]
    pub event: Event,
    /// The kind of a message of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// The text of a message of ours, for kind `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The whole content of a message of ours, for every other kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<serde_json::Value>,
    /// Our clock when theirs came, seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<Time>,
    /// How far the other side is trusted now, as [`Trust::of`] says it.
    trust: &'static str,
    /// Whether it came from a file and not over a broker.
    imported: bool,
    /// Which other message a message of ours is about, and what it says of the conversation.
    #[serde(flatten)]
    relation: Relation,
    /// How often the text was edited; absent when it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    edits_made: Option<u32>,
    /// What an edited text said first.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    /// Whether it was deleted: then nothing of it is left but this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    /// When it disappears, seconds since the epoch; absent when it stays, or its time has not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
    #[serde(skip)]
    human: String,
}

impl Remembered {
    /// A message as it came out of the store, which also has what it answers.
    pub fn new(
        store: &Store,
        entry: &HistoryEntry,
        trust: &Trust,
    ) -> Result<Remembered, StoreError> {
        let content = stored_content(&entry.body)
            .ok_or(StoreError::Damaged("a stored message is malformed"))?;
        let trust = trust.of(entry.partner());
        let mut failed = None;
        let mut quote = |name: &MessageRef| {
            store.quote(entry.partner(), name).unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        };
        let relation = Relation::of(&content, &mut quote);
        if let Some(error) = failed {
            return Err(error);
        }
        let mut words = relation_words(&relation);
        let original = entry
            .revised
            .as_ref()
            .and_then(|revised| stored_content(&revised.original)?.text().map(str::to_owned));
        if let Some(original) = &original {
            let original = snippet(original);
            words.push_str(&format!(", edited (first \"{original}\")"));
        }
        let remembered = |event, received, human| Remembered {
            event,
            kind: None,
            text: None,
            content: None,
            received,
            trust,
            imported: entry.imported,
            relation: Relation::default(),
            edits_made: entry.revised.as_ref().map(|revised| revised.edits),
            original: original.clone(),
            deleted: content.kind() == ERASED,
            expires: entry.expires.map(Time),
            human,
        };
        Ok(match &entry.side {
            Side::Theirs {
                from,
                id,
                ts,
                received,
            } => {
                let human = human(
                    &format!("From {from}"),
                    &words,
                    entry,
                    trust,
                    None,
                    &content,
                );
                let quote = |_: &MessageRef| relation.reply.clone().and_then(|reply| reply.quote);
                let event = Event::message_in(from, id, *ts, &content, quote);
                remembered(event, Some(Time(*received)), human)
            }
            Side::Ours(ours) => {
                let state = Some(ours.state.as_str());
                let human = human(
                    &format!("To {}", ours.to),
                    &words,
                    entry,
                    trust,
                    state,
                    &content,
                );
                let (text, other) = Event::text_and_content(&content);
                Remembered {
                    kind: Some(content.kind().to_owned()),
                    text,
                    content: other,
                    relation: relation.clone(),
                    ..remembered(Event::outbox(ours), None, human)
                }
            }
        })
    }

    /// The human form, without a line end at its end: `2026-11-25 14:05:03Z  From alice (verified): Hi`. What others
    /// wrote is cleaned.
    #[must_use]
    pub fn human(&self) -> &str {
        &self.human
    }
}

fn human(
    whose: &str,
    about: &str,
    entry: &HistoryEntry,
    trust: &str,
    state: Option<&str>,
    content: &Content,
) -> String {
    let imported = entry.imported.then_some("imported");
    let words: Vec<&str> = [Some(trust), state, imported]
        .into_iter()
        .flatten()
        .collect();
    let heading = format!(
        "{}  {whose} ({}){about}",
        moment::shown(entry.at()),
        words.join(", ")
    );
    headed(&heading, &readable(content))
}
