"""All scenarios."""

from __future__ import annotations

from signal import SIGKILL, SIGSTOP, SIGTERM

from chaos.faults import (
    BlackHole,
    ClosedPort,
    CutPublisher,
    FrozenServer,
    FullDisk,
    Restart,
    ShutGate,
    Signal,
    Silence,
)
from chaos.scenario import Scenario

#: Media older than this is replayed from the journal.
_SMALL_WINDOW = '[hub]\nwindow = "1s"\n'
_PING = 'ping_interval = "2s"\nping_timeout = "2s"\n'
_WAITS = '[publisher]\nreconnect_window = "60s"\n'
_HARDLY_WAITS = '[publisher]\nreconnect_window = "5s"\n'
_ROOM = 2**20 + 300_000  # above the journal.min_free of these runs by less than what is sent in a few seconds

KINDS = ("encoder", "hls", "rtmp")

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="smoke",
        about="SIGKILL of encoder and HLS writer, with a hub that keeps one second",
        faults=(Signal("encoder", SIGKILL), Signal("hls", SIGKILL)),
        every=3.5,
        first=3.0,
        tail=4.0,
        config=_SMALL_WINDOW,
    ),
    *(
        Scenario(
            name=f"kill-{kind}",
            about=f"SIGKILL of the {kind}'s FFmpeg",
            faults=(Signal(kind, SIGKILL),),
            every=5.0 if kind != "rtmp" else 6.0,
        )
        for kind in KINDS
    ),
    *(
        Scenario(
            name=f"stop-{kind}",
            about=f"SIGSTOP of the {kind}'s FFmpeg, which the watchdog has to find",
            faults=(Signal(kind, SIGSTOP),),
            every=9.0,
        )
        for kind in KINDS
    ),
    Scenario(
        name="replay",
        about="SIGKILL and SIGSTOP of encoder and HLS writer, with a hub that keeps one second",
        faults=(
            Signal("encoder", SIGKILL),
            Signal("encoder", SIGSTOP),
            Signal("hls", SIGKILL),
            Signal("hls", SIGSTOP),
        ),
        config=_SMALL_WINDOW,
    ),
    Scenario(
        name="mixed",
        about="any of the faults of processes and of the RTMP server",
        faults=(
            *(Signal(kind, SIGKILL) for kind in KINDS),
            *(Signal(kind, SIGSTOP) for kind in KINDS),
            FrozenServer((2, 6)),
            ClosedPort(),
        ),
        every=10.0,
    ),
    Scenario(
        name="silence",
        about="the publisher sends nothing for 3 to 8 s, longer than the watchdogs wait",
        faults=(Silence(),),
        every=12.0,
    ),
    Scenario(
        name="cut-publisher",
        about="the publisher's connection is reset",
        faults=(CutPublisher(),),
        once=True,
        whole=False,
        pipeline=_HARDLY_WAITS,
    ),
    Scenario(
        name="cut-publisher-returns",
        about="the publisher's connection is reset, and it comes back with a new recorder",
        faults=(CutPublisher(),),
        pipeline=_WAITS,
        returns=True,
    ),
    Scenario(
        name="black-hole-heals",
        about="packets are dropped for 2 to 5 s, then not any more",
        faults=(BlackHole(heals=True),),
        every=12.0,
        network=True,
    ),
    Scenario(
        name="black-hole",
        about="packets are dropped until the daemon gives the publisher up",
        faults=(BlackHole(heals=False),),
        once=True,
        network=True,
        ingest=_PING,
        whole=False,
        pipeline=_HARDLY_WAITS,
    ),
    Scenario(
        name="disk-full-end",
        about='less than journal.min_free is left, on_full = "end"',
        faults=(FullDisk(_ROOM, heals=False),),
        once=True,
        disk="48m",
        ends="failed",
        whole=False,
    ),
    Scenario(
        name="disk-full-continue",
        about='no byte is left for 2 to 5 s, on_full = "continue"',
        faults=(FullDisk(0, heals=True),),
        every=14.0,
        disk="48m",
        config='on_full = "continue"\n',
    ),
    Scenario(
        name="frozen-server",
        about="the RTMP server reads nothing for 3 to 20 s, and the kernel's buffers take it",
        faults=(FrozenServer((3, 20)),),
        every=16.0,
    ),
    Scenario(
        name="frozen-server-timeout",
        about="the same, with next to no buffers, until its writer gives up by itself",
        faults=(ShutGate("does not answer in time"),),
        every=12.0,
        gate=True,
        push='timeout = "2s"\n',
        stall_timeout="8s",
    ),
    Scenario(
        name="closed-port",
        about="the RTMP server's port is closed for 1 to 6 s",
        faults=(ClosedPort(),),
        every=12.0,
    ),
    Scenario(
        name="kill-daemon",
        about="SIGKILL of the daemon, which is started again; the publisher comes back",
        faults=(Restart(SIGKILL),),
        every=9.0,
        pipeline=_WAITS,
        returns=True,
    ),
    Scenario(
        name="kill-daemon-orphans",
        about="the same, and its FFmpegs do not end by themselves",
        faults=(Restart(SIGKILL, stop_children=True),),
        every=9.0,
        pipeline=_WAITS,
        returns=True,
    ),
    Scenario(
        name="kill-daemon-twice",
        about="the same, and it is killed once more within 2 s of its start",
        faults=(Restart(SIGKILL, twice=True),),
        every=11.0,
        pipeline=_WAITS,
        returns=True,
    ),
    Scenario(
        name="kill-daemon-alone",
        about="SIGKILL of the daemon, which is started again; the publisher does not come back",
        faults=(Restart(SIGKILL),),
        once=True,
        pipeline=_HARDLY_WAITS,
        whole=False,
    ),
    Scenario(
        name="hand-over",
        about='SIGTERM with sessions = "hand_over", and a start; the publisher is told to come back',
        faults=(Restart(SIGTERM),),
        every=9.0,
        config='[shutdown]\nsessions = "hand_over"\n',
        pipeline=_WAITS,
        returns=True,
    ),
)


def scenario(name: str) -> Scenario:
    """The scenario *name*; raises KeyError if there is none."""
    for found in SCENARIOS:
        if found.name == name:
            return found
    raise KeyError(name)
