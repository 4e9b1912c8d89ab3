use serde_json::{Value, json};

use super::*;
use crate::store::Incoming;
use crate::store::tests::{at, store, user};
use sealpost_core::MessageId;
use tokio::sync::mpsc;

/// A client of a desk: what it was sent, and what it says.
struct Program {
    id: ClientId,
    lines: mpsc::Receiver<Line>,
    cut: tokio_util::sync::CancellationToken,
}

impl Program {
    fn enter(desk: &mut Desk, id: ClientId) -> Program {
        let (out, lines, cut) = Lines::new();
        desk.take(Coming::Joined(id, out)).unwrap();
        Program { id, lines, cut }
    }

    fn asks(&mut self, desk: &mut Desk, method: &str, params: Value) {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        desk.take(Coming::Line(self.id, request.to_string().into_bytes()))
            .unwrap();
    }

    fn call(&mut self, desk: &mut Desk, method: &str, params: Value) -> Value {
        self.asks(desk, method, params);
        self.next().expect("an answer")
    }

    fn subscribe(&mut self, desk: &mut Desk, how: &str) {
        let answer = self.call(desk, "subscribe", json!({ "ack": how }));
        assert_eq!(answer["result"], json!({}), "{answer}");
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.lines.try_recv().ok()?;
        Some(serde_json::from_str(&line.text).unwrap())
    }

    /// The ids of the messages that it was given.
    fn messages(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next())
            .map(|line| line["params"]["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn desk(folder: &tempfile::TempDir) -> Desk {
    let manners = Manners {
        user: user("alice"),
        realm: "local".into(),
        trust: TrustPolicy::default(),
        read_receipts: false,
    };
    Desk::new(store(folder), manners)
}

/// So many messages of bob's, with their ids.
fn receive(folder: &tempfile::TempDir, count: u64) -> Vec<String> {
    let mut store = store(folder);
    (0..count)
        .map(|n| {
            let id = MessageId::new(at(n + 1), &mut rand::rng());
            let message = Incoming {
                from: &user("bob"),
                id: &id,
                prev: None,
                ts: at(n + 1),
                body: br#"{"kind":"text","text":"hi"}"#,
                digest: [0; 32],
                signer: None,
            };
            store.accept(&message, at(n + 1)).unwrap();
            id.to_string()
        })
        .collect()
}

fn ack(id: &str) -> Value {
    json!({ "from": "bob", "id": id })
}

#[test]
fn what_was_not_acknowledged_comes_again_to_the_next_subscriber() {
    let folder = tempfile::tempdir().unwrap();
    let (mut desk, ids) = (desk(&folder), receive(&folder, 3));
    let mut first = Program::enter(&mut desk, 1);
    first.subscribe(&mut desk, "manual");
    assert_eq!(first.messages(), ids);
    let answer = first.call(&mut desk, "ack", ack(&ids[1]));
    assert_eq!(answer["result"], json!({}));
    let twice = first.call(&mut desk, "ack", ack(&ids[1]));
    assert_eq!(twice["error"]["data"]["code"], 1, "{twice}");
    let mut second = Program::enter(&mut desk, 2);
    second.subscribe(&mut desk, "manual");
    assert!(second.messages().is_empty(), "one at a time");
    let not_theirs = second.call(&mut desk, "ack", ack(&ids[0]));
    assert_eq!(not_theirs["error"]["data"]["code"], 1, "{not_theirs}");
    desk.take(Coming::Gone(1)).unwrap();
    assert_eq!(second.messages(), [ids[0].clone(), ids[2].clone()]);
}

#[test]
fn no_more_is_handed_out_than_may_be_unacknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (mut desk, ids) = (desk(&folder), receive(&folder, 40));
    let mut bot = Program::enter(&mut desk, 1);
    bot.subscribe(&mut desk, "manual");
    assert_eq!(bot.messages(), ids[..MAX_HANDED_OUT]);
    bot.call(&mut desk, "ack", ack(&ids[5]));
    assert_eq!(bot.messages(), ids[MAX_HANDED_OUT..=MAX_HANDED_OUT]);
}

#[test]
fn automatically_a_message_is_shown_when_it_was_written_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let (mut desk, ids) = (desk(&folder), receive(&folder, 2));
    let mut bot = Program::enter(&mut desk, 1);
    bot.subscribe(&mut desk, "auto");
    let line = bot.lines.try_recv().unwrap();
    assert_eq!(desk.store.unshown(0, 10).unwrap().len(), 2);
    desk.take(Coming::Written(1, line.acknowledges.unwrap()))
        .unwrap();
    desk.take(Coming::Gone(1)).unwrap();
    let mut next = Program::enter(&mut desk, 2);
    next.subscribe(&mut desk, "manual");
    assert_eq!(next.messages(), ids[1..]);
}

#[test]
fn a_slow_reader_is_disconnected_and_loses_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let (mut desk, ids) = (desk(&folder), receive(&folder, 1));
    let mut slow = Program::enter(&mut desk, 1);
    slow.subscribe(&mut desk, "manual");
    for _ in 0..super::super::MAX_LINES {
        slow.asks(&mut desk, "status", json!({}));
    }
    assert!(slow.cut.is_cancelled());
    let mut next = Program::enter(&mut desk, 2);
    next.subscribe(&mut desk, "manual");
    assert_eq!(next.messages(), ids);
}

#[test]
fn a_message_is_on_disk_when_its_id_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder);
    let mut bot = Program::enter(&mut desk, 1);
    let answer = bot.call(&mut desk, "send", json!({ "to": "bob", "text": "hi" }));
    let id = answer["result"]["id"].as_str().unwrap();
    let kept = store(&folder).unfinished(10).unwrap();
    assert_eq!(kept[0].id.to_string(), id);
    assert!(desk.wrote() && !desk.wrote());
    let listed = bot.call(&mut desk, "outbox", json!({}));
    assert_eq!(listed["result"][0]["event"], "queued", "{listed}");
    let status = bot.call(&mut desk, "status", json!({}));
    assert_eq!(status["result"]["queued"], 1, "{status}");
    assert_eq!(
        bot.call(&mut desk, "contacts", json!({}))["result"],
        json!([])
    );
}

#[test]
fn what_may_not_be_sent_is_refused_with_our_exit_code_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder);
    let mut bot = Program::enter(&mut desk, 1);
    let me = bot.call(&mut desk, "send", json!({ "to": "alice", "text": "hi" }));
    assert_eq!(me["error"]["data"]["code"], 2, "{me}");
    desk.manners.trust = TrustPolicy::Verified;
    let stranger = bot.call(&mut desk, "send", json!({ "to": "bob", "text": "hi" }));
    assert_eq!(stranger["error"]["data"]["code"], 4, "{stranger}");
    assert_eq!(desk.store.queued().unwrap(), 0);
}

#[test]
fn a_key_is_answered_alike_when_nothing_may_be_sent_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder);
    let mut bot = Program::enter(&mut desk, 1);
    let message = json!({ "to": "bob", "text": "hi", "key": "k" });
    let first = bot.call(&mut desk, "send", message.clone());
    desk.manners.trust = TrustPolicy::Verified;
    assert_eq!(bot.call(&mut desk, "send", message), first);
    let another = bot.call(
        &mut desk,
        "send",
        json!({ "to": "bob", "text": "ho", "key": "k" }),
    );
    assert!(another["error"]["message"].is_string(), "{another}");
    assert_eq!(desk.store.queued().unwrap(), 1);
}

#[test]
fn the_status_tells_since_when_and_why_there_is_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder);
    let mut bot = Program::enter(&mut desk, 1);
    let connection = |connected| Connection {
        connected,
        broker: "mqtt://localhost".into(),
        retired: false,
    };
    desk.set_connection(connection(true));
    let up = bot.call(&mut desk, "status", json!({}))["result"].clone();
    assert_eq!(
        (&up["state"], up.get("reason")),
        (&json!("connected"), None)
    );
    desk.set_connection(connection(false));
    desk.tell(&Event::Status {
        state: "disconnected",
        broker: "mqtt://localhost".into(),
        reason: Some("gone".into()),
        hint: None,
        retry_in: Some(1.0),
    });
    let down = bot.call(&mut desk, "status", json!({}))["result"].clone();
    assert_eq!(down["reason"], "gone", "{down}");
    assert!(down["since"].as_f64().unwrap() >= up["since"].as_f64().unwrap());
    desk.set_connection(connection(true));
    let up = bot.call(&mut desk, "status", json!({}));
    assert_eq!(up["result"].get("reason"), None);
}

#[test]
fn events_go_to_all_subscribers_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder);
    let mut programs: Vec<Program> = (0..3).map(|id| Program::enter(&mut desk, id)).collect();
    programs[0].subscribe(&mut desk, "auto");
    programs[1].subscribe(&mut desk, "manual");
    desk.tell(&Event::Agent { until: None });
    let told: Vec<bool> = programs
        .iter_mut()
        .map(|one| one.next().is_some())
        .collect();
    assert_eq!(told, [true, true, false]);
}
