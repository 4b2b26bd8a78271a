// Pack matrices as linear_api.h lays down.
#include <cstring>

#include "linear_work.h"
#include "pool.h"

namespace cynosure {
namespace {

// Rows of a row-major source that go into a packed matrix.
struct Source {
  const CynLinear* linear;
  std::int64_t type;  // of the source's values: float32 or bfloat16 for float weights, else codes
  const void* values;
  const void* scales;  // float32 [row] of int8, bfloat16 [row][group] of int4
  const float* bias;
  std::int64_t num_rows;
  std::int64_t first_row;  // where the rows go among the matrix's rows, or those of its half
  std::int64_t half;       // of a gated matrix: 0 gate, 1 up
};

struct Place {
  std::int64_t block;
  int lane;
};

Place place_of(const Source& source, std::int64_t row) {
  const std::int64_t at = source.first_row + row;
  const std::int64_t block = at / kBlockRows;
  return {source.linear->is_gated ? 2 * block + source.half : block, static_cast<int>(at % kBlockRows)};
}

std::uint32_t float_bits(const Source& source, std::int64_t index) {
  if (source.type == CYN_BFLOAT16) {
    return static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(source.values)[index]) << 16;
  }
  return static_cast<const std::uint32_t*>(source.values)[index];
}

std::uint16_t rounded_bf16(std::uint32_t bits) {
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

// One code or number of a row, wherever it stands.
void pack_one(const Source& source, std::int64_t row, Place place, std::uint8_t* block, std::int64_t k) {
  const CynLinear& linear = *source.linear;
  const std::int64_t n = linear.num_columns;
  const std::uint8_t* const bytes = static_cast<const std::uint8_t*>(source.values);
  if (linear.type == CYN_FLOAT32) {
    reinterpret_cast<std::uint32_t*>(block)[k * kBlockRows + place.lane] = float_bits(source, row * n + k);
  } else if (linear.type == CYN_BFLOAT16) {
    const std::int64_t at = (k / 2 * kBlockRows + place.lane) * 2 + k % 2;
    reinterpret_cast<std::uint16_t*>(block)[at] = rounded_bf16(float_bits(source, row * n + k));
  } else if (linear.type == CYN_INT8) {
    block[(k / 4 * kBlockRows + place.lane) * 4 + k % 4] = bytes[row * n + k] ^ 0x80U;
  } else {
    const std::uint8_t code = (bytes[row * ((n + 1) / 2) + k / 2] >> (k % 2 * 4)) & 15U;
    std::uint8_t& both = block[(k / 8 * kBlockRows + place.lane) * 4 + k % 4];
    both = static_cast<std::uint8_t>(both | code << (k % 8 < 4 ? 0 : 4));
  }
}

// Four bytes of a row of int4, columns two by two, as a block holds them: the first four columns low.
std::uint32_t interleaved(std::uint32_t pairs) {
  const std::uint32_t first = pairs & 0xffffU, last = pairs >> 16;  // of columns 0..3, and 4..7
  const auto spread = [](std::uint32_t four) {
    return (four & 0xfU) | (four & 0xf0U) << 4 | (four & 0xf00U) << 8 | (four & 0xf000U) << 12;
  };
  return spread(first) | spread(last) << 4;
}

// Whole units of four bytes, which every format has where the source is of the same one; return the columns done.
std::int64_t pack_units(const Source& source, std::int64_t row, Place place, std::uint8_t* block) {
  const CynLinear& linear = *source.linear;
  const bool is_rounded = linear.type == CYN_BFLOAT16 && source.type != CYN_BFLOAT16;
  if (linear.type == CYN_FLOAT32 || is_rounded) return 0;
  const std::int64_t n = linear.num_columns;
  const std::int64_t columns = linear.type == CYN_BFLOAT16 ? 2 : linear.type == CYN_INT8 ? 4 : 8;
  const std::int64_t row_bytes = linear.type == CYN_BFLOAT16 ? 2 * n : linear.type == CYN_INT8 ? n : (n + 1) / 2;
  const char* const from = static_cast<const char*>(source.values) + row * row_bytes;
  std::uint32_t* const to = reinterpret_cast<std::uint32_t*>(block) + place.lane;
  for (std::int64_t unit = 0; unit < n / columns; ++unit) {
    std::uint32_t bits;
    std::memcpy(&bits, from + 4 * unit, sizeof bits);
    to[unit * kBlockRows] = linear.type == CYN_BFLOAT16 ? bits
                            : linear.type == CYN_INT8   ? bits ^ 0x80808080U
                                                        : interleaved(bits);
  }
  return n / columns * columns;
}

void pack_codes(const Source& source, std::int64_t row, Place place) {
  const CynLinear& linear = *source.linear;
  const std::int64_t block_bytes = linear.code_bytes / linear.num_blocks;
  std::uint8_t* const block = static_cast<std::uint8_t*>(linear.codes) + place.block * block_bytes;
  const std::int64_t done = pack_units(source, row, place, block);
  for (std::int64_t k = done; k < linear.num_columns; ++k) pack_one(source, row, place, block, k);
}

std::int64_t groups_of(const CynLinear& linear, std::int64_t columns) {
  return (columns + linear.group - 1) / linear.group;
}

void pack_row(const Source& source, std::int64_t row) {
  const CynLinear& linear = *source.linear;
  const Place place = place_of(source, row);
  pack_codes(source, row, place);
  if (linear.scales != nullptr) {
    const std::int64_t at = place.block * kBlockRows + place.lane;
    if (linear.type == CYN_INT8) {
      static_cast<float*>(linear.scales)[at] = static_cast<const float*>(source.scales)[row];
    } else {
      const std::int64_t stored = groups_of(linear, linear.padded_columns);
      const std::int64_t given = groups_of(linear, linear.num_columns);
      for (std::int64_t g = 0; g < given; ++g) {
        static_cast<std::uint16_t*>(linear.scales)[(place.block * stored + g) * kBlockRows + place.lane] =
            static_cast<const std::uint16_t*>(source.scales)[row * given + g];
      }
    }
  }
  if (source.bias != nullptr) linear.bias[place.block * kBlockRows + place.lane] = source.bias[row];
}

// One packed block at a time: two threads would else write to the same cache line.
void pack_block(void* context, int index, int) {
  const Source& source = *static_cast<const Source*>(context);
  const std::int64_t block = source.first_row / kBlockRows + index;
  const std::int64_t end = source.first_row + source.num_rows;
  for (std::int64_t at = block * kBlockRows; at < (block + 1) * kBlockRows; ++at) {
    if (at >= source.first_row && at < end) pack_row(source, at - source.first_row);
  }
}

}  // namespace
}  // namespace cynosure

CYN_API void cyn_linear_layout(CynLinear* linear) {
  using cynosure::kBlockRows;
  using cynosure::kColumnPad;
  const std::int64_t rows = linear->is_gated ? linear->num_rows / 2 : linear->num_rows;
  linear->num_blocks = (rows + kBlockRows - 1) / kBlockRows * (linear->is_gated ? 2 : 1);
  linear->padded_columns = (linear->num_columns + kColumnPad - 1) / kColumnPad * kColumnPad;
  const std::int64_t codes = linear->num_blocks * kBlockRows * linear->padded_columns;
  const std::int64_t rows_padded = linear->num_blocks * kBlockRows;
  switch (linear->type) {
    case CYN_FLOAT32: linear->code_bytes = 4 * codes; break;
    case CYN_BFLOAT16: linear->code_bytes = 2 * codes; break;
    case CYN_INT8: linear->code_bytes = codes; break;
    default: linear->code_bytes = codes / 2; break;
  }
  linear->scale_bytes = 0;
  if (linear->type == CYN_INT8) linear->scale_bytes = 4 * rows_padded;
  if (linear->type == CYN_INT4) {
    linear->scale_bytes = 2 * rows_padded * cynosure::groups_of(*linear, linear->padded_columns);
  }
}

// Copy rows of a row-major matrix to their places; the packed memory was zero before.
CYN_API void cyn_linear_pack(const CynLinear* linear, const void* values, std::int64_t type, const void* scales,
                             const float* bias, std::int64_t num_rows, std::int64_t first_row, std::int64_t half) {
  using cynosure::kBlockRows;
  if (num_rows == 0) return;
  cynosure::Source source{linear, type, values, scales, bias, num_rows, first_row, half};
  const std::int64_t first = first_row / kBlockRows, last = (first_row + num_rows - 1) / kBlockRows;
  cynosure::run_tasks(static_cast<int>(last - first + 1), cynosure::pack_block, &source);
}
