"""Section 4 of core/SPEC.md: the one encoding, and transcripts."""

import base64
import json
import re
import struct


class Refused(Exception):
    """Something did not pass a check. The text begins with the name of section 13, as the vectors write it."""

    @property
    def name(self):
        return str(self).split(" ", 1)[0]


# --- Reading JSON, with every value kept as the text it is written as -------------------------------------------------

WHITE = re.compile(r"[ \t\n\r]*")
TOKEN = re.compile(
    r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
    r"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
    r"|true|false|null"
)
# What could still become a token if more followed.
CUT = re.compile(
    r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z'
    r"|-?(?:(?:0|[1-9][0-9]*)(?:\.|(?:\.[0-9]+)?[eE][+-]?))?\Z"
    r"|(?:t|tr|tru|f|fa|fal|fals|n|nu|nul)\Z"
)
# What is left of an escaped surrogate that has no other half.
SURROGATE = re.compile("[\ud800-\udfff]")


class Json:
    """A cursor over JSON text. Nothing is recursive: depth costs nothing."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def peek(self):
        self.at = WHITE.match(self.text, self.at).end()
        if self.at == len(self.text):
            raise Refused("truncated")
        return self.text[self.at]

    def take(self, characters):
        if self.peek() not in characters:
            raise Refused("not-json")
        self.at += 1
        return self.text[self.at - 1]

    def token(self):
        self.peek()
        found = TOKEN.match(self.text, self.at)
        if found is None:
            raise Refused("truncated" if CUT.match(self.text, self.at) else "not-json")
        self.at = found.end()
        return found.group()

    def name(self, nested=False):
        if self.peek() != '"':
            raise Refused("not-json")
        name = json.loads(self.token())
        # 8.1. What is nested is skipped, not read: there a name may be anything that JSON's grammar allows.
        if not nested and SURROGATE.search(name):
            raise Refused("not-json")
        self.take(":")
        return name

    def value(self):
        """Skips one value and gives its text."""
        self.peek()
        start, open_ones = self.at, []
        while True:
            character = self.peek()
            if character in "{[":
                self.at += 1
                closing = "}" if character == "{" else "]"
                if self.peek() == closing:
                    self.at += 1
                else:
                    open_ones.append(closing)
                    if closing == "}":
                        self.name(nested=True)
                    continue
            else:
                self.token()
            while open_ones:
                closing = open_ones[-1]
                if self.take("," + closing) == closing:
                    open_ones.pop()
                    continue
                if closing == "}":
                    self.name(nested=True)
                break
            if not open_ones:
                return self.text[start : self.at]

    def end(self):
        if WHITE.match(self.text, self.at).end() != len(self.text):
            raise Refused("trailing-bytes")


def read_object(text):
    """The members of the one object in `text`: a list of (name, text of the value)."""
    cursor = Json(text)
    if cursor.peek() != "{":
        cursor.value()
        raise Refused("not-an-object")
    cursor.at += 1
    pairs = []
    if cursor.peek() == "}":
        cursor.at += 1
    else:
        while True:
            name = cursor.name()
            pairs.append((name, cursor.value()))
            if cursor.take(",}") == "}":
                break
    cursor.end()
    return pairs


def read_array(text):
    """The texts of an array's elements."""
    cursor = Json(text)
    cursor.take("[")
    elements = []
    if cursor.peek() == "]":
        return elements
    while True:
        elements.append(cursor.value())
        if cursor.take(",]") == "]":
            return elements


def utf8(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not-utf8") from None


# --- Members ----------------------------------------------------------------------------------------------------------


def realm_name(text):
    return check_name(text, r"[a-z0-9.-]", None)


def user_name(text):
    return check_name(text, r"[a-z0-9_-]", "-_")


def check_name(text, allowed, bad_start):
    """Section 3."""
    if text == "":
        raise Refused("empty")
    if len(text.encode("utf-8")) > 64:
        raise Refused("too-long")
    for position, character in enumerate(text):
        if not re.fullmatch(allowed, character):
            raise Refused(f"bad-character {len(text[:position].encode('utf-8')) + 1}")
    if bad_start and text[0] in bad_start:
        raise Refused("bad-start")
    return text


def time_millis(text):
    """4.1: from the characters, never through a float."""
    if not re.fullmatch(r"(0|[1-9][0-9]{0,9})\.[0-9]{3}", text):
        raise Refused("bad-format")
    return int(text.replace(".", ""))


def time_text(millis):
    return f"{millis // 1000}.{millis % 1000:03d}"


def message_id(text):
    if not re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text):
        raise Refused("bad")
    return bytes.fromhex(text.replace("-", ""))


def id_text(message_id):
    h = message_id.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def b64(data):
    return base64.b64encode(data).decode("ascii")


def version(pairs):
    """4.2: `v` is read before anything else."""
    raw = dict(reversed(pairs)).get("v")
    if raw is None:
        raise Refused("missing-member v")
    if not re.match(r"[0-9-]", raw):
        raise Refused("wrong-type v")
    if not re.fullmatch(r"[0-9]+", raw):
        raise Refused("bad-number v")
    if raw != "1":
        raise Refused("unknown-version")


class Members:
    """The members of an object that has exactly those expected, in their order."""

    def __init__(self, pairs, names):
        found = [name for name, _ in pairs]
        for index, name in enumerate(found):
            if name not in names:
                raise Refused(f"unknown-member {index + 1}")
            if name in found[:index]:
                raise Refused(f"duplicate-member {name}")
        for name in names:
            if name not in found:
                raise Refused(f"missing-member {name}")
        for name, expected in zip(found, names):
            if name != expected:
                raise Refused(f"wrong-order {expected}")
        self.raw = dict(pairs)

    def text(self, name):
        raw = self.raw[name]
        if not raw.startswith('"'):
            raise Refused(f"wrong-type {name}")
        if "\\" in raw:
            raise Refused(f"escape {name}")
        return raw[1:-1]

    def of(self, name, parse, error):
        try:
            return parse(self.text(name))
        except Refused as refused:
            if refused.name in ("wrong-type", "escape"):
                raise
            raise Refused(f"{error} {name}") from None

    def bare(self, name):
        raw = self.raw[name]
        if not re.match(r"[0-9-]", raw):
            raise Refused(f"wrong-type {name}")
        return raw

    def number(self, name, most):
        raw = self.bare(name)
        if not re.fullmatch(r"[0-9]{1,20}", raw) or int(raw) > most:
            raise Refused(f"bad-number {name}")
        return int(raw)

    def time(self, name):
        raw = self.bare(name)
        try:
            return time_millis(raw)
        except Refused:
            raise Refused(f"bad-time {name}") from None

    def binary(self, name, least=0, most=None):
        text = self.text(name)
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            raise Refused(f"bad-base64 {name}") from None
        if b64(data) != text:
            raise Refused(f"bad-base64 {name}")
        if most is not None and not least <= len(data) <= most:
            raise Refused(f"wrong-length {name}")
        return data

    def realm(self, name):
        return self.of(name, realm_name, "bad-name")

    def user(self, name):
        return self.of(name, user_name, "bad-name")

    def id(self, name, optional=False):
        if optional and self.raw[name] == "null":
            return None
        return self.of(name, message_id, "bad-message-id")

    def array(self, name, most):
        if not self.raw[name].startswith("["):
            raise Refused(f"wrong-type {name}")
        elements = read_array(self.raw[name])
        if len(elements) > most:
            raise Refused(f"too-many {name}")
        return elements


class Bare(str):
    """Text that is written without quotes."""


def write(members):
    """4.1: the one encoding of (name, value) pairs: text, Bare, None, or a list of such lists."""
    parts = []
    for name, value in members:
        if value is None:
            text = "null"
        elif isinstance(value, Bare):
            text = value
        elif isinstance(value, str):
            text = f'"{value}"'
        else:
            text = "[" + ",".join(write(element) for element in value) + "]"
        parts.append(f'"{name}":{text}')
    return "{" + ",".join(parts) + "}"


# --- 4.3 Transcripts --------------------------------------------------------------------------------------------------


def u32(value):
    return struct.pack(">I", value)


def u64(value):
    return struct.pack(">Q", value)


def lp(field):
    return u32(len(field)) + field


def transcript(label, *fields):
    return lp(label.encode("ascii")) + b"".join(lp(f.encode("utf-8") if isinstance(f, str) else f) for f in fields)
