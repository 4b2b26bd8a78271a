// Take calls that write keys and values from Python and share them out. Knows nothing of vectors.

#include "kv_write_table.h"
#include "pool.h"

namespace cynosure {
namespace {

// A microsecond each: a step of a few sequences is worth sharing.
constexpr std::int64_t kTokensInTask = 4;

void write_tokens(void* context, int index, int) {
  const auto& call = *static_cast<const KvWriteCall*>(context);
  const KvWriteTable& table = CYN_SELECT(kv_write_table);
  const std::int64_t first = index * kTokensInTask;
  for (std::int64_t token = first; token < call.num_tokens && token < first + kTokensInTask; ++token) {
    table.write_token(call, token);
  }
}

}  // namespace
}  // namespace cynosure

// Rotate and write; everything is documented in kv_write_api.h.
CYN_API void cyn_kv_write(cynosure::KvWriteCall* call) {
  const std::int64_t num_tasks = (call->num_tokens + cynosure::kTokensInTask - 1) / cynosure::kTokensInTask;
  cynosure::run_in_ranges(static_cast<int>(num_tasks), cynosure::write_tokens, call);
}

CYN_API std::int64_t cyn_sizeof_kv_write_call() { return sizeof(cynosure::KvWriteCall); }
