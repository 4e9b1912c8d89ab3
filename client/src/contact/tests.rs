use super::*;
use crate::account::Account;
use crate::account::tests::{account, start};
use crate::store::tests::{store, user};
use sealpost_core::{BundleFields, Identity, IdentityLink, next_seq};
use std::time::Duration;

/// The bundle in which somebody signs over to another identity, made at `now`.
pub(crate) fn replaced(account: &Account, new: &Identity, now: Timestamp) -> KeyBundle {
    let (realm, user, old) = (account.realm(), account.user(), account.identity());
    let fields = BundleFields {
        realm: realm.clone(),
        user: user.clone(),
        seq: next_seq(Some(account.bundle().seq()), now),
        created: now,
        expires: account.bundle().expires(),
        encryption: account.bundle().encryption().to_vec(),
        links: vec![IdentityLink::sign(realm, user, old, &new.key(), now)],
    };
    KeyBundle::sign(fields, new).unwrap()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    folder: tempfile::TempDir,
    store: Store,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    World { folder, store }
}

impl World {
    fn look(&mut self, payload: &[u8], now: Timestamp) -> Result<Believed, Disbelieved> {
        consider(
            &mut self.store,
            &Realm::default(),
            &user("bob"),
            payload,
            now,
        )
        .unwrap()
    }
}

/// Another identity under the same name, as after a reinstallation, or an impostor's.
fn another_bob(world: &World) -> KeyBundle {
    let folder = tempfile::tempdir_in(world.folder.path()).unwrap();
    account(&folder, "bob").bundle().clone()
}

#[test]
fn the_first_bundle_pins_and_the_same_again_is_routine() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    let first = world.look(bob.bundle().as_bytes(), start()).unwrap();
    assert_eq!(first.change, Change::FirstContact);
    let again = world.look(bob.bundle().as_bytes(), start()).unwrap();
    assert_eq!(again.change, Change::Routine);
    let contact = world.store.contact(&user("bob")).unwrap().unwrap();
    assert_eq!(contact.pin.identity, bob.identity_key());
}

#[test]
fn a_rotated_key_is_routine_and_going_back_is_refused() {
    let mut world = world();
    let mut bob = account(&world.folder, "bob");
    let old = bob.bundle().clone();
    world.look(old.as_bytes(), start()).unwrap();
    bob.rotate(start().saturating_add(DAY)).unwrap();
    let now = start().saturating_add(DAY);
    let newer = world.look(bob.bundle().as_bytes(), now).unwrap();
    assert_eq!(newer.change, Change::Routine);
    assert!(matches!(
        world.look(old.as_bytes(), now),
        Err(Disbelieved::Refused(BundleRefused::RolledBack { .. }))
    ));
}

#[test]
fn a_changed_identity_waits_for_a_decision_about_exactly_what_was_shown() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    let (other, third) = (another_bob(&world), another_bob(&world));
    let refused = world.look(other.as_bytes(), start());
    assert!(matches!(
        refused,
        Err(Disbelieved::Refused(BundleRefused::IdentityChanged { .. }))
    ));
    let contact = world.store.contact(&user("bob")).unwrap().unwrap();
    assert_eq!(contact.pin.identity, bob.identity_key());
    assert_eq!(offered_identity(&contact), Some(*other.identity()));

    let mut decide = |shown: Option<&IdentityKey>| {
        trust(&mut world.store, &user("bob"), shown, start()).unwrap()
    };
    assert_eq!(decide(None), Some(Trusted::Changed));
    assert_eq!(decide(Some(third.identity())), Some(Trusted::Changed));
    assert_eq!(
        decide(Some(other.identity())),
        Some(Trusted::Accepted(*other.identity()))
    );
    assert_eq!(decide(None), Some(Trusted::Nothing(*other.identity())));
    let contact = world.store.contact(&user("bob")).unwrap().unwrap();
    assert_eq!(contact.pin, Pin::new(&other));
    assert!(!contact.pin.verified);
}

#[test]
fn the_pinned_identity_coming_back_settles_an_offer() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    let other = another_bob(&world);
    world.look(other.as_bytes(), start()).unwrap_err();
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    let contact = world.store.contact(&user("bob")).unwrap().unwrap();
    assert_eq!(contact.offered, None);
}

#[test]
fn an_identity_that_was_replaced_is_refused_without_a_decision_and_the_new_one_stays_usable() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    let new = Identity::from_seed(&[2; 32]);
    let newer = replaced(&bob, &new, start());
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    let change = world.look(newer.as_bytes(), start()).unwrap().change;
    let previous = bob.identity_key();
    assert_eq!(change, Change::Replaced { previous });
    let pinned = world.store.contact(&user("bob")).unwrap().unwrap().pin;

    // Replayed, and made after the change by somebody with the old secret, even when the new one signs for it.
    let mut fields = BundleFields {
        realm: Realm::default(),
        user: user("bob"),
        seq: newer.seq() + 1,
        created: start(),
        expires: newer.expires(),
        encryption: vec![],
        links: vec![],
    };
    let fresh = KeyBundle::sign(fields.clone(), bob.identity()).unwrap();
    let (realm, name) = (Realm::default(), user("bob"));
    fields.links = vec![IdentityLink::sign(&realm, &name, &new, &previous, start())];
    let back = KeyBundle::sign(fields, bob.identity()).unwrap();
    for old in [bob.bundle(), &fresh, &back] {
        let why = world.look(old.as_bytes(), start()).unwrap_err();
        assert!(
            matches!(why, Disbelieved::Retired { retired, .. } if retired == previous),
            "{why:?}"
        );
        match disbelieved_event(&name, &why) {
            Event::Alarm {
                cause,
                pinned,
                offered,
                ..
            } => assert_eq!(
                (cause, pinned, offered),
                (
                    "identity_retired",
                    Some(new.key().fingerprint()),
                    Some(previous.fingerprint())
                )
            ),
            other => panic!("{other:?}"),
        }
    }
    let contact = world.store.contact(&name).unwrap().unwrap();
    assert_eq!((contact.pin, contact.offered), (pinned, None));
    let before = |now| believed_before(&world.store, &name, now).unwrap();
    assert_eq!(before(start()).unwrap().unwrap().bundle, newer);
    assert!(before(newer.expires()).is_none());
}

#[test]
fn rubbish_and_other_peoples_bundles_pin_nothing() {
    let mut world = world();
    let alice = account(&world.folder, "alice");
    for payload in [alice.bundle().as_bytes(), b"{}", b""] {
        world.look(payload, start()).unwrap_err();
    }
    let bob = account(&world.folder, "bob");
    let expired = start().saturating_add(DAY * 200);
    assert!(matches!(
        world.look(bob.bundle().as_bytes(), expired),
        Err(Disbelieved::Refused(BundleRefused::Expired { .. }))
    ));
    assert!(world.store.contact(&user("bob")).unwrap().is_none());
}

#[test]
fn a_link_pins_before_any_bundle_and_only_its_identity_fits_then() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    let name = user("bob");
    let added = add(&mut world.store, &name, &bob.identity_key(), start()).unwrap();
    assert_eq!(added, Added::Pinned);
    let contact = world.store.contact(&name).unwrap().unwrap();
    assert!(contact.pin.verified && !contact.has_published());
    assert!(
        believed_before(&world.store, &name, start())
            .unwrap()
            .is_none()
    );

    let other = another_bob(&world);
    assert!(matches!(
        world.look(other.as_bytes(), start()),
        Err(Disbelieved::Refused(BundleRefused::IdentityChanged { .. }))
    ));
    let believed = world.look(bob.bundle().as_bytes(), start()).unwrap();
    assert_eq!(
        (believed.change, believed.verified),
        (Change::Routine, true)
    );
    let contact = world.store.contact(&name).unwrap().unwrap();
    assert!(contact.pin.verified && contact.has_published());
}

#[test]
fn a_link_verifies_who_is_pinned_and_never_replaces_anybody() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    let name = user("bob");
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    let other = another_bob(&world);
    world.look(other.as_bytes(), start()).unwrap_err();
    let pinned = bob.identity_key();
    for wrong in [*other.identity(), Identity::from_seed(&[9; 32]).key()] {
        let added = add(&mut world.store, &name, &wrong, start()).unwrap();
        assert_eq!(added, Added::Contradicts { pinned });
        let contact = world.store.contact(&name).unwrap().unwrap();
        assert_eq!(
            (contact.pin.identity, contact.pin.verified),
            (pinned, false)
        );
    }
    let added = add(&mut world.store, &name, &pinned, start()).unwrap();
    assert_eq!(added, Added::Verified);
    let contact = world.store.contact(&name).unwrap().unwrap();
    assert!(contact.pin.verified && contact.offered.is_some());
}

#[test]
fn a_verified_contact_is_never_downgraded_silently() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    let name = user("bob");
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    world
        .store
        .mark_verified(&name, &bob.identity_key())
        .unwrap();
    let verified = |world: &World| {
        let contact = world.store.contact(&name).unwrap().unwrap();
        contact.pin.verified
    };
    // An unlinked change blocks, and the pin stays as it was.
    let other = another_bob(&world);
    let why = world.look(other.as_bytes(), start()).unwrap_err();
    assert!(
        disbelieved_event(&name, &why)
            .human()
            .contains("HAS CHANGED")
    );
    assert!(verified(&world));
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    assert!(verified(&world));
    // A linked one is believed, not verified any more, and said.
    let new = Identity::from_seed(&[2; 32]);
    let newer = replaced(&bob, &new, start());
    let believed = world.look(newer.as_bytes(), start()).unwrap();
    let said = believed_event(&name, &believed).unwrap().human();
    assert!(said.contains("no longer verified"), "{said}");
    assert!(said.contains(&bob.identity_key().fingerprint()), "{said}");
    assert!(said.contains(&new.key().fingerprint()), "{said}");
    assert!(!verified(&world));
}

#[test]
fn who_withdrew_their_keys_is_told_of_once_and_nobody_brings_them_back() {
    let mut world = world();
    let mut bob = account(&world.folder, "bob");
    let name = user("bob");
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    let thief = account_copy(&world, &bob);
    bob.revoke(start()).unwrap();
    let retired = bob.bundle().clone();
    let believed = world.look(retired.as_bytes(), start()).unwrap();
    assert_eq!(believed.change, Change::Retired);
    let said = believed_event(&name, &believed).unwrap().human();
    assert!(said.contains("withdrawn"), "{said}");
    let again = world.look(retired.as_bytes(), start()).unwrap();
    assert_eq!(again.change, Change::Routine);

    // The thief has the identity, and makes newer bundles with it.
    let mut fields = BundleFields {
        realm: Realm::default(),
        user: name.clone(),
        seq: retired.seq() + 1,
        created: start(),
        expires: thief.bundle().expires(),
        encryption: thief.bundle().encryption().to_vec(),
        links: vec![],
    };
    let revived = KeyBundle::sign(fields.clone(), thief.identity()).unwrap();
    let new = Identity::from_seed(&[2; 32]);
    let (realm, old) = (Realm::default(), thief.identity());
    fields.links = vec![IdentityLink::sign(&realm, &name, old, &new.key(), start())];
    let handed_over = KeyBundle::sign(fields, &new).unwrap();
    for bundle in [revived, handed_over] {
        let why = world.look(bundle.as_bytes(), start()).unwrap_err();
        assert!(matches!(why, Disbelieved::Withdrawn), "{why:?}");
    }
    let contact = world.store.contact(&name).unwrap().unwrap();
    assert_eq!(contact.bundle, retired.as_bytes());
}

/// The same keys in other hands.
fn account_copy(world: &World, account: &Account) -> Account {
    let home = crate::home::Home::open(&world.folder.path().join("copy")).unwrap();
    std::fs::copy(account.home().keystore(), home.keystore()).unwrap();
    let asked = || panic!("asked");
    Account::open(&home, account.user(), account.realm(), asked, start()).unwrap()
}

#[test]
fn mail_of_the_identity_before_is_taken_while_it_can_be_under_way() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    let name = user("bob");
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    let old = bob.identity_key();
    let at = |world: &World, now| {
        let contact = world.store.contact(&name).unwrap().unwrap();
        is_predecessor(&contact, &old, now)
    };
    assert!(!at(&world, start()), "it is the pinned one itself");
    let new = Identity::from_seed(&[2; 32]);
    let newer = replaced(&bob, &new, start());
    world.look(newer.as_bytes(), start()).unwrap();
    assert!(at(&world, start()));
    assert!(!at(&world, start().saturating_add(GRACE)));
    let contact = world.store.contact(&name).unwrap().unwrap();
    let stranger = Identity::from_seed(&[3; 32]).key();
    assert!(!is_predecessor(&contact, &stranger, start()));
}

#[test]
fn a_suspension_ends_by_decision() {
    let mut world = world();
    let bob = account(&world.folder, "bob");
    world.look(bob.bundle().as_bytes(), start()).unwrap();
    for n in 0..3 {
        world
            .store
            .note_failure(&user("bob"), &[n; 32], start())
            .unwrap();
    }
    assert_eq!(
        trust(&mut world.store, &user("bob"), None, start()).unwrap(),
        Some(Trusted::Resumed(bob.identity_key()))
    );
    assert!(
        !world
            .store
            .contact(&user("bob"))
            .unwrap()
            .unwrap()
            .is_suspended()
    );
    assert_eq!(
        trust(&mut world.store, &user("carol"), None, start()).unwrap(),
        None
    );
}
