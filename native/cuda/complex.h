// Complex numbers, as they lie in memory: real part first.
#pragma once
#include "simt.h"

namespace throughtime {
namespace {

struct alignas(8) Complex {
  float re, im;
};
DEVICE Complex operator+(Complex x, Complex y) { return {x.re + y.re, x.im + y.im}; }
DEVICE Complex operator-(Complex x, Complex y) { return {x.re - y.re, x.im - y.im}; }
DEVICE Complex operator*(Complex x, Complex y) { return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re}; }
DEVICE Complex operator*(Complex x, float y) { return {x.re * y, x.im * y}; }
DEVICE Complex conj(Complex x) { return {x.re, -x.im}; }
// Re(conj(x) y)
DEVICE float inner(Complex x, Complex y) { return x.re * y.re + x.im * y.im; }

}  // namespace
}  // namespace throughtime
