"""A million scalars of a job, read over gRPC by a plain client, beside TensorBoard's reader of the
job's event file: seconds by turns, and the memory that the daemon takes for it.

    export TORCHD_PROGRAM=target/release/torchd PYTHONPATH=python:.python
    .package/bin/python benches/read_scalars.py

The client is a channel of grpcio and the messages of the protocol, and keeps step and value of each
point. POINTS and ROUNDS are as in python_client.py.
"""

import array
import os
import pathlib
import tempfile

import figures
from python_client import POINTS, by_turns, event_reader, job_with_scalars, tell, timed

ROUNDS = int(os.environ.get("ROUNDS", "3"))
PAGE = 50_000
MOST_GROWN = 32.0
"""Megabytes that reading may take in the daemon, whatever the number of points."""


def all_pages(call, method, field, **fields):
    """The entries of all pages."""
    token = ""
    while True:
        answer = call(method, page_token=token, **fields)
        yield from getattr(answer, field)
        token = answer.next_page_token
        if not token:
            return


def read(call, job):
    """The points of all tags, as columns."""
    found = {}
    for tag in [entry.tag for entry in all_pages(call, "ListScalarTags", "tags", name=job, page_size=1000)]:
        steps, values = found[tag] = array.array("Q"), array.array("d")
        for point in all_pages(call, "ReadScalars", "points", name=job, tag=tag, page_size=PAGE):
            steps.append(point.step)
            values.append(point.value)
    return found


def main():
    import grpc
    import torchd
    from torchd.daemon import Daemon
    from torchd.protocol import METHODS

    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        data.mkdir()
        daemon = Daemon(data, pathlib.Path(folder) / "state", {"jobs.max_event_bytes": 1 << 30})
        try:
            with torchd.connect(daemon.address, token=daemon.token) as client:
                job = job_with_scalars(client, data)
            channel = grpc.insecure_channel(daemon.address, [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", -1)])

            def call(called, /, **fields):
                method = METHODS[called]
                stub = channel.unary_unary(method.path, request_serializer=method.request.SerializeToString,
                                           response_deserializer=method.response.FromString)
                return stub(method.request(**fields))

            before = figures.memory(daemon.pid)
            # The peak counts from here on.
            pathlib.Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")
            points = 0

            def count():
                nonlocal points
                points = sum(len(steps) for steps, _ in read(call, job.name).values())

            # The first reader waits for the index of the journal, too.
            seconds = timed(count)
            first = figures.memory(daemon.pid, "VmHWM")
            assert points >= POINTS, points
            print(f"{points} scalars: {seconds:.2f} s for the first reader; the daemon had {before:.1f} MB, and {first:.1f} MB at most", flush=True)
            events = event_reader(pathlib.Path(job.message.directory) / "tensorboard")
            pairs = by_turns(lambda: timed(lambda: read(call, job.name)), lambda: timed(events), ROUNDS)
            peak = figures.memory(daemon.pid, "VmHWM")
        finally:
            daemon.stop()
    tell(f"{points} scalars by a plain gRPC client beside TensorBoard's reader", pairs, entry="scalars/read", peer="TensorBoard's reader")
    print(f"memory of the daemon: {peak:.1f} MB at most after {ROUNDS + 1} more readers")
    figures.note(figures.Figure("scalars/memory", "MB more", [peak - before], bound=MOST_GROWN))


if __name__ == "__main__":
    main()
