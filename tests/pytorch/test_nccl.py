"""libtdnccl.so beside the CUDA half of a real PyTorch: everything that it takes from there is there, and a rank joins as far as this machine lets it."""

import ctypes
import os
import pathlib
import sys
import tempfile
import unittest

import torch

TOP = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = pathlib.Path(os.environ.get("TORCHD_BIN") or TOP / "target" / "debug").absolute() / "libtdnccl.so"
LIBTORCH = pathlib.Path(torch.__file__).parent / "lib"
CUDA = LIBTORCH / "libtorch_cuda.so"


class Nccl(unittest.TestCase):
    @unittest.skipUnless(LIBRARY.exists(), f"{LIBRARY} is missing: make ranks-nccl INTO={LIBRARY.parent}")
    @unittest.skipUnless(CUDA.exists(), f"this PyTorch has no {CUDA.name}")
    def test_it_finds_all_that_it_takes_from_libtorch_and_joins_where_there_is_a_gpu(self):
        # As the runner has them: for all that is loaded after them.
        for name in ("libtorch_cpu.so", CUDA.name):
            ctypes.CDLL(str(LIBTORCH / name), mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(str(LIBRARY), mode=os.RTLD_NOW)
        for text in (library.torchd_ranks_built_for, library.torchd_ranks_error):
            text.restype = ctypes.c_char_p
        library.torchd_ranks_join_local.restype = ctypes.c_void_p
        self.assertEqual(library.torchd_ranks_built_for().decode(), torch.__version__.split("+")[0])
        with tempfile.TemporaryDirectory() as folder:
            store = os.path.join(folder, "meeting").encode()
            joined = library.torchd_ranks_join_local(store, 0, 1, ctypes.c_longlong(60_000), ctypes.c_longlong(60_000))
        words = library.torchd_ranks_error().decode()
        if torch.cuda.is_available():
            self.assertIsNotNone(joined, words)
        else:
            self.assertIsNone(joined)
            self.assertIn("no GPUs found", words)


if __name__ == "__main__":
    outcome = unittest.main(exit=False, verbosity=2).result
    sys.exit(not outcome.wasSuccessful())
