//! Watching our own `keys/<me>`: published when the broker has none or an older one, and an alarm when it has one that
//! we did not make.

use sealpost_core::KeyBundle;

use crate::account::Account;
use crate::event::Event;

/// What to do about the bundle that the broker has for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnBundle {
    /// It is the current one.
    Current,
    /// There is none, or one that we made before: publish.
    Publish,
    /// It is not ours.
    Foreign(Foreign),
}

/// A bundle for our name that we did not make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// Signed by our identity, but not by this installation.
    Copy,
    /// Signed by our identity, and withdrawing it, which this installation did not do.
    Revoked,
    /// Signed by another identity.
    Impostor {
        /// Its fingerprint.
        fingerprint: String,
    },
    /// Not even a bundle of ours.
    Rubbish,
}

/// Looks at what the broker has. Reload the account before, when it does not know the bundle: another process may have
/// made it.
#[must_use]
pub fn look(account: &Account, payload: &[u8]) -> OwnBundle {
    if payload == account.bundle().as_bytes() {
        return OwnBundle::Current;
    }
    if payload.is_empty() {
        return OwnBundle::Publish;
    }
    let Ok(bundle) = KeyBundle::parse(payload) else {
        return OwnBundle::Foreign(Foreign::Rubbish);
    };
    if bundle.user() != account.user() || bundle.realm() != account.realm() {
        return OwnBundle::Foreign(Foreign::Rubbish);
    }
    // Made under an identity that we have replaced since.
    let links = account.bundle().links();
    let replaced = links.iter().any(|link| link.old() == bundle.identity());
    let older = bundle.seq() < account.bundle().seq();
    if account.made(&bundle.digest()) || (replaced && older) {
        return OwnBundle::Publish;
    }
    if *bundle.identity() != account.identity_key() {
        return OwnBundle::Foreign(Foreign::Impostor {
            fingerprint: bundle.identity().fingerprint(),
        });
    }
    // It holds for good, and publishing another one would take it back.
    if bundle.is_retired() && !account.is_retired() {
        return OwnBundle::Foreign(Foreign::Revoked);
    }
    // Older than ours and signed by us: made before, whether we remember it or not.
    if older {
        return OwnBundle::Publish;
    }
    OwnBundle::Foreign(Foreign::Copy)
}

/// The alarm for our own keys when another process has changed their passphrase.
#[must_use]
pub fn locked(account: &Account) -> Event {
    let user = account.user();
    Event::Alarm {
        cause: "own_keys_locked",
        user: user.to_string(),
        pinned: None,
        offered: None,
        message: format!(
            "the passphrase of {user}'s keys was changed; this process goes on with the keys that it has"
        ),
        hint: "Start it again, or let an agent hold the key (sealpost agent): until then it cannot follow or make new keys."
            .to_owned(),
    }
}

/// The alarm for it.
#[must_use]
pub fn alarm(account: &Account, foreign: &Foreign) -> Event {
    let user = account.user();
    let pinned = account.identity_key().fingerprint();
    let (cause, offered, message, hint) = match foreign {
        Foreign::Copy => (
            "own_keys_copied",
            None,
            format!("keys for {user} that this installation did not make are published, signed by your identity"),
            "A copy of your keys is in use, or your home was restored from a backup. If you know of no other \
             installation, your identity is stolen: tell your contacts and start over with a new name."
                .to_owned(),
        ),
        Foreign::Revoked => (
            "own_keys_revoked",
            None,
            format!("the keys of {user} were revoked, and not by this installation"),
            "Perhaps this home was restored from a backup of before that: begin anew with new keys, as `sealpost keys revoke` said. \
             Otherwise somebody else has your keys: tell your contacts."
                .to_owned(),
        ),
        Foreign::Impostor { fingerprint } => (
            "own_keys_replaced",
            Some(fingerprint.clone()),
            format!("the broker gives out another identity for {user} than yours"),
            "Whoever holds it reads what is sent to you from now on. Tell your contacts your fingerprint in some \
             other way, and ask the broker's operator."
                .to_owned(),
        ),
        Foreign::Rubbish => (
            "own_keys_replaced",
            None,
            format!("the broker gives out something else than keys for {user}"),
            "Nobody can send to you until it is mended. Ask the broker's operator.".to_owned(),
        ),
    };
    Event::Alarm {
        cause,
        user: user.to_string(),
        pinned: Some(pinned),
        offered,
        message,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::tests::{account, start};
    use crate::home::Home;
    use std::time::Duration;

    #[test]
    fn our_current_bundle_is_fine_and_none_or_an_older_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut alice = account(&folder, "alice");
        let old = alice.bundle().clone();
        assert_eq!(look(&alice, old.as_bytes()), OwnBundle::Current);
        assert_eq!(look(&alice, b""), OwnBundle::Publish);
        alice.rotate(start()).unwrap();
        assert_eq!(look(&alice, old.as_bytes()), OwnBundle::Publish);
    }

    #[test]
    fn a_bundle_of_the_identity_before_is_replaced_without_alarm() {
        let folder = tempfile::tempdir().unwrap();
        let mut alice = account(&folder, "alice");
        let old = alice.bundle().clone();
        alice.rotate_identity(start()).unwrap();
        assert_eq!(look(&alice, old.as_bytes()), OwnBundle::Publish);
    }

    #[test]
    fn a_bundle_that_we_did_not_make_alarms() {
        let folder = tempfile::tempdir().unwrap();
        let alice = account(&folder, "alice");
        let other_folder = tempfile::tempdir().unwrap();
        let other = account(&other_folder, "alice");
        assert_eq!(
            look(&alice, other.bundle().as_bytes()),
            OwnBundle::Foreign(Foreign::Impostor {
                fingerprint: other.identity_key().fingerprint()
            })
        );
        let bob = account(&folder, "bob");
        for rubbish in [bob.bundle().as_bytes(), b"x"] {
            assert_eq!(look(&alice, rubbish), OwnBundle::Foreign(Foreign::Rubbish));
        }
    }

    #[test]
    fn a_copy_of_our_keys_at_work_elsewhere_alarms() {
        let folder = tempfile::tempdir().unwrap();
        let alice = account(&folder, "alice");
        let copy_folder = tempfile::tempdir().unwrap();
        let copy_home = Home::open(&copy_folder.path().join("alice")).unwrap();
        std::fs::copy(alice.home().keystore(), copy_home.keystore()).unwrap();
        let now = start().saturating_add(Duration::from_secs(60));
        let mut copy = Account::open(
            &copy_home,
            alice.user(),
            alice.realm(),
            || panic!("asked"),
            now,
        )
        .unwrap();
        copy.rotate(now).unwrap();
        assert_eq!(
            look(&alice, copy.bundle().as_bytes()),
            OwnBundle::Foreign(Foreign::Copy)
        );
    }
}
