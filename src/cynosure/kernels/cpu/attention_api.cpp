// Take attention calls from Python and share them out. Knows nothing of vectors.

#include <atomic>
#include <vector>

#include "attention_job.h"
#include "attention_plain.h"
#include "pool.h"

namespace cynosure {
namespace {

// Shares whose work is not worth sharing: so many keys against sixteen rows.
constexpr std::int64_t kFewKeys = 64;

bool is_small(const AttentionPlan& plan) {
  std::int64_t num_keys = 0;
  for (const Share& share : plan.shares) {
    num_keys += (share.num_rows + 15) / 16 * (share.stop_key - share.first_key);
    if (num_keys > kFewKeys) return false;
  }
  return true;
}

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> number{0};
  return number.fetch_add(1, std::memory_order_relaxed) + 1;
}

void run_share(void* context, int index, int) {
  CYN_SELECT(attention_table).run_share(*static_cast<const AttentionJob*>(context), index);
}

}  // namespace

}  // namespace cynosure

// Attend; everything is documented in attention_api.h.
CYN_API void cyn_attend(const cynosure::AttentionCall* call) {
  thread_local cynosure::AttentionPlan plan;
  thread_local std::vector<float> parts;  // grows and stays: a step allocates nothing
  cynosure::plan_attention(*call, plan);
  const auto num_floats = static_cast<std::size_t>(plan.num_part_rows * cynosure::part_floats(*call));
  if (parts.size() < num_floats) parts.resize(num_floats);
  cynosure::AttentionJob job{cynosure::next_number(), *call, plan, parts.data(), plan.are_steps};
  const auto num_shares = static_cast<int>(plan.shares.size());
  if (!cynosure::is_small(plan)) {
    const auto run = plan.are_steps ? cynosure::run_in_ranges : cynosure::run_tasks;
    run(num_shares, cynosure::run_share, &job);
    return;
  }
  for (int index = 0; index < num_shares; ++index) cynosure::run_share(&job, index, 0);
}

// The same by the scalar twin, one score after the other in float64.
CYN_API void cyn_attend_plain(const cynosure::AttentionCall* call) { cynosure::attend_plain(*call); }

// Tell of each sequence whether its positions count up by one, and return how far the farthest two are apart.
CYN_API std::int64_t cyn_survey_positions(const std::int64_t* positions, const std::int64_t* cu_seqlens,
                                          std::int64_t num_seqs, std::uint8_t* is_consecutive) {
  std::int64_t widest = 0;
  for (std::int64_t seq = 0; seq < num_seqs; ++seq) {
    const std::int64_t first = cu_seqlens[seq], stop = cu_seqlens[seq + 1];
    std::int64_t low = first < stop ? positions[first] : 0, high = low;
    bool is_so = true;
    for (std::int64_t i = first; i < stop; ++i) {
      low = positions[i] < low ? positions[i] : low;
      high = positions[i] > high ? positions[i] : high;
      is_so &= positions[i] == positions[first] + (i - first);
    }
    is_consecutive[seq] = is_so;
    widest = high - low > widest ? high - low : widest;
  }
  return widest;
}

CYN_API std::int64_t cyn_sizeof_attention_call() { return sizeof(cynosure::AttentionCall); }
