// Blocks of memory for kernels, kept between calls: a fresh block costs a page fault for every 4
// KiB, which is more than the work of a small layer.
#pragma once

#include <cstdint>

namespace tito_fast {

// A block of at least n_bytes that starts on a cache line, or null. Its content is not set.
void* borrow_memory(std::int64_t n_bytes);

// Gives a block back. The largest one given back is kept for the next call, up to 256 MiB.
void return_memory(void* block);

}  // namespace tito_fast
