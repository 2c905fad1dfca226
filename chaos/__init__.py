"""The fault runner: the real daemon, a live publisher, faults from outside, and a count of what is missing.

``python -m chaos --help``; ``docs/chaos.md`` says what the scenarios and the rows mean.
"""
