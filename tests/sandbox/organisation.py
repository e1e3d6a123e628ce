"""What an organisation has in Drift besides conversations."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

FIRST_TIME = 1_760_000_000_000
ORG = 4242
PERSONAL = "a-text-that-a-person-wrote"
"""Stands in everything here that people write, so that a test can look for it in logs."""


class Organisation:
    """Its people, and what they set up.

    Attributes:
        org: Drift's id of it.
    """

    def __init__(self) -> None:
        self.org = ORG

    def users(self) -> list[Row]:
        return [
            {
                "id": 501 + number,
                "orgId": self.org,
                "name": f"{PERSONAL} {number}",
                "email": f"user{number}@example.com",
                "availability": "AVAILABLE",
                "role": "member",
                "alias": f"u{number}",
                "phone": "+1 555 0100",
                "locale": "en_US",
                "timeZone": "America/New_York",
                "avatarUrl": "https://example.com/avatar.png",
                "verified": True,
                "bot": number == 1,
                "createdAt": FIRST_TIME,
                "updatedAt": FIRST_TIME + number,
            }
            for number in range(12)
        ]

    def teams(self) -> list[Row]:
        return [
            {
                "id": 301 + number,
                "orgId": self.org,
                "workspaceId": "0f5c9a52-5d3c-4bb4-a36c-5a7a2b9f3a10",
                "name": f"Team {number}",
                "owner": 501,
                "members": [501, 502 + number],
                "status": "ENABLED",
                "main": number == 0,
                "autoOffline": False,
                "teamAvailabilityMode": "CUSTOM_HOURS",
                "responseTimerEnabled": True,
                "teamCsatEnabled": False,
                "updatedAt": FIRST_TIME + number,
            }
            for number in range(3)
        ]

    def accounts(self) -> list[Row]:
        return [
            {
                "accountId": f"{self.org}_company{number}.example",
                "ownerId": 501,
                "name": f"Company {number}",
                "domain": f"company{number}.example",
                "customProperties": [
                    {"label": "Seats", "name": "seats", "value": number, "type": "NUMBER"}
                ],
                "deleted": False,
                "targeted": number % 2 == 0,
                "createDateTime": FIRST_TIME,
                "updateDateTime": FIRST_TIME + number,
            }
            for number in range(150)
        ]

    def playbooks(self) -> list[Row]:
        return [
            {
                "id": 63_001 + number,
                "name": f"Playbook {number}",
                "orgId": self.org,
                "meta": {"anything": [number]},
                "createdAt": FIRST_TIME,
                "updatedAt": FIRST_TIME + number,
                "createdAuthorId": 501,
                "updatedAuthorId": 502,
                "interactionId": 7000 + number,
                "reportType": "BOOK_MORE_MEETINGS",
                "goals": [{"id": "5d8a6a0e-3b86-4f6e-9a58-6d6e9d6f2d11", "message": "Book"}],
            }
            for number in range(3)
        ]

    def landing_pages(self) -> list[Row]:
        """Pages that open a playbook; one of the playbooks has two."""
        return [
            {
                "playbookId": 63_001 + number // 2,
                "playbookName": f"Playbook {number // 2}",
                "landingPageUrl": f"https://{self.org}.drift.click/page{number}",
            }
            for number in range(3)
        ]

    def contact_attributes(self) -> list[Row]:
        return [
            {"name": "email", "displayName": "Email", "type": "STRING"},
            {"name": "seats", "displayName": "Seats", "type": "NUMERIC"},
            {"name": "customer", "displayName": "Is a customer", "type": "BOOLEAN"},
            {"name": "last_active", "displayName": "Last active", "type": "DATETIME"},
            {"name": "renewal", "displayName": "Renewal", "type": "DATE"},
        ]
