#include "ot_couple/assignment.h"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace tito_fast {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

const std::vector<int>& AssignmentSolver::solve(const double* cost, int n) {
  const auto size = static_cast<std::size_t>(n);
  column_price_.assign(size, kInfinity);
  path_length_.resize(size);
  column_of_row_.assign(size, -1);
  row_of_column_.assign(size, -1);
  n_minima_of_row_.assign(size, 0);
  row_of_minimum_.assign(size, 0);
  previous_row_.resize(size);
  columns_.resize(size);
  free_rows_.clear();

  reduce_columns(cost, n);
  transfer_reductions(cost, n);
  // Two passes, as published: a third one rarely pays for itself.
  if (n > 1) {
    reduce_augmenting_rows(cost, n);
    reduce_augmenting_rows(cost, n);
  }
  for (const int row : free_rows_) augment(cost, n, row);
  return column_of_row_;
}

// Price of a column = its smallest cost; a row takes the last column of which it is the minimum.
void AssignmentSolver::reduce_columns(const double* cost, int n) {
  for (int i = 0; i < n; ++i) {
    const double* const row = cost + static_cast<std::size_t>(i) * n;
    for (int j = 0; j < n; ++j) {
      if (row[j] < column_price_[j]) {
        column_price_[j] = row[j];
        row_of_minimum_[j] = i;
      }
    }
  }
  for (int j = n - 1; j >= 0; --j) {
    const int i = row_of_minimum_[j];
    if (n_minima_of_row_[i]++ == 0) {
      column_of_row_[i] = j;
      row_of_column_[j] = i;
    }
  }
}

// A row with one column lowers that column's price until its second best column is as good.
void AssignmentSolver::transfer_reductions(const double* cost, int n) {
  for (int i = 0; i < n; ++i) {
    if (n_minima_of_row_[i] == 0) free_rows_.push_back(i);
    if (n_minima_of_row_[i] != 1) continue;
    const double* const row = cost + static_cast<std::size_t>(i) * n;
    const int own = column_of_row_[i];
    double smallest = kInfinity;
    for (int j = 0; j < n; ++j) {
      if (j != own) smallest = std::min(smallest, row[j] - column_price_[j]);
    }
    if (n > 1) column_price_[own] -= smallest;
  }
}

// Each free row bids for its best column, up to the value of its second best, and may turn another
// row out, which then bids at once. Rounding could make two rows outbid each other for ever, so the
// number of bids is bounded; rows left over go to the exact augmentation.
void AssignmentSolver::reduce_augmenting_rows(const double* cost, int n) {
  const int n_free = static_cast<int>(free_rows_.size());
  int current = 0;
  int n_left = 0;
  std::int64_t n_bids = 0;
  const std::int64_t max_bids = static_cast<std::int64_t>(n) * (n_free + 1);
  while (current < n_free) {
    const int i = free_rows_[current++];
    const double* const row = cost + static_cast<std::size_t>(i) * n;
    int best = 0;
    int second = -1;
    double best_value = row[0] - column_price_[0];
    double second_value = kInfinity;
    for (int j = 1; j < n; ++j) {
      const double value = row[j] - column_price_[j];
      if (value < second_value) {
        if (value < best_value) {
          second = best;
          second_value = best_value;
          best = j;
          best_value = value;
        } else {
          second = j;
          second_value = value;
        }
      }
    }
    const double new_price = column_price_[best] - (second_value - best_value);
    const bool lowers = new_price < column_price_[best];
    int evicted = row_of_column_[best];
    if (lowers) {
      column_price_[best] = new_price;
    } else if (evicted >= 0) {
      best = second;
      evicted = row_of_column_[best];
    }
    column_of_row_[i] = best;
    row_of_column_[best] = i;
    if (evicted >= 0) {
      column_of_row_[evicted] = -1;
      if (lowers && ++n_bids < max_bids) {
        free_rows_[--current] = evicted;
      } else {
        free_rows_[n_left++] = evicted;
      }
    }
  }
  free_rows_.resize(static_cast<std::size_t>(n_left));
}

// Dijkstra over the columns from a free row to the nearest free column, then the exchange along the
// path. columns_[0 .. n_done) are settled, the others are open.
void AssignmentSolver::augment(const double* cost, int n, int free_row) {
  const double* row = cost + static_cast<std::size_t>(free_row) * n;
  for (int j = 0; j < n; ++j) {
    path_length_[j] = row[j] - column_price_[j];
    previous_row_[j] = free_row;
    columns_[j] = j;
  }
  int n_done = 0;
  int end_column = -1;
  double length = 0.0;
  while (end_column < 0) {
    int nearest = n_done;
    for (int slot = n_done + 1; slot < n; ++slot) {
      if (path_length_[columns_[slot]] < path_length_[columns_[nearest]]) nearest = slot;
    }
    const int column = columns_[nearest];
    length = path_length_[column];
    if (row_of_column_[column] < 0) {
      end_column = column;
      break;
    }
    std::swap(columns_[n_done], columns_[nearest]);
    ++n_done;
    const int i = row_of_column_[column];
    row = cost + static_cast<std::size_t>(i) * n;
    const double offset = row[column] - column_price_[column] - length;
    for (int slot = n_done; slot < n; ++slot) {
      const int j = columns_[slot];
      const double candidate = row[j] - column_price_[j] - offset;
      if (candidate < path_length_[j]) {
        path_length_[j] = candidate;
        previous_row_[j] = i;
      }
    }
  }
  for (int slot = 0; slot < n_done; ++slot) {
    const int j = columns_[slot];
    column_price_[j] += path_length_[j] - length;
  }
  int column = end_column;
  int i = -1;
  while (i != free_row) {
    i = previous_row_[column];
    row_of_column_[column] = i;
    std::swap(column, column_of_row_[i]);
  }
}

}  // namespace tito_fast
