#!/usr/bin/env bash
# Brings a checkout to where everything runs: system packages, npm packages, native addon, TypeScript.
# Each step is skipped when nothing changed for it; stamps are written last, so an interrupted run is simply repeated.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 1
}
now() { date +%s%N; }
elapsed() { awk -v ns="$(($(now) - $1))" 'BEGIN { printf "%.1f s", ns / 1e9 }'; }

# Two runs at once (a test beside a demo) would write the same folders.
mkdir -p .cache
if command -v flock >/dev/null; then
  exec 9>.cache/setup.lock
  flock 9
fi
started=$(now)

# Node
command -v node >/dev/null || fail "Node.js is missing; install version 20.9 or later, with npm."
node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || (+a === 20 && +b >= 9) ? 0 : 1)' ||
  fail "Node.js $(node --version) is too old; install version 20.9 or later."

# System packages
packages=()
command -v c++ >/dev/null || packages+=(g++)
command -v cmake >/dev/null || packages+=(cmake)
command -v make >/dev/null || command -v ninja >/dev/null || packages+=(make)
python3 -c 'import pip' 2>/dev/null || packages+=(python3-pip)
if ! command -v c++ >/dev/null || ! echo '#include <oneapi/dnnl/dnnl.h>' | c++ -E -x c++ - >/dev/null 2>&1; then
  packages+=(libdnnl-dev)
fi
if [ ${#packages[@]} -gt 0 ]; then
  step=$(now)
  command -v apt-get >/dev/null ||
    fail "missing (named as in Debian): ${packages[*]}. Install them with this system's package manager, then run this again."
  if [ "$(id -u)" -eq 0 ]; then
    as_root=(env)
  elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n env)
  else
    fail "missing: ${packages[*]}. Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}"
  fi
  say "installing ${packages[*]}"
  apt_install() {
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
  }
  # A stale package index is the usual reason for a failure, and updating it every time would be slow.
  if ! apt_install >.cache/apt.log 2>&1; then
    "${as_root[@]}" apt-get update -qq </dev/null
    apt_install >.cache/apt.log 2>&1 || { cat .cache/apt.log >&2; fail "apt-get could not install ${packages[*]}."; }
  fi
  say "system packages: $(elapsed "$step")"
fi

# npm packages: the stamp lies inside node_modules, so it goes when the folder goes.
stamp=node_modules/.glnet-lock
lock=$(cksum <package-lock.json)
if [ "$(cat "$stamp" 2>/dev/null)" != "$lock" ]; then
  step=$(now)
  say "npm ci"
  rm -f "$stamp"
  if ! npm ci --prefer-offline --no-audit --no-fund --loglevel=error >.cache/npm.log 2>&1 </dev/null; then
    # npm ci wants an entry even for the packages of other platforms, which a registry may lack.
    say "npm ci refused: $(grep -m 1 -E 'npm error (Missing|Invalid|code)' .cache/npm.log || tail -n 1 .cache/npm.log)"
    say "npm install, with the versions of package-lock.json"
    npm install --no-save --prefer-offline --no-audit --no-fund --loglevel=error </dev/null
  fi
  echo "$lock" >"$stamp"
  say "npm packages: $(elapsed "$step")"
fi

# Native addon and TypeScript: both builds are incremental, but tsc needs seconds to find that out.
build() {
  local name=$1 step
  step=$(now)
  shift
  "$@" || fail "$name failed (its messages are above)."
  say "$name: $(elapsed "$step")"
}
build "native addon" node scripts/native.js build
built=dist/.built
if [ ! -e "$built" ] || [ -n "$(find src binding.d.ts tsconfig.json "$stamp" -newer "$built" -print -quit)" ]; then
  # The stamp is as old as the start of the build, so that what is edited meanwhile counts as newer.
  touch .cache/built
  build "TypeScript" npm run --silent build:ts
  mv .cache/built "$built"
fi

say "ready ($(elapsed "$started"))"
