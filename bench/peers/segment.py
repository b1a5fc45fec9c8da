"""Seconds and memory of the segmentation of one image by GLNet in plain PyTorch, in a process of its own.

    python3 bench/peers/segment.py --mode global-to-local --image 2448 --threads 2 --json

From the pixels and the downsampled image to the logits of all patches: without loading of weights, and without the
labels' stitching. Weights and image are random: neither changes what is computed. `seconds` is of the first image,
`warmSeconds` of the next (the middle of --images less one). `peakBytes` is the process's resident memory at its highest; on a GPU
`poolPeakBytes` is what tensors took there at most after the first image, and `reservedBytes` what PyTorch held for them. There maps are
channels_last, cuDNN chooses its algorithms by trying them, and float32 is not TF32. Exit code 3: there is no PyTorch, or no GPU.
"""

import argparse
import json
import statistics
import sys
import time

try:
    import torch
except ImportError:
    print("there is no PyTorch; on Debian: apt-get install python3-torch", file=sys.stderr)
    sys.exit(3)

from glnet_torch import TRAINED, GLNet, Grid, ResNet
from memory import peak_bytes


def measure(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    device, dtype = torch.device(options.device), getattr(torch, options.precision)
    on_gpu = device.type == "cuda"
    if on_gpu:
        if not torch.cuda.is_available():
            print("PyTorch sees no GPU", file=sys.stderr)
            sys.exit(3)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    layout = torch.channels_last if on_gpu else torch.contiguous_format
    net, fixed = (
        GLNet(options.backbone, options.classes).eval().requires_grad_(False).to(device, dtype, memory_format=layout)
        if wanted
        else None
        for wanted in (True, options.mode == "bidirectional")
    )
    small = torch.rand(1, 3, options.patch, options.patch)
    pixels = torch.rand(1, 3, options.image, options.image)
    grid = Grid(options.image, options.image, options.patch)

    def once():
        start = time.perf_counter()
        here = [x.to(device, dtype, memory_format=layout) for x in (small, pixels)]
        logits = net.predict(options.mode, *here, grid, options.batch, fixed)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start, len(logits.get("ensemble", ()))

    runs = [once()]
    if on_gpu and options.images > 1:
        torch.cuda.reset_peak_memory_stats()  # trying algorithms takes more than using them
    runs += [once() for _ in range(options.images - 1)]
    result = {
        "torch": torch.__version__,
        "patches": runs[0][1],
        "seconds": runs[0][0],
        "peakBytes": peak_bytes(),
    }
    if len(runs) > 1:
        result["warmSeconds"] = statistics.median(seconds for seconds, _ in runs[1:])
    if on_gpu:
        result["gpu"] = torch.cuda.get_device_name()
        result["poolPeakBytes"] = torch.cuda.max_memory_allocated()
        result["reservedBytes"] = torch.cuda.max_memory_reserved()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=TRAINED, default="global-to-local")
    parser.add_argument("--backbone", choices=ResNet.LAYOUTS, default="resnet50")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--image", type=int, default=2448, help="side of the image in pixels")
    parser.add_argument("--images", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--patch", type=int, default=508, help="side of a patch, and of the downsampled image")
    parser.add_argument("--batch", type=int, default=6, help="patches at a time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.mode}, {options.backbone}, {options.image} px, {options.device}, {options.precision}, {result['torch']}")
    print(", ".join(f"{name} {value:.3g}" for name, value in result.items() if not isinstance(value, str)))


main()
