#include <new>

#include "common/isa.h"
#include "painn_update/painn_update.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                                       \
  namespace isa {                                                                               \
  template <typename T>                                                                         \
  bool painn_update_fwd(const PainnUpdate<const T>& update, const PainnUpdateArrays<T>& arrays, \
                        int n_threads);                                                         \
  template <typename T>                                                                         \
  bool painn_update_bwd(const PainnUpdate<const T>& update,                                     \
                        const PainnUpdateGradientArrays<T>& arrays,                             \
                        const PainnUpdate<T>* gradient, int n_threads);                         \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

namespace {

template <typename T>
bool forward(const PainnUpdate<const T>& update, const PainnUpdateArrays<T>& arrays,
             int n_threads) {
  TITO_DISPATCH(painn_update_fwd<T>(update, arrays, n_threads));
}

template <typename T>
bool backward(const PainnUpdate<const T>& update, const PainnUpdateGradientArrays<T>& arrays,
              const PainnUpdate<T>* gradient, int n_threads) {
  TITO_DISPATCH(painn_update_bwd<T>(update, arrays, gradient, n_threads));
}

}  // namespace

template <typename T>
void painn_update_fwd_cpu(const PainnUpdate<const T>& update, const PainnUpdateArrays<T>& arrays,
                          int n_threads) {
  if (!forward(update, arrays, n_threads)) throw std::bad_alloc();
}

template <typename T>
void painn_update_bwd_cpu(const PainnUpdate<const T>& update,
                          const PainnUpdateGradientArrays<T>& arrays,
                          const PainnUpdate<T>* gradient, int n_threads) {
  if (!backward(update, arrays, gradient, n_threads)) throw std::bad_alloc();
}

#define TITO_INSTANTIATE(T)                                                                       \
  template void painn_update_fwd_cpu<T>(const PainnUpdate<const T>&, const PainnUpdateArrays<T>&, \
                                        int);                                                     \
  template void painn_update_bwd_cpu<T>(const PainnUpdate<const T>&,                              \
                                        const PainnUpdateGradientArrays<T>&,                      \
                                        const PainnUpdate<T>*, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
