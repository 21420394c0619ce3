# Made by scripts/python-package of torchd/aio and torchd/client.py.

import contextlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import aio, messages
from .aio.job import Result
from .connection import PATIENCE
from .scalars import Scalars

class Job:
    """A job. It goes on whatever becomes of this object: `client.job(name)` gives another one."""

    def __init__(self, core: aio.Job):
        ...

    def _repr_html_(self) -> str:
        ...

    def __repr__(self) -> str:
        ...

    @property
    def name(self) -> str:
        """Its name, `jobs/{id}`."""

    @property
    def message(self) -> messages.Job:
        """The job as the daemon told it last."""

    @property
    def state(self) -> str:
        """Its state as it was told last: QUEUED, STARTING, RUNNING, STOPPING, PAUSED, SUCCEEDED,
        FAILED or CANCELLED."""

    def refresh(self) -> 'Job':
        """Asks how it is now, and for the curve that a notebook shows."""

    def watch(self, after: int=0) -> Generator[messages.WatchEvent, None, None]:
        """Follows it to its end: events, each with a `snapshot` of the job or with a `record` of
        its journal. Records come in order and without gaps, from the one behind `after`; where the
        connection is lost, it goes on behind the last one."""

    def wait(self, progress: bool=True) -> 'Job':
        """Waits for it to succeed. Another end raises `JobFailed`, a pause `JobPaused`. An
        interruption, as by Ctrl-C, leaves the job as it is."""

    def result(self) -> Result:
        """Waits for it without a word; what it has left."""

    def logs(self, follow: bool=False, tail: int=0) -> Generator[str, None, None]:
        """The lines that it has written, or only so many of the last; with `follow` to its end."""

    def scalars(self, *tags: str) -> Scalars:
        """The points of these tags, or of all."""

    def pause(self) -> 'Job':
        """Takes it off the machine, with a checkpoint."""

    def resume(self, *, from_scratch: bool=False, accept_new_data: bool=False, **edits: Any) -> 'Job':
        """Lets a paused job go on, with edits if wanted: `learning_rate`, `batch_size`, `epochs` or
        `max_steps`, and `set={"checkpoint.keep_latest": 5}` for other fields of the spec."""

    def set_priority(self, priority: int) -> 'Job':
        """Gives it another priority, -1000 to 1000, as long as it has not ended."""

    def redo(self, priority: int | None=None, after: Any=(), *, request_id: str='') -> 'Job':
        """Another job of its spec, with all edits. `after` is as in a spec, such as
        [{"job": "jobs/...", "condition": "succeeded"}]; that of this job is not taken over."""

    def cancel(self, now: bool=False) -> 'Job':
        """Asks it to end; `now` kills its runner, without a last checkpoint."""

    def delete(self) -> None:
        """Removes it with its folder, once it has ended."""

    def checkpoints(self) -> list[messages.SavedCheckpoint]:
        """Its checkpoints on disk, newest first."""

    def artifacts(self) -> list[messages.Artifact]:
        """Its files."""

    def download(self, folder: Any, only: str='artifacts/*') -> list[Path]:
        """Fetches its files whose names match the pattern, `*` for all, into a folder."""

    def load_into(self, module: Any, checkpoint: int | None=None) -> Any:
        """Puts the trained weights into a module of PyTorch, or those of the checkpoint of a step;
        the module. Names and shapes have to be the same: `WeightsDiffer` tells what is not."""

class Client:
    """A connection to one daemon."""

    def __init__(self, core: aio.Client):
        ...

    def __enter__(self) -> 'Client':
        ...

    def __exit__(self, *_: Any) -> None:
        ...

    def __repr__(self) -> str:
        ...

    @property
    def address(self) -> str:
        """Where the daemon is."""

    def submit(self, spec: Any, set: Mapping[str, Any] | None=None, *, request_id: str='') -> Job:
        """Puts a job into the queue. `spec` is a dictionary, the path of a TOML or JSON file, or a
        `torchd.messages.JobSpec`; `set` changes fields by their paths, as {"training.epochs": 3}.
        Asked twice with the same `request_id`, it makes one job."""

    def validate(self, spec: Any, set: Mapping[str, Any] | None=None, *, dry_run: bool=False) -> messages.ValidateJobResponse:
        """Judges a spec as `submit` would, and describes data and model; with `dry_run` one batch
        is trained on."""

    def from_module(self, module: Any, example_inputs: Any=None, *, data: Any=None, validation: Any=None, target: str | None=None, loss: Any=None, batch_dimensions: Any=None) -> dict[str, Any]:
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

    def train(self, module: Any, data: Any, *, epochs: int | None=None, batch_size: int=64, optimizer: Any=None, loss: Any=None, validation: Any=None, target: str | None=None, example_inputs: Any=None, **spec: Any) -> Job:
        """Trains a module: `from_module`, and a job with what it tells.

        `optimizer` is a section of a spec, such as {"sgd": {"learning_rate": 0.1}}; by default it
        is AdamW with the rate 0.001. Everything else of a spec can be given besides, as `seed=1`,
        `training={"max_steps": 500}` or `checkpoint={"every_epochs": 1}`. The module stays as it
        is: `job.load_into(module)` gives it the trained weights.
        """

    def job(self, name: str) -> Job:
        """A job by its name, `jobs/{id}` or the id alone."""

    def jobs(self, *states: str, labels: Mapping[str, str] | None=None, limit: int=50) -> list[Job]:
        """The newest jobs, or those in these states, such as "RUNNING", and with these labels."""

    def upload(self, path: Any, name: str | None=None, *, overwrite: bool=False) -> messages.UploadedFile:
        """Sends a file, which specs then name by `name`. What had arrived of it before is not sent
        again."""

    def files(self) -> list[messages.UploadedFile]:
        """The files that were sent."""

    def remove_file(self, name: str) -> None:
        """Removes a file that was sent."""

    def gpus(self) -> list[messages.Gpu]:
        """The GPUs of the daemon's machine."""

    def cluster(self) -> messages.Cluster:
        """What the daemon's machine has and can do."""

    def version(self) -> messages.GetVersionResponse:
        """Versions of the daemon and its libraries."""

    def check(self, facts: Mapping[str, Any] | None=None, **fields: Any) -> messages.CompatibilityReport:
        """Judges whether driver, CUDA and libtorch work together: here, or on a machine of these
        facts."""

    def plan_install(self, **fields: Any) -> messages.InstallPlan:
        """How to install PyTorch, as plan_install(pytorch_version="2.7.0", accelerator="gpu")."""

    def runtimes(self, **fields: Any) -> list[messages.Runtime]:
        """Databricks runtimes and what they ship."""

    def close(self) -> None:
        """Ends the connection. Jobs go on."""

def connect(address: str | None=None, *, token: str | None=None, ca_file: str | None=None, cert_file: str | None=None, key_file: str | None=None, patience: float=PATIENCE) -> Client:
    """A client of the daemon at `host:port`, `https://host:port` or `unix:PATH`.

    Without an address it is the one of TORCHD_SERVER, else the first that answers: at the Unix
    socket of the user, of the machine, or at 127.0.0.1:7080. `token`, else TORCHD_TOKEN or the
    content of TORCHD_TOKEN_FILE, goes with each call; a Unix socket needs none. With https:// the
    server's certificate has to be signed by one of `ca_file` (TORCHD_CA_FILE), else by one that
    gRPC knows; `cert_file` and `key_file` (TORCHD_CERT_FILE, TORCHD_KEY_FILE) are a client's own. What waits for a job waits `patience` seconds for a daemon that has gone away.
    """

@contextlib.contextmanager
def local(data_root: Any=None, *, state_dir: Any=None, patience: float=PATIENCE, settings: Mapping[str, Any] | None=None) -> Iterator[Client]:
    """Starts a daemon for this program alone, and ends it with the block, or with the program.

        with torchd.local(data_root="data") as client:
            job = client.submit("job.toml").wait()

    Jobs may read `data_root`, a folder or several. Jobs and results lie in `state_dir`, which
    stays, or else in a folder that is removed at the end. `settings` are those of the daemon, as
    {"uploads.quota_bytes": 1_000_000}.
    """
