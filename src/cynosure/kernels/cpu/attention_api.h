// What one attention call is, in numbers and addresses. Knows nothing of how it is computed.
//
// Every field is 8 bytes, so that the mirror in kernels/attention.py needs no padding. Strides count elements,
// and the last dimension of every array is contiguous. An address may be null where the field says so.
//
// The score of query row i (of head h, at position p) and key j (at position t) is
//
//   bend(scale * grow(p) * k_scale[j] * q.k) + key_bias[j] - slope[h] |p - t| + distance_bias[h][t - p]
//     + dense_bias[h][i][j]
//
// with bend(x) = softcap * tanh(x / softcap) and grow(p) = max(1, log(p + 1) / log(train_length)). A key counts
// where low[i] <= t <= high[i] and the map allows it; all others have the score -inf. Positions of one sequence
// lie within 2^24 of each other: float32 counts so far.
#pragma once

#include <cstdint>

namespace cynosure {

enum Element : std::int64_t { kFloat32 = 0, kBfloat16 = 1, kInt8 = 2, kFloat16 = 4 };

// In a table of places: there is none.
constexpr int kNotWatched = -1;

// Keys are visited in tiles of this many, counted from the sequence's first.
constexpr int kTileKeys = 128;

// A map cuts a sequence into blocks of map_rows queries x kTileKeys keys; what a block allows:
enum Cover : std::int32_t { kEmpty = 0, kFull = 1, kFirstPartial = 2 };

// A run of keys of one segment: keys start <= j < stop of a sequence.
struct Run {
  std::int64_t segment, start, stop;
};

struct AttentionCall {
  // Queries: q[row][head][i], rows packed over the sequences.
  const void* q;
  std::int64_t q_type, q_row_stride, q_head_stride;

  // Keys and values: [block][head][key in block][i]. A dense source is one block: block_size 0.
  const void* k;
  std::int64_t k_block_stride, k_head_stride, k_key_stride;
  const void* v;
  std::int64_t v_block_stride, v_head_stride, v_key_stride;
  std::int64_t kv_type, block_size;
  // Of int8 codes: [block][head][key in block]; value = code * scale. Null for all other types.
  const float* k_scale;
  const float* v_scale;

  // Results, contiguous: out[row][head][i], lse[row][head] in nats.
  float* out;
  float* lse;

  // Sequences: the queries of sequence s are rows cu_q[s]..cu_q[s + 1], its keys are cu_k[s]..cu_k[s + 1] of
  // every per-key array below. Pages in order: block_table[s * table_stride + page]. Dense rows begin at
  // first_rows[s].
  std::int64_t num_seqs;
  const std::int64_t* cu_q;
  const std::int64_t* cu_k;
  const std::int64_t* block_table;
  std::int64_t table_stride;
  const std::int64_t* first_rows;
  const std::int64_t* q_positions;
  const std::int64_t* k_positions;  // null: the keys of every sequence are counted from 0
  // Whether the positions of the keys of sequence s count up by one: what lets keys be skipped unread.
  const std::uint8_t* is_consecutive;

  std::int64_t num_heads, num_kv_heads, head_dim, v_head_dim;

  // Scores. A softcap or train_length of 0 means none; null arrays are left out.
  double scale, softcap, train_length;
  const float* slopes;         // [head]
  const float* distance_bias;  // [head][2 * max_distance + 1], by clamp(t - p) + max_distance
  std::int64_t max_distance;
  const float* key_bias;    // [key]
  const float* dense_bias;  // [head][row of its sequence][key of its sequence]
  std::int64_t bias_head_stride, bias_row_stride;

  // Mask. low and high are per query and inclusive; null: unbounded. The map may be null: all allowed. Sequence s
  // has the blocks map_blocks[map_offsets[s] + row_block * columns + key_block]; a block that is neither empty nor
  // full has its bytes [map_rows][kTileKeys] at map_cells + (cover - kFirstPartial) * map_rows * kTileKeys.
  const std::int64_t* low;
  const std::int64_t* high;
  const std::int32_t* map_blocks;
  const std::int64_t* map_offsets;
  const std::uint8_t* map_cells;
  std::int64_t map_rows;

  // Observations; each output may be null. Column w is of head watched_heads[w]. Only rows of q that are watched are
  // observed: row i is row watched_rows[i] of the outputs, and none where that is kNotWatched.
  std::int64_t num_watched;
  const std::int64_t* watched_heads;
  std::int64_t num_segments;
  const Run* runs;                  // of all sequences
  const std::int64_t* run_offsets;  // sequence s has runs[run_offsets[s]] .. runs[run_offsets[s + 1]]
  float* mass;                      // [row][w][segment]: log-sum-exp of the segment's scores
  float* mean_score;                // [row][w]: mean of the scores under the softmax
  float* max_logit;                 // [row][w]
  const std::int64_t* watched_rows;  // null: all rows, in their order

  // Pages of K/V head h of sequence s begin at block_table[s * table_stride + h * table_head_stride]; 0: all share.
  std::int64_t table_head_stride;
};

// Where key `key` of a sequence sits.
static inline std::int64_t position_of_key(const AttentionCall& call, std::int64_t seq, std::int64_t key) {
  return call.k_positions == nullptr ? key : call.k_positions[call.cu_k[seq] + key];
}

}  // namespace cynosure
