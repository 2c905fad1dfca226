"""What streams, pipelines, sinks and stream keys may be called."""

from __future__ import annotations

import re

#: Streams, pipelines and sinks: their names become parts of URLs and of file names.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
NAME_EXPECTED = 'expected a name of 1 to 64 of a-z 0-9 "_" "-" that begins with a letter or digit'
#: Stream keys: one segment of a URL's path that needs no escaping.
KEY = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
KEY_EXPECTED = 'expected 1 to 128 of A-Z a-z 0-9 "_" "-"'
