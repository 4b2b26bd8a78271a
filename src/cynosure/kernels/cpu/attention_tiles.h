// Multiply by AMX tiles: bfloat16 summed in float32, int8 summed in int32. Knows nothing of attention.
//
// A register is 16 rows of 64 bytes; one instruction gives C[16][16 lanes] += A[16][64 bytes] B[64 bytes][16 lanes],
// where B holds the steps of a lane side by side: two of bfloat16, four of int8.
#pragma once

#include "lanes.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

constexpr int kTileBytes = 1024;
constexpr int kRowBytes = 64;

// All eight registers as 16 rows of 64 bytes, while this lives.
struct TileRegisters {
  TileRegisters() {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    asm volatile("" : : "r"(&shape) : "memory");  // or GCC 12 drops the stores to it
    _tile_loadconfig(&shape);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// Groups of sixteen rows of A: where each group's first row begins, and how far its next row and its next 64 bytes
// of steps are. All groups of a product lie alike.
struct Groups {
  const char* const* first;
  long row_bytes, step_bytes;
};

// A product in bfloat16 with a lane-full of columns: B is [num_steps] registers, sums are
// [16 * group + i][16 lanes] of 4 bytes.
struct Columns {
  const void* b;
  int num_steps;
  bool is_added;  // to what the sums hold
};

// The numbers of registers must be literals.
CYN_INLINE void multiply_one(const Groups& a, int group, const Columns& columns, char* sums) {
  if (columns.is_added) {
    _tile_loadd(0, sums, kRowBytes);
  } else {
    _tile_zero(0);
  }
  const char *p = a.first[group], *b = static_cast<const char*>(columns.b);
  for (int s = 0; s < columns.num_steps; ++s, p += a.step_bytes, b += kTileBytes) {
    _tile_loadd(4, b, kRowBytes);
    _tile_loadd(5, p, a.row_bytes);
    _tile_dpbf16ps(0, 5, 4);
  }
  _tile_stored(0, sums, kRowBytes);
}

// The same for four groups, whose sums fill four registers.
CYN_INLINE void multiply_four(const Groups& a, int group, const Columns& columns, char* sums) {
  if (columns.is_added) {
    _tile_loadd(0, sums, kRowBytes);
    _tile_loadd(1, sums + kTileBytes, kRowBytes);
    _tile_loadd(2, sums + 2 * kTileBytes, kRowBytes);
    _tile_loadd(3, sums + 3 * kTileBytes, kRowBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const long row = a.row_bytes, step = a.step_bytes;
  const char *p = a.first[group], *q = a.first[group + 1], *r = a.first[group + 2], *t = a.first[group + 3];
  const char* b = static_cast<const char*>(columns.b);
  long at = 0;
  for (int s = 0; s < columns.num_steps; ++s, at += step, b += kTileBytes) {
    _tile_loadd(4, b, kRowBytes);
    _tile_loadd(5, p + at, row);
    _tile_dpbf16ps(0, 5, 4);
    _tile_loadd(6, q + at, row);
    _tile_dpbf16ps(1, 6, 4);
    _tile_loadd(7, r + at, row);
    _tile_dpbf16ps(2, 7, 4);
    _tile_loadd(5, t + at, row);
    _tile_dpbf16ps(3, 5, 4);
  }
  _tile_stored(0, sums, kRowBytes);
  _tile_stored(1, sums + kTileBytes, kRowBytes);
  _tile_stored(2, sums + 2 * kTileBytes, kRowBytes);
  _tile_stored(3, sums + 3 * kTileBytes, kRowBytes);
}

// sums[16 * group + i][lane] (+)= a[group][i] * b for each group.
static void multiply_tiles(const Groups& a, int num_groups, const Columns& columns, void* sums) {
  asm volatile("" : : : "memory");  // the loads of tiles do not tell the compiler what they read
  char* to = static_cast<char*>(sums);
  int group = 0;
  for (; group + 4 <= num_groups; group += 4, to += 4 * kTileBytes) multiply_four(a, group, columns, to);
  for (; group < num_groups; ++group, to += kTileBytes) multiply_one(a, group, columns, to);
  asm volatile("" : : : "memory");
}

// Two products of int8 of two groups, against registers of B that are `num_steps` apart: each row is loaded once for
// both. Sums come as [product][32 rows][16 lanes].
[[maybe_unused]] static void multiply_twice(const Groups& a, int group, const void* columns, int num_steps, void* sums) {
  asm volatile("" : : : "memory");
  const char *p = a.first[group], *q = a.first[group + 1], *b = static_cast<const char*>(columns);
  const long row = a.row_bytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int s = 0; s < num_steps; ++s, p += a.step_bytes, q += a.step_bytes, b += kTileBytes) {
    _tile_loadd(4, b, kRowBytes);
    _tile_loadd(5, b + num_steps * kTileBytes, kRowBytes);
    _tile_loadd(6, p, row);
    _tile_dpbssd(0, 6, 4);
    _tile_dpbssd(2, 6, 5);
    _tile_loadd(7, q, row);
    _tile_dpbssd(1, 7, 4);
    _tile_dpbssd(3, 7, 5);
  }
  char* to = static_cast<char*>(sums);
  _tile_stored(0, to, kRowBytes);
  _tile_stored(1, to + kTileBytes, kRowBytes);
  _tile_stored(2, to + 2 * kTileBytes, kRowBytes);
  _tile_stored(3, to + 3 * kTileBytes, kRowBytes);
  asm volatile("" : : : "memory");
}

}  // namespace cynosure::CYN_VARIANT

#endif
