"""The results of jobs, loaded by PyTorch, and jobs that begin with weights that PyTorch saved."""

import json
import logging
import pathlib
import sys
import tempfile
import unittest
import warnings
import zipfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "python"), str(TOP / "tests" / "pytorch")]

import compare  # noqa: E402 (first: it sets the number of threads)
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import models  # noqa: E402
import reference  # noqa: E402
import torchd_export  # noqa: E402

# It tells that Triton is not there, which nothing here needs.
logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
STEPS = 6


class Jobs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory(prefix="torchd-jobs-")
        cls.addClassCleanup(folder.cleanup)
        cls.data = pathlib.Path(folder.name) / "data"
        cls.data.mkdir()
        cls.daemon = compare.Daemon(pathlib.Path(folder.name))
        cls.addClassCleanup(cls.daemon.stop)

    def export(self, name):
        """The module of a small model, exported by the helper."""
        case = models.SMALL[name]
        torch.manual_seed(compare.SEED)
        module = case.make()
        inputs, target = reference.split(case.data(4), case.loss)
        torchd_export.export(module, inputs, self.place(name), **(dict(loss=case.loss, target=target) if case.loss else {}))
        return case, module

    def place(self, name, file="net.pt2"):
        (self.data / name).mkdir(exist_ok=True)
        return self.data / name / file

    def submit(self, name, case, more="", batch_size=compare.BATCH):
        """Writes the data and the spec of a job, with `more` behind the model's path; the job, which
        need not succeed."""
        save_file(case.data(compare.EXAMPLES), self.place(name, "data.safetensors"))
        spec = compare.spec(name, case, "sgd").replace("[data.train", f"{more}[data.train")
        for field, before, after in (("max_steps", compare.STEPS, STEPS), ("batch_size", compare.BATCH, batch_size)):
            self.assertIn(f"{field} = {before}\n", spec)
            spec = spec.replace(f"{field} = {before}\n", f"{field} = {after}\n")
        self.place(name, "job.toml").write_text(spec)
        return json.loads(self.daemon.ctl("submit", self.place(name, "job.toml"), "-o", "json"))["name"]

    def train(self, name, case, **arguments):
        """The folder of the results of a job that has succeeded."""
        job = self.submit(name, case, **arguments)
        self.daemon.wait(job)
        return self.daemon.state / job / "artifacts"

    def trained(self, module, case):
        """Trains the module in Python as the job does, on the same data."""
        optimizer = torch.optim.SGD(module.parameters(), lr=case.rate, momentum=case.momentum)
        reference.train(module, case.data(compare.EXAMPLES), case.loss, optimizer, steps=STEPS, batch_size=compare.BATCH, seed=compare.SEED)
        return module.eval()

    def assert_same(self, have, want, what):
        have, want = (torch.utils._pytree.tree_leaves(value) for value in (have, want))
        self.assertEqual(len(have), len(want), what)
        for a, b in zip(have, want):
            self.assertTrue(torch.equal(a, b), what)

    def assert_loads(self, artifacts, fresh, trained):
        """Both files of weights go into a new module, by every name that it has, and make it the
        one that was trained in Python."""
        for weights in (torch.load(artifacts / "model.pt"), torch.load(artifacts / "model.pt", mmap=True), load_file(artifacts / "model.safetensors")):
            module = fresh()
            self.assertEqual(set(weights), set(module.state_dict()))
            module.load_state_dict(weights, strict=True)
            for name, tensor in trained.state_dict().items():
                self.assertTrue(torch.equal(module.state_dict()[name], tensor), name)

    def test_results_load_into_the_module_and_into_torch_export(self):
        # Tied weights, BatchNorm, and losses of the model's own.
        for name in ("tied", "cnn", "step_loss", "step_metrics"):
            with self.subTest(name):
                case, module = self.export(name)
                artifacts = self.train(name, case)
                trained = self.trained(module, case)
                self.assert_loads(artifacts, case.make, trained)
                inputs, _ = reference.split(case.data(5), case.loss)
                want = trained(**inputs)
                evaluates = torch.export.load(artifacts / "model.pt2")
                self.assert_same(evaluates.module()(*inputs.values()), want, "the graph for evaluation")
                graphs = self.graphs(artifacts / "model.pt2")
                self.assert_same(graphs["eval"].module()(*inputs.values()), want, "the graph eval")
                torch.manual_seed(3)
                want = trained.train()(**inputs)
                torch.manual_seed(3)
                self.assert_same(graphs["train"].module()(*inputs.values()), want, "the graph train")

    def graphs(self, path):
        from torch.export.pt2_archive._package import load_pt2
        return load_pt2(str(path)).exported_programs

    def plain(self, name, module, case):
        """Two files, as torch.export.save writes them."""
        inputs, _ = reference.split(case.data(4), case.loss)
        batch = torch.export.Dim("batch", min=1)
        for mode, file in ((True, "net.pt2"), (False, "eval.pt2")):
            program = torch.export.export(module.train(mode), (), inputs, dynamic_shapes={name: {0: batch} for name in inputs}, strict=False)
            torch.export.save(program, self.place(name, file))

    def test_results_of_two_plain_files_load_as_two(self):
        case = models.SMALL["cnn"]
        torch.manual_seed(compare.SEED)
        module = case.make()
        self.plain("plain", module, case)
        artifacts = self.train("plain", case, more='eval_path = "plain/eval.pt2"\n')
        trained = self.trained(module, case)
        self.assert_loads(artifacts, case.make, trained)
        x = case.data(5)["x"]
        self.assert_same(torch.export.load(artifacts / "model-eval.pt2").module()(x=x), trained(x), "the graph for evaluation")
        torch.manual_seed(3)
        want = trained.train()(x)
        torch.manual_seed(3)
        self.assert_same(torch.export.load(artifacts / "model.pt2").module()(x=x), want, "the graph for training")

    def test_scores_whose_classes_stand_last_are_trained(self):
        tokens = torch.randint(50, (compare.EXAMPLES, 7), generator=torch.Generator().manual_seed(1))
        for loss, scores in (("cross_entropy", []), ("nll", [torch.nn.LogSoftmax(-1)])):
            with self.subTest(loss):
                torch.manual_seed(compare.SEED)
                module = torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 50), *scores)
                case = models.Case(lambda: module, lambda count: {"input": tokens[:count], "y": tokens[:count].clone()}, loss)
                torchd_export.export(module, tokens[:4], self.place(loss), loss=loss, target=tokens[:4])
                self.train(loss, case)

    def test_arrays_that_the_model_does_not_take_are_left_alone(self):
        class OwnLoss(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(8, 8)

            def forward(self, x):
                return (self.layer(x) - x).square().mean()

        mlp = models.SMALL["mlp"]

        def data(count):
            return {"ahead": torch.zeros(count, 3), **mlp.data(count)}

        # A model that makes its loss of the inputs alone does not take the target either.
        for name, make, loss in (("more", mlp.make, mlp.loss), ("reconstructs", OwnLoss, None)):
            with self.subTest(name):
                case = models.Case(make, data, loss)
                torchd_export.export(make(), {"x": data(4)["x"]}, self.place(name))
                self.train(name, case)

    def test_a_result_is_an_archive_that_another_job_trains_on(self):
        case, module = self.export("tied")
        first = self.train("tied", case)
        again = self.place("again")
        again.write_bytes((first / "model.pt2").read_bytes())
        artifacts = self.train("again", case)
        self.assert_loads(artifacts, case.make, self.trained(self.trained(module, case), case))

    def test_weights_that_python_saved_begin_another_job(self):
        for name in ("tied", "cnn"):
            case, _ = self.export(name)
            torch.manual_seed(99)
            other = case.make()
            state = compare.state_of(other)
            torch.save(other.state_dict(), self.place(name, "weights.pt"))
            save_file(state, self.place(name, "weights.safetensors"))
            want = compare.state_of(self.trained(other, case))
            for file in ("weights.pt", "weights.safetensors"):
                with self.subTest(f"{name}, {file}"):
                    artifacts = self.train(name, case, more=f'[warm_start]\nfile = "{name}/{file}"\nstrict = true\n')
                    self.assertEqual(compare.difference(load_file(artifacts / "model.safetensors"), want), 0)

    def test_weights_that_lack_one_are_refused_by_its_name(self):
        case, module = self.export("cnn")
        state = module.state_dict()
        del state["head.bias"]
        torch.save(state, self.place("cnn", "less.pt"))
        with self.assertRaisesRegex(RuntimeError, "warm_start.file .* missing are head.bias"):
            self.submit("cnn", case, more='[warm_start]\nfile = "cnn/less.pt"\n')

    def test_models_that_cannot_be_trained_are_refused_before_they_run(self):
        case = models.SMALL["mlp"]
        bad = {"static_batch": "takes batches of 4 alone", "eval_as_train": "exported in evaluation mode", "custom_operator": "operator of the library mine",
               "pickled_weight": "pickle", "cuda": "exported on cuda"}
        for file, word in bad.items():
            with self.subTest(file), self.assertRaisesRegex(RuntimeError, f"model.exported.path .*{word}"):
                self.place(file).write_bytes((TOP / "tests" / "data" / "exported" / "bad" / f"{file}.pt2").read_bytes())
                self.submit(file, case)
        torchd_export.export(case.make().double(), {"x": case.data(4)["x"].double()}, self.place("double"))
        with self.assertRaisesRegex(RuntimeError, r"its parameter net.0.weight is float64, and 9 more of 10 parameters .* call model.float\(\)") as caught:
            self.submit("double", case)
        self.assertEqual(str(caught.exception).count("its parameter"), 1)
        self.export("mlp")
        with self.assertRaisesRegex(RuntimeError, r"training.batch_size is 9, which leaves 1 of 28 examples"):
            self.submit("mlp", case, batch_size=9)
        program = torch.export.export(case.make(), (), {"x": case.data(4)["x"]}, dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}}, strict=False)
        torch.export.save(program, self.place("alone"))
        with self.assertRaisesRegex(RuntimeError, "data.validation is set, and the model has no graph for evaluation"):
            self.submit("alone", case, more='[data.validation.safetensors]\npath = "alone/data.safetensors"\n')

    def test_a_step_that_comes_out_otherwise_ends_the_job_before_it_trains(self):
        case, _ = self.export("mlp")
        with zipfile.ZipFile(self.place("mlp")) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        recorded = "net/extra/torchd.json"
        for mode, number in (("train", "loss"), ("train", "gradient_norm"), ("eval", "loss")):
            with self.subTest(f"{mode} {number}"):
                other = json.loads(entries[recorded])
                other[mode][number] *= 1.01
                with zipfile.ZipFile(self.place("mlp"), "w") as archive:
                    for name, content in entries.items():
                        archive.writestr(name, json.dumps(other) if name == recorded else content)
                job = self.submit("mlp", case)
                with self.assertRaises(RuntimeError):
                    self.daemon.wait(job)
                ended = json.loads(self.daemon.ctl("show", job, "-o", "json"))
                self.assertEqual(ended["end"]["reason"], "JOB_END_REASON_BAD_DATA")
                self.assertIn("the step that PyTorch recorded comes out differently", ended["end"]["message"])
                self.assertIn(str(other[mode][number]), ended["end"]["message"])
                self.assertEqual(json.loads(self.daemon.ctl("scalars", job, "-o", "json"))["tags"], [])


if __name__ == "__main__":
    unittest.main()
