// Rotate one token's queries and keys and put its keys and values into their page. Knows nothing of threads.
//
// Compiled once per variant (isa.h). A head is widened to float32, rotated, and narrowed once.

#include "attention_numbers.h"
#include "kv_write_table.h"

namespace cynosure::CYN_VARIANT {
namespace {

constexpr int kMaxWidth = kMaxHeadDim;

CYN_INLINE void narrow(const float* x, std::int64_t element, long count, void* to) {
  if (element == kFloat32) {
    std::memcpy(to, x, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* out = static_cast<std::uint16_t*>(to);
  long i = 0;
  for (; element == kBfloat16 && i + kLanes <= count; i += kLanes) store_bf16(out + i, load(x + i));
  for (; i < count; ++i) out[i] = element == kBfloat16 ? bf16_of_float(x[i]) : half_of_float(x[i]);
}

CYN_INLINE char* moved(void* p, std::int64_t element, long i) {
  return static_cast<char*>(p) + i * bytes_of(element);
}
CYN_INLINE const char* moved(const void* p, std::int64_t element, long i) {
  return static_cast<const char*>(p) + i * bytes_of(element);
}

struct Angles {
  float cos[kMaxWidth / 2], sin[kMaxWidth / 2];
};

void rotate(float* x, const Angles& angles, long half, bool is_interleaved) {
  const long step = is_interleaved ? 2 : 1, apart = is_interleaved ? 1 : half;
  for (long i = 0; i < half; ++i) {
    float &a = x[i * step], &b = x[i * step + apart];
    const float turned = a * angles.cos[i] - b * angles.sin[i];
    b = b * angles.cos[i] + a * angles.sin[i];
    a = turned;
  }
}

// The codes of one head and what they are multiplied by.
float encode(const float* x, long count, std::int8_t* codes) {
  float largest = 0.0F;
  for (long i = 0; i < count; ++i) {
    const float size = __builtin_fabsf(x[i]);
    largest = size > largest || size != size ? size : largest;  // NaN stays: no number is larger
  }
  const float scale = largest / 127.0F, inverse = 1.0F / scale;
  const bool is_usable = inverse <= __FLT_MAX__;  // neither zero, subnormal nor NaN
  for (long i = 0; i < count; ++i) {
    float code = is_usable ? __builtin_nearbyintf(x[i] * inverse) : 0.0F;
    code = code != code ? 0.0F : code < -127.0F ? -127.0F : code > 127.0F ? 127.0F : code;
    codes[i] = static_cast<std::int8_t>(code);
  }
  return scale;
}

void put(const KvWriteCall& call, const float* x, long count, void* page_row, float* scale) {
  if (call.page_type == kInt8) {
    *scale = encode(x, count, static_cast<std::int8_t*>(page_row));
  } else {
    narrow(x, call.page_type, count, page_row);
  }
}

void write_token(const KvWriteCall& call, std::int64_t token) {
  float x[kMaxWidth], rounded[kMaxWidth];
  Angles angles;
  const long half = call.cos == nullptr ? 0 : call.half;
  if (half > 0) {
    widen(moved(call.cos, call.type, token * call.table_stride), call.type, half, angles.cos);
    widen(moved(call.sin, call.type, token * call.table_stride), call.type, half, angles.sin);
  }
  for (long head = 0; call.q != nullptr && half > 0 && head < call.num_heads; ++head) {
    char* q = moved(call.q, call.type, token * call.q_row_stride + head * call.q_head_stride);
    widen(q, call.type, 2 * half, x);
    rotate(x, angles, half, call.is_interleaved != 0);
    narrow(x, call.type, 2 * half, q);
  }
  const long block = call.slots[token] / call.block_size, place = call.slots[token] % call.block_size;
  for (long head = 0; head < call.num_kv_heads; ++head) {
    const long scale_at = (block * call.num_kv_heads + head) * call.block_size + place;
    const char* k = moved(call.k, call.type, token * call.k_row_stride + head * call.k_head_stride);
    widen(k, call.type, call.head_dim, x);
    if (half > 0) {
      rotate(x, angles, half, call.is_interleaved != 0);
      // Rounded to the type of the keys before they become codes, as keys that were rotated elsewhere are.
      narrow(x, call.type, 2 * half, rounded);
      widen(rounded, call.type, 2 * half, x);
    }
    const long k_at = block * call.k_block_stride + head * call.k_page_head_stride + place * call.k_key_stride;
    put(call, x, call.head_dim, moved(call.k_pages, call.page_type, k_at), call.k_scale + scale_at);
    const char* v = moved(call.v, call.type, token * call.v_row_stride + head * call.v_head_stride);
    widen(v, call.type, call.v_head_dim, x);
    const long v_at = block * call.v_block_stride + head * call.v_page_head_stride + place * call.v_key_stride;
    put(call, x, call.v_head_dim, moved(call.v_pages, call.page_type, v_at), call.v_scale + scale_at);
  }
}

}  // namespace

const KvWriteTable kv_write_table = {write_token};

}  // namespace cynosure::CYN_VARIANT
