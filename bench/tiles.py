"""Time and memory of exact tiles over an image larger than memory, beside what people do.

``bench/tiles.py [--size N] [--memory BYTES] [--nets NAME ...] [--ways WAY ...] [--threads N] [--whole N]``: an image of
``N x N x 3`` made from scikit-image's is segmented by networks exported from PyTorch (``bench/segmentation.py``)

- ``tiles``: by `omniconv.tiled`, from Zarr to Zarr, held to the budget;
- ``monai``: by MONAI's sliding window, windows of 512 that overlap by a quarter, Gaussian blending (PyTorch computes);
- ``overlap``: by `dask.array.map_overlap` with chunks of 512 and a guessed halo of 16 (Omniconv computes).

Each way runs in a fresh process. Its memory is the peak of that process less what it has after the same over an image
of 512 x 512. The largest error is against the whole image at ``--whole`` positions a side, in float32 on one thread.
For tiles the time is also set against what one piece takes, times the work that the plan says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from omniconv.bench.memory import begin_peak, peak_beyond

CHUNK: Final = 1024
WINDOW: Final = 512
HALO: Final = 16
SMALL: Final = 512
REPORT: Final = Path("build/bench/tiles.json")
WAYS: Final = ("tiles", "monai", "overlap")


def make_image(size: int, path: Path) -> None:
    """A Zarr array ``(size, size, 3)`` of bytes, written chunk by chunk."""
    import skimage.data
    import zarr

    data: Any = skimage.data
    pictures = [data.astronaut(), data.coffee()[:, :400], data.cat()[:, :400], data.rocket()[:400, :400]]
    rows = [np.concatenate([p[:300, :400], p[:300, 399::-1]], 1) for p in pictures]
    motif = np.concatenate([*rows, *(row[::-1] for row in rows)])
    image = zarr.create_array(path, shape=(size, size, 3), chunks=(CHUNK, CHUNK, 3), dtype="uint8", compressors=None)
    for top in range(0, size, CHUNK):
        for left in range(0, size, CHUNK):
            down, right = np.arange(top, min(top + CHUNK, size)), np.arange(left, min(left + CHUNK, size))
            # The motif changes place and brightness, so that no two parts of the image are alike.
            part = motif[(down[:, None] + 7 * (right // 700)[None]) % len(motif), right[None] % motif.shape[1]]
            image[top : top + CHUNK, left : left + CHUNK] = part // (1 + (down[:, None, None] // 900) % 3)


def run_tiles(name: str, model: Path, image: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Exact tiles."""
    import omniconv as oc

    how: dict[str, Any] = {"axes": "YXC", "two_pass": name.endswith("pooled"), "threads": args.threads}
    small = image[:SMALL, :SMALL]
    oc.tiled(str(model), small, out.with_name("small.zarr"), memory="6MB", progress=False, **how)
    plan = oc.plan_tiles(str(model), image.shape, args.memory, **how)
    one = plan.measure_seconds()
    before, start = begin_peak(), time.perf_counter()
    oc.tiled(str(model), image, out, memory=args.memory, progress=False, **how)
    seconds = time.perf_counter() - start
    facts = {"budget": plan.memory, "planned": plan.needed, "tile": plan.tile, "tiles": plan.all_tiles}
    return {"seconds": seconds, "peak": peak_beyond(before), "pieces": one, "work": plan.recompute, **facts}


def run_monai(name: str, model: Path, image: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """MONAI's sliding window, which takes an image in memory."""
    import torch
    from monai.inferers import sliding_window_inference

    from segmentation import make_net

    del model
    torch.set_num_threads(args.threads)
    net = make_net(name)

    def infer(x: Any) -> Any:
        with torch.no_grad():
            return sliding_window_inference(x, WINDOW, 1, net, overlap=0.25, mode="gaussian")

    def read(array: Any) -> Any:
        return torch.from_numpy(np.asarray(array)).permute(2, 0, 1)[None].float()

    infer(read(image[:SMALL, :SMALL]))
    before, start = begin_peak(), time.perf_counter()
    y = infer(read(image[:]))[0].permute(1, 2, 0).numpy()
    _write(out, y)
    return {"seconds": time.perf_counter() - start, "peak": peak_beyond(before)}


def run_overlap(name: str, model: Path, image: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Chunks with a halo that is a guess."""
    import dask
    import dask.array as da

    import omniconv as oc

    del name
    net = oc.compile(str(model), threads=1)

    def one(block: Any) -> Any:
        height, width = block.shape[:2]
        x = np.ascontiguousarray(block.transpose(2, 0, 1)[None], np.float32)
        x = np.pad(x, ((0, 0), (0, 0), (0, -height % 4), (0, -width % 4)))
        return net(x)[0].transpose(1, 2, 0)[:height, :width]

    def infer(source: Any, target: Path) -> None:
        array = da.from_array(source, chunks=(WINDOW, WINDOW, 3))
        depth = {0: HALO, 1: HALO, 2: 0}
        # What map_overlap does; its argument chunks= means the sizes with the halo, which only this way are at hand.
        wide = da.overlap.overlap(array, depth, "none")
        y = wide.map_blocks(one, chunks=(*wide.chunks[:2], (2,)), dtype="float32")
        da.overlap.trim_internal(y, depth, "none").to_zarr(str(target), overwrite=True)

    with dask.config.set(scheduler="threads", num_workers=args.threads):
        infer(image[:SMALL, :SMALL], out.with_name("small.zarr"))
        before, start = begin_peak(), time.perf_counter()
        infer(image, out)
    return {"seconds": time.perf_counter() - start, "peak": peak_beyond(before)}


def _write(path: Path, y: Any) -> None:
    import zarr

    zarr.create_array(path, shape=y.shape, chunks=(CHUNK, CHUNK, 2), dtype="float32")[:] = y


def find_error(model: Path, image: Any, result: Any, size: int) -> float:
    """Largest difference to the whole image."""
    import omniconv as oc

    x = np.ascontiguousarray(np.asarray(image[:]).transpose(2, 0, 1)[None], np.float32)
    y = oc.compile(str(model), shapes={"x": (1, 3, size, size)})(x)
    return float(np.abs(y[0].transpose(1, 2, 0) - np.asarray(result[:])).max())


def _child(args: argparse.Namespace) -> None:
    """One way, in a process of its own."""
    import zarr

    folder = Path(args.child)
    image = zarr.open_array(folder / f"{args.size}.zarr", mode="r")
    name, way = args.nets[0], args.ways[0]
    model, out = folder / f"{name}.onnx", folder / f"{name} {way} {args.size}.zarr"
    print(json.dumps(globals()[f"run_{way}"](name, model, image, out, args)))


def _run(folder: Path, name: str, way: str, size: int, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(folder), "--size", str(size), "--memory", args.memory]
    command += ["--threads", str(args.threads), "--nets", name, "--ways", way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this file itself
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:] or [f"signal {-done.returncode}"]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Run all ways, print a table and write a report."""
    from segmentation import NETS, export_net

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=20000)
    parser.add_argument("--whole", type=int, default=2048, help="where the error is measured; 0 for not")
    parser.add_argument("--memory", default="256MB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _child(args)
        return
    import zarr

    rows = []
    with tempfile.TemporaryDirectory(dir=".") as path:
        folder = Path(path).resolve()
        for size in {args.size, args.whole} - {0}:
            make_image(size, folder / f"{size}.zarr")
        for name in args.nets:
            export_net(name, folder / f"{name}.onnx")
            for way in args.ways:
                row = {"net": name, "way": way, "size": args.size, **_run(folder, name, way, args.size, args)}
                if args.whole and "failed" not in row:
                    if args.whole != args.size:
                        _run(folder, name, way, args.whole, args)
                    image, result = (
                        zarr.open_array(folder / file, mode="r")
                        for file in (f"{args.whole}.zarr", f"{name} {way} {args.whole}.zarr")
                    )
                    row["error"] = find_error(folder / f"{name}.onnx", image, result, args.whole)
                rows.append(row)
                print(json.dumps(row), flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"threads": args.threads, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
