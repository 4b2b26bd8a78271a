#include "attention_plan.h"

#include <algorithm>
#include <limits>

namespace cynosure {
namespace {

constexpr int kMaxRows = 256;
constexpr int kMaxOutputBytes = 256 << 10;
constexpr int kWantedShares = 32;  // of a sequence: enough for all cores to have one, and to even out

struct Keys {
  std::int64_t first, stop;
};

// The keys that some of these queries may see; all of them where that cannot be told unread.
Keys visible_keys(const AttentionCall& call, int seq, std::int64_t first_token, std::int64_t stop_token) {
  const std::int64_t num_keys = call.cu_k[seq + 1] - call.cu_k[seq];
  Keys keys{0, num_keys};
  if (num_keys == 0 || call.is_consecutive == nullptr || !call.is_consecutive[seq]) return keys;
  const std::int64_t origin = position_of_key(call, seq, 0);
  std::int64_t low = std::numeric_limits<std::int64_t>::max(), high = std::numeric_limits<std::int64_t>::min();
  for (std::int64_t token = first_token; token < stop_token; ++token) {
    if (call.low != nullptr) low = std::min(low, call.low[call.cu_q[seq] + token]);
    if (call.high != nullptr) high = std::max(high, call.high[call.cu_q[seq] + token]);
  }
  if (call.low != nullptr) keys.first = std::clamp<std::int64_t>(low - origin, 0, num_keys);
  if (call.high != nullptr) keys.stop = std::clamp<std::int64_t>(high - origin + 1, keys.first, num_keys);
  keys.first = keys.first / kTileKeys * kTileKeys;
  return keys;
}

void share_rows(AttentionPlan& plan, Share share, Keys keys, int num_splits) {
  const std::int64_t num_tiles = (keys.stop - keys.first + kTileKeys - 1) / kTileKeys;
  num_splits = static_cast<int>(std::clamp<std::int64_t>(num_splits, 1, std::max<std::int64_t>(num_tiles, 1)));
  share.gathering = kWhole;
  if (num_splits > 1) {
    share.gathering = static_cast<int>(plan.gatherings.size());
    plan.gatherings.push_back({num_splits, plan.num_part_rows, num_splits});
  }
  for (int split = 0; split < num_splits; ++split) {
    share.first_key = keys.first + num_tiles * split / num_splits * kTileKeys;
    share.stop_key = std::min(keys.stop, keys.first + num_tiles * (split + 1) / num_splits * kTileKeys);
    share.part = plan.num_part_rows;
    if (num_splits > 1) plan.num_part_rows += share.num_rows;
    plan.shares.push_back(share);
  }
}

}  // namespace

int max_rows_of(const AttentionCall& call) {
  const std::int64_t padded = (call.v_head_dim + 15) / 16 * 16;
  const std::int64_t fitting = kMaxOutputBytes / (padded * static_cast<std::int64_t>(sizeof(float)));
  return static_cast<int>(std::clamp<std::int64_t>(fitting / 16 * 16, 16, kMaxRows));
}

void plan_attention(const AttentionCall& call, AttentionPlan& plan) {
  plan.shares.clear();
  plan.gatherings.clear();
  plan.num_part_rows = 0;
  plan.are_steps = call.cu_q[call.num_seqs] == call.num_seqs;
  plan.columns.assign(call.num_heads, kNotWatched);
  for (int w = 0; w < call.num_watched; ++w) plan.columns[call.watched_heads[w]] = w;

  const int group = static_cast<int>(call.num_heads / call.num_kv_heads), max_rows = max_rows_of(call);
  for (int seq = 0; seq < call.num_seqs; ++seq) {
    const int num_rows = static_cast<int>(call.cu_q[seq + 1] - call.cu_q[seq]) * group;
    const int num_blocks = (num_rows + max_rows - 1) / max_rows;
    const int num_tasks = num_blocks * static_cast<int>(call.num_kv_heads);
    const int num_splits = num_tasks == 0 ? 1 : (kWantedShares + num_tasks - 1) / num_tasks;
    // The last rows see the most keys under a causal mask: they go first, so that no thread is left with one.
    for (int block = num_blocks - 1; block >= 0; --block) {
      const int first = block * max_rows, stop = std::min(num_rows, first + max_rows);
      const Keys keys = visible_keys(call, seq, first / group, (stop - 1) / group + 1);
      for (int head = 0; head < call.num_kv_heads; ++head) {
        share_rows(plan, {seq, head, first, stop - first, 0, 0, kWhole, 0}, keys, num_splits);
      }
    }
  }
}

}  // namespace cynosure
