"""Mux as a closed loop: its API, its webhooks, and whether what we push arrives (``docs/mux.md``)."""
