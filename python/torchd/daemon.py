"""A daemon of one's own: started on free ports, and ended with the program that started it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import NoServer

START_LIMIT = 60.0
STOP_LIMIT = 60.0
LOOK_EVERY = 0.02

# The shell waits for the end of its input, which comes with the end of this program, however that
# ends; and then ends the daemon. It is no part of our process group, so that Ctrl-C in a notebook
# reaches no job.
_KEEPER = '''
exec 3<&0
"$@" </dev/null 3<&- & daemon=$!
( cat >/dev/null; kill -TERM $daemon ) <&3 2>/dev/null & keeper=$!
wait $daemon; code=$?
kill $keeper 2>/dev/null
exit $code
'''


def program() -> Path:
    """The daemon's program: TORCHD_PROGRAM, else beside this Python, else on the PATH."""
    if named := os.environ.get("TORCHD_PROGRAM"):
        return Path(named)
    beside = Path(sysconfig.get_path("scripts")) / "torchd"
    if beside.is_file():
        return beside
    found = shutil.which("torchd")
    if found is None:
        raise NoServer(f"the program torchd is neither in {beside.parent} nor on the PATH; TORCHD_PROGRAM names another place")
    return Path(found)


class Daemon:
    """A daemon that has been started, and takes jobs."""

    def __init__(self, data_root: Any = None, state_dir: Any = None, settings: Mapping[str, Any] | None = None):
        self._folder = tempfile.TemporaryDirectory(prefix="torchd-local-")
        self.state_dir = Path(state_dir) if state_dir is not None else Path(self._folder.name) / "state"
        ready, log = Path(self._folder.name) / "ready.json", Path(self._folder.name) / "log"
        command = [str(program()), "--state-dir", str(self.state_dir), "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                   "--ready-file", str(ready)]
        roots = [] if data_root is None else [data_root] if isinstance(data_root, (str, os.PathLike)) else list(data_root)
        for root in roots:
            command += ["--data-root", str(Path(root).absolute())]
        environment = {**os.environ, "TORCHD__SHUTDOWN__RUNNERS": "stop"}
        environment |= {f"TORCHD__{name.upper().replace('.', '__')}": str(value) for name, value in (settings or {}).items()}
        self._write: int | None
        read, self._write = os.pipe()
        with log.open("wb") as sink:
            self._process = subprocess.Popen(["/bin/sh", "-c", _KEEPER, "sh", *command], stdin=read, stdout=sink, stderr=sink, env=environment,
                                             start_new_session=True)
        os.close(read)
        try:
            addresses = self._addresses(ready, log)
        except BaseException:
            self.stop()
            raise
        self.address = f"unix:{addresses['unix']}" if addresses.get("unix") else addresses["grpc"]
        self.token = Path(addresses["token_file"]).read_text().strip() if addresses.get("token_file") else None
        self.pid: int = addresses["pid"]

    def _addresses(self, ready: Path, log: Path) -> dict[str, Any]:
        limit = time.monotonic() + START_LIMIT
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > limit:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                ended = "does not start" if self._process.poll() is None else f"has ended with {self._process.returncode}"
                raise NoServer(f"{program()} {ended}:\n{last}")
            time.sleep(LOOK_EVERY)
        return json.loads(ready.read_text())

    def stop(self) -> None:
        """Ends it in order: jobs that run save a checkpoint."""
        if self._write is not None:
            os.close(self._write)
            self._write = None
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            print(f"torchd does not end; its process is {self.pid}", file=sys.stderr)
        self._folder.cleanup()
