"""``ingestd demo``: the daemon with a test card, in one process, to see that all of it works."""

from __future__ import annotations

import hashlib
import secrets
import socket
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

import click
from attrs import evolve
from rich.console import Console

from ingestd import logs
from ingestd.address import Address
from ingestd.cli.common import config_option, load_config, run
from ingestd.cli.demonstration import Demonstration
from ingestd.cli.init import shipped
from ingestd.config import Config

#: The key of the shipped configuration's stream.
_KEY = "demo"


@click.command
@config_option
@click.option("--stream", default="demo", show_default=True, help="Which of the configuration's streams.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End by itself after so long.")
@click.option("--plain", is_flag=True, help="A line every 2 s, as when the output is no terminal.")
def demo(config_path: Path, stream: str, seconds: float | None, plain: bool) -> None:
    """Run the daemon here with a test card as its publisher, and show what becomes of it.

    The test card moves, beeps and carries the time. It arrives as a browser's recording does, and goes
    wherever the stream's pipeline sends it: with the shipped configuration to HLS and a recording in
    var/. Open the URL that is shown in a player. Ctrl-C ends all of it in order.

    Without an ingestd.toml here the shipped one is used. The daemon's log goes to demo.log in the state
    directory. Exit status: 0 good, 1 failed (say, a port is taken), 2 wrong configuration.
    """
    config = _config(config_path)
    if stream not in config.streams:
        names = ", ".join(config.streams) or "none"
        raise click.UsageError(f'{config.path} has no stream "{stream}"; choose with --stream: {names}')
    config, key = _with_key(config, stream)
    for name, address in (("ingest", config.ingest.bind), ("control", config.control.bind)):
        _require_free(name, address, config.path)
    console = Console(highlight=False)
    plain = plain or not console.is_terminal or console.is_dumb_terminal
    log = config.storage.state_dir / "demo.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        file = log.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: cannot be written: {error.strerror}") from None
    with file:
        with redirect_stderr(file):  # where logs go is fixed once
            ring = logs.configure(config.log)
        demonstration = Demonstration(config, stream, key, console, log, seconds, plain, ring)
        good = run(demonstration.run)
    raise click.exceptions.Exit(0 if good else 1)


def _config(path: Path) -> Config:
    """The configuration in *path*, or the shipped one with its state here."""
    source = click.get_current_context().get_parameter_source("config_path")
    if path.exists() or source is not click.core.ParameterSource.DEFAULT:
        return load_config(path)
    with tempfile.TemporaryDirectory() as directory:
        for name, text in shipped().items():
            file = Path(directory, name)
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, "utf-8")
        config = load_config(Path(directory, "ingestd.toml"))
    return evolve(config, path=path.absolute(), storage=evolve(config.storage, state_dir=Path.cwd() / "var"))


def _with_key(config: Config, name: str) -> tuple[Config, str]:
    """A key for stream *name*: the shipped one if it is that, else one for this run only.

    A configuration holds hashes of keys, and this daemon is ours: so nobody has to be asked for one.
    """
    stream = config.streams[name]
    if stream.key_sha256 == hashlib.sha256(_KEY.encode()).digest():
        return config, _KEY
    key = secrets.token_urlsafe(24)
    stream = evolve(stream, key_sha256=hashlib.sha256(key.encode()).digest())
    return evolve(config, streams={**config.streams, name: stream}), key


def _require_free(name: str, address: Address, path: Path) -> None:
    """Exit with the fix when *address* cannot be listened on; before a daemon that runs here is disturbed."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, where in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
    except OSError as error:
        origin = str(path) if path.exists() else 'the shipped configuration ("ingestd init" writes it here)'
        raise click.ClickException(
            f"cannot listen on {address}, the [{name}] bind of {origin}: {error.strerror}.\n"
            'Probably a daemon or a demo runs already ("ingestd status" shows it): stop it, or set another '
            "bind; port 0 takes any free one."
        ) from None
