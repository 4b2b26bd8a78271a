// Read rows back out of a packed matrix: a table of embeddings that is also the head is kept once.
#include "linear_work.h"
#include "pool.h"

namespace cynosure {
namespace {

struct Lookup {
  const CynLinear* linear;
  const std::int64_t* ids;
  float* out;
};

float float_of(std::uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

float weight_at(const CynLinear& linear, std::int64_t block, std::int64_t lane, std::int64_t k) {
  const std::uint8_t* const codes =
      static_cast<const std::uint8_t*>(linear.codes) + block * (linear.code_bytes / linear.num_blocks);
  switch (linear.type) {
    case CYN_FLOAT32:
      return reinterpret_cast<const float*>(codes)[k * kBlockRows + lane];
    case CYN_BFLOAT16: {
      const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(codes)[(k / 2 * kBlockRows + lane) * 2 + k % 2];
      return float_of(static_cast<std::uint32_t>(bits) << 16);
    }
    case CYN_INT8: {
      const int code = codes[(k / 4 * kBlockRows + lane) * 4 + k % 4] - 128;
      return static_cast<float>(code) * static_cast<const float*>(linear.scales)[block * kBlockRows + lane];
    }
    default: {
      const int code = (codes[(k / 8 * kBlockRows + lane) * 4 + k % 4] >> (k % 8 < 4 ? 0 : 4)) & 15;
      const std::int64_t groups = (linear.padded_columns + linear.group - 1) / linear.group;
      const std::int64_t at = (block * groups + k / linear.group) * kBlockRows + lane;
      const std::uint32_t scale = static_cast<const std::uint16_t*>(linear.scales)[at];
      return static_cast<float>(code - 8) * float_of(scale << 16);
    }
  }
}

void look_up(void* context, int index, int) {
  const Lookup& lookup = *static_cast<const Lookup*>(context);
  const std::int64_t row = lookup.ids[index], n = lookup.linear->num_columns;
  for (std::int64_t k = 0; k < n; ++k) {
    lookup.out[index * n + k] = weight_at(*lookup.linear, row / kBlockRows, row % kBlockRows, k);
  }
}

}  // namespace
}  // namespace cynosure

// Write rows `ids` of a matrix that is not gated to out, float32 [num_ids, num_columns]; ids are in range.
CYN_API void cyn_linear_lookup(const CynLinear* linear, const std::int64_t* ids, std::int64_t num_ids, float* out) {
  cynosure::Lookup lookup{linear, ids, out};
  cynosure::run_tasks(static_cast<int>(num_ids), cynosure::look_up, &lookup);
}
