// The sweep of fused.h forward.
#pragma once
#include "fused.h"
#include "math.h"

#include "../cells/cell.h"

namespace throughtime {
namespace {

// A block's part of the work. Its product goes from h of all units to the gates of its own, gate after gate.
template <class Cell, class Product>
struct ForwardBlock {
  static constexpr int G = Cell::gates, S = Cell::states, K = Cell::saved, KEPT = K + S - 1;
  static constexpr int PAIRS = kMostUnits * kTile / kSweepThreads;  // (unit, row) of a tile, for a thread

  const FusedForward& a;
  const int units, tiles;
  const int64_t first_unit, first_row, hidden;
  const Product product;
  float *weights, *h, *partial, *own;

  DEVICE ForwardBlock(const FusedForward& a, Team team, int units, int tiles, int64_t first_unit, int64_t first_row)
      : a(a),
        units(units),
        tiles(tiles),
        first_unit(first_unit),
        first_row(first_row),
        hidden(a.hidden),
        product{(int64_t)G * units, a.hidden} {
    float* shared = shared_memory<float>();
    const FusedRoom room = forward_room(team, product, S, units, tiles);
    weights = shared, h = shared + room.exchange, partial = shared + room.partial, own = shared + room.own;
  }

  // Unit and row of a tile; lanes are neighbouring units.
  DEVICE int unit(int pair) const { return pair % units; }
  DEVICE int row(int pair) const { return pair / units; }
  DEVICE bool is_unit(int pair) const { return pair < units * kTile && first_unit + unit(pair) < hidden; }
  DEVICE float& state(int s, int tile, int pair) const { return own[(s * tiles + tile) * kTile * units + pair]; }

  DEVICE void load_weights() const {
    product.load(weights, [this](int64_t row, int64_t k) {
      const int64_t u = first_unit + row % units;
      return u < hidden ? a.weight[(row / units * hidden + u) * hidden + k] : 0.0f;
    });
  }

  // The initial h of a tile's rows, all units.
  DEVICE void load_initial(int tile, float* to) const {
    for (int64_t i = threadIdx.x; i < hidden * kTile; i += blockDim.x) {
      const int64_t r = i / hidden, k = i % hidden, n = first_row + tile * kTile + r;
      product.put(to, k, (int)r, a.initial[0] && n < a.n ? a.initial[0][n * hidden + k] : 0.0f);
    }
  }
  DEVICE void load_states() const {
    for (int tile = 0; tile < tiles; tile++)
      for (int pair = threadIdx.x; pair < units * kTile; pair += blockDim.x) {
        const int64_t n = first_row + tile * kTile + row(pair), u = first_unit + unit(pair);
        for (int s = 0; s < S; s++)
          state(s, tile, pair) = a.initial[s] && n < a.n && u < hidden ? a.initial[s][n * hidden + u] : 0.0f;
      }
  }

  // W x of this thread's pairs, asked for before the product that they wait for anyway.
  DEVICE void prefetch(int tile, int64_t step, float wx[PAIRS][G]) const {
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      const int pair = threadIdx.x + i * kSweepThreads;
      if (!is_unit(pair)) continue;
      const Row at = row_of(a, first_row + tile * kTile + row(pair));
      if (step >= at.length) continue;
      const float* from = a.wx + place_of(a, at, step) * G * hidden + first_unit + unit(pair);
#pragma unroll
      for (int g = 0; g < G; g++) wx[i][g] = from[g * hidden];
    }
  }

  // The cell, for this thread's pairs of a tile. `tell(pair, h)` hands on what the next step multiplies.
  template <class Tell>
  DEVICE void step_cells(int tile, int64_t step, float wx[PAIRS][G], const Tell& tell) const {
    const int slices = product.slices();
    const int64_t width = product.width();
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      const int pair = threadIdx.x + i * kSweepThreads;
      if (!is_unit(pair)) continue;
      const Row at = row_of(a, first_row + tile * kTile + row(pair));
      if (step < at.length) {
        const int64_t u = first_unit + unit(pair), place = place_of(a, at, step);
        float rh[G], prev[S], next[S], keep[K + 1];
#pragma unroll
        for (int g = 0; g < G; g++) {
          float sum = a.bias ? a.bias[g * hidden + u] : 0.0f;
          for (int slice = 0; slice < slices; slice++)
            sum += partial[(slice * kTile + row(pair)) * width + g * units + unit(pair)];
          rh[g] = sum;
        }
#pragma unroll
        for (int s = 0; s < S; s++) prev[s] = state(s, tile, pair);
        Cell::forward(wx[i], rh, prev, next, keep, NoStages());
#pragma unroll
        for (int s = 0; s < S; s++) state(s, tile, pair) = next[s];
        a.output[place * hidden + u] = next[0];
        if (a.saved) {
          const int first = a.states_only ? 0 : K;
          float* to = a.saved + place * (first + S - 1) * hidden + u;
#pragma unroll
          for (int k = 0; k < K; k++)
            if (!a.states_only) to[k * hidden] = keep[k];
#pragma unroll
          for (int s = 1; s < S; s++) to[(first + s - 1) * hidden] = next[s];
        }
      }
      tell(pair, state(0, tile, pair));
    }
  }

  // Final states, and zeros behind the rows' ends.
  DEVICE void finish() const {
    for (int tile = 0; tile < tiles; tile++)
      for (int pair = threadIdx.x; pair < units * kTile; pair += blockDim.x) {
        const Row at = row_of(a, first_row + tile * kTile + row(pair));
        const int64_t u = first_unit + unit(pair);
        if (!at.there || u >= hidden) continue;
        for (int s = 0; s < S; s++) a.final[s][at.n * hidden + u] = state(s, tile, pair);
        for (int64_t t = at.length; t < a.steps; t++) a.output[(at.n * a.steps + t) * hidden + u] = 0.0f;
      }
  }
};

template <class Cell, class Product, Team Kind>
KERNEL void __launch_bounds__(kSweepThreads, 1) sweep_forward(FusedForward a, TeamPlan plan, Exchange exchange) {
  using Block = ForwardBlock<Cell, Product>;
  const Member<Kind> me(plan.blocks);
  const Block block(a, Kind, plan.units, plan.tiles, (int64_t)me.rank * plan.units, me.team * plan.tiles * kTile);
  const Product& product = block.product;
  const int64_t size = product.operand_floats();
  const int64_t steps = longest_of(a, block.first_row, (int64_t)plan.tiles * kTile);
  // What the others must be told, in whole eights: past the last unit there is room, and zeros.
  const int64_t left = whole(a.hidden, 8) - block.first_unit;
  const int64_t owned = left < 0 ? 0 : left < plan.units ? left : plan.units;
  // h of every unit for a tile at a step. Blocks of a cluster have it all; the grid's fetch it.
  const auto h_at = [&](int64_t step, int tile) { return block.h + ((step % 2) * plan.tiles + tile) * size; };
  const auto told_at = [&](int64_t step, int tile) {
    return exchange.numbers + ((step % 2) * plan.tiles + tile) * size;
  };
  block.load_weights();
  block.load_states();
  for (int i = 0; i < (Kind == Team::GRID ? 1 : 2 * plan.tiles); i++) product.clear(block.h + i * size);
  block_sync();
  if (Kind != Team::GRID)
    for (int tile = 0; tile < plan.tiles; tile++) block.load_initial(tile, h_at(0, tile));
  if (Kind == Team::CLUSTER) cluster_arrive(), cluster_wait();
  block_sync();
  for (int64_t step = 0; step < steps; step++) {
    for (int tile = 0; tile < plan.tiles; tile++) {
      float wx[Block::PAIRS][Block::G];
      block.prefetch(tile, step, wx);
      const float* h = block.h;
      if constexpr (Kind != Team::GRID) {
        h = h_at(step, tile);
      } else {
        if (step == 0)
          block.load_initial(tile, block.h);
        else
          product.for_fours(0, whole(a.hidden, 8), [&](int64_t i) {
            reinterpret_cast<float4*>(block.h)[i] =
                load_shared_by_grid(reinterpret_cast<const float4*>(told_at(step, tile)) + i);
          });
        block_sync();
      }
      product.multiply(block.weights, h, block.partial);
      block_sync();
      float* next = Kind == Team::GRID ? told_at(step + 1, tile) : h_at(step + 1, tile);
      block.step_cells(tile, step, wx, [&](int pair, float value) {
        product.put(next, block.first_unit + block.unit(pair), block.row(pair), value);
      });
      if (Kind != Team::BLOCK || tile + 1 < plan.tiles) block_sync();
      if constexpr (Kind == Team::CLUSTER)
        for (int by = 1; by < plan.blocks; by++) {
          float4* there = reinterpret_cast<float4*>(cluster_map(next, (me.rank + by) % plan.blocks));
          product.for_fours(block.first_unit, owned,
                            [&](int64_t i) { there[i] = reinterpret_cast<const float4*>(next)[i]; });
        }
    }
    if (!me.meet(exchange, (unsigned)step + 1)) return;
  }
  block.finish();
}

template <class Cell, class Product>
void launch_forward_with(Device* device, const FusedForward& a, const TeamPlan& plan) {
  const Product product = {(int64_t)Cell::gates * plan.units, a.hidden};
  const Exchange exchange = exchange_for(device, plan, (size_t)2 * plan.tiles * product.operand_floats());
  with_team(plan, [&](auto kind) {
    launch(device, shape_of(plan), sweep_forward<Cell, Product, decltype(kind)::value>, a, plan, exchange);
  });
}

template <class Cell>
void launch_forward(Device* device, const FusedForward& a, const TeamPlan& plan) {
  a.bf16 ? launch_forward_with<Cell, Bf16Product>(device, a, plan)
         : launch_forward_with<Cell, FloatProduct>(device, a, plan);
}

}  // namespace
}  // namespace throughtime
