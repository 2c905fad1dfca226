"""A configuration without mistakes: what it turns into."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ingestd.config import Config, Pipelines, Storage, Video
from ingestd.config_file import load
from ingestd.sinks import SINKS
from ingestd.sinks.file import FileSink
from ingestd.sinks.hls import HlsSink
from tests.config.tools import HLS, load_text, problems, write

SECRET = "correct-horse_BATTERY-staple"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """Defaults live in the classes; only the paths become absolute."""
    loaded = load_text(tmp_path)
    pipelines = loaded.pipelines
    assert loaded == Config(
        path=tmp_path / "ingestd.toml",
        storage=Storage(state_dir=tmp_path / "var"),
        pipelines_dir=Pipelines(dir=tmp_path / "pipelines"),
        pipelines=pipelines,
    )
    assert [pipeline.video for pipeline in pipelines.values()] == [Video()]


def test_units_and_values(tmp_path: Path) -> None:
    """Strings with units become numbers; 0 needs no unit; an integer will do for a number."""
    text = """
        [ingest]
        bind = "[::1]:0"
        max_message = "1MiB"
        idle_timeout = 0
        [control]
        bind = "0.0.0.0:80"
        allow_unauthenticated = true
        [supervisor]
        backoff = ["100ms", "1m"]
    """
    loaded = load_text(tmp_path, text, a='[video]\nfps = 25\nsize = "640x360"\nbitrate = "1M"')
    assert str(loaded.ingest.bind) == "[::1]:0"
    assert loaded.ingest.max_message == 2**20
    assert loaded.ingest.idle_timeout == 0
    assert loaded.control.bind.port == 80
    assert loaded.supervisor.backoff == (0.1, 60.0)
    video = loaded.pipelines["a"].video
    assert (video.fps, video.size, video.bitrate) == (25.0, (640, 360), 1_000_000)


def test_sinks_get_names(tmp_path: Path) -> None:
    """The type, then type-2; names that were given are kept, and not given twice."""
    text = (
        '[[sinks]]\ntype = "file"\n'
        '[[sinks]]\ntype = "file"\nformat = "raw"\n'
        '[[sinks]]\ntype = "file"\nformat = "mp4"\nname = "file-2"\n' + HLS
    )
    assert load_text(tmp_path, "", a=text).pipelines["a"].sinks == (
        FileSink(name="file", format="mkv"),
        FileSink(name="file-3", format="raw"),
        FileSink(name="file-2", format="mp4"),
        HlsSink(name="hls"),
    )


def test_paths_start_at_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the working directory; messages name files as the operator named them."""
    write(tmp_path, '[storage]\nstate_dir = "../state"\n[pipelines]\ndir = "/nowhere/at/all"\n')
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    with pytest.raises(
        Exception, match=r"^\.\./ingestd\.toml: pipelines\.dir: there is no directory /nowhere"
    ):
        load(Path("../ingestd.toml"), SINKS)
    write(tmp_path, '[storage]\nstate_dir = "state"\n')
    loaded = load(Path("../ingestd.toml"), SINKS)
    assert loaded.path.is_absolute()
    assert loaded.storage.state_dir.resolve() == tmp_path.resolve() / "state"


def test_keys_come_from_files_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file is relative to the configuration; a credential lies where systemd says."""
    (tmp_path / "key").write_text(f"{SECRET}\n")
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "b").write_text("other")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "creds"))
    loaded = load_text(
        tmp_path,
        '[streams.a]\npipeline = "hls"\nkey_file = "key"\n'
        '[streams.b]\npipeline = "hls"\nkey_file = "credential:b"\n',
    )
    assert loaded.streams["a"].key_sha256 == hashlib.sha256(SECRET.encode()).digest()
    assert loaded.streams["b"].key_sha256 == hashlib.sha256(b"other").digest()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; expected the key in it"),
        (b"a b", "holds no usable key; expected one line of printable ASCII, no spaces"),
        (b"\xff\x00", "holds no usable key; expected one line of printable ASCII, no spaces"),
    ],
)
def test_unusable_key_files(tmp_path: Path, content: bytes, problem: str) -> None:
    """The file is named, its content is not."""
    (tmp_path / "key").write_bytes(content)
    found = problems(tmp_path, '[streams.a]\npipeline = "hls"\nkey_file = "key"\n')
    assert found == [f"ingestd.toml: streams.a.key_file: key {problem}"]


def test_files_of_sinks_are_only_needed_once_a_stream_uses_them(tmp_path: Path) -> None:
    """A shipped pipeline may name a key that does not exist yet."""
    mux = '[[sinks]]\ntype = "mux"\nkey_file = "mux-key"\nca_file = "ca.pem"\n'
    load_text(tmp_path, "", mux=mux)
    found = problems(tmp_path, '[streams.a]\npipeline = "mux"\nkey = "k"\n', mux=mux)
    assert found == [
        "pipelines/mux.toml: sinks.mux.key_file: cannot read mux-key: No such file or directory; "
        "expected a file with the key",
        "pipelines/mux.toml: sinks.mux.ca_file: there is no readable file ca.pem",
    ]


def test_keys_are_never_shown(tmp_path: Path) -> None:
    """Neither in a repr of what was loaded nor in any problem around them."""
    stream = f'[streams.a]\npipeline = "hls"\nkey = "{SECRET}"\n'
    push = (
        f'[[sinks]]\ntype = "mux"\nkey = "{SECRET}"\n'
        f'[[sinks]]\ntype = "rtmp"\nurl = "rtmp://user:{SECRET}@example.org/app/{SECRET}"\n'
    )
    loaded = load_text(tmp_path, stream, hls=push)
    assert SECRET not in repr(loaded)
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in repr(loaded)
    bad_stream = (
        f'[streams.a]\npipeline = "hsl"\nkey = "{SECRET}"\nkye = "{SECRET}"\n'
        f'[streams.b]\npipeline = "hls"\nkey = "{SECRET}/"\n'
        f'[streams.c]\npipeline = "hls"\nkey = ["{SECRET}"]\n'
        f'[streams.d]\npipeline = "hls"\nkey = "{SECRET}"\nkey_file = "x"\n'
        f'[streams.e]\npipeline = "hls"\nkey = "{SECRET}"\n'
        f'[streams.f]\npipeline = "hls"\nkey = "{SECRET}"\n'
    )
    bad_push = (
        f'[[sinks]]\ntype = "mux"\nkey = "{SECRET}"\nkey_file = "x"\n'
        f'[[sinks]]\ntype = "mux"\nkey = "{SECRET} "\n'
        f'[[sinks]]\ntype = "mux"\nkey = "{SECRET}"\nendpoint = "http://x/{SECRET}"\n'
        f'[[sinks]]\ntype = "rtmp"\nurl = "rtmp://example.org/app/ {SECRET}"\n'
        f'[[sinks]]\ntype = "rtmp"\nurl = ["rtmp://example.org/app/{SECRET}"]\n'
        f'[[sinks]]\ntype = "rtmp"\nurl = "rtmp://[example.org/app/{SECRET}"\n'
        f'[[sinks]]\ntype = "rtmp"\nurl = "rtmp://example.org/app/{SECRET}"\n'
        f'[[sinks]]\ntype = "rtmp"\nurl = "rtmp://example.org/app/{SECRET}"\n'
    )
    found = problems(tmp_path, bad_stream, hls=bad_push)
    assert len(found) >= 12
    assert SECRET not in "\n".join(found)


def test_beyond_loopback_with_tokens(tmp_path: Path) -> None:
    """A file of tokens, or JWTs, is what the listener needs there; a wrong line in the file is a mistake."""
    bind = '[control]\nbind = "0.0.0.0:8080"\n'
    line = f"ops:admin:{'0' * 64}"
    (tmp_path / "tokens").write_text(f"# who may\n{line}\n")
    loaded = load_text(tmp_path, bind + '[auth]\ntokens_file = "tokens"')
    assert loaded.auth.tokens_file == str(tmp_path / "tokens")
    jwt = '[auth.jwt]\njwks_url = "https://id.example.org/k"\nissuer = "i"\naudience = "a"\n'
    assert load_text(tmp_path, bind + jwt).auth.is_configured
    (tmp_path / "tokens").write_text(f"{line}\n{line}x\n")
    (problem,) = problems(tmp_path, bind + '[auth]\ntokens_file = "tokens"')
    assert problem.startswith("ingestd.toml: auth.tokens_file: line 2: expected the token's SHA-256")
    assert "0000" not in problem


@pytest.mark.parametrize(("key", "good"), [("k" * 31, False), ("k" * 32, True)])
def test_the_playback_key_is_long_enough(tmp_path: Path, key: str, good: bool) -> None:
    (tmp_path / "playback").write_text(key)
    text = '[auth]\nplayback = "signed"\nplayback_key_file = "playback"'
    if good:
        assert load_text(tmp_path, text).auth.playback == "signed"
    else:
        assert "at least 32 characters" in problems(tmp_path, text)[0]
