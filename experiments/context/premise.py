"""Measures on a folder of context scenes what they are made for; see scenes.ts.

    python3 experiments/context/premise.py DIR

1. Outlines need resolution: IoU of the hedges with themselves, sampled at the resolution of a branch's output and
   brought back by nearest neighbour: the most that branch can reach.
2. Hedges need detail: IoU of the best threshold on a k-nearest-neighbour vote that tells hedges from the rest, by 7x7
   pixels of the downsampled image, and by as many pixels and their contrast of the image itself.
3. Classes need context: how often k nearest neighbours tell the class of a patch's hedges from the patch's colours,
   and how often the colour of the nearest landmark tells it.

Wants numpy and Pillow; for scenes of two biomes.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = PATCH = 124
WINDOW = 7


def read(folder, split):
    for name in json.loads((folder / "dataset.json").read_text())["split"][split]:
        image = Image.open(folder / "images" / f"{name}.png")
        labels = np.asarray(Image.open(folder / "masks" / f"{name}.png"))
        yield image, np.asarray(image, np.float32), labels


def nearest(length, count):
    """Where nearest neighbour samples `count` of `length` pixels."""
    return ((np.arange(count) + 0.5) * length / count).astype(int)


def iou(found, true):
    return (found & true).sum() / (found | true).sum()


def vote(train, classes, test, k=25):
    """Share of class 1 among the k nearest neighbours, features scaled to unit variance."""
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / deviation, (test - mean) / deviation
    shares = []
    for rows in np.array_split(test, max(1, len(test) // 500)):
        distances = (train**2).sum(1) - 2 * rows @ train.T
        shares.append(classes[np.argpartition(distances, k, axis=1)[:, :k]].mean(1))
    return np.concatenate(shares)


def outlines(scenes):
    for what, count in (
        ("local output (1/4)", lambda size: size // 4),
        ("downsampled image (124 px)", lambda size: SIDE),
        ("global output (31 px)", lambda size: SIDE // 4),
    ):
        found, true = [], []
        for _, _, labels in scenes:
            size = len(labels)
            at = nearest(size, count(size))
            back = nearest(count(size), size)
            found.append((labels[np.ix_(at, at)] > 0)[np.ix_(back, back)])
            true.append(labels > 0)
        print(f"1. hedges sampled at the {what}: IoU {iou(np.array(found), np.array(true)):.2f}")


def windows(pixels, rows, columns):
    half = WINDOW // 2
    padded = np.pad(pixels, ((half, half), (half, half), (0, 0)), mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), axis=(0, 1))
    return views[rows, columns].reshape(len(rows), -1)


def detail(train, test, random):
    """Equally many places of each scene, in the downsampled image and in the image itself."""

    def places(scenes, count, shrunk):
        features, hedge = [], []
        for image, pixels, labels in scenes:
            y, x = random.integers(0, SIDE, (2, count))
            centres = nearest(len(labels), SIDE)
            hedge.append(labels[centres[y], centres[x]] > 0)
            if shrunk:
                small = np.asarray(image.resize((SIDE, SIDE), Image.BILINEAR), np.float32)
                features.append(windows(small, y, x))
            else:
                found = windows(pixels, centres[y], centres[x])
                # Where a hatching's lines lie differs; how strong they are does not.
                features.append(np.stack([found.mean(1), found.std(1)], 1))
        return np.concatenate(features), np.concatenate(hedge)

    for what, shrunk in (("downsampled image", True), ("image itself", False)):
        known, known_hedge = places(train, 1000, shrunk)
        asked, hedge = places(test, 1000, shrunk)
        share = vote(known, known_hedge, asked)
        best = max(iou(share > threshold, hedge) for threshold in np.arange(0, 1, 0.04))
        print(f"2. hedges told from the rest on the {what}: IoU {best:.2f}")


def landmark_pixels(pixels):
    """The landmarks' colours are stronger than all others'."""
    return pixels.max(-1) - pixels.min(-1) > 110


def context(train, test, random):
    def patches(scenes, count):
        features, classes, sees, guesses = [], [], [], []
        for _, pixels, labels in scenes:
            y, x = np.nonzero(landmark_pixels(pixels))
            red = pixels[y, x, 0] > pixels[y, x, 2]
            for top, left in random.integers(0, len(labels) - PATCH, (count, 2)):
                window = np.s_[top : top + PATCH, left : left + PATCH]
                present = np.unique(labels[window][labels[window] > 0])
                if len(present) != 1:
                    continue
                patch = pixels[window]
                coarse = patch[:120, :120].reshape(4, 30, 4, 30, 3).mean((1, 3)).ravel()
                levels = np.quantile(patch.reshape(-1, 3), (0, 0.02, 0.1, 0.5, 0.9, 0.98, 1), axis=0).ravel()
                spread = [patch.std(), np.abs(np.diff(patch, axis=0)).mean(), np.abs(np.diff(patch, axis=1)).mean()]
                features.append(np.concatenate([coarse, levels, spread]))
                classes.append(present[0] == 1)
                sees.append(landmark_pixels(patch).any())
                hedge = np.argwhere(labels[window] > 0).mean(0) + (top, left)
                guesses.append(red[np.argmin((y - hedge[0]) ** 2 + (x - hedge[1]) ** 2)])
        return np.array(features), np.array(classes), np.array(sees), np.array(guesses)

    known, known_class, _, _ = patches(train, 120)
    asked, classes, sees, guesses = patches(test, 120)
    right = (vote(known, known_class, asked) > 0.5) == classes
    print(f"3. patches without a landmark: {(~sees).mean():.0%} of {len(sees)} patches with hedges of one class")
    print(f"   class told from the patch, no landmark in it: {right[~sees].mean():.0%}")
    print(f"   class told from the patch, a landmark in it: {right[sees].mean():.0%}")
    print(f"   class told from the nearest landmark's colour: {(guesses == classes).mean():.0%}")


def main():
    if len(sys.argv) != 2:
        sys.exit("expected one folder: python3 experiments/context/premise.py DIR")
    folder = Path(sys.argv[1])
    train, test = list(read(folder, "train")), list(read(folder, "test"))
    random = np.random.default_rng(1)
    outlines(test)
    detail(train, test, random)
    context(train, test, random)


main()
