"""Names of recordings: what a template may be, and what it becomes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink
from ingestd.sinks.file_path import PLACEHOLDERS, path_problem
from tests.config.tools import problems

PLACE = Place(
    stream="cam", pipeline="web", recordings=Path("/r"), hls=Path("/h"), stem="20231114T221320.000Z"
)


@pytest.mark.parametrize(
    ("template", "first", "second"),
    [
        ("{session}", "20231114T221320.000Z", "20231114T221320.000Z-2"),
        ("{session}-{part}", "20231114T221320.000Z-001", "20231114T221320.000Z-002"),
        ("{date}/{stream} {time}", "2023-11-14/cam 221320", "2023-11-14/cam 221320-2"),
        ("{pipeline}/{sink}/{session}/{part}", "web/file/20231114T221320.000Z/001",
         "web/file/20231114T221320.000Z/002"),
    ],
)  # fmt: skip
def test_what_a_template_becomes(template: str, first: str, second: str) -> None:
    """Placeholders are filled in, in UTC; without {part} the later files get their number at the end."""
    sink = FileSink(path=template)
    assert sink.problems() == []
    assert [sink.stem(PLACE, number, 1_700_000_000.9) for number in (1, 2)] == [first, second]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{sesion}", 'no placeholder {sesion} (known: stream, pipeline, sink, session, date, time, part), '
                     'did you mean "session"?'),
        ("{session", "beside placeholders it may hold"),
        ("{session!r}", "no placeholder {session!r}"),
        ("/{session}", "no part of it may be empty"),
        ("../{session}", "no part of it may be empty, begin with"),
        ("{date}/../../{session}", "begin with"),
        ("{session}/..", "begin with"),
        (".{session}", "begin with"),
        ("-{session}", "begin with"),
        ("{session}.", "end with"),
        ("a\\{session}", "beside placeholders"),
        ("é{session}", "beside placeholders"),
        ("", "no part of it may be empty"),
        ("{stream}", "it needs {session}, or {date} and {time}"),
        ("{date}", "it needs {session}, or {date} and {time}"),
        ("{session}" + "x" * 200, "longer than file systems take"),
        ("{session}/" * 9 + "x", "longer than file systems take"),
    ],
)  # fmt: skip
def test_a_wrong_template_is_refused_with_the_fix(tmp_path: Path, template: str, problem: str) -> None:
    """The problem names file and key, and says what was expected."""
    quoted = template.replace("\\", "\\\\")
    (found,) = problems(tmp_path, archive=f'[[sinks]]\ntype = "file"\npath = "{quoted}"\n')
    assert found.startswith("pipelines/archive.toml: sinks.file.path: ")
    assert problem in found


@given(
    st.lists(
        st.sampled_from([f"{{{name}}}" for name in PLACEHOLDERS] + ["/", ".", "..", "~", "a", " ", "-"])
        | st.text(max_size=3),
        max_size=8,
    )
)
def test_no_template_leads_out_of_the_recordings(pieces: list[str]) -> None:
    """Whatever passes is a relative path without "..", of parts that file systems take."""
    sink = FileSink(path="".join(pieces))
    if path_problem(sink.path):
        return
    found = PurePosixPath(sink.stem(PLACE, 7, 1e9))
    assert not found.is_absolute()
    assert not {"..", "."} & set(found.parts)
    assert all(part[0] not in ".-" and len(part) < 230 and part.isprintable() for part in found.parts)


def test_raw_recordings_do_not_rotate(tmp_path: Path) -> None:
    """A raw recording is the publisher's bytes, one file a recorder: rotating it is refused."""
    text = '[[sinks]]\ntype = "file"\nformat = "raw"\nrotate_every = "1h"\nrotate_size = "2GiB"\n'
    found = problems(tmp_path, archive=text)
    assert [line.partition(": expected")[0] for line in found] == [
        "pipelines/archive.toml: sinks.file.rotate_every",
        "pipelines/archive.toml: sinks.file.rotate_size",
    ]


def test_two_sinks_need_two_names(tmp_path: Path) -> None:
    """The same format under the same template is refused; another template is another place."""
    one = '[[sinks]]\ntype = "file"\n'
    assert len(problems(tmp_path, archive=one + one)) == 1
    text = one + one + 'path = "{session}-b"\nbroken = 1\n'
    assert len(problems(tmp_path, archive=text)) == 1
