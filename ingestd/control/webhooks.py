"""``/v1/webhooks``: who is told what happens, the log of deliveries, and another try for one of them."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, jsonify, request

from ingestd.control.access import scope
from ingestd.control.errors import not_found, problem
from ingestd.names import NAME, NAME_EXPECTED
from ingestd.notify.endpoint import Endpoint
from ingestd.notify.errors import EndpointBusy, NoDelivery, NoEndpoint
from ingestd.notify.message import rfc3339
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.database import DatabaseUnavailable
from ingestd.registry.model import Delivery
from ingestd.registry.paging import LARGEST, BadCursor

STATES = ("pending", "delivered", "failed")
_DEFAULT_LIMIT = 50


def endpoint_json(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint without its secret, nor what of its URL may be one."""
    webhook, since = endpoint.webhook, endpoint.failing_since
    return {
        "name": webhook.name,
        "origin": endpoint.origin,
        "events": list(webhook.events),
        "streams": list(webhook.streams),
        "allow_private": webhook.allow_private,
        "pending": endpoint.pending,
        "delivered": endpoint.delivered,
        "failed": endpoint.failed,
        "dropped": endpoint.dropped,
        "failing_since": None if since is None else rfc3339(since),
        "last_error": endpoint.last_error,
    }


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """One delivery, and with which body."""
    done = delivery.delivered_at
    return {
        "id": delivery.id,
        "endpoint": delivery.endpoint,
        "event_id": delivery.event_id,
        "type": delivery.type,
        "state": delivery.state,
        "created": rfc3339(delivery.created),
        "attempts": delivery.attempts,
        "next_attempt": rfc3339(delivery.next_attempt) if delivery.state == "pending" else None,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "delivered_at": None if done is None else rfc3339(done),
        "body": delivery.body.decode(),
    }


def blueprint(webhooks: Webhooks) -> Blueprint:
    blueprint = Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")

    @blueprint.get("")
    @scope("read")
    async def endpoints() -> Response:
        return jsonify(webhooks=[endpoint_json(endpoint) for endpoint in webhooks.endpoints.values()])

    @blueprint.get("/deliveries")
    @scope("read")
    async def deliveries() -> Response:
        given = request.args
        limit, state = given.get("limit", str(_DEFAULT_LIMIT)), given.get("state")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= LARGEST):
            return problem(400, "Bad Request", f"limit: expected a whole number from 1 to {LARGEST}")
        if state is not None and state not in STATES:
            return problem(400, "Bad Request", f"state: expected one of {', '.join(STATES)}")
        endpoint = given.get("endpoint")
        if endpoint is not None and NAME.fullmatch(endpoint) is None:
            return problem(400, "Bad Request", f"endpoint: {NAME_EXPECTED}")
        page = await webhooks.deliveries(
            endpoint=endpoint, state=state, limit=int(limit), cursor=given.get("cursor")
        )
        return jsonify(deliveries=[delivery_json(delivery) for delivery in page.items], next=page.next)

    @blueprint.get("/deliveries/<identity>")
    @scope("read")
    async def delivery(identity: str) -> Response:
        return jsonify(delivery_json(await webhooks.delivery(identity)))

    @blueprint.post("/deliveries/<identity>/redeliver")
    @scope("admin")
    async def redeliver(identity: str) -> tuple[Response, int]:
        return jsonify(delivery_json(await webhooks.redeliver(identity))), 202

    @blueprint.post("/<name>/test")
    @scope("admin")
    async def test(name: str) -> tuple[Response, int]:
        return jsonify(delivery_json(webhooks.test(name))), 202

    @blueprint.errorhandler(NoDelivery)
    @blueprint.errorhandler(NoEndpoint)
    async def unknown(error: NoDelivery | NoEndpoint) -> Response:
        return not_found(str(error))

    @blueprint.errorhandler(BadCursor)
    async def wrong(error: BadCursor) -> Response:
        return problem(400, "Bad Request", f"cursor: {error}")

    @blueprint.errorhandler(DatabaseUnavailable)
    @blueprint.errorhandler(EndpointBusy)
    async def later(error: DatabaseUnavailable | EndpointBusy) -> Response:
        response = problem(503, "Service Unavailable", str(error))
        response.headers["Retry-After"] = "5"
        return response

    @blueprint.after_request
    async def fresh(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
