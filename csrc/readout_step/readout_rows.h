// The vector that is read off rows of atoms: gate(s) (V v), with one gate and one row of V.
//
// Rows of features are padded with zeros to whole vectors: s (n, stride), v (n, 3, stride).
#pragma once

#include <cstdint>

#include "common/mlp.h"
#include "common/rows.h"

namespace tito_fast {
namespace TITO_ISA {

template <typename T>
struct PackedReadout {
  PackedMlp<T> mlp;  // its last linear is not used
  const T* gate;     // the row of the last linear, padded
  T gate_bias;
  const T* v;  // the row of V, padded
  int n_features;
};

template <typename T>
PackedReadout<T> pack_readout(const Mlp<const T>& mlp, const T* v_weight, bool wants_backward,
                              Workspace& memory) {
  PackedReadout<T> packed;
  packed.mlp = pack_mlp_hidden(mlp, wants_backward, memory);
  packed.gate = pack_row(mlp.last.weight, mlp.last.n_in, memory);
  packed.gate_bias = packed.gate == nullptr ? T(0) : *mlp.last.bias;
  packed.v = pack_row(v_weight, mlp.first.n_in, memory);
  packed.n_features = mlp.first.n_in;
  return packed;
}

// Fills the hidden rows of the mlp, for up to kMlpRows rows.
template <typename T>
void readout_hidden(const PackedReadout<T>& readout, int n_rows, const T* scalars,
                    std::int64_t stride, const MlpTile<T>& tile) {
  const PackedLinear<T>& first = readout.mlp.first;
  gemm<Start::kBias>(n_rows, first.n_in, first.n_out, scalars, stride, 1, first.forward, first.bias,
                     tile.a1, padded<T>(first.n_out));
  mlp_hidden(readout.mlp, n_rows, tile);
}

// The gate of row r of the tile.
template <typename T>
TITO_INLINE T readout_gate(const PackedReadout<T>& readout, int r, const MlpTile<T>& tile) {
  const int n_hidden = padded<T>(readout.mlp.second.n_out);
  return dot(n_hidden, tile.h2 + std::int64_t{n_hidden} * r, readout.gate) + readout.gate_bias;
}

// out (n_rows, 3), dense; any number of rows.
template <typename T>
void readout_rows(const PackedReadout<T>& readout, std::int64_t n_rows, const T* scalars,
                  const T* vectors, std::int64_t stride, T* out, const MlpTile<T>& tile) {
  const int n_padded = padded<T>(readout.n_features);
  for (std::int64_t first = 0; first < n_rows; first += kMlpRows) {
    const int n_here = n_rows - first < kMlpRows ? static_cast<int>(n_rows - first) : kMlpRows;
    readout_hidden(readout, n_here, scalars + first * stride, stride, tile);
    for (int r = 0; r < n_here; ++r) {
      const T gate = readout_gate(readout, r, tile);
      for (int c = 0; c < 3; ++c) {
        const std::int64_t row = 3 * (first + r) + c;
        out[row] = gate * dot(n_padded, vectors + row * stride, readout.v);
      }
    }
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
