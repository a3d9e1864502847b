// Exact assignment of one molecule by one warp: the steps of assignment.cpp, which says what they
// are for, in the same order and with the same choice among equals, so that the result is the same.
//
// Lane l has the columns j = l + 32 c with their prices and path lengths; rows are done one after
// the other, each by all lanes. Costs are computed again where they are needed.
// Letters: i row (atom of the target), j column (atom of the source), c column of a lane.
#pragma once

#include <limits>

#include "common/host_device.h"
#include "common/launch.h"
#include "ot_couple/assignment.h"

namespace tito_fast {

// What is known of a molecule with up to 32 kColumns atoms.
template <int kColumns>
struct AssignmentShared {
  static constexpr int kAtoms = kLanesOfWarp * kColumns;

  double source[3 * kAtoms];
  double target[3 * kAtoms];
  int column_of_row[kAtoms];
  int row_of_column[kAtoms];
  int free_rows[kAtoms];
  int scratch[kAtoms];  // number of columns whose minimum a row is; then row before a column
};

// Between two steps all lanes have seen what was written to shared memory.
template <int kColumns, typename Block>
class WarpAssignment {
 public:
  // n: atoms, at least one. source and target are there, all else is written.
  TITO_HOST_DEVICE WarpAssignment(const Block& block, AssignmentShared<kColumns>& shared, int n)
      : block_(block), shared_(shared), n_(n) {
    for (int c = 0; c < kColumns; ++c) {
      // Columns that there are not are copies of the last one, and never chosen.
      const double* const atom = shared.source + 3 * (has(c) ? column(c) : n - 1);
      x_[c] = atom[0];
      y_[c] = atom[1];
      z_[c] = atom[2];
      price_[c] = kInfinity;
    }
  }

  // Puts the source's atoms in the order in which they are closest to the target's; false, and
  // nothing done, if a squared distance is above kMaxCost or not a number.
  TITO_HOST_DEVICE bool permute() {
    if (!reduce_columns()) return false;
    if (n_ > 1) transfer_reductions();
    if (n_ > 1) {
      reduce_augmenting_rows();
      reduce_augmenting_rows();
    }
    for (int f = 0; f < n_free_; ++f) augment(shared_.free_rows[f]);
    apply();
    return true;
  }

 private:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static constexpr int kAtoms = AssignmentShared<kColumns>::kAtoms;
  static constexpr int kNone = kAtoms * kAtoms;

  TITO_HOST_DEVICE int column(int c) const { return block_.lane() + kLanesOfWarp * c; }
  TITO_HOST_DEVICE bool has(int c) const { return column(c) < n_; }

  // Values of row i for the columns of this lane: costs, or costs less prices.
  TITO_HOST_DEVICE void costs(int i, double (&result)[kColumns]) const {
    const double x = shared_.target[3 * i];
    const double y = shared_.target[3 * i + 1];
    const double z = shared_.target[3 * i + 2];
    for (int c = 0; c < kColumns; ++c) {
      const double dx = x - x_[c];
      const double dy = y - y_[c];
      const double dz = z - z_[c];
      result[c] = dx * dx + dy * dy + dz * dz;
    }
  }
  TITO_HOST_DEVICE void reduced_costs(int i, double (&result)[kColumns]) const {
    costs(i, result);
    for (int c = 0; c < kColumns; ++c) result[c] -= price_[c];
  }

  // What the lane of column j has for it.
  template <typename T>
  TITO_HOST_DEVICE T of_column(const T (&values)[kColumns], int j) const {
    T own = values[0];
    for (int c = 1; c < kColumns; ++c) {
      if (j / kLanesOfWarp == c) own = values[c];
    }
    return block_.shuffle(own, j % kLanesOfWarp);
  }
  TITO_HOST_DEVICE void set_price(int j, double price) {
    for (int c = 0; c < kColumns; ++c) {
      if (column(c) == j) price_[c] = price;
    }
  }

  // The same for all lanes.
  TITO_HOST_DEVICE double smallest(double value) const {
    for (int mask = kLanesOfWarp / 2; mask > 0; mask /= 2) {
      const double other = block_.shuffle_xor(value, mask);
      if (other < value) value = other;
    }
    return value;
  }

  TITO_HOST_DEVICE bool reduce_columns() {
    double cost[kColumns];
    int row[kColumns];
    for (int c = 0; c < kColumns; ++c) row[c] = 0;
    bool is_good = true;
    for (int i = 0; i < n_; ++i) {
      costs(i, cost);
      for (int c = 0; c < kColumns; ++c) {
        is_good = is_good && cost[c] <= kMaxCost;
        if (cost[c] < price_[c]) {
          price_[c] = cost[c];
          row[c] = i;
        }
      }
    }
    if (block_.ballot(!is_good) != 0) return false;

    for (int c = 0; c < kColumns; ++c) {
      shared_.column_of_row[column(c)] = -1;
      shared_.scratch[column(c)] = 0;
    }
    block_.sync_warp();
    for (int c = 0; c < kColumns; ++c) {
      if (!has(c)) continue;
      block_.atomic_max(&shared_.column_of_row[row[c]], column(c));
      block_.atomic_add(&shared_.scratch[row[c]], 1);
    }
    block_.sync_warp();
    for (int c = 0; c < kColumns; ++c) {
      if (!has(c)) continue;
      const bool is_taken = shared_.column_of_row[row[c]] == column(c);
      shared_.row_of_column[column(c)] = is_taken ? row[c] : -1;
    }
    block_.sync_warp();
    return true;
  }

  TITO_HOST_DEVICE void transfer_reductions() {
    double value[kColumns];
    for (int i = 0; i < n_; ++i) {
      const int n_minima = shared_.scratch[i];
      if (n_minima == 0) {
        if (block_.lane() == 0) shared_.free_rows[n_free_] = i;
        ++n_free_;
      }
      if (n_minima != 1) continue;
      const int own = shared_.column_of_row[i];
      reduced_costs(i, value);
      double least = kInfinity;
      for (int c = 0; c < kColumns; ++c) {
        if (has(c) && column(c) != own && value[c] < least) least = value[c];
      }
      least = smallest(least);
      for (int c = 0; c < kColumns; ++c) {
        if (column(c) == own) price_[c] -= least;
      }
    }
    block_.sync_warp();
  }

  // The lowest column other than `but` with this value; one has it.
  TITO_HOST_DEVICE int lowest_column(const double (&values)[kColumns], double value,
                                     int but) const {
    int result = kNone;
    for (int c = 0; c < kColumns; ++c) {
      if (result != kNone) continue;
      const unsigned lanes = block_.ballot(has(c) && column(c) != but && values[c] == value);
      if (lanes != 0) result = lowest_set_bit(lanes) + kLanesOfWarp * c;
    }
    return result;
  }

  struct Bids {
    int best;
    int second;
    double best_value;
    double second_value;
  };

  // The two best columns for row i, in order of value, then of number.
  TITO_HOST_DEVICE Bids best_two(int i) const {
    double value[kColumns];
    reduced_costs(i, value);
    double best = kInfinity;
    double second = kInfinity;
    for (int c = 0; c < kColumns; ++c) {
      if (!has(c)) continue;
      const bool is_best = value[c] < best;
      const double other = is_best ? best : value[c];
      if (is_best) best = value[c];
      if (other < second) second = other;
    }
    for (int mask = kLanesOfWarp / 2; mask > 0; mask /= 2) {
      const double other_best = block_.shuffle_xor(best, mask);
      const double other_second = block_.shuffle_xor(second, mask);
      const bool is_best = other_best < best;
      const double loser = is_best ? best : other_best;
      if (is_best) best = other_best;
      if (other_second < second) second = other_second;
      if (loser < second) second = loser;
    }
    const int best_column = lowest_column(value, best, kNone);
    return {best_column, lowest_column(value, second, best_column), best, second};
  }

  TITO_HOST_DEVICE void reduce_augmenting_rows() {
    const int n_free = n_free_;
    int current = 0;
    int n_left = 0;
    int n_bids = 0;
    const int max_bids = n_ * (n_free + 1);
    while (current < n_free) {
      const int i = shared_.free_rows[current++];
      const Bids bids = best_two(i);
      const double price = of_column(price_, bids.best);
      const double new_price = price - (bids.second_value - bids.best_value);
      const bool lowers = new_price < price;
      int j = bids.best;
      int evicted = shared_.row_of_column[j];
      if (lowers) {
        set_price(j, new_price);
      } else if (evicted >= 0) {
        j = bids.second;
        evicted = shared_.row_of_column[j];
      }
      const bool bids_at_once = evicted >= 0 && lowers && ++n_bids < max_bids;
      const int place = bids_at_once ? --current : n_left;
      if (evicted >= 0 && !bids_at_once) ++n_left;
      block_.sync_warp();  // All lanes have read.
      if (block_.lane() == 0) {
        shared_.column_of_row[i] = j;
        shared_.row_of_column[j] = i;
        if (evicted >= 0) {
          shared_.column_of_row[evicted] = -1;
          shared_.free_rows[place] = evicted;
        }
      }
      block_.sync_warp();
    }
    n_free_ = n_left;
  }

  struct Nearest {
    int column;
    int slot;
    double length;
  };

  // The nearest open column; of equals that in the lowest slot.
  TITO_HOST_DEVICE Nearest nearest_column(const double (&path_length)[kColumns],
                                          const int (&slot)[kColumns], int n_done) const {
    double length = kInfinity;
    for (int c = 0; c < kColumns; ++c) {
      if (has(c) && slot[c] >= n_done && path_length[c] < length) length = path_length[c];
    }
    length = smallest(length);
    int n_equal = 0;
    int j = 0;
    int lowest = kNone;  // slot of this lane's, and its column
    for (int c = 0; c < kColumns; ++c) {
      const bool is_equal = has(c) && slot[c] >= n_done && path_length[c] == length;
      if (is_equal && slot[c] * kAtoms + column(c) < lowest) {
        lowest = slot[c] * kAtoms + column(c);
      }
      const unsigned lanes = block_.ballot(is_equal);
      if (lanes != 0) j = lowest_set_bit(lanes) + kLanesOfWarp * c;
      n_equal += n_set_bits(lanes);
    }
    if (n_equal == 1) return {j, of_column(slot, j), length};
    for (int mask = kLanesOfWarp / 2; mask > 0; mask /= 2) {
      const int other = block_.shuffle_xor(lowest, mask);
      if (other < lowest) lowest = other;
    }
    return {lowest % kAtoms, lowest / kAtoms, length};
  }

  TITO_HOST_DEVICE void augment(int free_row) {
    double path_length[kColumns];
    double value[kColumns];
    int slot[kColumns];
    reduced_costs(free_row, path_length);
    for (int c = 0; c < kColumns; ++c) {
      slot[c] = column(c);
      shared_.scratch[column(c)] = free_row;
    }
    int n_done = 0;
    Nearest nearest = nearest_column(path_length, slot, n_done);
    int i = shared_.row_of_column[nearest.column];
    while (i >= 0) {
      // The settled column changes places with the first open one.
      for (int c = 0; c < kColumns; ++c) {
        if (column(c) == nearest.column) {
          slot[c] = n_done;
        } else if (slot[c] == n_done) {
          slot[c] = nearest.slot;
        }
      }
      ++n_done;
      reduced_costs(i, value);
      const double offset = of_column(value, nearest.column) - nearest.length;
      for (int c = 0; c < kColumns; ++c) {
        const double candidate = value[c] - offset;
        if (slot[c] >= n_done && candidate < path_length[c]) {
          path_length[c] = candidate;
          shared_.scratch[column(c)] = i;
        }
      }
      nearest = nearest_column(path_length, slot, n_done);
      i = shared_.row_of_column[nearest.column];
    }
    for (int c = 0; c < kColumns; ++c) {
      if (slot[c] < n_done) price_[c] += path_length[c] - nearest.length;
    }
    block_.sync_warp();
    if (block_.lane() == 0) {
      int j = nearest.column;
      do {
        i = shared_.scratch[j];
        shared_.row_of_column[j] = i;
        const int next = shared_.column_of_row[i];
        shared_.column_of_row[i] = j;
        j = next;
      } while (i != free_row);
    }
    block_.sync_warp();
  }

  TITO_HOST_DEVICE void apply() {
    for (int c = 0; c < kColumns; ++c) {
      if (!has(c)) continue;
      const double* const atom = shared_.source + 3 * shared_.column_of_row[column(c)];
      x_[c] = atom[0];
      y_[c] = atom[1];
      z_[c] = atom[2];
    }
    block_.sync_warp();
    for (int c = 0; c < kColumns; ++c) {
      if (!has(c)) continue;
      double* const atom = shared_.source + 3 * column(c);
      atom[0] = x_[c];
      atom[1] = y_[c];
      atom[2] = z_[c];
    }
    block_.sync_warp();
  }

  const Block& block_;
  AssignmentShared<kColumns>& shared_;
  int n_;
  int n_free_ = 0;
  double x_[kColumns];
  double y_[kColumns];
  double z_[kColumns];
  double price_[kColumns];
};

}  // namespace tito_fast
