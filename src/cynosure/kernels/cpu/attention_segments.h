// Keep the log-sum-exp of each segment beside the whole. Knows nothing of outputs.
//
// Keys of one segment come in runs. While a run is open its weights are summed beside those of all keys, relative
// to the same maximum; where it ends its log-sum-exp is added to its segment's. The sums of all keys are taken the
// same way whether runs are watched or not.
#pragma once

#include "attention_results.h"
#include "attention_softmax.h"

namespace cynosure::CYN_VARIANT {

struct OpenRuns {
  const Run* run = nullptr;  // the open one, or the next
  const Run* stop = nullptr;

  OpenRuns(const AttentionCall& call, const Share& share) {
    if (call.mass == nullptr) return;
    run = call.runs + call.run_offsets[share.seq];
    stop = call.runs + call.run_offsets[share.seq + 1];
    while (run != stop && run->stop <= share.first_key) ++run;
  }

  bool is_watching() const { return run != stop; }
  // Whether the open run holds all keys of the tile and goes on behind it.
  bool holds(const KeyTile& keys) const { return run->stop > keys.first + keys.count; }
};

static void start_masses(const AttentionJob& job, const Share& share, const RowTile& rows, int first) {
  for (int lane = 0; lane < rows.num_rows; ++lane) {
    float* mass = mass_of(job, share, first + lane, rows.token[lane], rows.head[lane]);
    for (long s = 0; mass != nullptr && s < job.call.num_segments; ++s) mass[s] = kLowest;
  }
}

// The run has ended: add what the rows gave it to its segment.
static void close_run(const AttentionJob& job, const Share& share, RowTile& rows, int first, std::int64_t segment) {
  float lse[kLanes];
  store(lse, fma(load(rows.top), fill(kLn2), logarithm(load(rows.run_total))));
  for (int lane = 0; lane < rows.num_rows; ++lane) {
    float* mass = mass_of(job, share, first + lane, rows.token[lane], rows.head[lane]);
    if (mass == nullptr || rows.run_total[lane] == 0.0F) continue;
    mass[segment] = mass[segment] == kLowest ? lse[lane] : add_exponentials(mass[segment], lse[lane]);
  }
  store(rows.run_total, fill(0.0F));
}

// Go through the runs of a tile in which one ends. `weights` is null where the rows see nothing of the tile.
static void sum_runs(const AttentionJob& job, const Share& share, RowTile& rows, int first, const OpenRuns& runs,
                     const KeyTile& keys, const float* weights) {
  const std::int64_t end = keys.first + keys.count;
  for (const Run* run = runs.run; run != runs.stop && run->start < end; ++run) {
    const auto from = static_cast<int>(run->start > keys.first ? run->start - keys.first : 0);
    const auto to = static_cast<int>((run->stop < end ? run->stop : end) - keys.first);
    Lanes sum = load(rows.run_total);
    for (int key = from; weights != nullptr && key < to; ++key) sum = add(sum, load(weights + key * kLanes));
    store(rows.run_total, sum);
    if (run->stop <= end) close_run(job, share, rows, first, run->segment);
  }
}

}  // namespace cynosure::CYN_VARIANT
