// What the host's blocks find: argument 1 is the kernel, argument 2 the seed.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/cuda_launch.h"

namespace tito_fast {
namespace {

struct Kernel {
  static constexpr const char* kName = "some kernel";
  static constexpr int kThreads = 64;
  struct Shared {
    int values[kThreads];
  };
  const char* what;
  int* result;

  std::string sizes() const { return ""; }
  bool is(const char* name) const { return std::strcmp(what, name) == 0; }

  template <typename Block>
  void operator()(const Block& block, Shared& shared) const {
    const int thread = block.thread();
    shared.values[thread] = thread + 1;
    if (is("barrier")) block.sync();
    if (is("warp barrier")) block.sync_warp();
    if (is("diverged")) {
      if (thread % 2 == 0) {
        block.ballot(true);
      } else {
        block.sync_warp();
      }
    }
    if (is("ended") && thread < 32) return;
    if (is("ended")) block.sync();
    const int neighbor = is("warp barrier") ? thread ^ 1 : (thread + 1) % kThreads;
    result[thread] = shared.values[neighbor];
    if (is("lanes")) {
      const unsigned odd = block.ballot(thread % 2 == 1);
      const int other = block.shuffle_xor(thread, 3);
      const int below = block.shuffle_up(thread, 2);
      const int first = block.shuffle(thread, 0);
      const bool is_right = odd == 0xAAAAAAAAU && other == (thread ^ 3) &&
                            below == (block.lane() < 2 ? thread : thread - 2) &&
                            first == thread - block.lane();
      result[thread] = is_right ? 1 : 0;
    }
  }
};

}  // namespace
}  // namespace tito_fast

int main(int, char** arguments) {
  using namespace tito_fast;
  int result[Kernel::kThreads] = {};
  host_device.seed = std::strtoull(arguments[2], nullptr, 10);
  try {
    launch(Kernel{arguments[1], result}, 1, Stream{0, 0});
  } catch (const std::logic_error& error) {
    std::puts(error.what());
    return 1;
  }
  for (const int value : result) std::printf("%d ", value);
  return 0;
}
