// Memory that a call needs and the next one reuses, so that a step allocates nothing. Knows nothing of its use.
#pragma once

#include <cstddef>

namespace cynosure {

// At least `bytes` of the calling thread's scratch, 64-byte aligned; valid until the thread asks again.
char* workspace(std::size_t bytes);

}  // namespace cynosure
