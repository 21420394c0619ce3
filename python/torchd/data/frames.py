"""Frames of pandas and polars as tables."""

from pathlib import Path
from typing import Any

from ..errors import InvalidData
from .arrays import EXAMPLES

NUMBER_LOSSES = ("mse", "l1", "huber")


def is_frame(value: Any) -> bool:
    """Whether it is a frame, of a package that somebody else has imported."""
    return type(value).__module__.partition(".")[0] in ("pandas", "polars") and hasattr(value, "columns")


def check(frame: Any, target: str | None) -> str:
    """The column with the answers."""
    names = [str(name) for name in frame.columns]
    if target is None:
        raise InvalidData(f"a frame needs target=, the column with the answers; its columns are {', '.join(names)}")
    if target not in names:
        raise InvalidData(f"the frame has no column {target!r}; its columns are {', '.join(names)}")
    if len(frame) == 0:
        raise InvalidData("the frame has no rows: there is nothing to learn from")
    return target


def write(frame: Any, stem: Path) -> tuple[Path, str]:
    """Writes a frame as Parquet, or as CSV where pandas has no package that writes Parquet; the
    file, and its format in a spec."""
    path = stem.with_suffix(".parquet")
    if hasattr(frame, "write_parquet"):
        frame.write_parquet(path)
        return path, "parquet"
    try:
        frame.to_parquet(path, index=False)
        return path, "parquet"
    except ImportError:
        path = stem.with_suffix(".csv")
        frame.to_csv(path, index=False)
        return path, "csv"


def section(frame: Any, path: str, target: str, loss: str | None) -> dict[str, Any]:
    """The table in a spec. Whole numbers to answer are classes, as in an array, unless the loss is
    one for numbers."""
    found: dict[str, Any] = {"path": path, "target": target}
    if loss not in NUMBER_LOSSES and str(frame[target].dtype).lower().startswith(("int", "uint")):
        found["target_type"] = "classes"
    return found


def example(frame: Any, target: str) -> Any:
    """The first rows of the features as one input, where all are numbers."""
    import torch

    names = [name for name in frame.columns if str(name) != target]
    words = [str(name) for name in names if not str(frame[name].dtype).lower().startswith(("int", "uint", "float"))]
    if words:
        raise InvalidData(f"the columns {', '.join(words)} are no numbers, so that the frame does not tell what the module gets: give example_inputs=, "
                          "and send the frame as a file whose section says what the columns are (`categorical`, `ignore`)")
    rows = [[float(value) if value is not None and value == value else 0.0 for value in frame[name][:EXAMPLES]] for name in names]
    return torch.tensor(rows).T.contiguous()
