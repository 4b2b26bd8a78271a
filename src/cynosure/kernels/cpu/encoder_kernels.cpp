// What encoders are made of, where the variant has tiles: the table that encoder_api.cpp calls.
#include "encoder_work.h"

#if CYN_LEVEL >= CYN_AMX
#include "encoder_attention.h"
#include "encoder_products.h"
#include "encoder_rows.h"
#endif

namespace cynosure {
namespace CYN_VARIANT {

#if CYN_LEVEL >= CYN_AMX

static std::int64_t scratch_bytes(const CynEncoder& encoder, std::int64_t longest) {
  const std::int64_t attention = HeadRoom::bytes(longest, encoder.head_dim), product = product_scratch();
  return attention > product ? attention : product;
}

const EncoderTable encoder_table = {embed,       norm,      quantise_rows, multiply, rotate,
                                    attend_head, pool_rows, scratch_bytes};

#else

const EncoderTable encoder_table = {};

#endif

}  // namespace CYN_VARIANT
}  // namespace cynosure
