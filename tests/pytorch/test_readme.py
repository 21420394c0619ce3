"""Does what the README tells in Python, as it stands there."""

import csv
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "python"), str(TOP / "tests" / "pytorch")]

import compare  # noqa: E402


class Readme(unittest.TestCase):
    def test_the_example_is_trained_and_loaded_back(self):
        section = (TOP / "README.md").read_text().split("## Your own PyTorch model\n")[1].split("\n## ")[0]
        before, after = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        (job,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
        with tempfile.TemporaryDirectory() as folder:
            data = pathlib.Path(folder) / "data"
            data.mkdir()
            self.addCleanup(os.chdir, os.getcwd())
            os.chdir(data)
            # The helper is found as the README says, and no other way.
            (helper,) = re.findall(r'^    export PYTHONPATH="\$PWD/(.*)"$', section, re.MULTILINE)
            sys.path[:] = [str(TOP / helper), *(path for path in sys.path if path != str(TOP / "python"))]
            sys.modules.pop("torchd_export", None)
            names = {}
            exec(before, names)
            (data / "own.toml").write_text(job)
            daemon = compare.Daemon(pathlib.Path(folder))
            self.addCleanup(daemon.stop)
            submit, *downloads = re.findall(r"^    torchctl (.*)$", section, re.MULTILINE)
            daemon.ctl(*submit.split())
            name = daemon.jobs()[0]["name"]
            for command in downloads:
                daemon.ctl(*command.replace("JOB", name).split())
            exec(after, names)
            x, y = names["x"][1600:], names["y"][1600:]
            for model in (names["model"].eval(), names["graph"]):
                self.assertGreater((model(x).argmax(1) == y).float().mean().item(), 0.75)

    def test_a_model_of_images_answers_in_python_as_in_a_job(self):
        import safetensors.torch
        import torch

        section = (TOP / "README.md").read_text().split("## Use the trained model\n")[1].split("\n## ")[0]
        (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder)
            shutil.copytree(TOP / "examples/mnist-5k", place / "data/mnist-5k")
            daemon = compare.Daemon(place)
            self.addCleanup(daemon.stop)
            mnist = (TOP / "examples/mnist.toml").read_text().replace("[model.mnist_cnn]", "[model.linear]")
            (place / "linear.toml").write_text(mnist)
            daemon.ctl("submit", str(place / "linear.toml"), "--watch", "--set", "training.epochs=1")
            name = daemon.jobs()[0]["name"]
            example = str(TOP / "examples/predict.toml")
            daemon.ctl("submit", example, "--watch", "--set", f"warm_start.checkpoint={name}")
            answers = daemon.jobs()[0]["name"]
            self.addCleanup(os.chdir, os.getcwd())
            os.chdir(place)
            (place / "artifacts").mkdir()
            for job, file in [(name, "preprocessing.json"), (name, "model.safetensors"), (answers, "predictions.csv")]:
                daemon.ctl("download", job, f"artifacts/{file}", "--to", str(place / "artifacts" / file))
            images = "t10k-images-idx3-ubyte.gz"
            (place / images).symlink_to(TOP / "examples/mnist-5k" / images)
            model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
            weights = safetensors.torch.load_file("artifacts/model.safetensors")
            model.load_state_dict({f"1.{key}": value for key, value in weights.items()})
            names = {"model": model}
            exec(code, names)
            with open("artifacts/predictions.csv", newline="") as table:
                rows = list(csv.DictReader(table))
            self.assertEqual(names["predictions"].tolist(), [int(row["prediction"]) for row in rows])
            probabilities = model(names["x"]).softmax(1)
            told = torch.tensor([[float(row[f"probability_{label}"]) for label in range(10)] for row in rows])
            torch.testing.assert_close(probabilities.detach(), told)


if __name__ == "__main__":
    unittest.main()
