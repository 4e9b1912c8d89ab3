"""paho-mqtt connects, subscribes, publishes, and gets back what it has published, whatever its size.

Ends with 0 and one line on standard output, or with 1 and the reason on standard error.
"""

import argparse
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

# Far above what a loaded machine needs, in seconds.
PATIENCE = 60

# Around the borders of WebSocket frames (125 and 65,535 bytes), of TLS records (16 KiB) and of buffers.
SIZES = [0, 1, 100, 125, 126, 4095, 4096, 16383, 16384, 65535, 65536, 98304, 120000]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--transport", choices=["tcp", "websockets"], default="tcp")
    parser.add_argument("--version", choices=["4", "5"], default="5")
    parser.add_argument("--ca", help="the authority's certificate; TLS if given")
    parser.add_argument("--certificate", help="a client certificate, with --key")
    parser.add_argument("--key")
    parser.add_argument("--user", help="a user name to log in with")
    parser.add_argument("--password", help="its password, if it has one")
    parser.add_argument("--connect-only", action="store_true", help="leave after the CONNACK")
    arguments = parser.parse_args()

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id="paho",
        protocol=mqtt.MQTTv5 if arguments.version == "5" else mqtt.MQTTv311,
        transport=arguments.transport,
    )
    if arguments.transport == "websockets":
        client.ws_set_options(path="/mqtt")
    if arguments.ca:
        client.tls_set(
            ca_certs=arguments.ca, certfile=arguments.certificate, keyfile=arguments.key
        )
    if arguments.user:
        client.username_pw_set(arguments.user, arguments.password)

    events: queue.Queue = queue.Queue()
    client.on_connect = lambda _c, _u, _f, reason, _p: events.put(("connected", reason))
    client.on_disconnect = lambda _c, _u, _f, reason, _p: events.put(("disconnected", reason))
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: events.put(("subscribed", reasons[0]))
    client.on_message = lambda _c, _u, message: events.put(("message", message.payload))

    def expect(wanted: str):
        what, value = events.get(timeout=PATIENCE)
        if what != wanted:
            sys.exit(f"{what} ({value}) instead of {wanted}")
        return value

    client.connect(arguments.host, arguments.port, keepalive=30)
    client.loop_start()
    reason = expect("connected")
    if reason.is_failure:
        sys.exit(f"not let in: {reason}")
    if not arguments.connect_only:
        client.subscribe("round/trip", qos=1)
        if expect("subscribed").is_failure:
            sys.exit("the subscription was refused")
        for size in SIZES:
            payload = bytes(number % 251 for number in range(size))
            client.publish("round/trip", payload, qos=1)
            if expect("message") != payload:
                sys.exit(f"{size} bytes came back changed")
    client.disconnect()
    client.loop_stop()
    print("round trip done")


main()
