"""Writes the Parquet files beside it, with pyarrow and Pillow: as the Hugging Face hub's `datasets`
does (hub), and with what else such files may have."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(shade):
    out = io.BytesIO()
    Image.new("RGB", (6, 4), (shade, shade, shade)).save(out, "png")
    return out.getvalue()


def features(image, label, names):
    kinds = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": kinds}})}


def write(name, columns, types, metadata=None, rows=3, **options):
    schema = pa.schema(list(zip(columns, types)), metadata=metadata)
    table = pa.table(columns, schema=schema)
    with pq.ParquetWriter(f"{name}.parquet", schema, **options) as writer:
        for start in range(0, table.num_rows, rows):
            writer.write_table(table.slice(start, rows))


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(n, shades=None):
    return [{"bytes": png(s), "path": f"{i}.png"} for i, s in enumerate(shades or range(10, 10 + n))]


NAMES = ["cat", "dog", "owl"]
LABELS = [2, 0, 1, 1, 2, 0, 0]
TYPES = [STRUCT, pa.int64()]
HUB = features("image", "label", NAMES)
write("hub", {"image": images(7), "label": LABELS}, TYPES, HUB)
repeated = images(7, [10, 10, 11, 10, 11, 11, 10])
write("repeated", {"image": repeated, "label": LABELS}, TYPES, HUB, rows=7)
plain = {"compression": "none", "use_dictionary": False}
write("plain", {"img": images(7), "label": LABELS}, TYPES, features("img", "label", NAMES), **plain)
write(
    "zstd_v2",
    {"image": images(7), "coarse": [0] * 7, "fine_label": LABELS},
    [STRUCT, pa.int64(), pa.int64()],
    features("image", "fine_label", NAMES),
    compression="zstd",
    data_page_version="2.0",
)
flat = {"image.bytes": [row["bytes"] for row in images(7)], "cls": LABELS}
write("gzip_flat", flat, [pa.binary(), pa.int32()], compression="gzip", use_dictionary=False)
# Pages of more than 64 KiB: pictures of 69 kB that compress well.
big = io.BytesIO()
Image.merge("RGB", [Image.radial_gradient("L").resize((152, 152))] * 3).save(big, "bmp")
big = big.getvalue()
rows = [{"bytes": big[:60] + bytes([i] * 9) + big[69:], "path": None} for i in range(4)]
write("blocks", {"image": rows}, [STRUCT], rows=4)
gap = images(3)
gap[1] = {"bytes": None, "path": None}
write("gap", {"image": gap + [None], "label": [0] * 4}, TYPES, HUB)
write("unlabelled", {"image": images(2), "label": [-1, -1]}, TYPES, HUB)
write("beyond", {"image": images(2), "label": [0, 3]}, TYPES, HUB)
write("brotli", {"image": images(2), "label": [0, 1]}, TYPES, HUB, compression="brotli")
write("table", {"x": [1.0, 2.0], "y": ["a", "b"]}, [pa.float64(), pa.string()])
# Classes that are no numbers, or called otherwise.
WORDS = ["owl", "cat", "dog", "dog", "owl", "cat", "cat"]
for name, values, kind, options in [
    ("words", WORDS, pa.string(), {}),
    ("words_plain", WORDS, pa.string(), {"use_dictionary": False, "compression": "zstd"}),
    ("truths", [True, False, True, True, False, False, True], pa.bool_(), {}),
    ("truths_v2", [True, False, True, True, False, False, True], pa.bool_(), {"data_page_version": "2.0"}),
    ("whole", [float(n) for n in LABELS], pa.float64(), {}),
    ("whole_f32", [float(n) for n in LABELS], pa.float32(), {"use_dictionary": False}),
    ("parts", [0.5] * 7, pa.float32(), {}),
    ("lists", [[n] for n in LABELS], pa.list_(pa.int64()), {}),
]:
    write(name, {"image": images(7), "label": values}, [STRUCT, kind], **options)
more = {"pic": images(7), "image": images(7, range(50, 57)), "Category": LABELS, "sex": WORDS}
write("more", more, [STRUCT, STRUCT, pa.int32(), pa.string()])
