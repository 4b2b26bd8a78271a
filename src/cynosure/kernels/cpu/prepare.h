// Normalise activations and turn them into what the weights want. Knows nothing of weights' values.
#pragma once

#include "epilogue.h"

namespace cynosure {
namespace CYN_VARIANT {

// One rounding step above zero: a row whose largest magnitude is below it counts as zeros.
constexpr float kSmallest = 1e-30F;

// Read a row as float32 and pad it with zeros; where a norm is asked for, normalise it.
static void read_row(const CynLinearCall& call, std::int64_t row, std::int64_t n, std::int64_t padded, float* out) {
  const std::int64_t start = row * call.x_stride;
  Lanes squares = fill(0.0F), total = fill(0.0F);
  for (std::int64_t i = 0; i < padded; i += kLanes) {
    const int left = n - i >= kLanes ? kLanes : n > i ? static_cast<int>(n - i) : 0;
    const Lanes x = left == 0 ? fill(0.0F) : load_typed(call.x, call.x_type, start + i, left);
    squares = fma(x, x, squares);
    total = add(total, x);
    store(out + i, x);
  }
  if (call.norm == CYN_NO_NORM) return;
  float mean = 0.0F;
  float power = sum(squares) / static_cast<float>(n);
  if (call.norm == CYN_LAYER_NORM) {
    // Squares of what is left once the mean is out: the difference of two large sums would lose digits.
    mean = sum(total) / static_cast<float>(n);
    squares = fill(0.0F);
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const int left = n - i >= kLanes ? kLanes : static_cast<int>(n - i);
      Lanes x = sub(load(out + i), fill(mean));
      store(out + i, x);
      if (left < kLanes) x = load_some(out + i, left);
      squares = fma(x, x, squares);
    }
    power = sum(squares) / static_cast<float>(n);
  }
  const float scale = 1.0F / __builtin_sqrtf(power + static_cast<float>(call.norm_eps));
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int left = n - i >= kLanes ? kLanes : static_cast<int>(n - i);
    Lanes x = mul(mul(load(out + i), fill(scale)), load_some(call.norm_weight + i, left));
    if (call.norm_bias != nullptr) x = add(x, load_some(call.norm_bias + i, left));
    store(out + i, x);
    for (int j = left; j < kLanes; ++j) out[i + j] = 0.0F;
  }
}

// Quantise n floats (a multiple of 16) to codes * scale; return the scale, NaN where any of them is not finite.
static float quantise(const float* x, std::int64_t n, std::int8_t* codes, std::int32_t* code_sum) {
  Lanes most = fill(0.0F), poison = fill(0.0F);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const Lanes value = load(x + i);
    most = larger(absolute(value), most);
    poison = fma(value, fill(0.0F), poison);
  }
  const float size = largest(most);
  const float inverse = size > kSmallest ? 127.0F / size : 0.0F;
  Ints total = fill_ints(0);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    // In this order NaN becomes a code as well; the scale tells of it.
    const Lanes scaled = larger(mul(load(x + i), fill(inverse)), fill(-127.0F));
    const Ints code = to_ints(smaller(scaled, fill(127.0F)));
    total = add_ints(total, code);
    store_bytes(codes + i, code);
  }
  *code_sum = sum_ints(total);
  return (size > kSmallest ? size / 127.0F : 0.0F) + sum(poison);
}

static void prepare(const LinearWork& work, std::int64_t row, float* scratch) {
  const Prepared& x = work.x;
  const std::int64_t padded = work.linear->padded_columns;
  char* const values = x.values + row * x.row_bytes;
  float* const floats = x.type == CYN_FLOAT32 ? reinterpret_cast<float*>(values) : scratch;
  read_row(*work.call, row, work.linear->num_columns, padded, floats);
  if (x.type == CYN_BFLOAT16) {
    std::uint16_t* const out = reinterpret_cast<std::uint16_t*>(values);
    for (std::int64_t i = 0; i < padded; i += kLanes) store_bf16(out + i, load(floats + i));
  } else if (x.type == CYN_INT8) {
    std::int8_t* const out = reinterpret_cast<std::int8_t*>(values);
    for (std::int64_t g = 0; g < x.num_groups; ++g) {
      const std::int64_t start = g * x.group;
      const std::int64_t n = padded - start < x.group ? padded - start : x.group;
      const std::int64_t at = row * x.num_groups + g;
      x.scales[at] = quantise(floats + start, n, out + start, x.sums + at);
    }
  }
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
