// What the kernels of linear layers pass to each other. Knows nothing of threads or of Python.
#pragma once

#include <cstdint>

#include "isa.h"
#include "linear_api.h"

namespace cynosure {

constexpr int kBlockRows = 16;    // rows of a packed block, and of a tile
constexpr int kColumnPad = 64;    // columns are padded to a multiple of it
constexpr int kMaxRowsAtOnce = 4; // rows that one pass of `rows` over the weights serves
constexpr std::int64_t kMaxTiledGroup = 512;  // columns of a group that `groups` takes

// Activations as the weights want them, one row behind the other.
struct Prepared {
  std::int64_t type;         // CYN_FLOAT32, CYN_BFLOAT16 or CYN_INT8
  std::int64_t row_bytes;    // a multiple of 64
  std::int64_t num_groups;   // scales a row: 1, or one a group of int4
  std::int64_t group;        // columns that share a scale, padding included
  char* values;
  float* scales;             // [row][group], where type is CYN_INT8
  std::int32_t* sums;        // [row][group]: the sum of the codes
};

struct LinearWork {
  const CynLinear* linear;
  const CynLinearCall* call;
  Prepared x;
};

struct LinearTable {
  // Normalise, convert and quantise row `row`; `scratch` holds padded_columns floats.
  void (*prepare)(const LinearWork& work, std::int64_t row, float* scratch);
  // Compute units first..last - 1 for all rows by dot products. A unit is a block, or a gate and its up.
  void (*rows)(const LinearWork& work, std::int64_t first, std::int64_t last);
  // Compute pairs of blocks first_pair..last_pair - 1 for rows first_row..last_row - 1 by tiles; null where there
  // are none.
  void (*tiles)(const LinearWork& work, std::int64_t first_pair, std::int64_t last_pair, std::int64_t first_row,
                std::int64_t last_row, char* scratch);
  // Bytes of scratch that `tiles` needs for so many rows.
  std::int64_t (*tile_scratch)(const LinearWork& work, std::int64_t num_rows);
  // As `rows`, with the same bits, by tiles of integers, for int4 alone; null where there are none. `scratch` is a
  // thread's own: begin_groups fills it with what all its calls for this work read.
  void (*groups)(const LinearWork& work, std::int64_t first, std::int64_t last, char* scratch);
  void (*begin_groups)(const LinearWork& work, char* scratch);
  // Bytes of scratch that `groups` needs for so many rows.
  std::int64_t (*group_scratch)(const LinearWork& work, std::int64_t num_rows);
};

}  // namespace cynosure

CYN_DECLARE_TABLE(LinearTable, linear_table)
