// The scalar twin of the attention kernels. Knows nothing of tiles, vectors or threads.
#pragma once

#include "attention_api.h"

namespace cynosure {

void attend_plain(const AttentionCall& call);

}  // namespace cynosure
