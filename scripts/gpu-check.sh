#!/usr/bin/env bash
# Proves and times the CUDA kernels on the GPU of this machine, and writes what came out as one JSON file.
#
#   bash scripts/gpu-check.sh [--out gpu-check.json] [--build build-gpu] [--no-sanitizer] [--build-only]
#
# Needs nvcc 12.8 or later (or pip, to fetch it), CMake and a C++ compiler; no Node.js, no oneDNN. In order:
#   tests      every case of every op on the GPU, against the reference in double; bfloat16 without tensor cores too
#   sanitizer  the same under compute-sanitizer's memcheck, racecheck and synccheck, where it is installed
#              (not initcheck: the tests fill all memory with NaN, which finds what it would)
#   bench      times of real layers' sizes in float32 and bfloat16; for float32 with the floor that the card's own peaks
#              (glnet_cuda_peak) set: the longer of bytes over bandwidth and operations over rate. A case that fits
#              into the L2 cache may beat it.
#   torch      PyTorch's times for the same sizes, where python3 has it with CUDA
# --build-only stops after the build, which needs no GPU: for every architecture where none is found.
# Exit code: 0 all is well, 1 something failed, 3 nothing could be run here.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { echo "gpu-check: $*" >&2; }
unable() {
  say "$*"
  exit 3
}

out=gpu-check.json build=build-gpu sanitizer=1 build_only=0
while [ $# -gt 0 ]; do
  case $1 in
    --out | --build)
      [ $# -gt 1 ] || { say "$1 lacks its value"; exit 2; }
      if [ "$1" = --out ]; then out=$2; else build=$2; fi
      shift
      ;;
    --no-sanitizer) sanitizer=0 ;;
    --build-only) build_only=1 ;;
    --help | -h)
      sed -nE '2,/^set /s/^# ?//p' scripts/gpu-check.sh
      exit 0
      ;;
    *)
      say "unknown option '$1'; see --help"
      exit 2
      ;;
  esac
  shift
done

# What is here
if [ "$build_only" -eq 0 ]; then
  command -v nvidia-smi >/dev/null || unable "there is no nvidia-smi: install NVIDIA's driver, or use --build-only."
  gpus=$(nvidia-smi -L 2>&1) || unable "the driver does not answer: $gpus"
  [[ $gpus == GPU\ * ]] || unable "there is no NVIDIA GPU here: ${gpus:-nvidia-smi lists none}"
fi
command -v cmake >/dev/null || unable "there is no cmake: install CMake 3.22 or later."
command -v c++ >/dev/null || unable "there is no C++ compiler: install g++."
toolkit=$(bash scripts/cuda.sh) || unable "there is no CUDA toolkit (see above)."
nvcc=$toolkit/bin/nvcc

# Build: for the cards that are here, if nvcc knows them, else for all.
architectures=()
while read -r capability; do
  architecture=${capability/./}
  if "$nvcc" --list-gpu-arch | grep -qx "compute_$architecture"; then architectures+=("$architecture"); fi
done < <(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -xE '[0-9]+\.[0-9]' | sort -u)
# CMake cannot change a build folder's compiler, and an option that is not given keeps its last value.
rm -f "$build/CMakeCache.txt"
options=(-DGLNET_CUDA=ON -DGLNET_CPU=OFF -DGLNET_EMULATOR=OFF -DGLNET_BUILD_ADDON=OFF -DGLNET_BUILD_TESTS=ON
  -DCMAKE_CUDA_COMPILER="$nvcc")
if [ ${#architectures[@]} -gt 0 ]; then
  options+=("-DGLNET_CUDA_ARCHITECTURES=$(IFS=';'; echo "${architectures[*]}")")
fi
say "building in $build for ${architectures[*]:-every architecture}"
cmake -S . -B "$build" "${options[@]}" >&2 && cmake --build "$build" --parallel "$(nproc)" >&2 || {
  say "the build failed (its messages are above)."
  exit 1
}
if [ "$build_only" -eq 1 ]; then exit 0; fi

# Runs
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
program=$build/glnet_native_test

# The lines of a file as a JSON array of strings; a file that is JSON already, as it is.
json_of() {
  case $(head -c 1 "$1") in
    '[' | '{') cat "$1" ;;
    *)
      tail -n 400 "$1" | tr -d '\000-\010\013-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' |
        awk 'BEGIN { printf "[" } { printf "%s\n    \"%s\"", (NR > 1 ? "," : ""), $0 } END { print "]" }'
      ;;
  esac
}

# Runs a command, shows what it prints, and keeps it as {exit, seconds, output} in $work/NAME.json.
part() {
  local name=$1 started=$SECONDS status
  shift
  say "$name"
  "$@" 2>&1 | tee "$work/$name.log" >&2
  status=${PIPESTATUS[0]}
  if [ "$status" -ne 0 ]; then failed=1; fi
  printf '{"exit": %d, "seconds": %d, "output": %s}' "$status" $((SECONDS - started)) "$(json_of "$work/$name.log")" \
    >"$work/$name.json"
}

part tests "$program" --device cuda --json
part testsWithoutTensorCores env GLNET_TENSOR_CORES=0 "$program" --device cuda --json

checks=null
checker=$(command -v compute-sanitizer || command -v "$toolkit/bin/compute-sanitizer" || true)
if [ "$sanitizer" -eq 1 ] && [ -n "$checker" ]; then
  checks=
  for tool in memcheck racecheck synccheck; do
    part "$tool" "$checker" --tool "$tool" --error-exitcode 86 "$program" --device cuda --json
    checks+="${checks:+, }\"$tool\": $(cat "$work/$tool.json")"
  done
  checks="{$checks}"
elif [ "$sanitizer" -eq 1 ]; then
  say "compute-sanitizer is not installed: left out"
fi

# A run's JSON on standard output, or null.
json_from() {
  local file=$1
  shift
  if ! "$@" >"$file" || [ ! -s "$file" ]; then
    echo null >"$file"
    return 1
  fi
}

say "bench"
json_from "$work/peak.json" "$build/glnet_cuda_peak" || failed=1
json_from "$work/bench.json" "$program" --device cuda --bench --json || failed=1
# Without floors: the peak of tensor cores is not measured here.
json_from "$work/bfloat16.json" "$program" --device cuda --bench --dtype bfloat16 --json || failed=1
# A row of the bench is a line; its floor is its time by the share of the peak that it reached.
read -r peak_gbps peak_gflops < <(sed -nE 's/.*"gbps": ([0-9.]+), "gflops": ([0-9.]+).*/\1 \2/p' "$work/peak.json")
awk -v gbps="${peak_gbps:-0}" -v gflops="${peak_gflops:-0}" '
  function value(name) { return match($0, "\"" name "\": [0-9.]+") ? substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 : 0 }
  gbps > 0 && gflops > 0 && /"milliseconds"/ {
    memory = value("gbps") / gbps
    arithmetic = value("gflops") / gflops
    share = memory > arithmetic ? memory : arithmetic
    sub(/}/, sprintf(", \"floor\": %.4f, \"share\": %.3f, \"bound\": \"%s\"}", value("milliseconds") * share, share,
                     memory > arithmetic ? "memory" : "arithmetic"))
  }
  { print }' "$work/bench.json" >"$work/floors.json"
cat "$work/floors.json" >&2

echo null >"$work/torch.json"
if [ "$(head -c 1 "$work/bench.json")" = '[' ] && command -v python3 >/dev/null; then
  json_from "$work/torch.json" python3 bench/torch_ops.py "$work/bench.json" ||
    say "no PyTorch with CUDA, or it failed: its times are left out"
fi

# The file
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits -i 0 2>/dev/null | head -n 1 | tr -d '"\\' || true; }
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then commit+=" with changes"; fi
cat >"$out.part" <<JSON
{
  "date": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
  "commit": "$commit",
  "passed": $([ "$failed" -eq 0 ] && echo true || echo false),
  "machine": {
    "gpu": "$(query name)",
    "driver": "$(query driver_version)",
    "computeCapability": "$(query compute_cap)",
    "memoryMiB": "$(query memory.total)",
    "smMHz": "$(query clocks.sm)",
    "mostSmMHz": "$(query clocks.max.sm)",
    "mostMemoryMHz": "$(query clocks.max.memory)",
    "powerLimitW": "$(query power.limit)",
    "nvcc": "$("$nvcc" --version | sed -nE 's/.*release [0-9.]+, V([0-9.]+).*/\1/p')"
  },
  "tests": $(cat "$work/tests.json"),
  "testsWithoutTensorCores": $(cat "$work/testsWithoutTensorCores.json"),
  "sanitizer": $checks,
  "peak": $(cat "$work/peak.json"),
  "bench": $(cat "$work/floors.json"),
  "benchBfloat16": $(cat "$work/bfloat16.json"),
  "torch": $(cat "$work/torch.json")
}
JSON
mv "$out.part" "$out"
say "$out: $([ "$failed" -eq 0 ] && echo 'all passed' || echo 'something failed')"
exit "$failed"
