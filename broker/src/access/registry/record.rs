//! What is known of one user, and how a file spells it.

use sealpost_core::{IdentityKey, KeyBundle, Realm, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::access::password::PasswordHash;

/// Whether a name's owner may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Yes.
    Active,
    /// Not until the operator says so. Mail is still taken for them.
    Disabled,
    /// Never again: the name stays reserved.
    Removed,
}

/// An invitation that waits to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invited {
    /// The invitation's public key.
    pub key: IdentityKey,
    /// Until when.
    pub expires: Timestamp,
}

/// What is known of a user.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whether the owner may act.
    pub standing: Standing,
    /// The identity that the name is bound to; none while an invitation waits, after a reset, and for a device that has
    /// a password or certificate only.
    pub identity: Option<IdentityKey>,
    /// When the name was first taken.
    pub registered: Timestamp,
    /// Whether anybody ever was this user. A name that was only offered is free again when the offer has expired.
    pub used: bool,
    /// The invitation that waits.
    pub invitation: Option<Invited>,
    /// What a static password is compared with.
    pub password: Option<PasswordHash>,
    /// When they last signed in, if that is known.
    pub last_login: Option<Timestamp>,
    /// As much of that as is on disk.
    pub(super) noted_login: Option<Timestamp>,
    pub(super) bundle: Option<KeyBundle>,
    /// Of the newest bundle ever taken from this identity, also after it was withdrawn, so that no older one comes back.
    pub seq: u64,
}

/// A user's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u8,
    user: String,
    #[serde(default = "active")]
    standing: Standing,
    identity: Option<String>,
    registered: u64,
    #[serde(default = "yes")]
    used: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invitation: Option<InvitedPage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// Milliseconds since the epoch, as all times here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_login: Option<u64>,
    seq: u64,
    bundle: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InvitedPage {
    key: String,
    expires: u64,
}

// What a file of version 1 means, which had neither member.
fn active() -> Standing {
    Standing::Active
}

fn yes() -> bool {
    true
}

/// What is written. Version 1, from before names could be offered, disabled or removed, is read too.
const VERSION: u8 = 2;

impl Record {
    /// A name that is taken and has nothing else yet.
    pub(super) fn new(now: Timestamp) -> Record {
        Record {
            standing: Standing::Active,
            identity: None,
            registered: now,
            used: false,
            invitation: None,
            password: None,
            last_login: None,
            noted_login: None,
            bundle: None,
            seq: 0,
        }
    }

    /// What stays of a user who was removed.
    pub(super) fn tombstone(&self) -> Record {
        Record {
            standing: Standing::Removed,
            used: true,
            ..Record::new(self.registered)
        }
    }

    /// Whether the name was offered to somebody who did not come in time, and nobody ever had it.
    pub(super) fn is_free(&self, now: Timestamp) -> bool {
        !self.used
            && self
                .invitation
                .is_none_or(|invitation| invitation.expires < now)
    }

    /// The sequence number of the bundle that others find, if there is one.
    #[must_use]
    pub fn published(&self) -> Option<u64> {
        self.bundle.as_ref().map(KeyBundle::seq)
    }

    pub(super) fn write(&self, user: &UserId) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Page {
            version: VERSION,
            user: user.to_string(),
            standing: self.standing,
            identity: self.identity.map(|identity| identity.to_base64()),
            registered: self.registered.millis(),
            used: self.used,
            invitation: self.invitation.map(|invitation| InvitedPage {
                key: invitation.key.to_base64(),
                expires: invitation.expires.millis(),
            }),
            password: self
                .password
                .as_ref()
                .map(|password| password.as_str().to_owned()),
            last_login: self.last_login.map(Timestamp::millis),
            seq: self.seq,
            // A bundle is ASCII.
            bundle: self
                .bundle
                .as_ref()
                .map(|bundle| String::from_utf8_lossy(bundle.as_bytes()).into_owned()),
        })
    }

    pub(super) fn parse(text: &str, realm: &Realm) -> Result<(UserId, Record), String> {
        let page: Page = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if !(1..=VERSION).contains(&page.version) {
            return Err(format!(
                "version {} is not known to this broker",
                page.version
            ));
        }
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let user = UserId::parse(&page.user).map_err(|error| told(&error))?;
        let identity = page.identity.as_deref().map(IdentityKey::from_base64);
        let identity = identity.transpose().map_err(|error| told(&error))?;
        let registered = Timestamp::from_millis(page.registered).map_err(|error| told(&error))?;
        let last_login = page.last_login.map(Timestamp::from_millis);
        let last_login = last_login.transpose().map_err(|error| told(&error))?;
        let invitation = match page.invitation {
            None => None,
            Some(invitation) => Some(Invited {
                key: IdentityKey::from_base64(&invitation.key).map_err(|error| told(&error))?,
                expires: Timestamp::from_millis(invitation.expires)
                    .map_err(|error| told(&error))?,
            }),
        };
        let password = page.password.as_deref().map(PasswordHash::parse);
        let password = password.transpose().map_err(|error| told(&error))?;
        let bundle = page
            .bundle
            .map(|bundle| KeyBundle::parse(bundle.as_bytes()));
        let bundle = bundle.transpose().map_err(|error| told(&error))?;
        if let Some(bundle) = &bundle
            && (bundle.user() != &user
                || bundle.realm() != realm
                || Some(*bundle.identity()) != identity)
        {
            return Err(format!("its bundle is not {user}'s in realm {realm}"));
        }
        Ok((
            user,
            Record {
                standing: page.standing,
                identity,
                registered,
                used: page.used,
                invitation,
                password,
                last_login,
                noted_login: last_login,
                bundle,
                seq: page.seq,
            },
        ))
    }
}
