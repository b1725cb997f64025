// The windows of a convolution, taken out of an image and added back into it.
#include "isa.h"
#include "parallel.h"
#include "simd.h"

namespace throughtime {
namespace {

constexpr size_t kGrain = 32768;  // elements worth a thread of their own

// ints [N, C, input, output, kernel, stride, dilation, zeros in front], the last six as height, width.
struct Windows {
  int64_t n, channels, height, width, down, across, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top,
      left;

  explicit Windows(const int32_t* v)
      : n(v[0]),
        channels(v[1]),
        height(v[2]),
        width(v[3]),
        down(v[4]),
        across(v[5]),
        kernel_h(v[6]),
        kernel_w(v[7]),
        stride_h(v[8]),
        stride_w(v[9]),
        dilation_h(v[10]),
        dilation_w(v[11]),
        top(v[12]),
        left(v[13]) {}

  int64_t row() const { return kernel_w * channels; }     // one row of a window
  int64_t window() const { return kernel_h * row(); }     // one window
  int64_t image_row() const { return width * channels; }  // one row of the image

  // Elements [first, last) of a window's row that lie in the image, if that row starts at column x; undilated.
  void inside(int64_t x, int64_t* first, int64_t* last) const {
    *first = x < 0 ? (-x < kernel_w ? -x : kernel_w) : 0;
    *last = x + kernel_w > width ? (width > x ? width - x : 0) : kernel_w;
    if (*last < *first) *last = *first;
  }
};

// y += x
void accumulate(float* y, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(y + i) + load(x + i));
  for (; i < n; i++) y[i] += x[i];
}

// One row of a window at column x of an image's row: body(elements of the window from, of the image from, count).
template <class F>
void pieces(const Windows& w, int64_t x, const F& body) {
  const int64_t c = w.channels;
  if (w.dilation_w == 1) {
    int64_t first, last;
    w.inside(x, &first, &last);
    if (last > first) body(first * c, (x + first) * c, (last - first) * c);
    return;
  }
  for (int64_t q = 0; q < w.kernel_w; q++) {
    const int64_t at = x + q * w.dilation_w;
    if (at >= 0 && at < w.width) body(q * c, at * c, c);
  }
}

// in: x [n, height, width, channels]; out: y [n, down, across, kernel_h, kernel_w, channels]
void unfold(const Args& args, Device* device) {
  const Windows w(args.ints);
  const float* image = static_cast<const float*>(args.in[0]->data);
  float* windows = static_cast<float*>(args.out[0]->data);
  const int64_t line = w.across * w.window();
  for_range(device, w.n * w.down, 1 + kGrain / (line + 1), [=](size_t begin, size_t end) {
    for (size_t unit = begin; unit < end; unit++) {
      const int64_t plane = unit / w.down, i = unit % w.down;
      float* to = windows + unit * line;
      for (int64_t j = 0; j < w.across; j++) {
        for (int64_t p = 0; p < w.kernel_h; p++, to += w.row()) {
          const int64_t y = i * w.stride_h - w.top + p * w.dilation_h;
          const int64_t x = j * w.stride_w - w.left;
          const bool whole = w.dilation_w == 1 && x >= 0 && x + w.kernel_w <= w.width;
          if (y < 0 || y >= w.height || !whole) __builtin_memset(to, 0, w.row() * sizeof(float));
          if (y < 0 || y >= w.height) continue;
          const float* from = image + (plane * w.height + y) * w.image_row();
          pieces(w, x, [=](int64_t at, int64_t source, int64_t count) {
            __builtin_memcpy(to + at, from + source, count * sizeof(float));
          });
        }
      }
    }
  });
}

// in: y [n, down, across, kernel_h, kernel_w, channels]; out: x [n, height, width, channels]
// A row of the image belongs to one thread and takes its windows in order, so the sums are the same on any number.
void fold(const Args& args, Device* device) {
  const Windows w(args.ints);
  const float* windows = static_cast<const float*>(args.in[0]->data);
  float* image = static_cast<float*>(args.out[0]->data);
  const size_t work = w.n * w.down * w.across * w.window();
  const size_t rows = w.n * w.height;
  for_range(device, rows, 1 + kGrain * (rows + 1) / (work + 1), [=](size_t begin, size_t end) {
    for (size_t unit = begin; unit < end; unit++) {
      const int64_t plane = unit / w.height, y = unit % w.height;
      float* to = image + unit * w.image_row();
      __builtin_memset(to, 0, w.image_row() * sizeof(float));
      for (int64_t p = 0; p < w.kernel_h; p++) {
        const int64_t above = y + w.top - p * w.dilation_h;
        if (above < 0 || above % w.stride_h != 0 || above / w.stride_h >= w.down) continue;
        const float* line = windows + (plane * w.down + above / w.stride_h) * w.across * w.window() + p * w.row();
        for (int64_t j = 0; j < w.across; j++) {
          const float* from = line + j * w.window();
          pieces(w, j * w.stride_w - w.left,
                 [=](int64_t at, int64_t target, int64_t count) { accumulate(to + target, from + at, count); });
        }
      }
    }
  });
}

const KernelEntry entries[] = {
    {"unfold", unfold, 0},
    {"fold", fold, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(conv, entries)
