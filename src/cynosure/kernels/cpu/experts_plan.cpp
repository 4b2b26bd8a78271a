#include "experts_plan.h"

#include <algorithm>

namespace cynosure {

void sort_by_expert(const CynRouting& routing, const std::int64_t* chosen, std::int64_t num_rows,
                    const LinearTable& table, const CynLinear& like, std::int64_t way, ExpertsPlan& plan) {
  thread_local std::vector<std::int64_t> counts;
  const std::int64_t num_pairs = num_rows * routing.num_chosen;
  counts.assign(routing.num_experts, 0);
  for (std::int64_t i = 0; i < num_pairs; ++i) ++counts[chosen[i]];
  plan.experts.clear();
  plan.num_slots = plan.max_rows = 0;
  std::int64_t first = 0;
  for (std::int64_t expert = 0; expert < routing.num_experts; ++expert) {
    const std::int64_t count = counts[expert];
    counts[expert] = first;  // from here on: where its next row goes
    if (count == 0) continue;
    const std::int64_t chosen_way = way_of(table, like, way, count);
    const bool in_tiles = chosen_way == CYN_TILES;
    plan.experts.push_back({expert, first, count, plan.num_slots, in_tiles, chosen_way == CYN_GROUPS});
    plan.num_slots += in_tiles ? up_to(count, kBlockRows) : count;
    plan.max_rows = std::max(plan.max_rows, count);
    first += count;
  }
  plan.pairs.resize(num_pairs);
  plan.slot_of.resize(num_pairs);
  for (std::int64_t i = 0; i < num_pairs; ++i) {
    plan.pairs[counts[chosen[i]]++] = {i / routing.num_chosen, i % routing.num_chosen};
  }
  for (const ExpertRows& rows : plan.experts) {
    for (std::int64_t i = 0; i < rows.num_rows; ++i) {
      const Pair& pair = plan.pairs[rows.first + i];
      plan.slot_of[pair.row * routing.num_chosen + pair.choice] = rows.slot + i;
    }
  }
}

void cut_product(const ExpertsPlan& plan, const CynLinear& like, std::int64_t num_threads,
                 std::vector<ExpertTask>& tasks) {
  tasks.clear();
  const std::int64_t num_units = num_units_of(like), num_pairs = (like.num_blocks + 1) / 2;
  const std::int64_t all = num_units * static_cast<std::int64_t>(plan.experts.size());
  const std::int64_t wanted = std::max<std::int64_t>(1, all / (kTasksPerThread * num_threads));
  const std::int64_t panel = rows_of_panel(prepared_for(like, true));
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(plan.experts.size()); ++at) {
    const ExpertRows& rows = plan.experts[at];
    // Few rows wait for their weights: a task streams a run of them.
    if (!rows.is_tiled || rows.num_rows <= std::min(kMaxStreamedRows, panel)) {
      const std::int64_t num_parts = rows.is_tiled ? num_pairs : num_units;
      const std::int64_t pieces = std::min(num_parts, (num_units + wanted - 1) / wanted);
      for (std::int64_t i = 0; i < pieces; ++i) {
        tasks.push_back({at, num_parts * i / pieces, num_parts * (i + 1) / pieces, 0, rows.num_rows});
      }
      continue;
    }
    for (std::int64_t first = 0; first < rows.num_rows; first += panel) {
      const std::int64_t last = std::min(first + panel, rows.num_rows);
      for (std::int64_t pair = 0; pair < num_pairs; ++pair) tasks.push_back({at, pair, pair + 1, first, last});
    }
  }
}

}  // namespace cynosure
