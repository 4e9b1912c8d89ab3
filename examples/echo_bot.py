#!/usr/bin/env python3
"""Answers every text with the same text. Needs Python 3 alone, and a running `sealpost daemon`:

    python3 echo_bot.py ~/.local/share/sealpost/echo/daemon/daemon.sock

A message is acknowledged when its answer is on disk. After a crash in between it comes again, and is answered again.
"""
import itertools
import json
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
lines = connection.makefile("rw", encoding="utf-8", newline="\n")
numbers = itertools.count(1)
unacknowledged = {}  # the number of our `send` -> the message that it answers


def call(method, **params):
    number = next(numbers)
    request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    print(json.dumps(request), file=lines, flush=True)
    return number


call("subscribe", ack="manual")
for line in lines:
    said = json.loads(line)
    event = said.get("params", {})
    if event.get("event") == "message":
        message = {"from": event["from"], "id": event["id"]}
        if event["kind"] == "text":
            unacknowledged[call("send", to=event["from"], text=event["text"])] = message
        else:
            call("ack", **message)
    elif "error" in said:
        sys.exit(f"{said['error']['message']}\n  {said['error']['data']['hint']}")
    elif said.get("id") in unacknowledged:
        call("ack", **unacknowledged.pop(said["id"]))
sys.exit("the daemon has ended")
