"""Checks the PyTorch peer against outputs of GLNet's reference implementation.

    python3 bench/peers/check.py [folder of golden data, default test/fixtures]

Logits of all modes within 1e-3 of their largest magnitude; of a training step of each phase the losses within 1e-4,
the gradients' norms within 1e-2 and the norms of parameters and running statistics after it within 1e-4, relative.
Exit code 1: something is outside of that.
"""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import torch
from glnet_torch import GLNet, Grid, Sample, Trainer
from PIL import Image

MODES = {1: "global", 2: "global-to-local", 3: "bidirectional"}


def mix(h):
    """32-bit finaliser of MurmurHash3, of an array."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def fnv1a(text):
    h = 0x811C9DC5
    for byte in text.encode():
        h = ((h ^ byte) * 0x01000193) % 2**32
    return h


def golden_values(name, shape, seed):
    """The formula that the golden data's weights follow."""
    norm = re.search(r"\.(bn\d|downsample\.1)\.", name)
    if len(shape) == 4:
        scale, offset = math.sqrt(3 / (shape[1] * shape[2] * shape[3])), 0
    elif name.endswith("running_mean"):
        scale, offset = 0.2, 0
    elif name.endswith("running_var"):
        scale, offset = 0.3, 1
    elif name.endswith(".weight"):
        scale, offset = 0.2, 0.5 if norm[1] in ("bn3", "downsample.1") else 1.4
    else:
        scale, offset = (0.2 if norm else 0.1), 0
    index = np.arange(math.prod(shape), dtype=np.uint32)
    bits = mix(index * np.uint32(0x9E3779B1) + np.uint32(fnv1a(name) ^ seed)) >> np.uint32(8)
    values = (2 * (bits / 2**24) - 1) * scale + offset
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def golden_network(case, seed):
    net = GLNet(classes=case["classes"]).eval()
    state = net.state_dict()
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            value.copy_(golden_values(name, value.shape, seed))
    return net


def as_tensor(image):
    return torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


def downsampled(image, side):
    return as_tensor(image.resize((side, side), Image.BILINEAR))


class Report:
    def __init__(self):
        self.failed = False

    def compare(self, what, error, tolerance):
        good = error <= tolerance
        self.failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {what}: {error:.2e}, at most {tolerance:.0e}")

    def relative(self, what, found, expected, tolerance):
        """The largest relative error among values by name, or in order."""
        if isinstance(expected, list):
            found, expected = dict(enumerate(found)), dict(enumerate(expected))
        if found.keys() != expected.keys():
            surplus, missing = sorted(found.keys() - expected.keys()), sorted(expected.keys() - found.keys())
            self.failed = True
            print(f"FAIL {what}: surplus {surplus}, missing {missing}")
            return
        error, name = max(
            ((abs(found[name] - value) / max(abs(value), 1e-12), name) for name, value in expected.items()),
            default=(0, "none"),
        )
        self.compare(f"{what} ({len(expected)} values, worst {name})", error, tolerance)


def check_names(report, folder):
    expected = json.loads((folder / "parameters.json").read_text())
    found = {name: list(value.shape) for name, value in GLNet().state_dict().items()}
    unlike = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    report.compare(f"names and shapes ({len(expected)})", len(unlike), 0)


def check_eval(report, folder, name, case):
    image = Image.open(folder / case["image"]).convert("RGB")
    small = downsampled(image, case["global"])
    expected = np.fromfile(folder / case["globalImage"]["file"], "<f4").reshape(case["globalImage"]["shape"])
    report.compare(f"{name}: downsampled image", float(np.abs(small.numpy() - expected).max()), 1e-6)
    grid = Grid(case["height"], case["width"], case["patch"])
    report.compare(
        f"{name}: corners of patches", int(grid.corners != [tuple(corner) for corner in case["patchTopLeft"]]), 0
    )
    net = golden_network(case, case["weightsSeed"])
    fixed = golden_network(case, case["fixedGlobalWeightsSeed"])
    for number, outputs in case["modes"].items():
        mode = MODES[int(number)]
        logits = net.predict(mode, small, as_tensor(image), grid, case["subBatch"], fixed)
        for output, found in logits.items():
            if not (folder / outputs[output]["file"]).exists():
                continue  # the package's tests have no need of all
            expected = np.fromfile(folder / outputs[output]["file"], "<f4").reshape(outputs[output]["shape"])
            error = np.abs(found.numpy() - expected).max() / np.abs(expected).max()
            report.compare(f"{name}: {mode}, logits of {output}", float(error), 1e-3)


def golden_sample(folder, image, labels, side):
    image, labels = Image.open(folder / image).convert("RGB"), Image.open(folder / labels)
    small_labels = labels.resize((side // 4, side // 4), Image.NEAREST)
    as_labels = lambda raster: torch.from_numpy(np.array(raster, np.uint8)).unsqueeze(0)  # noqa: E731
    return Sample(downsampled(image, side), as_labels(small_labels), as_tensor(image), as_labels(labels))


def check_train(report, folder, name, case):
    net = golden_network(case, case["weightsSeed"])
    phase = MODES[case["mode"]]
    fixed = golden_network(case, case["fixedGlobalWeightsSeed"]) if phase == "bidirectional" else None
    trainer = Trainer(
        net, phase, case["learningRate"], fixed, case["gamma"], case["lambda"], case["weightDecay"]
    )
    samples = [golden_sample(folder, *pair, case["global"]) for pair in zip(case["images"], case["labels"])]
    trainer.step(samples, case["patch"], case["subBatch"])

    def norm(value):
        return value.double().norm().item()

    report.relative(f"{name}: focal losses", trainer.losses["focal"], case["focalLossesInOrder"], 1e-4)
    report.relative(f"{name}: mean squared errors", trainer.losses["mse"], case["mseInOrder"], 1e-4)
    gradients = {name: norm(p.grad) for name, p in net.named_parameters() if p.grad is not None}
    report.relative(f"{name}: norms of gradients", gradients, case["gradNorms"], 1e-2)
    state = {key: norm(value) for key, value in net.state_dict().items() if "num_batches" not in key}
    report.relative(f"{name}: norms after the step", state, case["paramNormsAfterStep"], 1e-4)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "test/fixtures")
    golden = json.loads((folder / "golden.json").read_text())
    report = Report()
    check_names(report, folder)
    check_eval(report, folder, "wide", golden["eval"]["wide"])
    for name, case in golden["train"].items():
        check_train(report, folder, name, case)
    sys.exit(report.failed)


main()
