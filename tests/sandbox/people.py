"""The organisation of the lifelike account, and the people who write to it."""

from __future__ import annotations

import datetime as dt
import functools
import json
import random
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from tests.sandbox.items import DAY
from tests.sandbox.organisation import Organisation
from tests.sandbox.stories import NIGHT_BOT, PLAYBOOKS, WELCOME_BOT
from tests.sandbox.words import COMPANIES, LANGUAGES

if TYPE_CHECKING:
    from tests.sandbox.organisation import Row
    from tests.sandbox.words import Language

BEGINNING = int(dt.datetime(2024, 10, 1, tzinfo=dt.UTC).timestamp()) * 1000
"""When the organisation began to use Drift, in milliseconds since 1970."""

COLLEAGUES = (
    ("Zoë Byrne", "admin", "AVAILABLE", "en_IE", "Europe/Dublin"),
    ("Łukasz Wójcik", "agent", "AVAILABLE", "pl_PL", "Europe/Warsaw"),
    ("Amara Okonkwo", "agent", "ON_CALL", "en_GB", "Africa/Lagos"),
    ("Sofía Núñez", "agent", "AVAILABLE", "es_ES", "Europe/Madrid"),
    ("Jürgen Groß", "member", "OFFLINE", "de_DE", "Europe/Berlin"),
    ("Siân O'Connor", "member", "AVAILABLE", "en_GB", "Europe/London"),
    ("山本 葵", "member", "OFFLINE", "ja_JP", "Asia/Tokyo"),
    ("Марія Коваль", "admin", "OFFLINE", "uk_UA", "Europe/Kyiv"),
)
TEAMS = {
    "Everybody": range(501, 509),
    "Sales": (501, 502, 504),
    "Support": (503, 505, 506, 507),
}
PURPOSES = (
    ("Welcome bot", "CONVERSATIONS", "Answer a question", "/"),
    ("Pricing page", "BOOK_MORE_MEETINGS", "Book a meeting", "/pricing"),
    ("See a demo", "BOOK_MORE_MEETINGS", "Book a meeting", "/demo"),
    ("Help centre", "SUPPORT", "Point to an article", "/help"),
    ("Webinar follow-up", "CAPTURE_EMAILS", "Leave an address", "/webinar"),
)
DOMAIN = "acme.example"


class Person(NamedTuple):
    """Somebody who writes; whoever gave no address is anonymous."""

    language: Language
    name: str
    first: str
    email: str | None
    company: int | None


@functools.lru_cache(maxsize=100_000)
def person(seed: int, id_: int) -> Person:
    """The contact with this id."""
    chance = random.Random(seed * 1_000_003 + id_)
    language = chance.choices(LANGUAGES, [language.weight for language in LANGUAGES])[0]
    first, last = chance.choice(language.first), chance.choice(language.last)
    name = f"{last} {first}" if language.family_first else f"{first} {last}"
    luck = chance.random()
    company = chance.randrange(80) if luck < 0.4 else None
    if luck > 0.65:
        return Person(language, name, first, None, None)
    at = company_domain(company) if company is not None else "mail.example"
    return Person(language, name, first, f"{_plain(first) or 'mail'}.{id_ % 1000}@{at}", company)


def company_name(number: int) -> str:
    """The name of one of 80 companies."""
    one, other = COMPANIES
    return f"{one[number % len(one)]} {other[number // len(one)]}"


def company_domain(number: int) -> str:
    return f"{_plain(company_name(number))}.example"


def _plain(text: str) -> str:
    """What is left of a name in an address."""
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", text).lower())


class People(Organisation):
    """Colleagues with different tasks, bots, companies, and what was set up for visitors."""

    def users(self) -> list[Row]:
        people = [
            self._user(501 + number, name, role)
            | {"availability": availability, "locale": locale}
            | {
                "timeZone": zone,
                "verified": True,
                "bot": False,
                "phone": f"+353 1 555 01{number:02}",
            }
            for number, (name, role, availability, locale, zone) in enumerate(COLLEAGUES)
        ]
        bots = [
            self._user(id_, name, "member") | {"availability": "AVAILABLE", "bot": True}
            for id_, name in ((WELCOME_BOT, "Acme Bot"), (NIGHT_BOT, "Night Bot 🌙"))
        ]
        return people + bots

    def _user(self, id_: int, name: str, role: str) -> Row:
        alias = name.partition(" ")[0]
        return {
            "id": id_,
            "orgId": self.org,
            "name": name,
            "alias": alias,
            "email": f"{_plain(alias) or 'user'}.{id_}@{DOMAIN}",
            "avatarUrl": f"https://cdn.{DOMAIN}/{id_}.png",
            "role": role,
            "createdAt": BEGINNING - (610 - id_) * DAY,
            "updatedAt": BEGINNING + (id_ - 500) * DAY,
        }

    def teams(self) -> list[Row]:
        return [
            {
                "id": 301 + number,
                "orgId": self.org,
                "workspaceId": "0f5c9a52-5d3c-4bb4-a36c-5a7a2b9f3a10",
                "name": name,
                "owner": members[0],
                "members": list(members),
                "status": "ENABLED",
                "main": number == 0,
                "autoOffline": number == 2,
                "teamAvailabilityMode": "CUSTOM_HOURS",
                "responseTimerEnabled": True,
                "teamCsatEnabled": number == 2,
                "updatedAt": BEGINNING + number * DAY,
            }
            for number, (name, members) in enumerate(TEAMS.items())
        ]

    def accounts(self) -> list[Row]:
        return [
            {
                "accountId": f"{self.org}_{company_domain(number)}",
                "ownerId": 501 + number % 4,
                "name": company_name(number),
                "domain": company_domain(number),
                "customProperties": [
                    {"label": "Seats", "name": "seats", "value": 5 + 7 * number, "type": "NUMBER"}
                ],
                "deleted": number % 40 == 39,
                "targeted": number % 3 == 0,
                "createDateTime": BEGINNING + number * DAY,
                "updateDateTime": BEGINNING + (number + number % 9) * DAY,
            }
            for number in range(80)
        ]

    def playbooks(self) -> list[Row]:
        return [
            {
                "id": id_,
                "name": name,
                "orgId": self.org,
                "meta": {"pages": [f"https://{DOMAIN}{page}"]},
                "createdAt": BEGINNING - DAY,
                "updatedAt": BEGINNING + (id_ - 63_000) * 40 * DAY,
                "createdAuthorId": 508,
                "updatedAuthorId": 501,
                "interactionId": id_ - 56_000,
                "reportType": purpose,
                "goals": [{"id": f"5d8a6a0e-3b86-4f6e-9a58-{id_:012}", "message": goal}],
            }
            for id_, (name, purpose, goal, page) in zip(PLAYBOOKS, PURPOSES, strict=True)
        ]

    def landing_pages(self) -> list[Row]:
        """Pages that open a playbook; one of the playbooks has two."""
        pages = ((63_002, "pricing"), (63_003, "demo"), (63_003, "fair"), (63_005, "webinar"))
        return [
            {
                "playbookId": id_,
                "playbookName": PURPOSES[id_ - 63_001][0],
                "landingPageUrl": f"https://{self.org}.drift.click/{page}",
            }
            for id_, page in pages
        ]


def attributes(seed: int, id_: int, since: int) -> Row:
    """What Drift knows of a contact whom it has known so long; two names differ only in case."""
    who = person(seed, id_)
    place = who.language.place
    found: Row = {
        "_END_USER_VERSION": id_ % 50,
        "_end_user_version": id_ % 50,
        "start_date": since,
        "tags": [],
        "events": {},
        "ip": f"203.0.113.{id_ % 254 + 1}",
        "last_context_location": json.dumps(
            {"city": place.city, "country": place.country, "latitude": place.latitude},
            ensure_ascii=False,
        ),
        "original_entrance_page_url": f"https://{DOMAIN}{PURPOSES[id_ % 5][3]}",
        "original_referer_url": ("https://search.example/", "https://news.example/")[id_ % 2],
    }
    if who.email:
        found |= {"email": who.email, "name": who.name, "first_name": who.first}
    if who.company is not None:
        found |= {"employment_name": company_name(who.company), "seats": 5 + 7 * who.company}
        found |= {
            "externalId": id_ if id_ % 2 else f"crm-{id_ % 100_000}",
            "customer": id_ % 4 == 0,
        }
    return found
