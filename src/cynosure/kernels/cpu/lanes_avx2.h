// The names of lanes.h in AVX2, FMA and F16C, as two halves. Included by lanes.h alone.
#pragma once

#include <immintrin.h>

namespace cynosure {
namespace CYN_VARIANT {

struct Lanes {
  __m256 low, high;
};
struct Ints {
  __m256i low, high;
};

CYN_INLINE __m256i first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

CYN_INLINE Lanes fill(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
CYN_INLINE Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
CYN_INLINE Lanes load_some(const float* p, int n) {
  return {_mm256_maskload_ps(p, first(n)), _mm256_maskload_ps(p + 8, first(n - 8))};
}
CYN_INLINE void store(float* p, Lanes a) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
CYN_INLINE void store_some(float* p, Lanes a, int n) {
  _mm256_maskstore_ps(p, first(n), a.low);
  _mm256_maskstore_ps(p + 8, first(n - 8), a.high);
}

CYN_INLINE __m256 widened(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
CYN_INLINE __m256i narrowed(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
}
CYN_INLINE Lanes load_bf16(const std::uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {widened(_mm256_castsi256_si128(bits)), widened(_mm256_extracti128_si256(bits, 1))};
}
CYN_INLINE void store_bf16(std::uint16_t* p, Lanes a) {
  const __m256i packed = _mm256_packus_epi32(narrowed(a.low), narrowed(a.high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
CYN_INLINE Lanes load_bf16_some(const std::uint16_t* p, int n) {
  std::uint16_t some[kLanes] = {};
  std::memcpy(some, p, sizeof(some[0]) * static_cast<unsigned>(n));
  return load_bf16(some);
}
CYN_INLINE void store_bf16_some(std::uint16_t* p, Lanes a, int n) {
  std::uint16_t all[kLanes];
  store_bf16(all, a);
  std::memcpy(p, all, sizeof(all[0]) * static_cast<unsigned>(n));
}

CYN_INLINE Lanes add(Lanes a, Lanes b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
CYN_INLINE Lanes sub(Lanes a, Lanes b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
CYN_INLINE Lanes mul(Lanes a, Lanes b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
CYN_INLINE Lanes div(Lanes a, Lanes b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
CYN_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
CYN_INLINE Lanes larger(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
CYN_INLINE Lanes smaller(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
CYN_INLINE Lanes absolute(Lanes a) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
CYN_INLINE Lanes with_sign(Lanes a, Lanes sign) {
  const __m256 bit = _mm256_set1_ps(-0.0F);
  const Lanes plain = absolute(a);
  return {_mm256_or_ps(plain.low, _mm256_and_ps(bit, sign.low)),
          _mm256_or_ps(plain.high, _mm256_and_ps(bit, sign.high))};
}
CYN_INLINE float sum(Lanes a) {
  const __m256 eight = _mm256_add_ps(a.low, a.high);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}
CYN_INLINE float largest(Lanes a) {
  const __m256 eight = _mm256_max_ps(a.low, a.high);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

CYN_INLINE Ints fill_ints(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
CYN_INLINE Ints load_ints(const std::int32_t* p) {
  const __m256i* halves = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}
CYN_INLINE Ints add_ints(Ints a, Ints b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
CYN_INLINE std::int32_t sum_ints(Ints a) {
  const __m256i eight = _mm256_add_epi32(a.low, a.high);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}
CYN_INLINE Ints to_ints(Lanes a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
CYN_INLINE Lanes to_floats(Ints a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
// 2 ** a, for -126 <= a <= 127.
CYN_INLINE Lanes exponent(Ints a) {
  const Ints biased = add_ints(a, fill_ints(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased.low, 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(biased.high, 23))};
}
CYN_INLINE void store_bytes(std::int8_t* p, Ints a) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

// Eight sums of four products; by words, since the byte product of AVX2 saturates.
CYN_INLINE __m256i dot4_half(__m256i sums, __m256i codes, __m256i x) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(x, 8));
  return _mm256_add_epi32(sums, _mm256_add_epi32(even, odd));
}
CYN_INLINE Ints dot4_of(Ints sums, __m256i low, __m256i high, const std::int8_t* x) {
  std::int32_t bits;
  std::memcpy(&bits, x, sizeof bits);
  const __m256i four = _mm256_set1_epi32(bits);
  return {dot4_half(sums.low, low, four), dot4_half(sums.high, high, four)};
}
CYN_INLINE __m256i load_codes(const std::uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
CYN_INLINE Ints dot4(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  return dot4_of(sums, load_codes(weights), load_codes(weights + 32), x);
}
CYN_INLINE Ints dot4_low(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  const __m256i nibble = _mm256_set1_epi8(15);
  return dot4_of(sums, _mm256_and_si256(load_codes(weights), nibble),
                 _mm256_and_si256(load_codes(weights + 32), nibble), x);
}
CYN_INLINE Ints dot4_high(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  const __m256i nibble = _mm256_set1_epi8(15);
  return dot4_of(sums, _mm256_and_si256(_mm256_srli_epi16(load_codes(weights), 4), nibble),
                 _mm256_and_si256(_mm256_srli_epi16(load_codes(weights + 32), 4), nibble), x);
}
CYN_INLINE __m256 dot2_half(__m256 sums, __m256i pairs, __m256 even, __m256 odd) {
  const __m256 low = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
  const __m256 high = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000U))));
  return _mm256_fmadd_ps(high, odd, _mm256_fmadd_ps(low, even, sums));
}
CYN_INLINE Lanes dot2_bf16(Lanes sums, const std::uint16_t* weights, const std::uint16_t* x) {
  const __m256 even = _mm256_set1_ps(float_of_bf16(x[0])), odd = _mm256_set1_ps(float_of_bf16(x[1]));
  const __m256i* pairs = reinterpret_cast<const __m256i*>(weights);
  return {dot2_half(sums.low, _mm256_loadu_si256(pairs), even, odd),
          dot2_half(sums.high, _mm256_loadu_si256(pairs + 1), even, odd)};
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
