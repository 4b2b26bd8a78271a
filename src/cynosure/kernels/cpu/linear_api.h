// The structs of linear layers, which kernels/linear.py mirrors, and how weights are packed. Knows nothing of
// graphs. Every field has 8 bytes; sizes and strides count elements, unless they say bytes.
//
// Packed weights. Rows of the matrix (a row makes one output) are cut into blocks of 16, columns are padded
// with zeros to a multiple of 64, and a block lies in memory as it is read, in units of 64 bytes:
//
//   float32    one column of the 16 rows:                [block][column][16]
//   bfloat16   two columns:                              [block][column / 2][16][2]
//   int8       four columns, each code + 128:            [block][column / 4][16][4]
//   int4       eight columns, each code 0..15; the low nibbles hold columns 0..3, the high ones 4..7:
//                                                        [block][column / 8][16][4]
//
// The order of bytes of bfloat16 and int8 is also that of an AMX tile. int8 has one scale a row, float32
// [block][16]; int4 one a row and group of columns, bfloat16 [block][group][16]. A code of int8 stands for
// code * scale, one of int4 for (code - 8) * scale.
//
// A gated layer holds `gate` and `up` in turn, block by block; its output is activation(gate) * up and has half
// as many columns as the matrix has rows.
//
// Activations come as float32 or bfloat16. Against float32 weights they stay float32; against bfloat16 they are
// rounded to it; against int8 each row is quantised to int8 by its largest magnitude, against int4 each group
// of a row. A row that holds an infinity or NaN gives NaN in every output: a quantised code could not tell.
//
// Ways to compute: `rows` (dot products, one pass over the weights for up to 4 rows), `tiles` (AMX) and, of int4
// with tiles, `groups` (AMX, a tile of whole numbers a group); where there are no tiles all are `rows`. Each gives
// a row the same bits whatever rows stand beside it. int8 sums are exact and give the same bits in all ways, and
// `groups` gives those of `rows`; else `rows` and `tiles` round differently, so a caller that wants a row's bits
// fixed fixes the way.
#pragma once

#include <cstdint>

extern "C" {

enum CynType : std::int64_t { CYN_FLOAT32 = 0, CYN_BFLOAT16 = 1, CYN_INT8 = 2, CYN_INT4 = 3 };
enum CynNorm : std::int64_t { CYN_NO_NORM = 0, CYN_RMS_NORM = 1, CYN_LAYER_NORM = 2 };
enum CynActivation : std::int64_t {
  CYN_IDENTITY = 0,
  CYN_SILU = 1,
  CYN_GELU = 2,
  CYN_GELU_TANH = 3,
  CYN_RELU = 4,
};
enum CynWay : std::int64_t { CYN_AUTO = 0, CYN_ROWS = 1, CYN_TILES = 2, CYN_GROUPS = 3 };

// A packed matrix. The caller fills the first four fields and the pointers; cyn_linear_layout the others.
struct CynLinear {
  std::int64_t type;      // of the weights
  std::int64_t num_rows;  // of the matrix; gate and up together where gated
  std::int64_t num_columns;
  std::int64_t group;     // columns that share a scale: 32 or 128 for int4, else 0
  std::int64_t is_gated;
  std::int64_t num_blocks;
  std::int64_t padded_columns;
  std::int64_t code_bytes;
  std::int64_t scale_bytes;
  void* codes;            // 64-byte aligned, as are the next two
  void* scales;           // null for float32 and bfloat16
  float* bias;            // [num_blocks * 16] in packed order, or null
};

// What is computed: out = activation(norm(x) @ weights.T + bias) + residual.
struct CynLinearCall {
  std::int64_t num_rows;
  std::int64_t way;
  const void* x;
  std::int64_t x_type;
  std::int64_t x_stride;
  std::int64_t norm;
  const float* norm_weight;  // [num_columns]; an offset of one is already added
  const float* norm_bias;    // or null
  double norm_eps;
  std::int64_t activation;
  const void* residual;      // of out's type, or null; may be `out` itself
  std::int64_t residual_stride;
  void* out;
  std::int64_t out_type;
  std::int64_t out_stride;
};

}  // extern "C"
