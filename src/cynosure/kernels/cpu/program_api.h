// A pass as a list of kernel calls, run by one call: a decoding step enters the library once, not five times a
// layer. Knows nothing of graphs. Every field has 8 bytes; kernels/program.py mirrors the structs.
#pragma once

#include <cstdint>

#include "attention_api.h"
#include "experts_api.h"
#include "kv_write_api.h"
#include "linear_api.h"
#include "page_choice_api.h"

enum CynKind : std::int64_t {
  CYN_RUN_LINEAR = 0,
  CYN_RUN_NORM = 1,
  CYN_RUN_KV_WRITE = 2,
  CYN_RUN_ATTEND = 3,
  CYN_RUN_EXPERTS = 4,
};

// out = norm(x) * weight + bias + residual, for `num_parts` parts of `width` columns in each row, such as the heads
// of a query: part p of row r begins at r * stride + p * width. x, residual and out are of one type, float32 or
// bfloat16, and may be the same memory.
struct CynNormCall {
  std::int64_t num_rows, num_parts, width, type;
  const void* x;
  std::int64_t x_stride;
  std::int64_t norm;  // CYN_RMS_NORM or CYN_LAYER_NORM
  const float* weight;
  const float* bias;  // or null
  double eps;
  const void* residual;  // or null
  std::int64_t residual_stride;
  void* out;
  std::int64_t out_stride;
};

// What is observed of one layer, as AttentionCall says it.
struct CynSeen {
  std::int64_t num_watched;  // 0: nothing
  const std::int64_t* watched_heads;
  float* mass;
  float* mean_score;
};

// One layer's pages, and what is observed: what differs between attention calls of layers that are alike.
struct CynPages {
  const void* k;
  const void* v;
  const float* k_scale;  // or null
  const float* v_scale;
  CynSeen seen;
  const cynosure::PageChoice* choice;  // null: all pages are attended to
};

// One call of a pass: `what` is computed `on`.
//
//   CYN_RUN_LINEAR     CynLinearCall   CynLinear
//   CYN_RUN_NORM       CynNormCall     null
//   CYN_RUN_KV_WRITE   KvWriteCall     null
//   CYN_RUN_ATTEND     AttentionCall   CynPages, which take the place of the call's own
//   CYN_RUN_EXPERTS    CynExpertsCall  CynExperts
struct CynStep {
  std::int64_t kind;
  const void* what;
  const void* on;
  std::int64_t nanoseconds;  // that it took, written where the run is timed
};
