"""The package on one version of protobuf: messages there and back, a job, and an error with its
details.

    PYTHONPATH=FOLDER python tests/python_package/matrix.py VERSION
"""

import sys

import google.protobuf
from support import EXAMPLES, LINEAR

import torchd
from torchd import messages
from torchd.spec import to_message


def main(version):
    found = google.protobuf.__version__
    assert found == version, f"protobuf {version} is to be tested, and {found} was imported"
    spec = to_message({**LINEAR, "max_duration": "90s", "labels": {"team": "vision"}, "retry": {"also_on": ["bad_data"]}})
    assert messages.JobSpec.FromString(spec.SerializeToString()) == spec
    assert (spec.max_duration.seconds, spec.labels["team"], len(spec.retry.also_on)) == (90, "vision", 1)
    with torchd.local(EXAMPLES) as client:
        job = client.submit(spec).wait(progress=False)
        assert job.state == "SUCCEEDED" and len(job.scalars()["loss/train"]) == 8, job
        assert "SUCCEEDED" in job._repr_html_() and job.message.create_time.ToDatetime().year > 2000
        try:
            client.submit({"training": {"epochs": 1, "batch_size": 0}})
        except torchd.InvalidSpec as error:
            assert "training.batch_size" in dict(error.fields), error.fields
        else:
            raise AssertionError("a spec with mistakes was taken")
    print(f"protobuf {version}: messages, a job and its curve, an error with its fields")


if __name__ == "__main__":
    main(sys.argv[1])
