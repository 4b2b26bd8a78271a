// Fold the shares of watched heads under weights. Knows nothing of attention.
#include "watch_fold_api.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "isa.h"

namespace cynosure {
namespace {

constexpr float kBitsOfANat = 1.44269504f;

// Turn a head's masses to shares, in place of `shares`; give the log of their sum, or -inf where it sees nothing.
float shares_of(const float* mass, std::int64_t num_segments, float* shares) {
  const float largest = *std::max_element(mass, mass + num_segments);
  if (!(largest > -std::numeric_limits<float>::infinity())) return -std::numeric_limits<float>::infinity();
  float sum = 0;
  for (std::int64_t segment = 0; segment < num_segments; ++segment) {
    shares[segment] = std::exp(mass[segment] - largest);
    sum += shares[segment];
  }
  for (std::int64_t segment = 0; segment < num_segments; ++segment) shares[segment] /= sum;
  return largest + std::log(sum);
}

// Add a head of a row; false where it sees nothing.
bool add_head(const WatchFold& call, std::int64_t row, std::int64_t head, std::int64_t total_heads,
              const float* mass, float mean_score, float* scratch) {
  const float log_sum = shares_of(mass, call.num_segments, scratch);
  if (!std::isfinite(log_sum)) return false;
  const float* weights = call.weights[row] + head;
  call.entropy[row] += weights[0] * (log_sum - mean_score) * kBitsOfANat;
  float* out = call.shares + row * call.max_folds * call.num_segments;
  for (std::int64_t fold = 0; fold < call.num_folds[row]; ++fold, out += call.num_segments) {
    const float weight = weights[fold * total_heads];
    if (weight == 0) continue;
    for (std::int64_t segment = 0; segment < call.num_segments; ++segment) out[segment] += weight * scratch[segment];
  }
  return true;
}

}  // namespace
}  // namespace cynosure

// Fold every row; 0 where a head sees nothing, and what was written counts for nothing.
CYN_API std::int64_t cyn_fold_watched(const cynosure::WatchFold* call) {
  using namespace cynosure;
  thread_local std::vector<float> scratch;  // engines of one process fold on threads of their own
  scratch.resize(call->num_segments);
  std::int64_t total_heads = 0;
  for (std::int64_t layer = 0; layer < call->num_layers; ++layer) total_heads += call->num_heads[layer];
  std::fill_n(call->shares, call->num_rows * call->max_folds * call->num_segments, 0.0f);
  std::fill_n(call->entropy, call->num_rows, 0.0f);
  const float* mass = call->mass;
  const float* mean_score = call->mean_score;
  std::int64_t first_head = 0;
  for (std::int64_t layer = 0; layer < call->num_layers; ++layer) {
    for (std::int64_t row = 0; row < call->num_rows; ++row) {
      for (std::int64_t head = 0; head < call->num_heads[layer]; ++head, mass += call->num_segments, ++mean_score) {
        if (!add_head(*call, row, first_head + head, total_heads, mass, *mean_score, scratch.data())) return 0;
      }
    }
    first_head += call->num_heads[layer];
  }
  return 1;
}

CYN_API std::int64_t cyn_sizeof_watch_fold() { return sizeof(cynosure::WatchFold); }
