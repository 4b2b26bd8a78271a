// Multiply queries by keys in bfloat16 on AMX, summed in float32. Knows nothing of masks or softmax.
//
// With the queries as B, keys are A as they lie in their pages, and scores come as [key][lane]:
//
//   queries  [32 channels][16 pairs][16 lanes][2]  packed once a share, zeros beyond head_dim
//   keys     [key][channel]                        read in place, copied where 16 do not lie together whole
//
// Channels are padded to a multiple of 32.
#pragma once

#include "attention_results.h"
#include "attention_values.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

// Whether all whole sixteens of keys can be read in place, side by side; `groups` gets where each begins.
static bool lie_in_groups(const KeyTile& keys, long row_bytes, const char** groups) {
  for (int first = 0; first + 16 <= keys.count; first += 16) {
    groups[first / 16] = keys.key_rows[first];
    if (keys.key_rows[first + 15] - keys.key_rows[first] != 15 * row_bytes) return false;
  }
  return true;
}

struct Bfloat16Path {
  using Sums = ChannelRows;
  const AttentionCall& call;
  TileRegisters registers;
  ValueTiles values;
  Bfloat16* k;  // [kTileKeys][32 * steps]
  int steps;
  const char* groups[kTileKeys / 16];
  Groups keys_at;

  static int steps_of(const AttentionCall& call) { return static_cast<int>((call.head_dim + 31) / 32); }
  static long query_floats(const AttentionCall& call) { return steps_of(call) * kTileNumbers / 2; }
  static long key_floats(const AttentionCall& call) { return kTileKeys * steps_of(call) * kSteps / 2; }
  static long value_floats(const AttentionCall& call) { return ValueTiles::floats(call); }

  Bfloat16Path(const AttentionCall& of, float* keys, float* memory)
      : call(of), values(of, memory), k(reinterpret_cast<Bfloat16*>(keys)), steps(steps_of(of)) {}

  void pack_queries(const RowTile& rows, float* to) const { pack(call, steps, rows, to); }

  static void pack(const AttentionCall& call, int steps, const RowTile& rows, float* to) {
    auto* packed = reinterpret_cast<Bfloat16*>(to);
    for (int s = 0; s < steps; ++s) {
      const int left = static_cast<int>(call.head_dim) - s * kSteps;
      const auto mask = static_cast<__mmask32>(left >= kSteps ? 0xffffffffU : (1U << left) - 1);
      __m512i r[16];
      for (int lane = 0; lane < 16; ++lane) {
        const long i = rows.token[lane] * call.q_row_stride + rows.head[lane] * call.q_head_stride + s * kSteps;
        r[lane] = _mm512_maskz_loadu_epi16(mask, static_cast<const Bfloat16*>(call.q) + i);
      }
      transpose(r);
      for (int pair = 0; pair < 16; ++pair) _mm512_storeu_si512(packed + s * kTileNumbers + pair * 32, r[pair]);
    }
  }

  void read_keys(const KeyTile& keys, Fetching& next) {
    keys_at = {groups, call.k_key_stride * 2, kRowBytes};
    // What is copied must lie as the rest does.
    const bool are_alike = keys.count == keys.padded || keys_at.row_bytes == static_cast<long>(steps) * kSteps * 2;
    const bool lie_well = call.head_dim % kSteps == 0 && are_alike && lie_in_groups(keys, keys_at.row_bytes, groups);
    copy_keys(keys, lie_well ? keys.count / 16 * 16 : 0);
    values.read(keys, next);
  }

  void score(const KeyTile& keys, const float* queries, float* scores) const {
    multiply_tiles(keys_at, keys.padded / 16, {queries, steps, false}, scores);
  }

  ValueTiles::Weights weights_for(const KeyTile&, const RowTile&, Lanes, float*) const { return {values.weights()}; }
  void add_values(const KeyTile& keys, const RowTile&, Lanes, const float*, float* out) const {
    values.add(keys, out);
  }

 private:
  // From key `first` on, a multiple of sixteen.
  void copy_keys(const KeyTile& keys, int first) {
    if (first == keys.padded) return;
    const long width = static_cast<long>(steps) * kSteps;
    keys_at.row_bytes = width * 2;
    for (int i = first; i < keys.padded; ++i) {
      if (i % 16 == 0) groups[i / 16] = reinterpret_cast<const char*>(k + i * width);
      const char* row = i < keys.count ? keys.key_rows[i] : nullptr;
      copy_row(row, call.head_dim, width, k + i * width);
    }
  }
};

}  // namespace cynosure::CYN_VARIANT

#endif
