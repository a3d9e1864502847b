#include <new>

#include "common/batch.h"
#include "common/isa.h"
#include "time_embed/time_embed.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                                    \
  namespace isa {                                                                            \
  template <typename T>                                                                      \
  bool time_embed_fwd(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays, T* outputs, \
                      int n_threads);                                                        \
  template <typename T>                                                                      \
  bool time_embed_bwd(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays,             \
                      const TimeEmbedGradients<T>& gradients, int n_threads);                \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

namespace {

template <typename T>
bool forward(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays, T* outputs, int n_threads) {
  TITO_DISPATCH(time_embed_fwd<T>(mlp, arrays, outputs, n_threads));
}

template <typename T>
bool backward(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays,
              const TimeEmbedGradients<T>& gradients, int n_threads) {
  TITO_DISPATCH(time_embed_bwd<T>(mlp, arrays, gradients, n_threads));
}

}  // namespace

template <typename T>
void time_embed_fwd_cpu(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays, T* outputs,
                        int n_threads) {
  check_batch_ptr(arrays.batch_ptr, arrays.n_molecules, arrays.n_rows);
  if (!forward(mlp, arrays, outputs, n_threads)) throw std::bad_alloc();
}

template <typename T>
void time_embed_bwd_cpu(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays,
                        const TimeEmbedGradients<T>& gradients, int n_threads) {
  check_batch_ptr(arrays.batch_ptr, arrays.n_molecules, arrays.n_rows);
  if (!backward(mlp, arrays, gradients, n_threads)) throw std::bad_alloc();
}

#define TITO_INSTANTIATE(T)                                                                     \
  template void time_embed_fwd_cpu<T>(const Mlp<const T>&, const TimeEmbedArrays<T>&, T*, int); \
  template void time_embed_bwd_cpu<T>(const Mlp<const T>&, const TimeEmbedArrays<T>&,           \
                                      const TimeEmbedGradients<T>&, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
