"""Applies commands of pip to stand-in wheels, and prints what is installed after each.

Reads one JSON object: `folder` (to work in), `builds` (version, torchvision, variant, whether PyPI has it, and the form in which
pip gets it), `others` (further packages) and `cases` (what is installed before, and the command). It serves a mirror of PyPI and of
download.pytorch.org, with wheels that hold nothing but their version, and runs pip itself on it.
"""

import base64
import functools
import hashlib
import http.server
import json
import os
import pathlib
import re
import shlex
import shutil
import sys
import sysconfig
import threading
import urllib.parse
import zipfile

WHEELS = "https://download.pytorch.org/whl"


def wheel_files(package, version, requires):
    """The files of a wheel by name."""
    module, info = package.replace("-", "_"), f"{package.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {package}", f"Version: {version}"]
    files = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": "\n".join(lines + requires) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: torchd\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digest = {name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
              for name, text in files.items()}
    record = [f"{name},sha256={digest[name]},{len(text)}" for name, text in files.items()]
    return files | {f"{info}/RECORD": "\n".join(record + [f"{info}/RECORD,,"]) + "\n"}


class Mirror:
    """A folder with wheels: indexes by project, pages of links, and wheels by address."""

    def __init__(self, folder):
        self.folder = folder
        self.pages = {}

    def add(self, place, package, version, requires):
        name = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        path = self.folder / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for file, text in wheel_files(package, version, requires).items():
                archive.writestr(file, text)
        return path

    def add_to_index(self, index, package, version, requires):
        path = self.add(f"{index}/{package}", package, version, requires)
        self.link(f"{index}/{package}/index.html", path)

    def link(self, page, path):
        link = f'<a href="/{urllib.parse.quote(str(path.relative_to(self.folder)))}">{path.name}</a><br>\n'
        self.pages.setdefault(page, []).append(link)

    def serve(self):
        """The address of the mirror. It is served until the program ends."""
        for page, links in self.pages.items():
            (self.folder / page).write_text("".join(links))
        handler = functools.partial(Quiet, directory=str(self.folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def lay_out(mirror, builds, others):
    for build in builds:
        version, variant, vision = build["version"], build["variant"], build["torchvision"]
        packages = [("torch", version, [])]
        packages += [("torchvision", vision, [f"Requires-Dist: torch (=={version})"])] if vision else []
        for package, number, requires in packages:
            if build["pypi"]:
                mirror.add_to_index("pypi", package, number, requires)
            local = f"{number}+{variant}"
            if build["form"] == "LtsIndex":
                mirror.add_to_index(f"whl/lts/{'.'.join(version.split('.')[:2])}/{variant}", package, local, requires)
            elif build["form"] == "Wheel":
                mirror.link("whl/torch_stable.html", mirror.add(f"whl/{variant}", package, local, requires))
            else:
                mirror.add_to_index(f"whl/{variant}", package, local, requires)
    for other in others:
        extras = [f"Provides-Extra: {extra}" for extra in other["extras"]]
        extras += [f"Requires-Dist: {of} ; extra == {extra!r}" for extra, of in other["extras"].items()]
        mirror.add_to_index("pypi", other["package"], other["version"], extras)


def installed(site):
    found = {}
    for info in site.glob("*.dist-info"):
        package, version = info.name.removesuffix(".dist-info").rsplit("-", 1)
        is_whole = (site / package / "__init__.py").is_file()
        found[package.replace("_", "-")] = version if is_whole else f"{version}, without its files"
    return found


def make(site, packages):
    """Makes what is installed exactly these packages; of those with a `-` before the version the files are missing."""
    for entry in list(site.iterdir()):
        shutil.rmtree(entry)
    for package, version in packages.items():
        is_whole = not version.startswith("-")
        for name, text in wheel_files(package, version.removeprefix("-"), []).items():
            if is_whole or ".dist-info/" in name:
                (site / name).parent.mkdir(parents=True, exist_ok=True)
                (site / name).write_text(text)


def main():
    asked = json.load(sys.stdin)
    folder, site = pathlib.Path(asked["folder"]), pathlib.Path(sysconfig.get_paths()["purelib"])
    mirror = Mirror(folder / "mirror")
    lay_out(mirror, asked["builds"], asked["others"])
    address = mirror.serve()
    os.environ |= {
        "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1", "PIP_NO_COMPILE": "1",
        "PIP_QUIET": "2", "PIP_ROOT_USER_ACTION": "ignore", "PIP_INDEX_URL": f"{address}/pypi",
        # pip would ask programs for its user agent.
        "PATH": "",
    }
    from pip._internal.cli.main import main as pip

    for case in asked["cases"]:
        make(site, case["before"])
        # Wheels by address are for the Python that a plan names, which is not the one that runs this.
        command = re.sub(r"-cp\d+-cp\d+m?-linux_x86_64", "-py3-none-any", case["command"])
        command = command.replace(WHEELS, f"{address}/whl")
        target = re.search(r"--target (\S+)", command)
        if target:
            command = command.replace(target[1], str(folder / "target"))
            shutil.rmtree(folder / "target", ignore_errors=True)
        code = pip(shlex.split(command)[1:])
        print(json.dumps({"code": int(code), "after": installed(folder / "target" if target else site)}), flush=True)


main()
