#!/usr/bin/env bash
# Formats the C++ and CUDA sources in place; with --check only reports what differs and fails.
# The version is pinned, because every release formats a little differently. It comes from PyPI into .cache/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=19.1.7
folder=.cache/clang-format-$version
program=$folder/clang_format/data/bin/clang-format

if [ ! -x "$program" ]; then
  echo "clang-format: installing $version into $folder"
  if ! python3 -c 'import pip' 2>/dev/null; then
    echo "clang-format: Python's pip is missing. Run: sudo apt-get install -y python3-pip" >&2
    exit 1
  fi
  rm -rf "$folder" "$folder.part"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --target "$folder.part" "clang-format==$version"
  mv "$folder.part" "$folder"
fi

mapfile -d '' -t sources < <(find native -type f \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0)
if [ ${#sources[@]} -eq 0 ]; then
  echo "clang-format: no source found below native/" >&2
  exit 1
fi
case "${1:-}" in
  --check) "$program" --style=file --dry-run -Werror "${sources[@]}" && echo "clang-format: ${#sources[@]} files are formatted" ;;
  '') "$program" --style=file -i "${sources[@]}" ;;
  *)
    echo "clang-format.sh: unknown option '$1'; expected --check or nothing" >&2
    exit 2
    ;;
esac
