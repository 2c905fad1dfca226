"""``ingestd streams enable``, ``disable``, ``stop``, ``restart`` and ``delete``: what is done to a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ingestd.cli.common import config_option, run
from ingestd.cli.connect import api_option, api_url, asking, echo_json, json_option, sure, yes_option
from ingestd.client.api import Steering


@click.command(short_help="Let one be published again.")
@click.argument("name")
@config_option
@api_option
@json_option
def enable(name: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """Let stream NAME be published again."""
    _done(run(_steer, api_url(url, config_path), name, "enable"), f"{name} may be published", as_json)


@click.command(short_help="End its session, and let nobody publish it.")
@click.argument("name")
@config_option
@api_option
@json_option
def disable(name: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """End the session of stream NAME, and let nobody publish it until it is enabled.

    Its key stays what it is.
    """
    text = f"{name} is disabled: publishers are refused (4423)"
    _done(run(_steer, api_url(url, config_path), name, "disable"), text, as_json)


@click.command(short_help="End its session.")
@click.argument("name")
@config_option
@api_option
@json_option
def stop(name: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """End the session of stream NAME in order.

    What was sent is finished. The publisher may begin another session: to keep it out, disable the stream.
    """
    status = run(_steer, api_url(url, config_path), name, "stop")
    _done(status, f"{name} is stopped: what was sent is being finished", as_json)


@click.command(short_help="Begin one sink anew.")
@click.argument("name")
@click.argument("sink")
@config_option
@api_option
@json_option
def restart(name: str, sink: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """Begin SINK of stream NAME anew, at once; the other sinks go on.

    \b
    ingestd streams restart studio youtube
    """  # noqa: D301
    status = run(_restart, api_url(url, config_path), name, sink)
    _done(status, f"{sink} of {name} begins anew", as_json)


@click.command(short_help="Forget one.")
@click.argument("name")
@yes_option
@config_option
@api_option
@click.option("--json", "as_json", is_flag=True, help="Print nothing: the API has no answer to it.")
def delete(name: str, yes: bool, config_path: Path, url: str | None, as_json: bool) -> None:
    """Forget stream NAME, and end its session. Its recordings and past sessions stay.

    Its key and its targets' keys are gone for good, and so is what was made for it at Mux.
    """
    base_url = api_url(url, config_path)
    if not yes:
        status = run(_show, base_url, name)
        publisher = " (which is published right now)" if status["publisher"] else ""
        sure(f"Delete stream {name}{publisher}, with its key?")
    run(_delete, base_url, name)
    if not as_json:
        click.echo(f"{name} is deleted")


def _done(status: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        echo_json(status)
    else:
        click.echo(text)


async def _steer(base_url: str, name: str, what: Steering) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        return await control.steer(name, what)


async def _restart(base_url: str, name: str, sink: str) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        return await control.restart(name, sink)


async def _show(base_url: str, name: str) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        return await control.stream(name)


async def _delete(base_url: str, name: str) -> None:
    async with asking(base_url, name) as control:
        await control.delete_stream(name)


COMMANDS = (stop, restart, enable, disable, delete)
