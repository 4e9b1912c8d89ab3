//! Invitations: how a name is claimed where registration is closed.
//!
//! An invitation is a secret that an operator makes for one name and hands to whoever shall have it. It is the seed of
//! an Ed25519 key pair: the broker keeps the public key only, and the invited client **accepts** by signing, with the
//! invitation, the very login token that claims the name. So neither the broker's disk nor a look at the connection
//! gives anybody an invitation, and an acceptance is worth nothing with another identity, another name or a second time.

use alloc::string::String;
use core::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::identity::{BadSignature, Identity, IdentityKey, Signature};
use crate::login::{LoginError, LoginToken};
use crate::name::{Realm, UserId};
use crate::transcript::Transcript;

/// What an invitation begins with, so that people and scanners for secrets know it when they see it.
const PREFIX: &str = "sealpost-invitation-";
/// A signature of 64 bytes in base64url without padding.
const ACCEPTANCE_CHARACTERS: usize = 86;

/// A text is not an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an invitation is {PREFIX} and 43 characters of base64url")]
pub struct NotAnInvitation;

/// The secret that lets its holder claim one name, once. Erased when dropped; `Debug` shows its public half only.
#[derive(Clone)]
pub struct Invitation(Identity);

impl Invitation {
    /// A new invitation.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(Identity::generate(rng))
    }

    /// Reads what [`Invitation::to_secret_text`] writes.
    ///
    /// # Errors
    /// [`NotAnInvitation`].
    pub fn parse(text: &str) -> Result<Self, NotAnInvitation> {
        let seed = text.strip_prefix(PREFIX).ok_or(NotAnInvitation)?;
        let seed = BASE64_URL_SAFE_NO_PAD.decode(seed).map(Zeroizing::new);
        let seed = seed.map_err(|_| NotAnInvitation)?;
        let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| NotAnInvitation)?;
        Ok(Self(Identity::from_seed(seed)))
    }

    /// The secret, to be shown once to whoever hands it on.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 43));
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(self.0.seed().as_ref(), &mut text);
        text
    }

    /// The public half, which is all that the broker keeps.
    #[must_use]
    pub fn key(&self) -> IdentityKey {
        self.0.key()
    }

    /// Accepts the invitation to `user` with the identity and for the login of this token.
    #[must_use]
    pub fn accept(&self, realm: &Realm, user: &UserId, token: &LoginToken) -> Acceptance {
        Acceptance(self.0.sign(&transcript(realm, user, token)))
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({}, redacted)", self.key())
    }
}

/// The proof that whoever minted a login token holds an invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct Acceptance(Signature);

impl Acceptance {
    /// Checks that the holder of the invitation with this public key accepted it for `user` with this token.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        invitation: &IdentityKey,
        realm: &Realm,
        user: &UserId,
        token: &LoginToken,
    ) -> Result<(), BadSignature> {
        invitation.verify(&transcript(realm, user, token), &self.0)
    }
}

impl fmt::Debug for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptance(redacted)")
    }
}

/// What stands in the password of a CONNECT: a login token, and behind a dot the acceptance of an invitation, if there
/// is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPassword {
    /// Who it is.
    pub token: LoginToken,
    /// By whose leave, if the name is to be claimed.
    pub acceptance: Option<Acceptance>,
}

impl LoginPassword {
    /// Reads a password. Nothing is verified yet.
    ///
    /// # Errors
    /// When it is not of that shape.
    pub fn parse(password: &str) -> Result<Self, LoginError> {
        let (token, acceptance) = match password.split_once('.') {
            Some((token, acceptance)) => (token, Some(acceptance)),
            None => (password, None),
        };
        Ok(Self {
            token: LoginToken::parse(token)?,
            acceptance: acceptance.map(parse_acceptance).transpose()?,
        })
    }

    /// The password for a token and the acceptance that goes with it.
    #[must_use]
    pub fn join(token: &str, acceptance: &Acceptance) -> String {
        let mut password = String::with_capacity(token.len() + 1 + ACCEPTANCE_CHARACTERS);
        password.push_str(token);
        password.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(acceptance.0.as_bytes(), &mut password);
        password
    }
}

fn parse_acceptance(text: &str) -> Result<Acceptance, LoginError> {
    if text.len() != ACCEPTANCE_CHARACTERS {
        return Err(LoginError::BadAcceptance);
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text);
    let bytes = bytes.map_err(|_| LoginError::BadAcceptance)?;
    let bytes = bytes
        .as_slice()
        .try_into()
        .map_err(|_| LoginError::BadAcceptance)?;
    Ok(Acceptance(Signature::from_bytes(bytes)))
}

/// T("sealpost/1 invitation", realm, user, key, issued, nonce).
fn transcript(realm: &Realm, user: &UserId, token: &LoginToken) -> alloc::vec::Vec<u8> {
    Transcript::new("sealpost/1 invitation")
        .bytes(realm.as_str().as_bytes())
        .bytes(user.as_str().as_bytes())
        .bytes(token.key().as_bytes())
        .integer(token.issued().millis())
        .bytes(token.nonce())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;
    use crate::timestamp::Timestamp;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn token(seed: u64, nonce: u8) -> String {
        LoginToken::mint(
            &Identity::generate(&mut rng(seed)),
            &Realm::default(),
            &user("alice"),
            "laptop",
            Timestamp::from_millis(1_000_000).unwrap(),
            [nonce; 16],
            b"",
        )
    }

    #[test]
    fn an_invitation_is_read_as_it_was_written_and_nothing_else_is_one() {
        let invitation = Invitation::generate(&mut rng(1));
        let text = invitation.to_secret_text();
        assert_eq!(
            Invitation::parse(&text).unwrap().key(),
            invitation.key(),
            "the same key"
        );
        for bad in ["", "sealpost-invitation-", "x", &text[..62], &text[1..]] {
            assert_eq!(Invitation::parse(bad).err(), Some(NotAnInvitation), "{bad}");
        }
        let shown = std::format!("{invitation:?}");
        assert!(!shown.contains(&text[PREFIX.len()..]), "{shown}");
    }

    #[test]
    fn an_acceptance_is_for_one_name_one_realm_and_one_token() {
        let invitation = Invitation::generate(&mut rng(1));
        let (realm, alice) = (Realm::default(), user("alice"));
        let mine = token(2, 0);
        let parsed = LoginToken::parse(&mine).unwrap();
        let password = LoginPassword::join(&mine, &invitation.accept(&realm, &alice, &parsed));
        let LoginPassword { token, acceptance } = LoginPassword::parse(&password).unwrap();
        let acceptance = acceptance.unwrap();
        let verify = |key: &IdentityKey, realm: &Realm, name: &UserId, token: &LoginToken| {
            acceptance.verify(key, realm, name, token)
        };
        let key = invitation.key();
        assert_eq!(verify(&key, &realm, &alice, &token), Ok(()));
        let other = Invitation::generate(&mut rng(9)).key();
        let elsewhere = Realm::parse("elsewhere").unwrap();
        // The same invitation with another identity, and with a later login of the same one.
        let thief = LoginToken::parse(&self::token(3, 0)).unwrap();
        let later = LoginToken::parse(&self::token(2, 1)).unwrap();
        for refused in [
            verify(&other, &realm, &alice, &token),
            verify(&key, &elsewhere, &alice, &token),
            verify(&key, &realm, &user("bob"), &token),
            verify(&key, &realm, &alice, &thief),
            verify(&key, &realm, &alice, &later),
        ] {
            assert_eq!(refused, Err(BadSignature));
        }
    }

    #[test]
    fn a_password_is_a_token_or_a_token_with_an_acceptance() {
        let mine = token(2, 0);
        assert_eq!(LoginPassword::parse(&mine).unwrap().acceptance, None);
        let with = |acceptance: &str| LoginPassword::parse(&std::format!("{mine}.{acceptance}"));
        for bad in ["", "A", &"A".repeat(85), &"+".repeat(86), &"A".repeat(87)] {
            assert_eq!(with(bad), Err(LoginError::BadAcceptance), "{bad}");
        }
        assert_eq!(
            LoginPassword::parse("hunter2.x"),
            Err(LoginError::WrongLength)
        );
    }
}
