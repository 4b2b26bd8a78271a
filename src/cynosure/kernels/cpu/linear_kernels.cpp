// Linear layers, in every variant: the table that linear_api.cpp calls.
#include "linear_rows.h"
#include "prepare.h"

#if CYN_LEVEL >= CYN_AMX
#include "linear_group_tiles.h"
#endif

namespace cynosure {
namespace CYN_VARIANT {

template <int R>
static void finish_unit(const LinearWork& work, std::int64_t unit, std::int64_t row) {
  Lanes one[R], two[R];
  if (work.linear->is_gated) {
    block_product<R>(work, 2 * unit, row, one);
    block_product<R>(work, 2 * unit + 1, row, two);
    for (int r = 0; r < R; ++r) finish_gated(work, row + r, unit, one[r], two[r]);
  } else {
    block_product<R>(work, unit, row, one);
    for (int r = 0; r < R; ++r) finish(work, row + r, unit, one[r]);
  }
}

static void rows(const LinearWork& work, std::int64_t first, std::int64_t last) {
  const std::int64_t num_rows = work.call->num_rows;
  for (std::int64_t unit = first; unit < last; ++unit) {
    std::int64_t row = 0;
    for (; row + 4 <= num_rows; row += 4) finish_unit<4>(work, unit, row);
    if (row + 2 <= num_rows) {
      finish_unit<2>(work, unit, row);
      row += 2;
    }
    if (row < num_rows) finish_unit<1>(work, unit, row);
  }
}

#if CYN_LEVEL >= CYN_AMX
const LinearTable linear_table = {prepare, rows, tiles, tile_scratch, groups, begin_groups, group_scratch};
#else
const LinearTable linear_table = {prepare, rows, nullptr, nullptr, nullptr, nullptr, nullptr};
#endif

}  // namespace CYN_VARIANT
}  // namespace cynosure
