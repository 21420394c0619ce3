"""Sends what a job needs, and tells its spec under which names."""

from typing import Any

from .connection import Connection
from .training import Plan
from .uploads import send

FOLDER = "python"
"""Where files lie among those that were sent: below it by their checksums, so that the same data
are sent once."""


async def room(connection: Connection) -> int:
    """The most bytes that the daemon takes."""
    return (await connection.call("ListFiles", page_size=1)).quota_bytes


async def send_all(connection: Connection, plan: Plan) -> dict[str, Any]:
    """Sends the files of a plan; the sections of a spec that name them."""
    with plan.folder:
        sections = dict(plan.sections)
        data = dict(sections.get("data", {}))
        for part, prepared in (("train", plan.train), ("validation", plan.validation)):
            if prepared is None:
                continue
            if prepared.file is not None:
                data[part] = prepared.named((await send(connection, prepared.file, None, FOLDER)).name)
            elif "train" in prepared.section:
                # A whole section `data`.
                data.update(prepared.section)
            else:
                data[part] = prepared.section
        model = await send(connection, plan.model, None, FOLDER)
        if data:
            sections["data"] = data
        return {**sections, "model": {"exported": {"path": model.name}}}
