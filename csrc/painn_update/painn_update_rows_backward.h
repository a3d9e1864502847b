// The backward of painn_update_rows.h; it computes the forward again. With dS, dV the gradients of
// the new scalars and vectors, q = |V v|^2 and l its root:
//   dadd = dS,  dscale = dS q,  dgates = sum_c dV_c (U v)_c,  d(U v)_c = gates dV_c,
//   d(V v)_c = (V v)_c (dl / l + 2 dS scale), zero where q is clamped,
//   ds = dS + what the mlp gives,  dv = dV + d(U v) U + d(V v) V.
#pragma once

#include <cstdint>

#include "painn_update/painn_update_rows.h"

namespace tito_fast {
namespace TITO_ISA {

template <typename T>
struct PainnUpdateSums {
  LinearSums<T> u;
  LinearSums<T> v;
  MlpSums<T> mlp;  // as in PackedPainnUpdate
  LinearSums<T> first_scalars;
  LinearSums<T> last[kUpdateBlocks];
};

template <typename T>
PainnUpdateSums<T> take_sums(const PackedPainnUpdate<T>& update, Workspace& memory,
                             bool wants_weights) {
  const int n = update.n_features;
  const int n_hidden = update.mlp.second.n_out;
  PainnUpdateSums<T> sums{};
  if (update.has_vectors) sums.u = take_sums<T>(n, n, memory, wants_weights);
  sums.v = take_sums<T>(n, n, memory, wants_weights);
  sums.mlp = take_hidden_sums(update.mlp, memory, wants_weights);
  sums.first_scalars = take_sums<T>(n, n_hidden, memory, wants_weights);
  for (int b = 0; b < (update.has_vectors ? 3 : 2); ++b) {
    sums.last[b] = take_sums<T>(n_hidden, n, memory, wants_weights);
  }
  return sums;
}

// tile.mlp.d (+)= dblock W: the share of one block of outputs in the gradient of the hidden rows.
template <typename T>
void painn_update_block_backward(const PackedPainnUpdate<T>& update, int block, bool is_first,
                                 int n_rows, const T* dblock, std::int64_t dblock_row,
                                 const PainnUpdateTile<T>& tile, const PainnUpdateSums<T>& sums) {
  const PackedLinear<T>& last = update.last[block];
  const std::int64_t hidden_stride = padded<T>(last.n_in);
  const T* const no_bias = nullptr;
  add_rows(n_rows, padded<T>(last.n_out), dblock, dblock_row, sums.last[block].bias);
  add_weight_gradient(n_rows, last, tile.mlp.h2, hidden_stride, dblock, dblock_row,
                      sums.last[block]);
  if (is_first) {
    gemm<Start::kZero>(n_rows, last.n_out, last.n_in, dblock, dblock_row, 1, last.backward, no_bias,
                       tile.mlp.d, hidden_stride);
  } else {
    gemm<Start::kSum>(n_rows, last.n_out, last.n_in, dblock, dblock_row, 1, last.backward, no_bias,
                      tile.mlp.d, hidden_stride);
  }
}

// dgates into dblock; uv becomes d(U v).
template <typename T>
void painn_update_gates_backward(int n_rows, int n_padded, const T* dnew_vectors,
                                 std::int64_t stride, const PainnUpdateTile<T>& tile) {
  for (int r = 0; r < n_rows; ++r) {
    for (int f = 0; f < n_padded; f += kLanes<T>) {
      const Vec<T> gates = load(tile.gates + r * n_padded + f);
      Vec<T> total{};
      for (int c = 0; c < 3; ++c) {
        const std::int64_t row = 3 * r + c;
        T* const uv = tile.uv + row * n_padded + f;
        const Vec<T> dv = load(dnew_vectors + row * stride + f);
        total = fma(dv, load(uv), total);
        store(uv, gates * dv);
      }
      store(tile.dblock + r * n_padded + f, total);
    }
  }
}

// vv becomes d(V v); tile.block holds the scale.
template <typename T>
void painn_update_length_backward(int n_rows, int n_padded, const T* dnew_scalars,
                                  std::int64_t stride, const PainnUpdateTile<T>& tile) {
  for (int r = 0; r < n_rows; ++r) {
    for (int f = 0; f < n_padded; f += kLanes<T>) {
      const std::int64_t at = r * n_padded + f;
      const Vec<T> ds = load(dnew_scalars + r * stride + f);
      const Vec<T> of_length = load(tile.dlength + at) / load(tile.length + at);
      const Vec<T> factor = fma(ds + ds, load(tile.block + at), of_length);
      const Vec<T> kept = zero_unless_above(factor, load(tile.square + at), kTiny<T>);
      for (int c = 0; c < 3; ++c) {
        T* const vv = tile.vv + std::int64_t{3 * r + c} * n_padded + f;
        store(vv, kept * load(vv));
      }
    }
  }
}

// Up to kMlpRows rows. Adds to sums; writes dscalars and dvectors unless they are null.
// dnew_vectors is not read without U.
template <typename T>
void painn_update_tile_backward(const PackedPainnUpdate<T>& update, int n_rows, const T* scalars,
                                const T* vectors, const T* dnew_scalars, const T* dnew_vectors,
                                T* dscalars, T* dvectors, std::int64_t stride,
                                const PainnUpdateTile<T>& tile, const PainnUpdateSums<T>& sums) {
  const int n = update.n_features;
  const int n_padded = padded<T>(n);
  const T* const no_bias = nullptr;
  painn_update_hidden(update, n_rows, scalars, vectors, stride, tile);
  painn_update_block_backward(update, kAddBlock, true, n_rows, dnew_scalars, stride, tile, sums);
  if (update.has_vectors) {
    gemm<Start::kZero>(3 * n_rows, n, n, vectors, stride, 1, update.u.forward, no_bias, tile.uv,
                       n_padded);
    painn_update_block(update, kGatesBlock, n_rows, tile, tile.gates);
    painn_update_gates_backward(n_rows, n_padded, dnew_vectors, stride, tile);
    painn_update_block_backward(update, kGatesBlock, false, n_rows, tile.dblock, n_padded, tile,
                                sums);
    add_weight_gradient(3 * n_rows, update.u, vectors, stride, tile.uv, n_padded, sums.u);
  }
  for (int r = 0; r < n_rows; ++r) {
    for (int f = 0; f < n_padded; f += kLanes<T>) {
      const std::int64_t at = r * n_padded + f;
      store(tile.dblock + at, load(tile.square + at) * load(dnew_scalars + r * stride + f));
    }
  }
  painn_update_block_backward(update, kScaleBlock, false, n_rows, tile.dblock, n_padded, tile,
                              sums);
  painn_update_block(update, kScaleBlock, n_rows, tile, tile.block);
  mlp_hidden_backward(update.mlp, n_rows, tile.mlp, sums.mlp);

  const PackedLinear<T>& of_lengths = update.mlp.first;
  const PackedLinear<T>& of_scalars = update.first_scalars;
  const std::int64_t hidden_stride = padded<T>(of_lengths.n_out);
  add_weight_gradient(n_rows, of_lengths, tile.length, n_padded, tile.mlp.d, hidden_stride,
                      sums.mlp.first);
  add_weight_gradient(n_rows, of_scalars, scalars, stride, tile.mlp.d, hidden_stride,
                      sums.first_scalars);
  gemm<Start::kZero>(n_rows, of_lengths.n_out, n, tile.mlp.d, hidden_stride, 1, of_lengths.backward,
                     no_bias, tile.dlength, n_padded);
  painn_update_length_backward(n_rows, n_padded, dnew_scalars, stride, tile);
  add_weight_gradient(3 * n_rows, update.v, vectors, stride, tile.vv, n_padded, sums.v);
  if (dscalars == nullptr) return;

  copy_rows(n_rows, n_padded, dnew_scalars, stride, dscalars, stride);
  gemm<Start::kSum>(n_rows, of_scalars.n_out, n, tile.mlp.d, hidden_stride, 1, of_scalars.backward,
                    no_bias, dscalars, stride);
  if (!update.has_vectors) {
    gemm<Start::kZero>(3 * n_rows, n, n, tile.vv, n_padded, 1, update.v.backward, no_bias, dvectors,
                       stride);
    return;
  }
  copy_rows(3 * n_rows, n_padded, dnew_vectors, stride, dvectors, stride);
  gemm<Start::kSum>(3 * n_rows, n, n, tile.uv, n_padded, 1, update.u.backward, no_bias, dvectors,
                    stride);
  gemm<Start::kSum>(3 * n_rows, n, n, tile.vv, n_padded, 1, update.v.backward, no_bias, dvectors,
                    stride);
}

// Writes the gradients of the weights from their sums.
template <typename T>
void unpack_gradient(const PainnUpdateSums<T>& sums, const PainnUpdate<T>& gradient) {
  const int n = gradient.n_features;
  const bool has_vectors = gradient.u_weight != nullptr;
  if (has_vectors) {
    unpack_gradient(sums.u, false, Linear<T>{gradient.u_weight, nullptr, n, n, n});
  }
  unpack_gradient(sums.v, false, Linear<T>{gradient.v_weight, nullptr, n, n, n});
  Mlp<T> hidden = gradient.mlp;
  hidden.first = linear_inputs(gradient.mlp.first, 0, n);
  unpack_hidden_gradient(sums.mlp, hidden);
  unpack_gradient(sums.first_scalars, true, linear_inputs(gradient.mlp.first, n, n));
  for (int b = 0; b < (has_vectors ? 3 : 2); ++b) {
    unpack_gradient(sums.last[b], false, update_block(gradient, b));
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
