#!/usr/bin/env python3
"""Draws what `tmux capture-pane -e -p` prints as SVG: svg.py COLUMNS ROWS TITLE < screen > picture.svg

Knows the attributes of ECMA-48 that tmux writes (bold, dim, underline, reverse, 16 and 256 colours). Each cell of text stands at
its own place, so that it does not depend on the font of the reader.
"""
import re
import sys
import unicodedata
from xml.sax.saxutils import escape

CELL, LINE, PAD, BAR = 8.4, 18, 14, 30
GROUND, INK = "#16181d", "#d7dae0"
SIXTEEN = ["#2b2f36", "#f0707a", "#8ccf7e", "#e5c76b", "#71a8ee", "#c98be0", "#62c9cf", "#d7dae0",
           "#7d8590", "#ff8a93", "#a5e09a", "#f4d97b", "#8dbbf5", "#dca5ef", "#80dde3", "#ffffff"]


def colour(number):
    if number < 16:
        return SIXTEEN[number]
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return f"#{grey:02x}{grey:02x}{grey:02x}"
    steps = [0, 95, 135, 175, 215, 255]
    number -= 16
    return "#{:02x}{:02x}{:02x}".format(steps[number // 36], steps[number // 6 % 6], steps[number % 6])


class Style:
    def __init__(self):
        self.reset()

    def reset(self):
        self.fg = self.bg = None
        self.bold = self.dim = self.underline = self.reverse = False

    def take(self, codes):
        codes = [int(code or 0) for code in codes.replace(":", ";").split(";")]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.reset()
            elif code == 1:
                self.bold = True
            elif code == 2:
                self.dim = True
            elif code == 4:
                self.underline = True
            elif code == 7:
                self.reverse = True
            elif code == 22:
                self.bold = self.dim = False
            elif code == 24:
                self.underline = False
            elif code == 27:
                self.reverse = False
            elif code in (38, 48) and codes[:1] == [5]:
                setattr(self, "fg" if code == 38 else "bg", colour(codes[1]))
                codes = codes[2:]
            elif code == 39:
                self.fg = None
            elif code == 49:
                self.bg = None
            elif 30 <= code <= 37:
                self.fg = SIXTEEN[code - 30]
            elif 40 <= code <= 47:
                self.bg = SIXTEEN[code - 40]
            elif 90 <= code <= 97:
                self.fg = SIXTEEN[code - 82]
            elif 100 <= code <= 107:
                self.bg = SIXTEEN[code - 92]

    def drawn(self):
        fg, bg = self.fg or INK, self.bg
        if self.reverse:
            fg, bg = self.bg or GROUND, self.fg or INK
        return fg, bg, self.bold, self.dim, self.underline


def cells_of(text):
    """Characters as readers see them, with their width: what has none belongs to the one before."""
    out = []
    for char in text:
        joined = out and out[-1][0].endswith("\u200d")
        if out and (unicodedata.combining(char) or char in "\u200d\ufe0f" or joined):
            out[-1][0] += char
        else:
            out.append([char, 2 if unicodedata.east_asian_width(char) in "WF" else 1])
    return out


def main():
    columns, rows, title = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    width, height = columns * CELL + 2 * PAD, rows * LINE + PAD + BAR + 4
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
        *(f'<circle cx="{PAD + 6 + 18 * n}" cy="15" r="5" fill="#3a3f48"/>' for n in range(3)),
        f'<text x="50%" y="19" text-anchor="middle" font-family="sans-serif" font-size="12" fill="#7d8590">{escape(title)}</text>',
        '<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="14" xml:space="preserve">',
    ]
    style = Style()
    for row, line in enumerate(sys.stdin.read().split("\n")[:rows]):
        at = 0
        for part in re.split(r"(\x1b\[[0-9;:]*m|\x0e|\x0f)", line):
            if part.startswith("\x1b"):
                style.take(part[2:-1])
                continue
            if part in ("\x0e", "\x0f"):
                continue
            fg, bg, bold, dim, underline = style.drawn()
            cells = cells_of(part)
            whole = sum(cell[1] for cell in cells)
            x, y = PAD + at * CELL, BAR + row * LINE
            if bg and whole:
                out.append(f'<rect x="{x:.1f}" y="{y}" width="{whole * CELL:.1f}" height="{LINE}" fill="{bg}" shape-rendering="crispEdges"/>')
            places, text, here = [], "", at
            last = max((n for n, (char, _) in enumerate(cells) if char != " "), default=-1)
            for n, (char, cell) in enumerate(cells):
                # Spaces between words stay, for who copies the words, and for programs that know one place of a text alone.
                if char != " " or text and n < last:
                    places += [f"{PAD + here * CELL:.1f}"] + ["" for _ in char[1:]]
                    text += char
                here += cell
            if text:
                look = f' fill="{fg}"' + (' font-weight="bold"' if bold else "") + (' opacity=".6"' if dim else "")
                look += ' text-decoration="underline"' if underline else ""
                # A place for each character that has one; those that join it go with it.
                spans, start = [], 0
                for place, char in zip(places, text):
                    if place:
                        spans.append([place, char])
                    else:
                        spans[-1][1] += char
                simple = all(len(char) == 1 for _, char in spans)
                if simple:
                    xs = " ".join(place for place, _ in spans)
                    out.append(f'<text y="{y + 14}" x="{xs}"{look}>{escape(text)}</text>')
                else:
                    out += [f'<text y="{y + 14}" x="{place}"{look}>{escape(char)}</text>' for place, char in spans]
            at += whole
    out += ["</g>", "</svg>"]
    print("\n".join(out))


main()
