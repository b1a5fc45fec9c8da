// Runs the cases of every op on the devices, or times them.
//
//   glnet_native_test [--device cpu] [--op conv2d] [--threads N] [--bench] [--json]

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "test/cases/cases.h"

namespace {

using namespace glnet;
using namespace glnet::test;

struct Options {
  std::string device = "cpu";
  std::string op;
  int threads = 2;
  bool bench = false;
  bool json = false;
};

[[noreturn]] void usage(const char* wrong) {
  std::fprintf(
      stderr,
      "%s\nusage: glnet_native_test [--device cpu|reference] [--op NAME] [--threads N] [--bench] [--json]\n",
      wrong);
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const auto value = [&] { return i + 1 < argc ? argv[++i] : (usage("an option lacks its value"), ""); };
    if (!std::strcmp(argv[i], "--device")) {
      options.device = value();
    } else if (!std::strcmp(argv[i], "--op")) {
      options.op = value();
    } else if (!std::strcmp(argv[i], "--threads")) {
      options.threads = std::atoi(value());
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
  if (name == "cpu") return cpu_backend();
  if (name == "reference") return reference_backend();
  usage(("no device '" + name + "'").c_str());
}

int bench(const Suite& suite, const Options& options) {
  Device device(backend_of(options.device), options.threads, 0);
  if (options.json) std::printf("[");
  const char* separator = "";
  for (const Case& c : suite.cases()) {
    if (!c.benchmark || (!options.op.empty() && c.op != options.op)) continue;
    const auto once = c.time(device, 1);
    const int repeats = std::max(3, static_cast<int>(0.5 / once.seconds));
    const auto cost = c.time(device, std::min(repeats, 1000));
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

int run(const Suite& suite, const Options& options) {
  Device device(backend_of(options.device), options.threads, 0, true);
  struct Row {
    int passed = 0, failed = 0;
    double worst = 0;
  };
  std::map<std::string, Row> rows;
  int passed = 0, failed = 0;
  for (const Case& c : suite.cases()) {
    if (c.benchmark || (!options.op.empty() && c.op != options.op)) continue;
    Row& row = rows[c.op];
    std::string wrong;
    try {
      wrong = c.run(device, row.worst);
      if (wrong.empty() && device.pool().counters().active) wrong = "the pool is not back at its start";
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    ++(wrong.empty() ? row.passed : row.failed);
    ++(wrong.empty() ? passed : failed);
    if (!wrong.empty()) std::printf("FAILED %s: %s: %s\n", c.op.c_str(), c.name.c_str(), wrong.c_str());
  }
  for (const auto& [op, row] : rows) {
    std::printf("%-16s %3d passed, %d failed, worst float32 error %.1e\n", op.c_str(), row.passed, row.failed,
                row.worst);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  Suite suite;
  all_cases(suite);
  return options.bench ? bench(suite, options) : run(suite, options);
}
