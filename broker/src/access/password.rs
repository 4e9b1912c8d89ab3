//! Static passwords, for devices whose MQTT library knows nothing else: Argon2id (RFC 9106), as PHC strings.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Characters of a password: enough that guessing over the network is hopeless, and always fewer than a login token has.
const MIN_PASSWORD: usize = 8;
/// Bytes of the longest password. A login token has 160, so that one is never taken for the other.
const MAX_PASSWORD: usize = 128;

/// Bytes of a salt, as RFC 9106 section 3.1 recommends.
const SALT: usize = 16;

/// KiB of the largest memory that a stored hash may ask for, its passes and lanes: more than anybody sets, and a bound on
/// what a damaged file can make a login cost.
const MAX_MEMORY: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 4;

/// Verifications at once: each takes a core for tens of milliseconds and 19 MiB.
const AT_ONCE: usize = 2;
/// Verifications that may wait for their turn, about two seconds' worth.
const WAITING: usize = 64;

/// A password, erased when dropped.
pub struct Password(Zeroizing<String>);

/// Why a text is not taken as a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too few characters.
    #[error("a password has at least {MIN_PASSWORD} characters")]
    TooShort,
    /// Too many bytes.
    #[error("a password has at most {MAX_PASSWORD} bytes")]
    TooLong,
    /// Something nobody types.
    #[error("a password has no control characters")]
    Control,
}

impl Password {
    /// Checks what somebody chose.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub fn parse(text: &str) -> Result<Password, PasswordError> {
        if text.len() > MAX_PASSWORD {
            return Err(PasswordError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PasswordError::Control);
        }
        if text.chars().count() < MIN_PASSWORD {
            return Err(PasswordError::TooShort);
        }
        Ok(Password(Zeroizing::new(text.to_owned())))
    }

    /// Its characters.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// What a password is compared with: a PHC string. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<str>);

/// Why a text is not the hash of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password's hash is a PHC string of Argon2id with parameters within bounds")]
pub struct BadHash;

impl PasswordHash {
    /// Hashes a password with a fresh salt. Takes tens of milliseconds and 19 MiB.
    ///
    /// # Errors
    /// [`BadHash`] when there is no memory for it.
    pub fn of(password: &Password) -> Result<PasswordHash, BadHash> {
        let salt: [u8; SALT] = rand::random();
        let hash: phc::PasswordHash = Argon2::default()
            .hash_password_with_salt(password.expose().as_bytes(), &salt)
            .map_err(|_| BadHash)?;
        PasswordHash::parse(&hash.to_string())
    }

    /// Reads a PHC string.
    ///
    /// # Errors
    /// [`BadHash`].
    pub fn parse(text: &str) -> Result<PasswordHash, BadHash> {
        let hash = phc::PasswordHash::new(text).map_err(|_| BadHash)?;
        let params = Params::try_from(&hash).map_err(|_| BadHash)?;
        let bounded = params.m_cost() <= MAX_MEMORY
            && params.t_cost() <= MAX_PASSES
            && params.p_cost() <= MAX_LANES;
        if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || !bounded {
            return Err(BadHash);
        }
        Ok(PasswordHash(text.into()))
    }

    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the password's. Compares in constant time; takes tens of milliseconds.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        Argon2::default()
            .verify_password(password, self.as_str())
            .is_ok()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

/// A password could not be looked at: too many others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub struct Busy;

/// Verifies passwords, a few at a time and never on a thread that serves connections.
#[derive(Debug)]
pub struct PasswordDesk {
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    /// What the password of a user without one is compared with, so that the answer takes as long.
    decoy: PasswordHash,
}

impl PasswordDesk {
    /// A desk. Takes as long as hashing a password does.
    ///
    /// # Errors
    /// [`BadHash`] when there is no memory.
    pub fn open() -> Result<PasswordDesk, BadHash> {
        let unguessable = format!("{:032x}", rand::random::<u128>());
        Ok(PasswordDesk {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            decoy: PasswordHash::of(&Password(Zeroizing::new(unguessable)))?,
        })
    }

    /// Whether the password is that of the user with this hash; never for a user without one, who is not told apart by the
    /// time it takes.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn check(&self, hash: Option<PasswordHash>, password: &str) -> Result<bool, Busy> {
        let waiting = Arc::clone(&self.queue)
            .try_acquire_owned()
            .map_err(|_| Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let checking = tokio::task::spawn_blocking(move || {
            // Held until it is done, also if nobody waits for it any longer.
            let (_waiting, _place) = (waiting, place);
            hash.matches(&password)
        });
        Ok(checking.await.unwrap_or(false) && known)
    }
}

/// Whether a text can be a password at all.
#[must_use]
pub fn can_be_password(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_PASSWORD
}

/// A password that nobody has to think of: 24 letters and digits, about 124 bits.
#[must_use]
pub fn invented() -> Password {
    // Without letters and digits that look alike.
    const CHARACTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    const LENGTH: usize = 24;
    let mut text = Zeroizing::new(String::with_capacity(LENGTH));
    for byte in rand::random::<[u8; LENGTH]>() {
        let index = usize::from(byte) % CHARACTERS.len();
        text.extend(CHARACTERS.get(index).map(|byte| char::from(*byte)));
    }
    Password(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    #[test]
    fn a_hash_matches_its_password_and_no_other() {
        let hash = PasswordHash::of(&password("correct horse")).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(hash.matches(b"correct horse"));
        assert!(!hash.matches(b"correct horsf") && !hash.matches(b""));
        let other = PasswordHash::of(&password("correct horse")).unwrap();
        assert_ne!(hash.as_str(), other.as_str(), "each has a salt of its own");
        assert_eq!(PasswordHash::parse(hash.as_str()).unwrap(), hash);
    }

    #[test]
    fn hashes_that_are_weak_or_cost_too_much_are_refused() {
        let salt_and_hash = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let phc = |algorithm: &str, m: u32| {
            PasswordHash::parse(&format!("${algorithm}$v=19$m={m},t=2,p=1${salt_and_hash}"))
        };
        assert!(phc("argon2id", 19_456).is_ok());
        assert!(phc("argon2i", 19_456).is_err());
        assert!(phc("argon2id", MAX_MEMORY + 1).is_err());
        for bad in ["", "hunter22", "$argon2id$", "$5$salt$hash"] {
            assert!(PasswordHash::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_have_bounds_and_show_nothing() {
        assert_eq!(
            Password::parse("short").err(),
            Some(PasswordError::TooShort)
        );
        assert_eq!(
            Password::parse(&"x".repeat(129)).err(),
            Some(PasswordError::TooLong)
        );
        assert_eq!(
            Password::parse("line\nbreaks").err(),
            Some(PasswordError::Control)
        );
        let shown = format!("{:?}", password("correct horse"));
        assert_eq!(shown, "Password(redacted)");
        assert_eq!(invented().expose().len(), 24);
        assert!(Password::parse(invented().expose()).is_ok());
    }

    #[tokio::test]
    async fn whoever_has_no_password_is_refused_whatever_they_say() {
        let desk = PasswordDesk::open().unwrap();
        let hash = PasswordHash::of(&password("correct horse")).unwrap();
        assert_eq!(
            desk.check(Some(hash.clone()), "correct horse").await,
            Ok(true)
        );
        assert_eq!(desk.check(Some(hash), "wrong horse").await, Ok(false));
        assert_eq!(desk.check(None, "correct horse").await, Ok(false));
    }

    #[tokio::test]
    async fn only_so_many_passwords_wait_to_be_checked() {
        let desk = PasswordDesk::open().unwrap();
        let _all = Arc::clone(&desk.queue)
            .try_acquire_many_owned(u32::try_from(AT_ONCE + WAITING).unwrap())
            .unwrap();
        assert_eq!(desk.check(None, "correct horse").await, Err(Busy));
    }
}
