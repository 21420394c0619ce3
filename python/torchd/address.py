"""Where the daemon is."""

import dataclasses
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

DEFAULT = "127.0.0.1:7080"
RIGHT = "host:port, https://host:port or unix:PATH is right"


def state_folder() -> Path:
    """The state folder of a daemon that the user has started."""
    return Path.home() / ".local/state/torchd"


@dataclasses.dataclass(frozen=True)
class Address:
    """An address: as people write it, and as gRPC does."""

    told: str
    target: str
    is_tls: bool = False

    @property
    def socket(self) -> str | None:
        """The path of a Unix socket; None for TCP."""
        return self.target.removeprefix("unix:") if self.target.startswith("unix:") else None

    @property
    def loopback_port(self) -> int | None:
        """The port on this machine; None for other machines, and for a Unix socket."""
        if self.socket:
            return None
        host, _, port = self.target.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        return int(port) if is_loopback else None

    def why_not(self) -> str | None:
        """Why no daemon can listen there, as far as that is known without a call."""
        if not self.socket:
            return None
        with socket.socket(socket.AF_UNIX) as tried:
            try:
                tried.connect(self.socket)
                _, uid, _ = struct.unpack("3i", tried.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
                folder = Path(self.socket).parent
                # Anybody can put a socket into a folder such as /tmp.
                if uid not in (0, os.geteuid(), folder.stat().st_uid):
                    return f"uid {uid} listens there, who is neither you, nor root, nor the owner of {folder}: it may be no torchd"
            except OSError as error:
                return error.strerror or str(error)
        return None


def parse(text: str) -> Address:
    """`host:port`, `http://host:port`, `https://host:port` or `unix:PATH`."""
    def wrong(why: str) -> ValueError:
        return ValueError(f"the address {text!r} {why}; {RIGHT}")

    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:").removeprefix("//")).expanduser()
        return Address(text, f"unix:{path.absolute()}")
    is_tls = text.startswith("https://")
    host, _, port = text.removeprefix("https://").removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise wrong("has no port")
    return Address(text, f"{host}:{port}", is_tls)


def usual(environment: Mapping[str, str] = os.environ) -> list[Address]:
    """Where a daemon is looked for: at TORCHD_SERVER alone where that is set, else at its Unix
    socket, of the user's own or of the machine's, and at last on the loopback address."""
    if named := environment.get("TORCHD_SERVER"):
        return [parse(named)]
    sockets = [state_folder() / "torchd.sock", Path("/run/torchd/torchd.sock")]
    return [*(Address(f"unix:{path}", f"unix:{path}") for path in sockets), parse(DEFAULT)]
