"""States and progress of a job in words."""

import datetime
from typing import Any

from .protocol import NAMES

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
"""States that a job does not leave."""


def state_of(job: Any) -> str:
    """Its state, as RUNNING."""
    return NAMES["JobState"].Name(job.state).removeprefix("JOB_STATE_")


def reason_of(end: Any) -> str:
    """Why it ended, as bad_data."""
    return NAMES["JobEndReason"].Name(end.reason).removeprefix("JOB_END_REASON_").lower()


def progress_words(job: Any) -> str:
    """How far it is; nothing before the first step."""
    if not job.HasField("progress"):
        return ""
    progress = job.progress
    told = f"step {progress.step} of {progress.total_steps}, epoch {progress.epoch} of {progress.total_epochs}"
    if progress.HasField("remaining"):
        told += f", {datetime.timedelta(seconds=progress.remaining.seconds)} left"
    return told


def scalar_words(job: Any, tags: tuple[str, ...] = ("loss/train", "loss/validation", "accuracy/validation")) -> str:
    """The newest values of the usual scalars."""
    latest = job.progress.latest_scalars
    return ", ".join(f"{tag} {latest[tag]:.4g}" for tag in tags if tag in latest)
