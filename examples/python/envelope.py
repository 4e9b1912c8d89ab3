"""Envelopes: sealing and opening."""
import hashlib
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keys import (OAEP, REALM, USER, Refused, b64, binary, encryption_key, ensure, id_text, identity_key, key_id, matching,
                  message_id, millis, public_half, strictly, time_text, transcript, u64, verify)

SUITE = "RSA-OAEP-256/A256GCM/Ed25519"


@dataclass
class Envelope:  # 7
    realm: str
    id: bytes
    prev: bytes  # empty: none
    ts: int
    sender: str
    to: str
    key: bytes
    signer: bytes
    enc_key: bytes
    nonce: bytes
    ciphertext: bytes = b""
    sig: bytes = b""
    LIMIT = 98_304

    @strictly
    def parse(cls, m):
        e = cls(matching(REALM, m["realm"]), message_id(m["id"]), message_id(m["prev"]) if m["prev"] is not None else b"",
                millis(m["ts"]), matching(USER, m["from"]), matching(USER, m["to"]), binary(m["key"], 32),
                identity_key(binary(m["signer"], 32)), binary(m["enc_key"], 256, 512), binary(m["nonce"], 12),
                binary(m["ciphertext"], 272, 65_552), binary(m["sig"], 64))
        ensure(padded(len(e.ciphertext) - 16) == len(e.ciphertext) - 16, "wrong-length")
        return e

    def encode(self):
        prev = f'"{id_text(self.prev)}"' if self.prev else "null"
        return (f'{{"v":1,"suite":"{SUITE}","realm":"{self.realm}","id":"{id_text(self.id)}","prev":{prev},'
                f'"ts":{time_text(self.ts)},"from":"{self.sender}","to":"{self.to}","key":"{b64(self.key)}",'
                f'"signer":"{b64(self.signer)}","enc_key":"{b64(self.enc_key)}","nonce":"{b64(self.nonce)}",'
                f'"ciphertext":"{b64(self.ciphertext)}","sig":"{b64(self.sig)}"}}').encode()

    def check(self): pass

    def header(self):  # 7.2
        return (self.realm, b"\x01", SUITE, self.id, self.prev, u64(self.ts), self.sender, self.to, self.key, self.signer)

    def aad(self): return transcript("sealpost/1 aad", *self.header())
    def signed(self): return transcript("sealpost/1 envelope", *self.header(), self.enc_key, self.nonce, self.ciphertext)


def padded(length):  # 8.2
    if length <= 256:
        return 256
    e = length.bit_length() - 1
    mask = (1 << (e - e.bit_length())) - 1
    return (length + mask) & ~mask


class Burst:
    """7.4: one wrapped key for at most 1,024 envelopes and 60 s."""

    def __init__(self, identity, realm, sender, bundle, now):
        ensure(bundle.usable_keys, "no-encryption-key")
        ensure(bundle.in_time(now), "bundle-not-valid")
        spki = bundle.usable_keys[0]
        self.identity, self.realm, self.sender, self.to = identity, realm, sender, bundle.user
        self.key, self.made, self.left = os.urandom(32), now, 1_024
        self.key_id, self.enc_key = key_id(realm, bundle.identity, spki), encryption_key(spki).encrypt(self.key, OAEP)

    def lasts(self, now): return self.left > 0 and self.made <= now < self.made + 60_000

    def seal(self, content, prev, now):  # 7.3
        plaintext = content.encode()
        ensure(len(plaintext) <= 65_536, "too-long")
        random = bytearray(os.urandom(10))
        random[0], random[2] = 0x70 | random[0] & 0x0F, 0x80 | random[2] & 0x3F
        e = Envelope(self.realm, now.to_bytes(6, "big") + random, prev, now, self.sender, self.to, self.key_id,
                     public_half(self.identity), self.enc_key, os.urandom(12))
        e.ciphertext = AESGCM(self.key).encrypt(e.nonce, plaintext.ljust(padded(len(plaintext))), e.aad())
        e.sig = self.identity.sign(e.signed())
        self.left -= 1
        return e


def open_envelope(e, realm, me, keys, signers, seen, floor, suspended, cache):
    """7.5. `keys`: my decryption keys by key id; `signers`: whose signature counts for `e.sender`; `cache`: a dict (7.4)."""
    ensure(e.to == me, "not-for-me")
    ensure(e.realm == realm, "wrong-realm")
    ensure(e.signer in signers, "signer-is-not-pinned")
    verify(e.signer, e.signed(), e.sig)
    ensure(e.id not in seen, "already-seen")
    ensure(e.ts >= floor, "below-floor")
    ensure(not suspended, "suspended")
    ensure(e.key in keys, "unknown-key")
    secret, index = keys[e.key], (e.key, e.signer, hashlib.sha256(e.enc_key).digest())
    try:
        key = cache.get(index)
        if key is None:
            ensure(len(e.enc_key) == (secret.key_size + 7) // 8, "cannot-decrypt")
            key = secret.decrypt(e.enc_key, OAEP)  # OpenSSL refuses what is not below the modulus
            ensure(len(key) == 32, "cannot-decrypt")
        plaintext = AESGCM(key).decrypt(e.nonce, e.ciphertext, e.aad())
    except (ValueError, InvalidTag):
        raise Refused("cannot-decrypt") from None
    if len(cache) >= 64:
        cache.clear()
    cache[index] = key
    return parse_content(plaintext)


class Members(dict):
    def __init__(self, pairs):
        super().__init__(pairs)
        self.twice = len(self) != len(pairs)


def parse_content(plaintext):  # 8.1
    try:
        content = json.loads(plaintext.decode(), object_pairs_hook=Members, parse_constant=lambda _: 1 / 0)
        ensure(isinstance(content, Members) and not content.twice, "bad-content")
        "".join(content).encode()  # half a surrogate pair in a member's name
        matching(USER.replace("_", "._"), content["kind"])
        if content["kind"] == "text":
            content["text"].encode()
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise Refused("bad-content") from None
    return content
