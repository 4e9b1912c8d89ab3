"""Key bundles: who somebody is, and how to seal for them."""
import hashlib
from dataclasses import dataclass

from keys import (DAY, REALM, USER, b64, binary, encryption_key, ensure, identity_key, matching, millis, strictly, time_text,
                  transcript, u32, u64, verify)

ALG = "RSA-OAEP-256"


@dataclass
class Bundle:  # 6
    realm: str
    user: str
    seq: int
    created: int
    expires: int
    identity: bytes
    encryption: list  # of (alg, key)
    links: list  # of (old, new, at, sig)
    sig: bytes = b""
    LIMIT = 16_384

    @strictly
    def parse(cls, m):
        ensure(len(m["encryption"]) <= 4 and len(m["links"]) <= 8, "too-many")
        key = lambda text: identity_key(binary(text, 32))
        return cls(matching(REALM, m["realm"]), matching(USER, m["user"]), int(m["seq"]), millis(m["created"]),
                   millis(m["expires"]), key(m["identity"]),
                   [(matching(r"[A-Za-z0-9_.+/-]{1,64}", e["alg"]), binary(e["key"], 1, cls.LIMIT)) for e in m["encryption"]],
                   [(key(x["old"]), key(x["new"]), millis(x["at"]), binary(x["sig"], 64)) for x in m["links"]],
                   binary(m["sig"], 64))

    def encode(self):
        keys = ",".join(f'{{"alg":"{alg}","key":"{b64(key)}"}}' for alg, key in self.encryption)
        links = ",".join(f'{{"old":"{b64(old)}","new":"{b64(new)}","at":{time_text(at)},"sig":"{b64(sig)}"}}'
                         for old, new, at, sig in self.links)
        return (f'{{"v":1,"realm":"{self.realm}","user":"{self.user}","seq":{self.seq},"created":{time_text(self.created)},'
                f'"expires":{time_text(self.expires)},"identity":"{b64(self.identity)}","encryption":[{keys}],'
                f'"links":[{links}],"sig":"{b64(self.sig)}"}}').encode()

    def transcript(self):  # 6.2
        fields = [b"\x01", self.realm, self.user, u64(self.seq), u64(self.created), u64(self.expires), self.identity]
        fields += [u32(len(self.encryption)), *(field for entry in self.encryption for field in entry), u32(len(self.links))]
        for old, new, at, sig in self.links:
            fields += [old, new, u64(at), sig]
        return transcript("sealpost/1 bundle", *fields)

    def check(self):  # 6.1, 6.3
        ensure(1 <= self.seq < 2**53, "bad-seq")
        ensure(self.created < self.expires <= self.created + 400 * DAY, "bad-validity")
        for alg, key in self.encryption:
            if alg == ALG:
                encryption_key(key)
        retired, successor = [], None
        for old, new, at, sig in self.links:
            ensure(old not in retired and old == (successor or old), "broken-chain")
            retired.append(old)
            ensure(new not in retired, "retired-identity-returns")
            verify(old, transcript("sealpost/1 link", self.realm, self.user, old, new, u64(at)), sig)
            successor = new
        ensure(self.identity == (successor or self.identity), "links-lead-elsewhere")
        verify(self.identity, self.transcript(), self.sig)

    @property
    def digest(self): return hashlib.sha256(self.encode()).digest()

    @property
    def usable_keys(self): return [key for alg, key in self.encryption if alg == ALG]

    def in_time(self, now): return self.created <= now + DAY and now < self.expires


def assess(pin, bundle, realm, user, now):
    """6.6 steps 2 to 4. `pin` is the bundle last believed, or None."""
    ensure(bundle.realm == realm, "wrong-realm")
    ensure(bundle.user == user, "wrong-user")
    linked = pin and pin.identity in [old for old, *_ in bundle.links]
    if pin and pin.identity != bundle.identity:
        ensure(linked, "identity-changed")
    elif pin:
        ensure(bundle.seq >= pin.seq, "rolled-back")
        ensure(bundle.seq > pin.seq or bundle.digest == pin.digest, "forked")
    # Whoever retired an identity has no way back (6.4).
    ensure(not pin or pin.encryption or not (linked or bundle.encryption), "retired")
    ensure(bundle.created <= now + DAY, "from-the-future")
    ensure(now < bundle.expires, "expired")
    return ("first-contact" if not pin else "linked-change" if linked else
            "unchanged" if bundle.seq == pin.seq else "newer")
