#include "attention_plain.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

namespace cynosure {
namespace {

constexpr double kLowest = -std::numeric_limits<double>::infinity();

double number(const void* p, std::int64_t element, std::int64_t i) {
  if (element == kFloat32) return static_cast<const float*>(p)[i];
  if (element == kInt8) return static_cast<const std::int8_t*>(p)[i];
  const std::uint16_t half = static_cast<const std::uint16_t*>(p)[i];
  if (element == kBfloat16) {
    const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  const double size = exponent == 31 ? (fraction != 0 ? NAN : INFINITY)
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(1024 + fraction, exponent - 25);
  return (half >> 15) != 0 ? -size : size;
}

struct Cell {
  std::int64_t seq, token, head, key;  // token and key count from the sequence's first
};

struct Twin {
  const AttentionCall& call;

  std::int64_t row(Cell c) const { return call.cu_q[c.seq] + c.token; }
  std::int64_t column(Cell c) const { return call.cu_k[c.seq] + c.key; }
  std::int64_t kv_head(Cell c) const { return c.head / (call.num_heads / call.num_kv_heads); }

  void find(Cell c, std::int64_t& block, std::int64_t& key) const {
    const std::int64_t row = c.seq * call.table_stride + kv_head(c) * call.table_head_stride;
    block = call.block_size == 0 ? 0 : call.block_table[row + c.key / call.block_size];
    key = call.block_size == 0 ? call.first_rows[c.seq] + c.key : c.key % call.block_size;
  }

  double scale_of(const float* scales, Cell c) const {
    if (scales == nullptr) return 1.0;
    std::int64_t block, key;
    find(c, block, key);
    return scales[(block * call.num_kv_heads + kv_head(c)) * call.block_size + key];
  }

  double value(Cell c, std::int64_t channel) const {
    std::int64_t block, key;
    find(c, block, key);
    const std::int64_t at = block * call.v_block_stride + kv_head(c) * call.v_head_stride + key * call.v_key_stride;
    return number(call.v, call.kv_type, at + channel) * scale_of(call.v_scale, c);
  }

  double product(Cell c) const {
    std::int64_t block, key;
    find(c, block, key);
    const std::int64_t q = row(c) * call.q_row_stride + c.head * call.q_head_stride;
    const std::int64_t k = block * call.k_block_stride + kv_head(c) * call.k_head_stride + key * call.k_key_stride;
    double sum = 0.0;
    for (std::int64_t d = 0; d < call.head_dim; ++d) {
      sum += number(call.q, call.q_type, q + d) * number(call.k, call.kv_type, k + d);
    }
    return sum * scale_of(call.k_scale, c);
  }

  bool is_allowed(Cell c) const {
    const std::int64_t position = position_of_key(call, c.seq, c.key);
    if (call.low != nullptr && position < call.low[row(c)]) return false;
    if (call.high != nullptr && position > call.high[row(c)]) return false;
    if (call.map_blocks == nullptr) return true;
    const std::int64_t num_keys = call.cu_k[c.seq + 1] - call.cu_k[c.seq];
    const std::int64_t columns = (num_keys + kTileKeys - 1) / kTileKeys;
    const std::int64_t block = c.token / call.map_rows * columns + c.key / kTileKeys;
    const std::int64_t cover = call.map_blocks[call.map_offsets[c.seq] + block];
    if (cover < kFirstPartial) return cover == kFull;
    const std::int64_t line = (cover - kFirstPartial) * call.map_rows + c.token % call.map_rows;
    return call.map_cells[line * kTileKeys + c.key % kTileKeys] != 0;
  }

  double score(Cell c) const {
    if (!is_allowed(c)) return kLowest;
    const std::int64_t p = call.q_positions[row(c)], t = position_of_key(call, c.seq, c.key);
    double x = call.scale * product(c);
    if (call.train_length != 0.0) x *= std::fmax(1.0, std::log(p + 1.0) / std::log(call.train_length));
    if (call.softcap != 0.0) x = call.softcap * std::tanh(x / call.softcap);
    if (call.key_bias != nullptr) x += call.key_bias[column(c)];
    if (call.slopes != nullptr) x -= call.slopes[c.head] * static_cast<double>(std::llabs(p - t));
    if (call.distance_bias != nullptr) {
      const std::int64_t most = call.max_distance, apart = t - p < -most ? -most : t - p > most ? most : t - p;
      x += call.distance_bias[c.head * (2 * most + 1) + most + apart];
    }
    if (call.dense_bias != nullptr) {
      x += call.dense_bias[c.head * call.bias_head_stride + c.token * call.bias_row_stride + c.key];
    }
    return x;
  }

  std::int64_t segment_of(Cell c) const {
    const Run* run = call.runs + call.run_offsets[c.seq];
    while (run->stop <= c.key) ++run;
    return run->segment;
  }

  void watch(Cell c, const std::vector<double>& scores, double top, double total) const {
    const std::int64_t to = call.watched_rows == nullptr ? row(c) : call.watched_rows[row(c)];
    for (std::int64_t w = 0; to != kNotWatched && w < call.num_watched; ++w) {
      if (call.watched_heads[w] != c.head) continue;
      const std::int64_t at = to * call.num_watched + w;
      std::vector<double> sums(call.num_segments, 0.0);
      double mean = 0.0;
      for (std::size_t key = 0; key < scores.size(); ++key) {
        const double weight = total > 0.0 ? std::exp(scores[key] - top) : 0.0;
        c.key = static_cast<std::int64_t>(key);
        if (call.mass != nullptr) sums[segment_of(c)] += weight;
        if (weight > 0.0) mean += weight / total * scores[key];
      }
      for (std::int64_t s = 0; call.mass != nullptr && s < call.num_segments; ++s) {
        call.mass[at * call.num_segments + s] = static_cast<float>(sums[s] > 0.0 ? top + std::log(sums[s]) : kLowest);
      }
      if (call.mean_score != nullptr) call.mean_score[at] = static_cast<float>(mean);
      if (call.max_logit != nullptr) call.max_logit[at] = static_cast<float>(top);
    }
  }

  void attend(Cell c) const {
    std::vector<double> scores(call.cu_k[c.seq + 1] - call.cu_k[c.seq]);
    double top = kLowest, total = 0.0;
    for (c.key = 0; c.key < static_cast<std::int64_t>(scores.size()); ++c.key) {
      scores[c.key] = score(c);
      top = std::fmax(top, scores[c.key]);
    }
    std::vector<double> out(call.v_head_dim, 0.0);
    for (c.key = 0; top != kLowest && c.key < static_cast<std::int64_t>(scores.size()); ++c.key) {
      const double weight = std::exp(scores[c.key] - top);
      total += weight;
      for (std::int64_t d = 0; d < call.v_head_dim; ++d) out[d] += weight * value(c, d);
    }
    const std::int64_t at = row(c) * call.num_heads + c.head;
    for (std::int64_t d = 0; d < call.v_head_dim; ++d) {
      call.out[at * call.v_head_dim + d] = static_cast<float>(total != 0.0 ? out[d] / total : 0.0);
    }
    call.lse[at] = static_cast<float>(total != 0.0 ? top + std::log(total) : kLowest);
    watch(c, scores, top, total);
  }
};

}  // namespace

void attend_plain(const AttentionCall& call) {
  const Twin twin{call};
  for (std::int64_t seq = 0; seq < call.num_seqs; ++seq) {
    for (std::int64_t token = 0; token < call.cu_q[seq + 1] - call.cu_q[seq]; ++token) {
      for (std::int64_t head = 0; head < call.num_heads; ++head) twin.attend({seq, token, head, 0});
    }
  }
}

}  // namespace cynosure
