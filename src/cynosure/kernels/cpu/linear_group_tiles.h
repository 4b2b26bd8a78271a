// Multiply packed int4 blocks by a moderate number of rows with AMX tiles of integers. Included where the
// variant has them.
//
// Rows are prepared as dot products want them: codes of 8 bits with a scale a group. The codes of the weights are
// unpacked to bytes, a tile of sums covers one group of 16 outputs and up to 16 rows, and what it holds is added to
// float sums in the order of block_int4: the bits are those of `rows`.
//
// A task's blocks lie behind each other, so their codes are one stream of steps. It is unpacked into a ring some
// steps ahead of the tiles that read it, and across the ends of blocks: a tile cannot be loaded from stores that
// are still on their way. For the same reason a group's sums are read a group after they were stored.
#pragma once

#include "linear_rows.h"
#include "linear_tiles.h"

namespace cynosure {
namespace CYN_VARIANT {

constexpr std::int64_t kRingColumns = 1024;   // of unpacked codes
constexpr std::uint64_t kRingBytes = kRingColumns * kLanes;
constexpr std::int64_t kLeadColumns = 256;    // that are unpacked before they are wanted
constexpr std::int64_t kPassColumns = 512;    // that all rows pass before the next ones come
constexpr std::int64_t kGroupsLate = 2;       // between a group's product and its sum
constexpr std::int64_t kGroupTiles = 4;       // of sums in memory
static_assert(kPassColumns >= kMaxTiledGroup && kPassColumns + kLeadColumns <= kRingColumns, "the ring is too short");
static_assert(kGroupsLate < kGroupTiles, "sums would be overwritten");

// The codes of a task that are still to be unpacked, and where their bytes go next.
struct CodeStream {
  const char* codes;
  const char* end;
  char* ring;
  std::uint64_t at;  // in the ring: in bytes, modulo its size
};

// What a task goes through.
struct GroupWalk {
  const LinearWork* work;
  std::int64_t step;        // columns of a tile of weights: 64, or 32 where groups are no multiple of 64
  CodeStream stream;
  const float* row_scales;  // [tile of rows][group][16]
};

// Some groups of a block and sixteen rows or fewer.
struct GroupPass {
  const char* x;                // column 0 of the first row
  const float* row_scales;      // [group][16]
  const std::uint16_t* scales;  // of the block: [group][16]
  float* sums;                  // [row][16]
  std::uint64_t ring_at;        // of the block's first column, as in CodeStream
  std::int64_t first, last;     // groups
  bool unpacks;                 // keeps the ring filled
};

// Tiles 0, 2: sums and activations of sixteen rows; 1, 3: those of fewer; 4: weights.
static void configure_group_tiles(std::int64_t step, std::int64_t num_rows) {
  TileConfig config;
  const std::uint8_t rest = static_cast<std::uint8_t>(num_rows % kTileRows);
  config.row_bytes[2] = config.row_bytes[3] = static_cast<std::uint16_t>(step);
  config.rows[1] = config.rows[3] = rest == 0 ? 16 : rest;
  config.rows[4] = static_cast<std::uint8_t>(step / 4);
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

// Unpack 32 columns, if any are left.
CYN_INLINE void unpack_some(CodeStream& stream) {
  if (stream.codes == stream.end) return;
  char* const out = stream.ring + stream.at % kRingBytes;
  // By the lowest six bits of a byte, of which the lowest four are the code.
  const __m512i values = _mm512_set4_epi32(0x07060504, 0x03020100, 0xfffefdfc, 0xfbfaf9f8);
#pragma GCC unroll 4
  for (int unit = 0; unit < 4; ++unit) {
    prefetch(stream.codes + kAhead + 64 * unit);
    const __m512i both = _mm512_load_si512(stream.codes + 64 * unit);
    _mm512_store_si512(out + 128 * unit, _mm512_permutexvar_epi8(both, values));
    _mm512_store_si512(out + 128 * unit + 64, _mm512_permutexvar_epi8(_mm512_srli_epi16(both, 4), values));
  }
  stream.codes += 256;
  stream.at += 512;
}

// Add a step to a group's sums. The numbers of tiles must be literals.
template <bool IsRest>
CYN_INLINE void multiply_step(const char* x, std::int64_t x_stride, const char* weights) {
  _tile_loadd(4, weights, 64);
  if constexpr (IsRest) {
    _tile_loadd(3, x, x_stride);
    _tile_dpbssd(1, 3, 4);
  } else {
    _tile_loadd(2, x, x_stride);
    _tile_dpbssd(0, 2, 4);
  }
}

template <int R>
CYN_INLINE void add_group(const GroupPass& pass, std::int64_t group, const std::int32_t* from, Lanes* sums) {
  const Lanes scale = load_bf16(pass.scales + group * kLanes);
  const float* row_scales = pass.row_scales + group * kTileRows;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    sums[r] = fma(to_floats(load_ints(from + r * kLanes)), mul(scale, fill(row_scales[r])), sums[r]);
  }
  prefetch(pass.scales + group * kLanes + kAhead / 8);
}

template <int R, bool IsRest>
static void run_pass(GroupWalk& walk, const GroupPass& pass) {
  alignas(64) std::int32_t products[kGroupTiles][kTileRows * kLanes];
  // Copies, which no store through a pointer can change.
  CodeStream stream = walk.stream;
  const GroupPass at = pass;
  const std::int64_t step = walk.step, width = walk.work->x.group, x_stride = walk.work->x.row_bytes;
  const std::int64_t all = walk.work->linear->padded_columns;
  Lanes sums[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sums[r] = at.first == 0 ? fill(0.0F) : load(at.sums + r * kLanes);
  for (std::int64_t group = at.first; group < at.last + kGroupsLate; ++group) {
    const bool has_product = group < at.last;
    if (has_product) {
      if constexpr (IsRest) _tile_zero(1); else _tile_zero(0);
      const std::int64_t stop = (group + 1) * width < all ? (group + 1) * width : all;
      for (std::int64_t column = group * width; column < stop; column += step) {
        const std::uint64_t offset = at.ring_at + static_cast<std::uint64_t>(column) * kLanes;
        multiply_step<IsRest>(at.x + column, x_stride, stream.ring + offset % kRingBytes);
        if (at.unpacks) {
          unpack_some(stream);
          if (step == 64) unpack_some(stream);
        }
      }
    }
    const std::int64_t late = group - kGroupsLate;
    if (late >= at.first) add_group<R>(at, late, products[late % kGroupTiles], sums);
    if (has_product) {
      std::int32_t* const out = products[group % kGroupTiles];
      if constexpr (IsRest) _tile_stored(1, out, 64); else _tile_stored(0, out, 64);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) store(at.sums + r * kLanes, sums[r]);
  walk.stream = stream;
}

static void run_rest(GroupWalk& walk, const GroupPass& pass, std::int64_t num_rows) {
  if (num_rows > 12) return run_pass<16, true>(walk, pass);
  if (num_rows > 8) return run_pass<12, true>(walk, pass);
  num_rows > 4 ? run_pass<8, true>(walk, pass) : run_pass<4, true>(walk, pass);
}

// Multiply a block by all rows.
static void multiply_block(GroupWalk& walk, std::int64_t block, std::uint64_t ring_at, float* sums) {
  const Prepared& x = walk.work->x;
  const std::int64_t num_rows = walk.work->call->num_rows;
  // Sixteen rows or fewer keep their sums in registers.
  const std::int64_t groups_at_once = num_rows <= kTileRows ? x.num_groups : kPassColumns / x.group;
  GroupPass pass{};
  pass.scales = static_cast<const std::uint16_t*>(walk.work->linear->scales) + block * x.num_groups * kLanes;
  pass.ring_at = ring_at;
  for (std::int64_t group = 0; group < x.num_groups; group += groups_at_once) {
    pass.first = group;
    pass.last = group + groups_at_once < x.num_groups ? group + groups_at_once : x.num_groups;
    for (std::int64_t row = 0; row < num_rows; row += kTileRows) {
      pass.x = x.values + row * x.row_bytes;
      pass.row_scales = walk.row_scales + row * x.num_groups;
      pass.sums = sums + row * kLanes;
      pass.unpacks = row == 0;
      num_rows - row < kTileRows ? run_rest(walk, pass, num_rows - row) : run_pass<16, false>(walk, pass);
    }
  }
}

CYN_INLINE std::int64_t in_tiles(std::int64_t num_rows) { return (num_rows + kTileRows - 1) / kTileRows * kTileRows; }

// Of each tile of rows: 64 for each group.
static std::int64_t row_scale_bytes(const LinearWork& work, std::int64_t num_rows) {
  return in_tiles(num_rows) * work.x.num_groups * 4;
}

static std::int64_t group_scratch(const LinearWork& work, std::int64_t num_rows) {
  const std::int64_t sums = 2 * in_tiles(num_rows) * kLanes * 4;
  return (row_scale_bytes(work, num_rows) + kRingColumns * kLanes + sums + 4095) / 4096 * 4096;
}

// Lay the rows' scales down as the sums want them.
static void begin_groups(const LinearWork& work, char* scratch) {
  float* out = reinterpret_cast<float*>(scratch);
  const std::int64_t num_groups = work.x.num_groups;
  for (std::int64_t row = 0; row < work.call->num_rows; ++row) {
    const float* from = work.x.scales + row * num_groups;
    float* to = out + row / kTileRows * kTileRows * num_groups + row % kTileRows;
    for (std::int64_t group = 0; group < num_groups; ++group) to[group * kTileRows] = from[group];
  }
}

static void groups(const LinearWork& work, std::int64_t first, std::int64_t last, char* scratch) {
  const CynLinear& linear = *work.linear;
  const std::int64_t blocks_of_unit = linear.is_gated ? 2 : 1, num_rows = work.call->num_rows;
  const std::int64_t block_bytes = linear.padded_columns * 8;
  char* const ring = scratch + row_scale_bytes(work, num_rows);
  float* const sums = reinterpret_cast<float*>(ring + kRingBytes);
  float* const sums_of_up = sums + in_tiles(num_rows) * kLanes;
  const char* const codes = static_cast<const char*>(linear.codes);
  GroupWalk walk{};
  walk.work = &work;
  walk.step = linear.group % 64 == 0 ? 64 : 32;
  walk.stream.codes = codes + first * blocks_of_unit * block_bytes;
  walk.stream.end = codes + last * blocks_of_unit * block_bytes;
  walk.stream.ring = ring;
  walk.row_scales = reinterpret_cast<const float*>(scratch);
  configure_group_tiles(walk.step, num_rows);
  for (std::int64_t column = 0; column < kLeadColumns; column += 32) unpack_some(walk.stream);
  std::uint64_t ring_at = 0;
  for (std::int64_t unit = first; unit < last; ++unit) {
    multiply_block(walk, unit * blocks_of_unit, ring_at, sums);
    ring_at += 2 * static_cast<std::uint64_t>(block_bytes);
    if (linear.is_gated) {
      multiply_block(walk, 2 * unit + 1, ring_at, sums_of_up);
      ring_at += 2 * static_cast<std::uint64_t>(block_bytes);
    }
    for (std::int64_t row = 0; row < num_rows; ++row) {
      const Lanes one = load(sums + row * kLanes);
      linear.is_gated ? finish_gated(work, row, unit, one, load(sums_of_up + row * kLanes)) : finish(work, row, unit, one);
    }
  }
  _tile_release();
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
