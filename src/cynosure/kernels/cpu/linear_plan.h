// Say how a product is computed and how its rows are prepared. Knows nothing of threads or memory.
#pragma once

#include "linear_work.h"

namespace cynosure {

// With fewer rows dot products are faster; int4 codes must first be unpacked for tiles.
constexpr std::int64_t kFirstTiledRows = 1;
constexpr std::int64_t kFirstTiledRowsOfInt4 = 9;
constexpr std::int64_t kTasksPerThread = 8;       // enough that nobody waits long for the last one
// Up to so many rows a product waits for its weights: threads stream a range of them each.
constexpr std::int64_t kMaxStreamedRows = 64;
constexpr std::int64_t kMaxPanelBytes = 1 << 20;  // of activations that one task walks through: half a cache

inline std::int64_t up_to(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

// A block, or a gate and its up.
inline std::int64_t num_units_of(const CynLinear& linear) { return linear.num_blocks / (linear.is_gated ? 2 : 1); }

inline std::int64_t first_tiled_rows(const CynLinear& linear) {
  return linear.type == CYN_INT4 ? kFirstTiledRowsOfInt4 : kFirstTiledRows;
}

inline bool is_tiled(const LinearTable& table, const CynLinear& linear, std::int64_t way, std::int64_t num_rows) {
  if (table.tiles == nullptr || linear.type == CYN_FLOAT32) return false;
  return way == CYN_TILES || (way == CYN_AUTO && num_rows >= first_tiled_rows(linear));
}

// What rows become, without the memory for them.
inline Prepared prepared_for(const CynLinear& linear, bool is_tiled) {
  Prepared x{};
  x.type = linear.type == CYN_INT4 ? (is_tiled ? CYN_BFLOAT16 : CYN_INT8) : linear.type;
  x.row_bytes = linear.padded_columns * (x.type == CYN_FLOAT32 ? 4 : x.type == CYN_BFLOAT16 ? 2 : 1);
  x.group = linear.type == CYN_INT4 ? linear.group : linear.padded_columns;
  x.num_groups = (linear.padded_columns + x.group - 1) / x.group;
  return x;
}

// Rows that one task of tiles walks through.
inline std::int64_t rows_of_panel(const Prepared& x) {
  return kMaxPanelBytes / x.row_bytes / 32 * 32 < 32 ? 32 : kMaxPanelBytes / x.row_bytes / 32 * 32;
}

}  // namespace cynosure
