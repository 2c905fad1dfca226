"""``POST /webhooks/mux``: what Mux tells us. Signed; asks for no token of ours."""

from __future__ import annotations

import structlog
import trio
from quart import Blueprint, Response, request

from ingestd.control.contract import Answer, Routes
from ingestd.control.errors import not_found, problem
from ingestd.mux.errors import MuxUnauthorised
from ingestd.mux.events import EventMalformed
from ingestd.mux.receiver import Receiver
from ingestd.mux.signature import SignatureMalformed, SignatureWrong

log = structlog.get_logger(__name__)

_PATIENCE = 10.0  # seconds for the whole body


def blueprint(receiver: Receiver | None) -> Blueprint:
    """Answers 204 as soon as the event is taken. Mux sends one that was not answered 2xx again, for a day."""
    routes = Routes("mux", "Mux")
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
