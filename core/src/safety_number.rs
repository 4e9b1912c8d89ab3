//! Safety numbers: what two people compare, out of band, to know that nobody sits between them.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use sha2::{Digest as _, Sha512};

use crate::identity::IdentityKey;
use crate::name::{Realm, UserId};
use crate::transcript::Transcript;

/// How often the hash is repeated: what makes the search for a key with the same digits dear. Signal's number.
const ROUNDS: usize = 5_200;
/// Groups of digits for each of the two parties.
const GROUPS: usize = 6;
/// Digits in a group.
const GROUP_DIGITS: usize = 5;
/// Digits in all.
const DIGITS: usize = 2 * GROUPS * GROUP_DIGITS;

/// The text is not sixty digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a safety number has {DIGITS} digits")]
pub struct SafetyNumberError;

/// Sixty digits that two parties both see, if and only if each has the other's true identity key.
///
/// ```
/// # use sealpost_core::{Identity, Realm, SafetyNumber, UserId};
/// # let (a, b) = (Identity::from_seed(&[1; 32]).key(), Identity::from_seed(&[2; 32]).key());
/// # let (alice, bob) = (UserId::parse("alice")?, UserId::parse("bob")?);
/// let on_alices_screen = SafetyNumber::of(&Realm::default(), (&alice, &a), (&bob, &b));
/// let on_bobs_screen = SafetyNumber::of(&Realm::default(), (&bob, &b), (&alice, &a));
/// assert_eq!(on_alices_screen, on_bobs_screen);
/// # Ok::<(), sealpost_core::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SafetyNumber(String);

impl SafetyNumber {
    /// The number of two parties, whichever comes first. Takes some milliseconds, by intent.
    #[must_use]
    pub fn of(realm: &Realm, one: (&UserId, &IdentityKey), other: (&UserId, &IdentityKey)) -> Self {
        let (mut first, mut second) = (half(realm, one), half(realm, other));
        if second < first {
            core::mem::swap(&mut first, &mut second);
        }
        first.push_str(&second);
        Self(first)
    }

    /// Reads a number that a person typed or scanned. White space between digits does not matter.
    ///
    /// # Errors
    /// When there are not exactly sixty digits, or something else than digits.
    pub fn parse(text: &str) -> Result<Self, SafetyNumberError> {
        let digits: String = text
            .chars()
            .filter(|each| !each.is_whitespace())
            .take(DIGITS + 1)
            .collect();
        if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SafetyNumberError);
        }
        Ok(Self(digits))
    }

    /// The sixty digits, without spaces.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

/// One party's thirty digits: h0 = SHA-512(T("sealpost/1 safety", realm, user, identity)), then [`ROUNDS`] times
/// h = SHA-512(h ‖ identity), then six times five bytes, big-endian, modulo 100,000.
fn half(realm: &Realm, (user, identity): (&UserId, &IdentityKey)) -> String {
    let transcript = Transcript::new("sealpost/1 safety")
        .bytes(realm.as_str().as_bytes())
        .bytes(user.as_str().as_bytes())
        .bytes(identity.as_bytes())
        .finish();
    let mut hash = Sha512::digest(transcript);
    for _ in 0..ROUNDS {
        hash = Sha512::new_with_prefix(hash)
            .chain_update(identity.as_bytes())
            .finalize();
    }
    let mut digits = String::with_capacity(DIGITS);
    for chunk in hash.chunks_exact(5).take(GROUPS) {
        let number = chunk
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        digits.push_str(&alloc::format!("{:05}", number % 100_000));
    }
    digits
}

/// Twelve groups of five digits.
impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digit) in self.0.chars().enumerate() {
            if index > 0 && index % GROUP_DIGITS == 0 {
                f.write_str(" ")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SafetyNumber({self})")
    }
}

impl FromStr for SafetyNumber {
    type Err = SafetyNumberError;

    fn from_str(text: &str) -> Result<Self, SafetyNumberError> {
        Self::parse(text)
    }
}
