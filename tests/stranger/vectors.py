"""Replays the test vectors (section 16 of core/SPEC.md): every case must have exactly the outcome it states."""

import base64
import functools
import hashlib
import json
import os
import sys

import encoding
import sealpost
from encoding import Refused, b64
from sealpost import Bundle, DecryptionKey, Envelope, Identity


class Mismatch(Exception):
    """A case came out otherwise."""


def same(what, got, expected):
    if got != expected:
        raise Mismatch(f"{what}: {got!r}, expected {expected!r}")


def d64(text):
    return base64.b64decode(text, validate=True)


def wire(given):
    data = given["text"].encode("utf-8") if "text" in given else d64(given.get("base64", ""))
    return data + b" " * given.get("spaces", 0)


def outcome(expect, attempt):
    """Runs `attempt`: its value when it succeeds as expected, None when it is refused as expected."""
    try:
        value = attempt()
    except Refused as refused:
        # «refused» leaves the name open.
        if expect != "refused":
            same("outcome", str(refused), expect)
        return None
    same("outcome", "ok", expect)
    return value


@functools.cache
def decryption_key(pkcs8):
    """Loading one checks its primes, which takes longer than using it."""
    return DecryptionKey(d64(pkcs8))


def person(case, people):
    identity = Identity(d64(case["seed"]))
    same("identity", b64(identity.key), case["identity"])
    same("fingerprint", sealpost.fingerprint(identity.key), case["fingerprint"])
    if "rsa" in case:
        same("SPKI", b64(decryption_key(case["rsa"]).spki), case["encryption"])


def name(case, people):
    parse = {
        "user": encoding.user_name,
        "realm": encoding.realm_name,
        "topic": sealpost.parse_topic,
        "filter": lambda text: sealpost.parse_topic(text, filters=True),
        "time": encoding.time_millis,
        "message-id": encoding.message_id,
    }[case["what"]]
    value = outcome(case["expect"], lambda: parse(case["text"]))
    if case.get("millis") is not None:
        same("milliseconds", value, case["millis"])
        same("time", encoding.time_text(value), case["text"])


def transcript(case, people):
    fields = [bytes.fromhex(field["hex"]) for field in case["fields"]]
    data = encoding.transcript(case["label"], *fields)
    same("transcript", data.hex(), case["hex"])
    same("SHA-256", hashlib.sha256(data).hexdigest(), case["sha256_hex"])
    if "signature" in case:
        identity = Identity(d64(people[case["signer"]]["seed"]))
        same("signature", b64(identity.sign(data)), case["signature"])


def identity_key(case, people):
    outcome(case["expect"], lambda: sealpost.check_identity_key(d64(case["key"])))


def signature(case, people):
    def attempt():
        try:
            sealpost.verify(d64(case["key"]), d64(case["message"]), d64(case["signature"]))
        except Refused:
            raise Refused("bad") from None

    outcome(case["expect"], attempt)


def encryption_key(case, people):
    outcome(case["expect"], lambda: sealpost.load_encryption_key(d64(case["key"])))


def key_id(case, people):
    value = sealpost.key_id(case["realm"], d64(case["identity"]), d64(case["encryption"]))
    same("key id", b64(value), case["id"])


def bundle(case, people):
    value = outcome(case["expect"], lambda: Bundle.parse(wire(case["bundle"])))
    if value is not None:
        same("digest", b64(value.digest()), case["digest"])
        same("usable keys", len(value.usable_keys()), case["usable_keys"])


def pin(given):
    if given is None:
        return None
    return given | {"identity": d64(given["identity"]), "digest": d64(given["digest"])}


def trust(case, people):
    now = encoding.time_millis(case["now"])
    value = Bundle.parse(wire(case["bundle"]))
    try:
        result, stored = sealpost.assess(pin(case.get("pin")), value, case["realm"], case["user"], now)
    except Refused as refused:
        result, stored = str(refused), None
    same("outcome", result, case["expect"])
    same("pin", stored, pin(case.get("store")))


def envelope(case, people):
    value = outcome(case["expect"], lambda: Envelope.parse(wire(case["envelope"])))
    if value is None:
        return
    same("digest", b64(value.digest()), case["digest"])
    try:
        sealpost.verify(value.signer, value.signed(), value.sig)
        holds = True
    except Refused:
        holds = False
    same("signature holds", holds, case["signature_holds"])


def says(value, expected):
    kind, text = value
    same("kind", kind, expected["kind"])
    same("content", text, expected[kind if kind in ("text", "receipt") else "json"])


def opening(case, people):
    keys = [decryption_key(people[name]["rsa"]) for name in case["keys"]]
    seen = {encoding.message_id(text) for text in case.get("seen", [])}
    floor = encoding.time_millis(case["floor"]) if case.get("floor") else 0
    value = outcome(
        case["expect"],
        lambda: sealpost.open_envelope(
            Envelope.parse(wire(case["envelope"])),
            case["realm"],
            case["user"],
            d64(case["identity"]),
            keys,
            {"identity": d64(case["pinned"])},
            lambda message_id: message_id in seen,
            floor,
            failures=0,
        ),
    )
    if value is not None:
        says(value, case["content"])


def padding(case, people):
    same("padded length", sealpost.padded_length(case["length"]), case["padded"])


def content(case, people):
    value = outcome(case["expect"], lambda: sealpost.parse_content(wire(case["plaintext"])))
    if value is not None:
        says(value, case["content"])


def reading(case, people):
    what, members = sealpost.parse_reading(case["content"].encode("utf-8"))
    same("form", what, case["expect"])
    same("members", members, case.get("reading") or case.get("gap"))


def conversation(case, people):
    what, said = sealpost.parse_conversation(case["content"].encode("utf-8"))
    same("form", what, case["expect"])
    same("members", said, {member: case[member] for member in ("text", "from", "id", "seconds", "seq") if member in case})


def expiry(case, people):
    counts = None
    for came in case["came"]:
        counts = sealpost.later_expiry(counts, came, encoding.time_millis(case["now"]))
    same("setting", counts, case["counts"])


def file(case, people):
    what, members = sealpost.parse_file(case["content"].encode("utf-8"))
    same("form", what, case["expect"])
    same("members", members, case.get("says"))


def file_chunk(case, people):
    place = case["size"], case["chunk"], case["index"], d64(case["data"])
    outcome(
        "ok" if case["expect"] == "ok" else "refused",
        lambda: same("chunk", b64(sealpost.open_chunk(d64(case["key"]), *place)), case["plaintext"]),
    )


def file_name(case, people):
    same("name", sealpost.saved_name(case["name"]), case["saved"])


def login(case, people):
    outcome(
        case["expect"],
        lambda: sealpost.check_login_token(
            case["token"],
            case["realm"],
            case["user"],
            case["client_id"],
            encoding.time_millis(case["now"]),
            d64(case["channel_binding"]),
        ),
    )


def invitation(case, people):
    same("invitation's key", sealpost.invitation_key(case["invitation"]), d64(case["key"]))
    outcome(
        case["expect"],
        lambda: sealpost.check_acceptance(case["password"], case["realm"], case["user"], d64(case["key"])),
    )
    if case["expect"] == "ok":
        token = case["password"].split(".")[0]
        again = sealpost.accept(case["invitation"], case["realm"], case["user"], token)
        same("password", again, case["password"])


def safety_number(case, people):
    one, other = [(party["user"], d64(party["identity"])) for party in case["parties"]]
    same("safety number", sealpost.safety_number(case["realm"], one, other), case["number"])


def uri(case, people):
    def attempt():
        read = sealpost.contact_link if case["what"] == "contact" else sealpost.verification_text
        for member, value in read(case["text"]).items():
            same(member, value, d64(case[member]) if member in ("identity", "sees") else case[member])

    outcome(case["expect"], attempt)


FILES = {
    "people.json": person,
    "names.json": name,
    "transcripts.json": transcript,
    "identity_keys.json": identity_key,
    "signatures.json": signature,
    "encryption_keys.json": encryption_key,
    "key_ids.json": key_id,
    "bundles.json": bundle,
    "trust.json": trust,
    "envelopes.json": envelope,
    "openings.json": opening,
    "padding.json": padding,
    "content.json": content,
    "readings.json": reading,
    "conversation.json": conversation,
    "expiries.json": expiry,
    "files.json": file,
    "file_chunks.json": file_chunk,
    "file_names.json": file_name,
    "logins.json": login,
    "invitations.json": invitation,
    "uris.json": uri,
    "safety_numbers.json": safety_number,
}


def load(folder, file_name):
    with open(os.path.join(folder, file_name), encoding="utf-8") as file:
        return json.load(file)["cases"]


def run(folder):
    """Prints what failed and the counts; 0 if nothing failed. A file this program does not know is a failure."""
    passed = failed = 0
    people = {case["name"]: case for case in load(folder, "people.json")}
    present = {entry for entry in os.listdir(folder) if entry.endswith(".json")}
    for file_name in sorted(present ^ set(FILES)):
        print(f"{file_name}: {'unknown' if file_name in present else 'missing'}", file=sys.stderr)
        failed += 1
    for file_name in sorted(present & set(FILES)):
        for index, case in enumerate(load(folder, file_name)):
            try:
                FILES[file_name](case, people)
                passed += 1
            except Exception as error:  # whatever it is, the case has failed
                about = case.get("name") or case.get("text") or index
                print(f"{file_name}: {about}: {type(error).__name__}: {error}", file=sys.stderr)
                failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
