#include "experts_routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cynosure {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();   // taken already
constexpr float kLast = std::numeric_limits<float>::lowest();       // of a group that is out

// The largest `count` of n ranks, the first of equals first; those that were taken become the lowest.
void take_best(float* ranks, std::int64_t n, std::int64_t count, std::int64_t* best) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t at = 0;
    for (std::int64_t j = 1; j < n; ++j) at = ranks[j] > ranks[at] ? j : at;
    best[i] = at;
    ranks[at] = kNever;
  }
}

// exp(x - the largest) of each; return their sum.
float exponentials(const float* x, std::int64_t n, float* out) {
  const float top = *std::max_element(x, x + n);
  float total = 0.0F;
  for (std::int64_t i = 0; i < n; ++i) total += out[i] = std::exp(x[i] - top);
  return total;
}

void normalise(float* weights, std::int64_t n, float total) {
  for (std::int64_t i = 0; i < n; ++i) weights[i] /= total;
}

float sum_of(const float* weights, std::int64_t n) {
  float total = 0.0F;
  for (std::int64_t i = 0; i < n; ++i) total += weights[i];
  return total;
}

void route_top(const CynRouting& routing, const float* logits, float* scratch, std::int64_t* chosen, float* weights) {
  std::copy(logits, logits + routing.num_experts, scratch);
  take_best(scratch, routing.num_experts, routing.num_chosen, chosen);
  for (std::int64_t i = 0; i < routing.num_chosen; ++i) weights[i] = logits[chosen[i]];
  normalise(weights, routing.num_chosen, exponentials(weights, routing.num_chosen, weights));
}

void route_softmax(const CynRouting& routing, const float* logits, float* scratch, std::int64_t* chosen,
                   float* weights) {
  const std::int64_t n = routing.num_experts;
  float* const ranks = scratch + n;
  normalise(scratch, n, exponentials(logits, n, scratch));
  std::copy(scratch, scratch + n, ranks);
  take_best(ranks, n, routing.num_chosen, chosen);
  for (std::int64_t i = 0; i < routing.num_chosen; ++i) weights[i] = scratch[chosen[i]];
  if (routing.is_normalised) normalise(weights, routing.num_chosen, sum_of(weights, routing.num_chosen));
}

// Leave in `ranks` those of the best groups alone.
void keep_best_groups(const CynRouting& routing, float* ranks, float* scratch, std::int64_t* chosen) {
  const std::int64_t size = routing.num_experts / routing.num_groups;
  for (std::int64_t group = 0; group < routing.num_groups; ++group) {
    float first = kNever, second = kNever;
    for (const float* rank = ranks + group * size; rank != ranks + (group + 1) * size; ++rank) {
      second = std::max(second, std::min(first, *rank));
      first = std::max(first, *rank);
    }
    scratch[group] = size > 1 ? first + second : first;
  }
  float* const is_in = scratch + routing.num_groups;
  std::fill(is_in, is_in + routing.num_groups, 0.0F);
  for (std::int64_t i = 0; i < routing.num_chosen_groups; ++i) {
    take_best(scratch, routing.num_groups, 1, chosen);
    is_in[chosen[0]] = 1.0F;
  }
  for (std::int64_t i = 0; i < routing.num_experts; ++i) ranks[i] = is_in[i / size] != 0.0F ? ranks[i] : kLast;
}

void route_groups(const CynRouting& routing, const float* logits, float* scratch, std::int64_t* chosen,
                  float* weights) {
  const std::int64_t n = routing.num_experts;
  float* const ranks = scratch + n;
  for (std::int64_t i = 0; i < n; ++i) {
    scratch[i] = 1.0F / (1.0F + std::exp(-logits[i]));
    ranks[i] = scratch[i] + (routing.correction == nullptr ? 0.0F : routing.correction[i]);
  }
  if (routing.num_chosen_groups < routing.num_groups) keep_best_groups(routing, ranks, ranks + n, chosen);
  take_best(ranks, n, routing.num_chosen, chosen);
  for (std::int64_t i = 0; i < routing.num_chosen; ++i) weights[i] = scratch[chosen[i]];
  // As the published graph has it.
  if (routing.is_normalised) normalise(weights, routing.num_chosen, sum_of(weights, routing.num_chosen) + 1e-20F);
  for (std::int64_t i = 0; i < routing.num_chosen; ++i) weights[i] *= static_cast<float>(routing.scale);
}

}  // namespace

std::int64_t routing_floats(const CynRouting& routing) { return 2 * routing.num_experts + 2 * routing.num_groups; }

void route_row(const CynRouting& routing, const float* logits, float* scratch, std::int64_t* chosen, float* weights) {
  float poison = 0.0F;
  for (std::int64_t i = 0; i < routing.num_experts; ++i) poison += logits[i] * 0.0F;
  if (poison != 0.0F) {  // NaN
    for (std::int64_t i = 0; i < routing.num_chosen; ++i) {
      chosen[i] = i;
      weights[i] = std::numeric_limits<float>::quiet_NaN();
    }
    return;
  }
  switch (routing.kind) {
    case CYN_ROUTE_TOP: return route_top(routing, logits, scratch, chosen, weights);
    case CYN_ROUTE_SOFTMAX: return route_softmax(routing, logits, scratch, chosen, weights);
    default: return route_groups(routing, logits, scratch, chosen, weights);
  }
}

}  // namespace cynosure
