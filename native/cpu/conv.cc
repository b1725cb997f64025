// Convolutions of images, channels last, and their windows alone: taken out of an image, and added back into it.
#include "isa.h"

#include "gemm.h"
#include "parallel.h"
#include "team.h"

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

// Window `index` of the n * down * across there are.
void take_window(const Windows& w, const float* image, int64_t index, float* to) {
  const int64_t j = index % w.across, i = index / w.across % w.down, plane = index / w.across / w.down;
  const int64_t x = j * w.stride_w - w.left;
  const bool whole = w.dilation_w == 1 && x >= 0 && x + w.kernel_w <= w.width;
  for (int64_t p = 0; p < w.kernel_h; p++, to += w.row()) {
    const int64_t y = i * w.stride_h - w.top + p * w.dilation_h;
    const bool outside = y < 0 || y >= w.height;
    if (outside || !whole) clear(to, w.row());
    if (outside) continue;
    const float* from = image + (plane * w.height + y) * w.image_row();
    pieces(w, x, [=](int64_t at, int64_t source, int64_t count) { copy(to + at, from + source, count); });
  }
}

// The same window of one image, added to where it was taken from.
void add_window(const Windows& w, const float* from, int64_t index, float* image) {
  const int64_t j = index % w.across, i = index / w.across;
  for (int64_t p = 0; p < w.kernel_h; p++, from += w.row()) {
    const int64_t y = i * w.stride_h - w.top + p * w.dilation_h;
    if (y < 0 || y >= w.height) continue;
    float* to = image + y * w.image_row();
    pieces(w, j * w.stride_w - w.left,
           [=](int64_t at, int64_t target, int64_t count) { accumulate(to + target, from + at, count); });
  }
}

// in: x [n, height, width, channels]; out: y [n, down, across, kernel_h, kernel_w, channels]
void unfold(const Args& args, Device* device) {
  const Windows w(args.ints);
  const float* image = static_cast<const float*>(args.in[0]->data);
  float* windows = static_cast<float*>(args.out[0]->data);
  for_range(device, w.n * w.down * w.across, 1 + kGrain / (w.window() + 1), [=](size_t begin, size_t end) {
    for (size_t index = begin; index < end; index++) take_window(w, image, index, windows + index * w.window());
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
      clear(to, w.image_row());
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

// Windows are taken out a few at a time, into memory that stays in the caches, and multiplied there.
struct Conv {
  Windows w;
  int64_t out;    // channels of y
  int64_t chunk;  // windows at a time
  const float *image, *weight, *bias, *dy;
  float *y, *dx, *dweight, *dbias;
  float* panels;  // the weight packed for the product at hand
  bool fresh;
  float* scratch;
  Device* device;

  explicit Conv(const Args& args, Device* on) : w(args.ints), out(args.ints[14]), device(on) {
    chunk = 65536 / (w.window() + 1) / KC * KC;
    chunk = chunk < KC ? KC : chunk;
  }

  int64_t windows() const { return w.n * w.down * w.across; }
  double flops() const { return 2.0 * windows() * w.window() * out; }

  // B of y = windows * weight, or of dwindows = dy * weight^T.
  Gemm product(bool transposed) const {
    Gemm g = {};
    g.n = transposed ? w.window() : out;
    g.k = transposed ? out : w.window();
    g.b = {weight, out, nullptr};
    g.b_transposed = transposed;
    g.packed = panels;
    return g;
  }

  void pack(const Gemm& g, int rank, int ranks) const {
    if (!fresh) return;
    pack_b(panels, g.k * NR, g, 0, 0, g.k, Part(panels_of(g.n), rank, ranks));
    if (ranks > 1) device->barrier(device);
  }

  // Scratch of one thread: a chunk of windows, and the block that a product packs.
  int64_t apart() const { return chunk * w.window() + MC * A_STRIDE; }

  void forward(int rank, int ranks) const {
    Gemm g = product(false);
    pack(g, rank, ranks);
    float* taken = scratch + rank * apart();
    const Part mine(windows(), rank, ranks);
    for (int64_t r = mine.begin; r < mine.end; r += chunk) {
      g.m = least(chunk, mine.end - r);
      for (int64_t i = 0; i < g.m; i++) take_window(w, image, r + i, taken + i * w.window());
      g.a = {taken, w.window(), nullptr};
      g.c = y + r * out, g.c_stride = out;
      g.bias = bias;
      gemm_part(g, taken + chunk * w.window(), 0, 1);
    }
  }

  // Whole images to each thread: windows of one image overlap.
  void input_gradient(int rank, int ranks) const {
    Gemm g = product(true);
    pack(g, rank, ranks);
    float* gradient = scratch + rank * apart();
    const int64_t an_image = w.height * w.image_row(), of_image = w.down * w.across;
    const Part mine(w.n, rank, ranks);
    clear(dx + mine.begin * an_image, (mine.end - mine.begin) * an_image);
    for (int64_t plane = mine.begin; plane < mine.end; plane++)
      for (int64_t r = 0; r < of_image; r += chunk) {
        g.m = least(chunk, of_image - r);
        g.a = {dy + (plane * of_image + r) * out, out, nullptr};
        g.c = gradient, g.c_stride = w.window();
        gemm_part(g, gradient + chunk * w.window(), 0, 1);
        for (int64_t i = 0; i < g.m; i++) add_window(w, gradient + i * w.window(), r + i, dx + plane * an_image);
      }
  }

  Gemm weight_product() const {
    Gemm g = {};
    g.m = w.window(), g.n = out;
    g.a_transposed = true;
    g.c = dweight, g.c_stride = out;
    return g;
  }

  // dweight = windows^T dy, chunk after chunk in order; in each, threads share rows or columns of dweight.
  void weight_gradient(int rank, int ranks) const {
    Gemm g = weight_product();
    for (int64_t r = 0; r == 0 || r < windows(); r += chunk) {
      g.k = least(chunk, windows() - r);
      const Part mine(g.k, rank, ranks);
      for (int64_t i = mine.begin; i < mine.end; i++) take_window(w, image, r + i, scratch + i * w.window());
      if (ranks > 1) device->barrier(device);
      g.a = {scratch, w.window(), nullptr};
      g.b = {dy + r * out, out, nullptr};
      g.add = r > 0;
      gemm(g, scratch + chunk * w.window(), rank, ranks, device);
    }
  }

  // dbias = sum over windows of dy, in blocks, so that long sums lose less. Threads share the columns.
  void bias_gradient(float* partial) const {
    for_range(device, out, 1 + kGrain / (windows() + 1), [=](size_t begin, size_t end) {
      const int64_t width = end - begin;
      clear(dbias + begin, width);
      for (int64_t r = 0; r < windows(); r += KC) {
        clear(partial + begin, width);
        for (int64_t i = r; i < least(r + KC, windows()); i++) accumulate(partial + begin, dy + i * out + begin, width);
        accumulate(dbias + begin, partial + begin, width);
      }
    });
  }

  // Room for `pack`, and whether it is needed.
  void arrange(Buffer* buffer, bool transposed) {
    const Gemm g = product(transposed);
    const PackedKey key = transposed ? PACKED_TRANSPOSED : PACKED_NATURAL;
    panels = device->packed(device, buffer, packed_as(key, out), panels_of(g.n) * NR * g.k, &fresh);
  }

  template <void (Conv::*body)(int, int) const>
  void run(int ranks, int64_t scratch_size) {
    scratch = scratch_floats(device, scratch_size);
    device->parallel(
        device, ranks, [](void* self, int rank, int ranks) { (static_cast<const Conv*>(self)->*body)(rank, ranks); },
        this);
  }
};

float* floats_of(Buffer* b) { return b ? static_cast<float*>(b->data) : nullptr; }

// in: x [n, height, width, channels], weight [kernel_h, kernel_w, channels, out], bias [out] or none;
// out: y [n, down, across, out]. ints: those of Windows, then out.
void conv(const Args& args, Device* device) {
  Conv conv(args, device);
  conv.image = floats_of(args.in[0]), conv.weight = floats_of(args.in[1]), conv.bias = floats_of(args.in[2]);
  conv.y = floats_of(args.out[0]);
  conv.arrange(args.in[1], false);
  const int ranks = ranks_for(device, conv.flops());
  conv.run<&Conv::forward>(ranks, ranks * conv.apart());
}

// in: dy, x, weight, bias or none, y; out: dx, dweight, dbias, each or none.
void conv_backward(const Args& args, Device* device) {
  Conv conv(args, device);
  conv.dy = floats_of(args.in[0]), conv.image = floats_of(args.in[1]), conv.weight = floats_of(args.in[2]);
  conv.dx = floats_of(args.out[0]), conv.dweight = floats_of(args.out[1]), conv.dbias = floats_of(args.out[2]);
  const int ranks = ranks_for(device, conv.flops());
  if (conv.dx) {
    conv.arrange(args.in[2], true);
    const int images = (int)least(ranks, conv.w.n > 0 ? conv.w.n : 1);
    conv.run<&Conv::input_gradient>(images, images * conv.apart());
  }
  if (conv.dweight)
    conv.run<&Conv::weight_gradient>(ranks, conv.chunk * conv.w.window() + gemm_scratch(conv.weight_product(), ranks));
  if (conv.dbias) conv.bias_gradient(scratch_floats(device, conv.out));
}

const KernelEntry entries[] = {
    {"unfold", unfold, 0},
    {"fold", fold, 0},
    {"conv", conv, 0},
    {"conv.backward", conv_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(conv, entries)
