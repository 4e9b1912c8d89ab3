"""Sealpost's formats in Python, written from core/SPEC.md alone. Numbers in comments are its sections.

Nothing here touches a socket, a file or a clock: time and stored state come in as arguments.
"""

import base64
import hashlib
import json
import math
import os
import re
import struct

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from encoding import (
    Bare,
    Members,
    Refused,
    SURROGATE,
    b64,
    id_text,
    message_id,
    read_array,
    read_object,
    realm_name,
    time_millis,
    time_text,
    transcript,
    u32,
    u64,
    user_name,
    utf8,
    version,
    write,
)

SUITE = "RSA-OAEP-256/A256GCM/Ed25519"
RSA_ALG = "RSA-OAEP-256"

# 12
MAX_BUNDLE = 16_384
MAX_ENVELOPE = 98_304
MAX_PLAINTEXT = 65_536
MAX_RECEIPTED = 256
MAX_ENCRYPTION = 4
MAX_LINKS = 8
MAX_SEQ = 2**53 - 1
MAX_VALIDITY = 400 * 86_400_000
MAX_AHEAD = 86_400_000
MAX_FAILURES = 3
LOGIN_WINDOW = 60_000


VERSION = b"\x01"

# --- 3 Topics ---------------------------------------------------------------------------------------------------------


def keys_topic(user):
    return "keys/" + user_name(user)


def inbox_topic(user):
    return "inbox/" + user_name(user)


def parse_topic(text, filters=False):
    """The room and the user."""
    room, slash, name = text.partition("/")
    if not slash or room not in ("keys", "inbox"):
        raise Refused("unknown")
    if filters and name == "+":
        return room, name
    try:
        return room, user_name(name)
    except Refused as refused:
        raise Refused(f"bad-user {refused}") from None


# --- 5 Keys -----------------------------------------------------------------------------------------------------------

P = 2**255 - 19
# 5.1: the y coordinates of the eight points of small order.
SMALL_ORDER = {
    bytes.fromhex(h)
    for h in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
}


def y_of(point):
    return point[:31] + bytes([point[31] & 0x7F])


def check_identity_key(key):
    """5.1. Whether the point is on the curve is a matter of one square root."""
    if len(key) != 32:
        raise Refused("wrong-length")
    y = int.from_bytes(y_of(key), "little")
    if y >= P:
        raise Refused("not-a-point")
    if y_of(key) in SMALL_ORDER:
        raise Refused("small-order")
    d = -121665 * pow(121666, -1, P) % P
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    if pow(x2, (P - 1) // 2, P) != 1:
        raise Refused("not-a-point")
    return key


def identity_member(members, name):
    key = members.binary(name, 32, 32)
    try:
        return check_identity_key(key)
    except Refused as refused:
        raise Refused(f"bad-identity-key {name} {refused}") from None


def verify(key, message, signature):
    """5.2: OpenSSL checks S < L and compares R's encoding; R of small order is left to us."""
    if y_of(signature[:32]) in SMALL_ORDER:
        raise Refused("bad-signature")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("bad-signature") from None


class Identity:
    def __init__(self, seed):
        self.seed = seed
        self.secret = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message):
        return self.secret.sign(message)


def fingerprint(key):
    return "SHA256:" + b64(hashlib.sha256(key).digest()).rstrip("=")


OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)


def der(data, tag):
    """The content of the one DER element `data` is, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise Refused("bad-der")
    length, start = data[1], 2
    if length >= 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
        if not 3 <= start <= 4 or length < 0x80 or length < 1 << 8 * (start - 3) or len(data) < start:
            raise Refused("bad-der")
    if len(data) < start + length:
        raise Refused("bad-der")
    return data[start : start + length], data[start + length :]


def whole(data, tag):
    content, rest = der(data, tag)
    if rest:
        raise Refused("bad-der")
    return content


def positive(content):
    if not content or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and not content[1] & 0x80):
        raise Refused("bad-der")
    return int.from_bytes(content, "big")


# rsaEncryption (1.2.840.113549.1.1.1) and NULL.
RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d0101010500")


def load_encryption_key(spki):
    """5.3. What this accepts has one spelling, because every length and integer is read strictly."""
    if len(spki) > 1_100:
        raise Refused("too-large")
    algorithm, rest = der(whole(spki, 0x30), 0x30)
    bits = whole(rest, 0x03)
    if algorithm != RSA_ENCRYPTION or bits[:1] != b"\x00":
        raise Refused("bad-der")
    n, rest = der(whole(bits[1:], 0x30), 0x02)
    n, e = positive(n), positive(whole(rest, 0x02))
    if n.bit_length() < 2048:
        raise Refused("too-small")
    if n.bit_length() > 4096:
        raise Refused("too-large")
    if n % 2 == 0:
        raise Refused("bad-modulus")
    if e != 65537:
        raise Refused("bad-exponent")
    return rsa.RSAPublicNumbers(e, n).public_key()


def key_id(realm, identity, der):
    """5.4"""
    return hashlib.sha256(transcript("sealpost/1 key", realm, identity, der)).digest()


def new_decryption_key(bits=3072):
    key = rsa.generate_private_key(65537, bits)
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


class DecryptionKey:
    def __init__(self, pkcs8):
        self.secret = load_der_private_key(pkcs8, None)
        self.numbers = self.secret.public_key().public_numbers()
        self.spki = self.secret.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def unwrap(self, enc_key):
        """7.5 step 8"""
        n = self.numbers.n
        if len(enc_key) != (n.bit_length() + 7) // 8 or int.from_bytes(enc_key, "big") >= n:
            raise Refused("cannot-decrypt")
        try:
            key = self.secret.decrypt(enc_key, OAEP)
        except ValueError:
            raise Refused("cannot-decrypt") from None
        if len(key) != 32:
            raise Refused("cannot-decrypt")
        return key


# --- 6 The key bundle -------------------------------------------------------------------------------------------------


def link_transcript(realm, user, link):
    return transcript("sealpost/1 link", realm, user, link["old"], link["new"], u64(link["at"]))


def write_link(link):
    return [
        ("old", b64(link["old"])),
        ("new", b64(link["new"])),
        ("at", Bare(time_text(link["at"]))),
        ("sig", b64(link["sig"])),
    ]


class Bundle:
    NAMES = ["v", "realm", "user", "seq", "created", "expires", "identity", "encryption", "links", "sig"]

    def transcript(self):
        """6.2"""
        fields = [VERSION, self.realm, self.user, u64(self.seq), u64(self.created), u64(self.expires), self.identity]
        fields.append(u32(len(self.encryption)))
        for alg, key in self.encryption:
            fields += [alg, key]
        fields.append(u32(len(self.links)))
        for link in self.links:
            fields += [link["old"], link["new"], u64(link["at"]), link["sig"]]
        return transcript("sealpost/1 bundle", *fields)

    def encode(self):
        return write([
            ("v", Bare(1)),
            ("realm", self.realm),
            ("user", self.user),
            ("seq", Bare(self.seq)),
            ("created", Bare(time_text(self.created))),
            ("expires", Bare(time_text(self.expires))),
            ("identity", b64(self.identity)),
            ("encryption", [[("alg", alg), ("key", b64(key))] for alg, key in self.encryption]),
            ("links", [write_link(link) for link in self.links]),
            ("sig", b64(self.sig)),
        ]).encode("ascii")

    @staticmethod
    def make(identity, realm, user, seq, created, expires, spkis, links=()):
        bundle = Bundle()
        bundle.realm, bundle.user, bundle.seq = realm, user, seq
        bundle.created, bundle.expires, bundle.identity = created, expires, identity.key
        bundle.encryption = [(RSA_ALG, spki) for spki in spkis]
        bundle.links = list(links)
        bundle.sig = identity.sign(bundle.transcript())
        return Bundle.parse(bundle.encode())

    @staticmethod
    def parse(data):
        """6.6 step 1"""
        if len(data) > MAX_BUNDLE:
            raise Refused("too-large")
        pairs = read_object(utf8(data))
        version(pairs)
        m = Members(pairs, Bundle.NAMES)
        bundle = Bundle()
        bundle.data = data
        bundle.realm, bundle.user = m.realm("realm"), m.user("user")
        bundle.seq = m.number("seq", MAX_SEQ)
        bundle.created, bundle.expires = m.time("created"), m.time("expires")
        bundle.identity = identity_member(m, "identity")
        bundle.sig = m.binary("sig", 64, 64)
        bundle.encryption = numbered("encryption", m.array("encryption", MAX_ENCRYPTION), read_entry)
        bundle.links = numbered("link", m.array("links", MAX_LINKS), read_link)
        if bundle.encode() != data:
            raise Refused("not-canonical")
        if bundle.seq == 0:
            raise Refused("bad-seq")
        if not bundle.created < bundle.expires <= bundle.created + MAX_VALIDITY:
            raise Refused("bad-validity")
        bundle.check_links()
        verify(bundle.identity, bundle.transcript(), bundle.sig)
        return bundle

    def check_links(self):
        """6.3"""
        retired = []
        for index, link in enumerate(self.links):
            number = index + 1
            if link["old"] in retired:
                raise Refused(f"forked-links {number}")
            if index and self.links[index - 1]["new"] != link["old"]:
                raise Refused(f"broken-chain {number}")
            retired.append(link["old"])
            if link["new"] in retired:
                raise Refused(f"retired-identity-returns {number}")
            try:
                verify(link["old"], link_transcript(self.realm, self.user, link), link["sig"])
            except Refused:
                raise Refused(f"bad-link-signature {number}") from None
        if self.links and self.links[-1]["new"] != self.identity:
            raise Refused("links-lead-elsewhere")

    def digest(self):
        return hashlib.sha256(self.data).digest()

    def check_time(self, now):
        if self.created > now + MAX_AHEAD:
            raise Refused("from-the-future")
        if now >= self.expires:
            raise Refused("expired")

    def usable_keys(self):
        """7.3 step 1: what this version can seal to, best first."""
        return [key for alg, key in self.encryption if alg == RSA_ALG]


def numbered(what, elements, read):
    """Reads each element; an error names the element, counted from one."""
    values = []
    for index, element in enumerate(elements):
        try:
            values.append(read(read_object(element)))
        except Refused as refused:
            raise Refused(f"{what} {index + 1} {refused}") from None
    return values


def read_entry(pairs):
    m = Members(pairs, ["alg", "key"])
    alg, key = m.text("alg"), m.binary("key")
    if alg == RSA_ALG:
        load_encryption_key(key)
        return alg, key
    if not re.fullmatch(r"[A-Za-z0-9_.+/-]{1,64}", alg):
        raise Refused("bad-name alg")
    if not key:
        raise Refused("wrong-length key")
    return alg, key


def read_link(pairs):
    m = Members(pairs, ["old", "new", "at", "sig"])
    return {
        "old": identity_member(m, "old"),
        "new": identity_member(m, "new"),
        "at": m.time("at"),
        "sig": m.binary("sig", 64, 64),
    }


def next_seq(last, created):
    """6.4"""
    return max((last or 0) + 1, created // 1000)


def assess(pin, bundle, realm, user, now):
    """6.6 steps 2 to 4: the outcome's name and the pin to store. `pin` is None or a dict."""
    if bundle.realm != realm:
        raise Refused("wrong-realm")
    if bundle.user != user:
        raise Refused("wrong-user")
    new = {"identity": bundle.identity, "seq": bundle.seq, "digest": bundle.digest(), "verified": False}
    if pin is None:
        outcome = "first-contact"
    elif pin["identity"] == bundle.identity:
        new["verified"] = pin["verified"]
        if bundle.seq < pin["seq"]:
            raise Refused("rolled-back")
        if bundle.seq == pin["seq"] and bundle.digest() != pin["digest"]:
            raise Refused("forked")
        outcome = "newer" if bundle.seq > pin["seq"] else "unchanged"
    elif any(link["old"] == pin["identity"] for link in bundle.links):
        outcome = "linked-change"
    else:
        raise Refused("identity-changed")
    bundle.check_time(now)
    return outcome, new


# --- 8 Content and padding --------------------------------------------------------------------------------------------


def padded_length(length):
    if length <= 256:
        return 256
    e = length.bit_length() - 1
    s = e.bit_length()  # floor(log2 e) + 1
    mask = (1 << (e - s)) - 1
    return (length + mask) & ~mask


def pad(content):
    if padded_length(len(content)) > MAX_PLAINTEXT:
        raise Refused("too-long")
    return content.ljust(padded_length(len(content)), b" ")


def text_content(text):
    return json.dumps({"kind": "text", "text": text}, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def string(raw):
    """A JSON string, or None: also for half a surrogate pair."""
    if raw is None or not raw.startswith('"'):
        return None
    text = json.loads(raw)
    return None if SURROGATE.search(text) else text


def parse_content(plaintext):
    """The kind, and the text, the receipt or, of another kind, the JSON."""
    text = utf8(plaintext).rstrip(" ")
    pairs = read_object(text)
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Refused("duplicate-member")
    kind = string(members.get("kind"))
    if kind is None or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", kind):
        raise Refused("bad-kind")
    if kind == "receipt":
        return kind, parse_receipt(members)
    if kind != "text":
        return kind, text
    text = string(members.get("text"))
    if text is None:
        raise Refused("bad-text")
    return kind, text


def parse_receipt(members):
    """8.3: the state, and the id and digest of each message."""
    state = string(members.get("state"))
    try:
        messages = [parse_receipted(raw) for raw in read_array(members["messages"])]
    except (KeyError, ValueError, Refused):
        raise Refused("bad-receipt") from None
    if state is None or not 1 <= len(messages) <= MAX_RECEIPTED:
        raise Refused("bad-receipt")
    return {"state": "read" if state == "read" else "delivered", "messages": messages}


def parse_receipted(raw):
    pairs = read_object(raw)
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Refused("duplicate-member")
    name, digest = string(members["id"]), string(members["digest"])
    if name is None or digest is None:
        raise Refused("wrong-type")
    message_id(name)
    data = base64.b64decode(digest, validate=True)
    if len(data) != 32 or b64(data) != digest:
        raise Refused("wrong-length")
    return {"id": name, "digest": digest}


def parse_reading(plaintext):
    """8.4: `reading`, `reading-gap` or `other`, and the members of the first two."""
    kind, text = parse_content(plaintext)
    members = {"reading": ("number", "at"), "reading-gap": ("first", "last", "first_at", "last_at")}.get(kind)
    if members is None:
        return "other", None
    raw = dict(read_object(text))
    found = {}
    for member in members:
        value = raw.get(member, "")
        if member in ("number", "first", "last"):
            if not re.fullmatch(r"[1-9][0-9]{0,15}", value) or int(value) >= 1 << 53:
                return "other", None
            found[member] = int(value)
        else:
            try:
                time_millis(value)
            except Refused:
                return "other", None
            found[member] = value
    if kind == "reading":
        if "reading" not in raw:
            return "other", None
        found["value"] = raw["reading"]
    elif found["first"] > found["last"]:
        return "other", None
    return kind, found


def parse_conversation(plaintext):
    """8.5, 8.6: `text`, `reply`, `edit`, `delete`, `expiry` or `other`, and what it says."""
    kind, text = parse_content(plaintext)
    raw = dict(read_object(utf8(plaintext).rstrip(" ")))
    if kind == "text":
        edits, reply = named(raw.get("edits")), answered(raw.get("reply"))
        if edits:
            return "edit", {"text": text, "id": edits}
        return ("reply", {"text": text, **reply}) if reply else ("text", {"text": text})
    if kind == "delete" and named(raw.get("message")):
        return kind, {"id": named(raw["message"])}
    if kind == "expiry":
        found = {member: raw.get(member, "") for member in ("seconds", "seq")}
        if all(re.fullmatch(r"0|[1-9][0-9]{0,15}", value) for value in found.values()):
            found = {member: int(value) for member, value in found.items()}
            if (found["seconds"] == 0 or 5 <= found["seconds"] <= 31_536_000) and 1 <= found["seq"] < 1 << 53:
                return kind, found
    return "other", {}


def named(raw):
    """A message's id as JSON, or None."""
    text = string(raw)
    try:
        if text is not None:
            message_id(text)
    except Refused:
        return None
    return text


def answered(raw):
    """The message that a text answers, or None."""
    try:
        pairs = read_object(raw or "")
        members = dict(pairs)
        author, name = string(members.get("from")), named(members.get("id"))
        if len(members) != len(pairs) or author is None or name is None:
            return None
        user_name(author)
    except Refused:
        return None
    return {"from": author, "id": name}


def later_expiry(known, came, now):
    """8.6: which of two settings counts, the one known so far or the one that came."""
    if came["seq"] > now // 1_000 + 86_400:
        return known
    if known is None or came["seq"] > known["seq"]:
        return came
    return min(known, came, key=lambda one: one["seconds"] or math.inf) if came["seq"] == known["seq"] else known


def binary(text, name, lengths):
    """A member in standard base64 with padding, with so many bytes."""
    quoted = re.fullmatch(r'"([A-Za-z0-9+/]*={0,2})"', text or "")
    try:
        data = base64.b64decode(quoted[1], validate=True) if quoted else None
    except ValueError:
        data = None
    if data is None or b64(data) != quoted[1] or len(data) not in lengths:
        raise Refused(f"bad-file {name}")
    return data


def count(raw, name, most):
    text = raw.get(name, "")
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", text) or int(text) > most:
        raise Refused(f"bad-file {name}")
    return int(text)


def parse_file(plaintext):
    """8.7: one of the four kinds or `other`, and the members."""
    kind, text = parse_content(plaintext)
    if not kind.startswith("file"):
        return "other", None
    raw = dict(read_object(text))
    try:
        if kind == "file":
            name = json.loads(raw.get("name", "null"))
            if not isinstance(name, str) or not 1 <= len(name.encode("utf-8", "strict")) <= 255:
                return "other", None
            size, chunk = count(raw, "size", 1 << 40), count(raw, "chunk", 48_000)
            if chunk < 1_024:
                return "other", None
            sha256, key = binary(raw.get("sha256"), "sha256", [32]), binary(raw.get("key"), "key", [32])
            return kind, {
                "name": name, "size": size, "sha256": b64(sha256), "chunk": chunk, "key": b64(key),
                "chunks": chunk_count(size, chunk),
            }
        if kind not in ("file-request", "file-chunk", "file-end"):
            return "other", None
        found = {"file": json.loads(raw.get("file", "null"))}
        if not isinstance(found["file"], str):
            return "other", None
        message_id(found["file"])
        if kind == "file-request":
            found |= {member: count(raw, member, (1 << 32) - 1) for member in ("have", "first", "until")}
            if not (found["have"] <= found["first"] < found["until"] <= found["first"] + 64):
                return "other", None
        elif kind == "file-chunk":
            found["index"] = count(raw, "index", (1 << 32) - 1)
            found["data"] = b64(binary(raw.get("data"), "data", range(16, 48_017)))
        else:
            state = json.loads(raw.get("state", "null"))
            if not isinstance(state, str):
                return "other", None
            known = state in ("received", "declined", "damaged", "withdrawn")
            found["state"] = state if known else "other"
        return kind, found
    except (Refused, UnicodeEncodeError):
        return "other", None


def chunk_count(size, chunk):
    return max(1, -(-size // chunk))


def open_chunk(key, size, chunk, index, data):
    """8.7: the chunk's bytes."""
    chunks = chunk_count(size, chunk)
    if index >= chunks or len(data) != min(chunk, size - index * chunk) + 16:
        raise Refused("chunk")
    nonce = bytes(7) + struct.pack(">IB", index, index + 1 == chunks)
    try:
        return AESGCM(key).decrypt(nonce, data, None)
    except InvalidTag:
        raise Refused("chunk") from None


UNSEEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
# Unicode's property White_Space.
WHITE = "\x09-\x0d \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def saved_name(name):
    """8.7: the name under which a file is saved."""
    ends = f"[.{WHITE}{UNSEEN}]+"
    parts = [part for part in re.split(r"[/\\]", name) if not re.fullmatch(f"(?:{ends})?", part)]
    name = parts[-1] if parts else ""
    name = re.sub(f"[{UNSEEN}]", "", name)
    name = re.sub(f"[{WHITE}]", " ", re.sub(r'[<>:"|?*]', "_", name))
    name = re.sub(f"^{ends}|{ends}$", "", name)
    if len(name.encode()) > 200:
        dot = name.rfind(".")
        ending = name[dot:] if dot >= 0 and len(name[dot:].encode()) <= 16 else ""
        name = name.encode()[: 200 - len(ending.encode())].decode(errors="ignore") + ending
        name = re.sub(f"{ends}$", "", name)
    stem = name.split(".")[0].rstrip().lower()
    if re.fullmatch(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\xb9\xb2\xb3]", stem):
        name = "_" + name
    return name or "file"


def printable(text):
    """8.1: what may reach a terminal."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", text)


# --- 7 The envelope ---------------------------------------------------------------------------------------------------


class Envelope:
    NAMES = [
        "v", "suite", "realm", "id", "prev", "ts", "from", "to", "key", "signer",
        "enc_key", "nonce", "ciphertext", "sig",
    ]

    def header(self):
        """7.2"""
        return [
            self.realm, VERSION, SUITE, self.id, self.prev or b"", u64(self.ts),
            self.sender, self.to, self.key, self.signer,
        ]

    def aad(self):
        return transcript("sealpost/1 aad", *self.header())

    def signed(self):
        return transcript("sealpost/1 envelope", *self.header(), self.enc_key, self.nonce, self.ciphertext)

    def digest(self):
        return hashlib.sha256(self.signed()).digest()

    def encode(self):
        return write([
            ("v", Bare(1)),
            ("suite", SUITE),
            ("realm", self.realm),
            ("id", id_text(self.id)),
            ("prev", self.prev and id_text(self.prev)),
            ("ts", Bare(time_text(self.ts))),
            ("from", self.sender),
            ("to", self.to),
            ("key", b64(self.key)),
            ("signer", b64(self.signer)),
            ("enc_key", b64(self.enc_key)),
            ("nonce", b64(self.nonce)),
            ("ciphertext", b64(self.ciphertext)),
            ("sig", b64(self.sig)),
        ]).encode("ascii")

    @staticmethod
    def parse(data):
        """7.5 step 1"""
        if len(data) > MAX_ENVELOPE:
            raise Refused("too-large")
        pairs = read_object(utf8(data))
        version(pairs)
        m = Members(pairs, Envelope.NAMES)
        if m.text("suite") != SUITE:
            raise Refused("unknown-suite")
        e = Envelope()
        e.data = data
        e.realm, e.id, e.prev, e.ts = m.realm("realm"), m.id("id"), m.id("prev", optional=True), m.time("ts")
        e.sender, e.to = m.user("from"), m.user("to")
        e.key, e.signer = m.binary("key", 32, 32), identity_member(m, "signer")
        e.enc_key, e.nonce = m.binary("enc_key", 256, 512), m.binary("nonce", 12, 12)
        e.ciphertext, e.sig = m.binary("ciphertext", 256 + 16, MAX_PLAINTEXT + 16), m.binary("sig", 64, 64)
        if padded_length(len(e.ciphertext) - 16) != len(e.ciphertext) - 16:
            raise Refused("wrong-length ciphertext")
        if e.encode() != data:
            raise Refused("not-canonical")
        return e


def new_message_id(now, random=None):
    b = bytearray(now.to_bytes(6, "big") + (random or os.urandom(10)))
    b[6] = b[6] & 0x0F | 0x70
    b[8] = b[8] & 0x3F | 0x80
    return bytes(b)


def seal(identity, realm, sender, bundle, content, prev, now):
    """7.3"""
    bundle.check_time(now)
    if not bundle.usable_keys():
        raise Refused("no-encryption-key")
    spki = bundle.usable_keys()[0]
    e = Envelope()
    e.realm, e.id, e.prev, e.ts, e.sender, e.to = realm, new_message_id(now), prev, now, sender, bundle.user
    e.key, e.signer = key_id(realm, bundle.identity, spki), identity.key
    sealing_key = os.urandom(32)
    e.nonce = os.urandom(12)
    e.enc_key = load_encryption_key(spki).encrypt(sealing_key, OAEP)
    e.ciphertext = AESGCM(sealing_key).encrypt(e.nonce, pad(content), e.aad())
    e.sig = identity.sign(e.signed())
    return Envelope.parse(e.encode())


def open_envelope(e, realm, user, identity_key, decryption_keys, pin, seen, floor, failures):
    """7.5 steps 2 to 10, for a parsed envelope.

    `pin` is the pin for e.sender or None, `seen(id)` tells whether that id of this sender was seen, `floor` is the
    sender's floor or 0, `failures` the signer's count. Gives the kind, and the text or the JSON.
    """
    if e.to != user:
        raise Refused("not-for-me")
    if e.realm != realm:
        raise Refused("wrong-realm")
    if pin is None:
        raise Refused("unpinned")
    if e.signer != pin["identity"]:
        raise Refused("signer-is-not-pinned")
    verify(e.signer, e.signed(), e.sig)
    if seen(e.id):
        raise Refused("already-seen")
    if e.ts < floor:
        raise Refused("below-floor")
    if failures >= MAX_FAILURES:
        raise Refused("suspended")
    for key in decryption_keys:
        if key_id(realm, identity_key, key.spki) == e.key:
            break
    else:
        raise Refused("unknown-key")
    sealing_key = key.unwrap(e.enc_key)
    try:
        plaintext = AESGCM(sealing_key).decrypt(e.nonce, e.ciphertext, e.aad())
    except InvalidTag:
        raise Refused("cannot-decrypt") from None
    try:
        return parse_content(plaintext)
    except Refused as refused:
        raise Refused(f"bad-content {refused}") from None


# --- 9 The safety number ----------------------------------------------------------------------------------------------


def half(realm, user, identity):
    h = hashlib.sha512(transcript("sealpost/1 safety", realm, user, identity)).digest()
    for _ in range(5200):
        h = hashlib.sha512(h + identity).digest()
    return "".join(f"{int.from_bytes(h[5 * g : 5 * g + 5], 'big') % 100_000:05d}" for g in range(6))


def safety_number(realm, one, other):
    """`one` and `other` are (user, identity key)."""
    digits = "".join(sorted([half(realm, *one), half(realm, *other)]))
    return " ".join(digits[i : i + 5] for i in range(0, 60, 5))


# --- 9.2, 9.3 The verification text, the contact link ----------------------------------------------------------------

PLAIN = "A-Za-z0-9._~:/-"


def uri(text, start, members):
    """The members of a `sealpost:` URI by name, raw."""
    if len(text) > 1024:
        raise Refused("too-long")
    if not text.startswith(start):
        raise Refused("other-start")
    given = [member.partition("=") for member in text[len(start) :].split("&")]
    if given[0][:2] != ("v", "="):
        raise Refused("wrong-members")
    if given[0][2] != "1":
        raise Refused("unknown-version")
    if [name + sign for name, sign, _ in given[1:]] != [name + "=" for name in members]:
        raise Refused("wrong-members")
    values = {name: value for name, _, value in given[1:]}
    for name in ("realm", "user", "contact"):
        if name in values:
            try:
                (realm_name if name == "realm" else user_name)(values[name])
            except Refused:
                raise Refused(f"bad-name {name}") from None
    for name in ("identity", "sees"):
        if name in values:
            if not re.fullmatch("[A-Za-z0-9_-]{43}", values[name]):
                raise Refused(f"bad-key {name}")
            key = base64.urlsafe_b64decode(values[name] + "=")
            try:
                check_identity_key(key)
            except Refused:
                raise Refused(f"bad-key {name}") from None
            values[name] = key
    return values


def contact_link(text):
    values = uri(text, "sealpost:contact?", ["realm", "user", "identity", "broker"])
    broker = values["broker"]
    if not re.fullmatch(f"(?:[{PLAIN}]|%[0-9A-F]{{2}})*", broker):
        raise Refused("bad-broker")
    escapes = [chr(int(code, 16)) for code in re.findall("%(..)", broker)]
    if any(not "!" <= one <= "~" or re.fullmatch(f"[{PLAIN}]", one) for one in escapes):
        raise Refused("bad-broker")
    values["broker"] = re.sub("%(..)", lambda code: chr(int(code.group(1), 16)), broker)
    if not 1 <= len(values["broker"]) <= 255:
        raise Refused("bad-broker")
    return values


def verification_text(text):
    return uri(text, "sealpost:verify?", ["realm", "user", "identity", "contact", "sees"])


# --- 10.2 The login token ---------------------------------------------------------------------------------------------


def login_transcript(realm, user, client_id, key, issued, nonce, binding):
    return transcript("sealpost/1 login", realm, user, client_id, key, u64(issued), nonce, binding)


def login_token(identity, realm, user, client_id, issued, nonce=None, binding=b""):
    nonce = nonce or os.urandom(16)
    signature = identity.sign(login_transcript(realm, user, client_id, identity.key, issued, nonce, binding))
    token = identity.key + u64(issued) + nonce + signature
    return base64.urlsafe_b64encode(token).decode("ascii").rstrip("=")


def check_login_token(text, realm, user, client_id, now, binding=b""):
    """Steps 1 to 3 of the broker's checks."""
    if len(text) != 160:
        raise Refused("wrong-length")
    if not re.fullmatch(r"[A-Za-z0-9_-]{160}", text):
        raise Refused("bad-base64")
    token = base64.urlsafe_b64decode(text)
    key, issued, nonce, signature = token[:32], int.from_bytes(token[32:40], "big"), token[40:56], token[56:]
    try:
        check_identity_key(key)
    except Refused as refused:
        raise Refused(f"bad-key {refused}") from None
    if issued > 9_999_999_999_999:
        raise Refused("bad-time")
    if now - issued > LOGIN_WINDOW:
        raise Refused("expired")
    if issued - now > LOGIN_WINDOW:
        raise Refused("from-the-future")
    verify(key, login_transcript(realm, user, client_id, key, issued, nonce, binding), signature)
    return key


def invitation_identity(text):
    prefix = "sealpost-invitation-"
    if not re.fullmatch(prefix + "[A-Za-z0-9_-]{43}", text):
        raise Refused("not-an-invitation")
    return Identity(base64.urlsafe_b64decode(text[len(prefix) :] + "="))


def invitation_key(text):
    return invitation_identity(text).key


def acceptance_transcript(realm, user, token):
    token = base64.urlsafe_b64decode(token)
    return transcript("sealpost/1 invitation", realm, user, token[:32], token[32:40], token[40:56])


def accept(invitation, realm, user, token):
    """The password that claims `user` with this token."""
    signature = invitation_identity(invitation).sign(acceptance_transcript(realm, user, token))
    return token + "." + base64.urlsafe_b64encode(signature).decode("ascii").rstrip("=")


def check_acceptance(password, realm, user, key):
    token, dot, acceptance = password.partition(".")
    if not dot:
        raise Refused("no-acceptance")
    if not re.fullmatch(r"[A-Za-z0-9_-]{86}", acceptance):
        raise Refused("bad-acceptance")
    verify(key, acceptance_transcript(realm, user, token), base64.urlsafe_b64decode(acceptance + "=="))
