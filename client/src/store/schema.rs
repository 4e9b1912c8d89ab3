//! The tables, and how those of earlier versions become today's.

use std::cmp::Ordering;

use rand::RngExt;
use rusqlite::{Connection, Transaction};

use super::StoreError;

/// What each version added to the one before. The number of those that were done is SQLite's `user_version`.
const STEPS: [&str; 6] = [FIRST, OUTBOX, HISTORY, SEND_KEYS, CONVERSATIONS, FILES];

pub(super) const FIRST: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whose identity was pinned. `offered` is the bundle of a changed identity that waits for a decision.
CREATE TABLE contacts (
    user      TEXT PRIMARY KEY,
    identity  BLOB NOT NULL,
    seq       INTEGER NOT NULL,
    digest    BLOB NOT NULL,
    verified  INTEGER NOT NULL,
    pinned_at INTEGER NOT NULL,
    bundle    BLOB NOT NULL,
    offered   BLOB,
    failures  INTEGER NOT NULL DEFAULT 0,
    last_sent BLOB
) STRICT, WITHOUT ROWID;

-- What was received, text encrypted. `shown` is 0 until it was printed.
CREATE TABLE messages (
    number      INTEGER PRIMARY KEY,
    sender      TEXT NOT NULL,
    id          BLOB NOT NULL,
    prev        BLOB,
    ts          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    body        BLOB NOT NULL,
    shown       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (sender, id)
) STRICT;
CREATE INDEX messages_unshown ON messages (number) WHERE shown = 0;

-- Which messages must not be opened again; below `floor` (ms since the epoch) nothing of that sender is.
CREATE TABLE seen (
    sender   TEXT NOT NULL,
    id       BLOB NOT NULL,
    ts       INTEGER NOT NULL,
    reported INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sender, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_time ON seen (sender, ts);
CREATE TABLE senders (
    user       TEXT PRIMARY KEY,
    seen_count INTEGER NOT NULL DEFAULT 0,
    floor      INTEGER
) STRICT, WITHOUT ROWID;

-- Envelopes that cannot be opened yet, and which refused ones were reported already.
CREATE TABLE waiting (
    digest   BLOB PRIMARY KEY,
    sender   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;
CREATE INDEX waiting_by_sender ON waiting (sender, at);
CREATE TABLE refused (
    digest BLOB PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refused_by_time ON refused (at);
";

const OUTBOX: &str = "
-- SHA-256 of the signed transcript: what a receipt names. Messages of the first version have none.
ALTER TABLE messages ADD COLUMN digest BLOB;
-- How often a copy came again.
ALTER TABLE seen ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;
-- Whether receipts go to this contact.
ALTER TABLE contacts ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
UPDATE contacts SET accepted = 1 WHERE last_sent IS NOT NULL OR verified = 1;

-- What we wrote, text encrypted. States: 0 queued, 1 sent, 2 delivered, 3 read, 4 failed. `digests` are those of every
-- envelope that was made of it; `due` is when it is to go (again).
CREATE TABLE outbox (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient    TEXT NOT NULL,
    id           BLOB NOT NULL UNIQUE,
    written      INTEGER NOT NULL,
    body         BLOB NOT NULL,
    envelope     BLOB,
    digests      BLOB NOT NULL DEFAULT x'',
    state        INTEGER NOT NULL DEFAULT 0,
    changed      INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    due          INTEGER NOT NULL DEFAULT 0,
    problem_code INTEGER,
    problem      TEXT,
    hint         TEXT
) STRICT;
CREATE INDEX outbox_queued ON outbox (recipient, number, due) WHERE state = 0;
CREATE INDEX outbox_unfinished ON outbox (state, due) WHERE state IN (0, 1, 4);

-- Receipts that the broker does not have yet.
CREATE TABLE receipts (
    sender TEXT NOT NULL,
    id     BLOB NOT NULL,
    digest BLOB NOT NULL,
    read   INTEGER NOT NULL,
    PRIMARY KEY (sender, id, read)
) STRICT, WITHOUT ROWID;
";

const HISTORY: &str = "
-- What was imported from a file, text encrypted. `partner` is the other side; `state` is that of a message of ours, as in
-- `outbox`, and NULL for theirs. `at` is the clock of the home that received or wrote it.
CREATE TABLE imported (
    number  INTEGER PRIMARY KEY,
    partner TEXT NOT NULL,
    id      BLOB NOT NULL,
    ts      INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    body    BLOB NOT NULL,
    state   INTEGER
) STRICT;
CREATE UNIQUE INDEX imported_theirs ON imported (partner, id) WHERE state IS NULL;
CREATE UNIQUE INDEX imported_ours ON imported (id) WHERE state IS NOT NULL;
";

const SEND_KEYS: &str = "
-- What programs called the messages they had us send.
CREATE TABLE send_keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key    TEXT NOT NULL UNIQUE,
    id     BLOB NOT NULL
) STRICT;
";

const CONVERSATIONS: &str = "
-- `signer`: whose signature a message had; NULL for those of earlier versions, which are nobody's to edit or delete. `target` is the
-- earlier message that this one is about, and `change` what it does to it: 1 edits, 2 deletes, 3 deletes what has not come yet. `lifetime`
-- in seconds begins when a message was shown, or taken by the broker, and ends at `expires`.
ALTER TABLE messages ADD COLUMN signer BLOB;
ALTER TABLE messages ADD COLUMN target BLOB;
ALTER TABLE messages ADD COLUMN change INTEGER;
ALTER TABLE messages ADD COLUMN lifetime INTEGER;
ALTER TABLE messages ADD COLUMN expires INTEGER;
CREATE INDEX messages_changes ON messages (sender, target) WHERE target IS NOT NULL;
CREATE INDEX messages_expiring ON messages (expires) WHERE expires IS NOT NULL;
ALTER TABLE outbox ADD COLUMN target BLOB;
ALTER TABLE outbox ADD COLUMN change INTEGER;
ALTER TABLE outbox ADD COLUMN lifetime INTEGER;
ALTER TABLE outbox ADD COLUMN expires INTEGER;
CREATE INDEX outbox_changes ON outbox (recipient, target) WHERE target IS NOT NULL;
CREATE INDEX outbox_expiring ON outbox (expires) WHERE expires IS NOT NULL;
ALTER TABLE imported ADD COLUMN target BLOB;
ALTER TABLE imported ADD COLUMN change INTEGER;
CREATE INDEX imported_changes ON imported (partner, target) WHERE target IS NOT NULL;

-- How we deal with somebody, contact or not. `seconds` and `expiry_seq` are the setting of how long messages stay, none when the number is 0;
-- `receipts` and `notify` are NULL where they are as for everybody.
CREATE TABLE conversations (
    partner     TEXT PRIMARY KEY,
    seconds     INTEGER NOT NULL DEFAULT 0,
    expiry_seq  INTEGER NOT NULL DEFAULT 0,
    request     INTEGER NOT NULL DEFAULT 0,
    blocked     INTEGER NOT NULL DEFAULT 0,
    dropped     INTEGER NOT NULL DEFAULT 0,
    muted_until INTEGER,
    receipts    INTEGER,
    notify      INTEGER
) STRICT, WITHOUT ROWID;
";

const FILES: &str = "
-- Files that are offered, with `ours` by us: by the message that offers them, which has name, digest and key. States: 0 offered,
-- 1 moving, 2 checking, 3 arrived, 4 saved, 5 ended. `have`: so many chunks are with the recipient. `want_from`, `want_until`: which chunks were
-- asked for and not sent, or up to which we asked. `place` is a path, encrypted; `say` is what the other side is to be told.
CREATE TABLE files (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    peer       TEXT NOT NULL,
    id         BLOB NOT NULL,
    ours       INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    chunk      INTEGER NOT NULL,
    state      INTEGER NOT NULL DEFAULT 0,
    cause      TEXT,
    place      BLOB,
    asked      INTEGER NOT NULL DEFAULT 0,
    have       INTEGER NOT NULL DEFAULT 0,
    want_from  INTEGER NOT NULL DEFAULT 0,
    want_until INTEGER NOT NULL DEFAULT 0,
    sent       INTEGER NOT NULL DEFAULT 0,
    tries      INTEGER NOT NULL DEFAULT 0,
    due        INTEGER NOT NULL DEFAULT 0,
    say        TEXT,
    began      INTEGER NOT NULL,
    changed    INTEGER NOT NULL,
    UNIQUE (peer, id, ours)
) STRICT;
CREATE INDEX files_under_way ON files (ours, state) WHERE state < 4;
CREATE INDEX files_by_message ON files (id);
CREATE INDEX files_to_say ON files (number) WHERE say IS NOT NULL;
-- Of each chunk of a file of ours, 16 bytes of its SHA-256, 1,024 chunks a row.
CREATE TABLE file_sums (
    file INTEGER NOT NULL,
    part INTEGER NOT NULL,
    sums BLOB NOT NULL,
    PRIMARY KEY (file, part)
) STRICT, WITHOUT ROWID;
";

/// The order of a conversation, for those who read it page by page. No part of the format: who does not find them is slower.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS messages_in_order ON messages (sender, received_at, number);
CREATE INDEX IF NOT EXISTS outbox_in_order ON outbox (recipient, written, number);
CREATE INDEX IF NOT EXISTS imported_in_order ON imported (partner, at, number);
";

/// Whether nothing is missing.
pub(super) fn is_current(db: &Connection) -> Result<bool, StoreError> {
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (version as usize).cmp(&STEPS.len()) {
        Ordering::Greater => Err(StoreError::Version(version)),
        Ordering::Equal => Ok(true),
        Ordering::Less => Ok(false),
    }
}

/// Does what is missing.
pub(super) fn bring_up(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let version: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = version as usize;
    if done > STEPS.len() {
        return Err(StoreError::Version(version));
    }
    for step in STEPS.iter().skip(done) {
        tx.execute_batch(step)?;
    }
    if done == 0 {
        let installation: [u8; 8] = rand::rng().random();
        let installation = super::hex(&installation);
        tx.execute(
            "INSERT INTO meta (key, value) VALUES ('installation', ?1)",
            [&installation],
        )?;
    }
    if done < STEPS.len() {
        tx.pragma_update(None, "user_version", STEPS.len() as u32)?;
    }
    tx.execute_batch(INDEXES)?;
    Ok(())
}
