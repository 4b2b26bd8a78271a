// Multiply packed blocks by many rows with AMX tiles. Included where the variant has them.
//
// A tile has 16 rows of 64 bytes. Two tiles of activations (32 rows of x) meet two of weights (32 outputs) in
// four tiles of sums.
//
// Up to 32 rows wait for their weights: these go by in one stream, and what follows the products (scales, gate,
// residual, stores) is computed for one pair of blocks between the tiles of the next. Of more rows, columns go by in
// chunks whose weights stay in the first cache while all rows pass; sums wait in scratch between chunks, which
// changes no bit of them.
#pragma once

#include "epilogue.h"

namespace cynosure {
namespace CYN_VARIANT {

constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kStepsInChunk = 8;  // of 64 bytes a row: two blocks of weights take 16 KB
constexpr std::int64_t kTilesAhead = 2;    // of each block: more of them would crowd out what is waited for
constexpr std::int64_t kPageBytes = 4096;
constexpr int kLinesOfNextPage[] = {0, 64, 512, 576};

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

static void configure_tiles() {
  const TileConfig config;
  // GCC 12 does not see that the instruction reads the struct, and drops the stores to it.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

// Walks through packed pairs of blocks in the order of their use and asks memory for tiles before they are needed.
// What follows a pair is the next one: whoever computes that finds its beginning fetched.
struct Ahead {
  const char* at[2];      // the tiles that are asked for next
  std::int64_t num_left;  // of each block of that pair
  std::int64_t block_bytes;
};

template <int N>
CYN_INLINE void fetch(Ahead& ahead) {
  for (int n = 0; n < N; ++n) {
    for (int line = 0; line < kTileBytes; line += 64) prefetch(ahead.at[n] + line);
    // The processor looks ahead by itself, but not past a page before it has seen some lines of the next.
    for (int line : kLinesOfNextPage) prefetch_to_second(ahead.at[n] + kPageBytes + line);
    ahead.at[n] += kTileBytes;
  }
  if (--ahead.num_left > 0) return;
  ahead.at[0] = ahead.at[N - 1];
  ahead.at[1] = ahead.at[0] + ahead.block_bytes;
  ahead.num_left = ahead.block_bytes / kTileBytes;
}

// Rows of a pair whose sums are known, to be finished while the next pair waits for its weights.
struct Unfinished {
  std::int64_t pair, first_row, row, last_row, rows_per_step;
  bool has_two_blocks;
  const char* sums;
};

static void finish_tiles(const LinearWork& work, const Unfinished& rows, std::int64_t last_row);

CYN_INLINE void finish_some(const LinearWork& work, Unfinished& rows, std::int64_t count) {
  if (rows.row == rows.last_row) return;
  const std::int64_t last = rows.last_row - rows.row > count ? rows.row + count : rows.last_row;
  finish_tiles(work, rows, last);
  rows.row = last;
}

// Where the operands of a run of steps lie, and the four tiles of sums.
struct TileRun {
  const char* x;           // first row of the run; rows are x_stride bytes apart
  std::int64_t x_stride;
  const char* weights[2];  // a tile a step
  std::int64_t num_steps;
  char* sums;
  bool is_first;           // sums start at zero
  Ahead* ahead;            // null where these weights were read before
  const LinearWork* work;
  Unfinished* unfinished;  // or null
};

// M of 16 rows, N blocks. The numbers of tiles must be literals.
template <int M, int N, bool IsInt8>
static void multiply_tiles(const TileRun& run) {
  if (run.is_first) {
    _tile_zero(0);
    if constexpr (N > 1) _tile_zero(1);
    if constexpr (M > 1) _tile_zero(2);
    if constexpr (M > 1 && N > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, run.sums, 64);
    if constexpr (N > 1) _tile_loadd(1, run.sums + kTileBytes, 64);
    if constexpr (M > 1) _tile_loadd(2, run.sums + 2 * kTileBytes, 64);
    if constexpr (M > 1 && N > 1) _tile_loadd(3, run.sums + 3 * kTileBytes, 64);
  }
  const char* x = run.x;
  const char* next = run.x + kTileRows * run.x_stride;
  for (std::int64_t step = 0; step < run.num_steps; ++step) {
    if (run.ahead != nullptr) fetch<N>(*run.ahead);
    if (run.unfinished != nullptr) finish_some(*run.work, *run.unfinished, run.unfinished->rows_per_step);
    _tile_loadd(4, x + step * 64, run.x_stride);
    _tile_loadd(6, run.weights[0] + step * kTileBytes, 64);
    if constexpr (IsInt8) _tile_dpbsud(0, 4, 6); else _tile_dpbf16ps(0, 4, 6);
    if constexpr (N > 1) {
      _tile_loadd(7, run.weights[1] + step * kTileBytes, 64);
      if constexpr (IsInt8) _tile_dpbsud(1, 4, 7); else _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (M > 1) {
      _tile_loadd(5, next + step * 64, run.x_stride);
      if constexpr (IsInt8) _tile_dpbsud(2, 5, 6); else _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (M > 1 && N > 1) {
      if constexpr (IsInt8) _tile_dpbsud(3, 5, 7); else _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, run.sums, 64);
  if constexpr (N > 1) _tile_stored(1, run.sums + kTileBytes, 64);
  if constexpr (M > 1) _tile_stored(2, run.sums + 2 * kTileBytes, 64);
  if constexpr (M > 1 && N > 1) _tile_stored(3, run.sums + 3 * kTileBytes, 64);
}

template <bool IsInt8>
static void multiply(const TileRun& run, bool has_two_rows, bool has_two_blocks) {
  if (has_two_rows) {
    has_two_blocks ? multiply_tiles<2, 2, IsInt8>(run) : multiply_tiles<2, 1, IsInt8>(run);
  } else {
    has_two_blocks ? multiply_tiles<1, 2, IsInt8>(run) : multiply_tiles<1, 1, IsInt8>(run);
  }
}

// Sixteen bfloat16 in the upper halves of sixteen lanes, rounded: what the lowest four bits of a lane stand for.
CYN_INLINE __m512i upper_halves(__m512i codes, Lanes values, Lanes scale) {
  const Lanes value = mul(_mm512_permutexvar_ps(codes, values), scale);
  return _mm512_add_epi32(_mm512_castps_si512(value), _mm512_set1_epi32(0x8000));
}

// Turn 32 columns of int4 codes of a block into a tile of bfloat16.
CYN_INLINE void unpack_tile(const char* codes, Lanes scale, char* out) {
  const Lanes values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
#pragma GCC unroll 4
  for (int unit = 0; unit < 4; ++unit) {
    const __m512i packed = _mm512_load_si512(codes + 64 * unit);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      // Columns 0..3 lie in the low nibbles of four bytes, 4..7 in the high ones.
      const unsigned shift = static_cast<unsigned>(pair / 2 * 4 + pair % 2 * 16);
      const __m512i even = upper_halves(_mm512_srli_epi32(packed, shift), values, scale);
      const __m512i odd = upper_halves(_mm512_srli_epi32(packed, shift + 8), values, scale);
      const __m512i both = _mm512_mask_blend_epi16(0xaaaaaaaaU, _mm512_srli_epi32(even, 16), odd);
      _mm512_store_si512(out + 256 * unit + 64 * pair, both);
    }
  }
}

// Turn `num_steps` tiles of int4 codes of a block, from column `column` on, into tiles of bfloat16.
static void unpack_int4(const CynLinear& linear, std::int64_t block, std::int64_t column, std::int64_t num_steps,
                        char* out) {
  const std::uint32_t group = static_cast<std::uint32_t>(linear.group);
  const std::int64_t num_groups = (linear.padded_columns + linear.group - 1) / linear.group;
  const std::uint16_t* const scales = static_cast<const std::uint16_t*>(linear.scales) + block * num_groups * kLanes;
  const char* codes = static_cast<const char*>(linear.codes) + (block * linear.padded_columns + column) * 8;
  for (std::int64_t step = 0; step < num_steps; ++step, codes += 256, out += kTileBytes) {
    for (int line = 0; line < 256; line += 64) prefetch(codes + 4096 + line);
    unpack_tile(codes, load_bf16(scales + static_cast<std::uint32_t>(column + 32 * step) / group * kLanes), out);
  }
}

// The product of a row with a block, from a row of a tile of sums.
CYN_INLINE Lanes product_of(const LinearWork& work, std::int64_t row, std::int64_t block, const char* sums) {
  if (work.x.type != CYN_INT8) return load(reinterpret_cast<const float*>(sums));
  const Ints codes = add_ints(load_ints(reinterpret_cast<const std::int32_t*>(sums)), fill_ints(-128 * work.x.sums[row]));
  return mul(to_floats(codes), mul(load(static_cast<const float*>(work.linear->scales) + block * kLanes), fill(work.x.scales[row])));
}

static void finish_tiles(const LinearWork& work, const Unfinished& rows, std::int64_t last_row) {
  for (std::int64_t row = rows.row; row < last_row; ++row) {
    const std::int64_t at = row - rows.first_row;
    const char* here = rows.sums + (at / kTileRows) * 2 * kTileBytes + (at % kTileRows) * 64;
    const Lanes one = product_of(work, row, 2 * rows.pair, here);
    if (!rows.has_two_blocks) {
      finish(work, row, 2 * rows.pair, one);
      continue;
    }
    const Lanes two = product_of(work, row, 2 * rows.pair + 1, here + kTileBytes);
    if (work.linear->is_gated) {
      finish_gated(work, row, rows.pair, one, two);
    } else {
      finish(work, row, 2 * rows.pair, one);
      finish(work, row, 2 * rows.pair + 1, two);
    }
  }
}

// Ask for the lines that finish_tiles will write, while the last products are computed.
static void fetch_outputs(const LinearWork& work, std::int64_t pair, std::int64_t first, std::int64_t last) {
  const CynLinearCall& call = *work.call;
  const std::int64_t size = call.out_type == CYN_FLOAT32 ? 4 : 2;
  const std::int64_t width = work.linear->is_gated ? kLanes : 2 * kLanes;
  for (std::int64_t row = first; row < last; ++row) {
    const char* out = static_cast<const char*>(call.out) + (row * call.out_stride + pair * width) * size;
    __builtin_prefetch(out, 1, 3);
    if (width * size > 64) __builtin_prefetch(out + 64, 1, 3);
  }
}

static std::int64_t tile_scratch(const LinearWork& work, std::int64_t num_rows) {
  // Of two pairs, where one is finished while the next is multiplied.
  const std::int64_t panels = (num_rows + 2 * kTileRows - 1) / (2 * kTileRows);
  const std::int64_t sums = (panels == 1 ? 2 : panels) * 4 * kTileBytes;
  return sums + (work.linear->type == CYN_INT4 ? 2 * kStepsInChunk * kTileBytes : 0);
}

static void tiles_of_pair(const LinearWork& work, std::int64_t pair, std::int64_t first_row, std::int64_t last_row,
                          Ahead* ahead, char* scratch) {
  const CynLinear& linear = *work.linear;
  const bool has_two_blocks = 2 * pair + 1 < linear.num_blocks;
  const bool is_int8 = linear.type == CYN_INT8;
  const std::int64_t all_steps = work.x.row_bytes / 64;
  const std::int64_t block_bytes = all_steps * kTileBytes;
  char* const panel = scratch + tile_scratch(work, last_row - first_row) - 2 * kStepsInChunk * kTileBytes;
  Unfinished unfinished{};
  for (std::int64_t done = 0; done < all_steps; done += kStepsInChunk) {
    TileRun run{};
    run.num_steps = all_steps - done < kStepsInChunk ? all_steps - done : kStepsInChunk;
    run.x_stride = work.x.row_bytes;
    run.is_first = done == 0;
    run.work = &work;
    run.unfinished = &unfinished;
    for (int n = 0; n < (has_two_blocks ? 2 : 1); ++n) {
      if (linear.type == CYN_INT4) {
        char* const unpacked = panel + n * kStepsInChunk * kTileBytes;
        unpack_int4(linear, 2 * pair + n, 32 * done, run.num_steps, unpacked);
        run.weights[n] = unpacked;
      } else {
        run.weights[n] = static_cast<const char*>(linear.codes) + (2 * pair + n) * block_bytes + done * kTileBytes;
      }
    }
    for (std::int64_t row = first_row; row < last_row; row += 2 * kTileRows) {
      run.x = work.x.values + row * work.x.row_bytes + done * 64;
      run.sums = scratch + (row - first_row) / (2 * kTileRows) * 4 * kTileBytes;
      run.ahead = row == first_row ? ahead : nullptr;
      const std::int64_t end = row + 2 * kTileRows < last_row ? row + 2 * kTileRows : last_row;
      const bool is_last = done + run.num_steps == all_steps;
      if (is_last) fetch_outputs(work, pair, row, end);
      const bool has_two_rows = last_row - row > kTileRows;
      is_int8 ? multiply<true>(run, has_two_rows, has_two_blocks) : multiply<false>(run, has_two_rows, has_two_blocks);
      if (!is_last) continue;
      finish_some(work, unfinished, last_row - first_row);
      unfinished = {pair, row, row, end, (end - row + run.num_steps - 1) / run.num_steps, has_two_blocks, run.sums};
    }
  }
  finish_some(work, unfinished, last_row - first_row);
}

// Up to 32 rows and all columns in one run a pair; the rows of a pair are finished while the next one is multiplied.
static void stream_pairs(const LinearWork& work, std::int64_t first_pair, std::int64_t last_pair,
                         std::int64_t first_row, std::int64_t last_row, Ahead& ahead, char* scratch) {
  const CynLinear& linear = *work.linear;
  const bool has_two_rows = last_row - first_row > kTileRows;
  TileRun run{};
  run.num_steps = ahead.block_bytes / kTileBytes;
  run.x = work.x.values + first_row * work.x.row_bytes;
  run.x_stride = work.x.row_bytes;
  run.is_first = true;
  run.ahead = &ahead;
  run.work = &work;
  Unfinished unfinished{};
  run.unfinished = &unfinished;
  const std::int64_t rows_per_step = (last_row - first_row + run.num_steps - 1) / run.num_steps;
  for (std::int64_t pair = first_pair; pair < last_pair; ++pair) {
    const bool has_two_blocks = 2 * pair + 1 < linear.num_blocks;
    run.weights[0] = static_cast<const char*>(linear.codes) + 2 * pair * ahead.block_bytes;
    run.weights[1] = run.weights[0] + ahead.block_bytes;
    run.sums = scratch + pair % 2 * 4 * kTileBytes;
    fetch_outputs(work, pair, first_row, last_row);
    linear.type == CYN_INT8 ? multiply<true>(run, has_two_rows, has_two_blocks)
                            : multiply<false>(run, has_two_rows, has_two_blocks);
    finish_some(work, unfinished, last_row - first_row);
    unfinished = {pair, first_row, first_row, last_row, rows_per_step, has_two_blocks, run.sums};
  }
  finish_some(work, unfinished, last_row - first_row);
}

static void tiles(const LinearWork& work, std::int64_t first_pair, std::int64_t last_pair, std::int64_t first_row,
                  std::int64_t last_row, char* scratch) {
  const CynLinear& linear = *work.linear;
  const bool is_unpacked = linear.type == CYN_INT4;  // which looks ahead by itself
  Ahead ahead{};
  ahead.block_bytes = work.x.row_bytes / 64 * kTileBytes;
  ahead.at[0] = static_cast<const char*>(linear.codes) + 2 * first_pair * ahead.block_bytes;
  ahead.at[1] = ahead.at[0] + ahead.block_bytes;
  ahead.num_left = work.x.row_bytes / 64;
  for (std::int64_t tile = 0; !is_unpacked && tile < kTilesAhead; ++tile) fetch<2>(ahead);
  configure_tiles();
  if (!is_unpacked && last_row - first_row <= 2 * kTileRows) {
    stream_pairs(work, first_pair, last_pair, first_row, last_row, ahead, scratch);
  } else {
    for (std::int64_t pair = first_pair; pair < last_pair; ++pair) {
      tiles_of_pair(work, pair, first_row, last_row, is_unpacked ? nullptr : &ahead, scratch);
    }
  }
  _tile_release();
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
