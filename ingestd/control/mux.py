"""``POST /webhooks/mux``: what Mux tells us. Signed; asks for no token of ours. And what is to go there."""

from __future__ import annotations

import structlog
import trio
from quart import Blueprint, Response, request

from ingestd.control.contract import Answer, Routes, ok
from ingestd.control.errors import not_found, problem
from ingestd.control.shapes import LeftoverList, LeftoverTold
from ingestd.live.status import rfc3339
from ingestd.mux.errors import MuxUnauthorised
from ingestd.mux.events import EventMalformed
from ingestd.mux.lifecycle import Lifecycle
from ingestd.mux.receiver import Receiver
from ingestd.mux.signature import SignatureMalformed, SignatureWrong
from ingestd.registry.model import Leftover

log = structlog.get_logger(__name__)

_PATIENCE = 10.0  # seconds for the whole body


def blueprint(receiver: Receiver | None, life: Lifecycle | None = None) -> Blueprint:
    """Answers 204 as soon as the event is taken. Mux sends one that was not answered 2xx again, for a day."""
    routes = Routes("mux", "Mux")

    @routes.get(
        "/v1/mux/leftovers", "List what is to go at Mux", scope="read", answers=[ok(LeftoverList)],
        problems=(503,),
    )  # fmt: skip
    async def leftovers() -> LeftoverList:
        """Live streams that nobody uses and that could not be deleted yet, or may have been made."""
        return LeftoverList([_told(left) for left in await life.leftovers()] if life is not None else [])

    taken = Answer(status=204, about="It is taken.", media=None)

    @routes.post(
        "/webhooks/mux", "What Mux tells us", scope=None, answers=[taken],
        problems=(400, 401, 404, 408, 413, 503), headers={"Mux-Signature": "Mux's, over the raw body."},
    )  # fmt: skip
    async def webhook() -> Response:
        """To be entered at Mux as the URL of a webhook."""
        if receiver is None:
            return not_found("[mux] has no tokens, so no webhook is taken")
        if not receiver.expected:
            return not_found("mux.webhook_secret_file is not set, so no webhook is taken")
        with trio.move_on_after(_PATIENCE) as scope:
            body = await _body(receiver.largest)
        if scope.cancelled_caught:
            return problem(408, "Request Timeout", f"the body took longer than {_PATIENCE:g} s")
        if body is None:
            text = f"expected at most {receiver.largest} bytes (mux.max_webhook)"
            return problem(413, "Content Too Large", text)
        try:
            receiver.accept(request.headers.get("Mux-Signature"), body)
        except (SignatureMalformed, EventMalformed) as error:
            return _refused(problem(400, "Bad Request", str(error)), error)
        except SignatureWrong as error:
            return _refused(problem(401, "Unauthorized", str(error)), error)
        except MuxUnauthorised as error:
            response = problem(503, "Service Unavailable", str(error))
            response.headers["Retry-After"] = "60"
            return response
        return Response("", 204)

    return routes.blueprint


def _told(left: Leftover) -> LeftoverTold:
    passthrough = left.id if left.id != left.stream_id else None
    return LeftoverTold(
        stream=left.stream, stream_id=left.stream_id or None, passthrough=passthrough,
        since=rfc3339(left.since), attempts=left.attempts, next_attempt=rfc3339(left.next_attempt),
        last_error=left.last_error,
    )  # fmt: skip


async def _body(largest: int) -> bytes | None:
    """The raw body, or None for one that is too large; then the rest of it is not read."""
    if (request.content_length or 0) > largest:
        return None
    body = bytearray()
    async for chunk in request.body:
        body += chunk
        if len(body) > largest:
            return None
    return bytes(body)


def _refused(response: Response, error: Exception) -> Response:
    log.warning("mux_webhook_refused", status=response.status_code, cause=str(error))
    return response
