#!/usr/bin/env bash
# Everything that proves the package, stage by stage:   npm test [-- stage...]
# A failing stage does not stop the others. The last line is the sum over all of them: 'N passed, N failed'.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

all=(setup lint typecheck native sanitizer cuda jest package)
if [ $# -eq 0 ]; then stages=("${all[@]}"); else stages=("$@"); fi
for stage in "${stages[@]}"; do
  [[ " ${all[*]} " == *" $stage "* ]] || { echo "test.sh: unknown stage '$stage'; expected: ${all[*]}" >&2; exit 2; }
done

logs=.cache/test
mkdir -p "$logs"
jobs=$(node -p 'os.availableParallelism()')

native_tests() { # build folder, the emulator's schedules: all or one, CMake options...
  local folder=$1 schedules=$2 status=0
  shift 2
  cmake -S . -B "$folder" -DGLNET_BUILD_TESTS=ON "$@" >"$logs/cmake.log" || { cat "$logs/cmake.log"; return 1; }
  cmake --build "$folder" --target glnet_native_test --parallel "$jobs" || return 1
  run() { "$folder/glnet_native_test" "$@" || status=1; }
  {
    if [ "$schedules" = all ]; then
      run --device all
      # The emulator multiplies as tensor cores do only when it is told to.
      GLNET_TENSOR_CORES=1 run --device emulator --op conv2d
      GLNET_TENSOR_CORES=1 run --device emulator --op aggregate_conv
      # What older processors run.
      for isa in AVX2 SSE41; do
        for op in conv2d aggregate_conv conv2d_backward_data aggregate_conv_backward_data; do
          DNNL_MAX_CPU_ISA=$isa run --device cpu --op "$op"
        done
      done
    else
      run --device cpu
      DNNL_MAX_CPU_ISA=AVX2 run --device cpu --op conv2d
      run --device emulator --schedule random:1
      GLNET_TENSOR_CORES=1 run --device emulator --op conv2d
    fi
    [ "$status" -eq 0 ]
  } | awk '{ print; fflush() }
           /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
           END { print passed + 0 " passed, " failed + 0 " failed" }'
}

# Compiles the kernels with nvcc for every architecture, and looks at what they take. No GPU runs them; the test program is built as scripts/gpu-check.sh builds it.
cuda_tests() {
  node scripts/native.js build cuda || return 1
  cmake --build build-cuda --target glnet_cuda_peak --parallel "$jobs" || return 1
  node scripts/cuda-resources.js --check
}

run_stage() {
  case $1 in
    setup) bash scripts/setup.sh ;;
    lint) npm run --silent lint ;;
    typecheck) npm run --silent typecheck ;;
    # The addon's own build folder, whose objects the test program shares.
    native) node scripts/native.js build emulator && native_tests build all ;;
    # Under one schedule: the sanitizers see what is touched, whatever the order.
    sanitizer)
      UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        native_tests build-asan one -DGLNET_SANITIZE=ON -DGLNET_BUILD_ADDON=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo
      ;;
    cuda) cuda_tests ;;
    jest) npx jest --json --outputFile "$logs/jest.json" --testPathIgnorePatterns /node_modules/ /test/package/ ;;
    package) npx jest --json --outputFile "$logs/package.json" test/package ;;
  esac
}

# Prints 'passed failed' of a stage that ended with the given status.
count() {
  local stage=$1 status=$2 counts=
  case $stage in
    setup) if [ "$status" -eq 0 ]; then echo "0 0"; else echo "0 1"; fi; return ;;
    lint | typecheck) if [ "$status" -eq 0 ]; then echo "1 0"; else echo "0 1"; fi; return ;;
    native | sanitizer | cuda)
      counts=$(tail -n 1 "$logs/$stage.log" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')
      ;;
    jest | package)
      # A test file that does not even load holds no failed test: it counts as one.
      counts=$(node -p 'const r = JSON.parse(fs.readFileSync(process.argv[1])); `${r.numPassedTests} ${r.numFailedTests + r.numRuntimeErrorTestSuites}`' \
        "$logs/$stage.json" 2>/dev/null)
      ;;
  esac
  # A runner that crashed, or that ran nothing, has failed whatever it printed.
  local passed=${counts% *} failed=${counts#* }
  passed=${passed:-0} failed=${failed:-0}
  if [ "$failed" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$passed" -eq 0 ]; }; then failed=1; fi
  echo "$passed $failed"
}

passed=0 failed=0 summary=()
for stage in "${stages[@]}"; do
  echo "== $stage"
  started=$(date +%s%N)
  rm -f "$logs/$stage.json"
  run_stage "$stage" </dev/null 2>&1 | tee "$logs/$stage.log"
  status=${PIPESTATUS[0]}
  read -r stage_passed stage_failed < <(count "$stage" "$status")
  passed=$((passed + stage_passed)) failed=$((failed + stage_failed))
  seconds=$(awk -v ns="$(($(date +%s%N) - started))" 'BEGIN { printf "%.1f", ns / 1e9 }')
  summary+=("$(printf '%-10s %8s s   %5d passed, %d failed' "$stage" "$seconds" "$stage_passed" "$stage_failed")")
  echo "== $stage: $seconds s"
done

echo
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && { [ "$passed" -gt 0 ] || [ "${stages[*]}" = setup ]; }
