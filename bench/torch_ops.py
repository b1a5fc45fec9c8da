"""PyTorch's times for the ops that glnet_native_test --bench timed, on the first GPU.

    glnet_native_test --device cuda --bench --json >ops.json; python3 bench/torch_ops.py ops.json

Prints a JSON list of {op, case, milliseconds}: conv2d, max_pool, resize and softmax, of the sizes that the cases'
names give; other cases are left out. Float32 without TF32, as the cases are, and channels_last. Exit code 3: there
is no PyTorch with CUDA.
"""

import json
import re
import statistics
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit(3)


def sizes(pattern, text):
    match = re.fullmatch(pattern, text)
    return match and [int(group) for group in match.groups()]


def image(n, h, w, c):
    return torch.rand(n, c, h, w, device="cuda").to(memory_format=torch.channels_last)


def conv2d(case):
    residual = case.endswith(", residual")
    case = case.removesuffix(", residual")
    relu = not case.startswith("classify")
    found = sizes(r"(\d+)x(\d+)x(\d+)x(\d+) to (\d+), kernel (\d+), stride (\d+), padding (\d+)", case)
    if not found and (classify := sizes(r"classify (\d+)x(\d+)x(\d+) to (\d+)", case)):
        found = [1, *classify, 3, 1, 1]
    if not found:
        return None
    n, h, w, c, outputs, kernel, stride, padding = found
    x, weight = image(n, h, w, c), image(outputs, kernel, kernel, c)
    bias = torch.rand(outputs, device="cuda")
    more = torch.rand_like(F.conv2d(x, weight, bias, stride, padding)) if residual else None

    def run():
        y = F.conv2d(x, weight, bias, stride, padding)
        if residual:
            y += more
        return y.relu_() if relu else y

    return run


def max_pool(case):
    found = sizes(r"(\d+)x(\d+)x(\d+)", case)
    if not found:
        return None
    x = image(1, *found)
    return lambda: F.max_pool2d(x, 3, 2, 1)


def resize(case):
    mode = "nearest" if case.startswith("nearest ") else "bilinear"
    found = sizes(r"(\d+)x(\d+)x(\d+) to (\d+)x(\d+)", case.removeprefix("nearest "))
    if not found:
        return None
    x = image(1, *found[:3])
    return lambda: F.interpolate(x, size=found[3:], mode=mode)


def softmax(case):
    found = sizes(r"(\d+)x(\d+)x(\d+)", case)
    if not found:
        return None
    x = torch.rand(found, device="cuda")
    return lambda: torch.softmax(x, -1)


def milliseconds(run, batches=7, repeats=50):
    """The median over batches of runs that are queued together."""
    for _ in range(5):
        run()
    times = []
    for _ in range(batches):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / repeats)
    return statistics.median(times)


def main():
    if not torch.cuda.is_available():
        sys.exit(3)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    makers = {"conv2d": conv2d, "max_pool": max_pool, "resize": resize, "softmax": softmax}
    with open(sys.argv[1]) as file:
        rows = json.load(file)
    results = []
    with torch.inference_mode():
        for row in rows:
            run = makers.get(row["op"], lambda case: None)(row["case"])
            if run:
                results.append({"op": row["op"], "case": row["case"], "milliseconds": round(milliseconds(run), 4)})
    print(json.dumps(results))


main()
