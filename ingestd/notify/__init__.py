"""Outgoing webhooks: what happened is told to endpoints, signed, at least once, from a durable outbox."""
