"""Trains GLNet in plain PyTorch, all three phases, and scores it: what our own experiments are compared with.

    python3 bench/peers/train.py DATA --out seed-0.json --seed 0 [--experiment experiments/dubai] [--scale 1]

Data, network, steps, batches, the sides of scenes and the learning rate are those of the experiment's dataset.json and
train.json; masks are of colours, images whole or in parts that are joined. All else is the plain recipe, whatever
train.json says: Adam with a decay of weights of 5e-4, gamma 6, lambda 0.15, the rate times (1 - step / steps)^0.9; no
warm-up, no clipping, no pretrained weights.

1. `global`: the global branch, on whole scenes downsampled. Scenes are squares at random places, flipped and turned.
2. `global-to-local`: the local branch and the aggregation, on random patches of a scene. The global branch is fixed.
3. `bidirectional`: the global branch again, from its weights of phase 1 but with new `_ext` layers, on all patches. The
   local branch is fixed, and so is the copy of the first global branch whose maps it takes.

After each phase every output is scored on the test images, each as one scene: OUT has the mean IoU and the IoU of each
class, and the seconds so far. The weights are beside it, as plain state dicts in NAME.PHASE.pth (`glnet import` takes
them). A run that was stopped goes on after the last phase that it finished, as if it had not been: what is drawn at
random depends on seed and phase alone. Exit code 3: there is no PyTorch.
"""

import argparse
import copy
import itertools
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("there is no PyTorch; on Debian: apt-get install python3-torch", file=sys.stderr)
    sys.exit(3)

from glnet_torch import TRAINED, GLNet, Grid, Sample, Trainer

IGNORED = 255
OUTPUTS = ("global", "local", "ensemble")


# ---- Data ----


def read_image(path):
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def read_labels(path, description):
    """Class indices of a mask of colours, which may be a palette image."""
    colours = {ImageColor.getrgb(each["color"]): i for i, each in enumerate(description["classes"])}
    colours.update((ImageColor.getrgb(colour), IGNORED) for colour in description.get("ignored", []))
    code = lambda rgb: rgb @ np.array([1 << 16, 1 << 8, 1])  # noqa: E731
    known, indices = np.unique(code(np.array(list(colours))), return_index=True)
    pixels = code(read_image(path).astype(np.int64))
    at = np.searchsorted(known, pixels).clip(max=len(known) - 1)
    wrong = pixels[known[at] != pixels]
    if wrong.size:
        sys.exit(f"{path}: #{wrong[0]:06X} is no class's colour")
    return np.array(list(colours.values()), np.uint8)[indices[at]]


def read_pair(folder, description, name):
    """An image and its labels, joined row by row if they come in parts."""
    mosaic = description.get("mosaic", {"rows": 1, "columns": 1})
    rows, columns = mosaic["rows"], mosaic["columns"]

    def joined(pattern, read):
        parts = [read(folder / pattern.format(id=name, part=i + 1)) for i in range(rows * columns)]
        return np.concatenate(
            [np.concatenate(parts[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
        )

    return joined(description["images"], read_image), joined(
        description["masks"], lambda path: read_labels(path, description)
    )


def scenes(pairs, side, rng):
    """Squares at random places, without end. Each image comes once in a round, in another order each time; scenes are
    flipped with probability 1/2, then turned with probability 1/2."""
    while True:
        for i in rng.permutation(len(pairs)):
            height, width = pairs[i][1].shape
            top, left = (rng.integers(max(length - side, 0) + 1) for length in (height, width))
            scene = [x[top : top + side, left : left + side] for x in pairs[i]]
            if rng.integers(2):
                scene = [x[:, ::-1] for x in scene]
            quarters = rng.integers(2) * rng.integers(1, 4)
            yield [np.ascontiguousarray(np.rot90(x, quarters)) for x in scene]


def as_tensor(pixels):
    return torch.from_numpy(np.array(pixels, np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


def as_sample(pixels, labels, side):
    small = Image.fromarray(pixels).resize((side, side), Image.BILINEAR)
    small_labels = Image.fromarray(labels).resize((side // 4, side // 4), Image.NEAREST)
    small_labels, labels = (torch.from_numpy(np.array(x)).unsqueeze(0) for x in (small_labels, labels))
    return Sample(as_tensor(small), small_labels, as_tensor(pixels), labels)


# ---- Scores ----


def predict(net, phase, fixed, pixels, config):
    """Labels of an image by output."""
    side, patch = config["model"]["global"], config["model"]["patch"]
    height, width = pixels.shape[:2]
    grid = Grid(height, width, patch)
    small = as_tensor(Image.fromarray(pixels).resize((side, side), Image.BILINEAR))
    batch = config["phases"]["bidirectional"]["patchBatch"]
    logits = net.eval().predict(phase, small, as_tensor(pixels), grid, batch, fixed)
    found = {"global": F.interpolate(logits.pop("global"), (height, width), mode="nearest")[0]}
    for output, patches in logits.items():
        found[output] = patches.new_zeros(patches.shape[1], height, width)
        for (top, left), one in zip(grid.corners, F.interpolate(patches, scale_factor=4.0, mode="nearest")):
            found[output][:, top : top + patch, left : left + patch] += one
    return {output: found[output].argmax(0).numpy() for output in OUTPUTS if output in found}


def score(net, phase, fixed, pairs, classes, config):
    counts = {}
    for pixels, labels in pairs:
        valid = labels < classes
        for output, found in predict(net, phase, fixed, pixels, config).items():
            pair = labels[valid].astype(np.int64) * classes + found[valid]
            counts[output] = counts.get(output, 0) + np.bincount(pair, minlength=classes**2)
    scores = {}
    for output, count in counts.items():
        matrix = count.reshape(classes, classes)
        right = matrix.diagonal()
        iou = right / np.maximum(matrix.sum(0) + matrix.sum(1) - right, 1)
        scores[output] = {"mIoU": round(iou.mean(), 4), "IoU": [round(x, 4) for x in iou]}
    return scores


# ---- Training ----


def train(net, phase, fixed, steps, pairs, rng, config):
    own = config["phases"][phase]
    side, patch = config["model"]["global"], config["model"]["patch"]
    trainer = Trainer(net, phase, config["learningRate"], fixed)
    schedule = torch.optim.lr_scheduler.LambdaLR(trainer.optimiser, lambda step: (1 - step / steps) ** 0.9)
    source = scenes(pairs, config["scene"], rng)
    losses, start, shown = [], time.perf_counter(), 0
    for step in range(1, steps + 1):
        samples = [as_sample(*scene, side) for scene in itertools.islice(source, own["batch"])]
        patches = None
        if "patchesPerScene" in own:
            count = len(Grid(*samples[0].pixels.shape[2:], patch).corners)
            patches = sorted(rng.permutation(count)[: own["patchesPerScene"]])
        trainer.step(samples, patch, own.get("patchBatch"), patches)
        schedule.step()
        losses.append(np.mean(trainer.losses["focal"]))
        seconds = time.perf_counter() - start
        if step == 1 or step == steps or seconds - shown > 30:
            loss, losses, shown = np.mean(losses), [], seconds
            print(f"{phase}: step {step}/{steps}  loss {loss:.4f}  {seconds / step:.2f} s a step", flush=True)


def write(path, put):
    """Beside, then renamed: a run that is killed leaves no half of a file."""
    beside = path.with_name(path.name + ".tmp")
    put(beside)
    os.replace(beside, path)


def run(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    description, config = (
        json.loads((options.experiment / name).read_text()) for name in ("dataset.json", "train.json")
    )
    classes = len(description["classes"])
    model = config["model"]
    net = GLNet(model["backbone"], classes, model["width"], model["fpn"]["channels"], model["fpn"]["smooth"])
    steps = {phase: max(2, round(config["phases"][phase]["steps"] * options.scale)) for phase in TRAINED}
    pairs = {
        split: [read_pair(options.data, description, name) for name in description["split"][split]]
        for split in ("train", "test")
    }
    result = {"seed": options.seed, "steps": list(steps.values()), "seconds": 0}
    if options.out.exists():
        before = json.loads(options.out.read_text())
        if any(before[key] != result[key] for key in ("seed", "steps")):
            sys.exit(f"{options.out}: is of another seed or of other steps; choose another name")
        result = before
    fixed = None
    for number, phase in enumerate(TRAINED, 1):
        weights = options.out.with_suffix(f".{phase}.pth")
        if phase == "bidirectional":
            fixed = copy.deepcopy(net).eval().requires_grad_(False)
        if f"phase {number}" in result:
            net.load_state_dict(torch.load(weights))
            continue
        start = time.perf_counter()
        rng = np.random.default_rng([options.seed, number])
        train(net, phase, fixed, steps[phase], pairs["train"], rng, config)
        scores = score(net, phase, fixed, pairs["test"], classes, config)
        # The seconds stay last.
        seconds = result.pop("seconds") + time.perf_counter() - start
        result.update({f"phase {number}": scores, "seconds": round(seconds)})
        write(weights, lambda path: torch.save(net.state_dict(), path))
        write(options.out, lambda path: path.write_text(json.dumps(result, indent=1) + "\n"))
        print(f"{phase}: mIoU", {output: found["mIoU"] for output, found in scores.items()}, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the images and masks")
    parser.add_argument("--out", type=Path, required=True, help="JSON of the scores; one that is there is gone on with")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of all that is drawn")
    parser.add_argument(
        "--experiment",
        type=Path,
        default=Path(__file__).parents[2] / "experiments" / "dubai",
        help="folder with dataset.json and train.json; its scenes are squares",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplier of the steps, for a quick run-through")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    run(parser.parse_args())


main()
