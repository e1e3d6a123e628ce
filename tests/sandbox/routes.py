"""What Drift documents, resource by resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from tests.sandbox.answer import as_json, error
from tests.sandbox.items import DAY
from tests.sandbox.listing import conversation_list
from tests.sandbox.reports import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request

    from tests.sandbox.server import Sandbox

SCOPES = "account_read all_contact_read contact_read conversation_read playbook_read user_read"


def conversation(sandbox: Sandbox, request: Request, id_: int) -> Response:
    if id_ not in sandbox.account.conversations:
        return error(404, "not_found", "No conversation with that id")
    return as_json({"data": sandbox.account.detail(id_)})


def messages(sandbox: Sandbox, request: Request, id_: int) -> Response:
    if id_ not in sandbox.account.conversations:
        return error(404, "not_found", "No conversation with that id")
    messages = sandbox.account.messages(id_)
    start = int(request.args.get("next") or 0)
    page, below = messages[start : start + 50], start + 50
    more = below < len(messages)
    pagination = {"more": more, "next": str(below)} if more else {"more": False}
    return as_json({"data": {"messages": page}, "pagination": pagination})


def contact(sandbox: Sandbox, request: Request, id_: int) -> Response:
    contact = sandbox.account.contact(id_)
    if contact is None:
        return error(404, "not_found", "No contact with that id")
    return as_json({"data": contact})


def users(sandbox: Sandbox, request: Request) -> Response:
    return as_json({"data": sandbox.account.users()})


def teams(sandbox: Sandbox, request: Request) -> Response:
    return as_json({"data": sandbox.account.teams()})


def accounts(sandbox: Sandbox, request: Request) -> Response:
    accounts = sandbox.account.accounts()
    start, size = int(request.args.get("index", 0)), int(request.args.get("size", 10))
    if not 1 <= size <= 65:
        return error(400, "validation_error", "size must be between 1 and 65")
    data: dict[str, Any] = {"accounts": accounts[start : start + size], "total": len(accounts)}
    if start + size < len(accounts):
        data["next"] = f"/accounts?index={start + size}&size={size}"
    return as_json({"data": data})


def playbooks(sandbox: Sandbox, request: Request) -> Response:
    return as_json(sandbox.account.playbooks())


def landing_pages(sandbox: Sandbox, request: Request) -> Response:
    return as_json(sandbox.account.landing_pages())


def contact_attributes(sandbox: Sandbox, request: Request) -> Response:
    return as_json({"data": {"properties": sandbox.account.contact_attributes()}})


def stats(sandbox: Sandbox, request: Request) -> Response:
    return as_json({"conversationCount": sandbox.account.stats()})


def transcript(sandbox: Sandbox, request: Request, id_: int) -> Response:
    """Plain text, of which the header does not say that it is UTF-8; or the text in JSON."""
    if id_ not in sandbox.account.conversations:
        return error(404, "not_found", "No conversation with that id")
    text = sandbox.account.transcript(id_)
    if sandbox.transcripts_as_json:
        return as_json({"data": text})
    return Response(text, content_type="text/plain")


def attachment(sandbox: Sandbox, request: Request, id_: int) -> Response:
    content = sandbox.account.file(id_)
    if content is None:
        return error(404, "not_found", "No attachment with that id")
    return Response(content, content_type="application/pdf")


def meetings(sandbox: Sandbox, request: Request) -> Response:
    """What starts in a window, cut silently at the limit; nothing from before the last month."""
    try:
        first, last = (int(request.args[f"{end}_start_time"]) for end in ("min", "max"))
        limit = int(request.args.get("limit", 100))
    except (KeyError, ValueError):
        return error(400, "validation_error", "min_start_time and max_start_time are numbers")
    if not 0 <= limit <= 1000:
        return error(400, "validation_error", "limit must be between 0 and 1000")
    first = max(first, sandbox.account.now - 30 * DAY)
    found = [row for row in sandbox.account.meetings() if first <= row["slotStart"] <= last]
    return as_json({"data": found[:limit]})


def token_info(sandbox: Sandbox, request: Request) -> Response:
    """Whose token it is; the account may have several."""
    body = request.get_json(silent=True)
    token = body.get("access_token") if isinstance(body, dict) else None
    if sandbox.token_info_status != 200 or token not in sandbox.tokens:
        status = sandbox.token_info_status if sandbox.token_info_status != 200 else 404
        type_ = "authentication_error" if status in {401, 403} else "not_found"
        return error(status, type_, "No such token")
    return as_json(
        {
            "access_token": token,
            "authenticated_userid": f"orgId:{sandbox.account.org}",
            "credential_id": "",
            "token_type": "bearer",
            "expires_in": 0,
            "created_at": 1_760_000_000_000,
            "scope": SCOPES,
            "id": "0b0e0e1c-6a54-4b06-9f0e-6d7a3e2b8c11",
        }
    )


ROUTES: list[tuple[str, str, Callable[..., Response]]] = [
    ("GET", r"/conversations/list", conversation_list),
    ("GET", r"/conversations/(\d+)", conversation),
    ("GET", r"/conversations/(\d+)/messages", messages),
    ("GET", r"/contacts/(\d+)", contact),
    ("GET", r"/users/list", users),
    ("GET", r"/teams/org", teams),
    ("GET", r"/accounts", accounts),
    ("GET", r"/playbooks/list", playbooks),
    ("GET", r"/playbooks/clp", landing_pages),
    ("GET", r"/contacts/attributes", contact_attributes),
    ("GET", r"/conversations/stats", stats),
    ("GET", r"/conversations/(\d+)/transcript", transcript),
    ("GET", r"/attachments/(\d+)/data", attachment),
    ("GET", r"/users/meetings/org", meetings),
    ("POST", r"/reports/conversations", report),
    ("POST", r"/app/token_info", token_info),
]
