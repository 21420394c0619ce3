"""For programs that torchd runs as jobs: report values, and save in time.

    start = load(torchd.resume_from()) if torchd.resume_from() else 0
    for step in range(start, 1000):
        ...
        torchd.report(step, {"loss/train": loss}, progress=step / 1000)
        if torchd.should_stop():
            torchd.report(step, checkpoint=save(torchd.checkpoint_dir() / f"step-{step}"))
            break
    else:
        torchd.finished()

Outside of torchd they do no harm: nothing is reported, nobody asks to stop, and checkpoints lie in
`checkpoints` below the current folder.
"""

import errno
import json
import math
import os
import signal
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_lock = threading.Lock()
_stop = threading.Event()
_hears = False


def report(step: int | None = None, scalars: Mapping[str, Any] | None = None, /, *, epoch: int | None = None, epochs: int | None = None,
           progress: float | None = None, checkpoint: str | os.PathLike[str] | None = None,
           artifact: str | os.PathLike[str] | None = None, **more: Any) -> None:
    """Tells torchd values at a step, and how far the program is.

    Values are numbers, or what `float` makes one of, such as a tensor of one element; names with a
    slash come in the mapping. `progress` is the share that is done, 0 to 1. `checkpoint` is a file
    or a folder to go on from, in the program's folder; `resume_from` gives the last one back.
    `artifact` is a file there, or a folder of files, which `torchctl download` fetches. Paths count
    from the current folder; one that leads elsewhere is a ValueError.
    """
    line: dict[str, Any] = {} if step is None else {"step": int(step)}
    values = {**(scalars or {}), **more}
    if values:
        line["scalars"] = {tag: _finite(value) for tag, value in values.items()}
    line |= {name: value for name, value in (("epoch", epoch), ("epochs", epochs), ("progress", _finite(progress))) if value is not None}
    for name, path in (("checkpoint", checkpoint), ("artifact", artifact)):
        if path is not None and (folder := os.environ.get("TORCHD_PROGRAM_DIR")):
            below = os.path.relpath(os.path.join(os.getcwd(), path), folder)
            if below.split(os.sep)[0] == os.pardir:
                raise ValueError(f"{name} is {os.fspath(path)!r}; a path in $TORCHD_PROGRAM_DIR, {folder}, is right")
            line[name] = below
    _write(line)


def finished() -> None:
    """Tells torchd that the program has done all that it was to do: after it, exit code 0 is success also where the job was asked to stop."""
    _write({"finished": True})


def should_stop() -> bool:
    """Whether torchd has asked the program to save and leave. Call it in the main thread first: from then on SIGTERM does not end the program."""
    global _hears
    if not _hears and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: _stop.set())
        _hears = True
    return _stop.is_set()


def checkpoint_dir() -> Path:
    """The folder for checkpoints, which the next attempt finds again."""
    folder = Path(os.environ.get("TORCHD_CHECKPOINT_DIR", "checkpoints"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def resume_from() -> Path | None:
    """The last checkpoint that an earlier attempt has reported; None where there is none."""
    path = os.environ.get("TORCHD_RESUME_FROM")
    return Path(path) if path else None


def _finite(value: Any) -> float | None:
    # PyTorch warns where a tensor of a graph becomes a number.
    if hasattr(value, "detach"):
        value = value.detach()
    # JSON has no other numbers.
    number = None if value is None else float(value)
    return number if number is not None and math.isfinite(number) else None


def _write(line: Mapping[str, Any]) -> None:
    number = os.environ.get("TORCHD_REPORT_FD")
    if not number or not number.isdigit() or not _is_ours(int(number)):
        return
    rest = memoryview(json.dumps(line, allow_nan=False).encode() + b"\n")
    with _lock:
        while rest:
            try:
                rest = rest[os.write(int(number), rest):]
            except OSError as error:
                # The reader may be gone, as when torchd ends the job.
                if error.errno not in (errno.EPIPE, errno.EBADF):
                    raise
                return


def _is_ours(descriptor: int) -> bool:
    # Processes that the program starts have not got it: its number may be that of something else.
    # Files that Python opens are not handed on.
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode) and os.get_inheritable(descriptor)
    except OSError:
        return False
