// The kernels of every instruction set; false: no memory.
#pragma once

#include "common/isa.h"
#include "painn_message/message_plan.h"
#include "painn_message/painn_message.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                                      \
  namespace isa {                                                                              \
  template <typename T>                                                                        \
  bool painn_message_fwd(const MessageGraph& graph, const MessageShape& shape,                 \
                         const MessageInputs<T>& inputs, const MessageOutputs<T>& outputs,     \
                         const MessagePlan& plan, int n_threads);                              \
  template <typename T>                                                                        \
  bool painn_message_bwd(const MessageGraph& graph, const MessageShape& shape,                 \
                         const MessageInputs<T>& inputs, const MessageGradients<T>& gradients, \
                         const MessagePlan& plan, int n_threads);                              \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

}  // namespace tito_fast
