"""The version of the package, and which daemons go with it."""

from .errors import WrongVersion

__version__ = "0.1.0"


def check(daemon: str, address: str) -> None:
    """Refuses a daemon of another version: until 1.0 the first two numbers have to be the same,
    from then on the first."""
    ours, theirs = __version__.split("."), daemon.split(".")
    count = 2 if ours[0] == "0" else 1
    if ours[:count] == theirs[:count]:
        return
    try:
        age = "older" if [int(number) for number in theirs[:count]] < [int(number) for number in ours[:count]] else "newer"
    except ValueError:
        age = "of another kind"
    wanted = ".".join(theirs[:count])
    raise WrongVersion(f"torchd at {address} is {daemon or 'of no known version'}, {age} than this package, which is {__version__}. "
                       f"pip install 'torchd=={wanted}.*' installs the package that goes with it; or upgrade the older one of both")
