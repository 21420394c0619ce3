"""Makes waves.npz: noisy waves, and how often each goes up and down. Needs NumPy."""

import pathlib

import numpy

draw = numpy.random.default_rng(1)
frequency = draw.uniform(1, 6, 800)
phase = draw.uniform(0, 2 * numpy.pi, 800)
time = numpy.linspace(0, 1, 64)
waves = numpy.sin(2 * numpy.pi * frequency[:, None] * time + phase[:, None]) + draw.normal(0, 0.1, (800, 64))
numpy.savez_compressed(pathlib.Path(__file__).parent / "waves.npz", x=waves.astype(numpy.float16), y=frequency.astype(numpy.float32))
