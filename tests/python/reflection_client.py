"""Runs a job with nothing but reflection."""

import json
import sys

from reflection import Client, told

client = Client(*sys.argv[1:])


def idx(name):
    return {"idx": {"images": f"mnist-5k/{name}-images-idx3-ubyte.gz", "labels": f"mnist-5k/{name}-labels-idx1-ubyte.gz"}}


health = client.call("grpc.health.v1.Health", "Check", service="torchd.v1.JobService")
job = client.call("torchd.v1.JobService", "CreateJob", spec={
    "seed": 1,
    "model": {"mnist_cnn": {}},
    "data": {"train": idx("train"), "validation": idx("t10k")},
    "training": {"max_steps": 20},
    "optimizer": {"sgd": {"learning_rate": 0.01}},
})
for answer in client.call("torchd.v1.JobService", "WatchJob", name=job.name):
    for event in answer.events:
        if event.HasField("snapshot"):
            last = event.snapshot
print(json.dumps({
    "services": client.services,
    "health": told(health)["status"],
    "state": told(last)["state"],
    "steps": int(told(last)["progress"]["step"]),
}))
