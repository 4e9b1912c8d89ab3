//! `sealpost send`: one message, and out.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use sealpost_core::{Content, MAX_PLAINTEXT, UserId};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Start, interrupted, parse_user};
use crate::contact::Disbelieved;
use crate::event::{Event, Printer};
use crate::exit::{Code, Failure, no_keys_yet, not_connected, not_read, not_sent, not_trusted};
use crate::session::{Outgoing, Purpose, Session};

/// After so long without an answer, the broker has no keys of somebody (SPEC 10.6).
const KEYS_TIME: Duration = Duration::from_secs(5);

pub(super) async fn run(
    mut start: Start,
    to: &str,
    words: &[String],
    timeout: Option<Duration>,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let to = parse_user(to)?;
    if to == start.settings.user {
        return Err(Failure::new(
            Code::Usage,
            format!("{to} is you"),
            "Name somebody else.",
        ));
    }
    let timeout = timeout.unwrap_or(start.settings.timeout);
    let account = start.unlock()?;
    let text = text(words, &mut start.printer)?;
    let store = start.open_store(&account)?;
    started();
    let Start {
        settings,
        printer,
        stop,
        ..
    } = start;
    let deadline = Instant::now() + timeout;
    let broker = settings.broker;
    let work = async {
        let connecting =
            Session::connect(account, store, printer, broker.clone(), Purpose::Send, None);
        let mut session = tokio::time::timeout_at(deadline, connecting)
            .await
            .map_err(|_| not_connected(&broker, timeout))??;
        session.trust = settings.trust;
        let sent = deliver(&mut session, &to, text, timeout, deadline).await;
        let closed = session.close().await;
        sent.and(closed)
    };
    tokio::select! {
        sent = work => sent,
        () = stop.cancelled() => Err(interrupted()),
    }
}

async fn deliver(
    session: &mut Session,
    to: &UserId,
    text: String,
    timeout: Duration,
    deadline: Instant,
) -> Result<(), Failure> {
    session.permit(to)?;
    session.want_keys(to);
    let (asked, patience) = (Instant::now(), KEYS_TIME.min(timeout / 2));
    let mut patient = true;
    loop {
        // Our own bundle first, whatever becomes of the message: others need it to know us.
        if session.is_own_bundle_settled() {
            match session.keys(to) {
                Some(Ok(_)) => break,
                Some(Err(why)) => return Err(not_trusted(to.as_str(), why)),
                None => {}
            }
        }
        let until = if patient { asked + patience } else { deadline };
        match tokio::time::timeout_at(until, session.next()).await {
            Ok(happening) => drop(happening?),
            Err(_) if patient => {
                patient = false;
                if session.is_connected() && session.keys(to).is_none() {
                    session.no_keys_came(to)?;
                }
            }
            Err(_) if !session.is_connected() => return Err(lost(session)),
            Err(_) if session.keys(to).is_none() => return Err(no_keys(session, to, timeout)?),
            Err(_) => return Err(no_answer(timeout)),
        }
    }
    let prev = session.store.last_sent(to)?;
    let mut outgoing = session.send(to, prev, &Content::Text { text })?;
    let answer = loop {
        tokio::select! {
            answer = &mut outgoing.answer => break answer,
            happening = session.next() => drop(happening?),
            () = tokio::time::sleep_until(deadline) => {
                return Err(if session.is_connected() { no_answer(timeout) } else { lost(session) });
            }
        }
    };
    let sent = book(session, &outgoing, answer)?;
    session.printer.print(&sent)?;
    Ok(())
}

/// Why nothing can be sent to somebody whose keys did not come.
pub(super) fn no_keys(
    session: &Session,
    to: &UserId,
    waited: Duration,
) -> Result<Failure, Failure> {
    // Keys that were there do not go away by themselves.
    Ok(match session.store.contact(to)? {
        Some(contact) if contact.has_published() => not_trusted(to.as_str(), &Disbelieved::Removed),
        _ => no_keys_yet(to.as_str(), waited),
    })
}

/// Books a message that the broker answered for.
pub(super) fn book(
    session: &mut Session,
    outgoing: &Outgoing,
    answer: Result<Result<(), crate::mqtt::PublishError>, tokio::sync::oneshot::error::RecvError>,
) -> Result<Event, Failure> {
    let answer = answer.unwrap_or(Err(crate::mqtt::MqttError::Closed.into()));
    answer.map_err(|error| not_sent(outgoing.to.as_str(), &error))?;
    session.store.set_last_sent(&outgoing.to, &outgoing.id)?;
    Ok(Event::Sent {
        to: outgoing.to.to_string(),
        id: outgoing.id.to_string(),
        ts: outgoing.ts,
    })
}

fn lost(session: &Session) -> Failure {
    Failure::new(
        Code::Unreachable,
        format!(
            "the connection to {} was lost and did not come back in time",
            session.broker()
        ),
        "Whether the message went out is not known. Try again: the recipient sees it twice at worst.",
    )
}

fn no_answer(timeout: Duration) -> Failure {
    Failure::new(
        Code::Failed,
        format!(
            "the broker did not answer within {} s",
            timeout.as_secs_f32()
        ),
        "Whether the message went out is not known. Try again, perhaps with a longer --timeout.",
    )
}

/// The text: the words given, or standard input.
fn text(words: &[String], printer: &mut Printer) -> Result<String, Failure> {
    if !words.is_empty() && words != ["-"] {
        return Ok(words.join(" "));
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let _ = printer.note("sealpost: type the message; Ctrl-D on a line of its own ends it");
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PLAINTEXT + 1));
    stdin
        .lock()
        .take(MAX_PLAINTEXT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| not_read(&error))?;
    if bytes.len() > MAX_PLAINTEXT {
        return Err(Failure::new(
            Code::Failed,
            format!("standard input has more than {MAX_PLAINTEXT} bytes"),
            "Send it in parts.",
        ));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::new(
            Code::Failed,
            "standard input is not UTF-8 text",
            "Convert it first, for instance with base64.",
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "there is nothing to send",
            "Give the text after the name, or on standard input.",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::scripted::Asked;
    use crate::mqtt::{PublishError, RefusalCode};
    use crate::session::tests::{World, begin, peer, world};

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Sends a text to alice while the broker answers as `broker` says: what it has at `keys/alice`, and its answer to
    /// the message.
    async fn send(
        world: &mut World,
        has: Option<&[u8]>,
        answers: Result<(), PublishError>,
    ) -> Result<(), Failure> {
        let World {
            session, script, ..
        } = world;
        let alice = UserId::parse("alice").unwrap();
        let mine = session.account.bundle().as_bytes().to_vec();
        let broker = async {
            script.deliver("keys/bob", &mine).await;
            if let Some(bundle) = has {
                script.deliver("keys/alice", bundle).await;
            }
            loop {
                if let Asked::Publish { topic, answer, .. } = script.asked().await {
                    assert_eq!(topic, "inbox/alice");
                    answer.send(answers.clone()).unwrap();
                }
            }
        };
        tokio::select! {
            sent = deliver(session, &alice, "Hello Alice!".to_owned(), TIMEOUT, Instant::now() + TIMEOUT) => sent,
            () = broker => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_the_broker_took_is_booked_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let alice = peer(&folder, "alice");
        let mut world = world(&folder, Purpose::Send);
        begin(&mut world).await;
        let bundle = alice.bundle().as_bytes();
        send(&mut world, Some(bundle), Ok(())).await.unwrap();
        let last = world
            .session
            .store
            .last_sent(alice.user())
            .unwrap()
            .unwrap();
        assert_eq!(world.out.text(), format!("sent to alice: {last}\n"));
        assert!(
            world
                .err
                .text()
                .contains(&alice.identity_key().fingerprint())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_the_broker_refused_is_exit_5_and_not_booked() {
        let folder = tempfile::tempdir().unwrap();
        let alice = peer(&folder, "alice");
        let mut world = world(&folder, Purpose::Send);
        begin(&mut world).await;
        let full = PublishError::Refused {
            code: RefusalCode::QuotaExceeded,
            reason: "mailbox full".into(),
        };
        let refused = send(&mut world, Some(alice.bundle().as_bytes()), Err(full)).await;
        assert_eq!(refused.unwrap_err().code, Code::Refused);
        assert_eq!(world.session.store.last_sent(alice.user()).unwrap(), None);
        assert_eq!(world.out.text(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_nobody_keeps_is_not_called_sent() {
        let folder = tempfile::tempdir().unwrap();
        let alice = peer(&folder, "alice");
        let mut world = world(&folder, Purpose::Send);
        begin(&mut world).await;
        let bundle = alice.bundle().as_bytes();
        let failure = send(&mut world, Some(bundle), Err(PublishError::NobodyThere)).await;
        assert_eq!(failure.unwrap_err().code, Code::Failed);
        assert_eq!(world.session.store.last_sent(alice.user()).unwrap(), None);
        assert_eq!(world.out.text(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn nobodys_keys_are_waited_for_and_then_explained() {
        let folder = tempfile::tempdir().unwrap();
        let mut world = world(&folder, Purpose::Send);
        begin(&mut world).await;
        let before = Instant::now();
        let failure = send(&mut world, None, Ok(())).await.unwrap_err();
        assert_eq!(failure.code, Code::Failed);
        assert!(failure.message.contains("alice has not published keys yet"));
        assert!(before.elapsed() >= TIMEOUT && before.elapsed() < TIMEOUT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_were_there_and_are_gone_are_an_alarm_and_not_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let alice = peer(&folder, "alice");
        let mut world = world(&folder, Purpose::Send);
        begin(&mut world).await;
        let bundle = alice.bundle().as_bytes();
        send(&mut world, Some(bundle), Ok(())).await.unwrap();
        world.session.forget_keys();
        for has in [None, Some(&b""[..])] {
            send(&mut world, has, Ok(())).await.unwrap();
            assert!(world.err.text().contains("ALARM"), "{}", world.err.text());
            world.session.forget_keys();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_identity_blocks_with_exit_4() {
        let folder = tempfile::tempdir().unwrap();
        let alice = peer(&folder, "alice");
        let mut world = world(&folder, Purpose::Send);
        begin(&mut world).await;
        let bundle = alice.bundle().as_bytes();
        send(&mut world, Some(bundle), Ok(())).await.unwrap();
        let other_folder = tempfile::tempdir().unwrap();
        let other = peer(&other_folder, "alice");
        world.session.forget_keys();
        let failure = send(&mut world, Some(other.bundle().as_bytes()), Ok(())).await;
        assert_eq!(failure.unwrap_err().code, Code::Untrusted);
        assert!(
            world
                .err
                .text()
                .contains("WARNING: THE IDENTITY OF ALICE HAS CHANGED")
        );
    }
}
