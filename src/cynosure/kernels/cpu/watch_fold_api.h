// What it takes to fold what watched rows attended to into sums over heads. Knows nothing of attention.
//
// A layer's kernels write, one layer behind the other, masses [row][head][segment], as log-sum-exps of scores, and
// mean scores [row][head]. A row's weights are [fold][head], over the heads of all layers in order; the first fold
// is the mean over the heads that count for the row. Its shares of a segment are the heads' shares under the
// weights; its entropy is the mean of log(sum of exp of scores) - mean score, in bits. Every field has 8 bytes;
// kernels/watch_fold.py mirrors the struct.
#pragma once

#include "attention_api.h"

namespace cynosure {

struct WatchFold {
  const float* mass;
  const float* mean_score;
  const std::int64_t* num_heads;  // of each layer
  std::int64_t num_layers, num_rows, num_segments;
  const float* const* weights;    // of each row
  const std::int64_t* num_folds;  // of each row
  std::int64_t max_folds;
  float* shares;   // [row][max_folds][segment]
  float* entropy;  // [row]
};

}  // namespace cynosure
