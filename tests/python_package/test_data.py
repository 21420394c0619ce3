"""Data of every kind, and what is refused of them."""

import pathlib
import tempfile
import unittest
from unittest import mock

import numpy
import pandas
import polars
import torch
from support import WithDaemon
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import torchd
from torchd import tensor_file

torch.set_num_threads(1)
torch.manual_seed(0)
X = torch.randn(120, 4)
Y = (X[:, 0] > 0).long()


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


class Pairs(Dataset):
    """Examples one by one, of numbers of Python and NumPy."""

    def __init__(self, width=4):
        self.width = width

    def __len__(self):
        return len(Y)

    def __getitem__(self, number):
        width = self.width if number == 7 else 4
        return X[number].numpy()[:width], int(Y[number])


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(6, 2)

    def forward(self, wide, narrow):
        return self.scores(torch.cat([wide, narrow], 1))


class Kinds(WithDaemon):
    def outcome(self, module, data, **more):
        """What the daemon says of the data of a job: examples, inputs, target."""
        sections = self.client.from_module(module, data=data, **more)
        told = self.client.validate({**sections, "training": {"epochs": 1}, "optimizer": {"sgd": {"learning_rate": 0.1}}}, dry_run=True)
        described = told.train
        return described.examples, [(entry.name, entry.dtype, list(entry.sizes)) for entry in described.inputs], len(described.classes)

    def test_arrays_of_every_kind_are_the_same_set(self):
        want = (120, [("input", "float32", [4])], 2)
        kinds = {
            "tensors": (X, Y), "NumPy": (X.numpy(), Y.numpy()), "float64 and int32": (X.double().numpy(), Y.int().numpy()),
            "big-endian": (X.numpy().astype(">f4").astype("f4"), Y.numpy()), "lists": (X.tolist(), Y.tolist()), "half": (X.half(), Y),
            "a view": (X.T.contiguous().T, Y), "a gradient": (X.clone().requires_grad_(), Y), "a dictionary": {"input": X, "answer": Y},
            "a TensorDataset": TensorDataset(X, Y), "a Dataset": Pairs(),
        }
        for kind, data in kinds.items():
            with self.subTest(kind):
                self.assertEqual(self.outcome(network(), data), want)

    def test_several_inputs_have_the_names_of_forward(self):
        want = (120, [("wide", "float32", [4]), ("narrow", "float32", [2])], 2)
        self.assertEqual(self.outcome(TwoInputs(), (X, X[:, :2], Y)), want)
        self.assertEqual(self.outcome(TwoInputs(), {"narrow": X[:, :2], "wide": X, "y": Y})[2], 2)

    def test_pixels_are_scaled_as_the_daemon_does(self):
        images = torch.randint(0, 256, (120, 8, 8), dtype=torch.uint8)
        module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
        self.assertEqual(self.outcome(module, (images, Y)), (120, [("input", "uint8", [1, 8, 8])], 2))

    def test_frames_become_tables(self):
        columns = {f"f{number}": X[:, number].numpy() for number in range(4)}
        for frame in (pandas.DataFrame({**columns, "answer": Y.numpy()}), polars.DataFrame({**columns, "answer": Y.numpy()})):
            examples, inputs, classes = self.outcome(network(), frame, target="answer", validation=0.25)
            self.assertEqual((examples, inputs[0][1:], classes), (90, ("float32", [4]), 2))
        numbers = pandas.DataFrame({**columns, "answer": 3 * Y.numpy()})
        self.assertEqual(self.outcome(nn.Linear(4, 1), numbers, target="answer", loss="mse")[2], 0)
        words = pandas.DataFrame({**columns, "answer": ["yes" if answer else "no" for answer in Y]})
        self.assertEqual(self.outcome(network(), words, target="answer")[2], 2)

    def test_without_a_writer_of_parquet_a_frame_is_sent_as_csv(self):
        frame = pandas.DataFrame({f"f{number}": X[:, number].numpy() for number in range(4)} | {"answer": Y.numpy()})
        with mock.patch.object(pandas.DataFrame, "to_parquet", side_effect=ImportError("no pyarrow")):
            self.assertEqual(self.outcome(network(), frame, target="answer")[::2], (120, 2))

    def test_arrays_that_do_not_go_together_are_told_with_their_shapes(self):
        for data, words in (
            ((X, Y[:5]), r"input has 120 rows \(\[120, 4\]\), y has 5 rows \(\[5\]\)"),
            ((X[:0], Y[:0]), "has no rows"),
            ((X, torch.tensor(1)), "y is a single number"),
            ((X, numpy.array(["a"] * 120)), "y is ndarray, which is no array of numbers"),
            ((X.to(torch.complex64), Y), "complex64.*ordinary real numbers"),
            (X, "the data are Tensor; a tuple of inputs and target"),
            ((X, X, Y), "the data have 3 arrays, inputs and a target, and Sequential.forward takes 1 inputs"),
            ({"a": X, "b": Y}, "which of the arrays a, b is the target"),
            (Pairs(width=3), r"part 0 of example 7 has the shape \[3\], and of example 0 \[4\]"),
            ([], "a tuple of inputs and target"),
        ):
            with self.subTest(words), self.assertRaisesRegex(torchd.InvalidData, words):
                self.client.from_module(network(), data=data)
        with self.assertRaisesRegex(torchd.InvalidData, "no array 'answer'; they have input, y"):
            self.client.from_module(network(), data={"input": X, "y": Y}, target="answer")

    def test_frames_without_a_target_and_with_words_are_told_by_column(self):
        frame = pandas.DataFrame({"f0": X[:, 0].numpy(), "word": ["a"] * 120, "answer": Y.numpy()})
        for more, words in (({}, "a frame needs target=.*its columns are f0, word, answer"), ({"target": "y"}, "no column 'y'; its columns are f0"),
                            ({"target": "answer"}, "the columns word are no numbers.*example_inputs=")):
            with self.subTest(words), self.assertRaisesRegex(torchd.InvalidData, words):
                self.client.from_module(network(), data=frame, **more)

    def test_a_dataset_that_only_iterates_is_refused(self):
        class Stream(IterableDataset):
            def __iter__(self):
                return iter([])

        with self.assertRaisesRegex(torchd.InvalidData, "the data are Stream"):
            self.client.from_module(network(), data=Stream())


class Large(WithDaemon):
    settings = {"uploads.quota_bytes": 30_000}

    def test_data_for_which_there_is_no_room_say_how_to_name_a_path(self):
        large = torch.zeros(2000, 4), torch.zeros(2000, dtype=torch.int64)
        words = r'(?s)the data are 48000 bytes, and the daemon takes 30000\..*--data-root DIR.*"safetensors": \{"path"'
        with self.assertRaisesRegex(torchd.TooLargeToSend, words):
            self.client.from_module(network(), data=large)

    def test_a_dataset_is_refused_before_all_of_it_is_read(self):
        read = []

        class Endless(Dataset):
            def __len__(self):
                return 1_000_000_000

            def __getitem__(self, number):
                read.append(number)
                return X[0], 0

        with self.assertRaisesRegex(torchd.TooLargeToSend, "1000000000 examples of 24 bytes"):
            self.client.from_module(network(), data=Endless())
        self.assertEqual(read, [0])

    def test_the_quota_of_the_daemon_is_told_the_same_way(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "large.bin"
            path.write_bytes(bytes(40_000))
            with self.assertRaisesRegex(torchd.TooLargeToSend, r"(?s)30000.*uploads.quota_bytes.*--data-root DIR") as caught:
                self.client.upload(path)
        self.assertEqual(caught.exception.reason, "UPLOAD_QUOTA")


class Files(unittest.TestCase):
    def test_arrays_are_read_as_they_were_written(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.safetensors"
            tensor_file.write(path, [tensor_file.Array("a", "I64", (2,), b"\1" + bytes(15)), tensor_file.Array("none", "F32", (0, 3), b"")])
            first, second = tensor_file.read(path)
            self.assertEqual((first.name, first.dtype, first.shape, bytes(first.content)), ("a", "I64", (2,), b"\1" + bytes(15)))
            self.assertEqual((second.shape, bytes(second.content)), ((0, 3), b""))
            from safetensors.torch import load_file
            self.assertEqual(load_file(path)["a"].tolist(), [1, 0])
            path.write_bytes(b"\xff" * 16)
            with self.assertRaisesRegex(ValueError, "is no safetensors file"):
                tensor_file.read(path)


if __name__ == "__main__":
    unittest.main()
