// Rows of the radius graph, one receiver after another; kLanes candidates are tested at once.
// An edge is what has (dx*dx + dy*dy) + dz*dz < squared_limit, each operation rounded by itself, so
// that every instruction set finds the same edges; d = (source - receiver) + image, the image's
// shift (a*box[0] + b*box[1]) + c*box[2]. Hits are packed into the row buffer and written densely.
// Letters: i receiver, k place in search order, e edge of the row.
#include "common/compress.h"
#include "common/simd.h"
#include "radius_graph/rows.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// Rows up to this length are sorted by counting, for each edge, those of lower number.
constexpr std::int64_t kLongestRankedRow = 512;

// One block of candidates: those in mask are edges.
template <typename T>
struct Block {
  std::int64_t k;
  unsigned mask;
  Vec<T> vec[3];
  Vec<T> squared;
  Vec<T> shift[3];
};

template <typename T, bool kPeriodic>
struct Receiver {
  Vec<T> position[3];
  Vec<T> wrap[3];
  Vec<T> box[9];
  Vec<T> limit;
  std::int64_t self;

  TITO_INLINE Receiver(const Sites<T>& sites, std::int64_t i) {
    for (int c = 0; c < 3; ++c) position[c] = broadcast(sites.receiver[3 * i + c]);
    if constexpr (kPeriodic) {
      for (int c = 0; c < 3; ++c) wrap[c] = broadcast(sites.wrap[3 * i + c]);
      for (int c = 0; c < 9; ++c) box[c] = broadcast(sites.box[c]);
    }
    limit = broadcast(sites.squared_limit);
    self = sites.self == nullptr ? i : sites.self[i];
  }

  // Tests the candidates k .. min(k + kLanes, end).
  TITO_INLINE Block<T> test(const Sites<T>& sites, std::int64_t k, std::int64_t end) const {
    Block<T> block;
    block.k = k;
    for (int c = 0; c < 3; ++c) block.vec[c] = load(sites.position[c] + k) - position[c];
    if constexpr (kPeriodic) {
      for (int c = 0; c < 3; ++c) block.shift[c] = load(sites.image[c] + k) + wrap[c];
      for (int c = 0; c < 3; ++c) {
        const Vec<T> offset =
            (block.shift[0] * box[c] + block.shift[1] * box[3 + c]) + block.shift[2] * box[6 + c];
        block.vec[c] = block.vec[c] + offset;
      }
    }
    block.squared =
        (block.vec[0] * block.vec[0] + block.vec[1] * block.vec[1]) + block.vec[2] * block.vec[2];
    constexpr unsigned kAll = (1U << kLanes<T>)-1U;
    const unsigned inside = end - k < kLanes<T> ? (1U << (end - k)) - 1U : kAll;
    const std::uint64_t own_lane = static_cast<std::uint64_t>(self - k);
    const unsigned own = own_lane < kLanes<T> ? 1U << own_lane : 0U;
    block.mask = less_mask(block.squared, limit) & inside & ~own;
    return block;
  }
};

// Calls visit(block) for all blocks of candidates of receiver i.
template <typename T, bool kPeriodic, typename Visit>
TITO_INLINE void visit_blocks(const Sites<T>& sites, std::int64_t i, Visit visit) {
  const Receiver<T, kPeriodic> receiver(sites, i);
  if (sites.cell_start == nullptr) {
    for (std::int64_t k = 0; k < sites.n_sites; k += kLanes<T>) {
      visit(receiver.test(sites, k, sites.n_sites));
    }
    return;
  }
  std::int64_t low[3], high[3];
  for (int c = 0; c < 3; ++c) {
    const std::int32_t own = sites.cell[3 * i + c];
    low[c] = own < sites.reach[c] ? 0 : own - sites.reach[c];
    const std::int32_t last = sites.n_cells[c] - 1;
    high[c] = last - own < sites.reach[c] ? last : own + sites.reach[c];
  }
  for (std::int64_t z = low[2]; z <= high[2]; ++z) {
    for (std::int64_t y = low[1]; y <= high[1]; ++y) {
      const std::int64_t* const row =
          sites.cell_start + (z * sites.n_cells[1] + y) * sites.n_cells[0];
      const std::int64_t end = row[high[0] + 1];
      for (std::int64_t k = row[low[0]]; k < end; k += kLanes<T>) {
        visit(receiver.test(sites, k, end));
      }
    }
  }
}

template <typename T, bool kPeriodic>
void count(const Sites<T>& sites, std::int64_t begin, std::int64_t end, std::int64_t* counts) {
  for (std::int64_t i = begin; i < end; ++i) {
    std::int64_t n = 0;
    visit_blocks<T, kPeriodic>(sites, i,
                               [&n](const Block<T>& block) __attribute__((always_inline)) {
                                 n += __builtin_popcount(block.mask);
                               });
    counts[i] = n;
  }
}

// The packed row: components of the vector, its squared length, the shift, the site's number.
template <typename T>
struct Row {
  T* vec[3];
  T* squared;
  T* shift[3];
  SiteNumber<T>* number;

  TITO_INLINE Row(const RowBuffer<T>& buffer, int which) {
    T* next = buffer.values + which * (kRowValues / 2) * buffer.capacity;
    for (int c = 0; c < 3; ++c, next += buffer.capacity) vec[c] = next;
    squared = next;
    next += buffer.capacity;
    for (int c = 0; c < 3; ++c, next += buffer.capacity) shift[c] = next;
    number = buffer.numbers + which * buffer.capacity;
  }
};

template <typename T, bool kPeriodic>
TITO_INLINE std::int64_t pack(const Sites<T>& sites, std::int64_t i, const Row<T>& row) {
  using Number = SiteNumber<T>;
  Vec<Number> lanes;
  for (int k = 0; k < kLanes<T>; ++k) lanes[k] = k;
  std::int64_t n = 0;
  visit_blocks<T, kPeriodic>(sites, i, [&](const Block<T>& block) __attribute__((always_inline)) {
    for (int c = 0; c < 3; ++c) compress_store(row.vec[c] + n, block.mask, block.vec[c]);
    compress_store(row.squared + n, block.mask, block.squared);
    if constexpr (kPeriodic) {
      for (int c = 0; c < 3; ++c) compress_store(row.shift[c] + n, block.mask, block.shift[c]);
    }
    const Vec<Number> number = sites.number == nullptr ? lanes + static_cast<Number>(block.k)
                                                       : load(sites.number + block.k);
    compress_store(row.number + n, block.mask, number);
    n += __builtin_popcount(block.mask);
  });
  return n;
}

// Sorts a row by site number into `sorted`; `order` is room for n numbers. Numbers are distinct.
template <typename T, bool kPeriodic>
TITO_INLINE void sort(const Row<T>& row, std::int64_t n, const Row<T>& sorted) {
  using Number = SiteNumber<T>;
  const auto place = [&](std::int64_t to, std::int64_t from) __attribute__((always_inline)) {
    for (int c = 0; c < 3; ++c) sorted.vec[c][to] = row.vec[c][from];
    sorted.squared[to] = row.squared[from];
    if constexpr (kPeriodic) {
      for (int c = 0; c < 3; ++c) sorted.shift[c][to] = row.shift[c][from];
    }
  };
  if (n > kLongestRankedRow) {
    sort_row(row.number, n, sorted.number);
    for (std::int64_t e = 0; e < n; ++e) {
      const Number from = sorted.number[e];
      place(e, from);
      sorted.number[e] = row.number[from];
    }
    return;
  }
  for (std::int64_t start = 0; start < n; start += kLanes<T>) {
    const Vec<Number> block = load(row.number + start);
    Vec<Number> rank{};
    for (std::int64_t e = 0; e < n; ++e) {
      rank -= broadcast(row.number[e]) < block;  // true is -1
    }
    Number to[kLanes<T>];
    store(to, rank);
    const std::int64_t here = n - start < kLanes<T> ? n - start : kLanes<T>;
    for (std::int64_t e = 0; e < here; ++e) {
      place(to[e], start + e);
      sorted.number[to[e]] = row.number[start + e];
    }
  }
}

TITO_INLINE float root(float x) { return __builtin_sqrtf(x); }
TITO_INLINE double root(double x) { return __builtin_sqrt(x); }

// Writes the edges edge .. edge + n of receiver i.
template <typename T, bool kPeriodic>
TITO_INLINE void write(const Sites<T>& sites, std::int64_t i, const Row<T>& row, std::int64_t edge,
                       std::int64_t n, const EdgeArrays<T>& edges) {
  T* __restrict const dist = edges.dist + edge;
  for (std::int64_t e = 0; e < n; ++e) dist[e] = root(row.squared[e]);
  T* __restrict const vec = edges.vec + 3 * edge;
  for (std::int64_t e = 0; e < n; ++e) {
    vec[3 * e] = row.vec[0][e];
    vec[3 * e + 1] = row.vec[1][e];
    vec[3 * e + 2] = row.vec[2][e];
  }
  std::int64_t* __restrict const source = edges.source + edge;
  if (sites.source == nullptr) {
    for (std::int64_t e = 0; e < n; ++e) source[e] = sites.first_atom + row.number[e];
  } else {
    for (std::int64_t e = 0; e < n; ++e) {
      source[e] = sites.first_atom + sites.source[row.number[e]];
    }
  }
  std::int64_t* __restrict const receiver = edges.receiver + edge;
  for (std::int64_t e = 0; e < n; ++e) receiver[e] = sites.first_atom + i;
  if constexpr (kPeriodic) {
    std::int32_t* __restrict const shifts = edges.shifts + 3 * edge;
    for (std::int64_t e = 0; e < n; ++e) {
      for (int c = 0; c < 3; ++c) shifts[3 * e + c] = static_cast<std::int32_t>(row.shift[c][e]);
    }
  }
}

template <typename T, bool kPeriodic>
void fill(const Sites<T>& sites, std::int64_t begin, std::int64_t end, const std::int64_t* edge_ptr,
          const EdgeArrays<T>& edges, const RowBuffer<T>& buffer) {
  const Row<T> found(buffer, 0), sorted(buffer, 1);
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t n = pack<T, kPeriodic>(sites, i, found);
    const bool is_sorted = sites.number == nullptr;
    if (!is_sorted) sort<T, kPeriodic>(found, n, sorted);
    write<T, kPeriodic>(sites, i, is_sorted ? found : sorted, edge_ptr[i], n, edges);
  }
}

}  // namespace

// counts[i] = edges of receiver i, for the receivers begin .. end of the molecule.
template <typename T>
void count_rows(const Sites<T>& sites, std::int64_t begin, std::int64_t end, std::int64_t* counts) {
  if (sites.wrap == nullptr) {
    count<T, false>(sites, begin, end, counts);
  } else {
    count<T, true>(sites, begin, end, counts);
  }
}

// Writes the edges of the receivers begin .. end; edge_ptr[i] is the first of receiver i.
template <typename T>
void fill_rows(const Sites<T>& sites, std::int64_t begin, std::int64_t end,
               const std::int64_t* edge_ptr, const EdgeArrays<T>& edges,
               const RowBuffer<T>& buffer) {
  if (sites.wrap == nullptr) {
    fill<T, false>(sites, begin, end, edge_ptr, edges, buffer);
  } else {
    fill<T, true>(sites, begin, end, edge_ptr, edges, buffer);
  }
}

#define TITO_INSTANTIATE(T)                                                                    \
  template void count_rows<T>(const Sites<T>&, std::int64_t, std::int64_t, std::int64_t*);     \
  template void fill_rows<T>(const Sites<T>&, std::int64_t, std::int64_t, const std::int64_t*, \
                             const EdgeArrays<T>&, const RowBuffer<T>&);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace TITO_ISA
}  // namespace tito_fast
