// Attend: one share of rows against its keys, a tile at a time. Knows nothing of threads.
//
// Compiled once per variant (isa.h). A step of one token is a share with a few rows; very few have a path of their
// own. No row's arithmetic touches another's, so its bits depend on its own keys and on where they are cut.

#include "attention_bfloat16.h"
#include "attention_codes.h"
#include "attention_few_rows.h"
#include "attention_float32.h"
#include "attention_scores.h"
#include "attention_segments.h"
#include "attention_widened.h"
#include "workspace.h"

namespace cynosure::CYN_VARIANT {
namespace {

// Scratch memory of a share, in this order.
struct Sizes {
  long rows, queries, out, keys, values, scores, cells;
  long total() const { return rows + queries + out + keys + values + scores + cells; }
};

// Keys and values of the next tile that are fetched between two parts of a tile's work.
constexpr int kFetchedBetween = 16;

constexpr long kRowTileFloats = (sizeof(RowTile) + 63) / 64 * 16;

long aligned(long floats) { return (floats + 15) / 16 * 16; }

template <class Path>
struct Work {
  const AttentionJob& job;
  const AttentionCall& call;
  const Share& share;
  const Share* after;  // the share that this thread is likely to take next, or null
  int num_tiles;
  long channels;
  Sizes sizes;
  float *rows_at, *queries, *out, *scores, *cells;
  Path path;
  KeyTile tiles[2];  // this one, and the next
  Fetching next;     // of its keys and values
  OpenRuns runs;

  Work(const AttentionJob& of, const Share& that, const Share* then)
      : job(of),
        call(of.call),
        share(that),
        after(then),
        num_tiles((that.num_rows + kLanes - 1) / kLanes),
        channels(Path::Sums::channels(of.call)),
        sizes{num_tiles * kRowTileFloats,
              num_tiles * aligned(Path::query_floats(of.call)),
              num_tiles * channels * kLanes,
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
        next(of.call),
        runs(of.call, that) {}

  RowTile& rows(int tile) const { return *reinterpret_cast<RowTile*>(rows_at + tile * kRowTileFloats); }
  float* queries_of(int tile) const { return queries + tile * aligned(Path::query_floats(call)); }
  float* out_of(int tile) const { return out + tile * channels * kLanes; }

  bool is_one_watched(const RowTile& at) const {
    for (int lane = 0; call.num_watched > 0 && lane < at.num_rows; ++lane) {
      if (watched_at(job, at.token[lane], at.head[lane]) != kNotWatched) return true;
    }
    return false;
  }

  // Begin to fetch the tile at `key`, or what comes after the share.
  void look_ahead(std::int64_t key, KeyTile& tile) {
    tile.count = 0;
    if (key < share.stop_key) {
      fill_keys(call, share, key, tile);
    } else if (after != nullptr && after->first_key < after->stop_key) {
      fill_keys(call, *after, after->first_key, tile);
    }
    next.start(tile);
  }

  // A decoding step's shares are a tile long: where the share before has not asked for its keys, nobody has.
  void start(bool is_fetched) {
    if (share.first_key < share.stop_key) {
      look_ahead(share.first_key, tiles[0]);
      if (!is_fetched) next.rest();
      look_ahead(share.first_key + kTileKeys, tiles[1]);
    }
    for (int tile = 0; tile < num_tiles; ++tile) {
      fill_rows(call, share, share.first_row + tile * kLanes, rows(tile));
      path.pack_queries(rows(tile), queries_of(tile));
      rows(tile).is_watched = is_one_watched(rows(tile));
      if (call.mass != nullptr) start_masses(job, share, rows(tile), tile * kLanes);
    }
    __builtin_memset(out, 0, static_cast<unsigned long>(sizes.out) * sizeof(float));
  }

  void attend_to_all() {
    int now = 0;
    for (std::int64_t key = share.first_key; key < share.stop_key; key += kTileKeys, now = 1 - now) {
      if (key != share.first_key) look_ahead(key + kTileKeys, tiles[1 - now]);
      attend_to(tiles[now]);
      next.rest();
    }
  }

  void attend_to(KeyTile& keys) {
    bool are_read = false;
    for (int tile = 0; tile < num_tiles; ++tile) {
      const Sight sight = sight_of(call, share, rows(tile), keys);
      if (sight == Sight::kNothing) {
        if (rows(tile).is_watched && runs.is_watching() && !runs.holds(keys)) {
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
    next.some(kFetchedBetween);
    const Finished finished = finish_scores(call, share, at, keys, sight, cells, scores);
    const Lanes decay = raise_tops(at, finished.top);
    if (!is_all_one(decay)) Path::Sums::scale(out_of(tile), channels, at.num_rows, decay);
    const bool is_watching = at.is_watched && runs.is_watching(), is_in_run = is_watching && runs.holds(keys);
    const bool has_edges = is_watching && !is_in_run;
    next.some(kFetchedBetween);
    const Lanes sum = weigh_as(has_edges, at, finished, keys);
    if (is_in_run) store(at.run_total, add(load(at.run_total), sum));
    if (has_edges) sum_runs(job, share, at, tile * kLanes, runs, keys, cells);
    next.some(kFetchedBetween);
    path.add_values(keys, at, finished.top, scores, out_of(tile));
  }

  // The cells of the tile have gone into its scores: their place is free for the weights.
  Lanes weigh_as(bool keeps_weights, RowTile& at, const Finished& finished, const KeyTile& keys) {
    const auto weights = path.weights_for(keys, at, finished.top, scores);
    const Lanes factor = finished.factor;
    const int count = keys.padded;
    if (call.mean_score == nullptr || !at.is_watched) {
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
      if (at.is_watched && runs.is_watching()) close_run(job, share, at, tile * kLanes, runs.run->segment);
      float* to[kLanes];
      Lanes factor = fill(1.0F);
      if (share.gathering == kWhole) {
        factor = reciprocals(at);
        for (int lane = 0; lane < kLanes; ++lane) to[lane] = out_row(call, at.token[lane], at.head[lane]);
      } else {
        for (int lane = 0; lane < at.num_rows; ++lane) to[lane] = part_row(job, share.part + tile * kLanes + lane);
      }
      Path::Sums::write(out_of(tile), factor, at.num_rows, call.v_head_dim, to);
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

// The share whose first keys and values this thread has asked for.
struct Fetched {
  std::uint64_t number;  // of the call
  const Share* share;
};
thread_local Fetched fetched{0, nullptr};

template <class Path>
void attend(const AttentionJob& job, const Share& share) {
  const Share* const last = job.plan.shares.data() + job.plan.shares.size() - 1;
  const Share* const after = job.has_ranges && &share != last ? &share + 1 : nullptr;
  Work<Path> work(job, share, after);
  work.start(fetched.number == job.number && fetched.share == &share);
  work.attend_to_all();
  if (share.first_key < share.stop_key) fetched = {job.number, after};
  work.finish();
}

// Rows that a sequence has for each K/V head: its own lengths alone choose the path.
std::int64_t rows_of(const AttentionCall& call, const Share& share) {
  return (call.cu_q[share.seq + 1] - call.cu_q[share.seq]) * (call.num_heads / call.num_kv_heads);
}

void attend_in_floats(const AttentionJob& job, const Share& share) {
  const bool is_few = rows_of(job.call, share) <= kFewRows;
  if (is_few && job.call.kv_type == kFloat32) return attend<FewRowsPath<kFloat32>>(job, share);
  if (is_few && job.call.kv_type == kBfloat16) return attend<FewRowsPath<kBfloat16>>(job, share);
  if (is_few && job.call.kv_type == kInt8) return attend<FewRowsPath<kInt8>>(job, share);
  attend<Float32Path>(job, share);
}

void run_share(const AttentionJob& job, int index) {
  const Share& share = job.plan.shares[index];
#if CYN_LEVEL >= CYN_AMX
  const AttentionCall& call = job.call;
  const bool fills_tiles = call.q_type == kBfloat16 && rows_of(call, share) > kTooFewForTiles;
  if (fills_tiles && call.kv_type == kInt8 && rows_of(call, share) >= kManyRows) {
    attend<WidenedPath>(job, share);
  } else if (fills_tiles && call.kv_type == kInt8 && call.head_dim <= kMaxExactChannels) {
    attend<CodesPath>(job, share);
  } else if (fills_tiles && call.kv_type == kBfloat16) {
    attend<Bfloat16Path>(job, share);
  } else {
    attend_in_floats(job, share);
  }
#else
  attend_in_floats(job, share);
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
