// Tests of the emulator itself: right kernels compute what CUDA would, and planted bugs are caught, under
// each schedule.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "cuda/vendor/emulated.cuh"
#include "test/cases/core.h"

namespace glnet::test::kernels {

using namespace glnet::emulator;

constexpr unsigned kAll = 0xffffffffu;

__global__ inline void count_visits(int* visits) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  ++visits[block * blockDim.x * blockDim.y * blockDim.z + thread];
}

__global__ inline void note_order(int* order, int* next) {
  order[atomicAdd(next, 1)] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

__global__ inline void read_uninitialised(float* y) {
  SHARED_ARRAY(float, tile, 4);
  DYNAMIC_SHARED(float, rows);
  const float a = tile[threadIdx.x], b = rows[threadIdx.x];
  y[threadIdx.x] += std::isnan(a) && std::isnan(b) ? 1.0f : 0.0f;
  tile[threadIdx.x] = rows[threadIdx.x] = 1.0f;
}

/// Turns a block's numbers round, `rounds` times. Barriers may be left out: a bug.
__global__ inline void turn_round(int* values, int rounds, bool barrier_after_write,
                                  bool barrier_after_read) {
  SHARED_ARRAY(int, tile, 128);
  const unsigned i = threadIdx.x;
  for (int round = 0; round < rounds; ++round) {
    tile[i] = values[i];
    if (barrier_after_write) __syncthreads();
    values[i] = tile[blockDim.x - 1 - i];
    if (barrier_after_read) __syncthreads();
  }
}

enum class Update { plain, atomic, atomic_and_read };

__global__ inline void add_up(int* sum, Update update) {
  SHARED_ARRAY(int, total, 1);
  if (threadIdx.x == 0) total[0] = 0;
  __syncthreads();
  if (update == Update::plain) {
    total[0] += 1;
  } else {
    atomicAdd(&total[0], 1);
  }
  if (update != Update::atomic_and_read) __syncthreads();
  if (threadIdx.x == 0) *sum = total[0];
}

__global__ inline void touch(int at, bool write) {
  SHARED_ARRAY(float, first, 32);
  SHARED_ARRAY(float, second, 32);
  second[threadIdx.x] = 0;
  if (threadIdx.x != 7) return;
  if (write) {
    first[at] = 1;
  } else {
    second[0] = first[at];
  }
}

/// Through a plain pointer, where only the canaries watch.
__global__ inline void touch_raw(int at, bool dynamic) {
  SHARED_ARRAY(unsigned char, tile, 100);
  DYNAMIC_SHARED(unsigned char, rows);
  unsigned char* raw = dynamic ? rows : tile;
  raw[at] = 1;
}

enum class Barrier { all, some_exit, two_places };

__global__ inline void meet(Barrier barrier) {
  if (barrier == Barrier::some_exit && threadIdx.x == 5) return;
  if (barrier == Barrier::two_places && threadIdx.x == 5) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  __syncthreads();
}

enum class Vote { right, caller_not_in_mask, lane_exits, lane_at_barrier, masks_differ, kinds_differ };

__global__ inline void vote(Vote bug) {
  const int lane = threadIdx.x % 32;
  unsigned mask = kAll;
  if (bug == Vote::caller_not_in_mask) mask = 0xffff;
  if (bug == Vote::lane_exits && lane == 9) return;
  if (bug == Vote::lane_at_barrier && lane == 9) __syncthreads();
  if (bug == Vote::masks_differ && lane == 9) mask = 1u << 9 | 1u << 10;
  if (bug == Vote::kinds_differ && lane == 9) {
    __syncwarp(mask);
  } else {
    __ballot_sync(mask, 1);
  }
  if (bug == Vote::lane_at_barrier && lane != 9) __syncthreads();
}

/// Lane 40 asks for a value of a lane that is not in the mask.
__global__ inline void ask_outside(int) {
  const int lane = threadIdx.x % 32;
  if (lane >= 16) return;
  __shfl_sync(0xffff, lane, threadIdx.x == 40 ? 20 : 0);
}

/// results: [9, threads].
__global__ inline void intrinsics(int* results) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32, n = static_cast<int>(blockDim.x);
  int k = 0;
  const auto give = [&](int value) { results[k++ * n + i] = value; };
  give(__shfl_sync(kAll, i, 5));
  give(__shfl_sync(kAll, i, lane + 3, 8));
  give(__shfl_down_sync(kAll, i, 4));
  give(__shfl_down_sync(kAll, i, 4, 8));
  give(__shfl_xor_sync(kAll, i, 16));
  give(static_cast<int>(__ballot_sync(kAll, lane % 3 == 0)));
  give(__any_sync(kAll, lane == 31) * 2 + __any_sync(kAll, 0));
  give(__all_sync(kAll, lane < 32) * 2 + __all_sync(kAll, lane < 31));
  // The halves of a warp go different ways, each with its own mask.
  const double value = 0.5 * i;
  double sum = value;
  if (lane < 16) {
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffu, sum, step);
  } else {
    sum = __shfl_down_sync(0xffff0000u, value, 1, 16);
  }
  give(static_cast<int>(2 * sum));
}

/// Each thread reads what its neighbour, `distance` threads away, has written.
__global__ inline void exchange(int* y, int distance, bool sync, unsigned mask) {
  SHARED_ARRAY(int, tile, 64);
  const unsigned i = threadIdx.x;
  tile[i] = static_cast<int>(i);
  if (sync && (mask >> i % 32 & 1)) __syncwarp(mask);
  y[i] = tile[i ^ static_cast<unsigned>(distance)];
}

enum class Matrices { right, lane_missing, unaligned, narrow_rows, no_syncwarp, not_filled, outside };

/// y = 2 a b^T + c, 16 x 16, by one warp: a, b in rows `stride` apart.
__global__ inline void multiply_matrices(const uint16_t* a, const uint16_t* b, float* y, Matrices bug) {
  constexpr int kSide = 16, kStride = 24;
  SHARED_ARRAY(uint16_t, left, kSide* kStride + 8);
  SHARED_ARRAY(uint16_t, right, kSide* kStride);
  SHARED_ARRAY(float, sums, kSide* kStride);
  const auto lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < kSide * kSide; i += 32) {
    left[i / kSide * kStride + i % kSide] = a[i];
    right[i / kSide * kStride + i % kSide] = b[i];
  }
  __syncwarp();
  if (bug == Matrices::lane_missing && lane == 9) return;
  LeftFragment left_fragment;
  RightFragment right_fragment;
  SumFragment sum;
  if (bug != Matrices::not_filled) fill_fragment(sum, 0.5f);
  load_matrix_sync(left_fragment, &left[bug == Matrices::unaligned ? 8 : 0],
                   bug == Matrices::narrow_rows ? kStride - 4 : kStride);
  load_matrix_sync(right_fragment, &right[bug == Matrices::outside ? 2 * kStride : 0], kStride);
  mma_sync(sum, left_fragment, right_fragment, sum);
  mma_sync(sum, left_fragment, right_fragment, sum);
  store_matrix_sync(&sums[0], sum, kStride);
  if (bug != Matrices::no_syncwarp) __syncwarp();
  for (int i = lane; i < kSide * kSide; i += 32) y[i] = sums[i / kSide * kStride + i % kSide];
}

__global__ inline void global_atomics(float* sum, int* count, unsigned* wrapped, int* largest,
                                      unsigned* most) {
  const int i = static_cast<int>(threadIdx.x);
  atomicAdd(sum, 0.5f);
  atomicAdd(count, -1);
  atomicAdd(wrapped, 0x40000000u);
  atomicMax(largest, i - 100);
  atomicMax(most, static_cast<unsigned>(i));
}

__global__ inline void nothing(int) {}
__global__ inline void want_both(int last) {
  SHARED_ARRAY(int, tile, 16);
  DYNAMIC_SHARED(unsigned char, bytes);
  tile[0] = last;
  bytes[last] = 1;
}
__global__ inline void want_shared(int) {
  SHARED_ARRAY(double, tile, 6145);
  tile[0] = 1;
}
__global__ inline void opt_in(int last) {
  DYNAMIC_SHARED(unsigned char, bytes);
  bytes[last] = 1;
}
__global__ inline void launch_another(int) {
  launch(nothing, 1, 1, 0, nullptr, 0);
}
__global__ inline void write_at(float* data, int at) {
  data[at] = 1;
}

}  // namespace glnet::test::kernels

namespace glnet::test {

/// Runs a test under several schedules, and says which one went wrong.
template <class Run>
std::string under_each_schedule(Run&& run) {
  using Order = emulator::Schedule::Order;
  struct Restore {
    emulator::Schedule before = emulator::schedule();
    ~Restore() { emulator::set_schedule(before); }
  } restore;
  std::string all;
  const std::pair<const char*, emulator::Schedule> schedules[] = {{"forward", {Order::forward, 0}},
                                                                  {"reverse", {Order::reverse, 0}},
                                                                  {"random:1", {Order::random, 1}},
                                                                  {"random:2", {Order::random, 2}}};
  for (const auto& [name, schedule] : schedules) {
    emulator::set_schedule(schedule);
    Findings wrong;
    run(wrong);
    if (!wrong.text().empty()) all += std::string(name) + ": " + wrong.text();
  }
  return all;
}

/// Launches on the calling thread: the emulator has no streams.
template <class... Parameters, class... Arguments>
void run_kernel(void (*kernel)(Parameters...), emulator::dim3 grid, emulator::dim3 block, size_t shared,
                Arguments&&... arguments) {
  emulator::launch(kernel, grid, block, shared, nullptr, arguments...);
}

/// Finds fault unless the launch fails with a message that contains each of `parts`.
template <class Launch>
void expect_caught(Findings& wrong, Launch&& launch, std::initializer_list<const char*> parts) {
  const std::string message = message_of(ErrorCode::native, launch);
  for (const char* part : parts) {
    const std::string what = std::string("'") + message + "' names '" + part + "'";
    wrong.holds(what.c_str(), message.find(part) != std::string::npos);
  }
}

inline void emulator_values(Suite& suite) {
  using namespace kernels;
  suite.direct("emulator", "every thread of every block runs once", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      for (const auto& [grid, block] : {std::pair{dim3(3, 2, 2), dim3(5, 3, 2)},
                                        {dim3(7), dim3(1024)},
                                        {dim3(1), dim3(1)},
                                        {dim3(1, 5), dim3(1, 1, 64)}}) {
        const size_t n = size_t{grid.x} * grid.y * grid.z * block.x * block.y * block.z;
        std::vector<int> visits(n);
        run_kernel(count_visits, grid, block, 0, visits.data());
        wrong.equal("threads that ran once", std::count(visits.begin(), visits.end(), 1), n);
      }
    });
  });
  suite.direct("emulator", "the schedules order threads and blocks", [](Device&) {
    using Order = emulator::Schedule::Order;
    Findings wrong;
    const emulator::Schedule before = emulator::schedule();
    const auto order_of = [](emulator::Schedule schedule) {
      emulator::set_schedule(schedule);
      std::vector<int> order(8 * 64);
      int next = 0;
      run_kernel(note_order, 8, 64, 0, order.data(), &next);
      return order;
    };
    std::vector<int> expected(8 * 64);
    std::iota(expected.begin(), expected.end(), 0);
    wrong.holds("forward", order_of({Order::forward}) == expected);
    std::vector<int> random = order_of({Order::random, 3});
    wrong.holds("random is repeatable", random == order_of({Order::random, 3}));
    wrong.holds("random depends on its seed", random != order_of({Order::random, 4}));
    wrong.holds("random is not forward", random != expected);
    std::sort(random.begin(), random.end());
    wrong.holds("random leaves none out", random == expected);
    std::reverse(expected.begin(), expected.end());
    wrong.holds("reverse", order_of({Order::reverse}) == expected);
    emulator::set_schedule(before);
    return wrong.text();
  });
  suite.direct("emulator", "shared memory starts as NaN in every block", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      float nans[4] = {};
      run_kernel(read_uninitialised, 3, 4, 4 * sizeof(float), nans);
      wrong.equal("blocks that saw NaN", std::accumulate(nans, nans + 4, 0.0f), 12);
    });
  });
  suite.direct("emulator", "barriers, shuffles and votes compute what they should", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      std::vector<int> values(100);
      std::iota(values.begin(), values.end(), 0);
      run_kernel(turn_round, 1, 100, 0, values.data(), 3, true, true);
      for (int i = 0; i < 100; ++i) wrong.equal("turned", values[static_cast<size_t>(i)], 99 - i);

      constexpr int kThreads = 64;
      std::vector<int> got(9 * kThreads);
      run_kernel(intrinsics, 1, kThreads, 0, got.data());
      for (int i = 0; i < kThreads; ++i) {
        const int lane = i % 32, first = i - lane;
        const auto result = [&](int k) { return got[static_cast<size_t>(k * kThreads + i)]; };
        wrong.equal("shfl", result(0), first + 5);
        wrong.equal("shfl of width 8", result(1), i / 8 * 8 + (lane + 3) % 8);
        wrong.equal("shfl_down", result(2), lane + 4 < 32 ? i + 4 : i);
        wrong.equal("shfl_down of width 8", result(3), i % 8 + 4 < 8 ? i + 4 : i);
        wrong.equal("shfl_xor", result(4), i ^ 16);
        wrong.equal("ballot", result(5), 0x49249249);
        wrong.equal("any", result(6), 2);
        wrong.equal("all", result(7), 2);
        wrong.equal("halves", result(8), lane < 16 ? first * 16 + 120 : lane == 31 ? i : i + 1);
      }
    });
  });
  suite.direct("emulator", "a warp multiplies matrices", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      uint16_t a[256], b[256];
      float y[256] = {};
      for (int i = 0; i < 256; ++i) {
        a[i] = bfloat16(static_cast<float>(i % 13 - 6)).bits;
        b[i] = bfloat16(static_cast<float>(i % 11 - 5)).bits;
      }
      run_kernel(multiply_matrices, 2, 32, 0, a, b, y, Matrices::right);
      for (int i = 0; i < 256; ++i) {
        float expected = 0.5f;
        for (int k = 0; k < 16; ++k) {
          const int left = i / 16 * 16 + k, right = i % 16 * 16 + k;
          expected += 2 * static_cast<float>((left % 13 - 6) * (right % 11 - 5));
        }
        wrong.equal("product", y[i], expected);
      }
      run_kernel(multiply_matrices, 1, 32, 0, a, b, y, Matrices::not_filled);
      wrong.holds("sums that were not filled are NaN", std::isnan(y[0]) && std::isnan(y[255]));
    });
  });
  suite.direct("emulator", "atomics add and find the largest", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      float sum = 1;
      int count = 3, largest = -1000, total = 0;
      unsigned wrapped = 7, most = 2;
      run_kernel(global_atomics, 2, 50, 0, &sum, &count, &wrapped, &largest, &most);
      wrong.equal("sum", sum, 51);
      wrong.equal("count", count, -97);
      wrong.equal("wrapped", wrapped, 7);
      wrong.equal("largest", largest, -51);
      wrong.equal("most", most, 49);
      run_kernel(add_up, 1, 100, 0, &total, Update::atomic);
      wrong.equal("total in shared memory", total, 100);
    });
  });
}

inline void emulator_bugs(Suite& suite) {
  using namespace kernels;
  suite.direct("emulator", "caught: a missing barrier", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      int values[100] = {};
      expect_caught(
          wrong, [&] { run_kernel(turn_round, 1, 100, 0, values, 1, false, true); },
          {"race on element", "of a shared array of 128", "without a barrier", "emulator.h:", "thread ("});
      expect_caught(wrong, [&] { run_kernel(turn_round, 1, 100, 0, values, 2, true, false); },
                    {"race on element"});
      // The last round has no other after it.
      run_kernel(turn_round, 1, 100, 0, values, 1, true, false);
    });
  });
  suite.direct("emulator", "caught: matrices gone wrong", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      uint16_t a[256] = {}, b[256] = {};
      float y[256];
      const auto expect = [&](Matrices bug, unsigned threads, std::initializer_list<const char*> parts) {
        expect_caught(wrong, [&] { run_kernel(multiply_matrices, 1, threads, 0, a, b, y, bug); }, parts);
      };
      expect(Matrices::lane_missing, 32, {"an operation on matrices", "lane 9, which has exited"});
      expect(Matrices::unaligned, 32, {"begins at byte 16 of its array", "multiples of 32"});
      expect(Matrices::narrow_rows, 32, {"rows of 40 bytes"});
      expect(Matrices::no_syncwarp, 32, {"race on element"});
      expect(Matrices::outside, 32, {"of an array of 384"});
    });
  });
  suite.direct("emulator", "caught: a race", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      int total = 0;
      for (const Update update : {Update::plain, Update::atomic_and_read}) {
        expect_caught(wrong, [&] { run_kernel(add_up, 1, 64, 0, &total, update); },
                      {"race on element 0 of a shared array of 1"});
      }
      run_kernel(add_up, 1, 1, 0, &total, Update::atomic_and_read);
      wrong.equal("total of one thread", total, 1);
    });
  });
  suite.direct(
      "emulator", "caught: lanes that exchange without __syncwarp, or with another mask", [](Device&) {
        return under_each_schedule([](Findings& wrong) {
          int y[64];
          run_kernel(exchange, 1, 64, 0, y, 1, true, kAll);
          for (int i = 0; i < 64; ++i) wrong.equal("exchanged", y[i], i ^ 1);
          for (const auto& [distance, sync, mask] :
               {std::tuple{1, false, kAll}, {32, true, kAll}, {16, true, 0xffffu}}) {
            expect_caught(
                wrong, [&, d = distance, s = sync, m = mask] { run_kernel(exchange, 1, 64, 0, y, d, s, m); },
                {"race on element"});
          }
        });
      });
  suite.direct("emulator", "caught: shared memory out of bounds", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      for (const int inside : {0, 31}) run_kernel(touch, 1, 32, 0, inside, true);
      for (const bool write : {true, false}) {
        expect_caught(wrong, [&] { run_kernel(touch, 1, 32, 0, 32, write); },
                      {"element 32 of an array of 32", "thread (7, 0, 0)", "block (0, 0, 0)"});
        expect_caught(wrong, [&] { run_kernel(touch, 1, 32, 0, -1, write); },
                      {"element -1 of an array of 32"});
      }
      for (const bool dynamic : {false, true}) {
        for (const int inside : {0, 99}) run_kernel(touch_raw, 2, 1, 100, inside, dynamic);
        expect_caught(wrong, [&] { run_kernel(touch_raw, 2, 1, 100, 102, dynamic); },
                      {"written 3 bytes past an array of 100 bytes"});
      }
      expect_caught(wrong, [&] { run_kernel(touch_raw, 2, 1, 100, -4, true); },
                    {"written 4 bytes before an array of 100 bytes"});
      expect_caught(wrong, [&] { run_kernel(touch_raw, 2, 1, 100, -4, false); },
                    {"shared memory was written"});
    });
  });
  suite.direct("emulator", "caught: a divergent barrier", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      run_kernel(meet, 2, 40, 0, Barrier::all);
      expect_caught(wrong, [&] { run_kernel(meet, 2, 40, 0, Barrier::some_exit); },
                    {"divergent barrier: __syncthreads at emulator.h:",
                     "waits for thread (5, 0, 0), which has exited"});
      expect_caught(wrong, [&] { run_kernel(meet, 2, 40, 0, Barrier::two_places); },
                    {"divergent barrier: __syncthreads at emulator.h:",
                     "waits for thread (5, 0, 0), which waits at __syncthreads at emulator.h:"});
    });
  });
  suite.direct("emulator", "caught: a wrong mask", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      const auto bug = [&](Vote vote_bug, std::initializer_list<const char*> parts) {
        expect_caught(wrong, [&] { run_kernel(vote, 1, 64, 0, vote_bug); }, parts);
      };
      run_kernel(vote, 1, 64, 0, Vote::right);
      bug(Vote::caller_not_in_mask, {"__ballot_sync at emulator.h:", "is not in its mask 0xffff"});
      bug(Vote::lane_exits, {"__ballot_sync at", "with mask 0xffffffff waits for lane 9, which has exited"});
      bug(Vote::lane_at_barrier, {"waits for lane 9, which waits at __syncthreads at emulator.h:"});
      bug(Vote::masks_differ,
          {"with mask 0xffffffff waits for lane 9, which waits at __ballot_sync at", "with mask 0x600"});
      bug(Vote::kinds_differ, {"waits for lane 9, which waits at __syncwarp at"});
      expect_caught(wrong, [&] { run_kernel(vote, 1, 20, 0, Vote::right); },
                    {"waits for lane 20, which the block does not have"});
      expect_caught(wrong, [&] { run_kernel(ask_outside, 1, 64, 0, 0); },
                    {"reads lane 20, which is not in the mask 0xffff", "thread (40, 0, 0)"});
    });
  });
  suite.direct("emulator", "caught: launches that no device takes", [](Device&) {
    Findings wrong;
    const auto refused = [&](dim3 grid, dim3 block, size_t shared, const char* message) {
      expect_caught(wrong, [&] { run_kernel(nothing, grid, block, shared, 0); }, {message, "launch at"});
    };
    run_kernel(nothing, 1, 1024, 48 << 10, 0);
    run_kernel(nothing, 1, dim3(4, 4, 64), 0, 0);
    run_kernel(nothing, dim3(1, 65535), 1, 0, 0);
    refused(1, 1025, 0, "a block of 1025 x 1 x 1 threads");
    refused(1, dim3(32, 33), 0, "a block of 32 x 33 x 1 threads");
    refused(1, 0, 0, "a block of 0 x 1 x 1 threads");
    refused(1, dim3(1, 1, 65), 0, "at most 64 deep");
    refused(0, 1, 0, "a grid of 0 x 1 x 1 blocks");
    refused(dim3(1, 65536), 1, 0, "a grid of 1 x 65536 x 1 blocks");
    refused(dim3(1, 1, 65536), 1, 0, "a grid of 1 x 1 x 65536 blocks");
    refused(0x80000000u, 1, 0, "a grid of 2147483648 x 1 x 1 blocks");
    refused(1, 1, (48 << 10) + 1, "49153 bytes of dynamic shared memory, and the kernel may have 49152");
    expect_caught(wrong, [] { emulator::launch(nothing, int64_t{-1}, 1, 0, nullptr, 0); },
                  {"a grid of 4294967295"});
    expect_caught(wrong, [] { run_kernel(want_shared, 1, 1, 0, 0); },
                  {"static shared memory of 49160 bytes"});
    expect_caught(wrong, [] { run_kernel(want_both, 1, 1, 48 << 10, 0); },
                  {"64 bytes beside 49152 dynamic ones", "more after allow_shared"});
    expect_caught(wrong, [] { run_kernel(launch_another, 1, 1, 0, 0); }, {"a kernel cannot launch another"});
    expect_caught(wrong, [] { __syncthreads(); }, {"a device function was called outside a kernel"});

    constexpr size_t kMost = 227 << 10;
    emulator::allow_shared(opt_in, kMost);
    run_kernel(opt_in, 2, 1, kMost, static_cast<int>(kMost) - 1);
    expect_caught(wrong, [] { run_kernel(opt_in, 1, 1, kMost + 1, 0); }, {"call allow_shared first"});
    expect_caught(wrong, [] { emulator::allow_shared(opt_in, kMost + 1); }, {"devices have 232448"});
    return wrong.text();
  });
  suite.direct("emulator", "after a failed launch the next ones run", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      for (int i = 0; i < 5; ++i) {
        expect_caught(wrong, [] { run_kernel(meet, 1, 1024, 0, Barrier::some_exit); }, {"divergent barrier"});
        std::vector<int> visits(1024);
        run_kernel(count_visits, 1, 1024, 0, visits.data());
        wrong.equal("threads that ran once", std::count(visits.begin(), visits.end(), 1), 1024);
      }
    });
  });
#ifdef __SANITIZE_ADDRESS__
  suite.direct("emulator", "caught by AddressSanitizer: global memory out of bounds", [](Device&) {
    Findings wrong;
    for (const int at : {31, 32, -1}) {
      int ends[2];
      if (pipe(ends)) return std::string("pipe failed");
      const pid_t child = fork();
      if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        const auto data = std::make_unique<float[]>(32);
        run_kernel(write_at, 1, 1, 0, data.get(), at);
        _exit(0);
      }
      close(ends[1]);
      std::string text;
      char part[4096];
      for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
      close(ends[0]);
      int status = 0;
      waitpid(child, &status, 0);
      const bool caught = text.find("heap-buffer-overflow") != std::string::npos;
      wrong.equal(("caught at " + std::to_string(at)).c_str(), caught, at != 31);
      wrong.equal("ended well", WIFEXITED(status) && WEXITSTATUS(status) == 0, at == 31);
    }
    return wrong.text();
  });
#endif
}

inline void emulator_cases(Suite& suite) {
  emulator_values(suite);
  emulator_bugs(suite);
}

}  // namespace glnet::test
