// What the threads of one attention call share. Knows nothing of vectors.
#pragma once

#include "attention_plan.h"
#include "isa.h"

namespace cynosure {

struct AttentionJob {
  // Of this call alone: so that a thread knows what it fetched for a share to come.
  std::uint64_t number;
  const AttentionCall& call;
  AttentionPlan& plan;
  float* parts;  // plan.num_part_rows x part_floats
  bool has_ranges;  // whether a thread goes through neighbouring shares in their order
};

constexpr long kPartNumbers = 3;  // maximum, sum, sum of weighted scores

inline long part_floats(const AttentionCall& call) {
  return call.v_head_dim + kPartNumbers + (call.mass == nullptr ? 0 : call.num_segments);
}

struct AttentionTable {
  void (*run_share)(const AttentionJob& job, int index);
};

}  // namespace cynosure

CYN_DECLARE_TABLE(AttentionTable, attention_table)
