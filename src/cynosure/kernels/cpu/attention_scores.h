// Turn products into finished scores in units of log 2: scale, bend, bias, mask. Knows nothing of softmax.
#pragma once

#include "attention_rows.h"

namespace cynosure::CYN_VARIANT {

enum class Sight { kNothing, kSome, kAll };

CYN_INLINE int cover_of(const AttentionCall& call, const Share& share, const KeyTile& keys, int token) {
  if (call.map_blocks == nullptr) return kFull;
  const std::int64_t num_keys = call.cu_k[share.seq + 1] - call.cu_k[share.seq];
  const std::int64_t columns = (num_keys + kTileKeys - 1) / kTileKeys;
  const std::int64_t row = (token - call.cu_q[share.seq]) / call.map_rows;
  return call.map_blocks[call.map_offsets[share.seq] + row * columns + keys.first / kTileKeys];
}

// Whether the rows see none, some or all of the keys.
static Sight sight_of(const AttentionCall& call, const Share& share, const RowTile& rows, const KeyTile& keys) {
  if (keys.position_max < rows.low_min || keys.position_min > rows.high_max) return Sight::kNothing;
  bool sees_all = keys.position_min >= rows.low_max && keys.position_max <= rows.high_min;
  if (call.map_blocks == nullptr) return sees_all ? Sight::kAll : Sight::kSome;
  bool sees_any = false;
  for (int lane = 0; lane < rows.num_rows; ++lane) {
    const int cover = cover_of(call, share, keys, rows.token[lane]);
    sees_any |= cover != kEmpty;
    sees_all &= cover == kFull;
  }
  return !sees_any ? Sight::kNothing : sees_all ? Sight::kAll : Sight::kSome;
}

// What is looked up cell by cell: the dense bias, and -inf where the map forbids.
static void fill_cells(const AttentionCall& call, const Share& share, const RowTile& rows, const KeyTile& keys,
                       float* cells) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int64_t token = rows.token[lane] - call.cu_q[share.seq];
    const int cover = cover_of(call, share, keys, rows.token[lane]);
    const std::uint8_t* allowed = nullptr;
    if (cover >= kFirstPartial) {
      allowed = call.map_cells + ((cover - kFirstPartial) * call.map_rows + token % call.map_rows) * kTileKeys;
    }
    const float* bias = nullptr;
    if (call.dense_bias != nullptr) {
      bias = call.dense_bias + rows.head[lane] * call.bias_head_stride + token * call.bias_row_stride + keys.first;
    }
    for (int key = 0; key < keys.count; ++key) {
      const bool is_allowed = cover == kFull || (cover != kEmpty && allowed[key] != 0);
      cells[key * kLanes + lane] = !is_allowed ? kLowest : bias == nullptr ? 0.0F : bias[key];
    }
  }
}

static Lanes distance_bias_of(const AttentionCall& call, const RowTile& rows, float key_position) {
  float bias[kLanes];
  const auto farthest = static_cast<float>(call.max_distance);
  for (int lane = 0; lane < kLanes; ++lane) {
    float apart = key_position - rows.position[lane];
    apart = apart < -farthest ? -farthest : apart > farthest ? farthest : apart;
    bias[lane] = call.distance_bias[rows.head[lane] * (2 * call.max_distance + 1) + call.max_distance +
                                    static_cast<long>(apart)];
  }
  return load(bias);
}

CYN_INLINE bool has_terms(const AttentionCall& call) {
  return call.softcap != 0.0 || call.slopes != nullptr || call.distance_bias != nullptr ||
         call.key_bias != nullptr || call.dense_bias != nullptr || !(call.scale > 0.0);
}

// The largest of each lane; four at a time, since each waits for the one before it.
static Lanes largest_scores(const float* scores, int count) {
  Lanes a = fill(kLowest), b = a, c = a, d = a;
  for (const float* end = scores + count * kLanes; scores != end; scores += 4 * kLanes) {
    a = larger(load(scores), a);
    b = larger(load(scores + kLanes), b);
    c = larger(load(scores + 2 * kLanes), c);
    d = larger(load(scores + 3 * kLanes), d);
  }
  return larger(larger(a, b), larger(c, d));
}

// Each lane's largest score, and what the scores still have to be multiplied by: where nothing but a scale enters,
// it is left to the exponential.
struct Finished {
  Lanes top, factor;
};

// Finish scores [key][lane] in place.
static Finished finish_scores(const AttentionCall& call, const Share& share, const RowTile& rows, KeyTile& keys,
                              Sight sight, float* cells, float* scores) {
  Lanes top = fill(kLowest);
  for (int key = keys.count; key < keys.padded; ++key) store(scores + key * kLanes, top);
  const Lanes scale = load(rows.scale);
  if (sight == Sight::kAll && !has_terms(call)) {
    const Lanes factor = mul(scale, fill(kLog2E));
    return {mul(largest_scores(scores, keys.padded), factor), factor};
  }
  measure(call, share, keys);
  const bool has_cells = call.dense_bias != nullptr || (call.map_blocks != nullptr && sight != Sight::kAll);
  if (has_cells) fill_cells(call, share, rows, keys, cells);
  const Lanes position = load(rows.position), low = load(rows.low), high = load(rows.high);
  const Lanes slope = load(rows.slope), cap = fill(static_cast<float>(call.softcap));
  const Lanes least = fill(-__FLT_MAX__), most = fill(__builtin_inff());
  for (int key = 0; key < keys.count; ++key) {
    Lanes x = mul(load(scores + key * kLanes), scale);
    const Lanes at = fill(keys.position[key]);
    if (call.softcap != 0.0) x = mul(cap, hyperbolic_tangent(div(x, cap)));
    if (keys.bias != nullptr) x = add(x, fill(keys.bias[key]));
    if (call.slopes != nullptr) x = sub(x, mul(slope, absolute(sub(position, at))));
    if (call.distance_bias != nullptr) x = add(x, distance_bias_of(call, rows, keys.position[key]));
    if (has_cells) {
      const Lanes cell = load(cells + key * kLanes);
      x = kept(cell, least, most, add(x, cell));
    }
    if (sight != Sight::kAll) x = kept(at, low, high, x);
    x = mul(x, fill(kLog2E));
    store(scores + key * kLanes, x);
    top = larger(x, top);
  }
  return {top, fill(1.0F)};
}

}  // namespace cynosure::CYN_VARIANT
