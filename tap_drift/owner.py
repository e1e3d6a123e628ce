"""Whose token it is: a bookmark of one account is no bookmark of another."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests

from tap_drift.drift import DriftError

if TYPE_CHECKING:
    from tap_drift.drift import Drift


_NOTHING_LEARNT = {None, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
"""Statuses of errors that say nothing of the account; `None` is that of no answer."""


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

    def account(self, known: str | None) -> str | None:
        """Say whose token it is, in the form that STATE keeps.

        Drift is asked at most once in a run, and only if STATE does not know this token yet.

        Args:
            known: What STATE says.

        Returns:
            Drift's id of the organisation, empty if that is not known, and a hash of the token:
            `4242:9f86d081884c`. What STATE says, if nothing can be learnt now: the next run asks.
        """
        if known and known.endswith(f":{self._fingerprint}"):
            return known
        if self._info is None:
            return known
        number = str(self._info.get("authenticated_userid")).removeprefix("orgId:")
        is_id = re.fullmatch("[0-9]{1,20}", number)
        return f"{number if is_id else ''}:{self._fingerprint}"

    @property
    def scopes(self) -> list[str]:
        """The scopes of the token, as Drift lists them; none if it does not."""
        return re.findall(r"\b[a-z][a-z_]*\b", str((self._info or {}).get("scope") or "")[:2000])

    @cached_property
    def _info(self) -> dict[str, Any] | None:
        """What Drift says of the token, asked once and without retries.

        Drift's page on token information has the fields. `None` where there is nothing to learn:
        Drift refused the token, could not be reached, or asked to wait.
        """
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
        except DriftError as error:
            has_answered = error.status not in _NOTHING_LEARNT and error.wait is None
            return {} if has_answered else None
        return answer.body if isinstance(answer.body, dict) else {}


class _Bearer(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers["Authorization"] = f"Bearer {self._token}"
        return r
