"""The package itself: what it imports, and what it was made of."""

import pathlib
import re
import subprocess
import sys
import unittest

from support import TOP

import torchd
from torchd import messages


class Package(unittest.TestCase):
    def test_importing_it_imports_nothing_large(self):
        code = "import sys, torchd; print([name for name in ('torch', 'numpy', 'pandas', 'polars', 'matplotlib', 'tqdm') if name in sys.modules])"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(TOP / "python")})
        self.assertEqual(said.stdout.strip(), "[]")

    def test_grpc_ends_no_program_that_is_started_beside_a_connection(self):
        code = "import torchd; from grpc._cython import cygrpc; print(cygrpc.is_fork_support_enabled())"

        def told(**more):
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(TOP / "python"), **more}).stdout

        self.assertEqual([told(), told(GRPC_ENABLE_FORK_SUPPORT="1")], ["False\n", "True\n"])

    def test_the_version_is_that_of_the_programs(self):
        (version,) = re.findall(r'^version = "(.*)"$', (TOP / "Cargo.toml").read_text(), re.MULTILINE)
        self.assertEqual(torchd.__version__, version)

    def test_every_promised_name_is_there(self):
        for name in torchd.__all__:
            if name != "ExportError":
                self.assertTrue(hasattr(torchd, name), name)

    def test_the_stubs_have_every_message_field_and_value(self):
        stub = (TOP / "python/torchd/messages.pyi").read_text()
        for name, value in torchd.protocol.NAMES.items():
            self.assertRegex(stub, rf"(?m)^(class {name}\(|{name}: )")
            for field in getattr(getattr(value, "DESCRIPTOR", None), "fields", ()):
                self.assertRegex(stub, rf"(?m)^    (def )?{field.name}\b")

    def test_the_export_helper_is_one_file_with_one_copy(self):
        helper = TOP / "python/torchd_export.py"
        self.assertFalse(helper.is_symlink())
        self.assertEqual((TOP / "python/torchd/export.py").resolve(), helper)

    def test_a_package_without_descriptors_says_what_to_do(self):
        descriptors = pathlib.Path(torchd.__file__).with_name("descriptors.bin")
        said = subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, env={"PYTHONPATH": str(TOP / "python")})
        self.assertIn(f"ImportError: {descriptors} is missing", said.stderr)
        self.assertIn("scripts/python-package", said.stderr)

    def test_messages_travel_there_and_back(self):
        message = messages.CreateJobRequest(spec={"seed": 1, "model": {"mlp": {"hidden": [3, 4]}}, "labels": {"team": "vision"}}, request_id="x")
        self.assertEqual(messages.CreateJobRequest.FromString(message.SerializeToString()), message)
        self.assertEqual(messages.JobState.Name(messages.JOB_STATE_PAUSED), "JOB_STATE_PAUSED")

    def test_messages_of_others_with_the_same_names_do_no_harm(self):
        from google.protobuf import descriptor_pb2, descriptor_pool
        file = descriptor_pb2.FileDescriptorProto(name="torchd/v1/job.proto", package="torchd.v1", syntax="proto3")
        file.message_type.add(name="Job").field.add(name="other", number=1, label=1, type=9)
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
        self.assertIn("spec", messages.Job.DESCRIPTOR.fields_by_name)


WITHOUT_DESCRIPTORS = """
import pathlib
read = pathlib.Path.read_bytes
def missing(path):
    if path.name == "descriptors.bin":
        raise FileNotFoundError(path)
    return read(path)
pathlib.Path.read_bytes = missing
import torchd
"""

if __name__ == "__main__":
    unittest.main()
