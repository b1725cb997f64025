// The sweep of fused.h forward.
#pragma once
#include "fused.h"
#include "math.h"

#include "../cells/cell.h"

namespace throughtime {
namespace {

// Numbers of a cell's gates for one unit and step, or a part of their sums over h.
template <class Cell>
struct ForwardBlock {
  static constexpr int G = Cell::gates, S = Cell::states, K = Cell::saved, KEPT = K + S - 1;
  static constexpr int PAIRS = kMostUnits * kTile / kSweepThreads;  // (unit, row) of a tile, for a thread

  const FusedForward& a;
  const int units, tiles, slices;
  const int64_t first_unit, first_row, hidden;
  float *weights, *h, *partial, *own;

  DEVICE ForwardBlock(const FusedForward& a, Team team, int units, int tiles, int64_t first_unit, int64_t first_row)
      : a(a),
        units(units),
        tiles(tiles),
        slices(kSweepThreads / units),
        first_unit(first_unit),
        first_row(first_row),
        hidden(a.hidden) {
    float* shared = shared_memory<float>();
    const FusedRoom room = forward_room(team, G, S, hidden, units, tiles);
    weights = shared, h = shared + room.exchange, partial = shared + room.partial, own = shared + room.own;
  }

  // Unit and row of a tile; lanes are neighbouring units.
  DEVICE int unit(int pair) const { return pair % units; }
  DEVICE int row(int pair) const { return pair / units; }
  DEVICE bool is_unit(int pair) const { return pair < units * kTile && first_unit + unit(pair) < hidden; }
  DEVICE float& state(int s, int tile, int pair) const { return own[(s * tiles + tile) * kTile * units + pair]; }

  // [hidden][units][G], zero past the last unit
  DEVICE void load_weights() const {
    for (int64_t i = threadIdx.x; i < hidden * units * G; i += blockDim.x) {
      // neighbouring threads read neighbouring columns
      const int64_t k = i % hidden, u = i / hidden % units, g = i / hidden / units;
      weights[(k * units + u) * G + g] =
          first_unit + u < hidden ? a.weight[(g * hidden + first_unit + u) * hidden + k] : 0.0f;
    }
  }

  // The initial h of a tile's rows, all units: [hidden][kTile].
  DEVICE void load_initial(int tile, float* to) const {
    for (int64_t i = threadIdx.x; i < hidden * kTile; i += blockDim.x) {
      const int64_t r = i / hidden, k = i % hidden, n = first_row + tile * kTile + r;
      to[k * kTile + r] = a.initial[0] && n < a.n ? a.initial[0][n * hidden + k] : 0.0f;
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

  // This thread's part of U h for one unit and all rows of a tile.
  DEVICE void multiply(const float* tile_h) const {
    const int u = threadIdx.x % units, slice = threadIdx.x / units;
    if (slice >= slices) return;
    float sum[G][kTile];
    for (int g = 0; g < G; g++)
      for (int r = 0; r < kTile; r++) sum[g][r] = 0.0f;
    for (int64_t k = slice; k < hidden; k += slices) {
      const float* w = weights + (k * units + u) * G;
      const float4 low = *reinterpret_cast<const float4*>(tile_h + k * kTile);
      const float4 high = *reinterpret_cast<const float4*>(tile_h + k * kTile + 4);
      float wg[G];
      if constexpr (G == 4) {
        const float4 four = *reinterpret_cast<const float4*>(w);
        wg[0] = four.x, wg[1] = four.y, wg[2] = four.z, wg[3] = four.w;
      } else {
#pragma unroll
        for (int g = 0; g < G; g++) wg[g] = w[g];
      }
#pragma unroll
      for (int g = 0; g < G; g++) {
        sum[g][0] += wg[g] * low.x, sum[g][1] += wg[g] * low.y, sum[g][2] += wg[g] * low.z, sum[g][3] += wg[g] * low.w;
        sum[g][4] += wg[g] * high.x, sum[g][5] += wg[g] * high.y, sum[g][6] += wg[g] * high.z;
        sum[g][7] += wg[g] * high.w;
      }
    }
    float* to = partial + (int64_t)slice * G * kTile * units + u;
#pragma unroll
    for (int g = 0; g < G; g++)
#pragma unroll
      for (int r = 0; r < kTile; r++) to[(g * kTile + r) * units] = sum[g][r];
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
          for (int slice = 0; slice < slices; slice++) sum += partial[(slice * G + g) * kTile * units + pair];
          rh[g] = sum;
        }
#pragma unroll
        for (int s = 0; s < S; s++) prev[s] = state(s, tile, pair);
        Cell::forward(wx[i], rh, prev, next, keep, NoStages());
#pragma unroll
        for (int s = 0; s < S; s++) state(s, tile, pair) = next[s];
        a.output[place * hidden + u] = next[0];
        if (a.saved) {
          float* to = a.saved + place * KEPT * hidden + u;
#pragma unroll
          for (int k = 0; k < K; k++) to[k * hidden] = keep[k];
#pragma unroll
          for (int s = 1; s < S; s++) to[(K + s - 1) * hidden] = next[s];
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

template <class Cell, Team Kind>
KERNEL void __launch_bounds__(kSweepThreads, 1) sweep_forward(FusedForward a, TeamPlan plan, Exchange exchange) {
  using Block = ForwardBlock<Cell>;
  const Member<Kind> me(plan.blocks);
  const Block block(a, Kind, plan.units, plan.tiles, (int64_t)me.rank * plan.units, me.team * plan.tiles * kTile);
  const int64_t size = a.hidden * kTile, mine = block.first_unit * kTile;
  const int64_t steps = longest_of(a, block.first_row, (int64_t)plan.tiles * kTile);
  const int64_t left = a.hidden - block.first_unit;
  const int owned = left < 0 ? 0 : left < plan.units ? (int)left : plan.units;
  block.load_weights();
  block.load_states();
  // h of every unit for a tile at a step. Blocks of a cluster have it all; the grid's fetch it.
  const auto h_at = [&](int64_t step, int tile) { return block.h + ((step % 2) * plan.tiles + tile) * size; };
  const auto told_at = [&](int64_t step, int tile) {
    return exchange.numbers + ((step % 2) * plan.tiles + tile) * size;
  };
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
          for (int64_t i = threadIdx.x; i < size / 4; i += blockDim.x)
            reinterpret_cast<float4*>(block.h)[i] =
                load_shared_by_grid(reinterpret_cast<const float4*>(told_at(step, tile)) + i);
        block_sync();
      }
      block.multiply(h);
      block_sync();
      float* next = Kind == Team::GRID ? told_at(step + 1, tile) : h_at(step + 1, tile);
      block.step_cells(tile, step, wx,
                       [&](int pair, float value) { next[mine + block.unit(pair) * kTile + block.row(pair)] = value; });
      if (Kind != Team::BLOCK || tile + 1 < plan.tiles) block_sync();
      if constexpr (Kind == Team::CLUSTER) {
        const int fours = owned * kTile / 4;
        for (int i = threadIdx.x; i < fours * (plan.blocks - 1); i += blockDim.x) {
          const int other = (me.rank + 1 + i / fours) % plan.blocks;
          const int64_t at = mine / 4 + i % fours;
          reinterpret_cast<float4*>(cluster_map(next, other))[at] = reinterpret_cast<float4*>(next)[at];
        }
      }
    }
    if (!me.meet(exchange, (unsigned)step + 1)) return;
  }
  block.finish();
}

template <class Cell>
void launch_forward(Device* device, const FusedForward& a, const TeamPlan& plan) {
  const Exchange exchange = exchange_for(device, plan, (size_t)2 * plan.tiles * kTile * a.hidden);
  Shape shape = {dim3((unsigned)(plan.teams * plan.blocks)), dim3(kSweepThreads), plan.shared};
  if (plan.team == Team::BLOCK) return launch(device, shape, sweep_forward<Cell, Team::BLOCK>, a, plan, exchange);
  shape.cluster = plan.team == Team::CLUSTER ? plan.blocks : 1;
  shape.cooperative = plan.team == Team::GRID;
  if (plan.team == Team::CLUSTER)
    launch(device, shape, sweep_forward<Cell, Team::CLUSTER>, a, plan, exchange);
  else
    launch(device, shape, sweep_forward<Cell, Team::GRID>, a, plan, exchange);
}

}  // namespace
}  // namespace throughtime
