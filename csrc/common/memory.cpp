#include "common/memory.h"

#include <cstdlib>
#include <mutex>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace tito_fast {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kHugePage = std::int64_t{1} << 21;
#if defined(__SANITIZE_ADDRESS__)
// So that the sanitizer knows the true end of every block.
constexpr std::int64_t kMostKept = 0;
#else
constexpr std::int64_t kMostKept = std::int64_t{1} << 28;
#endif

// Lies in front of every block.
struct Header {
  std::int64_t n_bytes;
};

std::mutex kept_mutex;
Header* kept = nullptr;

void* content(Header* header) { return reinterpret_cast<char*>(header) + kAlignment; }

Header* allocate(std::int64_t n_bytes) {
  const bool is_large = n_bytes >= 2 * kHugePage;
  const std::int64_t alignment = is_large ? kHugePage : kAlignment;
  const std::int64_t total = (n_bytes + kAlignment + alignment - 1) / alignment * alignment;
  auto* const header = static_cast<Header*>(
      std::aligned_alloc(static_cast<std::size_t>(alignment), static_cast<std::size_t>(total)));
  if (header == nullptr) return nullptr;
#ifdef __linux__
  // A wish: the result does not matter.
  if (is_large) (void)madvise(header, static_cast<std::size_t>(total), MADV_HUGEPAGE);
#endif
  header->n_bytes = total - kAlignment;
  return header;
}

}  // namespace

void* borrow_memory(std::int64_t n_bytes) {
  {
    const std::lock_guard<std::mutex> lock(kept_mutex);
    if (kept != nullptr && kept->n_bytes >= n_bytes) {
      Header* const header = kept;
      kept = nullptr;
      return content(header);
    }
  }
  Header* const header = allocate(n_bytes);
  return header == nullptr ? nullptr : content(header);
}

void return_memory(void* block) {
  if (block == nullptr) return;
  auto* header = reinterpret_cast<Header*>(static_cast<char*>(block) - kAlignment);
  if (header->n_bytes <= kMostKept) {
    const std::lock_guard<std::mutex> lock(kept_mutex);
    if (kept == nullptr || kept->n_bytes < header->n_bytes) {
      Header* const smaller = kept;
      kept = header;
      header = smaller;
    }
  }
  std::free(header);
}

}  // namespace tito_fast
