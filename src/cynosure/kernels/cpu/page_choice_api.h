// Which pages of a long sequence a decoding step attends to, and what is kept of pages to choose by.
//
// Of each page and K/V head the smallest and the largest number of every channel of its keys are kept, as bfloat16,
// rounded outwards: [block][head][low, high][head_dim]. No key k of the page has a product with a query q above
//
//   sum over channels of max(q_i low_i, q_i high_i)                       (Quest, arXiv 2406.10774, equation 1)
//
// A K/V head's pages are ranked by this bound, taken for each of its query heads from the largest that this head has,
// and then the best over heads. Equal ranks go by the order of pages. The first pages and the last are always in.
//
// Every field has 8 bytes; kernels/page_choice.py mirrors the structs.
#pragma once

#include <cstdint>

#include "attention_api.h"

namespace cynosure {

// What a call with pages needs beside them. Scores must grow with q.k alone, of a scale above 0: no mask but the
// causal one, no bias of positions. A sequence that chooses has one query, and nothing of it is watched.
struct PageChoice {
  const std::uint16_t* bounds;
  const std::int64_t* num_pages;  // [seq]: pages that its K/V heads attend to at most; 0: all
  std::int64_t num_first, num_last;
  // [seq]: where nonzero, all pages are attended to, and recalled[seq][head] is the share of the attention that the
  // chosen ones have.
  const std::int64_t* is_checked;
  float* recalled;
};

// The pages of a layer whose bounds are to be known.
struct BoundsCall {
  const void* k;
  std::int64_t k_block_stride, k_head_stride, k_key_stride, k_type;
  const float* k_scale;  // of codes: [block][head][key in block]
  std::int64_t num_kv_heads, head_dim, block_size;
  std::int64_t num_blocks;
  const std::int64_t* blocks;
  std::uint16_t* bounds;
};

}  // namespace cynosure
