// Windows of images, channels last: taken out of an image, and added back into it.
#include "device.h"

namespace throughtime {
namespace {

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

  int64_t window() const { return kernel_h * kernel_w * channels; }
};

// in: x [n, height, width, channels]; out: y [n, down, across, kernel_h, kernel_w, channels]
void unfold(const Args& args, Device* device) {
  const Windows w(args.ints);
  const float* image = data(args.in[0]);
  float* windows = data(args.out[0]);
  for_each(device, w.n * w.down * w.across * w.window(), [=] __device__(int64_t place) {
    int64_t rest = place;
    const int64_t c = rest % w.channels;
    rest /= w.channels;
    const int64_t q = rest % w.kernel_w;
    rest /= w.kernel_w;
    const int64_t p = rest % w.kernel_h;
    rest /= w.kernel_h;
    const int64_t j = rest % w.across;
    rest /= w.across;
    const int64_t i = rest % w.down, plane = rest / w.down;
    const int64_t y = i * w.stride_h - w.top + p * w.dilation_h, x = j * w.stride_w - w.left + q * w.dilation_w;
    const bool inside = y >= 0 && y < w.height && x >= 0 && x < w.width;
    windows[place] = inside ? image[((plane * w.height + y) * w.width + x) * w.channels + c] : 0.0f;
  });
}

// in: y [n, down, across, kernel_h, kernel_w, channels]; out: x [n, height, width, channels]
// Each element of the image takes what windows have of it, in order.
void fold(const Args& args, Device* device) {
  const Windows w(args.ints);
  const float* windows = data(args.in[0]);
  float* image = data(args.out[0]);
  for_each(device, w.n * w.height * w.width * w.channels, [=] __device__(int64_t place) {
    const int64_t c = place % w.channels, x = place / w.channels % w.width;
    const int64_t y = place / w.channels / w.width % w.height, plane = place / w.channels / w.width / w.height;
    float sum = 0.0f;
    for (int64_t p = 0; p < w.kernel_h; p++) {
      const int64_t above = y + w.top - p * w.dilation_h;
      if (above < 0 || above % w.stride_h != 0 || above / w.stride_h >= w.down) continue;
      for (int64_t q = 0; q < w.kernel_w; q++) {
        const int64_t before = x + w.left - q * w.dilation_w;
        if (before < 0 || before % w.stride_w != 0 || before / w.stride_w >= w.across) continue;
        const int64_t window = (plane * w.down + above / w.stride_h) * w.across + before / w.stride_w;
        sum += windows[((window * w.kernel_h + p) * w.kernel_w + q) * w.channels + c];
      }
    }
    image[place] = sum;
  });
}

const KernelEntry entries[] = {
    {"unfold", unfold, 0},
    {"fold", fold, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(conv, entries)
