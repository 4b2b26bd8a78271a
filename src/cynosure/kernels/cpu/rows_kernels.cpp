// Normalise parts of rows, and find the largest number of a row. Knows nothing of threads.
#include "epilogue.h"
#include "rows_table.h"

namespace cynosure {
namespace CYN_VARIANT {

constexpr std::int64_t kChunk = 4096;  // numbers that are searched again once the largest is known

CYN_INLINE int left_of(std::int64_t n, std::int64_t i) { return n - i < kLanes ? static_cast<int>(n - i) : kLanes; }

static void norm_part(const CynNormCall& call, std::int64_t from, std::int64_t residual, std::int64_t to) {
  const std::int64_t n = call.width;
  Lanes total = fill(0.0F), squares = fill(0.0F);
  float mean = 0.0F;
  if (call.norm == CYN_LAYER_NORM) {
    for (std::int64_t i = 0; i < n; i += kLanes) {
      total = add(total, load_typed(call.x, call.type, from + i, left_of(n, i)));
    }
    mean = sum(total) / static_cast<float>(n);
  }
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int left = left_of(n, i);
    Lanes x = sub(load_typed(call.x, call.type, from + i, left), fill(mean));
    if (left < kLanes && mean != 0.0F) {
      float some[kLanes];
      store(some, x);
      x = load_some(some, left);  // beyond the end the mean was taken from nothing
    }
    squares = fma(x, x, squares);
  }
  const float power = sum(squares) / static_cast<float>(n);
  const float scale = 1.0F / __builtin_sqrtf(power + static_cast<float>(call.eps));
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int left = left_of(n, i);
    Lanes x = sub(load_typed(call.x, call.type, from + i, left), fill(mean));
    x = mul(mul(x, fill(scale)), load_some(call.weight + i, left));
    if (call.bias != nullptr) x = add(x, load_some(call.bias + i, left));
    if (call.residual != nullptr) x = add(x, load_typed(call.residual, call.type, residual + i, left));
    store_typed(call.out, call.type, to + i, x, left);
  }
}

static void norm(const CynNormCall& call, std::int64_t first_row, std::int64_t last_row) {
  for (std::int64_t row = first_row; row < last_row; ++row) {
    for (std::int64_t part = 0; part < call.num_parts; ++part) {
      const std::int64_t at = part * call.width;
      norm_part(call, row * call.x_stride + at, row * call.residual_stride + at, row * call.out_stride + at);
    }
  }
}

// The largest of n numbers; `poison` becomes NaN where one of them is infinite or NaN.
static float largest_of(const float* x, std::int64_t n, Lanes* poison) {
  Lanes most = fill(-__builtin_inff()), even = most;
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const Lanes a = load(x + i), b = load(x + i + kLanes);
    most = larger(a, most);
    even = larger(b, even);
    *poison = fma(a, fill(0.0F), fma(b, fill(0.0F), *poison));
  }
  float found = largest(larger(even, most));
  for (; i < n; ++i) {
    found = x[i] > found ? x[i] : found;
    *poison = fma(fill(x[i]), fill(0.0F), *poison);
  }
  return found;
}

static std::int64_t argmax(const float* x, std::int64_t n, float* highest) {
  Lanes poison = fill(0.0F);
  std::int64_t chunk = 0;
  float most = -__builtin_inff();
  for (std::int64_t start = 0; start < n; start += kChunk) {
    const float found = largest_of(x + start, n - start < kChunk ? n - start : kChunk, &poison);
    if (found > most) {
      most = found;
      chunk = start;
    }
  }
  *highest = most;
  if (sum(poison) != 0.0F) {  // NaN is unequal to everything
    for (std::int64_t i = 0; i < n; ++i) {
      if (x[i] != x[i]) {
        *highest = x[i];
        return i;
      }
    }
  }
  while (chunk < n - 1 && x[chunk] != most) ++chunk;
  return chunk;
}

const RowsTable rows_table = {norm, argmax};

}  // namespace CYN_VARIANT
}  // namespace cynosure
