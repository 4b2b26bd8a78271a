// Attend within one text, one head at a time, on AMX in bfloat16 with float32 scores. Knows nothing of layers.
//
// Keys and values of the head are packed once, as the second operand of tiles; queries are read in place, sixteen
// a strip, and a strip's scores against all keys stand in scratch, so that the softmax is exact and has one pass:
//
//   keys     [16 keys][32 channels][16 pairs of channels][16 keys][2]
//   values   [32 keys][16 channels][16 pairs of keys][16 channels][2]
//   scores   [16 queries][keys], float32; weights take their place as bfloat16
//
// Keys beyond the text's end are zeros and get no weight.
#pragma once

#include "attention_math.h"
#include "attention_transpose.h"
#include "encoder_numbers.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure {
namespace CYN_VARIANT {

constexpr std::int64_t kTileUnits = 512;  // numbers of bfloat16 in a tile
constexpr std::int64_t kSkew = 16;        // floats between rows of scores, so that rows do not share cache sets

struct HeadRoom {
  std::uint16_t *keys, *values;
  float *scores, *out;
  std::int64_t padded;        // keys, up to the next multiple of 32
  std::int64_t score_stride;  // floats

  static std::int64_t padded_of(std::int64_t length) { return (length + 31) / 32 * 32; }
  static std::int64_t bytes(std::int64_t length, std::int64_t head_dim) {
    const std::int64_t padded = padded_of(length);
    return 4 * padded * head_dim + 4 * kLanes * (padded + kSkew) + 4 * kLanes * head_dim;
  }
  HeadRoom(char* scratch, std::int64_t length, std::int64_t head_dim)
      : padded(padded_of(length)), score_stride(padded + kSkew) {
    keys = reinterpret_cast<std::uint16_t*>(scratch);
    values = keys + padded * head_dim;
    scores = reinterpret_cast<float*>(values + padded * head_dim);
    out = scores + kLanes * score_stride;
  }
};

// One head of one text: where its queries, keys and values begin.
struct HeadRows {
  const std::uint16_t *q, *k, *v;
  std::int64_t stride, length, head_dim;
};

CYN_INLINE __m512i thirty_two_of(const std::uint16_t* rows, std::int64_t stride, std::int64_t row,
                                 std::int64_t length) {
  return row < length ? _mm512_loadu_si512(rows + row * stride) : _mm512_setzero_si512();
}

static void pack_keys(const HeadRows& head, const HeadRoom& room) {
  const std::int64_t steps = head.head_dim / 32;
  for (std::int64_t block = 0; block < room.padded / 16; ++block) {
    for (std::int64_t step = 0; step < steps; ++step) {
      __m512i r[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        r[i] = thirty_two_of(head.k + 32 * step, head.stride, 16 * block + i, head.length);
      }
      transpose(r);
      std::uint16_t* const to = room.keys + (block * steps + step) * kTileUnits;
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + 32 * i, r[i]);
    }
  }
}

// Takes two rows of thirty-two numbers to pairs, the first sixteen and the last.
alignas(64) constexpr std::uint16_t kFirstPairs[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
alignas(64) constexpr std::uint16_t kLastPairs[32] = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                                      24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};

static void pack_values(const HeadRows& head, const HeadRoom& room) {
  const std::int64_t blocks = head.head_dim / 16;
  const __m512i first = _mm512_load_si512(kFirstPairs), last = _mm512_load_si512(kLastPairs);
  for (std::int64_t step = 0; step < room.padded / 32; ++step) {
    for (std::int64_t block = 0; block < blocks; block += 2) {
      std::uint16_t* const to = room.values + (step * blocks + block) * kTileUnits;
      for (std::int64_t pair = 0; pair < 16; ++pair) {
        const std::int64_t key = 32 * step + 2 * pair;
        const __m512i even = thirty_two_of(head.v + 16 * block, head.stride, key, head.length);
        const __m512i odd = thirty_two_of(head.v + 16 * block, head.stride, key + 1, head.length);
        _mm512_storeu_si512(to + 32 * pair, _mm512_permutex2var_epi16(even, first, odd));
        _mm512_storeu_si512(to + kTileUnits + 32 * pair, _mm512_permutex2var_epi16(even, last, odd));
      }
    }
  }
}

// Scores of sixteen queries against 16 * N keys.
template <int N>
CYN_INLINE void score_blocks(const HeadRows& head, const HeadRoom& room, const std::uint16_t* q, std::int64_t block) {
  const std::int64_t steps = head.head_dim / 32, bytes = room.score_stride * 4;
  const std::uint16_t* const k = room.keys + block * steps * kTileUnits;
  float* const to = room.scores + block * 16;
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (N > 2) _tile_zero(2);
  if constexpr (N > 2) _tile_zero(3);
  for (std::int64_t step = 0; step < steps; ++step) {
    _tile_loadd(4, q + 32 * step, head.stride * 2);
    _tile_loadd(5, k + step * kTileUnits, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, k + (steps + step) * kTileUnits, 64);
    _tile_dpbf16ps(1, 4, 6);
    if constexpr (N > 2) {
      _tile_loadd(7, k + (2 * steps + step) * kTileUnits, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, k + (3 * steps + step) * kTileUnits, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, to, bytes);
  _tile_stored(1, to + 16, bytes);
  if constexpr (N > 2) _tile_stored(2, to + 32, bytes);
  if constexpr (N > 2) _tile_stored(3, to + 48, bytes);
}

// Keys of a strip: a multiple of 32 on both sides.
struct Seen {
  std::int64_t first, last;
};

// 16 * N channels of sixteen outputs.
template <int N>
CYN_INLINE void add_values(const HeadRows& head, const HeadRoom& room, Seen seen, std::int64_t block) {
  const std::int64_t blocks = head.head_dim / 16;
  float* const to = room.out + block * 16;
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (N > 2) _tile_zero(2);
  if constexpr (N > 2) _tile_zero(3);
  for (std::int64_t step = seen.first / 32; step < seen.last / 32; ++step) {
    const std::uint16_t* const v = room.values + (step * blocks + block) * kTileUnits;
    _tile_loadd(4, reinterpret_cast<const std::uint16_t*>(room.scores) + 32 * step, room.score_stride * 4);
    _tile_loadd(5, v, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, v + kTileUnits, 64);
    _tile_dpbf16ps(1, 4, 6);
    if constexpr (N > 2) {
      _tile_loadd(7, v + 2 * kTileUnits, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, v + 3 * kTileUnits, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, to, head.head_dim * 4);
  _tile_stored(1, to + 16, head.head_dim * 4);
  if constexpr (N > 2) _tile_stored(2, to + 32, head.head_dim * 4);
  if constexpr (N > 2) _tile_stored(3, to + 48, head.head_dim * 4);
}

// Turn a row of scores into weights in its place, those of keys from `low` to below `high`; return their sum. `bias`
// is added to the score of key 0 and those behind it, where there is one.
static float weigh_row(float* row, Seen seen, std::int64_t low, std::int64_t high, float scale, const float* bias) {
  const Lanes lowest = fill(kLowest);
  for (std::int64_t at = seen.first; at < seen.last; at += kLanes) {
    if (at >= low && at + kLanes <= high) {
      at = high / kLanes * kLanes - kLanes;  // what lies between is seen whole
      continue;
    }
    const std::int64_t from = low > at ? low - at : 0, to = high < at + kLanes ? high - at : kLanes;
    const std::uint32_t below = from < kLanes ? (1U << from) - 1U : 0xffffU;
    const std::uint32_t under = to > 0 ? (1U << to) - 1U : 0U;
    store(row + at, _mm512_mask_blend_ps(static_cast<__mmask16>(under & ~below), lowest, load(row + at)));
  }
  Lanes top = lowest, other = lowest;
  if (bias != nullptr) {
    for (std::int64_t at = seen.first; at < seen.last; at += kLanes) {
      const Lanes x = fma(load(row + at), fill(scale), load(bias + at));
      store(row + at, x);
      top = larger(x, top);
    }
    scale = 1.0F;
  } else {
    for (std::int64_t at = seen.first; at < seen.last; at += 2 * kLanes) {
      top = larger(load(row + at), top);
      other = larger(load(row + at + kLanes), other);
    }
  }
  const float factor = scale * 1.44269504088896340736F, most = largest(larger(top, other));
  const Lanes times = fill(factor), minus = fill(-most * factor);
  auto* const weights = reinterpret_cast<std::uint16_t*>(row);
  Lanes even = fill(0.0F), odd = even;
  for (std::int64_t at = seen.first; at < seen.last; at += 2 * kLanes) {
    const Lanes a = power_of_two(fma(load(row + at), times, minus));
    const Lanes b = power_of_two(fma(load(row + at + kLanes), times, minus));
    even = add(even, a);
    odd = add(odd, b);
    store_pair(weights + at, a, b);  // behind what was read
  }
  return sum(add(even, odd));
}

// One strip of sixteen queries: scores, weights, outputs.
static void attend_strip(const CynEncoder& encoder, const HeadRows& head, const HeadRoom& room, std::int64_t strip,
                         std::int64_t window, const float* bias, Rows to) {
  const std::int64_t left = head.length - strip, count = left < kLanes ? left : kLanes;
  Seen seen{0, room.padded};
  if (window > 0) {
    const std::int64_t low = strip - window + 1, high = HeadRoom::padded_of(strip + count - 1 + window);
    seen.first = low > 0 ? low / 32 * 32 : 0;
    seen.last = high < room.padded ? high : room.padded;
  }
  const std::uint16_t* const q = head.q + strip * head.stride;
  std::int64_t block = seen.first / 16;
  for (; block + 4 <= seen.last / 16; block += 4) score_blocks<4>(head, room, q, block);
  if (block < seen.last / 16) score_blocks<2>(head, room, q, block);
  asm volatile("" : : : "memory");
  float shares[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t query = strip + i;
    const std::int64_t low = window > 0 && query - window + 1 > 0 ? query - window + 1 : 0;
    const std::int64_t high = window > 0 && query + window < head.length ? query + window : head.length;
    const float* const own = bias == nullptr ? nullptr : bias + encoder.max_distance - query;
    const float total =
        weigh_row(room.scores + i * room.score_stride, seen, low, high, static_cast<float>(encoder.scale), own);
    shares[i] = total;
  }
  asm volatile("" : : : "memory");  // the loads of tiles do not tell the compiler what they read
  const std::int64_t blocks = head.head_dim / 16;
  std::int64_t part = 0;
  for (; part + 4 <= blocks; part += 4) add_values<4>(head, room, seen, part);
  if (part < blocks) add_values<2>(head, room, seen, part);
  asm volatile("" : : : "memory");
  store(shares, div(fill(1.0F), load(shares)));
  for (std::int64_t i = 0; i < count; ++i, to.first += to.stride) {
    const float* const from = room.out + i * head.head_dim;
    const Lanes share = fill(shares[i]);
    for (std::int64_t c = 0; c < head.head_dim; c += 32) {
      store_pair(to.first + c, mul(load(from + c), share), mul(load(from + c + kLanes), share));
    }
  }
}

static void attend_head(const EncoderWork& work, const CynEncoderLayer& layer, const BundledText& text,
                        std::int64_t index, char* scratch) {
  const CynEncoder& encoder = *work.encoder;
  const std::int64_t d = encoder.head_dim, width = encoder.num_heads * d, stride = work.room.qkv.stride;
  const std::uint16_t* const q = work.room.qkv.first + text.first * stride + index * d;
  const HeadRows head{q, q + width, q + 2 * width, stride, text.length, d};
  const HeadRoom room(scratch, text.length, d);
  const float* const bias =
      encoder.distance_bias == nullptr ? nullptr : encoder.distance_bias + index * (2 * encoder.max_distance + 1);
  const Rows& out = work.room.attended;
  std::uint16_t* const to = out.first + text.first * out.stride + index * d;
  configure_encoder_tiles();
  pack_keys(head, room);
  pack_values(head, room);
  asm volatile("" : : : "memory");
  for (std::int64_t strip = 0; strip < text.length; strip += kLanes) {
    attend_strip(encoder, head, room, strip, layer.window, bias, {to + strip * out.stride, out.stride});
  }
  _tile_release();
}

}  // namespace CYN_VARIANT
}  // namespace cynosure

#endif
