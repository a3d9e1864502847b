#include <new>

#include "common/isa.h"
#include "mlp/mlp_op.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                           \
  namespace isa {                                                                   \
  template <typename T>                                                             \
  bool mlp_fwd(const Mlp<const T>& mlp, const MlpArrays<T>& arrays, int n_threads); \
  template <typename T>                                                             \
  bool mlp_bwd(const Mlp<const T>& mlp, const MlpGradientArrays<T>& arrays,         \
               const Mlp<T>* gradient, int n_threads);                              \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

namespace {

template <typename T>
bool forward(const Mlp<const T>& mlp, const MlpArrays<T>& arrays, int n_threads) {
  TITO_DISPATCH(mlp_fwd<T>(mlp, arrays, n_threads));
}

template <typename T>
bool backward(const Mlp<const T>& mlp, const MlpGradientArrays<T>& arrays, const Mlp<T>* gradient,
              int n_threads) {
  TITO_DISPATCH(mlp_bwd<T>(mlp, arrays, gradient, n_threads));
}

}  // namespace

template <typename T>
void mlp_fwd_cpu(const Mlp<const T>& mlp, const MlpArrays<T>& arrays, int n_threads) {
  if (!forward(mlp, arrays, n_threads)) throw std::bad_alloc();
}

template <typename T>
void mlp_bwd_cpu(const Mlp<const T>& mlp, const MlpGradientArrays<T>& arrays,
                 const Mlp<T>* gradient, int n_threads) {
  if (!backward(mlp, arrays, gradient, n_threads)) throw std::bad_alloc();
}

#define TITO_INSTANTIATE(T)                                                                     \
  template void mlp_fwd_cpu<T>(const Mlp<const T>&, const MlpArrays<T>&, int);                  \
  template void mlp_bwd_cpu<T>(const Mlp<const T>&, const MlpGradientArrays<T>&, const Mlp<T>*, \
                               int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
