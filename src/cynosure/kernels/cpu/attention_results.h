// Write finished rows, or parts of them and their merger. Knows nothing of how they were computed.
//
// A part is one row of one share: [v_head_dim] output, not divided yet; its maximum, its sum, its sum of weighted
// scores; then, where shares of segments are watched, [num_segments] log-sum-exps in nats.
#pragma once

#include "attention_job.h"
#include "attention_rows.h"
#include "attention_transpose.h"

namespace cynosure::CYN_VARIANT {

CYN_INLINE float add_exponentials(float a, float b) {
  const float top = a > b ? a : b;
  if (top == kLowest) return kLowest;
  return top + __builtin_logf(__builtin_expf(a - top) + __builtin_expf(b - top));
}

CYN_INLINE float* part_row(const AttentionJob& job, long row) { return job.parts + row * part_floats(job.call); }

// Where a row of q and a head are observed, counted in [row][w]; kNotWatched where they are not.
CYN_INLINE long watched_at(const AttentionJob& job, int token, int head) {
  const AttentionCall& call = job.call;
  const long column = job.plan.columns[head];
  if (column == kNotWatched) return kNotWatched;
  const long row = call.watched_rows == nullptr ? token : call.watched_rows[token];
  return row == kNotWatched ? kNotWatched : row * call.num_watched + column;
}

// Where the log-sum-exps of a row's segments are kept; null where it is not watched.
static float* mass_of(const AttentionJob& job, const Share& share, int row, int token, int head) {
  const AttentionCall& call = job.call;
  const long at = call.mass == nullptr ? kNotWatched : watched_at(job, token, head);
  if (at == kNotWatched) return nullptr;
  if (share.gathering != kWhole) return part_row(job, share.part + row) + call.v_head_dim + kPartNumbers;
  return call.mass + at * call.num_segments;
}

struct Row {
  int token, head;
  float top, total, score_sum, log_total;
};

// All but the output channels of a finished row.
static void write_numbers(const AttentionJob& job, const Row& row) {
  const AttentionCall& call = job.call;
  const bool sees = row.total != 0.0F;
  call.lse[row.token * call.num_heads + row.head] =
      sees ? row.top * kLn2 + row.log_total : kLowest;
  const long at = watched_at(job, row.token, row.head);
  if (at == kNotWatched) return;
  if (call.mean_score != nullptr) call.mean_score[at] = sees ? row.score_sum / row.total * kLn2 : 0.0F;
  if (call.max_logit != nullptr) call.max_logit[at] = row.top * kLn2;
}

CYN_INLINE float* out_row(const AttentionCall& call, int token, int head) {
  return call.out + (token * call.num_heads + head) * call.v_head_dim;
}

static Lanes reciprocals(const RowTile& rows) {
  float x[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = rows.total[lane] != 0.0F ? 1.0F / rows.total[lane] : 0.0F;
  return load(x);
}

// Sums [channel][lane], as the paths of floats keep them.
struct ChannelRows {
  static long channels(const AttentionCall& call) { return (call.v_head_dim + 15) / 16 * 16; }

  static void scale(float* out, long channels, int, Lanes factor) {
    for (long i = 0; i < channels; ++i) store(out + i * kLanes, mul(load(out + i * kLanes), factor));
  }

  // to[lane][d] = out[d][lane] * factor[lane] for the first `num_rows` lanes and `width` channels.
  static void write(const float* out, Lanes factor, int num_rows, long width, float* const* to) {
    for (long first_channel = 0; first_channel < width; first_channel += 16) {
      const long left = width - first_channel < 16 ? width - first_channel : 16;
      const float* from = out + first_channel * kLanes;
#if CYN_LEVEL >= CYN_AVX512
      __m512i r[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) r[i] = _mm512_castps_si512(mul(load(from + i * kLanes), factor));
      transpose(r);
      const __mmask16 are_there = first(static_cast<int>(left));
#pragma GCC unroll 16
      for (int lane = 0; lane < 16; ++lane) {
        if (lane < num_rows) _mm512_mask_storeu_epi32(to[lane] + first_channel, are_there, r[lane]);
      }
#else
      for (long i = 0; i < left; ++i) {
        float x[kLanes];
        store(x, mul(load(from + i * kLanes), factor));
        for (int lane = 0; lane < num_rows; ++lane) to[lane][first_channel + i] = x[lane];
      }
#endif
    }
  }
};

static void write_part(const AttentionJob& job, const Row& row, float* part) {
  const long width = job.call.v_head_dim;
  part[width] = row.top;
  part[width + 1] = row.total;
  part[width + 2] = row.score_sum;
}

// Merge the parts of one row, always in the order of their keys.
static void merge_row(const AttentionJob& job, const Gathering& gathering, const Share& share, int index) {
  const AttentionCall& call = job.call;
  const long width = call.v_head_dim;
  const int group = static_cast<int>(call.num_heads / call.num_kv_heads), r = share.first_row + index;
  Row row{static_cast<int>(call.cu_q[share.seq] + r / group), share.kv_head * group + r % group, kLowest, 0, 0, 0};
  float* out = out_row(call, row.token, row.head);
  const long at = call.mass == nullptr ? kNotWatched : watched_at(job, row.token, row.head);
  float* mass = at == kNotWatched ? nullptr : call.mass + at * call.num_segments;
  const auto part_of = [&](int i) {
    return part_row(job, gathering.first_part + static_cast<long>(i) * share.num_rows + index);
  };
  for (int i = 0; i < gathering.num_parts; ++i) {
    const float top = part_of(i)[width];
    row.top = top > row.top || top != top ? top : row.top;
  }
  for (long d = 0; d < width; ++d) out[d] = 0.0F;
  for (long s = 0; mass != nullptr && s < call.num_segments; ++s) mass[s] = kLowest;
  for (int i = 0; i < gathering.num_parts; ++i) {
    const float* part = part_of(i);
    if (part[width] == kLowest) continue;  // it saw nothing
    const float factor = __builtin_exp2f(part[width] - row.top);
    for (long d = 0; d < width; ++d) out[d] += factor * part[d];
    row.total += factor * part[width + 1];
    row.score_sum += factor * part[width + 2];
    for (long s = 0; mass != nullptr && s < call.num_segments; ++s) {
      mass[s] = add_exponentials(mass[s], part[width + kPartNumbers + s]);
    }
  }
  const float factor = row.total != 0.0F ? 1.0F / row.total : 0.0F;
  for (long d = 0; d < width; ++d) out[d] *= factor;
  row.log_total = __builtin_logf(row.total);
  write_numbers(job, row);
}

}  // namespace cynosure::CYN_VARIANT
