"""What python/torchd_export.py writes, and what it refuses in which words."""

import json
import logging
import os
import pathlib
import sys
import tempfile
import unittest
import warnings
import zipfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "python"), str(TOP / "tests" / "pytorch")]

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import models  # noqa: E402
import reference  # noqa: E402
import torchd_export  # noqa: E402
from torchd_export import ExportError, export  # noqa: E402

# It tells that Triton is not there, which nothing here needs.
logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
X = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))


def module(forward, **parts):
    """A module with a layer of 20 to 10, and `forward(self, ...)`."""
    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(20, 10)
            for name, part in parts.items():
                setattr(self, name, part)

    Made.forward = forward
    return Made()


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Archives(unittest.TestCase):
    def setUp(self):
        warnings.simplefilter("ignore")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = self.folder / "net.pt2"

    def write(self, model, example, **arguments):
        told = export(model, example, self.path, **arguments)
        with zipfile.ZipFile(self.path) as archive:
            self.assertTrue(all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist()))
            entries = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
        self.assertEqual(json.loads(entries["extra/torchd.json"]), told)
        return told, entries

    def loaded(self):
        from torch.export.pt2_archive._package import load_pt2
        return {name: program.module() for name, program in load_pt2(str(self.path)).exported_programs.items()}

    def refused(self, model, example, *words, **arguments):
        with self.assertRaises(ExportError) as caught:
            export(model, example, self.path, **arguments)
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertEqual(os.listdir(self.folder), [], "nothing half-done is left behind")
        return str(caught.exception)

    def test_both_graphs_are_in_it_and_share_weights(self):
        model = models.SMALL["cnn"].make()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        _, entries = self.write(model.eval(), torch.randn(8, 1, 8, 8))
        self.assertFalse(model.training)
        for name, tensor in model.state_dict().items():
            self.assertTrue(torch.equal(tensor, before[name]), f"{name} of the model has been changed")
        lists = [json.loads(entries[f"data/weights/{mode}_weights_config.json"])["config"] for mode in ("train", "eval")]
        self.assertEqual(*lists)
        self.assertEqual(set(lists[0]), set(before))
        self.assertEqual(len([name for name in entries if name.startswith("data/weights/weight_")]), len(before))
        x = torch.randn(3, 1, 8, 8)
        graphs = self.loaded()
        self.assertTrue(torch.equal(graphs["eval"](x), model(x)))
        torch.manual_seed(5)
        want = model.train()(x)
        torch.manual_seed(5)
        self.assertTrue(torch.equal(graphs["train"](x), want))

    def test_buffers_are_stored_as_they_were_before_the_seeded_step(self):
        model = models.SMALL["cnn"].make()
        model(torch.randn(8, 1, 8, 8))
        self.write(model, torch.randn(8, 1, 8, 8))
        saved = self.loaded()["train"].state_dict()
        for name, tensor in model.state_dict().items():
            self.assertTrue(torch.equal(saved[name], tensor), name)

    def test_the_examples_numbers_are_not_in_it(self):
        x = torch.randn(64, 20)
        told, entries = self.write(models.Mlp(), x)
        for row in x:
            self.assertFalse(any(row.numpy().tobytes()[:16] in content for content in entries.values()))
        self.assertEqual(told["inputs"], [{"name": "x", "dtype": "float32", "shape": [4, 20], "path": "data/torchd/x"}])
        drawn = torch.frombuffer(bytearray(entries["data/torchd/x"]), dtype=torch.float32)
        self.assertTrue(x.min() <= drawn.min() and drawn.max() <= x.max())
        self.assertEqual(entries["data/sample_inputs/train.pt"], b"")

    def test_the_seeded_step_can_be_repeated(self):
        for name, case in models.SMALL.items():
            with self.subTest(name):
                model = case.make()
                inputs, target = reference.split(case.data(6), case.loss)
                told, entries = self.write(model, inputs, **({"loss": case.loss, "target": target} if case.loss else {}))

                def read(entry):
                    tensor = torch.frombuffer(bytearray(entries[entry["path"]]), dtype=getattr(torch, entry["dtype"]))
                    return tensor.reshape(entry["shape"])

                graphs = self.loaded()
                inputs = [read(entry) for entry in told["inputs"]]
                for mode in ("eval", "train"):
                    torch.manual_seed(told["seed"])
                    output = graphs[mode](*inputs)
                    first = output[0] if isinstance(output, tuple) else output
                    self.assertEqual(told["loss"], case.loss or "output")
                    loss = first if case.loss is None else torchd_export.LOSSES[case.loss](first, read(told["target"]))
                    self.assertAlmostEqual(loss.item(), told[mode]["loss"], delta=1e-5 * abs(loss.item()))
                loss.backward()
                squares = sum(p.grad.double().square().sum().item() for p in graphs["train"].parameters() if p.grad is not None)
                self.assertAlmostEqual(squares ** 0.5, told["train"]["gradient_norm"], delta=1e-4 * squares ** 0.5)

    def test_without_a_loss_it_is_the_mean_of_squares(self):
        told, _ = self.write(nn.Linear(20, 10), X)
        self.assertEqual((told["loss"], told["target"]), ("mean_square", None))

    def test_the_users_random_numbers_go_on(self):
        model = models.Mlp()
        state = torch.get_rng_state()
        self.write(model, X)
        self.assertTrue(torch.equal(torch.get_rng_state(), state))

    def test_the_same_model_gives_the_same_bytes(self):
        model = models.Mlp()
        self.write(model, X)
        first = self.path.read_bytes()
        self.write(model, X)
        self.assertEqual(first, self.path.read_bytes())

    def test_a_batch_of_any_size_goes_through(self):
        self.write(models.Recurrent(), torch.randint(50, (1, 7)))
        for size in (1, 2, 9):
            self.assertEqual(self.loaded()["eval"](torch.randint(50, (size, 7))).shape, (size, 10))

    def test_further_dimensions_can_be_dynamic(self):
        length = {"tokens": {1: torch.export.Dim("length", min=2, max=32)}}
        self.write(models.Gpt(), torch.randint(50, (3, 7)), dynamic=length)
        self.assertEqual(self.loaded()["eval"](torch.randint(50, (5, 11))).shape, (5, 65, 11))
        os.unlink(self.path)
        self.refused(models.Recurrent(), torch.randint(50, (3, 7)), "every size of length: it is fixed at 7", dynamic=length)
        self.refused(models.Recurrent(), torch.randint(50, (3, 7)), "dynamic names words, and the inputs are tokens", dynamic={"words": {}})
        self.refused(models.Recurrent(), torch.randint(50, (3, 7)), "dynamic['tokens'] is {0: ", dynamic={"tokens": {0: torch.export.Dim("b")}})

    def test_inputs_are_given_by_position_or_by_name(self):
        data = models.image_and_numbers()(4)
        for example in ((data["image"], data["numbers"]), {"numbers": data["numbers"], "image": data["image"]}):
            told, _ = self.write(models.TwoInputs(), example)
            self.assertEqual([entry["name"] for entry in told["inputs"]], ["image", "numbers"])

        def forward(self, first, *others):
            return self.layer(first) + sum(map(self.layer, others))

        told, _ = self.write(module(forward), (X, X, X))
        self.assertEqual([entry["name"] for entry in told["inputs"]], ["first", "others_0", "others_1"])

    def test_ignored_labels_keep_their_places(self):
        y = torch.tensor([3, -100, 1, -100, 2, 0])
        drawn = torchd_export.draw(y, 6, torch.Generator())
        self.assertTrue(torch.equal(drawn < 0, y < 0))
        self.assertTrue(bool((drawn[drawn >= 0] <= 3).all()))

    def test_masks_keep_their_places(self):
        mask = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), float("-inf"))
        self.assertTrue(torch.equal(torchd_export.draw(mask, 4, torch.Generator()), mask))

    def test_tied_weights_stay_one(self):
        self.write(models.Tied(), torch.randn(4, 12))
        with zipfile.ZipFile(self.path) as archive:
            config = json.loads(archive.read("net/data/weights/train_weights_config.json"))["config"]
        self.assertEqual(config["encode.weight"]["path_name"], config["decode.weight"]["path_name"])
        self.assertNotEqual(config["encode.bias"]["path_name"], config["decode.bias"]["path_name"])
        graph = self.loaded()["train"]
        self.assertEqual(graph.encode.weight.data_ptr(), graph.decode.weight.data_ptr())

    def test_equal_weights_that_are_not_tied_stay_two(self):
        model = models.Tied()
        nn.init.zeros_(model.encode.bias), nn.init.zeros_(model.decode.bias)
        self.write(model, torch.randn(4, 12))
        graph = self.loaded()["train"]
        self.assertNotEqual(graph.encode.bias.data_ptr(), graph.decode.bias.data_ptr())

    def test_parts_of_one_tensor_stay_parts_of_it(self):
        whole = torch.arange(20.0)
        model = module(lambda self, x: self.layer(x * self.low.sum() + self.high.sum()))
        model.register_buffer("low", whole[:10])
        model.register_buffer("high", whole[5:15])
        self.write(model, X)
        graph = self.loaded()["eval"]
        self.assertTrue(torch.equal(graph.low, whole[:10]) and torch.equal(graph.high, whole[5:15]))

    # Gradients that an export loses.

    def test_a_custom_backward_is_refused_by_name(self):
        self.refused(module(lambda self, x: Round.apply(self.layer(x) * 4)), X, "other gradients", "layer.weight, layer.bias", "The backward of Round")

    def test_a_custom_backward_that_is_the_derivative_is_fine(self):
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, gradient):
                return gradient * 2

        self.write(module(lambda self, x: Double.apply(self.layer(x))), X)

    def test_a_straight_through_estimator_by_detach_is_fine(self):
        self.write(module(lambda self, x: (lambda z: z + (z.round() - z).detach())(self.layer(x) * 4)), X)

    def test_hooks_are_refused(self):
        def forward(self, x):
            z = self.layer(x)
            if z.requires_grad:
                z.register_hook(lambda gradient: gradient * 0.1)
            return z

        self.refused(module(forward), X, "other gradients", "register_hook")
        model = nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 5))
        model[1].register_full_backward_hook(lambda module, before, after: tuple(None if g is None else g * 2 for g in before))
        self.refused(model, X, "0.weight, 0.bias", "gradient hooks of 1 ")
        for hook in ("register_hook", "register_post_accumulate_grad_hook"):
            model = torch.nn.Linear(X.shape[1], 2)
            getattr(model.weight, hook)(lambda tensor: None)
            self.refused(model, X, "gradient hooks of weight are not exported")

    # Graphs that would not be the model.

    def test_a_condition_on_values_is_told_with_its_line(self):
        def forward(self, x):
            if x.sum() > 0:
                return self.layer(x)
            return self.layer(-x)

        self.refused(module(forward), X, "decides by the values of a tensor at ", "test_export.py", "if x.sum() > 0:", "torch.cond")

    def test_a_size_that_is_written_down_is_told_with_its_line(self):
        self.refused(module(lambda self, x: self.layer(x.view(4, 20))), X, "takes a batch of 4 and fails in train mode on a batch of 5", "x.view(4, 20)")

    def test_a_loop_over_the_batch_is_told_with_its_line(self):
        def forward(self, x):
            return torch.stack([self.layer(row) for row in x])

        self.refused(module(forward), X, "would not take every size of batch: it is fixed at 4", "for row in x]")

    def test_a_condition_on_the_size_is_told_with_its_line(self):
        def forward(self, x):
            return self.layer(x * 2 if x.shape[0] % 2 == 0 else x)

        self.refused(module(forward), X, "it needs ", "x.shape[0] % 2 == 0")

    def test_a_number_that_python_draws_is_refused(self):
        import random
        self.refused(module(lambda self, x: self.layer(x) * random.random()), X, "gives other outputs than the module", "is a constant in the graph")

    def test_numpy_inside_is_told_with_its_line(self):
        self.refused(module(lambda self, x: self.layer(x) + torch.from_numpy(x.detach().numpy()).sum()), X, "torch.export refuses", "x.detach().numpy()")

    def test_an_input_that_is_written_into_is_refused(self):
        self.refused(module(lambda self, x: self.layer(x.mul_(2))), X, "writes into its input x")

    # Models and examples that cannot be right.

    def test_outputs_that_no_loss_takes_are_refused(self):
        self.refused(module(lambda self, x: torch.fft.fft(self.layer(x))), X, "complex numbers")
        self.refused(module(lambda self, x: self.layer(x).argmax(1)), X, "the scores, not the classes")
        self.refused(module(lambda self, x: self.layer(x).detach()), X, "does not depend on a parameter")
        self.refused(module(lambda self, x: {"loss": self.layer(x).sum().item()}), X, "leave .item() out")
        self.refused(module(lambda self, x: None), X, "NoneType")
        self.refused(module(lambda self, x: self.layer(x).sum() * float("inf")), X, "inf in train mode")

    def test_models_that_cannot_be_trained_are_refused(self):
        self.refused(lambda x: x, X, "of type function", "torch.nn.Module is needed")
        self.refused(nn.ReLU(), X, "no parameters")
        self.refused(nn.Linear(20, 2).requires_grad_(False), X, "no parameter of the model has requires_grad")
        self.refused(nn.LazyLinear(2), X, "weight, bias", "run the model once")
        self.refused(nn.Linear(20, 2, device="meta"), X, "the model is on meta", "export(model.cpu(), ...)")
        self.refused(nn.Linear(20, 2, dtype=torch.complex64), X, "weight (torch.complex64)")
        self.refused(nn.DataParallel(nn.Linear(20, 2)), X, "export(model.module, ...)")
        self.refused(torch.compile(nn.Linear(20, 2)), X, "export(model._orig_mod, ...)")
        self.refused(torch.jit.script(nn.Linear(20, 2)), X, "give the module that it was made of")
        broken = nn.Linear(20, 2)
        nn.init.constant_(broken.bias, float("nan"))
        self.refused(broken, X, "bias of the model has values that are not finite")

    def test_a_module_that_keeps_a_result_is_told(self):
        model = module(lambda self, x: self.layer(x))
        model.last = model(X)
        self.refused(model, X, "cannot be copied", "keep a result of forward")

    def test_examples_that_are_no_batch_are_refused(self):
        model = models.Mlp()
        self.refused(model, [[1.0] * 20], "input x of the example is of type list")
        self.refused(model, 3, "the example is of type int")
        self.refused(model, (X, X), "does not fit Mlp.forward(x)")
        self.refused(model, {"z": X}, "does not fit Mlp.forward(x)", "'x'")
        self.refused(model, X[:0], "a batch of no examples")
        self.refused(model, X.to_sparse(), "sparse")
        self.refused(model, X.to(torch.complex64), "complex64")
        self.refused(model, X.to("meta"), "input x of the example is on meta")
        self.refused(model, torch.randn(4, 7), "the model itself fails in train mode", "mat1 and mat2")
        self.refused(models.TwoInputs(), (torch.randn(4, 1, 8, 8), torch.randn(3, 3)), "input numbers has shape [3, 3], and image has [4, 1, 8, 8]")
        self.refused(module(lambda self, x, flag: self.layer(x)), (X, True), "input flag of the example is of type bool")

    def test_losses_and_targets_that_do_not_fit_are_refused(self):
        model, y = models.Mlp(), torch.randint(3, (4,))
        self.refused(model, X, "loss is 'hinge'", "'cross_entropy'", loss="hinge", target=y)
        self.refused(model, X, "one of them is missing", loss="cross_entropy")
        self.refused(model, X, "has to be that of the inputs, 4", loss="cross_entropy", target=y[:3])
        self.refused(model, X, "cross_entropy of the first output, [4, 3] torch.float32, and the target, [4, 2]", loss="cross_entropy",
                     target=torch.randint(3, (4, 2)))
        self.refused(models.StepLoss(models.Mlp()), (X, y), "leave loss='mse' out", loss="mse", target=y)

    def test_classes_stand_in_the_second_or_in_the_last_dimension(self):
        last = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50), nn.LogSoftmax(-1))
        first = module(lambda self, x: self.inner(x).movedim(-1, 1), inner=last)
        tokens = torch.randint(50, (4, 7))
        for loss in ("cross_entropy", "nll"):
            told = [self.write(model, tokens, loss=loss, target=tokens)[0] for model in (last, first)]
            self.assertEqual(*(made["train"]["loss"] for made in told))
        # [batch, 7, 7] can be read both ways: it is what PyTorch makes of it.
        both = nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7))
        for scores in (torch.randn(4, 7, 7), torch.randn(4, 7)):
            y = torch.randint(7, scores.shape[:1] + scores.shape[2:])
            self.assertTrue(torch.equal(torchd_export.LOSSES["cross_entropy"](scores, y), F.cross_entropy(scores, y)))
        self.write(both, tokens % 7, loss="cross_entropy", target=tokens % 7)

    def test_what_is_likely_wrong_with_a_target_is_told(self):
        model, y = models.Mlp(), torch.tensor([0, 1, 2, 1])
        self.refused(model, X, "the class 3, and the output has scores for 0 to 2", "subtract 1", loss="cross_entropy", target=y + 1)
        self.refused(model, X, "pass it as int64 (target.long())", loss="nll", target=y.float())
        self.refused(model, X, "target.squeeze(1)", loss="cross_entropy", target=y[:, None])

    def test_names_that_forward_does_not_have_are_told(self):
        self.refused(nn.Sequential(nn.Linear(20, 2)), {"x": X}, "the example has 'x', and forward's inputs are called 'input'")

    def test_what_forward_returns_besides_tensors_is_told(self):
        def forward(self, x):
            score = self.layer(x)
            return score, {"size": score.abs().mean().item()}

        self.refused(module(forward), X, "forward returns a value of type float (", "leave .item() out")
        self.refused(module(lambda self, x: []), X, "forward returns no tensor")

    def test_special_inputs_can_be_given(self):
        model = module(lambda self, x, less: self.layer(torch.log(x - less)))
        less = X - 1
        self.refused(model, (X, less), "the mean_square of the first output is nan", "give inputs that make sense as sample=")
        _, entries = self.write(model, (X, less), sample=(X, less))
        self.assertEqual(entries["data/torchd/x"], X.numpy().tobytes())
        os.unlink(self.path)
        self.refused(model, (X, less), "a batch of one", sample=(X[:1], less[:1]))
        self.refused(model, (X, less), "the sample does not fit", sample=X)
        self.refused(model, (X, less), "does not have the inputs of the example", sample=(X, less.double()))

    def test_a_wrong_name_of_the_file_is_refused(self):
        with self.assertRaisesRegex(ExportError, "has to end in .pt2"):
            export(models.Mlp(), X, self.folder / "net.pt")
        with self.assertRaisesRegex(ExportError, "nowhere' for 'net.pt2' does not exist"):
            export(models.Mlp(), X, self.folder / "nowhere" / "net.pt2")

    def test_a_path_that_is_no_name_is_refused(self):
        for path in (X, None, 3, b"net.pt2"):
            with self.assertRaisesRegex(ExportError, "the path is of type .*export\\(model, example, path\\)"):
                export(models.Mlp(), "net.pt2", path)


if __name__ == "__main__":
    unittest.main()
