// The update of PaiNN on rows of atoms: with [scale, add, gates] = mlp([|V v|, s]),
//   s += |V v|^2 scale + add,  v += gates * (U v).
// Without vectors there is no U and are no gates, and v stays as it is.
//
// Rows of features are padded with zeros to whole vectors: s (n, stride), v (n, 3, stride).
// Letters: r row of a tile, c component, f feature.
#pragma once

#include <cstdint>

#include "common/mlp.h"
#include "common/rows.h"
#include "painn_update/painn_update.h"

namespace tito_fast {

namespace TITO_ISA {

// The blocks of the last linear.
enum UpdateBlock { kScaleBlock = 0, kAddBlock = 1, kGatesBlock = 2 };
constexpr int kUpdateBlocks = 3;

template <typename T>
struct PackedPainnUpdate {
  int n_features;
  bool has_vectors;
  PackedLinear<T> u;
  PackedLinear<T> v;
  PackedMlp<T> mlp;               // its first linear reads the lengths; its last is not used
  PackedLinear<T> first_scalars;  // what the first linear reads of the scalars
  PackedLinear<T> last[kUpdateBlocks];
};

// What one tile of rows needs; (kMlpRows, padded F) where not said otherwise.
template <typename T>
struct PainnUpdateTile {
  MlpTile<T> mlp;
  T* vv;      // (kMlpRows, 3, padded F): V v
  T* uv;      // the same: U v
  T* square;  // |V v|^2
  T* length;
  T* block;  // one block of outputs
  // Only for the backward.
  T* gates;
  T* dblock;
  T* dlength;
};

template <typename T>
Linear<T> update_block(const PainnUpdate<T>& update, int block) {
  const int n = update.n_features;
  const int n_before = update.u_weight == nullptr ? 0 : n;
  return linear_outputs(update.mlp.last, block == kGatesBlock ? 0 : n_before + block * n, n);
}

template <typename T>
PackedPainnUpdate<T> pack_painn_update(const PainnUpdate<const T>& update, bool wants_backward,
                                       Workspace& memory) {
  const int n = update.n_features;
  PackedPainnUpdate<T> packed{};
  packed.n_features = n;
  packed.has_vectors = update.u_weight != nullptr;
  if (packed.has_vectors) {
    packed.u = pack_linear(Linear<const T>{update.u_weight, nullptr, n, n, n}, false,
                           wants_backward, memory);
  }
  packed.v = pack_linear(Linear<const T>{update.v_weight, nullptr, n, n, n}, false, wants_backward,
                         memory);
  Mlp<const T> hidden = update.mlp;
  hidden.first = linear_inputs(update.mlp.first, 0, n);
  packed.mlp = pack_mlp_hidden(hidden, wants_backward, memory);
  packed.first_scalars =
      pack_linear(linear_inputs(update.mlp.first, n, n), true, wants_backward, memory);
  for (int b = 0; b < (packed.has_vectors ? 3 : 2); ++b) {
    packed.last[b] = pack_linear(update_block(update, b), false, wants_backward, memory);
  }
  return packed;
}

template <typename T>
PainnUpdateTile<T> take_painn_update_tile(const PackedPainnUpdate<T>& update, bool wants_backward,
                                          Workspace& memory) {
  const std::int64_t n = std::int64_t{kMlpRows} * padded<T>(update.n_features);
  PainnUpdateTile<T> tile{};
  tile.mlp = take_tile<T>(update.mlp.second.n_out, wants_backward, memory);
  tile.vv = memory.take<T>(3 * n);
  tile.uv = memory.take<T>(3 * n);
  tile.square = memory.take<T>(n);
  tile.length = memory.take<T>(n);
  tile.block = memory.take<T>(n);
  if (wants_backward) {
    tile.gates = memory.take<T>(n);
    tile.dblock = memory.take<T>(n);
    tile.dlength = memory.take<T>(n);
  }
  return tile;
}

// Fills vv, square, length and the hidden rows of the mlp, for up to kMlpRows rows.
template <typename T>
void painn_update_hidden(const PackedPainnUpdate<T>& update, int n_rows, const T* scalars,
                         const T* vectors, std::int64_t stride, const PainnUpdateTile<T>& tile) {
  const int n = update.n_features;
  const int n_padded = padded<T>(n);
  const T* const no_bias = nullptr;
  gemm<Start::kZero>(3 * n_rows, n, n, vectors, stride, 1, update.v.forward, no_bias, tile.vv,
                     n_padded);
  for (int r = 0; r < n_rows; ++r) {
    for (int f = 0; f < n_padded; f += kLanes<T>) {
      const T* const vv = tile.vv + std::int64_t{3} * r * n_padded + f;
      const Vec<T> x = load(vv);
      const Vec<T> y = load(vv + n_padded);
      const Vec<T> z = load(vv + 2 * n_padded);
      const Vec<T> square = at_least(fma(z, z, fma(y, y, x * x)), kTiny<T>);
      store(tile.square + r * n_padded + f, square);
      store(tile.length + r * n_padded + f, square_root(square));
    }
  }
  const int n_hidden = update.mlp.first.n_out;
  const std::int64_t hidden_stride = padded<T>(n_hidden);
  gemm<Start::kBias>(n_rows, n, n_hidden, tile.length, n_padded, 1, update.mlp.first.forward,
                     update.mlp.first.bias, tile.mlp.a1, hidden_stride);
  gemm<Start::kSum>(n_rows, n, n_hidden, scalars, stride, 1, update.first_scalars.forward, no_bias,
                    tile.mlp.a1, hidden_stride);
  mlp_hidden(update.mlp, n_rows, tile.mlp);
}

// out (n_rows, padded F) = one block of the mlp's outputs.
template <typename T>
void painn_update_block(const PackedPainnUpdate<T>& update, int block, int n_rows,
                        const PainnUpdateTile<T>& tile, T* out) {
  const PackedLinear<T>& last = update.last[block];
  gemm<Start::kBias>(n_rows, last.n_in, last.n_out, tile.mlp.h2, padded<T>(last.n_in), 1,
                     last.forward, last.bias, out, padded<T>(last.n_out));
}

// Any number of rows; new_scalars may be scalars, new_vectors may be vectors. Without vectors
// new_vectors is not written.
template <typename T>
void painn_update_rows(const PackedPainnUpdate<T>& update, std::int64_t n_rows, const T* scalars,
                       const T* vectors, T* new_scalars, T* new_vectors, std::int64_t stride,
                       const PainnUpdateTile<T>& tile) {
  const int n = update.n_features;
  const int n_padded = padded<T>(n);
  for (std::int64_t first = 0; first < n_rows; first += kMlpRows) {
    const int n_here = n_rows - first < kMlpRows ? static_cast<int>(n_rows - first) : kMlpRows;
    const T* const s = scalars + first * stride;
    const T* const v = vectors + 3 * first * stride;
    T* const new_s = new_scalars + first * stride;
    painn_update_hidden(update, n_here, s, v, stride, tile);
    painn_update_block(update, kScaleBlock, n_here, tile, tile.block);
    for (int r = 0; r < n_here; ++r) {
      for (int f = 0; f < n_padded; f += kLanes<T>) {
        const std::int64_t at = r * n_padded + f;
        store(new_s + r * stride + f,
              fma(load(tile.square + at), load(tile.block + at), load(s + r * stride + f)));
      }
    }
    painn_update_block(update, kAddBlock, n_here, tile, tile.block);
    for (int r = 0; r < n_here; ++r) {
      for (int f = 0; f < n_padded; f += kLanes<T>) {
        T* const to = new_s + r * stride + f;
        store(to, load(to) + load(tile.block + r * n_padded + f));
      }
    }
    if (!update.has_vectors) continue;
    gemm<Start::kZero>(3 * n_here, n, n, v, stride, 1, update.u.forward,
                       static_cast<const T*>(nullptr), tile.uv, n_padded);
    painn_update_block(update, kGatesBlock, n_here, tile, tile.block);
    T* const new_v = new_vectors + 3 * first * stride;
    for (int r = 0; r < n_here; ++r) {
      for (int f = 0; f < n_padded; f += kLanes<T>) {
        const Vec<T> gates = load(tile.block + r * n_padded + f);
        for (int c = 0; c < 3; ++c) {
          const std::int64_t row = 3 * r + c;
          store(new_v + row * stride + f,
                fma(gates, load(tile.uv + row * n_padded + f), load(v + row * stride + f)));
        }
      }
    }
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
