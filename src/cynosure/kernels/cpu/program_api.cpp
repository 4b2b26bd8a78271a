// Run the calls of a pass in their order. Knows nothing of what they compute.
#include "program_api.h"

#include <algorithm>
#include <chrono>

#include "linear_plan.h"
#include "pool.h"
#include "rows_table.h"

CYN_API void cyn_linear(const CynLinear* linear, const CynLinearCall* call);
CYN_API void cyn_kv_write(cynosure::KvWriteCall* call);
CYN_API void cyn_attend(const cynosure::AttentionCall* call);
CYN_API void cyn_attend_to_pages(const cynosure::AttentionCall* call, const cynosure::PageChoice* choice);
CYN_API void cyn_experts(const CynExperts* experts, const CynExpertsCall* call);

namespace cynosure {
namespace {

constexpr std::int64_t kRowsInTask = 16;

void norm_rows(void* context, int index, int) {
  const auto& call = *static_cast<const CynNormCall*>(context);
  const std::int64_t first = index * kRowsInTask;
  CYN_SELECT(rows_table).norm(call, first, std::min(first + kRowsInTask, call.num_rows));
}

void run_norm(const CynNormCall& call) {
  const auto num_tasks = static_cast<int>((call.num_rows + kRowsInTask - 1) / kRowsInTask);
  run_tasks(num_tasks, norm_rows, const_cast<CynNormCall*>(&call));
}

void run_attention(const AttentionCall& shared, const CynPages& pages) {
  AttentionCall call = shared;
  call.k = pages.k;
  call.v = pages.v;
  call.k_scale = pages.k_scale;
  call.v_scale = pages.v_scale;
  call.num_watched = pages.seen.num_watched;
  call.watched_heads = pages.seen.watched_heads;
  call.mass = pages.seen.mass;
  call.mean_score = pages.seen.mean_score;
  pages.choice == nullptr ? cyn_attend(&call) : cyn_attend_to_pages(&call, pages.choice);
}

void run_step(const CynStep& step) {
  switch (step.kind) {
    case CYN_RUN_LINEAR:
      return cyn_linear(static_cast<const CynLinear*>(step.on), static_cast<const CynLinearCall*>(step.what));
    case CYN_RUN_NORM:
      return run_norm(*static_cast<const CynNormCall*>(step.what));
    case CYN_RUN_KV_WRITE:
      return cyn_kv_write(static_cast<KvWriteCall*>(const_cast<void*>(step.what)));
    case CYN_RUN_EXPERTS:
      return cyn_experts(static_cast<const CynExperts*>(step.on), static_cast<const CynExpertsCall*>(step.what));
    default:
      return run_attention(*static_cast<const AttentionCall*>(step.what), *static_cast<const CynPages*>(step.on));
  }
}

// Have idle threads fetch the matrix that comes next, where threads stream a range of it each.
void announce(const CynStep* step, const CynStep* stop) {
  for (; step != stop; ++step) {
    if (step->kind != CYN_RUN_LINEAR) continue;
    const auto& call = *static_cast<const CynLinearCall*>(step->what);
    const auto& linear = *static_cast<const CynLinear*>(step->on);
    return call.num_rows <= kMaxStreamedRows ? fetch_when_idle(linear.codes, linear.code_bytes)
                                             : fetch_when_idle(nullptr, 0);
  }
  fetch_when_idle(nullptr, 0);
}

}  // namespace
}  // namespace cynosure

CYN_API void cyn_run_program(CynStep* steps, std::int64_t num_steps, std::int64_t is_timed) {
  using Clock = std::chrono::steady_clock;
  for (std::int64_t i = 0; i < num_steps; ++i) {
    cynosure::announce(steps + i + 1, steps + num_steps);
    if (is_timed == 0) {
      cynosure::run_step(steps[i]);
      continue;
    }
    const auto start = Clock::now();
    cynosure::run_step(steps[i]);
    steps[i].nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  }
}

CYN_API std::int64_t cyn_sizeof_norm_call() { return sizeof(CynNormCall); }
