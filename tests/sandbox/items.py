"""What belongs to conversations, each of them made up from the conversation's id alone."""

from __future__ import annotations

import collections
import random

from tests.sandbox.organisation import FIRST_TIME, PERSONAL, Organisation, Row

STATUSES = {"open": 1, "closed": 2, "pending": 3}
FIRST_CONTACT = 17_100_000_000
DAY = 24 * 60 * 60 * 1000


class Items(Organisation):
    """Conversations one by one.

    Attributes:
        conversations: Rows of the list, by id.
        messages_in: How many messages a conversation has, by id.
        contact_names: Names that are not like the others, by the contact's id.
        files_at: The host that the `url` of a message's attachment names.
        file_sizes: Bytes of attachments that are not like the others, by id.
        booked: Meetings that no conversation led to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conversations: dict[int, Row] = {}
        self.messages_in: dict[int, int] = {}
        self.contact_names: dict[int, str] = {}
        self.files_at = "https://files.drift.example"
        self.file_sizes: dict[int, int] = {}
        self.booked: list[Row] = []

    def detail(self, id_: int) -> Row:
        """A conversation; its tags are absent if it has none."""
        row = self.conversations[id_] | {"participants": [501, 502][: id_ % 3], "orgId": self.org}
        if id_ % 2:
            row |= {"relatedPlaybookId": 63_001 + id_ % 4}
            row |= {"conversationTags": [{"color": "1A2B3C", "name": PERSONAL}]}
        return row

    def messages(self, id_: int) -> list[Row]:
        """The messages of a conversation, the oldest first; some have no text."""
        conversation = self.conversations[id_]
        return [self._message(conversation, number) for number in range(self.messages_in[id_])]

    def _message(self, conversation: Row, number: int) -> Row:
        by_user = number % 2 == 1
        message = {
            "id": conversation["id"] * 1000 + number,
            "conversationId": conversation["id"],
            "type": "private_note" if number % 5 == 4 else "chat",
            "author": {"id": 501, "type": "user", "bot": number % 4 == 1}
            if by_user
            else {"id": conversation["contactId"], "type": "contact"},
            "createdAt": conversation["createdAt"] + 1000 * number,
            "attributes": {"preMessages": [{"body": PERSONAL, "sender": {"id": 501}}]}
            if number == 0
            else {},
        }
        if number % 6 != 5:
            message["body"] = f"<p>{PERSONAL} &amp; {number}</p>"
        if number % 7 == 3:
            message["buttons"] = [{"label": "Yes", "value": "yes", "type": "reply"}]
            message["attachments"] = self._attachments(message["id"], 1 + (number == 24))
        if number == 2:
            message |= {"type": "edit", "editedMessageId": message["id"] - 1, "orgId": self.org}
            message |= {"editType": "replace_body"}
        if not by_user:
            message["context"] = {"ip": "192.0.2.7", "location": {"city": PERSONAL}}
        return message

    def _attachments(self, message: int, number: int) -> list[Row]:
        return [
            {
                "id": message * 10 + position,
                "fileName": "a.pdf",
                "mimeType": "application/pdf",
                "url": f"{self.files_at}/{message * 10 + position}/a.pdf",
            }
            for position in range(number)
        ]

    def file(self, id_: int) -> bytes | None:
        """The content of an attachment, if there is one with that id."""
        conversation, number = divmod(id_ // 10, 1000)
        if number >= self.messages_in.get(conversation, 0):
            return None
        attachments = self.messages(conversation)[number].get("attachments", [])
        if not any(attachment["id"] == id_ for attachment in attachments):
            return None
        return random.Random(id_).randbytes(self.file_sizes.get(id_, id_ % 3000))

    def transcript(self, id_: int) -> str:
        """The messages of a conversation as people read them, who do not all write ASCII."""
        return "".join(
            f"Nov 14, 10:13:{message['createdAt'] // 1000 % 60:02d} AM EST "
            f"{'Zoë (Agent)' if message['author']['type'] == 'user' else 'null'}: {PERSONAL} ✓\n"
            for message in self.messages(id_)
        )

    def metrics(self, id_: int) -> Row:
        """What reports know of a conversation: only what there is."""
        row, number = self.conversations[id_], self.messages_in[id_]
        metrics = {
            "createdAt": row["createdAt"],
            "endUserId": row["contactId"],
            "numAgentMessages": number // 4,
            "numBotMessages": (number + 2) // 4,
            "numEndUserMessages": (number + 1) // 2,
        }
        if number > 3:
            metrics |= {"lastAgentId": 501, "timeToAgentResponseMillis": 3000}
            metrics |= {"firstAgentMessageAt": row["createdAt"] + 3000}
        if row["status"] == "closed":
            metrics |= {"timeToCloseMillis": row["updatedAt"] - row["createdAt"]}
            metrics |= {"firstCloseAt": row["updatedAt"]}
        if id_ % 2:
            metrics |= {"relatedPlaybookId": 63_001 + id_ % 4}
        return metrics

    def stats(self) -> dict[str, int]:
        """How many conversations there are, by status; a status without any is not named."""
        counts = collections.Counter(row["status"] for row in self.conversations.values())
        return {status.upper(): counts[status] for status in STATUSES if counts[status]}

    def meetings(self) -> list[Row]:
        """All meetings, also those that Drift shows no more, in no order that is known."""
        led_to = [self._meeting(row) for id_, row in self.conversations.items() if id_ % 5 == 0]
        return led_to + self.booked

    def _meeting(self, conversation: Row) -> Row:
        id_, booked = conversation["id"], conversation["createdAt"]
        start = booked + (id_ // 5 % 9 - 1) * DAY
        meeting = {
            "agentId": 501 + id_ % 12,
            "orgId": self.org,
            "bookedBy": 501,
            "schedulerId": conversation["contactId"],
            "conversationId": id_,
            "status": "ACTIVE",
            "meetingSource": "EMAIL_DROP",
            "meetingType": "New Meeting",
            "slotStart": start,
            "slotEnd": start + 30 * 60 * 1000,
            "scheduledAt": booked,
            "updatedAt": booked,
            "endUserTimeZone": "Europe/Berlin",
            "meetingNotes": PERSONAL,
            "conferenceType": "ZOOM",
            "conferenceDetails": {"join_url": f"https://zoom.example/{id_}"},
            "isPrivate": False,
            "isRecurring": False,
            "isOrgSlug": True,
            "meetingSlug": "intro",
        }
        # Of four meetings, one has no slug, one no id in a calendar, one neither.
        if id_ // 5 % 4 in {0, 1}:
            meeting["slug"] = f"slug-{id_}"
        if id_ // 5 % 4 in {0, 2}:
            meeting["eventId"] = f"event-{id_}"
        return meeting

    def contact(self, id_: int) -> Row | None:
        """A contact of some conversation; two of its attributes differ only in case."""
        if not any(row["contactId"] == id_ for row in self.conversations.values()):
            return None
        attributes: Row = {"_END_USER_VERSION": 7, "_end_user_version": 8, "tags": [], "events": {}}
        if id_ % 3:
            attributes |= {"email": f"{PERSONAL}@example.com", "externalId": id_ % 2 or "cust-77"}
        attributes |= {"name": self.contact_names.get(id_, PERSONAL)}
        return {"id": id_, "createdAt": FIRST_TIME + id_ % 1000, "attributes": attributes}
