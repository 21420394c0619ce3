"""Where the daemon is, and what it is told of who calls."""

import dataclasses
import os
import socket
from collections.abc import Mapping
from pathlib import Path

DEFAULT = "127.0.0.1:7080"


@dataclasses.dataclass(frozen=True)
class Address:
    """An address: as people write it, and as gRPC does."""

    told: str
    target: str

    def why_not(self) -> str | None:
        """Why nobody can listen there, as far as that is known without a call."""
        if not self.target.startswith("unix:"):
            return None
        path = self.target.removeprefix("unix:")
        with socket.socket(socket.AF_UNIX) as tried:
            try:
                tried.connect(path)
            except OSError as error:
                return error.strerror or str(error)
        return None


def parse(text: str) -> Address:
    """`host:port`, `http://host:port` or `unix:PATH`."""
    def wrong(why: str) -> ValueError:
        return ValueError(f"the address {text!r} {why}; host:port or unix:PATH is right")

    if text.startswith("https://"):
        raise wrong("asks for TLS, which this version of torchd does not have")
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:").removeprefix("//")).expanduser()
        return Address(text, f"unix:{path.absolute()}")
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise wrong("has no port")
    return Address(text, f"{host}:{port}")


def usual(environment: Mapping[str, str] = os.environ) -> list[Address]:
    """Where a daemon is looked for: at TORCHD_SERVER alone where that is set, else at its Unix
    socket, of the user's own or of the machine's, and at last on the loopback address."""
    if named := environment.get("TORCHD_SERVER"):
        return [parse(named)]
    sockets = [Path.home() / ".local/state/torchd/torchd.sock", Path("/run/torchd/torchd.sock")]
    return [*(Address(f"unix:{path}", f"unix:{path}") for path in sockets), parse(DEFAULT)]


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What goes with each call: the token, where there is one."""
    token = token or os.environ.get("TORCHD_TOKEN")
    return (("authorization", f"Bearer {token}"),) if token else ()
