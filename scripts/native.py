"""What the scripts share that build a library of the runner from C++: nothing is linked, and libtorch's headers are needed."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

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


def fetch_headers(pins, headers):
    """Puts the headers of the wheels that a file of pins names into a folder, whole or not at all."""
    stamp = headers / ".pins"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        stop("pip is missing: sudo apt-get install python3-pip")
    headers.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=headers.parent, prefix=f".{headers.name}-") as aside:
        aside = pathlib.Path(aside)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--require-hashes", "--no-deps", "--only-binary=:all:",
                   "--platform", "manylinux_2_18_x86_64", "--platform", "manylinux2014_x86_64", "--dest", str(aside / "wheels"), "--requirement", str(pins)]
        if subprocess.run(command).returncode != 0:
            stop("the download failed; pip's own words stand above. Run it again: nothing half-done is left behind")
        whole = aside / "headers"
        for wheel in sorted((aside / "wheels").glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    _, found, place = name.partition("/include/")
                    if found and not name.endswith("/"):
                        target = whole / place
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(archive.read(name))
        (whole / ".pins").write_text(pins.read_text())
        shutil.rmtree(headers, ignore_errors=True)
        whole.rename(headers)


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
