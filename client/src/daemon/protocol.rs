//! JSON-RPC 2.0: requests from lines, answers to lines.

use std::path::PathBuf;

use schemars::JsonSchema;
use sealpost_core::{Content, Lifetime, MessageId, UserId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::event::{self, Event, Time};
use crate::exit::{Code, Failure};
use crate::settings::Receipts;
use crate::store::Notify;

/// The longest key of a message to be sent, in bytes.
const MAX_KEY: usize = 128;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// Send a message.
    Send {
        to: UserId,
        content: Content,
        /// What the program calls it, so that asking again sends nothing twice.
        key: Option<String>,
        /// The id of the message that it answers.
        reply: Option<MessageId>,
    },
    /// Another text in place of one of ours.
    Edit {
        id: MessageId,
        with: Option<UserId>,
        text: String,
    },
    /// Take a message of ours back, or remove one here alone.
    Delete {
        id: MessageId,
        with: Option<UserId>,
        here: bool,
    },
    /// How long messages stay; `None`: for ever.
    Expire {
        with: UserId,
        lifetime: Option<Lifetime>,
    },
    /// Who asks to be let in.
    Requests,
    /// With whom we deal in some way of their own.
    Conversations,
    /// How somebody is to be dealt with.
    Deal { user: UserId, how: Dealing },
    /// Offer a file, once it was read.
    SendFile { to: UserId, path: PathBuf },
    /// Which files were offered, and how far they are.
    Files,
    /// Save one into a folder, and fetch it before if it is not here.
    SaveFile { file: String, folder: PathBuf },
    /// Take one back, or decline it.
    CancelFile { file: String },
    /// How things are.
    Status,
    /// What has not arrived.
    Outbox,
    /// Whom we know.
    Contacts,
    /// Events from now on.
    Subscribe(Acknowledge),
    /// A message was dealt with.
    Ack { from: UserId, id: MessageId },
}

/// How somebody is to be dealt with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Dealing {
    /// Let them in, and let them know when messages arrive.
    Accept,
    Block,
    Unblock,
    /// For so many seconds; `None`: until they are unmuted.
    Mute(Option<u64>),
    Unmute,
    /// What is different from everybody, where something is said: `None` within is as everybody.
    Set {
        receipts: Option<Option<Receipts>>,
        notify: Option<Option<Notify>>,
    },
}

/// When a message counts as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Acknowledge {
    /// When it was written to the socket.
    Auto,
    /// When the subscriber says so.
    Manual,
}

/// A request as it was understood. Without an `id` (a notification) nothing is answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: Option<Value>,
    pub(super) call: Result<Call, Refusal>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    /// JSON-RPC's code.
    code: i32,
    message: String,
    /// Ours.
    exit: Code,
    hint: String,
}

impl Refusal {
    fn new(code: i32, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            exit: Code::Usage,
            hint: "The daemon's methods are in the client's README.".to_owned(),
        }
    }

    fn params(problem: impl std::fmt::Display) -> Refusal {
        Refusal::new(-32_602, format!("wrong params: {problem}"))
    }

    /// Nothing more is read of it.
    pub(super) fn too_long() -> Refusal {
        let problem = format!("the request is longer than {} bytes", super::MAX_REQUEST);
        Refusal::new(-32_600, problem)
    }

    /// Nobody else is let in.
    pub(super) fn too_many() -> Refusal {
        Refusal {
            exit: Code::Failed,
            ..Refusal::new(-32_000, "too many clients are connected")
        }
    }
}

impl<F: Into<Failure>> From<F> for Refusal {
    fn from(failure: F) -> Refusal {
        let failure = failure.into();
        Refusal {
            code: -32_000,
            message: failure.message,
            exit: failure.code,
            hint: failure.hint,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    jsonrpc: String,
    // A null id is an id.
    #[serde(default, deserialize_with = "some")]
    id: Option<Value>,
    method: String,
    params: Option<Value>,
}

fn some<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendParams {
    to: String,
    text: Option<String>,
    content: Option<Value>,
    key: Option<String>,
    reply: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditParams {
    id: String,
    with: Option<String>,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteParams {
    id: String,
    with: Option<String>,
    #[serde(default)]
    here: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpireParams {
    with: String,
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserParams {
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuteParams {
    user: String,
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetParams {
    user: String,
    // A null is a word, too: as everybody.
    #[serde(default, deserialize_with = "said")]
    receipts: Option<Option<Receipts>>,
    #[serde(default, deserialize_with = "said")]
    notify: Option<Option<Notify>>,
}

fn said<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendFileParams {
    to: String,
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaveFileParams {
    file: FileName,
    folder: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelFileParams {
    file: FileName,
}

/// A file's number, or the id of the message that offers it.
#[derive(Deserialize)]
#[serde(untagged)]
enum FileName {
    Number(i64),
    Id(String),
}

impl FileName {
    fn text(self) -> String {
        match self {
            FileName::Number(number) => number.to_string(),
            FileName::Id(id) => id,
        }
    }
}

/// The daemon's working directory is nobody's business.
fn absolute(path: PathBuf) -> Result<PathBuf, Refusal> {
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Refusal::params("a path is to be absolute")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeParams {
    ack: Acknowledge,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckParams {
    from: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// Reads a line.
pub(super) fn parse(line: &[u8]) -> Request {
    let refused = |refusal| Request {
        id: Some(Value::Null),
        call: Err(refusal),
    };
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(_) => return refused(Refusal::new(-32_700, "that is not JSON")),
    };
    let frame: Frame = match serde_json::from_value(value) {
        Ok(frame) => frame,
        Err(error) => return refused(Refusal::new(-32_600, format!("no request: {error}"))),
    };
    if frame.jsonrpc != "2.0" {
        return refused(Refusal::new(-32_600, "jsonrpc is to be \"2.0\""));
    }
    if matches!(&frame.id, Some(id) if !(id.is_string() || id.is_number() || id.is_null())) {
        return refused(Refusal::new(-32_600, "an id is a string, a number or null"));
    }
    Request {
        id: frame.id,
        call: call(&frame.method, frame.params),
    }
}

fn call(method: &str, params: Option<Value>) -> Result<Call, Refusal> {
    match method {
        "send" => {
            let SendParams {
                to,
                text,
                content,
                key,
                reply,
            } = read(params)?;
            if key
                .as_ref()
                .is_some_and(|key| !(1..=MAX_KEY).contains(&key.len()))
            {
                return Err(Refusal::params(format!("a key has 1 to {MAX_KEY} bytes")));
            }
            let content = match (text, content) {
                (Some(text), None) => Content::Text { text },
                (None, Some(content)) => parse_content(&content)?,
                _ => return Err(Refusal::params("give either text or content")),
            };
            let to = parse_user(&to)?;
            let reply = reply.as_deref().map(parse_id).transpose()?;
            if reply.is_some() && !matches!(content, Content::Text { .. }) {
                return Err(Refusal::params("only a text is an answer"));
            }
            Ok(Call::Send {
                to,
                content,
                key,
                reply,
            })
        }
        "edit" => {
            let EditParams { id, with, text } = read(params)?;
            let with = with.as_deref().map(parse_user).transpose()?;
            let id = parse_id(&id)?;
            Ok(Call::Edit { id, with, text })
        }
        "delete" => {
            let DeleteParams { id, with, here } = read(params)?;
            let with = with.as_deref().map(parse_user).transpose()?;
            let id = parse_id(&id)?;
            Ok(Call::Delete { id, with, here })
        }
        "expire" => {
            let ExpireParams { with, seconds } = read(params)?;
            let lifetime = match seconds {
                0 => None,
                seconds => Some(
                    Lifetime::from_seconds(seconds)
                        .ok_or_else(|| Refusal::params("seconds are 0, or 5 to 31536000"))?,
                ),
            };
            let with = parse_user(&with)?;
            Ok(Call::Expire { with, lifetime })
        }
        "requests" => read::<NoParams>(params).map(|_| Call::Requests),
        "conversations" => read::<NoParams>(params).map(|_| Call::Conversations),
        "accept" | "block" | "unblock" | "unmute" => {
            let UserParams { user } = read(params)?;
            let how = match method {
                "accept" => Dealing::Accept,
                "block" => Dealing::Block,
                "unblock" => Dealing::Unblock,
                _ => Dealing::Unmute,
            };
            let user = parse_user(&user)?;
            Ok(Call::Deal { user, how })
        }
        "mute" => {
            let MuteParams { user, seconds } = read(params)?;
            let (user, how) = (parse_user(&user)?, Dealing::Mute(seconds));
            Ok(Call::Deal { user, how })
        }
        "set" => {
            let SetParams {
                user,
                receipts,
                notify,
            } = read(params)?;
            let (user, how) = (parse_user(&user)?, Dealing::Set { receipts, notify });
            Ok(Call::Deal { user, how })
        }
        "send_file" => {
            let SendFileParams { to, path } = read(params)?;
            Ok(Call::SendFile {
                to: parse_user(&to)?,
                path: absolute(path)?,
            })
        }
        "files" => read::<NoParams>(params).map(|_| Call::Files),
        "save_file" => {
            let SaveFileParams { file, folder } = read(params)?;
            Ok(Call::SaveFile {
                file: file.text(),
                folder: absolute(folder)?,
            })
        }
        "cancel_file" => {
            let CancelFileParams { file } = read(params)?;
            Ok(Call::CancelFile { file: file.text() })
        }
        "status" => read::<NoParams>(params).map(|_| Call::Status),
        "outbox" => read::<NoParams>(params).map(|_| Call::Outbox),
        "contacts" => read::<NoParams>(params).map(|_| Call::Contacts),
        "subscribe" => read::<SubscribeParams>(params).map(|how| Call::Subscribe(how.ack)),
        "ack" => {
            let AckParams { from, id } = read(params)?;
            let from = parse_user(&from)?;
            let id = parse_id(&id)?;
            Ok(Call::Ack { from, id })
        }
        _ => Err(Refusal::new(-32_601, "there is no such method")),
    }
}

fn read<T: DeserializeOwned>(params: Option<Value>) -> Result<T, Refusal> {
    // An array would do for serde, by the order of the members.
    match params.unwrap_or_else(|| json!({})) {
        params @ Value::Object(_) => serde_json::from_value(params).map_err(Refusal::params),
        _ => Err(Refusal::params("params are given by name")),
    }
}

fn parse_user(name: &str) -> Result<UserId, Refusal> {
    UserId::parse(name).map_err(|error| Refusal::params(format!("no user name: {error}")))
}

fn parse_id(id: &str) -> Result<MessageId, Refusal> {
    MessageId::parse(id).map_err(Refusal::params)
}

fn parse_content(content: &Value) -> Result<Content, Refusal> {
    match Content::parse(&content.to_string()) {
        // Receipts are made by the program, for what it received.
        Ok(Content::Receipt(_)) => Err(Refusal::params("a receipt cannot be sent by hand")),
        Ok(content) => Ok(content),
        Err(error) => Err(Refusal::params(error)),
    }
}

/// JSON-RPC's version.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(crate) enum Version {
    #[serde(rename = "2.0")]
    Two,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// Of `outbox`, `contacts`, `requests`, `conversations` and `files`.
    Listed(Vec<Event>),
    /// Of `send`, `edit`, `expire`, and `delete` where the other side is asked.
    Sent {
        /// The message's name, a UUID: it is on disk.
        id: String,
    },
    /// Of `send_file`.
    Offered {
        /// The name of the message that offers it, a UUID: it is on disk.
        id: String,
        /// The number of the file.
        number: i64,
    },
    /// Of `save_file` and `cancel_file`: how far the file is.
    File(Box<Event>),
    /// Of `status`.
    Status {
        /// Who we are.
        user: String,
        /// The deployment.
        realm: String,
        /// `connected` or `disconnected`.
        #[schemars(extend("enum" = ["connected", "disconnected"]))]
        state: &'static str,
        /// The broker, or the last one that was tried.
        broker: String,
        /// Since when it is so.
        since: Time,
        /// Why there is no connection, in the words of whoever ended or refused it.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// How many messages are not with the broker yet.
        queued: u32,
    },
    /// Of what has nothing to say: `subscribe`, `ack`, `accept`, `block` and the like.
    Done {},
}

/// A line from the daemon.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(title = "A line that `sealpost daemon` writes")]
pub(crate) enum Written<'a> {
    /// It was done.
    Result {
        jsonrpc: Version,
        /// Of the request.
        id: &'a Value,
        result: Outcome,
    },
    /// It was not.
    Error {
        jsonrpc: Version,
        /// Of the request; null when that could not be read.
        id: &'a Value,
        error: Problem<'a>,
    },
    /// Something happened, for who has subscribed.
    Notification {
        jsonrpc: Version,
        method: Method,
        params: &'a Event,
    },
}

/// The only method that the daemon calls.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    Event,
}

/// Why it was not done.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Problem<'a> {
    /// JSON-RPC's own, or -32000 for ours.
    code: i32,
    /// What went wrong.
    message: &'a str,
    data: ProblemData<'a>,
}

/// What JSON-RPC leaves to us.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ProblemData<'a> {
    /// The exit code that a command would have ended with.
    code: u8,
    /// What to do.
    hint: &'a str,
}

/// An answer as a line.
pub(super) fn answer(id: &Value, result: Result<Outcome, Refusal>) -> String {
    let jsonrpc = Version::Two;
    match result {
        Ok(result) => line(&Written::Result {
            jsonrpc,
            id,
            result,
        }),
        Err(refusal) => line(&Written::Error {
            jsonrpc,
            id,
            error: Problem {
                code: refusal.code,
                message: &refusal.message,
                data: ProblemData {
                    code: refusal.exit as u8,
                    hint: &refusal.hint,
                },
            },
        }),
    }
}

/// An event as a line.
pub(super) fn notification(event: &Event) -> String {
    line(&Written::Notification {
        jsonrpc: Version::Two,
        method: Method::Event,
        params: event,
    })
}

fn line(what: &Written<'_>) -> String {
    // It always has a text.
    event::json(what).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Refusal {
        parse(line.as_bytes()).call.expect_err(line)
    }

    #[test]
    fn what_is_no_request_is_refused_by_json_rpcs_codes() {
        for (line, code) in [
            ("", -32_700),
            ("{", -32_700),
            ("\u{0}", -32_700),
            ("[]", -32_600),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"status"}]"#, -32_600),
            ("1", -32_600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"status"}"#, -32_600),
            (r#"{"id":1,"method":"status"}"#, -32_600),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"status"}"#, -32_600),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#, -32_601),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"status","params":[]}"#,
                -32_602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":1}}"#,
                -32_602,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"subscribe"}"#, -32_602),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"send","params":{"to":"bob"}}"#,
                -32_602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"send","params":{"to":"B!","text":"x"}}"#,
                -32_602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"send","params":{"to":"bob","content":{}}}"#,
                -32_602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ack","params":{"from":"bob","id":"1"}}"#,
                -32_602,
            ),
        ] {
            assert_eq!(refusal(line).code, code, "{line}");
        }
    }

    #[test]
    fn a_request_without_an_id_is_a_notification_and_null_is_an_id() {
        let id = |line: &str| parse(line.as_bytes()).id;
        assert_eq!(id(r#"{"jsonrpc":"2.0","method":"status"}"#), None);
        assert_eq!(
            id(r#"{"jsonrpc":"2.0","id":null,"method":"status"}"#),
            Some(Value::Null)
        );
    }

    #[test]
    fn texts_and_other_contents_are_sent() {
        let send = |what: &str| {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":"a","method":"send","params":{{"to":"bob",{what}}}}}"#
            );
            match parse(line.as_bytes()).call.unwrap() {
                Call::Send { content, .. } => content,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(send(r#""text":"hi""#), Content::Text { text: "hi".into() });
        assert_eq!(
            send(r#""content":{"kind":"reading","c":21.5}"#).kind(),
            "reading"
        );
    }

    #[test]
    fn an_error_carries_the_exit_code_and_stays_on_its_line() {
        let failure = Failure::new(Code::Untrusted, "changed\n\u{202e}", "decide");
        let line = answer(&json!(7), Err(failure.into()));
        assert!(!line.contains(['\n', '\u{202e}']), "{line}");
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], 7);
        assert_eq!(answer["error"]["data"]["code"], 4);
    }
}
