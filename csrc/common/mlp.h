// The block that every learned function of the network is: linear, norm, SiLU, linear, norm, SiLU,
// linear.
//
// LayerNorm subtracts the mean over features, which is linear: it is taken out of the weights and
// biases of the linear before it when they are packed ("centered"), so that the rows come out with
// mean zero and only their length is left to norm. Gradients with respect to centered weights are
// centered in turn.
//
// Rows of features are padded with zeros to whole vectors. T is the type of sums, P of the factors
// of products.
#pragma once

#include <cstdint>

#include "common/gemm.h"
#include "common/mlp_layout.h"
#include "common/workspace.h"

namespace tito_fast {

namespace TITO_ISA {

constexpr double kNormEps = 1e-5;
// Rows that pass through an MLP together: their features and one block of weights stay in the
// first-level cache.
constexpr int kMlpRows = 8 * kTileRows;

template <typename T>
struct PackedLinear {
  int n_in;
  int n_out;
  const T* forward;   // (n_in, n_out) in panels
  const T* backward;  // (n_out, n_in) in panels; null where no gradient is wanted
  const T* bias;      // padded; null without
};

template <typename T>
struct PackedMlp {
  PackedLinear<T> first;
  const T* first_scale;  // padded with zeros, as all rows of features
  const T* first_shift;
  PackedLinear<T> second;
  const T* second_scale;
  const T* second_shift;
  PackedLinear<T> last;
};

// Sums of a linear's gradient: weight (n_in, padded n_out), null where it is not wanted; bias (2,
// padded n_out) as add_kept leaves it.
template <typename T>
struct LinearSums {
  T* weight;
  T* bias;
};

// Scales and shifts are as a bias.
template <typename T>
struct MlpSums {
  LinearSums<T> first;
  T* first_scale;
  T* first_shift;
  LinearSums<T> second;
  T* second_scale;
  T* second_shift;
  LinearSums<T> last;
};

// n of a linear's inputs from `first` on, as a linear of its own; the bias stays with input 0.
template <typename T>
Linear<T> linear_inputs(const Linear<T>& linear, int first, int n) {
  return {linear.weight + first, first == 0 ? linear.bias : nullptr, linear.weight_stride, n,
          linear.n_out};
}

// n of a linear's outputs from `first` on, as a linear of its own.
template <typename T>
Linear<T> linear_outputs(const Linear<T>& linear, int first, int n) {
  return {linear.weight + first * linear.weight_stride,
          linear.bias == nullptr ? nullptr : linear.bias + first, linear.weight_stride, linear.n_in,
          n};
}

template <typename T>
const T* pack_row(const T* row, int n, Workspace& memory) {
  T* const result = memory.take<T>(padded<T>(n));
  if (result == nullptr) return nullptr;
  for (int i = 0; i < padded<T>(n); ++i) result[i] = i < n ? row[i] : T(0);
  return result;
}

// Packs a linear, its outputs' mean taken out on request. On a counting workspace all addresses are
// null.
template <typename T>
PackedLinear<T> pack_linear(const Linear<const T>& linear, bool is_centered, bool wants_backward,
                            Workspace& memory) {
  const int n_in = linear.n_in;
  const int n_out = linear.n_out;
  T* const forward = memory.take<T>(packed_size<T>(n_in, n_out));
  T* const backward = wants_backward ? memory.take<T>(packed_size<T>(n_out, n_in)) : nullptr;
  T* const bias = linear.bias == nullptr ? nullptr : memory.take<T>(padded<T>(n_out));
  double* const means = memory.take<double>(n_in + 1);
  PackedLinear<T> packed{n_in, n_out, forward, backward, bias};
  if (forward == nullptr) return packed;
  for (int k = 0; k <= n_in; ++k) {
    means[k] = 0.0;
    if (!is_centered || (k == n_in && bias == nullptr)) continue;
    const T* const row = k < n_in ? linear.weight + k : linear.bias;
    const std::int64_t stride = k < n_in ? linear.weight_stride : 1;
    for (int c = 0; c < n_out; ++c) means[k] += row[c * stride];
    means[k] /= n_out;
  }
  const auto weight = [&](int k, int c) {
    return linear.weight[c * linear.weight_stride + k] - means[k];
  };
  pack(n_in, n_out, forward, weight);
  if (backward != nullptr) {
    pack(n_out, n_in, backward, [&](int c, int k) { return weight(k, c); });
  }
  if (bias != nullptr) {
    for (int c = 0; c < padded<T>(n_out); ++c) {
      bias[c] = c < n_out ? static_cast<T>(linear.bias[c] - means[n_in]) : T(0);
    }
  }
  return packed;
}

// Without the last linear.
template <typename T>
PackedMlp<T> pack_mlp_hidden(const Mlp<const T>& mlp, bool wants_backward, Workspace& memory) {
  PackedMlp<T> packed{};
  packed.first = pack_linear(mlp.first, true, wants_backward, memory);
  packed.first_scale = pack_row(mlp.first_scale, mlp.first.n_out, memory);
  packed.first_shift = pack_row(mlp.first_shift, mlp.first.n_out, memory);
  packed.second = pack_linear(mlp.second, true, wants_backward, memory);
  packed.second_scale = pack_row(mlp.second_scale, mlp.second.n_out, memory);
  packed.second_shift = pack_row(mlp.second_shift, mlp.second.n_out, memory);
  return packed;
}

template <typename T>
PackedMlp<T> pack_mlp(const Mlp<const T>& mlp, bool wants_backward, Workspace& memory) {
  PackedMlp<T> packed = pack_mlp_hidden(mlp, wants_backward, memory);
  packed.last = pack_linear(mlp.last, false, wants_backward, memory);
  return packed;
}

// Without weights the rest is taken nevertheless.
template <typename T>
LinearSums<T> take_sums(int n_in, int n_out, Workspace& memory, bool wants_weights = true) {
  T* const weight = wants_weights ? memory.take<T>(std::int64_t{n_in} * padded<T>(n_out)) : nullptr;
  return {weight, memory.take<T>(2 * padded<T>(n_out))};
}

// For all but the last linear.
template <typename T>
MlpSums<T> take_hidden_sums(const PackedMlp<T>& mlp, Workspace& memory, bool wants_weights = true) {
  MlpSums<T> sums{};
  sums.first = take_sums<T>(mlp.first.n_in, mlp.first.n_out, memory, wants_weights);
  sums.first_scale = memory.take<T>(2 * padded<T>(mlp.first.n_out));
  sums.first_shift = memory.take<T>(2 * padded<T>(mlp.first.n_out));
  sums.second = take_sums<T>(mlp.second.n_in, mlp.second.n_out, memory, wants_weights);
  sums.second_scale = memory.take<T>(2 * padded<T>(mlp.second.n_out));
  sums.second_shift = memory.take<T>(2 * padded<T>(mlp.second.n_out));
  return sums;
}

template <typename T>
MlpSums<T> take_sums(const PackedMlp<T>& mlp, Workspace& memory, bool wants_weights = true) {
  MlpSums<T> sums = take_hidden_sums(mlp, memory, wants_weights);
  sums.last = take_sums<T>(mlp.last.n_in, mlp.last.n_out, memory, wants_weights);
  return sums;
}

// out = silu(scale * a / sqrt(mean a^2 + eps) + shift), row by row; a may be out. Keeps 1 /
// sqrt(...) of each row if inverse is not null.
template <typename T, int V>
TITO_INLINE void norm_silu_rows(int n_rows, int n, int n_vectors, const T* scale, const T* shift,
                                const T* a, T* out, T* inverse) {
  const int n_vec = V > 0 ? V : n_vectors;
  const std::int64_t stride = n_vec * kLanes<T>;
  const T share = static_cast<T>(1.0 / n);
  for (int r = 0; r < n_rows; ++r, a += stride, out += stride) {
    Vec<T> squares{};
#pragma GCC unroll 8
    for (int v = 0; v < n_vec; ++v) {
      const Vec<T> value = load(a + v * kLanes<T>);
      squares = fma(value, value, squares);
    }
    const T factor = T(1) / static_cast<T>(__builtin_sqrt(sum(squares) * share + T(kNormEps)));
    if (inverse != nullptr) inverse[r] = factor;
#pragma GCC unroll 8
    for (int v = 0; v < n_vec; ++v) {
      const int at = v * kLanes<T>;
      const Vec<T> z = fma(load(a + at) * factor, load(scale + at), load(shift + at));
      store(out + at, z * sigmoid(z));
    }
  }
}

template <typename T>
void norm_silu(int n_rows, int n, const T* scale, const T* shift, const T* a, T* out, T* inverse) {
  const int n_vectors = padded<T>(n) / kLanes<T>;
  if (n_vectors == 4) return norm_silu_rows<T, 4>(n_rows, n, 4, scale, shift, a, out, inverse);
  return norm_silu_rows<T, 0>(n_rows, n, n_vectors, scale, shift, a, out, inverse);
}

// sum += value, with what rounding loses kept in lost: a long sum is then as accurate as a sum by
// halves.
template <typename V>
TITO_INLINE void add_kept(V& sum, V& lost, V value) {
  const V after = sum + value;
  const V added = after - sum;
  lost += (sum - (after - added)) + (value - added);
  sum = after;
}

template <typename T>
TITO_INLINE void add_kept(T* sum_row, T* lost_row, Vec<T> value) {
  Vec<T> sum = load(sum_row);
  Vec<T> lost = load(lost_row);
  add_kept(sum, lost, value);
  store(sum_row, sum);
  store(lost_row, lost);
}

// The backward of norm_silu. With y = a * inverse and z = scale y + shift:
//   dz = dout sigmoid(z) (1 + z (1 - sigmoid(z))),  scale_sum += dz y,  shift_sum += dz,
//   dy = dz scale,  da = inverse (dy - y mean(dy y)).
// dout is overwritten by da. Column by column at first, so that the sums stay in registers;
// products is (n_rows) vectors.
template <typename T>
void norm_silu_backward(int n_rows, int n, const T* scale, const T* shift, const T* a,
                        const T* inverse, T* dout, T* scale_sum, T* shift_sum) {
  const std::int64_t stride = padded<T>(n);
  const T share = static_cast<T>(1.0 / n);
  Vec<T> products[kMlpRows];
  for (int r = 0; r < n_rows; ++r) products[r] = Vec<T>{};
  for (int c = 0; c < stride; c += kLanes<T>) {
    Vec<T> of_scale{};
    Vec<T> of_shift{};
    const Vec<T> scale_here = load(scale + c);
    const Vec<T> shift_here = load(shift + c);
    for (int r = 0; r < n_rows; ++r) {
      const Vec<T> y = load(a + r * stride + c) * inverse[r];
      const Vec<T> z = fma(y, scale_here, shift_here);
      const Vec<T> gate = sigmoid(z);
      const Vec<T> dz = load(dout + r * stride + c) * (gate * fma(z, T(1) - gate, broadcast(T(1))));
      of_scale = fma(dz, y, of_scale);
      of_shift += dz;
      const Vec<T> dy = dz * scale_here;
      products[r] = fma(dy, y, products[r]);
      store(dout + r * stride + c, dy);
    }
    add_kept(scale_sum + c, scale_sum + stride + c, of_scale);
    add_kept(shift_sum + c, shift_sum + stride + c, of_shift);
  }
  for (int r = 0; r < n_rows; ++r) {
    const T mean = sum(products[r]) * share;
    for (int c = 0; c < stride; c += kLanes<T>) {
      const Vec<T> y = load(a + r * stride + c) * inverse[r];
      T* const at = dout + r * stride + c;
      store(at, inverse[r] * (load(at) - y * mean));
    }
  }
}

// Adds to the weight's sums, if they are wanted: a (n_rows, n_in), d (n_rows, padded n_out).
template <typename T>
void add_weight_gradient(int n_rows, const PackedLinear<T>& linear, const T* a, std::int64_t a_row,
                         const T* d, std::int64_t d_row, const LinearSums<T>& sums) {
  if (sums.weight == nullptr) return;
  gemm_tn(n_rows, linear.n_in, linear.n_out, a, a_row, d, d_row, sums.weight,
          padded<T>(linear.n_out));
}

// sums is (2, n_padded): the sums and what rounding lost.
template <typename T>
void add_rows(int n_rows, int n_padded, const T* rows, std::int64_t stride, T* sums) {
  for (int c = 0; c < n_padded; c += kLanes<T>) {
    // Two sums side by side, then into the sum of all: less is lost than in one long sum.
    Vec<T> even{};
    Vec<T> odd{};
    int r = 0;
    for (; r + 2 <= n_rows; r += 2) {
      even += load(rows + r * stride + c);
      odd += load(rows + (r + 1) * stride + c);
    }
    if (r < n_rows) even += load(rows + r * stride + c);
    add_kept(sums + c, sums + n_padded + c, even + odd);
  }
}

// What one tile of rows needs between the first linear and the last; each (kMlpRows, padded
// n_hidden).
template <typename T>
struct MlpTile {
  T* a1;  // before the first norm
  T* h1;
  T* a2;
  T* h2;
  T* inverse1;  // (kMlpRows)
  T* inverse2;
  // Null without a backward.
  T* d;  // gradients of h2, then of a2, h1, a1
  T* d_other;
};

template <typename T>
MlpTile<T> take_tile(int n_hidden, bool wants_backward, Workspace& memory) {
  const std::int64_t n = std::int64_t{kMlpRows} * padded<T>(n_hidden);
  MlpTile<T> tile{};
  tile.a1 = memory.take<T>(n);
  tile.h1 = memory.take<T>(n);
  tile.a2 = memory.take<T>(n);
  tile.h2 = memory.take<T>(n);
  tile.inverse1 = memory.take<T>(kMlpRows);
  tile.inverse2 = memory.take<T>(kMlpRows);
  if (wants_backward) {
    tile.d = memory.take<T>(n);
    tile.d_other = memory.take<T>(n);
  }
  return tile;
}

// From tile.a1, which the caller has filled, to tile.h2.
template <typename T>
void mlp_hidden(const PackedMlp<T>& mlp, int n_rows, const MlpTile<T>& tile) {
  const int n = mlp.second.n_out;
  const std::int64_t stride = padded<T>(n);
  norm_silu(n_rows, mlp.first.n_out, mlp.first_scale, mlp.first_shift, tile.a1, tile.h1,
            tile.inverse1);
  gemm<Start::kBias>(n_rows, mlp.second.n_in, n, tile.h1, stride, 1, mlp.second.forward,
                     mlp.second.bias, tile.a2, stride);
  norm_silu(n_rows, n, mlp.second_scale, mlp.second_shift, tile.a2, tile.h2, tile.inverse2);
}

// From tile.d, the gradient of h2, to tile.d, the gradient of a1; adds to the sums of all but the
// last linear and of the first linear's weight.
template <typename T>
void mlp_hidden_backward(const PackedMlp<T>& mlp, int n_rows, const MlpTile<T>& tile,
                         const MlpSums<T>& sums) {
  const int n = mlp.second.n_out;
  const std::int64_t stride = padded<T>(n);
  norm_silu_backward(n_rows, n, mlp.second_scale, mlp.second_shift, tile.a2, tile.inverse2, tile.d,
                     sums.second_scale, sums.second_shift);
  add_rows(n_rows, padded<T>(n), tile.d, stride, sums.second.bias);
  add_weight_gradient(n_rows, mlp.second, tile.h1, stride, tile.d, stride, sums.second);
  gemm<Start::kZero>(n_rows, n, mlp.second.n_in, tile.d, stride, 1, mlp.second.backward,
                     static_cast<const T*>(nullptr), tile.d_other, stride);
  norm_silu_backward(n_rows, mlp.first.n_out, mlp.first_scale, mlp.first_shift, tile.a1,
                     tile.inverse1, tile.d_other, sums.first_scale, sums.first_shift);
  // The caller finds the result in d.
  for (std::int64_t i = 0; i < n_rows * stride; i += kLanes<T>) {
    store(tile.d + i, load(tile.d_other + i));
  }
  add_rows(n_rows, padded<T>(n), tile.d, stride, sums.first.bias);
}

// out (n_rows, padded n_out) = mlp(x), x with rows x_row apart. out rows are out_row apart.
template <typename T>
void mlp_forward(const PackedMlp<T>& mlp, int n_rows, const T* x, std::int64_t x_row, T* out,
                 std::int64_t out_row, const MlpTile<T>& tile) {
  const std::int64_t stride = padded<T>(mlp.first.n_out);
  for (int first = 0; first < n_rows; first += kMlpRows) {
    const int n = n_rows - first < kMlpRows ? n_rows - first : kMlpRows;
    gemm<Start::kBias>(n, mlp.first.n_in, mlp.first.n_out, x + first * x_row, x_row, 1,
                       mlp.first.forward, mlp.first.bias, tile.a1, stride);
    mlp_hidden(mlp, n, tile);
    gemm<Start::kBias>(n, mlp.last.n_in, mlp.last.n_out, tile.h2, stride, 1, mlp.last.forward,
                       mlp.last.bias, out + first * out_row, out_row);
  }
}

// Adds to sums, writes dx (n_rows, padded n_in; rows dx_row apart) unless it is null. dout rows are
// padded.
template <typename T>
void mlp_backward(const PackedMlp<T>& mlp, int n_rows, const T* x, std::int64_t x_row,
                  const T* dout, std::int64_t dout_row, T* dx, std::int64_t dx_row,
                  const MlpTile<T>& tile, const MlpSums<T>& sums) {
  const std::int64_t stride = padded<T>(mlp.first.n_out);
  for (int first = 0; first < n_rows; first += kMlpRows) {
    const int n = n_rows - first < kMlpRows ? n_rows - first : kMlpRows;
    const T* const rows = x + first * x_row;
    const T* const drows = dout + first * dout_row;
    gemm<Start::kBias>(n, mlp.first.n_in, mlp.first.n_out, rows, x_row, 1, mlp.first.forward,
                       mlp.first.bias, tile.a1, stride);
    mlp_hidden(mlp, n, tile);
    add_rows(n, padded<T>(mlp.last.n_out), drows, dout_row, sums.last.bias);
    add_weight_gradient(n, mlp.last, tile.h2, stride, drows, dout_row, sums.last);
    gemm<Start::kZero>(n, mlp.last.n_out, mlp.last.n_in, drows, dout_row, 1, mlp.last.backward,
                       static_cast<const T*>(nullptr), tile.d, stride);
    mlp_hidden_backward(mlp, n, tile, sums);
    add_weight_gradient(n, mlp.first, rows, x_row, tile.d, stride, sums.first);
    if (dx != nullptr) {
      gemm<Start::kZero>(n, mlp.first.n_out, mlp.first.n_in, tile.d, stride, 1, mlp.first.backward,
                         static_cast<const T*>(nullptr), dx + first * dx_row, dx_row);
    }
  }
}

// Writes the gradients of a linear from their sums.
template <typename T>
void unpack_gradient(const LinearSums<T>& sums, bool is_centered, const Linear<T>& gradient) {
  const int n_out = gradient.n_out;
  const std::int64_t stride = padded<T>(n_out);
  const auto mean_of = [&](const T* row) {
    double mean = 0.0;
    if (!is_centered) return mean;
    for (int c = 0; c < n_out; ++c) mean += row[c];
    return mean / n_out;
  };
  for (int k = 0; k < gradient.n_in; ++k) {
    const T* const row = sums.weight + k * stride;
    const double mean = mean_of(row);
    for (int c = 0; c < n_out; ++c) {
      gradient.weight[c * gradient.weight_stride + k] = static_cast<T>(row[c] - mean);
    }
  }
  if (gradient.bias == nullptr) return;
  const double mean = mean_of(sums.bias) + mean_of(sums.bias + stride);
  for (int c = 0; c < n_out; ++c) {
    gradient.bias[c] = static_cast<T>(sums.bias[c] + (sums.bias[stride + c] - mean));
  }
}

// Without the last linear.
template <typename T>
void unpack_hidden_gradient(const MlpSums<T>& sums, const Mlp<T>& gradient) {
  unpack_gradient(sums.first, true, gradient.first);
  unpack_gradient(sums.second, true, gradient.second);
  const auto unpack_row = [](const T* row, int n, T* to) {
    for (int c = 0; c < n; ++c) to[c] = row[c] + row[padded<T>(n) + c];
  };
  unpack_row(sums.first_scale, gradient.first.n_out, gradient.first_scale);
  unpack_row(sums.first_shift, gradient.first.n_out, gradient.first_shift);
  unpack_row(sums.second_scale, gradient.second.n_out, gradient.second_scale);
  unpack_row(sums.second_shift, gradient.second.n_out, gradient.second_shift);
}

template <typename T>
void unpack_gradient(const MlpSums<T>& sums, const Mlp<T>& gradient) {
  unpack_hidden_gradient(sums, gradient);
  unpack_gradient(sums.last, false, gradient.last);
}

}  // namespace TITO_ISA
}  // namespace tito_fast
