//! Keys, signatures and the ids of keys.

use rand_chacha::rand_core::Rng as _;
use rsa::traits::PublicKeyParts as _;
use sha2::{Digest as _, Sha512};

use super::cases::{KeyCase, KeyIdCase, SignatureCase};
use super::people::{
    Person, REALM, alice, base64, bob, bob_before, carol, chance, mallory, sha256,
};
use super::wire::Transcript;

/// The order of the prime-order subgroup, 2^252 + 27742317777372353535851937790883648493, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The points of small order in canonical form: y is 0, 1, -1, and the y of the points of order eight.
fn small_order() -> Vec<[u8; 32]> {
    let little = |low: u8| {
        let mut bytes = [0; 32];
        bytes[0] = low;
        bytes
    };
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let eight = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let other_eight = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    let mut points = vec![little(0), little(1), minus_one, eight, other_eight];
    for mut point in [little(0), eight, other_eight] {
        point[31] |= 0x80; // the other sign of x
        points.push(point);
    }
    points
}

pub(crate) fn identity_keys() -> Vec<KeyCase> {
    let case = |name: &str, key: &[u8], expect: &str| KeyCase {
        name: name.to_owned(),
        key: base64(key),
        expect: expect.to_owned(),
    };
    let mut cases = vec![
        case("alice's", &alice().identity(), "ok"),
        case("bob's", &bob().identity(), "ok"),
        case("nothing", &[], "wrong-length"),
        case("31 bytes", &alice().identity()[..31], "wrong-length"),
        case(
            "33 bytes",
            &[alice().identity().as_slice(), &[0]].concat(),
            "wrong-length",
        ),
        case(
            "a secret and a public key",
            &[[1; 32], alice().identity()].concat(),
            "wrong-length",
        ),
    ];
    let mut number = [0; 32];
    number[0] = 2;
    cases.push(case("y = 2, which is on no point", &number, "not-a-point"));
    number[0] = 3;
    cases.push(case("y = 3", &number, "ok"));
    let mut above = [0xff; 32];
    (above[0], above[31]) = (0xf0, 0x7f);
    cases.push(case("y = p + 3, which stands for 3", &above, "not-a-point"));
    above[31] = 0xff;
    cases.push(case("y = p + 3 with the other sign", &above, "not-a-point"));
    (above[0], above[31]) = (0xed, 0x7f);
    cases.push(case("y = p, which stands for 0", &above, "not-a-point"));
    (above[0], above[31]) = (0xee, 0x7f);
    cases.push(case("y = p + 1, which stands for 1", &above, "not-a-point"));
    cases.push(case("all ones", &[0xff; 32], "not-a-point"));
    cases.extend(
        small_order()
            .iter()
            .map(|point| case("of small order", point, "small-order")),
    );
    let (mut one, mut minus_one) = ([0; 32], [0xff; 32]);
    (one[0], one[31]) = (1, 0x80);
    (minus_one[0], minus_one[31]) = (0xec, 0xff);
    cases.push(case("y = 1 with a sign for x = 0", &one, "refused"));
    cases.push(case("y = -1 with a sign for x = 0", &minus_one, "refused"));
    cases
}

/// `number` modulo the order, both little-endian, bit by bit from the top.
fn reduce(number: &[u8]) -> [u8; 32] {
    let mut rest = [0_u8; 32];
    for bit in (0..number.len() * 8).rev() {
        rest = double_and_add(rest, None, number[bit / 8] >> (bit % 8) & 1);
    }
    rest
}

/// One times the other, modulo the order.
fn multiply(one: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    let mut product = [0_u8; 32];
    for bit in (0..256).rev() {
        product = double_and_add(
            product,
            (one[bit / 8] >> (bit % 8) & 1 == 1).then_some(other),
            0,
        );
    }
    product
}

/// 2 × `number` + `more` + `bit`, modulo the order, for numbers below the order.
fn double_and_add(number: [u8; 32], more: Option<&[u8; 32]>, bit: u8) -> [u8; 32] {
    let mut sum = add(&number, &number);
    sum = subtract_order(sum);
    let mut low = [0; 32];
    low[0] = bit;
    sum = subtract_order(add(&sum, &low));
    if let Some(more) = more {
        sum = subtract_order(add(&sum, more));
    }
    sum
}

fn add(one: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    let mut sum = [0; 32];
    let mut carry = 0_u16;
    for index in 0..32 {
        carry += u16::from(one[index]) + u16::from(other[index]);
        sum[index] = carry as u8;
        carry >>= 8;
    }
    sum
}

/// Minus the order, unless that were negative.
fn subtract_order(number: [u8; 32]) -> [u8; 32] {
    if number.iter().rev().lt(ORDER.iter().rev()) {
        return number;
    }
    let mut difference = [0; 32];
    let mut borrow = 0_i16;
    for index in 0..32 {
        let digit = i16::from(number[index]) - i16::from(ORDER[index]) - borrow;
        borrow = i16::from(digit < 0);
        difference[index] = digit.rem_euclid(256) as u8;
    }
    difference
}

/// A signature whose R is the neutral point. It satisfies the equation, and a lax verifier accepts it.
fn signature_with_neutral_commitment(by: &Person, message: &[u8]) -> [u8; 64] {
    let mut commitment = [0; 32];
    commitment[0] = 1;
    let expanded = Sha512::digest(by.secret.to_bytes());
    let mut secret: [u8; 32] = expanded[..32].try_into().unwrap();
    secret[0] &= 248;
    secret[31] = secret[31] & 127 | 64;
    let challenge = Sha512::new()
        .chain_update(commitment)
        .chain_update(by.identity())
        .chain_update(message)
        .finalize();
    let response = multiply(&reduce(&challenge), &reduce(&secret));
    [commitment, response].concat().try_into().unwrap()
}

pub(crate) fn signatures() -> Vec<SignatureCase> {
    let (alice, message) = (alice(), b"message".as_slice());
    let case = |name: &str, key: [u8; 32], message: &[u8], signature: [u8; 64], expect: &str| {
        SignatureCase {
            name: name.to_owned(),
            key: base64(key),
            message: base64(message),
            signature: base64(signature),
            expect: expect.to_owned(),
        }
    };
    let good = alice.sign(message);
    let flipped = |index: usize, mask: u8| {
        let mut signature = good;
        signature[index] ^= mask;
        signature
    };
    let mut malleable = good;
    malleable[32..].copy_from_slice(&add(good[32..].try_into().unwrap(), &ORDER));
    let lax = signature_with_neutral_commitment(&alice, message);
    {
        use ed25519_dalek::Verifier as _;
        let signature = ed25519_dalek::Signature::from_bytes(&lax);
        assert!(
            alice
                .secret
                .verifying_key()
                .verify(message, &signature)
                .is_ok(),
            "the case would show nothing"
        );
    }
    vec![
        case("good", alice.identity(), message, good, "ok"),
        case(
            "good, over nothing",
            alice.identity(),
            b"",
            alice.sign(b""),
            "ok",
        ),
        case("another message", alice.identity(), b"massage", good, "bad"),
        case("another key", mallory().identity(), message, good, "bad"),
        case(
            "R tampered",
            alice.identity(),
            message,
            flipped(0, 1),
            "bad",
        ),
        case(
            "sign of R tampered",
            alice.identity(),
            message,
            flipped(31, 0x80),
            "bad",
        ),
        case(
            "S tampered",
            alice.identity(),
            message,
            flipped(32, 1),
            "bad",
        ),
        case(
            "S plus the order",
            alice.identity(),
            message,
            malleable,
            "bad",
        ),
        case(
            "a high bit of S",
            alice.identity(),
            message,
            flipped(63, 0x20),
            "bad",
        ),
        case(
            "R of small order, which a lax verifier accepts",
            alice.identity(),
            message,
            lax,
            "bad",
        ),
        case("zeros", alice.identity(), message, [0; 64], "bad"),
    ]
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..128 => vec![short as u8],
        medium @ 128..256 => vec![0x81, medium as u8],
        long => vec![0x82, (long >> 8) as u8, long as u8],
    };
    [&[tag], length.as_slice(), content].concat()
}

/// A positive INTEGER from big-endian bytes.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if bytes[0] & 0x80 == 0 { &[] } else { &[0] };
    tlv(2, &[sign, bytes].concat())
}

const RSA_ENCRYPTION: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSASSA_PSS: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const NULL: [u8; 2] = [5, 0];
const E: [u8; 3] = [1, 0, 1];

/// A subject public key info around any algorithm and any RSAPublicKey.
fn spki_around(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = tlv(3, &[&[0], key].concat());
    tlv(0x30, &[tlv(0x30, algorithm), bits].concat())
}

fn spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = tlv(0x30, &[integer(modulus), integer(exponent)].concat());
    spki_around(&[RSA_ENCRYPTION.as_slice(), &NULL].concat(), &key)
}

/// An odd number of so many bits.
pub(crate) fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0; bits.div_ceil(8)];
    chance(bits as u64).fill_bytes(&mut bytes);
    let top = (bits - 1) % 8;
    bytes[0] = bytes[0] & ((1 << top) - 1) | 1 << top;
    *bytes.last_mut().unwrap() |= 1;
    bytes
}

/// The public key with that modulus and the right exponent.
pub(crate) fn spki_of_bits(bits: usize) -> Vec<u8> {
    spki(&modulus(bits), &E)
}

pub(crate) fn encryption_keys() -> Vec<KeyCase> {
    let case = |name: &str, key: Vec<u8>, expect: &str| KeyCase {
        name: name.to_owned(),
        key: base64(key),
        expect: expect.to_owned(),
    };
    let bob = bob_before();
    let n = bob.rsa.as_ref().unwrap().0.n_bytes().to_vec();
    let good = bob.spki();
    assert_eq!(spki(&n, &E), good);
    let rsa = [RSA_ENCRYPTION.as_slice(), &NULL].concat();
    let public = |modulus: Vec<u8>, exponent: Vec<u8>| tlv(0x30, &[modulus, exponent].concat());
    let zeros = |count: usize| tlv(2, &[vec![0; count], n.clone()].concat());
    let mut even = n.clone();
    *even.last_mut().unwrap() &= 0xfe;
    // A length below 128 that is written in two bytes, as BER allows.
    let long_length = [2, 0x81, 3, 1, 0, 1].to_vec();
    let mut indefinite = good.clone();
    indefinite.splice(1..4, [0x80]);
    indefinite.extend([0, 0]);
    let ec = [
        6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
    ];
    let mut unused_bits = spki_around(&rsa, &public(integer(&n), integer(&E)));
    let position = unused_bits
        .windows(4)
        .position(|window| window[0] == 3 && window[1] == 0x82)
        .unwrap();
    unused_bits[position + 4] = 1;
    vec![
        case("2048 bits", good.clone(), "ok"),
        case("3072 bits", super::people::bob().spki(), "ok"),
        case("4096 bits", carol().spki(), "ok"),
        case("2049 bits", spki_of_bits(2_049), "ok"),
        case("2056 bits", spki_of_bits(2_056), "ok"),
        case("1024 bits", spki_of_bits(1_024), "too-small"),
        case("2047 bits", spki_of_bits(2_047), "too-small"),
        case("4097 bits", spki_of_bits(4_097), "too-large"),
        case("8192 bits", spki_of_bits(8_192), "too-large"),
        case("16384 bits", spki_of_bits(16_384), "too-large"),
        case("modulus zero", spki(&[0], &E), "too-small"),
        case("an even modulus", spki(&even, &E), "bad-modulus"),
        case("exponent 3", spki(&n, &[3]), "bad-exponent"),
        case("exponent 1", spki(&n, &[1]), "bad-exponent"),
        case("exponent 65539", spki(&n, &[1, 0, 3]), "bad-exponent"),
        case(
            "exponent 2^32 + 1",
            spki(&n, &[1, 0, 0, 0, 1]),
            "bad-exponent",
        ),
        case(
            "an exponent that begins like 65537",
            spki(&n, &[1, 0, 1, 1]),
            "bad-exponent",
        ),
        case(
            "exponent as long as the modulus",
            spki(&n, &n),
            "bad-exponent",
        ),
        case(
            "two zeros before the modulus",
            spki_around(&rsa, &public(zeros(2), integer(&E))),
            "bad-der",
        ),
        case(
            "a negative modulus",
            spki_around(&rsa, &public(zeros(0), integer(&E))),
            "bad-der",
        ),
        case(
            "a zero before the exponent",
            spki_around(&rsa, &public(integer(&n), vec![2, 4, 0, 1, 0, 1])),
            "bad-der",
        ),
        case(
            "a length written too long",
            spki_around(&rsa, &public(integer(&n), long_length)),
            "bad-der",
        ),
        case("an indefinite length", indefinite, "bad-der"),
        case("unused bits", unused_bits, "bad-der"),
        case(
            "no parameters",
            spki_around(&RSA_ENCRYPTION, &public(integer(&n), integer(&E))),
            "bad-der",
        ),
        case(
            "RSASSA-PSS",
            spki_around(&RSASSA_PSS, &public(integer(&n), integer(&E))),
            "bad-der",
        ),
        case("an elliptic curve", spki_around(&ec, &[4; 65]), "bad-der"),
        case(
            "without a subject public key info",
            public(integer(&n), integer(&E)),
            "bad-der",
        ),
        case(
            "a private key",
            bob.rsa.as_ref().unwrap().1.clone(),
            "refused",
        ),
        case(
            "trailing bytes",
            [good.as_slice(), &[0]].concat(),
            "bad-der",
        ),
        case("truncated", good[..good.len() - 1].to_vec(), "bad-der"),
        case("nothing", vec![], "bad-der"),
        case("PEM", b"-----BEGIN PUBLIC KEY-----".to_vec(), "bad-der"),
    ]
}

/// SHA-256 of T("sealpost/1 key", realm, identity, SPKI).
pub(crate) fn key_id(realm: &str, identity: [u8; 32], spki: &[u8]) -> [u8; 32] {
    let transcript = Transcript::new("sealpost/1 key")
        .field("realm", realm)
        .field("identity", identity)
        .field("SPKI", spki);
    sha256(transcript.bytes())
}

pub(crate) fn key_ids() -> Vec<KeyIdCase> {
    let case = |name: &str, realm: &str, person: &Person, spki: Vec<u8>| KeyIdCase {
        name: name.to_owned(),
        realm: realm.to_owned(),
        identity: base64(person.identity()),
        id: base64(key_id(realm, person.identity(), &spki)),
        encryption: base64(spki),
    };
    vec![
        case("bob's", REALM, &bob(), bob().spki()),
        case("in another realm", "elsewhere", &bob(), bob().spki()),
        case("published by mallory", REALM, &mallory(), bob().spki()),
        case("bob's before", REALM, &bob_before(), bob_before().spki()),
        case("carol's", REALM, &carol(), carol().spki()),
    ]
}
