//! Looks over what a broker has kept, and says in plain words what is wrong with it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use sealpost_core::Realm;

use crate::access::registry;
use crate::journal::record::{
    FORMAT, FORMAT_KEY, MailboxId, Note, SessionRecord, damaged, decode_message,
    decode_subscription, number, split_key,
};
use crate::journal::store::{Row, Store, StoreError, Table};
use crate::protocol::topic_name::FilterName;

/// Rows read at once.
const AT_ONCE: usize = 1_000;

/// Problems that are told one by one; of a journal that is damaged all over the rest is counted.
const TOLD: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many there are of each kind.
    pub counts: Vec<(&'static str, u64)>,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Problems that are not told one by one.
    pub further: u64,
    /// What is unusual and does no harm.
    pub remarks: Vec<String>,
}

impl Findings {
    fn problem(&mut self, text: impl ToString) {
        if self.problems.len() < TOLD {
            self.problems.push(text.to_string());
        } else {
            self.further += 1;
        }
    }

    fn each(
        &mut self,
        store: &dyn Store,
        table: Table,
        mut row: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut count = 0;
        let mut from = Vec::new();
        loop {
            let rows = store.scan(table, b"", &from, AT_ONCE)?;
            let Some((last, _)) = rows.last() else {
                break;
            };
            // The smallest key after the last.
            from = last.to_vec();
            from.push(0);
            for each in &rows {
                count += 1;
                if let Err(error) = row(each) {
                    self.problem(error);
                }
            }
        }
        self.counts.push((table.name(), count));
        Ok(())
    }
}

/// Reads every row of the journal: each must be what was written, and lead to what it names.
///
/// # Errors
/// [`StoreError`] when it cannot be read to its end.
pub fn journal(store: &dyn Store) -> Result<Findings, StoreError> {
    let mut findings = Findings::default();
    match store.get(Table::Format, FORMAT_KEY)?.as_deref() {
        Some([FORMAT]) => {}
        Some([found]) => {
            let (found, known) = (*found, FORMAT);
            return Err(StoreError::Format { found, known });
        }
        _ => findings.problem("the journal does not say which format it has"),
    }
    let mut mailboxes = HashSet::new();
    findings.each(store, Table::Sessions, |(key, value)| {
        let (id, _) = split_key(Table::Sessions, key)?;
        mailboxes.insert(id);
        SessionRecord::decode(value).map(drop)
    })?;
    let mut ended = HashSet::<MailboxId>::new();
    let mut groups = HashSet::new();
    findings.each(store, Table::Subscriptions, |(key, value)| {
        let (id, filter) = split_key(Table::Subscriptions, key)?;
        let (_, group) = decode_subscription(value)?;
        let filter =
            std::str::from_utf8(filter).map_err(|error| damaged(Table::Subscriptions, error))?;
        FilterName::parse(filter).map_err(|error| damaged(Table::Subscriptions, error))?;
        if mailboxes.contains(&id) {
            groups.extend(group);
        } else {
            ended.insert(id);
        }
        Ok(())
    })?;
    mailboxes.extend(groups);
    findings.each(store, Table::Received, |(key, _)| {
        let (id, pkid) = split_key(Table::Received, key)?;
        if pkid.len() != 2 {
            let why = "a key is not a packet identifier";
            return Err(damaged(Table::Received, why));
        }
        if !mailboxes.contains(&id) {
            ended.insert(id);
        }
        Ok(())
    })?;
    // Whether anybody is owed it.
    let mut messages = HashMap::new();
    findings.each(store, Table::Messages, |(key, value)| {
        let number = number(Table::Messages, key)?;
        messages.insert(number, false);
        decode_message(Table::Messages, number, value).map(drop)
    })?;
    let mut gone = 0u64;
    findings.each(store, Table::Queue, |(key, value)| {
        let (id, seq) = split_key(Table::Queue, key)?;
        number(Table::Queue, seq)?;
        let note = Note::decode(value)?;
        match messages.get_mut(&note.message) {
            Some(owed) => *owed = true,
            None => gone += 1,
        }
        if !mailboxes.contains(&id) {
            ended.insert(id);
        }
        Ok(())
    })?;
    findings.each(store, Table::Retained, |(_, value)| {
        decode_message(Table::Retained, 0, value).map(drop)
    })?;
    findings.each(store, Table::Answered, |(key, _)| {
        let damaged = |why: &dyn std::fmt::Display| damaged(Table::Answered, why);
        let text = std::str::from_utf8(key).map_err(|error| damaged(&error))?;
        let pair = text.split_once('\0');
        pair.map(drop)
            .ok_or_else(|| damaged(&"a key without U+0000"))
    })?;
    // As recovery does: of two changes that nobody had been told of, a loss of power may keep the later one alone. So the
    // message was never acknowledged to its publisher, or its reader had acknowledged it.
    if gone > 0 {
        findings.remarks.push(format!(
            "{gone} entries of mailboxes name messages that are not there, as a loss of power leaves behind: nobody is owed them, and the \
             broker removes them when it starts"
        ));
    }
    let unowed = messages.values().filter(|owed| !**owed).count();
    if unowed > 0 {
        findings.remarks.push(format!(
            "{unowed} messages are owed to nobody; the broker removes them when it starts"
        ));
    }
    if !ended.is_empty() {
        findings.remarks.push(format!(
            "{} sessions ended and are not tidied up yet; the broker does so when it starts",
            ended.len()
        ));
    }
    Ok(findings)
}

/// Reads every user's file.
///
/// # Errors
/// When the directory cannot be read.
pub fn users(dir: &Path, realm: &Realm, findings: &mut Findings) -> io::Result<()> {
    let (count, damaged) = registry::inspect(dir, realm)?;
    findings.counts.push(("users", count));
    for problem in damaged {
        findings.problem(problem);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rumqttd::protocol::QoS;

    use super::*;
    use crate::journal::recovery;
    use crate::journal::simulated::SimulatedStore;
    use crate::journal::store::{Durability, Write};
    use crate::protocol::message::Message;
    use crate::protocol::topic_name::TopicName;

    fn row(table: Table, key: Vec<u8>, value: Vec<u8>) -> Write {
        let value = Some(value);
        Write { table, key, value }
    }

    /// A journal with an entry of a mailbox whose message is not there, and this besides.
    fn with_a_stray_entry(more: Vec<Write>) -> SimulatedStore {
        let message = Message {
            number: 7,
            topic: TopicName::parse(b"t").unwrap(),
            payload: "x".into(),
            properties: None,
            expires: None,
            sender: None,
            supersedes: false,
        };
        let note = Note::new(&message, QoS::AtLeastOnce, false, &[]);
        let store = SimulatedStore::default();
        let mut rows = vec![
            row(Table::Format, FORMAT_KEY.to_vec(), vec![FORMAT]),
            row(
                Table::Queue,
                MailboxId(1).entry_key(1).to_vec(),
                note.encode(),
            ),
        ];
        rows.extend(more);
        store.commit(rows, Durability::Synced).unwrap();
        store
    }

    #[test]
    fn what_recovery_puts_right_is_no_problem() {
        let store = with_a_stray_entry(Vec::new());
        let found = journal(&store).unwrap();
        assert_eq!(found.problems, [""; 0]);
        assert!(found.remarks[0].contains("1 entries"), "{found:?}");
        let store = Arc::new(store);
        recovery::open(Arc::clone(&store) as Arc<dyn Store>, 0).unwrap();
        let found = journal(&*store).unwrap();
        assert!(
            found.problems.is_empty() && found.remarks.is_empty(),
            "{found:?}"
        );
    }

    #[test]
    fn what_recovery_refuses_is_a_problem() {
        let damaged = row(Table::Messages, 9_u64.to_be_bytes().to_vec(), vec![0xff]);
        let store = with_a_stray_entry(vec![damaged]);
        assert_eq!(journal(&store).unwrap().problems.len(), 1);
    }
}
