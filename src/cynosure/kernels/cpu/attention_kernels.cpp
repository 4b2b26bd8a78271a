// Attend: one share of rows against its keys, a tile at a time. Knows nothing of threads.
//
// Compiled once per variant (isa.h). Decode and prefill are one path: a step of one token is a share with a few
// rows. Every row is computed in a lane of its own, so its bits depend on its own keys and on where they are cut.

#include "attention_bfloat16.h"
#include "attention_codes.h"
#include "attention_float32.h"
#include "attention_scores.h"
#include "attention_segments.h"
#include "workspace.h"

namespace cynosure::CYN_VARIANT {
namespace {

// Scratch memory of a share, in this order.
struct Sizes {
  long rows, queries, out, keys, values, scores, cells;
  long total() const { return rows + queries + out + keys + values + scores + cells; }
};

constexpr long kRowTileFloats = (sizeof(RowTile) + 63) / 64 * 16;

long aligned(long floats) { return (floats + 15) / 16 * 16; }

template <class Path>
struct Work {
  const AttentionJob& job;
  const AttentionCall& call;
  const Share& share;
  int num_tiles, channels;
  Sizes sizes;
  float *rows_at, *queries, *out, *scores, *cells;
  Path path;
  KeyTile tiles[2];  // this one, and the next: its keys are fetched ahead
  OpenRuns runs;

  Work(const AttentionJob& of, const Share& that)
      : job(of),
        call(of.call),
        share(that),
        num_tiles((that.num_rows + kLanes - 1) / kLanes),
        channels(static_cast<int>((of.call.v_head_dim + 15) / 16 * 16)),
        sizes{num_tiles * kRowTileFloats,
              num_tiles * aligned(Path::query_floats(of.call)),
              static_cast<long>(num_tiles) * channels * kLanes,
              aligned(Path::key_floats(of.call)),
              aligned(Path::value_floats(of.call)),
              kTileKeys * kLanes,
              kTileKeys * kLanes},
        rows_at(reinterpret_cast<float*>(workspace(sizes.total() * sizeof(float)))),
        queries(rows_at + sizes.rows),
        out(queries + sizes.queries),
        scores(out + sizes.out + sizes.keys + sizes.values),
        cells(scores + sizes.scores),
        path(of.call, out + sizes.out, out + sizes.out + sizes.keys),
        runs(of.call, that) {}

  RowTile& rows(int tile) const { return *reinterpret_cast<RowTile*>(rows_at + tile * kRowTileFloats); }
  float* queries_of(int tile) const { return queries + tile * aligned(Path::query_floats(call)); }
  float* out_of(int tile) const { return out + static_cast<long>(tile) * channels * kLanes; }

  void start() {
    for (int tile = 0; tile < num_tiles; ++tile) {
      fill_rows(call, share, share.first_row + tile * kLanes, rows(tile));
      path.pack_queries(rows(tile), queries_of(tile));
      if (call.mass != nullptr) start_masses(job, share, rows(tile), tile * kLanes);
    }
    __builtin_memset(out, 0, static_cast<unsigned long>(sizes.out) * sizeof(float));
  }

  void attend_to_all() {
    if (share.first_key < share.stop_key) fill_keys(call, share, share.first_key, tiles[0]);
    int now = 0;
    for (std::int64_t key = share.first_key; key < share.stop_key; key += kTileKeys, now = 1 - now) {
      tiles[1 - now].count = 0;
      if (key + kTileKeys < share.stop_key) fill_keys(call, share, key + kTileKeys, tiles[1 - now]);
      attend_to(tiles[now], tiles[1 - now]);
    }
  }

  void attend_to(KeyTile& keys, const KeyTile& next) {
    bool are_read = false;
    for (int tile = 0; tile < num_tiles; ++tile) {
      const Sight sight = sight_of(call, share, rows(tile), keys);
      if (sight == Sight::kNothing) {
        if (runs.is_watching() && !runs.holds(keys)) {
          sum_runs(job, share, rows(tile), tile * kLanes, runs, keys, nullptr);
        }
        continue;
      }
      if (!are_read) {
        take_scales(call, keys);
        path.read_keys(keys, next);
        are_read = true;
      }
      fold(tile, sight, keys);
    }
    while (runs.is_watching() && runs.run->stop <= keys.first + keys.count) ++runs.run;
  }

  void fold(int tile, Sight sight, KeyTile& keys) {
    RowTile& at = rows(tile);
    path.score(keys, queries_of(tile), scores);
    const Finished finished = finish_scores(call, share, at, keys, sight, cells, scores);
    const Lanes decay = raise_tops(at, finished.top);
    if (!is_all_one(decay)) scale_rows(out_of(tile), channels, decay);
    const bool is_watching = runs.is_watching(), is_in_run = is_watching && runs.holds(keys);
    const bool has_edges = is_watching && !is_in_run;
    const Lanes sum = weigh_as(has_edges, at, finished.factor, keys);
    if (is_in_run) store(at.run_total, add(load(at.run_total), sum));
    if (has_edges) sum_runs(job, share, at, tile * kLanes, runs, keys, cells);
    path.add_values(keys, scores, out_of(tile));
  }

  // The cells of the tile have gone into its scores: their place is free for the weights.
  Lanes weigh_as(bool keeps_weights, RowTile& at, Lanes factor, const KeyTile& keys) {
    const auto weights = path.weights_for(keys, scores);
    const int count = keys.padded;
    if (call.mean_score == nullptr) {
      return keeps_weights ? weigh<Keeping::kWeights>(weights, count, at, factor, scores, cells)
                           : weigh<Keeping::kNothing>(weights, count, at, factor, scores, cells);
    }
    return keeps_weights ? weigh<Keeping::kBoth>(weights, count, at, factor, scores, cells)
                         : weigh<Keeping::kScores>(weights, count, at, factor, scores, cells);
  }

  void finish() {
    for (int tile = 0; tile < num_tiles; ++tile) {
      RowTile& at = rows(tile);
      // A run that goes on in the next share gives its part here.
      if (runs.is_watching()) close_run(job, share, at, tile * kLanes, runs.run->segment);
      float* to[kLanes];
      Lanes factor = fill(1.0F);
      if (share.gathering == kWhole) {
        factor = reciprocals(at);
        for (int lane = 0; lane < kLanes; ++lane) to[lane] = out_row(call, at.token[lane], at.head[lane]);
      } else {
        for (int lane = 0; lane < at.num_rows; ++lane) to[lane] = part_row(job, share.part + tile * kLanes + lane);
      }
      write_channels(out_of(tile), factor, at.num_rows, call.v_head_dim, to);
      float log_totals[kLanes];
      store(log_totals, logarithm(load(at.total)));
      for (int lane = 0; lane < at.num_rows; ++lane) {
        const Row row{at.token[lane], at.head[lane],      at.top[lane],
                      at.total[lane], at.score_sum[lane], log_totals[lane]};
        share.gathering == kWhole ? write_numbers(job, row) : write_part(job, row, to[lane]);
      }
    }
  }
};

template <class Path>
void attend(const AttentionJob& job, const Share& share) {
  Work<Path> work(job, share);
  work.start();
  work.attend_to_all();
  work.finish();
}

void run_share(const AttentionJob& job, int index) {
  const Share& share = job.plan.shares[index];
#if CYN_LEVEL >= CYN_AMX
  const bool has_bfloat16 = job.call.q_type == kBfloat16;
  if (has_bfloat16 && job.call.kv_type == kInt8 && job.call.head_dim <= kMaxExactChannels) {
    attend<CodesPath>(job, share);
  } else if (has_bfloat16 && job.call.kv_type == kBfloat16) {
    attend<Bfloat16Path>(job, share);
  } else {
    attend<Float32Path>(job, share);
  }
#else
  attend<Float32Path>(job, share);
#endif
  if (share.gathering == kWhole) return;
  // Whoever is done last merges the parts.
  Gathering& gathering = job.plan.gatherings[share.gathering];
  if (__atomic_sub_fetch(&gathering.num_left, 1, __ATOMIC_ACQ_REL) > 0) return;
  for (int row = 0; row < share.num_rows; ++row) merge_row(job, gathering, share, row);
}

}  // namespace

const AttentionTable attention_table = {run_share};

}  // namespace cynosure::CYN_VARIANT
