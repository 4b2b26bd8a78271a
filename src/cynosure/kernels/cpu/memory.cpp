#include <cstdint>
#include <cstdlib>
#include <cstring>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>

#include "isa.h"
#include "workspace.h"

namespace cynosure {
namespace {

[[maybe_unused]] constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t rounded(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

#ifdef CYN_SANITIZED

// From the heap and of the very size, so that a step past the end is seen.
char* allocated(std::size_t bytes) {
  const std::size_t size = rounded(bytes, 64);
  void* const memory = std::aligned_alloc(64, size);
  return memory == nullptr ? nullptr : static_cast<char*>(std::memset(memory, 0, size));
}

void release(void* memory, std::size_t) { std::free(memory); }

bool is_enough(std::size_t has, std::size_t bytes) { return has == bytes; }

std::size_t with_slack(std::size_t bytes) { return bytes; }

#else

// Zeroed memory on huge pages where the system has them; null where there is not enough.
char* allocated(std::size_t bytes) {
  const std::size_t size = rounded(bytes, kHugePage), slack = size + kHugePage;
  void* const start = mmap(nullptr, slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(start);
  const std::size_t skipped = rounded(reinterpret_cast<std::uintptr_t>(start), kHugePage) -
                              reinterpret_cast<std::uintptr_t>(start);
  if (skipped > 0) munmap(begin, skipped);
  if (skipped < kHugePage) munmap(begin + skipped + size, kHugePage - skipped);
#ifdef MADV_HUGEPAGE
  madvise(begin + skipped, size, MADV_HUGEPAGE);
#endif
  return begin + skipped;
}

void release(void* memory, std::size_t bytes) { munmap(memory, rounded(bytes, kHugePage)); }

bool is_enough(std::size_t has, std::size_t bytes) { return has >= bytes; }

// Half as much again, so that growing batches do not ask every time.
std::size_t with_slack(std::size_t bytes) { return bytes + bytes / 2; }

#endif

struct Scratch {
  char* bytes = nullptr;
  std::size_t size = 0;
  ~Scratch() {
    if (bytes != nullptr) release(bytes, size);
  }
};

}  // namespace

char* workspace(std::size_t bytes) {
  thread_local Scratch scratch;
  if (!is_enough(scratch.size, bytes)) {
    if (scratch.bytes != nullptr) release(scratch.bytes, scratch.size);
    scratch.size = with_slack(bytes);
    scratch.bytes = allocated(scratch.size);
    if (scratch.bytes == nullptr) std::abort();
  }
  return scratch.bytes;
}

}  // namespace cynosure

// Memory for weights: streaming through it misses no table of pages. Null where there is not enough.
CYN_API void* cyn_allocate(std::int64_t bytes) { return cynosure::allocated(static_cast<std::size_t>(bytes)); }

// Give the system what was freed and kept for later: weights that were packed are as large as what they became.
CYN_API void cyn_trim() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// Wish for huge pages where somebody else's memory lies; what can't be had stays as it is.
CYN_API void cyn_prefer_huge_pages(void* memory, std::int64_t bytes) {
#if defined(MADV_HUGEPAGE) && !defined(CYN_SANITIZED)
  const auto start = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = cynosure::rounded(start, cynosure::kHugePage);
  const std::uintptr_t stop = (start + static_cast<std::uintptr_t>(bytes)) / cynosure::kHugePage * cynosure::kHugePage;
  if (first < stop) madvise(reinterpret_cast<void*>(first), stop - first, MADV_HUGEPAGE);
#else
  static_cast<void>(memory);
  static_cast<void>(bytes);
#endif
}

CYN_API void cyn_free(void* memory, std::int64_t bytes) {
  cynosure::release(memory, static_cast<std::size_t>(bytes));
}
