// Chunks of rows, each by one thread, in tiles of kMlpRows that are copied into padded rows.
#include "common/chunks.h"
#include "painn_update/painn_update.h"
#include "painn_update/painn_update_rows.h"
#include "painn_update/painn_update_rows_backward.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// What a thread needs: padded copies of a tile's rows, and the tile.
template <typename T>
struct Copies {
  PainnUpdateTile<T> tile;
  T* scalars;
  T* vectors;
  // Only for the backward.
  T* dnew_scalars;
  T* dnew_vectors;
  T* dscalars;
  T* dvectors;
};

template <typename T>
Copies<T> take_thread(const PackedPainnUpdate<T>& update, bool wants_backward, Workspace& memory) {
  const std::int64_t n = std::int64_t{kMlpRows} * padded<T>(update.n_features);
  Copies<T> copies{};
  copies.tile = take_painn_update_tile(update, wants_backward, memory);
  copies.scalars = memory.take<T>(n);
  copies.vectors = memory.take<T>(3 * n);
  if (wants_backward) {
    copies.dnew_scalars = memory.take<T>(n);
    copies.dnew_vectors = memory.take<T>(3 * n);
    copies.dscalars = memory.take<T>(n);
    copies.dvectors = memory.take<T>(3 * n);
  }
  return copies;
}

template <typename T>
void backward_rows(const PackedPainnUpdate<T>& update, const PainnUpdateGradientArrays<T>& arrays,
                   std::int64_t row, int n_rows, const Copies<T>& copies,
                   const PainnUpdateSums<T>& sums) {
  const int n = update.n_features;
  const std::int64_t s_at = row * n;
  const std::int64_t v_at = 3 * row * n;
  pad_rows(n_rows, n, arrays.scalars + s_at, n, copies.scalars);
  pad_rows(3 * n_rows, n, arrays.vectors + v_at, n, copies.vectors);
  pad_rows(n_rows, n, arrays.grad_new_scalars + s_at, n, copies.dnew_scalars);
  if (update.has_vectors) {
    pad_rows(3 * n_rows, n, arrays.grad_new_vectors + v_at, n, copies.dnew_vectors);
  }
  const bool wants_inputs = arrays.grad_scalars != nullptr;
  painn_update_tile_backward(update, n_rows, copies.scalars, copies.vectors, copies.dnew_scalars,
                             copies.dnew_vectors, wants_inputs ? copies.dscalars : nullptr,
                             copies.dvectors, padded<T>(n), copies.tile, sums);
  if (!wants_inputs) return;
  unpad_rows(n_rows, n, copies.dscalars, arrays.grad_scalars + s_at, n);
  unpad_rows(3 * n_rows, n, copies.dvectors, arrays.grad_vectors + v_at, n);
}

}  // namespace

// False where there is no memory.
template <typename T>
bool painn_update_fwd(const PainnUpdate<const T>& update, const PainnUpdateArrays<T>& arrays,
                      int n_threads) {
  const int n = update.n_features;
  const int threads = chunk_threads(arrays.n_rows, kChunkRows, n_threads);
  Workspace nowhere;
  const PackedPainnUpdate<T> sizes = pack_painn_update(update, false, nowhere);
  const SharedWorkspace memory(
      nowhere.used(), count_bytes([&](Workspace& counter) { take_thread(sizes, false, counter); }),
      threads, 0, 0);
  if (memory.is_missing()) return false;
  Workspace shared = memory.shared();
  const PackedPainnUpdate<T> packed = pack_painn_update(update, false, shared);
  for_each_chunk(arrays.n_rows, kChunkRows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    const Copies<T> copies = take_thread(packed, false, own);
    for_each_tile(chunk, [&](std::int64_t row, int n_rows) {
      pad_rows(n_rows, n, arrays.scalars + row * n, n, copies.scalars);
      pad_rows(3 * n_rows, n, arrays.vectors + 3 * row * n, n, copies.vectors);
      painn_update_rows(packed, n_rows, copies.scalars, copies.vectors, copies.scalars,
                        copies.vectors, padded<T>(n), copies.tile);
      unpad_rows(n_rows, n, copies.scalars, arrays.new_scalars + row * n, n);
      if (!packed.has_vectors) return;
      unpad_rows(3 * n_rows, n, copies.vectors, arrays.new_vectors + 3 * row * n, n);
    });
  });
  return true;
}

template <typename T>
bool painn_update_bwd(const PainnUpdate<const T>& update,
                      const PainnUpdateGradientArrays<T>& arrays, const PainnUpdate<T>* gradient,
                      int n_threads) {
  const bool wants_weights = gradient != nullptr;
  const std::int64_t chunk_rows = sum_chunk_rows(arrays.n_rows);
  const int threads = chunk_threads(arrays.n_rows, chunk_rows, n_threads);
  Workspace nowhere;
  const PackedPainnUpdate<T> sizes = pack_painn_update(update, true, nowhere);
  const SharedWorkspace memory(
      nowhere.used(), count_bytes([&](Workspace& counter) { take_thread(sizes, true, counter); }),
      threads, count_bytes([&](Workspace& counter) { take_sums(sizes, counter, wants_weights); }),
      count_sums(arrays.n_rows, chunk_rows));
  if (memory.is_missing()) return false;
  Workspace shared = memory.shared();
  const PackedPainnUpdate<T> packed = pack_painn_update(update, true, shared);
  memory.clear_all_sums<T>();
  for_each_chunk(arrays.n_rows, chunk_rows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    const Copies<T> copies = take_thread(packed, true, own);
    Workspace own_sums = memory.sums(chunk.index);
    const PainnUpdateSums<T> sums = take_sums(packed, own_sums, wants_weights);
    for_each_tile(chunk, [&](std::int64_t row, int n_rows) {
      backward_rows(packed, arrays, row, n_rows, copies, sums);
    });
  });
  if (!wants_weights) return true;
  memory.add_sums<T>();
  Workspace totals = memory.sums(0);
  unpack_gradient(take_sums(packed, totals, true), *gradient);
  return true;
}

#define TITO_INSTANTIATE(T)                                                                     \
  template bool painn_update_fwd<T>(const PainnUpdate<const T>&, const PainnUpdateArrays<T>&,   \
                                    int);                                                       \
  template bool painn_update_bwd<T>(const PainnUpdate<const T>&,                                \
                                    const PainnUpdateGradientArrays<T>&, const PainnUpdate<T>*, \
                                    int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace TITO_ISA
}  // namespace tito_fast
