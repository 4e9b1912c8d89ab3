//! Login tokens.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

use super::cases::LoginCase;
use super::people::{NOW, Person, REALM, alice, base64, mallory, time};
use super::wire::Transcript;

const BINDING: &[u8] = b"32 bytes of the TLS exporter....";
pub(crate) const NONCE: [u8; 16] = *b"sixteen of these";

pub(crate) fn transcript(
    by: &Person,
    realm: &str,
    user: &str,
    client_id: &str,
    issued: u64,
    nonce: [u8; 16],
    binding: &[u8],
) -> Transcript {
    Transcript::new("sealpost/1 login")
        .field("realm", realm)
        .field("user", user)
        .field("client id", client_id)
        .field("key", by.identity())
        .field("issued", issued.to_be_bytes())
        .field("nonce", nonce)
        .field("channel binding", binding)
}

/// Key, time, nonce and signature of a token for alice's laptop.
pub(crate) fn token(by: &Person, issued: u64) -> Vec<u8> {
    let transcript = transcript(by, REALM, "alice", "laptop", issued, NONCE, BINDING);
    let mut bytes = by.identity().to_vec();
    bytes.extend_from_slice(&issued.to_be_bytes());
    bytes.extend_from_slice(&NONCE);
    bytes.extend_from_slice(&by.sign(&transcript.bytes()));
    bytes
}

fn case(name: &str, token: impl Into<String>, expect: &str) -> LoginCase {
    LoginCase {
        name: name.to_owned(),
        realm: REALM.to_owned(),
        user: "alice".to_owned(),
        client_id: "laptop".to_owned(),
        channel_binding: base64(BINDING),
        now: time(NOW),
        token: token.into(),
        expect: expect.to_owned(),
    }
}

pub(crate) fn all() -> Vec<LoginCase> {
    let alice = alice();
    let bytes = token(&alice, NOW);
    let good = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
    let minted = |issued| BASE64_URL_SAFE_NO_PAD.encode(token(&alice, issued));
    let flipped = |index: usize| {
        let mut bytes = bytes.clone();
        bytes[index] ^= 1;
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    };
    let with_key = |key: [u8; 32]| {
        let mut bytes = bytes.clone();
        bytes[..32].copy_from_slice(&key);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    };
    let mut small = [0; 32];
    small[0] = 1;
    let changed = |name: &str, change: fn(&mut LoginCase)| {
        let mut case = case(name, good.clone(), "bad-signature");
        change(&mut case);
        case
    };
    let nothing = transcript(&alice, REALM, "alice", "", NOW, NONCE, b"");
    let mut plain = bytes[..56].to_vec();
    plain.extend_from_slice(&alice.sign(&nothing.bytes()));
    // Some character of this token is one of the two in which the alphabets differ.
    let standard = BASE64_STANDARD.encode(&bytes);
    assert_ne!(standard, good);
    let last_character_differently = good[..159].to_owned() + "=";
    vec![
        case("good", good.clone(), "ok"),
        LoginCase {
            client_id: String::new(),
            channel_binding: String::new(),
            ..case(
                "good, without client id and channel binding",
                BASE64_URL_SAFE_NO_PAD.encode(plain),
                "ok",
            )
        },
        case("as old as can be", minted(NOW - 60_000), "ok"),
        case("as far ahead as can be", minted(NOW + 60_000), "ok"),
        case("expired", minted(NOW - 60_001), "expired"),
        case("from the future", minted(NOW + 60_001), "from-the-future"),
        case(
            "a time out of range",
            minted(10_000_000_000_000),
            "bad-time",
        ),
        changed("another realm", |case| case.realm = "elsewhere".to_owned()),
        changed("another user", |case| case.user = "bob".to_owned()),
        changed("another client id", |case| {
            case.client_id = "phone".to_owned()
        }),
        changed("another connection", |case| {
            case.channel_binding = base64(b"another connection")
        }),
        changed("no channel binding", |case| {
            case.channel_binding = String::new()
        }),
        case("a tampered time", flipped(39), "bad-signature"),
        case("a tampered nonce", flipped(40), "bad-signature"),
        case(
            "a tampered signature, first half",
            flipped(56),
            "bad-signature",
        ),
        case(
            "a tampered signature, second half",
            flipped(100),
            "bad-signature",
        ),
        case(
            "another's key",
            with_key(mallory().identity()),
            "bad-signature",
        ),
        case(
            "a key of small order",
            with_key(small),
            "bad-key small-order",
        ),
        case(
            "a key that is no point",
            with_key([2; 32]),
            "bad-key not-a-point",
        ),
        case("standard base64", standard, "bad-base64"),
        case(
            "padding",
            BASE64_URL_SAFE.encode(&bytes[..119]),
            "bad-base64",
        ),
        case(
            "padding in place of the last character",
            last_character_differently,
            "bad-base64",
        ),
        case("a space", good[..159].to_owned() + " ", "bad-base64"),
        case("one character less", good[..159].to_owned(), "wrong-length"),
        case("one character more", good.clone() + "A", "wrong-length"),
        case("a password", "hunter2", "wrong-length"),
        case("nothing", "", "wrong-length"),
    ]
}
