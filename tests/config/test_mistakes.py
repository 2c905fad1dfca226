"""Each mistake in a configuration, and the exact line that it is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.tools import HLS, problems

MAIN = [
    # Unknown keys.
    ("[ingst]\n", 'ingst: unknown key, did you mean "ingest"?'),
    (
        "[zzz]\n",
        "zzz: unknown key; known: auth, control, database, ffmpeg, hub, ingest, journal, log, mux, notify, "
        "pipelines, shutdown, storage, streams, supervisor, viewers, webhooks",
    ),
    ('[ingest]\nBind = "x"', 'ingest.Bind: unknown key, did you mean "bind"?'),
    ('[storage]\nwhere = "x"', "storage.where: unknown key; known: state_dir"),
    ('[storage]\n"a b" = 1', 'storage."a b": unknown key; known: state_dir'),
    # Wrong types.
    ("ingest = 1", "ingest: expected a table, got an integer"),
    ("[[ingest]]", "ingest: expected a table, got an array"),
    ("[ingest]\nchannel = true", "ingest.channel: expected a whole number without quotes, got a boolean"),
    ("[ingest]\nchannel = 1.0", "ingest.channel: expected a whole number without quotes, got a number"),
    ('[ingest]\nchannel = "16"', "ingest.channel: expected a whole number without quotes, got a string"),
    (
        "[ingest]\nping_timeout = 10",
        'ingest.ping_timeout: expected a duration in quotes like "2s", got an integer',
    ),
    (
        "[ingest]\nmax_message = 1.5",
        'ingest.max_message: expected a size in quotes like "16MiB", got a number',
    ),
    (
        "[ingest]\nbind = 80",
        'ingest.bind: expected host:port in quotes like "127.0.0.1:8080", got an integer',
    ),
    (
        "[control]\nallow_unauthenticated = 1",
        "control.allow_unauthenticated: expected true or false, got an integer",
    ),
    (
        "[control]\npublic_url = 1979-05-27",
        "control.public_url: expected a string in quotes, got a date or time",
    ),
    ("[storage]\nstate_dir = false", "storage.state_dir: expected a path in quotes, got a boolean"),
    ('[storage]\nstate_dir = ""', "storage.state_dir: expected a path in quotes, got an empty string"),
    ('[supervisor]\nbackoff = "1s"', 'supervisor.backoff: expected an array like ["1s", "2s"], got a string'),
    (
        '[supervisor]\nbackoff = ["1s", 2]',
        'supervisor.backoff[1]: expected a duration in quotes like "2s", got an integer',
    ),
    # Units.
    (
        '[ingest]\nping_timeout = "10 sec"',
        'ingest.ping_timeout: expected a duration like "2s" (units: ms, s, m, h, d), got "10 sec"',
    ),
    (
        '[hub]\nmemory = "32mb"',
        'hub.memory: expected a size like "16MiB" (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), '
        'got "32mb", did you mean "32MB"?',
    ),
    (
        '[ingest]\nbind = "localhost"',
        'ingest.bind: expected host:port like "127.0.0.1:8080" or "[::1]:8080" (0.0.0.0 for all), '
        'got "localhost"',
    ),
    # Ranges and choices.
    ("[ingest]\nchannel = 0", "ingest.channel: expected 1 to 4096; got 0"),
    ("[ingest]\nmax_streams = -1", "ingest.max_streams: expected 1 to 10000; got -1"),
    ('[ingest]\nmax_message = "1B"', "ingest.max_message: expected 64KiB to 1GiB; got 1B"),
    ('[ingest]\nidle_timeout = "1ms"', "ingest.idle_timeout: expected 1s to 7d, or 0 (never); got 1ms"),
    ("[ingest]\nping_timeout = 0", "ingest.ping_timeout: expected 100ms to 1h; got 0s"),
    ("[supervisor]\nbackoff = []", "supervisor.backoff: expected 1 to 100 values, got 0"),
    ('[supervisor]\nbackoff = ["2h"]', "supervisor.backoff: expected 1ms to 1h; got 2h"),
    (
        '[journal]\nack = "sync"',
        'journal.ack: expected one of "written", "synced"; got "sync", did you mean "synced"?',
    ),
    ("[journal]\nack = true", 'journal.ack: expected one of "written", "synced"; got a boolean'),
    # Across keys.
    (
        '[control]\nbind = "0.0.0.0:8080"',
        "control.bind: 0.0.0.0:8080 can be reached from other machines, and the listener asks nobody who "
        'they are; expected auth.tokens_file ("ingestd token new NAME --scope admin --to FILE" writes one), '
        'a loopback address like "127.0.0.1:8080" with a proxy in front, '
        "or control.allow_unauthenticated = true where the network is trusted",
    ),
    (
        '[ingest]\nbind = "127.0.0.1:8080"',
        "control.bind: 127.0.0.1:8080 is taken by ingest.bind = 127.0.0.1:8080; expected another port for "
        "one of them",
    ),
    (
        '[ingest]\nbind = "0.0.0.0:9000"\n[control]\nbind = "localhost:9000"',
        "control.bind: localhost:9000 is taken by ingest.bind = 0.0.0.0:9000; expected another port for one "
        "of them",
    ),
    (
        '[control]\npublic_url = "live.example.org"',
        'control.public_url: expected a URL like "https://live.example.org"',
    ),
    # Who may.
    (
        "[auth]\nfailures = 10",
        'auth.failures: expected how often in which time, in quotes, like "10/1m", got an integer',
    ),
    (
        '[auth]\nfailures = "10"',
        'auth.failures: expected how often in which time, like "10/1m" (0 = no limit), got "10"',
    ),
    (
        '[auth]\ncreates = "0/1m"',
        'auth.creates: expected 1 to 1000000 times in 100ms to 1d, like "10/1m", or 0 (no limit)',
    ),
    (
        '[auth]\nplayback = "ask"',
        'auth.playback: "ask" asks the application; expected its address in auth.url',
    ),
    (
        '[auth]\nunknown_keys = "ask"',
        'auth.unknown_keys: "ask" asks the application; expected its address in auth.url',
    ),
    (
        '[auth]\nplayback = "signed"',
        'auth.playback: "signed" needs auth.playback_key_file: a file with a key, which '
        '"openssl rand -hex 32" gives',
    ),
    (
        '[auth]\nurl = "https://user:pw@app.example.org"',
        'auth.url: expected a URL like "https://app.example.org/hook", without user and password',
    ),
    ("[auth]\njwt = 1", "auth.jwt: expected a table, got an integer"),
    ("[auth.jwt]\naudienz = 1", 'auth.jwt.audienz: unknown key, did you mean "audience"?'),
    (
        '[auth.jwt]\nalgorithms = ["HS256"]',
        'auth.jwt.algorithms[0]: expected one of "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", '
        '"ES256", "ES384", "ES512", "EdDSA"; got "HS256", did you mean "RS256"?',
    ),
    (
        '[auth.jwt]\njwks_url = "https://id.example.org/jwks"',
        "auth.jwt: expected issuer and audience, so that a token that was made for somebody else is not "
        "good here",
    ),
    (
        '[auth]\ntokens_file = "none"',
        "auth.tokens_file: cannot read none: No such file or directory; expected a file of tokens, which "
        '"ingestd token new --to FILE" writes',
    ),
    (
        '[ingest]\norigins = ["live.example.org"]',
        'ingest.origins: expected an origin like "https://live.example.org" or '
        '"http://localhost:3000", or "*"',
    ),
    (
        '[control]\ntrusted_proxies = ["proxy"]',
        'control.trusted_proxies: expected an address or a network like "127.0.0.1" or "10.0.0.0/8"',
    ),
    # Streams.
    ("streams = 1", "streams: expected tables like [streams.demo], got an integer"),
    ("[streams]\ndemo = 1", "streams.demo: expected a table, got an integer"),
    (
        '[streams.Demo]\npipeline = "hls"\nkey = "k"',
        'streams.Demo: expected a name of 1 to 64 of a-z 0-9 "_" "-" that begins with a letter or digit',
    ),
    ('[streams.demo]\nkey = "k"', "streams.demo.pipeline: is missing"),
    (
        '[streams.demo]\npipeline = "hls"',
        "streams.demo: expected exactly one of key and key_file, got neither",
    ),
    (
        '[streams.demo]\npipeline = "hls"\nkey = "k"\nkey_file = "f"',
        "streams.demo: expected exactly one of key and key_file, got both",
    ),
    (
        '[streams.demo]\npipeline = "hsl"\nkey = "k"',
        'streams.demo.pipeline: no pipeline "hsl" (known: hls), did you mean "hls"?',
    ),
    (
        '[streams.demo]\npipeline = "hls"\nkey = "a/b"',
        'streams.demo.key: this key cannot stand in a URL; expected 1 to 128 of A-Z a-z 0-9 "_" "-"',
    ),
    (
        '[streams.demo]\npipeline = "hls"\nkey = 1',
        "streams.demo.key: expected a string in quotes, got an integer",
    ),
    (
        '[streams.a]\npipeline = "hls"\nkey = "k"\n[streams.b]\npipeline = "hls"\nkey = "k"',
        "streams.b: has the same key as streams.a; give each stream its own",
    ),
    (
        '[streams.demo]\npipeline = "hls"\nkey_file = "no/key"',
        "streams.demo.key_file: cannot read no/key: No such file or directory; expected a file with the key",
    ),
    (
        '[streams.demo]\npipeline = "hls"\nkey_file = "credential:demo"',
        'streams.demo.key_file: "credential:demo" needs $CREDENTIALS_DIRECTORY, which is not set; '
        "add LoadCredential=demo:PATH to the systemd unit, or name a plain file",
    ),
    # Files.
    (
        '[pipelines]\ndir = "none"',
        'pipelines.dir: there is no directory none; "ingestd init" writes the shipped one',
    ),
]

PIPELINE = [
    ("[[sink]]", 'sink: unknown key, did you mean "sinks"?'),
    ("sinks = 1", "sinks: expected [[sinks]] tables, got an integer"),
    ("[[sinks]]", "sinks.#1.type: is missing; known types: file, hls, mux, rtmp"),
    ("[[sinks]]\ntype = 1", "sinks.#1.type: expected a string in quotes, got an integer"),
    (
        HLS + '[[sinks]]\ntype = "rtpm"',
        'sinks.#2.type: no sink type "rtpm" (known: file, hls, mux, rtmp), did you mean "rtmp"?',
    ),
    (HLS + "windw = 3", 'sinks.hls.windw: unknown key, did you mean "window"?'),
    (HLS + "window = 2", "sinks.hls.window: expected 3 to 10000, or 0 (all are kept); got 2"),
    (
        HLS + 'segment = "2"',
        'sinks.hls.segment: expected a duration like "2s" (units: ms, s, m, h, d), got "2"',
    ),
    (
        HLS + 'name = "My HLS"',
        'sinks."My HLS".name: expected a name of 1 to 64 of a-z 0-9 "_" "-" '
        "that begins with a letter or digit",
    ),
    (
        '[[sinks]]\ntype = "file"\nname = "a"\n[[sinks]]\ntype = "hls"\nname = "a"',
        'sinks.a.name: a second sink is named "a"; give each its own name',
    ),
    (HLS + HLS, "sinks.hls-2: writes to the same place as sinks.hls; remove one of them"),
    (
        '[[sinks]]\ntype = "file"\nformat = "mp3"',
        'sinks.file.format: expected one of "raw", "mkv", "mp4"; got "mp3", did you mean "mp4"?',
    ),
    ('[[sinks]]\ntype = "rtmp"\nkey = "k"', "sinks.rtmp.url: is missing"),
    (
        '[[sinks]]\ntype = "rtmp"\nurl = "https://example.org/app/k"',
        'sinks.rtmp.url: expected a URL like "rtmps://live.example.org/app"; '
        "this one does not begin with rtmp:// or rtmps://",
    ),
    (
        '[[sinks]]\ntype = "rtmp"\nurl = "rtmp://example.org:99999/app/k"',
        'sinks.rtmp.url: expected a URL like "rtmps://live.example.org/app"; this one cannot be parsed',
    ),
    (
        '[[sinks]]\ntype = "rtmp"\nurl = "rtmp://example.org/app"',
        "sinks.rtmp.key_file: is missing: the URL ends with its application; "
        "add key_file, key or per_stream = true",
    ),
    (
        '[[sinks]]\ntype = "mux"',
        "sinks.mux.key_file: is missing: expected key_file (or key) with Mux's stream key, "
        "or per_stream = true",
    ),
    (
        '[[sinks]]\ntype = "mux"\nkey = "k"\nregion = "eu"',
        'sinks.mux.region: expected one of "global", "us-east", "us-west", "eu-west"; got "eu"',
    ),
    (
        '[[sinks]]\ntype = "mux"\nkey = "k"\nkey_file = "f"',
        "sinks.mux.key: expected only one of key and key_file, got both",
    ),
    ("[video]\nfps = 0", "video.fps: expected 1 to 120; got 0"),
    ("[video]\nfps = nan", "video.fps: expected 1 to 120; got nan"),
    ('[video]\nfps = "30"', "video.fps: expected a number without quotes, got a string"),
    ("[video]\nfps = true", "video.fps: expected a number without quotes, got a boolean"),
    ("[video]\nbitrate = 2500", 'video.bitrate: expected a bit rate in quotes like "2500k", got an integer'),
    (
        '[video]\nbitrate = "3M"',
        "video.maxrate: expected at least video.bitrate; raise it, or lower the bitrate",
    ),
    ('[video]\nsize = "1280x721"', 'video.size: expected even sides, got "1280x721"; "1280x720" would do'),
    ('[video]\nsize = "8x8"', 'video.size: expected each side from 16 to 4096, got "8x8"'),
    (
        '[video]\nsize = [1280, 720]',
        'video.size: expected a width and height in quotes like "1280x720", got an array',
    ),
    (
        '[video]\ncodec = "h265"',
        'video.codec: expected one of "auto", "copy", "h264"; got "h265", did you mean "h264"?',
    ),
    ("[audio]\nchannels = 6", "audio.channels: expected one of 1, 2; got 6"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), MAIN)
def test_mistakes_in_the_main_file(
    tmp_path: Path, text: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mistake, one line: file, key path, what was expected."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert problems(tmp_path, text) == [f"ingestd.toml: {problem}"]


@pytest.mark.parametrize(("text", "problem"), PIPELINE)
def test_mistakes_in_a_pipeline(tmp_path: Path, text: str, problem: str) -> None:
    """One mistake, one line, with the pipeline's own file."""
    assert problems(tmp_path, "", live=text) == [f"pipelines/live.toml: {problem}"]


def test_all_mistakes_of_all_files_at_once(tmp_path: Path) -> None:
    """Nothing hides anything else, not even within one table."""
    main = (
        '[ingest]\nchannel = 0\nbnd = "x"\nping_timeout = 1\n[streams.a]\npipeline = "gone"\nkey = "k"\n[x]\n'
    )
    hls = '[video]\nfps = 0\nbitrate = "x"\n[[sinks]]\ntype = "hls"\nwindow = 1\nsegment = 1\n[[sinks]]\n'
    found = problems(tmp_path, main, hls=hls, broken="=")
    assert [problem.split(": ")[:2] for problem in found] == [
        ["ingestd.toml", "x"],
        ["ingestd.toml", "ingest.channel"],
        ["ingestd.toml", "ingest.ping_timeout"],
        ["ingestd.toml", "ingest.bnd"],
        ["pipelines/broken.toml", "not valid TOML"],
        ["pipelines/hls.toml", "video.bitrate"],
        ["pipelines/hls.toml", "video.fps"],
        ["pipelines/hls.toml", "sinks.hls.segment"],
        ["pipelines/hls.toml", "sinks.hls.window"],
        ["pipelines/hls.toml", "sinks.#2.type"],
        ["ingestd.toml", "streams.a.pipeline"],
    ]


def test_toml_errors_name_the_line(tmp_path: Path) -> None:
    """A file that is no TOML is one problem, with its place."""
    [problem] = problems(tmp_path, "[ingest]\nbind = nonsense\n")
    assert problem == "ingestd.toml: not valid TOML: Invalid value (at line 2, column 8)"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a directory, or not UTF-8."""
    from ingestd.config_file import load
    from ingestd.errors import ConfigError

    missing = tmp_path / "none.toml"
    for path, text in (
        (missing, 'no such file; "ingestd init" writes a start configuration'),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert caught.value.problems == [f"{path}: {text}"]
    missing.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML: expected UTF-8 text"):
        load(missing, {})


def test_a_pipeline_is_named_by_its_file(tmp_path: Path) -> None:
    """A file name that cannot be a pipeline's name is a problem of that file."""
    [problem] = problems(tmp_path, "", **{"Über uns": HLS})
    assert problem.startswith(
        "pipelines/Über uns.toml: the file's name is the pipeline's; expected a name of"
    )
