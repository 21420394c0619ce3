"""What the scripts share that build a library of the runner from C++: nothing is linked, and libtorch's headers are needed."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent


def stop(message):
    """Ends the script, in its name."""
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {message}")


def libtorch(header):
    """The folder of libtorch, which has this header."""
    folder = pathlib.Path(os.environ.get("LIBTORCH") or TOP / "libtorch")
    if not (folder / "include" / header).exists():
        stop(f"LIBTORCH is {folder}, where include/{header} cannot be found; `make libtorch` fetches a libtorch that has it")
    return folder


def compiler():
    """The C++ compiler."""
    name = os.environ.get("CXX") or "g++"
    if shutil.which(name) is None:
        stop(f"CXX is {name}, which is not there; a C++ compiler is needed: sudo apt-get install g++")
    return name


def build(into, name, sources, flags, told=""):
    """Builds a library from the first of the sources, unless it is there and neither these nor `told` have changed."""
    cxx = compiler()
    digest = hashlib.sha256("\n".join([cxx, *flags, told, *(source.read_text() for source in sources)]).encode()).hexdigest()
    mark, library = into / f".{name}.mark", into / name
    if library.exists() and mark.exists() and mark.read_text() == digest:
        print(f"{library} is up to date")
        return
    into.mkdir(parents=True, exist_ok=True)
    part = into / f".{name}.part"
    command = [cxx, "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", *flags, str(sources[0]), "-o", str(part)]
    if subprocess.run(command).returncode != 0:
        stop(f"{sources[0].relative_to(TOP)} does not compile; the compiler's words stand above")
    part.chmod(0o755)
    part.rename(library)
    mark.write_text(digest)
    print(f"{library} is built")
