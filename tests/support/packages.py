"""Which Debian packages the tests need.

A missing program fails a test, with the command that helps; it never skips.

Run as a script it names the packages that are missing, one line, and exits with 1 if there are any:
``make test`` installs them from that. With ``--full`` it counts those of the long tests, too.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
from pathlib import Path

#: Debian keeps the server's programs apart, a folder a version.
_POSTGRESQL = "/usr/lib/postgresql"
_NGINX_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")

PROGRAMS = {
    "ffmpeg": "ffmpeg",
    "ffprobe": "ffmpeg",
    "nginx": "nginx-light",
    "chromium": "chromium",
    "mkvmerge": "mkvtoolnix",
    "ip": "iproute2",
    "node": "nodejs",
    "tsc": "node-typescript",
}
#: Of tests that are marked ``full``.
FULL_PROGRAMS = {"firefox-esr": "firefox-esr", "haproxy": "haproxy"}
MODULES = {"ngx_rtmp_module.so": "libnginx-mod-rtmp", "ngx_stream_module.so": "libnginx-mod-stream"}
#: What a binary in a wheel is linked with: the browser driver's Node.
LIBRARIES = {"libatomic.so.1": "libatomic1"}


class MissingProgramError(AssertionError):
    """A program that the tests need is not installed; the message is the command to run."""


def program(name: str) -> str:
    """The absolute path of *name*, or MissingProgramError."""
    found = shutil.which(name, path=_search_path())
    if found is None:
        raise MissingProgramError(
            f"{name} is missing: {install_command([(PROGRAMS | FULL_PROGRAMS).get(name, name)])}"
        )
    return found


def nginx_module(name: str) -> str:
    """The absolute path of one of nginx's dynamic modules, or MissingProgramError."""
    for folder in _NGINX_MODULES:
        if (path := Path(folder, name)).exists():
            return str(path)
    raise MissingProgramError(f"{name} is missing: {install_command([MODULES[name]])}")


def postgresql(name: str) -> str:
    """The absolute path of one of PostgreSQL's programs, of the newest version, or MissingProgramError."""
    found = shutil.which(name, path=_postgresql_path())
    if found is None:
        raise MissingProgramError(f"{name} is missing: {install_command(['postgresql'])}")
    return found


def embedded_ffmpeg() -> str:
    """The FFmpeg of PyPI's imageio-ffmpeg, or MissingProgramError."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise MissingProgramError("imageio-ffmpeg is missing: .venv/bin/pip install -e '.[ffmpeg]'")
    import imageio_ffmpeg  # type: ignore[import-untyped]

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def missing_packages(*, full: bool = False) -> list[str]:
    """The Debian packages that are needed and not there, sorted; *full*: by the long tests, too."""
    needed = PROGRAMS | FULL_PROGRAMS if full else PROGRAMS
    found = {needed[name] for name in needed if shutil.which(name, path=_search_path()) is None}
    for name, package in MODULES.items():
        if not any(Path(folder, name).exists() for folder in _NGINX_MODULES):
            found.add(package)
    if shutil.which("initdb", path=_postgresql_path()) is None:
        found.add("postgresql")
    for name, package in LIBRARIES.items():
        try:
            ctypes.CDLL(name)
        except OSError:
            found.add(package)
    return sorted(found)


def install_command(packages: list[str]) -> str:
    """What a person types to get *packages* on Debian or Ubuntu."""
    return f"sudo apt-get install -y --no-install-recommends {' '.join(packages)}"


def _postgresql_path() -> str:
    folders = sorted(Path(_POSTGRESQL).glob("*/bin"), key=lambda folder: (len(folder.parent.name), folder))
    return f"{':'.join(str(folder) for folder in reversed(folders))}:{_search_path()}"


def _search_path() -> str:
    import os

    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


if __name__ == "__main__":
    missing = missing_packages(full="--full" in sys.argv[1:])
    print(" ".join(missing))
    sys.exit(1 if missing else 0)
