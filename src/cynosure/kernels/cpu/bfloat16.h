// Read and write one bfloat16, the same in every variant. Knows nothing of vectors.
#pragma once

#include <cstdint>
#include <cstring>

#define CYN_INLINE static inline __attribute__((always_inline, unused))

namespace cynosure {

CYN_INLINE float float_of_bf16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// To nearest, ties to even; what is no number stays none.
CYN_INLINE std::uint16_t bf16_of_float(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace cynosure
