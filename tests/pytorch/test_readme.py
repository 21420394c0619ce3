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


if __name__ == "__main__":
    unittest.main()
