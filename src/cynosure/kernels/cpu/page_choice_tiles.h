// Bound what pages can score, sixteen query heads by sixty-four pages at a time on AMX. Knows nothing of ranks.
//
// What of a query is below zero meets the smallest numbers of a page, what is above zero the largest. Both are
// bfloat16 as they come, so that their products are exact and only sums round:
//
//   queries  [low, high][32 channels][16 pairs][16 heads][2]  zeros beyond head_dim and beyond the last head
//   pages    [64][low, high][channels]                        copied together, since a table's pages lie anywhere
//
// Channels are padded to a multiple of 32.
#pragma once

#include "attention_tiles.h"
#include "attention_transpose.h"
#include "page_choice_table.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure::CYN_VARIANT {

struct BoundTiles {
  static constexpr int kPages = 64, kStep = 32;  // pages at a time, channels of one product
  const Candidates& of;
  std::int64_t kv_head;
  TileRegisters registers;
  int steps;
  char *queries, *pages, *sums;

  static long query_bytes(const AttentionCall& call) { return 2 * ((call.head_dim + kStep - 1) / kStep) * kTileBytes; }
  static long bytes(const AttentionCall& call) {
    return query_bytes(call) * (1 + kPages / 16) + kPages / 16 * kTileBytes;
  }

  BoundTiles(const Candidates& candidates, std::int64_t head, char* memory)
      : of(candidates),
        kv_head(head),
        steps(static_cast<int>((of.call.head_dim + kStep - 1) / kStep)),
        queries(memory),
        pages(queries + query_bytes(of.call)),
        sums(pages + query_bytes(of.call) * (kPages / 16)) {}

  void bound(std::int64_t first, std::int64_t stop) {
    const long group = of.call.num_heads / of.call.num_kv_heads;
    for (std::int64_t page = first; page < stop; page += kPages) {
      const int count = stop - page < kPages ? static_cast<int>(stop - page) : kPages;
      copy_pages(page, count, stop);
      for (long head = 0; head < group; head += 16) {
        if (page == first || group > 16) pack_queries(head, group - head < 16 ? static_cast<int>(group - head) : 16);
        multiply((count + 15) / 16);
        for (int at = 0; at < count; at += 16) put(page + at, count - at < 16 ? count - at : 16, head, at / 16);
      }
    }
  }

 private:
  long row_bytes() const { return 2L * steps * kStep * 2; }

  const std::uint16_t* bounds_of(std::int64_t page) const {
    const std::int64_t block = of.call.block_table[of.seq * of.call.table_stride + of.first + page];
    return of.choice.bounds + (block * of.call.num_kv_heads + kv_head) * 2 * of.call.head_dim;
  }

  __m512i channels_of(const std::uint16_t* row, long first) const {
    const long left = of.call.head_dim - first;
    return _mm512_maskz_loadu_epi16(left >= kStep ? 0xffffffffU : (1U << left) - 1, row + first);
  }

  void copy_pages(std::int64_t page, int count, std::int64_t stop) const {
    char* to = pages;
    for (int i = 0; i < count; ++i) {
      if (page + i + kPages / 4 < stop) {
        const std::uint16_t* next = bounds_of(page + i + kPages / 4);
        for (long at = 0; at < 2 * of.call.head_dim; at += 32) prefetch(next + at);
      }
      const std::uint16_t* row = bounds_of(page + i);
      for (int half = 0; half < 2; ++half, row += of.call.head_dim) {
        for (int s = 0; s < steps; ++s, to += kRowBytes) _mm512_storeu_si512(to, channels_of(row, s * kStep));
      }
    }
    const int left = (16 - count % 16) % 16;
    __builtin_memset(to, 0, static_cast<unsigned long>(left * row_bytes()));
  }

  void pack_queries(long head, int count) const {
    for (int s = 0; s < steps; ++s) {
      __m512i low[16], high[16];
      for (int lane = 0; lane < 16; ++lane) {
        low[lane] = high[lane] = _mm512_setzero_si512();
        if (lane >= count) continue;
        const long group = of.call.num_heads / of.call.num_kv_heads;
        const long at = of.call.cu_q[of.seq] * of.call.q_row_stride + (kv_head * group + head + lane) * of.call.q_head_stride;
        const __m512i q = channels_of(static_cast<const std::uint16_t*>(of.call.q) + at, s * kStep);
        const __mmask32 is_below = _mm512_movepi16_mask(q);
        low[lane] = _mm512_maskz_mov_epi16(is_below, q);
        high[lane] = _mm512_maskz_mov_epi16(~is_below, q);
      }
      transpose(low);
      transpose(high);
      char *to = queries + s * kTileBytes, *behind = to + steps * kTileBytes;
      for (int pair = 0; pair < 16; ++pair) {
        _mm512_storeu_si512(to + pair * kRowBytes, low[pair]);
        _mm512_storeu_si512(behind + pair * kRowBytes, high[pair]);
      }
    }
  }

  void multiply(int num_groups) const {
    const char* groups[kPages / 16];
    for (int i = 0; i < num_groups; ++i) groups[i] = pages + i * 16 * row_bytes();
    multiply_tiles({groups, row_bytes(), kRowBytes}, num_groups, {queries, 2 * steps, false}, sums);
  }

  // From [page][head] to the rows of the heads.
  void put(std::int64_t page, int count, long head, int group_of_pages) const {
    const long group = of.call.num_heads / of.call.num_kv_heads;
    __m512i r[16];
    const char* from = sums + group_of_pages * kTileBytes;
    for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(from + i * kRowBytes);
    transpose(r);
    for (long lane = 0; lane < 16 && head + lane < group; ++lane) {
      float* to = of.bounds + (kv_head * group + head + lane) * of.count + page;
      _mm512_mask_storeu_epi32(to, first(count), r[lane]);
    }
  }
};

}  // namespace cynosure::CYN_VARIANT

#endif
