"""What can hold up a webhook, by what the caller does next. No text has a secret, or a URL's path."""

from __future__ import annotations

from ingestd.errors import IngestdError


class Undelivered(IngestdError):
    """An attempt brought no answer: try again later."""


class NoDelivery(IngestdError):
    """There is no delivery of that id (any more)."""


class NoEndpoint(IngestdError):
    """``ingestd.toml`` has no ``[[webhooks]]`` of that name (any more)."""


class EndpointBusy(IngestdError):
    """As many events as may be wait for this endpoint already: try again later."""
