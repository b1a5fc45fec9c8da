#!/usr/bin/env bash
# Finds a CUDA toolkit to compile native/cuda with, or fetches one, and prints its folder (nvcc is its bin/nvcc).
#
#   bash scripts/cuda.sh            the toolkit of CUDACXX, the PATH, CUDA_HOME, CUDA_PATH or /usr/local/cuda if it
#                                   is new enough, else the pinned one, from PyPI into .cache/cuda (200 MB)
#   bash scripts/cuda.sh --pinned   the pinned one, whatever else is there
#
# Only compilers, headers and static libraries: no GPU and no driver are needed. Messages go to stderr.
# Exit code 3: there is no toolkit, and none could be fetched; everything else of the project builds without one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# sm_120 came with 12.8.
oldest=12.8
# PTX of CUDA 13.0 is taken by every driver that runs CUDA 13. The smallest set that compiles and links:
toolkit_packages=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-cuobjdump==13.2.51)

say() { echo "cuda: $*" >&2; }
fail() {
  say "$*"
  exit 3
}

pinned=0
for option in "$@"; do
  case $option in
    --pinned) pinned=1 ;;
    *)
      say "unknown option '$option'; expected --pinned"
      exit 2
      ;;
  esac
done

# Two runs at once would write the same folders.
mkdir -p .cache
if command -v flock >/dev/null; then
  exec 9>.cache/cuda.lock
  flock 9
fi

release_of() { "$1" --version 2>/dev/null | sed -nE 's/.*release ([0-9]+\.[0-9]+).*/\1/p'; }

# Prints the folder of the first toolkit on this machine that is new enough.
find_toolkit() {
  local nvcc release
  for nvcc in "${CUDACXX:-}" "$(command -v nvcc || true)" "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" \
    "${CUDA_PATH:+$CUDA_PATH/bin/nvcc}" /usr/local/cuda/bin/nvcc; do
    nvcc=$(command -v "$nvcc") || continue
    nvcc=$(readlink -f "$nvcc")
    release=$(release_of "$nvcc")
    if [ -n "$release" ] && printf '%s\n' "$oldest" "$release" | sort -C -V; then
      dirname "$(dirname "$nvcc")"
      return
    fi
    say "$nvcc is CUDA ${release:-of an unknown release}; $oldest or later is needed"
  done
  return 1
}

# Installs packages into .cache/cuda/NAME, whose stamp, written last, names them, as keep_NAME leaves them.
fetch() {
  local name=$1 folder=.cache/cuda/$1 started=$SECONDS
  shift
  if [ "$(cat "$folder/.packages" 2>/dev/null)" = "$*" ]; then return; fi
  python3 -c 'import pip' 2>/dev/null || fail "there is no CUDA $oldest or later here, and none can be fetched without" \
    "Python's pip. Install CUDA, or run: sudo apt-get install -y python3-pip"
  say "fetching $*"
  rm -rf "$folder" "$folder.part"
  mkdir -p .cache/cuda
  if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
    --retries 2 --target "$folder.part" "$@" >&2; then
    rm -rf "$folder.part"
    fail "the packages could not be fetched from PyPI (pip's messages are above). They are needed once: without the" \
      "network, install CUDA $oldest or later and set CUDA_HOME."
  fi
  "keep_$name" "$folder.part"
  echo "$*" >"$folder.part/.packages"
  mv "$folder.part" "$folder"
  say "fetched in $((SECONDS - started)) s"
}

keep_toolkit() {
  mv "$1"/nvidia/cu13/* "$1"
  rm -rf "$1/nvidia" "$1"/lib/lib{nvvm,cudart}.so.*
  ln -s lib "$1/lib64"  # where nvcc looks
}

if [ "$pinned" -eq 1 ] || ! toolkit=$(find_toolkit); then
  fetch toolkit "${toolkit_packages[@]}"
  toolkit=$PWD/.cache/cuda/toolkit
fi
echo "$toolkit"
