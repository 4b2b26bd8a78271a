// Embed, normalise, quantise, rotate and pool rows of a bundle. Knows nothing of products or of attention.
#pragma once

#include "encoder_numbers.h"

#if CYN_LEVEL >= CYN_AMX

namespace cynosure {
namespace CYN_VARIANT {

static void norm_row(const CynLayerNorm& norm, std::int64_t n, bool is_kept, float* x, std::uint16_t* narrow) {
  float mean = 0.0F, scale = 1.0F;
  if (norm.weight != nullptr) {
    Lanes total = fill(0.0F), other = total, squares = total, more = total;
    for (std::int64_t i = 0; i < n; i += 2 * kLanes) {
      total = add(total, load(x + i));
      other = add(other, load(x + i + kLanes));
    }
    mean = sum(add(total, other)) / static_cast<float>(n);
    // Squares of what is left once the mean is out: the difference of two large sums would lose digits.
    for (std::int64_t i = 0; i < n; i += 2 * kLanes) {
      const Lanes a = sub(load(x + i), fill(mean)), b = sub(load(x + i + kLanes), fill(mean));
      squares = fma(a, a, squares);
      more = fma(b, b, more);
    }
    const float power = sum(add(squares, more)) / static_cast<float>(n);
    scale = 1.0F / __builtin_sqrtf(power + static_cast<float>(norm.eps));
  }
  for (std::int64_t i = 0; i < n; i += 2 * kLanes) {
    Lanes both[2];
    for (int j = 0; j < 2; ++j) {
      const std::int64_t at = i + j * kLanes;
      both[j] = load(x + at);
      if (norm.weight == nullptr) continue;
      both[j] = mul(mul(sub(both[j], fill(mean)), fill(scale)), load(norm.weight + at));
      if (norm.bias != nullptr) both[j] = add(both[j], load(norm.bias + at));
      if (is_kept) store(x + at, both[j]);
    }
    store_pair(narrow + i, both[0], both[1]);
  }
}

static void norm(const EncoderWork& work, const CynLayerNorm& norm, bool is_kept, RowRange rows) {
  const std::int64_t n = work.encoder->hidden_size;
  const Rows& narrow = work.room.narrow;
  for (std::int64_t row = rows.first; row < rows.last; ++row) {
    norm_row(norm, n, is_kept, work.room.x + row * n, narrow.first + row * narrow.stride);
  }
}

static void embed(const EncoderWork& work, const BundledText& text) {
  const CynEncoder& encoder = *work.encoder;
  const CynEncoderPass& pass = *work.pass;
  const std::int64_t n = encoder.hidden_size;
  for (std::int64_t i = 0; i < text.length; ++i) {
    const std::int64_t from = text.origin + i, row = text.first + i;
    const std::uint16_t* const token = encoder.tokens + pass.token_ids[from] * n;
    const std::uint16_t* const position =
        encoder.positions == nullptr ? nullptr : encoder.positions + (i + encoder.position_offset) * n;
    const std::int64_t type_id = pass.type_ids == nullptr ? 0 : pass.type_ids[from];
    const std::uint16_t* const type = encoder.types == nullptr ? nullptr : encoder.types + type_id * n;
    float* const x = work.room.x + row * n;
    for (std::int64_t at = 0; at < n; at += kLanes) {
      Lanes value = load_bf16(token + at);
      if (type != nullptr) value = add(value, load_bf16(type + at));
      if (position != nullptr) value = add(value, load_bf16(position + at));
      store(x + at, value);
    }
    norm_row(encoder.embedding_norm, n, true, x, work.room.narrow.first + row * work.room.narrow.stride);
  }
}

// Codes of each row by its largest magnitude; the scale is NaN where the row holds a number that is not finite.
static void quantise_rows(const Rows& x, std::int64_t width, const Codes& codes, RowRange rows) {
  constexpr float kSmallest = 1e-30F;
  for (std::int64_t row = rows.first; row < rows.last; ++row) {
    const std::uint16_t* const from = x.first + row * x.stride;
    std::int8_t* const to = codes.first + row * codes.stride;
    Lanes most = fill(0.0F), poison = fill(0.0F);
    for (std::int64_t i = 0; i < width; i += kLanes) {
      const Lanes value = load_bf16(from + i);
      most = larger(absolute(value), most);
      poison = fma(value, fill(0.0F), poison);
    }
    const float size = largest(most), inverse = size > kSmallest ? 127.0F / size : 0.0F;
    Ints total = fill_ints(0);
    for (std::int64_t i = 0; i < width; i += kLanes) {
      const Lanes scaled = larger(mul(load_bf16(from + i), fill(inverse)), fill(-127.0F));
      const Ints code = to_ints(smaller(scaled, fill(127.0F)));
      total = add_ints(total, code);
      store_bytes(to + i, code);
    }
    codes.sums[row] = sum_ints(total);
    codes.scales[row] = (size > kSmallest ? size / 127.0F : 0.0F) + sum(poison);
  }
}

// Turn queries and keys in place: (a, b) becomes (a cos - b sin, b cos + a sin) for the halves a and b of a head.
static void rotate(const EncoderWork& work, const CynEncoderLayer& layer, const BundledText& text) {
  const CynEncoder& encoder = *work.encoder;
  const std::int64_t half = encoder.head_dim / 2;
  for (std::int64_t i = 0; i < text.length; ++i) {
    const float *cos = layer.cos + i * half, *sin = layer.sin + i * half;
    std::uint16_t* at = work.room.qkv.first + (text.first + i) * work.room.qkv.stride;
    for (std::int64_t head = 0; head < 2 * encoder.num_heads; ++head, at += encoder.head_dim) {
      for (std::int64_t c = 0; c < half; c += kLanes) {
        const Lanes a = load_bf16(at + c), b = load_bf16(at + half + c), x = load(cos + c), y = load(sin + c);
        store_narrow(at + c, sub(mul(a, x), mul(b, y)));
        store_narrow(at + half + c, fma(b, x, mul(a, y)));
      }
    }
  }
}

// Write what is asked for of a text: all its rows, or one vector.
static void pool_rows(const EncoderWork& work, const BundledText& text) {
  const std::int64_t n = work.encoder->hidden_size, pooling = work.pass->pooling;
  const float* const x = work.room.x + text.first * n;
  if (pooling == CYN_ALL_ROWS) {
    float* const to = work.pass->out + text.origin * n;
    for (std::int64_t i = 0; i < text.length * n; i += kLanes) store(to + i, load(x + i));
    return;
  }
  float* const to = work.pass->out + text.seq * n;
  const std::int64_t first = pooling == CYN_LAST_ROW ? text.length - 1 : 0;
  const std::int64_t count = pooling == CYN_MEAN_ROW ? text.length : 1;
  const float share = 1.0F / static_cast<float>(count);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    Lanes total = fill(0.0F);
    for (std::int64_t j = first; j < first + count; ++j) total = add(total, load(x + j * n + i));
    store(to + i, mul(total, fill(share)));
  }
}

}  // namespace CYN_VARIANT
}  // namespace cynosure

#endif
