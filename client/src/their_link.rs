//! Taking a contact link that somebody gave us: pinned and verified before a broker says anything.

use sealpost_core::{ContactLink, IdentityKey, Realm, UriError, UserId};
use sealpost_mqtt::Route;

use crate::contact::{self, Added};
use crate::event::{ContactChangeKind, Event};
use crate::exit::{Code, Failure};
use crate::store::Store;
use crate::{clock, terminal};

/// What an operator's invitation begins with, which people may take for a contact link.
const INVITATION: &str = "sealpost-invitation-";

/// What became of a link.
#[derive(Debug)]
pub struct Taken {
    /// Whose it is.
    pub user: UserId,
    /// What is to be said about them.
    pub event: Event,
    /// The link contradicts what is known: nothing was changed.
    pub contradicts: Option<Failure>,
    /// They use another broker than ours, in words.
    pub elsewhere: Option<String>,
}

/// Reads a link.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<ContactLink, Failure> {
    ContactLink::parse(text.trim()).map_err(|error| not_a_link(text, error))
}

/// Takes a link over.
///
/// # Errors
/// When it is not one for us; and when the store fails.
pub fn take(
    store: &mut Store,
    (realm, me, my_identity): (&Realm, &UserId, &IdentityKey),
    broker: &Route,
    link: &ContactLink,
) -> Result<Taken, Failure> {
    if link.realm != *realm {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "the link is for the realm {}, and yours is {realm}",
                link.realm
            ),
            "Give --realm, if you are there too: everybody who talks to each other needs the same one.",
        ));
    }
    if link.user == *me {
        return Err(if link.identity == *my_identity {
            Failure::new(Code::Usage, "that is your own link", "Give it to others.")
        } else {
            Failure::new(
                Code::Untrusted,
                format!(
                    "the link is for your name, with an identity that is not yours: {}",
                    link.identity.fingerprint()
                ),
                "Where did you get it? Somebody may stand in for you: tell your contacts your fingerprint (sealpost keys show).",
            )
        });
    }
    let (user, identity) = (&link.user, &link.identity);
    let (event, contradicts) = match contact::add(store, user, identity, clock::now())? {
        Added::Pinned => (
            Event::contact(user, ContactChangeKind::Added, identity, true),
            None,
        ),
        Added::Verified => (
            Event::contact(user, ContactChangeKind::Verified, identity, true),
            None,
        ),
        Added::Contradicts { pinned } => (
            contact::contradiction_event(user, &pinned, identity),
            Some(Failure::new(
                Code::Untrusted,
                format!("the link and what is known of {user} contradict each other"),
                "Nothing was changed.",
            )),
        ),
    };
    let same = broker
        .brokers()
        .any(|ours| ours.to_string() == link.broker());
    let elsewhere = (!same).then(|| {
        format!(
            "{user} uses the broker {}, and you {broker}: are they the same, or do they share their users?",
            terminal::clean_line(link.broker())
        )
    });
    Ok(Taken {
        user: link.user.clone(),
        event,
        contradicts,
        elsewhere,
    })
}

fn not_a_link(text: &str, error: UriError) -> Failure {
    if text.trim().starts_with(INVITATION) {
        return Failure::new(
            Code::Usage,
            "that is an operator's invitation to claim a name, not a person's contact link",
            "It is for your own first connection: give it with --invitation or SEALPOST_INVITATION, to nobody else.",
        );
    }
    Failure::new(
        Code::Usage,
        format!("that is not a contact link: {error}"),
        "Copy it whole, as `sealpost invite` printed it; a shell takes it apart at each & unless it stands in quotes.",
    )
}
