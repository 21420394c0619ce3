"""`python -m torchd launch`: a launcher on the command line, until SIGTERM or Ctrl-C."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .client import connect
from .daemon import program
from .errors import TorchdError
from .launcher import Engine, Launcher
from .torchrun import Command, Torchrun, torchrun_program, usual_slots

_COMMAND = """\
A command, in place of --torchrun, is run by the shell once for each launch. It starts TORCHD_WORLD_SIZE
processes of `torchd --rank`, on whatever machines, with the variables of torchrun or Slurm:

  python -m torchd launch --slots 8 --command 'srun -n $TORCHD_WORLD_SIZE torchd --rank'

It finds TORCHD_SERVER, or TORCHD_RANK_MAILBOX of a job with scale.storage, and TORCHD_TOKEN in its
environment, which each rank needs, and TORCHD_JOB and TORCHD_ATTEMPT. SIGTERM asks it to end: ranks that get it save a checkpoint and leave.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    whole = argparse.ArgumentParser(prog="python -m torchd", description=__doc__)
    commands = whole.add_subparsers(dest="what", required=True, metavar="launch")
    launch = commands.add_parser("launch", help="starts the ranks of jobs with scale.engine = \"torchrun\"", epilog=_COMMAND,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    engine = launch.add_mutually_exclusive_group(required=True)
    engine.add_argument("--torchrun", action="store_true", help="start ranks by torchrun on this machine")
    engine.add_argument("--command", metavar="TEMPLATE", help="start ranks by this shell command")
    launch.add_argument("--slots", type=int, help="ranks that there is room for at once; with --torchrun the number of GPUs, or else of CPUs, by default")
    launch.add_argument("--name", help="the name of this launcher; USER@HOST:PID by default")
    launch.add_argument("--rank-server", metavar="ADDRESS", help="the daemon's address for ranks, where they need another one than --server; none where they have no route to it, for jobs with scale.storage")
    launch.add_argument("--torchrun-program", metavar="PATH", type=Path, help="torchrun, in place of that of this Python")
    launch.add_argument("--torchd", metavar="PATH", type=Path, help="the program torchd on this machine, in place of that of this Python or the PATH")
    launch.add_argument("--dir", metavar="DIR", type=Path, help="a folder for the files of ranks, in place of the system's for temporary ones")
    access = launch.add_argument_group("the daemon", "as for torchctl")
    access.add_argument("--server", metavar="ADDRESS", help="host:port, https://host:port or unix:PATH (TORCHD_SERVER)")
    access.add_argument("--token-file", metavar="FILE", type=Path, help="file with your token (TORCHD_TOKEN_FILE); TORCHD_TOKEN may hold the token itself")
    access.add_argument("--ca", metavar="FILE", help="certificates that sign the daemon's (TORCHD_CA_FILE); ranks need them at the same path")
    access.add_argument("--cert", metavar="FILE", help="your certificate (TORCHD_CERT_FILE)")
    access.add_argument("--key", metavar="FILE", help="the key of your certificate (TORCHD_KEY_FILE)")
    return whole


def engine_of(given: argparse.Namespace) -> Engine:
    """The engine that is asked for."""
    if given.command is not None:
        return Command(given.command, given.torchd.absolute() if given.torchd else _found(), given.dir)
    torchrun = [str(given.torchrun_program)] if given.torchrun_program else torchrun_program()
    return Torchrun((given.torchd or program()).absolute(), torchrun, given.dir)


def _found() -> Path | None:
    # The command may name it, or need it on other machines alone.
    try:
        return program().absolute()
    except TorchdError:
        return None


def launch(given: argparse.Namespace) -> None:
    """Runs a launcher until it is told to stop."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    token = given.token_file.expanduser().read_text().strip() if given.token_file else None
    with connect(given.server, token=token, ca_file=given.ca, cert_file=given.cert, key_file=given.key) as client:
        launcher = Launcher(engine_of(given), client, slots=given.slots or usual_slots(), name=given.name, rank_server=given.rank_server, ca_file=given.ca)
        with launcher.start():
            threading.Thread(target=_wait, args=(launcher, over), daemon=True).start()
            over.wait()
        launcher.wait()


def _wait(launcher: Launcher, over: threading.Event) -> None:
    try:
        launcher.wait()
    except Exception:
        # The main thread raises it too.
        pass
    over.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; its exit code."""
    whole = parser()
    given = whole.parse_args(arguments)
    if given.command is not None and not given.slots:
        whole.error("--slots is missing: it tells how many ranks the command has room for")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        launch(given)
    except (TorchdError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
