// What a variant offers for whole rows. Knows nothing of threads.
#pragma once

#include "isa.h"
#include "program_api.h"

namespace cynosure {

struct RowsTable {
  void (*norm)(const CynNormCall& call, std::int64_t first_row, std::int64_t last_row);
  // Return where the largest of n > 0 numbers stands, the first of equals; `highest` is NaN where one is.
  std::int64_t (*argmax)(const float* x, std::int64_t n, float* highest);
};

}  // namespace cynosure

CYN_DECLARE_TABLE(RowsTable, rows_table)
