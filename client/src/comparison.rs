//! Verifying a contact: what both sides must see, and what it means when they do not.

use sealpost_core::{IdentityKey, Realm, SafetyNumber, UserId, Verification};

use crate::exit::{Code, Failure};
use crate::store::Store;

/// What is to be compared with a contact.
#[derive(Debug, Clone)]
pub struct Comparison {
    ours: Verification,
    number: SafetyNumber,
}

impl Comparison {
    /// Between us and a contact whose identity, as we know it, is `theirs`.
    #[must_use]
    pub fn of(
        realm: &Realm,
        (user, ours): (&UserId, &IdentityKey),
        (contact, theirs): (&UserId, &IdentityKey),
    ) -> Comparison {
        Comparison {
            number: SafetyNumber::of(realm, (user, ours), (contact, theirs)),
            ours: Verification {
                realm: realm.clone(),
                user: user.clone(),
                identity: *ours,
                contact: contact.clone(),
                sees: *theirs,
            },
        }
    }

    /// The sixty digits that both must see.
    #[must_use]
    pub fn number(&self) -> &SafetyNumber {
        &self.number
    }

    /// The contact's identity, as we know it.
    #[must_use]
    pub fn theirs(&self) -> &IdentityKey {
        &self.ours.sees
    }

    /// The text of our QR code.
    #[must_use]
    pub fn code(&self) -> String {
        self.ours.to_string()
    }

    /// Whether these digits, which the contact sees, are the same.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_number(&self, digits: &str) -> Result<(), Failure> {
        let given = SafetyNumber::parse(digits).map_err(|error| {
            Failure::new(
                Code::Usage,
                format!("that is not a safety number: {error}"),
                "Give all sixty digits; spaces between them do not matter.",
            )
        })?;
        match given == self.number {
            true => Ok(()),
            false => Err(self.differs()),
        }
    }

    /// Whether the contact, whose QR code says `text`, sees what we see. What differs says whose keys are wrong, and where.
    ///
    /// # Errors
    /// When they do not, or it is another code.
    pub fn check_code(&self, text: &str) -> Result<(), Failure> {
        let ours = &self.ours;
        let user = &ours.contact;
        let scanned = Verification::parse(text.trim()).map_err(|error| {
            Failure::new(
                Code::Usage,
                format!("that is not the text of such a QR code: {error}"),
                format!("Let {user} show it: sealpost contacts verify {}", ours.user),
            )
        })?;
        let expected = ours.mirrored();
        if scanned == expected {
            return Ok(());
        }
        let about_others = (&scanned.realm, &scanned.user, &scanned.contact)
            != (&expected.realm, &expected.user, &expected.contact);
        let (code, message, hint) = if about_others {
            (
                Code::Usage,
                format!(
                    "that QR code is for {} and {} in the realm {}, not for {user} and you",
                    scanned.user, scanned.contact, scanned.realm
                ),
                format!(
                    "{user} must show the one for you: sealpost contacts verify {}",
                    ours.user
                ),
            )
        } else if scanned.identity != expected.identity {
            (
                Code::Untrusted,
                format!(
                    "the identity of {user} is {}, and you know {}: {user} is not verified",
                    scanned.identity.fingerprint(),
                    expected.identity.fingerprint()
                ),
                format!(
                    "Somebody may stand between you, with keys of their own in the name of {user}. Do not send {user} anything that matters."
                ),
            )
        } else {
            (
                Code::Untrusted,
                format!(
                    "{user} knows {} for you, and yours is {}: {user} is not verified",
                    scanned.sees.fingerprint(),
                    expected.sees.fingerprint()
                ),
                format!(
                    "Somebody may stand in for you towards {user}. Do not trust what reaches them in your name."
                ),
            )
        };
        Err(Failure::new(code, message, hint))
    }

    /// Keeps what came of it. Somebody with whom it went wrong is not verified, whatever was compared earlier; a text that
    /// cannot be read says nothing.
    ///
    /// # Errors
    /// What went wrong, here or before.
    pub fn conclude(&self, store: &mut Store, same: Result<(), Failure>) -> Result<(), Failure> {
        let user = &self.ours.contact;
        match same {
            Ok(()) if store.mark_verified(user, &self.ours.sees)? => Ok(()),
            Ok(()) => Err(Failure::new(
                Code::Untrusted,
                format!("the identity of {user} changed meanwhile"),
                "Compare again.",
            )),
            Err(failure) => {
                if failure.code == Code::Untrusted {
                    store.unmark_verified(user)?;
                }
                Err(failure)
            }
        }
    }

    /// They do not see the same.
    #[must_use]
    pub fn differs(&self) -> Failure {
        let user = &self.ours.contact;
        Failure::new(
            Code::Untrusted,
            format!("the safety numbers differ: {user} is not verified"),
            format!(
                "One of you sees other keys than the other has. Do not send {user} anything that matters until you know why."
            ),
        )
    }
}
