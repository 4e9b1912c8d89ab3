//! Prints section 18 of SPEC.md: one message from alice to bob with every intermediate value, computed with this library.
//!
//! ```sh
//! cargo run -q -p sealpost-core --example worked_example
//! ```
//!
//! Transcripts are put together here a second time, from the specification, and checked against the library's: by
//! verifying signatures over them, and by decrypting with them.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write as _;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand_core::{TryCryptoRng, TryRng};
use sealpost_core::{
    BundleFields, Content, DecryptionKey as _, Envelope, Identity, IdentityKey, KeyBundle, KeyId,
    LoginToken, MessageId, Realm, RsaDecryptionKey, SUITE, SafetyNumber, Sealer, Timestamp, UserId,
};
use sha2::{Digest as _, Sha256, Sha512};

/// Bob's RSA key of 2,048 bits, as PKCS #8. Published, so worth nothing.
const BOB_RSA: &str = "\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDJAp7B+tgqXX1kv5o1QXUfR44oDaK96Q6/Tjg2sg510CBhvFUn\
    v9m7tvQgRjhmc+vPKqgOxApfNuYcxC+j0kDRt4E+b7S/ewU9rbm+zz5gz03jB9a/zkhsef/nx+AXGOlrWlJN8KfxyawaVfr8tILu\
    HN/OnQWwIAqRPv+B3GB7Sfj+LbIajTow0NEfRbGE0GNHn49cCu7eIdm8pIQ7+x6OmkPGpFopD6FRFyX0neKRC7Aa+wOj44szisvV\
    d3moOuPtstyZZogYW7FZb1Zq8whduHOy1/J6VkKbjOorg4veRdx27cyNwxqKqkYB+sCGOosFCdZbnJNYq27RRLtzHJhbAgMBAAEC\
    ggEACohSnUNxlDa13VOU1vmJE4yCTGL6hgzyMt/8XhFSZKX1LGnb5GtPE2DwxcgoKGYmkwJfL/bhvD96K0O0Y1cfAl4lLYpY5Dej\
    /KlftDnTwOrb3+uHOyGp9dUmrZRxj4REptVivqa/hhHVLMQYlKk4uxVUPNVJeQMUyquMY9eSTqNn3Ir5NfT2tBYccN0CNdYVoe4T\
    vo8RxWcsSjggusXW50s1i+Kpz+MLnWaVz+b+g/mQg800HV2vM8GdCT6lWz5CX2146jzVR/w3PiMLyfF/14ovUTvDTHulg1OzF04T\
    tOOakanPVoRDQQke4WUfHu8R1xHZdcoHMwE2K4RM2wcnUQKBgQDk10af/unRngF+x025/ZcBCd3FIMNyDLi+pvi7qAZ2VXbpMWKp\
    k+MHbKOSnUy/igH4+q4w+UwpgQmNxnqnIlZQnkwFNSVb5Yn3HoHF9s9Nhx1DpxA4o55ehQmnGsdsb0NgM7U7QEPmhrHeKmLTawmf\
    JKUNzcE83FGl3i6LgGMLZwKBgQDg3chgBDeP21wHuOxB3WFhpM4KS8S0ZWTOC/LVCPRiECDBrT7hJbwR4ebi7DR6n9tPQKzZCPwh\
    B+B03MP4sz9BVHuKVHgTiVVJ7wQVX+pX6MtIPj5eICceKc4T4DDwi4nn9ycymgN4NIxQ/elLewvjN+/aBoO+eofq47HRLCBm7QKB\
    gE5S/GJAnojXWs2oq4rQKAH7/YK+DwcXIZhnj9Sy0ttnrxZrh8hgzKC651WEL0OTmc89BafPe+jsuHdlCo/v6bkYJQ7XPN0yOEFz\
    mJlIO3Xem/6OzLeGEOtq/33JZZ5Qiq//orUP7u2VBoXy3fZcuWNV6IRL+yq4gd2SqT2oCL5bAoGBAMiD/FHicMlPClm4hLSW/Gdd\
    1n1H4zgZ0jIKZZeiTInFZ/BM1G1ggLxRfNmNV56hPacGPRur72hk5bpPwlDbReSzuRY5DHofVHaBNFr7FLUfWWYqWuMEON2k2abP\
    m9RkGa1HryRoQf/Gm/j88jPknU0YbEE23fPUv66tK7siZiJhAoGASojVm9yC/bh4Rxbs3EYdr6u9JyfQDjTeXenGVoXQxUHgjThH\
    qtbo7J5viXFSsHeXhFb1q5WChoy8ie6PXfDgRLcq7oxUPBUsAYDs3Jnf4FDr80cRAehwf4GQ6i53/n8sC+1869TUufLFM+x1PP37\
    5ck4xbYqiZLDMxmLQPDN504=";

/// "Random" bytes that everybody can follow: 0x40, 0x41, 0x42 and so on.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

/// T(label, f…) of section 4.3.
fn transcript(label: &str, fields: &[&[u8]]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    for field in [label.as_bytes()].iter().chain(fields) {
        bytes.extend_from_slice(&u32::try_from(field.len())?.to_be_bytes());
        bytes.extend_from_slice(field);
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index % 60 == 0 {
            text.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A long text in lines.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 120 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines
}

/// A name for a value, and the value in a block of its own.
fn show(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "{name}:\n\n```\n{value}\n```\n\n");
}

fn keys(out: &mut String, alice: &Identity, bob: &Identity, bob_rsa: &RsaDecryptionKey) {
    show(
        out,
        "Alice's Ed25519 seed (the private key of RFC 8032)",
        &hex(&*alice.seed()),
    );
    show(
        out,
        "Alice's identity key",
        &format!("{}\n{}", hex(alice.key().as_bytes()), alice.key()),
    );
    show(out, "Bob's Ed25519 seed", &hex(&*bob.seed()));
    show(
        out,
        "Bob's identity key",
        &format!("{}\n{}", hex(bob.key().as_bytes()), bob.key()),
    );
    show(
        out,
        "Bob's RSA key (2,048 bits to keep this page short), PKCS #8 DER in base64",
        &wrapped(BOB_RSA),
    );
    let spki = BASE64_STANDARD.encode(bob_rsa.encryption_key().spki_der());
    show(
        out,
        "Its SubjectPublicKeyInfo, DER in base64",
        &wrapped(&spki),
    );
}

fn bundle_transcript(bundle: &KeyBundle, spki: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    transcript(
        "sealpost/1 bundle",
        &[
            &[1],
            bundle.realm().as_str().as_bytes(),
            bundle.user().as_str().as_bytes(),
            &bundle.seq().to_be_bytes(),
            &bundle.created().millis().to_be_bytes(),
            &bundle.expires().millis().to_be_bytes(),
            bundle.identity().as_bytes(),
            &1_u32.to_be_bytes(),
            b"RSA-OAEP-256",
            spki,
            &0_u32.to_be_bytes(),
        ],
    )
}

/// The header's fields of section 7.2.
fn envelope_transcripts(envelope: &Envelope) -> Result<(Vec<u8>, Vec<u8>), Box<dyn Error>> {
    let ts = envelope.ts().millis().to_be_bytes();
    let prev: &[u8] = envelope.prev().map_or(&[], |id| id.as_bytes());
    let mut fields: Vec<&[u8]> = vec![
        envelope.realm().as_str().as_bytes(),
        &[1],
        SUITE.as_bytes(),
        envelope.id().as_bytes(),
        prev,
        &ts,
        envelope.from().as_str().as_bytes(),
        envelope.to().as_str().as_bytes(),
        envelope.key().as_bytes(),
        envelope.signer().as_bytes(),
    ];
    let aad = transcript("sealpost/1 aad", &fields)?;
    fields.extend([envelope.enc_key(), envelope.nonce(), envelope.ciphertext()]);
    Ok((aad, transcript("sealpost/1 envelope", &fields)?))
}

fn safety_half(
    out: &mut String,
    realm: &Realm,
    user: &UserId,
    key: &IdentityKey,
) -> Result<(), Box<dyn Error>> {
    let fields: [&[u8]; 3] = [
        realm.as_str().as_bytes(),
        user.as_str().as_bytes(),
        key.as_bytes(),
    ];
    let mut h: [u8; 64] = Sha512::digest(transcript("sealpost/1 safety", &fields)?).into();
    show(out, &format!("h0 of {user}"), &hex(&h));
    for _ in 0..5_200 {
        h = Sha512::new_with_prefix(h)
            .chain_update(key.as_bytes())
            .finalize()
            .into();
    }
    show(out, &format!("h(5200) of {user}"), &hex(&h));
    Ok(())
}

/// The whole section, in Markdown.
///
/// # Errors
/// When something does not come out as specified.
pub(crate) fn section() -> Result<String, Box<dyn Error>> {
    let realm = Realm::default();
    let (alice_name, bob_name) = (UserId::parse("alice")?, UserId::parse("bob")?);
    let alice = Identity::from_seed(&core::array::from_fn(|index| index as u8 + 0x01));
    let bob = Identity::from_seed(&core::array::from_fn(|index| index as u8 + 0x21));
    let bob_rsa = RsaDecryptionKey::from_pkcs8_der(
        &BASE64_STANDARD
            .decode(BOB_RSA)
            .map_err(|error| error.to_string())?,
    )?;
    let spki = bob_rsa.encryption_key().spki_der();
    let mut out = String::new();

    out.push_str("### 18.1 Keys\n\n");
    keys(&mut out, &alice, &bob, &bob_rsa);

    out.push_str("### 18.2 Bob's key bundle\n\n");
    let bundle = KeyBundle::sign(
        BundleFields {
            realm: realm.clone(),
            user: bob_name.clone(),
            seq: 1_700_000_000,
            created: Timestamp::parse("1700000000.000")?,
            expires: Timestamp::parse("1731536000.000")?,
            encryption: vec![bob_rsa.encryption_key().clone()],
            links: Vec::new(),
        },
        &bob,
    )?;
    let signed = bundle_transcript(&bundle, spki)?;
    let signature = bob.sign(&signed);
    let written = std::str::from_utf8(bundle.as_bytes())?;
    if !written.ends_with(&format!(
        "\"sig\":\"{}\"}}",
        BASE64_STANDARD.encode(signature.as_bytes())
    )) {
        return Err("the bundle's transcript is not the specified one".into());
    }
    show(&mut out, "Transcript (6.2)", &hex(&signed));
    show(&mut out, "Signature", &hex(signature.as_bytes()));
    show(
        &mut out,
        "The bundle (one line, wrapped here)",
        &wrapped(written),
    );
    show(&mut out, "Its digest (6.5)", &hex(&bundle.digest()));

    out.push_str("### 18.3 Alice's message to Bob\n\n");
    let bob_key = bob.key();
    let fields: [&[u8]; 3] = [realm.as_str().as_bytes(), bob_key.as_bytes(), spki];
    let transcript_of_key = transcript("sealpost/1 key", &fields)?;
    let key_id = KeyId::of(&realm, &bob.key(), bob_rsa.encryption_key());
    if Sha256::digest(&transcript_of_key).as_slice() != key_id.as_bytes() {
        return Err("the key id's transcript is not the specified one".into());
    }
    show(
        &mut out,
        "Transcript of the key id (5.4)",
        &hex(&transcript_of_key),
    );
    show(&mut out, "Key id", &hex(key_id.as_bytes()));

    let now = Timestamp::parse("1700000000.123")?;
    let mut rng = Counting(0x40);
    let id = MessageId::new(now, &mut rng);
    let content = Content::Text {
        text: "Hello Bob!".into(),
    };
    let envelope =
        Sealer::new(&alice, &alice_name, &bundle)?.seal(&mut rng, now, id, None, &content)?;
    let sealing_key = bob_rsa
        .unwrap_key(envelope.enc_key())
        .map_err(|_| "the key cannot be unwrapped")?;
    let (aad, signed) = envelope_transcripts(&envelope)?;
    let plaintext = Aes256Gcm::new_from_slice(&*sealing_key)?
        .decrypt(
            envelope.nonce().into(),
            Payload {
                msg: envelope.ciphertext(),
                aad: &aad,
            },
        )
        .map_err(|_| "the additional data are not the specified ones")?;
    alice
        .key()
        .verify(&signed, envelope.signature())
        .map_err(|_| "the envelope's transcript is not the specified one")?;
    let text = std::str::from_utf8(&plaintext)?;
    let content = text.trim_end_matches(' ');
    show(&mut out, "Content (8.1)", content);
    let _ = write!(
        out,
        "It has {} bytes and is followed by {} spaces: {} bytes of plaintext.\n\n",
        content.len(),
        text.len() - content.len(),
        text.len()
    );
    show(&mut out, "`id`", &format!("{id}\n{}", hex(id.as_bytes())));
    show(&mut out, "Sealing key", &hex(&*sealing_key));
    // The library drew it after the ten bytes of the id and the key itself.
    let seed: [u8; 32] = core::array::from_fn(|index| index as u8 + 0x40 + 10 + 32);
    show(
        &mut out,
        "Seed of the OAEP encoding (RFC 8017 section 7.1.1 step 2d)",
        &hex(&seed),
    );
    show(&mut out, "`enc_key`", &hex(envelope.enc_key()));
    show(&mut out, "`nonce`", &hex(envelope.nonce()));
    show(
        &mut out,
        "AAD (7.2); `prev` is absent: a zero length",
        &hex(&aad),
    );
    show(
        &mut out,
        "`ciphertext`, the tag in the last 16 bytes",
        &hex(envelope.ciphertext()),
    );
    show(&mut out, "`signed` (7.2)", &hex(&signed));
    show(
        &mut out,
        "The envelope's digest, SHA-256 of `signed`",
        &hex(&envelope.digest()),
    );
    show(&mut out, "`sig`", &hex(envelope.signature().as_bytes()));
    show(
        &mut out,
        "The envelope (one line, wrapped here)",
        &wrapped(std::str::from_utf8(envelope.as_bytes())?),
    );

    out.push_str("### 18.4 Alice's login\n\n");
    let nonce: [u8; 16] = core::array::from_fn(|index| index as u8 + 0xf0);
    let (alice_key, issued) = (alice.key(), now.millis().to_be_bytes());
    let fields: [&[u8]; 7] = [
        b"local",
        b"alice",
        b"laptop",
        alice_key.as_bytes(),
        &issued,
        &nonce,
        b"",
    ];
    let signed = transcript("sealpost/1 login", &fields)?;
    let token = LoginToken::mint(&alice, &realm, &alice_name, "laptop", now, nonce, b"");
    out.push_str("Client id `laptop`, plain TCP on loopback, issued at 1700000000.123.\n\n");
    show(
        &mut out,
        "Transcript (10.2); the channel binding is a zero length",
        &hex(&signed),
    );
    show(&mut out, "Signature", &hex(alice.sign(&signed).as_bytes()));
    show(&mut out, "Password", &wrapped(&token));

    out.push_str("### 18.5 The safety number of Alice and Bob\n\n");
    safety_half(&mut out, &realm, &alice_name, &alice.key())?;
    safety_half(&mut out, &realm, &bob_name, &bob.key())?;
    let number = SafetyNumber::of(&realm, (&alice_name, &alice.key()), (&bob_name, &bob.key()));
    show(&mut out, "Safety number", &number.to_string());
    Ok(out.trim_end().to_owned() + "\n")
}

#[allow(
    dead_code,
    reason = "the test that compares SPEC.md with this output has its own"
)]
fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", section()?);
    Ok(())
}
