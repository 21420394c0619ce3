# Made by scripts/python-package of proto/torchd/v1.

from collections.abc import Iterable, Mapping, MutableMapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

Role: EnumTypeWrapper
"""The rights of a caller."""
ROLE_UNSPECIFIED: int
"""Not told."""
ROLE_VIEWER: int
"""Reads everything that torchd tells: jobs, results, GPUs, versions."""
ROLE_SUBMITTER: int
"""Creates jobs and sends files; changes and deletes its own."""
ROLE_ADMIN: int
"""Does everything: changes jobs of all owners, makes and revokes tokens."""
ROLE_RANK: int
"""Runs a rank of a launch, with the token of that launch, and may do nothing else. It is below all
others; no other token has it."""

class Token(Message):
    """A token, without its secret."""
    name: str
    """`tokens/{id}`."""
    role: int
    """The rights of its holder."""
    owner: str
    """Jobs and uploads of its holder are this owner's. The name of a user of the machine makes them
    that user's."""
    @property
    def create_time(self) -> Timestamp:
        """When it was made."""
    @property
    def expire_time(self) -> Timestamp:
        """When it ends; absent for never."""
    @property
    def revoke_time(self) -> Timestamp:
        """When it was revoked; absent where it was not."""
    def __init__(self, *, name: str | None = ..., role: int | str | None = ..., owner: str | None = ..., create_time: Timestamp | Mapping[str, object] | None = ..., expire_time: Timestamp | Mapping[str, object] | None = ..., revoke_time: Timestamp | Mapping[str, object] | None = ...) -> None: ...

class CreateTokenRequest(Message):
    """Request of CreateToken."""
    token_id: str
    """Its name: letters, digits and `.`, `_`, `-`, `@`, `+`. Required. At most 64 bytes. No other
    token may have it, of those that ListTokens tells."""
    role: int
    """The rights of its holder."""
    owner: str
    """The owner of its holder's jobs and uploads, with the same characters; empty for the name of
    the token. At most 64 bytes."""
    @property
    def ttl(self) -> Duration:
        """How long it is good, at least a minute; absent for ever."""
    def __init__(self, *, token_id: str | None = ..., role: int | str | None = ..., owner: str | None = ..., ttl: Duration | Mapping[str, object] | None = ...) -> None: ...

class CreateTokenResponse(Message):
    """Answer of CreateToken."""
    @property
    def token(self) -> Token:
        """The token."""
    secret: str
    """Its secret, which callers send as `authorization: Bearer SECRET`."""
    def __init__(self, *, token: Token | Mapping[str, object] | None = ..., secret: str | None = ...) -> None: ...

class ListTokensRequest(Message):
    """Request of ListTokens."""
    page_size: int
    """Tokens in an answer: 0 means 50, more than 1000 means 1000."""
    page_token: str
    """`next_page_token` of the answer before; empty for the first page. At most 4,096 bytes."""
    def __init__(self, *, page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListTokensResponse(Message):
    """Answer of ListTokens."""
    @property
    def tokens(self) -> RepeatedCompositeFieldContainer[Token]:
        """The tokens."""
    next_page_token: str
    """Empty at the end of the list."""
    def __init__(self, *, tokens: Iterable[Token] | None = ..., next_page_token: str | None = ...) -> None: ...

class RevokeTokenRequest(Message):
    """Request of RevokeToken."""
    name: str
    """`tokens/{id}`. Required. At most 256 bytes."""
    def __init__(self, *, name: str | None = ...) -> None: ...

Support: EnumTypeWrapper
"""Support of a runtime on a day."""
SUPPORT_UNSPECIFIED: int
"""Never sent."""
SUPPORT_SUPPORTED: int
"""Supported on that day."""
SUPPORT_ENDED: int
"""Its support had ended."""
SUPPORT_NOT_RELEASED: int
"""It had not been released."""
SUPPORT_UNKNOWN: int
"""A date that would tell is not known."""

Accelerator: EnumTypeWrapper
"""The device that PyTorch is to compute on."""
ACCELERATOR_UNSPECIFIED: int
"""Refused where one is needed."""
ACCELERATOR_CPU: int
"""The CPU."""
ACCELERATOR_GPU: int
"""NVIDIA GPUs."""

Verdict: EnumTypeWrapper
"""How it stands."""
VERDICT_UNSPECIFIED: int
"""Never sent."""
VERDICT_OK: int
"""Everything that was judged fits."""
VERDICT_DEGRADED: int
"""It works, with less than there could be."""
VERDICT_BROKEN: int
"""Something does not work."""
VERDICT_UNKNOWN: int
"""A fact that decides is not known."""

Severity: EnumTypeWrapper
"""How bad a finding is."""
SEVERITY_UNSPECIFIED: int
"""Never sent."""
SEVERITY_INFO: int
"""Good to know."""
SEVERITY_WARNING: int
"""It works, with less than there could be."""
SEVERITY_UNKNOWN: int
"""A fact that decides is not known."""
SEVERITY_ERROR: int
"""It does not work."""

Concern: EnumTypeWrapper
"""The part of a machine that a finding is about."""
CONCERN_UNSPECIFIED: int
"""Never sent."""
CONCERN_GPU_TRAINING: int
"""Training on GPUs."""
CONCERN_ALL_TRAINING: int
"""All training."""
CONCERN_MODEL_EXCHANGE: int
"""Exchange of model files with another PyTorch."""
CONCERN_SUPPORT: int
"""The vendor's support."""

class ListRuntimesRequest(Message):
    """Request of ListRuntimes."""
    pytorch_version: str
    """Only runtimes with this PyTorch, such as `1.5.1`; `2.7` means every 2.7, and `1.13.1+cu117`
    only that build on GPU clusters. Empty for all. At most 256 bytes."""
    as_of: str
    """The day on which support is judged, as YYYY-MM-DD. Empty for today. A day before the first
    runtime is refused. At most 256 bytes."""
    supported_only: bool
    """Only runtimes that were supported on that day."""
    lts_only: bool
    """Only runtimes with long-term support."""
    page_size: int
    """The most entries of a page; 0 for 100."""
    page_token: str
    """The next_page_token of the answer before; empty for the first page. At most 4,096 bytes."""
    def __init__(self, *, pytorch_version: str | None = ..., as_of: str | None = ..., supported_only: bool | None = ..., lts_only: bool | None = ..., page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListRuntimesResponse(Message):
    """Answer of ListRuntimes."""
    @property
    def runtimes(self) -> RepeatedCompositeFieldContainer[Runtime]:
        """The runtimes."""
    next_page_token: str
    """Empty at the end."""
    def __init__(self, *, runtimes: Iterable[Runtime] | None = ..., next_page_token: str | None = ...) -> None: ...

class GetRuntimeRequest(Message):
    """Request of GetRuntime."""
    name: str
    """Any way of writing it: `runtimes/7.3-ml`, `7.3 ML`, `7.3 LTS ML`, `7.3.x-gpu-ml-scala2.12`,
    `7.3`, `DBR 7.3`, `Databricks Runtime 7.3 LTS for Machine Learning`, `15.4 LTS ML (includes
    Apache Spark 3.5.0, GPU, Scala 2.12)`. At most 256 bytes."""
    as_of: str
    """The day on which support is judged, as YYYY-MM-DD. Empty for today. At most 256 bytes."""
    def __init__(self, *, name: str | None = ..., as_of: str | None = ...) -> None: ...

class Runtime(Message):
    """A Databricks Runtime for Machine Learning. Versions that no source told are empty."""
    name: str
    """Resource name, such as `runtimes/7.3-ml`."""
    display_name: str
    """As Databricks writes it, such as `7.3 LTS ML`."""
    lts: bool
    """It has long-term support."""
    python_version: str
    """Version of Python."""
    pytorch_version: str
    """Version of PyTorch."""
    pytorch_cuda_variant: str
    """The build of PyTorch on GPU clusters, such as `cu121`."""
    torchvision_version: str
    """Version of torchvision."""
    cuda_version: str
    """Version of the CUDA toolkit."""
    cudnn_version: str
    """Version of cuDNN."""
    nccl_version: str
    """Version of NCCL."""
    standard_python_version: str
    """Python of the standard runtime of the same number."""
    release_date: str
    """Day of the release, as YYYY-MM-DD."""
    end_of_support_date: str
    """Last day of support, as YYYY-MM-DD."""
    support: int
    """Support on the day that was asked for."""
    support_reason: str
    """The reason for the status."""
    @property
    def notes(self) -> RepeatedScalarFieldContainer[str]:
        """For people."""
    @property
    def conflicts(self) -> RepeatedCompositeFieldContainer[Conflict]:
        """Contradicting statements of sources; the fields above hold the values that count."""
    @property
    def sources(self) -> RepeatedCompositeFieldContainer[Source]:
        """Where the row was read."""
    def __init__(self, *, name: str | None = ..., display_name: str | None = ..., lts: bool | None = ..., python_version: str | None = ..., pytorch_version: str | None = ..., pytorch_cuda_variant: str | None = ..., torchvision_version: str | None = ..., cuda_version: str | None = ..., cudnn_version: str | None = ..., nccl_version: str | None = ..., standard_python_version: str | None = ..., release_date: str | None = ..., end_of_support_date: str | None = ..., support: int | str | None = ..., support_reason: str | None = ..., notes: Iterable[str] | None = ..., conflicts: Iterable[Conflict] | None = ..., sources: Iterable[Source] | None = ...) -> None: ...

class Conflict(Message):
    """A value on which sources disagree."""
    field: str
    """The field of the catalogue."""
    value: str
    """The statement of the other source."""
    @property
    def source(self) -> Source:
        """The other source."""
    counts: str
    """Which one counts, and why."""
    def __init__(self, *, field: str | None = ..., value: str | None = ..., source: Source | Mapping[str, object] | None = ..., counts: str | None = ...) -> None: ...

class Source(Message):
    """Where a fact was read."""
    title: str
    """Title."""
    location: str
    """Address, or repository, path and revision."""
    def __init__(self, *, title: str | None = ..., location: str | None = ...) -> None: ...

class PlanInstallRequest(Message):
    """Request of PlanInstall."""
    runtime: str
    """A Databricks runtime in any way of writing it (GetRuntimeRequest.name), standard
    (`7.3.x-scala2.12`, `7.3`) or for machine learning (`7.3 ML`). Empty for a bare Python. At most
    256 bytes."""
    python_version: str
    """Version of Python, such as `3.10` or `Python 3.10.12`. Needed without a runtime, and with one
    whose Python is not known. At most 256 bytes."""
    accelerator: int
    """The device to compute on. Required."""
    pytorch_version: str
    """Version of PyTorch, such as `1.5.0`, or with its build, such as `1.13.1+cu117`. Empty for the
    newest that fits. At most 256 bytes."""
    cuda_variant: str
    """CUDA build, such as `cu126`, or its toolkit, such as `12.6`. Empty for the one that fits
    best. At most 256 bytes."""
    driver_version: str
    """Version of the NVIDIA driver there. Where it is given, builds that it cannot run are left
    out. At most 256 bytes."""
    compute_capability: str
    """Compute capability of the GPU there, such as `8.6`. Where it is given, builds without code
    for it are left out. At most 256 bytes."""
    def __init__(self, *, runtime: str | None = ..., python_version: str | None = ..., accelerator: int | str | None = ..., pytorch_version: str | None = ..., cuda_variant: str | None = ..., driver_version: str | None = ..., compute_capability: str | None = ...) -> None: ...

class InstallPlan(Message):
    """The packages to install, and why."""
    runtime: str
    """The runtime that the plan is for, as Databricks writes it; empty for a bare Python."""
    python_version: str
    """Version of Python."""
    pytorch_version: str
    """Version of PyTorch."""
    torchvision_version: str
    """Version of torchvision that belongs to it; empty where no source told."""
    variant: str
    """The build: `cpu`, or such as `cu126`."""
    already_there: bool
    """The runtime already has it: there is nothing to install."""
    @property
    def steps(self) -> RepeatedCompositeFieldContainer[InstallStep]:
        """In order; empty where there is nothing to install."""
    @property
    def requirement_lines(self) -> RepeatedScalarFieldContainer[str]:
        """All steps as the lines of a requirements file."""
    pip_command: str
    """All steps as one command of pip."""
    notebook_magic: str
    """All steps as one line of a notebook."""
    @property
    def notes(self) -> RepeatedScalarFieldContainer[str]:
        """Further notes: the packages of the runtime, the choices and their reasons, the gaps."""
    @property
    def sources(self) -> RepeatedCompositeFieldContainer[Source]:
        """Where the facts were read."""
    def __init__(self, *, runtime: str | None = ..., python_version: str | None = ..., pytorch_version: str | None = ..., torchvision_version: str | None = ..., variant: str | None = ..., already_there: bool | None = ..., steps: Iterable[InstallStep] | None = ..., requirement_lines: Iterable[str] | None = ..., pip_command: str | None = ..., notebook_magic: str | None = ..., notes: Iterable[str] | None = ..., sources: Iterable[Source] | None = ...) -> None: ...

class InstallStep(Message):
    """One package."""
    package: str
    """For example `torch`."""
    requirement: str
    """A pin such as `torch==1.5.0`, or the address of a wheel."""
    @property
    def requirement_lines(self) -> RepeatedScalarFieldContainer[str]:
        """The lines of a requirements file."""
    pip_command: str
    """The command of pip."""
    notebook_magic: str
    """The line of a notebook."""
    why: str
    """Why this package in this version."""
    def __init__(self, *, package: str | None = ..., requirement: str | None = ..., requirement_lines: Iterable[str] | None = ..., pip_command: str | None = ..., notebook_magic: str | None = ..., why: str | None = ...) -> None: ...

class CheckCompatibilityRequest(Message):
    """Request of CheckCompatibility."""
    @property
    def facts(self) -> MachineFacts:
        """The machine to judge. Absent: the one that the daemon runs on."""
    as_of: str
    """The day on which support is judged, as YYYY-MM-DD. Empty for today. At most 256 bytes."""
    def __init__(self, *, facts: MachineFacts | Mapping[str, object] | None = ..., as_of: str | None = ...) -> None: ...

class MachineFacts(Message):
    """Known facts about a machine. Absent and empty mean not known."""
    @property
    def gpus(self) -> GpuList:
        """Its GPUs. An empty list means that there are none."""
    driver_version: str
    """Version of the NVIDIA kernel driver, such as `535.161.07`. At most 256 bytes."""
    nvml_error: int
    """The return value of NVML's initialisation: 0 for success, 9 for no driver, 18 for a driver
    that does not match its library."""
    @property
    def torch(self) -> TorchFacts:
        """PyTorch, or libtorch."""
    glibc_version: str
    """Version of the C library, such as `2.36`. At most 256 bytes."""
    glibcxx_version: str
    """Newest version that the C++ library offers as GLIBCXX_..., such as `3.4.30`. At most 256
    bytes."""
    runtime: str
    """Databricks runtime, in any way of writing it. At most 256 bytes."""
    node_type: str
    """Type of the virtual machine, such as `Standard_NV36ads_A10_v5`. At most 256 bytes."""
    nvidia_uvm: bool
    """The device of the nvidia_uvm module is there."""
    forward_compatibility_dir: str
    """Folder of a forward-compatibility package that the loader finds before the driver's own
    libraries. At most 4,096 bytes."""
    model_pytorch_version: str
    """PyTorch version that wrote a model file which is to be loaded. At most 256 bytes."""
    os: str
    """Operating system, for people. At most 256 bytes."""
    python_version: str
    """Version of the Python that PyTorch is installed into, such as `3.10`. Empty: the one of the
    runtime, where that is known. At most 256 bytes."""
    def __init__(self, *, gpus: GpuList | Mapping[str, object] | None = ..., driver_version: str | None = ..., nvml_error: int | None = ..., torch: TorchFacts | Mapping[str, object] | None = ..., glibc_version: str | None = ..., glibcxx_version: str | None = ..., runtime: str | None = ..., node_type: str | None = ..., nvidia_uvm: bool | None = ..., forward_compatibility_dir: str | None = ..., model_pytorch_version: str | None = ..., os: str | None = ..., python_version: str | None = ...) -> None: ...

class GpuList(Message):
    """GPUs of a machine."""
    @property
    def gpus(self) -> RepeatedCompositeFieldContainer[GpuDescription]:
        """The GPUs. At most 64 entries."""
    def __init__(self, *, gpus: Iterable[GpuDescription] | None = ...) -> None: ...

class GpuDescription(Message):
    """A GPU as far as compatibility depends on it."""
    name: str
    """Name, such as `NVIDIA A10`. At most 256 bytes."""
    compute_capability: str
    """Compute capability, such as `8.6`. Where it is empty and the name is known, it is looked up.
    At most 256 bytes."""
    def __init__(self, *, name: str | None = ..., compute_capability: str | None = ...) -> None: ...

class TorchFacts(Message):
    """PyTorch or libtorch on a machine."""
    version: str
    """Version, such as `2.11.0` or `2.11.0+cu130`. At most 256 bytes."""
    variant: str
    """Build, such as `cu130` or `cpu`, or its toolkit, such as `13.0`; empty where it is not known
    or stands in the version. At most 256 bytes."""
    load_error: str
    """Why libtorch itself could not be loaded, in the loader's words; empty where it could. At most
    16,384 bytes."""
    cuda_load_error: str
    """Why its CUDA half could not be loaded, in the loader's words; empty where it could or is not
    there. At most 16,384 bytes."""
    cuda_error: int
    """The return value of the CUDA runtime when it was asked for devices: 0 for success, or such as
    803."""
    built_for_version: str
    """The version that the program which loads it was built for, such as `2.11.0` for torchd's
    runner; empty where any will do. At most 256 bytes."""
    def __init__(self, *, version: str | None = ..., variant: str | None = ..., load_error: str | None = ..., cuda_load_error: str | None = ..., cuda_error: int | None = ..., built_for_version: str | None = ...) -> None: ...

class CompatibilityReport(Message):
    """The judgement of a machine."""
    verdict: int
    """The worst of all findings."""
    gpu_verdict: int
    """Training on GPUs; absent where there are none."""
    cpu_verdict: int
    """Training on the CPU."""
    @property
    def findings(self) -> RepeatedCompositeFieldContainer[Finding]:
        """The worst first."""
    @property
    def facts(self) -> MachineFacts:
        """The facts that were judged."""
    as_of: str
    """The day on which support was judged, as YYYY-MM-DD."""
    def __init__(self, *, verdict: int | str | None = ..., gpu_verdict: int | str | None = ..., cpu_verdict: int | str | None = ..., findings: Iterable[Finding] | None = ..., facts: MachineFacts | Mapping[str, object] | None = ..., as_of: str | None = ...) -> None: ...

class Finding(Message):
    """One thing that was found out."""
    severity: int
    """How bad."""
    reason: str
    """Stable code, such as `DRIVER_TOO_OLD`."""
    concern: int
    """The part that it is about."""
    summary: str
    """In one sentence."""
    found: str
    """The value that was found."""
    needed: str
    """The value that is needed; empty where none is."""
    @property
    def remedies(self) -> RepeatedCompositeFieldContainer[Remedy]:
        """Remedies: one of these is enough. A remedy that changes PyTorch, the driver or the
        forward-compatibility package is told only if this finding is gone after it and what is left
        is less; of those, only the ones that leave the fewest errors."""
    @property
    def sources(self) -> RepeatedCompositeFieldContainer[Source]:
        """Where the rule and its facts were read."""
    def __init__(self, *, severity: int | str | None = ..., reason: str | None = ..., concern: int | str | None = ..., summary: str | None = ..., found: str | None = ..., needed: str | None = ..., remedies: Iterable[Remedy] | None = ..., sources: Iterable[Source] | None = ...) -> None: ...

class Remedy(Message):
    """A way out."""
    text: str
    """The remedy in words."""
    @property
    def commands(self) -> RepeatedScalarFieldContainer[str]:
        """The commands, where there are any."""
    def __init__(self, *, text: str | None = ..., commands: Iterable[str] | None = ...) -> None: ...

JobEndReason: EnumTypeWrapper
"""Why a job, or one attempt at it, ended."""
JOB_END_REASON_UNSPECIFIED: int
"""Never sent."""
JOB_END_REASON_FINISHED: int
"""Trained to the end."""
JOB_END_REASON_CANCELLED: int
"""Was cancelled."""
JOB_END_REASON_INTERRUPTED: int
"""Its runner was stopped, or lost, through no fault of its own: a shutdown of the machine, a
SIGTERM from elsewhere. Such a job goes back to the queue; it ends for this reason only where that
has happened again and again without a step of progress."""
JOB_END_REASON_KILLED_BY_SIGNAL: int
"""A signal ended the runner; `signal` tells which."""
JOB_END_REASON_BAD_DATA: int
"""The data turned out to be unusable."""
JOB_END_REASON_OUT_OF_MEMORY: int
"""The GPU or the machine had too little memory."""
JOB_END_REASON_DEVICE_UNAVAILABLE: int
"""The device that was asked for could not be used."""
JOB_END_REASON_START_FAILED: int
"""The runner could not be started. If the cause is the machine (no descriptors, processes or memory
left, or a runner that does not work), only the attempt ends: the job stays in the queue."""
JOB_END_REASON_DIVERGED: int
"""The loss, a weight or the optimizer's state became infinite or not a number. Nothing of it is
saved: the last good checkpoint stays, also where a client asked the job to pause or to end."""
JOB_END_REASON_STORAGE: int
"""The job's folder could not be written."""
JOB_END_REASON_INTERNAL: int
"""Anything else: a fault of torchd."""
JOB_END_REASON_GPU_LOST: int
"""The GPU that it computed on has failed."""
JOB_END_REASON_MAX_DURATION: int
"""It ran longer than its spec allows."""
JOB_END_REASON_STALLED: int
"""It made no step for longer than its spec allows."""
JOB_END_REASON_PAUSED: int
"""It was paused. Only the end of an attempt."""
JOB_END_REASON_PREEMPTED: int
"""It made room for a job of a higher priority. Only the end of an attempt."""
JOB_END_REASON_BAD_CHECKPOINT: int
"""Every checkpoint that it could go on from is damaged. Only the end of an attempt: the job is
paused and does not begin anew unless it is told to. Mend or copy back a checkpoint and resume it,
or resume it with `from_scratch`."""
JOB_END_REASON_DATA_CHANGED: int
"""The data are not those that its checkpoint was made with, by the number of examples, the sizes of
the files and their contents (of large files, a sample of them), or they are gone. Only the end of
an attempt: the job is paused. Put the data back and resume it, or resume it with `accept_new_data`
or `from_scratch`."""
JOB_END_REASON_PROGRAM_FAILED: int
"""The program of the job ended with a code that is not 0, or by a signal."""
JOB_END_REASON_DEPENDENCY_FAILED: int
"""A job that it waited for, by `after` in its spec, has ended otherwise than it wished."""
JOB_END_REASON_PEER_LOST: int
"""The ranks of the job lost each other, and none of them tells another cause."""

FileKind: EnumTypeWrapper
"""The kinds of files."""
FILE_KIND_UNSPECIFIED: int
"""Of no kind that is known."""
FILE_KIND_SAFETENSORS: int
"""A safetensors file."""
FILE_KIND_PT: int
"""A state dict or checkpoint as torch.save writes it."""
FILE_KIND_PT2: int
"""An archive of torch.export, as torch.export.save and torchd's helper write it."""
FILE_KIND_TORCHSCRIPT: int
"""A TorchScript archive, as torch.jit.save writes it, of a version that this torchd takes. Its
tensors are not listed: libtorch alone reads them."""

GraphMode: EnumTypeWrapper
"""The modes of a module."""
GRAPH_MODE_UNSPECIFIED: int
"""The file does not tell."""
GRAPH_MODE_TRAINING: int
"""train(): a layer drops out, or normalises by its batch."""
GRAPH_MODE_EVALUATION: int
"""eval(): no layer does."""
GRAPH_MODE_EITHER: int
"""It has no layer that differs."""

class FileContents(Message):
    """The contents of a file of a model, as `torchctl inspect` tells them. The file is read where
    the client runs; no method returns this yet."""
    path: str
    """The path of the file, as it was given."""
    kind: int
    """The kind of the file."""
    size_bytes: int
    """Bytes of the file."""
    @property
    def tensors(self) -> RepeatedCompositeFieldContainer[TensorContents]:
        """Its tensors: those that torchd would take as weights."""
    values: int
    """Values of all tensors together; tied weights count once."""
    values_bytes: int
    """Bytes of these values."""
    @property
    def state_dicts(self) -> RepeatedScalarFieldContainer[str]:
        """Keys of a .pt file under which state dicts are usually saved and were found. One: the
        tensors are those under it. Several: which is meant has to be said, and the names of the
        tensors begin with these keys."""
    left_out_tensors: int
    """Tensors of a .pt file that are not under that key, such as the state of an optimizer."""
    values_were_read: bool
    """Whether the values were read, to find those that are not finite. The values of larger files
    are read by the job that takes them."""
    @property
    def refusals(self) -> RepeatedScalarFieldContainer[str]:
        """Why torchd would refuse the file, one sentence each; empty where it would not."""
    @property
    def graphs(self) -> RepeatedCompositeFieldContainer[GraphContents]:
        """The graphs of an archive of torch.export, sorted by name."""
    infinity: str
    """The first infinity among the values, in words; empty where none was found. torchd takes it in
    a buffer, such as a mask, and refuses it in a parameter. A file of weights does not tell which
    it is."""
    def __init__(self, *, path: str | None = ..., kind: int | str | None = ..., size_bytes: int | None = ..., tensors: Iterable[TensorContents] | None = ..., values: int | None = ..., values_bytes: int | None = ..., state_dicts: Iterable[str] | None = ..., left_out_tensors: int | None = ..., values_were_read: bool | None = ..., refusals: Iterable[str] | None = ..., graphs: Iterable[GraphContents] | None = ..., infinity: str | None = ...) -> None: ...

class GraphContents(Message):
    """A graph of an archive of torch.export."""
    name: str
    """Its name in the archive: train and eval, or model where torch.export.save wrote it."""
    torch_version: str
    """The PyTorch that exported it, in its own words."""
    schema_version: str
    """The version of the archive's schema, such as 8.17."""
    @property
    def inputs(self) -> RepeatedCompositeFieldContainer[GraphInput]:
        """The inputs of a call."""
    returns: str
    """The value that a call returns, in words."""
    operations: int
    """How many operations it has, those of graphs within it included."""
    mode: int
    """The mode that the module was exported in, by the flags of its layers."""
    least_batch_size: int
    """The smallest batch that it takes."""
    def __init__(self, *, name: str | None = ..., torch_version: str | None = ..., schema_version: str | None = ..., inputs: Iterable[GraphInput] | None = ..., returns: str | None = ..., operations: int | None = ..., mode: int | str | None = ..., least_batch_size: int | None = ...) -> None: ...

class GraphInput(Message):
    """An input of a graph."""
    name: str
    """The name of the argument of forward."""
    dtype: str
    """The type of its values, by its name in PyTorch: float32, int64 and so on."""
    @property
    def sizes(self) -> RepeatedScalarFieldContainer[str]:
        """Its sizes, outermost first: a number, or a symbol such as s17 that can differ from batch
        to batch."""
    def __init__(self, *, name: str | None = ..., dtype: str | None = ..., sizes: Iterable[str] | None = ...) -> None: ...

class TensorContents(Message):
    """A tensor of a file."""
    name: str
    """Its name, as in state_dict()."""
    dtype: str
    """The type of its values, by its name in safetensors: F32, BF16, I64 and so on."""
    @property
    def shape(self) -> RepeatedScalarFieldContainer[int]:
        """Its sizes, outermost first; none for a single number."""
    size_bytes: int
    """Bytes of its values, without gaps."""
    tied_to: str
    """The name of the first tensor that has the same values in the same place, as tied weights do;
    empty for a tensor of its own."""
    def __init__(self, *, name: str | None = ..., dtype: str | None = ..., shape: Iterable[int] | None = ..., size_bytes: int | None = ..., tied_to: str | None = ...) -> None: ...

GpuSourceState: EnumTypeWrapper
"""Whether GPUs can be watched."""
GPU_SOURCE_STATE_UNSPECIFIED: int
"""Never sent."""
GPU_SOURCE_STATE_STARTING: int
"""Not asked yet."""
GPU_SOURCE_STATE_WATCHING: int
"""They are watched."""
GPU_SOURCE_STATE_NO_GPU: int
"""The driver answers, and there is no GPU."""
GPU_SOURCE_STATE_NO_LIBRARY: int
"""NVML is not on this machine."""
GPU_SOURCE_STATE_NO_DRIVER: int
"""NVML is there and the kernel's driver is not loaded."""
GPU_SOURCE_STATE_VERSION_MISMATCH: int
"""NVML and the kernel's driver are of different versions."""
GPU_SOURCE_STATE_NO_PERMISSION: int
"""We may not ask the driver."""
GPU_SOURCE_STATE_NOT_ANSWERING: int
"""A call has not returned."""
GPU_SOURCE_STATE_FAILED: int
"""Anything else."""

GpuHealthState: EnumTypeWrapper
"""Health in a word."""
GPU_HEALTH_STATE_UNSPECIFIED: int
"""Never sent."""
GPU_HEALTH_STATE_HEALTHY: int
"""Nothing speaks against it."""
GPU_HEALTH_STATE_DEGRADED: int
"""It works; somebody should look after it."""
GPU_HEALTH_STATE_FAILED: int
"""It gets no new job."""

ClockReduction: EnumTypeWrapper
"""Why clocks are lower than they could be."""
CLOCK_REDUCTION_UNSPECIFIED: int
"""Never sent."""
CLOCK_REDUCTION_IDLE: int
"""Nothing runs."""
CLOCK_REDUCTION_APPLICATION_CLOCKS: int
"""Somebody has set application clocks."""
CLOCK_REDUCTION_POWER_CAP: int
"""The power limit."""
CLOCK_REDUCTION_HARDWARE_SLOWDOWN: int
"""The hardware has cut the clocks by half or more."""
CLOCK_REDUCTION_SYNC_BOOST: int
"""Another GPU of its sync boost group is slower."""
CLOCK_REDUCTION_SOFTWARE_THERMAL: int
"""The driver, for heat."""
CLOCK_REDUCTION_HARDWARE_THERMAL: int
"""The hardware, for heat."""
CLOCK_REDUCTION_POWER_BRAKE: int
"""The power supply has asked for it."""
CLOCK_REDUCTION_DISPLAY_CLOCKS: int
"""The settings of a display."""
CLOCK_REDUCTION_OTHER: int
"""A bit that this version does not know."""

GpuComputeMode: EnumTypeWrapper
"""The processes that may compute on a GPU. (nvml.h, nvmlComputeMode_t, plus one)"""
GPU_COMPUTE_MODE_UNSPECIFIED: int
"""Never sent."""
GPU_COMPUTE_MODE_DEFAULT: int
"""Any number of processes."""
GPU_COMPUTE_MODE_EXCLUSIVE_THREAD: int
"""One thread; no driver of today has it."""
GPU_COMPUTE_MODE_PROHIBITED: int
"""Nobody."""
GPU_COMPUTE_MODE_EXCLUSIVE_PROCESS: int
"""One process."""

GpuRecoveryAction: EnumTypeWrapper
"""The action that the driver asks for to recover a GPU. (nvml.h, nvmlDeviceGpuRecoveryAction_t,
plus one)"""
GPU_RECOVERY_ACTION_UNSPECIFIED: int
"""Never sent."""
GPU_RECOVERY_ACTION_NONE: int
"""Nothing."""
GPU_RECOVERY_ACTION_RESET: int
"""Reset the GPU."""
GPU_RECOVERY_ACTION_REBOOT: int
"""Reboot the machine."""
GPU_RECOVERY_ACTION_DRAIN_PEERS: int
"""Stop what talks to other GPUs."""
GPU_RECOVERY_ACTION_DRAIN_AND_RESET: int
"""Let it finish its work, then reset it."""

GpuProcessKind: EnumTypeWrapper
"""The kind of work of a process on a GPU."""
GPU_PROCESS_KIND_UNSPECIFIED: int
"""Never sent."""
GPU_PROCESS_KIND_COMPUTE: int
"""CUDA."""
GPU_PROCESS_KIND_GRAPHICS: int
"""Graphics."""

GpuEventKind: EnumTypeWrapper
"""Kinds of events."""
GPU_EVENT_KIND_UNSPECIFIED: int
"""Never sent."""
GPU_EVENT_KIND_XID: int
"""An error that the driver gives a number."""
GPU_EVENT_KIND_ECC_CORRECTED: int
"""A memory error that was corrected."""
GPU_EVENT_KIND_ECC_UNCORRECTED: int
"""A memory error that was not."""
GPU_EVENT_KIND_LOST: int
"""The driver cannot reach it any more."""
GPU_EVENT_KIND_RECOVERY_ACTION: int
"""The driver asks for something to make it whole again."""
GPU_EVENT_KIND_MIG_CHANGED: int
"""It was divided into other instances."""
GPU_EVENT_KIND_APPEARED: int
"""It is there, after it was not."""
GPU_EVENT_KIND_DISAPPEARED: int
"""It is not there any more."""
GPU_EVENT_KIND_MEMORY_LEFT_BEHIND: int
"""Memory is still held after a job has ended."""
GPU_EVENT_KIND_DRIVER: int
"""The driver was unloaded, loaded or does not answer."""

class ListGpusRequest(Message):
    """Request of ListGpus."""
    page_size: int
    """The most entries of a page; 0 for all."""
    page_token: str
    """From where the last answer ended. At most 4,096 bytes."""
    def __init__(self, *, page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListGpusResponse(Message):
    """Answer of ListGpus."""
    @property
    def gpus(self) -> RepeatedCompositeFieldContainer[Gpu]:
        """The GPUs."""
    next_page_token: str
    """Where the next page begins; empty at the end."""
    @property
    def source(self) -> GpuSource:
        """Where the readings come from, and how old they are."""
    def __init__(self, *, gpus: Iterable[Gpu] | None = ..., next_page_token: str | None = ..., source: GpuSource | Mapping[str, object] | None = ...) -> None: ...

class GetGpuRequest(Message):
    """Request of GetGpu."""
    name: str
    """gpus/{uuid}. At most 256 bytes."""
    def __init__(self, *, name: str | None = ...) -> None: ...

class WatchGpusRequest(Message):
    """Request of WatchGpus."""
    @property
    def interval(self) -> Duration:
        """From one answer to the next, 0.1 s to 1 h; by default as the daemon samples. What was not
        sampled anew is not sent again, unless the driver does not answer: then the last readings
        come every 5 s, marked as stale."""
    def __init__(self, *, interval: Duration | Mapping[str, object] | None = ...) -> None: ...

class WatchGpusResponse(Message):
    """An answer of WatchGpus."""
    @property
    def gpus(self) -> RepeatedCompositeFieldContainer[Gpu]:
        """The GPUs."""
    @property
    def source(self) -> GpuSource:
        """Where the readings come from, and how old they are."""
    def __init__(self, *, gpus: Iterable[Gpu] | None = ..., source: GpuSource | Mapping[str, object] | None = ...) -> None: ...

class ListGpuProcessesRequest(Message):
    """Request of ListGpuProcesses."""
    gpu: str
    """Only those on this GPU, as gpus/{uuid}; empty for all. At most 256 bytes."""
    page_size: int
    """The most entries of a page; 0 for all."""
    page_token: str
    """From where the last answer ended. At most 4,096 bytes."""
    def __init__(self, *, gpu: str | None = ..., page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListGpuProcessesResponse(Message):
    """Answer of ListGpuProcesses."""
    @property
    def processes(self) -> RepeatedCompositeFieldContainer[GpuProcess]:
        """The processes."""
    next_page_token: str
    """Where the next page begins; empty at the end."""
    hidden_processes: int
    """Processes that belong to no job, and that this caller may not see."""
    hidden_memory_bytes: int
    """Memory that they hold together."""
    def __init__(self, *, processes: Iterable[GpuProcess] | None = ..., next_page_token: str | None = ..., hidden_processes: int | None = ..., hidden_memory_bytes: int | None = ...) -> None: ...

class ListGpuEventsRequest(Message):
    """Request of ListGpuEvents."""
    gpu: str
    """Only those of this GPU, as gpus/{uuid}; empty for all. At most 256 bytes."""
    page_size: int
    """The most entries of a page; 0 for 100."""
    page_token: str
    """From where the last answer ended. At most 4,096 bytes."""
    def __init__(self, *, gpu: str | None = ..., page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListGpuEventsResponse(Message):
    """Answer of ListGpuEvents."""
    @property
    def events(self) -> RepeatedCompositeFieldContainer[GpuEvent]:
        """The events, newest first."""
    next_page_token: str
    """Where the next page begins; empty at the end."""
    absent_reason: str
    """Why events cannot be seen; empty where they can."""
    def __init__(self, *, events: Iterable[GpuEvent] | None = ..., next_page_token: str | None = ..., absent_reason: str | None = ...) -> None: ...

class GpuSource(Message):
    """Where readings come from."""
    state: int
    """Whether GPUs can be watched."""
    message: str
    """That in words."""
    @property
    def remedies(self) -> RepeatedScalarFieldContainer[str]:
        """The remedy."""
    @property
    def sample_time(self) -> Timestamp:
        """When the newest sample was taken; absent before the first."""
    @property
    def age(self) -> Duration:
        """How old it is."""
    stale: bool
    """It is older than it should be: the driver does not answer."""
    driver_version: str
    """Version of the driver; empty where it is not known."""
    nvml_version: str
    """Version of NVML; empty where it is not known."""
    cuda_driver_version: str
    """The newest CUDA that the driver speaks; empty where it is not known."""
    replayed_profile: str
    """Not empty where the readings are not of this machine: the name of the profile that is
    replayed for demonstration."""
    def __init__(self, *, state: int | str | None = ..., message: str | None = ..., remedies: Iterable[str] | None = ..., sample_time: Timestamp | Mapping[str, object] | None = ..., age: Duration | Mapping[str, object] | None = ..., stale: bool | None = ..., driver_version: str | None = ..., nvml_version: str | None = ..., cuda_driver_version: str | None = ..., replayed_profile: str | None = ...) -> None: ...

class Gpu(Message):
    """A GPU. A reading that is absent is not set; `absent` tells why."""
    name: str
    """gpus/{uuid}"""
    uuid: str
    """For example `GPU-5f0c62d5-...`."""
    index: int
    """The driver's number, as nvidia-smi shows it. It may change at a reboot."""
    minor_number: int
    """The number of its device file: /dev/nvidia0 has 0."""
    model: str
    """For example `NVIDIA H100 80GB HBM3`."""
    serial: str
    """Serial number of the board; empty where it has none."""
    pci_bus_id: str
    """PCI address, for example `00000000:8D:00.0`."""
    board_part_number: str
    """Part number of the board; empty where it tells none."""
    vbios_version: str
    """Version of its BIOS."""
    compute_capability: str
    """For example `9.0`."""
    architecture: str
    """For example `Hopper`."""
    @property
    def health(self) -> GpuHealth:
        """Whether it can be worked with, and why not."""
    @property
    def utilization(self) -> GpuUtilization:
        """How busy it is."""
    @property
    def memory(self) -> GpuMemory:
        """Its memory."""
    @property
    def power(self) -> GpuPower:
        """Electrical power and energy."""
    @property
    def temperature(self) -> GpuTemperature:
        """Temperatures and their limits."""
    @property
    def clocks(self) -> GpuClocks:
        """Clocks and their maxima."""
    @property
    def clock_reductions(self) -> RepeatedScalarFieldContainer[int]:
        """Why clocks are lower than they could be now; empty where they are not."""
    performance_state: int
    """P0 is the fastest state, P15 the slowest."""
    @property
    def fans(self) -> RepeatedCompositeFieldContainer[GpuFan]:
        """Its fans."""
    @property
    def ecc(self) -> GpuEcc:
        """Error correction of its memory."""
    @property
    def retirement(self) -> GpuRetirement:
        """Memory that was taken out of use."""
    @property
    def pcie(self) -> GpuPcie:
        """Its connection to the machine."""
    @property
    def nvlinks(self) -> RepeatedCompositeFieldContainer[NvLink]:
        """Its connections to other GPUs."""
    @property
    def nvlink_traffic(self) -> NvLinkTraffic:
        """Bytes over all NVLinks."""
    @property
    def modes(self) -> GpuModes:
        """How it is set."""
    recovery_action: int
    """The action that the driver asks for to recover it."""
    @property
    def activity(self) -> GpuActivity:
        """How busy its parts are. On Hopper and later."""
    @property
    def mig_instances(self) -> RepeatedCompositeFieldContainer[MigInstance]:
        """Instances that it is divided into."""
    @property
    def process_count(self) -> GpuProcessCount:
        """Processes on it: how many, and how many of them are of no job of ours."""
    @property
    def jobs(self) -> RepeatedScalarFieldContainer[str]:
        """Jobs that hold it, as jobs/{id}."""
    @property
    def absent(self) -> RepeatedCompositeFieldContainer[AbsentReading]:
        """Readings that are absent, and why."""
    @property
    def sample_time(self) -> Timestamp:
        """When this was read."""
    def __init__(self, *, name: str | None = ..., uuid: str | None = ..., index: int | None = ..., minor_number: int | None = ..., model: str | None = ..., serial: str | None = ..., pci_bus_id: str | None = ..., board_part_number: str | None = ..., vbios_version: str | None = ..., compute_capability: str | None = ..., architecture: str | None = ..., health: GpuHealth | Mapping[str, object] | None = ..., utilization: GpuUtilization | Mapping[str, object] | None = ..., memory: GpuMemory | Mapping[str, object] | None = ..., power: GpuPower | Mapping[str, object] | None = ..., temperature: GpuTemperature | Mapping[str, object] | None = ..., clocks: GpuClocks | Mapping[str, object] | None = ..., clock_reductions: Iterable[int] | None = ..., performance_state: int | None = ..., fans: Iterable[GpuFan] | None = ..., ecc: GpuEcc | Mapping[str, object] | None = ..., retirement: GpuRetirement | Mapping[str, object] | None = ..., pcie: GpuPcie | Mapping[str, object] | None = ..., nvlinks: Iterable[NvLink] | None = ..., nvlink_traffic: NvLinkTraffic | Mapping[str, object] | None = ..., modes: GpuModes | Mapping[str, object] | None = ..., recovery_action: int | str | None = ..., activity: GpuActivity | Mapping[str, object] | None = ..., mig_instances: Iterable[MigInstance] | None = ..., process_count: GpuProcessCount | Mapping[str, object] | None = ..., jobs: Iterable[str] | None = ..., absent: Iterable[AbsentReading] | None = ..., sample_time: Timestamp | Mapping[str, object] | None = ...) -> None: ...

class AbsentReading(Message):
    """A reading that is absent."""
    field: str
    """Its path in Gpu, for example `temperature.memory_celsius`; `processes.` and a field of
    GpuProcess where the readings of processes on it are meant."""
    reason: str
    """Why, for example `not supported by this GPU`, or that what the driver tells cannot be."""
    def __init__(self, *, field: str | None = ..., reason: str | None = ...) -> None: ...

class GpuHealth(Message):
    """Whether a GPU can be worked with."""
    state: int
    """In a word."""
    @property
    def reasons(self) -> RepeatedCompositeFieldContainer[GpuHealthReason]:
        """Reasons against using it, worst first."""
    def __init__(self, *, state: int | str | None = ..., reasons: Iterable[GpuHealthReason] | None = ...) -> None: ...

class GpuHealthReason(Message):
    """A reason against using a GPU."""
    code: str
    """For programs, for example `XID_79`."""
    state: int
    """Whether that makes it fail, or degrades it."""
    message: str
    """For people."""
    remedy: str
    """The remedy."""
    def __init__(self, *, code: str | None = ..., state: int | str | None = ..., message: str | None = ..., remedy: str | None = ...) -> None: ...

class GpuUtilization(Message):
    """How busy a GPU was in the driver's last sample period."""
    gpu_ratio: float
    """Share of time in which a kernel ran, 0 to 1."""
    memory_ratio: float
    """Share of time in which memory was read or written, 0 to 1."""
    encoder_ratio: float
    """Share of time in which the encoder worked, 0 to 1."""
    decoder_ratio: float
    """Share of time in which the decoder worked, 0 to 1."""
    def __init__(self, *, gpu_ratio: float | None = ..., memory_ratio: float | None = ..., encoder_ratio: float | None = ..., decoder_ratio: float | None = ...) -> None: ...

class GpuMemory(Message):
    """Memory of a GPU."""
    total_bytes: int
    """All."""
    used_bytes: int
    """Allocated; what the driver keeps for itself is not in it."""
    free_bytes: int
    """Free."""
    reserved_bytes: int
    """Memory that the driver keeps for itself."""
    def __init__(self, *, total_bytes: int | None = ..., used_bytes: int | None = ..., free_bytes: int | None = ..., reserved_bytes: int | None = ...) -> None: ...

class GpuPower(Message):
    """Electrical power and energy."""
    average_milliwatts: int
    """Mean of the last second."""
    instant_milliwatts: int
    """Now."""
    enforced_limit_milliwatts: int
    """The limit that counts now."""
    limit_milliwatts: int
    """The limit that was set."""
    default_limit_milliwatts: int
    """The limit that is set by default."""
    min_limit_milliwatts: int
    """The lowest limit that can be set."""
    max_limit_milliwatts: int
    """The highest limit that can be set."""
    energy_millijoules: int
    """Energy since the driver was loaded."""
    def __init__(self, *, average_milliwatts: int | None = ..., instant_milliwatts: int | None = ..., enforced_limit_milliwatts: int | None = ..., limit_milliwatts: int | None = ..., default_limit_milliwatts: int | None = ..., min_limit_milliwatts: int | None = ..., max_limit_milliwatts: int | None = ..., energy_millijoules: int | None = ...) -> None: ...

class GpuTemperature(Message):
    """Temperatures in degrees Celsius."""
    gpu_celsius: float
    """Of the chip."""
    memory_celsius: float
    """Of the memory."""
    slowdown_celsius: float
    """At which clocks are reduced."""
    shutdown_celsius: float
    """At which the GPU turns itself off."""
    gpu_max_celsius: float
    """The highest at which the chip keeps its clocks."""
    memory_max_celsius: float
    """The highest at which the memory keeps its clocks."""
    def __init__(self, *, gpu_celsius: float | None = ..., memory_celsius: float | None = ..., slowdown_celsius: float | None = ..., shutdown_celsius: float | None = ..., gpu_max_celsius: float | None = ..., memory_max_celsius: float | None = ...) -> None: ...

class GpuClocks(Message):
    """Clocks."""
    graphics_hertz: int
    """Graphics."""
    sm_hertz: int
    """Streaming multiprocessors."""
    memory_hertz: int
    """Memory."""
    video_hertz: int
    """Video."""
    max_graphics_hertz: int
    """Highest of graphics."""
    max_sm_hertz: int
    """Highest of the streaming multiprocessors."""
    max_memory_hertz: int
    """Highest of memory."""
    max_video_hertz: int
    """Highest of video."""
    reduction_bits: int
    """The driver's reasons for lower clocks, as its bits. (nvml.h, nvmlClocksEventReason*)"""
    power_cap_nanoseconds: int
    """Time with clocks reduced for the power limit, since the driver was loaded."""
    software_thermal_nanoseconds: int
    """Time with clocks reduced by the driver for heat."""
    hardware_thermal_nanoseconds: int
    """Time with clocks reduced by the hardware for heat."""
    power_brake_nanoseconds: int
    """Time with clocks reduced because the power supply asked for it."""
    sync_boost_nanoseconds: int
    """Time with clocks reduced to those of other GPUs in a sync boost group."""
    def __init__(self, *, graphics_hertz: int | None = ..., sm_hertz: int | None = ..., memory_hertz: int | None = ..., video_hertz: int | None = ..., max_graphics_hertz: int | None = ..., max_sm_hertz: int | None = ..., max_memory_hertz: int | None = ..., max_video_hertz: int | None = ..., reduction_bits: int | None = ..., power_cap_nanoseconds: int | None = ..., software_thermal_nanoseconds: int | None = ..., hardware_thermal_nanoseconds: int | None = ..., power_brake_nanoseconds: int | None = ..., sync_boost_nanoseconds: int | None = ...) -> None: ...

class GpuFan(Message):
    """A fan."""
    index: int
    """Its number."""
    speed_ratio: float
    """Speed as a share of the highest that its noise allows; it may be above 1."""
    def __init__(self, *, index: int | None = ..., speed_ratio: float | None = ...) -> None: ...

class GpuEcc(Message):
    """Error correction of memory."""
    enabled: bool
    """It is on."""
    enabled_after_reboot: bool
    """It will be on after the next reboot."""
    @property
    def counts(self) -> RepeatedCompositeFieldContainer[EccCount]:
        """Errors since the driver was loaded (volatile) and since the board was made
        (aggregate)."""
    def __init__(self, *, enabled: bool | None = ..., enabled_after_reboot: bool | None = ..., counts: Iterable[EccCount] | None = ...) -> None: ...

class EccCount(Message):
    """A counter of memory errors."""
    uncorrected: bool
    """It could not be corrected."""
    aggregate: bool
    """Since the board was made; otherwise since the driver was loaded."""
    location: str
    """`all`, or a part such as `dram`, `sram`, `l2_cache`."""
    count: int
    """How many."""
    def __init__(self, *, uncorrected: bool | None = ..., aggregate: bool | None = ..., location: str | None = ..., count: int | None = ...) -> None: ...

class GpuRetirement(Message):
    """Memory that was taken out of use."""
    pages_corrected: int
    """Pages after several corrected errors. Before Ampere."""
    pages_uncorrected: int
    """Pages after an uncorrected error. Before Ampere."""
    pages_pending: bool
    """Pages wait for the next reboot. Before Ampere."""
    remapped_rows_corrected: int
    """Rows that were replaced after corrected errors. From Ampere on."""
    remapped_rows_uncorrected: int
    """Rows that were replaced after uncorrected errors. From Ampere on."""
    remapped_rows_pending: bool
    """Rows wait for the next reset. From Ampere on."""
    remapping_failed: bool
    """A row could not be replaced: no spare is left. From Ampere on."""
    def __init__(self, *, pages_corrected: int | None = ..., pages_uncorrected: int | None = ..., pages_pending: bool | None = ..., remapped_rows_corrected: int | None = ..., remapped_rows_uncorrected: int | None = ..., remapped_rows_pending: bool | None = ..., remapping_failed: bool | None = ...) -> None: ...

class GpuPcie(Message):
    """The connection to the machine."""
    generation: int
    """Generation now; it falls where nothing runs."""
    max_generation: int
    """The highest generation that GPU and machine allow."""
    width: int
    """Lanes now."""
    max_width: int
    """The most lanes that GPU and machine allow."""
    replays: int
    """Packets that were sent again."""
    transmitted_bytes_per_second: float
    """From the GPU, in the last 20 ms. Read only where the settings ask for it."""
    received_bytes_per_second: float
    """To the GPU, in the last 20 ms. Read only where the settings ask for it."""
    def __init__(self, *, generation: int | None = ..., max_generation: int | None = ..., width: int | None = ..., max_width: int | None = ..., replays: int | None = ..., transmitted_bytes_per_second: float | None = ..., received_bytes_per_second: float | None = ...) -> None: ...

class NvLink(Message):
    """An NVLink."""
    index: int
    """Its number."""
    active: bool
    """It is up."""
    crc_flit_errors: int
    """Errors in control packets."""
    crc_data_errors: int
    """Errors in data packets."""
    replay_errors: int
    """Packets that were sent again."""
    recovery_errors: int
    """Times that the link had to be set up again."""
    def __init__(self, *, index: int | None = ..., active: bool | None = ..., crc_flit_errors: int | None = ..., crc_data_errors: int | None = ..., replay_errors: int | None = ..., recovery_errors: int | None = ...) -> None: ...

class NvLinkTraffic(Message):
    """Bytes over all NVLinks since the driver was loaded, without those of the protocol."""
    transmitted_bytes: int
    """From the GPU."""
    received_bytes: int
    """To the GPU."""
    def __init__(self, *, transmitted_bytes: int | None = ..., received_bytes: int | None = ...) -> None: ...

class GpuModes(Message):
    """How a GPU is set."""
    compute: int
    """The processes that may compute on it."""
    persistence: bool
    """The driver stays loaded while nobody uses it."""
    mig: bool
    """It is divided into instances."""
    mig_after_reset: bool
    """It will be after the next reset."""
    drain: bool
    """It takes no new work, as it is about to be removed."""
    def __init__(self, *, compute: int | str | None = ..., persistence: bool | None = ..., mig: bool | None = ..., mig_after_reset: bool | None = ..., drain: bool | None = ...) -> None: ...

class GpuActivity(Message):
    """How busy the parts of a GPU were since the last sample, 0 to 1 each. (NVML's GPM)"""
    graphics_ratio: float
    """The graphics engine."""
    sm_ratio: float
    """Streaming multiprocessors with at least one warp."""
    sm_occupancy_ratio: float
    """Warps, of the most that there could be."""
    tensor_ratio: float
    """Tensor cores."""
    dram_ratio: float
    """Bandwidth of the memory."""
    fp64_ratio: float
    """Double precision."""
    fp32_ratio: float
    """Single precision."""
    fp16_ratio: float
    """Half precision."""
    pcie_transmitted_bytes_per_second: float
    """Over PCI Express, from the GPU."""
    pcie_received_bytes_per_second: float
    """Over PCI Express, to the GPU."""
    def __init__(self, *, graphics_ratio: float | None = ..., sm_ratio: float | None = ..., sm_occupancy_ratio: float | None = ..., tensor_ratio: float | None = ..., dram_ratio: float | None = ..., fp64_ratio: float | None = ..., fp32_ratio: float | None = ..., fp16_ratio: float | None = ..., pcie_transmitted_bytes_per_second: float | None = ..., pcie_received_bytes_per_second: float | None = ...) -> None: ...

class MigInstance(Message):
    """A part of a GPU that jobs get like one of its own."""
    uuid: str
    """For example `MIG-5f0c62d5-...`."""
    index: int
    """The driver's number."""
    profile: str
    """For example `1g.10gb`; empty where it is not known."""
    gpu_instance_id: int
    """Number of the GPU instance."""
    compute_instance_id: int
    """Number of the compute instance in it."""
    @property
    def memory(self) -> GpuMemory:
        """Its memory."""
    @property
    def activity(self) -> GpuActivity:
        """How busy it is. On Hopper and later."""
    @property
    def jobs(self) -> RepeatedScalarFieldContainer[str]:
        """Jobs that hold it, as jobs/{id}."""
    def __init__(self, *, uuid: str | None = ..., index: int | None = ..., profile: str | None = ..., gpu_instance_id: int | None = ..., compute_instance_id: int | None = ..., memory: GpuMemory | Mapping[str, object] | None = ..., activity: GpuActivity | Mapping[str, object] | None = ..., jobs: Iterable[str] | None = ...) -> None: ...

class GpuProcessCount(Message):
    """Processes on a GPU."""
    total: int
    """All."""
    foreign: int
    """Of no job."""
    foreign_memory_bytes: int
    """Memory that those hold."""
    def __init__(self, *, total: int | None = ..., foreign: int | None = ..., foreign_memory_bytes: int | None = ...) -> None: ...

class GpuProcess(Message):
    """A process on a GPU."""
    gpu: str
    """The GPU, as gpus/{uuid}."""
    pid: int
    """Its number, as the driver tells it; in a container that is not the number there."""
    program: str
    """Its program; empty where it is not known."""
    kind: int
    """Its kind of work there."""
    job: str
    """The job that it belongs to, as jobs/{id}; empty for none."""
    used_memory_bytes: int
    """Memory that it holds; absent where the driver does not tell."""
    sm_ratio: float
    """Share of the multiprocessors' time, 0 to 1; absent where the driver does not tell."""
    memory_ratio: float
    """Share of the memory's time, 0 to 1; absent where the driver does not tell."""
    gpu_instance_id: int
    """Number of the GPU instance that it is on, with MIG."""
    compute_instance_id: int
    """Number of the compute instance that it is on, with MIG."""
    left_behind: bool
    """Its job has ended, and it still holds memory."""
    def __init__(self, *, gpu: str | None = ..., pid: int | None = ..., program: str | None = ..., kind: int | str | None = ..., job: str | None = ..., used_memory_bytes: int | None = ..., sm_ratio: float | None = ..., memory_ratio: float | None = ..., gpu_instance_id: int | None = ..., compute_instance_id: int | None = ..., left_behind: bool | None = ...) -> None: ...

class GpuEvent(Message):
    """An event of a GPU."""
    sequence: int
    """Counts up from 1 while the daemon runs."""
    @property
    def time(self) -> Timestamp:
        """When we heard of it."""
    gpu: str
    """The GPU, as gpus/{uuid}; empty where it is of no single one."""
    kind: int
    """The kind."""
    xid: int
    """The number of the Xid, where it is one."""
    message: str
    """A description of the event."""
    remedy: str
    """The remedy; empty where there is none."""
    effect: int
    """The health of the GPU that follows from it."""
    @property
    def jobs(self) -> RepeatedScalarFieldContainer[str]:
        """Jobs that held the GPU then, as jobs/{id}."""
    def __init__(self, *, sequence: int | None = ..., time: Timestamp | Mapping[str, object] | None = ..., gpu: str | None = ..., kind: int | str | None = ..., xid: int | None = ..., message: str | None = ..., remedy: str | None = ..., effect: int | str | None = ..., jobs: Iterable[str] | None = ...) -> None: ...

class GpuProfile(Message):
    """GPUs to replay, for demonstration: the content of a profile file, in TOML or JSON. Its
    readings are those of Gpu, as `torchctl gpus -o json` prints them."""
    title: str
    """A description of it, in a line."""
    source: str
    """Where the readings come from."""
    driver_version: str
    """Version of the driver."""
    nvml_version: str
    """Version of NVML."""
    cuda_driver_version: str
    """The newest CUDA that the driver speaks."""
    @property
    def phases(self) -> RepeatedCompositeFieldContainer[GpuProfilePhase]:
        """The readings, one after the other, and then from the beginning. Counters go on from one
        round to the next."""
    def __init__(self, *, title: str | None = ..., source: str | None = ..., driver_version: str | None = ..., nvml_version: str | None = ..., cuda_driver_version: str | None = ..., phases: Iterable[GpuProfilePhase] | None = ...) -> None: ...

class GpuProfilePhase(Message):
    """A part of a profile."""
    name: str
    """For example `load`."""
    @property
    def duration(self) -> Duration:
        """How long it is shown."""
    @property
    def gpus(self) -> RepeatedCompositeFieldContainer[Gpu]:
        """The GPUs. Each needs its uuid; the same GPUs in each phase."""
    @property
    def processes(self) -> RepeatedCompositeFieldContainer[GpuProcess]:
        """The processes on them."""
    def __init__(self, *, name: str | None = ..., duration: Duration | Mapping[str, object] | None = ..., gpus: Iterable[Gpu] | None = ..., processes: Iterable[GpuProcess] | None = ...) -> None: ...

JobState: EnumTypeWrapper
"""The states of a job."""
JOB_STATE_UNSPECIFIED: int
"""Never sent."""
JOB_STATE_QUEUED: int
"""Waits for its turn."""
JOB_STATE_STARTING: int
"""Its runner was started and loads libraries and data."""
JOB_STATE_RUNNING: int
"""Trains."""
JOB_STATE_STOPPING: int
"""Was asked to end and has not ended yet."""
JOB_STATE_SUCCEEDED: int
"""Trained to the end. Final."""
JOB_STATE_FAILED: int
"""Ended otherwise; `end` says how. Final."""
JOB_STATE_CANCELLED: int
"""Ended because it was cancelled. Final."""
JOB_STATE_PAUSED: int
"""Was taken off the machine; ResumeJob puts it back into the queue."""

ColumnRole: EnumTypeWrapper
"""The role of a column."""
COLUMN_ROLE_UNSPECIFIED: int
"""The default."""
COLUMN_ROLE_FEATURE: int
"""It becomes a part of an input."""
COLUMN_ROLE_TARGET: int
"""It is the answer, or one of several."""
COLUMN_ROLE_SPLIT: int
"""It says which rows are held out."""
COLUMN_ROLE_WEIGHT: int
"""It weighs the rows."""

class Job(Message):
    """A training request and what became of it."""
    name: str
    """`jobs/{id}`."""
    @property
    def spec(self) -> JobSpec:
        """The request, defaults filled in, with all edits."""
    state: int
    """Where it stands."""
    generation: int
    """Rises with every change of state, of priority, and of the jobs that it waits for."""
    @property
    def create_time(self) -> Timestamp:
        """When it was taken."""
    @property
    def start_time(self) -> Timestamp:
        """When its newest runner was started; absent before the first."""
    @property
    def end_time(self) -> Timestamp:
        """When it ended; absent before."""
    waiting_reason: str
    """Why it waits, in words: while QUEUED; where its runner has ended and the database cannot be
    told, as with a full disk; and where it should go on and does not, as with a slow disk. Also
    where it cannot be told whether its runner lives, or what that holds."""
    @property
    def progress(self) -> JobProgress:
        """How far it is; absent before the first step."""
    @property
    def end(self) -> JobEnd:
        """How it ended; absent before."""
    directory: str
    """The job's folder on the daemon's machine: event files in `tensorboard/`, weights in
    `checkpoints/` and `artifacts/`."""
    attempt: int
    """Starts of a runner so far."""
    restarts: int
    """Restarts after failures so far, of `retry.max_restarts`."""
    @property
    def last_attempt_end(self) -> JobEnd:
        """How the attempt before ended; absent for the first."""
    @property
    def resume_from(self) -> ResumePoint:
        """The checkpoint that the job goes on from while it waits or is paused, or went on from;
        absent where it begins, or began, anew."""
    @property
    def expire_time(self) -> Timestamp:
        """When it will be removed, by `ttl_after_end`; absent before its end, and where it will
        not."""
    @property
    def mirror(self) -> MirrorState:
        """How the copy of its results is, by `output.mirror`; absent where there is none."""
    @property
    def model_outline(self) -> ModelOutline:
        """The model by layers; absent where the data do not tell how many classes there are, and
        for jobs of earlier versions."""
    @property
    def edits(self) -> JobEdits:
        """The changes of the spec by all resumes and of its priority by SetJobPriority, in their
        order, which `spec` has already; absent where there are none."""
    @property
    def open_dependencies(self) -> RepeatedCompositeFieldContainer[Dependency]:
        """The jobs of `spec.after` that it still waits for."""
    owner: str
    """The name of its creator: a user of the machine, the owner of a token, or a name in a client's
    certificate. `local` where nobody was asked, empty for jobs of earlier versions. Only the owner
    and admins change it."""
    def __init__(self, *, name: str | None = ..., spec: JobSpec | Mapping[str, object] | None = ..., state: int | str | None = ..., generation: int | None = ..., create_time: Timestamp | Mapping[str, object] | None = ..., start_time: Timestamp | Mapping[str, object] | None = ..., end_time: Timestamp | Mapping[str, object] | None = ..., waiting_reason: str | None = ..., progress: JobProgress | Mapping[str, object] | None = ..., end: JobEnd | Mapping[str, object] | None = ..., directory: str | None = ..., attempt: int | None = ..., restarts: int | None = ..., last_attempt_end: JobEnd | Mapping[str, object] | None = ..., resume_from: ResumePoint | Mapping[str, object] | None = ..., expire_time: Timestamp | Mapping[str, object] | None = ..., mirror: MirrorState | Mapping[str, object] | None = ..., model_outline: ModelOutline | Mapping[str, object] | None = ..., edits: JobEdits | Mapping[str, object] | None = ..., open_dependencies: Iterable[Dependency] | None = ..., owner: str | None = ...) -> None: ...

class ModelOutline(Message):
    """A model by layers."""
    parameter_count: int
    """Numbers that are learned."""
    @property
    def layers(self) -> RepeatedCompositeFieldContainer[ModelLayer]:
        """Its layers, in their order. Those of a model with more than 200 are taken together by the
        beginnings of their names."""
    has_own_loss: bool
    """The model returns its own loss, which counts as a mean over the examples of a batch."""
    @property
    def own_metrics(self) -> RepeatedScalarFieldContainer[str]:
        """The names of the metrics that it returns besides."""
    def __init__(self, *, parameter_count: int | None = ..., layers: Iterable[ModelLayer] | None = ..., has_own_loss: bool | None = ..., own_metrics: Iterable[str] | None = ...) -> None: ...

class ModelLayer(Message):
    """The tensors of a model with one beginning of their names."""
    name: str
    """The beginning, such as `encoder.layers.0.linear1`; empty for tensors of the module itself."""
    parameter_count: int
    """Numbers that are learned."""
    kept_count: int
    """Numbers that are kept besides: buffers, and parameters that do not learn."""
    def __init__(self, *, name: str | None = ..., parameter_count: int | None = ..., kept_count: int | None = ...) -> None: ...

class MirrorState(Message):
    """How a copy of a job's results is."""
    folder: str
    """Where it lies."""
    @property
    def last_success_time(self) -> Timestamp:
        """When everything that there was had been copied and compared; absent before."""
    error: str
    """Why it cannot be written or does not get on, in words; it is tried again. Empty where all is
    well."""
    complete: bool
    """The job has ended and all of it is there."""
    def __init__(self, *, folder: str | None = ..., last_success_time: Timestamp | Mapping[str, object] | None = ..., error: str | None = ..., complete: bool | None = ...) -> None: ...

class ResumePoint(Message):
    """Where a job goes on."""
    step: int
    """Optimizer steps done."""
    checkpoint: str
    """The checkpoint, `jobs/{id}/checkpoints/step-{step}`."""
    def __init__(self, *, step: int | None = ..., checkpoint: str | None = ...) -> None: ...

class JobProgress(Message):
    """How far a job is."""
    step: int
    """Optimizer steps done."""
    total_steps: int
    """Optimizer steps in all."""
    epoch: int
    """The epoch in hand, from 1."""
    total_epochs: int
    """Epochs in all; the last may be a part of one."""
    progress_ratio: float
    """step / total_steps."""
    examples_per_second: float
    """Training examples per second, over the last second or so; absent until known."""
    @property
    def remaining(self) -> Duration:
        """Estimated time to the end; absent until known."""
    @property
    def latest_scalars(self) -> MutableMapping[str, float]:
        """The newest value of each scalar tag: of the first 1000 tags that have at most 1000
        bytes."""
    @property
    def gpu(self) -> GpuShare:
        """Its share of the GPU that it holds; absent on the CPU."""
    cpu_threads: int
    """Threads of computation of the newest attempt."""
    thread_wait: int
    """How they wait for each other; unspecified for a program."""
    def __init__(self, *, step: int | None = ..., total_steps: int | None = ..., epoch: int | None = ..., total_epochs: int | None = ..., progress_ratio: float | None = ..., examples_per_second: float | None = ..., remaining: Duration | Mapping[str, object] | None = ..., latest_scalars: Mapping[str, float] | None = ..., gpu: GpuShare | Mapping[str, object] | None = ..., cpu_threads: int | None = ..., thread_wait: int | str | None = ...) -> None: ...

class GpuShare(Message):
    """A job's share of a GPU, as its runner reads it."""
    index: int
    """The driver's number of the GPU."""
    utilization_ratio: float
    """Share of time in which a kernel ran, 0 to 1; absent where the driver does not tell."""
    memory_used_bytes: int
    """Memory in use on the GPU, that of others included."""
    energy_joules: float
    """Energy of the GPU since the runner began."""
    def __init__(self, *, index: int | None = ..., utilization_ratio: float | None = ..., memory_used_bytes: int | None = ..., energy_joules: float | None = ...) -> None: ...

class JobEnd(Message):
    """How a job ended."""
    reason: int
    """Why, for programs."""
    message: str
    """Why, for people."""
    exit_code: int
    """Exit code of the runner, or of the job's program, if it exited."""
    signal: int
    """Signal that ended the runner, or the job's program, if one did."""
    @property
    def log_tail(self) -> RepeatedScalarFieldContainer[str]:
        """The last lines of its log, at most 20."""
    def __init__(self, *, reason: int | str | None = ..., message: str | None = ..., exit_code: int | None = ..., signal: int | None = ..., log_tail: Iterable[str] | None = ...) -> None: ...

class CreateJobRequest(Message):
    """Request of CreateJob."""
    @property
    def spec(self) -> JobSpec:
        """The training to run. Required."""
    request_id: str
    """Makes it safe to ask again after an answer was lost: a second request of the same id and spec
    gets the job of the first, and one of the same id and another spec is refused (ALREADY_EXISTS).
    At most 128 visible ASCII characters, best a random UUID; forgotten with the job. Empty: each
    request makes a job. At most 128 bytes."""
    def __init__(self, *, spec: JobSpec | Mapping[str, object] | None = ..., request_id: str | None = ...) -> None: ...

class ValidateJobRequest(Message):
    """Request of ValidateJob."""
    @property
    def spec(self) -> JobSpec:
        """The spec to judge. Required."""
    dry_run: bool
    """Train on one batch as well, in a confined runner of its own, on one thread of the CPU, within
    the settings `runner.dry_run_memory_bytes` and `runner.dry_run_timeout`. What would end the job
    at its beginning is told as a mistake of the request. Nothing is left of it. Default false."""
    def __init__(self, *, spec: JobSpec | Mapping[str, object] | None = ..., dry_run: bool | None = ...) -> None: ...

class ValidateJobResponse(Message):
    """Answer of ValidateJob: the request is good."""
    @property
    def spec(self) -> JobSpec:
        """The spec, defaults filled in."""
    train_examples: int
    """Training examples found."""
    validation_examples: int
    """Validation examples found."""
    total_steps: int
    """Optimizer steps in all, those that are done before it begins included."""
    first_step: int
    """Optimizer steps that are done before it begins: those of the checkpoint that
    `warm_start.resume` goes on from."""
    @property
    def dry_run(self) -> DryRun:
        """The outcome of the dry run, where one was asked for."""
    test_examples: int
    """Examples found to use a model on, in the modes `evaluate` and `predict`."""
    @property
    def notes(self) -> RepeatedScalarFieldContainer[str]:
        """Remarkable things in the data that are no mistakes: categories that no training example
        has, files that were judged by a sample."""
    @property
    def train(self) -> DataDescription:
        """The examples to learn from."""
    @property
    def validation(self) -> DataDescription:
        """The examples to judge by; absent where there are none."""
    @property
    def test(self) -> DataDescription:
        """The examples to use a model on, in the modes `evaluate` and `predict`."""
    @property
    def model_outline(self) -> ModelOutline:
        """The model; absent where the data were not read far enough to tell."""
    memory_bytes: int
    """The memory of the host that the job takes at least, in bytes: the data, and on the CPU the
    model with the largest batch."""
    def __init__(self, *, spec: JobSpec | Mapping[str, object] | None = ..., train_examples: int | None = ..., validation_examples: int | None = ..., total_steps: int | None = ..., first_step: int | None = ..., dry_run: DryRun | Mapping[str, object] | None = ..., test_examples: int | None = ..., notes: Iterable[str] | None = ..., train: DataDescription | Mapping[str, object] | None = ..., validation: DataDescription | Mapping[str, object] | None = ..., test: DataDescription | Mapping[str, object] | None = ..., model_outline: ModelOutline | Mapping[str, object] | None = ..., memory_bytes: int | None = ...) -> None: ...

class DataDescription(Message):
    """A set of examples."""
    @property
    def files(self) -> RepeatedScalarFieldContainer[str]:
        """Its files, in the order in which they are read, as canonical paths. The first 100 of
        them."""
    file_count: int
    """All files."""
    size_bytes: int
    """Their size on the disk, in bytes."""
    examples: int
    """Examples."""
    was_read: bool
    """All values were read. Otherwise the files are large, and were judged by their headers or a
    sample: counts and ranges are those of the sample."""
    @property
    def inputs(self) -> RepeatedCompositeFieldContainer[ArrayDescription]:
        """The inputs of the network."""
    @property
    def target(self) -> ArrayDescription:
        """The right answer."""
    @property
    def classes(self) -> RepeatedCompositeFieldContainer[ClassCount]:
        """The classes among the targets, by their numbers. None where targets are no classes, and
        where there are more than 1,000."""
    @property
    def columns(self) -> RepeatedCompositeFieldContainer[ColumnDescription]:
        """The columns of a table that have a role, in the order of its files. The first 1,000 of
        them."""
    left_out_rows: int
    """Rows of the files that are left out, since values are missing. Where the files are divided,
    the training set has it."""
    memory_bytes: int
    """The memory that it takes as a whole, in bytes."""
    column_count: int
    """All columns of a table that have a role."""
    def __init__(self, *, files: Iterable[str] | None = ..., file_count: int | None = ..., size_bytes: int | None = ..., examples: int | None = ..., was_read: bool | None = ..., inputs: Iterable[ArrayDescription] | None = ..., target: ArrayDescription | Mapping[str, object] | None = ..., classes: Iterable[ClassCount] | None = ..., columns: Iterable[ColumnDescription] | None = ..., left_out_rows: int | None = ..., memory_bytes: int | None = ..., column_count: int | None = ...) -> None: ...

class ArrayDescription(Message):
    """An array of an example."""
    name: str
    """Its name."""
    dtype: str
    """The type of its values by NumPy's name: `uint8` for pixels, `float32` or `int64`."""
    @property
    def sizes(self) -> RepeatedScalarFieldContainer[int]:
        """Its sizes in an example; none for a single number."""
    lowest: int
    """The lowest value; for floats the whole number below it. Absent for pixels, and where values
    were not read."""
    highest: int
    """The highest value; for floats the whole number above it."""
    def __init__(self, *, name: str | None = ..., dtype: str | None = ..., sizes: Iterable[int] | None = ..., lowest: int | None = ..., highest: int | None = ...) -> None: ...

class ClassCount(Message):
    """A class among targets."""
    number: int
    """Its number."""
    name: str
    """Its name; empty where it has none."""
    examples: int
    """Its examples."""
    def __init__(self, *, number: int | None = ..., name: str | None = ..., examples: int | None = ...) -> None: ...

class ColumnDescription(Message):
    """A column of a table."""
    name: str
    """Its name."""
    role: int
    """Its role."""
    missing: int
    """Rows in which its value is missing. Rows that are left out do not count."""
    lowest: float
    """The lowest value of a column of numbers."""
    highest: float
    """The highest value of a column of numbers."""
    different: int
    """Different values of a column of words or categories."""
    def __init__(self, *, name: str | None = ..., role: int | str | None = ..., missing: int | None = ..., lowest: float | None = ..., highest: float | None = ..., different: int | None = ...) -> None: ...

class DryRun(Message):
    """The outcome of a dry run: one batch that was trained on."""
    loss: float
    """Its loss."""
    gradient_norm: float
    """The norm of its gradients, before they are clipped."""
    @property
    def metrics(self) -> MutableMapping[str, float]:
        """Its metrics by name."""
    @property
    def output_sizes(self) -> RepeatedScalarFieldContainer[int]:
        """The sizes of the model's output for an example; none for a model that computes its
        loss."""
    @property
    def model_outline(self) -> ModelOutline:
        """The model."""
    @property
    def step_time(self) -> Duration:
        """The time of the batch, on one thread of the CPU."""
    peak_memory_bytes: int
    """The most memory that the process has had of its own, in bytes: without pages of files, such
    as libtorch's code."""
    def __init__(self, *, loss: float | None = ..., gradient_norm: float | None = ..., metrics: Mapping[str, float] | None = ..., output_sizes: Iterable[int] | None = ..., model_outline: ModelOutline | Mapping[str, object] | None = ..., step_time: Duration | Mapping[str, object] | None = ..., peak_memory_bytes: int | None = ...) -> None: ...

class GetJobRequest(Message):
    """Request of GetJob."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    def __init__(self, *, name: str | None = ...) -> None: ...

class ListJobsRequest(Message):
    """Request of ListJobs."""
    page_size: int
    """Jobs in an answer: 0 means 50, more than 1000 means 1000. An answer holds fewer where their
    specs are larger than 2 MB together."""
    page_token: str
    """`next_page_token` of the answer before; empty for the first page. At most 4,096 bytes."""
    @property
    def states(self) -> RepeatedScalarFieldContainer[int]:
        """Only jobs in these states; empty for all. At most 64 entries."""
    @property
    def labels(self) -> MutableMapping[str, str]:
        """Only jobs that have all of these labels with these values; empty for all. At most 16
        entries."""
    owner: str
    """Only jobs of this owner; empty for all. At most 256 bytes."""
    def __init__(self, *, page_size: int | None = ..., page_token: str | None = ..., states: Iterable[int] | None = ..., labels: Mapping[str, str] | None = ..., owner: str | None = ...) -> None: ...

class ListJobsResponse(Message):
    """Answer of ListJobs."""
    @property
    def jobs(self) -> RepeatedCompositeFieldContainer[Job]:
        """Newest first."""
    next_page_token: str
    """Empty at the end of the list."""
    def __init__(self, *, jobs: Iterable[Job] | None = ..., next_page_token: str | None = ...) -> None: ...

class WatchJobRequest(Message):
    """Request of WatchJob."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    after_sequence: int
    """The last record that the client has: 0 for all. Beyond the journal's end it is
    OUT_OF_RANGE."""
    without_records: bool
    """Snapshots alone, for who waits for the job: no record is sent, and after_sequence has to be
    0."""
    def __init__(self, *, name: str | None = ..., after_sequence: int | None = ..., without_records: bool | None = ...) -> None: ...

class WatchJobResponse(Message):
    """The events since the message before."""
    @property
    def events(self) -> RepeatedCompositeFieldContainer[WatchEvent]:
        """In order."""
    def __init__(self, *, events: Iterable[WatchEvent] | None = ...) -> None: ...

class WatchEvent(Message):
    """Something that happened to a job."""
    @property
    def snapshot(self) -> Job:
        """The job as it is now."""
    @property
    def record(self) -> JobRecord:
        """A journal record."""
    def __init__(self, *, snapshot: Job | Mapping[str, object] | None = ..., record: JobRecord | Mapping[str, object] | None = ...) -> None: ...

class JobRecord(Message):
    """A record of a job's journal."""
    sequence: int
    """Its number in the journal, from 1, without gaps."""
    @property
    def time(self) -> Timestamp:
        """When it was written."""
    @property
    def started(self) -> RunnerStarted:
        """The runner has loaded everything and begins."""
    @property
    def scalars(self) -> ScalarValues:
        """Values at a step."""
    @property
    def progress(self) -> StepProgress:
        """How far training is, between scalars."""
    @property
    def checkpoint(self) -> CheckpointSaved:
        """A checkpoint is on disk."""
    @property
    def ended(self) -> RunnerEnded:
        """The runner ends."""
    @property
    def resumed(self) -> RunnerResumed:
        """A later attempt begins: what earlier ones wrote after its step does not count any
        more."""
    @property
    def damaged(self) -> CheckpointDamaged:
        """A checkpoint cannot be used."""
    attempt: int
    """The attempt that wrote it, from 1."""
    def __init__(self, *, sequence: int | None = ..., time: Timestamp | Mapping[str, object] | None = ..., started: RunnerStarted | Mapping[str, object] | None = ..., scalars: ScalarValues | Mapping[str, object] | None = ..., progress: StepProgress | Mapping[str, object] | None = ..., checkpoint: CheckpointSaved | Mapping[str, object] | None = ..., ended: RunnerEnded | Mapping[str, object] | None = ..., resumed: RunnerResumed | Mapping[str, object] | None = ..., damaged: CheckpointDamaged | Mapping[str, object] | None = ..., attempt: int | None = ...) -> None: ...

class RunnerResumed(Message):
    """The first record of each attempt but the first, behind those that tell of damaged
    checkpoints."""
    step: int
    """Optimizer steps done at the checkpoint that it goes on from; 0 where it begins anew."""
    path: str
    """The checkpoint's folder, relative to the job's; empty where it begins anew."""
    replaces_first: bool
    """Scalars of step 0 that were told before count no longer either, as a program tells that step
    anew."""
    def __init__(self, *, step: int | None = ..., path: str | None = ..., replaces_first: bool | None = ...) -> None: ...

class RunnerStarted(Message):
    """The runner has loaded everything and begins."""
    pid: int
    """Process id."""
    device: str
    """`cpu` or `cuda:0`."""
    cpu_threads: int
    """Threads of computation."""
    libtorch_version: str
    """Version of libtorch."""
    total_steps: int
    """Optimizer steps in all."""
    steps_per_epoch: int
    """Optimizer steps in an epoch."""
    parameter_count: int
    """Trainable numbers of the model."""
    first_step: int
    """Optimizer steps done before this attempt."""
    first_epoch: int
    """The epoch in hand at that step, from 1."""
    steps_left_in_epoch: int
    """Optimizer steps that are left of that epoch."""
    total_epochs: int
    """Epochs in all; the last may be a part of one."""
    thread_wait: int
    """How the threads of computation wait for each other. `openmp` where libtorch needs its own
    runtime, whatever the spec says; unspecified for a program."""
    def __init__(self, *, pid: int | None = ..., device: str | None = ..., cpu_threads: int | None = ..., libtorch_version: str | None = ..., total_steps: int | None = ..., steps_per_epoch: int | None = ..., parameter_count: int | None = ..., first_step: int | None = ..., first_epoch: int | None = ..., steps_left_in_epoch: int | None = ..., total_epochs: int | None = ..., thread_wait: int | str | None = ...) -> None: ...

class ScalarValues(Message):
    """Values at a step."""
    step: int
    """Optimizer steps done."""
    @property
    def values(self) -> RepeatedCompositeFieldContainer[ScalarValue]:
        """Tag and value, in the order they were written."""
    def __init__(self, *, step: int | None = ..., values: Iterable[ScalarValue] | None = ...) -> None: ...

class ScalarValue(Message):
    """One value of one tag."""
    tag: str
    """For example `loss/train`."""
    value: float
    """The value; 32 bits of it go to TensorBoard."""
    def __init__(self, *, tag: str | None = ..., value: float | None = ...) -> None: ...

class StepProgress(Message):
    """How far training is, between scalars."""
    step: int
    """Optimizer steps done."""
    examples_per_second: float
    """Training examples per second since the record before."""
    checkpoint_wait_seconds: float
    """How long training has been waiting for a checkpoint to be written; absent where it does not
    wait."""
    data_wait_seconds: float
    """How long training has been waiting for its data; absent where it does not wait."""
    progress_ratio: float
    """The share that is done, 0 to 1, where the program of a job tells it."""
    epoch: int
    """The epoch in hand, from 1, where the program of a job tells it."""
    total_epochs: int
    """Epochs in all, where the program of a job tells them."""
    def __init__(self, *, step: int | None = ..., examples_per_second: float | None = ..., checkpoint_wait_seconds: float | None = ..., data_wait_seconds: float | None = ..., progress_ratio: float | None = ..., epoch: int | None = ..., total_epochs: int | None = ...) -> None: ...

class CheckpointSaved(Message):
    """A checkpoint is on disk."""
    step: int
    """Optimizer steps done."""
    path: str
    """Its folder, relative to the job's."""
    size_bytes: int
    """Bytes of its files."""
    def __init__(self, *, step: int | None = ..., path: str | None = ..., size_bytes: int | None = ...) -> None: ...

class CheckpointDamaged(Message):
    """A checkpoint cannot be used: the attempt goes on from an earlier one, or ends as
    BAD_CHECKPOINT where there is none."""
    step: int
    """Optimizer steps done, by the name of its folder."""
    path: str
    """Its folder, relative to the job's."""
    problem: str
    """The damage, in words."""
    def __init__(self, *, step: int | None = ..., path: str | None = ..., problem: str | None = ...) -> None: ...

class RunnerEnded(Message):
    """The runner ends."""
    reason: int
    """Why."""
    message: str
    """Why, for people."""
    step: int
    """Optimizer steps done."""
    exit_code: int
    """Exit code of the job's program, if it has one that exited."""
    signal: int
    """The signal that ended the job's program, if one did."""
    def __init__(self, *, reason: int | str | None = ..., message: str | None = ..., step: int | None = ..., exit_code: int | None = ..., signal: int | None = ...) -> None: ...

class CancelJobRequest(Message):
    """Request of CancelJob."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    now: bool
    """Kill the runner at once instead of letting it finish its step and save a checkpoint."""
    def __init__(self, *, name: str | None = ..., now: bool | None = ...) -> None: ...

class PauseJobRequest(Message):
    """Request of PauseJob."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    def __init__(self, *, name: str | None = ...) -> None: ...

class ResumeJobRequest(Message):
    """Request of ResumeJob."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    @property
    def edits(self) -> JobEdits:
        """The changes from now on."""
    from_scratch: bool
    """Begin anew instead of going on from a checkpoint. The job's checkpoints, damaged or not, are
    removed, and the scalars of earlier attempts do not count any more. Refused
    (FAILED_PRECONDITION) for a job with `warm_start.resume`, which has nothing else to begin
    with."""
    accept_new_data: bool
    """Go on with the data as they are, although they are not those that the checkpoint was made
    with. Training keeps its place in the epoch where the training set has as many examples as then,
    and goes on at the beginning of the next epoch otherwise. It holds for this checkpoint and those
    before it, also where the next attempts end before anything new is saved. Without effect where
    the job begins anew."""
    def __init__(self, *, name: str | None = ..., edits: JobEdits | Mapping[str, object] | None = ..., from_scratch: bool | None = ..., accept_new_data: bool | None = ...) -> None: ...

class JobEdits(Message):
    """The changes that a paused job allows. A field that is left out stays as it was. The spec with
    the changes is judged as that of a new job."""
    epochs: int
    """Passes over the training examples in all, those that are done included."""
    max_steps: int
    """Optimizer steps in all, those that are done included."""
    learning_rate: float
    """Step size of the optimizer."""
    batch_size: int
    """Examples in a training step."""
    @property
    def set(self) -> RepeatedCompositeFieldContainer[FieldEdit]:
        """Other fields of the spec, each once. Those may change that no weight, no state of a
        checkpoint and no order of the data depends on: `training` but for its seed, numbers of the
        optimizer, of its groups and of the schedule that the job has, `checkpoint`, `logging`,
        `retry`, `max_duration`, `priority`, `ttl_after_end`, `on_storage_failure`, `labels` and
        `display_name`. A refusal says why. At most 64 entries."""
    def __init__(self, *, epochs: int | None = ..., max_steps: int | None = ..., learning_rate: float | None = ..., batch_size: int | None = ..., set: Iterable[FieldEdit] | None = ...) -> None: ...

class FieldEdit(Message):
    """A change of a field of a spec."""
    path: str
    """Its path, such as `optimizer.adamw.weight_decay`, `optimizer.groups[0].rate_scale` or
    `labels.team`. Required. At most 256 bytes."""
    value: str
    """Its new value as JSON, as a spec in JSON has it; null for that of a spec without the field.
    The fields of a message and the entries of a map are changed one by one. Required. At most 4,096
    bytes."""
    def __init__(self, *, path: str | None = ..., value: str | None = ...) -> None: ...

class SetJobPriorityRequest(Message):
    """Request of SetJobPriority."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    priority: int
    """The new priority, -1000 to 1000, as in a spec."""
    def __init__(self, *, name: str | None = ..., priority: int | None = ...) -> None: ...

class RedoJobRequest(Message):
    """Request of RedoJob."""
    name: str
    """`jobs/{id}`, in any state. Required. At most 256 bytes."""
    request_id: str
    """As in CreateJobRequest. At most 128 bytes."""
    @property
    def after(self) -> RepeatedCompositeFieldContainer[Dependency]:
        """`after` in the spec of the new job, by which mistakes are told. At most 64 entries."""
    priority: int
    """The priority of the new job; absent for that of the old one."""
    def __init__(self, *, name: str | None = ..., request_id: str | None = ..., after: Iterable[Dependency] | None = ..., priority: int | None = ...) -> None: ...

class DeleteJobRequest(Message):
    """Request of DeleteJob."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    def __init__(self, *, name: str | None = ...) -> None: ...

class ReadJobLogRequest(Message):
    """Request of ReadJobLog."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    offset_bytes: int
    """Where to begin, in bytes from the start. Beyond the log's end it is OUT_OF_RANGE."""
    tail_lines: int
    """Begin so many lines before the end instead; 0 for not."""
    follow: bool
    """Go on until the job has ended."""
    def __init__(self, *, name: str | None = ..., offset_bytes: int | None = ..., tail_lines: int | None = ..., follow: bool | None = ...) -> None: ...

class ReadJobLogResponse(Message):
    """A piece of a log."""
    text: str
    """The text; what is not UTF-8 is replaced by U+FFFD."""
    next_offset_bytes: int
    """Where the next piece begins, in bytes from the start."""
    def __init__(self, *, text: str | None = ..., next_offset_bytes: int | None = ...) -> None: ...

class ListScalarTagsRequest(Message):
    """Request of ListScalarTags."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    page_size: int
    """Tags in an answer: 0 means 100, more than 1000 means 1000."""
    page_token: str
    """`next_page_token` of the answer before; empty for the first page. At most 4,096 bytes."""
    def __init__(self, *, name: str | None = ..., page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListScalarTagsResponse(Message):
    """Answer of ListScalarTags."""
    @property
    def tags(self) -> RepeatedCompositeFieldContainer[ScalarTag]:
        """By name."""
    next_page_token: str
    """Empty at the end of the list."""
    def __init__(self, *, tags: Iterable[ScalarTag] | None = ..., next_page_token: str | None = ...) -> None: ...

class ScalarTag(Message):
    """The points of a job under one tag."""
    tag: str
    """For example `loss/train`."""
    point_count: int
    """Points so far."""
    @property
    def last(self) -> ScalarPoint:
        """The newest point."""
    def __init__(self, *, tag: str | None = ..., point_count: int | None = ..., last: ScalarPoint | Mapping[str, object] | None = ...) -> None: ...

class ReadScalarsRequest(Message):
    """Request of ReadScalars."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    tag: str
    """The tag to read. Required. At most 4,096 bytes."""
    page_size: int
    """Points in an answer: 0 means 1000, more than 50,000 means 50,000."""
    page_token: str
    """`next_page_token` of the answer before; empty for the first page. At most 4,096 bytes."""
    def __init__(self, *, name: str | None = ..., tag: str | None = ..., page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ReadScalarsResponse(Message):
    """Answer of ReadScalars."""
    @property
    def points(self) -> RepeatedCompositeFieldContainer[ScalarPoint]:
        """By step."""
    next_page_token: str
    """Empty at the end of what has been written so far."""
    def __init__(self, *, points: Iterable[ScalarPoint] | None = ..., next_page_token: str | None = ...) -> None: ...

class ScalarPoint(Message):
    """One point of a scalar."""
    step: int
    """Optimizer steps done."""
    @property
    def time(self) -> Timestamp:
        """When it was written."""
    value: float
    """The value."""
    def __init__(self, *, step: int | None = ..., time: Timestamp | Mapping[str, object] | None = ..., value: float | None = ...) -> None: ...

class ListCheckpointsRequest(Message):
    """Request of ListCheckpoints."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    page_size: int
    """Checkpoints in an answer: 0 means 100, more than 1000 means 1000."""
    page_token: str
    """`next_page_token` of the answer before; empty for the first page. At most 4,096 bytes."""
    def __init__(self, *, name: str | None = ..., page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListCheckpointsResponse(Message):
    """Answer of ListCheckpoints."""
    @property
    def checkpoints(self) -> RepeatedCompositeFieldContainer[SavedCheckpoint]:
        """Newest first."""
    next_page_token: str
    """Empty at the end of the list."""
    @property
    def damaged(self) -> RepeatedCompositeFieldContainer[CheckpointDamaged]:
        """Folders of checkpoints that cannot be read as such, newest first; all of them, on the
        first page alone. Checksums are not looked at: a job reads the files when it goes on."""
    def __init__(self, *, checkpoints: Iterable[SavedCheckpoint] | None = ..., next_page_token: str | None = ..., damaged: Iterable[CheckpointDamaged] | None = ...) -> None: ...

class SavedCheckpoint(Message):
    """A checkpoint on disk: everything that training needs to go on. A program has those that it
    has reported and that are still there, the last 30 of them."""
    name: str
    """`jobs/{id}/checkpoints/step-{step}`; of a program `jobs/{id}/program/` and the path that it
    has reported."""
    step: int
    """Optimizer steps done; of a program the step that it has reported."""
    epochs: int
    """Epochs done; 0 for a program."""
    @property
    def create_time(self) -> Timestamp:
        """When it was taken; of a program when its files were last written."""
    size_bytes: int
    """Bytes of its files."""
    @property
    def metrics(self) -> MutableMapping[str, float]:
        """The newest scalars of the validation pass at that step; empty where there was none."""
    @property
    def files(self) -> RepeatedCompositeFieldContainer[Artifact]:
        """Its files, with their checksums; of a program at most 50 of them, and without
        checksums."""
    def __init__(self, *, name: str | None = ..., step: int | None = ..., epochs: int | None = ..., create_time: Timestamp | Mapping[str, object] | None = ..., size_bytes: int | None = ..., metrics: Mapping[str, float] | None = ..., files: Iterable[Artifact] | None = ...) -> None: ...

class ListArtifactsRequest(Message):
    """Request of ListArtifacts."""
    name: str
    """`jobs/{id}`. Required. At most 256 bytes."""
    page_size: int
    """Files in an answer: 0 means 100, more than 1000 means 1000."""
    page_token: str
    """`next_page_token` of the answer before; empty for the first page. At most 4,096 bytes."""
    def __init__(self, *, name: str | None = ..., page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListArtifactsResponse(Message):
    """Answer of ListArtifacts."""
    @property
    def artifacts(self) -> RepeatedCompositeFieldContainer[Artifact]:
        """By path."""
    next_page_token: str
    """Empty at the end of the list."""
    def __init__(self, *, artifacts: Iterable[Artifact] | None = ..., next_page_token: str | None = ...) -> None: ...

class Artifact(Message):
    """A file that a job has left."""
    name: str
    """`jobs/{id}/` and its path in the job's folder, such as
    `jobs/{id}/artifacts/model.safetensors`."""
    size_bytes: int
    """Its size."""
    @property
    def update_time(self) -> Timestamp:
        """When it was last written."""
    sha256: str
    """SHA-256 of its bytes in lower-case hexadecimal; empty where nobody has computed it yet, and
    while it grows."""
    def __init__(self, *, name: str | None = ..., size_bytes: int | None = ..., update_time: Timestamp | Mapping[str, object] | None = ..., sha256: str | None = ...) -> None: ...

class DownloadArtifactRequest(Message):
    """Request of DownloadArtifact."""
    name: str
    """`name` of an Artifact. Required. At most 4,096 bytes."""
    offset_bytes: int
    """Where to begin, in bytes from the start. Beyond the file's end it is OUT_OF_RANGE."""
    def __init__(self, *, name: str | None = ..., offset_bytes: int | None = ...) -> None: ...

class DownloadArtifactResponse(Message):
    """A piece of a file. The first message tells of the file and holds no bytes."""
    @property
    def artifact(self) -> Artifact:
        """The file as it is when the download begins, with the checksum of all of its bytes."""
    data: bytes
    """The next bytes."""
    def __init__(self, *, artifact: Artifact | Mapping[str, object] | None = ..., data: bytes | None = ...) -> None: ...

RankWish: EnumTypeWrapper
"""Wishes for a rank."""
RANK_WISH_UNSPECIFIED: int
"""To go on."""
RANK_WISH_STOP: int
"""To checkpoint and stop."""
RANK_WISH_KILL: int
"""To end at once."""

class AttachLauncherRequest(Message):
    """Offers slots."""
    launcher: str
    """Its name, unique among the launchers of its owner: letters, digits and `.`, `_`, `-`, `@`,
    `:`, `+`. Required. At most 128 bytes."""
    engine: int
    """The engine."""
    slots: int
    """Ranks that the engine has room for at once, from 1 to 4096."""
    @property
    def running(self) -> RepeatedCompositeFieldContainer[LaunchName]:
        """Launches that it was given before and has not ended, of a launcher that attaches again.
        At most 4,096 entries."""
    session: int
    """A number that the launcher has drawn once, and sends whenever it attaches again. It is given
    the orders again that it has not read, as its stream was lost; launches of any other launcher of
    this name that it does not run are lost. 0 for none."""
    gpus: int
    """GPUs that ranks can have at once; absent where the launcher cannot tell. A job on GPUs takes
    one for each rank."""
    no_route: bool
    """Its ranks have no route to the daemon: it is given jobs with `scale.storage` alone."""
    def __init__(self, *, launcher: str | None = ..., engine: int | str | None = ..., slots: int | None = ..., running: Iterable[LaunchName] | None = ..., session: int | None = ..., gpus: int | None = ..., no_route: bool | None = ...) -> None: ...

class LauncherOrder(Message):
    """An order to a launcher."""
    @property
    def attached(self) -> Attached:
        """It is attached; the first message."""
    @property
    def launch(self) -> Launch:
        """A launch to start."""
    @property
    def stop(self) -> LaunchName:
        """A launch whose ranks are to be ended now, as those that did not join. Others have been
        asked already."""
    def __init__(self, *, attached: Attached | Mapping[str, object] | None = ..., launch: Launch | Mapping[str, object] | None = ..., stop: LaunchName | Mapping[str, object] | None = ...) -> None: ...

class Attached(Message):
    """The launcher is attached."""
    version: str
    """The version of the daemon, which `torchd --rank` has to have."""
    def __init__(self, *, version: str | None = ...) -> None: ...

class Launch(Message):
    """A launch."""
    job: str
    """The job, `jobs/{id}`."""
    attempt: int
    """The attempt."""
    world_size: int
    """Ranks to start."""
    token: str
    """The token of the launch, which ranks find in TORCHD_TOKEN."""
    @property
    def join_timeout(self) -> Duration:
        """Ranks have to join within this time."""
    cpu_threads: int
    """Threads of computation of each rank."""
    gpu: bool
    """Each rank takes a GPU of its machine."""
    mailbox: str
    """The folder of the calls of ranks that have no route to the daemon, which they find in
    TORCHD_RANK_MAILBOX; empty where they call the daemon."""
    def __init__(self, *, job: str | None = ..., attempt: int | None = ..., world_size: int | None = ..., token: str | None = ..., join_timeout: Duration | Mapping[str, object] | None = ..., cpu_threads: int | None = ..., gpu: bool | None = ..., mailbox: str | None = ...) -> None: ...

class LaunchName(Message):
    """Names a launch."""
    job: str
    """The job, `jobs/{id}`. At most 256 bytes."""
    attempt: int
    """The attempt."""
    def __init__(self, *, job: str | None = ..., attempt: int | None = ...) -> None: ...

class EndLaunchRequest(Message):
    """The engine has ended a launch."""
    launcher: str
    """The name of the launcher. At most 128 bytes."""
    job: str
    """The job, `jobs/{id}`. At most 256 bytes."""
    attempt: int
    """The attempt."""
    message: str
    """The engine's words about a failure, for people; empty where it tells of none. At most 65,536
    bytes."""
    def __init__(self, *, launcher: str | None = ..., job: str | None = ..., attempt: int | None = ..., message: str | None = ...) -> None: ...

class EndLaunchResponse(Message):
    """It is known."""
    def __init__(self) -> None: ...

class JoinLaunchRequest(Message):
    """Takes the place of a rank."""
    rank: int
    """The rank, from 0."""
    outpost: int
    """A number that no other outpost has, drawn at its start."""
    world_size: int
    """How many ranks the engine started."""
    version: str
    """The version of torchd. At most 256 bytes."""
    host: str
    """The host, for people. At most 256 bytes."""
    def __init__(self, *, rank: int | None = ..., outpost: int | None = ..., world_size: int | None = ..., version: str | None = ..., host: str | None = ...) -> None: ...

class JoinLaunchResponse(Message):
    """The work of a rank."""
    job: str
    """The job, `jobs/{id}`."""
    attempt: int
    """The attempt."""
    order: bytes
    """Its order, in JSON."""
    @property
    def files(self) -> RepeatedCompositeFieldContainer[LaunchFile]:
        """Files that it needs in the job's folder."""
    @property
    def lease(self) -> Duration:
        """A rank that is not heard for so long is given up."""
    @property
    def orphan_timeout(self) -> Duration:
        """A rank stops by itself after so long without the daemon."""
    @property
    def stop_grace(self) -> Duration:
        """From asking a runner to stop to killing it."""
    log_max_bytes: int
    """Limit of the log, in bytes."""
    memory_limit_bytes: int
    """The memory that the runner may take, in bytes; absent for no limit."""
    may_leave_machine: bool
    """Ranks may exchange numbers over addresses that are not those of loopback. That traffic is not
    encrypted."""
    def __init__(self, *, job: str | None = ..., attempt: int | None = ..., order: bytes | None = ..., files: Iterable[LaunchFile] | None = ..., lease: Duration | Mapping[str, object] | None = ..., orphan_timeout: Duration | Mapping[str, object] | None = ..., stop_grace: Duration | Mapping[str, object] | None = ..., log_max_bytes: int | None = ..., memory_limit_bytes: int | None = ..., may_leave_machine: bool | None = ...) -> None: ...

class LaunchFile(Message):
    """A file of a job."""
    path: str
    """Its path in the job's folder."""
    size_bytes: int
    """Its bytes."""
    def __init__(self, *, path: str | None = ..., size_bytes: int | None = ...) -> None: ...

class GetLaunchFileRequest(Message):
    """Asks for a file."""
    path: str
    """Its path in the job's folder. At most 1,024 bytes."""
    offset: int
    """The first byte."""
    length: int
    """Bytes; 0 for all that follow."""
    def __init__(self, *, path: str | None = ..., offset: int | None = ..., length: int | None = ...) -> None: ...

class GetLaunchFileResponse(Message):
    """A part of a file."""
    data: bytes
    """The bytes that follow those before."""
    def __init__(self, *, data: bytes | None = ...) -> None: ...

class PushJournalRequest(Message):
    """Bytes that a rank has written. A request without any renews the lease."""
    rank: int
    """The rank."""
    outpost: int
    """Its outpost."""
    @property
    def pieces(self) -> RepeatedCompositeFieldContainer[Piece]:
        """Pieces of its files. At most 64 entries."""
    carries: bool
    """Files of the rank are on their way, which take their time."""
    def __init__(self, *, rank: int | None = ..., outpost: int | None = ..., pieces: Iterable[Piece] | None = ..., carries: bool | None = ...) -> None: ...

class Piece(Message):
    """A piece of a file that grows."""
    file: str
    """The file: `journal`, `runner.log`, or an event file, `tensorboard/{name}`. At most 512
    bytes."""
    offset: int
    """Where it begins, in the bytes that this attempt has written."""
    data: bytes
    """The bytes. At most 524,288 bytes."""
    after_step: int
    """Of an event file, the step that this attempt goes on from: what earlier attempts have told
    beyond it does not count any more."""
    def __init__(self, *, file: str | None = ..., offset: int | None = ..., data: bytes | None = ..., after_step: int | None = ...) -> None: ...

class PushJournalResponse(Message):
    """The bytes are there."""
    wish: int
    """The wish for the rank."""
    @property
    def received(self) -> RepeatedScalarFieldContainer[int]:
        """The bytes of this attempt that have come of the file of each piece. Those of a log or of
        event files beyond jobs.log_max_bytes or jobs.max_event_bytes are dropped, and count."""
    def __init__(self, *, wish: int | str | None = ..., received: Iterable[int] | None = ...) -> None: ...

class PutFilesRequest(Message):
    """A part of files on their way."""
    @property
    def begin(self) -> PutFilesBegin:
        """The files; in the first message alone."""
    data: bytes
    """The bytes that follow those before. At most 524,288 bytes."""
    def __init__(self, *, begin: PutFilesBegin | Mapping[str, object] | None = ..., data: bytes | None = ...) -> None: ...

class PutFilesBegin(Message):
    """Files that are about to come."""
    rank: int
    """The rank."""
    outpost: int
    """Its outpost."""
    step: int
    """Of a checkpoint, its step."""
    @property
    def files(self) -> RepeatedCompositeFieldContainer[PutFile]:
        """The files, in the order in which their bytes come. At most 4,096 entries."""
    @property
    def removed_steps(self) -> RepeatedScalarFieldContainer[int]:
        """Of a checkpoint, the steps of those that the rank has removed, which are removed here
        too. At most 65,536 entries."""
    sequence: int
    """Counts what the outpost has put, from 1. Results change nothing behind later ones."""
    def __init__(self, *, rank: int | None = ..., outpost: int | None = ..., step: int | None = ..., files: Iterable[PutFile] | None = ..., removed_steps: Iterable[int] | None = ..., sequence: int | None = ...) -> None: ...

class PutFile(Message):
    """A file that is about to come."""
    name: str
    """Its name, without a folder. At most 256 bytes."""
    size_bytes: int
    """Its bytes."""
    sha256: str
    """Their SHA-256, in lower-case hexadecimal. At most 64 bytes."""
    def __init__(self, *, name: str | None = ..., size_bytes: int | None = ..., sha256: str | None = ...) -> None: ...

class PutFilesResponse(Message):
    """The files are there."""
    def __init__(self) -> None: ...

class EndRankRequest(Message):
    """The end of a rank."""
    rank: int
    """The rank."""
    outpost: int
    """Its outpost."""
    exit: bytes
    """How its runner ended, in JSON, as `exit.json` has it. At most 4,096 bytes."""
    fault: str
    """Why nothing could run, where that is so. At most 65,536 bytes."""
    def __init__(self, *, rank: int | None = ..., outpost: int | None = ..., exit: bytes | None = ..., fault: str | None = ...) -> None: ...

class EndRankResponse(Message):
    """It is known."""
    def __init__(self) -> None: ...

Engine: EnumTypeWrapper
"""A program that starts ranks on machines."""
ENGINE_UNSPECIFIED: int
"""Not told."""
ENGINE_TORCHRUN: int
"""torchrun, of PyTorch."""
ENGINE_SPARK: int
"""Apache Spark: a stage of barrier tasks."""

DependencyCondition: EnumTypeWrapper
"""The ends of a job that another one may wait for. A pause, and an attempt that is followed by
another one, are no end."""
DEPENDENCY_CONDITION_UNSPECIFIED: int
"""The default, ended."""
DEPENDENCY_CONDITION_ENDED: int
"""It has ended, however it did."""
DEPENDENCY_CONDITION_SUCCEEDED: int
"""It has SUCCEEDED."""
DEPENDENCY_CONDITION_FAILED: int
"""It has FAILED or was CANCELLED, as with Slurm's afternotok."""

Mode: EnumTypeWrapper
"""The purpose of a job."""
MODE_UNSPECIFIED: int
"""The same as train."""
MODE_TRAIN: int
"""To train the model."""
MODE_LR_RANGE: int
"""To find a learning rate: it grows from step to step, in place of the schedule, and the losses are
told with it. The job ends with a proposal, and earlier where the loss has risen far above its
lowest value. It has no validation and leaves no result; its length is that of `lr_range`."""
MODE_EVALUATE: int
"""To judge the model of another job, or one in a file, by the examples of `data.test`: loss and
metrics are told as those of a validation pass are, as `loss/test` and `<metric>/test`, and stand in
artifacts/evaluation.json. Model, loss, metrics, normalisation and precision are those of the job
that `warm_start.checkpoint` names, with its preprocessing.json; `metrics` may name others. With
`warm_start.file` the spec names them. Nothing is trained: `optimizer`, `schedule`, `checkpoint`,
`logging`, and all of `training` but `batch_size` and `precision` are left out."""
MODE_PREDICT: int
"""To answer the examples of `data.test`, which may lack their targets, with a model as in
`evaluate`. The answers stand in artifacts/predictions.csv, or as `output.predictions` says."""

Predictions: EnumTypeWrapper
"""A format of answers. All have a row for each example, in the order of the data."""
PREDICTIONS_UNSPECIFIED: int
"""The same as csv."""
PREDICTIONS_CSV: int
"""artifacts/predictions.csv, with the columns `row` (counted from 0, without rows that `missing`
drops), for images `path` (below their folder), `prediction` (the class, by its name where it has
one; for labels 0 or 1; or the number), `probability_<class>`, and where the data have targets
`target` and `loss`. Where an example has several answers, these are numbered: `prediction_0`. At
most 4,096 numbers for an example."""
PREDICTIONS_SAFETENSORS: int
"""artifacts/predictions.safetensors, with arrays of as many rows: `predictions` (I64 for classes
and labels, F32 for numbers), `probabilities` (F32, classes in the dimension in which the model
gives them), and where the data have targets `targets` and `loss` (F32)."""
PREDICTIONS_PARQUET: int
"""artifacts/predictions.parquet, with the columns of PREDICTIONS_CSV: INT64 for `row`, labels and
classes without names, text for `path` and classes by name, FLOAT for numbers, which are NaN where
the CSV file has nothing."""

OnStorageFailure: EnumTypeWrapper
"""The reaction when a job's folder cannot be written: its disk is full, or gone."""
ON_STORAGE_FAILURE_UNSPECIFIED: int
"""The same as pause."""
ON_STORAGE_FAILURE_PAUSE: int
"""Pause the job: it can be resumed from its last good checkpoint once there is room."""
ON_STORAGE_FAILURE_FAIL: int
"""End it as `storage`."""

Stem: EnumTypeWrapper
"""The beginning of a residual network."""
STEM_UNSPECIFIED: int
"""The same as imagenet."""
STEM_IMAGENET: int
"""A 7x7 convolution of stride 2 and a max-pool of stride 2."""
STEM_SMALL: int
"""A 3x3 convolution of stride 1 and no max-pool, for images of about 32x32."""

Activation: EnumTypeWrapper
"""A function of each value."""
ACTIVATION_UNSPECIFIED: int
"""The same as relu."""
ACTIVATION_RELU: int
"""max(x, 0)."""
ACTIVATION_GELU: int
"""The Gaussian error linear unit, exact."""
ACTIVATION_TANH: int
"""The hyperbolic tangent."""

ImageFit: EnumTypeWrapper
"""How an image of another shape becomes a size."""
IMAGE_FIT_UNSPECIFIED: int
"""The default."""
IMAGE_FIT_CROP: int
"""It is resized until it covers the size, and what is outside of its middle is cut off: Resize and
CenterCrop of torchvision."""
IMAGE_FIT_STRETCH: int
"""Its height and width are resized apart."""

TargetType: EnumTypeWrapper
"""The kind of answer that a column holds."""
TARGET_TYPE_UNSPECIFIED: int
"""The default."""
TARGET_TYPE_NUMBERS: int
"""Numbers."""
TARGET_TYPE_CLASSES: int
"""Classes by name, words or whole numbers. They are sorted (whole numbers by value) and numbered
from 0 on; the result keeps their names."""

MissingBy: EnumTypeWrapper
"""A treatment of a missing value."""
MISSING_BY_UNSPECIFIED: int
"""Not allowed."""
MISSING_BY_REFUSE: int
"""It is a mistake."""
MISSING_BY_DROP: int
"""Its row is left out."""
MISSING_BY_MEAN: int
"""It is the mean of the column in the training examples, and a mistake where these have no rule for
it. In a categorical column it is an unknown category; in a target it is a mistake."""
MISSING_BY_CONSTANT: int
"""It is `value`. In a categorical column it is an unknown category; in a target it is a mistake."""

InputEncoding: EnumTypeWrapper
"""How columns become the values of an input."""
INPUT_ENCODING_UNSPECIFIED: int
"""The default."""
INPUT_ENCODING_ONE_HOT: int
"""32-bit floats, [width]: a number each for columns of numbers, and for each category of a
categorical one a number that is 1 or 0. All of them are 0 for an unknown category."""
INPUT_ENCODING_INDEX: int
"""64-bit integers, [columns], as embeddings take them: the number of the category, counted from 1;
0 for an unknown one. All columns are categorical."""

TextUnit: EnumTypeWrapper
"""A token of a text. Bytes and characters stay as they are in the file, ends of lines too."""
TEXT_UNIT_UNSPECIFIED: int
"""The same as byte."""
TEXT_UNIT_BYTE: int
"""A byte: there are 256 tokens, whichever the text has. Any file will do."""
TEXT_UNIT_CHARACTER: int
"""A character: a Unicode code point of a text in UTF-8, but for a byte-order mark at the beginning
of a file. The tokens are the characters of the training files, numbered from 0 in the order of
their code points; artifacts/preprocessing.json keeps them. Other characters in the validation set
are refused."""

Precision: EnumTypeWrapper
"""The type that a network is computed in."""
PRECISION_UNSPECIFIED: int
"""The same as float32."""
PRECISION_FLOAT32: int
"""32 bits."""
PRECISION_BFLOAT16: int
"""16 bits with the exponent of 32: no scaling of the loss is needed."""
PRECISION_FLOAT16: int
"""16 bits with a short exponent, on CUDA alone: the loss is scaled as torch.amp.GradScaler does it,
and a step whose gradients are not finite is skipped."""

OnDivergence: EnumTypeWrapper
"""The reaction to a step whose loss or gradients are not finite."""
ON_DIVERGENCE_UNSPECIFIED: int
"""The same as fail."""
ON_DIVERGENCE_FAIL: int
"""The job ends as `diverged`."""
ON_DIVERGENCE_SKIP_STEP: int
"""The step changes no weight, and training goes on with the next batch. 20 such steps in a row end
the job as `diverged`. `skipped_steps` tells how many there were since the scalars before."""
ON_DIVERGENCE_RESTORE_BEST: int
"""The weights and the optimizer's state of the best checkpoint come back, by
`checkpoint.keep_best`, or those of the newest without that, and training goes on with the next
batch at half the learning rate. Without a checkpoint, or after the fifth time, the job ends as
`diverged`."""

ThreadWait: EnumTypeWrapper
"""How threads of computation wait for each other. A thread that spins is back at once, and takes a
core meanwhile; one that sleeps takes a while to come back."""
THREAD_WAIT_UNSPECIFIED: int
"""The default of the daemon."""
THREAD_WAIT_ADAPTIVE: int
"""They spin for some milliseconds where the machine has cores for all of them, and hardly where
others want the cores: the load decides, while the job runs."""
THREAD_WAIT_PASSIVE: int
"""They sleep at once."""
THREAD_WAIT_ACTIVE: int
"""They spin for some milliseconds, whatever else runs."""
THREAD_WAIT_OPENMP: int
"""The threads are those of the OpenMP runtime that libtorch comes with. OMP_WAIT_POLICY and
GOMP_SPINCOUNT in the environment of the daemon decide."""

Device: EnumTypeWrapper
"""Where a job computes."""
DEVICE_UNSPECIFIED: int
"""The same as auto."""
DEVICE_AUTO: int
"""CUDA where it works, else the CPU. Beside scale the CPU, unless resources.gpu_count is 1."""
DEVICE_CPU: int
"""The CPU."""
DEVICE_CUDA: int
"""A CUDA GPU; refused where there is none. Beside scale each rank looks for one on its machine."""

class JobSpec(Message):
    """A job: a model with its data and its method, or a program. A field that is left out gets the
    default that its comment names; `ValidateJob` and `GetJob` return the spec with every default
    filled in."""
    display_name: str
    """A name for people, at most 128 characters. Need not be unique. Default: the name of the
    model, of an exported one that of its file; of a program that of its script, or its own. At most
    512 bytes."""
    seed: int
    """Seed of everything random: initial weights, order of examples, dropout. The same seed gives
    the same numbers on the CPU. Default 0."""
    @property
    def model(self) -> Model:
        """The network. Required, but where a job in the mode `evaluate` or `predict` takes it from
        another one, and where `program` stands in its place."""
    @property
    def data(self) -> Data:
        """The examples. Required."""
    @property
    def training(self) -> Training:
        """How long and in what portions. Required to train, because of `epochs` or `max_steps`."""
    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, which turns gradients into new weights. Required to train."""
    @property
    def checkpoint(self) -> Checkpoint:
        """When to save the weights."""
    @property
    def logging(self) -> Logging:
        """When to write scalars."""
    @property
    def resources(self) -> Resources:
        """The part of the machine that the job takes."""
    @property
    def max_duration(self) -> Duration:
        """How long the job may run, all attempts together; waiting does not count. A job that takes
        longer is stopped after the step in hand and fails as `max_duration`, with its last
        checkpoint. At least a second; absent for no limit."""
    @property
    def labels(self) -> MutableMapping[str, str]:
        """Labels by which people and programs find the job, such as team = "vision". At most 16;
        names of 1 to 63 letters, digits, `.`, `_`, `-` and `/`, values of at most 63 characters. At
        most 16 entries."""
    @property
    def retry(self) -> Retry:
        """The reaction to a failure of its runner."""
    priority: int
    """Jobs of a higher priority go first, those of the same in the order of their creation. -1000
    to 1000, default 0."""
    @property
    def ttl_after_end(self) -> Duration:
        """The job is removed, with its folder, so long after its end. Absent: the daemon's
        `jobs.ttl_after_end`, if that is set. A job that ended before the daemon began is removed
        once the clock has called it expired for ten minutes, or the daemon has run for that
        time."""
    @property
    def warm_start(self) -> WarmStart:
        """Weights to begin with, in place of random ones. Required in the modes `evaluate` and
        `predict`."""
    on_storage_failure: int
    """The reaction when the job's folder cannot be written. Default pause."""
    @property
    def output(self) -> Output:
        """Where results go besides the job's folder."""
    @property
    def loss(self) -> Loss:
        """The loss, which training makes small. Default: that of the model, which is nll for
        mnist_cnn; else cross_entropy for targets that are classes and mse for targets that are
        numbers."""
    @property
    def schedule(self) -> Schedule:
        """How the learning rate changes. Default: it does not."""
    @property
    def metrics(self) -> RepeatedScalarFieldContainer[str]:
        """Values that are told besides the loss, exact over the training steps since the last
        scalars and over the whole validation set. A value that is no finite number is left out; of
        a validation pass the log says why. Default: accuracy for targets that are classes or
        labels, perplexity for next_token, mae for numbers, none for distributions. At most 16
        entries. Each has at most 256 bytes.  For classes (cross_entropy, nll, next_token) and
        labels (binary_cross_entropy; a score above 0 says that a label holds, a target above one
        half that it does): - `accuracy`: the share of classes that have the highest score, or of
        labels that are told rightly. - `precision_macro`, `precision_micro`, `recall_macro`,
        `recall_micro`, `f1_macro`, `f1_micro`: as scikit-learn has them, with 0 for a share of
        nothing. `macro` is the mean over the classes that are among the targets or the answers, or
        over all labels; `micro` is that of all of them together. - `auc`: the area under the ROC
        curve, for two classes or one label, where equal scores count half. Told of the validation
        set alone, which has both kinds and 100,000,000 targets at most: 24 bytes of the host's
        memory each are counted for their scores. - `confusion_matrix`: no scalar, but the file
        `artifacts/confusion_matrix.json`, which each validation pass writes anew: `step`,
        `target_classes` (names of the rows), `answer_classes` (names of the columns) and `matrix`.
        For classes, 1,000 at most, or one label. Told of the validation set alone. For classes: -
        `top_<k>`, such as `top_5`: the share of classes that are among the k with the highest
        scores; k is 2 at least, and below the number of classes. - `perplexity`: the exponential of
        the mean cross-entropy, whatever weights or smoothing the loss has. For numbers (mse, l1,
        huber): - `mae`, `rmse`: the mean of absolute differences, the root of the mean of squared
        ones. - `r2`: the coefficient of determination, for targets of several numbers the mean over
        these, as scikit-learn's r2_score."""
    mode: int
    """The purpose of the job. Default train."""
    @property
    def lr_range(self) -> LrRange:
        """The learning rates that a job in the mode `lr_range` goes through."""
    @property
    def program(self) -> Program:
        """A program of the user's own, in place of everything that concerns a model: with it
        `seed`, `model`, `data`, `training`, `optimizer`, `checkpoint`, `logging`, `warm_start`,
        `loss`, `schedule`, `metrics`, `mode`, `lr_range` and `output.predictions` are left out."""
    @property
    def after(self) -> RepeatedCompositeFieldContainer[Dependency]:
        """Other jobs that have to end before this one is started for the first time. Until then it
        waits in the queue, counts for `jobs.max_queued`, and holds back nobody. An end is recorded
        once, whatever becomes of the other job afterwards; one that is not as wished ends this job
        as `dependency_failed`. Default none. At most 64 entries."""
    @property
    def scale(self) -> Scale:
        """Ranks on other machines. Absent: the job runs on this one."""
    def __init__(self, *, display_name: str | None = ..., seed: int | None = ..., model: Model | Mapping[str, object] | None = ..., data: Data | Mapping[str, object] | None = ..., training: Training | Mapping[str, object] | None = ..., optimizer: Optimizer | Mapping[str, object] | None = ..., checkpoint: Checkpoint | Mapping[str, object] | None = ..., logging: Logging | Mapping[str, object] | None = ..., resources: Resources | Mapping[str, object] | None = ..., max_duration: Duration | Mapping[str, object] | None = ..., labels: Mapping[str, str] | None = ..., retry: Retry | Mapping[str, object] | None = ..., priority: int | None = ..., ttl_after_end: Duration | Mapping[str, object] | None = ..., warm_start: WarmStart | Mapping[str, object] | None = ..., on_storage_failure: int | str | None = ..., output: Output | Mapping[str, object] | None = ..., loss: Loss | Mapping[str, object] | None = ..., schedule: Schedule | Mapping[str, object] | None = ..., metrics: Iterable[str] | None = ..., mode: int | str | None = ..., lr_range: LrRange | Mapping[str, object] | None = ..., program: Program | Mapping[str, object] | None = ..., after: Iterable[Dependency] | None = ..., scale: Scale | Mapping[str, object] | None = ...) -> None: ...

class Scale(Message):
    """Ranks on other machines, which an engine places there. A launcher of that engine has to be
    attached; until then the job waits. It takes no slot of this machine. The numbers of a job
    depend on `training.shards` and not on the number of ranks. With `resources.device` cuda each
    rank has a GPU of its machine, which its engine names; else it computes on the CPU."""
    engine: int
    """The engine. Required."""
    world_size: int
    """Ranks, 1 to 64. It divides `training.shards`, whose default it is. Required."""
    min_world_size: int
    """The fewest ranks with which an attempt begins, where the engine has no room for more: each
    attempt has as many as there is room for that divide `training.shards`. Default `world_size`."""
    @property
    def join_timeout(self) -> Duration:
        """An attempt fails whose ranks have not all joined after this time, from a second to a day.
        Default 10 minutes."""
    storage: str
    """A folder below output.mirror_roots of the settings that the machines of the ranks have at the
    same path, such as a volume or NFS, for ranks that have no route to the daemon: their calls go
    through files in it. Default none: ranks call the daemon. At most 4,096 bytes."""
    def __init__(self, *, engine: int | str | None = ..., world_size: int | None = ..., min_world_size: int | None = ..., join_timeout: Duration | Mapping[str, object] | None = ..., storage: str | None = ...) -> None: ...

class Dependency(Message):
    """A job that another one waits for."""
    job: str
    """The job, `jobs/{id}`: one that has not ended, or has ended as is wished. Each job once.
    Required. At most 256 bytes."""
    condition: int
    """The end that is wished. Default ended."""
    def __init__(self, *, job: str | None = ..., condition: int | str | None = ...) -> None: ...

class Program(Message):
    """A program of the user's own, such as `python train.py`. It runs code that the client chose,
    so that it has to be allowed by the settings of torchd (`programs.enabled`, `programs.allowed`).
    It finds in its environment:  - `TORCHD_JOB`, the name of the job, and `TORCHD_ATTEMPT`, which
    counts from 1; - `TORCHD_TENSORBOARD_DIR`: the scalars of event files that it writes below this
    folder are those of the job; - `TORCHD_REPORT_FD`: the number of a descriptor for lines of JSON,
    in UTF-8 and at most 64 KiB each, with any of `{"step": 10, "scalars": {"loss/train": 0.3},
    "epoch": 1, "epochs": 3, "progress": 0.1, "checkpoint": "checkpoints/10", "artifact":
    "model.pt", "finished": true}`. `progress` is the share that is done, `checkpoint` the path of
    something that it could go on from, and `artifact` that of a result, both below its own folder;
    - `TORCHD_CHECKPOINT_DIR`, a folder for checkpoints, and, where an earlier attempt has told of a
    checkpoint, `TORCHD_RESUME_FROM`, the path of the last one; - where it waited for other jobs,
    `TORCHD_AFTER_DIRS`, their folders in the order of `after`, with colons between them; it may
    read `artifacts`, `checkpoints` and `program/checkpoints` in each; - `CUDA_VISIBLE_DEVICES` with
    the GPU that it holds, or nothing, and `OMP_NUM_THREADS` with its CPU threads; - `HOME` and
    `TMPDIR` in its own folder, `jobs/<id>/program`, which survives from one attempt to the next and
    is the only place where it may write.  SIGTERM asks it to save and to leave. Exit code 0 means
    that it has finished, unless it was asked to stop and has not told `finished`: then the job is
    paused, or goes back to the queue."""
    @property
    def command(self) -> RepeatedScalarFieldContainer[str]:
        """The program and its arguments, 1 to 1024, with at most 128 KiB. The program is an
        absolute path, a path from `working_dir`, or a name, which is looked for in the PATH of
        `env`, else in that of torchd. Each has at most 16,384 bytes. At most 1,024 entries."""
    working_dir: str
    """The folder to start it in, below a data root. Default: its own folder. At most 4,096
    bytes."""
    @property
    def env(self) -> MutableMapping[str, str]:
        """Variables of its environment besides those above, with at most 128 KiB. Names that begin
        with TORCHD_, and CUDA_VISIBLE_DEVICES, are torchd's, but for TORCHD_ARRAY_INDEX, by which
        clients tell the jobs of an array apart. At most 256 entries. Names have at most 256 bytes,
        values at most 4096."""
    @property
    def report(self) -> ProgramReport:
        """How it reports."""
    def __init__(self, *, command: Iterable[str] | None = ..., working_dir: str | None = ..., env: Mapping[str, str] | None = ..., report: ProgramReport | Mapping[str, object] | None = ...) -> None: ...

class ProgramReport(Message):
    """How a program reports."""
    tensorboard: bool
    """Take the scalars of event files below `$TORCHD_TENSORBOARD_DIR`. Default true."""
    def __init__(self, *, tensorboard: bool | None = ...) -> None: ...

class LrRange(Message):
    """The learning rates of a job that looks for one: they grow by the same factor from step to
    step."""
    lowest: float
    """The first, above 0. Default 1e-7."""
    highest: float
    """The last, above the first. Default 10."""
    steps: int
    """Steps, 2 to 100,000. Default 100."""
    def __init__(self, *, lowest: float | None = ..., highest: float | None = ..., steps: int | None = ...) -> None: ...

class Retry(Message):
    """The reaction to a failure of a runner. A restart begins from the last good checkpoint. A
    failure that would repeat is not retried: bad_data, diverged, start_failed, max_duration, and a
    second out_of_memory in a row. Interruptions cost no restart."""
    max_restarts: int
    """Restarts after failures, at most 100. Default 0."""
    @property
    def initial_backoff(self) -> Duration:
        """Time before the first restart; each further one waits twice as long. Default 10s."""
    @property
    def max_backoff(self) -> Duration:
        """The longest such time. Default 5 minutes."""
    @property
    def stall_timeout(self) -> Duration:
        """A runner that tells nothing for so long is killed, and the attempt ends as `stalled`.
        While it loads, before it trains, it has ten times as long. At least 1 s. Absent: never."""
    @property
    def also_on(self) -> RepeatedScalarFieldContainer[int]:
        """Restart for these reasons too. At most 64 entries."""
    @property
    def never_on(self) -> RepeatedScalarFieldContainer[int]:
        """Never restart for these. At most 64 entries."""
    def __init__(self, *, max_restarts: int | None = ..., initial_backoff: Duration | Mapping[str, object] | None = ..., max_backoff: Duration | Mapping[str, object] | None = ..., stall_timeout: Duration | Mapping[str, object] | None = ..., also_on: Iterable[int] | None = ..., never_on: Iterable[int] | None = ...) -> None: ...

class WarmStart(Message):
    """Weights to begin with. Names, shapes and types have to be those of the model."""
    checkpoint: str
    """A checkpoint of another job, `jobs/{id}/checkpoints/step-{step}`, or `jobs/{id}` for its
    result, or else its newest checkpoint. What it names may be deleted once the job is taken. At
    most 256 bytes."""
    file: str
    """A file of weights with PyTorch's names, as safetensors or as a .pt file of torch.save, or the
    folder of a checkpoint. Of a .pt file that holds more than a state dict, the one under a usual
    key such as "state_dict" or "model" is taken. Nothing in the file is executed. A relative path
    is looked up under the data roots. At most 4,096 bytes."""
    resume: bool
    """Go on with the optimizer's state and from the step of that checkpoint, as its own job would,
    instead of taking its weights alone. Refused where the data are known to be others than those
    that it was made with: by the number of examples, and of files with the same paths by their
    sizes and contents."""
    strict: bool
    """Whether the file has to have every tensor of the model, and no other. Without it, what is
    missing keeps its initial values, and what is too much is left out; shapes and types have to be
    right all the same. Default: true."""
    @property
    def rename(self) -> RepeatedCompositeFieldContainer[Rename]:
        """Rules by which names in the file become names in the model: the first one whose prefix a
        name has replaces that prefix. At most 64 entries."""
    @property
    def only(self) -> RepeatedScalarFieldContainer[str]:
        """Take only these tensors of the model, by patterns of their names in which "*" stands for
        any text, such as "encoder.*"; the others keep their initial values. Empty: all. At most 64
        entries. Each has at most 256 bytes."""
    def __init__(self, *, checkpoint: str | None = ..., file: str | None = ..., resume: bool | None = ..., strict: bool | None = ..., rename: Iterable[Rename] | None = ..., only: Iterable[str] | None = ...) -> None: ...

class Rename(Message):
    """A prefix of names in a file of weights, and what stands there instead in the model: "module."
    and "" drop what DataParallel has put there."""
    prefix: str
    """In the file; empty for the beginning of every name. At most 256 bytes."""
    name: str
    """In the model; empty to drop the prefix. At most 256 bytes."""
    def __init__(self, *, prefix: str | None = ..., name: str | None = ...) -> None: ...

class Output(Message):
    """Where results go besides the job's folder."""
    mirror: str
    """A folder that outlives the machine, such as /Volumes/main/default/runs: an absolute path
    under one of the daemon's `output.mirror_roots`. Closed checkpoints, event files, results and
    the end of the job are copied to `{mirror}/{id}/`. Empty: nowhere. At most 4,096 bytes."""
    predictions: int
    """The format of the answers of a job in the mode `predict`. Default csv."""
    def __init__(self, *, mirror: str | None = ..., predictions: int | str | None = ...) -> None: ...

class Model(Message):
    """A network, by family."""
    @property
    def mnist_cnn(self) -> MnistCnn:
        """Two convolutions and two linear layers for 28x28 grey images in ten classes."""
    @property
    def mlp(self) -> Mlp:
        """Linear layers one behind the other, for inputs of any shape."""
    @property
    def exported(self) -> ExportedModel:
        """A model that PyTorch exported."""
    @property
    def torchscript(self) -> TorchScriptModel:
        """A TorchScript module."""
    @property
    def sequential(self) -> Sequential:
        """Layers of torch.nn in a row."""
    @property
    def linear(self) -> LinearModel:
        """A single linear layer: linear and logistic regression."""
    @property
    def resnet(self) -> ResNet:
        """A residual network for images."""
    @property
    def vit(self) -> VisionTransformer:
        """A Vision Transformer."""
    @property
    def gpt(self) -> Gpt:
        """A decoder-only transformer for tokens."""
    def __init__(self, *, mnist_cnn: MnistCnn | Mapping[str, object] | None = ..., mlp: Mlp | Mapping[str, object] | None = ..., exported: ExportedModel | Mapping[str, object] | None = ..., torchscript: TorchScriptModel | Mapping[str, object] | None = ..., sequential: Sequential | Mapping[str, object] | None = ..., linear: LinearModel | Mapping[str, object] | None = ..., resnet: ResNet | Mapping[str, object] | None = ..., vit: VisionTransformer | Mapping[str, object] | None = ..., gpt: Gpt | Mapping[str, object] | None = ...) -> None: ...

class MnistCnn(Message):
    """The network of the single-node PyTorch notebook: conv 10@5x5, max-pool 2, relu, conv 20@5x5,
    dropout2d, max-pool 2, relu, linear 320 to 50, relu, dropout, linear 50 to 10, log-softmax.
    21,840 parameters named conv1.weight [10,1,5,5], conv1.bias [10], conv2.weight [20,10,5,5],
    conv2.bias [20], fc1.weight [50,320], fc1.bias [50], fc2.weight [10,50], fc2.bias [10]. Its loss
    is the negative log-likelihood."""
    dropout: float
    """Probability of both dropouts, at least 0 and below 1. Default 0.5."""
    def __init__(self, *, dropout: float | None = ...) -> None: ...

class Mlp(Message):
    """A multilayer perceptron: all values of an example in a row, then for each hidden layer
    linear, activation, dropout, then a last linear layer. Parameters are named as in a
    torch.nn.Sequential of these modules: 0.weight [hidden, inputs], 0.bias, 3.weight and so on."""
    @property
    def hidden(self) -> RepeatedScalarFieldContainer[int]:
        """Outputs of the hidden layers, each at least 1. None makes a single linear layer. At most
        64 entries."""
    activation: int
    """The function after each hidden layer. Default relu."""
    dropout: float
    """Probability of the dropout behind each activation, at least 0 and below 1. Default 0."""
    outputs: int
    """Outputs of the network, at least 1. Default: as many as the target has classes, or
    numbers."""
    def __init__(self, *, hidden: Iterable[int] | None = ..., activation: int | str | None = ..., dropout: float | None = ..., outputs: int | None = ...) -> None: ...

class ExportedModel(Message):
    """A model that PyTorch 2.7 or later exported with torch.export: its graphs are trained without
    Python, and begin with the weights in the archive. The files are copied to the job's folder, so
    that they may be deleted once the job is taken. Inputs are matched with the arguments of the
    module by their names where all names are among the data, which may have more arrays, else in
    their order. A module that returns one tensor gets the job's loss and metrics. One that returns
    its loss, or its loss and a dictionary of metrics, may take the target as an argument besides;
    its loss counts as a mean over the examples of a batch, and `loss` and `metrics` of the spec are
    left out."""
    path: str
    """The .pt2 archive: one with the graphs `train` and `eval`, as torchd_export.export writes it,
    or one of torch.export.save with the graph of a module in training mode. A relative path is
    looked up under the data roots. Required. At most 4,096 bytes."""
    eval_path: str
    """The archive with the graph of the module in evaluation mode, where `path` has none. Without
    any there is no validation. At most 4,096 bytes."""
    def __init__(self, *, path: str | None = ..., eval_path: str | None = ...) -> None: ...

class Sequential(Message):
    """Layers in a row, as in torch.nn.Sequential, for one input. Parameters are named as there:
    0.weight, 0.bias and so on."""
    @property
    def layers(self) -> RepeatedCompositeFieldContainer[Layer]:
        """The layers, at least one. The last linear layer may leave out `out_features`, and has
        then as many as the target has classes, or numbers. At most 256 entries."""
    def __init__(self, *, layers: Iterable[Layer] | None = ...) -> None: ...

class LinearModel(Message):
    """A torch.nn.Linear over all values of an example in a row, with the parameters weight
    [outputs, inputs] and bias: linear regression with the loss mse, logistic regression with
    cross_entropy."""
    outputs: int
    """Outputs, at least 1. Default: as many as the target has classes, or numbers."""
    def __init__(self, *, outputs: int | None = ...) -> None: ...

class ResNet(Message):
    """torchvision.models.resnet18, 34 or 50: the same names, computation and initial distributions.
    The input has the shape [channels, height, width]."""
    depth: int
    """18, 34 or 50. Required."""
    stem: int
    """The beginning of the network. Default imagenet."""
    outputs: int
    """Outputs, at least 1. Default: as many as the target has classes, or numbers."""
    def __init__(self, *, depth: int | None = ..., stem: int | str | None = ..., outputs: int | None = ...) -> None: ...

class VisionTransformer(Message):
    """torchvision.models.VisionTransformer: the same names, computation and initial distributions.
    The input has the shape [channels, size, size]."""
    patch: int
    """Height and width of a patch, at least 1; a divisor of the size of the images. Required."""
    layers: int
    """Encoder layers, 1 to 256. Required."""
    heads: int
    """Heads of attention, at least 1; a divisor of the width. Required."""
    width: int
    """Numbers for each patch, at least 1. Required."""
    mlp_width: int
    """Numbers in the middle of the perceptron of a layer, at least 1. Default: four times the
    width."""
    dropout: float
    """Probability of each dropout, at least 0 and below 1. There is none within the attention.
    Default 0."""
    outputs: int
    """Outputs, at least 1. Default: as many as the target has classes, or numbers."""
    def __init__(self, *, patch: int | None = ..., layers: int | None = ..., heads: int | None = ..., width: int | None = ..., mlp_width: int | None = ..., dropout: float | None = ..., outputs: int | None = ...) -> None: ...

class Gpt(Message):
    """A decoder-only transformer, after GPT-2: learned positions, normalisation before attention
    and perceptron, exact GELU, and a head tied with the embedding. Takes tokens [T] as 64-bit
    integers and gives scores [T, vocabulary]. Parameters are named transformer.wte.weight,
    transformer.wpe.weight, transformer.h.0.ln_1.weight, transformer.h.0.attn.c_attn.weight,
    transformer.h.0.attn.c_proj.weight, transformer.h.0.ln_2.weight,
    transformer.h.0.mlp.c_fc.weight, transformer.h.0.mlp.c_proj.weight, transformer.ln_f.weight,
    with biases besides, and lm_head.weight. Weights of linear layers are [outputs, inputs]."""
    layers: int
    """Layers, 1 to 256. Required."""
    heads: int
    """Heads of attention, at least 1; a divisor of the width. Required."""
    width: int
    """Numbers for each token, at least 1. Required."""
    context: int
    """Positions, at least as many as an example has tokens. Default: as many."""
    dropout: float
    """Probability of each dropout, that within the attention too; at least 0 and below 1. Default
    0."""
    vocabulary: int
    """Tokens that are told apart, at least 1. Default: the highest token of the training set, in
    inputs and target, and one."""
    def __init__(self, *, layers: int | None = ..., heads: int | None = ..., width: int | None = ..., context: int | None = ..., dropout: float | None = ..., vocabulary: int | None = ...) -> None: ...

class Layer(Message):
    """A layer, by its name in torch.nn. The sizes of its input follow from the layer before. Shapes
    in comments are those of one example."""
    @property
    def linear(self) -> LinearLayer:
        """torch.nn.Linear, of [..., features]."""
    @property
    def conv1d(self) -> Convolution:
        """torch.nn.Conv1d, of [channels, length]."""
    @property
    def conv2d(self) -> Convolution:
        """torch.nn.Conv2d, of [channels, height, width]."""
    @property
    def batch_norm1d(self) -> BatchNorm:
        """torch.nn.BatchNorm1d, of [channels] or [channels, length]."""
    @property
    def batch_norm2d(self) -> BatchNorm:
        """torch.nn.BatchNorm2d, of [channels, height, width]."""
    @property
    def layer_norm(self) -> LayerNorm:
        """torch.nn.LayerNorm over the last dimension."""
    @property
    def group_norm(self) -> GroupNorm:
        """torch.nn.GroupNorm, of [channels, ...]."""
    @property
    def embedding(self) -> Embedding:
        """torch.nn.Embedding, of tokens of any shape."""
    @property
    def relu(self) -> NoSettings:
        """torch.nn.ReLU."""
    @property
    def leaky_relu(self) -> LeakyRelu:
        """torch.nn.LeakyReLU."""
    @property
    def elu(self) -> Elu:
        """torch.nn.ELU."""
    @property
    def gelu(self) -> Gelu:
        """torch.nn.GELU."""
    @property
    def silu(self) -> NoSettings:
        """torch.nn.SiLU."""
    @property
    def tanh(self) -> NoSettings:
        """torch.nn.Tanh."""
    @property
    def sigmoid(self) -> NoSettings:
        """torch.nn.Sigmoid."""
    @property
    def softmax(self) -> Softmax:
        """torch.nn.Softmax."""
    @property
    def log_softmax(self) -> Softmax:
        """torch.nn.LogSoftmax."""
    @property
    def max_pool1d(self) -> MaxPool:
        """torch.nn.MaxPool1d, of [channels, length]."""
    @property
    def max_pool2d(self) -> MaxPool:
        """torch.nn.MaxPool2d, of [channels, height, width]."""
    @property
    def avg_pool2d(self) -> AvgPool:
        """torch.nn.AvgPool2d, of [channels, height, width]."""
    @property
    def adaptive_avg_pool2d(self) -> AdaptiveAvgPool:
        """torch.nn.AdaptiveAvgPool2d, of [channels, height, width]."""
    @property
    def dropout(self) -> Dropout:
        """torch.nn.Dropout."""
    @property
    def dropout2d(self) -> Dropout:
        """torch.nn.Dropout2d, of [channels, height, width]."""
    @property
    def flatten(self) -> Flatten:
        """torch.nn.Flatten."""
    @property
    def transformer_encoder_layer(self) -> TransformerEncoderLayer:
        """torch.nn.TransformerEncoderLayer with batch_first, of [tokens, numbers]."""
    def __init__(self, *, linear: LinearLayer | Mapping[str, object] | None = ..., conv1d: Convolution | Mapping[str, object] | None = ..., conv2d: Convolution | Mapping[str, object] | None = ..., batch_norm1d: BatchNorm | Mapping[str, object] | None = ..., batch_norm2d: BatchNorm | Mapping[str, object] | None = ..., layer_norm: LayerNorm | Mapping[str, object] | None = ..., group_norm: GroupNorm | Mapping[str, object] | None = ..., embedding: Embedding | Mapping[str, object] | None = ..., relu: NoSettings | Mapping[str, object] | None = ..., leaky_relu: LeakyRelu | Mapping[str, object] | None = ..., elu: Elu | Mapping[str, object] | None = ..., gelu: Gelu | Mapping[str, object] | None = ..., silu: NoSettings | Mapping[str, object] | None = ..., tanh: NoSettings | Mapping[str, object] | None = ..., sigmoid: NoSettings | Mapping[str, object] | None = ..., softmax: Softmax | Mapping[str, object] | None = ..., log_softmax: Softmax | Mapping[str, object] | None = ..., max_pool1d: MaxPool | Mapping[str, object] | None = ..., max_pool2d: MaxPool | Mapping[str, object] | None = ..., avg_pool2d: AvgPool | Mapping[str, object] | None = ..., adaptive_avg_pool2d: AdaptiveAvgPool | Mapping[str, object] | None = ..., dropout: Dropout | Mapping[str, object] | None = ..., dropout2d: Dropout | Mapping[str, object] | None = ..., flatten: Flatten | Mapping[str, object] | None = ..., transformer_encoder_layer: TransformerEncoderLayer | Mapping[str, object] | None = ...) -> None: ...

class NoSettings(Message):
    """A layer without settings."""
    def __init__(self) -> None: ...

class LinearLayer(Message):
    """torch.nn.Linear."""
    out_features: int
    """At least 1. Default, for the last linear layer alone: as many as the target needs."""
    bias: bool
    """Default true."""
    def __init__(self, *, out_features: int | None = ..., bias: bool | None = ...) -> None: ...

class Convolution(Message):
    """torch.nn.Conv1d and Conv2d, with the same numbers in each direction."""
    out_channels: int
    """At least 1. Required."""
    kernel_size: int
    """At least 1. Required."""
    stride: int
    """At least 1. Default 1."""
    padding: int
    """Zeros at each edge. Default 0."""
    dilation: int
    """At least 1. Default 1."""
    groups: int
    """A divisor of the channels that come in and of `out_channels`. Default 1."""
    bias: bool
    """Default true."""
    def __init__(self, *, out_channels: int | None = ..., kernel_size: int | None = ..., stride: int | None = ..., padding: int | None = ..., dilation: int | None = ..., groups: int | None = ..., bias: bool | None = ...) -> None: ...

class BatchNorm(Message):
    """torch.nn.BatchNorm1d and BatchNorm2d, with running statistics."""
    eps: float
    """Above 0. Default 1e-5."""
    momentum: float
    """Share of a batch in the running statistics, 0 to 1. Default 0.1."""
    affine: bool
    """Whether there are weight and bias. Default true."""
    def __init__(self, *, eps: float | None = ..., momentum: float | None = ..., affine: bool | None = ...) -> None: ...

class LayerNorm(Message):
    """torch.nn.LayerNorm."""
    eps: float
    """Above 0. Default 1e-5."""
    elementwise_affine: bool
    """Whether there are weight and bias. Default true."""
    def __init__(self, *, eps: float | None = ..., elementwise_affine: bool | None = ...) -> None: ...

class GroupNorm(Message):
    """torch.nn.GroupNorm."""
    num_groups: int
    """A divisor of the channels. Required."""
    eps: float
    """Above 0. Default 1e-5."""
    affine: bool
    """Whether there are weight and bias. Default true."""
    def __init__(self, *, num_groups: int | None = ..., eps: float | None = ..., affine: bool | None = ...) -> None: ...

class Embedding(Message):
    """torch.nn.Embedding."""
    num_embeddings: int
    """Tokens that are told apart: 0 to one less than this. At least 1. Required."""
    embedding_dim: int
    """Numbers for each token, at least 1. Required."""
    def __init__(self, *, num_embeddings: int | None = ..., embedding_dim: int | None = ...) -> None: ...

class LeakyRelu(Message):
    """torch.nn.LeakyReLU."""
    negative_slope: float
    """Finite, at least 0. Default 0.01."""
    def __init__(self, *, negative_slope: float | None = ...) -> None: ...

class Elu(Message):
    """torch.nn.ELU."""
    alpha: float
    """Finite, at least 0. Default 1."""
    def __init__(self, *, alpha: float | None = ...) -> None: ...

class Gelu(Message):
    """torch.nn.GELU."""
    approximate: str
    """"none" or "tanh". Default none. At most 256 bytes."""
    def __init__(self, *, approximate: str | None = ...) -> None: ...

class Softmax(Message):
    """torch.nn.Softmax and LogSoftmax."""
    dim: int
    """The dimension, where 0 is that of the examples; from the last one where negative. Default
    1."""
    def __init__(self, *, dim: int | None = ...) -> None: ...

class MaxPool(Message):
    """torch.nn.MaxPool1d and MaxPool2d, with the same numbers in each direction."""
    kernel_size: int
    """At least 1. Required."""
    stride: int
    """At least 1. Default: the kernel's size."""
    padding: int
    """At each edge, at most half of the kernel's size. Default 0."""
    dilation: int
    """At least 1. Default 1."""
    def __init__(self, *, kernel_size: int | None = ..., stride: int | None = ..., padding: int | None = ..., dilation: int | None = ...) -> None: ...

class AvgPool(Message):
    """torch.nn.AvgPool2d, with the same numbers in each direction."""
    kernel_size: int
    """At least 1. Required."""
    stride: int
    """At least 1. Default: the kernel's size."""
    padding: int
    """Zeros at each edge, at most half of the kernel's size. Default 0."""
    count_include_pad: bool
    """Whether these count in the mean. Default true."""
    def __init__(self, *, kernel_size: int | None = ..., stride: int | None = ..., padding: int | None = ..., count_include_pad: bool | None = ...) -> None: ...

class AdaptiveAvgPool(Message):
    """torch.nn.AdaptiveAvgPool2d."""
    output_size: int
    """Height and width that come out, at least 1. Default 1."""
    def __init__(self, *, output_size: int | None = ...) -> None: ...

class Dropout(Message):
    """torch.nn.Dropout and Dropout2d."""
    p: float
    """Probability, at least 0 and below 1. Default 0.5."""
    def __init__(self, *, p: float | None = ...) -> None: ...

class Flatten(Message):
    """torch.nn.Flatten."""
    start_dim: int
    """The first dimension, where 0 is that of the examples; from the last one where negative.
    Default 1."""
    end_dim: int
    """The last dimension, likewise. Default -1."""
    def __init__(self, *, start_dim: int | None = ..., end_dim: int | None = ...) -> None: ...

class TransformerEncoderLayer(Message):
    """torch.nn.TransformerEncoderLayer with batch_first."""
    nhead: int
    """Heads of attention, at least 1; a divisor of the numbers of a token. Required."""
    dim_feedforward: int
    """Numbers in the middle of the perceptron, at least 1. Default 2048."""
    dropout: float
    """Probability of each dropout, that within the attention too; at least 0 and below 1. Default
    0.1."""
    activation: int
    """relu or gelu. Default relu."""
    layer_norm_eps: float
    """Above 0. Default 1e-5."""
    norm_first: bool
    """Normalise before attention and perceptron, not behind them. Default false."""
    def __init__(self, *, nhead: int | None = ..., dim_feedforward: int | None = ..., dropout: float | None = ..., activation: int | str | None = ..., layer_norm_eps: float | None = ..., norm_first: bool | None = ...) -> None: ...

class TorchScriptModel(Message):
    """A TorchScript module, as torch.jit.script(module).save(PATH) writes it, with the weights in
    it. It is code, and runs in the job's confined runner alone: mistakes in it are told when the
    job begins, or by a dry run of `ValidateJob`. The file is copied to the job's folder, so that it
    may be deleted once the job is taken. Its arguments are the inputs of the data in their order.
    The result is saved as `model.ts`, which torch.jit.load reads, besides the weights."""
    path: str
    """The archive. A relative path is looked up under the data roots. Required. At most 4,096
    bytes."""
    training_step: bool
    """Call the module's method `training_step` in place of `forward`: it takes the inputs and then
    the target, and returns its loss, or its loss and a dictionary of metrics. The loss counts as a
    mean over the examples of a batch, and `loss` and `metrics` of the spec are left out. Default
    false: `forward` returns one tensor, which gets the job's loss and metrics."""
    def __init__(self, *, path: str | None = ..., training_step: bool | None = ...) -> None: ...

class Data(Message):
    """The examples of a job."""
    @property
    def train(self) -> Dataset:
        """Examples to learn from. Required, but in the modes `evaluate` and `predict`."""
    @property
    def validation(self) -> Dataset:
        """Examples to judge by, after each epoch. Without them there is no validation pass."""
    @property
    def normalize(self) -> Normalize:
        """How values of 0 to 1 become inputs."""
    shuffle: bool
    """Draw the training examples in a new order each epoch. Default true."""
    @property
    def split(self) -> Split:
        """Hold examples of `train` out to judge by, in place of `validation`."""
    limit: int
    """Take at most so many examples of each set, drawn at random and always the same, for a quick
    try. At least 1; a split divides the rest. Default all."""
    @property
    def test(self) -> Dataset:
        """Examples to use a model on, in the modes `evaluate` and `predict`, in which nothing else
        of this section but `normalize` has a meaning. Where `warm_start.checkpoint` names a job, a
        table takes the target and its type, the features, the categories and the treatment of
        missing values from that job, each where its section names none; but no row is dropped
        unless this section says so, since every row gets an answer."""
    @property
    def augment(self) -> RepeatedCompositeFieldContainer[Augment]:
        """Random changes of the training examples, in this order, drawn anew at each step. They
        come after scaling and normalisation, and go for no other set. At most 16 entries."""
    @property
    def sampling(self) -> Sampling:
        """Draw training examples in other shares than the files have. Default: each once in an
        epoch."""
    def __init__(self, *, train: Dataset | Mapping[str, object] | None = ..., validation: Dataset | Mapping[str, object] | None = ..., normalize: Normalize | Mapping[str, object] | None = ..., shuffle: bool | None = ..., split: Split | Mapping[str, object] | None = ..., limit: int | None = ..., test: Dataset | Mapping[str, object] | None = ..., augment: Iterable[Augment] | None = ..., sampling: Sampling | Mapping[str, object] | None = ...) -> None: ...

class Sampling(Message):
    """How often training examples are drawn. An epoch has as many draws as there are training
    examples; they are made with replacement, as torch.utils.data.WeightedRandomSampler makes them,
    and are a function of the seed of the job and the epoch. For sets that fit into memory, and with
    `shuffle`."""
    weights: str
    """In proportion to the numbers of this array of a safetensors file or a NumPy archive, one for
    each example: finite, at least 0, and not all 0. The array is no input of the network, unless
    `inputs` names it. At most 256 bytes."""
    balance_classes: bool
    """Every class equally often on average, whatever the share that it has of the examples. For a
    target that is one class an example. True."""
    def __init__(self, *, weights: str | None = ..., balance_classes: bool | None = ...) -> None: ...

class Augment(Message):
    """A random change of the examples of a training batch. What is drawn is a function of the seed
    of the job, the step and the place in the list. Images are inputs of [channels, height, width];
    a change of images needs exactly one such input."""
    @property
    def crop(self) -> Crop:
        """Images are moved within a frame."""
    @property
    def flip(self) -> Flip:
        """Images are mirrored."""
    @property
    def erase(self) -> Erase:
        """A rectangle of an image is overwritten."""
    @property
    def mix_up(self) -> MixUp:
        """Examples are mixed with others of the batch."""
    @property
    def cut_mix(self) -> CutMix:
        """Rectangles of images are exchanged with those of others of the batch."""
    @property
    def noise(self) -> Noise:
        """Normal noise is added to all inputs that are numbers."""
    def __init__(self, *, crop: Crop | Mapping[str, object] | None = ..., flip: Flip | Mapping[str, object] | None = ..., erase: Erase | Mapping[str, object] | None = ..., mix_up: MixUp | Mapping[str, object] | None = ..., cut_mix: CutMix | Mapping[str, object] | None = ..., noise: Noise | Mapping[str, object] | None = ...) -> None: ...

class Crop(Message):
    """Pads images on all sides and cuts a part of their size out at a random place, as
    torchvision's RandomCrop(size, padding). Not for targets that are images themselves, which would
    not move with them."""
    padding: int
    """Pixels on each side. At least 1 and less than the height and the width of the images.
    Required."""
    fill: float
    """Value of the pixels that are padded, before normalisation: 0 to 1 for pixels of bytes, from
    black to white. Default 0."""
    def __init__(self, *, padding: int | None = ..., fill: float | None = ...) -> None: ...

class Flip(Message):
    """Mirrors images, as torchvision's RandomHorizontalFlip. Not for targets that are images
    themselves, which would not be mirrored with them."""
    p: float
    """The probability for each image: 0 to 1. Default 0.5."""
    vertical: bool
    """Top to bottom, as RandomVerticalFlip, in place of left to right."""
    def __init__(self, *, p: float | None = ..., vertical: bool | None = ...) -> None: ...

class Erase(Message):
    """Overwrites a rectangle of each image, as torchvision's RandomErasing. Ten sizes are drawn,
    and the first one that is smaller than the image in both directions is taken; where none is, the
    image stays as it is."""
    p: float
    """The probability for each image: 0 to 1. Default 0.5."""
    min_area: float
    """The smallest share of the image that the rectangle takes: above 0 and at most 1. Default
    0.02."""
    max_area: float
    """The largest one: at least `min_area` and at most 1. Default 0.33."""
    min_ratio: float
    """The smallest ratio of its height to its width: above 0. Default 0.3."""
    max_ratio: float
    """The largest one: at least `min_ratio`. Default 3.3."""
    value: float
    """Value of its pixels, after normalisation: 0 is the mean of normalised images. Default 0."""
    def __init__(self, *, p: float | None = ..., min_area: float | None = ..., max_area: float | None = ..., min_ratio: float | None = ..., max_ratio: float | None = ..., value: float | None = ...) -> None: ...

class MixUp(Message):
    """Mixes each example with a partner, by a random permutation of the batch, as mixup (Zhang et
    al. 2018): a share that is drawn for the batch from Beta(alpha, alpha) goes to the example, the
    rest to its partner. The loss is the sum of those for both targets, by the same shares; metrics
    of training compare with the target of the larger share. For classes or labels; one change of a
    list may mix at most."""
    alpha: float
    """Parameter of the distribution: 0.001 to 1000. Small ones make most shares nearly 0 or 1.
    Default 1."""
    def __init__(self, *, alpha: float | None = ...) -> None: ...

class CutMix(Message):
    """Replaces a rectangle of each image, the same for the whole batch, by that of another one of
    the batch, as CutMix (Yun et al. 2019) in torchvision. The loss is the sum of those for both
    targets by the shares of the area, metrics of training compare with the target of the larger
    share. For one input and classes or labels; one change of a list may mix at most."""
    alpha: float
    """The share that stays is drawn from Beta(alpha, alpha): 0.001 to 1000. Default 1."""
    def __init__(self, *, alpha: float | None = ...) -> None: ...

class Noise(Message):
    """Adds normal noise to all inputs that are numbers. Classes and tokens stay as they are."""
    std: float
    """Standard deviation, after normalisation: above 0. Required."""
    def __init__(self, *, std: float | None = ...) -> None: ...

class Split(Message):
    """The examples that are held out for validation. The seed of the job does not change them, so
    that jobs can be compared."""
    fraction: float
    """This share of the examples, drawn at random. Above 0 and below 1."""
    column: str
    """For tables: the examples for which this column says `validation`. For the others it says
    `train`, or `test`, which leaves them out. At most 256 bytes."""
    seed: int
    """Seed of the draw. Default 0."""
    stratify: bool
    """Hold the same share of each class out, as far as whole examples allow."""
    def __init__(self, *, fraction: float | None = ..., column: str | None = ..., seed: int | None = ..., stratify: bool | None = ...) -> None: ...

class Dataset(Message):
    """Examples in files. Relative paths are looked up under the data roots of the daemon's
    settings, in their order; nothing outside of them is read."""
    @property
    def idx(self) -> IdxDataset:
        """Pairs of IDX files, as MNIST has them."""
    @property
    def safetensors(self) -> SafetensorsDataset:
        """Named arrays in safetensors files."""
    @property
    def csv(self) -> CsvDataset:
        """Tables in delimited text: CSV, TSV."""
    @property
    def parquet(self) -> ParquetDataset:
        """Tables in Parquet files."""
    @property
    def npy(self) -> NpyDataset:
        """Two NumPy arrays, each in a file of its own or in several."""
    @property
    def npz(self) -> NpzDataset:
        """Named NumPy arrays in archives."""
    @property
    def cifar(self) -> CifarDataset:
        """The binary files of CIFAR-10 and CIFAR-100."""
    @property
    def image_folder(self) -> ImageFolderDataset:
        """A folder of JPEG and PNG images, a folder for each class."""
    @property
    def text(self) -> TextDataset:
        """A text for language models."""
    def __init__(self, *, idx: IdxDataset | Mapping[str, object] | None = ..., safetensors: SafetensorsDataset | Mapping[str, object] | None = ..., csv: CsvDataset | Mapping[str, object] | None = ..., parquet: ParquetDataset | Mapping[str, object] | None = ..., npy: NpyDataset | Mapping[str, object] | None = ..., npz: NpzDataset | Mapping[str, object] | None = ..., cifar: CifarDataset | Mapping[str, object] | None = ..., image_folder: ImageFolderDataset | Mapping[str, object] | None = ..., text: TextDataset | Mapping[str, object] | None = ...) -> None: ...

class IdxDataset(Message):
    """Images or rows of numbers and their labels in pairs of IDX files, plain, gzip or Zstandard.
    Several files follow one another in their order: each of inputs needs one of labels at the same
    place, with as many examples."""
    images: str
    """File of inputs, or a pattern of several (`*-images`), which are taken in the order of their
    names. This or `image_paths`. [count, height, width] are grey images and [count, channels,
    height, width] images of several channels: unsigned bytes are pixels, which are scaled to 0..1,
    and other types numbers. [count, numbers] are rows of numbers. Numbers become 32-bit floats,
    64-bit ones are rounded. At most 4,096 bytes."""
    labels: str
    """File of labels, or a pattern of several: 1 dimension, [count]. Integers of any type are
    classes, floats numbers. This or `label_paths`; in the mode `predict` there need be none. At
    most 4,096 bytes."""
    @property
    def image_paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files or patterns of inputs, in this order. At most 64 entries. Each has at most
        4,096 bytes."""
    @property
    def label_paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files or patterns of labels, in this order. At most 64 entries. Each has at most
        4,096 bytes."""
    def __init__(self, *, images: str | None = ..., labels: str | None = ..., image_paths: Iterable[str] | None = ..., label_paths: Iterable[str] | None = ...) -> None: ...

class NpyDataset(Message):
    """Two arrays of NumPy, as np.save writes them (versions 1.0 to 3.0), plain, gzip or Zstandard,
    in either order of bytes and of dimensions. The first dimension of each counts the examples.
    Types become what those of SafetensorsDataset become. Arrays of Python objects are refused:
    nothing of a file is executed. An array may lie in several files, which follow one another in
    their order: they have the same type and the same sizes but for the first. Each file of inputs
    needs one of targets at the same place, with as many examples."""
    input: str
    """File of the array that the network gets, or a pattern of several (`x-*.npy`), which are taken
    in the order of their names. This or `input_paths`. At most 4,096 bytes."""
    target: str
    """The same of the array that it should answer. This or `target_paths`; in the mode `predict`
    there need be none. At most 4,096 bytes."""
    @property
    def input_paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files or patterns of `input`, in this order. At most 64 entries. Each has at most
        4,096 bytes."""
    @property
    def target_paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files or patterns of `target`, in this order. At most 64 entries. Each has at
        most 4,096 bytes."""
    def __init__(self, *, input: str | None = ..., target: str | None = ..., input_paths: Iterable[str] | None = ..., target_paths: Iterable[str] | None = ...) -> None: ...

class NpzDataset(Message):
    """Named arrays in archives, as np.savez and np.savez_compressed write them. Each is like one of
    NpyDataset."""
    path: str
    """The archive, or a pattern of several (`set-*.npz`), which are taken in the order of their
    names. This or `paths`. At most 4,096 bytes."""
    @property
    def inputs(self) -> RepeatedScalarFieldContainer[str]:
        """The arrays that the network gets, in its order. Default: all but the target, by name. At
        most 64 entries. Each has at most 256 bytes."""
    target: str
    """The array that it should answer. Default `y`. It may be among `inputs`. At most 256 bytes."""
    @property
    def paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several archives or patterns, in this order: their examples follow one another. Each has
        the same arrays, alike but for the number of examples. At most 64 entries. Each has at most
        4,096 bytes."""
    def __init__(self, *, path: str | None = ..., inputs: Iterable[str] | None = ..., target: str | None = ..., paths: Iterable[str] | None = ...) -> None: ...

class CifarDataset(Message):
    """The binary version of CIFAR-10 or CIFAR-100: images of 32x32 pixels in three channels, red,
    green and blue. Pixels are scaled to 0..1."""
    @property
    def paths(self) -> RepeatedScalarFieldContainer[str]:
        """The files, in this order. Each may be a pattern (`data_batch_*.bin`), whose files are
        taken in the order of their names. At least 1. At most 64 entries. Each has at most 4,096
        bytes."""
    classes: int
    """10 for CIFAR-10, 100 for the fine labels of CIFAR-100, 20 for its coarse ones. Default 10."""
    def __init__(self, *, paths: Iterable[str] | None = ..., classes: int | None = ...) -> None: ...

class ImageFolderDataset(Message):
    """A folder of images: each folder in it is a class with its name, and the JPEG and PNG files
    below that (.jpg, .jpeg, .png) are its images; or `table` lists them. In the mode `predict` the
    images may lie in the folder itself. Classes are numbered from 0 in the order of their names;
    the result keeps them. Names that begin with a dot are passed over, and so are other files;
    other kinds of images and links are refused. Images are read when they are needed. They are
    turned upright as their EXIF data say; of 16 bits the upper 8 are taken; what is transparent is
    shown over white; CMYK images are refused. Pixels are scaled to 0..1. In the modes `evaluate`
    and `predict` the defaults of size, channels and columns are those of the images that the model
    was trained on."""
    path: str
    """The folder. Required. At most 4,096 bytes."""
    @property
    def size(self) -> RepeatedScalarFieldContainer[int]:
        """Height and width in pixels that every image gets; one number for both. Each at most
        4,096. Images of other sizes are resized, bilinear with antialiasing as Pillow and
        torchvision do it. Default: all images have the same size already. At most 2 entries."""
    channels: int
    """3 for red, green and blue, 1 for grey. Default 3."""
    fit: int
    """How images of another shape become `size`. Default IMAGE_FIT_CROP."""
    @property
    def table(self) -> CsvDataset:
        """Tables that list the images, in place of folders that are classes: a row is an example,
        in this order. A column names its image by the path below `path`, which is no link, ends in
        .jpg, .jpeg or .png, and has no part that begins with a dot. `target` is what to answer:
        words are classes and numbers are numbers, as `target_type` says. The images are the only
        inputs, so that `features`, `ignore`, `categorical` and `inputs` are not set; other columns
        are not read, but for those that divide (`data.split`) or weigh the examples
        (`data.sampling`)."""
    image_column: str
    """The column of `table` that names the images. Default `path`. At most 256 bytes."""
    def __init__(self, *, path: str | None = ..., size: Iterable[int] | None = ..., channels: int | None = ..., fit: int | str | None = ..., table: CsvDataset | Mapping[str, object] | None = ..., image_column: str | None = ...) -> None: ...

class SafetensorsDataset(Message):
    """Named arrays in safetensors files, as safetensors.torch.save_file or
    safetensors.numpy.save_file write them. The first dimension of each counts the examples. Floats
    (F16, BF16, F32, F64) become 32-bit floats, F64 rounded. Integers are classes or tokens and
    become 64-bit integers, but for U8 inputs of the shape [count, height, width] or [count,
    channels, height, width]: those are pixels, scaled to 0..1. Truth values are the numbers 0 and 1
    as inputs, and the classes 0 and 1 as targets."""
    path: str
    """The file, or a pattern of several (`set-*.safetensors`), which are taken in the order of
    their names. This or `paths`. At most 4,096 bytes."""
    @property
    def inputs(self) -> RepeatedScalarFieldContainer[str]:
        """The arrays that the network gets, in its order. Default: all but the target, by name. At
        most 64 entries. Each has at most 256 bytes."""
    target: str
    """The array that it should answer. Default `y`. It may be among `inputs`, as the tokens of a
    text are for the loss next_token. At most 256 bytes."""
    @property
    def paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files or patterns, in this order: their examples follow one another. Each has the
        same arrays, alike but for the number of examples. At most 64 entries. Each has at most
        4,096 bytes."""
    def __init__(self, *, path: str | None = ..., inputs: Iterable[str] | None = ..., target: str | None = ..., paths: Iterable[str] | None = ...) -> None: ...

class CsvDataset(Message):
    """Tables in files of delimited text (RFC 4180), UTF-8, plain, gzip or Zstandard. Lines end with
    a line feed, a carriage return, or both. A field is missing where it is empty, and, unless it is
    in quotes, where it says NA, N/A, n/a, #N/A, `<NA>`, NaN, nan, NULL, null or None."""
    path: str
    """The file, or a pattern of several (`logs/*.csv`), which are taken in the order of their
    names. This or `paths`. At most 4,096 bytes."""
    @property
    def paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files or patterns, in this order. All need the same columns. At most 64 entries.
        Each has at most 4,096 bytes."""
    target: str
    """The column to answer. This or `targets`. At most 256 bytes."""
    @property
    def targets(self) -> RepeatedScalarFieldContainer[str]:
        """Several columns of numbers to answer, such as labels that are each 1 or 0. At most 4,096
        entries. Each has at most 256 bytes."""
    target_type: int
    """The kind of answer. Default: TARGET_TYPE_CLASSES where `target` holds words,
    TARGET_TYPE_NUMBERS where it holds numbers: its first value tells."""
    @property
    def features(self) -> RepeatedScalarFieldContainer[str]:
        """The columns to learn from, in this order. Each holds numbers, unless it is in
        `categorical`. Default: all that have no other role, in the order of the file. At most 4,096
        entries. Each has at most 256 bytes."""
    @property
    def ignore(self) -> RepeatedScalarFieldContainer[str]:
        """Columns that are not read. At most 4,096 entries. Each has at most 256 bytes."""
    @property
    def categorical(self) -> RepeatedScalarFieldContainer[str]:
        """Columns of words or numbers that name a category. The categories are those of the
        training examples, sorted; another one is taken as unknown. At most 4,096 entries. Each has
        at most 256 bytes."""
    @property
    def missing(self) -> RepeatedCompositeFieldContainer[MissingValues]:
        """Rules for missing values. A rule that names a column goes before one that names none.
        Default: they are refused. At most 64 entries."""
    @property
    def inputs(self) -> RepeatedCompositeFieldContainer[TableInput]:
        """The inputs of a network that takes several, in place of `features`. Default: one input
        `x` of all features, as INPUT_ENCODING_ONE_HOT. At most 64 entries."""
    delimiter: str
    """The character between fields, ASCII. Default: a tab in files named `.tsv`, else a comma. At
    most 4 bytes."""
    header: bool
    """The first line names the columns. Otherwise they are named 1, 2, 3 and so on. Default
    true."""
    quote: str
    """The character around fields that hold delimiters, line ends or quotes, the latter doubled.
    Empty for none. Default `"`. At most 4 bytes."""
    comment: str
    """The character that begins lines that are skipped. Default none. At most 4 bytes."""
    def __init__(self, *, path: str | None = ..., paths: Iterable[str] | None = ..., target: str | None = ..., targets: Iterable[str] | None = ..., target_type: int | str | None = ..., features: Iterable[str] | None = ..., ignore: Iterable[str] | None = ..., categorical: Iterable[str] | None = ..., missing: Iterable[MissingValues] | None = ..., inputs: Iterable[TableInput] | None = ..., delimiter: str | None = ..., header: bool | None = ..., quote: str | None = ..., comment: str | None = ...) -> None: ...

class ParquetDataset(Message):
    """Tables in Parquet files, plain or with pages in Snappy, gzip or Zstandard. Numbers, booleans
    (as 1 and 0) and texts are read; nulls and NaN are missing. Dates, decimals and nested columns
    are refused, unless they are in `ignore`. Messages count rows from 0."""
    path: str
    """The file, or a pattern of several (`logs/*.parquet`), which are taken in the order of their
    names. This or `paths`. At most 4,096 bytes."""
    @property
    def paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files or patterns, in this order. All need the same columns. At most 64 entries.
        Each has at most 4,096 bytes."""
    target: str
    """The column to answer. This or `targets`. At most 256 bytes."""
    @property
    def targets(self) -> RepeatedScalarFieldContainer[str]:
        """Several columns of numbers to answer, such as labels that are each 1 or 0. At most 4,096
        entries. Each has at most 256 bytes."""
    target_type: int
    """The kind of answer. Default: TARGET_TYPE_CLASSES where `target` holds words,
    TARGET_TYPE_NUMBERS where it holds numbers."""
    @property
    def features(self) -> RepeatedScalarFieldContainer[str]:
        """The columns to learn from, in this order. Each holds numbers, unless it is in
        `categorical`. Default: all that have no other role, in the order of the file. At most 4,096
        entries. Each has at most 256 bytes."""
    @property
    def ignore(self) -> RepeatedScalarFieldContainer[str]:
        """Columns that are not read. At most 4,096 entries. Each has at most 256 bytes."""
    @property
    def categorical(self) -> RepeatedScalarFieldContainer[str]:
        """Columns of words or numbers that name a category. The categories are those of the
        training examples, sorted; another one is taken as unknown. At most 4,096 entries. Each has
        at most 256 bytes."""
    @property
    def missing(self) -> RepeatedCompositeFieldContainer[MissingValues]:
        """Rules for missing values. A rule that names a column goes before one that names none.
        Default: they are refused. At most 64 entries."""
    @property
    def inputs(self) -> RepeatedCompositeFieldContainer[TableInput]:
        """The inputs of a network that takes several, in place of `features`. Default: one input
        `x` of all features, as INPUT_ENCODING_ONE_HOT. At most 64 entries."""
    def __init__(self, *, path: str | None = ..., paths: Iterable[str] | None = ..., target: str | None = ..., targets: Iterable[str] | None = ..., target_type: int | str | None = ..., features: Iterable[str] | None = ..., ignore: Iterable[str] | None = ..., categorical: Iterable[str] | None = ..., missing: Iterable[MissingValues] | None = ..., inputs: Iterable[TableInput] | None = ...) -> None: ...

class MissingValues(Message):
    """A rule for missing values of some columns."""
    @property
    def columns(self) -> RepeatedScalarFieldContainer[str]:
        """The columns. Default: all that no other rule names. At most 4,096 entries. Each has at
        most 256 bytes."""
    by: int
    """The treatment. Required."""
    value: float
    """The number of MISSING_BY_CONSTANT."""
    def __init__(self, *, columns: Iterable[str] | None = ..., by: int | str | None = ..., value: float | None = ...) -> None: ...

class TableInput(Message):
    """An input of a network."""
    name: str
    """Its name, as the network has it. Required. At most 256 bytes."""
    @property
    def columns(self) -> RepeatedScalarFieldContainer[str]:
        """Its columns, in this order. Required. At most 4,096 entries. Each has at most 256
        bytes."""
    encoding: int
    """How they become its values. Default INPUT_ENCODING_ONE_HOT."""
    def __init__(self, *, name: str | None = ..., columns: Iterable[str] | None = ..., encoding: int | str | None = ...) -> None: ...

class TextDataset(Message):
    """A text for language models, plain, gzip or Zstandard. The files follow one another; nothing
    is put between them. An example has the input `tokens`, [context], and the target `next`,
    [context]: the token that follows each. The loss is therefore cross_entropy, with its metric
    perplexity. A rest at the end of the text that is no whole example is left out."""
    path: str
    """The file, or a pattern (`*.txt`) whose files are taken in the order of their names. Required,
    or `paths`. At most 4,096 bytes."""
    @property
    def paths(self) -> RepeatedScalarFieldContainer[str]:
        """Several files in this order, each of which may be a pattern. Then `path` is left out. At
        most 64 entries. Each has at most 4,096 bytes."""
    unit: int
    """The unit of a token. Default byte."""
    context: int
    """Tokens of an example, 1 to 1,048,576. Required."""
    stride: int
    """Tokens from the beginning of an example to that of the next one, at least 1. Below `context`
    examples overlap, and `data.split` cannot hold a share of them out. Default: as many as
    `context`, so that each token is the target of one example."""
    def __init__(self, *, path: str | None = ..., paths: Iterable[str] | None = ..., unit: int | str | None = ..., context: int | None = ..., stride: int | None = ...) -> None: ...

class Normalize(Message):
    """How values become inputs: input = (value - mean) / std. For images the values are pixels
    divided by 255, and the lists have an entry for each channel: 1 for grey ones. For inputs that
    are rows of numbers the lists have an entry for each number."""
    @property
    def mean(self) -> RepeatedScalarFieldContainer[float]:
        """Mean of values scaled to 0..1, a channel each. Default 0. At most 64 entries."""
    @property
    def std(self) -> RepeatedScalarFieldContainer[float]:
        """Standard deviation of values scaled to 0..1, a channel each, above 0. Default 1. At most
        64 entries."""
    measure: bool
    """Measure mean and std on the training examples, for every input that is images or rows of
    numbers. Whole numbers (classes, tokens) stay as they are. Of a folder of images 2,000 at most
    are measured, drawn the same each time. The result keeps both, as artifacts/preprocessing.json.
    Then `mean` and `std` are left out."""
    def __init__(self, *, mean: Iterable[float] | None = ..., std: Iterable[float] | None = ..., measure: bool | None = ...) -> None: ...

class Training(Message):
    """Length of the job and size of its portions."""
    epochs: int
    """Passes over the training examples, at least 1."""
    max_steps: int
    """Optimizer steps, at least 1; the last epoch may then be a part of one."""
    batch_size: int
    """Examples in a training step, at least 1 and at most the training set. The last batch of an
    epoch may be smaller. Default 64."""
    validation_batch_size: int
    """Examples in a step of the validation pass, at least 1; more than the validation set are that
    set. No influence on the numbers beyond rounding. Default 1000."""
    gradient_clip_norm: float
    """Gradients are scaled down together where their norm is larger than this, as
    torch.nn.utils.clip_grad_norm_ does. Above 0."""
    gradient_clip_value: float
    """Each number of a gradient is moved to between -this and this, as
    torch.nn.utils.clip_grad_value_ does. Above 0."""
    init_seed: int
    """Seed of the initial weights, where that shall be another than `seed`."""
    precision: int
    """The type that the network and its loss are computed in where that is safe, as torch.autocast
    does it, in training and validation. Weights, gradients and the optimizer's state stay 32-bit
    floats. Default float32."""
    accumulate_steps: int
    """Parts that a step computes one after the other, to save memory: their gradients are those of
    the whole batch up to rounding. Layers that normalise over a batch see the parts. Divides
    `batch_size`. Default 1."""
    ema_decay: float
    """Keep an exponential moving average of the weights: after each step average = ema_decay *
    average + (1 - ema_decay) * weights, as torch.optim.swa_utils.get_ema_multi_avg_fn has it, for
    parameters and buffers of floats; other buffers are copied. Validation passes and the result
    take the average; checkpoints hold both. At least 0 and below 1. Absent: no average."""
    @property
    def early_stopping(self) -> EarlyStopping:
        """End the job where validation does not get better."""
    restore_best: bool
    """Give the result the weights of the best checkpoint, by `checkpoint.keep_best`, which is 1
    where it is left out. A validation pass that is the best so far is saved at once. Needs
    data.validation. Default false."""
    on_divergence: int
    """The reaction to a step whose loss or gradients are not finite. Default fail."""
    cuda_graphs: bool
    """Capture the training step as a CUDA graph and replay it, so that a step of many small
    operators does not wait for the host to start each of them. Three steps of `batch_size` examples
    are taken as without, then each is replayed; a smaller last batch of an epoch is taken as
    without. The learning rate is a 32-bit float, as in PyTorch's optimizers with capturable=True,
    so that the last bits of the weights are others. Needs a GPU, and one of the optimizers sgd,
    adam and adamw. Refused beside precision float16, on_divergence skip_step, the metric auc,
    mix_up, cut_mix and model.torchscript. A job whose steps cannot be captured for another reason
    (the runner lacks libtorchd_graphs.so, an exported graph waits for values on the host, the
    training set has no whole batch) trains as without, and its log says why. Default false: it has
    not been run on a GPU yet."""
    channels_last: bool
    """Keep the weights of two-dimensional convolutions with the channels last in memory, as
    torch.channels_last does, and with them what they compute: faster on GPUs in 16 bits. Other
    kernels compute it, so that the last bits are others. For the models mnist_cnn and resnet, and
    sequential with conv2d. Default false."""
    shards: int
    """Slices of each batch that are computed one by one, each with random numbers of its own, and
    whose gradients are added in a fixed order. The numbers that a job computes depend on how many
    slices there are, and not on how many processes share them. Slices differ by one example at
    most. Layers that normalise over a batch see a slice, and their running statistics are means
    over the slices; random changes of examples mix those of a slice. From 1 to `batch_size`, and
    not beside accumulate_steps. Default: resources.ranks or scale.world_size where that is more
    than 1. Absent otherwise: the batch is computed at once."""
    def __init__(self, *, epochs: int | None = ..., max_steps: int | None = ..., batch_size: int | None = ..., validation_batch_size: int | None = ..., gradient_clip_norm: float | None = ..., gradient_clip_value: float | None = ..., init_seed: int | None = ..., precision: int | str | None = ..., accumulate_steps: int | None = ..., ema_decay: float | None = ..., early_stopping: EarlyStopping | Mapping[str, object] | None = ..., restore_best: bool | None = ..., on_divergence: int | str | None = ..., cuda_graphs: bool | None = ..., channels_last: bool | None = ..., shards: int | None = ...) -> None: ...

class EarlyStopping(Message):
    """The end of a job whose validation does not get better. The job succeeds."""
    metric: str
    """`loss/validation`, or a metric of the job, such as `accuracy/validation`. Default: the first
    metric, or else the loss. At most 256 bytes."""
    patience: int
    """Validation passes in a row without an improvement that end the job, at least 1. Default 3."""
    least_improvement: float
    """A smaller improvement counts as none; at least 0. Default 0."""
    def __init__(self, *, metric: str | None = ..., patience: int | None = ..., least_improvement: float | None = ...) -> None: ...

class Optimizer(Message):
    """How gradients become new weights."""
    @property
    def sgd(self) -> Sgd:
        """Stochastic gradient descent with momentum."""
    @property
    def adamw(self) -> AdamW:
        """Adam with decoupled weight decay."""
    @property
    def adam(self) -> Adam:
        """Adam with the weight decay in the gradient."""
    @property
    def rmsprop(self) -> RmsProp:
        """Steps divided by the root of a moving mean of squared gradients."""
    @property
    def adagrad(self) -> Adagrad:
        """Steps divided by the root of the sum of squared gradients."""
    @property
    def lion(self) -> Lion:
        """Steps by the sign of a moving mean of gradients."""
    @property
    def freeze(self) -> RepeatedScalarFieldContainer[str]:
        """Parameters that are not trained: patterns of their names in which "*" stands for any
        text, such as "backbone.*". At most 64 entries. Each has at most 256 bytes."""
    @property
    def groups(self) -> RepeatedCompositeFieldContainer[ParameterGroup]:
        """Parameters that are trained with numbers of their own. A parameter belongs to one group
        at most. At most 64 entries."""
    def __init__(self, *, sgd: Sgd | Mapping[str, object] | None = ..., adamw: AdamW | Mapping[str, object] | None = ..., adam: Adam | Mapping[str, object] | None = ..., rmsprop: RmsProp | Mapping[str, object] | None = ..., adagrad: Adagrad | Mapping[str, object] | None = ..., lion: Lion | Mapping[str, object] | None = ..., freeze: Iterable[str] | None = ..., groups: Iterable[ParameterGroup] | None = ...) -> None: ...

class ParameterGroup(Message):
    """Parameters that are trained with numbers of their own."""
    @property
    def parameters(self) -> RepeatedScalarFieldContainer[str]:
        """Patterns of their names, as those of `freeze`. Required. At most 64 entries. Each has at
        most 256 bytes."""
    rate_scale: float
    """Their learning rate is so many times that of the job; above 0. Default 1."""
    weight_decay: float
    """Their weight decay, at least 0. Default: that of the optimizer."""
    def __init__(self, *, parameters: Iterable[str] | None = ..., rate_scale: float | None = ..., weight_decay: float | None = ...) -> None: ...

class Sgd(Message):
    """torch.optim.SGD. g = gradient + weight_decay * weight; v = momentum * v + (1 - dampening) *
    g, where the first step takes v = g; weight = weight - learning_rate * v, or with nesterov
    weight - learning_rate * (g + momentum * v)."""
    learning_rate: float
    """Step size, finite and above 0. Required."""
    momentum: float
    """At least 0 and below 1. Default 0."""
    dampening: float
    """At least 0 and at most 1. Default 0."""
    nesterov: bool
    """Look ahead by the momentum, which has to be above 0, without dampening. Default false."""
    weight_decay: float
    """At least 0. Default 0."""
    def __init__(self, *, learning_rate: float | None = ..., momentum: float | None = ..., dampening: float | None = ..., nesterov: bool | None = ..., weight_decay: float | None = ...) -> None: ...

class AdamW(Message):
    """torch.optim.AdamW, as its loop with fused=True."""
    learning_rate: float
    """Step size, finite and above 0. Default 0.001."""
    beta1: float
    """Decay of the mean of gradients, at least 0 and below 1. Default 0.9."""
    beta2: float
    """Decay of the mean of squared gradients, at least 0 and below 1. Default 0.999."""
    epsilon: float
    """Added to the root of the mean of squares, at least 0. Default 1e-8."""
    weight_decay: float
    """Share of the weight that each step takes off, times the learning rate; at least 0. Default
    0.01."""
    amsgrad: bool
    """Divide by the root of the largest mean of squares so far (Reddi et al. 2018). Default
    false."""
    def __init__(self, *, learning_rate: float | None = ..., beta1: float | None = ..., beta2: float | None = ..., epsilon: float | None = ..., weight_decay: float | None = ..., amsgrad: bool | None = ...) -> None: ...

class Adam(Message):
    """torch.optim.Adam, as its loop with fused=True."""
    learning_rate: float
    """Step size, finite and above 0. Default 0.001."""
    beta1: float
    """Decay of the mean of gradients, at least 0 and below 1. Default 0.9."""
    beta2: float
    """Decay of the mean of squared gradients, at least 0 and below 1. Default 0.999."""
    epsilon: float
    """Added to the root of the mean of squares, at least 0. Default 1e-8."""
    weight_decay: float
    """Share of the weights that is added to their gradients, at least 0. Default 0."""
    amsgrad: bool
    """Divide by the root of the largest mean of squares so far (Reddi et al. 2018). Default
    false."""
    def __init__(self, *, learning_rate: float | None = ..., beta1: float | None = ..., beta2: float | None = ..., epsilon: float | None = ..., weight_decay: float | None = ..., amsgrad: bool | None = ...) -> None: ...

class RmsProp(Message):
    """torch.optim.RMSprop. g = gradient + weight_decay * weight; s = alpha * s + (1 - alpha) * g^2;
    d = g / (sqrt(s) + epsilon); weight = weight - learning_rate * d."""
    learning_rate: float
    """Step size, finite and above 0. Default 0.01."""
    alpha: float
    """Decay of the mean of squared gradients, at least 0 and below 1. Default 0.99."""
    epsilon: float
    """Added to the root of the mean of squares, at least 0. Default 1e-8."""
    weight_decay: float
    """At least 0. Default 0."""
    momentum: float
    """Where it is above 0, v = momentum * v + d takes the place of d. At least 0 and below 1.
    Default 0."""
    centered: bool
    """Take the square of the mean of gradients off the mean of squares, which makes it a variance.
    Default false."""
    def __init__(self, *, learning_rate: float | None = ..., alpha: float | None = ..., epsilon: float | None = ..., weight_decay: float | None = ..., momentum: float | None = ..., centered: bool | None = ...) -> None: ...

class Adagrad(Message):
    """torch.optim.Adagrad. g = gradient + weight_decay * weight; s = s + g^2; step n, counted from
    1, takes learning_rate / (1 + (n - 1) * lr_decay) * g / (sqrt(s) + epsilon) off the weight."""
    learning_rate: float
    """Step size, finite and above 0. Default 0.01."""
    lr_decay: float
    """Decay of the learning rate, at least 0. It goes on top of `schedule`, and the scalar
    learning_rate does not tell it. Default 0."""
    initial_accumulator_value: float
    """The sum of squared gradients begins with it; at least 0. Default 0."""
    epsilon: float
    """Added to the root of the sum of squares, at least 0. Default 1e-10."""
    weight_decay: float
    """At least 0. Default 0."""
    def __init__(self, *, learning_rate: float | None = ..., lr_decay: float | None = ..., initial_accumulator_value: float | None = ..., epsilon: float | None = ..., weight_decay: float | None = ...) -> None: ...

class Lion(Message):
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2), which
    PyTorch has not. u = sign(beta1 * m + (1 - beta1) * gradient); weight = weight - learning_rate *
    (u + weight_decay * weight); m = beta2 * m + (1 - beta2) * gradient."""
    learning_rate: float
    """Step size, finite and above 0. Default 0.0001."""
    beta1: float
    """Share of the mean in the direction of a step, at least 0 and below 1. Default 0.9."""
    beta2: float
    """Decay of the mean of gradients, at least 0 and below 1. Default 0.99."""
    weight_decay: float
    """Share of the weight that each step takes off, times the learning rate; at least 0. Default
    0."""
    def __init__(self, *, learning_rate: float | None = ..., beta1: float | None = ..., beta2: float | None = ..., weight_decay: float | None = ...) -> None: ...

class Loss(Message):
    """The loss: a mean over the examples of a batch."""
    @property
    def cross_entropy(self) -> CrossEntropy:
        """Of scores, one a class, for targets that are classes."""
    @property
    def nll(self) -> Nll:
        """The negative log-likelihood, of log-probabilities, one a class, for targets that are
        classes."""
    @property
    def mse(self) -> Mse:
        """The mean of squared differences, for targets that are numbers."""
    @property
    def binary_cross_entropy(self) -> BinaryCrossEntropy:
        """Of scores, one a label, for targets that say of each label whether it holds."""
    @property
    def l1(self) -> L1:
        """The mean of absolute differences, for targets that are numbers."""
    @property
    def huber(self) -> Huber:
        """Squared for small differences and absolute for large ones, for targets that are
        numbers."""
    @property
    def kl_divergence(self) -> KlDivergence:
        """Of log-probabilities, for targets that are distributions."""
    @property
    def next_token(self) -> NextToken:
        """Cross-entropy of the scores at each token and the token after it, for language models."""
    def __init__(self, *, cross_entropy: CrossEntropy | Mapping[str, object] | None = ..., nll: Nll | Mapping[str, object] | None = ..., mse: Mse | Mapping[str, object] | None = ..., binary_cross_entropy: BinaryCrossEntropy | Mapping[str, object] | None = ..., l1: L1 | Mapping[str, object] | None = ..., huber: Huber | Mapping[str, object] | None = ..., kl_divergence: KlDivergence | Mapping[str, object] | None = ..., next_token: NextToken | Mapping[str, object] | None = ...) -> None: ...

class CrossEntropy(Message):
    """torch.nn.CrossEntropyLoss. The classes are the first dimension of the output of an example,
    or its last one where only that fits the target."""
    label_smoothing: float
    """Share of the target that all classes get alike, at least 0 and at most 1. Default 0."""
    @property
    def class_weights(self) -> RepeatedScalarFieldContainer[float]:
        """A weight for each class, at least 0. Default: all alike. At most 65,536 entries."""
    ignored_label: int
    """Targets of this value do not count. Default -100."""
    def __init__(self, *, label_smoothing: float | None = ..., class_weights: Iterable[float] | None = ..., ignored_label: int | None = ...) -> None: ...

class Nll(Message):
    """torch.nn.NLLLoss. The classes are where those of cross_entropy are."""
    @property
    def class_weights(self) -> RepeatedScalarFieldContainer[float]:
        """A weight for each class, at least 0. Default: all alike. At most 65,536 entries."""
    ignored_label: int
    """Targets of this value do not count. Default -100."""
    def __init__(self, *, class_weights: Iterable[float] | None = ..., ignored_label: int | None = ...) -> None: ...

class Mse(Message):
    """torch.nn.MSELoss."""
    def __init__(self) -> None: ...

class BinaryCrossEntropy(Message):
    """torch.nn.BCEWithLogitsLoss. The output has as many scores as the target has values. Those are
    32-bit floats from 0 to 1, or 64-bit integers that are 0 or 1. A network that leaves its outputs
    open gets one for each value of the target."""
    @property
    def positive_weights(self) -> RepeatedScalarFieldContainer[float]:
        """How much a label that holds counts, against 1 for one that does not; at least 0. One for
        each label, or one for all. Default: 1. At most 65,536 entries."""
    def __init__(self, *, positive_weights: Iterable[float] | None = ...) -> None: ...

class L1(Message):
    """torch.nn.L1Loss."""
    def __init__(self) -> None: ...

class Huber(Message):
    """torch.nn.HuberLoss."""
    delta: float
    """Differences below it are squared, those above it are absolute; finite and above 0. Default
    1."""
    def __init__(self, *, delta: float | None = ...) -> None: ...

class KlDivergence(Message):
    """torch.nn.KLDivLoss with reduction="batchmean". The output has log-probabilities, and the
    target probabilities, 32-bit floats of at least 0, of the same shape."""
    def __init__(self) -> None: ...

class NextToken(Message):
    """The scores at position t are held against the token at position t + 1, as the causal language
    models of Hugging Face do with `labels`: the target has the tokens of the input, [tokens], not
    shifted, and the output the scores of the vocabulary at each, [tokens, vocabulary], or
    [vocabulary, tokens] where only that fits. The mean is one over tokens."""
    ignored_label: int
    """Targets of this value do not count. Default -100."""
    def __init__(self, *, ignored_label: int | None = ...) -> None: ...

class Schedule(Message):
    """How the learning rate of the optimizer changes. Where torch.optim.lr_scheduler counts epochs,
    these count optimizer steps, as a loop in Python does that calls scheduler.step() after each
    optimizer.step(); plateau alone counts validation passes. Step t is counted from 0, from the end
    of the warm-up on; T steps of the job are left there."""
    @property
    def constant(self) -> Constant:
        """It stays."""
    @property
    def cosine(self) -> Cosine:
        """It falls along half a cosine, to the end of the job or again and again."""
    @property
    def step(self) -> StepSchedule:
        """It falls by a factor every so many steps."""
    @property
    def multi_step(self) -> MultiStep:
        """It falls by a factor at certain steps."""
    @property
    def exponential(self) -> Exponential:
        """It falls by a factor with each step."""
    @property
    def polynomial(self) -> Polynomial:
        """It falls along a power to the end of the job."""
    @property
    def linear(self) -> Linear:
        """It falls evenly to the end of the job."""
    @property
    def one_cycle(self) -> OneCycle:
        """It rises and falls once."""
    @property
    def plateau(self) -> Plateau:
        """It falls by a factor where validation does not get better."""
    def __init__(self, *, constant: Constant | Mapping[str, object] | None = ..., cosine: Cosine | Mapping[str, object] | None = ..., step: StepSchedule | Mapping[str, object] | None = ..., multi_step: MultiStep | Mapping[str, object] | None = ..., exponential: Exponential | Mapping[str, object] | None = ..., polynomial: Polynomial | Mapping[str, object] | None = ..., linear: Linear | Mapping[str, object] | None = ..., one_cycle: OneCycle | Mapping[str, object] | None = ..., plateau: Plateau | Mapping[str, object] | None = ...) -> None: ...

class Constant(Message):
    """The learning rate of the optimizer, after a warm-up if that is wanted."""
    warmup_steps: int
    """Steps in which the rate grows evenly from 0: step n of them, counted from 1, has n /
    warmup_steps of it. Fewer than the job has. Default 0."""
    def __init__(self, *, warmup_steps: int | None = ...) -> None: ...

class Cosine(Message):
    """Step t has final_ratio + (1 - final_ratio) * (1 + cos(pi * t / T)) / 2 of the learning rate,
    as torch.optim.lr_scheduler.CosineAnnealingLR(T_max=T). With restart_steps it begins anew
    whenever a cycle is over, as CosineAnnealingWarmRestarts(T_0=restart_steps,
    T_mult=restart_growth): t counts the steps of the cycle then, and T is its length."""
    warmup_steps: int
    """As of a constant rate. Default 0."""
    final_ratio: float
    """Share of the learning rate that it falls to, 0 to 1. Default 0."""
    restart_steps: int
    """Steps of the first cycle, at least 1 and at most T. Absent: a single cycle to the end of the
    job."""
    restart_growth: int
    """Each cycle is so many times as long as the one before, at least 1; only with restart_steps.
    Default 1."""
    def __init__(self, *, warmup_steps: int | None = ..., final_ratio: float | None = ..., restart_steps: int | None = ..., restart_growth: int | None = ...) -> None: ...

class StepSchedule(Message):
    """Step t has factor ^ floor(t / every_steps) of the learning rate, as
    torch.optim.lr_scheduler.StepLR(step_size=every_steps, gamma=factor)."""
    warmup_steps: int
    """As of a constant rate. Default 0."""
    every_steps: int
    """At least 1 and below T. Required."""
    factor: float
    """Above 0 and at most 1. Default 0.1."""
    def __init__(self, *, warmup_steps: int | None = ..., every_steps: int | None = ..., factor: float | None = ...) -> None: ...

class MultiStep(Message):
    """Step t has factor ^ n of the learning rate, where n of at_steps are at most t, as
    torch.optim.lr_scheduler.MultiStepLR(milestones=at_steps, gamma=factor)."""
    warmup_steps: int
    """As of a constant rate. Default 0."""
    @property
    def at_steps(self) -> RepeatedScalarFieldContainer[int]:
        """Rising, each at least 1 and below T, counted from the end of the warm-up. Required. At
        most 1,024 entries."""
    factor: float
    """Above 0 and at most 1. Default 0.1."""
    def __init__(self, *, warmup_steps: int | None = ..., at_steps: Iterable[int] | None = ..., factor: float | None = ...) -> None: ...

class Exponential(Message):
    """Step t has factor ^ t of the learning rate, as
    torch.optim.lr_scheduler.ExponentialLR(gamma=factor)."""
    warmup_steps: int
    """As of a constant rate. Default 0."""
    factor: float
    """Of each step, above 0 and at most 1. Required."""
    def __init__(self, *, warmup_steps: int | None = ..., factor: float | None = ...) -> None: ...

class Polynomial(Message):
    """Step t has final_ratio + (1 - final_ratio) * (1 - t / T) ^ power of the learning rate; with a
    final_ratio of 0 as torch.optim.lr_scheduler.PolynomialLR(total_iters=T, power=power)."""
    warmup_steps: int
    """As of a constant rate. Default 0."""
    power: float
    """Above 0. Default 1."""
    final_ratio: float
    """Share of the learning rate that it falls to, 0 to 1. Default 0."""
    def __init__(self, *, warmup_steps: int | None = ..., power: float | None = ..., final_ratio: float | None = ...) -> None: ...

class Linear(Message):
    """Step t has 1 - (1 - final_ratio) * t / T of the learning rate, as
    torch.optim.lr_scheduler.LinearLR(start_factor=1, end_factor=final_ratio, total_iters=T)."""
    warmup_steps: int
    """As of a constant rate. Default 0."""
    final_ratio: float
    """Share of the learning rate that it falls to, 0 to 1. Default 0."""
    def __init__(self, *, warmup_steps: int | None = ..., final_ratio: float | None = ...) -> None: ...

class OneCycle(Message):
    """torch.optim.lr_scheduler.OneCycleLR(max_lr=learning_rate, total_steps=T,
    pct_start=rise_share, div_factor=1 / start_ratio, final_div_factor=start_ratio / final_ratio,
    anneal_strategy="cos", cycle_momentum=False): along half a cosine from start_ratio of the
    learning rate to all of it, and along another to final_ratio. The rise is the warm-up, so that
    there is no other. Momentum stays."""
    rise_share: float
    """Share of the steps in which the rate rises, above 0 and below 1; more than one step. Default
    0.3."""
    start_ratio: float
    """Share of the learning rate that it begins with, 0 to 1. Default 0.04."""
    final_ratio: float
    """Share of the learning rate that it ends with, 0 to 1. Default 0.000004."""
    def __init__(self, *, rise_share: float | None = ..., start_ratio: float | None = ..., final_ratio: float | None = ...) -> None: ...

class Plateau(Message):
    """torch.optim.lr_scheduler.ReduceLROnPlateau(threshold_mode="rel"), stepped after each
    validation pass: where the metric has not been better than the best for more than
    patience_validations in a row, the learning rate falls by the factor. A validation pass during
    the warm-up does not count. A fall of the rate by 1e-8 or less is left out, as there."""
    warmup_steps: int
    """As of a constant rate. Default 0."""
    metric: str
    """`loss/validation`, or a metric of the job, such as `accuracy/validation`. Default
    `loss/validation`. At most 256 bytes."""
    factor: float
    """Above 0 and below 1. Default 0.1."""
    patience_validations: int
    """Validation passes in a row that may be no better. Default 10."""
    threshold: float
    """A value is better where it is beyond the best by this share of it, 0 to 1. Default 0.0001."""
    cooldown: int
    """Validation passes after a fall that are not counted. Default 0."""
    least_ratio: float
    """Share of the learning rate that it does not fall below, 0 to 1. Default 0."""
    def __init__(self, *, warmup_steps: int | None = ..., metric: str | None = ..., factor: float | None = ..., patience_validations: int | None = ..., threshold: float | None = ..., cooldown: int | None = ..., least_ratio: float | None = ...) -> None: ...

class Checkpoint(Message):
    """When to save checkpoints, and how many to keep. The last step is always saved, and the newest
    checkpoint always kept."""
    every_epochs: int
    """Save after every so many epochs, at least 1. Default 1."""
    every_steps: int
    """Save after every so many optimizer steps too, at least 1. Absent: not."""
    keep_latest: int
    """Keep so many of the newest, at least 1. Default 3."""
    @property
    def keep_best(self) -> KeepBest:
        """Keep the best besides them."""
    def __init__(self, *, every_epochs: int | None = ..., every_steps: int | None = ..., keep_latest: int | None = ..., keep_best: KeepBest | Mapping[str, object] | None = ...) -> None: ...

class KeepBest(Message):
    """Which checkpoints are the best: those with the lowest loss, or with the best value of a
    metric."""
    count: int
    """How many, at least 1. Default 1."""
    metric: str
    """`loss/validation`, or a metric of the job, such as `accuracy/validation` or
    `top_5/validation`; of a model that returns its own loss the loss alone, since it is not known
    which values of its metrics are better. A checkpoint whose validation pass has left the metric
    out is not among the best. Default: the first metric that is a scalar, or else the loss. At most
    256 bytes."""
    def __init__(self, *, count: int | None = ..., metric: str | None = ...) -> None: ...

class Logging(Message):
    """When to write scalars."""
    scalar_every_steps: int
    """Write training scalars every so many steps, at least 1. loss/train, the metrics and the
    throughput are means over the steps since the scalars before; gradient_norm and learning_rate
    are those of the step. Default 10."""
    def __init__(self, *, scalar_every_steps: int | None = ...) -> None: ...

class Resources(Message):
    """The part of the machine that the job takes while it runs."""
    device: int
    """Where to compute. Default auto."""
    gpu_count: int
    """CUDA GPUs, at most 64, all or none: the job waits until so many are free. A model has a rank
    on each; a program sees all of them. Several are refused where this machine has fewer, instances
    of divided ones left out, and, for a model, where libtdnccl.so is not beside the runner. Beside
    scale it is that of each rank, 1 at most. Default: 1 on CUDA, 0 on the CPU."""
    cpu_threads: int
    """Threads of computation of each rank, at least 1 and, for all ranks together, at most the
    slots of the machine. A job waits until so many are free. Default: every slot for a job on the
    CPU, 1 for a job on CUDA or with training.shards."""
    gpu_memory_bytes: int
    """Memory that the job promises to stay within on each of its GPUs. A job that says so shares
    them with others that do, as long as they hold them all; without it the job has its GPUs for
    itself. Nothing enforces the promise. Refused beside scale."""
    memory_limit_bytes: int
    """The most memory of the machine, in bytes, that the job's runner has resident of its own.
    Pages of files do not count, such as libtorch's code: runners share them, and the kernel takes
    them back when it needs them. A table in Parquet whose values take more than half of it is read
    in shards. A job that cannot stay within it is refused, as far as that can be told before; one
    that does not ends as out_of_memory. Without it a job has what the machine, or the control group
    of torchd, has."""
    thread_wait: int
    """How the job's threads of computation wait for each other. It decides how fast a job is beside
    others, and no number that it computes. Default: jobs.thread_wait of the daemon. Refused for a
    program, which has threads of its own."""
    ranks: int
    """Ranks: processes that train one model together, each on its share of every batch, 1 to 64. It
    divides training.shards, which the numbers of the job depend on, whatever the number of ranks
    is. Each holds the data and the state of training; memory_limit_bytes is that of each rank.
    Refused for a program, for other modes than train, where it is not the number of GPUs of a job
    that has some, and on the CPU where libtdranks.so is not beside the runner. Default: the number
    of GPUs, or 1."""
    def __init__(self, *, device: int | str | None = ..., gpu_count: int | None = ..., cpu_threads: int | None = ..., gpu_memory_bytes: int | None = ..., memory_limit_bytes: int | None = ..., thread_wait: int | str | None = ..., ranks: int | None = ...) -> None: ...

ClusterMode: EnumTypeWrapper
"""Modes of a cluster."""
CLUSTER_MODE_UNSPECIFIED: int
"""Never sent."""
CLUSTER_MODE_DRIVER_ONLY: int
"""One driver node, no workers."""

class GetCallerRequest(Message):
    """Request of GetCaller."""
    def __init__(self) -> None: ...

class Caller(Message):
    """A caller, as torchd knows it."""
    owner: str
    """Its jobs and uploads are this owner's."""
    role: int
    """Its rights."""
    known_by: str
    """How that is known: `socket`, `token NAME`, `certificate`, or `nobody asked`."""
    def __init__(self, *, owner: str | None = ..., role: int | str | None = ..., known_by: str | None = ...) -> None: ...

class GetVersionRequest(Message):
    """Request of GetVersion."""
    def __init__(self) -> None: ...

class GetVersionResponse(Message):
    """Answer of GetVersion."""
    torchd_version: str
    """Version of torchd."""
    revision: str
    """Git revision that it was built from; empty if that was not known."""
    rustc_version: str
    """Compiler that built it."""
    @property
    def libtorch(self) -> LibraryVersion:
        """libtorch, as a runner finds it."""
    @property
    def cuda(self) -> LibraryVersion:
        """CUDA, as a runner finds it."""
    @property
    def cudnn(self) -> LibraryVersion:
        """cuDNN, as a runner finds it."""
    @property
    def nccl(self) -> LibraryVersion:
        """NCCL, as a runner finds it."""
    @property
    def nvidia_driver(self) -> LibraryVersion:
        """The NVIDIA driver."""
    @property
    def nvml(self) -> LibraryVersion:
        """NVML, the driver's library for watching GPUs."""
    @property
    def cuda_driver(self) -> LibraryVersion:
        """The newest CUDA that the NVIDIA driver speaks."""
    @property
    def python(self) -> LibraryVersion:
        """Python, as `cluster.python` of the settings or PYSPARK_PYTHON name it, else that of the
        environment that torchd is installed in, else the one on the PATH."""
    @property
    def pytorch(self) -> LibraryVersion:
        """PyTorch, as that Python would import it."""
    def __init__(self, *, torchd_version: str | None = ..., revision: str | None = ..., rustc_version: str | None = ..., libtorch: LibraryVersion | Mapping[str, object] | None = ..., cuda: LibraryVersion | Mapping[str, object] | None = ..., cudnn: LibraryVersion | Mapping[str, object] | None = ..., nccl: LibraryVersion | Mapping[str, object] | None = ..., nvidia_driver: LibraryVersion | Mapping[str, object] | None = ..., nvml: LibraryVersion | Mapping[str, object] | None = ..., cuda_driver: LibraryVersion | Mapping[str, object] | None = ..., python: LibraryVersion | Mapping[str, object] | None = ..., pytorch: LibraryVersion | Mapping[str, object] | None = ...) -> None: ...

class LibraryVersion(Message):
    """A library or a program: either its version, or why it is absent."""
    version: str
    """Empty where it is absent."""
    path: str
    """The file that was loaded or the folder that would be; empty where it is absent."""
    absent_reason: str
    """Why it is absent; empty where it is there."""
    found_by: str
    """The source of it, such as a setting or a variable of the environment; empty where that is not
    known."""
    @property
    def passed_over(self) -> RepeatedScalarFieldContainer[str]:
        """The places that were looked at before and have none that can be used, each with the
        reason and a remedy."""
    def __init__(self, *, version: str | None = ..., path: str | None = ..., absent_reason: str | None = ..., found_by: str | None = ..., passed_over: Iterable[str] | None = ...) -> None: ...

class GetClusterRequest(Message):
    """Request of GetCluster."""
    def __init__(self) -> None: ...

class Cluster(Message):
    """A cluster of one node."""
    mode: int
    """Always driver-only."""
    workers: int
    """Worker nodes: always 0."""
    @property
    def driver(self) -> Node:
        """The node that the daemon runs on."""
    @property
    def databricks_runtime(self) -> Presence:
        """The Databricks runtime of the node."""
    @property
    def spark(self) -> Presence:
        """Apache Spark on the node."""
    @property
    def capabilities(self) -> RepeatedCompositeFieldContainer[Capability]:
        """The abilities of this node: each with whether it is there, and why."""
    @property
    def gpu_source(self) -> GpuSource:
        """Whether GPUs can be watched, and what to do where they cannot."""
    @property
    def runner_confinement(self) -> Confinement:
        """The limits of a runner, as one has found them here; absent while no runner has
        answered."""
    @property
    def launchers(self) -> RepeatedCompositeFieldContainer[Launcher]:
        """Launchers that are attached, by owner and name: ranks of jobs with `scale` run on their
        engines."""
    def __init__(self, *, mode: int | str | None = ..., workers: int | None = ..., driver: Node | Mapping[str, object] | None = ..., databricks_runtime: Presence | Mapping[str, object] | None = ..., spark: Presence | Mapping[str, object] | None = ..., capabilities: Iterable[Capability] | None = ..., gpu_source: GpuSource | Mapping[str, object] | None = ..., runner_confinement: Confinement | Mapping[str, object] | None = ..., launchers: Iterable[Launcher] | None = ...) -> None: ...

class Launcher(Message):
    """A launcher that is attached."""
    launcher: str
    """Its name."""
    owner: str
    """Its owner, whose jobs it takes."""
    for_all: bool
    """It takes jobs of all owners."""
    engine: int
    """Its engine."""
    slots: int
    """Ranks that the engine has room for at once."""
    taken_slots: int
    """Slots that launches take now."""
    def __init__(self, *, launcher: str | None = ..., owner: str | None = ..., for_all: bool | None = ..., engine: int | str | None = ..., slots: int | None = ..., taken_slots: int | None = ...) -> None: ...

class Confinement(Message):
    """The limits of the processes that train. A runner, or its parent for it, sets them before it
    reads a job's data or model, and cannot take them back."""
    landlock_abi: int
    """The ABI of Landlock that the kernel and torchd both know; 0 where Landlock is not in
    force."""
    no_new_privileges: bool
    """No program that a runner starts gets more rights than the runner has."""
    @property
    def enforced(self) -> RepeatedScalarFieldContainer[str]:
        """The limits that the kernel enforces, each a sentence about the runner."""
    @property
    def missing(self) -> RepeatedScalarFieldContainer[str]:
        """The limits that it does not enforce, each with the reason."""
    def __init__(self, *, landlock_abi: int | None = ..., no_new_privileges: bool | None = ..., enforced: Iterable[str] | None = ..., missing: Iterable[str] | None = ...) -> None: ...

class Node(Message):
    """The hardware and the system of a node."""
    hostname: str
    """Host name."""
    os: str
    """Name and version of the operating system, as /etc/os-release tells it."""
    kernel: str
    """Release of the kernel."""
    architecture: str
    """Architecture, for example `x86_64`."""
    cpu_model: str
    """Model of the CPU; empty where the system does not tell."""
    cpu_count: int
    """CPUs that the daemon may use."""
    memory_bytes: int
    """Memory, or the limit of the daemon's control group where that is lower."""
    memory_available_bytes: int
    """Memory that is available now."""
    @property
    def gpus(self) -> RepeatedCompositeFieldContainer[NodeGpu]:
        """NVIDIA GPUs that the kernel driver lists, by PCI address."""
    nvidia_driver_version: str
    """Version of the NVIDIA kernel driver; empty where there is none."""
    def __init__(self, *, hostname: str | None = ..., os: str | None = ..., kernel: str | None = ..., architecture: str | None = ..., cpu_model: str | None = ..., cpu_count: int | None = ..., memory_bytes: int | None = ..., memory_available_bytes: int | None = ..., gpus: Iterable[NodeGpu] | None = ..., nvidia_driver_version: str | None = ...) -> None: ...

class NodeGpu(Message):
    """A GPU, as the kernel driver lists it."""
    model: str
    """For example `NVIDIA H100 80GB HBM3`."""
    uuid: str
    """For example `GPU-5f0c...`; empty where the driver does not tell."""
    pci_address: str
    """PCI address, for example `0000:8d:00.0`."""
    def __init__(self, *, model: str | None = ..., uuid: str | None = ..., pci_address: str | None = ...) -> None: ...

class Presence(Message):
    """Whether something is there."""
    present: bool
    """It is."""
    version: str
    """Its version; empty where it is absent or not known."""
    evidence: str
    """The evidence for it, or the place where it was looked for."""
    meaning: str
    """The consequence for training here."""
    def __init__(self, *, present: bool | None = ..., version: str | None = ..., evidence: str | None = ..., meaning: str | None = ...) -> None: ...

class Capability(Message):
    """Something that can or cannot be done on this cluster."""
    name: str
    """For example `cuda`."""
    available: bool
    """It can."""
    reason: str
    """Why, or why not."""
    def __init__(self, *, name: str | None = ..., available: bool | None = ..., reason: str | None = ...) -> None: ...

class UploadFileRequest(Message):
    """A part of a file on its way."""
    @property
    def begin(self) -> UploadBegin:
        """The file; in the first message alone."""
    data: bytes
    """The bytes that follow those before. At most 524,288 bytes."""
    def __init__(self, *, begin: UploadBegin | Mapping[str, object] | None = ..., data: bytes | None = ...) -> None: ...

class UploadBegin(Message):
    """A file that a client is about to send."""
    name: str
    """Its name: a relative path of up to 16 parts, each of up to 255 bytes and none of them "." or
    "..", without control characters. At most 1,024 bytes."""
    size_bytes: int
    """All of its bytes."""
    sha256: str
    """The SHA-256 of all of its bytes, in lower-case hexadecimal. At most 64 bytes."""
    offset_bytes: int
    """The first byte that this call sends. Bytes of a partial upload behind it are dropped; 0
    begins anew."""
    overwrite: bool
    """A file of that name is replaced, once the new one is whole. Both count until then."""
    def __init__(self, *, name: str | None = ..., size_bytes: int | None = ..., sha256: str | None = ..., offset_bytes: int | None = ..., overwrite: bool | None = ...) -> None: ...

class UploadedFile(Message):
    """A file of an owner, or one on its way."""
    name: str
    """Its name, as a spec names it."""
    size_bytes: int
    """Bytes of the file; absent where no file of this name has come whole."""
    @property
    def update_time(self) -> Timestamp:
        """When it had come whole; absent where it has not."""
    sha256: str
    """Its SHA-256 in lower-case hexadecimal. UploadFile and StatFile alone tell it."""
    @property
    def partial(self) -> PartialUpload:
        """The upload of a file of this name that has not come whole; absent where there is none."""
    def __init__(self, *, name: str | None = ..., size_bytes: int | None = ..., update_time: Timestamp | Mapping[str, object] | None = ..., sha256: str | None = ..., partial: PartialUpload | Mapping[str, object] | None = ...) -> None: ...

class PartialUpload(Message):
    """An upload that has not come whole."""
    received_bytes: int
    """Bytes that are there: the offset from which it goes on."""
    size_bytes: int
    """All bytes of the file. They count for the quota from the beginning."""
    sha256: str
    """The checksum that the whole file is to have."""
    @property
    def expire_time(self) -> Timestamp:
        """When it is removed if nothing is sent until then."""
    def __init__(self, *, received_bytes: int | None = ..., size_bytes: int | None = ..., sha256: str | None = ..., expire_time: Timestamp | Mapping[str, object] | None = ...) -> None: ...

class ListFilesRequest(Message):
    """Asks for the caller's files."""
    page_size: int
    """The most files in the answer: 100 by default, at most 1,000."""
    page_token: str
    """The next_page_token of the page before; empty for the first page. At most 4,096 bytes."""
    def __init__(self, *, page_size: int | None = ..., page_token: str | None = ...) -> None: ...

class ListFilesResponse(Message):
    """A page of files."""
    @property
    def files(self) -> RepeatedCompositeFieldContainer[UploadedFile]:
        """The files, by name."""
    next_page_token: str
    """Where the next page begins; empty at the end."""
    used_bytes: int
    """Bytes of all files and of all partial uploads of the owner, these as if they were whole."""
    quota_bytes: int
    """The most bytes that the owner may have: uploads.quota_bytes in the settings."""
    def __init__(self, *, files: Iterable[UploadedFile] | None = ..., next_page_token: str | None = ..., used_bytes: int | None = ..., quota_bytes: int | None = ...) -> None: ...

class StatFileRequest(Message):
    """Asks for a file."""
    name: str
    """Its name. At most 1,024 bytes."""
    def __init__(self, *, name: str | None = ...) -> None: ...

class DeleteFileRequest(Message):
    """Asks to remove a file."""
    name: str
    """Its name. At most 1,024 bytes."""
    def __init__(self, *, name: str | None = ...) -> None: ...

class DeleteFileResponse(Message):
    """The file is removed."""
    def __init__(self) -> None: ...
