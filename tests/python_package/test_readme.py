"""Does what the README tells of the package, as it stands there."""

import contextlib
import io
import os
import re
import unittest
from unittest import mock

import torch
from support import TOP, WithDaemon

torch.set_num_threads(1)


class Readme(WithDaemon):
    def test_the_example_is_trained_and_loaded_back(self):
        section = (TOP / "README.md").read_text().split("## From a notebook\n")[1].split("\n## ")[0]
        (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        names = {}
        with mock.patch.dict(os.environ, {"TORCHD_SERVER": self.client.address}), contextlib.redirect_stderr(io.StringIO()):
            exec(code, names)
        with torch.no_grad():
            right = (names["model"].eval()(names["x"]).argmax(1) == names["y"]).float().mean().item()
        self.assertGreater(right, 0.9)
        self.assertEqual(set(names["curves"].tag) & {"loss/train", "loss/validation"}, {"loss/train", "loss/validation"})


if __name__ == "__main__":
    unittest.main()
