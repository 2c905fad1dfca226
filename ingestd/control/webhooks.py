"""``/v1/webhooks``: who is told what happens, the log of deliveries, and another try for one of them."""

from __future__ import annotations

from quart import Blueprint

from ingestd.control.contract import Answer, Routes, ok
from ingestd.control.errors import Refusal
from ingestd.control.shapes import (
    DeliveryList,
    DeliveryListing,
    DeliveryTold,
    WebhookList,
    WebhookTold,
)
from ingestd.notify.endpoint import Endpoint
from ingestd.notify.errors import EndpointBusy, NoDelivery, NoEndpoint
from ingestd.notify.message import rfc3339
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.model import Delivery
from ingestd.registry.paging import BadCursor


def endpoint_told(endpoint: Endpoint) -> WebhookTold:
    """An endpoint without its secret, nor what of its URL may be one."""
    webhook, since = endpoint.webhook, endpoint.failing_since
    return WebhookTold(
        name=webhook.name,
        origin=endpoint.origin,
        events=list(webhook.events),
        streams=list(webhook.streams),
        allow_private=webhook.allow_private,
        pending=endpoint.pending,
        delivered=endpoint.delivered,
        failed=endpoint.failed,
        dropped=endpoint.dropped,
        failing_since=None if since is None else rfc3339(since),
        last_error=endpoint.last_error,
    )


def delivery_told(delivery: Delivery) -> DeliveryTold:
    """One delivery, and with which body."""
    done = delivery.delivered_at
    return DeliveryTold(
        id=delivery.id,
        endpoint=delivery.endpoint,
        event_id=delivery.event_id,
        type=delivery.type,
        state=delivery.state,
        created=rfc3339(delivery.created),
        attempts=delivery.attempts,
        next_attempt=rfc3339(delivery.next_attempt) if delivery.state == "pending" else None,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        delivered_at=None if done is None else rfc3339(done),
        body=delivery.body.decode(),
    )


def blueprint(webhooks: Webhooks) -> Blueprint:
    routes = Routes("webhooks", "Webhooks")
    shown = ok(DeliveryTold)
    again = Answer(status=202, about="It will be tried at once.", body=DeliveryTold)

    @routes.get("/v1/webhooks", "List endpoints", scope="read", answers=[ok(WebhookList)])
    async def endpoints() -> WebhookList:
        """Those of `[[webhooks]]`, and how they do since the daemon started."""
        return WebhookList([endpoint_told(endpoint) for endpoint in webhooks.endpoints.values()])

    @routes.get(
        "/v1/webhooks/deliveries", "List deliveries", scope="read", query=DeliveryListing,
        answers=[ok(DeliveryList)], problems=(503,),
    )  # fmt: skip
    async def deliveries(query: DeliveryListing) -> DeliveryList:
        """The newest first, as long as `notify.keep_for` keeps them."""
        try:
            page = await webhooks.deliveries(
                endpoint=query.endpoint, state=query.state, limit=query.limit, cursor=query.cursor
            )
        except BadCursor as error:
            raise Refusal(400, f"cursor: {error}") from None
        told = [delivery_told(delivery) for delivery in page.items]
        return DeliveryList(told, page.next) if page.next is not None else DeliveryList(told)

    @routes.get(
        "/v1/webhooks/deliveries/<delivery>", "Show a delivery", scope="read", answers=[shown],
        problems=(404, 503),
    )  # fmt: skip
    async def show(delivery: str) -> DeliveryTold:
        """With its body, and what the last attempt came to."""
        try:
            return delivery_told(await webhooks.delivery(delivery))
        except NoDelivery as error:
            raise Refusal(404, str(error)) from None

    @routes.post(
        "/v1/webhooks/deliveries/<delivery>/redeliver", "Deliver it again", scope="admin", answers=[again],
        problems=(404, 503),
    )  # fmt: skip
    async def redeliver(delivery: str) -> tuple[DeliveryTold, int]:
        """Whether it was delivered or given up."""
        try:
            return delivery_told(await webhooks.redeliver(delivery)), 202
        except (NoDelivery, NoEndpoint) as error:
            raise Refusal(404, str(error)) from None
        except EndpointBusy as error:
            raise Refusal(503, str(error), retry_after=5) from None

    @routes.post(
        "/v1/webhooks/<endpoint>/test", "Send a test", scope="admin", answers=[again], problems=(404, 503),
    )  # fmt: skip
    async def test(endpoint: str) -> tuple[DeliveryTold, int]:
        """An event of type `webhook.test`, signed and logged as any other."""
        try:
            return delivery_told(webhooks.test(endpoint)), 202
        except NoEndpoint as error:
            raise Refusal(404, str(error)) from None
        except EndpointBusy as error:
            raise Refusal(503, str(error), retry_after=5) from None

    return routes.blueprint
