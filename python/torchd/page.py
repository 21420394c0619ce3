"""A job as a notebook shows it."""

import html
from typing import Any

from .curve import svg
from .scalars import Points
from .words import progress_words, state_of

SHOWN = 4
"""Scalars that are shown beside the curve."""


def job_html(job: Any, tag: str, points: Points | None) -> str:
    """State, progress, the newest scalars and a curve. All that others wrote is escaped."""
    state, progress = state_of(job), job.progress
    rows = [("state", state + (f": {job.waiting_reason}" if job.waiting_reason else "")), ("progress", progress_words(job))]
    rows += [(name, f"{progress.latest_scalars[name]:.4g}") for name in sorted(progress.latest_scalars)[:SHOWN]]
    if job.HasField("end"):
        rows.append(("end", job.end.message))
    table = "".join(f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows if value)
    bar = f"<progress max='1' value='{progress.progress_ratio:.4f}'></progress>" if job.HasField("progress") else ""
    curve = svg(points.step, points.value) if points else ""
    if curve:
        curve = f"<figure style='margin:0'>{curve}<figcaption>{html.escape(tag)}</figcaption></figure>"
    title = f"{job.spec.display_name} ({job.name})" if job.spec.display_name else job.name
    return f"<div><b>{html.escape(title)}</b> {bar}<table>{table}</table>{curve}</div>"
