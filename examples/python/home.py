"""What a device keeps in its folder: keys, contacts' bundles, mail on its way, and what it received."""
import json
import os
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from bundle import ALG, Bundle, assess
from envelope import Envelope, open_envelope
from keys import DAY, Refused, ensure, id_text, key_id, login_token, message_id, public_half, spki_of

MAX_SEEN = 4_096  # ids remembered of each sender, before its floor is raised (7.6)


def now(): return time.time_ns() // 1_000_000
def say(*words): print(*words, file=sys.stderr, flush=True)


def write(path, data):
    """The file has the old bytes or the new, whenever the power goes."""
    new = path.with_name(f".{path.name}.{os.getpid()}")  # `send` and `listen` may write the same file
    with open(new, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


class Home:
    """What survives: keys, contacts' bundles, mail on its way out, mail that waits, and what was received."""

    def __init__(self, folder, realm, user):
        os.umask(0o077)  # the keys lie here in the clear, as nobody is there to type a passphrase (5.5)
        self.folder, self.realm, self.user = Path(folder), realm, user
        for name in ("contacts", "outbox", "sent", "refused", "waiting", "failures"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.identity = Ed25519PrivateKey.from_private_bytes(self.kept("identity", lambda: os.urandom(32)))
        self.secret = load_der_private_key(self.kept("decryption_key", lambda: rsa.generate_private_key(65537, 3072).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption())), None)
        self.me = public_half(self.identity)
        spki = spki_of(self.secret.public_key())
        self.keys, self.opened = {key_id(realm, self.me, spki): self.secret}, {}
        self.received = self.folder / "received.jsonl"
        self.seen, self.floor = {}, {}
        self.load_received()
        # 6.4: the bundle is made again half a year before it expires.
        last = Bundle.parse(self.kept("bundle", lambda: self.sign_bundle(spki, 0)))
        self.bundle = last.encode() if now() < last.expires - 180 * DAY else self.sign_bundle(spki, last.seq)
        write(self.folder / "bundle", self.bundle)

    def list(self, name): return sorted(path for path in (self.folder / name).iterdir() if not path.name.startswith("."))

    def token(self, client_id): return login_token(self.identity, self.realm, self.user, client_id, now(), os.urandom(16))

    def kept(self, name, make):
        path = self.folder / name
        if not path.exists():
            write(path, make())
        return path.read_bytes()

    def sign_bundle(self, spki, last):
        t = now()
        b = Bundle(self.realm, self.user, max(last + 1, t // 1000), t, t + 365 * DAY, self.me, [(ALG, spki)], [])
        b.sig = self.identity.sign(b.transcript())
        return b.encode()

    def believed(self, user):
        path = self.folder / "contacts" / user
        return Bundle.parse(path.read_bytes()) if path.exists() else None

    def assess(self, user, payload):
        """6.6: believes a bundle and stores it, or refuses it. What is believed is the pin."""
        pin, bundle = self.believed(user), Bundle.parse(payload)
        outcome = assess(pin, bundle, self.realm, user, now())
        if outcome in ("first-contact", "linked-change"):
            say(f"{outcome}: {user} is {bundle.identity.hex()}")
        if outcome != "unchanged":
            write(self.folder / "contacts" / user, payload)

    def reachable(self, user, payload):
        """The bundle to seal for: this one, or that believed before when the broker has none, or an old one (6.6)."""
        try:
            if payload:
                self.assess(user, payload)
            else:
                say(f"the broker has no bundle of {user}")
        except Refused as refused:
            say(f"the bundle of {user}: {refused}")
            if str(refused) == "identity-changed":
                raise
        bundle = self.believed(user)
        ensure(bundle, f"nothing is known of {user}")
        return bundle

    def load_received(self):
        """received.jsonl is both the mail and the ids seen, so that storing one and marking the other is one write (7.6)."""
        data = self.received.read_bytes() if self.received.exists() else b""
        whole = data[:data.rfind(b"\n") + 1]  # the power may have gone in the middle of a line
        if whole != data:
            write(self.received, whole)
        for line in whole.splitlines():
            self.remember(json.loads(line))

    def remember(self, line):
        seen = self.seen.setdefault(line["from"], {})
        seen[message_id(line["id"])] = line["ts"]
        if len(seen) > MAX_SEEN:  # the older half is covered by the floor
            for ident, ts in sorted(seen.items(), key=lambda entry: entry[1])[:MAX_SEEN // 2]:
                del seen[ident]
                self.floor[line["from"]] = ts + 1

    def open(self, payload):
        """7.5 and 7.6; gives the line to print. `None`: the sender's bundle is needed first (7.8)."""
        e = Envelope.parse(payload)
        pin = self.believed(e.sender)
        if pin is None and e.to == self.user:
            return None
        # Mail is under way when its sender changes identity: 45 days for the old one.
        signers = [pin.identity] + [old for old, _, at, _ in pin.links if now() < at + 45 * DAY] if pin else []
        failures = self.folder / "failures" / e.signer.hex()  # a byte for each (7.7)
        suspended = failures.exists() and failures.stat().st_size >= 3
        try:
            content = open_envelope(e, self.realm, self.user, self.keys, signers, self.seen.get(e.sender, {}),
                                    self.floor.get(e.sender, 0), suspended, self.opened)
        except Refused as refused:
            if str(refused) == "cannot-decrypt":
                write(failures, b"." * (1 + (failures.stat().st_size if failures.exists() else 0)))
            raise
        line = {"from": e.sender, "id": id_text(e.id), "ts": e.ts, "content": content}
        with open(self.received, "a") as file:
            print(json.dumps(line), file=file, flush=True)
            os.fsync(file.fileno())
        self.remember(line)
        return line
