"""A job in the daemon's hands."""

import asyncio
import contextlib
import dataclasses
import fnmatch
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from .. import messages, weights
from ..connection import Connection
from ..downloads import below, fetch
from ..edits import resume_request
from ..errors import InvalidRequest, JobFailed, JobPaused, TorchdError
from ..page import job_html
from ..progress import shown
from ..scalars import Points, Scalars
from ..spec import to_message
from ..words import ENDED, reason_of, state_of

PAGE = 1000
POINTS_PAGE = 50_000
CURVES = ("loss/train", "loss/test", "loss")
"""Curves that a notebook shows: the first that there is."""
WEIGHTS = "artifacts/model.safetensors"


@dataclasses.dataclass
class Result:
    """What a job has left."""

    job: messages.Job = dataclasses.field(repr=False)
    """The job as the daemon tells it."""
    scalars: dict[str, float]
    """The newest value of each scalar."""
    artifacts: list[str]
    """Its files, as `download` names them."""


class Job:
    """A job. It goes on whatever becomes of this object: `client.job(name)` gives another one."""

    def __init__(self, connection: Connection, message: messages.Job):
        self._connection = connection
        self._message = message
        self._curve: tuple[str, Points | None] = ("", None)

    @property
    def name(self) -> str:
        """Its name, `jobs/{id}`."""
        return self._message.name

    @property
    def message(self) -> messages.Job:
        """The job as the daemon told it last."""
        return self._message

    @property
    def state(self) -> str:
        """Its state as it was told last: QUEUED, STARTING, RUNNING, STOPPING, PAUSED, SUCCEEDED,
        FAILED or CANCELLED."""
        return state_of(self._message)

    async def refresh(self) -> "Job":
        """Asks how it is now, and for the curve that a notebook shows."""
        self._message = await self._connection.call("GetJob", name=self.name)
        tags = await self._tags()
        shown = next((tag for tag in CURVES if tag in tags), None)
        self._curve = (shown, (await self.scalars(shown))[shown]) if shown else ("", None)
        return self

    async def watch(self, after: int = 0) -> AsyncGenerator[messages.WatchEvent, None]:
        """Follows it to its end: events, each with a `snapshot` of the job or with a `record` of
        its journal. Records come in order and without gaps, from the one behind `after`; where the
        connection is lost, it goes on behind the last one."""
        async with contextlib.aclosing(self._events(messages.WatchJobRequest(name=self.name, after_sequence=after))) as events:
            async for event in events:
                yield event

    async def _events(self, request: messages.WatchJobRequest) -> AsyncGenerator[messages.WatchEvent, None]:
        """The events of a watch, each once: a stream that is lost is asked for again."""
        known: messages.Job | None = None
        repeats = False

        def advance(answer: Any, is_first: bool) -> None:
            nonlocal repeats
            # Every stream begins with a snapshot, changed or not.
            repeats = is_first and known is not None
            for event in answer.events:
                if event.HasField("record"):
                    request.after_sequence = event.record.sequence

        async with contextlib.aclosing(self._connection.follow("WatchJob", request, advance)) as answers:
            async for answer in answers:
                for event in answer.events:
                    if event.HasField("snapshot"):
                        if repeats and event.snapshot == known:
                            continue
                        known = self._message = event.snapshot
                    yield event

    async def wait(self, progress: bool = True) -> "Job":
        """Waits for it to succeed. Another end raises `JobFailed`, a pause `JobPaused`. An
        interruption, as by Ctrl-C, leaves the job as it is."""
        show = shown(progress)
        try:
            # A long job has many records, and none is needed here.
            async with contextlib.aclosing(self._events(messages.WatchJobRequest(name=self.name, without_records=True))) as events:
                async for event in events:
                    if not event.HasField("snapshot"):
                        continue
                    show.show(self._message)
                    if self.state == "PAUSED":
                        raise JobPaused(f"{self.name} is paused: {self._why_paused()}; resume() lets it go on", self.name)
        except (KeyboardInterrupt, asyncio.CancelledError):
            print(f"{self.name} goes on without you: wait() again, or cancel() it", file=sys.stderr)
            raise
        finally:
            show.close()
        if self.state != "SUCCEEDED":
            end = self._message.end
            raise JobFailed(self.name, reason_of(end), end.message, list(end.log_tail))
        return self

    def _why_paused(self) -> str:
        last = self._message.last_attempt_end
        return self._message.waiting_reason or (last.message if last.message else "somebody has asked for it")

    async def result(self) -> Result:
        """Waits for it without a word; what it has left."""
        await self.wait(progress=False)
        names = [artifact.name.removeprefix(f"{self.name}/") for artifact in await self.artifacts()]
        return Result(self._message, dict(self._message.progress.latest_scalars), names)

    async def logs(self, follow: bool = False, tail: int = 0) -> AsyncGenerator[str, None]:
        """The lines that it has written, or only so many of the last; with `follow` to its end."""
        request = messages.ReadJobLogRequest(name=self.name, follow=follow, tail_lines=tail)

        def advance(answer: Any, _is_first: bool) -> None:
            request.offset_bytes = answer.next_offset_bytes
            request.tail_lines = 0

        rest = ""
        async with contextlib.aclosing(self._connection.follow("ReadJobLog", request, advance)) as answers:
            async for answer in answers:
                *lines, rest = (rest + answer.text).split("\n")
                for line in lines:
                    yield line
        if rest:
            yield rest

    async def scalars(self, *tags: str) -> Scalars:
        """The points of these tags, or of all."""
        found: dict[str, Points] = {}
        for tag in tags or await self._tags():
            points = found[tag] = Points.none()
            token = ""
            while True:
                answer = await self._connection.call("ReadScalars", name=self.name, tag=tag, page_size=POINTS_PAGE, page_token=token)
                points.take(answer.points)
                token = answer.next_page_token
                if not token:
                    break
        return Scalars(found)

    async def _tags(self) -> list[str]:
        return [entry.tag for entry in await self._all("ListScalarTags", "tags")]

    async def _all(self, method: str, field: str) -> list[Any]:
        """All pages of a list about this job."""
        found: list[Any] = []
        token = ""
        while True:
            answer = await self._connection.call(method, name=self.name, page_size=PAGE, page_token=token)
            found.extend(getattr(answer, field))
            token = answer.next_page_token
            if not token:
                return found

    async def pause(self) -> "Job":
        """Takes it off the machine, with a checkpoint."""
        self._message = await self._connection.call("PauseJob", name=self.name)
        return self

    async def resume(self, *, from_scratch: bool = False, accept_new_data: bool = False, **edits: Any) -> "Job":
        """Lets a paused job go on, with edits if wanted: `learning_rate`, `batch_size`, `epochs` or
        `max_steps`, and `set={"checkpoint.keep_latest": 5}` for other fields of the spec."""
        fields = resume_request(self.name, edits)
        self._message = await self._connection.call("ResumeJob", from_scratch=from_scratch, accept_new_data=accept_new_data, **fields)
        return self

    async def set_priority(self, priority: int) -> "Job":
        """Gives it another priority, -1000 to 1000, as long as it has not ended."""
        self._message = await self._connection.call("SetJobPriority", name=self.name, priority=priority)
        return self

    async def redo(self, priority: int | None = None, after: Any = (), *, request_id: str = "") -> "Job":
        """Another job of its spec, with all edits. `after` is as in a spec, such as
        [{"job": "jobs/...", "condition": "succeeded"}]; that of this job is not taken over."""
        spec = to_message({"after": list(after)})
        given = {} if priority is None else {"priority": priority}
        message = await self._connection.call("RedoJob", name=self.name, request_id=request_id, after=spec.after, **given)
        return Job(self._connection, message)

    async def cancel(self, now: bool = False) -> "Job":
        """Asks it to end; `now` kills its runner, without a last checkpoint."""
        self._message = await self._connection.call("CancelJob", name=self.name, now=now)
        return self

    async def delete(self) -> None:
        """Removes it with its folder, once it has ended."""
        await self._connection.call("DeleteJob", name=self.name)

    async def checkpoints(self) -> list[messages.SavedCheckpoint]:
        """Its checkpoints on disk, newest first."""
        return await self._all("ListCheckpoints", "checkpoints")

    async def artifacts(self) -> list[messages.Artifact]:
        """Its files."""
        return await self._all("ListArtifacts", "artifacts")

    async def download(self, folder: Any, only: str = "artifacts/*") -> list[Path]:
        """Fetches its files whose names match the pattern, `*` for all, into a folder."""
        folder = Path(folder)
        names = [artifact.name for artifact in await self.artifacts()]
        chosen = [name for name in names if fnmatch.fnmatch(name.removeprefix(f"{self.name}/"), only)]
        if not chosen:
            found = ", ".join(name.removeprefix(f"{self.name}/") for name in names)
            raise InvalidRequest(f"{self.name} has no file like {only!r}; it has {found or 'none yet'}", [])
        return [await fetch(self._connection, name, below(folder, name, self.name)) for name in chosen]

    async def load_into(self, module: Any, checkpoint: int | None = None) -> Any:
        """Puts the trained weights into a module of PyTorch, or those of the checkpoint of a step;
        the module. Names and shapes have to be the same: `WeightsDiffer` tells what is not."""
        source = WEIGHTS if checkpoint is None else f"checkpoints/step-{checkpoint}/model.safetensors"
        if checkpoint is None and self.state not in ENDED:
            await self.refresh()
        if checkpoint is None and self.state != "SUCCEEDED":
            hope = "" if self.state in ENDED else "wait() for it, or "
            raise TorchdError(f"{self.name} is {self.state} and has no result: {hope}name the step of a checkpoint as load_into(module, checkpoint=...); "
                              "checkpoints() lists them")
        with tempfile.TemporaryDirectory(prefix="torchd-") as folder:
            path = await fetch(self._connection, f"{self.name}/{source}", Path(folder) / "model.safetensors")
            await self._connection.transport.work(weights.load, module, path, self.name)
        return module

    def _repr_html_(self) -> str:
        return job_html(self._message, *self._curve)

    def __repr__(self) -> str:
        return f"<torchd job {self.name} {self.state.lower()}>"
