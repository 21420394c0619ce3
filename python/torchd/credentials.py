"""How the daemon knows the caller, and the caller the daemon."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc

from .address import Address, state_folder

OF_MACHINE = Path("/var/lib/torchd/token")
"""Where the token of a service lies, for root and the service's user."""
LISTEN = "0A"
"""A listening socket, in the kernel's table."""

Metadata = tuple[tuple[str, str], ...]
Sender = Callable[[], tuple[object, Metadata]]
"""The metadata of a call, and a mark of the other end that they are for: a channel that was opened
under another mark may lead elsewhere."""


@dataclasses.dataclass(frozen=True)
class Credentials:
    """Those that a program gives, or its environment."""

    token: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def sender(self, place: Address, is_named: bool) -> Sender:
        """Makes the metadata of each call to a place: the token, where there is one. On a Unix socket
        the kernel tells the caller, and a token counts where the place was named with it."""
        token = self.token
        if place.socket:
            token = token if is_named else None
        elif not place.is_tls and place.loopback_port is None:
            if token:
                raise ValueError(f"{place.told}: the connection would not be encrypted, and others could read the token; https:// is right")
        elif not place.is_tls and not token:
            port = place.loopback_port or 0
            # Asked for each call: a channel connects again by itself, when another user may listen.
            return lambda: of_this_machine(port)
        return lambda: (None, _bearer(token))

    def channel(self, place: Address) -> grpc.ChannelCredentials | None:
        """Those of a channel with TLS; None without."""
        if not place.is_tls:
            return None
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        read = {name: Path(path).expanduser().read_bytes() for name, path in dataclasses.asdict(self).items() if path and name != "token"}
        return grpc.ssl_channel_credentials(read.get("ca_file"), read.get("key_file"), read.get("cert_file"))


def given(token: str | None = None, ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None,
          environment: Mapping[str, str] = os.environ) -> Credentials:
    """The credentials that are given, else those of TORCHD_TOKEN, TORCHD_TOKEN_FILE,
    TORCHD_CA_FILE, TORCHD_CERT_FILE and TORCHD_KEY_FILE."""
    def of(name: str) -> str | None:
        return environment.get(name) or None

    token = token or of("TORCHD_TOKEN")
    if token is None and (path := of("TORCHD_TOKEN_FILE")):
        token = Path(path).expanduser().read_text()
    return Credentials(token.strip() if token else None, ca_file or of("TORCHD_CA_FILE"), cert_file or of("TORCHD_CERT_FILE"),
                       key_file or of("TORCHD_KEY_FILE"))


def _bearer(token: str | None) -> Metadata:
    return (("authorization", f"Bearer {token}"),) if token else ()


def of_this_machine(port: int) -> tuple[object, Metadata]:
    """The token that a daemon on this machine has left for its user, if that user or root listens on
    the port: no other listener must be given it. The mark is the listening socket."""
    listener = listening(port)
    for path in (state_folder() / "token", OF_MACHINE):
        try:
            if listener is not None and listener[0] in (0, path.stat().st_uid):
                return listener, _bearer(path.read_text().strip())
        except OSError:
            continue
    return listener, ()


def listening(port: int, tables: tuple[str, ...] = ("/proc/net/tcp", "/proc/net/tcp6")) -> tuple[int, int] | None:
    """The user who listens on a port of this machine, and the number of the first socket; None where
    that cannot be told, or several users do."""
    found = []
    for table in tables:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if len(fields) > 9 and fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.append((int(fields[7]), int(fields[9])))
    return found[0] if len({uid for uid, _ in found}) == 1 else None
