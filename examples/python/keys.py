"""Notation, encoding, keys and logins. Numbers in comments are sections of core/SPEC.md.

Nothing in this file, bundle.py and envelope.py touches a socket, a file or a clock. Times are milliseconds since 1970.
"""
import base64
import hashlib
import json
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
DAY = 86_400_000
USER, REALM = r"[a-z0-9][a-z0-9_-]{0,63}", r"[a-z0-9.-]{1,64}"
UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
P = 2**255 - 19
SMALL_ORDER = {bytes.fromhex(y) for y in (  # 5.1
    "00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")}


class Refused(Exception):
    """Something that does not hold. Its text is the error's name in section 13."""


def ensure(holds, why):
    if not holds:
        raise Refused(why)


def u32(n): return n.to_bytes(4, "big")
def u64(n): return n.to_bytes(8, "big")
def b64(data): return base64.b64encode(data).decode()
def b64url(data): return base64.urlsafe_b64encode(data).decode().rstrip("=")
def time_text(ms): return f"{ms // 1000}.{ms % 1000:03}"
def id_text(i): return "-".join((i[:4].hex(), i[4:6].hex(), i[6:8].hex(), i[8:10].hex(), i[10:].hex()))


def transcript(label, *fields):  # 4.3
    fields = (f.encode() if isinstance(f, str) else f for f in (label, *fields))
    return b"".join(u32(len(f)) + f for f in fields)


def matching(grammar, text):
    ensure(re.fullmatch(grammar, text, re.ASCII), "bad-format")
    return text


def binary(text, shortest, longest=None):
    data = base64.b64decode(text.encode(), validate=True)
    ensure(shortest <= len(data) <= (longest or shortest), "wrong-length")
    return data


def message_id(text): return bytes.fromhex(matching(UUID7, text).replace("-", ""))
def millis(text): return int(matching(r"(0|[1-9][0-9]{0,9})\.[0-9]{3}", text).replace(".", ""))


def small_order(point): return point[:31] + bytes([point[31] & 0x7F]) in SMALL_ORDER


def identity_key(key):  # 5.1
    y = int.from_bytes(key, "little") & (2**255 - 1)
    ensure(y < P and not small_order(key), "bad-identity-key")
    x2 = (y * y - 1) * pow(y * y * -121665 * pow(121666, -1, P) + 1, -1, P)
    ensure(pow(x2, (P - 1) // 2, P) == 1, "bad-identity-key")
    return key


def verify(key, message, sig):  # 5.2; OpenSSL checks S < L and the encoding of R
    ensure(not small_order(key) and not small_order(sig[:32]), "bad-signature")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(sig, message)
    except InvalidSignature:
        raise Refused("bad-signature") from None


def public_half(identity): return identity.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
def spki_of(public_key): return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def encryption_key(spki):  # 5.3
    try:
        key = load_der_public_key(spki)
    except Exception:  # the library has several for what it cannot read
        raise Refused("bad-der") from None
    ensure(isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096 and spki_of(key) == spki, "bad-key")
    ensure(key.public_numbers().e == 65537 and key.public_numbers().n % 2, "bad-key")
    return key


def key_id(realm, identity, spki):  # 5.4
    return hashlib.sha256(transcript("sealpost/1 key", realm, identity, spki)).digest()


def strictly(parse):
    """4.2: what parses is encoded again and compared. JSON's numbers stay text."""
    def parsed(cls, data):
        ensure(len(data) <= cls.LIMIT, "too-large")
        try:
            value = parse(cls, json.loads(data.decode("ascii"), parse_float=str))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Refused("malformed") from None
        ensure(value.encode() == data, "not-canonical")
        value.check()
        return value
    return classmethod(parsed)


def login_token(identity, realm, user, client_id, now, nonce, binding=b""):  # 10.2
    fields = public_half(identity), u64(now), nonce
    return b64url(b"".join(fields) + identity.sign(transcript("sealpost/1 login", realm, user, client_id, *fields, binding)))
