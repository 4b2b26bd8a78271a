// What it takes to rotate a pass's queries and keys and to put keys and values into their pages. Knows nothing of
// attention.
//
// Every field is 8 bytes, so that the mirror in kernels/kv_write.py needs no padding. Strides count elements, and
// the last dimension of every array is contiguous. q, k and v are of one type: float32, bfloat16 or float16.
//
// Rotation. The first 2 * half channels of each head turn by the angles of their token, whose cosines and sines
// are [token][half] in the tensors' own type. A pair is (i, i + half), or (2i, 2i + 1) where it is interleaved:
// (a cos - b sin, b cos + a sin), computed in float32 and rounded once. Queries are rotated in place; keys are
// rotated on their way to their page. A null `cos` rotates nothing.
//
// Pages. slots[token] = block * block_size + place. A page holds the type of k and v, or float32, or int8 codes:
// code = round(x * 127 / largest magnitude of the token's head), with scale = largest / 127. NaN and infinity
// give a scale that is neither.
#pragma once

#include "attention_api.h"

namespace cynosure {

constexpr std::int64_t kMaxHeadDim = 1024;  // of keys and of values

struct KvWriteCall {
  std::int64_t num_tokens, type;
  void* q;  // or null: nothing to rotate but keys
  std::int64_t num_heads, q_row_stride, q_head_stride;
  const void* k;
  std::int64_t num_kv_heads, head_dim, k_row_stride, k_head_stride;
  const void* v;
  std::int64_t v_head_dim, v_row_stride, v_head_stride;
  const void* cos;
  const void* sin;
  std::int64_t half, table_stride, is_interleaved;

  const std::int64_t* slots;
  std::int64_t block_size, page_type;
  void* k_pages;
  std::int64_t k_block_stride, k_page_head_stride, k_key_stride;
  void* v_pages;
  std::int64_t v_block_stride, v_page_head_stride, v_key_stride;
  float* k_scale;  // [block][head][place in the block], of codes
  float* v_scale;
};

}  // namespace cynosure
