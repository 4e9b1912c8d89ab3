//! Invitations and their acceptance.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};

use super::cases::InvitationCase;
use super::logins::{NONCE, token};
use super::people::{NOW, Person, REALM, alice, base64, mallory};
use super::wire::Transcript;

const SEED: [u8; 32] = *b"an invitation's thirty-two bytes";

pub(crate) fn transcript(by: &Person, realm: &str, user: &str, nonce: [u8; 16]) -> Transcript {
    Transcript::new("sealpost/1 invitation")
        .field("realm", realm)
        .field("user", user)
        .field("key", by.identity())
        .field("issued", NOW.to_be_bytes())
        .field("nonce", nonce)
}

fn accept(transcript: &Transcript) -> Vec<u8> {
    let key = SigningKey::from_bytes(&SEED);
    key.sign(&transcript.bytes()).to_bytes().to_vec()
}

pub(crate) fn all() -> Vec<InvitationCase> {
    let alice = alice();
    let key = SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
    let signed = accept(&transcript(&alice, REALM, "alice", NONCE));
    let password = |by: &Person, acceptance: &[u8]| {
        let token = BASE64_URL_SAFE_NO_PAD.encode(token(by, NOW));
        format!("{token}.{}", BASE64_URL_SAFE_NO_PAD.encode(acceptance))
    };
    let good = password(&alice, &signed);
    let case = |name: &str, password: String, expect: &str| InvitationCase {
        name: name.to_owned(),
        realm: REALM.to_owned(),
        user: "alice".to_owned(),
        invitation: format!(
            "sealpost-invitation-{}",
            BASE64_URL_SAFE_NO_PAD.encode(SEED)
        ),
        key: base64(key),
        password,
        expect: expect.to_owned(),
    };
    let changed = |name: &str, change: fn(&mut InvitationCase)| {
        let mut case = case(name, good.clone(), "bad-signature");
        change(&mut case);
        case
    };
    let mut tampered = signed.clone();
    tampered[3] ^= 1;
    let (bare, _) = good.split_once('.').unwrap();
    vec![
        case("good", good.clone(), "ok"),
        changed("another realm", |case| case.realm = "elsewhere".to_owned()),
        changed("another user", |case| case.user = "bob".to_owned()),
        case(
            "another's token with the same acceptance",
            password(&mallory(), &signed),
            "bad-signature",
        ),
        case(
            "accepted for another nonce",
            password(
                &alice,
                &accept(&transcript(&alice, REALM, "alice", *b"another sixteen.")),
            ),
            "bad-signature",
        ),
        case(
            "a tampered acceptance",
            password(&alice, &tampered),
            "bad-signature",
        ),
        case("no acceptance", bare.to_owned(), "no-acceptance"),
        case("an empty acceptance", format!("{bare}."), "bad-acceptance"),
        case(
            "one character less",
            good[..good.len() - 1].to_owned(),
            "bad-acceptance",
        ),
        case("one character more", good.clone() + "A", "bad-acceptance"),
        case(
            "standard base64",
            format!("{bare}.{}", &BASE64_STANDARD.encode(&signed)[..86]),
            "bad-acceptance",
        ),
    ]
}
