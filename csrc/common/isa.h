// Instruction sets that the CPU kernels are compiled for, and the one in use.
//
// Files named *_isa.cpp are compiled once per instruction set, each time with TITO_ISA defined as
// one of the names below; all that they and the headers they share define lies in namespace
// tito_fast::TITO_ISA. They use no function of the standard library that is a template or inline:
// the linker keeps one copy of such a function, and it might be the one with instructions that this
// machine lacks.
#pragma once

namespace tito_fast {

// In rising order: a machine that runs one runs those before it.
enum class Isa { kBaseline = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3 };

// The best that was built and that this machine runs, or what the environment variable
// TITO_FAST_ISA names (baseline, avx2, avx512, avx512bf16). Throws std::invalid_argument for a name
// that is unknown or cannot run here.
Isa active_isa();

// Best that was built and runs here.
Isa best_isa();

const char* isa_name(Isa isa);

}  // namespace tito_fast

#ifdef TITO_ISA_X86
#define TITO_FOR_EACH_ISA(X) X(baseline) X(avx2) X(avx512) X(avx512bf16)
#define TITO_DISPATCH(call)                 \
  switch (::tito_fast::active_isa()) {      \
    case ::tito_fast::Isa::kAvx512Bf16:     \
      return ::tito_fast::avx512bf16::call; \
    case ::tito_fast::Isa::kAvx512:         \
      return ::tito_fast::avx512::call;     \
    case ::tito_fast::Isa::kAvx2:           \
      return ::tito_fast::avx2::call;       \
    case ::tito_fast::Isa::kBaseline:       \
      break;                                \
  }                                         \
  return ::tito_fast::baseline::call
#else
#define TITO_FOR_EACH_ISA(X) X(baseline)
#define TITO_DISPATCH(call) return ::tito_fast::baseline::call
#endif
