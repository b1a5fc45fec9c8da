// Runs the cases of every op on the devices, or times them.
//
//   glnet_native_test [--device cpu] [--schedule forward] [--op conv2d] [--threads N]
//                     [--bench [--dtype float32] [--without TEXT] [--json]]
//
// --device all is the CPU and then the emulator under each of its schedules. The cases of an op that a device
// has no kernel for are skipped, and counted as such.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "core/library.h"
#include "test/cases/cases.h"
#ifdef GLNET_EMULATOR
#include "emulator/emulator.h"
#endif

namespace {

using namespace glnet;
using namespace glnet::test;

struct Options {
  std::string device = "cpu";
  std::string schedule = "forward";  ///< of the emulator
  std::string op;
  int threads = 2;
  DType dtype = DType::float32;  ///< of what is timed
  std::string without;           ///< cases that have this in their names are not timed
  bool bench = false;
  bool json = false;
};

[[noreturn]] void usage(const char* wrong) {
  std::fprintf(stderr,
               "%s\nusage: glnet_native_test [--device cpu|reference|emulator|cuda|all]\n"
               "         [--schedule forward|reverse|random:SEED] [--op NAME] [--threads N]\n"
               "         [--bench [--dtype float32|bfloat16] [--without TEXT] [--json]]\n",
               wrong);
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const auto value = [&] { return i + 1 < argc ? argv[++i] : (usage("an option lacks its value"), ""); };
    if (!std::strcmp(argv[i], "--device")) {
      options.device = value();
    } else if (!std::strcmp(argv[i], "--schedule")) {
      options.schedule = value();
    } else if (!std::strcmp(argv[i], "--op")) {
      options.op = value();
    } else if (!std::strcmp(argv[i], "--threads")) {
      options.threads = std::atoi(value());
    } else if (!std::strcmp(argv[i], "--without")) {
      options.without = value();
    } else if (!std::strcmp(argv[i], "--dtype")) {
      const std::string name = value();
      if (name != "float32" && name != "bfloat16") usage("--dtype is float32 or bfloat16");
      options.dtype = name == "float32" ? DType::float32 : DType::bfloat16;
    } else if (!std::strcmp(argv[i], "--bench")) {
      options.bench = true;
    } else if (!std::strcmp(argv[i], "--json")) {
      options.json = true;
    } else {
      usage(argv[i]);
    }
  }
  return options;
}

const Backend& backend_of(const std::string& name) {
#ifdef GLNET_CPU
  if (name == "cpu") return cpu_backend();
#endif
  if (name == "reference") return reference_backend();
#ifdef GLNET_EMULATOR
  if (name == "emulator") return emulator_backend();
#endif
  if (name == "cuda") return load_backend(name);
  usage(("no device '" + name + "'").c_str());
}

/// Sets the order in which the emulator runs threads.
void set_schedule([[maybe_unused]] const std::string& text) {
#ifdef GLNET_EMULATOR
  using Order = emulator::Schedule::Order;
  char* end = nullptr;
  if (text == "forward") return emulator::set_schedule({Order::forward});
  if (text == "reverse") return emulator::set_schedule({Order::reverse});
  if (text.starts_with("random:") && text.size() > 7) {
    const uint64_t seed = std::strtoull(text.c_str() + 7, &end, 10);
    if (!*end) return emulator::set_schedule({Order::random, seed});
  }
  usage(("no schedule '" + text + "'").c_str());
#endif
}

/// Whether cases of this name can run there: those of no op (the core's) can anywhere.
bool provides(const Backend& backend, const std::string& op) {
#define GLNET_FIND(Type, member) \
  if (op == Type::kName) return backend.member.run;
  GLNET_OPS(GLNET_FIND)
#undef GLNET_FIND
  return true;
}

bool is_op(const std::string& name) {
  return !provides(Backend{}, name);
}

int bench(const Suite& suite, const Options& options) {
  set_schedule(options.schedule);
  Device device(backend_of(options.device), {.threads = options.threads});
  if (options.json) std::printf("[");
  const char* separator = "";
  for (const Case& c : suite.cases()) {
    if (!c.benchmark || (!options.op.empty() && c.op != options.op)) continue;
    if (!options.without.empty() && c.name.find(options.without) != std::string::npos) continue;
    if (!provides(device.backend(), c.op)) continue;
    Case::Cost once;
    try {
      once = c.time(device, options.dtype, 1);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::invalid_argument || options.dtype == DType::float32) throw;
      std::fprintf(stderr, "left out: %s\n", error.what());
      continue;
    }
    const int repeats = std::max(3, static_cast<int>(0.5 / once.seconds));
    const auto cost = c.time(device, options.dtype, std::min(repeats, 1000));
    const double gflops = 2e-9 * cost.multiply_adds / cost.seconds,
                 gigabytes = 1e-9 * cost.bytes / cost.seconds;
    if (options.json) {
      std::printf(
          "%s\n {\"op\": \"%s\", \"case\": \"%s\", \"milliseconds\": %.4f, \"gflops\": %.2f, \"gbps\": %.2f}",
          separator, c.op.c_str(), c.name.c_str(), 1e3 * cost.seconds, gflops, gigabytes);
      separator = ",";
    } else {
      std::printf("%-16s %-44s %10.3f ms %9.1f GFLOP/s %8.1f GB/s\n", c.op.c_str(), c.name.c_str(),
                  1e3 * cost.seconds, gflops, gigabytes);
    }
    std::fflush(stdout);
  }
  if (options.json) std::printf("\n]\n");
  return 0;
}

struct Row {
  int passed = 0, failed = 0, skipped = 0;
  double worst = 0;
};

/// Runs the cases on one device, prints a row for each op, and adds them up in `sum`.
void run(const Suite& suite, const Options& options, bool ops_only, Row& sum) {
  Device device(backend_of(options.device), {.threads = options.threads, .guarded = true});
  std::map<std::string, Row> rows;
  for (const Case& c : suite.cases()) {
    if (c.benchmark || (!options.op.empty() && c.op != options.op) || (ops_only && !is_op(c.op))) continue;
    Row& row = rows[c.op];
    if (!provides(device.backend(), c.op)) {
      ++row.skipped;
      continue;
    }
    std::string wrong;
    try {
      wrong = c.run(device, row.worst);
      if (wrong.empty() && device.pool().counters().active) wrong = "the pool is not back at its start";
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    ++(wrong.empty() ? row.passed : row.failed);
    if (!wrong.empty()) std::printf("FAILED %s: %s: %s\n", c.op.c_str(), c.name.c_str(), wrong.c_str());
  }
  for (const auto& [op, row] : rows) {
    if (row.skipped) {
      std::printf("%-16s %3d skipped: the device '%s' has no such kernel\n", op.c_str(), row.skipped,
                  options.device.c_str());
    } else {
      std::printf("%-16s %3d passed, %d failed, worst float32 error %.1e\n", op.c_str(), row.passed,
                  row.failed, row.worst);
    }
    sum.passed += row.passed, sum.failed += row.failed, sum.skipped += row.skipped;
  }
}

int run(const Suite& suite, Options options) {
  Row sum;
  if (options.device == "all") {
    options.device = "cpu";
    run(suite, options, false, sum);
    options.device = "emulator";
    for (const char* schedule : {"forward", "reverse", "random:1"}) {
      std::printf("-- emulator, %s\n", schedule);
      set_schedule(schedule);
      run(suite, options, true, sum);
    }
  } else {
    set_schedule(options.schedule);
    run(suite, options, false, sum);
  }
  if (sum.skipped) std::printf("%d skipped\n", sum.skipped);
  std::printf("%d passed, %d failed\n", sum.passed, sum.failed);
  return sum.failed || !sum.passed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  Suite suite;
  all_cases(suite);
  return options.bench ? bench(suite, options) : run(suite, options);
}
