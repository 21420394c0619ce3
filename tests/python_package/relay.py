"""A relay between a client and a daemon, which damages or breaks off what the daemon sends."""

import contextlib
import pathlib
import socket
import threading


class Relay:
    """Hands bytes on between a Unix socket of its own and that of a daemon."""

    def __init__(self, folder, address):
        self.upstream = address.removeprefix("unix:")
        self.path = pathlib.Path(folder) / "relay.sock"
        self.address = f"unix:{self.path}"
        self.sent = 0
        """Bytes handed to clients so far."""
        self.flips = None
        """Texts of which the next one that comes by is damaged, once."""
        self.flipped = 0
        self.breaks_after = None
        """Connections break off after so many bytes more to clients, once."""
        self.on_break = lambda: None
        """Called between the break and the next connection."""
        self.broken = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Takes no further connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self.upstream)
            ends = threading.Thread(target=self._hand, args=(client, daemon, lambda data: data), daemon=True)
            ends.start()
            # One connection after the other: a break is over before the next one begins.
            self._hand(daemon, client, self._changed)

    def _hand(self, source, sink, change):
        with contextlib.suppress(OSError):
            while data := change(source.recv(1 << 16)):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _changed(self, data):
        for text in self.flips or ():
            place = data.find(text)
            if place >= 0:
                data = bytearray(data)
                data[place] ^= 1
                self.flips, self.flipped = None, self.flipped + 1
                break
        self.sent += len(data)
        if self.breaks_after is not None:
            if self.breaks_after < len(data):
                self.breaks_after, self.broken = None, self.broken + 1
                self.on_break()
                return b""
            self.breaks_after -= len(data)
        return data
