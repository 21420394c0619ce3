"""Processes of a bench: their environment, their memory, and ones that do nothing but compute."""

import contextlib
import os
import pathlib
import subprocess
import sys
import threading

SETTINGS = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "TORCHD_", "TORCHINDUCTOR_", "PYTHONPATH")
"""Beginnings of variables that would change the figures of a side."""
LOOK_EVERY = 0.05


def environment(settings=None):
    """That of this process without what changes figures, and with `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return kept | (settings or {})


class Memory:
    """Looks at the memory of a process until that ends: `peak` is its resident memory at most, as the
    kernel keeps it (VmHWM), and `anonymous` what of it no file stands behind, as it was seen. Bytes."""

    def __init__(self, pid):
        self.peak = self.anonymous = 0
        self._status = pathlib.Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._over.wait(LOOK_EVERY):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            found = dict(line.split(":", 1) for line in lines)
            # A process that has ended and is not reaped has no memory.
            if "VmHWM" not in found:
                return
            self.peak = max(self.peak, 1024 * int(found["VmHWM"].split()[0]))
            self.anonymous = max(self.anonymous, 1024 * int(found["RssAnon"].split()[0]))

    def stop(self):
        self._over.set()
        self._thread.join()


@contextlib.contextmanager
def busy(count):
    """So many processes beside that compute and do nothing else."""
    # It looks now and then whether this process still lives.
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"
    spinning = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
