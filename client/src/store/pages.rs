//! A conversation page by page, for who shows it: from any place on, in either direction, however long it is.

use rusqlite::params;
use sealpost_core::{Timestamp, UserId};

use super::{HistoryEntry, Place, Store, StoreError, from_sql, timestamp_from, to_sql, user_from};

/// A place in the order of a conversation: when by our clock, and then where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Imported, received or written: 0, 1, 2, as the history orders them.
    pub kind: u8,
    /// Its number there.
    pub number: i64,
}

impl Mark {
    fn place(self) -> Place {
        match self.kind {
            0 => Place::Imported(self.number),
            1 => Place::Received(self.number),
            _ => Place::Written(self.number),
        }
    }
}

/// From where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The newest ones.
    End,
    /// Those before this one.
    Before(Mark),
    /// Those after it.
    After(Mark),
}

/// Somebody with whom messages were exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// Who.
    pub user: UserId,
    /// How many of their messages were not shown.
    pub unshown: u32,
    /// When the last message came or was written, by our clock.
    pub last: Option<Timestamp>,
}

/// Each has an index in which its place in the order is found at once: the column of the partner, of the clock, and what else must hold,
/// which is what the history shows.
const TABLES: [(u8, &str, &str, &str, &str); 3] = [
    (
        0,
        "imported",
        "partner",
        "at",
        "AND NOT EXISTS (SELECT 1 FROM messages WHERE this.state IS NULL AND sender = partner AND id = this.id)
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE this.state IS NOT NULL AND id = this.id)
         AND (change IS NULL OR (change = 1
             AND NOT EXISTS (SELECT 1 FROM imported AS original WHERE (original.state IS NULL) = (this.state IS NULL)
                 AND original.partner = this.partner AND original.id = this.target)
             AND NOT EXISTS (SELECT 1 FROM messages WHERE this.state IS NULL AND sender = partner AND id = this.target)
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE this.state IS NOT NULL AND recipient = partner AND id = this.target)))",
    ),
    (
        1,
        "messages",
        "sender",
        "received_at",
        "AND (change IS NULL OR (change = 1
             AND NOT EXISTS (SELECT 1 FROM messages WHERE sender = this.sender AND id = this.target)
             AND NOT EXISTS (SELECT 1 FROM imported WHERE state IS NULL AND partner = this.sender AND id = this.target)))
         AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1)",
    ),
    (
        2,
        "outbox",
        "recipient",
        "written",
        "AND (change IS NULL OR (change = 1
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE recipient = this.recipient AND id = this.target)
             AND NOT EXISTS (SELECT 1 FROM imported WHERE state IS NOT NULL AND partner = this.recipient AND id = this.target)))",
    ),
];

impl Store {
    /// At most `limit` messages exchanged with somebody, oldest first, next to an edge.
    ///
    /// # Errors
    /// When the store fails.
    pub fn page(
        &self,
        with: &UserId,
        edge: Edge,
        limit: u32,
    ) -> Result<Vec<(Mark, HistoryEntry)>, StoreError> {
        let mut marks = Vec::new();
        for (kind, table, partner, clock, also) in TABLES {
            let (order, compare, mark) = match edge {
                Edge::End => ("DESC", "<=", None),
                Edge::Before(mark) => ("DESC", "<", Some(mark)),
                Edge::After(mark) => ("ASC", ">", Some(mark)),
            };
            // Of the same moment, those of a lower kind are before.
            let (at, number) = match mark {
                None => (i64::MAX, i64::MAX),
                Some(mark) => (
                    mark.at,
                    match kind.cmp(&mark.kind) {
                        std::cmp::Ordering::Less => i64::MAX,
                        std::cmp::Ordering::Equal => mark.number,
                        std::cmp::Ordering::Greater => i64::MIN,
                    },
                ),
            };
            let mut statement = self.db.prepare_cached(&format!(
                "SELECT number, {clock} FROM {table} AS this WHERE {partner} = ?1 AND ({clock}, number) {compare} (?2, ?3) {also}
                 ORDER BY {clock} {order}, number {order} LIMIT ?4"
            ))?;
            let rows = statement.query_map(params![with.as_str(), at, number, limit], |row| {
                Ok(Mark {
                    at: row.get(1)?,
                    kind,
                    number: row.get(0)?,
                })
            })?;
            for mark in rows {
                marks.push(mark?);
            }
        }
        marks.sort_unstable();
        let limit = limit as usize;
        match edge {
            Edge::After(_) => marks.truncate(limit),
            _ => drop(marks.drain(..marks.len().saturating_sub(limit))),
        }
        let mut page = Vec::with_capacity(marks.len());
        for mark in marks {
            // It may have been dropped in the meantime.
            if let Some(entry) = self.history_entry(mark.place())? {
                page.push((mark, entry));
            }
        }
        Ok(page)
    }

    /// Everybody with whom messages were exchanged, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn partners(&self) -> Result<Vec<Partner>, StoreError> {
        // Each name is looked up once, and the last of each in an index, however many messages there are.
        let mut statement = self.db.prepare_cached(
            "WITH RECURSIVE
             senders(name) AS (SELECT min(sender) FROM messages UNION ALL
                 SELECT (SELECT min(sender) FROM messages WHERE sender > name) FROM senders WHERE name IS NOT NULL),
             recipients(name) AS (SELECT min(recipient) FROM outbox UNION ALL
                 SELECT (SELECT min(recipient) FROM outbox WHERE recipient > name) FROM recipients WHERE name IS NOT NULL),
             imports(name) AS (SELECT min(partner) FROM imported UNION ALL
                 SELECT (SELECT min(partner) FROM imported WHERE partner > name) FROM imports WHERE name IS NOT NULL),
             everybody AS (SELECT name FROM senders UNION SELECT name FROM recipients UNION SELECT name FROM imports),
             unshown AS (SELECT sender, count(*) AS count FROM messages WHERE shown = 0
                 AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1) GROUP BY sender)
             SELECT name, coalesce((SELECT count FROM unshown WHERE sender = name), 0),
                 max(coalesce((SELECT max(received_at) FROM messages WHERE sender = name), 0),
                     coalesce((SELECT max(written) FROM outbox WHERE recipient = name), 0),
                     coalesce((SELECT max(at) FROM imported WHERE partner = name), 0))
             FROM everybody WHERE name IS NOT NULL ORDER BY name",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, i64>(2)?))
        })?;
        rows.map(|row| {
            let (user, unshown, last) = row?;
            let last = timestamp_from(from_sql(last)?)?;
            Ok(Partner {
                user: user_from(&user)?,
                unshown,
                last: Some(last).filter(|last| last.millis() > 0),
            })
        })
        .collect()
    }

    /// The number of the last message that came; 0 when none did.
    ///
    /// # Errors
    /// When the store fails.
    pub fn last_received(&self) -> Result<i64, StoreError> {
        Ok(self
            .db
            .query_row("SELECT coalesce(max(number), 0) FROM messages", [], |row| {
                row.get(0)
            })?)
    }

    /// Remembers that somebody's messages up to a number were shown. `receipt`: and that they, if accepted, are to learn of it. Says
    /// whether any was not before.
    ///
    /// # Errors
    /// When the store fails.
    pub fn mark_shown_up_to(
        &mut self,
        from: &UserId,
        number: i64,
        receipt: bool,
    ) -> Result<bool, StoreError> {
        let tx = self.immediate()?;
        tx.prepare_cached(
            "INSERT OR IGNORE INTO receipts (sender, id, digest, read)
             SELECT sender, id, messages.digest, 1 FROM messages JOIN contacts ON user = sender
             WHERE sender = ?1 AND number <= ?2 AND shown = 0 AND messages.digest IS NOT NULL AND accepted = 1
             AND coalesce((SELECT receipts FROM conversations WHERE partner = ?1), iif(?3, 2, 1)) = 2",
        )?
        .execute(params![from.as_str(), number, receipt])?;
        // What disappears has its time from now on.
        let now = to_sql(crate::clock::now().millis());
        let marked = tx
            .prepare_cached(
                "UPDATE messages SET shown = 1, expires = coalesce(expires, ?3 + lifetime * 1000)
                 WHERE sender = ?1 AND number <= ?2 AND shown = 0",
            )?
            .execute(params![from.as_str(), number, now])?;
        tx.commit()?;
        Ok(marked > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sealpost_core::MessageId;
    use zeroize::Zeroizing;

    use super::super::tests::{at, store, user};
    use super::super::{ImportedMessage, Incoming, Side};
    use super::*;

    fn receive(store: &mut Store, from: &str, text: &str, now: u64) {
        let message = Incoming {
            from: &user(from),
            id: &MessageId::new(at(now), &mut rand::rng()),
            prev: None,
            ts: at(7),
            body: text.as_bytes(),
            digest: [7; 32],
            signer: None,
        };
        store.accept(&message, at(now)).unwrap();
    }

    fn write(store: &mut Store, to: &str, text: &str, now: u64) {
        let id = MessageId::new(at(now), &mut rand::rng());
        let message = [(id, Zeroizing::new(text.to_owned()))];
        store.enqueue(&user(to), &message, at(now)).unwrap();
    }

    fn texts(page: &[(Mark, HistoryEntry)]) -> Vec<&str> {
        let texts = page
            .iter()
            .map(|(_, entry)| std::str::from_utf8(&entry.body).unwrap());
        texts.collect()
    }

    #[test]
    fn pages_in_both_directions_have_each_message_once_also_of_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        for n in 0..20_u64 {
            // Four of each moment, and others in between.
            let now = 100 + n / 4;
            match n % 3 {
                0 => write(&mut store, "alice", &n.to_string(), now),
                _ => receive(&mut store, "alice", &n.to_string(), now),
            }
            receive(&mut store, "carol", "not this", now);
        }
        let imported = ImportedMessage {
            side: Side::Theirs {
                from: user("alice"),
                id: MessageId::new(at(1), &mut rand::rng()),
                ts: at(7),
                received: at(102),
            },
            body: Zeroizing::new("imported".into()),
        };
        store.import_history(&[imported]).unwrap();
        let alice = user("alice");
        let whole = store.page(&alice, Edge::End, 100).unwrap();
        assert_eq!(whole.len(), 21);
        for limit in [1, 2, 3, 7] {
            let mut back = store.page(&alice, Edge::End, limit).unwrap();
            while let Some((first, _)) = back.first() {
                let mut older = store.page(&alice, Edge::Before(*first), limit).unwrap();
                if older.is_empty() {
                    break;
                }
                older.append(&mut back);
                back = older;
            }
            assert_eq!(texts(&back), texts(&whole));
            let mut on = store.page(&alice, Edge::End, 100).unwrap();
            on.truncate(1);
            while let Some((last, _)) = on.last() {
                let mut newer = store.page(&alice, Edge::After(*last), limit).unwrap();
                if newer.is_empty() {
                    break;
                }
                on.append(&mut newer);
            }
            assert_eq!(texts(&on), texts(&whole));
        }
    }

    #[test]
    fn partners_are_everybody_with_what_was_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        receive(&mut store, "alice", "1", 100);
        receive(&mut store, "alice", "2", 101);
        write(&mut store, "bob", "3", 102);
        let last = store.last_received().unwrap();
        receive(&mut store, "alice", "4", 103);
        let partners = |store: &Store| {
            let partners = store.partners().unwrap().into_iter();
            partners
                .map(|p| (p.user.to_string(), p.unshown, p.last))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            partners(&store),
            [
                ("alice".into(), 3, Some(at(103))),
                ("bob".into(), 0, Some(at(102)))
            ]
        );
        assert!(store.mark_shown_up_to(&user("alice"), last, true).unwrap());
        assert!(!store.mark_shown_up_to(&user("alice"), last, true).unwrap());
        assert_eq!(partners(&store)[0].1, 1);
    }

    /// What a program that shows it does at its start. A bound that only work which grows with the history would miss.
    #[test]
    fn a_hundred_thousand_messages_are_there_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let messages: Vec<ImportedMessage> = (0..100_000_u64)
            .map(|n| ImportedMessage {
                side: Side::Theirs {
                    from: user(if n % 2 == 0 { "alice" } else { "bob" }),
                    id: MessageId::new(at(n), &mut rand::rng()),
                    ts: at(n),
                    received: at(n + 1),
                },
                body: Zeroizing::new(format!("{{\"kind\":\"text\",\"text\":\"number {n}\"}}")),
            })
            .collect();
        store.import_history(&messages).unwrap();
        // As if they had come: a hundred thousand signatures would take minutes.
        store
            .db
            .execute_batch(
                "INSERT INTO messages (sender, id, ts, received_at, body, shown) SELECT partner, id, ts, at, body, 1 FROM imported",
            )
            .unwrap();
        store.db.execute_batch("DELETE FROM imported").unwrap();
        let begun = Instant::now();
        let partners = store.partners().unwrap();
        let page = store.page(&user("alice"), Edge::End, 0).unwrap();
        let mark = Mark {
            at: 50_000,
            kind: 1,
            number: 1,
        };
        let places = store.page(&user("alice"), Edge::Before(mark), 0).unwrap();
        let took = begun.elapsed();
        println!("people and two places in 100,000 messages: {took:?}");
        assert_eq!((partners.len(), page.len(), places.len()), (2, 0, 0));
        assert!(took.as_millis() < 100, "{took:?}");
    }
}
