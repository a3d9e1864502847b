// What the files <op>_bindings.cpp share. Arrays come as raw addresses, so this binary knows no
// torch: the callers in tito_fast check shapes, dtypes, devices and contiguity.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>

namespace tito_fast {

namespace py = pybind11;

using Address = std::uintptr_t;

template <typename T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace tito_fast
