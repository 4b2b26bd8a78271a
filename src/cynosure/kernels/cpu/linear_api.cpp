// Run a linear layer: prepare the rows, then share the blocks out. Knows nothing of any instruction set.
#include <algorithm>

#include "linear_plan.h"
#include "pool.h"
#include "workspace.h"

namespace cynosure {
namespace {

constexpr std::int64_t kFewRows = 3;  // that are prepared before a thread would be awake

struct Job {
  LinearWork work;
  const LinearTable* table;
  char* scratch;  // of each thread
  std::int64_t scratch_bytes;
  std::int64_t num_units;
  std::int64_t num_tasks;
  std::int64_t rows_per_task;
  std::int64_t num_pairs;
  bool has_begun[kMaxThreads];  // begin_groups has filled the thread's scratch
};

char* scratch_of(const Job& job, int thread) { return job.scratch + thread * job.scratch_bytes; }

void prepare_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const std::int64_t first = index * job.rows_per_task;
  const std::int64_t last = std::min(first + job.rows_per_task, job.work.call->num_rows);
  for (std::int64_t row = first; row < last; ++row) {
    job.table->prepare(job.work, row, reinterpret_cast<float*>(scratch_of(job, thread)));
  }
}

void rows_task(void* context, int index, int) {
  const Job& job = *static_cast<const Job*>(context);
  const std::int64_t first = index * job.num_units / job.num_tasks;
  job.table->rows(job.work, first, (index + 1) * job.num_units / job.num_tasks);
}

void groups_task(void* context, int index, int thread) {
  Job& job = *static_cast<Job*>(context);
  char* const scratch = scratch_of(job, thread);
  if (!job.has_begun[thread]) job.table->begin_groups(job.work, scratch);
  job.has_begun[thread] = true;
  const std::int64_t first = index * job.num_units / job.num_tasks;
  job.table->groups(job.work, first, (index + 1) * job.num_units / job.num_tasks, scratch);
}

// Neighbouring tasks share their rows, which then lie in the shared cache.
void tiles_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const std::int64_t first = index / job.num_pairs * job.rows_per_task;
  const std::int64_t last = std::min(first + job.rows_per_task, job.work.call->num_rows);
  job.table->tiles(job.work, index % job.num_pairs, index % job.num_pairs + 1, first, last, scratch_of(job, thread));
}

// All rows in one task: what it waits for are the weights, which it streams in their order.
void streamed_tiles_task(void* context, int index, int thread) {
  const Job& job = *static_cast<const Job*>(context);
  const std::int64_t first = index * job.num_pairs / job.num_tasks, last = (index + 1) * job.num_pairs / job.num_tasks;
  job.table->tiles(job.work, first, last, 0, job.work.call->num_rows, scratch_of(job, thread));
}

void prepare_rows(Job& job) {
  const std::int64_t num_rows = job.work.call->num_rows;
  job.rows_per_task = num_rows <= kFewRows ? num_rows : std::max<std::int64_t>(1, num_rows / (4 * num_threads()));
  run_tasks(static_cast<int>((num_rows + job.rows_per_task - 1) / job.rows_per_task), prepare_task, &job);
}

void run_units(Job& job, void (*task)(void* context, int index, int thread)) {
  job.num_units = num_units_of(*job.work.linear);
  job.num_tasks = std::min<std::int64_t>(job.num_units, kTasksPerThread * num_threads());
  run_in_ranges(static_cast<int>(job.num_tasks), task, &job);
}

void run_tiles(Job& job) {
  job.num_pairs = (job.work.linear->num_blocks + 1) / 2;
  job.rows_per_task = rows_of_panel(job.work.x);
  if (job.work.call->num_rows <= std::min(kMaxStreamedRows, job.rows_per_task)) {
    job.num_tasks = std::min<std::int64_t>(job.num_pairs, kTasksPerThread * num_threads());
    return run_in_ranges(static_cast<int>(job.num_tasks), streamed_tiles_task, &job);
  }
  const std::int64_t panels = (job.work.call->num_rows + job.rows_per_task - 1) / job.rows_per_task;
  run_tasks(static_cast<int>(panels * job.num_pairs), tiles_task, &job);
}

// Lay prepared rows and scratch out in the workspace.
void lay_out(Job& job, std::int64_t way) {
  const CynLinear& linear = *job.work.linear;
  Prepared& x = job.work.x;
  x = prepared_for(linear, way == CYN_TILES);
  const std::int64_t rows = up_to(job.work.call->num_rows, kBlockRows);
  const std::int64_t values = rows * x.row_bytes, scales = up_to(rows * x.num_groups * 4, 64);
  const std::int64_t tile_rows = std::min(rows, rows_of_panel(x));
  job.scratch_bytes = up_to(linear.padded_columns * 4, 4096);
  if (way == CYN_TILES) job.scratch_bytes = std::max(job.scratch_bytes, job.table->tile_scratch(job.work, tile_rows));
  if (way == CYN_GROUPS) job.scratch_bytes = std::max(job.scratch_bytes, job.table->group_scratch(job.work, rows));
  const std::int64_t all = values + 2 * scales + num_threads() * job.scratch_bytes;
  x.values = workspace(static_cast<std::size_t>(all));
  x.scales = reinterpret_cast<float*>(x.values + values);
  x.sums = reinterpret_cast<std::int32_t*>(x.values + values + scales);
  job.scratch = x.values + values + 2 * scales;
}

}  // namespace
}  // namespace cynosure

// Whether the variant in use computes products of this type of weights by tiles.
CYN_API int cyn_has_tiles(std::int64_t type) {
  return type != CYN_FLOAT32 && CYN_SELECT(linear_table).tiles != nullptr;
}

CYN_API void cyn_linear(const CynLinear* linear, const CynLinearCall* call) {
  using namespace cynosure;
  if (call->num_rows == 0) return;
  Job job{};
  job.table = &CYN_SELECT(linear_table);
  job.work.linear = linear;
  job.work.call = call;
  const std::int64_t way = way_of(*job.table, *linear, call->way, call->num_rows);
  lay_out(job, way);
  prepare_rows(job);
  way == CYN_TILES ? run_tiles(job) : run_units(job, way == CYN_GROUPS ? groups_task : rows_task);
}
