"""GLNet in plain PyTorch: convolutions, concatenation and interpolation written out, as the paper has them.

What the speed and memory of training are compared with. Chen, Jiang, Wang, Cui, Qian, "Collaborative
Global-Local Networks for Memory-Efficient Segmentation of Ultra-High Resolution Images", CVPR 2019. Parameters have
the names of the reference implementation. Maps are NCHW; stages are named c, ps0, ps1, ps2 as in the paper, each a
list of four levels from 1/32 to 1/4 of the input.
"""

import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

MIN_OVERLAP = 50
STAGES = ("c", "ps0", "ps1", "ps2")


def up(x, size):
    """Bilinear, half-pixel centres, no antialiasing, also where it shrinks."""
    size = tuple(size)
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


# ---- Patches and their crops ----


def axis_starts(length, patch):
    if length <= patch:
        return [0]
    span = length - patch
    count = max(math.ceil(length / patch), math.ceil(span / (patch - MIN_OVERLAP)) + 1)
    return [round(k * (span / (count - 1))) for k in range(count - 1)] + [span]


@dataclass
class Grid:
    """Square patches over an image that is at least as large as one of them."""

    height: int
    width: int
    patch: int

    def __post_init__(self):
        rows, columns = axis_starts(self.height, self.patch), axis_starts(self.width, self.patch)
        self.corners = [(top, left) for top in rows for left in columns]

    def crop_size(self, rows, columns):
        """Size of a patch on a map of the whole image."""
        return tuple(
            min(max(round(n * (self.patch / length)), 1), n)
            for n, length in ((rows, self.height), (columns, self.width))
        )

    def crop(self, i, rows, columns):
        """Where patch i lies on a map of the whole image: slices of rows and of columns."""
        return tuple(
            slice(start, start + size)
            for start, size in (
                (min(round((corner / length) * n), n - size), size)
                for corner, length, n, size in zip(
                    self.corners[i], (self.height, self.width), (rows, columns), self.crop_size(rows, columns)
                )
            )
        )

    def crops(self, x, patches):
        """The crops of a map [1, C, H, W] for some patches: [patches, C, h, w]."""
        return torch.cat([x[(..., *self.crop(i, *x.shape[2:]))] for i in patches])

    def coverage(self, rows, columns):
        counts = torch.zeros(1, 1, self.height, self.width)
        for top, left in self.corners:
            counts[..., top : top + self.patch, left : left + self.patch] += 1
        return up(counts, (rows, columns))


class Merge:
    """Lays the maps of patches over a map of the whole image, and averages where they overlap."""

    def __init__(self, grid, size):
        self.grid, self.size, self.sum = grid, tuple(size), None

    def add(self, x, patches):
        if self.sum is None:
            self.sum = x.new_zeros(1, x.shape[1], *self.size)
        small = up(x, self.grid.crop_size(*self.size))
        for i, one in zip(patches, small):
            self.sum[(0, slice(None), *self.grid.crop(i, *self.size))] += one

    def mean(self):
        return self.sum / self.grid.coverage(*self.size).to(self.sum)


# ---- Network ----


def conv(inputs, outputs, side, stride=1, bias=False):
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=bias)


class Block(nn.Module):
    """A residual block: basic (two 3x3) or bottleneck (1x1, 3x3, 1x1; the stride is on the 3x3)."""

    def __init__(self, inputs, inner, outputs, stride, bottleneck):
        super().__init__()
        if bottleneck:
            sizes = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        else:
            sizes = [(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)]
        for i, size in enumerate(sizes, 1):
            self.add_module(f"conv{i}", conv(*size))
            self.add_module(f"bn{i}", nn.BatchNorm2d(size[1]))
        self.convolutions = len(sizes)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, self.convolutions + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.convolutions:
                y = F.relu(y, inplace=True)
        return F.relu(y + (self.downsample(x) if self.downsample else x), inplace=True)


class ResNet(nn.Module):
    """A ResNet without its classifier; gives c5, c4, c3, c2."""

    LAYOUTS = {"resnet18": (False, (2, 2, 2, 2)), "resnet50": (True, (3, 4, 6, 3))}

    def __init__(self, backbone, width=1.0):
        super().__init__()
        bottleneck, blocks = self.LAYOUTS[backbone]
        inner = round(64 * width)
        self.conv1 = conv(3, inner, 7, 2)
        self.bn1 = nn.BatchNorm2d(inner)
        inputs = inner
        self.channels = []
        for stage, count in enumerate(blocks):
            outputs = inner * (4 if bottleneck else 1)
            layer = []
            for i in range(count):
                layer.append(Block(inputs, inner, outputs, 2 if stage > 0 and i == 0 else 1, bottleneck))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
            self.channels.insert(0, outputs)
            inner *= 2

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        maps = []
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
            maps.insert(0, x)
        return maps


class Pyramid(nn.Module):
    """Linear feature pyramid. `suffixes` tells for each set of layers how many maps a stage joins: the global branch
    has one that is alone (1) and one that takes the local branch's maps (2), with `_ext` in its layers' names."""

    def __init__(self, features, channels, smooth, classes, suffixes):
        super().__init__()
        for suffix, sources in suffixes.items():
            names = ["toplayer", "latlayer1", "latlayer2", "latlayer3"]
            for name, inputs in zip(names, features):
                self.add_module(name + suffix, conv(sources * inputs, channels, 1, bias=True))
            for i in range(1, 5):
                self.add_module(f"smooth{i}_1{suffix}", conv(sources * channels, channels, 3, bias=True))
                self.add_module(f"smooth{i}_2{suffix}", conv(sources * channels, smooth, 3, bias=True))
        self.smooth = conv(8 * smooth, 4 * smooth, 3, bias=True)
        self.classify = conv(4 * smooth, classes, 3, bias=True)

    def forward(self, c, share=None, suffix=""):
        """share(stage, level) gives the other branch's map, of any size; None: the branch is alone."""

        def joined(x, stage, level):
            return x if share is None else torch.cat([x, up(share(stage, level), x.shape[2:])], 1)

        def layer(name, x, stage, level):
            return getattr(self, name + suffix)(joined(x, stage, level))

        p = [layer("toplayer", c[0], "c", 0)]
        for level in range(1, 4):
            lateral = layer(f"latlayer{level}", c[level], "c", level)
            p.append(up(p[-1], lateral.shape[2:]) + lateral)
        q = [layer(f"smooth{i + 1}_1", p[i], "ps0", i) for i in range(4)]
        r = [layer(f"smooth{i + 1}_2", q[i], "ps1", i) for i in range(4)]
        ps3 = torch.cat([up(joined(r[i], "ps2", i), p[3].shape[2:]) for i in range(4)], 1)
        if share is not None:
            ps3 = self.smooth(ps3)
        return {"c": c, "ps0": p, "ps1": q, "ps2": r, "ps3": ps3}


class GLNet(nn.Module):
    def __init__(self, backbone="resnet50", classes=7, width=1.0, channels=256, smooth=128):
        super().__init__()
        self.resnet_global, self.resnet_local = ResNet(backbone, width), ResNet(backbone, width)
        features = self.resnet_global.channels
        self.fpn_global = Pyramid(features, channels, smooth, classes, {"": 1, "_ext": 2})
        self.fpn_local = Pyramid(features, channels, smooth, classes, {"": 2})
        self.ensemble_conv = conv(8 * smooth, classes, 3, bias=True)
        for name, parameter in self.named_parameters():
            if not name.startswith("resnet_"):
                nn.init.normal_(parameter, 0, 0.01) if parameter.dim() == 4 else nn.init.zeros_(parameter)
            elif parameter.dim() == 4:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    def global_maps(self, x, merged=None):
        """The global branch, alone or with merged local maps."""
        c = self.resnet_global(x)
        if merged is None:
            return self.fpn_global(c)
        return self.fpn_global(c, lambda stage, level: merged[stage][level], "_ext")

    def local_maps(self, x, shared, grid, patches):
        """The local branch on patches, with the global branch's maps of their image."""
        share = lambda stage, level: grid.crops(shared[stage][level], patches)  # noqa: E731
        return self.fpn_local(self.resnet_local(x), share)

    def ensemble(self, local_ps3, global_ps3, grid, patches):
        near = up(grid.crops(global_ps3, patches), local_ps3.shape[2:])
        return self.ensemble_conv(torch.cat([local_ps3, near], 1))

    def merged_maps(self, pixels, shared, grid, batch, each=lambda patches, maps: None):
        """Runs the local branch over all patches of an image [1, 3, H, W]; merges its maps to the sizes of `shared`."""
        merges = {stage: [Merge(grid, x.shape[2:]) for x in shared[stage]] for stage in STAGES}
        for patches in batches(grid, batch):
            maps = self.local_maps(cut(pixels, grid, patches), shared, grid, patches)
            for stage in STAGES:
                for merge, x in zip(merges[stage], maps[stage]):
                    merge.add(x, patches)
            each(patches, maps)
        return {stage: [merge.mean() for merge in merges[stage]] for stage in STAGES}

    @torch.inference_mode()
    def predict(self, mode, small, pixels, grid, batch, fixed=None):
        """Logits at 1/4 of the resolution: of the global branch, and of the local one and the ensemble by patch.

        small: the downsampled image [1, 3, g, g]; pixels: the image [1, 3, H, W]; fixed: the network with the global
        branch of phase 1, for `bidirectional`.
        """
        if mode == "global":
            return {"global": self.fpn_global.classify(self.global_maps(small)["ps3"])}
        shared = (fixed if mode == "bidirectional" else self).global_maps(small)
        local, ps3 = [], []

        def keep(patches, maps):
            local.append(self.fpn_local.classify(maps["ps3"]))
            ps3.append((patches, maps["ps3"]))

        if mode == "bidirectional":
            merged = self.merged_maps(pixels, shared, grid, batch, keep)
            shared = self.global_maps(small, merged)
        else:
            for patches in batches(grid, batch):
                keep(patches, self.local_maps(cut(pixels, grid, patches), shared, grid, patches))
        ensemble = [self.ensemble(x, shared["ps3"], grid, patches) for patches, x in ps3]
        return {
            "global": self.fpn_global.classify(shared["ps3"]),
            "local": torch.cat(local),
            "ensemble": torch.cat(ensemble),
        }


def batches(grid, batch, patches=None):
    """Indices of patches (all of them by default), `batch` at a time."""
    indices = range(len(grid.corners)) if patches is None else patches
    return [indices[i : i + batch] for i in range(0, len(indices), batch)]


def cut(pixels, grid, patches):
    """Patches of an image [1, C, H, W]."""
    corners = [grid.corners[i] for i in patches]
    return torch.cat([pixels[..., y : y + grid.patch, x : x + grid.patch] for y, x in corners])


# ---- Training ----


def quarter(labels):
    """Every fourth label of [N, H, W]: at factor 4, nearest neighbour takes pixel 4i + 2."""
    return labels[:, 2::4, 2::4]


def focal(logits, labels, gamma=6.0):
    """Mean over the pixels whose label is a class, 0 if there are none, of -(1 - p)^gamma · log p, with p in
    [1e-7, 1 - 1e-7]."""
    valid = labels < logits.shape[1]
    classes = labels.long().where(valid, torch.tensor(0)).unsqueeze(1)
    p = logits.softmax(1).gather(1, classes).squeeze(1)
    p = p.clamp(1e-7, 1 - 1e-7)
    terms = -((1 - p) ** gamma) * p.log()
    return (terms * valid).sum() / valid.sum().clamp(min=1)


TRAINED = {
    "global": ("resnet_global", "fpn_global", "ensemble_conv"),
    "global-to-local": ("resnet_local", "fpn_local", "ensemble_conv"),
    "bidirectional": ("resnet_global", "fpn_global", "ensemble_conv"),
}


@dataclass
class Sample:
    """An image and its labels: small [1, 3, g, g], small_labels [1, g/4, g/4], pixels [1, 3, H, W], labels [1, H, W].
    Labels are 8-bit class indices; those that are no class are ignored."""

    small: torch.Tensor
    small_labels: torch.Tensor
    pixels: torch.Tensor
    labels: torch.Tensor


class Trainer:
    """Optimises one phase of a network. `seconds` and `losses` are those of the last step."""

    def __init__(self, net, phase, rate, fixed=None, gamma=6.0, regulariser=0.15, weight_decay=5e-4):
        self.net, self.phase, self.fixed, self.gamma, self.regulariser = net, phase, fixed, gamma, regulariser
        # The branch that is not trained keeps its running statistics and gets no gradients.
        for name, module in net.named_children():
            trained = name in TRAINED[phase]
            module.train(trained)
            module.requires_grad_(trained)
        self.optimiser = torch.optim.Adam(
            [parameter for parameter in net.parameters() if parameter.requires_grad],
            lr=rate,
            betas=(0.9, 0.999),
            weight_decay=weight_decay,
        )

    def step(self, samples, patch, batch, patches=None):
        """One step on a batch of images; `patches`: which of each image phase 2 takes, by default all."""
        self.seconds = {"forward": 0.0, "backward": 0.0, "optimiser": 0.0}
        self.losses = {"focal": [], "mse": []}
        self.optimiser.zero_grad(set_to_none=True)
        {"global": self._global, "global-to-local": self._local, "bidirectional": self._bidirectional}[self.phase](
            samples, patch, batch, patches
        )
        self._timed("optimiser", self.optimiser.step)

    def _timed(self, stage, run):
        start = time.perf_counter()
        result = run()
        self.seconds[stage] += time.perf_counter() - start
        return result

    def _focal(self, logits, labels):
        loss = focal(logits, labels, self.gamma)
        self.losses["focal"].append(loss.item())
        return loss

    def _global_loss(self, samples, merged=None):
        maps = self.net.global_maps(torch.cat([sample.small for sample in samples]), merged)
        logits = self.net.fpn_global.classify(maps["ps3"])
        return maps["ps3"], self._focal(logits, torch.cat([sample.small_labels for sample in samples]))

    def _global(self, samples, patch, batch, patches):
        _, loss = self._timed("forward", lambda: self._global_loss(samples))
        self._timed("backward", loss.backward)

    def _local(self, samples, patch, batch, chosen):
        net = self.net

        def forward(sample, shared, grid, patches):
            labels = quarter(cut(sample.labels.unsqueeze(1), grid, patches).squeeze(1))
            ps3 = net.local_maps(cut(sample.pixels, grid, patches), shared, grid, patches)["ps3"]
            local = self._focal(net.fpn_local.classify(ps3), labels)
            ensemble = self._focal(net.ensemble(ps3, shared["ps3"], grid, patches), labels)
            mse = F.mse_loss(ps3, up(grid.crops(shared["ps3"], patches), ps3.shape[2:]))
            self.losses["mse"].append(mse.item())
            return local + ensemble + self.regulariser * mse

        for sample in samples:
            grid = Grid(*sample.pixels.shape[2:], patch)
            with torch.no_grad():
                shared = self._timed("forward", lambda: net.global_maps(sample.small))
            for patches in batches(grid, batch, chosen):
                loss = self._timed("forward", lambda: forward(sample, shared, grid, patches))
                self._timed("backward", loss.backward)
                # Else the next forward would run beside this one's graph.
                del loss

    def _bidirectional(self, samples, patch, batch, chosen):
        net = self.net
        grids = [Grid(*sample.pixels.shape[2:], patch) for sample in samples]
        kept = []

        def local(sample, grid):
            maps = []
            shared = self.fixed.global_maps(sample.small)
            merged = net.merged_maps(
                sample.pixels, shared, grid, batch, lambda patches, found: maps.append((patches, found["ps3"]))
            )
            kept.append(maps)
            return merged

        with torch.no_grad():
            merged = self._timed("forward", lambda: [local(*pair) for pair in zip(samples, grids)])
        merged = {
            stage: [torch.cat(levels) for levels in zip(*(one[stage] for one in merged))] for stage in STAGES
        }
        ps3, loss = self._timed("forward", lambda: self._global_loss(samples, merged))

        # The ensemble's gradients are collected at ps3, so that the global branch is walked back once.
        leaf = ps3.detach().requires_grad_()
        for i, (sample, grid) in enumerate(zip(samples, grids)):
            for patches, local_ps3 in kept[i]:
                labels = quarter(cut(sample.labels.unsqueeze(1), grid, patches).squeeze(1))
                one = self._timed(
                    "forward",
                    lambda: self._focal(net.ensemble(local_ps3, leaf[i : i + 1], grid, patches), labels),
                )
                self._timed("backward", one.backward)
        self._timed("backward", lambda: torch.autograd.backward([loss, ps3], [None, leaf.grad]))
