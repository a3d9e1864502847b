// The backward of readout_rows.h; it computes the forward again. With d the gradient of the vector:
//   dgate = d . (V v),  d(V v)_c = gate d_c.
#pragma once

#include <cstdint>

#include "readout_step/readout_rows.h"

namespace tito_fast {
namespace TITO_ISA {

template <typename T>
struct ReadoutSums {
  MlpSums<T> mlp;  // without the last linear
  T* gate;         // (padded n_hidden)
  T* gate_bias;    // (1)
  T* v;            // (padded F)
};

template <typename T>
ReadoutSums<T> take_sums(const PackedReadout<T>& readout, Workspace& memory, bool wants_weights) {
  ReadoutSums<T> sums;
  sums.mlp = take_hidden_sums(readout.mlp, memory, wants_weights);
  sums.gate = memory.take<T>(padded<T>(readout.mlp.second.n_out));
  sums.gate_bias = memory.take<T>(1);
  sums.v = memory.take<T>(padded<T>(readout.n_features));
  return sums;
}

// Up to kMlpRows rows. Adds to sums; writes dscalars (n_rows, stride) and dvectors (n_rows, 3,
// stride) unless they are null.
template <typename T>
void readout_tile_backward(const PackedReadout<T>& readout, int n_rows, const T* scalars,
                           const T* vectors, const T* d, T* dscalars, T* dvectors,
                           std::int64_t stride, const MlpTile<T>& tile,
                           const ReadoutSums<T>& sums) {
  const int n_padded = padded<T>(readout.n_features);
  const int n_hidden = padded<T>(readout.mlp.second.n_out);
  T dgates[kMlpRows];
  T dvv[3 * kMlpRows];  // gradient of V v
  double dbias = 0.0;
  readout_hidden(readout, n_rows, scalars, stride, tile);
  for (int r = 0; r < n_rows; ++r) {
    const T gate = readout_gate(readout, r, tile);
    T dgate = T(0);
    for (int c = 0; c < 3; ++c) {
      const std::int64_t row = 3 * r + c;
      dgate += d[row] * dot(n_padded, vectors + row * stride, readout.v);
      dvv[row] = gate * d[row];
      if (dvectors == nullptr) continue;
      for (int f = 0; f < n_padded; f += kLanes<T>) {
        store(dvectors + row * stride + f, dvv[row] * load(readout.v + f));
      }
    }
    dgates[r] = dgate;
    dbias += static_cast<double>(dgate);
    for (int f = 0; f < n_hidden; f += kLanes<T>) {
      store(tile.d + std::int64_t{n_hidden} * r + f, dgate * load(readout.gate + f));
    }
  }
  *sums.gate_bias += static_cast<T>(dbias);
  gemm_tn(n_rows, 1, n_hidden, dgates, 1, tile.h2, n_hidden, sums.gate, n_hidden);
  gemm_tn(3 * n_rows, 1, n_padded, dvv, 1, vectors, stride, sums.v, n_padded);
  mlp_hidden_backward(readout.mlp, n_rows, tile, sums.mlp);
  const PackedLinear<T>& first = readout.mlp.first;
  add_weight_gradient(n_rows, first, scalars, stride, tile.d, n_hidden, sums.mlp.first);
  if (dscalars == nullptr) return;
  gemm<Start::kZero>(n_rows, first.n_out, first.n_in, tile.d, n_hidden, 1, first.backward,
                     static_cast<const T*>(nullptr), dscalars, stride);
}

}  // namespace TITO_ISA
}  // namespace tito_fast
