// A mixture of experts: feed-forward layers of which each row takes a few, all in one call. Knows nothing of graphs.
//
// Rows are sorted by the experts that they choose; an expert multiplies its rows together, and its weights are read
// once, or not at all where nobody chose it. A row's bits depend on the row and on the way of computing alone.
//
//   out = residual + shared * sigmoid(shared_gate) + sum over the chosen of weight * down(act(gate(n)) * up(n))
//
// where n = norm(x). The sum is float32 and goes in the order of choice. Every field has 8 bytes; kernels/experts.py
// mirrors the structs.
#pragma once

#include "linear_api.h"

extern "C" {

enum CynRouter : std::int64_t { CYN_ROUTE_TOP = 0, CYN_ROUTE_SOFTMAX = 1, CYN_ROUTE_GROUPS = 2 };

// How a row chooses by its logits; of equal ones the first wins. A row with a logit that is no finite number gets
// weights that are NaN.
//
//   CYN_ROUTE_TOP      the largest logits, and the softmax over those alone
//   CYN_ROUTE_SOFTMAX  the largest of the softmax over all, divided by their sum where normalised
//   CYN_ROUTE_GROUPS   the largest sigmoids within the best groups; a group ranks by its two best. The correction
//                      takes part in every ranking and in no weight. Divided by their sum where normalised; then
//                      multiplied by scale
struct CynRouting {
  std::int64_t kind;
  std::int64_t num_experts;
  std::int64_t num_chosen;
  std::int64_t num_groups;
  std::int64_t num_chosen_groups;
  std::int64_t is_normalised;
  double scale;
  const float* correction;  // [num_experts], or null
};

// Experts are alike: one shape and type each for `inner` and for `down`.
struct CynExperts {
  const CynLinear* inner;  // [num_experts], gated or not
  const CynLinear* down;   // [num_experts]
};

struct CynExpertsCall {
  std::int64_t num_rows;
  std::int64_t way;
  const void* x;
  std::int64_t type;          // of x, shared, residual and out: float32 or bfloat16
  std::int64_t x_stride;
  std::int64_t norm;
  const float* norm_weight;
  const float* norm_bias;
  double norm_eps;
  std::int64_t activation;
  CynRouting routing;
  const float* logits;        // [num_rows][num_experts]
  const void* shared;         // or null
  std::int64_t shared_stride;
  const float* shared_gate;   // [num_rows], or null
  const void* residual;       // or null
  std::int64_t residual_stride;
  void* out;                  // may be x or residual
  std::int64_t out_stride;
  std::int64_t* chosen;       // [num_rows][num_chosen], written
  float* weights;             // [num_rows][num_chosen], written
};

}  // extern "C"
