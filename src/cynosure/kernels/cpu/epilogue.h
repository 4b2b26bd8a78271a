// What follows a product: bias, activation, gate, residual, the store. Knows nothing of how it was computed.
#pragma once

#include "activation.h"
#include "linear_work.h"

namespace cynosure {
namespace CYN_VARIANT {

CYN_INLINE Lanes load_typed(const void* p, std::int64_t type, std::int64_t index, int n) {
  if (type == CYN_FLOAT32) {
    const float* at = static_cast<const float*>(p) + index;
    return n == kLanes ? load(at) : load_some(at, n);
  }
  const std::uint16_t* at = static_cast<const std::uint16_t*>(p) + index;
  return n == kLanes ? load_bf16(at) : load_bf16_some(at, n);
}

CYN_INLINE void store_typed(void* p, std::int64_t type, std::int64_t index, Lanes a, int n) {
  if (type == CYN_FLOAT32) {
    float* at = static_cast<float*>(p) + index;
    n == kLanes ? store(at, a) : store_some(at, a, n);
  } else {
    std::uint16_t* at = static_cast<std::uint16_t*>(p) + index;
    n == kLanes ? store_bf16(at, a) : store_bf16_some(at, a, n);
  }
}

CYN_INLINE Lanes with_bias(const LinearWork& work, std::int64_t block, Lanes value) {
  return work.linear->bias == nullptr ? value : add(value, load(work.linear->bias + block * kLanes));
}

// Add the residual and store outputs 16 * unit... of a row.
CYN_INLINE void put(const LinearWork& work, std::int64_t row, std::int64_t unit, Lanes value) {
  const CynLinearCall& call = *work.call;
  const std::int64_t width = work.linear->is_gated ? work.linear->num_rows / 2 : work.linear->num_rows;
  const std::int64_t column = unit * kLanes;
  const int n = width - column < kLanes ? static_cast<int>(width - column) : kLanes;
  if (call.residual != nullptr) {
    const std::int64_t at = row * call.residual_stride + column;
    value = add(value, load_typed(call.residual, call.out_type, at, n));
  }
  store_typed(call.out, call.out_type, row * call.out_stride + column, value, n);
}

// Finish one block of a row.
CYN_INLINE void finish(const LinearWork& work, std::int64_t row, std::int64_t block, Lanes value) {
  put(work, row, block, activated(work.call->activation, with_bias(work, block, value)));
}

// Finish a gate and its up, which are blocks 2 * unit and 2 * unit + 1.
CYN_INLINE void finish_gated(const LinearWork& work, std::int64_t row, std::int64_t unit, Lanes gate, Lanes up) {
  const Lanes opened = activated(work.call->activation, with_bias(work, 2 * unit, gate));
  put(work, row, unit, mul(opened, with_bias(work, 2 * unit + 1, up)));
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
