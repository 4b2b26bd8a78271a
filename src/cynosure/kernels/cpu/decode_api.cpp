// Prepare a step of decoding: a few numbers a sequence, and rows copied out of tables. Knows nothing of programs.
#include "decode_api.h"

#include <algorithm>
#include <cstring>

#include "bfloat16.h"
#include "isa.h"

CYN_API void cyn_linear_lookup(const CynLinear* linear, const std::int64_t* ids, std::int64_t num_ids, float* out);

namespace cynosure {
namespace {

void place(const CynDecodeStep& step) {
  step.cu_k[0] = 0;
  for (std::int64_t s = 0; s < step.num_seqs; ++s) {
    const std::int64_t past = step.past_lens[s];
    const std::int64_t block = step.block_table[s * step.table_stride + past / step.block_size];
    step.positions[s] = past;
    step.slots[s] = block * step.block_size + past % step.block_size;
    step.cu_k[s + 1] = step.cu_k[s] + past + 1;
  }
}

void place_in(const CynDecodeStep& step, const CynGroup& group) {
  for (std::int64_t s = 0; s < step.num_seqs; ++s) {
    const std::int64_t past = step.past_lens[s], last = past / step.block_size;
    const std::int64_t* const blocks = step.block_table + s * step.table_stride;
    std::int64_t* const pages = group.block_table + s * step.table_stride;
    for (std::int64_t i = 0; i <= last; ++i) pages[i] = group.page_of[blocks[i]];
    group.slots[s] = pages[last] * step.block_size + past % step.block_size;
  }
}

void bound(const CynDecodeStep& step, const CynBound& by) {
  for (std::int64_t s = 0; s < step.num_seqs; ++s) {
    const std::int64_t position = step.positions[s];
    const std::int64_t in_window = by.window == 0 ? INT64_MIN : position - (by.window - 1);
    const std::int64_t in_chunk = by.chunk == 0 ? INT64_MIN : position / by.chunk * by.chunk;
    by.low[s] = std::max(in_window, in_chunk);
  }
}

void copy_row(const void* table, std::int64_t row, std::int64_t row_bytes, void* rows, std::int64_t to) {
  std::memcpy(static_cast<char*>(rows) + to * row_bytes, static_cast<const char*>(table) + row * row_bytes,
              static_cast<std::size_t>(row_bytes));
}

void turn(const CynDecodeStep& step, const CynAngles& angles) {
  for (std::int64_t s = 0; s < step.num_seqs; ++s) {
    copy_row(angles.cos, step.positions[s], angles.row_bytes, angles.cos_rows, s);
    copy_row(angles.sin, step.positions[s], angles.row_bytes, angles.sin_rows, s);
  }
}

void embed(const CynDecodeStep& step) {
  const std::int64_t count = step.num_seqs * step.hidden_size;
  const bool is_short = step.x_type == CYN_BFLOAT16;
  auto* const wide = static_cast<float*>(step.x);
  auto* const narrow = static_cast<std::uint16_t*>(step.x);
  if (step.packed != nullptr) {
    cyn_linear_lookup(step.packed, step.token_ids, step.num_seqs, step.unpacked);
    for (std::int64_t i = 0; is_short && i < count; ++i) narrow[i] = bf16_of_float(step.unpacked[i]);
    if (!is_short) std::memcpy(wide, step.unpacked, static_cast<std::size_t>(count) * sizeof(float));
  } else {
    const std::int64_t row_bytes = step.hidden_size * (is_short ? 2 : 4);
    for (std::int64_t s = 0; s < step.num_seqs; ++s) copy_row(step.rows, step.token_ids[s], row_bytes, step.x, s);
  }
  if (step.multiplier == 1.0) return;
  const auto factor = static_cast<float>(step.multiplier);
  for (std::int64_t i = 0; i < count; ++i) {
    if (is_short) {
      narrow[i] = bf16_of_float(float_of_bf16(narrow[i]) * factor);
    } else {
      wide[i] *= factor;
    }
  }
}

}  // namespace
}  // namespace cynosure

// Write everything that a step's program reads; ids, lengths and pages are in range.
CYN_API void cyn_begin_decode(const CynDecodeStep* step) {
  cynosure::place(*step);
  for (std::int64_t i = 0; i < step->num_groups; ++i) cynosure::place_in(*step, step->groups[i]);
  for (std::int64_t i = 0; i < step->num_bounds; ++i) cynosure::bound(*step, step->bounds[i]);
  for (std::int64_t i = 0; i < step->num_angles; ++i) cynosure::turn(*step, step->angles[i]);
  if (step->packed != nullptr || step->rows != nullptr) cynosure::embed(*step);
}

CYN_API std::int64_t cyn_sizeof_decode_step() { return sizeof(CynDecodeStep); }
