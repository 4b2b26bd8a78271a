// What a step of decoding sequences, one new token each, hands to a program: where its tokens sit and are written,
// their vectors, their angles. Knows nothing of graphs.
//
// Every field has 8 bytes, so that the mirror in kernels/decode.py needs no padding. Arrays that are written lie in
// buffers that the calls of the program point to: between two steps nothing else of a program changes.
#pragma once

#include <cstdint>

#include "linear_api.h"

// The lowest position that a query sees: within a window, in its chunk. The highest is always its own.
struct CynBound {
  std::int64_t window;  // 0: none
  std::int64_t chunk;   // 0: none
  std::int64_t* low;    // [num_seqs], written
};

// Cosines and sines of all positions, rows of `row_bytes`, and where those of the tokens are written.
struct CynAngles {
  const void* cos;
  const void* sin;
  std::int64_t row_bytes;
  void* cos_rows;
  void* sin_rows;
};

// Layers whose blocks have pages of their own.
struct CynGroup {
  const std::int64_t* page_of;  // of each block
  std::int64_t* block_table;    // [num_seqs][table_stride], written: the page of each block in the step's own table
  std::int64_t* slots;          // [num_seqs], written
};

struct CynDecodeStep {
  std::int64_t num_seqs;
  const std::int64_t* token_ids;
  const std::int64_t* past_lens;    // tokens that each sequence's pages hold, its new one not among them
  const std::int64_t* block_table;  // pages of sequence s: block_table[s * table_stride ...]
  std::int64_t table_stride, block_size;

  std::int64_t* positions;  // [num_seqs], written, as are all below
  std::int64_t* slots;      // [num_seqs]: block * block_size + place
  std::int64_t* cu_k;       // [num_seqs + 1]: running sums of lengths, the new token included

  std::int64_t num_groups;
  const CynGroup* groups;
  std::int64_t num_bounds;
  const CynBound* bounds;
  std::int64_t num_angles;
  const CynAngles* angles;

  // The table of embeddings: a packed matrix, or plain rows of x's type; both null where x is filled already.
  const CynLinear* packed;
  float* unpacked;  // [num_seqs][hidden_size]: scratch for rows of a packed matrix
  const void* rows;
  std::int64_t hidden_size;
  std::int64_t x_type;      // CYN_FLOAT32 or CYN_BFLOAT16
  double multiplier;        // of the vectors, rounded to x's type; 1 for none
  void* x;                  // [num_seqs][hidden_size]
};
