"""The examples, run as a person runs them."""

import contextlib
import importlib.util
import io
import os
import re
import unittest
from unittest import mock

import nbformat
import torch
from nbclient import NotebookClient
from support import EXAMPLES, TOP, WithDaemon
from torchd.words import ENDED

torch.set_num_threads(1)
NOTEBOOK = EXAMPLES / "notebook.ipynb"
SAYS = re.compile(r"accuracy here ([\d.]+), in the job ([\d.]+)")
ENVIRONMENT = {"MPLBACKEND": "agg", "PYTHONPATH": str(TOP / "python")}


class Examples(WithDaemon):
    def setUp(self):
        patched = mock.patch.dict(os.environ, {**ENVIRONMENT, "TORCHD_SERVER": self.client.address})
        patched.start()
        self.addCleanup(patched.stop)

    def notebook(self, cells=None, before=()):
        """A client that runs the notebook, or some of its cells behind others."""
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        if cells is not None:
            notebook.cells = [*before, *(cell for cell in notebook.cells if cell.cell_type == "code" and cells(cell.source))]
        return NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}})

    def text(self, client):
        """What the cells have printed, and what they show as a page."""
        outputs = [output for cell in client.nb.cells if cell.cell_type == "code" for output in cell.outputs]
        return "".join(output.get("text", "") + "".join(output.get("data", {}).get("text/html", "")) for output in outputs)

    def agree(self, text):
        here, there = map(float, SAYS.search(text).groups())
        self.assertGreater(here, 0.8)
        self.assertAlmostEqual(here, there, places=3)

    def test_the_notebook_runs_from_its_first_cell_to_its_last(self):
        client = self.notebook()
        client.execute()
        text = self.text(client)
        self.agree(text)
        self.assertIn("<polyline points=", text)

    def test_a_notebook_whose_kernel_is_killed_finds_its_job_again(self):
        first = self.notebook(lambda source: "job.wait" not in source and "scalars()" not in source and "load_into" not in source)
        with first.setup_kernel():
            for number, cell in enumerate(first.nb.cells):
                first.execute_cell(cell, number)
            job = self.client.jobs()[0]
            first.km.provisioner.process.kill()
        self.assertNotIn(self.client.job(job.name).state, ENDED)
        again = nbformat.v4.new_code_cell(f"import torchd\njob = torchd.connect().job({job.name!r}).wait(progress=False)")
        second = self.notebook(lambda source: "client.train" not in source and "job.wait" not in source and "scalars()" not in source, [again])
        second.execute()
        self.agree(self.text(second))
        self.assertEqual(self.client.job(job.name).message.attempt, 1)

    def test_a_transformer_is_built_from_a_configuration_and_trained(self):
        found = importlib.util.spec_from_file_location("transformer", EXAMPLES / "transformer.py")
        example = importlib.util.module_from_spec(found)
        found.loader.exec_module(example)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            accuracy, told = example.main()
        self.assertGreater(accuracy, 0.5)
        self.assertAlmostEqual(accuracy, told, places=3)


if __name__ == "__main__":
    unittest.main()
