// Multiply a few query rows by keys and values where they lie, channels in lanes. Knows nothing of masks or softmax.
//
// A decoding step of a K/V head with one query head, or a few, would leave most lanes of the other paths empty. Here a
// lane is a channel: keys and values are widened in registers and never written down.
//
//   queries, sums  [row][channels]   zeros beyond head_dim, v_head_dim
//   scores         [key][lane]       as everywhere; lanes without a row are 0
#pragma once

#include "attention_results.h"
#include "attention_softmax.h"

namespace cynosure::CYN_VARIANT {

constexpr int kFewRows = 4;
constexpr int kTooFewForTiles = 2;  // of AMX, whose sixteen lanes cost the same whether rows fill them or not

CYN_INLINE long padded_to_lanes(long channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// Sixteen stored numbers from channel d on, zeros where none are left; codes come without their scale.
template <int element>
CYN_INLINE Lanes sixteen_of(const char* row, long d, long width) {
  const int left = width - d < kLanes ? static_cast<int>(width - d) : kLanes;
  if constexpr (element == kFloat32) {
    const auto* p = reinterpret_cast<const float*>(row) + d;
    return left == kLanes ? load(p) : load_some(p, left);
  } else if constexpr (element == kBfloat16) {
    const auto* p = reinterpret_cast<const std::uint16_t*>(row) + d;
    return left == kLanes ? load_bf16(p) : load_bf16_some(p, left);
  } else {
    const auto* p = reinterpret_cast<const std::int8_t*>(row) + d;
    if (left == kLanes) return load_codes(p);
    std::int8_t some[kLanes] = {};
    __builtin_memcpy(some, p, static_cast<unsigned>(left));
    return load_codes(some);
  }
}

template <int element>
struct FewRowsPath {
  struct Sums {
    static long channels(const AttentionCall& call) { return padded_to_lanes(call.v_head_dim); }

    static void scale(float* out, long channels, int num_rows, Lanes factor) {
      float by[kLanes];
      store(by, factor);
      for (int row = 0; row < num_rows; ++row, out += channels) {
        for (long d = 0; d < channels; d += kLanes) store(out + d, mul(load(out + d), fill(by[row])));
      }
    }

    static void write(const float* out, Lanes factor, int num_rows, long width, float* const* to) {
      float by[kLanes];
      store(by, factor);
      for (int row = 0; row < num_rows; ++row, out += padded_to_lanes(width)) {
        for (long d = 0; d < width; ++d) to[row][d] = out[d] * by[row];
      }
    }
  };

  const AttentionCall& call;
  Fetching* next = nullptr;
  int num_rows = 0;

  static long query_floats(const AttentionCall& call) { return kFewRows * padded_to_lanes(call.head_dim); }
  static long key_floats(const AttentionCall&) { return 0; }
  static long value_floats(const AttentionCall&) { return 0; }

  FewRowsPath(const AttentionCall& of, float*, float*) : call(of) {}

  void pack_queries(const RowTile& rows, float* packed) {
    num_rows = rows.num_rows;
    const long width = padded_to_lanes(call.head_dim);
    for (int row = 0; row < num_rows; ++row, packed += width) {
      const long i = rows.token[row] * call.q_row_stride + rows.head[row] * call.q_head_stride;
      const char* q = static_cast<const char*>(call.q) + i * bytes_of(call.q_type);
      for (long d = 0; d < width; ++d) packed[d] = d < call.head_dim ? number_at(q, call.q_type, d) : 0.0F;
    }
  }

  void read_keys(const KeyTile&, Fetching& ahead) { next = &ahead; }

  void score(const KeyTile& keys, const float* queries, float* scores) const {
    switch (num_rows) {
      case 1: return score_rows<1>(keys, queries, scores);
      case 2: return score_rows<2>(keys, queries, scores);
      case 3: return score_rows<3>(keys, queries, scores);
      default: return score_rows<4>(keys, queries, scores);
    }
  }

  Float32Weights weights_for(const KeyTile& keys, const RowTile&, Lanes, float* scores) const {
    return {scores, call.v_scale == nullptr ? nullptr : keys.v_scale, keys.count};
  }

  void add_values(const KeyTile& keys, const RowTile&, Lanes, const float* scores, float* out) const {
    switch (num_rows) {
      case 1: return add_rows<1>(keys, scores, out);
      case 2: return add_rows<2>(keys, scores, out);
      case 3: return add_rows<3>(keys, scores, out);
      default: return add_rows<4>(keys, scores, out);
    }
  }

 private:
  template <int rows>
  void score_rows(const KeyTile& keys, const float* queries, float* scores) const {
    const long width = padded_to_lanes(call.head_dim);
    for (int key = 0; key < keys.count; ++key, scores += kLanes) {
      next->some(1);
      Lanes sums[rows];
      for (int row = 0; row < rows; ++row) sums[row] = fill(0.0F);
      for (long d = 0; d < width; d += kLanes) {
        const Lanes k = sixteen_of<element>(keys.key_rows[key], d, call.head_dim);
        for (int row = 0; row < rows; ++row) sums[row] = fma(load(queries + row * width + d), k, sums[row]);
      }
      store(scores, fill(0.0F));
      const float scale = call.k_scale == nullptr ? 1.0F : keys.k_scale[key];
      for (int row = 0; row < rows; ++row) scores[row] = sum(sums[row]) * scale;
    }
  }

  // As many channels at a time as keep four sums on their way.
  template <int rows>
  void add_rows(const KeyTile& keys, const float* weights, float* out) const {
    constexpr int kSteps = rows == 1 ? 4 : rows == 2 ? 2 : 1;
    const long channels = padded_to_lanes(call.v_head_dim);
    long d = 0;
    for (; d + kSteps * kLanes <= channels; d += kSteps * kLanes) add_some<rows, kSteps>(keys, weights, d, out);
    for (; d < channels; d += kLanes) add_some<rows, 1>(keys, weights, d, out);
  }

  template <int rows, int steps>
  void add_some(const KeyTile& keys, const float* weights, long first, float* out) const {
    const long channels = padded_to_lanes(call.v_head_dim);
    Lanes sums[rows][steps];
    for (int row = 0; row < rows; ++row) {
      for (int i = 0; i < steps; ++i) sums[row][i] = load(out + row * channels + first + i * kLanes);
    }
    for (int key = 0; key < keys.count; ++key, weights += kLanes) {
      for (int i = 0; i < steps; ++i) {
        const Lanes v = sixteen_of<element>(keys.value_rows[key], first + i * kLanes, call.v_head_dim);
        for (int row = 0; row < rows; ++row) sums[row][i] = fma(fill(weights[row]), v, sums[row][i]);
      }
    }
    for (int row = 0; row < rows; ++row) {
      for (int i = 0; i < steps; ++i) store(out + row * channels + first + i * kLanes, sums[row][i]);
    }
  }
};

}  // namespace cynosure::CYN_VARIANT
