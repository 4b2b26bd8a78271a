// The names of lanes.h in plain loops, for any processor: the scalar twin. Included by lanes.h alone.
#pragma once

#include <cmath>

namespace cynosure {
namespace CYN_VARIANT {

struct Lanes {
  float v[kLanes];
};
struct Ints {
  std::int32_t v[kLanes];
};

template <typename Function>
CYN_INLINE Lanes each(Function function) {
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = function(i);
  return out;
}
template <typename Function>
CYN_INLINE Ints each_int(Function function) {
  Ints out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = function(i);
  return out;
}

CYN_INLINE Lanes fill(float x) { return each([=](int) { return x; }); }
CYN_INLINE Lanes load(const float* p) { return each([=](int i) { return p[i]; }); }
CYN_INLINE Lanes load_some(const float* p, int n) { return each([=](int i) { return i < n ? p[i] : 0.0F; }); }
CYN_INLINE void store_some(float* p, Lanes a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
CYN_INLINE void store(float* p, Lanes a) { store_some(p, a, kLanes); }
CYN_INLINE Lanes load_bf16(const std::uint16_t* p) { return each([=](int i) { return float_of_bf16(p[i]); }); }
CYN_INLINE Lanes load_bf16_some(const std::uint16_t* p, int n) {
  return each([=](int i) { return i < n ? float_of_bf16(p[i]) : 0.0F; });
}
CYN_INLINE void store_bf16_some(std::uint16_t* p, Lanes a, int n) {
  for (int i = 0; i < n; ++i) p[i] = bf16_of_float(a.v[i]);
}
CYN_INLINE void store_bf16(std::uint16_t* p, Lanes a) { store_bf16_some(p, a, kLanes); }

CYN_INLINE Lanes add(Lanes a, Lanes b) { return each([&](int i) { return a.v[i] + b.v[i]; }); }
CYN_INLINE Lanes sub(Lanes a, Lanes b) { return each([&](int i) { return a.v[i] - b.v[i]; }); }
CYN_INLINE Lanes mul(Lanes a, Lanes b) { return each([&](int i) { return a.v[i] * b.v[i]; }); }
CYN_INLINE Lanes div(Lanes a, Lanes b) { return each([&](int i) { return a.v[i] / b.v[i]; }); }
CYN_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
CYN_INLINE Lanes larger(Lanes a, Lanes b) { return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
CYN_INLINE Lanes smaller(Lanes a, Lanes b) { return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
CYN_INLINE Lanes absolute(Lanes a) { return each([&](int i) { return std::fabs(a.v[i]); }); }
CYN_INLINE Lanes with_sign(Lanes a, Lanes sign) {
  return each([&](int i) { return std::copysign(a.v[i], sign.v[i]); });
}
CYN_INLINE float sum(Lanes a) {
  float total = 0;
  for (float x : a.v) total += x;
  return total;
}
CYN_INLINE float largest(Lanes a) {
  float most = a.v[0];
  for (float x : a.v) most = x > most ? x : most;
  return most;
}

CYN_INLINE Ints fill_ints(std::int32_t x) { return each_int([=](int) { return x; }); }
CYN_INLINE Ints load_ints(const std::int32_t* p) { return each_int([=](int i) { return p[i]; }); }
CYN_INLINE Ints add_ints(Ints a, Ints b) {
  return each_int([&](int i) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) + static_cast<std::uint32_t>(b.v[i]));
  });
}
CYN_INLINE std::int32_t sum_ints(Ints a) {
  std::uint32_t total = 0;
  for (std::int32_t x : a.v) total += static_cast<std::uint32_t>(x);
  return static_cast<std::int32_t>(total);
}
// As the processors do: to nearest even; what does not fit, NaN included, is the smallest integer.
CYN_INLINE Ints to_ints(Lanes a) {
  return each_int([&](int i) {
    return std::fabs(a.v[i]) < 2147483648.0F ? static_cast<std::int32_t>(std::nearbyint(a.v[i])) : INT32_MIN;
  });
}
CYN_INLINE Lanes to_floats(Ints a) { return each([&](int i) { return static_cast<float>(a.v[i]); }); }
// 2 ** a, for -126 <= a <= 127.
CYN_INLINE Lanes exponent(Ints a) {
  return each([&](int i) {
    const std::uint32_t bits = (static_cast<std::uint32_t>(a.v[i]) + 127U) << 23;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  });
}
CYN_INLINE void store_bytes(std::int8_t* p, Ints a) {
  for (int i = 0; i < kLanes; ++i) {
    p[i] = static_cast<std::int8_t>(a.v[i] > 127 ? 127 : a.v[i] < -128 ? -128 : a.v[i]);
  }
}

template <typename Code>
CYN_INLINE Ints dot4_of(Ints sums, const std::int8_t* x, Code code) {
  return each_int([&](int i) {
    std::int32_t product = 0;
    for (int j = 0; j < 4; ++j) product += code(4 * i + j) * x[j];
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(sums.v[i]) + static_cast<std::uint32_t>(product));
  });
}
CYN_INLINE Ints dot4(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  return dot4_of(sums, x, [=](int i) { return static_cast<int>(weights[i]); });
}
CYN_INLINE Ints dot4_low(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  return dot4_of(sums, x, [=](int i) { return weights[i] & 15; });
}
CYN_INLINE Ints dot4_high(Ints sums, const std::uint8_t* weights, const std::int8_t* x) {
  return dot4_of(sums, x, [=](int i) { return weights[i] >> 4; });
}
CYN_INLINE Lanes dot2_bf16(Lanes sums, const std::uint16_t* weights, const std::uint16_t* x) {
  const float even = float_of_bf16(x[0]), odd = float_of_bf16(x[1]);
  return each([&](int i) {
    return sums.v[i] + float_of_bf16(weights[2 * i]) * even + float_of_bf16(weights[2 * i + 1]) * odd;
  });
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
