"""Makes the JPEG files of this folder, with Pillow 13.0.0 and libjpeg-turbo: an image of 24x16 pixels whose colours change slowly.

The formula of its colours stands in src/dataset/image_folder/tests.rs, too.
"""

import pathlib

from PIL import Image

here = pathlib.Path(__file__).parent
image = Image.new("RGB", (24, 16))
image.putdata([(x * 10, y * 15, 255 - x * 5 - y * 5) for y in range(16) for x in range(24)])
image.save(here / "rgb.jpg", quality=95, subsampling=0)
image.save(here / "progressive.jpg", quality=95, subsampling=0, progressive=True)
image.save(here / "subsampled.jpg", quality=95, subsampling=2)
image.convert("L").save(here / "grey.jpg", quality=95)
image.convert("CMYK").save(here / "cmyk.jpg", quality=50)
exif = Image.Exif()
exif[0x0112] = 6
image.transpose(Image.Transpose.ROTATE_90).save(here / "turned.jpg", quality=95, subsampling=0, exif=exif)
