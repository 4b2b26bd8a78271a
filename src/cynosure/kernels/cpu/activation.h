// The activations of feed-forward layers, sixteen at a time. Knows nothing of layers.
#pragma once

#include "lanes.h"
#include "linear_api.h"

namespace cynosure {
namespace CYN_VARIANT {

// e ** x within 2 ulp (the reduction and polynomial of Cephes' expf); 0 and infinity are approached, not reached.
CYN_INLINE Lanes exponential(Lanes x) {
  x = larger(fill(-87.3F), smaller(fill(88.3F), x));
  const Ints power = to_ints(mul(x, fill(1.44269504088896341F)));
  const Lanes whole = to_floats(power);
  Lanes rest = fma(whole, fill(-0.693359375F), x);
  rest = fma(whole, fill(2.12194440e-4F), rest);
  Lanes series = fill(1.9875691500e-4F);
  series = fma(series, rest, fill(1.3981999507e-3F));
  series = fma(series, rest, fill(8.3334519073e-3F));
  series = fma(series, rest, fill(4.1665795894e-2F));
  series = fma(series, rest, fill(1.6666665459e-1F));
  series = fma(series, rest, fill(5.0000001201e-1F));
  series = fma(mul(series, rest), rest, add(rest, fill(1.0F)));
  return mul(series, exponent(power));
}

// x * sigmoid(scale * x)
CYN_INLINE Lanes gated_by_sigmoid(Lanes x, Lanes argument) {
  return div(x, add(fill(1.0F), exponential(sub(fill(0.0F), argument))));
}

// Abramowitz and Stegun 7.1.26: within 1.5e-7.
CYN_INLINE Lanes error_function(Lanes x) {
  const Lanes size = absolute(x);
  const Lanes t = div(fill(1.0F), fma(size, fill(0.3275911F), fill(1.0F)));
  Lanes series = fill(1.061405429F);
  series = fma(series, t, fill(-1.453152027F));
  series = fma(series, t, fill(1.421413741F));
  series = fma(series, t, fill(-0.284496736F));
  series = fma(series, t, fill(0.254829592F));
  const Lanes rest = mul(mul(series, t), exponential(sub(fill(0.0F), mul(size, size))));
  return with_sign(sub(fill(1.0F), rest), x);
}

CYN_INLINE Lanes activated(std::int64_t kind, Lanes x) {
  switch (kind) {
    case CYN_SILU:
      return gated_by_sigmoid(x, x);
    case CYN_GELU: {
      const Lanes half = mul(x, fill(0.5F));
      return fma(half, error_function(mul(x, fill(0.70710678118654752F))), half);
    }
    case CYN_GELU_TANH: {
      // 0.5 * (1 + tanh(u)) is sigmoid(2 u).
      const Lanes cubic = mul(mul(x, x), fill(0.044715F));
      const Lanes twice = mul(mul(x, fill(1.5957691216057308F)), add(cubic, fill(1.0F)));
      return gated_by_sigmoid(x, twice);
    }
    case CYN_RELU:
      return larger(fill(0.0F), x);
    default:
      return x;
  }
}

}  // namespace CYN_VARIANT
}  // namespace cynosure
