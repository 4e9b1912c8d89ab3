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
        offered,
        suspended,
        withdrawn,
        ..
    } = &mut event
    {
        *offered = offered_identity(contact).map(|key| key.fingerprint());
        *suspended = contact.is_suspended();
        *withdrawn = is_retired(contact);
    }
    event
}

/// What is said of a stranger who waits to be let in.
#[must_use]
pub fn request_event(contact: &Contact) -> Event {
    let user = &contact.user;
    Event::Request {
        user: user.to_string(),
        fingerprint: contact.pin.identity.fingerprint(),
        messages: None,
        text: None,
        hint: format!(
            "They learn nothing yet. To let them in: sealpost contacts accept {user} (in a chat /accept {user}); to hear no more of \
             them: block in place of accept. What they wrote: sealpost contacts requests"
        ),
    }
}

/// The strangers who wait to be let in, each with the number and the beginning of what they wrote.
pub fn requests(store: &Store) -> Result<Vec<Event>, StoreError> {
    let mut requests = Vec::new();
    for (user, count) in store.requests()? {
        let Some(contact) = store.contact(&user)? else {
            continue;
        };
        let mut event = request_event(&contact);
        if let Event::Request { messages, text, .. } = &mut event {
            *messages = Some(count);
            *text = store.requested_beginning(&user)?;
        }
        requests.push(event);
    }
    Ok(requests)
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
pub(crate) mod tests;
