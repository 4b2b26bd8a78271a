// Registers of tiles, numbers in and out of bfloat16, and the gates of feed-forward layers. Knows nothing of layers.
//
// Rounding is the processor's own, which takes denormals for zeros: no activation is told from zero by them.
#pragma once

#include "activation.h"
#include "encoder_work.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure {
namespace CYN_VARIANT {

CYN_INLINE void configure_encoder_tiles() {
  struct alignas(64) {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shape;
  asm volatile("" : : "r"(&shape) : "memory");  // or GCC 12 drops the stores to it
  _tile_loadconfig(&shape);
}

// Thirty-two numbers side by side: all of a, then all of b.
CYN_INLINE void store_pair(std::uint16_t* to, Lanes a, Lanes b) {
  _mm512_storeu_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a)));
}

CYN_INLINE void store_narrow(std::uint16_t* to, Lanes a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)));
}

// x * (1/2 + y p(y^2)) with y = x, kept within where the half and the series reach 0 and 1: odd minimax fits of the
// normal distribution and of its approximation by tanh, within 1.5e-5 of each; bfloat16 keeps 4e-3 of a number.
constexpr float kReach = 4.25F;
constexpr int kSeries = 9;

CYN_INLINE Lanes gated_by_series(const float (&c)[kSeries], Lanes x) {
  const Lanes y = smaller(larger(x, fill(-kReach)), fill(kReach)), square = mul(y, y);
  Lanes series = fill(c[kSeries - 1]);
#pragma GCC unroll 16
  for (int i = kSeries - 2; i >= 0; --i) series = fma(series, square, fill(c[i]));
  return mul(x, fma(series, y, fill(0.5F)));
}

constexpr float kNormal[kSeries] = {
    3.988899887e-01F, -6.630755216e-02F, 9.784352966e-03F, -1.096600550e-03F, 9.104964556e-05F,
    -5.362999673e-06F, 2.090049946e-07F, -4.780888130e-09F, 4.824828731e-11F};
constexpr float kNormalByTanh[kSeries] = {
    3.988772631e-01F, -6.660018861e-02F, 9.986753576e-03F, -1.150460797e-03F, 9.864884487e-05F,
    -5.988605608e-06F, 2.392646934e-07F, -5.579424922e-09F, 5.713113316e-11F};

CYN_INLINE Lanes activated_narrow(std::int64_t kind, Lanes x) {
  if (kind == CYN_GELU) return gated_by_series(kNormal, x);
  if (kind == CYN_GELU_TANH) return gated_by_series(kNormalByTanh, x);
  return activated(kind, x);
}

}  // namespace CYN_VARIANT
}  // namespace cynosure

#endif
