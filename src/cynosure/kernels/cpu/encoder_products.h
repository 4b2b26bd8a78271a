// Multiply rows by packed weights with AMX, and finish each block of sums while the next one is multiplied.
//
// Two tiles of rows (32) meet two blocks of weights (32 outputs) in four tiles of sums. The processor multiplies
// tiles beside its vectors: what is left to do with 32 x 32 sums (bias, activation, rounding) is cut into as many
// parts as the next product has steps, and goes between them. Columns go by in chunks whose weights stay in the
// first cache while all rows of a panel pass; rows are loaded past it, since each is needed once a chunk.
#pragma once

#include "encoder_numbers.h"

#if CYN_LEVEL >= CYN_AMX

#define CYN_WITHIN inline __attribute__((always_inline))  // of members, which need no `static`

namespace cynosure {
namespace CYN_VARIANT {

constexpr std::int64_t kSumBytes = 1024;         // of one tile of sums
constexpr std::int64_t kGroupBytes = 4 * kSumBytes;
constexpr std::int64_t kMaxStepsAtOnce = 12;     // of 64 bytes a row: two blocks of weights take 24 KB
constexpr std::int64_t kLinesOfStep = 2 * kSumBytes / 64;  // of two blocks of weights

// Sums that wait to be finished: rows first.. of a pair of blocks.
template <bool IsInt8, Ending ending>
struct Unfinished {
  const Product& product;
  Lanes bias[2], scale[2];
  const char* at = nullptr;
  std::int64_t pair = 0, first = 0, count = 0, done = 0;

  explicit Unfinished(const Product& of) : product(of) {}

  void take(std::int64_t of_pair, std::int64_t first_row, std::int64_t num_rows, const char* sums) {
    if (of_pair != pair || at == nullptr) {
      for (int i = 0; i < 2; ++i) {
        const std::int64_t block = (2 * of_pair + i) * kLanes;
        bias[i] = product.linear->bias == nullptr ? fill(0.0F) : load(product.linear->bias + block);
        if (IsInt8) scale[i] = load(static_cast<const float*>(product.linear->scales) + block);
      }
    }
    at = sums;
    pair = of_pair;
    first = first_row;
    count = num_rows;
    done = 0;
  }

  CYN_WITHIN Lanes sum(const char* here, int i, std::int64_t row) const {
    if (!IsInt8) return add(load(reinterpret_cast<const float*>(here)), bias[i]);
    const Ints codes = load_ints(reinterpret_cast<const std::int32_t*>(here));
    const Lanes whole = to_floats(add_ints(codes, fill_ints(-128 * product.sums[row])));
    return fma(whole, mul(scale[i], fill(product.scales[row])), bias[i]);
  }

  CYN_WITHIN void finish_row(std::int64_t index) const {
    const char* here = at + index / kLanes * 2 * kSumBytes + index % kLanes * 64;
    const std::int64_t row = first + index;
    Lanes a = sum(here, 0, row), b = sum(here + kSumBytes, 1, row);
    if (ending == Ending::kAdd) {
      float* const to = static_cast<float*>(product.out) + row * product.out_stride + pair * 2 * kLanes;
      store(to, add(load(to), a));
      store(to + kLanes, add(load(to + kLanes), b));
      return;
    }
    auto* const to = static_cast<std::uint16_t*>(product.out) + row * product.out_stride;
    if (ending == Ending::kGate) {
      store_narrow(to + pair * kLanes, mul(activated_narrow(product.activation, a), b));
      return;
    }
    if (ending == Ending::kActivate) {
      a = activated_narrow(product.activation, a);
      b = activated_narrow(product.activation, b);
    }
    store_pair(to + pair * 2 * kLanes, a, b);
  }

  CYN_WITHIN void finish_until(std::int64_t stop) {
    for (; done < stop; ++done) finish_row(done);
  }
  // The share of step `step` of `num_steps`.
  CYN_WITHIN void finish_part(std::int64_t step, std::int64_t num_steps) {
    finish_until(count * (step + 1) / num_steps);
  }
};

// A run of steps for one or two tiles of rows: sums begin at zero, or go on from where they are.
struct EncoderRun {
  const char* x;
  std::int64_t x_bytes;
  const char* weights[2];
  std::int64_t num_steps;
  const char* ahead;  // lines of the weights that come after these,
  std::int64_t num_ahead;  // so many a step
  char* sums;
  bool is_first;
};

template <int M, bool IsInt8, class Beside>
CYN_INLINE void multiply_group(const EncoderRun& run, Beside& beside) {
  if (run.is_first) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (M > 1) _tile_zero(2);
    if constexpr (M > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, run.sums, 64);
    _tile_loadd(1, run.sums + kSumBytes, 64);
    if constexpr (M > 1) _tile_loadd(2, run.sums + 2 * kSumBytes, 64);
    if constexpr (M > 1) _tile_loadd(3, run.sums + 3 * kSumBytes, 64);
  }
  const char *x = run.x, *next = run.x + kLanes * run.x_bytes, *one = run.weights[0], *two = run.weights[1];
  const char* ahead = run.ahead;
  for (std::int64_t step = 0; step < run.num_steps; ++step) {
    _tile_stream_loadd(4, x, run.x_bytes);
    _tile_loadd(6, one, 64);
    if constexpr (IsInt8) _tile_dpbsud(0, 4, 6); else _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, two, 64);
    if constexpr (IsInt8) _tile_dpbsud(1, 4, 7); else _tile_dpbf16ps(1, 4, 7);
    if constexpr (M > 1) {
      _tile_stream_loadd(5, next, run.x_bytes);
      if constexpr (IsInt8) _tile_dpbsud(2, 5, 6); else _tile_dpbf16ps(2, 5, 6);
      if constexpr (IsInt8) _tile_dpbsud(3, 5, 7); else _tile_dpbf16ps(3, 5, 7);
    }
    for (std::int64_t line = 0; line < run.num_ahead; ++line, ahead += 64) __builtin_prefetch(ahead, 0, 2);
    beside.finish_part(step, run.num_steps);
    x += 64;
    next += 64;
    one += kSumBytes;
    two += kSumBytes;
  }
  beside.finish_until(beside.count);
  _tile_stored(0, run.sums, 64);
  _tile_stored(1, run.sums + kSumBytes, 64);
  if constexpr (M > 1) _tile_stored(2, run.sums + 2 * kSumBytes, 64);
  if constexpr (M > 1) _tile_stored(3, run.sums + 3 * kSumBytes, 64);
}

constexpr std::int64_t product_scratch() { return 2 * (kPanelRows / kGroupRows) * kGroupBytes; }

template <bool IsInt8, Ending ending>
static void multiply_panel(const Product& product, std::int64_t first_pair, std::int64_t last_pair, RowRange rows,
                           char* scratch) {
  const std::int64_t all_steps = product.linear->padded_columns * (IsInt8 ? 1 : 2) / 64;
  const std::int64_t block_bytes = all_steps * kSumBytes;
  const std::int64_t num_chunks = (all_steps + kMaxStepsAtOnce - 1) / kMaxStepsAtOnce;
  const std::int64_t num_groups = (rows.last - rows.first + kGroupRows - 1) / kGroupRows;
  const std::int64_t lines_ahead = (kLinesOfStep + num_groups - 1) / num_groups;
  const char* const weights = static_cast<const char*>(product.linear->codes);
  Unfinished<IsInt8, ending> beside(product);
  std::int64_t turn = 0;
  asm volatile("" : : : "memory");  // the loads of tiles do not tell the compiler what they read
  for (std::int64_t pair = first_pair; pair < last_pair; ++pair) {
    for (std::int64_t chunk = 0; chunk < num_chunks; ++chunk) {
      const std::int64_t done = all_steps * chunk / num_chunks, stop = all_steps * (chunk + 1) / num_chunks;
      const bool is_last = chunk + 1 == num_chunks;
      for (std::int64_t group = 0; group < num_groups; ++group) {
        const std::int64_t row = rows.first + group * kGroupRows;
        const std::int64_t left = rows.last - row, count = left < kGroupRows ? left : kGroupRows;
        // Of two groups of sums one is multiplied while the other is finished.
        const std::int64_t place = num_chunks == 1 ? turn++ % 2 : pair % 2 * num_groups + group;
        EncoderRun run{};
        run.x = product.x + row * product.x_bytes + done * 64;
        run.x_bytes = product.x_bytes;
        for (int i = 0; i < 2; ++i) run.weights[i] = weights + (2 * pair + i) * block_bytes + done * kSumBytes;
        run.num_steps = stop - done;
        // Groups take turns at fetching the next pair's weights.
        run.num_ahead = pair + 1 < last_pair ? lines_ahead : 0;
        run.ahead = weights + 2 * (pair + 1) * block_bytes;
        run.ahead += (done * num_groups + group * run.num_steps) * lines_ahead * 64;
        run.sums = scratch + place * kGroupBytes;
        run.is_first = chunk == 0;
        count > kLanes ? multiply_group<2, IsInt8>(run, beside) : multiply_group<1, IsInt8>(run, beside);
        if (is_last) beside.take(pair, row, count, run.sums);
      }
    }
  }
  asm volatile("" : : : "memory");
  beside.finish_until(beside.count);
}

template <bool IsInt8>
static void multiply_as(const Product& product, std::int64_t first, std::int64_t last, RowRange rows, char* scratch) {
  switch (product.ending) {
    case Ending::kStore: return multiply_panel<IsInt8, Ending::kStore>(product, first, last, rows, scratch);
    case Ending::kActivate: return multiply_panel<IsInt8, Ending::kActivate>(product, first, last, rows, scratch);
    case Ending::kGate: return multiply_panel<IsInt8, Ending::kGate>(product, first, last, rows, scratch);
    default: return multiply_panel<IsInt8, Ending::kAdd>(product, first, last, rows, scratch);
  }
}

static void multiply(const Product& product, std::int64_t first_pair, std::int64_t last_pair, RowRange rows,
                     char* scratch) {
  configure_encoder_tiles();
  if (product.linear->type == CYN_INT8) {
    multiply_as<true>(product, first_pair, last_pair, rows, scratch);
  } else {
    multiply_as<false>(product, first_pair, last_pair, rows, scratch);
  }
  _tile_release();
}

}  // namespace CYN_VARIANT
}  // namespace cynosure

#endif
