"""The peer of benches/images.rs: torchvision's ImageFolder with Pillow; and the images of that bench.

    images.py make FOLDER COUNT WIDTH HEIGHT
    images.py read FOLDER as-they-are|resized

Each line of the standard input of `read` asks for all images once; the answer is the seconds that
processors worked.
"""

import pathlib
import sys
import time

import numpy
from PIL import Image


def make(folder, count, width, height):
    """Colours that change slowly with a little noise, as those of photographs do."""
    draw = numpy.random.default_rng(1)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=numpy.uint8))
        fine = numpy.asarray(coarse.resize((width, height), Image.BICUBIC)).astype(numpy.float32)
        image = numpy.clip(fine + draw.normal(0, 6, fine.shape), 0, 255).astype(numpy.uint8)
        place = folder / f"class {number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:04}.jpg", quality=90)


def read(folder, how):
    import torch
    from torchvision import datasets, transforms

    torch.set_num_threads(1)
    resize = [transforms.Resize(224), transforms.CenterCrop(224)] if how == "resized" else []
    # Bytes, as torchd hands them out: ToTensor would make floats of them in addition.
    images = datasets.ImageFolder(folder, transforms.Compose([*resize, transforms.PILToTensor()]))
    for _ in sys.stdin:
        begun = time.process_time()
        for place in range(len(images)):
            images[place]
        print(time.process_time() - begun, flush=True)


what, folder, *rest = sys.argv[1:]
if what == "make":
    make(pathlib.Path(folder), *map(int, rest))
else:
    read(folder, *rest)
