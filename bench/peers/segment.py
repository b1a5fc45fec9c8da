"""Seconds and memory of the segmentation of one image by GLNet in plain PyTorch on the CPU, in a process of its own.

    python3 bench/peers/segment.py --mode global-to-local --image 2448 --threads 2 --json

From the pixels and the downsampled image to the logits of all patches: without loading of weights, and without the
labels' stitching. Weights and image are random: neither changes what is computed. `peakBytes` is the process's resident
memory at its highest. Exit code 3: there is no PyTorch.
"""

import argparse
import json
import resource
import sys
import time

try:
    import torch
except ImportError:
    print("there is no PyTorch; on Debian: apt-get install python3-torch", file=sys.stderr)
    sys.exit(3)

from glnet_torch import TRAINED, GLNet, Grid, ResNet


def measure(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    net, fixed = (
        GLNet(options.backbone, options.classes).eval().requires_grad_(False) if wanted else None
        for wanted in (True, options.mode == "bidirectional")
    )
    small = torch.rand(1, 3, options.patch, options.patch)
    pixels = torch.rand(1, 3, options.image, options.image)
    grid = Grid(options.image, options.image, options.patch)
    start = time.perf_counter()
    logits = net.predict(options.mode, small, pixels, grid, options.batch, fixed)
    seconds = time.perf_counter() - start
    return {
        "torch": torch.__version__,
        "patches": len(logits.get("ensemble", ())),
        "seconds": seconds,
        "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=TRAINED, default="global-to-local")
    parser.add_argument("--backbone", choices=ResNet.LAYOUTS, default="resnet50")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--image", type=int, default=2448, help="side of the image in pixels")
    parser.add_argument("--patch", type=int, default=508, help="side of a patch, and of the downsampled image")
    parser.add_argument("--batch", type=int, default=6, help="patches at a time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.mode}, {options.backbone}, {options.image} px, {options.threads} threads, {result['torch']}")
    print(f"{result['seconds']:.2f} s, {result['peakBytes'] / 1e9:.2f} GB")


main()
