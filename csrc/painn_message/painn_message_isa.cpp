// The message op on arrays as torch holds them.
#include "painn_message/painn_message_isa.h"

#include "common/threads.h"
#include "painn_message/message_backward.h"
#include "painn_message/message_tile.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// Rows of atoms, padded to whole vectors: the array itself where they are already.
template <typename T>
const T* padded_rows(const T* rows, std::int64_t n_rows, int width, Workspace& memory) {
  const std::int64_t stride = row_stride<T>(width);
  if (rows == nullptr || stride == width) return rows;
  T* const copy = memory.take<T>(n_rows * stride);
  if (copy == nullptr) return nullptr;
  for (std::int64_t r = 0; r < n_rows; ++r) {
    for (int c = 0; c < stride; ++c) copy[r * stride + c] = c < width ? rows[r * width + c] : T(0);
  }
  return copy;
}

template <typename T>
void copy_row(const T* padded_row, int width, T* out) {
  for (int c = 0; c < width; c += kLanes<T>) {
    store_part(out + c, load(padded_row + c), width - c);
  }
}

// What a thread needs of its own.
template <typename T>
struct ThreadMemory {
  MlpTile<T> tile;
  T* p;
  T* dp;
  T* encoding;
  T* d_encoding;
};

template <typename T>
ThreadMemory<T> take_thread(int width, bool wants_backward, Workspace& memory) {
  const std::int64_t n = kMlpRows * row_stride<T>(width);
  ThreadMemory<T> result{};
  result.tile = take_tile<T>(width, wants_backward, memory);
  result.p = memory.take<T>(n);
  result.encoding = memory.take<T>(n);
  if (wants_backward) {
    result.dp = memory.take<T>(n);
    result.d_encoding = memory.take<T>(n);
  }
  return result;
}

// Everything a forward call works with; taken twice, first to count.
template <typename T>
struct ForwardMemory {
  PackedMessage<T> weights;
  const T* scalars;
  const T* vectors;
  T* source_share;
  T* filter_rows;
  ThreadMemory<T>* threads;
};

template <typename T>
ForwardMemory<T> take_forward(const MessageGraph& graph, const MessageShape& shape,
                              const MessageInputs<T>& inputs, const MessagePlan& plan,
                              bool wants_backward, int n_threads, Workspace& memory) {
  const std::int64_t stride = row_stride<T>(shape.width);
  ForwardMemory<T> result{};
  result.weights = pack_message(shape, inputs.phi, inputs.filter, wants_backward, memory);
  result.scalars = padded_rows(inputs.scalars, graph.n_atoms, shape.width, memory);
  result.vectors = shape.has_vectors
                       ? padded_rows(inputs.vectors, 3 * graph.n_atoms, shape.width, memory)
                       : nullptr;
  result.source_share = memory.take<T>(graph.n_atoms * stride);
  result.filter_rows = memory.take<T>(plan.most_pairs * result.weights.n_blocks * stride);
  result.threads = memory.take<ThreadMemory<T>>(n_threads);
  for (int t = 0; t < n_threads; ++t) {
    const ThreadMemory<T> own = take_thread<T>(shape.width, wants_backward, memory);
    if (result.threads != nullptr) result.threads[t] = own;
  }
  return result;
}

template <typename T>
MessageLayer<T> layer_of(const MessageGraph& graph, const MessageShape& shape,
                         const MessageInputs<T>& inputs, const ForwardMemory<T>& forward) {
  MessageLayer<T> layer{};
  layer.weights = &forward.weights;
  layer.edge_ptr = graph.edge_ptr;
  layer.source = graph.source;
  layer.source_share = forward.source_share;
  layer.vectors = forward.vectors;
  layer.vec_saturated = inputs.vec_saturated;
  layer.edges_in = inputs.edge_features;
  layer.edge_row = shape.width;
  layer.adds_edges = shape.adds_edges;
  return layer;
}

template <typename T>
void compute_source_share(const MessageGraph& graph, const ForwardMemory<T>& forward) {
  const PackedLinear<T>& source = forward.weights.source;
  const std::int64_t stride = row_stride<T>(forward.weights.width);
  gemm<Start::kBias>(static_cast<int>(graph.n_atoms), source.n_in, source.n_out, forward.scalars,
                     stride, 1, source.forward, source.bias, forward.source_share, stride);
}

// Filter rows of the pairs of a wave; inside a parallel region.
template <typename T>
void wave_filters(const MessageWave& wave, const MessageInputs<T>& inputs,
                  const ForwardMemory<T>& forward) {
  const ThreadMemory<T>& own = forward.threads[thread_number()];
  const std::int64_t row = forward.weights.n_blocks * row_stride<T>(forward.weights.width);
  const std::int64_t n_pairs = wave.end_pair - wave.first_pair;
  const std::int64_t n_tiles = (n_pairs + kMlpRows - 1) / kMlpRows;
#pragma omp for schedule(static)
  for (std::int64_t k = 0; k < n_tiles; ++k) {
    const std::int64_t first = k * kMlpRows;
    const int n = n_pairs - first < kMlpRows ? static_cast<int>(n_pairs - first) : kMlpRows;
    filter_rows(forward.weights, n, inputs.pair_dist + wave.first_pair + first, own.encoding,
                own.tile, forward.filter_rows + first * row);
  }
}

template <typename T>
void write_sums(const MessageLayer<T>& layer, const MessageItem& item, int width,
                const MessageOutputs<T>& outputs) {
  const std::int64_t stride = row_stride<T>(width);
  for (std::int64_t i = item.first_receiver; i < item.end_receiver; ++i) {
    const T* const sums = layer.sums + i * kSumRows * stride;
    const T* const v = layer.vectors == nullptr ? nullptr : layer.vectors + 3 * i * stride;
    copy_row(sums + kScalarSum * stride, width, outputs.scalars + i * width);
    for (int c = 0; c < width; c += kLanes<T>) {
      Vec<T> dv[3];
      vector_sum(sums, v, stride, c, dv);
      for (int axis = 0; axis < 3; ++axis) {
        store_part(outputs.vectors + (3 * i + axis) * width + c, dv[axis], width - c);
      }
    }
    if (outputs.cross_sum == nullptr) continue;
    for (int axis = 0; axis < 3; ++axis) {
      copy_row(sums + (kCrossSum + axis) * stride, width,
               outputs.cross_sum + (3 * i + axis) * width);
    }
  }
}

}  // namespace

template <typename T>
bool painn_message_fwd(const MessageGraph& graph, const MessageShape& shape,
                       const MessageInputs<T>& inputs, const MessageOutputs<T>& outputs,
                       const MessagePlan& plan, int n_threads) {
  const std::int64_t stride = row_stride<T>(shape.width);
  Workspace counted;
  take_forward(graph, shape, inputs, plan, false, n_threads, counted);
  counted.take<T>(graph.n_atoms * kSumRows * stride);
  Workspace memory(counted.used());
  if (memory.is_missing()) return false;
  const ForwardMemory<T> forward =
      take_forward(graph, shape, inputs, plan, false, n_threads, memory);
  MessageLayer<T> layer = layer_of(graph, shape, inputs, forward);
  layer.sums = memory.take<T>(graph.n_atoms * kSumRows * stride);
  layer.edges_out = outputs.edges;
  compute_source_share(graph, forward);
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
  {
    const ThreadMemory<T>& own = forward.threads[thread_number()];
    for (std::int64_t k = 0; k < plan.n_waves; ++k) {
      const MessageWave& wave = plan.waves[k];
      wave_filters(wave, inputs, forward);
      const PairFilter<T> filter{forward.filter_rows, graph.edge_pair, wave.first_pair};
#pragma omp for schedule(dynamic)
      for (std::int64_t i = wave.first_item; i < wave.end_item; ++i) {
        const MessageItem& item = plan.items[i];
        message_rows(layer, filter, item.first_receiver, item.end_receiver, own.tile, own.p);
        write_sums(layer, item, shape.width, outputs);
      }
    }
  }
  return true;
}

namespace {

template <typename T>
struct BackwardMemory {
  const T* scalars;  // padded gradients of the outputs
  const T* vectors;
  const T* cross_sum;
  T* crossed;            // (n_atoms, 3, padded W)
  T* d_source;           // (n_atoms, kSourceRows, padded W): sums of the rows that sources received
  T* d_filter;           // (most_edges, n_blocks, padded W)
  T* to_sources;         // (most_source_atoms, kSourceRows, padded W)
  MessageSums<T>* sums;  // (n_collectors)
  T* first_sum;          // where the sums of collector 0 begin
  std::int64_t sums_size;
  LinearSums<T> source;  // of the source's share
  T* d_pairs;            // (n_threads, kMlpRows, n_blocks, padded W)
};

template <typename T>
BackwardMemory<T> take_backward(const MessageGraph& graph, const MessageShape& shape,
                                const MessageGradients<T>& gradients, const MessagePlan& plan,
                                const PackedMessage<T>& weights, int n_threads, Workspace& memory) {
  const int width = shape.width;
  const std::int64_t stride = row_stride<T>(width);
  BackwardMemory<T> result{};
  result.scalars = padded_rows(gradients.scalars, graph.n_atoms, width, memory);
  result.vectors = padded_rows(gradients.vectors, 3 * graph.n_atoms, width, memory);
  if (shape.has_vectors) {
    result.cross_sum = padded_rows(gradients.cross_sum, 3 * graph.n_atoms, width, memory);
    result.crossed = memory.take<T>(3 * graph.n_atoms * stride);
  }
  result.d_source = memory.take<T>(graph.n_atoms * kSourceRows * stride);
  result.d_filter = memory.take<T>(plan.most_edges * weights.n_blocks * stride);
  result.to_sources = memory.take<T>(plan.most_source_atoms * kSourceRows * stride);
  result.sums = memory.take<MessageSums<T>>(plan.n_collectors);
  for (int k = 0; k < plan.n_collectors; ++k) {
    const std::int64_t before = memory.used();
    const MessageSums<T> sums = take_sums(weights, memory);
    if (k == 0) {
      result.first_sum = sums.phi.first.weight;
      result.sums_size = (memory.used() - before) / static_cast<std::int64_t>(sizeof(T));
    }
    if (result.sums != nullptr) result.sums[k] = sums;
  }
  result.source = take_sums<T>(width, width, memory);
  result.d_pairs = memory.take<T>(n_threads * kMlpRows * weights.n_blocks * stride);
  return result;
}

// gc = v x gv, and the first part of the vectors' gradient: gv x cross_sum.
template <typename T>
void cross_backward(const MessageGraph& graph, const ForwardMemory<T>& forward,
                    const BackwardMemory<T>& backward, int width) {
  const std::int64_t stride = row_stride<T>(width);
#pragma omp for schedule(static)
  for (std::int64_t i = 0; i < graph.n_atoms; ++i) {
    T* const d_source = backward.d_source + i * kSourceRows * stride;
    for (int c = 0; c < stride; c += kLanes<T>) {
      store(d_source + c, Vec<T>{});
      for (int axis = 0; axis < 3; ++axis) {
        const auto at = [&](const T* rows, int k) {
          return load(rows + (3 * i + k % 3) * stride + c);
        };
        Vec<T> dv{};
        if (forward.vectors != nullptr) {
          const T* const v = forward.vectors;
          const T* const g = backward.vectors;
          const T* const sum = backward.cross_sum;
          store(backward.crossed + (3 * i + axis) * stride + c,
                at(v, axis + 1) * at(g, axis + 2) - at(v, axis + 2) * at(g, axis + 1));
          dv = at(g, axis + 1) * at(sum, axis + 2) - at(g, axis + 2) * at(sum, axis + 1);
        }
        store(d_source + (1 + axis) * stride + c, dv);
      }
    }
  }
}

// Sums over the two edges of each pair of a wave, through the filter; inside a parallel region.
template <typename T>
void wave_filters_backward(const MessageGraph& graph, const MessageWave& wave,
                           const MessageInputs<T>& inputs, const MessagePlan& plan,
                           const ForwardMemory<T>& forward, const BackwardMemory<T>& backward,
                           T* d_dist) {
  const ThreadMemory<T>& own = forward.threads[thread_number()];
  const std::int64_t row = forward.weights.n_blocks * row_stride<T>(forward.weights.width);
  T* const d_rows = backward.d_pairs + thread_number() * kMlpRows * row;
  const std::int64_t n_pairs = wave.end_pair - wave.first_pair;
  const std::int64_t n_tiles = (n_pairs + kMlpRows - 1) / kMlpRows;
#pragma omp for schedule(static, 1)
  for (int collector = 0; collector < plan.n_collectors; ++collector) {
    for (std::int64_t k = collector; k < n_tiles; k += plan.n_collectors) {
      const std::int64_t first = wave.first_pair + k * kMlpRows;
      const int n =
          wave.end_pair - first < kMlpRows ? static_cast<int>(wave.end_pair - first) : kMlpRows;
      for (int r = 0; r < n; ++r) {
        const std::int64_t* const edges = graph.pair_edges + 2 * (first + r);
        const T* const one = backward.d_filter + (edges[0] - wave.first_edge) * row;
        const T* const two =
            edges[1] < 0 ? nullptr : backward.d_filter + (edges[1] - wave.first_edge) * row;
        for (std::int64_t c = 0; c < row; c += kLanes<T>) {
          store(d_rows + r * row + c,
                two == nullptr ? load(one + c) : load(one + c) + load(two + c));
        }
      }
      filter_rows_backward(forward.weights, n, inputs.pair_dist + first, d_rows, own.encoding,
                           own.d_encoding, own.tile, backward.sums[collector],
                           d_dist == nullptr ? nullptr : d_dist + first);
    }
  }
}

// Adds what sources received in each item of a wave, in the order of the items; inside a parallel
// region.
template <typename T>
void gather_sources(const MessageWave& wave, const MessagePlan& plan, std::int64_t stride,
                    const BackwardMemory<T>& backward) {
#pragma omp for schedule(static)
  for (std::int64_t j = wave.first_atom; j < wave.end_atom; ++j) {
    const T* rows = backward.to_sources;
    T* const total = backward.d_source + j * kSourceRows * stride;
    for (std::int64_t k = wave.first_item; k < wave.end_item; ++k) {
      const MessageItem& item = plan.items[k];
      if (item.first_atom <= j && j < item.end_atom) {
        const T* const row = rows + (j - item.first_atom) * kSourceRows * stride;
        for (std::int64_t c = 0; c < kSourceRows * stride; c += kLanes<T>) {
          store(total + c, load(total + c) + load(row + c));
        }
      }
      rows += (item.end_atom - item.first_atom) * kSourceRows * stride;
    }
  }
}

// Gradients of the scalars, the vectors and the source's share of phi's first linear.
template <typename T>
void source_backward(const MessageGraph& graph, const MessageShape& shape,
                     const ForwardMemory<T>& forward, const BackwardMemory<T>& backward,
                     const MessageGradients<T>& gradients) {
  const int width = shape.width;
  const std::int64_t stride = row_stride<T>(width);
  const PackedLinear<T>& source = forward.weights.source;
  T* const d_scalars = forward.source_share;  // no longer needed
  const int n_atoms = static_cast<int>(graph.n_atoms);
  gemm<Start::kZero>(n_atoms, width, width, backward.d_source, kSourceRows * stride, 1,
                     source.backward, static_cast<const T*>(nullptr), d_scalars, stride);
  for (std::int64_t c = 0; c < width * stride; c += kLanes<T>) {
    store(backward.source.weight + c, Vec<T>{});
  }
  gemm_tn(n_atoms, width, width, forward.scalars, stride, backward.d_source, kSourceRows * stride,
          backward.source.weight, stride);
  for (std::int64_t i = 0; i < graph.n_atoms; ++i) {
    copy_row(d_scalars + i * stride, width, gradients.in_scalars + i * width);
    if (gradients.in_vectors == nullptr) continue;
    for (int axis = 0; axis < 3; ++axis) {
      copy_row(backward.d_source + (i * kSourceRows + 1 + axis) * stride, width,
               gradients.in_vectors + (3 * i + axis) * width);
    }
  }
}

template <typename T>
void unpack_message_gradient(const MessageSums<T>& sums, const LinearSums<T>& source,
                             const PackedMessage<T>& weights, const MessageGradients<T>& to) {
  const int width = weights.width;
  Mlp<T> phi = to.phi;
  phi.first = {to.phi.first.weight + width, to.phi.first.bias, to.phi.first.weight_stride, width,
               width};
  unpack_hidden_gradient(sums.phi, phi);
  Linear<T> from_source = source_share(to.phi.first, width);
  from_source.bias = nullptr;
  unpack_gradient(source, true, from_source);
  unpack_hidden_gradient(sums.filter, to.filter);
  // Blocks that were not computed have no gradient.
  const auto clear = [&](const Linear<T>& last) {
    for (std::int64_t k = 0; k < std::int64_t{kMaxBlocks} * width * width; ++k) last.weight[k] = 0;
    for (int k = 0; k < kMaxBlocks * width; ++k) last.bias[k] = 0;
  };
  clear(to.phi.last);
  clear(to.filter.last);
  for (int slot = 0; slot < weights.n_blocks; ++slot) {
    const Block block = weights.block[slot];
    unpack_gradient(sums.phi_last[slot], false, block_of(to.phi.last, width, block));
    unpack_gradient(sums.filter_last[slot], false, block_of(to.filter.last, width, block));
  }
}

}  // namespace

template <typename T>
bool painn_message_bwd(const MessageGraph& graph, const MessageShape& shape,
                       const MessageInputs<T>& inputs, const MessageGradients<T>& gradients,
                       const MessagePlan& plan, int n_threads) {
  const std::int64_t stride = row_stride<T>(shape.width);
  Workspace counted;
  const ForwardMemory<T> counting =
      take_forward(graph, shape, inputs, plan, true, n_threads, counted);
  take_backward(graph, shape, gradients, plan, counting.weights, n_threads, counted);
  Workspace memory(counted.used());
  if (memory.is_missing()) return false;
  const ForwardMemory<T> forward =
      take_forward(graph, shape, inputs, plan, true, n_threads, memory);
  const BackwardMemory<T> backward =
      take_backward(graph, shape, gradients, plan, forward.weights, n_threads, memory);
  MessageLayerBackward<T> layer{};
  layer.forward = layer_of(graph, shape, inputs, forward);
  layer.scalars = backward.scalars;
  layer.vectors = backward.vectors;
  layer.crossed = backward.crossed;
  layer.edges = gradients.edges;
  layer.in_edges = gradients.in_edges;
  layer.vec_saturated = gradients.vec_saturated;
  layer.filter = backward.d_filter;
  compute_source_share(graph, forward);
  const std::int64_t n_sums = backward.sums_size;
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
  {
    const ThreadMemory<T>& own = forward.threads[thread_number()];
    const BackwardTile<T> tile{own.tile, own.p, own.dp};
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < plan.n_collectors * n_sums; c += kLanes<T>) {
      store(backward.first_sum + c, Vec<T>{});
    }
    cross_backward(graph, forward, backward, shape.width);
    for (std::int64_t k = 0; k < plan.n_waves; ++k) {
      const MessageWave& wave = plan.waves[k];
      wave_filters(wave, inputs, forward);
      const PairFilter<T> filter{forward.filter_rows, graph.edge_pair, wave.first_pair};
      MessageLayerBackward<T> here = layer;
      here.first_edge = wave.first_edge;
#pragma omp for schedule(static, 1)
      for (int collector = 0; collector < plan.n_collectors; ++collector) {
        T* to_sources = backward.to_sources;
        for (std::int64_t i = wave.first_item; i < wave.end_item; ++i) {
          const MessageItem& item = plan.items[i];
          if ((i - wave.first_item) % plan.n_collectors == collector) {
            message_rows_backward(here, filter, item, tile, backward.sums[collector], to_sources);
          }
          to_sources += (item.end_atom - item.first_atom) * kSourceRows * stride;
        }
      }
      wave_filters_backward(graph, wave, inputs, plan, forward, backward, gradients.pair_dist);
      gather_sources(wave, plan, stride, backward);
    }
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < n_sums; c += kLanes<T>) {
      Vec<T> total = load(backward.first_sum + c);
      Vec<T> lost{};
      for (int k = 1; k < plan.n_collectors; ++k) {
        add_kept(total, lost, load(backward.first_sum + k * n_sums + c));
      }
      store(backward.first_sum + c, total + lost);
    }
  }
  source_backward(graph, shape, forward, backward, gradients);
  unpack_message_gradient(backward.sums[0], backward.source, forward.weights, gradients);
  return true;
}

#define TITO_INSTANTIATE(T)                                                               \
  template bool painn_message_fwd<T>(const MessageGraph&, const MessageShape&,            \
                                     const MessageInputs<T>&, const MessageOutputs<T>&,   \
                                     const MessagePlan&, int);                            \
  template bool painn_message_bwd<T>(const MessageGraph&, const MessageShape&,            \
                                     const MessageInputs<T>&, const MessageGradients<T>&, \
                                     const MessagePlan&, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace TITO_ISA
}  // namespace tito_fast
