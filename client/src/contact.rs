//! Contacts: what a bundle that arrives means for whom we believe in. Decisions are the core's; here they meet the
//! store.

use sealpost_core::{
    Assessment, BundleError, BundleRefused, IdentityKey, KeyBundle, Pin, Realm, Timestamp, UserId,
    assess,
};

use crate::account::GRACE;
use crate::event::{ContactChangeKind, Event};
use crate::store::{Contact, ContactChange, Store, StoreError};

/// A bundle that we believe, its pin stored.
#[derive(Debug, Clone)]
pub struct Believed {
    /// The bundle.
    pub bundle: KeyBundle,
    /// What was new about it.
    pub change: Change,
    /// Whether the safety number was compared.
    pub verified: bool,
}

/// A contact as it is listed.
#[must_use]
pub fn listed(contact: &Contact) -> Event {
    let mut event = Event::contact(
        &contact.user,
        ContactChangeKind::Known,
        &contact.pin.identity,
        contact.pin.verified,
    );
    if let Event::Contact {
        offered, suspended, ..
    } = &mut event
    {
        *offered = offered_identity(contact).map(|key| key.fingerprint());
        *suspended = contact.is_suspended();
    }
    event
}

/// What was new about a believed bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// We knew nothing of this user.
    FirstContact,
    /// Nothing, or a routine change of the RSA key.
    Routine,
    /// The owner has withdrawn their keys: nobody can seal to them any more.
    Retired,
    /// Another identity, signed over by the pinned one.
    Replaced {
        /// The one that was pinned.
        previous: IdentityKey,
    },
}

/// Why a bundle is not believed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Disbelieved {
    /// It is no bundle.
    #[error(transparent)]
    Malformed(BundleError),
    /// It is one, but not one to trust.
    #[error(transparent)]
    Refused(#[from] BundleRefused),
    /// Its identity was replaced, as the bundle we believe in shows: it is an old one, or made with the old secret.
    #[error("the key bundle is signed by an identity that was replaced")]
    Retired {
        /// The identity that replaced it.
        pinned: IdentityKey,
        /// The replaced one.
        retired: IdentityKey,
    },
    /// Its identity was retired by its owner, perhaps because somebody stole it: whatever that identity signs afterwards is
    /// not theirs.
    #[error("the key bundle is signed by an identity that its owner has withdrawn")]
    Withdrawn,
    /// The broker has none any more, though we have seen one.
    #[error("the key bundle was removed")]
    Removed,
}

/// Looks at a bundle that came in on `keys/<user>`; pins, or keeps a changed identity for a decision.
pub fn consider(
    store: &mut Store,
    realm: &Realm,
    user: &UserId,
    payload: &[u8],
    now: Timestamp,
) -> Result<Result<Believed, Disbelieved>, StoreError> {
    if payload.is_empty() {
        return Ok(Err(Disbelieved::Removed));
    }
    let bundle = match KeyBundle::parse(payload) {
        Ok(bundle) => bundle,
        Err(error) => return Ok(Err(Disbelieved::Malformed(error))),
    };
    store.change_contact(user, now, |contact| {
        if let Some(contact) = contact
            && (bundle.realm(), bundle.user()) == (realm, user)
            && retires(contact, bundle.identity())
        {
            let retired = Disbelieved::Retired {
                pinned: contact.pin.identity,
                retired: *bundle.identity(),
            };
            return (ContactChange::Keep, Err(retired));
        }
        let retired = contact.is_some_and(is_retired);
        let pin = contact.map(|contact| &contact.pin);
        match assess(pin, &bundle, realm, user, now) {
            // The owner has ended this identity: it neither comes back nor hands over.
            Ok(Assessment::Newer { .. } | Assessment::LinkedChange { .. })
                if retired && !bundle.is_retired() =>
            {
                (ContactChange::Keep, Err(Disbelieved::Withdrawn))
            }
            Ok(assessment) => {
                let change = match assessment {
                    Assessment::Unchanged { .. } | Assessment::Newer { .. }
                        if bundle.is_retired() && !retired =>
                    {
                        Change::Retired
                    }
                    Assessment::FirstContact { .. } => Change::FirstContact,
                    Assessment::Unchanged { .. } | Assessment::Newer { .. } => Change::Routine,
                    Assessment::LinkedChange { previous, .. } => Change::Replaced { previous },
                };
                let pin = *assessment.pin();
                let believed = Believed {
                    change,
                    verified: pin.verified,
                    bundle: bundle.clone(),
                };
                (
                    ContactChange::Pin(pin, bundle.as_bytes().to_vec()),
                    Ok(believed),
                )
            }
            Err(refused @ BundleRefused::IdentityChanged { .. }) => {
                // An expired or future one is not worth a decision.
                let change = match bundle.check_time(now) {
                    Ok(()) => ContactChange::Offer(bundle.as_bytes().to_vec()),
                    Err(_) => ContactChange::Keep,
                };
                (change, Err(refused.into()))
            }
            Err(refused) => (ContactChange::Keep, Err(refused.into())),
        }
    })
}

/// Whether the contact has withdrawn their keys.
fn is_retired(contact: &Contact) -> bool {
    KeyBundle::parse(&contact.bundle).is_ok_and(|bundle| bundle.is_retired())
}

/// Whether the bundle we believe in shows that `identity` was replaced. Such an identity never returns, whoever signs
/// for it (SPEC 6.6).
fn retires(contact: &Contact, identity: &IdentityKey) -> bool {
    KeyBundle::parse(&contact.bundle)
        .is_ok_and(|bundle| bundle.links().iter().any(|link| link.old() == identity))
}

/// Whether mail signed by `signer` still opens although it is not the pinned identity: the bundle we believe in shows that
/// the pinned one replaced it, not longer ago than mail can be under way (SPEC 7.5).
#[must_use]
pub fn is_predecessor(contact: &Contact, signer: &IdentityKey, now: Timestamp) -> bool {
    let recent = |at: Timestamp| now < at.saturating_add(GRACE);
    KeyBundle::parse(&contact.bundle).is_ok_and(|bundle| {
        let mut links = bundle.links().iter();
        *bundle.identity() == contact.pin.identity
            && links.any(|link| link.old() == signer && recent(link.at()))
    })
}

/// What holds about `user` when a broker brings back a replaced identity or older keys: whatever held before. A changed identity
/// still waits for its decision; else the bundle stored with the pin is as good as it was, while it is valid.
pub fn believed_before(
    store: &Store,
    user: &UserId,
    now: Timestamp,
) -> Result<Option<Result<Believed, Disbelieved>>, StoreError> {
    let Some(contact) = store.contact(user)? else {
        return Ok(None);
    };
    if let Some(offered) = offered_identity(&contact) {
        let pinned = contact.pin.identity;
        let refused = BundleRefused::IdentityChanged { pinned, offered };
        return Ok(Some(Err(refused.into())));
    }
    let valid = KeyBundle::parse(&contact.bundle)
        .ok()
        .filter(|bundle| bundle.check_time(now).is_ok());
    Ok(valid.map(|bundle| {
        Ok(Believed {
            bundle,
            change: Change::Routine,
            verified: contact.pin.verified,
        })
    }))
}

/// What adding a contact by their link did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// Nothing was known of them: the identity is pinned, verified, before any bundle was seen.
    Pinned,
    /// The identity was pinned already, and is verified now.
    Verified,
    /// Another identity is pinned. Nothing changed.
    Contradicts {
        /// The one that is pinned.
        pinned: IdentityKey,
    },
}

/// Pins the identity that somebody gave us outside of Sealpost (SPEC 9.3).
pub fn add(
    store: &mut Store,
    user: &UserId,
    identity: &IdentityKey,
    now: Timestamp,
) -> Result<Added, StoreError> {
    let added = store.change_contact(user, now, |contact| match contact {
        None => {
            // Every bundle of this identity is newer than none.
            let pin = Pin {
                identity: *identity,
                seq: 0,
                digest: [0; 32],
                verified: true,
            };
            (ContactChange::Pin(pin, Vec::new()), Added::Pinned)
        }
        Some(contact) if contact.pin.identity == *identity => {
            (ContactChange::Keep, Added::Verified)
        }
        Some(contact) => {
            let pinned = contact.pin.identity;
            (ContactChange::Keep, Added::Contradicts { pinned })
        }
    })?;
    match added {
        Added::Verified if !store.mark_verified(user, identity)? => add(store, user, identity, now),
        added => Ok(added),
    }
}

/// The alarm when a link names another identity than the pinned one.
#[must_use]
pub fn contradiction_event(user: &UserId, pinned: &IdentityKey, linked: &IdentityKey) -> Event {
    Event::Alarm {
        cause: "link_contradicts",
        user: user.to_string(),
        pinned: Some(pinned.fingerprint()),
        offered: Some(linked.fingerprint()),
        message: format!(
            "the link names another identity for {user} than the one you know\n\
             Known:    {}\nThe link: {}\n\
             Either {user} has new keys since you met, or the link is old. Or somebody made one of the two to stand in for {user}.",
            pinned.fingerprint(),
            linked.fingerprint()
        ),
        hint: format!(
            "Ask {user} which fingerprint is theirs (sealpost keys show). If it is the link's and the broker offers it too: sealpost \
             contacts trust {user} --fingerprint {}, then add the link again.",
            linked.fingerprint()
        ),
    }
}

/// What accepting a contact by hand did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trusted {
    /// The offered identity is pinned.
    Accepted(IdentityKey),
    /// The suspension is over.
    Resumed(IdentityKey),
    /// There was nothing to decide.
    Nothing(IdentityKey),
    /// The offer is another one than was shown, or expired meanwhile.
    Changed,
}

/// The identity that waits for a decision about a contact.
#[must_use]
pub fn offered_identity(contact: &Contact) -> Option<IdentityKey> {
    let bundle = KeyBundle::parse(contact.offered.as_deref()?).ok()?;
    Some(*bundle.identity())
}

/// Accepts what was shown: the offered identity `shown`, and an end of a suspension.
pub fn trust(
    store: &mut Store,
    user: &UserId,
    shown: Option<&IdentityKey>,
    now: Timestamp,
) -> Result<Option<Trusted>, StoreError> {
    let decided = store.change_contact(user, now, |contact| {
        let Some(contact) = contact else {
            return (ContactChange::Keep, None);
        };
        let offered = contact.offered.as_deref().map(KeyBundle::parse);
        match (offered, shown) {
            (Some(Ok(bundle)), Some(shown)) if bundle.identity() == shown => {
                if bundle.check_time(now).is_err() {
                    return (ContactChange::Keep, Some(Trusted::Changed));
                }
                let pin = Pin::new(&bundle);
                (
                    ContactChange::Pin(pin, bundle.as_bytes().to_vec()),
                    Some(Trusted::Accepted(pin.identity)),
                )
            }
            (None, None) if contact.is_suspended() => (
                ContactChange::Keep,
                Some(Trusted::Resumed(contact.pin.identity)),
            ),
            (None, None) => (
                ContactChange::Keep,
                Some(Trusted::Nothing(contact.pin.identity)),
            ),
            _ => (ContactChange::Keep, Some(Trusted::Changed)),
        }
    })?;
    if let Some(Trusted::Resumed(_)) = decided {
        store.clear_failures(user)?;
    }
    Ok(decided)
}

/// What is to be said about a bundle that is believed: nothing when it is routine.
#[must_use]
pub fn believed_event(user: &UserId, believed: &Believed) -> Option<Event> {
    let identity = believed.bundle.identity();
    match believed.change {
        Change::Routine => None,
        Change::FirstContact => Some(Event::contact(
            user,
            ContactChangeKind::Pinned,
            identity,
            false,
        )),
        Change::Retired => Some(Event::contact(
            user,
            ContactChangeKind::Retired,
            identity,
            believed.verified,
        )),
        Change::Replaced { previous } => {
            let mut event = Event::contact(user, ContactChangeKind::Replaced, identity, false);
            if let Event::Contact { previous: was, .. } = &mut event {
                *was = Some(previous.fingerprint());
            }
            Some(event)
        }
    }
}

/// What is to be said about a bundle that is not believed.
#[must_use]
pub fn disbelieved_event(user: &UserId, why: &Disbelieved) -> Event {
    let (cause, hint) = match why {
        Disbelieved::Malformed(_) => (
            "bundle_malformed",
            format!(
                "The broker serves something else than {user}'s keys. Tell {user} and the broker's operator."
            ),
        ),
        Disbelieved::Retired { .. } => (
            "identity_retired",
            format!(
                "Nothing changes: {user} stays who they are now. But the broker, or somebody with {user}'s old key, \
                 brings it back. Tell {user} and the broker's operator."
            ),
        ),
        Disbelieved::Withdrawn => (
            "identity_withdrawn",
            format!(
                "{user} has withdrawn this identity, perhaps because it was stolen. Whoever uses it now is not {user}. Nothing is \
                 sent to it."
            ),
        ),
        Disbelieved::Removed => (
            "bundle_removed",
            format!(
                "Keys do not go away by themselves: the broker withholds them, or {user} has withdrawn them. What you know of \
                 {user} holds until it expires. Ask {user} and the broker's operator."
            ),
        ),
        Disbelieved::Refused(refused) => match refused {
            BundleRefused::IdentityChanged { .. } => (
                "identity_changed",
                format!(
                    "Ask {user} for their fingerprint in some other way; then: sealpost contacts trust {user}"
                ),
            ),
            BundleRefused::RolledBack { .. } => (
                "bundle_rolled_back",
                format!(
                    "The broker, or somebody with {user}'s old key, offers outdated keys. Nothing is sent to them."
                ),
            ),
            BundleRefused::Forked { .. } => (
                "bundle_forked",
                format!(
                    "Somebody else signs with {user}'s identity. Ask {user} whether a copy of their keys is in use."
                ),
            ),
            BundleRefused::Expired { .. } => (
                "bundle_expired",
                format!(
                    "{user} must connect once with an up-to-date client, which publishes fresh keys."
                ),
            ),
            BundleRefused::FromTheFuture { .. } => (
                "bundle_from_the_future",
                format!("Check this machine's clock and ask {user} to check theirs."),
            ),
            BundleRefused::WrongRealm => (
                "bundle_of_another_realm",
                "Check --realm: everybody who talks to each other needs the same one.".to_owned(),
            ),
            _ => (
                "bundle_refused",
                format!(
                    "The broker serves something else than {user}'s keys. Tell {user} and the broker's operator."
                ),
            ),
        },
    };
    let (pinned, offered) = match why {
        Disbelieved::Refused(BundleRefused::IdentityChanged { pinned, offered }) => {
            (Some(pinned.fingerprint()), Some(offered.fingerprint()))
        }
        Disbelieved::Retired { pinned, retired } => {
            (Some(pinned.fingerprint()), Some(retired.fingerprint()))
        }
        _ => (None, None),
    };
    let message = match why {
        Disbelieved::Refused(BundleRefused::IdentityChanged { .. }) => {
            format!("the identity of {user} has changed")
        }
        Disbelieved::Retired { .. } => {
            format!("the broker offers an identity of {user} that was replaced; it is not believed")
        }
        other => format!("{user}: {other}"),
    };
    Event::Alarm {
        cause,
        user: user.to_string(),
        pinned,
        offered,
        message,
        hint,
    }
}

#[cfg(test)]
pub(crate) mod tests {
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
}
