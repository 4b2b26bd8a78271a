// Choose pages and attend to them. Knows nothing of vectors.
//
// Sequences that choose are attended to one by one: their keys are the chosen pages, in the order of the sequence.
// Where a sequence has no more pages than it may choose, it is attended to as if it did not: the same bits.

#include <algorithm>
#include <cstring>
#include <vector>

#include "page_choice_table.h"
#include "pool.h"

CYN_API void cyn_attend(const cynosure::AttentionCall* call);

namespace cynosure {
namespace {

constexpr std::int64_t kPagesInTask = 128;

struct Chooser {
  Candidates of;
  std::int64_t num_wanted, num_tasks_a_head;
  std::int64_t* chosen;  // [kv_head][num_first + num_wanted + num_last]: pages of the sequence
  std::int64_t num_chosen;
};

std::int64_t num_keys_of(const AttentionCall& call, std::int64_t seq) { return call.cu_k[seq + 1] - call.cu_k[seq]; }

std::int64_t num_pages_of(const AttentionCall& call, std::int64_t seq) {
  return (num_keys_of(call, seq) + call.block_size - 1) / call.block_size;
}

bool chooses(const AttentionCall& call, const PageChoice& choice, std::int64_t seq) {
  return choice.num_pages[seq] > 0 && choice.num_pages[seq] < num_pages_of(call, seq);
}

void bound_pages(void* context, int index, int) {
  const Chooser& chooser = *static_cast<const Chooser*>(context);
  const std::int64_t first = index % chooser.num_tasks_a_head * kPagesInTask;
  const std::int64_t stop = std::min(first + kPagesInTask, chooser.of.count);
  CYN_SELECT(page_choice_table).bound(chooser.of, index / chooser.num_tasks_a_head, first, stop);
}

// A number that grows with a rank.
std::uint32_t order_of(float rank) {
  std::uint32_t bits;
  std::memcpy(&bits, &rank, sizeof bits);
  return bits >> 31 ? ~bits : bits | 0x80000000U;
}

// The least of the best so many numbers, and how many that equal it are among them.
struct Edge {
  std::uint32_t least;
  std::int64_t num_equal;
};

// Byte by byte from the highest: how many numbers have each value of it tells which one the edge has.
Edge edge_of(const std::vector<std::uint32_t>& numbers, std::int64_t num_wanted) {
  Edge edge{0, num_wanted};
  std::uint32_t known = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    std::int64_t counts[256] = {};
    for (const std::uint32_t number : numbers) {
      if ((number & known) == edge.least) ++counts[number >> shift & 255U];
    }
    int byte = 255;
    while (counts[byte] < edge.num_equal) edge.num_equal -= counts[byte--];
    edge.least |= static_cast<std::uint32_t>(byte) << shift;
    known |= 255U << shift;
  }
  return edge;
}

// The best `num_wanted` candidates of a K/V head, in the order of pages; of equal ones the first.
void choose_pages(void* context, int kv_head, int) {
  const Chooser& chooser = *static_cast<const Chooser*>(context);
  const Candidates& of = chooser.of;
  thread_local std::vector<float> ranks;
  thread_local std::vector<std::uint32_t> numbers;
  ranks.resize(of.count);
  numbers.resize(of.count);
  CYN_SELECT(page_choice_table).rank(of, kv_head, ranks.data());
  std::transform(ranks.begin(), ranks.end(), numbers.begin(), order_of);
  Edge edge = edge_of(numbers, chooser.num_wanted);
  const std::int64_t* table = of.call.block_table + of.seq * of.call.table_stride;
  std::int64_t* to = chooser.chosen + kv_head * chooser.num_chosen;
  for (std::int64_t i = 0; i < of.first; ++i) *to++ = table[i];
  for (std::int64_t i = 0; i < of.count; ++i) {
    const bool is_chosen = numbers[i] > edge.least || (numbers[i] == edge.least && edge.num_equal-- > 0);
    if (is_chosen) *to++ = table[of.first + i];
  }
  for (std::int64_t page = of.first + of.count; page < num_pages_of(of.call, of.seq); ++page) *to++ = table[page];
}

AttentionCall part_of(const AttentionCall& call, std::int64_t seq, std::int64_t stop) {
  AttentionCall part = call;
  part.num_seqs = stop - seq;
  part.cu_q += seq;
  part.cu_k += seq;
  part.block_table += seq * call.table_stride;
  if (part.is_consecutive != nullptr) part.is_consecutive += seq;
  if (part.map_offsets != nullptr) part.map_offsets += seq;
  if (part.run_offsets != nullptr) part.run_offsets += seq;
  return part;
}

void attend_to_chosen(const AttentionCall& call, const PageChoice& choice, std::int64_t seq) {
  thread_local std::vector<float> bounds;
  thread_local std::vector<std::int64_t> chosen;
  const std::int64_t num_pages = num_pages_of(call, seq), num_chosen = choice.num_pages[seq];
  const std::int64_t count = num_pages - choice.num_first - choice.num_last;
  bounds.resize(call.num_heads * count);
  chosen.resize(call.num_kv_heads * num_chosen);
  Chooser chooser{{call, choice, seq, choice.num_first, count, bounds.data()},
                  num_chosen - choice.num_first - choice.num_last,
                  (count + kPagesInTask - 1) / kPagesInTask,
                  chosen.data(),
                  num_chosen};
  run_tasks(static_cast<int>(call.num_kv_heads * chooser.num_tasks_a_head), bound_pages, &chooser);
  run_tasks(static_cast<int>(call.num_kv_heads), choose_pages, &chooser);

  AttentionCall part = part_of(call, seq, seq + 1);
  const std::int64_t num_keys = num_chosen * call.block_size - (num_pages * call.block_size - num_keys_of(call, seq));
  const std::int64_t cu_k[2] = {0, num_keys};
  const std::uint8_t is_consecutive = 1;
  part.cu_k = cu_k;
  part.is_consecutive = &is_consecutive;
  part.k_positions = nullptr;  // a query that sees all keys of its sequence sees all of these
  part.low = part.high = nullptr;
  part.key_bias = nullptr;
  part.block_table = chosen.data();
  part.table_head_stride = num_chosen;
  part.num_watched = 0;
  part.mass = part.mean_score = part.max_logit = nullptr;
  cyn_attend(&part);
}

// Attend to all, and tell how much of that the chosen pages have.
void check(const AttentionCall& call, const PageChoice& choice, std::int64_t seq) {
  attend_to_chosen(call, choice, seq);
  const float* lse = call.lse + call.cu_q[seq] * call.num_heads;
  float* recalled = choice.recalled + seq * call.num_heads;
  std::copy(lse, lse + call.num_heads, recalled);
  const AttentionCall part = part_of(call, seq, seq + 1);
  cyn_attend(&part);
  for (std::int64_t head = 0; head < call.num_heads; ++head) {
    recalled[head] = std::min(1.0F, __builtin_expf(recalled[head] - lse[head]));
  }
}

void learn_bounds(void* context, int index, int) {
  CYN_SELECT(page_choice_table).learn(*static_cast<const BoundsCall*>(context), index);
}

}  // namespace
}  // namespace cynosure

// Attend; everything is documented in page_choice_api.h.
CYN_API void cyn_attend_to_pages(const cynosure::AttentionCall* call, const cynosure::PageChoice* choice) {
  for (std::int64_t seq = 0; seq < call->num_seqs;) {
    if (cynosure::chooses(*call, *choice, seq)) {
      choice->is_checked[seq] != 0 ? cynosure::check(*call, *choice, seq)
                                   : cynosure::attend_to_chosen(*call, *choice, seq);
      ++seq;
      continue;
    }
    std::int64_t stop = seq;
    while (stop < call->num_seqs && !cynosure::chooses(*call, *choice, stop)) {
      // A sequence that is small enough recalls everything.
      float* recalled = choice->recalled + stop * call->num_heads;
      if (choice->is_checked[stop] != 0) std::fill(recalled, recalled + call->num_heads, 1.0F);
      ++stop;
    }
    const cynosure::AttentionCall part = cynosure::part_of(*call, seq, stop);
    cyn_attend(&part);
    seq = stop;
  }
}

CYN_API void cyn_learn_bounds(cynosure::BoundsCall* call) {
  cynosure::run_tasks(static_cast<int>(call->num_blocks), cynosure::learn_bounds, call);
}

CYN_API std::int64_t cyn_sizeof_page_choice() { return sizeof(cynosure::PageChoice); }
CYN_API std::int64_t cyn_sizeof_bounds_call() { return sizeof(cynosure::BoundsCall); }
