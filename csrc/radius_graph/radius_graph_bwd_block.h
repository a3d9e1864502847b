// CUDA kernel of the gradient by positions: a warp per atom, without atomics.
// Letters: i atom, j source of an edge to it, e edge.
#pragma once

#include <cstdint>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "radius_graph/radius_graph.h"

namespace tito_fast {

constexpr int kGradientWarps = 8;

// The edges that leave atom i are found by those that reach it. Both rows are sorted, and a pair
// has as many edges one way as the other: the q-th from j to i has for a partner the q-th from i
// to j, which need not be its reverse, as all of them count.
template <typename T>
struct EdgeGradients {
  static constexpr const char* kName = "radius_graph_bwd";
  static constexpr int kThreads = kGradientWarps * kLanesOfWarp;
  using Shared = NoShared;

  GeometryGradient<T> edges;
  std::int64_t n_atoms;
  std::int64_t capacity;
  T* grad_positions;

  std::string sizes() const {
    return "n_atoms = " + std::to_string(n_atoms) + ", capacity = " + std::to_string(capacity);
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    const std::int64_t i = block.index() * kGradientWarps + block.warp();
    if (i >= n_atoms) return;
    const std::int64_t begin = row_start(i), end = row_start(i + 1);
    double x = 0.0, y = 0.0, z = 0.0;
    for (std::int64_t e = begin + block.lane(); e < end; e += kLanesOfWarp) {
      add(e, -1.0, x, y, z);
      const std::int64_t j = edges.source[e];
      if (j < 0 || j >= n_atoms) continue;
      const std::int64_t q = e - first_from(j, begin, e);
      const std::int64_t row_end = row_start(j + 1);
      const std::int64_t partner = first_from(i, row_start(j), row_end) + q;
      if (partner < row_end && edges.source[partner] == i) add(partner, 1.0, x, y, z);
    }
    for (int mask = kLanesOfWarp / 2; mask > 0; mask /= 2) {
      x += block.shuffle_xor(x, mask);
      y += block.shuffle_xor(y, mask);
      z += block.shuffle_xor(z, mask);
    }
    if (block.lane() == 0) {
      grad_positions[3 * i] = static_cast<T>(x);
      grad_positions[3 * i + 1] = static_cast<T>(y);
      grad_positions[3 * i + 2] = static_cast<T>(z);
    }
  }

 private:
  TITO_HOST_DEVICE std::int64_t row_start(std::int64_t i) const {
    const std::int64_t start = edges.edge_ptr[i];
    return start < 0 ? 0 : (start < capacity ? start : capacity);
  }

  // The first edge of low ... high - 1 whose source is at least j, or high.
  TITO_HOST_DEVICE std::int64_t first_from(std::int64_t j, std::int64_t low,
                                           std::int64_t high) const {
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (edges.source[middle] < j) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  TITO_HOST_DEVICE void add(std::int64_t e, double sign, double& x, double& y, double& z) const {
    const double dist = static_cast<double>(edges.dist[e]);
    // The direction at distance 0 counts as 0.
    const double radial = dist > 0.0 ? static_cast<double>(edges.grad_dist[e]) / dist : 0.0;
    x += sign * (static_cast<double>(edges.grad_vec[3 * e]) +
                 radial * static_cast<double>(edges.vec[3 * e]));
    y += sign * (static_cast<double>(edges.grad_vec[3 * e + 1]) +
                 radial * static_cast<double>(edges.vec[3 * e + 1]));
    z += sign * (static_cast<double>(edges.grad_vec[3 * e + 2]) +
                 radial * static_cast<double>(edges.vec[3 * e + 2]));
  }
};

}  // namespace tito_fast
