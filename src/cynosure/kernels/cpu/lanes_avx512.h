// The names of lanes.h in AVX-512. Included by it alone.
#pragma once

#include <immintrin.h>

namespace cynosure {
namespace CYN_VARIANT {

using Lanes = __m512;
using Ints = __m512i;

CYN_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1U << n) - 1U); }

CYN_INLINE Lanes fill(float x) { return _mm512_set1_ps(x); }
CYN_INLINE Lanes load(const float* p) { return _mm512_loadu_ps(p); }
CYN_INLINE Lanes load_some(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
CYN_INLINE void store(float* p, Lanes a) { _mm512_storeu_ps(p, a); }
CYN_INLINE void store_some(float* p, Lanes a, int n) { _mm512_mask_storeu_ps(p, first(n), a); }

CYN_INLINE Lanes widened(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// By integers, since vcvtneps2bf16 would drop denormals.
CYN_INLINE __m256i narrowed(Lanes a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

CYN_INLINE Lanes load_bf16(const std::uint16_t* p) {
  return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
CYN_INLINE Lanes load_bf16_some(const std::uint16_t* p, int n) {
  return widened(_mm256_maskz_loadu_epi16(first(n), p));
}
CYN_INLINE void store_bf16(std::uint16_t* p, Lanes a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed(a));
}
CYN_INLINE void store_bf16_some(std::uint16_t* p, Lanes a, int n) {
  _mm256_mask_storeu_epi16(p, first(n), narrowed(a));
}

CYN_INLINE Lanes add(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
CYN_INLINE Lanes sub(Lanes a, Lanes b) { return _mm512_sub_ps(a, b); }
CYN_INLINE Lanes mul(Lanes a, Lanes b) { return _mm512_mul_ps(a, b); }
CYN_INLINE Lanes div(Lanes a, Lanes b) { return _mm512_div_ps(a, b); }
CYN_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
CYN_INLINE Lanes larger(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
CYN_INLINE Lanes smaller(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }
CYN_INLINE Lanes absolute(Lanes a) { return _mm512_abs_ps(a); }
CYN_INLINE Lanes with_sign(Lanes a, Lanes sign) {
  return _mm512_or_ps(_mm512_abs_ps(a), _mm512_and_ps(sign, _mm512_set1_ps(-0.0F)));
}
CYN_INLINE float sum(Lanes a) { return _mm512_reduce_add_ps(a); }
CYN_INLINE float largest(Lanes a) { return _mm512_reduce_max_ps(a); }

CYN_INLINE Ints fill_ints(std::int32_t x) { return _mm512_set1_epi32(x); }
CYN_INLINE Ints load_ints(const std::int32_t* p) { return _mm512_loadu_si512(p); }
CYN_INLINE Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
CYN_INLINE std::int32_t sum_ints(Ints a) { return _mm512_reduce_add_epi32(a); }
CYN_INLINE Ints to_ints(Lanes a) { return _mm512_cvtps_epi32(a); }
CYN_INLINE Lanes to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
// 2 ** a, for -126 <= a <= 127.
CYN_INLINE Lanes exponent(Ints a) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(a, _mm512_set1_epi32(127)), 23));
}
CYN_INLINE void store_bytes(std::int8_t* p, Ints a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a));
}

CYN_INLINE Ints four_bytes(const std::int8_t* x) {
  std::int32_t bits;
  std::memcpy(&bits, x, sizeof bits);
  return _mm512_set1_epi32(bits);
}
CYN_INLINE Ints dot4(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  return _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(weights), four_bytes(x));
}
CYN_INLINE Ints dot4_low(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  const __m512i codes = _mm512_and_si512(_mm512_loadu_si512(weights), _mm512_set1_epi8(15));
  return _mm512_dpbusd_epi32(sums, codes, four_bytes(x));
}
CYN_INLINE Ints dot4_high(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  const __m512i shifted = _mm512_srli_epi16(_mm512_loadu_si512(weights), 4);
  return _mm512_dpbusd_epi32(sums, _mm512_and_si512(shifted, _mm512_set1_epi8(15)), four_bytes(x));
}
CYN_INLINE Lanes dot2_bf16(Lanes sums, const std::uint16_t* weights, const std::uint16_t* x) {
  std::int32_t bits;
  std::memcpy(&bits, x, sizeof bits);
  const __m512i pairs = _mm512_loadu_si512(weights);
  const __m512i pair = _mm512_set1_epi32(bits);
  return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(pairs), reinterpret_cast<__m512bh>(pair));
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
