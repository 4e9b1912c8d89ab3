//! Safety numbers.

use sha2::{Digest as _, Sha512};

use super::cases::{SafetyCase, SafetyParty};
use super::people::{REALM, alice, base64, bob, mallory};
use super::wire::Transcript;

pub(crate) fn transcript(realm: &str, user: &str, identity: &[u8; 32]) -> Transcript {
    Transcript::new("sealpost/1 safety")
        .field("realm", realm)
        .field("user", user)
        .field("identity", identity)
}

fn half(realm: &str, user: &str, identity: &[u8; 32]) -> String {
    let mut hash = Sha512::digest(transcript(realm, user, identity).bytes()).to_vec();
    for _ in 0..5_200 {
        hash.extend_from_slice(identity);
        hash = Sha512::digest(&hash).to_vec();
    }
    let group = |index: usize| {
        let mut number = [0; 8];
        number[3..].copy_from_slice(&hash[index * 5..index * 5 + 5]);
        format!("{:05}", u64::from_be_bytes(number) % 100_000)
    };
    (0..6).map(group).collect::<Vec<_>>().join(" ")
}

fn case(name: &str, realm: &str, one: (&str, [u8; 32]), other: (&str, [u8; 32])) -> SafetyCase {
    let mut halves = [half(realm, one.0, &one.1), half(realm, other.0, &other.1)];
    halves.sort();
    let party = |(user, identity): (&str, [u8; 32])| SafetyParty {
        user: user.to_owned(),
        identity: base64(identity),
    };
    SafetyCase {
        name: name.to_owned(),
        realm: realm.to_owned(),
        parties: [party(one), party(other)],
        number: halves.join(" "),
    }
}

pub(crate) fn all() -> Vec<SafetyCase> {
    let (alice, bob, mallory) = (
        ("alice", alice().identity()),
        ("bob", bob().identity()),
        ("bob", mallory().identity()),
    );
    vec![
        case("alice and bob", REALM, alice, bob),
        case("bob and alice: the same number", REALM, bob, alice),
        case("in another realm", "elsewhere", alice, bob),
        case("mallory in the middle", REALM, alice, mallory),
        case(
            "another name for the same key",
            REALM,
            alice,
            ("robert", bob.1),
        ),
        case(
            "two names for one key",
            REALM,
            ("alice", alice.1),
            ("alice-phone", alice.1),
        ),
        case("somebody with herself", REALM, alice, alice),
    ]
}
