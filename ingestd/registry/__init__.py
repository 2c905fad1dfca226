"""The registry: streams, sessions, recordings and what waits to be told, in memory and in SQL."""
