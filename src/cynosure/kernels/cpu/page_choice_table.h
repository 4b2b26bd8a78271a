// What a variant offers for choosing pages. Knows nothing of threads.
#pragma once

#include "isa.h"
#include "page_choice_api.h"

namespace cynosure {

// The candidates of one sequence: page first + i of its row of the table has the bounds of query head h at
// bounds[h * count + i].
struct Candidates {
  const AttentionCall& call;
  const PageChoice& choice;
  std::int64_t seq;
  std::int64_t first, count;
  float* bounds;
};

struct PageChoiceTable {
  // Bounds of all query heads of a K/V head over candidates first <= i < stop.
  void (*bound)(const Candidates& candidates, std::int64_t kv_head, std::int64_t first, std::int64_t stop);
  // Rank all candidates of a K/V head: the best over its query heads of how far each is below the head's largest.
  void (*rank)(const Candidates& candidates, std::int64_t kv_head, float* ranks);
  void (*learn)(const BoundsCall& call, std::int64_t index);
};

}  // namespace cynosure

CYN_DECLARE_TABLE(PageChoiceTable, page_choice_table)
