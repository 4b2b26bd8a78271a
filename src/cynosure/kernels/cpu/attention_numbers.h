// Read stored numbers as float32. Knows nothing of where they are.
#pragma once

#include <cstdint>
#include <cstring>

#include "attention_api.h"
#include "lanes.h"

namespace cynosure::CYN_VARIANT {

CYN_INLINE float float_of_bits(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

CYN_INLINE std::uint32_t bits_of_float(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

CYN_INLINE float float_of_half(std::uint16_t x) {
#if CYN_LEVEL >= CYN_AVX2
  return _cvtsh_ss(x);
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(x & 0x8000) << 16, rest = x & 0x7fff;
  if (rest >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);  // infinity, NaN
  if (rest < 0x400) {                                                              // zero, subnormal
    const float small = static_cast<float>(rest) * 0x1p-24F;
    return sign ? -small : small;
  }
  return float_of_bits(sign | ((rest << 13) + (112U << 23)));
#endif
}

CYN_INLINE std::uint16_t half_of_float(float x) {
#if CYN_LEVEL >= CYN_AVX2
  return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
#else
  const std::uint32_t bits = bits_of_float(x), rest = bits & 0x7fffffff;
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  if (rest > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (rest >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (rest < 0x38800000) {  // below 2^-14: the sum's last bits are the subnormal, rounded by the adder
    return static_cast<std::uint16_t>(sign | (bits_of_float(float_of_bits(rest) + 0.5F) - bits_of_float(0.5F)));
  }
  return static_cast<std::uint16_t>(sign | ((rest - (112U << 23) + 0xfff + ((rest >> 13) & 1)) >> 13));
#endif
}

CYN_INLINE long bytes_of(std::int64_t element) { return element == kFloat32 ? 4 : element == kInt8 ? 1 : 2; }

CYN_INLINE float number_at(const void* p, std::int64_t element, long i) {
  switch (element) {
    case kFloat32: return static_cast<const float*>(p)[i];
    case kBfloat16: return float_of_bf16(static_cast<const std::uint16_t*>(p)[i]);
    case kFloat16: return float_of_half(static_cast<const std::uint16_t*>(p)[i]);
    default: return static_cast<float>(static_cast<const std::int8_t*>(p)[i]);
  }
}

CYN_INLINE Lanes load_codes(const std::int8_t* p) {
#if CYN_LEVEL >= CYN_AVX512
  return to_floats(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif CYN_LEVEL >= CYN_AVX2
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return to_floats(Ints{_mm256_cvtepi8_epi32(codes), _mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8))});
#else
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = static_cast<float>(p[i]);
  return out;
#endif
}

// out[i] = p[i]; codes come without their scale.
CYN_INLINE void widen(const void* p, std::int64_t element, long count, float* out) {
  long i = 0;
  if (element == kFloat32) {
    std::memcpy(out, p, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  for (; element == kBfloat16 && i + kLanes <= count; i += kLanes) {
    store(out + i, load_bf16(static_cast<const std::uint16_t*>(p) + i));
  }
  for (; element == kInt8 && i + kLanes <= count; i += kLanes) {
    store(out + i, load_codes(static_cast<const std::int8_t*>(p) + i));
  }
  for (; i < count; ++i) out[i] = number_at(p, element, i);
}

}  // namespace cynosure::CYN_VARIANT
