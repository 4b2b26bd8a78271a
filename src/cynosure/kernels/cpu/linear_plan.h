// Say how a product is computed and how its rows are prepared. Knows nothing of threads or memory.
#pragma once

#include "linear_work.h"

namespace cynosure {

// With fewer rows the way before is faster: dot products, then groups where there are any, then tiles.
constexpr std::int64_t kFirstTiledRows = 1;
constexpr std::int64_t kFirstGroupedRows = 5;
constexpr std::int64_t kFirstTiledRowsOfNarrowGroups = 41;
constexpr std::int64_t kFirstTiledRowsOfWideGroups = 129;
constexpr std::int64_t kWideGroup = 128;
constexpr std::int64_t kTasksPerThread = 8;       // enough that nobody waits long for the last one
// Up to so many rows a product waits for its weights: threads stream a range of them each.
constexpr std::int64_t kMaxStreamedRows = 64;
constexpr std::int64_t kMaxPanelBytes = 1 << 20;  // of activations that one task walks through: half a cache

inline std::int64_t up_to(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

// A block, or a gate and its up.
inline std::int64_t num_units_of(const CynLinear& linear) { return linear.num_blocks / (linear.is_gated ? 2 : 1); }

// Each group of a row costs the same, however wide it is.
inline std::int64_t first_tiled_rows(const CynLinear& linear) {
  if (linear.type != CYN_INT4) return kFirstTiledRows;
  return linear.group < kWideGroup ? kFirstTiledRowsOfNarrowGroups : kFirstTiledRowsOfWideGroups;
}

// How so many rows are computed where `way` is asked for: CYN_ROWS, CYN_TILES or CYN_GROUPS.
inline std::int64_t way_of(const LinearTable& table, const CynLinear& linear, std::int64_t way, std::int64_t num_rows) {
  if (table.tiles == nullptr || linear.type == CYN_FLOAT32) return CYN_ROWS;
  const bool has_groups = linear.type == CYN_INT4 && linear.group <= kMaxTiledGroup;
  if (way == CYN_AUTO && num_rows >= first_tiled_rows(linear)) return CYN_TILES;
  if (way == CYN_AUTO) way = num_rows < kFirstGroupedRows ? CYN_ROWS : CYN_GROUPS;
  return way == CYN_GROUPS && !has_groups ? CYN_ROWS : way;
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
