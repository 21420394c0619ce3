"""What can be asked of a daemon."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from .. import messages, sending, spec as specs, training
from ..connection import PATIENCE, Connection, open_connection
from ..credentials import given
from ..daemon import Daemon
from ..errors import Mistake
from ..fill import fill
from ..protocol import METHODS
from ..refusal import invalid_request
from ..transport import Asyncio
from ..uploads import send
from .job import PAGE, Job


class Client:
    """A connection to one daemon."""

    def __init__(self, connection: Connection):
        self._connection = connection

    @property
    def address(self) -> str:
        """Where the daemon is."""
        return self._connection.address.told

    async def submit(self, spec: Any, set: Mapping[str, Any] | None = None, *, request_id: str = "") -> Job:
        """Puts a job into the queue. `spec` is a dictionary, the path of a TOML or JSON file, or a
        `torchd.messages.JobSpec`; `set` changes fields by their paths, as {"training.epochs": 3}.
        Asked twice with the same `request_id`, it makes one job."""
        message = specs.to_message(spec, set)
        return Job(self._connection, await self._connection.call("CreateJob", spec=message, request_id=request_id))

    async def validate(self, spec: Any, set: Mapping[str, Any] | None = None, *, dry_run: bool = False) -> messages.ValidateJobResponse:
        """Judges a spec as `submit` would, and describes data and model; with `dry_run` one batch
        is trained on."""
        return await self._connection.call("ValidateJob", spec=specs.to_message(spec, set), dry_run=dry_run)

    async def from_module(self, module: Any, example_inputs: Any = None, *, data: Any = None, validation: Any = None, target: str | None = None,
                          loss: Any = None, batch_dimensions: Any = None) -> dict[str, Any]:
        """Exports a module of PyTorch, and sends it and its data; the sections `model` and `data`
        of a spec, and `loss`.

        data, validation   (inputs..., target) as tensors or arrays, a frame of pandas or polars
                           with the column `target`, a Dataset, or a section of a spec such as
                           {"safetensors": {"path": "train.safetensors"}} for files that the
                           daemon has. `validation` may be a share of the data, such as 0.2.
        example_inputs     inputs of one batch, where the data do not tell them.
        loss               the name of a loss or a section of a spec; None for a module that returns
                           its loss, and for the usual one of the target.
        batch_dimensions   further dimensions that differ from batch to batch, as `dynamic` of
                           `torchd.export.export`.
        """
        room = await sending.room(self._connection)
        plan = await self._connection.transport.work(training.prepare, module, example_inputs, data, validation, target, loss, batch_dimensions, room)
        return await sending.send_all(self._connection, plan)

    async def train(self, module: Any, data: Any, *, epochs: int | None = None, batch_size: int = 64, optimizer: Any = None, loss: Any = None,
                    validation: Any = None, target: str | None = None, example_inputs: Any = None, **spec: Any) -> Job:
        """Trains a module: `from_module`, and a job with what it tells.

        `optimizer` is a section of a spec, such as {"sgd": {"learning_rate": 0.1}}; by default it
        is AdamW with the rate 0.001. Everything else of a spec can be given besides, as `seed=1`,
        `training={"max_steps": 500}` or `checkpoint={"every_epochs": 1}`. The module stays as it
        is: `job.load_into(module)` gives it the trained weights.
        """
        training.judge(loss, optimizer, spec)
        sections = await self.from_module(module, example_inputs, data=data, validation=validation, target=target, loss=loss)
        return await self.submit(training.request(module, sections, epochs, batch_size, optimizer, spec))

    async def job(self, name: str) -> Job:
        """A job by its name, `jobs/{id}` or the id alone."""
        name = name if name.startswith("jobs/") else f"jobs/{name}"
        return Job(self._connection, await self._connection.call("GetJob", name=name))

    async def jobs(self, *states: str, labels: Mapping[str, str] | None = None, limit: int = 50) -> list[Job]:
        """The newest jobs, or those in these states, such as "RUNNING", and with these labels."""
        request = _filled("ListJobs", {"states": states, "labels": labels or {}, "page_size": min(limit, PAGE)})
        found: list[Job] = []
        while True:
            answer = await self._connection.ask("ListJobs", request)
            found.extend(Job(self._connection, job) for job in answer.jobs)
            request.page_token = answer.next_page_token
            if not request.page_token or len(found) >= limit:
                return found[:limit]

    async def upload(self, path: Any, name: str | None = None, *, overwrite: bool = False) -> messages.UploadedFile:
        """Sends a file, which specs then name by `name`. What had arrived of it before is not sent
        again."""
        return await send(self._connection, Path(path), name, overwrite=overwrite)

    async def files(self) -> list[messages.UploadedFile]:
        """The files that were sent."""
        return await self._all("ListFiles", "files")

    async def remove_file(self, name: str) -> None:
        """Removes a file that was sent."""
        await self._connection.call("DeleteFile", name=name)

    async def gpus(self) -> list[messages.Gpu]:
        """The GPUs of the daemon's machine."""
        return list((await self._connection.call("ListGpus")).gpus)

    async def cluster(self) -> messages.Cluster:
        """What the daemon's machine has and can do."""
        return await self._connection.call("GetCluster")

    async def version(self) -> messages.GetVersionResponse:
        """Versions of the daemon and its libraries."""
        return await self._connection.call("GetVersion")

    async def check(self, facts: Mapping[str, Any] | None = None, **fields: Any) -> messages.CompatibilityReport:
        """Judges whether driver, CUDA and libtorch work together: here, or on a machine of these
        facts."""
        return await self._connection.ask("CheckCompatibility", _filled("CheckCompatibility", {"facts": facts, **fields}))

    async def plan_install(self, **fields: Any) -> messages.InstallPlan:
        """How to install PyTorch, as plan_install(pytorch_version="2.7.0", accelerator="gpu")."""
        return await self._connection.ask("PlanInstall", _filled("PlanInstall", fields))

    async def runtimes(self, **fields: Any) -> list[messages.Runtime]:
        """Databricks runtimes and what they ship."""
        return list((await self._connection.ask("ListRuntimes", _filled("ListRuntimes", {"page_size": PAGE, **fields}))).runtimes)

    async def _all(self, method: str, field: str) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            answer = await self._connection.call(method, page_size=PAGE, page_token=token)
            found.extend(getattr(answer, field))
            token = answer.next_page_token
            if not token:
                return found

    async def close(self) -> None:
        """Ends the connection. Jobs go on."""
        await self._connection.transport.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()


def _filled(method: str, fields: Mapping[str, Any]) -> Any:
    """The request of a method, of fields as people write them."""
    message = METHODS[method].request()
    mistakes: list[Mistake] = []
    fill(message, fields, "", mistakes)
    if mistakes:
        raise invalid_request(mistakes)
    return message


async def connect(address: str | None = None, *, token: str | None = None, ca_file: str | None = None, cert_file: str | None = None,
                  key_file: str | None = None, patience: float = PATIENCE) -> Client:
    """A client of the daemon at an address, or where TORCHD_SERVER says, or at the usual places: see
    `torchd.connect`."""
    return Client(await open_connection(Asyncio, address, given(token, ca_file, cert_file, key_file), patience))


@contextlib.asynccontextmanager
async def local(data_root: Any = None, *, state_dir: Any = None, patience: float = PATIENCE,
                settings: Mapping[str, Any] | None = None) -> AsyncIterator[Client]:
    """A client of a daemon of its own: see `torchd.local`."""
    daemon = await asyncio.to_thread(Daemon, data_root, state_dir, settings)
    try:
        async with await connect(daemon.address, token=daemon.token, patience=patience) as client:
            yield client
    finally:
        await asyncio.to_thread(daemon.stop)
