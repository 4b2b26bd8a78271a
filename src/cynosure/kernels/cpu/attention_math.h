// What softmax needs of a vector beside lanes.h: powers of two, tanh, selection. Knows nothing of attention.
//
// Every function computes each lane by itself, so what a row gets never depends on the rows beside it.
#pragma once

#include "lanes.h"

namespace cynosure::CYN_VARIANT {

constexpr float kLowest = -__builtin_inff();

// tanh(x) = x * p(x^2) / q(x^2) within a few ulp for |x| <= 9, where float32 reaches 1 (the minimax of Eigen).
constexpr float kTanhLimit = 9.0F;
constexpr float kTanhP[7] = {4.89352455891786e-03F,  6.37261928875436e-04F, 1.48572235717979e-05F,
                             5.12229709037114e-08F,  -8.60467152213735e-11F, 2.00018790482477e-13F,
                             -2.76076847742355e-16F};
constexpr float kTanhQ[4] = {4.89352518554385e-03F, 2.26843463243900e-03F, 1.18534705686654e-04F,
                             1.19825839466702e-06F};

CYN_INLINE Lanes hyperbolic_tangent(Lanes x) {
  x = smaller(fill(kTanhLimit), larger(fill(-kTanhLimit), x));
  const Lanes square = mul(x, x);
  Lanes p = fill(kTanhP[6]), q = fill(kTanhQ[3]);
  for (int i = 5; i >= 0; --i) p = fma(p, square, fill(kTanhP[i]));
  for (int i = 2; i >= 0; --i) q = fma(q, square, fill(kTanhQ[i]));
  return div(mul(x, p), q);
}

// 1 + f * (c0 + c1 f + ...)
CYN_INLINE Lanes one_plus(const float (&c)[5], Lanes f) {
  Lanes series = fill(c[4]);
  for (int i = 3; i >= 0; --i) series = fma(series, f, fill(c[i]));
  return fma(series, f, fill(1.0F));
}

// power_of_two(x): 2^x with a relative error below 1e-7; exactly 1 at 0, exactly 0 at -inf.
// kept(x, low, high, y): y where low <= x <= high, -inf elsewhere.
// unless_lowest(x, y): y where x is -inf, x elsewhere.
// logarithm(x): the natural one, within a few ulp; -inf at 0.

#if CYN_LEVEL >= CYN_AVX512

// The minimax of 2^f for 0 <= f < 1.
constexpr float kExp2[5] = {0.69315131F, 0.24016445F, 0.05579991F, 0.00901703F, 0.00186713F};

CYN_INLINE Lanes power_of_two(Lanes x) {
  const Lanes f = _mm512_reduce_ps(x, 1);                // x - floor(x); 0 where x is -inf
  return _mm512_scalef_ps(one_plus(kExp2, f), x);        // times 2^floor(x)
}
CYN_INLINE Lanes kept(Lanes x, Lanes low, Lanes high, Lanes y) {
  const __mmask16 is_in = _mm512_cmp_ps_mask(low, x, _CMP_LE_OQ) & _mm512_cmp_ps_mask(x, high, _CMP_LE_OQ);
  return _mm512_mask_blend_ps(is_in, fill(kLowest), y);
}
CYN_INLINE Lanes unless_lowest(Lanes x, Lanes y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, fill(kLowest), _CMP_EQ_OQ), x, y);
}
CYN_INLINE bool is_all_one(Lanes x) { return _mm512_cmp_ps_mask(x, fill(1.0F), _CMP_NEQ_UQ) == 0; }

// With x = m 2^e and m between sqrt(1/2) and sqrt(2): log m = 2 (t + t^3 / 3 + t^5 / 5 ...), t = (m - 1) / (m + 1).
CYN_INLINE Lanes logarithm(Lanes x) {
  Lanes e = _mm512_getexp_ps(x), m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_nan);
  const __mmask16 is_upper = _mm512_cmp_ps_mask(m, fill(1.41421356F), _CMP_GT_OQ);
  m = _mm512_mask_mul_ps(m, is_upper, m, fill(0.5F));
  e = _mm512_mask_add_ps(e, is_upper, e, fill(1.0F));
  const Lanes t = div(sub(m, fill(1.0F)), add(m, fill(1.0F))), square = mul(t, t);
  Lanes series = fill(2.0F / 9.0F);
  series = fma(series, square, fill(2.0F / 7.0F));
  series = fma(series, square, fill(2.0F / 5.0F));
  series = fma(series, square, fill(2.0F / 3.0F));
  series = fma(series, square, fill(2.0F));
  return fma(e, fill(0.69314718055994530942F), mul(series, t));
}

#else

CYN_INLINE Lanes logarithm(Lanes x) {
  float each_of[kLanes];
  store(each_of, x);
  for (float& one : each_of) one = __builtin_logf(one);
  return load(each_of);
}

// The minimax of 2^f for -0.5 <= f <= 0.5.
constexpr float kExp2[5] = {0.69314700F, 0.24022242F, 0.05550734F, 0.00967151F, 0.00132647F};

CYN_INLINE Lanes power_of_two(Lanes x) {
  x = larger(fill(-250.0F), x);  // below, the result is 0; NaN stays
  // In two steps, since 2^floor(x) alone may lie below the smallest normal number.
  const Ints half = to_ints(mul(x, fill(0.5F)));
  const Lanes rest = sub(x, to_floats(half));
  const Ints other = to_ints(rest);
  return mul(mul(one_plus(kExp2, sub(rest, to_floats(other))), exponent(half)), exponent(other));
}

#if CYN_LEVEL >= CYN_AVX2

CYN_INLINE __m256 kept(__m256 x, __m256 low, __m256 high, __m256 y) {
  const __m256 is_in = _mm256_and_ps(_mm256_cmp_ps(low, x, _CMP_LE_OQ), _mm256_cmp_ps(x, high, _CMP_LE_OQ));
  return _mm256_blendv_ps(_mm256_set1_ps(kLowest), y, is_in);
}
CYN_INLINE Lanes kept(Lanes x, Lanes low, Lanes high, Lanes y) {
  return {kept(x.low, low.low, high.low, y.low), kept(x.high, low.high, high.high, y.high)};
}
CYN_INLINE __m256 unless_lowest(__m256 x, __m256 y) {
  return _mm256_blendv_ps(x, y, _mm256_cmp_ps(x, _mm256_set1_ps(kLowest), _CMP_EQ_OQ));
}
CYN_INLINE Lanes unless_lowest(Lanes x, Lanes y) {
  return {unless_lowest(x.low, y.low), unless_lowest(x.high, y.high)};
}
CYN_INLINE bool is_all_one(Lanes x) {
  const __m256 one = _mm256_set1_ps(1.0F);
  const __m256 low = _mm256_cmp_ps(x.low, one, _CMP_NEQ_UQ), high = _mm256_cmp_ps(x.high, one, _CMP_NEQ_UQ);
  return _mm256_movemask_ps(_mm256_or_ps(low, high)) == 0;
}

#else

CYN_INLINE Lanes kept(Lanes x, Lanes low, Lanes high, Lanes y) {
  return each([&](int i) { return low.v[i] <= x.v[i] && x.v[i] <= high.v[i] ? y.v[i] : kLowest; });
}
CYN_INLINE Lanes unless_lowest(Lanes x, Lanes y) {
  return each([&](int i) { return x.v[i] == kLowest ? y.v[i] : x.v[i]; });
}
CYN_INLINE bool is_all_one(Lanes x) {
  for (float one : x.v) {
    if (!(one == 1.0F)) return false;
  }
  return true;
}

#endif
#endif

}  // namespace cynosure::CYN_VARIANT
