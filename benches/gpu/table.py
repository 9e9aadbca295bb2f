"""What `benches/gpu/run.sh run` found, as one table: `python3 table.py RESULTS`."""

import json
import pathlib
import sys


def last_object(path):
    """The last line of a log that is a JSON object."""
    for line in reversed(path.read_text(errors="replace").splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def speed(found):
    """(milliseconds a step, images/s, GiB) of either side's result."""
    batch = found.get("batch_size", found.get("batch"))
    seconds = found["seconds_per_step"]
    return seconds * 1e3, batch / seconds, (found.get("peak_memory_bytes") or 0) / 2**30


def main():
    results = pathlib.Path(sys.argv[1])
    steps = sorted(results.glob("*.status"), key=lambda path: path.stat().st_mtime)
    print(f"{'step':34} {'exit':>7} {'s':>6}  {'ms/step':>8} {'images/s':>9} {'GiB':>6}")
    failed = 0
    for path in steps:
        code, seconds = path.read_text().split()
        failed += code not in ("0", "skipped")
        found = last_object(path.with_suffix(".log")) if code == "0" else None
        more = ""
        if found and "seconds_per_step" in found:
            more = "  {:8.2f} {:9.1f} {:6.2f}".format(*speed(found))
        print(f"{path.stem:34} {code:>7} {seconds:>6}{more}")
    print(f"{failed} of {len(steps)} steps failed")
    sys.exit(failed > 0)


main()
