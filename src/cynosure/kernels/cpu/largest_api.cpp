// Find the largest number of each row. Knows nothing of vectors.
#include <algorithm>

#include "linear_plan.h"
#include "pool.h"
#include "rows_table.h"

namespace cynosure {
namespace {

constexpr std::int64_t kFewRows = 2;             // which products by dots have written, in ranges
constexpr std::int64_t kFewColumns = 1 << 12;    // that nobody is woken for
constexpr std::int64_t kMaxParts = kTasksPerThread * kMaxThreads;

struct Search {
  const float* x;
  std::int64_t num_columns, stride, num_parts;  // of a row
  std::int64_t* ids;                            // of each part of each row
  float* highest;
};

// Cut as a product's outputs are shared out: a thread searches what it wrote, while that lies in its own cache.
std::int64_t start_of(const Search& search, std::int64_t part) {
  const std::int64_t num_units = (search.num_columns + kBlockRows - 1) / kBlockRows;
  return std::min(part * num_units / search.num_parts * kBlockRows, search.num_columns);
}

void search_part(void* context, int index, int) {
  const Search& search = *static_cast<const Search*>(context);
  const std::int64_t row = index / search.num_parts, part = index % search.num_parts;
  const std::int64_t first = start_of(search, part), count = start_of(search, part + 1) - first;
  const float* x = search.x + row * search.stride + first;
  search.ids[index] = first + CYN_SELECT(rows_table).argmax(x, count, search.highest + index);
}

// Search one row by all threads.
void search_alone(Search search, std::int64_t row, std::int64_t* id, float* highest) {
  std::int64_t ids[kMaxParts];
  float tops[kMaxParts];
  search.x += row * search.stride;
  search.ids = ids;
  search.highest = tops;
  run_in_ranges(static_cast<int>(search.num_parts), search_part, &search);
  std::int64_t best = 0;
  for (std::int64_t part = 0; part < search.num_parts && tops[best] == tops[best]; ++part) {
    if (tops[part] > tops[best] || tops[part] != tops[part]) best = part;
  }
  *id = ids[best];
  *highest = tops[best];
}

}  // namespace
}  // namespace cynosure

// Write to `ids` where the largest number of each row stands, the first of equals, and the number to `highest`;
// that is NaN where a row holds one.
CYN_API void cyn_argmax(const float* x, std::int64_t num_rows, std::int64_t num_columns, std::int64_t stride,
                        std::int64_t* ids, float* highest) {
  using namespace cynosure;
  Search search{x, num_columns, stride, 1, ids, highest};
  if (num_rows > kFewRows || num_columns < kFewColumns) {
    run_tasks(static_cast<int>(num_rows), search_part, &search);
    return;
  }
  const std::int64_t num_units = (num_columns + kBlockRows - 1) / kBlockRows;
  search.num_parts = std::min<std::int64_t>(num_units, kTasksPerThread * num_threads());
  for (std::int64_t row = 0; row < num_rows; ++row) search_alone(search, row, ids + row, highest + row);
}
