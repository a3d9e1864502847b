// Exact linear assignment of a dense square cost matrix.
#pragma once

#include <cstdint>
#include <vector>

namespace tito_fast {

// Prices and path lengths are sums of up to n costs, which must not overflow.
constexpr double kMaxCost = 1e304;

// Solves min over permutations of sum_i cost[i][column_of_row[i]] by shortest augmenting paths with
// the initialisation of Jonker and Volgenant (Computing 38, 325, 1987). Keeps its buffers between
// calls; one solver per thread.
class AssignmentSolver {
 public:
  // cost: (n, n), row-major, up to kMaxCost. The result holds n entries and stays valid until the
  // next call.
  const std::vector<int>& solve(const double* cost, int n);

 private:
  void reduce_columns(const double* cost, int n);
  void transfer_reductions(const double* cost, int n);
  void reduce_augmenting_rows(const double* cost, int n);
  void augment(const double* cost, int n, int free_row);

  std::vector<double> column_price_;
  std::vector<double> path_length_;
  std::vector<int> column_of_row_;
  std::vector<int> row_of_column_;
  std::vector<int> n_minima_of_row_;
  std::vector<int> row_of_minimum_;
  std::vector<int> previous_row_;
  std::vector<int> free_rows_;
  std::vector<int> columns_;
};

}  // namespace tito_fast
