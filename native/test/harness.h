// Cases for ops, run on any device and compared with the reference.
//
// A case is a function that builds an op on host memory. The harness runs it on the device in the case's
// dtype, and on the reference in double, and compares every output. The pool of a device under test is
// guarded: outputs start as NaN, and writes outside a block end the program.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/device.h"

namespace glnet::test {

/// Makes an op's inputs: seeded, and held until the case is done.
class Builder {
 public:
  Builder(DType dtype, uint32_t seed) : dtype_(dtype), random_(seed) {}

  /// Uniform values of the case's dtype.
  View tensor(Shape shape, double low = -1, double high = 1) {
    return uniform(std::move(shape), dtype_, low, high);
  }
  /// Uniform float32 values, whatever the case's dtype: biases and statistics.
  View floats(Shape shape, double low = -1, double high = 1) {
    return uniform(std::move(shape), DType::float32, low, high);
  }
  /// Uniform bytes.
  View bytes(Shape shape);
  /// Zeros of any dtype.
  View zeros(Shape shape, DType dtype) { return allocate(std::move(shape), dtype); }
  /// Values as given, of the case's dtype.
  View values(Shape shape, const std::vector<double>& values);

  DType dtype() const { return dtype_; }
  int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  View allocate(Shape shape, DType dtype);

 private:
  View uniform(Shape shape, DType dtype, double low, double high);

  DType dtype_;
  std::mt19937 random_;
  std::deque<std::vector<double>> memory_;
};

/// What makes a case pass.
struct Limits {
  bool bfloat16 = true;  ///< also run in bfloat16
  double float32 =
      1e-12;          ///< normalised mean squared error: sum of squares of differences over that of values
  double narrow = 4;  ///< of narrow formats: times the error of the plain version in that format
  std::map<std::string, int> bytes{};  ///< largest difference of a uint8 output, by its name; 0 for others
  bool exact = false;  ///< floating outputs must have the very bits of the reference in their dtype
};

struct Case {
  std::string op;
  std::string name;
  /// Returns what is wrong, empty if nothing; sets the worst normalised error.
  std::function<std::string(Device& device, double& worst)> run;
  /// Seconds of one run, and what it computes and moves; `repeats` runs are queued in one go.
  struct Cost {
    double seconds, multiply_adds, bytes;
  };
  std::function<Cost(Device& device, DType dtype, int repeats)> time;
  bool benchmark = false;  ///< too large to be compared with the reference: only timed
};

class Suite {
 public:
  template <class Op>
  void add(const std::string& name, std::function<Op(Builder&)> make, Limits limits = {}) {
    cases_.push_back({Op::kName, name,
                      [=](Device& device, double& worst) { return compare<Op>(make, limits, device, worst); },
                      [=](Device& device, DType dtype, int repeats) {
                        return measure<Op>(make, device, dtype, repeats);
                      }});
  }
  /// A case of a real layer's size, for `--bench`.
  template <class Op>
  void bench(const std::string& name, std::function<Op(Builder&)> make) {
    add<Op>(name, make);
    cases_.back().benchmark = true;
  }
  /// A case that must be refused with a message that contains `expected`.
  template <class Op>
  void refuses(const std::string& name, std::function<Op(Builder&)> make, const std::string& expected) {
    cases_.push_back(
        {Op::kName, name, [=](Device& device, double&) { return refused<Op>(make, expected, device); }, {}});
  }

  /// The same, of a good op that `spoil` makes bad.
  template <class Op>
  void refuses(const std::string& name, std::function<Op(Builder&)> make,
               std::function<void(Builder&, Op&)> spoil, const std::string& expected) {
    const auto spoiled = [=](Builder& b) {
      Op op = make(b);
      spoil(b, op);
      return op;
    };
    refuses<Op>(name, spoiled, expected);
  }
  /// A case that is a test of its own: returns what is wrong, empty if nothing.
  void direct(const std::string& op, const std::string& name, std::function<std::string(Device&)> run) {
    cases_.push_back({op, name, [=](Device& device, double&) { return run(device); }, {}});
  }

  /// A case that a backward op gives the derivative of a forward op, both on the reference in double. With
  /// random dy of the shape of the output `of`, the gradient of sum(dy * output) that `backward` returns is
  /// compared with central differences in the `index`-th input called `with_respect_to`. `backward` is given
  /// the forward op as it was run, with its outputs, all in double; it runs its own by `evaluated`.
  template <class Op>
  void gradient(const std::string& name, std::function<Op(Builder&)> make, const std::string& of,
                const std::string& with_respect_to,
                std::function<View(Builder&, const Op&, const View& dy)> backward, int index = 0) {
    direct(Op::kName, "gradient: " + name,
           [=](Device&) { return differentiate<Op>(make, of, with_respect_to, index, backward); });
  }

  const std::vector<Case>& cases() const { return cases_; }

 private:
  template <class Op>
  static std::string differentiate(const std::function<Op(Builder&)>& make, const std::string& of,
                                   const std::string& with_respect_to, int index,
                                   const std::function<View(Builder&, const Op&, const View& dy)>& backward);
  template <class Op>
  static std::string compare(const std::function<Op(Builder&)>& make, const Limits& limits, Device& device,
                             double& worst);
  template <class Op>
  static Case::Cost measure(const std::function<Op(Builder&)>& make, Device& device, DType dtype,
                            int repeats);
  template <class Op>
  static std::string refused(const std::function<Op(Builder&)>& make, const std::string& expected,
                             Device& device);

  std::vector<Case> cases_;
};

/// One output of an op: what was computed, and what ought to have been.
struct Output {
  std::string name;
  View view;
};

/// The op after a run on the reference: its outputs set, and copies of what it changes in place. With `widen`
/// all that is floating is in double.
template <class Op>
Op evaluated(Op op, Builder& memory, bool widen = true);
/// Runs the op on a device and copies the outputs to the host.
template <class Op>
std::vector<Output> run_device(Op op, Builder& memory, Device& device);

/// Normalised mean squared error of `got` against `exact`; infinite if NaNs or infinities differ.
double error_of(const View& got, const View& exact);
/// What is wrong with an output, empty if nothing. `plain` is the reference's output in the same dtype.
std::string judge(const Output& got, const Output& exact, const Output& plain, const Limits& limits,
                  double& worst);

}  // namespace glnet::test

#include "test/harness_inl.h"
