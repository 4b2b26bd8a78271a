// Sixteen floats or integers at a time, by name. Knows nothing of layers.
//
// The same kernel source runs in every variant; here the names get their instructions. A variant's file
// defines:
//
//   Lanes, Ints                          sixteen float32, sixteen int32
//   fill load store (+ _some for n < 16) add sub mul div fma larger smaller absolute with_sign sum largest
//   load_bf16 store_bf16 (+ _some)       sixteen bfloat16 in memory, float32 in registers; nearest even
//   fill_ints load_ints add_ints to_ints to_floats exponent store_bytes
//   dot4 dot4_low dot4_high dot2_bf16    a step of a product with a packed block of weights (linear_api.h)
//
// fma(a, b, c) is a * b + c, rounded once where the processor can. No other product is contracted, so that a
// row gets the same bits in every loop of a variant. larger and smaller give b where either is NaN.
#pragma once

#include <cstdint>
#include <cstring>

#include "bfloat16.h"
#include "isa.h"

namespace cynosure {
namespace CYN_VARIANT {

constexpr int kLanes = 16;

CYN_INLINE void prefetch(const void* address) { __builtin_prefetch(address, 0, 3); }
// Into the second cache: the first is small.
CYN_INLINE void prefetch_to_second(const void* address) { __builtin_prefetch(address, 0, 2); }

}  // namespace CYN_VARIANT
}  // namespace cynosure

#if CYN_LEVEL >= CYN_AVX512
#include "lanes_avx512.h"
#elif CYN_LEVEL == CYN_AVX2
#include "lanes_avx2.h"
#else
#include "lanes_portable.h"
#endif
