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
  readout_hidden(readout, n_rows, scalars, stride, tile);
  for (int r = 0; r < n_rows; ++r) {
    const T gate = readout_gate(readout, r, tile);
    T dgate = T(0);
    for (int c = 0; c < 3; ++c) {
      const std::int64_t row = 3 * r + c;
      const T* const v = vectors + row * stride;
      dgate += d[row] * dot(n_padded, v, readout.v);
      const Vec<T> dvv = broadcast(gate * d[row]);
      for (int f = 0; f < n_padded; f += kLanes<T>) {
        store(sums.v + f, fma(dvv, load(v + f), load(sums.v + f)));
        if (dvectors != nullptr) store(dvectors + row * stride + f, dvv * load(readout.v + f));
      }
    }
    *sums.gate_bias += dgate;
    const Vec<T> dgates = broadcast(dgate);
    for (int f = 0; f < n_hidden; f += kLanes<T>) {
      const std::int64_t at = std::int64_t{n_hidden} * r + f;
      store(sums.gate + f, fma(dgates, load(tile.h2 + at), load(sums.gate + f)));
      store(tile.d + at, dgates * load(readout.gate + f));
    }
  }
  mlp_hidden_backward(readout.mlp, n_rows, tile, sums.mlp);
  const PackedLinear<T>& first = readout.mlp.first;
  add_weight_gradient(n_rows, first, scalars, stride, tile.d, n_hidden, sums.mlp.first);
  if (dscalars == nullptr) return;
  gemm<Start::kZero>(n_rows, first.n_out, first.n_in, tile.d, n_hidden, 1, first.backward,
                     static_cast<const T*>(nullptr), dscalars, stride);
}

}  // namespace TITO_ISA
}  // namespace tito_fast
