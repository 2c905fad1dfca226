"""schemathesis over the document: no 5xx, no answer that is not described, nothing without its scope.

Each operation gets requests that are right and wrong, from callers who may and who may not. With the mark
``full`` there are many more of them.
"""

from __future__ import annotations

import schemathesis

_CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.response_headers_conformance,
]
#: They have no end; other tests read them.
_ENDLESS = ("/v1/events", "/internal/videoExpose")
