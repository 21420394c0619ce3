"""Makes the files of this folder, with NumPy 2.4.6: 3 examples of two rows of numbers, and their classes. What is in them stands in
src/dataset/npy.rs and src/dataset/npz.rs, too.
"""

import pathlib

import numpy as np

here = pathlib.Path(__file__).parent
x = (np.arange(12, dtype=np.float64) / 4).reshape(3, 2, 2)
y = np.array([2, 0, 1], dtype=np.int32)
np.save(here / "rows.npy", x.astype(">f4"))
np.save(here / "columns.npy", np.asfortranarray(x))
np.save(here / "classes.npy", y)
np.savez(here / "stored.npz", x=x, y=y)
np.savez_compressed(here / "packed.npz", x=np.asfortranarray(x.astype(np.float16)), y=y)
for version in [(2, 0), (3, 0)]:
    with open(here / f"version-{version[0]}.npy", "wb") as file:
        np.lib.format.write_array(file, x, version=version)
