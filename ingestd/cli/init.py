"""``ingestd init``: write the shipped configuration, with a key of its own."""

from __future__ import annotations

import secrets
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from ingestd.cli.common import EXIT_FAILED

_DEMO_KEY = (
    'key = "demo"      # anyone who can reach the ingest listener may publish: for this machine only\n'
)


@click.command
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
def init(directory: Path, force: bool) -> None:
    """Write ingestd.toml and pipelines/ to DIRECTORY (default: here).

    Every key is in them with its meaning, its unit and its default. The stream "demo" gets a random
    key, and ingestd.toml can be read by you only. Files that are there are not replaced, and then
    nothing at all is written, unless --force.
    """
    files = shipped()
    taken = [name for name in files if (directory / name).exists()]
    if taken and not force:
        for name in taken:
            click.echo(f"{directory / name}: is there already; --force replaces it", err=True)
        click.echo("nothing was written", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
    key = secrets.token_urlsafe(24)
    files["ingestd.toml"] = files["ingestd.toml"].replace(_DEMO_KEY, f'key = "{key}"\n')
    try:
        for name, text in files.items():
            _write(directory / name, text)
    except OSError as error:
        click.echo(f"{error.filename}: cannot be written: {error.strerror}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED) from None
    for name in files:
        click.echo(f"wrote {directory / name}")
    config = directory / "ingestd.toml"
    option = "" if config == Path("ingestd.toml") else f" --config {config}"
    click.echo(f'\nThe stream "demo" is published at ws://127.0.0.1:8081/stream/live/{key}')
    click.echo(f"Next: ingestd check{option}; then: ingestd run{option}")


def shipped() -> dict[str, str]:
    """The shipped files by their relative names: ``ingestd.toml`` and ``pipelines/*.toml``.

    They lie in the package in a wheel, and at the repository's root where that is what is installed.
    """
    package = resources.files("ingestd")
    data: Traversable = package / "data"
    if not (data / "ingestd.toml").is_file():
        data = Path(str(package)).parent
    files = {"ingestd.toml": data / "ingestd.toml"}
    for file in sorted((data / "pipelines").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            files[f"pipelines/{file.name}"] = file
    return {name: file.read_text("utf-8") for name, file in files.items()}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    private = path.name == "ingestd.toml"
    path.touch(mode=0o600 if private else 0o644)
    path.write_text(text, "utf-8")
