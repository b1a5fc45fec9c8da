"""Seconds and memory of a training step of GLNet in plain PyTorch on the CPU, in a process of its own.

    python3 bench/peers/train_step.py --phase global-to-local --patch 508 --batch 6 --threads 2 --steps 3 --json

A step of `global-to-local` is, by default, one batch of patches of one image with all that belongs to it: the global
branch without gradients, the local branch, both focal losses and the regulariser, backward, Adam. A step of `global`
is a batch of downsampled images; one of `bidirectional` is all patches of an image, which are merged. Seconds are
those of each step by stage, and the medians of all but the first, in which memory is taken and kernels are made.
`peakBytes` is the process's resident memory at its highest, `idleBytes` before the network was made. Exit code 3:
there is no PyTorch.
"""

import argparse
import json
import resource
import statistics
import sys
import time

try:
    import torch
except ImportError:
    print("there is no PyTorch; on Debian: apt-get install python3-torch", file=sys.stderr)
    sys.exit(3)

from glnet_torch import TRAINED, GLNet, ResNet, Sample, Trainer
from memory import peak_bytes


def user_seconds():
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def random_sample(options):
    def labels(side):
        return torch.randint(options.classes, (1, side, side), dtype=torch.uint8)

    side = options.image
    return Sample(
        torch.rand(1, 3, options.side, options.side),
        labels(options.side // 4),
        torch.rand(1, 3, side, side) if options.phase != "global" else None,
        labels(side) if options.phase != "global" else None,
    )


def measure(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    idle = peak_bytes()

    def network():
        return GLNet(options.backbone, options.classes, options.width, options.channels, options.smooth)

    fixed = network().eval().requires_grad_(False) if options.phase == "bidirectional" else None
    trainer = Trainer(network(), options.phase, rate=2e-5, fixed=fixed)
    samples = [random_sample(options) for _ in range(options.batch if options.phase == "global" else 1)]
    patches = range(options.patches or options.batch) if options.phase == "global-to-local" else None

    steps = []
    for _ in range(options.steps):
        start, user = time.perf_counter(), user_seconds()
        trainer.step(samples, options.patch, options.batch, patches)
        steps.append(
            {**trainer.seconds, "total": time.perf_counter() - start, "user": user_seconds() - user}
        )
    settled = steps[1:] or steps
    return {
        "torch": torch.__version__,
        **{name: value for name, value in vars(options).items() if name != "json"},
        "losses": trainer.losses,
        "steps": steps,
        "seconds": {stage: statistics.median(step[stage] for step in settled) for stage in steps[0]},
        "idleBytes": idle,
        "peakBytes": peak_bytes(),
    }


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", choices=TRAINED, default="global-to-local")
    parser.add_argument("--backbone", choices=ResNet.LAYOUTS, default="resnet50")
    parser.add_argument("--width", type=float, default=1.0, help="multiplier of the backbone's channels")
    parser.add_argument("--channels", type=int, default=256, help="of the pyramid's first two stages")
    parser.add_argument("--smooth", type=int, default=128, help="channels of the pyramid's third stage")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--image", type=int, default=2448, help="side of the image in pixels")
    parser.add_argument("--patch", type=int, default=508, help="side of a patch in pixels")
    parser.add_argument("--side", type=int, default=508, help="side of the downsampled image in pixels")
    parser.add_argument("--batch", type=int, default=6, help="patches, or images of the phase global, at a time")
    parser.add_argument("--patches", type=int, help="of global-to-local: patches of the image; default one batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main():
    options = parse()
    result = measure(options)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.phase}, {options.backbone}, batch {options.batch}, {options.threads} threads, {torch.__version__}")
    for stage, seconds in result["seconds"].items():
        print(f"{stage:>10} {seconds:8.2f} s")
    print(f"{'peak':>10} {result['peakBytes'] / 1e9:8.2f} GB, {result['idleBytes'] / 1e9:.2f} before the network")


main()
