"""Writes the images of a folder of classes as the Hugging Face hub's `datasets` does: row groups of
100 images, Snappy; or stored, without compression.

    python parquet.py DIR TO.parquet [--stored]
"""

import json
import pathlib
import sys

import pyarrow
import pyarrow.parquet

ROWS = 100


def main(folder, to, stored):
    folder = pathlib.Path(folder)
    names = sorted(path.name for path in folder.iterdir())
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    fields = [("image", image), ("label", pyarrow.int64())]
    schema = pyarrow.schema(fields, metadata=metadata)
    paths = sorted(folder.glob("*/*"))
    options = {"compression": "none", "use_dictionary": False} if stored else {}
    with pyarrow.parquet.ParquetWriter(to, schema, **options) as writer:
        for start in range(0, len(paths), ROWS):
            rows = paths[start : start + ROWS]
            images = [{"bytes": path.read_bytes(), "path": path.name} for path in rows]
            labels = [names.index(path.parent.name) for path in rows]
            columns = {"image": images, "label": labels}
            writer.write_table(pyarrow.table(columns, schema=schema))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--stored" in sys.argv)
