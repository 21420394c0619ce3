"""Makes a small set of images beside this file: bright circles, squares and triangles on dark noise, as PNG files in a folder for each class. A table
beside the folder, `shapes.csv`, lists them with their class and the set that each belongs to.

    python3 examples/shapes/make.py [FOLDER]

It needs nothing but Python. `shapes.toml` trains on the folders, `shapes-table.toml` on the table.
"""

import csv
import pathlib
import random
import struct
import sys
import zlib

SIZES = [28, 32, 40]  # the job resizes them to one size
IMAGES = 120  # of each class


def png(width, height, rows):
    """A PNG file of rows of red, green and blue bytes. (PNG specification, third edition)"""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


INSIDE = {
    "circle": lambda x, y: x * x + y * y <= 1,
    "square": lambda x, y: max(abs(x), abs(y)) <= 0.9,
    "triangle": lambda x, y: y <= 0.9 and abs(x) <= (y + 1.1) / 2,
}


def image(draw, inside):
    size = draw.choice(SIZES)
    radius = size * draw.uniform(0.25, 0.4)
    left, top = (draw.uniform(radius, size - radius) for _ in range(2))
    colour, ground = [draw.randrange(128, 256) for _ in range(3)], [draw.randrange(96) for _ in range(3)]
    rows = []
    for y in range(size):
        row = []
        for x in range(size):
            pixel = colour if inside((x - left) / radius, (y - top) / radius) else ground
            row += [min(255, max(0, value + draw.randrange(-20, 21))) for value in pixel]
        rows.append(row)
    return png(size, size, rows)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "images")
    draw = random.Random(1)
    rows = []
    for name, inside in INSIDE.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(IMAGES):
            file = f"{name}/{number:03}.png"
            (folder / file).write_bytes(image(draw, inside))
            rows.append([file, name, "validation" if number % 4 == 0 else "train"])
    with open(folder.parent / "shapes.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([["file", "shape", "part"], *rows])
    print(f"{len(INSIDE) * IMAGES} images in {folder}")


if __name__ == "__main__":
    main()
