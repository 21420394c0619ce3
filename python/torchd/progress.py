"""Shows how a job goes while somebody waits: a bar of tqdm where that is installed, else lines."""

import sys
import time
from typing import Any

from .words import progress_words, scalar_words, state_of

EVERY = 5.0
"""A line comes after so many seconds, and with each change of state."""


class Lines:
    """Plain lines."""

    def __init__(self) -> None:
        self.last = ("", 0.0)

    def show(self, job: Any) -> None:
        """Tells of a job, where there is something new."""
        state, now = state_of(job), time.monotonic()
        if state == self.last[0] and now - self.last[1] < EVERY:
            return
        self.last = (state, now)
        told = [word for word in (job.waiting_reason, progress_words(job), scalar_words(job)) if word]
        print(f"{job.name} {state.lower()}" + (f": {'; '.join(told)}" if told else ""), file=sys.stderr)

    def close(self) -> None:
        """Nothing is left open."""


class Bar:
    """A bar of tqdm, in a notebook as a widget."""

    def __init__(self, tqdm: Any) -> None:
        self.bar = tqdm(unit="step", dynamic_ncols=True)

    def show(self, job: Any) -> None:
        """Moves the bar."""
        state = state_of(job)
        self.bar.set_description(f"{job.spec.display_name or job.name} {state.lower()}", refresh=False)
        if job.HasField("progress"):
            self.bar.total = job.progress.total_steps
            self.bar.n = job.progress.step
        self.bar.set_postfix_str(job.waiting_reason or scalar_words(job), refresh=False)
        self.bar.refresh()

    def close(self) -> None:
        """Leaves the bar as it is."""
        self.bar.close()


class Silence:
    """Shows nothing."""

    def show(self, job: Any) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Nothing is left open."""


def shown(progress: bool) -> Lines | Bar | Silence:
    """The display of a job here."""
    if not progress:
        return Silence()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Lines()
    return Bar(tqdm)
