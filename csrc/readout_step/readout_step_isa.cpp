// The readout of rows, without the step: chunks of rows, each by one thread, in tiles of kMlpRows
// that are copied into padded rows.
#include "common/chunks.h"
#include "readout_step/readout_rows.h"
#include "readout_step/readout_rows_backward.h"
#include "readout_step/readout_step.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// What a thread needs: padded copies of a tile's rows, and the tile.
template <typename T>
struct Copies {
  MlpTile<T> tile;
  T* scalars;
  T* vectors;
  T* dscalars;
  T* dvectors;
};

template <typename T>
Copies<T> take_thread(const PackedReadout<T>& readout, bool wants_backward, Workspace& memory) {
  const std::int64_t n = std::int64_t{kMlpRows} * padded<T>(readout.n_features);
  Copies<T> copies{};
  copies.tile = take_tile<T>(readout.mlp.second.n_out, wants_backward, memory);
  copies.scalars = memory.take<T>(n);
  copies.vectors = memory.take<T>(3 * n);
  if (wants_backward) {
    copies.dscalars = memory.take<T>(n);
    copies.dvectors = memory.take<T>(3 * n);
  }
  return copies;
}

template <typename T>
void fill(const ReadoutArrays<T>& arrays, int n, std::int64_t row, int n_rows,
          const Copies<T>& copies) {
  pad_rows(n_rows, n, arrays.scalars + row * n, n, copies.scalars);
  pad_rows(3 * n_rows, n, arrays.vectors + 3 * row * n, n, copies.vectors);
}

template <typename T>
void unpack_gradient(const ReadoutSums<T>& sums, const Readout<T>& gradient) {
  unpack_hidden_gradient(sums.mlp, gradient.mlp);
  for (int f = 0; f < gradient.mlp.last.n_in; ++f) gradient.mlp.last.weight[f] = sums.gate[f];
  *gradient.mlp.last.bias = *sums.gate_bias;
  for (int f = 0; f < gradient.mlp.first.n_in; ++f) gradient.v_weight[f] = sums.v[f];
}

}  // namespace

// Writes out (n_rows, 3). False where there is no memory.
template <typename T>
bool readout_fwd(const Readout<const T>& readout, const ReadoutArrays<T>& arrays, T* out,
                 int n_threads) {
  const int n = readout.mlp.first.n_in;
  const int threads = chunk_threads(arrays.n_rows, kChunkRows, n_threads);
  Workspace nowhere;
  const PackedReadout<T> sizes = pack_readout(readout.mlp, readout.v_weight, false, nowhere);
  const SharedWorkspace memory(
      nowhere.used(), count_bytes([&](Workspace& counter) { take_thread(sizes, false, counter); }),
      threads, 0, 0);
  if (memory.is_missing()) return false;
  Workspace shared = memory.shared();
  const PackedReadout<T> packed = pack_readout(readout.mlp, readout.v_weight, false, shared);
  for_each_chunk(arrays.n_rows, kChunkRows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    const Copies<T> copies = take_thread(packed, false, own);
    for_each_tile(chunk, [&](std::int64_t row, int n_rows) {
      fill(arrays, n, row, n_rows, copies);
      readout_rows(packed, n_rows, copies.scalars, copies.vectors, padded<T>(n), out + 3 * row,
                   copies.tile);
    });
  });
  return true;
}

template <typename T>
bool readout_bwd(const Readout<const T>& readout, const ReadoutArrays<T>& arrays,
                 const ReadoutGradients<T>& gradients, int n_threads) {
  const int n = readout.mlp.first.n_in;
  const bool wants_inputs = gradients.grad_scalars != nullptr;
  const bool wants_weights = gradients.gradient != nullptr;
  const std::int64_t chunk_rows = sum_chunk_rows(arrays.n_rows);
  const int threads = chunk_threads(arrays.n_rows, chunk_rows, n_threads);
  Workspace nowhere;
  const PackedReadout<T> sizes = pack_readout(readout.mlp, readout.v_weight, true, nowhere);
  const SharedWorkspace memory(
      nowhere.used(), count_bytes([&](Workspace& counter) { take_thread(sizes, true, counter); }),
      threads, count_bytes([&](Workspace& counter) { take_sums(sizes, counter, wants_weights); }),
      count_sums(arrays.n_rows, chunk_rows));
  if (memory.is_missing()) return false;
  Workspace shared = memory.shared();
  const PackedReadout<T> packed = pack_readout(readout.mlp, readout.v_weight, true, shared);
  memory.clear_all_sums<T>();
  for_each_chunk(arrays.n_rows, chunk_rows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    Workspace own_sums = memory.sums(chunk.index);
    const Copies<T> copies = take_thread(packed, true, own);
    const ReadoutSums<T> sums = take_sums(packed, own_sums, wants_weights);
    for_each_tile(chunk, [&](std::int64_t row, int n_rows) {
      fill(arrays, n, row, n_rows, copies);
      readout_tile_backward(
          packed, n_rows, copies.scalars, copies.vectors, gradients.grad_readout + 3 * row,
          wants_inputs ? copies.dscalars : nullptr, wants_inputs ? copies.dvectors : nullptr,
          padded<T>(n), copies.tile, sums);
      if (!wants_inputs) return;
      unpad_rows(n_rows, n, copies.dscalars, gradients.grad_scalars + row * n, n);
      unpad_rows(3 * n_rows, n, copies.dvectors, gradients.grad_vectors + 3 * row * n, n);
    });
  });
  if (!wants_weights) return true;
  memory.add_sums<T>();
  Workspace totals = memory.sums(0);
  unpack_gradient(take_sums(packed, totals, true), *gradients.gradient);
  return true;
}

#define TITO_INSTANTIATE(T)                                                                \
  template bool readout_fwd<T>(const Readout<const T>&, const ReadoutArrays<T>&, T*, int); \
  template bool readout_bwd<T>(const Readout<const T>&, const ReadoutArrays<T>&,           \
                               const ReadoutGradients<T>&, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace TITO_ISA
}  // namespace tito_fast
