// The mlp of [scalars, encodings of the molecule] on rows of atoms, its first linear split: what it
// reads of the encodings is computed once per molecule.
//
// Rows of features are padded with zeros to whole vectors.
#pragma once

#include <cstdint>

#include "common/mlp.h"
#include "common/rows.h"

namespace tito_fast {
namespace TITO_ISA {

template <typename T>
struct PackedTimeEmbed {
  PackedMlp<T> mlp;           // its first linear reads the scalars, without a bias
  PackedLinear<T> encodings;  // what the first linear reads of the encodings, with the bias
};

// The mlp reads n_features scalars, then the encodings.
template <typename T>
PackedTimeEmbed<T> pack_time_embed(const Mlp<const T>& mlp, int n_features, bool wants_backward,
                                   Workspace& memory) {
  Linear<const T> encodings = linear_inputs(mlp.first, n_features, mlp.first.n_in - n_features);
  encodings.bias = mlp.first.bias;
  Mlp<const T> of_scalars = mlp;
  of_scalars.first = linear_inputs(mlp.first, 0, n_features);
  of_scalars.first.bias = nullptr;
  PackedTimeEmbed<T> packed;
  packed.mlp = pack_mlp(of_scalars, wants_backward, memory);
  packed.encodings = pack_linear(encodings, true, wants_backward, memory);
  return packed;
}

// share (n_rows, padded n_hidden) of the scalars, rows x_row apart; no bias.
template <typename T>
void time_embed_scalars_share(const PackedTimeEmbed<T>& embed, int n_rows, const T* scalars,
                              std::int64_t scalars_row, T* share, std::int64_t share_row) {
  const PackedLinear<T>& first = embed.mlp.first;
  gemm<Start::kZero>(n_rows, first.n_in, first.n_out, scalars, scalars_row, 1, first.forward,
                     static_cast<const T*>(nullptr), share, share_row);
}

// share (n_molecules, padded n_hidden) of the encodings, with the bias. Summed in double: all atoms
// of a molecule have this error in common, so that it would add up in the gradients of the weights.
template <typename T>
void time_embed_encodings_share(const PackedTimeEmbed<T>& embed, int n_molecules,
                                const T* encodings, std::int64_t encodings_row, T* share,
                                std::int64_t share_row) {
  const PackedLinear<T>& linear = embed.encodings;
  const int n_padded = padded<T>(linear.n_out);
  for (int m = 0; m < n_molecules; ++m) {
    const T* const x = encodings + m * encodings_row;
    const T* panel = linear.forward;
    for (int first = 0; first < n_padded; first += kPanelColumns<T>) {
      const int width = n_padded - first < kPanelColumns<T> ? n_padded - first : kPanelColumns<T>;
      double totals[kPanelColumns<T>];
      for (int c = 0; c < width; ++c) totals[c] = static_cast<double>(linear.bias[first + c]);
      for (int k = 0; k < linear.n_in; ++k, panel += width) {
        const double value = static_cast<double>(x[k]);
        for (int c = 0; c < width; ++c) totals[c] += value * static_cast<double>(panel[c]);
      }
      for (int c = 0; c < width; ++c) {
        share[m * share_row + first + c] = static_cast<T>(totals[c]);
      }
    }
  }
}

// a1 = shares of the scalars and of the row's molecule. molecule_idx (n_rows) may be null: all rows
// then belong to molecule 0.
template <typename T>
void time_embed_sum(int n_rows, int n_hidden, const T* share, std::int64_t share_row,
                    const T* molecule_shares, std::int64_t molecule_row,
                    const std::int64_t* molecule_idx, T* a1) {
  const int n_padded = padded<T>(n_hidden);
  for (int r = 0; r < n_rows; ++r) {
    const std::int64_t molecule = molecule_idx == nullptr ? 0 : molecule_idx[r];
    const T* const of_molecule = molecule_shares + molecule * molecule_row;
    for (int f = 0; f < n_padded; f += kLanes<T>) {
      store(a1 + r * n_padded + f, load(share + r * share_row + f) + load(of_molecule + f));
    }
  }
}

// out (n_rows, padded n_out) from the shares; any number of rows. out may be share where n_out is
// n_hidden.
template <typename T>
void time_embed_rows(const PackedTimeEmbed<T>& embed, std::int64_t n_rows, const T* share,
                     std::int64_t share_row, const T* molecule_shares, std::int64_t molecule_row,
                     const std::int64_t* molecule_idx, T* out, std::int64_t out_row,
                     const MlpTile<T>& tile) {
  const PackedLinear<T>& last = embed.mlp.last;
  for (std::int64_t first = 0; first < n_rows; first += kMlpRows) {
    const int n_here = n_rows - first < kMlpRows ? static_cast<int>(n_rows - first) : kMlpRows;
    time_embed_sum(n_here, embed.mlp.first.n_out, share + first * share_row, share_row,
                   molecule_shares, molecule_row,
                   molecule_idx == nullptr ? nullptr : molecule_idx + first, tile.a1);
    mlp_hidden(embed.mlp, n_here, tile);
    gemm<Start::kBias>(n_here, last.n_in, last.n_out, tile.h2, padded<T>(last.n_in), 1,
                       last.forward, last.bias, out + first * out_row, out_row);
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
