#include "encoder_plan.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace cynosure {
namespace {

constexpr std::int64_t kWantedRows = 256;  // of a bundle: weights are read once for so many, and activations fit
constexpr std::int64_t kFewRows = 32;      // with fewer, a thread does not repay reading all weights by itself
constexpr double kUnequal = 1.25;          // how much longer than the mean the longest thread may take

using Load = std::pair<std::int64_t, std::size_t>;  // rows of a bundle, and which it is

}  // namespace

Bundles share_texts_out(const std::int64_t* cu_seqlens, std::int64_t num_seqs, int num_threads) {
  const auto length = [&](std::int64_t seq) { return cu_seqlens[seq + 1] - cu_seqlens[seq]; };
  Bundles bundles;
  bundles.order.resize(static_cast<std::size_t>(num_seqs));
  std::iota(bundles.order.begin(), bundles.order.end(), 0);
  const std::int64_t total = cu_seqlens[num_seqs] - cu_seqlens[0];
  const std::int64_t per_thread = (total + num_threads - 1) / num_threads;
  bundles.starts = {0, num_seqs};
  if (num_threads == 1 ? total <= kWantedRows : per_thread < kFewRows) return bundles;

  std::vector<std::int64_t> by_length = bundles.order;
  std::stable_sort(by_length.begin(), by_length.end(),
                   [&](std::int64_t a, std::int64_t b) { return length(a) > length(b); });
  const std::int64_t rounds = (per_thread + kWantedRows - 1) / kWantedRows;
  const auto num_bundles = static_cast<std::size_t>(std::min(num_seqs, rounds * num_threads));
  std::priority_queue<Load, std::vector<Load>, std::greater<Load>> lightest;
  for (std::size_t b = 0; b < num_bundles; ++b) lightest.push({0, b});
  std::vector<std::vector<std::int64_t>> taken(num_bundles);
  std::int64_t heaviest = 0;
  for (const std::int64_t seq : by_length) {  // the longest first, each to the lightest bundle
    auto [rows, bundle] = lightest.top();
    lightest.pop();
    rows += length(seq);
    heaviest = std::max(heaviest, rows);
    taken[bundle].push_back(seq);
    lightest.push({rows, bundle});
  }
  if (num_threads > 1 && static_cast<double>(heaviest) > kUnequal * static_cast<double>(per_thread)) return bundles;
  bundles.order.clear();
  bundles.starts = {0};
  for (const std::vector<std::int64_t>& seqs : taken) {
    bundles.order.insert(bundles.order.end(), seqs.begin(), seqs.end());
    bundles.starts.push_back(static_cast<std::int64_t>(bundles.order.size()));
  }
  return bundles;
}

}  // namespace cynosure
