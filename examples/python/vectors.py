"""Holds keys.py, bundle.py and envelope.py against the JSON vectors: python vectors.py ../../tests/vectors"""
import base64
import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

import keys
from bundle import Bundle, assess
from envelope import Envelope, open_envelope, padded, parse_content
from keys import Refused, b64


def d64(text): return base64.b64decode(text)


def wire(given):
    data = given["text"].encode() if "text" in given else d64(given["base64"])
    return data + b" " * given.get("spaces", 0)


def pin(given): return given and SimpleNamespace(identity=d64(given["identity"]), seq=given["seq"],
                                                 digest=d64(given["digest"]), encryption=True)


def seed(person): return Ed25519PrivateKey.from_private_bytes(d64(person["seed"]))


@cache
def load(pkcs8): return load_der_private_key(d64(pkcs8), None)  # checks its primes, which takes longer than using it
def private(person): return load(person["rsa"])


def same(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


def person(c, _):
    same(b64(keys.public_half(seed(c))), c["identity"])
    if "rsa" in c:
        same(b64(keys.spki_of(private(c).public_key())), c["encryption"])


def name(c, _):
    read = {"user": lambda t: keys.matching(keys.USER, t), "realm": lambda t: keys.matching(keys.REALM, t),
            "message-id": keys.message_id, "time": keys.millis}.get(c["what"])
    if not read:  # topics and filters are made here, and never parsed
        return "left out"
    value = read(c["text"])
    if "millis" in c:
        same((value, keys.time_text(value)), (c["millis"], c["text"]))


def transcript(c, people):
    data = keys.transcript(c["label"], *(bytes.fromhex(field["hex"]) for field in c["fields"]))
    same(data.hex(), c["hex"])
    if "signer" in c:
        same(b64(seed(people[c["signer"]]).sign(data)), c["signature"])


def identity_key(c, _): keys.ensure(len(d64(c["key"])) == 32, "wrong-length"), keys.identity_key(d64(c["key"]))
def signature(c, _): keys.verify(d64(c["key"]), d64(c["message"]), d64(c["signature"]))
def encryption_key(c, _): keys.encryption_key(d64(c["key"]))
def key_id(c, _): same(b64(keys.key_id(c["realm"], d64(c["identity"]), d64(c["encryption"]))), c["id"])
def padding(c, _): same(padded(c["length"]), c["padded"])


def bundle(c, _):
    b = Bundle.parse(wire(c["bundle"]))
    same((b64(b.digest), len(b.usable_keys)), (c["digest"], c["usable_keys"]))


def trust(c, _):
    outcome = assess(pin(c.get("pin")), Bundle.parse(wire(c["bundle"])), c["realm"], c["user"], keys.millis(c["now"]))
    same(outcome, c["expect"])


def envelope(c, _):
    e = Envelope.parse(wire(c["envelope"]))
    try:
        holds = keys.verify(e.signer, e.signed(), e.sig) is None
    except Refused:
        holds = False
    same((holds, b64(keys.hashlib.sha256(e.signed()).digest())), (c["signature_holds"], c["digest"]))


def says(content, wanted):
    same(content["kind"], wanted["kind"])
    if "text" in wanted:
        same(content["text"], wanted["text"])


def opening(c, people):
    mine = {}
    for owner in c["keys"]:
        key = private(people[owner])
        mine[keys.key_id(c["realm"], d64(c["identity"]), keys.spki_of(key.public_key()))] = key
    if c["expect"] != "ok" and c["expect"] != "cannot-decrypt" and not c["expect"].startswith("bad-content"):
        mine = dict.fromkeys(mine)  # what is refused before step 8 needs no private key: there is none
    content = open_envelope(Envelope.parse(wire(c["envelope"])), c["realm"], c["user"], mine, [d64(c["pinned"])],
                            [keys.message_id(i) for i in c.get("seen", [])], keys.millis(c.get("floor") or "0.000"), False, {})
    says(content, c["content"])


def content(c, _):
    if b'"receipt"' in wire(c["plaintext"]):  # a device takes a receipt for one more unknown kind
        return "left out"
    says(parse_content(wire(c["plaintext"])), c["content"])


def login(c, people):  # the broker checks tokens; what is made here has to be the good ones
    if c["expect"] != "ok":
        return "left out"
    token = base64.urlsafe_b64decode(c["token"])
    signer = next(p for p in people.values() if d64(p["identity"]) == token[:32])
    made = keys.login_token(seed(signer), c["realm"], c["user"], c["client_id"], int.from_bytes(token[32:40], "big"),
                            token[40:56], d64(c["channel_binding"]))
    same(made, c["token"])


FILES = {"people": person, "names": name, "transcripts": transcript, "identity_keys": identity_key, "signatures": signature,
         "encryption_keys": encryption_key, "key_ids": key_id, "bundles": bundle, "trust": trust, "envelopes": envelope,
         "openings": opening, "padding": padding, "content": content, "logins": login}
# What operators hand out, what people compare and write, and what those check who collect readings: nothing of a device's.
LEFT_OUT = {"invitations", "uris", "safety_numbers", "readings", "conversation", "expiries", "files", "file_chunks",
            "file_names"}
GOOD = {"ok", "first-contact", "unchanged", "newer", "linked-change"}


def main(folder):
    cases = {file.stem: json.loads(file.read_text())["cases"] for file in Path(folder).glob("*.json")}
    assert set(cases) <= set(FILES) | LEFT_OUT, "there are other files than this knows"
    people, count = {p["name"]: p for p in cases["people"]}, Counter()
    for file, run in FILES.items():
        for number, c in enumerate(cases[file], 1):
            try:
                came = run(c, people) or "passed"
                good = came == "left out" or c.get("expect", "ok") in GOOD
            except Refused as refused:
                came, good = f"refused: {refused}", c.get("expect", "ok") not in GOOD
            except Exception as error:
                came, good = f"{type(error).__name__}: {error}", False
            count["left out" if came == "left out" else "passed" if good else "failed"] += 1
            if not good:
                print(f"{file} {number} ({c.get('name')}): {came}, expected {c.get('expect')}", file=sys.stderr)
    count["left out"] += sum(len(cases[file]) for file in LEFT_OUT & set(cases))
    print(f"{count['passed']} passed, {count['failed']} failed, {count['left out']} left out")
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
