// Multiply many query rows by int8 codes on AMX as bfloat16. Knows nothing of masks or softmax.
//
// A code is a whole number that bfloat16 holds exactly. Where a share has many rows, a tile of keys and values is
// widened once for all of them, and each sixteen rows then cost what they cost against pages of bfloat16; keys'
// scales multiply the scores, values' scales the weights. Few rows read the codes as they are (attention_codes.h).
#pragma once

#include "attention_bfloat16.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

constexpr int kManyRows = 64;  // of a sequence for one K/V head; with fewer, widening costs more than it saves

// Thirty-two codes as bfloat16, zeros from `count` on.
CYN_INLINE __m512i widened_codes(const char* row, long first, long count) {
  const long left = count - first;
  const auto are_there = static_cast<__mmask32>(left >= 32 ? 0xffffffffU : left <= 0 ? 0 : (1U << left) - 1);
  const __m256i codes = _mm256_maskz_loadu_epi8(are_there, row + first);
  const Lanes low = to_floats(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
  const Lanes high = to_floats(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

struct WidenedPath {
  using Sums = ChannelRows;
  const AttentionCall& call;
  TileRegisters registers;
  ValueTiles values;
  Bfloat16* k;  // [kTileKeys][32 * steps]
  int steps;
  const char* groups[kTileKeys / 16];

  static int steps_of(const AttentionCall& call) { return Bfloat16Path::steps_of(call); }
  static long query_floats(const AttentionCall& call) { return Bfloat16Path::query_floats(call); }
  static long key_floats(const AttentionCall& call) { return Bfloat16Path::key_floats(call); }
  static long value_floats(const AttentionCall& call) { return ValueTiles::floats(call); }

  WidenedPath(const AttentionCall& of, float* keys, float* memory)
      : call(of), values(of, memory), k(reinterpret_cast<Bfloat16*>(keys)), steps(steps_of(of)) {}

  void pack_queries(const RowTile& rows, float* to) const { Bfloat16Path::pack(call, steps, rows, to); }

  void read_keys(const KeyTile& keys, Fetching& next) {
    const long width = static_cast<long>(steps) * kSteps;
    for (int i = 0; i < keys.padded; ++i) {
      next.some(1);
      if (i % 16 == 0) groups[i / 16] = reinterpret_cast<const char*>(k + i * width);
      widen_row(i < keys.count ? keys.key_rows[i] : nullptr, call.head_dim, width, k + i * width);
    }
    read_values(keys);
  }

  void score(const KeyTile& keys, const float* queries, float* scores) const {
    multiply_tiles({groups, steps * kSteps * 2L, kRowBytes}, keys.padded / 16, {queries, steps, false}, scores);
    for (int key = 0; key < keys.count; ++key, scores += kLanes) {
      store(scores, mul(load(scores), fill(keys.k_scale[key])));
    }
  }

  // Weights that carry their value's scale.
  struct Weights {
    ValueTiles::Weights plain;
    const float* scales;
    int count;

    void put(int key, Lanes a, Lanes b) const {
      if (key < count) a = mul(a, fill(scales[key]));
      if (key + 1 < count) b = mul(b, fill(scales[key + 1]));
      plain.put(key, a, b);
    }
  };

  Weights weights_for(const KeyTile& keys, const RowTile&, Lanes, float*) const {
    return {{values.weights()}, keys.v_scale, keys.count};
  }
  void add_values(const KeyTile& keys, const RowTile&, Lanes, const float*, float* out) const {
    values.add(keys, out);
  }

 private:
  static void widen_row(const char* row, long count, long width, Bfloat16* to) {
    for (long d = 0; d < width; d += kSteps) {
      _mm512_storeu_si512(to + d, row == nullptr ? _mm512_setzero_si512() : widened_codes(row, d, count));
    }
  }

  void read_values(const KeyTile& keys) const {
    const int num_steps = keys.padded / kSteps;
    const long width = ValueTiles::width_of(call);
    const char* rows[kSteps];
    for (int step = 0; step < num_steps; ++step) {
      const int first = step * kSteps;
      Bfloat16* to = values.room_for_rows();
      for (int i = 0; i < kSteps; ++i, to += width) {
        widen_row(first + i < keys.count ? keys.value_rows[first + i] : nullptr, call.v_head_dim, width, to);
        rows[i] = reinterpret_cast<const char*>(to);
      }
      for (int group = 0; group < values.groups; ++group) values.turn(rows, group, num_steps, step);
    }
  }
};

}  // namespace cynosure::CYN_VARIANT

#endif
