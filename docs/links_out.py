#!/usr/bin/env python3
"""A preprocessor of mdBook: links that leave the book's folder go to the repository, and to a chapter where one includes that file."""

import json
import posixpath
import re
import sys

REPOSITORY = "https://github.com/sealpost/sealpost/blob/main/"
# Chapters that are a file of elsewhere, and where that is.
INCLUDED = {
    "specification.md": "core/SPEC.md",
    "implementing.md": "core/IMPLEMENTING.md",
    "archive-format.md": "archiver/FORMAT.md",
}
CHAPTERS = {path: chapter for chapter, path in INCLUDED.items()}


def moved(link, base):
    """Where a link of a file in folder `base` of the repository goes in the book."""
    if re.match(r"[a-z]+:|#", link):
        return link
    path, hash_, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(base, path))
    if path in CHAPTERS:
        return CHAPTERS[path] + hash_ + anchor
    if posixpath.dirname(path) == "docs" and path.endswith(".md"):
        return posixpath.basename(path) + hash_ + anchor
    return REPOSITORY + path + hash_ + anchor


def mend(item):
    chapter = item.get("Chapter") if isinstance(item, dict) else None
    if not chapter:
        return
    source = INCLUDED.get(chapter["path"], "docs/" + str(chapter["path"]))
    base = posixpath.dirname(source)
    chapter["content"] = re.sub(
        r"\]\(([^)\s]+)\)", lambda link: f"]({moved(link[1], base)})", chapter["content"]
    )
    for sub in chapter["sub_items"]:
        mend(sub)


if sys.argv[1:2] == ["supports"]:
    sys.exit(0)
_, book = json.load(sys.stdin)
for item in book.get("items", book.get("sections", [])):
    mend(item)
json.dump(book, sys.stdout)
