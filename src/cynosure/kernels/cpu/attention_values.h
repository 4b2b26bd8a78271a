// Multiply weights by values as bfloat16 on AMX. Knows nothing of keys or softmax.
//
// With weights [key][lane] as B, values are A turned, and sums come as [channel][lane]:
//
//   values   [16 channels][32 keys][16 channels][32]  turned once a tile of keys, zeros beyond the last key
//   weights  [32 keys][16 pairs][16 lanes][2]
//
// Channels are padded to a multiple of 16.
#pragma once

#include "attention_rows.h"
#include "attention_tiles.h"
#include "attention_transpose.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

using Bfloat16 = std::uint16_t;
constexpr int kTileNumbers = 512;  // of bfloat16 in one register
constexpr int kFetchedAtOnce = 4;  // keys and values of the next tile, behind sixteen channels of thirty-two values
constexpr int kSteps = 32;         // of a product of bfloat16 in one instruction

// Takes two rows of sixteen numbers to sixteen pairs.
alignas(64) constexpr std::uint16_t kInTurn[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

// Thirty-two numbers of a stored row, zeros from `count` on.
CYN_INLINE __m512i thirty_two(const char* row, long first, long count) {
  const long left = count - first;
  const auto are_there = static_cast<__mmask32>(left >= 32 ? 0xffffffffU : left <= 0 ? 0 : (1U << left) - 1);
  return _mm512_maskz_loadu_epi16(are_there, row + first * 2);
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

// Rows of `width` numbers, a multiple of 32; zeros where a row is not there.
CYN_INLINE void copy_row(const char* row, long count, long width, Bfloat16* to) {
  for (long d = 0; d < width; d += kSteps) {
    _mm512_storeu_si512(to + d, row == nullptr ? _mm512_setzero_si512() : thirty_two(row, d, count));
  }
}

// The values of a tile of keys and the weights that multiply them.
struct ValueTiles {
  const AttentionCall& call;
  Bfloat16* v;
  int groups;

  static int groups_of(const AttentionCall& call) { return static_cast<int>((call.v_head_dim + 15) / 16); }
  static long width_of(const AttentionCall& call) { return (call.v_head_dim + 31) / 32 * 32; }
  // Behind the values: the weights of a tile, then 32 rows of values that had to be copied.
  static long floats(const AttentionCall& call) {
    return (kTileKeys * (groups_of(call) + 1) * 16 + kSteps * width_of(call)) / 2;
  }

  ValueTiles(const AttentionCall& of, float* memory)
      : call(of), v(reinterpret_cast<Bfloat16*>(memory)), groups(groups_of(of)) {}

  Bfloat16* weights() const { return v + static_cast<long>(kTileKeys) * groups * 16; }
  Bfloat16* room_for_rows() const { return weights() + kTileKeys * 16L; }

  // Sixteen channels of the thirty-two rows of one of `steps` steps.
  void turn(const char* const* rows, int group, int steps, int step) const {
    turn_sixteen(rows, group * 32L, v + (static_cast<long>(group) * steps + step) * kTileNumbers);
  }

  void read(const KeyTile& keys, Fetching& next) const {
    const int steps = keys.padded / kSteps;
    const char* copied[kSteps];
    for (int step = 0; step < steps; ++step) {
      const int first = step * kSteps;
      const bool are_whole = call.v_head_dim % 16 == 0 && first + kSteps <= keys.count;
      if (!are_whole) copy(keys, first, copied);
      const char* const* rows = are_whole ? keys.value_rows + first : copied;
      for (int group = 0; group < groups; ++group) {
        turn(rows, group, steps, step);
        next.some(kFetchedAtOnce);
      }
    }
  }

  // Writes weights as B.
  struct Weights {
    Bfloat16* to;

    void put(int key, Lanes a, Lanes b) const {
      const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));  // all of a, then all of b
      _mm512_storeu_si512(to + key * 16L, _mm512_permutexvar_epi16(_mm512_load_si512(kInTurn), rounded));
    }
  };
  void add(const KeyTile& keys, float* out) const {
    const int steps = keys.padded / kSteps;
    for (int first = 0; first < groups; first += 4) {
      const char* at[4];
      for (int i = 0; i < 4; ++i) {
        at[i] = reinterpret_cast<const char*>(v + static_cast<long>(first + i) * steps * kTileNumbers);
      }
      const int count = groups - first < 4 ? groups - first : 4;
      const Groups turned{at, kRowBytes, kTileBytes};
      multiply_tiles(turned, count, {weights(), steps, true}, out + first * 256L);
    }
  }

 private:
  void copy(const KeyTile& keys, int first, const char** rows) const {
    const long width = width_of(call);
    Bfloat16* to = room_for_rows();
    for (int i = 0; i < kSteps; ++i, to += width) {
      const char* row = first + i < keys.count ? keys.value_rows[first + i] : nullptr;
      copy_row(row, call.v_head_dim, width, to);
      rows[i] = reinterpret_cast<const char*>(to);
    }
  }
};

}  // namespace cynosure::CYN_VARIANT

#endif
