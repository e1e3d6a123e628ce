"""What belongs to the lifelike account's conversations: put into words when it is asked for."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from tests.sandbox.items import Items
from tests.sandbox.people import People, attributes, person
from tests.sandbox.stories import BOTS, CONTACT, MINUTE, Line, Story
from tests.sandbox.wording import attachment, content, message, text
from tests.sandbox.words import NOTES, TAGS

if TYPE_CHECKING:
    from tests.sandbox.organisation import Row


class Talks(People, Items):
    """Conversations one by one.

    Attributes:
        seed: What all is made up from, together with ids and times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seed = 1
        self._stories: dict[int, Story] = {}
        self._posted: dict[int, list[Line]] = {}
        self._known_since: dict[int, int] = {}

    def _lines(self, id_: int) -> list[Line]:
        posted = self._posted.get(id_, [])
        return self._stories[id_].lines[: self.messages_in[id_] - len(posted)] + posted

    def detail(self, id_: int) -> Row:
        told, authors = self._stories[id_], {line.author for line in self._lines(id_)} - {CONTACT}
        row = self.conversations[id_] | {"participants": sorted(authors), "orgId": self.org}
        if told.playbook:
            row["relatedPlaybookId"] = told.playbook
        tags = [TAGS[told.topic]] if authors - BOTS else []
        tags += [("vip", "9C27B0")] if id_ % 17 == 0 else []
        if tags:
            row["conversationTags"] = [{"color": color, "name": name} for name, color in tags]
        return row

    def messages(self, id_: int) -> list[Row]:
        row, topic = self.conversations[id_], self._stories[id_].topic
        who = person(self.seed, row["contactId"])
        found = []
        for number, line in enumerate(self._lines(id_)):
            found.append(message(row, number, line, who, topic))
            if line.occasion == "file":
                found[-1]["attachments"] = [attachment(found[-1]["id"], self.files_at)]
        return found

    def file(self, id_: int) -> bytes | None:
        conversation, number = divmod(id_ // 10, 1000)
        if not 0 <= number < self.messages_in.get(conversation, 0) or id_ % 10:
            return None
        if self._lines(conversation)[number].occasion != "file":
            return None
        return content(attachment(id_ // 10, self.files_at)["fileName"], id_)

    def transcript(self, id_: int) -> str:
        row, topic = self.conversations[id_], self._stories[id_].topic
        who = person(self.seed, row["contactId"])
        names = {user["id"]: f"{user['name']} (Agent)" for user in self.users()}
        names[CONTACT] = who.name if who.email else "null"
        return "".join(
            f"{dt.datetime.fromtimestamp(line.at // 1000, dt.UTC):%b %d, %I:%M:%S %p UTC} "
            f"{names[line.author]}: {text(who, topic, line.occasion, id_ + number)}\n"
            for number, line in enumerate(self._lines(id_))
        )

    def metrics(self, id_: int) -> Row:
        row, lines = self.conversations[id_], self._lines(id_)
        asked = [line.at for line in lines if line.author == CONTACT]
        agents = [line for line in lines if line.author not in BOTS | {CONTACT}]
        replies = [line for line in agents if line.occasion != "note"]
        metrics = {
            "createdAt": row["createdAt"],
            "endUserId": row["contactId"],
            "numAgentMessages": len(replies),
            "numBotMessages": sum(line.author in BOTS for line in lines),
            "numEndUserMessages": len(asked),
        }
        if replies and asked:
            metrics |= {"lastAgentId": replies[-1].author, "firstAgentMessageAt": replies[0].at}
            metrics |= {"timeToAgentResponseMillis": replies[0].at - asked[0]}
        if row["status"] == "closed":
            metrics |= {"timeToCloseMillis": row["updatedAt"] - row["createdAt"]}
            metrics |= {"firstCloseAt": row["updatedAt"]}
        if playbook := self._stories[id_].playbook:
            metrics["relatedPlaybookId"] = playbook
        return metrics

    def meetings(self) -> list[Row]:
        led_to = (
            self._meeting(self.conversations[id_])
            for id_, told in self._stories.items()
            if told.meeting and id_ in self.conversations and self._booked(id_)
        )
        return [*led_to, *self.booked]

    def _booked(self, id_: int) -> Line | None:
        return next((line for line in self._lines(id_) if line.occasion == "booked"), None)

    def _meeting(self, conversation: Row) -> Row:
        id_, booked = conversation["id"], self._booked(conversation["id"])
        start = self._stories[id_].meeting
        assert booked
        assert start
        return {
            "agentId": booked.author,
            "orgId": self.org,
            "bookedBy": booked.author,
            "schedulerId": conversation["contactId"],
            "conversationId": id_,
            "status": "ACTIVE",
            "meetingSource": "EMAIL_DROP",
            "meetingType": "New Meeting",
            "slug": f"meeting-{id_}",
            "eventId": f"event-{id_}",
            "slotStart": start,
            "slotEnd": start + 30 * MINUTE,
            "scheduledAt": booked.at,
            "updatedAt": booked.at,
            "endUserTimeZone": person(self.seed, conversation["contactId"]).language.place.zone,
            "meetingNotes": NOTES[id_ % len(NOTES)],
            "conferenceType": "ZOOM",
            "conferenceDetails": {"join_url": f"https://zoom.example/{id_}"},
            "isPrivate": False,
            "isRecurring": False,
            "isOrgSlug": True,
            "meetingSlug": "intro",
        }

    def contact(self, id_: int) -> Row | None:
        since = self._known_since.get(id_)
        if since is None:
            return None
        return {"id": id_, "createdAt": since, "attributes": attributes(self.seed, id_, since)}
