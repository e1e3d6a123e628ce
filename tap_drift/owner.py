"""Whose token it is: a bookmark of one account is no bookmark of another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import requests

from tap_drift.drift import DriftError

if TYPE_CHECKING:
    from tap_drift.drift import Drift


class Owner:
    """The organisation that a token belongs to, as far as it can be known.

    Args:
        drift: Whom to ask.
        url: Where Drift's API is.
        token: The access token.
    """

    def __init__(self, drift: Drift, url: str, token: str) -> None:
        self._drift = drift
        self._url = url
        self._token = token
        self._fingerprint = hashlib.sha256(token.encode()).hexdigest()[:12]
        self._organisation: str | None = None

    def account(self, known: str | None) -> str:
        """Say whose token it is, in the form that STATE keeps.

        Drift is asked at most once in a run, and only if STATE does not know this token yet.

        Args:
            known: What STATE says.

        Returns:
            Drift's id of the organisation, empty if that is not known, and a hash of the token:
            `4242:9f86d081884c`.
        """
        if known and known.endswith(f":{self._fingerprint}"):
            return known
        if self._organisation is None:
            self._organisation = self._ask()
        return f"{self._organisation}:{self._fingerprint}"

    def _ask(self) -> str:
        """Ask Drift, once and without retries (Drift's page on token information)."""
        request = requests.Request(
            "POST",
            f"{self._url}/app/token_info",
            json={"access_token": self._token},
            auth=_Bearer(self._token),
        )
        try:
            answer = self._drift.ask(
                self._drift.session.prepare_request(request),
                scope="",
                warn=lambda _: None,
                retries=0,
                pauses=False,
            )
        except DriftError:
            return ""
        user = answer.body.get("authenticated_userid") if isinstance(answer.body, dict) else None
        number = str(user).removeprefix("orgId:")
        return number if number.isdecimal() else ""


class _Bearer(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers["Authorization"] = f"Bearer {self._token}"
        return r
