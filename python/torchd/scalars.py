"""The curves of a job, as columns."""

import array
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any


@dataclasses.dataclass
class Points:
    """The points of one tag, by step: three columns of the same length."""

    step: array.array
    """Optimizer steps done."""
    time: array.array
    """When each was written, in seconds since 1970."""
    value: array.array

    @classmethod
    def none(cls) -> "Points":
        """Columns without points."""
        return cls(array.array("q"), array.array("d"), array.array("d"))

    def take(self, points: Any) -> None:
        """Appends points of the protocol."""
        self.step.extend([point.step for point in points])
        self.value.extend([point.value for point in points])
        times = [point.time for point in points]
        self.time.extend([time.seconds + time.nanos * 1e-9 for time in times])

    def __len__(self) -> int:
        return len(self.step)


class Scalars(Mapping[str, Points]):
    """Points by tag, such as `scalars["loss/train"].value`."""

    def __init__(self, points: dict[str, Points]):
        self._points = points

    def __getitem__(self, tag: str) -> Points:
        return self._points[tag]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def __repr__(self) -> str:
        return "Scalars(" + ", ".join(f"{tag}: {len(points)} points" for tag, points in self.items()) + ")"

    def to_pandas(self) -> Any:
        """A DataFrame with the columns tag, step, time and value: a row for each point."""
        import numpy
        import pandas

        columns = self._columns(numpy)
        tags = pandas.Categorical.from_codes(numpy.repeat(numpy.arange(len(self)), [len(points) for points in self.values()]), list(self))
        return pandas.DataFrame({"tag": tags, "step": columns["step"], "time": pandas.to_datetime(columns["time"], utc=True), "value": columns["value"]})

    def to_polars(self) -> Any:
        """The same as a DataFrame of polars."""
        import numpy
        import polars

        columns = self._columns(numpy)
        tags = polars.concat([polars.Series("tag", [tag]).extend_constant(tag, len(points) - 1) for tag, points in self.items() if len(points)]
                             or [polars.Series("tag", [], dtype=polars.String)])
        return polars.DataFrame({"tag": tags, "step": columns["step"], "time": columns["time"].astype("datetime64[ns]"), "value": columns["value"]})

    def plot(self, *tags: str, axes: Any = None) -> Any:
        """Draws these tags, or all losses, with matplotlib; the axes."""
        from matplotlib import pyplot

        axes = pyplot.gca() if axes is None else axes
        for tag in tags or [tag for tag in self if tag.startswith("loss/")]:
            axes.plot(self[tag].step, self[tag].value, label=tag)
        axes.set_xlabel("step")
        axes.legend()
        return axes

    def _columns(self, numpy: Any) -> dict[str, Any]:
        """One column each of all tags; times as whole nanoseconds, which seconds hold to a few
        hundred."""
        def column(name: str, kind: str) -> Any:
            parts = [numpy.frombuffer(getattr(points, name), kind) for points in self.values() if len(points)]
            return numpy.concatenate(parts) if parts else numpy.empty(0, kind)
        return {"step": column("step", "int64"), "time": (column("time", "float64") * 1e6).astype("int64") * 1000, "value": column("value", "float64")}
