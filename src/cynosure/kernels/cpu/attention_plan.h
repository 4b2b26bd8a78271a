// Cut an attention call into shares that threads can take. Knows nothing of scores or registers.
//
// The query heads of one K/V head and a run of tokens make rows: row r of a sequence is token r / group of query
// head kv_head * group + r % group. A share is up to max_rows rows against a run of keys. How many shares a
// sequence gives depends on its own lengths and mask alone, never on its neighbours in the batch, on the threads
// or on what is watched: a request gets the same bits in any company.
#pragma once

#include <vector>

#include "attention_api.h"

namespace cynosure {

// Rows of one K/V head whose result is merged from `num_parts` shares.
struct Gathering {
  int num_parts;
  int first_part;  // index into the parts' memory, in rows
  int num_left;    // shares that are not done; counted down atomically
};

struct Share {
  int seq, kv_head;
  int first_row, num_rows;
  std::int64_t first_key, stop_key;
  int gathering;  // index into AttentionPlan::gatherings, kWhole where the share is all there is
  int part;       // where this share's rows begin in the parts' memory
};
constexpr int kWhole = -1;

struct AttentionPlan {
  std::vector<Share> shares;
  std::vector<Gathering> gatherings;
  std::vector<int> columns;  // watched column of each head, kNotWatched where there is none
  int num_part_rows = 0;
  bool are_steps = false;  // whether every sequence has one token, so that shares are short and alike
};

// Rows that a share takes at most: a multiple of 16 whose outputs fit the second-level cache.
int max_rows_of(const AttentionCall& call);

void plan_attention(const AttentionCall& call, AttentionPlan& plan);

}  // namespace cynosure
