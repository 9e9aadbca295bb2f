"""Photographs as ImageNet has them, in folders of classes: 500 × 375 pixels and 375 × 500, JPEG of
quality 90, cut out of the sample photographs that scikit-learn and scikit-image carry.

    python photos.py DIR COUNT
"""

import pathlib
import sys

import numpy
import skimage
import sklearn.datasets
from PIL import Image

SKLEARN = ["flower.jpg", "china.jpg"]
SKIMAGE = [
    "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg",
]
CLASSES = 10
NOISE = 2.0  # of a sensor, in levels


def main(folder, count):
    here = [pathlib.Path(sklearn.datasets.__file__).parent / "images" / name for name in SKLEARN]
    here += [pathlib.Path(skimage.__file__).parent / "data" / name for name in SKIMAGE]
    sources = [Image.open(path).convert("RGB") for path in here]
    random = numpy.random.default_rng(0)
    for i in range(count):
        source = sources[i % len(sources)]
        width, height = (500, 375) if random.random() < 0.75 else (375, 500)
        scale = min(source.width / width, source.height / height) * random.uniform(0.7, 1.0)
        w, h = scale * width, scale * height
        left = random.uniform(0, source.width - w)
        top = random.uniform(0, source.height - h)
        box = (left, top, left + w, top + h)
        image = source.resize((width, height), Image.Resampling.LANCZOS, box=box)
        pixels = numpy.asarray(image).astype(numpy.float32) * random.uniform(0.8, 1.15)
        pixels += random.normal(0, NOISE, pixels.shape)
        image = Image.fromarray(pixels.clip(0, 255).round().astype(numpy.uint8))
        path = pathlib.Path(folder) / f"class-{i % CLASSES}" / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
