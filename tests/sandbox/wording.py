"""The lifelike account's messages and files, from what happens to what Drift shows."""

from __future__ import annotations

import random
import struct
import zlib
from html import escape
from typing import TYPE_CHECKING

from tests.sandbox.people import DOMAIN, PURPOSES
from tests.sandbox.stories import BOTS, CONTACT
from tests.sandbox.words import NOTES, TOPICS

if TYPE_CHECKING:
    from tests.sandbox.organisation import Row
    from tests.sandbox.people import Person
    from tests.sandbox.stories import Line

FILES = (("screen.png", "image/png"), ("offer.csv", "text/csv"), ("notes.txt", "text/plain"))
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1",
)


def text(who: Person, topic: str, occasion: str, number: int) -> str:
    """What is said on an occasion; the number chooses among several ways to say it."""
    if occasion == "note":
        return NOTES[number % len(NOTES)]
    if occasion in {"question", "answer"}:
        return who.language.topics[topic][occasion == "answer"]
    ways = who.language.texts[occasion]
    return ways[number % len(ways)]


def message(conversation: Row, number: int, line: Line, who: Person, topic: str) -> Row:
    """A message as Drift shows it, but for its files."""
    id_ = conversation["id"]
    found: Row = {
        "id": id_ * 1000 + number,
        "conversationId": id_,
        "type": "private_note" if line.occasion == "note" else "chat",
        "author": {"id": line.author, "type": "user", "bot": line.author in BOTS},
        "createdAt": line.at,
        "attributes": {},
    }
    if line.occasion != "file" or id_ % 2:  # some files come without a word
        said = escape(text(who, topic, line.occasion, id_ + number), quote=False)
        found["body"] = f"<p>{said}</p>"
    if line.occasion == "hello":
        questions = [who.language.topics[one][0] for one in TOPICS[:2]]
        found["buttons"] = [{"label": one, "value": one, "type": "reply"} for one in questions]
    if line.author == CONTACT:
        found["author"] = {"id": conversation["contactId"], "type": "contact"}
        found["context"] = _context(conversation["contactId"], who)
    return found


def _context(id_: int, who: Person) -> Row:
    """Where a contact writes from."""
    place = who.language.place
    name, _, _, page = PURPOSES[id_ % len(PURPOSES)]
    return {
        "ip": f"203.0.113.{id_ % 254 + 1}",
        "userAgent": BROWSERS[id_ % len(BROWSERS)],
        "href": f"https://{DOMAIN}{page}",
        "title": f"Acme: {name}",
        "timezone": place.zone,
        "locale": who.language.locale,
        "location": {
            "city": place.city,
            "region": place.region,
            "country": place.country,
            "countryName": place.country_name,
            "latitude": place.latitude,
            "longitude": place.longitude,
        },
    }


def attachment(message: int, files_at: str) -> Row:
    """The file in a message."""
    id_ = message * 10
    name, type_ = FILES[message % len(FILES)]
    return {"id": id_, "fileName": name, "mimeType": type_, "url": f"{files_at}/{id_}/{name}"}


def content(name: str, id_: int) -> bytes:
    """What is in a file of that name; no two pictures are the same."""
    if name.endswith(".png"):
        return picture(random.Random(id_))
    if name.endswith(".csv"):
        return "plan,seats,price\nTeam,40,29 €\nFirma Müller & Söhne,12,31 €\n".encode()
    return "What we talked about: 価格, prix, السعر\n".encode()


def picture(chance: random.Random, width: int = 160, height: int = 100) -> bytes:
    """A PNG of a window with some lines in it."""
    paper, ink = bytes((245, 246, 248)), bytes(chance.randint(40, 200) for _ in range(3))
    rows = [ink * width] * 12
    while len(rows) < height:
        written = chance.randint(20, width - 30)
        rows += [paper * width] * 5
        rows += [paper * 10 + ink * written + paper * (width - 10 - written)] * 3
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows[:height]))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
