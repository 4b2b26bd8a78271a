// Multiply a packed block by up to four rows with dot products. Knows nothing of what follows the product.
#pragma once

#include "lanes.h"
#include "linear_work.h"

namespace cynosure {
namespace CYN_VARIANT {

// Weights stream from memory once: what will be needed this far ahead is asked for now.
constexpr std::int64_t kAhead = 4096;
constexpr std::int64_t kUnit = 64;

template <typename T>
CYN_INLINE const T* prepared_row(const LinearWork& work, std::int64_t row) {
  return reinterpret_cast<const T*>(work.x.values + row * work.x.row_bytes);
}

// Where block `block` begins; blocks have one size.
CYN_INLINE const std::uint8_t* codes_of(const LinearWork& work, std::int64_t block) {
  const std::int64_t block_bytes = work.linear->code_bytes / work.linear->num_blocks;
  return static_cast<const std::uint8_t*>(work.linear->codes) + block * block_bytes;
}

template <int R>
static void block_float32(const LinearWork& work, std::int64_t block, std::int64_t row, Lanes* out) {
  const std::uint8_t* weights = codes_of(work, block);
  const float* x[R];
  Lanes even[R], odd[R];
  for (int r = 0; r < R; ++r) {
    x[r] = prepared_row<float>(work, row + r);
    even[r] = odd[r] = fill(0.0F);
  }
  for (std::int64_t k = 0; k < work.linear->padded_columns; k += 2, weights += 2 * kUnit) {
    prefetch(weights + kAhead);
    prefetch(weights + kAhead + kUnit);
    const Lanes first = load(reinterpret_cast<const float*>(weights));
    const Lanes second = load(reinterpret_cast<const float*>(weights + kUnit));
    for (int r = 0; r < R; ++r) {
      even[r] = fma(first, fill(x[r][k]), even[r]);
      odd[r] = fma(second, fill(x[r][k + 1]), odd[r]);
    }
  }
  for (int r = 0; r < R; ++r) out[r] = add(even[r], odd[r]);
}

template <int R>
static void block_bfloat16(const LinearWork& work, std::int64_t block, std::int64_t row, Lanes* out) {
  const std::uint8_t* weights = codes_of(work, block);
  const std::uint16_t* x[R];
  Lanes even[R], odd[R];
  for (int r = 0; r < R; ++r) {
    x[r] = prepared_row<std::uint16_t>(work, row + r);
    even[r] = odd[r] = fill(0.0F);
  }
  for (std::int64_t k = 0; k < work.linear->padded_columns; k += 4, weights += 2 * kUnit) {
    prefetch(weights + kAhead);
    prefetch(weights + kAhead + kUnit);
    for (int r = 0; r < R; ++r) {
      even[r] = dot2_bf16(even[r], reinterpret_cast<const std::uint16_t*>(weights), x[r] + k);
      odd[r] = dot2_bf16(odd[r], reinterpret_cast<const std::uint16_t*>(weights + kUnit), x[r] + k + 2);
    }
  }
  for (int r = 0; r < R; ++r) out[r] = add(even[r], odd[r]);
}

template <int R>
static void block_int8(const LinearWork& work, std::int64_t block, std::int64_t row, Lanes* out) {
  const std::uint8_t* weights = codes_of(work, block);
  const std::int8_t* x[R];
  Ints even[R], odd[R];
  for (int r = 0; r < R; ++r) {
    x[r] = prepared_row<std::int8_t>(work, row + r);
    // Codes are stored 128 too high.
    even[r] = fill_ints(-128 * work.x.sums[row + r]);
    odd[r] = fill_ints(0);
  }
  for (std::int64_t k = 0; k < work.linear->padded_columns; k += 8, weights += 2 * kUnit) {
    prefetch(weights + kAhead);
    prefetch(weights + kAhead + kUnit);
    for (int r = 0; r < R; ++r) {
      even[r] = dot4(even[r], weights, x[r] + k);
      odd[r] = dot4(odd[r], weights + kUnit, x[r] + k + 4);
    }
  }
  const Lanes scale = load(static_cast<const float*>(work.linear->scales) + block * kLanes);
  for (int r = 0; r < R; ++r) {
    out[r] = mul(to_floats(add_ints(even[r], odd[r])), mul(scale, fill(work.x.scales[row + r])));
  }
}

template <int R>
static void block_int4(const LinearWork& work, std::int64_t block, std::int64_t row, Lanes* out) {
  const Prepared& prepared = work.x;
  const std::uint8_t* weights = codes_of(work, block);
  const std::uint16_t* scales = static_cast<const std::uint16_t*>(work.linear->scales);
  scales += block * prepared.num_groups * kLanes;
  const std::int8_t* x[R];
  for (int r = 0; r < R; ++r) {
    x[r] = prepared_row<std::int8_t>(work, row + r);
    out[r] = fill(0.0F);
  }
  for (std::int64_t g = 0; g < prepared.num_groups; ++g) {
    const std::int64_t start = g * prepared.group, all = work.linear->padded_columns;
    const std::int64_t stop = start + prepared.group < all ? start + prepared.group : all;
    Ints low[R], high[R];
    for (int r = 0; r < R; ++r) {
      low[r] = fill_ints(-8 * prepared.sums[(row + r) * prepared.num_groups + g]);
      high[r] = fill_ints(0);
    }
    for (std::int64_t k = start; k < stop; k += 8, weights += kUnit) {
      prefetch(weights + kAhead);
      for (int r = 0; r < R; ++r) {
        low[r] = dot4_low(low[r], weights, x[r] + k);
        high[r] = dot4_high(high[r], weights, x[r] + k + 4);
      }
    }
    const Lanes scale = load_bf16(scales + g * kLanes);
    prefetch(scales + g * kLanes + kAhead / 8);
    for (int r = 0; r < R; ++r) {
      const Lanes both = mul(scale, fill(prepared.scales[(row + r) * prepared.num_groups + g]));
      out[r] = fma(to_floats(add_ints(low[r], high[r])), both, out[r]);
    }
  }
}

template <int R>
CYN_INLINE void block_product(const LinearWork& work, std::int64_t block, std::int64_t row, Lanes* out) {
  switch (work.linear->type) {
    case CYN_FLOAT32: return block_float32<R>(work, block, row, out);
    case CYN_BFLOAT16: return block_bfloat16<R>(work, block, row, out);
    case CYN_INT8: return block_int8<R>(work, block, row, out);
    default: return block_int4<R>(work, block, row, out);
  }
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
