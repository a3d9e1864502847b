// Arrays for kernels under a sanitizer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/mlp_layout.h"

namespace tito_fast_test {

using Sizes = std::vector<std::int64_t>;

inline std::mt19937& engine() {
  static std::mt19937 shared(1);
  return shared;
}

// A heap block of exactly n elements: standard normals, or NaN for what a kernel has to write.
template <typename T>
class Array {
 public:
  explicit Array(std::int64_t n) : size_(n), block_(new T[static_cast<std::size_t>(n)]) {}

  static Array random(std::int64_t n) {
    Array result(n);
    std::normal_distribution<T> normal;
    for (T& value : result) value = normal(engine());
    return result;
  }
  static Array output(std::int64_t n) {
    Array result(n);
    std::fill(result.begin(), result.end(), std::numeric_limits<T>::quiet_NaN());
    return result;
  }
  static Array copy(const std::vector<T>& values) {
    Array result(static_cast<std::int64_t>(values.size()));
    std::copy(values.begin(), values.end(), result.begin());
    return result;
  }

  T* begin() const { return block_.get(); }
  T* end() const { return block_.get() + size_; }
  T* data() const { return block_.get(); }
  std::int64_t size() const { return size_; }

  void check(const char* name) const {
    if (!std::all_of(begin(), end(), [](T value) { return std::isfinite(value); })) {
      throw std::runtime_error(std::string(name) + ": expected finite values everywhere");
    }
  }

 private:
  std::int64_t size_;
  std::unique_ptr<T[]> block_;
};

inline std::vector<std::int64_t> starts_of(const Sizes& sizes) {
  std::vector<std::int64_t> starts(sizes.size() + 1, 0);
  std::partial_sum(sizes.begin(), sizes.end(), starts.begin() + 1);
  return starts;
}

// The ten arrays of an MLP.
template <typename T>
struct MlpBlock {
  MlpBlock(int n_in, int n_hidden, int n_out, Array<T> (*make)(std::int64_t))
      : n_in_(n_in), n_hidden_(n_hidden), n_out_(n_out) {
    for (const std::int64_t n : {n_hidden * n_in, n_hidden, n_hidden, n_hidden, n_hidden * n_hidden,
                                 n_hidden, n_hidden, n_hidden, n_out * n_hidden, n_out}) {
      arrays_.push_back(make(n));
    }
  }

  template <typename U>
  tito_fast::Mlp<U> view() const {
    const auto at = [&](int k) -> U* { return arrays_[k].data(); };
    return {{at(0), at(1), n_in_, n_in_, n_hidden_},         at(2), at(3),
            {at(4), at(5), n_hidden_, n_hidden_, n_hidden_}, at(6), at(7),
            {at(8), at(9), n_hidden_, n_hidden_, n_out_}};
  }

  void check(const char* name) const {
    for (const Array<T>& array : arrays_) array.check(name);
  }

 private:
  int n_in_;
  int n_hidden_;
  int n_out_;
  std::vector<Array<T>> arrays_;
};

template <typename T>
T* optional(const Array<T>& array, bool is_wanted) {
  return is_wanted ? array.data() : nullptr;
}

}  // namespace tito_fast_test
