"""Does what the README tells under "Your own PyTorch model", as it stands there."""

import os
import pathlib
import re
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
            names = {}
            exec(before, names)
            (data / "own.toml").write_text(job)
            daemon = compare.Daemon(pathlib.Path(folder))
            self.addCleanup(daemon.stop)
            daemon.ctl("submit", "own.toml", "--watch")
            name = daemon.jobs()[0]["name"]
            daemon.ctl("download", name, "artifacts/model.safetensors")
            exec(after, names)
            model, x, y = names["model"].eval(), names["x"], names["y"]
            accuracy = (model(x[1600:]).argmax(1) == y[1600:]).float().mean().item()
            self.assertGreater(accuracy, 0.75)


if __name__ == "__main__":
    unittest.main()
