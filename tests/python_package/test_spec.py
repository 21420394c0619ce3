"""Specs as people write them."""

import datetime
import json
import pathlib
import tempfile
import unittest

from support import EXAMPLES, LINEAR, WithDaemon

import torchd
from torchd import messages
from torchd.spec import merged, to_message


class Specs(unittest.TestCase):
    def test_a_dictionary_a_file_and_a_message_mean_the_same(self):
        spec = {**LINEAR, "resources": {"device": "cpu"}, "max_duration": "90s"}
        message = to_message(spec)
        self.assertEqual(message.resources.device, messages.DEVICE_CPU)
        self.assertEqual(to_message(message), message)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "job.json"
            path.write_text(json.dumps(spec))
            self.assertEqual(to_message(path), message)
        self.assertEqual(to_message({**spec, "max_duration": datetime.timedelta(seconds=90)}), message)
        self.assertEqual(to_message({**spec, "max_duration": 90.0}), message)
        self.assertEqual(to_message({**spec, "resources": {"device": "DEVICE_CPU"}}), message)

    def test_changes_go_over_a_spec_and_over_a_choice(self):
        spec = to_message(LINEAR, {"training.max_steps": 3, "optimizer.sgd.momentum": 0.5})
        self.assertEqual((spec.training.WhichOneof("length"), spec.training.max_steps, spec.training.batch_size), ("max_steps", 3, 500))
        self.assertEqual((spec.optimizer.sgd.momentum, spec.optimizer.sgd.learning_rate), (0.5, 0.01))

    def test_every_mistake_is_told_with_its_path(self):
        with self.assertRaises(torchd.InvalidSpec) as caught:
            to_message({"sed": 1, "training": {"epochs": 1, "max_steps": 2, "batch_size": -4}, "resources": {"device": "gpu"}, "model": {"wavelets": {}},
                        "labels": "x", "metrics": "accuracy", "seed": True, "max_duration": "soon", "optimizer": {"sgd": {"momentum": "x"}, "groups": [3]}},
                       {"optimizer.adan.beta": 1})
        expected = [
            ("sed", "no such field; did you mean seed?"),
            ("training.max_steps", "training has epochs already; one of both is right"),
            ("training.batch_size", "is -4; a whole number from 0 to 4294967295 is needed"),
            ("resources.device", "is 'gpu'; auto or cpu or cuda is needed"),
            ("model.wavelets", "no such field; there are mnist_cnn, mlp, exported, torchscript, sequential, linear, resnet, vit, gpt"),
            ("labels", "is 'x'; a dictionary is needed"),
            ("metrics", "is 'accuracy'; a list is needed"),
            ("seed", "is True; a whole number from 0 to 18446744073709551615 is needed"),
            ("max_duration", "is 'soon'; seconds are needed, as 90, \"90s\" or a timedelta"),
            ("optimizer.sgd.momentum", "is 'x'; a number is needed"),
            ("optimizer.groups", "is 3; a list of dictionaries is needed"),
            ("optimizer.adan", "no such field; did you mean adam?"),
        ]
        self.assertEqual([tuple(field) for field in caught.exception.fields], expected)
        self.assertIn("the spec has 12 mistakes:\n  sed: no such field", str(caught.exception))

    def test_a_file_that_is_no_spec_is_told_by_its_path(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("job.toml", "a = = 1"), ("job.json", "[1]")):
                path = pathlib.Path(folder) / name
                path.write_text(text)
                with self.assertRaises(torchd.InvalidSpec) as caught:
                    to_message(path)
                self.assertEqual(caught.exception.fields[0].path, str(path))
        with self.assertRaisesRegex(TypeError, "a spec is a dictionary, the path .* and not int"):
            to_message(3)

    def test_groups_are_merged_field_by_field(self):
        self.assertEqual(merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}), {"a": {"b": 1, "c": 3}, "d": 4})


class Judged(WithDaemon):
    def test_the_mistakes_that_the_daemon_finds_come_as_fields(self):
        with self.assertRaises(torchd.InvalidSpec) as caught:
            self.client.submit({"training": {"epochs": 1, "batch_size": 0}, "model": {"linear": {}}, "optimizer": {"sgd": {}}})
        fields = dict(caught.exception.fields)
        self.assertIn("data", fields)
        self.assertIn("at least 1 is needed", fields["training.batch_size"])
        self.assertEqual((caught.exception.code, caught.exception.reason), ("INVALID_ARGUMENT", "INVALID_REQUEST"))

    def test_a_good_spec_is_described(self):
        told = self.client.validate(EXAMPLES / "mnist.toml")
        self.assertEqual((told.train_examples, told.model_outline.parameter_count), (4000, 21840))
        self.assertGreater(self.client.validate(LINEAR, dry_run=True).dry_run.loss, 0)


if __name__ == "__main__":
    unittest.main()
