// What the kernels of encoders pass to each other. Knows nothing of threads or of Python.
#pragma once

#include <cstdint>

#include "encoder_api.h"
#include "isa.h"

namespace cynosure {

constexpr std::int64_t kGroupRows = 32;   // of activations: two tiles
constexpr std::int64_t kPanelRows = 256;  // of activations that a product goes through between two weights

// A text of a bundle: where its rows begin in the bundle and in the pass, and which of the pass it is.
struct BundledText {
  std::int64_t first, origin, length, seq;
};

// What follows a product: a store; an activation and a store; act(gate) * up and a store; a sum with what is there.
enum class Ending { kStore, kActivate, kGate, kAdd };

// out = ending(x weights + bias), for x of bfloat16, or of int8 with a scale and a sum of codes a row.
struct Product {
  const CynLinear* linear;
  const char* x;
  std::int64_t x_bytes;  // from a row to the next
  const float* scales;
  const std::int32_t* sums;
  Ending ending;
  std::int64_t activation;
  void* out;  // bfloat16, or float32 where it is added to
  std::int64_t out_stride;
};

// Rows first..last - 1.
struct RowRange {
  std::int64_t first, last;
};

// Rows of bfloat16, `stride` numbers apart; what a product reads beyond a row's width is zero.
struct Rows {
  std::uint16_t* first;
  std::int64_t stride;
};

// Rows of int8, each with its scale and the sum of its codes.
struct Codes {
  std::int8_t* first;
  std::int64_t stride;
  float* scales;
  std::int32_t* sums;
};

// One bundle's activations.
struct EncoderRoom {
  float* x;        // [row][hidden_size]: the residual stream
  Rows narrow;     // what products read of it
  Rows qkv;        // [3][head][head_dim]
  Rows attended;
  Rows inner;
  std::int8_t* codes;  // of what an int8 product reads
  float* scales;
  std::int32_t* sums;
};

struct EncoderWork {
  const CynEncoder* encoder;
  const CynEncoderPass* pass;
  const BundledText* texts;
  std::int64_t num_texts;
  EncoderRoom room;
};

struct EncoderTable {
  void (*embed)(const EncoderWork& work, const BundledText& text);
  // Normalise x into narrow, and into x itself where it is kept; without a norm only narrow is written.
  void (*norm)(const EncoderWork& work, const CynLayerNorm& norm, bool is_kept, RowRange rows);
  void (*quantise)(const Rows& x, std::int64_t width, const Codes& codes, RowRange rows);
  // Pairs of blocks first_pair..last_pair - 1 for at most kPanelRows rows.
  void (*multiply)(const Product& product, std::int64_t first_pair, std::int64_t last_pair, RowRange rows,
                   char* scratch);
  void (*rotate)(const EncoderWork& work, const CynEncoderLayer& layer, const BundledText& text);
  void (*attend)(const EncoderWork& work, const CynEncoderLayer& layer, const BundledText& text, std::int64_t head,
                 char* scratch);
  void (*pool)(const EncoderWork& work, const BundledText& text);
  // Bytes of scratch that any of these needs for texts of at most `longest` tokens.
  std::int64_t (*scratch)(const CynEncoder& encoder, std::int64_t longest);
};

}  // namespace cynosure

CYN_DECLARE_TABLE(EncoderTable, encoder_table)
