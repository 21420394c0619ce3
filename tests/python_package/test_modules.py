"""Modules of PyTorch, trained by one line, and what is refused of them."""

import concurrent.futures
import unittest

import torch
from support import WithDaemon
from torch import nn

import torchd

torch.set_num_threads(1)
torch.manual_seed(0)
X = torch.randn(400, 20)
Y = (X[:, 0] > 0).long()


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))


class OwnLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(20, 2)

    def forward(self, x, y):
        return nn.functional.cross_entropy(self.scores(x), y)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(20, 2)

    def forward(self, x):
        if x.sum() > 0:  # the line
            return self.scores(x)
        return -self.scores(x)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class StraightThrough(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(20, 2)

    def forward(self, x):
        return Rounded.apply(self.scores(x))


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(20, 2)
        self.scores.weight.register_hook(lambda gradient: 2 * gradient)

    def forward(self, x):
        return self.scores(x)


class Modules(WithDaemon):
    def test_a_module_is_trained_and_gets_its_weights_back(self):
        module = network()
        job = self.client.train(module, (X[:320], Y[:320]), validation=(X[320:], Y[320:]), epochs=20, batch_size=32,
                                optimizer={"adamw": {"learning_rate": 0.01}}, seed=3).wait(progress=False)
        self.assertEqual(job.message.spec.display_name, "Sequential")
        self.assertIs(job.load_into(module), module)
        with torch.no_grad():
            here = (module.eval()(X[320:]).argmax(1) == Y[320:]).float().mean().item()
        there = job.message.progress.latest_scalars["accuracy/validation"]
        self.assertGreater(there, 0.8)
        self.assertAlmostEqual(here, there, places=6)

    def test_training_leaves_module_mode_and_random_numbers_alone(self):
        module = network().eval()
        weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        torch.manual_seed(5)
        want = torch.rand(3)
        torch.manual_seed(5)
        self.client.train(module, (X, Y), epochs=1).cancel()
        self.assertTrue(torch.equal(torch.rand(3), want))
        self.assertFalse(module.training)
        for name, tensor in module.state_dict().items():
            self.assertTrue(torch.equal(tensor, weights[name]), name)

    def test_the_numbers_are_those_of_a_loop_in_python(self):
        module, own = nn.Linear(20, 2), nn.Linear(20, 2)
        own.load_state_dict(module.state_dict())
        job = self.client.train(module, (X[:64], Y[:64]), epochs=3, batch_size=64, optimizer={"sgd": {"learning_rate": 0.1}}).wait(progress=False)
        optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(own(X[:64]), Y[:64]).backward()
            optimizer.step()
        job.load_into(module)
        self.assertTrue(torch.allclose(module.weight, own.weight, atol=1e-6))

    def test_a_module_that_returns_its_loss_names_none(self):
        for data in ((X, Y), {"x": X, "y": Y}):
            job = self.client.train(OwnLoss(), data, epochs=1).wait(progress=False)
            self.assertTrue(job.message.model_outline.has_own_loss)

    def test_a_checkpoint_is_loaded_of_a_job_that_goes_on(self):
        module = network()
        job = self.client.train(module, (X, Y), epochs=2, batch_size=100).wait(progress=False)
        steps = [checkpoint.step for checkpoint in job.checkpoints()]
        self.assertEqual(steps, [8, 4])
        first = {name: tensor.clone() for name, tensor in job.load_into(network(), checkpoint=4).state_dict().items()}
        self.assertFalse(torch.equal(first["0.weight"], job.load_into(module).state_dict()["0.weight"]))

    def test_weights_that_do_not_fit_are_told_by_name_and_nothing_is_loaded(self):
        job = self.client.train(network(), (X, Y), epochs=1).wait(progress=False)
        other = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2), nn.Linear(2, 2))
        before = other[0].bias.clone()
        with self.assertRaises(torchd.WeightsDiffer) as caught:
            job.load_into(other)
        self.assertEqual((caught.exception.missing, caught.exception.unexpected), (["4.bias", "4.weight"], []))
        self.assertIn("0.weight: [32, 20] there, [16, 20] in the module", caught.exception.shapes)
        self.assertIn("0.weight: [32, 20] there", str(caught.exception))
        self.assertTrue(torch.equal(other[0].bias, before))

    def test_a_branch_on_values_is_refused_with_its_line_and_a_remedy(self):
        with self.assertRaises(torchd.ExportError) as caught:
            self.client.train(Branch(), (X, Y), epochs=1)
        self.assertRegex(str(caught.exception), r"test_modules\.py:\d+, in forward: if x.sum\(\) > 0:.*use torch.where, or torch.cond")

    def test_gradients_that_an_export_loses_are_refused(self):
        for module, words in ((StraightThrough(), "other gradients than the module.*The backward of Rounded is not exported"),
                              (Hooked(), "the gradient hooks of scores.weight are not exported")):
            with self.assertRaisesRegex(torchd.ExportError, words):
                self.client.train(module, (X, Y), epochs=1)

    def test_the_recipe_is_judged_by_the_daemon(self):
        with self.assertRaises(torchd.InvalidSpec) as caught:
            self.client.train(network(), (X, Y), epochs=1, batch_size=0)
        self.assertEqual([tuple(field) for field in caught.exception.fields], [("training.batch_size", "is 0; at least 1 is needed")])

    def test_what_a_loop_of_pytorch_has_is_refused_with_what_is_needed(self):
        for arguments, path, words in [
            ({"loss": nn.CrossEntropyLoss()}, "loss", 'is CrossEntropyLoss; a name such as "cross_entropy"'),
            ({"loss": nn.functional.cross_entropy}, "loss", "is cross_entropy; a name such as"),
            ({"optimizer": torch.optim.SGD(network().parameters())}, "optimizer", 'is SGD; a name, or a section of a spec such as {"sgd"'),
            ({"epoch": 1}, "epoch", "did you mean epochs?"),
            ({"batchsize": 4}, "batchsize", "did you mean batch_size?"),
        ]:
            with self.assertRaises(torchd.InvalidSpec) as caught:
                self.client.train(network(), (X, Y), **arguments)
            self.assertEqual(caught.exception.fields[0].path, path)
            self.assertIn(words, caught.exception.fields[0].text)

    def test_modules_are_trained_from_several_threads_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            jobs = list(threads.map(lambda _: self.client.train(network(), (X, Y), epochs=1), range(3)))
        for job in jobs:
            self.assertEqual(job.wait(progress=False).state, "SUCCEEDED")

    def test_the_same_module_and_data_are_sent_once(self):
        def sent():
            self.client.train(network(), (X[:70], Y[:70]), epochs=1).cancel()
            return {file.name for file in self.client.files()}

        first = sent()
        self.assertEqual(sent(), first)

    def test_sections_go_into_a_spec_of_ones_own(self):
        sections = self.client.from_module(network(), data=(X, Y), validation=0.25)
        self.assertEqual(set(sections), {"model", "data"})
        told = self.client.validate({**sections, "training": {"epochs": 1}, "optimizer": {"sgd": {"learning_rate": 0.1}}}, dry_run=True)
        self.assertEqual((told.train_examples, told.validation_examples), (300, 100))

    def test_data_that_the_daemon_has_need_an_example(self):
        with self.assertRaisesRegex(torchd.InvalidData, "give example_inputs="):
            self.client.from_module(network(), data={"npz": {"path": "x.npz"}})
        sections = self.client.from_module(network(), X[:4], data={"npz": {"path": "x.npz"}})
        self.assertEqual(sections["data"], {"train": {"npz": {"path": "x.npz"}}})
        whole = {"train": {"npz": {"path": "x.npz"}}, "limit": 5}
        self.assertEqual(self.client.from_module(network(), X[:4], data=whole)["data"], whole)


if __name__ == "__main__":
    unittest.main()
