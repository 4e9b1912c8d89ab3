"""A device that speaks Sealpost: it sends readings sealed, and receives what is sealed for it. MQTT 5, with paho-mqtt.

    python sensor.py --user NAME --home DIR send TO    # seals each line of standard input
    python sensor.py --user NAME --home DIR listen     # prints a line of JSON for each message
"""
import argparse
import json
import os
import queue
import ssl
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bundle import Bundle
from envelope import Burst, Envelope
from home import Home, now, say, write
from keys import REALM, USER, Refused, ensure, matching, time_text

WINDOW = 64  # messages on their way at once: what a crash sends again, and what memory holds
MAX_WAITING = 256  # envelopes of senders whose bundle is not here yet (7.8)
NO_BUNDLE = 5  # seconds after which there is none (10.6)
AGAIN_LATER = {0x80, 0x83, 0x97}  # PUBACKs after which the same bytes are sent again (10.5)
NO_WAY_IN = {0x84, 0x85, 0x86, 0x87, 0x8C}  # CONNACKs that will be no others next time (10.2)
MONTH = 30 * 86_400


class Link:
    """A connection that comes back by itself, each time with a token minted for it."""

    def __init__(self, home, options, purpose, session, topics, on_message, on_publish=None):
        client_id = f"sensor-{purpose}"
        password = Path(options.password_file).read_text().split("\n")[0] if options.password_file else None
        self.home, self.topics = home, topics
        self.ready, self.lock = threading.Event(), threading.Lock()
        self.client = client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5, manual_ack=True)
        client.on_pre_connect = lambda c, _: c.username_pw_set(home.user, password or home.token(client_id))
        client.on_connect, client.on_subscribe, client.on_disconnect = self.connected, self.subscribed, self.disconnected
        client.on_message, client.on_publish = on_message, on_publish
        client.reconnect_delay_set(1, 60)
        client.max_inflight_messages_set(0)  # no second window below ours: after a reconnection, paho would mix the two
        url = urlsplit(options.broker)
        if url.scheme == "mqtts":
            client.tls_set(options.ca, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session
        properties.ReceiveMaximum = 16  # below what may wait of one sender: its bundle comes before there are too many (7.8)
        client.connect_async(url.hostname, url.port or (8883 if url.scheme == "mqtts" else 1883), keepalive=30,
                             clean_start=not session, properties=properties)

    def connected(self, client, _, flags, reason, properties):
        if reason.is_failure:
            say(f"the broker refuses the login: {reason}: {getattr(properties, 'ReasonString', '')}")
            if reason.value in NO_WAY_IN:
                os._exit(1)  # from paho's thread; whatever is not sent is in the outbox
            return
        client.publish(f"keys/{self.home.user}", self.home.bundle, qos=1, retain=True)
        client.subscribe([(topic, 1) for topic in self.topics()])

    def subscribed(self, client, _, mid, reasons, properties):
        for reason in reasons:
            if reason.is_failure:
                say(f"the broker refuses a subscription: {reason}")
        if not self.ready.is_set():
            say("connected")
        self.ready.set()

    def disconnected(self, client, _, flags, reason, properties):
        with self.lock:
            self.ready.clear()
        say(f"disconnected: {reason}")

    def publish(self, topic, payload):
        """Only when the subscription stands: by then paho has sent again what was on its way, so all stays in order."""
        while True:
            self.ready.wait()
            with self.lock:
                if self.ready.is_set():
                    return self.client.publish(topic, payload, qos=1)


def reading(number, line):
    """8.4: a line is any JSON, or else text."""
    try:
        value = json.loads(line, parse_constant=lambda _: 1 / 0)
    except (ValueError, ArithmeticError, RecursionError):
        value = line
    return f'{{"kind":"reading","number":{number},"at":{time_text(now())},"reading":{json.dumps(value)}}}'


def send(home, options):
    """Each line goes into the outbox, then to the broker, and out of the outbox when the broker has it on disk."""
    to, outbox = matching(USER, options.to), home.folder / "outbox"
    bundles, acks, flying, refused = queue.Queue(), queue.Queue(), {}, []
    link = Link(home, options, "send", 0, lambda: [f"keys/{to}"], lambda c, _, message: bundles.put(message.payload),
                lambda c, _, mid, reason, properties: acks.put((mid, reason, properties)))

    def publish(path):
        envelope = path.read_bytes()
        flying[link.publish(f"inbox/{Envelope.parse(envelope).to}", envelope).mid] = path

    def settle(mid, reason, properties):  # 10.5
        path = flying.pop(mid, None)  # none: the PUBACK of our bundle
        if reason.is_failure:
            say(f"the broker refuses {path or 'our bundle'}: {reason}: {getattr(properties, 'ReasonString', '')}")
        if path and reason.value in AGAIN_LATER:
            time.sleep(60)
            publish(path)
        elif path and reason.is_failure:
            refused.append(path.rename(home.folder / "refused" / path.name))
        elif path:
            path.unlink()

    link.client.loop_start()
    for path in home.list("outbox"):  # of a run that was cut off: the same bytes
        publish(path)
    bundle, burst, sent = home.believed(to), None, home.folder / "sent" / to
    number, prev = sent.read_text().split() if sent.exists() else (0, "")
    number, prev = int(number), bytes.fromhex(prev)
    for line in sys.stdin:
        while len(flying) >= WINDOW or not acks.empty():
            settle(*acks.get())
        if not bundle:
            link.ready.wait()
        while not bundle or not bundles.empty():
            try:
                bundle, burst = home.reachable(to, bundles.get(timeout=NO_BUNDLE)), None
            except queue.Empty:
                bundle = home.reachable(to, b"")
        if not burst or not burst.lasts(now()):
            burst = Burst(home.identity, home.realm, home.user, bundle, now())
        number += 1
        envelope = burst.seal(reading(number, line.rstrip("\n")), prev, now())
        prev = envelope.id
        # In this order no number is given twice: what is lost in between is missing, as `prev` shows too.
        write(sent, f"{number} {prev.hex()}".encode())
        write(outbox / f"{to}.{number:012}", envelope.encode())
        publish(outbox / f"{to}.{number:012}")
    while flying:
        settle(*acks.get())
    link.client.disconnect()
    link.client.loop_stop()
    return 1 if refused else 0


def listen(home, options):
    """Acknowledges what is stored, put aside until its sender's bundle comes, or refused for good (10.6)."""
    inbox, mine, waiting = f"inbox/{home.user}", f"keys/{home.user}", home.folder / "waiting"

    def theirs(sender): return [path for path in home.list("waiting") if path.name.split(".")[0] == sender]

    def topics():
        for path in home.list("waiting"):
            if time.time() - path.stat().st_mtime > 45 * 86_400:
                path.unlink()
        senders = {path.name for path in home.list("contacts")} | {path.name.split(".")[0] for path in home.list("waiting")}
        return [inbox, mine, *(f"keys/{sender}" for sender in sorted(senders))]

    def show(payload):
        line = home.open(payload)
        if line and line["content"]["kind"] != "receipt":
            print(json.dumps({name: line[name] for name in ("from", "id", "content")}), flush=True)
        return line

    def take(payload):
        if show(payload):
            return
        e = Envelope.parse(payload)
        ours = theirs(e.sender)
        ensure(len(home.list("waiting")) < MAX_WAITING and len(ours) < 32, "too many wait")
        number = int(ours[-1].name.split(".")[1]) + 1 if ours else 0
        write(waiting / f"{e.sender}.{number:012}", payload)
        link.client.subscribe(f"keys/{e.sender}", 1)

    def believe(sender, payload):
        paths = theirs(sender)
        if home.believed(sender) or Bundle.parse(payload).identity in [Envelope.parse(p.read_bytes()).signer for p in paths]:
            home.assess(sender, payload)
            for path in paths:
                attempt(show, path.read_bytes())
                path.unlink()

    def attempt(action, *arguments):
        try:
            action(*arguments)
        except Refused as refused:
            say(f"refused: {refused}")

    def on_message(client, _, message):
        if message.topic == inbox:
            attempt(take, message.payload)
        elif message.topic != mine:
            attempt(believe, message.topic.removeprefix("keys/"), message.payload)
        elif message.payload != home.bundle:
            say("WARNING: somebody else has published a bundle in my name")
        client.ack(message.mid, message.qos)

    link = Link(home, options, "listen", MONTH, topics, on_message)
    link.client.loop_forever(retry_first_connection=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", help="mqtt:// or mqtts://")
    parser.add_argument("--ca", help="the authority's certificate, for mqtts://")
    parser.add_argument("--realm", default="local")
    parser.add_argument("--user", required=True)
    parser.add_argument("--home", required=True, help="the folder for keys and mail")
    parser.add_argument("--password-file", help="sign in with this password, not with the identity key")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("send").add_argument("to")
    commands.add_parser("listen")
    options = parser.parse_args()
    try:
        home = Home(options.home, matching(REALM, options.realm), matching(USER, options.user))
        sys.exit(send(home, options) if options.command == "send" else listen(home, options))
    except Refused as refused:
        sys.exit(f"refused: {refused}")


if __name__ == "__main__":
    main()
