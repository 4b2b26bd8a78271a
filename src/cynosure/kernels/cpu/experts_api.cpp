// Run a mixture of experts: choose, sort, multiply, add up. Knows nothing of any instruction set.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bfloat16.h"
#include "experts_plan.h"
#include "experts_routing.h"
#include "pool.h"
#include "workspace.h"

namespace cynosure {
namespace {

constexpr std::int64_t kRowsAtOnce = 512;  // what lies between the products stays in the caches
constexpr std::int64_t kRowsInTask = 8;
constexpr std::int64_t kFewFloats = 1 << 14;  // of rows that nobody is woken for

float number_at(const void* p, std::int64_t type, std::int64_t i) {
  return type == CYN_FLOAT32 ? static_cast<const float*>(p)[i] : float_of_bf16(static_cast<const std::uint16_t*>(p)[i]);
}

const char* moved(const void* p, std::int64_t type, std::int64_t count) {
  return static_cast<const char*>(p) + count * (type == CYN_FLOAT32 ? 4 : 2);
}

// Rows prepared for one product in the form of dot products, of tiles, or of both where these differ.
struct Forms {
  Prepared rows, tiles;
  bool are_alike;
  const Prepared& of(bool is_tiled) const { return is_tiled ? tiles : rows; }
};

struct Job {
  const CynExpertsCall& call;
  const CynExperts& experts;
  const LinearTable& table;
  ExpertsPlan& plan;
  std::vector<ExpertTask>& tasks;
  std::int64_t width, num_outputs;  // of the first product, of the second
  bool wants_rows, wants_tiles;
  Forms tokens = {};               // the rows, as they came
  Forms sorted = {}, inner = {};   // by slot: what enters the first product, and the second
  char* activated = nullptr;       // [slot][width] of the call's type
  float* given = nullptr;          // [slot][num_outputs]
  float* routing = nullptr;        // scratch of each thread, as is the next
  char* scratch = nullptr;
  std::int64_t scratch_bytes = 0;
};

Prepared at_row(const Prepared& x, std::int64_t row) {
  Prepared moved = x;
  moved.values += row * x.row_bytes;
  moved.scales += row * x.num_groups;
  moved.sums += row * x.num_groups;
  return moved;
}

float* scratch_of(const Job& job, int thread) {
  return reinterpret_cast<float*>(job.scratch + thread * job.scratch_bytes);
}

CynLinearCall into_experts(const Job& job) {
  CynLinearCall call{};
  call.num_rows = job.call.num_rows;
  call.x = job.call.x;
  call.x_type = job.call.type;
  call.x_stride = job.call.x_stride;
  call.norm = job.call.norm;
  call.norm_weight = job.call.norm_weight;
  call.norm_bias = job.call.norm_bias;
  call.norm_eps = job.call.norm_eps;
  return call;
}

void prepare_row(const Job& job, const LinearWork& work, std::int64_t row, int thread) {
  job.table.prepare(work, row, scratch_of(job, thread));
}

// Choose the experts of some rows, and prepare the rows.
void begin_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const CynRouting& routing = job.call.routing;
  const CynLinearCall call = into_experts(job);
  const std::int64_t last = std::min((index + 1) * kRowsInTask, call.num_rows);
  for (std::int64_t row = index * kRowsInTask; row < last; ++row) {
    route_row(routing, job.call.logits + row * routing.num_experts, job.routing + thread * routing_floats(routing),
              job.call.chosen + row * routing.num_chosen, job.call.weights + row * routing.num_chosen);
    const Forms& to = job.tokens;
    if (to.are_alike || job.wants_rows) prepare_row(job, {job.experts.inner, &call, to.rows}, row, thread);
    if (!to.are_alike) prepare_row(job, {job.experts.inner, &call, to.tiles}, row, thread);
  }
}

void copy_row(const Prepared& from, std::int64_t row, const Prepared& to, std::int64_t slot) {
  std::memcpy(to.values + slot * to.row_bytes, from.values + row * from.row_bytes,
              static_cast<std::size_t>(to.row_bytes));
  if (to.type != CYN_INT8) return;
  const auto num_groups = static_cast<std::size_t>(to.num_groups);
  std::memcpy(to.scales + slot * to.num_groups, from.scales + row * to.num_groups, num_groups * sizeof(float));
  std::memcpy(to.sums + slot * to.num_groups, from.sums + row * to.num_groups, num_groups * sizeof(std::int32_t));
}

// Lay an expert's rows side by side.
void gather_task(void* context, int index, int) {
  const Job& job = *static_cast<const Job*>(context);
  const ExpertRows& rows = job.plan.experts[index];
  for (std::int64_t i = 0; i < rows.num_rows; ++i) {
    copy_row(job.tokens.of(rows.is_tiled), job.plan.pairs[rows.first + i].row, job.sorted.of(rows.is_tiled),
             rows.slot + i);
  }
}

void multiply(const Job& job, const ExpertTask& task, const LinearWork& work, int thread) {
  char* const scratch = reinterpret_cast<char*>(scratch_of(job, thread));
  if (job.plan.experts[task.experts].is_tiled) {
    job.table.tiles(work, task.first, task.last, task.first_row, task.last_row, scratch);
  } else if (job.plan.experts[task.experts].is_grouped) {
    job.table.begin_groups(work, scratch);
    job.table.groups(work, task.first, task.last, scratch);
  } else {
    job.table.rows(work, task.first, task.last);
  }
}

void inner_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const ExpertTask& task = job.tasks[index];
  const ExpertRows& rows = job.plan.experts[task.experts];
  CynLinearCall call{};
  call.num_rows = rows.num_rows;
  call.activation = job.call.activation;
  call.out = const_cast<char*>(moved(job.activated, job.call.type, rows.slot * job.width));
  call.out_type = job.call.type;
  call.out_stride = job.width;
  multiply(job, task, {job.experts.inner + rows.expert, &call, at_row(job.sorted.of(rows.is_tiled), rows.slot)}, thread);
}

// Prepare what the first products of an expert gave for the second.
void between_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const ExpertRows& rows = job.plan.experts[index];
  CynLinearCall call{};
  call.x = moved(job.activated, job.call.type, rows.slot * job.width);
  call.x_type = job.call.type;
  call.x_stride = job.width;
  const LinearWork work{job.experts.down + rows.expert, &call, at_row(job.inner.of(rows.is_tiled), rows.slot)};
  for (std::int64_t i = 0; i < rows.num_rows; ++i) prepare_row(job, work, i, thread);
}

void down_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const ExpertTask& task = job.tasks[index];
  const ExpertRows& rows = job.plan.experts[task.experts];
  CynLinearCall call{};
  call.num_rows = rows.num_rows;
  call.out = job.given + rows.slot * job.num_outputs;
  call.out_type = CYN_FLOAT32;
  call.out_stride = job.num_outputs;
  multiply(job, task, {job.experts.down + rows.expert, &call, at_row(job.inner.of(rows.is_tiled), rows.slot)}, thread);
}

void add_up_row(const Job& job, std::int64_t row, float* sum) {
  const CynExpertsCall& call = job.call;
  const std::int64_t n = job.num_outputs, num_chosen = call.routing.num_chosen;
  std::fill(sum, sum + n, 0.0F);
  for (std::int64_t choice = 0; choice < num_chosen; ++choice) {
    const float weight = call.weights[row * num_chosen + choice];
    const float* given = job.given + job.plan.slot_of[row * num_chosen + choice] * n;
    for (std::int64_t i = 0; i < n; ++i) sum[i] += weight * given[i];
  }
  if (call.shared != nullptr) {
    const float share = call.shared_gate == nullptr ? 1.0F : 1.0F / (1.0F + std::exp(-call.shared_gate[row]));
    const void* shared = moved(call.shared, call.type, row * call.shared_stride);
    for (std::int64_t i = 0; i < n; ++i) sum[i] += share * number_at(shared, call.type, i);
  }
  if (call.residual != nullptr) {
    const void* residual = moved(call.residual, call.type, row * call.residual_stride);
    for (std::int64_t i = 0; i < n; ++i) sum[i] += number_at(residual, call.type, i);
  }
  if (call.type == CYN_FLOAT32) {
    std::copy(sum, sum + n, static_cast<float*>(call.out) + row * call.out_stride);
  } else {
    auto* const out = static_cast<std::uint16_t*>(call.out) + row * call.out_stride;
    for (std::int64_t i = 0; i < n; ++i) out[i] = bf16_of_float(sum[i]);
  }
}

void add_up_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const std::int64_t last = std::min((index + 1) * kRowsInTask, job.call.num_rows);
  for (std::int64_t row = index * kRowsInTask; row < last; ++row) add_up_row(job, row, scratch_of(job, thread));
}

// Hands out parts of one piece of memory, from an address on; from 0 on, tells how much there must be.
struct Layout {
  std::uintptr_t next;

  char* take(std::int64_t bytes) {
    char* const part = reinterpret_cast<char*>(next);
    next += static_cast<std::uintptr_t>(up_to(bytes, 64));
    return part;
  }
  void take_rows(Prepared& x, std::int64_t num_rows) {
    x.values = take(num_rows * x.row_bytes);
    x.scales = reinterpret_cast<float*>(take(num_rows * x.num_groups * 4));
    x.sums = reinterpret_cast<std::int32_t*>(take(num_rows * x.num_groups * 4));
  }
  void take_forms(const Job& job, Forms& forms, const CynLinear& linear, std::int64_t num_rows) {
    forms = {prepared_for(linear, false), prepared_for(linear, true), true};
    forms.are_alike = forms.rows.type == forms.tiles.type || !job.wants_tiles;
    take_rows(forms.rows, num_rows);
    if (forms.are_alike) {
      forms.tiles = forms.rows;
    } else {
      take_rows(forms.tiles, num_rows);
    }
  }
};

// Room for all slots that so many rows can need: every expert may end in the middle of sixteen.
std::uintptr_t lay_out(Job& job, std::uintptr_t memory) {
  const CynRouting& routing = job.call.routing;
  const CynLinear &inner = *job.experts.inner, &down = *job.experts.down;
  const std::int64_t num_pairs = job.call.num_rows * routing.num_chosen;
  const std::int64_t num_slots = num_pairs + (job.wants_tiles ? kBlockRows * std::min(routing.num_experts, num_pairs) : 0);
  Layout layout{memory};
  layout.take_forms(job, job.tokens, inner, job.call.num_rows);
  layout.take_forms(job, job.sorted, inner, num_slots);
  layout.take_forms(job, job.inner, down, num_slots);
  job.activated = layout.take(num_slots * job.width * (job.call.type == CYN_FLOAT32 ? 4 : 2));
  job.given = reinterpret_cast<float*>(layout.take(num_slots * job.num_outputs * 4));
  job.routing = reinterpret_cast<float*>(layout.take(num_threads() * routing_floats(routing) * 4));
  job.scratch_bytes = up_to(std::max({inner.padded_columns, down.padded_columns, job.num_outputs}) * 4, 4096);
  if (job.wants_tiles) {
    for (const CynLinear* linear : {&inner, &down}) {
      const LinearWork work{linear, nullptr, prepared_for(*linear, true)};
      const std::int64_t num_rows = std::min(rows_of_panel(work.x), up_to(job.call.num_rows, kBlockRows));
      job.scratch_bytes = std::max(job.scratch_bytes, job.table.tile_scratch(work, num_rows));
    }
  }
  if (job.wants_rows && job.table.groups != nullptr && inner.type == CYN_INT4) {
    for (const CynLinear* linear : {&inner, &down}) {
      const LinearWork work{linear, nullptr, prepared_for(*linear, false)};
      job.scratch_bytes = std::max(job.scratch_bytes, job.table.group_scratch(work, job.call.num_rows));
    }
  }
  job.scratch = layout.take(num_threads() * job.scratch_bytes);
  return layout.next;
}

void run_over(Job& job, std::int64_t num_tasks, std::int64_t num_floats, void (*task)(void*, int, int)) {
  const auto count = static_cast<int>(num_tasks);
  if (num_floats > kFewFloats) return run_tasks(count, task, &job);
  for (int index = 0; index < count; ++index) task(&job, index, 0);
}

void run(Job& job) {
  const CynExpertsCall& call = job.call;
  const CynLinear &inner = *job.experts.inner, &down = *job.experts.down;
  const std::int64_t num_tasks = (call.num_rows + kRowsInTask - 1) / kRowsInTask;
  run_over(job, num_tasks, call.num_rows * inner.num_columns, begin_task);
  sort_by_expert(call.routing, call.chosen, call.num_rows, job.table, inner, call.way, job.plan);
  const auto num_experts = static_cast<std::int64_t>(job.plan.experts.size());
  run_over(job, num_experts, job.plan.num_slots * inner.num_columns, gather_task);
  cut_product(job.plan, inner, num_threads(), job.tasks);
  run_in_ranges(static_cast<int>(job.tasks.size()), inner_task, &job);
  run_over(job, num_experts, job.plan.num_slots * down.num_columns, between_task);
  cut_product(job.plan, down, num_threads(), job.tasks);
  run_in_ranges(static_cast<int>(job.tasks.size()), down_task, &job);
  run_over(job, num_tasks, job.plan.num_slots * job.num_outputs, add_up_task);
}

// The call for rows first.. alone.
CynExpertsCall part_of(const CynExpertsCall& call, std::int64_t first, std::int64_t num_rows) {
  CynExpertsCall part = call;
  part.num_rows = num_rows;
  part.x = moved(call.x, call.type, first * call.x_stride);
  part.logits += first * call.routing.num_experts;
  if (call.shared != nullptr) part.shared = moved(call.shared, call.type, first * call.shared_stride);
  if (call.shared_gate != nullptr) part.shared_gate += first;
  if (call.residual != nullptr) part.residual = moved(call.residual, call.type, first * call.residual_stride);
  part.out = const_cast<char*>(moved(call.out, call.type, first * call.out_stride));
  part.chosen += first * call.routing.num_chosen;
  part.weights += first * call.routing.num_chosen;
  return part;
}

}  // namespace
}  // namespace cynosure

// Compute a mixture of experts; everything is documented in experts_api.h.
CYN_API void cyn_experts(const CynExperts* experts, const CynExpertsCall* call) {
  using namespace cynosure;
  thread_local ExpertsPlan plan;
  thread_local std::vector<ExpertTask> tasks;
  const CynLinear &inner = *experts->inner, &down = *experts->down;
  const LinearTable& table = CYN_SELECT(linear_table);
  for (std::int64_t first = 0; first < call->num_rows; first += kRowsAtOnce) {
    const CynExpertsCall part = part_of(*call, first, std::min(kRowsAtOnce, call->num_rows - first));
    // An expert gets all rows at most.
    const bool wants_tiles = way_of(table, inner, call->way, part.num_rows) == CYN_TILES;
    const bool wants_rows = !wants_tiles || call->way != CYN_TILES;
    Job job{part, *experts, table, plan, tasks, down.num_columns, down.num_rows, wants_rows, wants_tiles};
    const std::uintptr_t num_bytes = lay_out(job, 0);
    lay_out(job, reinterpret_cast<std::uintptr_t>(workspace(num_bytes)));
    run(job);
  }
}

CYN_API std::int64_t cyn_sizeof_experts_call() { return sizeof(CynExpertsCall); }
