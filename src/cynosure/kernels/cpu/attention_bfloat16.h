// Multiply tiles in bfloat16 on AMX, summed in float32. Knows nothing of masks or softmax.
//
// A tile register is 16 rows of 64 bytes; one instruction gives C[16][16 lanes] += A[16][32] B[32][16 lanes], where
// B holds two steps of a lane side by side. With the queries as B, keys are A as they lie in their pages, scores
// come as [key][lane], and weights, paired, are B again:
//
//   queries  [32 channels][16 pairs][16 lanes][2]    packed once a share, zeros beyond head_dim
//   keys     [key][channel]                          read in place, copied where 16 do not lie together whole
//   values   [16 channels][32 keys][16 channels][32] transposed once a tile of keys, zeros beyond the last key
//   weights  [32 keys][16 pairs][16 lanes][2]
//   outputs  [channel][lane]
//
// Channels are padded to a multiple of 32 for keys and of 16 for values.
#pragma once

#include "attention_rows.h"
#include "attention_transpose.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

using Bfloat16 = std::uint16_t;
constexpr int kTileNumbers = 512;  // of bfloat16 in one register
constexpr int kSteps = 32;         // of a product in one instruction
constexpr int kRegisterBytes = 64;

// All eight registers as 16 rows of 64 bytes, while this lives.
struct TileRegisters {
  TileRegisters() {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    asm volatile("" : : "r"(&shape) : "memory");  // or GCC 12 drops the stores to it
    _tile_loadconfig(&shape);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// Groups of sixteen rows of A: where each group's first row begins, and how far its next row and its next 32 steps
// are. All groups of a product lie alike.
struct Groups {
  const char* const* first;
  long row_bytes, step_bytes;
};

// out[i][lane] (+)= a[group][i] * b, sixteen rows. The numbers of registers must be literals.
static void multiply_one(const Groups& a, int group, int num_steps, const Bfloat16* b, float* out, bool is_added) {
  if (is_added) {
    _tile_loadd(0, out, kRegisterBytes);
  } else {
    _tile_zero(0);
  }
  const char* p = a.first[group];
  for (int s = 0; s < num_steps; ++s, p += a.step_bytes, b += kTileNumbers) {
    _tile_loadd(4, b, kRegisterBytes);
    _tile_loadd(5, p, a.row_bytes);
    _tile_dpbf16ps(0, 5, 4);
  }
  _tile_stored(0, out, kRegisterBytes);
}

// The same for four groups, whose sums fill four registers.
static void multiply_four(const Groups& a, int group, int num_steps, const Bfloat16* b, float* out, bool is_added) {
  if (is_added) {
    _tile_loadd(0, out, kRegisterBytes);
    _tile_loadd(1, out + 256, kRegisterBytes);
    _tile_loadd(2, out + 512, kRegisterBytes);
    _tile_loadd(3, out + 768, kRegisterBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const long row = a.row_bytes, step = a.step_bytes;
  const char *p = a.first[group], *q = a.first[group + 1], *r = a.first[group + 2], *t = a.first[group + 3];
  long at = 0;
  for (int s = 0; s < num_steps; ++s, at += step, b += kTileNumbers) {
    _tile_loadd(4, b, kRegisterBytes);
    _tile_loadd(5, p + at, row);
    _tile_dpbf16ps(0, 5, 4);
    _tile_loadd(6, q + at, row);
    _tile_dpbf16ps(1, 6, 4);
    _tile_loadd(7, r + at, row);
    _tile_dpbf16ps(2, 7, 4);
    _tile_loadd(5, t + at, row);
    _tile_dpbf16ps(3, 5, 4);
  }
  _tile_stored(0, out, kRegisterBytes);
  _tile_stored(1, out + 256, kRegisterBytes);
  _tile_stored(2, out + 512, kRegisterBytes);
  _tile_stored(3, out + 768, kRegisterBytes);
}

// out[16 * group + i][lane] (+)= a[group][i] * b for each group; b is [num_steps][16 pairs][16 lanes][2].
static void multiply_tiles(const Groups& a, int num_groups, int num_steps, const Bfloat16* b, float* out,
                           bool is_added) {
  asm volatile("" : : : "memory");  // the loads of tiles do not tell the compiler what they read
  int group = 0;
  for (; group + 4 <= num_groups; group += 4, out += 4 * 256) multiply_four(a, group, num_steps, b, out, is_added);
  for (; group < num_groups; ++group, out += 256) multiply_one(a, group, num_steps, b, out, is_added);
  asm volatile("" : : : "memory");
}

// Takes two rows of sixteen numbers to sixteen pairs.
alignas(64) constexpr std::uint16_t kInTurn[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

// Thirty-two numbers of a stored row as bfloat16, zeros from `count` on; codes are exact in bfloat16.
CYN_INLINE __m512i thirty_two(const char* row, std::int64_t element, long first, long count) {
  const long left = count - first;
  const auto are_there = static_cast<__mmask32>(left >= 32 ? 0xffffffffU : left <= 0 ? 0 : (1U << left) - 1);
  if (element == kBfloat16) return _mm512_maskz_loadu_epi16(are_there, row + first * 2);
  const __m256i codes = _mm256_maskz_loadu_epi8(are_there, row + first);
  const Lanes low = to_floats(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
  const Lanes high = to_floats(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Eight channels, from byte `offset` on, of thirty-two rows as [channel][row]: eight rows in each quarter of a
// vector, turned within it.
CYN_INLINE void turn_eight(const char* const* rows, long offset, Bfloat16* to) {
  __m512i r[8], t[8];
  const auto eight = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + offset)); };
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_inserti32x4(_mm512_castsi128_si512(eight(i)), eight(8 + i), 1);
    r[i] = _mm512_inserti32x4(_mm512_inserti32x4(r[i], eight(16 + i), 2), eight(24 + i), 3);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_epi16(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi16(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm512_unpacklo_epi32(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi32(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi32(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi32(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm512_storeu_si512(to + (2 * i) * kSteps, _mm512_unpacklo_epi64(r[i], r[4 + i]));
    _mm512_storeu_si512(to + (2 * i + 1) * kSteps, _mm512_unpackhi_epi64(r[i], r[4 + i]));
  }
}

static void turn_sixteen(const char* const* rows, long offset, Bfloat16* to) {
  turn_eight(rows, offset, to);
  turn_eight(rows, offset + 16, to + 8 * kSteps);
}

struct Bfloat16Path {
  const AttentionCall& call;
  Bfloat16* k;  // [kTileKeys][32 * key_steps]
  Bfloat16* v;
  int key_steps, value_groups;
  const char* key_groups[kTileKeys / 16];
  Groups keys_at;
  TileRegisters registers;

  static int key_steps_of(const AttentionCall& call) { return static_cast<int>((call.head_dim + 31) / 32); }
  static int value_groups_of(const AttentionCall& call) { return static_cast<int>((call.v_head_dim + 15) / 16); }
  static long query_floats(const AttentionCall& call) { return key_steps_of(call) * kTileNumbers / 2; }
  static long key_floats(const AttentionCall& call) { return kTileKeys * key_steps_of(call) * kSteps / 2; }
  static long value_width(const AttentionCall& call) { return (call.v_head_dim + 31) / 32 * 32; }
  // Behind the values: the weights of a tile, then 32 rows of values that had to be copied.
  static long value_floats(const AttentionCall& call) {
    return (kTileKeys * (value_groups_of(call) + 1) * 16 + kSteps * value_width(call)) / 2;
  }

  Bfloat16Path(const AttentionCall& of, float* keys, float* values)
      : call(of),
        k(reinterpret_cast<Bfloat16*>(keys)),
        v(reinterpret_cast<Bfloat16*>(values)),
        key_steps(key_steps_of(of)),
        value_groups(value_groups_of(of)) {}

  Bfloat16* weights() const { return v + static_cast<long>(kTileKeys) * value_groups * 16; }

  void pack_queries(const RowTile& rows, float* to) const {
    auto* packed = reinterpret_cast<Bfloat16*>(to);
    for (int s = 0; s < key_steps; ++s) {
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

  void read_keys(const KeyTile& keys, const KeyTile& next) {
    const long bytes = bytes_of(call.kv_type);
    if (!lie_well(keys)) copy_keys(keys);
    const int steps = keys.padded / kSteps;
    const char* rows[kSteps];
    for (int step = 0; step < steps; ++step) {
      const int first = step * kSteps;
      fetch_ahead(next.key_rows, next.count, first, first + kSteps, call.head_dim * bytes);
      fetch_ahead(next.value_rows, next.count, first, first + kSteps, call.v_head_dim * bytes);
      const bool are_whole = call.kv_type == kBfloat16 && call.v_head_dim % 16 == 0 && first + kSteps <= keys.count;
      if (!are_whole) copy_values(keys, first, rows);
      const char* const* from = are_whole ? keys.value_rows + first : rows;
      for (int group = 0; group < value_groups; ++group) {
        turn_sixteen(from, group * 32L, v + (static_cast<long>(group) * steps + step) * kTileNumbers);
      }
    }
  }

  void score(const KeyTile& keys, const float* queries, float* scores) const {
    multiply_tiles(keys_at, keys.padded / 16, key_steps, reinterpret_cast<const Bfloat16*>(queries), scores, false);
  }

  // Writes weights as B, those of int8 values times the value's scale.
  struct Weights {
    Bfloat16* to;
    const float* scales;
    int count;

    void put(int key, Lanes a, Lanes b) const {
      if (scales != nullptr) {
        if (key < count) a = mul(a, fill(scales[key]));
        if (key + 1 < count) b = mul(b, fill(scales[key + 1]));
      }
      const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));  // all of a, then all of b
      _mm512_storeu_si512(to + key * 16L, _mm512_permutexvar_epi16(_mm512_load_si512(kInTurn), rounded));
    }
  };
  Weights weights_for(const KeyTile& keys, float*) const {
    return {weights(), call.v_scale == nullptr ? nullptr : keys.v_scale, keys.count};
  }

  void add_values(const KeyTile& keys, const float*, float* out) const {
    const long steps = keys.padded / kSteps;
    for (int first = 0; first < value_groups; first += 4) {
      const char* at[4];
      for (int i = 0; i < 4; ++i) at[i] = reinterpret_cast<const char*>(v + (first + i) * steps * kTileNumbers);
      const int count = value_groups - first < 4 ? value_groups - first : 4;
      const Groups groups{at, kRegisterBytes, kTileNumbers * 2};
      multiply_tiles(groups, count, static_cast<int>(steps), weights(), out + first * 256L, true);
    }
  }

 private:
  // Whether the keys can be read in place: sixteen side by side, no channels missing, nothing to widen.
  bool lie_well(const KeyTile& keys) {
    const long row_bytes = call.k_key_stride * 2;
    keys_at = {key_groups, row_bytes, kSteps * 2};
    if (call.kv_type != kBfloat16 || call.head_dim % kSteps != 0 || keys.count != keys.padded) return false;
    for (int first = 0; first < keys.count; first += 16) {
      key_groups[first / 16] = keys.key_rows[first];
      if (keys.key_rows[first + 15] - keys.key_rows[first] != 15 * row_bytes) return false;
    }
    return true;
  }

  // Rows of `width` numbers, a multiple of 32; zeros where a key is not there.
  void copy_row(const char* row, long count, long width, Bfloat16* to) const {
    for (long d = 0; d < width; d += kSteps) {
      _mm512_storeu_si512(to + d, row == nullptr ? _mm512_setzero_si512() : thirty_two(row, call.kv_type, d, count));
    }
  }

  void copy_keys(const KeyTile& keys) {
    const long width = static_cast<long>(key_steps) * kSteps;
    keys_at = {key_groups, width * 2, kSteps * 2};
    for (int i = 0; i < keys.padded; ++i) {
      if (i % 16 == 0) key_groups[i / 16] = reinterpret_cast<const char*>(k + i * width);
      copy_row(i < keys.count ? keys.key_rows[i] : nullptr, call.head_dim, width, k + i * width);
    }
  }

  void copy_values(const KeyTile& keys, int first, const char** rows) const {
    const long width = value_width(call);
    Bfloat16* to = weights() + kTileKeys * 16L;
    for (int i = 0; i < kSteps; ++i, to += width) {
      copy_row(first + i < keys.count ? keys.value_rows[first + i] : nullptr, call.v_head_dim, width, to);
      rows[i] = reinterpret_cast<const char*>(to);
    }
  }
};

}  // namespace cynosure::CYN_VARIANT

#endif
