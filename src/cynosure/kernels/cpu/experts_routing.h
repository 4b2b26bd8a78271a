// Choose a row's experts by its logits. Knows nothing of weights of layers.
#pragma once

#include "experts_api.h"

namespace cynosure {

// Floats of scratch that a row needs.
std::int64_t routing_floats(const CynRouting& routing);

void route_row(const CynRouting& routing, const float* logits, float* scratch, std::int64_t* chosen, float* weights);

}  // namespace cynosure
