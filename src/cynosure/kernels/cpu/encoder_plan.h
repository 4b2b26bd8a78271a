// Share whole texts out among threads. Knows nothing of what is computed.
//
// A bundle is some texts that one thread takes through all layers: its activations stay in that thread's cache, and
// threads meet only at the end. Where texts are too few or too unequal for that, there is one bundle, and threads
// share each product out. Which it is changes no bit: each row's arithmetic is its own.
#pragma once

#include <cstdint>
#include <vector>

namespace cynosure {

struct Bundles {
  std::vector<std::int64_t> order;   // the sequences, bundle by bundle
  std::vector<std::int64_t> starts;  // bundle b has order[starts[b]] .. order[starts[b + 1]]
};

Bundles share_texts_out(const std::int64_t* cu_seqlens, std::int64_t num_seqs, int num_threads);

}  // namespace cynosure
