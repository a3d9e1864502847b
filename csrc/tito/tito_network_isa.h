// The networks of every instruction set.
#pragma once

#include "common/isa.h"
#include "tito/tito_network.h"

namespace tito_fast {

// How a batch is cut into groups for a number of threads; decides speed, never a result.
struct TitoGroups {
  const std::int64_t* molecule_ptr;  // (n_groups + 1)
  const std::int64_t* atom_ptr;
  const std::int64_t* edge_ptr;
  int n_groups;
  bool is_team;  // one group for all threads, else a group is one thread's
  std::int64_t most_molecules;
  std::int64_t most_atoms;
  std::int64_t most_edges;
};

// What a network of one instruction set does for TitoNetwork. Instantiated in tito_network_cpu.cpp
// alone: the objects of the instruction sets hold no copy of anything of it.
template <typename T>
class TitoKernels {
 public:
  TitoKernels();
  virtual ~TitoKernels();
  virtual int padded_features() const = 0;
  virtual int padded_width() const = 0;
  // Each returns false when there is no memory.
  virtual bool condition(const TitoBatch& batch, const T* positions, const TitoCondition<T>& result,
                         const TitoGroups& groups, int n_threads) const = 0;
  virtual bool velocity(const TitoBatch& batch, const TitoCondition<T>& condition,
                        const TitoEvaluation<T>& evaluation, const TitoGroups& groups,
                        int n_threads) const = 0;
  virtual bool rollout_step(const TitoBatch& batch, const TitoStep<T>& step,
                            const TitoGroups& groups, int n_threads) const = 0;
};

extern template class TitoKernels<float>;
extern template class TitoKernels<double>;

#define TITO_DECLARE(isa)                                                                   \
  namespace isa {                                                                           \
  template <typename T>                                                                     \
  TitoKernels<T>* make_tito_kernels(const TitoShape& shape, const TitoWeights<T>& weights); \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

}  // namespace tito_fast
