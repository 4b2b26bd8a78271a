// A pass of an encoder over whole texts, run by one call. Knows nothing of graphs or of tokenizers.
//
// Every field has 8 bytes; kernels/encoder.py mirrors the structs. Tokens come packed, without padding. A layer is
//
//   post-norm   x = norm(x + out(attend(qkv(x))));  x = norm(x + down(act(up(x))))
//   pre-norm    x = x + out(attend(qkv(norm(x))));  x = x + down(act(up(norm(x))))
//
// with `act(gate) * up` where the matrix is gated. The residual stream is float32. What products read is bfloat16,
// or int8 by rows where the matrix is int8; scores, weights of attention and sums are float32, and what multiplies
// keys and values is bfloat16. Biases are those of the packed matrices.
//
// Sizes: hidden_size, num_heads * head_dim and intermediate_size are multiples of 32, and so is head_dim, which is
// at most 128. Token ids, type ids and positions are in range; so are lengths, which are at least 1.
#pragma once

#include <cstdint>

#include "linear_api.h"

extern "C" {

enum CynPooling : std::int64_t { CYN_ALL_ROWS = 0, CYN_FIRST_ROW = 1, CYN_MEAN_ROW = 2, CYN_LAST_ROW = 3 };

// (x - mean) / sqrt(variance + eps) * weight + bias.
struct CynLayerNorm {
  const float* weight;  // [hidden_size]; null: there is no norm
  const float* bias;    // or null
  double eps;
};

struct CynEncoderLayer {
  const CynLinear* qkv;  // [3][head][head_dim] rows
  const CynLinear* out;
  const CynLinear* up;   // gate and up where gated
  const CynLinear* down;
  CynLayerNorm attention_norm;
  CynLayerNorm mlp_norm;
  const float* cos;      // [position][head_dim / 2], halves rotated; null: nothing is rotated
  const float* sin;
  std::int64_t window;   // keys less than this far away are seen; 0: all are
};

struct CynEncoder {
  std::int64_t hidden_size;
  std::int64_t num_heads;
  std::int64_t head_dim;
  std::int64_t intermediate_size;
  double scale;  // times q.k is the score
  std::int64_t activation;
  std::int64_t is_pre_norm;
  // Tables of bfloat16, [row][hidden_size]; those of positions and types may be null.
  const std::uint16_t* tokens;
  const std::uint16_t* positions;
  std::int64_t position_offset;  // row of the first token's position
  const std::uint16_t* types;
  CynLayerNorm embedding_norm;
  CynLayerNorm final_norm;
  // Added to the score of query i and key j: [head][j - i + max_distance]; null: nothing is.
  const float* distance_bias;
  std::int64_t max_distance;
  std::int64_t num_layers;
  const CynEncoderLayer* layers;
};

struct CynEncoderPass {
  std::int64_t num_seqs;
  const std::int64_t* cu_seqlens;
  const std::int64_t* token_ids;
  const std::int64_t* type_ids;  // null: all are 0
  std::int64_t pooling;
  float* out;  // [rows or sequences][hidden_size]
};

}  // extern "C"
