"""The peers of benches/tables.rs: pandas, polars and pyarrow make one array of 32-bit floats of a file.

Each line of the standard input is a peer and a file; the answer is the seconds that processors worked.
"""

import sys
import time

import numpy
import pandas
import polars
from pyarrow import parquet


def pyarrow(path):
    """Of the ways that give rows side by side, the one that is fastest on one core."""
    table = parquet.read_table(path, use_threads=False)
    columns = [column.to_numpy().astype(numpy.float32) for column in table.columns]
    return numpy.ascontiguousarray(numpy.stack(columns).T)


def pyarrow_stacked(path):
    table = parquet.read_table(path, use_threads=False)
    return numpy.stack([column.to_numpy() for column in table.columns], axis=1).astype(numpy.float32)


READ = {
    "pandas": lambda path: pandas.read_csv(path).to_numpy(numpy.float32),
    "polars": lambda path: polars.read_csv(path).to_numpy().astype(numpy.float32),
    "pyarrow": pyarrow,
    "pyarrow-stacked": pyarrow_stacked,
}

for line in sys.stdin:
    peer, path = line.split(maxsplit=1)
    begun = time.process_time()
    READ[peer](path.strip())
    print(time.process_time() - begun, flush=True)
