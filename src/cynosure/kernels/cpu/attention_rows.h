// Hold what is known of a lane-full of query rows, and of a tile of keys. Knows nothing of products.
#pragma once

#include "attention_math.h"
#include "attention_numbers.h"
#include "attention_plan.h"

namespace cynosure::CYN_VARIANT {

constexpr float kLog2E = 1.44269504088896340736F;
constexpr float kLn2 = 0.69314718055994530942F;
constexpr std::int64_t kFarthest = std::int64_t{1} << 24;  // distances up to here are exact in float32

// Rows of one share, one a lane; scores are kept in units of log 2.
struct RowTile {
  float scale[kLanes];                                    // times q.k is the score before all else
  float position[kLanes], low[kLanes], high[kLanes];      // measured from the share's origin
  float slope[kLanes];                                    // of ALiBi
  float top[kLanes], total[kLanes];                       // running maximum, running sum
  float run_total[kLanes];                                // the sum over the open run of a segment
  float score_sum[kLanes];                                // scores weighted by their exponentials
  int token[kLanes], head[kLanes];                        // row of q, query head
  int num_rows;
  bool is_watched;                                        // whether one of them is
  std::int64_t low_max, low_min, high_max, high_min;      // bounds of what the rows may see, as positions
};

// Up to kTileKeys keys in order.
struct KeyTile {
  std::int64_t first;                       // key of its sequence
  int count, padded;                        // padded: count up to the next multiple of 32
  bool are_measured;
  float position[kTileKeys];                // measured from the share's origin, where `are_measured`
  std::int64_t position_min, position_max;  // as positions
  const float* bias;                        // null where keys have none
  const char* key_rows[kTileKeys];          // where each lies
  const char* value_rows[kTileKeys];
  long scale_at[kTileKeys];                 // of int8 codes: where their scales lie,
  float k_scale[kTileKeys], v_scale[kTileKeys];  // and what they are, once `take_scales` has read them
};

CYN_INLINE float distance(std::int64_t position, std::int64_t origin) {
  if (position > origin) {
    const auto apart = static_cast<std::uint64_t>(position) - static_cast<std::uint64_t>(origin);
    return static_cast<float>(apart < static_cast<std::uint64_t>(kFarthest) ? apart : kFarthest);
  }
  const auto apart = static_cast<std::uint64_t>(origin) - static_cast<std::uint64_t>(position);
  return -static_cast<float>(apart < static_cast<std::uint64_t>(kFarthest) ? apart : kFarthest);
}

CYN_INLINE std::int64_t origin_of(const AttentionCall& call, const Share& share) {
  const long group = call.num_heads / call.num_kv_heads;
  return call.q_positions[call.cu_q[share.seq] + share.first_row / group];
}

// What multiplies q.k for a query at `position`.
CYN_INLINE float scale_at(const AttentionCall& call, std::int64_t position) {
  if (call.train_length == 0.0) return static_cast<float>(call.scale);
  const double growth = __builtin_log(static_cast<double>(position) + 1.0) / __builtin_log(call.train_length);
  return static_cast<float>(call.scale * (growth > 1.0 ? growth : 1.0));
}

static void fill_rows(const AttentionCall& call, const Share& share, int first_row, RowTile& rows) {
  const int group = static_cast<int>(call.num_heads / call.num_kv_heads);
  const std::int64_t origin = origin_of(call, share);
  const int left = share.first_row + share.num_rows - first_row;
  rows.num_rows = left < kLanes ? left : kLanes;
  rows.low_max = rows.high_max = INT64_MIN;
  rows.low_min = rows.high_min = INT64_MAX;
  for (int lane = 0; lane < kLanes; ++lane) {
    // Lanes without a row repeat the last one: they are computed and never read.
    const int row = first_row + (lane < rows.num_rows ? lane : rows.num_rows - 1);
    const auto token = static_cast<int>(call.cu_q[share.seq] + row / group);
    const std::int64_t position = call.q_positions[token];
    const std::int64_t low = call.low == nullptr ? INT64_MIN : call.low[token];
    const std::int64_t high = call.high == nullptr ? INT64_MAX : call.high[token];
    rows.token[lane] = token;
    rows.head[lane] = share.kv_head * group + row % group;
    rows.scale[lane] = scale_at(call, position);
    rows.position[lane] = distance(position, origin);
    rows.low[lane] = distance(low, origin);
    rows.high[lane] = distance(high, origin);
    rows.slope[lane] = call.slopes == nullptr ? 0.0F : call.slopes[rows.head[lane]];
    rows.low_min = low < rows.low_min ? low : rows.low_min;
    rows.low_max = low > rows.low_max ? low : rows.low_max;
    rows.high_min = high < rows.high_min ? high : rows.high_min;
    rows.high_max = high > rows.high_max ? high : rows.high_max;
    rows.top[lane] = kLowest;
    rows.total[lane] = rows.run_total[lane] = rows.score_sum[lane] = 0.0F;
  }
}

// Where the keys of a tile lie, page by page, and their scales.
static void find_keys(const AttentionCall& call, const Share& share, KeyTile& keys) {
  const long bytes = bytes_of(call.kv_type), head = share.kv_head;
  const auto *k = static_cast<const char*>(call.k), *v = static_cast<const char*>(call.v);
  for (int i = 0; i < keys.count;) {
    const std::int64_t key = keys.first + i;
    long block = 0, in_block = 0, stop = keys.count;
    if (call.block_size == 0) {
      in_block = call.first_rows[share.seq] + key;
    } else {
      block = call.block_table[share.seq * call.table_stride + head * call.table_head_stride + key / call.block_size];
      in_block = key % call.block_size;
      stop = i + call.block_size - in_block < keys.count ? i + call.block_size - in_block : keys.count;
    }
    const long k_at = block * call.k_block_stride + head * call.k_head_stride + in_block * call.k_key_stride;
    const long v_at = block * call.v_block_stride + head * call.v_head_stride + in_block * call.v_key_stride;
    const char *k_row = k + k_at * bytes, *v_row = v + v_at * bytes;
    long scale = (block * call.num_kv_heads + head) * call.block_size + in_block;
    if (call.k_scale != nullptr) {
      prefetch(call.k_scale + scale);
      prefetch(call.v_scale + scale);
    }
    for (; i < stop; ++i, k_row += call.k_key_stride * bytes, v_row += call.v_key_stride * bytes) {
      keys.key_rows[i] = k_row;
      keys.value_rows[i] = v_row;
      keys.scale_at[i] = scale++;
    }
  }
}

static void fill_keys(const AttentionCall& call, const Share& share, std::int64_t first, KeyTile& keys) {
  const std::int64_t left = share.stop_key - first;
  keys.first = first;
  keys.count = static_cast<int>(left < kTileKeys ? left : kTileKeys);
  keys.padded = (keys.count + 31) / 32 * 32;
  keys.are_measured = false;
  keys.bias = call.key_bias == nullptr ? nullptr : call.key_bias + call.cu_k[share.seq] + first;
  keys.position_min = position_of_key(call, share.seq, first);
  keys.position_max = position_of_key(call, share.seq, first + keys.count - 1);
  const bool is_consecutive = call.is_consecutive != nullptr && call.is_consecutive[share.seq];
  for (int i = 0; i < keys.count && !is_consecutive; ++i) {
    const std::int64_t position = position_of_key(call, share.seq, first + i);
    keys.position_min = position < keys.position_min ? position : keys.position_min;
    keys.position_max = position > keys.position_max ? position : keys.position_max;
  }
  find_keys(call, share, keys);
}

// Read the scales of int8 codes: apart from `find_keys`, which runs a tile ahead and would wait for them.
static void take_scales(const AttentionCall& call, KeyTile& keys) {
  for (int i = 0; call.k_scale != nullptr && i < keys.count; ++i) {
    const long at = keys.scale_at[i];
    if (i % kLanes == 0 && i + kLanes <= keys.count && keys.scale_at[i + kLanes - 1] == at + kLanes - 1) {
      store(keys.k_scale + i, load(call.k_scale + at));
      store(keys.v_scale + i, load(call.v_scale + at));
      i += kLanes - 1;
      continue;
    }
    keys.k_scale[i] = call.k_scale[at];
    keys.v_scale[i] = call.v_scale[at];
  }
}

// Measure the keys' positions from the share's origin, where a mask or a bias asks for them.
static void measure(const AttentionCall& call, const Share& share, KeyTile& keys) {
  if (keys.are_measured) return;
  const std::int64_t origin = origin_of(call, share);
  for (int i = 0; i < keys.count; ++i) {
    keys.position[i] = static_cast<float>(position_of_key(call, share.seq, keys.first + i) - origin);
  }
  keys.are_measured = true;
}

// Fetches the keys and values of a tile ahead of their use, some at a time between other work: a processor that is
// asked for more lines than it can wait for waits itself. Into the second-level cache: the first holds what is used.
class Fetching {
 public:
  explicit Fetching(const AttentionCall& call)
      : key_bytes_(call.head_dim * bytes_of(call.kv_type)), value_bytes_(call.v_head_dim * bytes_of(call.kv_type)) {}

  void start(const KeyTile& tile) {
    tile_ = &tile;
    at_ = 0;
  }
  // Those of the next `count` keys, as far as there are any.
  void some(int count) {
    const int stop = tile_->count - at_ < count ? tile_->count : at_ + count;
    for (; at_ < stop; ++at_) {
      for (long i = 0; i < key_bytes_; i += 64) prefetch_to_second(tile_->key_rows[at_] + i);
      for (long i = 0; i < value_bytes_; i += 64) prefetch_to_second(tile_->value_rows[at_] + i);
    }
  }
  void rest() { some(kTileKeys); }

 private:
  const KeyTile* tile_ = nullptr;
  int at_ = 0;
  long key_bytes_, value_bytes_;
};

}  // namespace cynosure::CYN_VARIANT
