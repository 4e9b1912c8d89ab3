//! Signing in with the identity key: no password to store, none to lose.
//!
//! The MQTT user name is the user's name; the MQTT password is a [`LoginToken`], minted for one connection. What it
//! signs names the realm, the user, the client id, the moment and the TLS connection it travels in, so it is worth
//! nothing elsewhere or later. That a nonce is used once within the window is for the broker to remember.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::identity::{Identity, IdentityKey, IdentityKeyError, Signature};
use crate::name::{Realm, UserId};
use crate::timestamp::Timestamp;
use crate::transcript::Transcript;

/// How far the client's clock and the broker's may be apart. A broker keeps nonces for twice this long: a token may be
/// minted that far ahead of its clock.
pub const LOGIN_WINDOW: Duration = Duration::from_secs(60);

/// Key, time, nonce and signature.
const TOKEN_BYTES: usize = 32 + 8 + 16 + 64;
/// The same in base64url without padding.
const TOKEN_CHARACTERS: usize = TOKEN_BYTES / 3 * 4;

/// Why a token does not sign anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The password is not as long as a token.
    #[error("a login token has {TOKEN_CHARACTERS} characters")]
    WrongLength,
    /// The password is not base64url without padding.
    #[error("a login token is written in base64url without padding")]
    BadBase64,
    /// The token holds no identity key.
    #[error("the login token holds no identity key: {0}")]
    BadKey(#[source] IdentityKeyError),
    /// The time in the token cannot be.
    #[error("the login token's time is out of range")]
    BadTime,
    /// The token was minted more than [`LOGIN_WINDOW`] ago.
    #[error("the login token has expired")]
    Expired,
    /// The token was minted more than [`LOGIN_WINDOW`] ahead: one of the two clocks is wrong.
    #[error("the login token is from the future")]
    FromTheFuture,
    /// The signature does not hold for this realm, user, client id and connection.
    #[error("the login token was not signed for this realm, user, client id and connection")]
    BadSignature,
    /// What stands behind the token is not an accepted invitation's shape.
    #[error("an accepted invitation has 86 characters of base64url behind the token and a dot")]
    BadAcceptance,
}

/// A proof, for one connection, that its owner holds an identity's secret. Whoever sees it within the minute could
/// use it too, so `Debug` shows neither nonce nor signature.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginToken {
    key: IdentityKey,
    issued: Timestamp,
    nonce: [u8; 16],
    signature: Signature,
}

impl LoginToken {
    /// Mints the password for one connection: base64url without padding of key (32 bytes), issued (milliseconds,
    /// 64-bit big-endian), nonce (16, fresh and random) and signature (64).
    ///
    /// `channel_binding` is the TLS exporter of RFC 9266, or empty where the connection is not in TLS.
    #[must_use]
    pub fn mint(
        identity: &Identity,
        realm: &Realm,
        user: &UserId,
        client_id: &str,
        issued: Timestamp,
        nonce: [u8; 16],
        channel_binding: &[u8],
    ) -> String {
        let key = identity.key();
        let signature = identity.sign(&transcript(
            realm,
            user,
            client_id,
            &key,
            issued,
            &nonce,
            channel_binding,
        ));
        let mut bytes = [0_u8; TOKEN_BYTES];
        let parts: [&[u8]; 4] = [
            key.as_bytes(),
            &issued.millis().to_be_bytes(),
            &nonce,
            signature.as_bytes(),
        ];
        for (byte, value) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a password. Nothing is verified yet.
    ///
    /// # Errors
    /// When it is not a token's shape.
    pub fn parse(password: &str) -> Result<Self, LoginError> {
        if password.len() != TOKEN_CHARACTERS {
            return Err(LoginError::WrongLength);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(password)
            .map_err(|_| LoginError::BadBase64)?;
        let (key, rest) = bytes
            .split_first_chunk::<32>()
            .ok_or(LoginError::WrongLength)?;
        let (issued, rest) = rest
            .split_first_chunk::<8>()
            .ok_or(LoginError::WrongLength)?;
        let (nonce, rest) = rest
            .split_first_chunk::<16>()
            .ok_or(LoginError::WrongLength)?;
        let signature = rest.try_into().map_err(|_| LoginError::WrongLength)?;
        Ok(Self {
            key: IdentityKey::parse(key).map_err(LoginError::BadKey)?,
            issued: Timestamp::from_millis(u64::from_be_bytes(*issued))
                .map_err(|_| LoginError::BadTime)?,
            nonce: *nonce,
            signature: Signature::from_bytes(signature),
        })
    }

    /// The identity that claims to sign in.
    #[must_use]
    pub const fn key(&self) -> &IdentityKey {
        &self.key
    }

    /// When the token says it was minted.
    #[must_use]
    pub const fn issued(&self) -> Timestamp {
        self.issued
    }

    /// What makes the token single-use.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }

    /// Checks that the token was minted within [`LOGIN_WINDOW`] of `now`, by the holder of [`key`](Self::key), for
    /// this very connection.
    ///
    /// That the key is `user`'s, and that the nonce is new, remain to be checked.
    ///
    /// # Errors
    /// [`LoginError::Expired`], [`LoginError::FromTheFuture`] or [`LoginError::BadSignature`].
    pub fn verify(
        &self,
        realm: &Realm,
        user: &UserId,
        client_id: &str,
        now: Timestamp,
        channel_binding: &[u8],
    ) -> Result<(), LoginError> {
        if now.saturating_since(self.issued) > LOGIN_WINDOW {
            return Err(LoginError::Expired);
        }
        if self.issued.saturating_since(now) > LOGIN_WINDOW {
            return Err(LoginError::FromTheFuture);
        }
        let signed = transcript(
            realm,
            user,
            client_id,
            &self.key,
            self.issued,
            &self.nonce,
            channel_binding,
        );
        self.key
            .verify(&signed, &self.signature)
            .map_err(|_| LoginError::BadSignature)
    }
}

impl fmt::Debug for LoginToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginToken({} at {}, redacted)", self.key, self.issued)
    }
}

/// T("sealpost/1 login", realm, user, client id, key, issued, nonce, channel binding).
fn transcript(
    realm: &Realm,
    user: &UserId,
    client_id: &str,
    key: &IdentityKey,
    issued: Timestamp,
    nonce: &[u8; 16],
    channel_binding: &[u8],
) -> alloc::vec::Vec<u8> {
    Transcript::new("sealpost/1 login")
        .bytes(realm.as_str().as_bytes())
        .bytes(user.as_str().as_bytes())
        .bytes(client_id.as_bytes())
        .bytes(key.as_bytes())
        .integer(issued.millis())
        .bytes(nonce)
        .bytes(channel_binding)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    const CLIENT: &str = "laptop";
    const BINDING: &[u8] = b"exporter";

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn alice() -> UserId {
        UserId::parse("alice").unwrap()
    }

    fn token() -> LoginToken {
        let identity = Identity::generate(&mut rng(1));
        let text = LoginToken::mint(
            &identity,
            &Realm::default(),
            &alice(),
            CLIENT,
            at(1_000_000),
            [7; 16],
            BINDING,
        );
        let token = LoginToken::parse(&text).unwrap();
        assert_eq!(token.key(), &identity.key());
        assert_eq!(token.nonce(), &[7; 16]);
        token
    }

    #[test]
    fn a_token_signs_in_for_a_minute_on_either_side() {
        let token = token();
        for now in [940_000, 1_000_000, 1_060_000] {
            assert_eq!(
                token.verify(&Realm::default(), &alice(), CLIENT, at(now), BINDING),
                Ok(())
            );
        }
        let verify = |now| token.verify(&Realm::default(), &alice(), CLIENT, at(now), BINDING);
        assert_eq!(verify(1_060_001), Err(LoginError::Expired));
        assert_eq!(verify(939_999), Err(LoginError::FromTheFuture));
    }

    #[test]
    fn a_token_is_for_one_realm_user_client_and_connection() {
        let token = token();
        let now = at(1_000_000);
        let bob = UserId::parse("bob").unwrap();
        let elsewhere = Realm::parse("elsewhere").unwrap();
        let here = Realm::default();
        for refused in [
            token.verify(&elsewhere, &alice(), CLIENT, now, BINDING),
            token.verify(&here, &bob, CLIENT, now, BINDING),
            token.verify(&here, &alice(), "phone", now, BINDING),
            token.verify(&here, &alice(), CLIENT, now, b""),
        ] {
            assert_eq!(refused, Err(LoginError::BadSignature));
        }
    }

    #[test]
    fn debug_shows_nothing_that_signs_in() {
        let shown = std::format!("{:?}", token());
        let expected = std::format!("LoginToken({} at 1000.000, redacted)", token().key());
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_password_that_is_no_token_is_refused() {
        let identity = Identity::generate(&mut rng(1));
        let good = LoginToken::mint(
            &identity,
            &Realm::default(),
            &alice(),
            CLIENT,
            at(1),
            [0; 16],
            b"",
        );
        assert_eq!(good.len(), TOKEN_CHARACTERS);
        assert_eq!(LoginToken::parse("hunter2"), Err(LoginError::WrongLength));
        assert_eq!(
            LoginToken::parse(&(good.clone() + "=")),
            Err(LoginError::WrongLength)
        );
        assert_eq!(
            LoginToken::parse(&good.replacen(&good[..1], "+", 1)),
            Err(LoginError::BadBase64)
        );
        let zeros = BASE64_URL_SAFE_NO_PAD.encode([0; TOKEN_BYTES]);
        assert_eq!(
            LoginToken::parse(&zeros),
            Err(LoginError::BadKey(IdentityKeyError::SmallOrder))
        );
    }
}
