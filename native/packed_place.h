// Where the arrangement of a buffer under a key is kept; see Device::packed.
#pragma once
#include "kernels.h"

namespace throughtime {

// The entry of this key, else an empty one, else the one that was made from the oldest version.
inline Packed* place_for(Buffer* buffer, int64_t key) {
  Packed* best = buffer->packed;
  for (Packed& entry : buffer->packed) {
    if (entry.data && entry.key == key) return &entry;
    if (best->data && (!entry.data || entry.version < best->version)) best = &entry;
  }
  return best;
}

// `grow(bytes)` gives memory or throws, `drop(data, bytes)` takes it back.
template <class Grow, class Drop>
float* packed_for(Buffer* buffer, int64_t key, size_t floats, bool* fresh, const Grow& grow, const Drop& drop) {
  Packed* place = place_for(buffer, key);
  const bool fits = place->data && place->key == key && place->floats >= floats;
  *fresh = !fits || place->version != buffer->version;
  if (!fits) {
    float* memory = static_cast<float*>(grow(floats * sizeof(float)));
    if (place->data) drop(place->data, place->floats * sizeof(float));
    *place = {0, key, memory, floats};
  }
  place->version = buffer->version;
  return place->data;
}

}  // namespace throughtime
