// Forward: the encodings' share of each molecule, then chunks of rows. Backward: chunks of rows,
// which leave the gradient before the first norm of every row, then sums of it over each molecule.
#include "common/chunks.h"
#include "common/mlp.h"
#include "common/rows.h"
#include "time_embed/time_embed.h"
#include "time_embed/time_embed_rows.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// What all threads share.
template <typename T>
struct Shared {
  PackedTimeEmbed<T> embed;
  T* molecule_shares;          // (n_molecules, padded n_hidden)
  std::int64_t* molecule_idx;  // (n_rows)
  T* da1;                      // (n_rows, padded n_hidden): only for the backward
};

// What a thread needs; the rows of a tile.
template <typename T>
struct Tile {
  MlpTile<T> mlp;
  T* out;          // (kMlpRows, padded n_out): outputs or their gradient
  T* dscalars;     // (kMlpRows, padded F)
  T* dencodings;   // (kMlpRows, padded n_in - F)
  double* totals;  // (n_hidden)
};

template <typename T>
struct Sums {
  MlpSums<T> mlp;
  LinearSums<T> encodings;
};

template <typename T>
Shared<T> take_shared(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays,
                      bool wants_backward, Workspace& memory) {
  const std::int64_t stride = padded<T>(mlp.first.n_out);
  Shared<T> shared{};
  shared.embed = pack_time_embed(mlp, arrays.n_features, wants_backward, memory);
  shared.molecule_shares = memory.take<T>(arrays.n_molecules * stride);
  shared.molecule_idx = memory.take<std::int64_t>(arrays.n_rows);
  if (wants_backward) shared.da1 = memory.take<T>(arrays.n_rows * stride);
  return shared;
}

template <typename T>
Tile<T> take_thread(const PackedTimeEmbed<T>& embed, bool wants_backward, Workspace& memory) {
  Tile<T> tile{};
  tile.mlp = take_tile<T>(embed.mlp.second.n_out, wants_backward, memory);
  tile.out = memory.take<T>(kMlpRows * padded<T>(embed.mlp.last.n_out));
  if (wants_backward) {
    tile.dscalars = memory.take<T>(kMlpRows * padded<T>(embed.mlp.first.n_in));
    tile.dencodings = memory.take<T>(kMlpRows * padded<T>(embed.encodings.n_in));
    tile.totals = memory.take<double>(embed.encodings.n_out);
  }
  return tile;
}

template <typename T>
Sums<T> take_sums(const PackedTimeEmbed<T>& embed, Workspace& memory, bool wants_weights) {
  Sums<T> sums;
  sums.mlp = take_sums(embed.mlp, memory, wants_weights);
  sums.encodings = take_sums<T>(embed.encodings.n_in, embed.encodings.n_out, memory, wants_weights);
  return sums;
}

// Fills the molecules' shares and indices.
template <typename T>
void fill_shared(const TimeEmbedArrays<T>& arrays, const Shared<T>& shared, int threads) {
  for (std::int64_t m = 0; m < arrays.n_molecules; ++m) {
    for (std::int64_t i = arrays.batch_ptr[m]; i < arrays.batch_ptr[m + 1]; ++i) {
      shared.molecule_idx[i] = m;
    }
  }
  const int n_in = shared.embed.encodings.n_in;
  const std::int64_t stride = padded<T>(shared.embed.encodings.n_out);
  for_each_chunk(arrays.n_molecules, kChunkRows, threads, [&](const Chunk& chunk) {
    time_embed_encodings_share(shared.embed, static_cast<int>(chunk.n_rows),
                               arrays.encodings + chunk.first * n_in, n_in,
                               shared.molecule_shares + chunk.first * stride, stride);
  });
}

// Fills a1 of the tile for the rows from `row` on.
template <typename T>
void fill_a1(const TimeEmbedArrays<T>& arrays, const Shared<T>& shared, std::int64_t row,
             int n_rows, const Tile<T>& tile) {
  const int n_hidden = shared.embed.mlp.first.n_out;
  const std::int64_t stride = padded<T>(n_hidden);
  time_embed_scalars_share(shared.embed, n_rows, arrays.scalars + row * arrays.n_features,
                           arrays.n_features, tile.mlp.a1, stride);
  time_embed_sum(n_rows, n_hidden, tile.mlp.a1, stride, shared.molecule_shares, stride,
                 shared.molecule_idx + row, tile.mlp.a1);
}

template <typename T>
void backward_rows(const TimeEmbedArrays<T>& arrays, const TimeEmbedGradients<T>& gradients,
                   const Shared<T>& shared, std::int64_t row, int n_rows, const Tile<T>& tile,
                   const MlpSums<T>& sums) {
  const PackedMlp<T>& mlp = shared.embed.mlp;
  const int n = arrays.n_features;
  const int n_out = mlp.last.n_out;
  const std::int64_t stride = padded<T>(mlp.first.n_out);
  const std::int64_t out_stride = padded<T>(n_out);
  const T* const no_bias = nullptr;
  fill_a1(arrays, shared, row, n_rows, tile);
  mlp_hidden(mlp, n_rows, tile.mlp);
  pad_rows(n_rows, n_out, gradients.grad_outputs + row * n_out, n_out, tile.out);
  add_rows(n_rows, padded<T>(n_out), tile.out, out_stride, sums.last.bias);
  add_weight_gradient(n_rows, mlp.last, tile.mlp.h2, stride, tile.out, out_stride, sums.last);
  gemm<Start::kZero>(n_rows, n_out, mlp.last.n_in, tile.out, out_stride, 1, mlp.last.backward,
                     no_bias, tile.mlp.d, stride);
  mlp_hidden_backward(mlp, n_rows, tile.mlp, sums);
  copy_rows(n_rows, padded<T>(mlp.first.n_out), tile.mlp.d, stride, shared.da1 + row * stride,
            stride);
  add_weight_gradient(n_rows, mlp.first, arrays.scalars + row * n, n, tile.mlp.d, stride,
                      sums.first);
  if (gradients.grad_scalars == nullptr) return;
  gemm<Start::kZero>(n_rows, mlp.first.n_out, n, tile.mlp.d, stride, 1, mlp.first.backward, no_bias,
                     tile.dscalars, padded<T>(n));
  unpad_rows(n_rows, n, tile.dscalars, gradients.grad_scalars + row * n, n);
}

// total (padded n) = the sum of rows, less its mean over n, which the centered weights do not see:
// in double, for the mean may be much larger than the rest.
template <typename T>
void sum_rows(const T* rows, std::int64_t n_rows, int n, double* totals, T* total) {
  const int n_padded = padded<T>(n);
  for (int f = 0; f < n; ++f) totals[f] = 0.0;
  for (std::int64_t r = 0; r < n_rows; ++r, rows += n_padded) {
    for (int f = 0; f < n; ++f) totals[f] += static_cast<double>(rows[f]);
  }
  double mean = 0.0;
  for (int f = 0; f < n; ++f) mean += totals[f] / n;
  for (int f = 0; f < n_padded; ++f) total[f] = f < n ? static_cast<T>(totals[f] - mean) : T(0);
}

template <typename T>
void backward_molecules(const TimeEmbedArrays<T>& arrays, const TimeEmbedGradients<T>& gradients,
                        const Shared<T>& shared, std::int64_t molecule, int n_molecules,
                        const Tile<T>& tile, const LinearSums<T>& sums) {
  const PackedLinear<T>& encodings = shared.embed.encodings;
  const int n_in = encodings.n_in;
  const std::int64_t stride = padded<T>(encodings.n_out);
  for (int m = 0; m < n_molecules; ++m) {
    const std::int64_t start = arrays.batch_ptr[molecule + m];
    const std::int64_t end = arrays.batch_ptr[molecule + m + 1];
    sum_rows(shared.da1 + start * stride, end - start, encodings.n_out, tile.totals,
             tile.mlp.d + m * stride);
  }
  add_weight_gradient(n_molecules, encodings, arrays.encodings + molecule * n_in, n_in, tile.mlp.d,
                      stride, sums);
  if (gradients.grad_encodings == nullptr) return;
  gemm<Start::kZero>(n_molecules, encodings.n_out, n_in, tile.mlp.d, stride, 1, encodings.backward,
                     static_cast<const T*>(nullptr), tile.dencodings, padded<T>(n_in));
  unpad_rows(n_molecules, n_in, tile.dencodings, gradients.grad_encodings + molecule * n_in, n_in);
}

// The bias goes with the encodings when it is packed; its gradient is that of the rows.
template <typename T>
void unpack_gradient(const Sums<T>& sums, int n_features, const Mlp<T>& gradient) {
  Linear<T> encodings = linear_inputs(gradient.first, n_features, gradient.first.n_in - n_features);
  unpack_gradient(sums.encodings, true, encodings);
  Mlp<T> of_scalars = gradient;
  of_scalars.first = linear_inputs(gradient.first, 0, n_features);
  unpack_gradient(sums.mlp, of_scalars);
}

}  // namespace

// False where there is no memory.
template <typename T>
bool time_embed_fwd(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays, T* outputs,
                    int n_threads) {
  const int n_out = mlp.last.n_out;
  const int threads = chunk_threads(arrays.n_rows, kChunkRows, n_threads);
  Workspace nowhere;
  const Shared<T> sizes = take_shared(mlp, arrays, false, nowhere);
  const SharedWorkspace memory(nowhere.used(), count_bytes([&](Workspace& counter) {
                                 take_thread(sizes.embed, false, counter);
                               }),
                               threads, 0, 0);
  if (memory.is_missing()) return false;
  Workspace all = memory.shared();
  const Shared<T> shared = take_shared(mlp, arrays, false, all);
  fill_shared(arrays, shared, threads);
  for_each_chunk(arrays.n_rows, kChunkRows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    const Tile<T> tile = take_thread(shared.embed, false, own);
    for_each_tile(chunk, [&](std::int64_t row, int n) {
      const std::int64_t stride = padded<T>(mlp.first.n_out);
      time_embed_scalars_share(shared.embed, n, arrays.scalars + row * arrays.n_features,
                               arrays.n_features, tile.mlp.a1, stride);
      time_embed_rows(shared.embed, n, tile.mlp.a1, stride, shared.molecule_shares, stride,
                      shared.molecule_idx + row, tile.out, padded<T>(n_out), tile.mlp);
      unpad_rows(n, n_out, tile.out, outputs + row * n_out, n_out);
    });
  });
  return true;
}

template <typename T>
bool time_embed_bwd(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays,
                    const TimeEmbedGradients<T>& gradients, int n_threads) {
  const bool wants_weights = gradients.gradient != nullptr;
  const std::int64_t chunk_rows = sum_chunk_rows(arrays.n_rows);
  const std::int64_t chunk_molecules = sum_chunk_rows(arrays.n_molecules);
  const std::int64_t n_sums = count_sums(arrays.n_rows, chunk_rows);
  const std::int64_t n_molecule_sums = count_sums(arrays.n_molecules, chunk_molecules);
  const int threads = chunk_threads(arrays.n_rows, chunk_rows, n_threads);
  Workspace nowhere;
  const Shared<T> sizes = take_shared(mlp, arrays, true, nowhere);
  const SharedWorkspace memory(
      nowhere.used(),
      count_bytes([&](Workspace& counter) { take_thread(sizes.embed, true, counter); }), threads,
      count_bytes([&](Workspace& counter) { take_sums(sizes.embed, counter, wants_weights); }),
      n_sums > n_molecule_sums ? n_sums : n_molecule_sums);
  if (memory.is_missing()) return false;
  Workspace all = memory.shared();
  const Shared<T> shared = take_shared(mlp, arrays, true, all);
  memory.clear_all_sums<T>();
  fill_shared(arrays, shared, threads);
  for_each_chunk(arrays.n_rows, chunk_rows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    Workspace own_sums = memory.sums(chunk.index);
    const Tile<T> tile = take_thread(shared.embed, true, own);
    const Sums<T> sums = take_sums(shared.embed, own_sums, wants_weights);
    for_each_tile(chunk, [&](std::int64_t row, int n) {
      backward_rows(arrays, gradients, shared, row, n, tile, sums.mlp);
    });
  });
  for_each_chunk(arrays.n_molecules, chunk_molecules, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    Workspace own_sums = memory.sums(chunk.index);
    const Tile<T> tile = take_thread(shared.embed, true, own);
    const Sums<T> sums = take_sums(shared.embed, own_sums, wants_weights);
    for_each_tile(chunk, [&](std::int64_t molecule, int n) {
      backward_molecules(arrays, gradients, shared, molecule, n, tile, sums.encodings);
    });
  });
  if (!wants_weights) return true;
  memory.add_sums<T>();
  Workspace totals = memory.sums(0);
  unpack_gradient(take_sums(shared.embed, totals, true), arrays.n_features, *gradients.gradient);
  return true;
}

#define TITO_INSTANTIATE(T)                                                                 \
  template bool time_embed_fwd<T>(const Mlp<const T>&, const TimeEmbedArrays<T>&, T*, int); \
  template bool time_embed_bwd<T>(const Mlp<const T>&, const TimeEmbedArrays<T>&,           \
                                  const TimeEmbedGradients<T>&, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace TITO_ISA
}  // namespace tito_fast
