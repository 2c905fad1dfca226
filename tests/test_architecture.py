"""Imports go one way, and ``media/`` does no I/O: computed from the source, so that it stays true.

``docs/architecture.md`` explains the layers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "ingestd"

#: A group (a folder or a module right under ``ingestd/``) imports groups of lower lines only; those on one
#: line do not know each other.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("doctor",),
    ("daemon", "client", "testcard"),
    ("control", "sources"),
    ("mux", "notify"),
    ("live",),
    ("sinks",),
    ("registry", "media"),
    ("config_file", "logs"),
    ("pipeline_file", "mux_check", "webhook_file"),
    ("problems",),
    ("structure", "auth"),
    ("config",),
    ("ranges", "credentials", "database_url"),
    ("errors", "events", "names", "units", "log_ring", "state_lock", "origins"),
    ("public_address", "webhook_types", "address", "server_frames"),
)
RANK = {group: rank for rank, layer in enumerate(LAYERS) for group in layer}

#: What `media` may use: bytes come in, objects and bytes go out.
PURE = frozenset(
    {"__future__", "attrs", "collections", "enum", "fractions", "math", "re", "struct", "sys", "typing"}
)
MAX_LINES = 400

Sources = Mapping[str, str]


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of every module by its dotted name."""
    sources = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        sources[name.removesuffix(".__init__")] = path.read_text("utf-8")
    return sources


def imports(module: str, sources: Sources) -> Iterator[str]:
    """Each module that *module* imports, wherever in its text: ours as modules, others by full name."""
    for node in ast.walk(ast.parse(sources[module])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative imports hide where they go"
            name = node.module or ""
            for alias in node.names:
                inner = f"{name}.{alias.name}"
                yield inner if inner in sources else name


def group(module: str) -> str:
    """The folder or module right under ``ingestd/``; empty for the package itself, which has the version."""
    return module.split(".")[1] if "." in module else ""


def upward(sources: Sources) -> list[str]:
    """Every import between groups that does not go to a lower layer."""
    found = []
    for module in sources:
        for target in imports(module, sources):
            if target.split(".")[0] != "ingestd" or group(target) in ("", group(module)):
                continue
            if not group(module) or RANK[group(module)] >= RANK[group(target)]:
                found.append(f"{module} imports {target}")
    return found


def cycles(sources: Sources) -> list[str]:
    """Modules that import each other in a circle."""
    edges = {module: [t for t in imports(module, sources) if t in sources] for module in sources}
    done: set[str] = set()
    found: list[str] = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" → ".join((*path[path.index(module) :], module)))
        elif module not in done:
            for target in edges[module]:
                # A module names its own package in every import; the package imports it in __init__.
                if not module.startswith(f"{target}."):
                    visit(target, (*path, module))
            done.add(module)

    for module in sources:
        visit(module, ())
    return found


def impure(sources: Sources) -> list[str]:
    """What `media` uses beyond `PURE` and the layers below it."""
    found = []
    for module in sources:
        if group(module) != "media":
            continue
        for target in imports(module, sources):
            if target.split(".")[0] not in {"ingestd", *PURE}:
                found.append(f"{module} imports {target}")
        for node in ast.walk(ast.parse(sources[module])):
            if isinstance(node, ast.Name) and node.id in ("open", "print", "input"):
                found.append(f"{module} uses {node.id}()")
            elif isinstance(node, ast.AsyncFunctionDef):
                found.append(f"{module} waits in {node.name}()")
    return found


def test_every_group_has_its_layer(sources: Sources) -> None:
    """A new folder or module under ``ingestd/`` is placed in a layer first."""
    assert {group(module) for module in sources} - {""} <= set(RANK)


def test_imports_go_down(sources: Sources) -> None:
    assert upward(sources) == []


def test_no_module_imports_itself_in_a_circle(sources: Sources) -> None:
    assert cycles(sources) == []


def test_media_does_no_io(sources: Sources) -> None:
    assert impure(sources) == []


def test_only_the_daemon_knows_listeners(sources: Sources) -> None:
    """What listens (control, sources) is put together in one place."""
    wiring = {
        module
        for module in sources
        for target in imports(module, sources)
        if target.startswith(("ingestd.control", "ingestd.sources"))
        and group(module) not in ("control", "sources")
    }
    assert wiring == {"ingestd.daemon"}


def test_control_knows_sessions_but_not_ffmpeg(sources: Sources) -> None:
    known = {group(t) for m in sources if group(m) == "control" for t in imports(m, sources) if t in sources}
    assert known <= {
        "", "control", "live", "mux", "config", "errors", "names", "registry", "log_ring", "auth", "events",
        "notify", "sinks", "structure", "address",
    }  # fmt: skip


def test_no_module_is_long(sources: Sources) -> None:
    """One that must be says why at its top, and here."""
    assert [module for module, text in sources.items() if text.count("\n") > MAX_LINES] == []


# That the checks themselves see what they are for


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("ingestd.media.ebml", "from ingestd.live.hub import Hub"),
        ("ingestd.live.hub", "import ingestd.daemon"),
        ("ingestd.live.hub", "def later():\n    from ingestd import daemon"),
        ("ingestd.control.app", "from ingestd.sources import websocket"),
        ("ingestd.errors", "from ingestd.names import NAME"),
        ("ingestd", "from ingestd.cli import main"),
    ],
)
def test_a_wrong_import_is_found(module: str, line: str, sources: Sources) -> None:
    """One line more, and the rule that it breaks is named with both modules."""
    wrong = {**sources, module: f"{sources[module]}\n{line}\n"}
    (found,) = upward(wrong)
    assert found.startswith(f"{module} imports ingestd.")


def test_a_circle_is_found(sources: Sources) -> None:
    wrong = {**sources, "ingestd.media.frames": "from ingestd.media import h264\n"}
    assert any("ingestd.media.frames → ingestd.media.h264 → ingestd.media.frames" in c for c in cycles(wrong))


@pytest.mark.parametrize(
    "line", ["import trio", "from os import path", "import subprocess", "open('x')", "async def f(): ..."]
)
def test_io_in_media_is_found(line: str, sources: Sources) -> None:
    wrong = {**sources, "ingestd.media.ebml": f"{sources['ingestd.media.ebml']}\n{line}\n"}
    assert len(impure(wrong)) == 1
