//! Sending with a broker that is the test.

use super::*;
use crate::account::Account;
use crate::mqtt::scripted::Asked;
use crate::mqtt::{PublishError, RefusalCode};
use crate::session::tests::{World, begin, peer, world};

const TIMEOUT: Duration = Duration::from_secs(10);

fn errand(wait: Option<SendState>) -> Errand {
    Errand {
        to: UserId::parse("alice").unwrap(),
        reach: wait.unwrap_or(SendState::Sent),
        demanded: wait.is_some(),
        timeout: TIMEOUT,
        deadline: Some(Instant::now() + TIMEOUT),
        lines: None,
        input: Input::Text,
        outstanding: HashMap::new(),
        failed: None,
        file: None,
        manner: Manner::default(),
        broker: crate::session::tests::route(),
        disconnected: false,
        unreachable: None,
    }
}

/// Sends a text to alice while the broker answers: with what it has at `keys/alice`, and to the message.
async fn send(
    world: &mut World,
    wait: Option<SendState>,
    has: Option<&[u8]>,
    answers: Result<(), PublishError>,
) -> Result<(), Failure> {
    let mut errand = errand(wait);
    let World {
        session, script, ..
    } = world;
    let content = [Content::Text {
        text: "Hello Alice!".into(),
    }];
    let Session { store, printer, .. } = &mut *session;
    errand.enqueue(store, printer, &content)?;
    let mine = session.account.bundle().as_bytes().to_vec();
    let home = session.account.home().clone();
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
    let pause = tokio::select! {
        pause = errand.serve(session, &home) => pause?,
        () = broker => unreachable!(),
    };
    assert!(!matches!(pause, Pause::Again | Pause::Unreachable(_)));
    errand.verdict(&mut session.printer)
}

/// Alice, whose keys the broker may have or not, and a session that has begun. The folder is theirs.
async fn begun() -> (tempfile::TempDir, Account, World) {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    (folder, alice, world)
}

fn the_one(world: &World) -> OutboxEntry {
    let mut entries = world.session.store.unfinished(10).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_broker_took_is_booked_and_named() {
    let (_folder, alice, mut world) = begun().await;
    let bundle = alice.bundle().as_bytes();
    send(&mut world, None, Some(bundle), Ok(())).await.unwrap();
    let entry = the_one(&world);
    assert_eq!(entry.state, SendState::Sent);
    assert_eq!(world.out.text(), format!("sent to alice: {}\n", entry.id));
    let err = world.err.text();
    assert!(err.contains(&alice.identity_key().fingerprint()), "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_broker_refused_for_now_is_exit_5_and_kept() {
    let (_folder, alice, mut world) = begun().await;
    let full = PublishError::Refused {
        code: RefusalCode::QuotaExceeded,
        reason: "mailbox full".into(),
    };
    let refused = send(&mut world, None, Some(alice.bundle().as_bytes()), Err(full)).await;
    assert_eq!(refused.unwrap_err().code, Code::Refused);
    assert_eq!(the_one(&world).state, SendState::Queued);
    assert_eq!(world.out.text(), "");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_can_never_go_is_given_up_at_once() {
    let (_folder, alice, mut world) = begun().await;
    let refused = PublishError::Refused {
        code: RefusalCode::PayloadFormatInvalid,
        reason: "signer".into(),
    };
    let bundle = Some(alice.bundle().as_bytes());
    let wait = Some(SendState::Delivered);
    let failure = send(&mut world, wait, bundle, Err(refused)).await;
    assert_eq!(failure.unwrap_err().code, Code::Refused);
    assert_eq!(the_one(&world).state, SendState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_keeps_is_not_called_sent() {
    let (_folder, alice, mut world) = begun().await;
    let bundle = alice.bundle().as_bytes();
    let nobody = Err(PublishError::NobodyThere);
    let failure = send(&mut world, None, Some(bundle), nobody).await;
    assert_eq!(failure.unwrap_err().code, Code::Failed);
    assert_eq!(the_one(&world).state, SendState::Queued);
    assert_eq!(world.out.text(), "");
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_does_not_come_in_time_is_exit_6_and_the_message_is_kept() {
    let (_folder, alice, mut world) = begun().await;
    let bundle = alice.bundle().as_bytes();
    let wait = Some(SendState::Delivered);
    let failure = send(&mut world, wait, Some(bundle), Ok(())).await;
    assert_eq!(failure.unwrap_err().code, Code::Pending);
    assert_eq!(the_one(&world).state, SendState::Sent);
}

#[tokio::test(start_paused = true)]
async fn nobodys_keys_are_waited_for_and_then_explained() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(&folder);
    begin(&mut world).await;
    let failure = send(&mut world, None, None, Ok(())).await.unwrap_err();
    assert_eq!(failure.code, Code::Failed);
    assert!(failure.message.contains("alice has not published keys yet"));
    assert_eq!(the_one(&world).state, SendState::Queued);
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_there_and_are_gone_are_an_alarm_and_not_an_answer() {
    let (_folder, alice, mut world) = begun().await;
    let bundle = alice.bundle().as_bytes();
    send(&mut world, None, Some(bundle), Ok(())).await.unwrap();
    for has in [None, Some(&b""[..])] {
        world.session.forget_keys();
        send(&mut world, None, has, Ok(())).await.unwrap();
        assert!(world.err.text().contains("ALARM"), "{}", world.err.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_identity_blocks_with_exit_4_and_the_message_waits_for_the_decision() {
    let (_folder, alice, mut world) = begun().await;
    let bundle = alice.bundle().as_bytes();
    send(&mut world, None, Some(bundle), Ok(())).await.unwrap();
    let other_folder = tempfile::tempdir().unwrap();
    let other = peer(&other_folder, "alice");
    world.session.forget_keys();
    let changed = Some(other.bundle().as_bytes());
    let wait = Some(SendState::Sent);
    let failure = send(&mut world, wait, changed, Ok(())).await;
    assert_eq!(failure.unwrap_err().code, Code::Untrusted);
    let err = world.err.text();
    assert!(err.contains("WARNING: THE IDENTITY OF ALICE HAS CHANGED"));
    let entries = world.session.store.unfinished(10).unwrap();
    assert_eq!(entries.last().unwrap().state, SendState::Queued);
}
