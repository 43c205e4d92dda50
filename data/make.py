"""Makes the demo set in this folder from a larger one: `python3 make.py SOURCE [--rows 5000]`.

SOURCE holds wordnet-20k.f16.npy, wordnet-20k.jsonl, wordnet-queries.f16.npy, wordnet-queries.json and
wordnet-queries.top10.json (see README.md). Only the standard library is used, and the same source gives the same bytes.
"""

import argparse
import ast
import json
import math
import operator
import shutil
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = 10


def read_npy(path):
    """The rows of a little-endian float16 matrix, each as its raw bytes, and its width."""
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", f"{path}: not a version 1 .npy file"
    (header_len,) = struct.unpack_from("<H", data, 8)
    header = ast.literal_eval(data[10 : 10 + header_len].decode())
    assert header["descr"] == "<f2" and not header["fortran_order"], f"{path}: not float16 in C order"
    rows, width = header["shape"]
    stride, start = width * 2, 10 + header_len
    assert len(data) == start + rows * stride, f"{path}: cut short"
    return [data[start + r * stride : start + (r + 1) * stride] for r in range(rows)], width


def write_npy(path, rows, width):
    header = str({"descr": "<f2", "fortran_order": False, "shape": (len(rows), width)})
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"".join(rows))


def unit(raw, width):
    """A row's float16 values, scaled to length one."""
    values = struct.unpack(f"<{width}e", raw)
    length = math.sqrt(sum(map(operator.mul, values, values)))
    return [value / length for value in values]


def choose(ids, wanted, count):
    """Row numbers in file order: every wanted id, then the first others until there are `count`."""
    wanted = set(wanted)
    free = count - len(wanted)
    chosen = []
    for row, point_id in enumerate(ids):
        if point_id in wanted:
            chosen.append(row)
        elif free > 0:
            chosen.append(row)
            free -= 1
    assert len(chosen) == count, f"the source has too few rows or lacks a wanted id: {len(chosen)} of {count}"
    return chosen


def nearest(query, points):
    """The ids of the ten points with the highest cosine; ties go to the smaller id."""
    scored = ((-sum(map(operator.mul, query, vector)), point_id) for point_id, vector in points)
    return [point_id for _, point_id in sorted(scored)[:TOP]]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("source", type=Path)
    args.add_argument("--rows", type=int, default=5000)
    args = args.parse_args()

    lines = (args.source / "wordnet-20k.jsonl").read_text(encoding="utf-8").splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    vectors, width = read_npy(args.source / "wordnet-20k.f16.npy")
    queries, query_width = read_npy(args.source / "wordnet-queries.f16.npy")
    assert len(ids) == len(vectors) == len(set(ids)) and width == query_width, "the source files don't belong together"
    source_top = json.loads((args.source / "wordnet-queries.top10.json").read_text())

    chosen = choose(ids, (point_id for top in source_top for point_id in top), args.rows)
    points = [(ids[row], unit(vectors[row], width)) for row in chosen]
    top = [nearest(unit(query, width), points) for query in queries]

    write_npy(HERE / "wordnet-5k.f16.npy", [vectors[row] for row in chosen], width)
    (HERE / "wordnet-5k.jsonl").write_text("".join(lines[row] + "\n" for row in chosen), encoding="utf-8")
    shutil.copyfile(args.source / "wordnet-queries.f16.npy", HERE / "queries.f16.npy")
    shutil.copyfile(args.source / "wordnet-queries.json", HERE / "queries.json")
    text = ",\n".join(json.dumps(row) for row in top)
    (HERE / "queries.top10.json").write_text(f"[\n{text}\n]\n")
    same = sum(a == b for a, b in zip(top, source_top))
    print(f"{len(chosen)} points, {len(queries)} queries; top ten as in the source for {same} of {len(top)}")


if __name__ == "__main__":
    main()
