"""Writes a small ILSVRC development kit with the fields of the real one: three classes whose numbers
have another order than their WordNet ids, and a class of classes."""

import io
import tarfile

import numpy
import scipy.io

SYNSETS = [
    (1, "n02119789", "kit fox, Vulpes macrotis", 0),
    (2, "n02100735", "English setter", 0),
    (3, "n01440764", "tench, Tinca tinca", 0),
    (4, "n00001740", "entity", 3),
]
FIELDS = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
          "num_train_images"]  # fmt: skip
synsets = numpy.zeros((len(SYNSETS), 1), dtype=[(field, object) for field in FIELDS])
for row, (number, wnid, words, children) in enumerate(SYNSETS):
    below = numpy.arange(1.0, 1 + children)
    synsets[row, 0] = (float(number), wnid, words, "a gloss", float(children), below, 1.0, 1300.0)
meta = io.BytesIO()
scipy.io.savemat(meta, {"synsets": synsets}, do_compression=True)
truth = b"3\n1\n2\n3\n1\n"
with tarfile.open("devkit.tar.gz", "w:gz") as archive:
    for name, content in [("meta.mat", meta.getvalue()),
                          ("ILSVRC2012_validation_ground_truth.txt", truth)]:  # fmt: skip
        entry = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
