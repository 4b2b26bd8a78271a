// Bound what the keys of pages can score, and learn the bounds of pages. Knows nothing of threads.
//
// Compiled once per variant (isa.h). Channels lie in lanes; a page's bounds are widened once for all query heads.
// AMX takes queries in bfloat16 as they are (page_choice_tiles.h).

#include "attention_numbers.h"
#include "page_choice_table.h"
#include "page_choice_tiles.h"
#include "workspace.h"

namespace cynosure::CYN_VARIANT {
namespace {

long padded(long channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// Sixteen channels, zeros beyond the last.
CYN_INLINE Lanes sixteen(const std::uint16_t* p, long left) {
  return left >= kLanes ? load_bf16(p) : load_bf16_some(p, static_cast<int>(left));
}

// What of each query is above zero, then what is below: [head][high, low][channels].
void split_queries(const Candidates& of, std::int64_t kv_head, float* parts) {
  const AttentionCall& call = of.call;
  const long group = call.num_heads / call.num_kv_heads, width = padded(call.head_dim);
  for (long g = 0; g < group; ++g, parts += 2 * width) {
    const long at = call.cu_q[of.seq] * call.q_row_stride + (kv_head * group + g) * call.q_head_stride;
    for (long d = 0; d < width; ++d) {
      const float x = d < call.head_dim ? number_at(call.q, call.q_type, at + d) : 0.0F;
      parts[d] = x > 0.0F ? x : 0.0F;
      parts[width + d] = x > 0.0F ? 0.0F : x;  // NaN stays
    }
  }
}

void bound(const Candidates& of, std::int64_t kv_head, std::int64_t first, std::int64_t stop) {
  const AttentionCall& call = of.call;
#if CYN_LEVEL >= CYN_AMX
  if (call.q_type == kBfloat16) {
    BoundTiles(of, kv_head, workspace(static_cast<std::size_t>(BoundTiles::bytes(call)))).bound(first, stop);
    return;
  }
#endif
  const long group = call.num_heads / call.num_kv_heads, width = padded(call.head_dim);
  auto* parts = reinterpret_cast<float*>(workspace(static_cast<std::size_t>((group + 1) * 2 * width) * sizeof(float)));
  float* page = parts + group * 2 * width;  // [high, low][channels]
  split_queries(of, kv_head, parts);
  const std::int64_t* table = call.block_table + of.seq * call.table_stride + of.first;
  for (std::int64_t i = first; i < stop; ++i) {
    const std::uint16_t* low = of.choice.bounds + (table[i] * call.num_kv_heads + kv_head) * 2 * call.head_dim;
    if (i + 2 < stop) {
      const auto* next = of.choice.bounds + (table[i + 2] * call.num_kv_heads + kv_head) * 2 * call.head_dim;
      for (long at = 0; at < 2 * call.head_dim; at += 32) prefetch(next + at);
    }
    for (long d = 0; d < width; d += kLanes) {
      store(page + d, sixteen(low + call.head_dim + d, call.head_dim - d));
      store(page + width + d, sixteen(low + d, call.head_dim - d));
    }
    for (long g = 0; g < group; ++g) {
      const float* q = parts + g * 2 * width;
      Lanes even = fill(0.0F), odd = fill(0.0F);
      for (long d = 0; d < width; d += kLanes) {
        even = fma(load(q + d), load(page + d), even);
        odd = fma(load(q + width + d), load(page + width + d), odd);
      }
      of.bounds[(kv_head * group + g) * of.count + i] = sum(add(even, odd));
    }
  }
}

// Numbers that are NaN are passed over, in maxima and in ranks.
void rank(const Candidates& of, std::int64_t kv_head, float* ranks) {
  const std::int64_t group = of.call.num_heads / of.call.num_kv_heads, whole = of.count / kLanes * kLanes;
  for (std::int64_t i = 0; i < of.count; ++i) ranks[i] = -__builtin_inff();
  for (std::int64_t g = 0; g < group; ++g) {
    const float* bounds = of.bounds + (kv_head * group + g) * of.count;
    Lanes most = fill(-__builtin_inff());
    for (std::int64_t i = 0; i < whole; i += kLanes) most = larger(load(bounds + i), most);
    float top = largest(most);
    for (std::int64_t i = whole; i < of.count; ++i) top = bounds[i] > top ? bounds[i] : top;
    for (std::int64_t i = 0; i < whole; i += kLanes) {
      store(ranks + i, larger(sub(load(bounds + i), fill(top)), load(ranks + i)));
    }
    for (std::int64_t i = whole; i < of.count; ++i) {
      const float below = bounds[i] - top;
      ranks[i] = below > ranks[i] ? below : ranks[i];
    }
  }
}

// The nearest bfloat16 that is not below x, or not above it. NaN becomes one that bounds nothing.
std::uint16_t outwards(float x, bool is_upper) {
  const std::uint32_t bits = bits_of_float(x);
  const bool must_grow = (bits & 0xffffU) != 0 && (x < 0.0F) != is_upper;
  return static_cast<std::uint16_t>((bits >> 16) + (must_grow ? 1 : 0));
}

void learn(const BoundsCall& call, std::int64_t index) {
  const std::int64_t block = call.blocks[index];
  auto* row = reinterpret_cast<float*>(workspace(static_cast<std::size_t>(3 * padded(call.head_dim)) * sizeof(float)));
  const long width = padded(call.head_dim);
  float *low = row + width, *high = low + width;
  for (std::int64_t head = 0; head < call.num_kv_heads; ++head) {
    for (long d = 0; d < width; ++d) {
      row[d] = 0.0F;
      low[d] = __builtin_inff();
      high[d] = -__builtin_inff();
    }
    for (std::int64_t key = 0; key < call.block_size; ++key) {
      const long at = block * call.k_block_stride + head * call.k_head_stride + key * call.k_key_stride;
      widen(static_cast<const char*>(call.k) + at * bytes_of(call.k_type), call.k_type, call.head_dim, row);
      const float scale =
          call.k_scale == nullptr ? 1.0F : call.k_scale[(block * call.num_kv_heads + head) * call.block_size + key];
      for (long d = 0; d < width; d += kLanes) {
        const Lanes x = mul(load(row + d), fill(scale));
        store(low + d, smaller(x, load(low + d)));
        store(high + d, larger(x, load(high + d)));
      }
    }
    std::uint16_t* to = call.bounds + (block * call.num_kv_heads + head) * 2 * call.head_dim;
    for (long d = 0; d < call.head_dim; ++d) {
      to[d] = outwards(low[d], false);
      to[call.head_dim + d] = outwards(high[d], true);
    }
  }
}

}  // namespace

const PageChoiceTable page_choice_table = {bound, rank, learn};

}  // namespace cynosure::CYN_VARIANT
