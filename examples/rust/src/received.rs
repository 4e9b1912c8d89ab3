//! What was received: the mail, and what has been seen.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sealpost_core::{Content, Envelope, MessageId, Seen, Timestamp, UserId};
use serde_json::{Value, json};

use crate::home::{Result, read};

/// Ids remembered of each sender, before its floor is raised (7.6).
const MAX_SEEN: usize = 4_096;

/// `received.jsonl` is both the mail and the ids seen, so that storing one and marking the other is one write (7.6).
#[derive(Default)]
pub(crate) struct Received(HashMap<UserId, (HashMap<MessageId, Timestamp>, Option<Timestamp>)>);

impl Seen for Received {
    fn contains(&self, from: &UserId, id: &MessageId) -> bool {
        self.0
            .get(from)
            .is_some_and(|(seen, _)| seen.contains_key(id))
    }

    fn floor(&self, from: &UserId) -> Option<Timestamp> {
        self.0.get(from).and_then(|(_, floor)| *floor)
    }
}

impl Received {
    pub(crate) fn load(path: &Path) -> Result<Received> {
        let mut received = Received::default();
        let text = String::from_utf8(read(path)?.unwrap_or_default())?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let line: Value = serde_json::from_str(line)?;
            let member = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
            let ts = line.get("ts").and_then(Value::as_u64).unwrap_or_default();
            received.remember(
                &UserId::parse(member("from"))?,
                MessageId::parse(member("id"))?,
                Timestamp::from_millis(ts)?,
            );
        }
        if !text.is_empty() && !text.ends_with('\n') {
            // The power went in the middle of a line.
            let length = if whole.is_empty() { 0 } else { whole.len() + 1 };
            OpenOptions::new()
                .write(true)
                .open(path)?
                .set_len(u64::try_from(length)?)?;
        }
        Ok(received)
    }

    fn remember(&mut self, from: &UserId, id: MessageId, ts: Timestamp) {
        let (seen, floor) = self.0.entry(from.clone()).or_default();
        seen.insert(id, ts);
        if seen.len() > MAX_SEEN {
            // The floor covers the older half from now on.
            let mut times: Vec<Timestamp> = seen.values().copied().collect();
            times.sort_unstable();
            let raised = times
                .get(MAX_SEEN / 2)
                .map(|ts| ts.saturating_add(Duration::from_millis(1)));
            seen.retain(|_, ts| raised.is_none_or(|floor| *ts >= floor));
            *floor = raised.max(*floor);
        }
    }

    pub(crate) fn store(
        &mut self,
        path: &Path,
        envelope: &Envelope,
        content: &Content,
    ) -> Result<Value> {
        let content: Value = serde_json::from_str(&content.to_json()?)?;
        let (from, id, ts) = (envelope.from(), envelope.id(), envelope.ts());
        let line = json!({"from": from.as_str(), "id": id.to_string(), "ts": ts.millis(), "content": content});
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        self.remember(from, *id, ts);
        Ok(json!({"from": from.as_str(), "id": id.to_string(), "content": content}))
    }
}
