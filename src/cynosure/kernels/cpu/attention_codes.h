// Multiply queries by int8 codes of keys on AMX, exactly. Knows nothing of masks or softmax.
//
// A query becomes an integer of 15 bits a channel, 128 * high + low, by the largest magnitude of its row: finer than
// the bfloat16 it came in. Two products of int8 against the codes as they lie in their pages are summed in int32
// without an error, and no code is widened:
//
//   queries  [high, low][64 channels][16 quads][16 lanes][4]  packed once a share, zeros beyond head_dim;
//            behind them a scale for each lane
//   keys     [key][channel]                                   read in place, or copied as those of bfloat16 are
//
// A row that holds an infinity or NaN gives NaN against every key: an integer could not tell.
#pragma once

#include "attention_bfloat16.h"
#include "attention_code_values.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

constexpr float kLargestQuery = 16256.0F;  // 127 * 128
constexpr long kMaxExactChannels = 1024;  // beyond, a sum may pass int32

struct CodesPath {
  using Sums = LaneRows;
  const AttentionCall& call;
  TileRegisters registers;
  CodeValues values;
  char* k;  // [kTileKeys][64 * steps]
  int steps;
  const char* groups[kTileKeys / 16];
  Groups keys_at;

  static int steps_of(const AttentionCall& call) { return static_cast<int>((call.head_dim + 63) / 64); }
  static long query_floats(const AttentionCall& call) { return 2L * steps_of(call) * kTileBytes / 4 + kLanes; }
  // Behind the copied keys: the sums of 32 of them.
  static long key_floats(const AttentionCall& call) { return kTileKeys * steps_of(call) * 64L / 4 + 64 * kLanes; }
  static long value_floats(const AttentionCall& call) { return CodeValues::floats(call); }

  CodesPath(const AttentionCall& of, float* keys, float* memory)
      : call(of), values(of, memory), k(reinterpret_cast<char*>(keys)), steps(steps_of(of)) {}

  void pack_queries(const RowTile& rows, float* to) const {
    alignas(64) std::int8_t high[16][64], low[16][64];
    float* scales = to + 2L * steps * kTileBytes / 4;
    Lanes inverse[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const float largest = largest_of(query(rows, lane));
      scales[lane] = largest / kLargestQuery;
      inverse[lane] = fill(largest > 0.0F ? kLargestQuery / largest : 0.0F);
    }
    auto* packed = reinterpret_cast<char*>(to);
    for (int s = 0; s < steps; ++s, packed += kTileBytes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        split(query(rows, lane), s * 64L, inverse[lane], high[lane], low[lane]);
      }
      put_quads(high, packed);
      put_quads(low, packed + steps * kTileBytes);
    }
  }

  void read_keys(const KeyTile& keys, Fetching& next) {
    keys_at = {groups, call.k_key_stride, kRowBytes};
    // What is copied must lie as the rest does.
    const bool are_alike = keys.count == keys.padded || keys_at.row_bytes == steps * 64L;
    const bool lie_well = call.head_dim % 64 == 0 && are_alike && lie_in_groups(keys, keys_at.row_bytes, groups);
    copy_keys(keys, lie_well ? keys.count / 16 * 16 : 0);
    values.read(keys, next);
  }

  void score(const KeyTile& keys, const float* queries, float* scores) const {
    auto* sums = reinterpret_cast<std::int32_t*>(k + kTileKeys * steps * 64L);
    const Lanes scale = load(queries + 2L * steps * kTileBytes / 4);
    for (int first = 0; first < keys.padded; first += 32) {
      multiply_twice(keys_at, first / 16, queries, steps, sums);
      const int count = keys.count - first < 32 ? keys.count - first : 32;
      for (int key = 0; key < count; ++key) {
        const Ints upper = _mm512_slli_epi32(load_ints(sums + key * kLanes), 7);
        const Ints whole = add_ints(upper, load_ints(sums + (32 + key) * kLanes));
        store(scores + (first + key) * kLanes, mul(to_floats(whole), mul(scale, fill(keys.k_scale[first + key]))));
      }
    }
  }

  CodeValues::Weights weights_for(const KeyTile&, const RowTile& rows, Lanes top, float*) const {
    return values.weights_for(rows, top);
  }
  void add_values(const KeyTile& keys, const RowTile& rows, Lanes top, const float*, float* out) const {
    values.add(keys, rows, top, out);
  }

 private:
  const Bfloat16* query(const RowTile& rows, int lane) const {
    return static_cast<const Bfloat16*>(call.q) + rows.token[lane] * call.q_row_stride +
           rows.head[lane] * call.q_head_stride;
  }

  Lanes channels(const Bfloat16* q, long first) const {
    const long left = call.head_dim - first;
    if (left >= kLanes) return load_bf16(q + first);
    return left > 0 ? load_bf16_some(q + first, static_cast<int>(left)) : fill(0.0F);
  }

  float largest_of(const Bfloat16* q) const {
    Lanes most = fill(0.0F), sum = fill(0.0F);
    for (long d = 0; d < call.head_dim; d += kLanes) {
      const Lanes x = channels(q, d);
      most = larger(absolute(x), most);
      sum = fma(x, fill(0.0F), sum);  // 0, or NaN where a channel is not finite
    }
    return largest(most) + cynosure::CYN_VARIANT::sum(sum);
  }

  // Sixty-four channels as bytes: 128 * high + low, low from -64 to 63.
  void split(const Bfloat16* q, long first, Lanes inverse, std::int8_t* high, std::int8_t* low) const {
    for (int d = 0; d < 64; d += kLanes) {
      const Ints whole = to_ints(mul(channels(q, first + d), inverse));
      const Ints upper = _mm512_srai_epi32(add_ints(whole, fill_ints(64)), 7);
      store_bytes(high + d, upper);
      store_bytes(low + d, _mm512_sub_epi32(whole, _mm512_slli_epi32(upper, 7)));
    }
  }

  static void put_quads(const std::int8_t (&rows)[16][64], char* to) {
    __m512i r[16];
    for (int lane = 0; lane < 16; ++lane) r[lane] = _mm512_load_si512(rows[lane]);
    transpose(r);
    for (int quad = 0; quad < 16; ++quad) _mm512_storeu_si512(to + quad * kRowBytes, r[quad]);
  }

  // From key `first` on, a multiple of sixteen.
  void copy_keys(const KeyTile& keys, int first) {
    if (first == keys.padded) return;
    const long width = steps * 64L;
    keys_at.row_bytes = width;
    __builtin_memset(k + first * width, 0, static_cast<unsigned long>((keys.padded - first) * width));
    for (int i = first; i < keys.padded; ++i) {
      if (i % 16 == 0) groups[i / 16] = k + i * width;
      if (i >= keys.count) continue;
      __builtin_memcpy(k + i * width, keys.key_rows[i], static_cast<unsigned long>(call.head_dim));
    }
  }
};

}  // namespace cynosure::CYN_VARIANT

#endif
