// Multiply weights by int8 codes of values on AMX. Knows nothing of keys or softmax.
//
// A row's weights over a tile of keys, times the values' scales, become integers of 16 bits by the largest of the
// tile: 256 * high + low. Their products with the codes are summed in int32 without an error, as two products of
// bytes, and no code is widened. With the weights as A, sums come as [lane][channel]:
//
//   weights  [high, low][64 keys][16 lanes][64]           turned once for each sixteen rows
//   values   [64 channels][64 keys][4][16 quads][16][4]   four keys side by side, zeros beyond the last
//
// Sixteen channels of a register of values come from all four quarters of 64; `LaneRows` puts them in their order.
#pragma once

#include "attention_results.h"
#include "attention_tiles.h"
#include "attention_transpose.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

constexpr int kWide = 64;                // keys of one product of bytes, and channels of one group
constexpr float kLargestWeight = 65535.0F;
constexpr float kLeastWeight = 1e-30F;   // a tile whose largest weight is below gives nothing

// Sums [lane][64 channels], in the order in which values are laid out.
struct LaneRows {
  static long channels(const AttentionCall& call) { return (call.v_head_dim + kWide - 1) / kWide * kWide; }

  static void scale(float* out, long channels, int num_rows, Lanes factor) {
    float by[kLanes];
    store(by, factor);
    for (int lane = 0; lane < num_rows; ++lane, out += channels) {
      for (long i = 0; i < channels; i += kLanes) store(out + i, mul(load(out + i), fill(by[lane])));
    }
  }

  // to[lane][d] = channel d of a lane * factor[lane]
  static void write(const float* out, Lanes factor, int num_rows, long width, float* const* to) {
    float by[kLanes];
    store(by, factor);
    const long channels = (width + kWide - 1) / kWide * kWide;
    for (int lane = 0; lane < num_rows; ++lane, out += channels) {
      for (long first = 0; first < width; first += kWide) {
        __m512i r[4], t[4];
        for (int i = 0; i < 4; ++i) r[i] = _mm512_castps_si512(mul(load(out + first + i * kLanes), fill(by[lane])));
        t[0] = _mm512_shuffle_i32x4(r[0], r[1], 0x44);
        t[1] = _mm512_shuffle_i32x4(r[2], r[3], 0x44);
        t[2] = _mm512_shuffle_i32x4(r[0], r[1], 0xee);
        t[3] = _mm512_shuffle_i32x4(r[2], r[3], 0xee);
        r[0] = _mm512_shuffle_i32x4(t[0], t[1], 0x88);
        r[1] = _mm512_shuffle_i32x4(t[0], t[1], 0xdd);
        r[2] = _mm512_shuffle_i32x4(t[2], t[3], 0x88);
        r[3] = _mm512_shuffle_i32x4(t[2], t[3], 0xdd);
        for (long i = 0; i < 4 && first + i * kLanes < width; ++i) {
          const long left = width - first - i * kLanes;
          const __mmask16 are_there = cynosure::CYN_VARIANT::first(left < kLanes ? static_cast<int>(left) : kLanes);
          _mm512_mask_storeu_epi32(to[lane] + first + i * kLanes, are_there, r[i]);
        }
      }
    }
  }
};

struct CodeValues {
  const AttentionCall& call;
  char* v;
  int groups, steps = 0;
  float largest_scale = 0.0F;
  float shares[kTileKeys];  // of each value's scale in the largest of the tile

  static int groups_of(const AttentionCall& call) { return static_cast<int>(LaneRows::channels(call) / kWide); }
  // Behind the values: the weights as they come, in pairs of keys; the same turned; the sums of a group.
  static constexpr long kPairBytes = kTileKeys * kLanes * 2L, kTurnedBytes = kTileKeys * kLanes * 2L;
  static long value_bytes(const AttentionCall& call) { return groups_of(call) * static_cast<long>(kTileKeys * kWide); }
  static long floats(const AttentionCall& call) {
    return (value_bytes(call) + kPairBytes + kTurnedBytes + 4L * kTileBytes) / 4;
  }

  CodeValues(const AttentionCall& of, float* memory)
      : call(of), v(reinterpret_cast<char*>(memory)), groups(groups_of(of)) {}

  std::uint32_t* pairs() const { return reinterpret_cast<std::uint32_t*>(v + value_bytes(call)); }
  char* turned() const { return v + value_bytes(call) + kPairBytes; }
  char* sums() const { return turned() + kTurnedBytes; }

  void read(const KeyTile& keys, Fetching& next) {
    steps = (keys.count + kWide - 1) / kWide;
    for (int group = 0; group < groups; ++group) {
      const long left = call.v_head_dim - static_cast<long>(group) * kWide;
      const __mmask64 are_there = left >= kWide ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
      for (int quad = 0; quad < steps * 16; ++quad) {
        char* to = v + (static_cast<long>(group) * steps + quad / 16) * 4 * kTileBytes + quad % 16 * kRowBytes;
        next.some(4);
        put_quad(keys, quad * 4, static_cast<long>(group) * kWide, are_there, to);
      }
    }
    share_scales(keys);
  }

  // Puts integers of the weights, each in a half of 32 bits.
  struct Weights {
    std::uint32_t* to;
    const float* shares;
    Lanes inverse;

    void put(int key, Lanes a, Lanes b) const {
      const Ints even = whole(a, shares[key]), odd = whole(b, shares[key + 1]);
      _mm512_storeu_si512(to + key / 2 * kLanes, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
    Ints whole(Lanes weight, float share) const {
      return to_ints(smaller(mul(weight, mul(inverse, fill(share))), fill(kLargestWeight)));
    }
  };

  // The largest weight of each row in this tile, where its maximum here is `top`.
  static Lanes largest_weights(const RowTile& rows, Lanes top) {
    const Lanes largest = power_of_two(sub(top, unless_lowest(load(rows.top), fill(0.0F))));
    const __mmask16 counts = _mm512_cmp_ps_mask(largest, fill(kLeastWeight), _CMP_GT_OQ);
    return _mm512_maskz_mov_ps(counts, largest);
  }

  Weights weights_for(const RowTile& rows, Lanes top) const {
    const Lanes largest = largest_weights(rows, top);
    const __mmask16 counts = _mm512_cmp_ps_mask(largest, fill(0.0F), _CMP_GT_OQ);
    return {pairs(), shares, _mm512_maskz_div_ps(counts, fill(kLargestWeight), largest)};
  }

  void add(const KeyTile& keys, const RowTile& rows, Lanes top, float* out) const {
    turn_weights(keys.padded);
    float by[kLanes];
    store(by, mul(largest_weights(rows, top), fill(largest_scale / kLargestWeight)));
    for (int group = 0; group < groups; ++group) {
      const char* values = v + static_cast<long>(group) * 4 * steps * kTileBytes;
      for (int half = 0; half < 2; ++half) {
        multiply_bytes(values + 2L * half * kTileBytes, 4L * kTileBytes);
        const auto* whole = reinterpret_cast<const std::int32_t*>(sums());
        for (int lane = 0; lane < rows.num_rows; ++lane) {
          float* to = out + lane * groups * static_cast<long>(kWide) + group * kWide + half * 2 * kLanes;
          add_sums(whole + lane * kLanes, by[lane], to);
          add_sums(whole + 2 * 256 + lane * kLanes, by[lane], to + kLanes);
        }
      }
    }
  }

 private:
  static void add_sums(const std::int32_t* sums, float factor, float* to) {
    const Ints whole = add_ints(_mm512_slli_epi32(load_ints(sums), 8), load_ints(sums + 256));
    store(to, fma(to_floats(whole), fill(factor), load(to)));
  }

  __m512i codes(const KeyTile& keys, int key, long channel, __mmask64 are_there) const {
    if (key >= keys.count) return _mm512_setzero_si512();
    return _mm512_maskz_loadu_epi8(are_there, keys.value_rows[key] + channel);
  }

  // Four keys side by side: of each register the channels 4 t .. 4 t + 3 of all quarters, t registers apart.
  void put_quad(const KeyTile& keys, int key, long channel, __mmask64 are_there, char* to) const {
    const __m512i a = codes(keys, key, channel, are_there), b = codes(keys, key + 1, channel, are_there);
    const __m512i c = codes(keys, key + 2, channel, are_there), d = codes(keys, key + 3, channel, are_there);
    const __m512i ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
    const __m512i ab_high = _mm512_unpackhi_epi8(a, b), cd_high = _mm512_unpackhi_epi8(c, d);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi16(ab, cd));
    _mm512_storeu_si512(to + kTileBytes, _mm512_unpackhi_epi16(ab, cd));
    _mm512_storeu_si512(to + 2 * kTileBytes, _mm512_unpacklo_epi16(ab_high, cd_high));
    _mm512_storeu_si512(to + 3 * kTileBytes, _mm512_unpackhi_epi16(ab_high, cd_high));
  }

  void share_scales(const KeyTile& keys) {
    Lanes most = fill(0.0F), poison = fill(0.0F);
    for (int key = 0; key < keys.padded; key += kLanes) {
      const int left = keys.count - key;
      const Lanes scale = left >= kLanes ? load(keys.v_scale + key) : load_some(keys.v_scale + key, left > 0 ? left : 0);
      most = larger(scale, most);
      poison = fma(scale, fill(0.0F), poison);  // 0, or NaN where a scale is not finite
      store(shares + key, scale);
    }
    const float usable = largest(most);
    largest_scale = usable + sum(poison);
    const Lanes inverse = fill(usable > 0.0F ? 1.0F / usable : 0.0F);
    for (int key = 0; key < keys.padded; key += kLanes) store(shares + key, mul(load(shares + key), inverse));
  }

  // From [pair of keys][lane] to [lane][keys], high and low bytes apart.
  void turn_weights(int padded) const {
    const std::uint32_t* from = pairs();
    // In each 32 bits: both low bytes, then both high ones.
    const __m512i order = _mm512_set4_epi32(0x0f0d0e0c, 0x0b090a08, 0x07050604, 0x03010200);
    for (int step = 0; step < steps; ++step) {
      __m512i low[16], high[16];
      for (int quad = 0; quad < 16; ++quad) {
        const int pair = step * 32 + quad * 2;
        if (pair * 2 >= padded) {
          low[quad] = high[quad] = _mm512_setzero_si512();
          continue;
        }
        const __m512i one = _mm512_shuffle_epi8(_mm512_loadu_si512(from + pair * kLanes), order);
        const __m512i two = _mm512_shuffle_epi8(_mm512_loadu_si512(from + (pair + 1) * kLanes), order);
        low[quad] = _mm512_mask_blend_epi16(0xaaaaaaaa, one, _mm512_slli_epi32(two, 16));
        high[quad] = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(one, 16), two);
      }
      transpose(high);
      transpose(low);
      char* to = turned() + step * kTileBytes;
      for (int lane = 0; lane < 16; ++lane) {
        _mm512_storeu_si512(to + lane * kRowBytes, high[lane]);
        _mm512_storeu_si512(to + steps * kTileBytes + lane * kRowBytes, low[lane]);
      }
    }
  }

  // High and low weights by two registers of channels.
  void multiply_bytes(const char* values, long step_bytes) const {
    asm volatile("" : : : "memory");
    const char *high = turned(), *low = high + steps * kTileBytes;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int s = 0; s < steps; ++s, high += kTileBytes, low += kTileBytes, values += step_bytes) {
      _tile_loadd(4, high, kRowBytes);
      _tile_loadd(5, low, kRowBytes);
      _tile_loadd(6, values, kRowBytes);
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 5, 6);
      _tile_loadd(7, values + kTileBytes, kRowBytes);
      _tile_dpbusd(2, 4, 7);
      _tile_dpbusd(3, 5, 7);
    }
    char* to = sums();
    _tile_stored(0, to, kRowBytes);
    _tile_stored(1, to + kTileBytes, kRowBytes);
    _tile_stored(2, to + 2 * kTileBytes, kRowBytes);
    _tile_stored(3, to + 3 * kTileBytes, kRowBytes);
    asm volatile("" : : : "memory");
  }
};

}  // namespace cynosure::CYN_VARIANT

#endif
