// The sweep of fused.h backward: the gradients of every gate at every step, and of the initial states. What they make
// of weights and inputs is left to products over all steps at once.
#pragma once
#include "fused.h"
#include "math.h"

#include "../cells/cell.h"

namespace throughtime {
namespace {

// A block's part of the work. Its product goes from the gates of its units to h of all units.
template <class Cell, class Product>
struct BackwardBlock {
  static constexpr int G = Cell::gates, S = Cell::states, K = Cell::saved, KEPT = K + S - 1;

  const FusedBackward& a;
  const int units, tiles, blocks;
  const int64_t first_unit, first_row, hidden;
  const Product product;
  float *weights, *inbox, *gates, *partial, *own;

  DEVICE BackwardBlock(const FusedBackward& a, Team team, const TeamPlan& plan, int64_t first_unit, int64_t first_row)
      : a(a),
        units(plan.units),
        tiles(plan.tiles),
        blocks(plan.blocks),
        first_unit(first_unit),
        first_row(first_row),
        hidden(a.hidden),
        product{a.hidden, (int64_t)G * units} {
    float* shared = shared_memory<float>();
    const FusedRoom room = backward_room(team, product, S, units, tiles, blocks);
    weights = shared, inbox = shared + room.exchange, gates = shared + room.partial, own = shared + room.own;
    partial = gates + product.operand_floats();
  }

  DEVICE int unit(int pair) const { return pair % units; }
  DEVICE int row(int pair) const { return pair / units; }
  DEVICE bool is_unit(int pair) const { return pair < units * kTile && first_unit + unit(pair) < hidden; }
  // The gradient of a state before a step, but for what comes through the recurrent product.
  DEVICE float& carry(int s, int tile, int pair) const { return own[(s * tiles + tile) * kTile * units + pair]; }

  DEVICE void load_weights() const {
    product.load(weights, [this](int64_t k, int64_t row) {
      const int64_t u = first_unit + row % units;
      return u < hidden ? a.weight[(row / units * hidden + u) * hidden + k] : 0.0f;
    });
    product.clear(gates);
  }
  DEVICE void load_carries() const {
    for (int tile = 0; tile < tiles; tile++)
      for (int pair = threadIdx.x; pair < units * kTile; pair += blockDim.x) {
        const int64_t n = first_row + tile * kTile + row(pair), u = first_unit + unit(pair);
        for (int s = 0; s < S; s++)
          carry(s, tile, pair) = a.dfinal[s] && n < a.n && u < hidden ? a.dfinal[s][n * hidden + u] : 0.0f;
      }
  }

  // A state as the cell was given it, or, with the step after, as it gave it.
  DEVICE float state_before(int s, const Row& at, int64_t step, int64_t u) const {
    if (step == 0) return a.initial[s] ? a.initial[s][at.n * hidden + u] : 0.0f;
    const int64_t place = place_of(a, at, step - 1);
    return s == 0 ? a.y[place * hidden + u] : a.saved[(place * KEPT + K + s - 1) * hidden + u];
  }

  // The cell, for this thread's pairs of a tile: gradients of the gates go to memory and, [G * units][kTile], to
  // `gates`.
  DEVICE void step_cells(int tile, int64_t step) const {
    for (int pair = threadIdx.x; pair < units * kTile; pair += blockDim.x) {
      const Row at = row_of(a, first_row + tile * kTile + row(pair));
      float dw[G] = {}, dr[G] = {};
      if (is_unit(pair) && step < at.length) {
        const int64_t u = first_unit + unit(pair), place = place_of(a, at, step);
        const float* from = a.saved + place * KEPT * hidden + u;
        float keep[K + 1], prev[S], next[S], dnext[S], dprev[S];
#pragma unroll
        for (int k = 0; k < K; k++) keep[k] = from[k * hidden];
#pragma unroll
        for (int s = 0; s < S; s++) {
          prev[s] = state_before(s, at, step, u);
          next[s] = s == 0 ? a.y[place * hidden + u] : from[(K + s - 1) * hidden];
          dnext[s] = carry(s, tile, pair);
        }
        if (a.dy) dnext[0] += a.dy[place * hidden + u];
        Cell::backward(keep, prev, next, dnext, dw, dr, dprev, NoStages(), static_cast<float*>(nullptr));
#pragma unroll
        for (int s = 0; s < S; s++) carry(s, tile, pair) = dprev[s];
#pragma unroll
        for (int g = 0; g < G; g++) {
          a.dwx[(place * G + g) * hidden + u] = dw[g];
          if (!Cell::one_gradient) a.drh[(place * G + g) * hidden + u] = dr[g];
        }
      }
#pragma unroll
      for (int g = 0; g < G; g++)
        product.put(gates, g * units + unit(pair), row(pair), Cell::one_gradient ? dw[g] : dr[g]);
    }
  }

  // Sums of the slices for unit k and row r of a tile, `send(owner of the unit, its number there, r, sum)`.
  template <class Send>
  DEVICE void send_sums(const Send& send) const {
    for (int64_t i = threadIdx.x; i < hidden * kTile; i += blockDim.x) {
      const int64_t k = i % hidden;
      const int r = (int)(i / hidden);
      float sum = 0.0f;
      for (int slice = 0; slice < product.slices(); slice++) sum += partial[(slice * kTile + r) * product.width() + k];
      send((int)(k / units), (int)(k % units), r, sum);
    }
  }

  // Gradients of the initial states, and zeros behind the rows' ends.
  DEVICE void finish() const {
    for (int tile = 0; tile < tiles; tile++)
      for (int pair = threadIdx.x; pair < units * kTile; pair += blockDim.x) {
        const Row at = row_of(a, first_row + tile * kTile + row(pair));
        const int64_t u = first_unit + unit(pair);
        if (!at.there || u >= hidden) continue;
        for (int s = 0; s < S; s++)
          if (a.dinitial[s]) a.dinitial[s][at.n * hidden + u] = carry(s, tile, pair);
        for (int64_t t = at.length; t < a.steps; t++)
          for (int g = 0; g < G; g++) {
            const int64_t i = ((at.n * a.steps + t) * G + g) * hidden + u;
            a.dwx[i] = 0.0f;
            if (!Cell::one_gradient) a.drh[i] = 0.0f;
          }
      }
  }
};

template <class Cell, class Product, Team Kind>
KERNEL void __launch_bounds__(kSweepThreads, 1) sweep_backward(FusedBackward a, TeamPlan plan, Exchange exchange) {
  using Block = BackwardBlock<Cell, Product>;
  const Member<Kind> me(plan.blocks);
  const Block block(a, Kind, plan, (int64_t)me.rank * plan.units, me.team * plan.tiles * kTile);
  const int64_t steps = longest_of(a, block.first_row, (int64_t)plan.tiles * kTile);
  const int64_t letter = (int64_t)kTile * plan.units;  // what one block tells another of a tile: [kTile][units]
  block.load_weights();
  block.load_carries();
  if (Kind == Team::CLUSTER) cluster_arrive(), cluster_wait();
  block_sync();
  // Where `to` finds what `from` tells it, in one of two halves by turns: a block may be a step ahead of another.
  const auto letter_of = [&](int64_t step, int tile, int to, int from) {
    const int64_t half = (step % 2) * plan.tiles + tile;
    return Kind == Team::GRID ? exchange.numbers + ((half * plan.blocks + to) * plan.blocks + from) * letter
                              : block.inbox + (half * plan.blocks + from) * letter;
  };
  for (int64_t step = steps - 1; step >= 0; step--) {
    for (int tile = 0; tile < plan.tiles; tile++) {
      block.step_cells(tile, step);
      block_sync();
      block.product.multiply(block.weights, block.gates, block.partial);
      block_sync();
      block.send_sums([&](int to, int unit, int row, float sum) {
        float* place = letter_of(step, tile, to, me.rank) + row * plan.units + unit;
        if (Kind == Team::CLUSTER) place = cluster_map(place, to);
        *place = sum;
      });
    }
    if (!me.meet(exchange, (unsigned)(steps - step))) return;
    for (int tile = 0; tile < plan.tiles; tile++)
      for (int pair = threadIdx.x; pair < plan.units * kTile; pair += blockDim.x) {
        const Row at = row_of(a, block.first_row + tile * kTile + block.row(pair));
        if (!block.is_unit(pair) || step >= at.length) continue;
        float sum = 0.0f;
        for (int from = 0; from < plan.blocks; from++) {
          const float* place = letter_of(step, tile, me.rank, from) + pair;
          sum += Kind == Team::GRID ? load_shared_by_grid(place) : *place;
        }
        block.carry(0, tile, pair) += sum;
      }
  }
  block.finish();
}

template <class Cell, class Product>
void launch_backward_with(Device* device, const FusedBackward& a, const TeamPlan& plan) {
  const size_t letters = (size_t)2 * plan.tiles * plan.blocks * plan.blocks;
  const Exchange exchange = exchange_for(device, plan, letters * kTile * plan.units);
  with_team(plan, [&](auto kind) {
    launch(device, shape_of(plan), sweep_backward<Cell, Product, decltype(kind)::value>, a, plan, exchange);
  });
}

template <class Cell>
void launch_backward(Device* device, const FusedBackward& a, const TeamPlan& plan) {
  a.bf16 ? launch_backward_with<Cell, Bf16Product>(device, a, plan)
         : launch_backward_with<Cell, FloatProduct>(device, a, plan);
}

}  // namespace
}  // namespace throughtime
