// Sort rows by the experts that they chose, and cut the products into tasks. Knows nothing of threads or memory.
#pragma once

#include <vector>

#include "experts_api.h"
#include "linear_plan.h"

namespace cynosure {

// The rows of one expert: pairs first <= p < first + num_rows of the plan, which lie from row `slot` on.
struct ExpertRows {
  std::int64_t expert, first, num_rows, slot;
  bool is_tiled, is_grouped;
};

// A row and which of its choices this is.
struct Pair {
  std::int64_t row, choice;
};

// Units of an expert for all its rows; or, where it is tiled, pairs of blocks for some of them.
struct ExpertTask {
  std::int64_t experts;  // which of the plan's
  std::int64_t first, last, first_row, last_row;
};

struct ExpertsPlan {
  std::vector<ExpertRows> experts;  // those that were chosen, in rising order
  std::vector<Pair> pairs;          // by expert, then by row
  std::vector<std::int64_t> slot_of;  // [row][choice]
  std::int64_t num_slots, max_rows;
};

// Sort; tiled experts get whole sixteens of slots, which tiles read whole.
void sort_by_expert(const CynRouting& routing, const std::int64_t* chosen, std::int64_t num_rows,
                    const LinearTable& table, const CynLinear& like, std::int64_t way, ExpertsPlan& plan);

// Cut the product of all experts with matrices like this one.
void cut_product(const ExpertsPlan& plan, const CynLinear& like, std::int64_t num_threads,
                 std::vector<ExpertTask>& tasks);

}  // namespace cynosure
