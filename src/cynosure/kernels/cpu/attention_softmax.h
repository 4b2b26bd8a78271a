// Fold a tile of scores into the running softmax of its rows. Knows nothing of where scores come from.
//
// FlashAttention-2 (arXiv 2307.08691, algorithm 1) with a row in each lane: maxima and sums over keys are sums of
// vectors. Scores and maxima are in units of log 2.
#pragma once

#include "attention_rows.h"

namespace cynosure::CYN_VARIANT {

// What a row's maximum is measured from: 0 while it has seen nothing, so that -inf - -inf never happens.
CYN_INLINE Lanes finite(Lanes top) { return unless_lowest(top, fill(0.0F)); }

// Raise the rows' maxima to `top` and return what older sums and outputs must be multiplied by.
static Lanes raise_tops(RowTile& rows, Lanes top) {
  const Lanes old = load(rows.top), raised = larger(top, old);
  const Lanes decay = power_of_two(sub(old, finite(raised)));
  store(rows.top, raised);
  store(rows.total, mul(load(rows.total), decay));
  store(rows.run_total, mul(load(rows.run_total), decay));
  store(rows.score_sum, mul(load(rows.score_sum), decay));
  return decay;
}

// Weights of float32 that stay where the scores were; those of int8 values carry the value's scale.
struct Float32Weights {
  float* to;
  const float* scales;
  int count;

  void put(int key, Lanes a, Lanes b) const {
    if (scales != nullptr) {
      if (key < count) a = mul(a, fill(scales[key]));
      if (key + 1 < count) b = mul(b, fill(scales[key + 1]));
    }
    store(to + key * kLanes, a);
    store(to + (key + 1) * kLanes, b);
  }
};

// What is kept of the weights beside their sum.
enum class Keeping { kNothing, kWeights, kScores, kBoth };

// Turn the scores of `count` keys into weights, put them where the path wants them, and return their sum. Where
// the weights are kept they go to `kept` too, as float32; where the scores are, their weighted sum grows.
template <Keeping keeping, class Weights>
static Lanes weigh(const Weights weights, int count, RowTile& rows, Lanes factor, const float* scores, float* kept) {
  constexpr bool keeps_weights = keeping == Keeping::kWeights || keeping == Keeping::kBoth;
  constexpr bool keeps_scores = keeping == Keeping::kScores || keeping == Keeping::kBoth;
  const Lanes minus_top = sub(fill(0.0F), finite(load(rows.top)));
  Lanes even = fill(0.0F), odd = fill(0.0F), weighted = fill(0.0F);
  for (int key = 0; key < count; key += 2) {
    const Lanes x = load(scores + key * kLanes), y = load(scores + (key + 1) * kLanes);
    const Lanes a = power_of_two(fma(x, factor, minus_top)), b = power_of_two(fma(y, factor, minus_top));
    even = add(even, a);
    odd = add(odd, b);
    if (keeps_weights) {
      store(kept + key * kLanes, a);
      store(kept + (key + 1) * kLanes, b);
    }
    if (keeps_scores) {
      weighted = fma(a, unless_lowest(mul(x, factor), fill(0.0F)), weighted);
      weighted = fma(b, unless_lowest(mul(y, factor), fill(0.0F)), weighted);
    }
    weights.put(key, a, b);
  }
  const Lanes sum = add(even, odd);
  store(rows.total, add(load(rows.total), sum));
  if (keeps_scores) store(rows.score_sum, add(load(rows.score_sum), weighted));
  return sum;
}

}  // namespace cynosure::CYN_VARIANT
