// What a variant offers for writing keys and values. Knows nothing of vectors.
#pragma once

#include "isa.h"
#include "kv_write_api.h"

namespace cynosure {

struct KvWriteTable {
  void (*write_token)(const KvWriteCall& call, std::int64_t token);
};

}  // namespace cynosure

CYN_DECLARE_TABLE(KvWriteTable, kv_write_table)
