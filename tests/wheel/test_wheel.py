"""The wheel in an environment of its own: its programs are for other machines, and take the PyTorch
of the environment as libtorch, or say which line installs the right one.

`WHEEL` names the wheel, `PYTORCH` a Python that has PyTorch 2.11, `PACKAGES` one that has grpcio.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("torchd", "torchctl", "torchd-runner")
# Debian 12 and Ubuntu 22.04 have more.
NEWEST = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 30)}
PYTHON_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def said(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def packages_of(variable):
    """The folder with the packages of the Python that a variable names."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return pathlib.Path(said(os.environ[variable], "-c", where).strip())


class Environment:
    """A Python environment with the wheel, and with no more than a test gives it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.packages = self.folder / "lib" / PYTHON_VERSION / "site-packages"
        wheel = os.environ["WHEEL"]
        subprocess.run([sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--disable-pip-version-check", "--no-deps", wheel], check=True)
        (self.packages / "grpc.pth").write_text(f"{packages_of('PACKAGES')}\n")

    @property
    def python(self):
        return str(self.folder / "bin" / "python3")

    def program(self, name):
        return str(self.folder / "bin" / name)

    def take_pytorch(self, version=None):
        """Puts PyTorch in, as pip would with another name of its version."""
        from_here = packages_of("PYTORCH")
        if version is None:
            info, = from_here.glob("torch-*.dist-info")
            version = info.name.removeprefix("torch-").removesuffix(".dist-info")
        for name in ("torch", "nvidia"):
            if (from_here / name).exists():
                (self.packages / name).symlink_to(from_here / name)
        about = self.packages / f"torch-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        return version

    def run(self, script, **variables):
        """What a script of the client says, with a daemon of its own in `client`."""
        begin = f"import torchd\nwith torchd.local(data_root={str(TOP / 'examples')!r}) as client:\n"
        text = begin + "".join(f"    {line}\n" for line in script.splitlines())
        plain = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run([self.python, "-c", text], capture_output=True, text=True, env=plain | variables)
        return done.stdout + done.stderr


class Wheel(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.environment = Environment(folder.name)

    def test_its_programs_are_for_other_machines(self):
        for name in PROGRAMS:
            program = self.environment.program(name)
            places = re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", said("readelf", "--dynamic", program))
            for place in ":".join(places).split(":"):
                self.assertTrue(not place or place.startswith("$ORIGIN/"), f"{name} looks for libraries in {place}")
            self.assertEqual(bool(places), name == "torchd-runner", name)
            needed = re.findall(r"Name: (GLIBC|GLIBCXX)_([0-9.]+)", said("readelf", "--version-info", program))
            self.assertTrue(needed, name)
            for library, version in needed:
                self.assertLessEqual(tuple(map(int, version.split("."))), NEWEST[library], f"{name} needs {library}_{version}")

    def test_a_job_trains_with_the_pytorch_of_the_environment(self):
        version = self.environment.take_pytorch()
        told = self.environment.run("told = client.version()\nversion = told.libtorch\nprint(version.found_by, version.path)\n"
                                    "print('Python:', told.python.found_by, told.python.path)\n"
                                    "print('PyTorch:', told.pytorch.version, told.pytorch.path)\n"
                                    "job = client.submit('" + str(TOP / "examples" / "mnist.toml") + "', set={'training.epochs': 1})\n"
                                    "print(job.wait(progress=False).state)")
        self.assertIn("the Python environment of the runner", told, version)
        self.assertIn(str((self.environment.packages / "torch" / "lib").resolve()), told)
        self.assertIn(f"Python: the Python environment of torchd {self.environment.python}\n", told)
        self.assertIn(f"PyTorch: {version} {self.environment.packages / 'torch'}\n", told)
        self.assertIn("succeeded", told.lower())

    def test_no_pytorch_and_another_one_are_told_with_the_line_that_installs_it(self):
        ask = "print(client.version().libtorch.absent_reason)"
        line = f"{self.environment.python} -m pip install 'torch==2.11.*'"
        self.assertIn(f"has no PyTorch: {line}", self.environment.run(ask))
        self.environment.take_pytorch("2.12.1")
        told = self.environment.run(ask)
        self.assertIn(f"is libtorch 2.12.1, and the runner is built for 2.11: {line}", told)
        self.assertNotIn("undefined symbol", told)
        told = self.environment.run("client.submit('" + str(TOP / "examples" / "mnist.toml") + "')")
        self.assertIn(line, told)


if __name__ == "__main__":
    unittest.main()
