"""Loads the images of a folder with Pillow and torchvision as the reference trains on them, and
prints images a second.

    python bench.py DIR (loader|bare) [--size 256] [--workers 2]

`loader` is torch's DataLoader with processes that hand over batches. `bare` is as many processes
that do the same to every image and hand over nothing: the most that Pillow could give.
"""

import argparse
import multiprocessing
import time

import numpy
import torch
import torchvision
from PIL import Image
from torchvision import transforms

BATCH = 64


def center_crop(image, size):
    """ADM's centre crop, as the reference has it."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.BICUBIC)
    pixels = numpy.array(image)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return Image.fromarray(pixels[top : top + size, left : left + size])


class CenterCrop:
    def __init__(self, size):
        self.size = size

    def __call__(self, image):
        return center_crop(image, self.size)


def dataset(folder, size):
    steps = [CenterCrop(size), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    return torchvision.datasets.ImageFolder(folder, transform=transforms.Compose(steps))


def signed(x):
    return x.to(torch.float32).div_(255) * 2 - 1


def loader(folder, size, workers):
    images = dataset(folder, size)
    batches = torch.utils.data.DataLoader(
        images, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )
    for _ in batches:  # starts the processes, and reads every file once
        pass
    started = time.perf_counter()
    for x, _ in batches:
        signed(x)
    return len(images) / (time.perf_counter() - started)


def part(folder, size, numbers, ready, go, queue):
    torch.set_num_threads(1)
    images = dataset(folder, size)
    images[0]
    ready.release()
    go.wait()
    for i in numbers:
        signed(images[i][0])
    queue.put(len(numbers))


def bare(folder, size, workers):
    count = len(dataset(folder, size))
    order = numpy.random.default_rng(0).permutation(count).tolist()
    ready, go, queue = multiprocessing.Semaphore(0), multiprocessing.Event(), multiprocessing.Queue()
    processes = [
        multiprocessing.Process(
            target=part, args=(folder, size, order[w::workers], ready, go, queue)
        )
        for w in range(workers)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    started = time.perf_counter()
    go.set()
    done = sum(queue.get() for _ in processes)
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("what", choices=["loader", "bare"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    print({"loader": loader, "bare": bare}[args.what](args.folder, args.size, args.workers))
