#!/usr/bin/env python3
"""A second implementation of Sealpost, written from core/SPEC.md alone: a small client, and a runner of the vectors.

    stranger.py --user carol --broker 127.0.0.1:1883 --home DIR publish
    stranger.py --user carol --broker 127.0.0.1:1883 --home DIR send bob TEXT
    stranger.py --user carol --broker 127.0.0.1:1883 --home DIR listen --count N
    stranger.py --user carol --home DIR safety bob
    stranger.py vectors tests/vectors

Its private keys lie in DIR unencrypted: it is a test's tool, not a person's.
"""

import argparse
import base64
import contextlib
import json
import os
import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

import encoding
import sealpost
import vectors
from encoding import Refused
from sealpost import Bundle, DecryptionKey, Envelope, Identity

DAY = 86_400_000
# 7.8
MAX_WAITING = 64


def now_millis():
    return time.time_ns() // 1_000_000


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def e64(data):
    return base64.b64encode(data).decode("ascii")


def d64(text):
    return base64.b64decode(text)


class Home:
    """What must survive: own keys, pins, ids seen, waiting envelopes. One JSON file, replaced as a whole."""

    def __init__(self, folder, realm, user):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.path = os.path.join(folder, f"{user}.json")
        self.realm, self.user = realm, user
        if os.path.exists(self.path):
            with open(self.path, encoding="ascii") as file:
                self.state = json.load(file)
        else:
            self.state = {
                "seed": e64(os.urandom(32)),
                "rsa": [e64(sealpost.new_decryption_key())],
                "seq": None,
                "bundle": None,
                "pins": {},
                "seen": {},
                "floors": {},
                "failures": {},
                "last": {},
                "waiting": [],
            }
            self.save()
        self.identity = Identity(d64(self.state["seed"]))
        self.decryption_keys = [DecryptionKey(d64(der)) for der in self.state["rsa"]]

    def save(self):
        temporary = self.path + ".new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(self.state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def bundle(self):
        """The bundle to publish: the last one while it has half a year left, else a new one (6.4)."""
        now = now_millis()
        if self.state["bundle"] is not None:
            bundle = Bundle.parse(d64(self.state["bundle"]))
            if bundle.expires > now + 180 * DAY:
                return bundle
        seq = sealpost.next_seq(self.state["seq"], now)
        keys = [key.spki for key in self.decryption_keys]
        bundle = Bundle.make(self.identity, self.realm, self.user, seq, now, now + 365 * DAY, keys)
        self.state["seq"], self.state["bundle"] = seq, e64(bundle.data)
        self.save()
        return bundle

    def pin(self, user):
        stored = self.state["pins"].get(user)
        if stored is None:
            return None
        return {
            "identity": d64(stored["identity"]),
            "seq": stored["seq"],
            "digest": d64(stored["digest"]),
            "verified": stored["verified"],
        }

    def assess(self, user, data):
        """6.6: parses and assesses a bundle, stores the pin, and gives bundle and outcome."""
        bundle = Bundle.parse(data)
        outcome, pin = sealpost.assess(self.pin(user), bundle, self.realm, user, now_millis())
        self.state["pins"][user] = {
            "identity": e64(pin["identity"]),
            "seq": pin["seq"],
            "digest": e64(pin["digest"]),
            "verified": pin["verified"],
        }
        self.save()
        if outcome in ("first-contact", "linked-change"):
            say(f"{outcome}: {user} is {sealpost.fingerprint(pin['identity'])}")
        return bundle

    def open(self, envelope):
        """7.5 and 7.6 for a parsed envelope."""
        sender, signer = envelope.sender, e64(envelope.signer)
        seen = self.state["seen"].setdefault(sender, [])
        try:
            kind, text = sealpost.open_envelope(
                envelope,
                self.realm,
                self.user,
                self.identity.key,
                self.decryption_keys,
                self.pin(sender),
                lambda message_id: message_id.hex() in seen,
                self.state["floors"].get(sender, 0),
                self.state["failures"].get(signer, 0),
            )
        except Refused as refused:
            if refused.name == "cannot-decrypt":
                self.state["failures"][signer] = self.state["failures"].get(signer, 0) + 1
                self.save()
            raise
        seen.append(envelope.id.hex())
        self.save()
        return kind, text


class Connection:
    """An MQTT connection whose events come in one queue: ("message", message), ("suback", codes), ("puback", code)."""

    def __init__(self, home, broker, client_id, version, durable, deadline):
        self.home, self.deadline = home, deadline
        self.events = queue.Queue()
        self.version = mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311
        arguments = {} if version == 5 else {"clean_session": not durable}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=self.version, manual_ack=True, **arguments
        )
        self.client.on_connect = lambda c, u, flags, code, p: self.events.put(("connack", (code, p)))
        self.client.on_disconnect = lambda c, u, flags, code, p: self.events.put(("closed", code))
        self.client.on_message = lambda c, u, message: self.events.put(("message", message))
        self.client.on_subscribe = lambda c, u, mid, codes, p: self.events.put(("suback", codes))
        self.client.on_publish = lambda c, u, mid, code, p: self.events.put(("puback", (code, p)))
        token = sealpost.login_token(home.identity, home.realm, home.user, client_id, now_millis())
        self.client.username_pw_set(home.user, token)
        host, _, port = broker.rpartition(":")
        arguments = {}
        if version == 5:
            properties = Properties(PacketTypes.CONNECT)
            if durable:
                properties.SessionExpiryInterval = 30 * 86_400
            arguments = {"clean_start": not durable, "properties": properties}
        self.client.connect(host, int(port), keepalive=30, **arguments)
        self.client.loop_start()
        code, properties = self.wait("connack")
        if code.is_failure:
            raise SystemExit(f"the broker refused the login: {code} {getattr(properties, 'ReasonString', '')}")

    def next(self, otherwise):
        try:
            kind, value = self.events.get(timeout=max(0.01, self.deadline - time.monotonic()))
        except queue.Empty:
            raise SystemExit(otherwise) from None
        if kind == "closed":
            raise SystemExit(f"the broker closed the connection: {value}")
        return kind, value

    def wait(self, wanted, otherwise="nothing more came in time"):
        """Waits for one kind of event; messages that come meanwhile are put back afterwards."""
        others = []
        while True:
            kind, value = self.next(otherwise)
            if kind == wanted:
                for other in others:
                    self.events.put(other)
                return value
            others.append((kind, value))

    def subscribe(self, *topics):
        if self.version == mqtt.MQTTv5:
            self.client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        else:
            self.client.subscribe([(topic, 1) for topic in topics])
        for code in self.wait("suback"):
            if code.is_failure:
                raise SystemExit(f"the broker refused the subscription: {code}")

    def publish(self, topic, data, retain):
        """10.5: success, or the reason as the exit's text."""
        self.client.publish(topic, data, qos=1, retain=retain)
        code, properties = self.wait("puback")
        if code.is_failure:
            raise SystemExit(f"the broker refused the message: {code} {getattr(properties, 'ReasonString', '')}")
        return code

    def ack(self, message):
        if message.qos:
            self.client.ack(message.mid, message.qos)



@contextlib.contextmanager
def connected(arguments, purpose, durable):
    """Home and connection, with the own bundle published."""
    home = Home(arguments.home, encoding.realm_name(arguments.realm), encoding.user_name(arguments.user))
    deadline = time.monotonic() + arguments.timeout
    client_id = f"stranger-{purpose}"
    connection = Connection(home, arguments.broker, client_id, arguments.mqtt, durable, deadline)
    try:
        connection.publish(sealpost.keys_topic(home.user), home.bundle().data, retain=True)
        yield home, connection
    finally:
        connection.client.disconnect()
        connection.client.loop_stop()


def publish(arguments):
    with connected(arguments, "publish", durable=False) as (home, _):
        print(e64(home.identity.key))


def send(arguments):
    with connected(arguments, "send", durable=False) as (home, connection):
        print(encoding.id_text(send_text(home, connection, arguments.to, arguments.text)))


def send_text(home, connection, to, text):
    topic = sealpost.keys_topic(to)
    connection.subscribe(topic)
    while True:
        message = connection.wait("message", f"{to} has published no key bundle")
        connection.ack(message)
        if message.topic == topic:
            break
    bundle = home.assess(to, message.payload)
    last = home.state["last"].get(to)
    prev = bytes.fromhex(last) if last else None
    content = sealpost.text_content(text)
    envelope = sealpost.seal(home.identity, home.realm, home.user, bundle, content, prev, now_millis())
    connection.publish(sealpost.inbox_topic(to), envelope.data, retain=False)
    home.state["last"][to] = envelope.id.hex()
    home.save()
    return envelope.id


def listen(arguments):
    with connected(arguments, "listen", durable=True) as (home, connection):
        receive(home, connection, arguments.count)


def safety(arguments):
    """9: the number to compare with somebody who is pinned."""
    home = Home(arguments.home, encoding.realm_name(arguments.realm), encoding.user_name(arguments.user))
    pin = home.pin(arguments.with_whom)
    if pin is None:
        raise SystemExit(f"{arguments.with_whom} is not pinned")
    print(sealpost.safety_number(home.realm, (home.user, home.identity.key), (arguments.with_whom, pin["identity"])))


def receive(home, connection, count):
    inbox = sealpost.inbox_topic(home.user)
    connection.subscribe(inbox, sealpost.keys_topic(home.user))
    for sender in {Envelope.parse(d64(data)).sender for data in home.state["waiting"]} | set(home.state["pins"]):
        connection.subscribe(sealpost.keys_topic(sender))
    say("listening")
    shown = 0

    def show(envelope):
        try:
            kind, text = home.open(envelope)
        except Refused as refused:
            say(f"from {envelope.sender}: {refused}")
            return 0
        said = text if kind == "text" else f"[{kind}] {text}"
        print(f"From {envelope.sender}: {sealpost.printable(said)}", flush=True)
        return 1

    while shown < count:
        message = connection.wait("message")
        try:
            if message.topic == inbox:
                if message.retain:
                    raise Refused("retained")
                envelope = Envelope.parse(message.payload)
                if home.pin(envelope.sender) is not None:
                    shown += show(envelope)
                elif len(home.state["waiting"]) < MAX_WAITING:
                    # 7.8: unopened until the sender's bundle is here.
                    home.state["waiting"].append(e64(message.payload))
                    home.save()
                    connection.subscribe(sealpost.keys_topic(envelope.sender))
            elif message.topic == sealpost.keys_topic(home.user):
                if message.payload != home.bundle().data:
                    say("warning: somebody else published a bundle as me")
            else:
                sender = message.topic.partition("/")[2]
                pinned = home.pin(sender)
                bundle = Bundle.parse(message.payload)
                waiting = [Envelope.parse(d64(data)) for data in home.state["waiting"]]
                ours = [e for e in waiting if e.sender == sender]
                if pinned is not None or any(e.signer == bundle.identity for e in ours):
                    home.assess(sender, message.payload)
                    home.state["waiting"] = [e64(e.encode()) for e in waiting if e.sender != sender]
                    for envelope in ours:
                        shown += show(envelope)
                    home.save()
        except Refused as refused:
            say(f"{message.topic}: {refused}")
        connection.ack(message)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--user")
    parser.add_argument("--broker", default="127.0.0.1:1883")
    parser.add_argument("--home", default="stranger-home")
    parser.add_argument("--realm", default="local")
    parser.add_argument("--mqtt", type=int, choices=[4, 5], default=5, help="MQTT 3.1.1 is protocol level 4")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for the whole command")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("publish").set_defaults(run=publish)
    command = commands.add_parser("send")
    command.set_defaults(run=send)
    command.add_argument("to")
    command.add_argument("text")
    command = commands.add_parser("listen")
    command.set_defaults(run=listen)
    command.add_argument("--count", type=int, default=1)
    command = commands.add_parser("safety")
    command.set_defaults(run=safety)
    command.add_argument("with_whom", metavar="with")
    command = commands.add_parser("vectors")
    command.add_argument("folder")
    command.set_defaults(run=lambda arguments: sys.exit(vectors.run(arguments.folder)))
    arguments = parser.parse_args()
    if arguments.run in (publish, send, listen, safety) and arguments.user is None:
        parser.error("--user is needed")
    try:
        arguments.run(arguments)
    except Refused as refused:
        raise SystemExit(f"refused: {refused}") from None


if __name__ == "__main__":
    main()
