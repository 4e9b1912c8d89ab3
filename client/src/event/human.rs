//! Events in words, for people. Whatever came from others is cleaned here.

use indicatif::DecimalBytes;
use sealpost_core::{
    Content, Deletion, Expiry, FileOffer, Lifetime, Reading, ReadingGap, Timestamp, saved_name,
};

use super::{Check, ContactChangeKind, Event, ReadingGapInfo, ReadingInfo, Relation, Verdict};
use crate::moment;
use crate::store::Notify;
use crate::terminal::{attributed, clean_line, headed};

impl Event {
    /// The human form, without a line end at its end.
    #[must_use]
    pub fn human(&self) -> String {
        match self {
            Event::Message {
                from,
                kind,
                text,
                content,
                reading,
                reading_gap,
                relation,
                file,
                id,
                ..
            } => match (text, content) {
                (Some(text), _) => {
                    headed(&format!("From {from}{}", relation_words(relation)), text)
                }
                _ if relation.deletes.is_some() => format!("{from} has deleted a message"),
                _ if relation.expiry.is_some() => {
                    let seconds = relation.expiry.map_or(0, |expiry| expiry.seconds);
                    attributed(from, &expiry_words(Lifetime::from_seconds(seconds.into())))
                }
                _ if reading.is_some() || reading_gap.is_some() => {
                    attributed(from, &readings(reading.as_ref(), reading_gap.as_ref()))
                }
                _ if file.is_some() => {
                    let words = file.as_ref().map(|file| file_words(&file.name, file.size));
                    let words = words.unwrap_or_default();
                    attributed(from, &format!("[file {words}: sealpost files save {id}]"))
                }
                (None, Some(content)) => match content.get("text").and_then(|text| text.as_str()) {
                    Some(text) => attributed(from, &format!("[{kind}] {text}")),
                    None => attributed(from, &format!("[{kind}] {content}")),
                },
                (None, None) => attributed(from, &format!("[{kind}]")),
            },
            Event::File { .. } => self.human_file(),
            Event::Taken { number, .. } => format!("readings up to {number} are on disk"),
            Event::Dropped {
                to,
                first,
                last,
                count,
                first_at,
                last_at,
            } => format!(
                "no room: {} dropped before they could go to {to}, {}, of {}",
                counted_readings(*count),
                numbers(*first, *last),
                times(first_at.0, last_at.0)
            ),
            Event::Sent { to, id, .. } => format!("sent to {to}: {id}"),
            Event::Delivered { to, id, .. } => format!("delivered to {to}: {id}"),
            Event::Read { to, id, .. } => format!("read by {to}: {id}"),
            Event::Queued {
                to,
                id,
                problem,
                hint,
                ..
            } => match problem {
                None => format!("queued for {to}: {id}"),
                Some(problem) => format!(
                    "queued for {to}: {id}: {}\n  {}",
                    clean_line(problem),
                    hint.as_deref().unwrap_or_default()
                ),
            },
            Event::Failed {
                to,
                id,
                problem,
                hint,
                ..
            } => format!("given up, to {to}: {id}: {}\n  {hint}", clean_line(problem)),
            Event::Status {
                state,
                broker,
                reason,
                hint,
                retry_in,
            } => match (reason, retry_in) {
                (Some(reason), Some(_)) if hint.is_some() => format!(
                    "{}; trying again\n  {}",
                    clean_line(reason),
                    hint.as_deref().unwrap_or_default()
                ),
                (Some(reason), Some(retry)) => format!(
                    "disconnected from {broker} ({}); trying again in {retry:.1} s",
                    clean_line(reason)
                ),
                _ => format!("{state} to {broker}"),
            },
            Event::Contact { .. } => self.human_contact(),
            Event::Request {
                user,
                fingerprint,
                messages,
                text,
                hint,
            } => {
                let messages =
                    messages.map_or_else(String::new, |count| format!(", with {}", counted(count)));
                let text = text
                    .as_deref()
                    .map_or_else(String::new, |text| format!("\n  {}", clean_line(text)));
                format!(
                    "{user} is new ({fingerprint}) and asks to write to you{messages}{text}\n  {hint}"
                )
            }
            Event::Conversation { .. } => self.human_conversation(),
            Event::SafetyNumber {
                user,
                number,
                fingerprint,
                code,
            } => format!(
                "The safety number with {user} ({fingerprint}):\n\n    {number}\n\nFor {user} to scan, or to give to --scan:\n\n{code}\n"
            ),
            Event::ContactLink { link, .. } => link.clone(),
            Event::Gap { from, .. } => {
                format!("a message from {from} before this one has not arrived (yet)")
            }
            Event::Waiting {
                from,
                id,
                reason,
                hint,
            } => {
                let why = match *reason {
                    "bundle" => "whose keys are not there yet",
                    "decision" => "signed by an identity that you have not accepted",
                    _ => "from whom nothing is opened any more",
                };
                format!("message {id} from {from}, {why}, waits\n  {hint}")
            }
            Event::Handled { from, id, .. } => format!("message {id} from {from} is dealt with"),
            Event::Unhandled {
                from,
                id,
                attempts,
                problem,
                hint,
                retry_in,
            } => match retry_in {
                Some(retry) => format!(
                    "the command for message {id} from {from} failed: {problem}; trying again in {retry} s"
                ),
                None => format!(
                    "the command for message {id} from {from} failed {attempts} times: {problem}\n  {hint}"
                ),
            },
            Event::Refused {
                from,
                id,
                message,
                hint,
                ..
            } => {
                let id = id
                    .as_deref()
                    .map_or_else(String::new, |id| format!(" {id}"));
                let from = from
                    .as_deref()
                    .map_or_else(String::new, |from| format!(" from {}", clean_line(from)));
                format!(
                    "refused a message{id}{from}: {}\n  {hint}",
                    clean_line(message)
                )
            }
            Event::Alarm {
                cause,
                user,
                pinned,
                offered,
                message,
                hint,
            } => match (pinned, offered) {
                (Some(pinned), Some(offered)) if *cause == "identity_changed" => {
                    banner(user, pinned, offered)
                }
                _ => format!("ALARM: {message}\n  {hint}"),
            },
            Event::Keys { .. } => self.human_keys(),
            Event::Agent { until: Some(until) } => {
                let left = until
                    .0
                    .saturating_since(crate::clock::now())
                    .as_secs()
                    .div_ceil(60);
                format!(
                    "the agent holds your key for {left} min: commands do not ask for the passphrase"
                )
            }
            Event::Backup {
                user,
                realm,
                file,
                created,
                messages,
            } => format!(
                "backup of {user} in realm {realm}, made {}, with {}: {}",
                moment::shown(created.0),
                counted(*messages),
                clean_line(file)
            ),
            Event::Restored {
                user,
                realm,
                home,
                created,
                messages,
                fingerprint,
            } => format!(
                "{user} in realm {realm} ({fingerprint}) is restored as of {}, with {}: {}",
                moment::shown(created.0),
                counted(*messages),
                clean_line(home)
            ),
            Event::Unopened {
                key_gone,
                not_the_senders,
                damaged,
            } => format!(
                "{} messages to you could not be opened: {key_gone} are sealed to a key that you do not have any more, \
                 {not_the_senders} are signed by somebody who is not known to be their sender, {damaged} are damaged",
                key_gone + not_the_senders + damaged
            ),
            Event::Agent { until: None } => "no agent holds your key".to_owned(),
            Event::Finding {
                check,
                verdict,
                message,
                hint,
            } => finding(*check, *verdict, message, hint.as_deref()),
            Event::Error { message, hint, .. } if hint.is_empty() => clean_line(message),
            Event::Error { message, hint, .. } => format!("{}\n  {hint}", clean_line(message)),
        }
    }

    fn human_contact(&self) -> String {
        let Event::Contact {
            user,
            change,
            fingerprint,
            verified,
            previous,
            offered,
            suspended,
            withdrawn,
        } = self
        else {
            return String::new();
        };
        match change {
            ContactChangeKind::Known => {
                let verified = if *verified {
                    "verified"
                } else {
                    "not verified"
                };
                let offered = offered.as_ref().map_or_else(String::new, |offered| {
                    format!(", CHANGED to {offered}, see: sealpost contacts trust {user}")
                });
                let suspended = if *suspended { ", SUSPENDED" } else { "" };
                let withdrawn = if *withdrawn { ", KEYS WITHDRAWN" } else { "" };
                format!("{user}  {fingerprint}  {verified}{offered}{suspended}{withdrawn}")
            }
            ContactChangeKind::Pinned => format!(
                "first contact with {user}: {fingerprint} is taken for theirs from now on\n  \
                 To be sure, compare with them: sealpost contacts verify {user}"
            ),
            ContactChangeKind::Replaced => format!(
                "{user} has a new identity, signed by the one before\n  was: {}\n  is:  {fingerprint}\n  \
                 It is no longer verified. To be sure, compare again: sealpost contacts verify {user}",
                previous.as_deref().unwrap_or("unknown")
            ),
            ContactChangeKind::Trusted => {
                format!(
                    "{user} is now {fingerprint}\n  To be sure: sealpost contacts verify {user}"
                )
            }
            ContactChangeKind::Added => format!(
                "{user} is added and verified: {fingerprint}\n  As sure as the way by which the link came to you."
            ),
            ContactChangeKind::Retired => format!(
                "{user} has withdrawn their keys ({fingerprint}): nothing can be sent to them\n  \
                 Perhaps their device was stolen: what still comes in their name may be somebody else's. Ask {user} in some other \
                 way how to reach them."
            ),
            ContactChangeKind::Verified => format!("{user} is verified: {fingerprint}"),
        }
    }

    fn human_conversation(&self) -> String {
        let Event::Conversation {
            user,
            expiry,
            request,
            blocked,
            dropped,
            muted_until,
            receipts,
            notify,
        } = self
        else {
            return String::new();
        };
        let mut words = Vec::new();
        if *request {
            words.push("asks to be let in".to_owned());
        }
        if *blocked {
            words.push(format!("BLOCKED, {} dropped", counted(*dropped)));
        }
        let now = crate::clock::now();
        match muted_until {
            Some(until) if until.0 == Timestamp::MAX => words.push("muted".to_owned()),
            Some(until) if now < until.0 => {
                words.push(format!("muted until {}", moment::shown(until.0)));
            }
            _ => {}
        }
        if let Some(lifetime) = expiry.and_then(|seconds| Lifetime::from_seconds(seconds.into())) {
            words.push(format!(
                "messages disappear after {}",
                lifetime_words(lifetime)
            ));
        }
        if let Some(receipts) = receipts {
            words.push(format!("receipts: {receipts}"));
        }
        if let Some(notify) = notify {
            let notify = match notify {
                Notify::Full => "full",
                Notify::Name => "name",
                Notify::None => "none",
            };
            words.push(format!("notify: {notify}"));
        }
        if words.is_empty() {
            words.push("as with everybody".to_owned());
        }
        format!("{user}  {}", words.join("; "))
    }

    fn human_keys(&self) -> String {
        let Event::Keys {
            user,
            realm,
            fingerprint,
            seq,
            expires,
            encryption,
            passphrase,
            revoked,
            published,
            ..
        } = self
        else {
            return String::new();
        };
        let mut out = format!("user         {user}, realm {realm}\nidentity     {fingerprint}\n");
        out.push_str(&format!(
            "bundle       number {seq}, valid until {}\n",
            date(expires.0)
        ));
        if *revoked {
            out.push_str("             REVOKED: nobody can send to you, and you cannot send\n");
        }
        for key in encryption {
            match key.destroyed {
                None => out.push_str(&format!("encryption   RSA, made {}\n", date(key.created.0))),
                Some(destroyed) => out.push_str(&format!(
                    "             replaced, still opens what is under way until {}, then it is destroyed: what you\n             \
                     received stays readable, copies of it in an archive do not\n",
                    date(destroyed.0)
                )),
            }
        }
        out.push_str(if *passphrase {
            "at rest      encrypted with a passphrase"
        } else {
            "at rest      NOT encrypted"
        });
        match published {
            Some(true) => out.push_str("\npublished    yes"),
            Some(false) => {
                out.push_str("\npublished    not yet: the next command that connects does it");
            }
            None => {}
        }
        out
    }
}

impl Event {
    fn human_file(&self) -> String {
        let Event::File {
            number,
            from,
            to,
            name,
            size,
            done,
            state,
            problem,
            path,
            ..
        } = self
        else {
            return String::new();
        };
        let file = file_words(name, *size);
        let what = match (from, to) {
            (Some(from), _) => format!("file {number} from {from}, {file}"),
            (_, Some(to)) => format!("file {number} to {to}, {file}"),
            _ => format!("file {number}, {file}"),
        };
        let how = match (*state, path) {
            ("saved", Some(path)) => format!("saved as {}", clean_line(path)),
            ("offered", _) if from.is_some() => {
                let why = problem.map_or_else(String::new, |problem| format!(": {problem}"));
                return format!("{what}{why}\n  sealpost files save {number}");
            }
            ("arrived", _) if from.is_some() => {
                let why = problem.map_or_else(String::new, |problem| format!(", but {problem}"));
                return format!("{what}, is here{why}\n  sealpost files save {number}");
            }
            ("arrived", _) => "is there".to_owned(),
            ("moving" | "checking", _) => match problem {
                Some(problem) => format!("{} %, but {problem}", percent(*done, *size)),
                None => format!("{} %", percent(*done, *size)),
            },
            ("ended", _) => problem.unwrap_or("it has ended").to_owned(),
            (state, _) => state.to_owned(),
        };
        format!("{what}: {how}")
    }
}

/// A file's name and size.
fn file_words(name: &str, size: u64) -> String {
    format!("{} ({})", clean_line(name), DecimalBytes(size))
}

fn percent(done: u64, size: u64) -> u64 {
    match size {
        0 => 0,
        size => done.saturating_mul(100) / size,
    }
}

/// What a message of another kind than text says, for people. Not cleaned.
pub(crate) fn readable(content: &Content) -> String {
    if Deletion::read(content).is_some() {
        return "[a message was deleted]".to_owned();
    }
    if let Some(expiry) = Expiry::read(content) {
        return expiry_words(expiry.lifetime());
    }
    match content {
        Content::Text { text } => text.clone(),
        Content::Reply(reply) => reply.text.clone(),
        Content::Edit(edit) => edit.text.clone(),
        Content::Receipt(_) => "[receipt]".to_owned(),
        Content::Other { kind, .. } if kind == crate::conversation::ERASED => {
            "[deleted]".to_owned()
        }
        Content::Other { kind, json } => {
            match (Reading::read(content), ReadingGap::read(content)) {
                (Some(reading), _) => {
                    reading_words(reading.number(), reading.at(), reading.value())
                }
                (_, Some(gap)) => gap_words(
                    (gap.first(), gap.last(), gap.count()),
                    gap.first_at(),
                    gap.last_at(),
                ),
                // What its sender says of it to those who do not know the kind.
                _ => match FileOffer::read(content) {
                    Some(offer) => {
                        let name = saved_name(offer.name());
                        format!("[file {}]", file_words(&name, offer.chunking().size()))
                    }
                    None => {
                        let value = serde_json::from_str::<serde_json::Value>(json).ok();
                        let text = value.as_ref().and_then(|value| value.get("text")?.as_str());
                        format!("[{kind}] {}", text.unwrap_or(json))
                    }
                },
            }
        }
    }
}

/// What stands behind the name of who wrote something: `, to "Hello"` or `, edited`.
pub(crate) fn relation_words(relation: &Relation) -> String {
    match (&relation.reply, &relation.edits) {
        (Some(reply), _) => match &reply.quote {
            Some(quote) => format!(", to \"{}\"", clean_line(quote)),
            None => ", to a message that is not here".to_owned(),
        },
        (None, Some(_)) => ", edited".to_owned(),
        (None, None) => String::new(),
    }
}

fn expiry_words(lifetime: Option<Lifetime>) -> String {
    match lifetime {
        Some(lifetime) => format!(
            "[from now on messages disappear after {}]",
            lifetime_words(lifetime)
        ),
        None => "[from now on messages stay]".to_owned(),
    }
}

/// `90s`, `5m`, `1h` or `7d`, as it is typed.
#[must_use]
pub fn lifetime_words(lifetime: Lifetime) -> String {
    let seconds = lifetime.seconds();
    for (unit, letter) in [(86_400, 'd'), (3_600, 'h'), (60, 'm')] {
        if seconds.is_multiple_of(unit) {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

fn readings(reading: Option<&ReadingInfo>, gap: Option<&ReadingGapInfo>) -> String {
    match (reading, gap) {
        (Some(reading), _) => {
            let value = reading.value.to_string();
            reading_words(reading.number, reading.at.0, &value)
        }
        (_, Some(gap)) => gap_words(
            (gap.first, gap.last, gap.count),
            gap.first_at.0,
            gap.last_at.0,
        ),
        _ => String::new(),
    }
}

fn reading_words(number: u64, at: Timestamp, value: &str) -> String {
    format!("reading {number} of {}: {value}", moment::shown(at))
}

fn gap_words((first, last, count): (u64, u64, u64), from: Timestamp, to: Timestamp) -> String {
    format!(
        "[{} dropped there for want of room, {}, of {}]",
        counted_readings(count),
        numbers(first, last),
        times(from, to)
    )
}

fn numbers(first: u64, last: u64) -> String {
    match first == last {
        true => format!("number {first}"),
        false => format!("numbers {first} to {last}"),
    }
}

fn times(first: Timestamp, last: Timestamp) -> String {
    match first == last {
        true => moment::shown(first),
        false => format!("{} to {}", moment::shown(first), moment::shown(last)),
    }
}

fn counted_readings(readings: u64) -> String {
    match readings {
        1 => "1 reading was".to_owned(),
        more => format!("{more} readings were"),
    }
}

/// So many messages, in words.
pub(crate) fn counted(messages: u64) -> String {
    match messages {
        1 => "1 message".to_owned(),
        more => format!("{more} messages"),
    }
}

fn finding(check: Check, verdict: Verdict, message: &str, hint: Option<&str>) -> String {
    let verdict = match verdict {
        Verdict::Good => "good",
        Verdict::Note => "note",
        Verdict::Problem => "MEND",
    };
    let check = match check {
        Check::Home => "home",
        Check::Keys => "keys",
        Check::Agent => "agent",
        Check::Clock => "clock",
        Check::Broker => "broker",
        Check::Tls => "tls",
        Check::Login => "login",
        Check::Published => "published",
        Check::Outbox => "outbox",
        Check::Contacts => "contacts",
        Check::Disk => "disk",
    };
    let hint = hint.map_or_else(String::new, |hint| format!("\n      {:9}  {hint}", ""));
    format!("{verdict}  {check:9}  {}{hint}", clean_line(message))
}

fn banner(user: &str, pinned: &str, offered: &str) -> String {
    const RULE: &str = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@";
    format!(
        "\n{RULE}\n@  WARNING: THE IDENTITY OF {} HAS CHANGED\n{RULE}\n\
         Known:    {pinned}\n\
         Offered:  {offered}\n\
         Either {user} has new keys, because of a new machine or lost keys. Or somebody, perhaps the\n\
         operator of the broker, stands in for {user}, to read what you send and to write in their name.\n\
         Nothing is sent to {user} and nothing from the new identity is opened until you decide.\n\
         Ask {user} for their fingerprint in some other way (sealpost keys show). If it is the offered one:\n\
         \x20   sealpost contacts trust {user}",
        user.to_uppercase()
    )
}

/// `2026-11-23`, in UTC (Howard Hinnant's `civil_from_days`).
#[must_use]
pub fn date(at: Timestamp) -> String {
    let days = at.millis() / 86_400_000 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
