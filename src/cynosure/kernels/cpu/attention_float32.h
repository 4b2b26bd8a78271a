// Multiply tiles in float32, whatever they are stored in. Knows nothing of masks or softmax.
//
// Packing: queries [head_dim][lane], so that a vector holds one channel of all rows; keys [key][head_dim] and
// values [key][channel], widened to float32 and read as scalars; scores and weights [key][lane]; outputs
// [channel][lane].
#pragma once

#include "attention_results.h"
#include "attention_softmax.h"

namespace cynosure::CYN_VARIANT {

// out[i][lane] (+)= sum over s of a[i * row + s * step] * b[s][lane], for num_rows, a multiple of kRowsAtOnce.
#if CYN_LEVEL >= CYN_AVX512
constexpr int kRowsAtOnce = 8;
#else
constexpr int kRowsAtOnce = 4;  // of two registers each
#endif

static void multiply(const float* a, long row, long step, int num_rows, int num_steps, const float* b, float* out,
                     bool is_added) {
  for (int first = 0; first < num_rows; first += kRowsAtOnce) {
    const float* at = a + first * row;
    float* to = out + first * kLanes;
    Lanes sums[kRowsAtOnce];
    for (int i = 0; i < kRowsAtOnce; ++i) sums[i] = is_added ? load(to + i * kLanes) : fill(0.0F);
    for (int s = 0; s < num_steps; ++s) {
      const Lanes x = load(b + static_cast<long>(s) * kLanes);
      for (int i = 0; i < kRowsAtOnce; ++i) sums[i] = fma(fill(at[i * row + s * step]), x, sums[i]);
    }
    for (int i = 0; i < kRowsAtOnce; ++i) store(to + i * kLanes, sums[i]);
  }
}

struct Float32Path {
  using Sums = ChannelRows;
  const AttentionCall& call;
  float* k;  // [kTileKeys][head_dim]
  float* v;  // [kTileKeys][channels], channels: v_head_dim up to the next multiple of 16
  int channels;

  static long query_floats(const AttentionCall& call) { return call.head_dim * kLanes; }
  static long key_floats(const AttentionCall& call) { return kTileKeys * call.head_dim; }
  static long value_floats(const AttentionCall& call) { return kTileKeys * ((call.v_head_dim + 15) / 16 * 16); }

  Float32Path(const AttentionCall& of, float* keys, float* values)
      : call(of), k(keys), v(values), channels(static_cast<int>((of.v_head_dim + 15) / 16 * 16)) {}

  void pack_queries(const RowTile& rows, float* packed) const {
    for (int lane = 0; lane < kLanes; ++lane) {
      const long i = rows.token[lane] * call.q_row_stride + rows.head[lane] * call.q_head_stride;
      const char* q = static_cast<const char*>(call.q) + i * bytes_of(call.q_type);
      for (int d = 0; d < call.head_dim; ++d) packed[d * kLanes + lane] = number_at(q, call.q_type, d);
    }
  }

  void read_keys(const KeyTile& keys, Fetching& next) const {
    for (int i = 0; i < keys.count; ++i) {
      next.some(1);
      widen(keys.key_rows[i], call.kv_type, call.head_dim, k + i * call.head_dim);
      float* row = v + static_cast<long>(i) * channels;
      widen(keys.value_rows[i], call.kv_type, call.v_head_dim, row);
      for (int d = static_cast<int>(call.v_head_dim); d < channels; ++d) row[d] = 0.0F;
    }
    // What lies beyond the last key is never read: it may be anything, and 0 * NaN is not 0.
    __builtin_memset(k + keys.count * call.head_dim, 0, (keys.padded - keys.count) * call.head_dim * sizeof(float));
    __builtin_memset(v + static_cast<long>(keys.count) * channels, 0,
                     static_cast<long>(keys.padded - keys.count) * channels * sizeof(float));
  }

  void score(const KeyTile& keys, const float* queries, float* scores) const {
    multiply(k, call.head_dim, 1, keys.padded, static_cast<int>(call.head_dim), queries, scores, false);
    for (int key = 0; call.k_scale != nullptr && key < keys.count; ++key) {
      store(scores + key * kLanes, mul(load(scores + key * kLanes), fill(keys.k_scale[key])));
    }
  }

  Float32Weights weights_for(const KeyTile& keys, const RowTile&, Lanes, float* scores) const {
    return {scores, call.v_scale == nullptr ? nullptr : keys.v_scale, keys.count};
  }

  void add_values(const KeyTile& keys, const RowTile&, Lanes, const float* scores, float* out) const {
    multiply(v, 1, channels, channels, keys.count, scores, out, true);
  }
};

}  // namespace cynosure::CYN_VARIANT
