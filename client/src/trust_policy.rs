//! The trust policy: to whom may be sent.
//!
//! One question with one answer, [`TrustPolicy::permit`], asked twice: before a message is taken on, so that nobody is
//! pinned by the attempt, and before it is sealed, because what holds of a contact may have changed meanwhile.

use sealpost_core::UserId;
use serde::Deserialize;

use crate::store::Contact;

/// To whom may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TrustPolicy {
    /// To anybody: who is there at first is pinned
    #[default]
    OnFirstUse,
    /// To contacts only: who was pinned before, by a message of theirs, or was added
    Known,
    /// To verified contacts only: whose safety number was compared, or who was added by a link
    Verified,
}

/// Why somebody may not be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// The policy wants somebody known.
    #[error("{0} is not a contact, and only contacts may be sent to")]
    Stranger(UserId),
    /// The policy wants somebody verified.
    #[error("{0} is not verified, and only verified contacts may be sent to")]
    NotVerified(UserId),
}

impl TrustPolicy {
    /// Whether a message may be sealed to `user`, of whom `contact` is known. Whether their bundle is to be believed is
    /// another question, see [`crate::contact::consider`].
    ///
    /// # Errors
    /// What the policy misses.
    pub fn permit(self, user: &UserId, contact: Option<&Contact>) -> Result<(), NotPermitted> {
        match (self, contact) {
            (TrustPolicy::OnFirstUse, _) | (TrustPolicy::Known, Some(_)) => Ok(()),
            (TrustPolicy::Verified, Some(contact)) if contact.pin.verified => Ok(()),
            (TrustPolicy::Verified, Some(_)) => Err(NotPermitted::NotVerified(user.clone())),
            (TrustPolicy::Known | TrustPolicy::Verified, None) => {
                Err(NotPermitted::Stranger(user.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::tests::{account, start};
    use crate::contact::consider;
    use crate::store::tests::{store, user};
    use sealpost_core::Realm;

    #[test]
    fn each_policy_permits_what_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let bob = account(&folder, "bob");
        let name = user("bob");
        let permitted = |contact: Option<&Contact>| {
            [
                TrustPolicy::OnFirstUse,
                TrustPolicy::Known,
                TrustPolicy::Verified,
            ]
            .map(|policy| policy.permit(&name, contact))
        };
        let stranger = || Err(NotPermitted::Stranger(name.clone()));
        assert_eq!(permitted(None), [Ok(()), stranger(), stranger()]);

        let bundle = bob.bundle().as_bytes();
        consider(&mut store, &Realm::default(), &name, bundle, start())
            .unwrap()
            .unwrap();
        let contact = store.contact(&name).unwrap();
        let unverified = Err(NotPermitted::NotVerified(name.clone()));
        assert_eq!(permitted(contact.as_ref()), [Ok(()), Ok(()), unverified]);

        store.mark_verified(&name, &bob.identity_key()).unwrap();
        let contact = store.contact(&name).unwrap();
        assert_eq!(permitted(contact.as_ref()), [Ok(()), Ok(()), Ok(())]);
    }
}
