// Chunks of rows, each by one thread, in tiles of kMlpRows.
#include "common/chunks.h"
#include "common/mlp.h"
#include "common/rows.h"
#include "mlp/mlp_op.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// What a thread needs.
template <typename T>
struct Tile {
  MlpTile<T> mlp;
  T* out;  // (kMlpRows, padded n_out): outputs or their gradient
  T* dx;   // (kMlpRows, padded n_in)
};

template <typename T>
Tile<T> take_thread(const Mlp<const T>& mlp, bool wants_backward, Workspace& memory) {
  Tile<T> tile{};
  tile.mlp = take_tile<T>(mlp.second.n_out, wants_backward, memory);
  tile.out = memory.take<T>(kMlpRows * padded<T>(mlp.last.n_out));
  tile.dx = wants_backward ? memory.take<T>(kMlpRows * padded<T>(mlp.first.n_in)) : nullptr;
  return tile;
}

}  // namespace

// False where there is no memory.
template <typename T>
bool mlp_fwd(const Mlp<const T>& mlp, const MlpArrays<T>& arrays, int n_threads) {
  const int n_in = mlp.first.n_in;
  const int n_out = mlp.last.n_out;
  const int threads = chunk_threads(arrays.n_rows, kChunkRows, n_threads);
  const SharedWorkspace memory(
      count_bytes([&](Workspace& counter) { pack_mlp(mlp, false, counter); }),
      count_bytes([&](Workspace& counter) { take_thread(mlp, false, counter); }), threads, 0, 0);
  if (memory.is_missing()) return false;
  Workspace shared = memory.shared();
  const PackedMlp<T> packed = pack_mlp(mlp, false, shared);
  for_each_chunk(arrays.n_rows, kChunkRows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    const Tile<T> tile = take_thread(mlp, false, own);
    for_each_tile(chunk, [&](std::int64_t row, int n) {
      mlp_forward(packed, n, arrays.inputs + row * n_in, n_in, tile.out, padded<T>(n_out),
                  tile.mlp);
      unpad_rows(n, n_out, tile.out, arrays.outputs + row * n_out, n_out);
    });
  });
  return true;
}

template <typename T>
bool mlp_bwd(const Mlp<const T>& mlp, const MlpGradientArrays<T>& arrays, const Mlp<T>* gradient,
             int n_threads) {
  const int n_in = mlp.first.n_in;
  const int n_out = mlp.last.n_out;
  const bool wants_weights = gradient != nullptr;
  const std::int64_t chunk_rows = sum_chunk_rows(arrays.n_rows);
  const int threads = chunk_threads(arrays.n_rows, chunk_rows, n_threads);
  Workspace nowhere;
  const PackedMlp<T> sizes = pack_mlp(mlp, true, nowhere);
  const SharedWorkspace memory(
      nowhere.used(), count_bytes([&](Workspace& counter) { take_thread(mlp, true, counter); }),
      threads, count_bytes([&](Workspace& counter) { take_sums(sizes, counter, wants_weights); }),
      count_sums(arrays.n_rows, chunk_rows));
  if (memory.is_missing()) return false;
  Workspace shared = memory.shared();
  const PackedMlp<T> packed = pack_mlp(mlp, true, shared);
  memory.clear_all_sums<T>();
  for_each_chunk(arrays.n_rows, chunk_rows, threads, [&](const Chunk& chunk) {
    Workspace own = memory.thread(chunk.thread);
    const Tile<T> tile = take_thread(mlp, true, own);
    Workspace own_sums = memory.sums(chunk.index);
    const MlpSums<T> sums = take_sums(packed, own_sums, wants_weights);
    for_each_tile(chunk, [&](std::int64_t row, int n) {
      pad_rows(n, n_out, arrays.grad_outputs + row * n_out, n_out, tile.out);
      T* const dx = arrays.grad_inputs == nullptr ? nullptr : tile.dx;
      mlp_backward(packed, n, arrays.inputs + row * n_in, n_in, tile.out, padded<T>(n_out), dx,
                   padded<T>(n_in), tile.mlp, sums);
      if (dx != nullptr) unpad_rows(n, n_in, dx, arrays.grad_inputs + row * n_in, n_in);
    });
  });
  if (!wants_weights) return true;
  memory.add_sums<T>();
  Workspace totals = memory.sums(0);
  unpack_gradient(take_sums(packed, totals, true), *gradient);
  return true;
}

#define TITO_INSTANTIATE(T)                                                \
  template bool mlp_fwd<T>(const Mlp<const T>&, const MlpArrays<T>&, int); \
  template bool mlp_bwd<T>(const Mlp<const T>&, const MlpGradientArrays<T>&, const Mlp<T>*, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace TITO_ISA
}  // namespace tito_fast
