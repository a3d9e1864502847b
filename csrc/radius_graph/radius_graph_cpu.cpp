// The search: counts per receiver, then edges. Every receiver's row is found by itself, so the
// result does not depend on the number of threads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <numeric>
#include <stdexcept>
#include <string>

#include "common/batch.h"
#include "common/isa.h"
#include "radius_graph/radius_graph.h"
#include "radius_graph/squared_limit.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                      \
  namespace isa {                                                              \
  template <typename T>                                                        \
  void count_rows(const Sites<T>& sites, std::int64_t begin, std::int64_t end, \
                  std::int64_t* counts);                                       \
  template <typename T>                                                        \
  void fill_rows(const Sites<T>& sites, std::int64_t begin, std::int64_t end,  \
                 const std::int64_t* edge_ptr, const EdgeArrays<T>& edges,     \
                 const RowBuffer<T>& buffer);                                  \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

namespace {

constexpr std::int64_t kReceiversPerTask = 64;
// Tests of a candidate that take as long as one of the operations that threads_for() counts;
// writing an edge takes about one (measured with AVX-512).
constexpr std::int64_t kTestsPerOperation = 8;

template <typename T>
void count_rows(const Sites<T>& sites, std::int64_t begin, std::int64_t end, std::int64_t* counts) {
  TITO_DISPATCH(count_rows<T>(sites, begin, end, counts));
}

template <typename T>
void fill_rows(const Sites<T>& sites, std::int64_t begin, std::int64_t end,
               const std::int64_t* edge_ptr, const EdgeArrays<T>& edges,
               const RowBuffer<T>& buffer) {
  TITO_DISPATCH(fill_rows<T>(sites, begin, end, edge_ptr, edges, buffer));
}

template <typename Number>
void sort_numbers(const Number* number, std::int64_t n, Number* order) {
  std::iota(order, order + n, Number(0));
  std::sort(order, order + n, [number](Number a, Number b) { return number[a] < number[b]; });
}

}  // namespace

void sort_row(const std::int32_t* number, std::int64_t n, std::int32_t* order) {
  sort_numbers(number, n, order);
}

void sort_row(const std::int64_t* number, std::int64_t n, std::int64_t* order) {
  sort_numbers(number, n, order);
}

template <typename T>
void RadiusSearch<T>::copy_components(const T* positions, std::int64_t n_atoms) {
  const std::int64_t padded = n_atoms + kSitePadding;
  components_.resize(static_cast<std::size_t>(3 * padded));
  T* const x = components_.data();
  T* const y = x + padded;
  T* const z = y + padded;
  T zero = T(0);  // NaN as soon as a coordinate is not finite
  for (std::int64_t i = 0; i < n_atoms; ++i) {
    x[i] = positions[3 * i];
    y[i] = positions[3 * i + 1];
    z[i] = positions[3 * i + 2];
    zero += (x[i] - x[i]) + (y[i] - y[i]) + (z[i] - z[i]);
  }
  if (zero == T(0)) return;
  for (std::int64_t e = 0; e < 3 * n_atoms; ++e) {
    if (!std::isfinite(positions[e])) {
      throw std::invalid_argument("positions: expected finite values, got " +
                                  std::to_string(positions[e]) + " in row " +
                                  std::to_string(e / 3));
    }
  }
}

template <typename T>
void RadiusSearch<T>::prepare(const T* positions, const std::int64_t* batch_ptr, Boxes<T> boxes,
                              std::int64_t n_molecules, T cutoff, int n_threads) {
  const std::int64_t n_atoms = batch_ptr[n_molecules], padded = n_atoms + kSitePadding;
  const T limit = squared_limit(cutoff);
  const auto view = [&](std::int64_t m) {
    const std::int64_t start = batch_ptr[m];
    MoleculeView<T> molecule{};
    molecule.positions = positions + 3 * start;
    for (int c = 0; c < 3; ++c) molecule.components[c] = components_.data() + c * padded + start;
    molecule.n_atoms = batch_ptr[m + 1] - start;
    molecule.first_atom = start;
    if (boxes.rows != nullptr) molecule.box = boxes.rows + (boxes.n_boxes == 1 ? 0 : 9 * m);
    return molecule;
  };
  sites_.resize(static_cast<std::size_t>(n_molecules));
  std::vector<std::int64_t> special;
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    const MoleculeView<T> molecule = view(m);
    sites_[m] = plain_sites(molecule, limit);
    if (needs_sites(molecule)) special.push_back(m);
  }
  if (!special.empty()) {
    owned_.resize(special.size());
    const std::int64_t n_special = static_cast<std::int64_t>(special.size());
    std::vector<std::exception_ptr> errors(special.size());
    [[maybe_unused]] const int threads = threads_for(256 * n_atoms, n_threads);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (std::int64_t s = 0; s < n_special; ++s) {
      try {
        sites_[special[s]] = build_sites(view(special[s]), cutoff, limit, owned_[s]);
      } catch (...) {
        errors[s] = std::current_exception();
      }
    }
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  }
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    const std::int64_t n = batch_ptr[m + 1] - batch_ptr[m];
    n_tests_ += n_tests(sites_[m], n);
    for (std::int64_t begin = 0; begin < n; begin += kReceiversPerTask) {
      tasks_.push_back({m, begin, std::min(n, begin + kReceiversPerTask)});
    }
  }
}

template <typename T>
RadiusSearch<T>::RadiusSearch(const T* positions, const std::int64_t* batch_ptr, Boxes<T> boxes,
                              std::int64_t n_atoms, std::int64_t n_molecules, double cutoff,
                              std::int64_t* edge_ptr, int n_threads)
    : edge_ptr_(edge_ptr) {
  check_batch_ptr(batch_ptr, n_molecules, n_atoms);
  copy_components(positions, n_atoms);
  prepare(positions, batch_ptr, boxes, n_molecules, static_cast<T>(cutoff), n_threads);
  const std::int64_t n_tasks = static_cast<std::int64_t>(tasks_.size());
  [[maybe_unused]] const int threads = threads_for(n_tests_ / kTestsPerOperation, n_threads);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (std::int64_t t = 0; t < n_tasks; ++t) {
    const Sites<T>& sites = sites_[tasks_[t].molecule];
    count_rows(sites, tasks_[t].begin, tasks_[t].end, edge_ptr + 1 + sites.first_atom);
  }
  edge_ptr[0] = 0;
  for (std::int64_t i = 0; i < n_atoms; ++i) edge_ptr[i + 1] += edge_ptr[i];
  n_edges_ = edge_ptr[n_atoms];
}

template <typename T>
void RadiusSearch<T>::fill(const EdgeArrays<T>& edges, int n_threads) const {
  const std::int64_t n_tasks = static_cast<std::int64_t>(tasks_.size());
  std::int64_t longest = 0;
  for (const Task& task : tasks_) {
    const std::int64_t* const rows = edge_ptr_ + sites_[task.molecule].first_atom;
    for (std::int64_t i = task.begin; i < task.end; ++i) {
      longest = std::max(longest, rows[i + 1] - rows[i]);
    }
  }
  const std::size_t capacity = static_cast<std::size_t>(longest + kRowPadding);
  [[maybe_unused]] const int threads =
      threads_for(n_tests_ / kTestsPerOperation + n_edges_, n_threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    std::vector<T> values(kRowValues * capacity);
    std::vector<SiteNumber<T>> numbers(kRowNumbers * capacity);
    const RowBuffer<T> buffer{values.data(), numbers.data(), static_cast<std::int64_t>(capacity)};
#pragma omp for schedule(dynamic)
    for (std::int64_t t = 0; t < n_tasks; ++t) {
      const Sites<T>& sites = sites_[tasks_[t].molecule];
      fill_rows(sites, tasks_[t].begin, tasks_[t].end, edge_ptr_ + sites.first_atom, edges, buffer);
    }
  }
}

template <typename T>
void radius_graph_bwd_cpu(const GeometryGradient<T>& edges, const std::int64_t* batch_ptr,
                          std::int64_t n_atoms, std::int64_t n_molecules, T* grad_positions,
                          int n_threads) {
  check_batch_ptr(batch_ptr, n_molecules, n_atoms);
  std::atomic<bool> is_inside{true};
  [[maybe_unused]] const int threads = threads_for(8 * edges.edge_ptr[n_atoms], n_threads);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    const std::int64_t start = batch_ptr[m], n = batch_ptr[m + 1] - start;
    std::vector<double> sum(static_cast<std::size_t>(3 * n), 0.0);
    for (std::int64_t i = 0; i < n; ++i) {
      double own[3] = {0.0, 0.0, 0.0};
      for (std::int64_t e = edges.edge_ptr[start + i]; e < edges.edge_ptr[start + i + 1]; ++e) {
        const std::int64_t j = edges.source[e] - start;
        if (j < 0 || j >= n) {
          is_inside = false;
          continue;
        }
        const double dist = static_cast<double>(edges.dist[e]);
        const double radial = dist > 0.0 ? static_cast<double>(edges.grad_dist[e]) / dist : 0.0;
        for (int c = 0; c < 3; ++c) {
          const double grad = static_cast<double>(edges.grad_vec[3 * e + c]) +
                              radial * static_cast<double>(edges.vec[3 * e + c]);
          sum[3 * j + c] += grad;
          own[c] += grad;
        }
      }
      for (int c = 0; c < 3; ++c) sum[3 * i + c] -= own[c];
    }
    for (std::int64_t e = 0; e < 3 * n; ++e) grad_positions[3 * start + e] = static_cast<T>(sum[e]);
  }
  if (!is_inside) {
    throw std::invalid_argument(
        "edge_index: expected sources in the molecule of their receiver, got one outside");
  }
}

template class RadiusSearch<float>;
template class RadiusSearch<double>;
template void radius_graph_bwd_cpu<float>(const GeometryGradient<float>&, const std::int64_t*,
                                          std::int64_t, std::int64_t, float*, int);
template void radius_graph_bwd_cpu<double>(const GeometryGradient<double>&, const std::int64_t*,
                                           std::int64_t, std::int64_t, double*, int);

}  // namespace tito_fast
