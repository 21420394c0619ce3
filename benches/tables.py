"""What pandas, polars and pyarrow take for the files of benches/tables.rs, to one array of 32-bit floats: run by that bench."""

import importlib.util
import sys
import time

import numpy

folder = sys.argv[1]


def measure(what, read):
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        read()
        times.append(time.perf_counter() - begun)
    times.sort()
    print(f"{what}: {times[1]:.2f} s (median of 3; {times[0]:.2f} to {times[2]:.2f})")


for name, digits in (("short.csv", "six"), ("long.csv", "all")):
    path = f"{folder}/{name}"
    if importlib.util.find_spec("pandas"):
        import pandas

        measure(f"pandas: CSV of {digits} digits", lambda: pandas.read_csv(path).to_numpy(numpy.float32))
    if importlib.util.find_spec("polars"):
        import polars

        measure(f"polars: CSV of {digits} digits", lambda: polars.read_csv(path).to_numpy().astype(numpy.float32))
if importlib.util.find_spec("pyarrow"):
    from pyarrow import parquet

    def arrays(threads):
        table = parquet.read_table(f"{folder}/table.parquet", use_threads=threads)
        return numpy.stack([column.to_numpy() for column in table.columns], axis=1).astype(numpy.float32)

    measure("pyarrow: Parquet", lambda: arrays(True))
    measure("pyarrow: Parquet, one thread", lambda: arrays(False))
