//! Sessions over a connection whose broker is the test. Time is paused and skips ahead when nothing else is to do.

use super::*;
use crate::account::tests::account;
use crate::contact::tests::replaced;
use crate::event::tests::Written;
use crate::exit::Code;
use crate::incoming::unshown;
use crate::mqtt::scripted::{Asked, Script};
use crate::outgoing::tests::seal;
use crate::settings::Receipts;
use crate::store::SendState;
use sealpost_core::Identity;
use sealpost_mqtt::Version;
use std::collections::HashSet;
use std::io::{self, Write};

fn connected() -> MqttEvent {
    MqttEvent::Connected {
        version: Version::V5,
    }
}

/// A person at the other end, of whom only the keys matter.
pub(crate) fn peer(folder: &tempfile::TempDir, name: &str) -> Account {
    account_now(folder, name)
}

/// Sessions read the real clock, so their keys must be valid now.
fn account_now(folder: &tempfile::TempDir, name: &str) -> Account {
    let mut account = account(folder, name);
    account.upkeep(clock::now()).unwrap();
    account
}

pub(crate) struct World {
    pub(crate) session: Session,
    pub(crate) script: Script,
    pub(crate) out: Written,
    pub(crate) err: Written,
}

/// Bob's session, before anything was asked.
pub(crate) fn world(folder: &tempfile::TempDir) -> World {
    let (out, err) = (Written::default(), Written::default());
    let printer = Printer::new(false, Box::new(out.clone()), Box::new(err.clone()));
    let (session, script) = session_of(folder, printer);
    World {
        session,
        script,
        out,
        err,
    }
}

fn session_of(folder: &tempfile::TempDir, printer: Printer) -> (Session, Script) {
    let account = match folder.path().join("bob").exists() {
        true => {
            let home = crate::home::Home::open(&folder.path().join("bob")).unwrap();
            let user = UserId::parse("bob").unwrap();
            Account::open(
                &home,
                &user,
                &Default::default(),
                || panic!("asked"),
                clock::now(),
            )
            .unwrap()
        }
        false => account_now(folder, "bob"),
    };
    let store = Store::open(&account.home().store(), account.store_key()).unwrap();
    let (mqtt, events, script) = Script::new();
    let parts = Parts {
        account,
        store,
        printer,
    };
    (Session::over(parts, route(), mqtt, events), script)
}

/// To a broker that is never asked.
pub(crate) fn route() -> Route {
    let options = sealpost_mqtt::RouteOptions {
        brokers: vec!["mqtt://127.0.0.1".to_owned()],
        ..Default::default()
    };
    options.parse().unwrap()
}

/// Begins, with a broker that accepts the first subscription.
pub(crate) async fn begin(world: &mut World) {
    let World {
        session, script, ..
    } = world;
    let (began, ()) = tokio::join!(session.begin(), async {
        match script.asked().await {
            Asked::Subscribe { answer, .. } => answer.send(Ok(())).unwrap(),
            other => panic!("{other:?}"),
        }
    });
    began.unwrap();
}

/// The broker has our bundle.
pub(crate) async fn settle(world: &mut World) {
    let bundle = world.session.account.bundle().as_bytes().to_vec();
    world.script.deliver("keys/bob", &bundle).await;
    while !world.session.is_own_bundle_settled() {
        step(world).await;
    }
}

/// Somebody's keys, which bob asks for.
async fn keys(world: &mut World, bundle: &KeyBundle) {
    world.session.want_keys(bundle.user());
    let topic = Topic::Keys(bundle.user().clone()).to_string();
    world.script.deliver(&topic, bundle.as_bytes()).await;
}

/// What the session publishes to this topic next, and where to answer it.
async fn published(world: &mut World, to: &str) -> (Vec<u8>, Answers) {
    loop {
        let asked = tokio::select! {
            asked = world.script.asked() => asked,
            _ = world.session.next() => continue,
        };
        if let Asked::Publish {
            topic,
            payload,
            answer,
            ..
        } = asked
        {
            assert_eq!(topic, to);
            return (payload.to_vec(), answer);
        }
    }
}

type Answers = tokio::sync::oneshot::Sender<Result<(), PublishError>>;

/// Lets the session deal with what was delivered.
async fn step(world: &mut World) -> Happening {
    world.session.next().await.unwrap()
}

fn text(text: &str) -> Content {
    Content::Text { text: text.into() }
}

fn sealed(from: &Account, to: &Account, words: &str) -> Vec<u8> {
    seal(from, to.bundle(), None, &text(words), clock::now())
        .unwrap()
        .as_bytes()
        .to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_flood_before_the_first_answer_is_bounded_and_what_came_before_a_loss_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(&folder);
    let World {
        session, script, ..
    } = &mut world;
    let (began, ()) = tokio::join!(session.begin(), async {
        let answer = match script.asked().await {
            Asked::Subscribe { answer, .. } => answer,
            other => panic!("{other:?}"),
        };
        let lost = MqttEvent::Disconnected {
            problem: "gone".into(),
            retry_in: Duration::ZERO,
        };
        script.deliver("inbox/bob", b"before").await;
        script.event(lost).await;
        script.event(connected()).await;
        for _ in 0..MAX_BACKLOG + 10 {
            script.deliver("inbox/bob", b"after").await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        answer.send(Ok(())).unwrap();
    });
    began.unwrap();
    assert_eq!(session.backlog.len(), MAX_BACKLOG);
    assert!(session.backlog.iter().all(
        |event| matches!(event, MqttEvent::Delivery(delivery) if *delivery.payload == *b"after")
    ));
}

#[tokio::test(start_paused = true)]
async fn our_keys_are_published_when_the_broker_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(&folder);
    begin(&mut world).await;
    assert!(!world.session.is_own_bundle_settled());
    step(&mut world).await;
    match world.script.asked().await {
        Asked::Publish {
            topic,
            payload,
            retain,
            answer,
        } => {
            assert_eq!((topic.as_str(), retain), ("keys/bob", true));
            assert_eq!(payload, world.session.account.bundle().as_bytes());
            answer.send(Ok(())).unwrap();
        }
        other => panic!("{other:?}"),
    }
    step(&mut world).await;
    assert!(world.session.is_own_bundle_settled());
}

#[tokio::test(start_paused = true)]
async fn our_keys_are_left_alone_when_the_broker_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(&folder);
    begin(&mut world).await;
    let bundle = world.session.account.bundle().as_bytes().to_vec();
    let number = world.script.deliver("keys/bob", &bundle).await;
    step(&mut world).await;
    assert!(world.session.is_own_bundle_settled());
    assert!(matches!(world.script.asked().await, Asked::Acknowledge(n) if n == number));
    assert!(world.script.asked_now().is_none());
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_keys_under_our_name_alarm_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(&folder);
    begin(&mut world).await;
    let other_folder = tempfile::tempdir().unwrap();
    let impostor = peer(&other_folder, "bob");
    for _ in 0..2 {
        world
            .script
            .deliver("keys/bob", impostor.bundle().as_bytes())
            .await;
        step(&mut world).await;
        world.script.event(connected()).await;
        step(&mut world).await;
    }
    let err = world.err.text();
    assert_eq!(err.matches("ALARM").count(), 1, "{err}");
    assert!(err.contains("another identity for bob"), "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_only_when_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    let envelope = sealed(&alice, &world.session.account, "Hello Bob!");
    keys(&mut world, alice.bundle()).await;
    step(&mut world).await;
    while world.script.asked_now().is_some() {}

    let number = world.script.deliver("inbox/bob", &envelope).await;
    step(&mut world).await;
    assert!(matches!(world.script.asked().await, Asked::Acknowledge(n) if n == number));
    assert_eq!(world.out.text(), "From alice: Hello Bob!\n");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_stored_is_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    let envelope = sealed(&alice, &world.session.account, "Hello Bob!");
    keys(&mut world, alice.bundle()).await;
    step(&mut world).await;
    while world.script.asked_now().is_some() {}

    // As when the disk is full: reading works, writing does not.
    world.session.store.refuse_writes();
    world.script.deliver("inbox/bob", &envelope).await;
    let failure = world.session.next().await.unwrap_err();
    assert_eq!(failure.code, Code::Failed);
    assert!(world.script.asked_now().is_none());
    assert_eq!(world.out.text(), "");
}

/// Like standard output when `head` has seen enough.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_stored_but_not_shown_is_shown_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    {
        let printer = Printer::new(false, Box::new(Gone), Box::new(Written::default()));
        let (session, script) = session_of(&folder, printer);
        let mut first = World {
            session,
            script,
            out: Written::default(),
            err: Written::default(),
        };
        begin(&mut first).await;
        keys(&mut first, alice.bundle()).await;
        step(&mut first).await;
        let envelope = sealed(&alice, &first.session.account, "Hello Bob!");
        first.script.deliver("inbox/bob", &envelope).await;
        let failure = first.session.next().await.unwrap_err();
        assert!(failure.reader_gone, "{failure:?}");
        assert_eq!(unshown(&first.session.store, 10).unwrap().len(), 1);
    }
    let mut second = world(&folder);
    begin(&mut second).await;
    assert_eq!(second.out.text(), "From alice: Hello Bob!\n");
    assert!(unshown(&second.session.store, 10).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_first_message_that_overtakes_its_senders_keys_is_shown_without_ado() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    let envelope = sealed(&alice, &world.session.account, "Hello Bob!");
    world.script.deliver("inbox/bob", &envelope).await;
    step(&mut world).await;
    let wanted = loop {
        if let Asked::Subscribe { filters, .. } = world.script.asked().await {
            break filters;
        }
    };
    assert_eq!(wanted, ["keys/alice"]);
    world
        .script
        .deliver("keys/alice", alice.bundle().as_bytes())
        .await;
    step(&mut world).await;
    assert_eq!(world.out.text(), "From alice: Hello Bob!\n");
    assert!(!world.err.text().contains("waits"), "{}", world.err.text());
}

#[tokio::test(start_paused = true)]
async fn a_strangers_message_that_stays_closed_is_mentioned_once() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    let envelope = sealed(&alice, &world.session.account, "Hello Bob!");
    for _ in 0..2 {
        world.script.deliver("inbox/bob", &envelope).await;
    }
    for _ in 0..8 {
        step(&mut world).await;
    }
    let err = world.err.text();
    assert_eq!(err.matches("waits").count(), 1, "{err}");
    assert_eq!(world.out.text(), "");
}

#[tokio::test(start_paused = true)]
async fn a_changed_identity_is_shown_once_and_nothing_can_be_sent_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    keys(&mut world, alice.bundle()).await;
    step(&mut world).await;
    let other_folder = tempfile::tempdir().unwrap();
    let other = peer(&other_folder, "alice");
    for _ in 0..2 {
        keys(&mut world, other.bundle()).await;
        step(&mut world).await;
    }
    let err = world.err.text();
    assert_eq!(
        err.matches("WARNING: THE IDENTITY OF ALICE").count(),
        1,
        "{err}"
    );
    let user = alice.user().clone();
    assert!(matches!(world.session.keys(&user), Some(Err(_))));
    settle(&mut world).await;
    world.session.post(&user, &text("x")).unwrap();
    match step(&mut world).await {
        Happening::Outgoing(entry) => {
            assert_eq!(entry.state, SendState::Queued);
            assert_eq!(entry.problem.unwrap().code, Code::Untrusted as u8);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_was_replaced_alarms_once_and_stops_nobody_from_writing_to_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let new = Identity::from_seed(&[2; 32]);
    let newer = replaced(&alice, &new, clock::now());
    let mut world = world(&folder);
    begin(&mut world).await;
    let old = alice.bundle();
    for bundle in [old, &newer, old, old] {
        keys(&mut world, bundle).await;
        step(&mut world).await;
    }
    // The first thing that a new session hears is the replay.
    world.session.forget_keys();
    keys(&mut world, old).await;
    step(&mut world).await;
    let err = world.err.text();
    assert_eq!(err.matches("ALARM").count(), 1, "{err}");
    assert!(!err.contains("WARNING"), "{err}");
    let user = alice.user().clone();
    let believed = world.session.keys(&user).unwrap().unwrap();
    assert_eq!(believed.as_bytes(), newer.as_bytes());
    settle(&mut world).await;
    world.session.post(&user, &text("x")).unwrap();
    published(&mut world, "inbox/alice").await;
    let contact = world.session.store.contact(&user).unwrap().unwrap();
    assert_eq!((contact.pin.identity, contact.offered), (new.key(), None));
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_was_replaced_does_not_end_the_wait_for_a_decision_about_another() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let newer = replaced(&alice, &Identity::from_seed(&[2; 32]), clock::now());
    let other_folder = tempfile::tempdir().unwrap();
    let other = peer(&other_folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    for bundle in [alice.bundle(), &newer, other.bundle(), alice.bundle()] {
        keys(&mut world, bundle).await;
        step(&mut world).await;
    }
    let waits = |session: &Session| {
        matches!(
            session.keys(alice.user()),
            Some(Err(Disbelieved::Refused(BundleRefused::IdentityChanged { offered, .. })))
                if *offered == other.identity_key()
        )
    };
    assert!(waits(&world.session));
    let contact = world.session.store.contact(alice.user()).unwrap().unwrap();
    assert_eq!(
        crate::contact::offered_identity(&contact),
        Some(other.identity_key())
    );
}

#[tokio::test(start_paused = true)]
async fn a_decision_made_in_another_terminal_reaches_a_running_chat() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    let other_folder = tempfile::tempdir().unwrap();
    let other = peer(&other_folder, "alice");
    for bundle in [alice.bundle(), other.bundle()] {
        keys(&mut world, bundle).await;
        step(&mut world).await;
    }
    let envelope = sealed(&other, &world.session.account, "it is me");
    world.script.deliver("inbox/bob", &envelope).await;
    step(&mut world).await;
    let account = &world.session.account;
    let mut elsewhere = Store::open(&account.home().store(), account.store_key()).unwrap();
    let shown = other.identity_key();
    crate::contact::trust(&mut elsewhere, alice.user(), Some(&shown), clock::now()).unwrap();
    while world.out.text().is_empty() || world.session.keys(alice.user()).is_some() {
        step(&mut world).await;
    }
    assert_eq!(world.out.text(), "From alice: it is me\n");
    keys(&mut world, other.bundle()).await;
    step(&mut world).await;
    assert!(matches!(world.session.keys(alice.user()), Some(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn keys_that_nobody_asked_for_pin_nobody_and_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, carol) = (peer(&folder, "alice"), peer(&folder, "carol"));
    let mut world = world(&folder);
    begin(&mut world).await;
    let number = world
        .script
        .deliver("keys/alice", alice.bundle().as_bytes())
        .await;
    step(&mut world).await;
    assert!(matches!(world.script.asked().await, Asked::Acknowledge(n) if n == number));
    assert!(world.session.keys(alice.user()).is_none());
    let contact = world.session.store.contact(alice.user()).unwrap();
    assert!(contact.is_none());
    assert!(!world.err.text().contains("alice"));
    // A contact's are taken, whoever asked: the broker remembers subscriptions of earlier runs.
    keys(&mut world, carol.bundle()).await;
    step(&mut world).await;
    world.session.wanted = Wanted::default();
    world.session.forget_keys();
    world
        .script
        .deliver("keys/carol", carol.bundle().as_bytes())
        .await;
    step(&mut world).await;
    assert!(matches!(world.session.keys(carol.user()), Some(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_missing_before_another_is_mentioned_once() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    keys(&mut world, alice.bundle()).await;
    step(&mut world).await;
    let mut prev = None;
    let mut sealed = Vec::new();
    for words in ["one", "two", "three", "four"] {
        let bob = world.session.account.bundle();
        let envelope = seal(&alice, bob, prev, &text(words), clock::now()).unwrap();
        prev = Some(*envelope.id());
        sealed.push(envelope);
    }
    for received in [0, 2, 3, 1] {
        let envelope = sealed[received].as_bytes();
        world.script.deliver("inbox/bob", envelope).await;
        step(&mut world).await;
    }
    assert_eq!(world.out.text().lines().count(), 4);
    let err = world.err.text();
    let gap = "sealpost: a message from alice before this one has not arrived (yet)\n";
    assert_eq!(err.matches(gap).count(), 1, "{err}");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_shown_than_was_asked_for_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    world.session.manner.limit = 1;
    begin(&mut world).await;
    keys(&mut world, alice.bundle()).await;
    step(&mut world).await;
    for words in ["one", "two"] {
        let envelope = sealed(&alice, &world.session.account, words);
        world.script.deliver("inbox/bob", &envelope).await;
        step(&mut world).await;
    }
    assert_eq!(world.out.text(), "From alice: one\n");
    assert_eq!(unshown(&world.session.store, 10).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_asked_for_again_and_again_are_subscribed_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(&folder);
    begin(&mut world).await;
    let nobody = UserId::parse("nobody").unwrap();
    for _ in 0..100 {
        world.session.want_keys(&nobody);
    }
    let mut subscriptions = 0;
    while let Some(asked) = world.script.asked_now() {
        if matches!(asked, Asked::Subscribe { .. }) {
            subscriptions += 1;
        }
    }
    assert_eq!(subscriptions, 1);
}

#[tokio::test(start_paused = true)]
async fn mail_that_finds_no_room_is_held_up_for_the_senders_keys_and_refused_only_when_they_do_not_come()
 {
    for keys_come in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let alice = peer(&folder, "alice");
        let mut world = world(&folder);
        begin(&mut world).await;
        for n in 0..=crate::store::MAX_HELD_PER_SENDER {
            let envelope = sealed(&alice, &world.session.account, &format!("{n}"));
            world.script.deliver("inbox/bob", &envelope).await;
            step(&mut world).await;
        }
        assert!(!world.err.text().contains("refused"));
        if keys_come {
            let bundle = alice.bundle().as_bytes();
            world.script.deliver("keys/alice", bundle).await;
        }
        for _ in 0..8 {
            step(&mut world).await;
        }
        let acknowledged = std::iter::from_fn(|| world.script.asked_now())
            .filter(|asked| matches!(asked, Asked::Acknowledge(_)))
            .count();
        let shown = world.out.text().lines().count();
        let last = crate::store::MAX_HELD_PER_SENDER as usize + 1;
        let keys = usize::from(keys_come);
        assert_eq!((acknowledged, shown), (last + keys, last * keys));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_has_is_not_left_subscribed() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(&folder);
    begin(&mut world).await;
    let nobody = UserId::parse("nobody").unwrap();
    world.session.want_keys(&nobody);
    world.session.close().await.unwrap();
    let mut asked = std::iter::from_fn(|| world.script.asked_now());
    assert!(asked.any(
        |asked| matches!(asked, Asked::Unsubscribe { filters } if filters == ["keys/nobody"])
    ));
}

#[tokio::test(start_paused = true)]
async fn mail_is_still_received_when_our_own_keys_are_refused_for_now() {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    begin(&mut world).await;
    step(&mut world).await;
    match world.script.asked().await {
        Asked::Publish { answer, .. } => answer
            .send(Err(PublishError::Refused {
                code: crate::mqtt::RefusalCode::Other,
                reason: "the disk is full".into(),
            }))
            .unwrap(),
        other => panic!("{other:?}"),
    }
    world.session.next().await.unwrap();
    let mine = world.session.account.bundle().clone();
    let envelope = seal(&alice, &mine, None, &text("hi"), clock::now()).unwrap();
    keys(&mut world, alice.bundle()).await;
    world.script.deliver("inbox/bob", envelope.as_bytes()).await;
    step(&mut world).await;
    step(&mut world).await;
    assert!(world.out.text().contains("hi"));
    while !matches!(world.script.asked_now(), Some(Asked::Publish { .. })) {
        step(&mut world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn older_keys_alarm_once_and_what_is_believed_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut alice = peer(&folder, "alice");
    let old = alice.bundle().clone();
    alice.rotate(clock::now()).unwrap();
    let mut world = world(&folder);
    begin(&mut world).await;
    for bundle in [alice.bundle(), &old, &old] {
        keys(&mut world, bundle).await;
        step(&mut world).await;
    }
    let err = world.err.text();
    assert_eq!(err.matches("ALARM").count(), 1, "{err}");
    let believed = world.session.keys(alice.user()).unwrap().unwrap();
    assert_eq!(believed.as_bytes(), alice.bundle().as_bytes());
}

/// What bob publishes to alice in the seconds after her message arrived, while he is settled and has accepted her.
async fn receipts_after_a_message(receipts: Receipts) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let alice = peer(&folder, "alice");
    let mut world = world(&folder);
    world.session.manner.receipts = receipts;
    begin(&mut world).await;
    settle(&mut world).await;
    keys(&mut world, alice.bundle()).await;
    step(&mut world).await;
    world.session.store.accept_contact(alice.user()).unwrap();
    let envelope = sealed(&alice, &world.session.account, "Hello Bob!");
    world.script.deliver("inbox/bob", &envelope).await;
    let waited = async { while world.session.next().await.is_ok() {} };
    let _ = tokio::time::timeout(Duration::from_secs(3), waited).await;
    assert_eq!(world.out.text(), "From alice: Hello Bob!\n");
    let mut sent = 0;
    while let Some(asked) = world.script.asked_now() {
        if let Asked::Publish { topic, .. } = asked {
            assert_eq!(topic, "inbox/alice");
            sent += 1;
        }
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn an_accepted_sender_gets_a_receipt_and_none_where_the_person_wants_none_sent() {
    assert_eq!(receipts_after_a_message(Receipts::Delivered).await, 1);
    assert_eq!(receipts_after_a_message(Receipts::None).await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_more_contacts_than_a_session_may_subscribe_to_looks_at_all_of_them_in_turn() {
    const CONTACTS: usize = 1_500;
    let folder = tempfile::tempdir().unwrap();
    let carol = peer(&folder, "carol");
    let mut world = world(&folder);
    let known = |number: usize| UserId::parse(&format!("contact-{number}")).unwrap();
    world
        .session
        .store
        .group(|store| {
            for number in 0..CONTACTS {
                let pin = sealpost_core::Pin {
                    identity: carol.identity_key(),
                    seq: 1,
                    digest: [0; 32],
                    verified: false,
                };
                let change = crate::store::ContactChange::Pin(pin, b"bundle".to_vec());
                store.change_contact(&known(number), clock::now(), |_| (change, ()))?;
            }
            Ok::<_, crate::store::StoreError>(())
        })
        .unwrap();
    begin(&mut world).await;
    settle(&mut world).await;
    let (mut subscribed, mut ever) = (HashSet::new(), HashSet::new());
    let mut follow = |world: &mut World| {
        while let Some(asked) = world.script.asked_now() {
            match asked {
                Asked::Subscribe { filters, answer } => {
                    ever.extend(filters.iter().cloned());
                    subscribed.extend(filters);
                    let _ = answer.send(Ok(()));
                }
                Asked::Unsubscribe { filters } => {
                    subscribed.retain(|filter| !filters.contains(filter));
                }
                _ => {}
            }
            assert!(subscribed.len() <= 990, "{}", subscribed.len());
        }
        (subscribed.clone(), ever.len())
    };
    // Somebody whose turn is not now is asked for as soon as there is something for them.
    let (now, _) = follow(&mut world);
    assert!(now.len() > 800, "{}", now.len());
    let unwatched = (0..CONTACTS)
        .map(known)
        .find(|user| !now.contains(&format!("keys/{user}")))
        .unwrap();
    world.session.post(&unwatched, &text("hi")).unwrap();
    let (now, _) = follow(&mut world);
    assert!(now.contains(&format!("keys/{unwatched}")));

    let mut looked_at = 0;
    for _ in 0..(CONTACTS * 2) {
        step(&mut world).await;
        looked_at = follow(&mut world).1;
        if looked_at == CONTACTS {
            break;
        }
    }
    assert_eq!(looked_at, CONTACTS);
}
