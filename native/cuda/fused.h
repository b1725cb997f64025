// A plain cell through all its steps in one kernel. A team of blocks shares some rows of the batch: each block owns
// some units, keeps their recurrent weights in shared memory for the whole sequence, and tells the others what it
// computed (Diamos et al. 2016, "Persistent RNNs"). A team is one block, a cluster that writes into each other's shared
// memory, or the whole grid, which meets in global memory.
#pragma once
#include "sweep_plan.h"
#include "tile_product.h"

namespace throughtime {

enum class Team { BLOCK, CLUSTER, GRID };

constexpr int kMostUnits = 64;  // of a block

// The cells that are often used alone have it; each costs a dozen kernels. See native/cells/cell.h for what it must be.
template <class Cell>
constexpr bool is_persistent = false;

// Places are n * steps + t. Rows of one place and of one kept value are `hidden` apart within a place; G gates.
struct FusedSweep {
  int64_t n, steps, hidden;
  bool reverse, bf16;                 // bf16: operands of the recurrent product as bfloat16
  const int32_t* lengths;             // [n]; null: all of `steps`
  const float* weight;                // [G * hidden][hidden]
  const float* y;                     // [places][hidden]
  const float* initial[kMostStates];  // [n][hidden]; null: 0
};

struct FusedForward : FusedSweep {
  const float* bias;  // [G * hidden], of the recurrent product; null: 0
  const float* wx;    // [places][G * hidden]
  float* output;      // y
  float* final[kMostStates];
  // null, or [places][kept][hidden]: what the cell keeps, unless `states_only`, then the states but h
  float* saved;
  bool states_only;
};

struct FusedBackward : FusedSweep {
  const float* dy;                   // null: 0
  const float* dfinal[kMostStates];  // null: 0
  const float* saved;
  float* dwx;                    // [places][G * hidden]; zero behind a row's end
  float* drh;                    // the same; null for a cell with one gradient
  float* dinitial[kMostStates];  // null: not wanted
};

inline FusedSweep fused_sweep(const SweepPlan& plan) {
  FusedSweep sweep = {plan.n,         plan.steps, plan.hidden, plan.reverse, plan.precision == BF16, plan.lengths,
                      plan.weight_hh, plan.y,     {}};
  for (int s = 0; s < plan.cell.states; s++) sweep.initial[s] = plan.initial[s];
  return sweep;
}

// How a sweep is divided.
struct TeamPlan {
  Team team;
  int blocks;  // of a team
  int units;   // of a block, a multiple of 8
  int tiles;   // of rows, of a team
  int teams;
  size_t shared;  // bytes
};

// What a step's exchange needs of a plan, on the device.
struct Exchange {
  float* numbers;   // GRID: two halves, one for every other step
  unsigned* flags;  // GRID: of each block, how many steps it has told the others; zero before the first
  Fault* fault;
  const char* kernel;
};

struct CellSize {
  int gates, states;
};

// False where no team can hold the weights. `backward` needs other room in shared memory.
bool plan_team(Device* device, CellSize cell, const FusedSweep& sweep, bool backward, TeamPlan* plan);

// What the grid's blocks meet in, cleared; nothing for other teams.
Exchange exchange_for(Device* device, const TeamPlan& plan, size_t numbers);

Shape shape_of(const TeamPlan& plan);

template <Team K>
struct TeamKind {
  static constexpr Team value = K;
};
// Calls body(TeamKind) for the plan's.
template <class F>
void with_team(const TeamPlan& plan, const F& body) {
  if (plan.team == Team::BLOCK) return body(TeamKind<Team::BLOCK>());
  if (plan.team == Team::CLUSTER) return body(TeamKind<Team::CLUSTER>());
  body(TeamKind<Team::GRID>());
}

namespace {

// Where the parts of a block's shared memory begin, in floats.
struct FusedRoom {
  int64_t exchange, partial, own, end;
};

// weights, then X of the tiles (of this step and the next one), partial sums, states
template <class P>
DEVICE_AND_HOST FusedRoom forward_room(Team team, const P& product, int states, int units, int tiles) {
  FusedRoom room;
  room.exchange = product.weight_floats();
  room.partial = room.exchange + (team == Team::GRID ? 1 : 2 * tiles) * product.operand_floats();
  room.own = room.partial + product.partial_floats();
  room.end = room.own + (int64_t)states * tiles * kTile * units;
  return room;
}

// weights, then letters from the other blocks, X, partial sums, gradients of states
template <class P>
DEVICE_AND_HOST FusedRoom backward_room(Team team, const P& product, int states, int units, int tiles, int blocks) {
  FusedRoom room;
  room.exchange = product.weight_floats();
  room.partial = room.exchange + (team == Team::GRID ? 0 : (int64_t)2 * tiles * blocks * kTile * units);
  room.own = room.partial + product.operand_floats() + product.partial_floats();
  room.end = room.own + (int64_t)states * tiles * kTile * units;
  return room;
}

// A block's place among the teams.
template <Team Kind>
struct Member {
  int rank, blocks;
  int64_t team;
  DEVICE explicit Member(int blocks)
      : rank(Kind == Team::BLOCK     ? 0
             : Kind == Team::CLUSTER ? (int)cluster_rank()
                                     : (int)blockIdx.x),
        blocks(blocks),
        team(Kind == Team::GRID ? 0 : blockIdx.x / blocks) {}

  // Waits until every block of the team has come here `step` times; what they wrote before is then seen. False: some
  // block never came, and this kernel must end.
  DEVICE bool meet(const Exchange& exchange, unsigned step) const {
    if constexpr (Kind == Team::BLOCK) {
      block_sync();
    } else if constexpr (Kind == Team::CLUSTER) {
      cluster_arrive();
      cluster_wait();
    } else {
      block_sync();
      if (threadIdx.x == 0) store_release(exchange.flags + rank, step);
      bool lost = false;
      for (int other = threadIdx.x; other < blocks; other += blockDim.x) {
        unsigned seen, polls = 0;
        while ((seen = load_acquire(exchange.flags + other)) < step && ++polls < kPatience) spin();
        // A block that gives up says so to those that wait for it.
        if (seen < step || seen == kLost) lost = true;
      }
      if (lost) report(exchange.fault, SILENT_BLOCK, exchange.kernel, rank, 0, 0);
      if (block_or(lost)) {
        if (threadIdx.x == 0) store_release(exchange.flags + rank, kLost);
        return false;
      }
    }
    return true;
  }

  static constexpr unsigned kPatience = 1u << 24, kLost = 0xffffffffu;
};

// A row of the batch as a sweep goes through it.
struct Row {
  int64_t n;
  int length;  // 0 past the batch
  bool there;
};

DEVICE Row row_of(const FusedSweep& s, int64_t n) {
  const bool there = n < s.n;
  const int64_t given = !there ? 0 : s.lengths ? s.lengths[n] : s.steps;
  return {n, (int)(given < 0 ? 0 : given < s.steps ? given : s.steps), there};
}

DEVICE int64_t place_of(const FusedSweep& s, const Row& row, int64_t step) {
  return row.n * s.steps + (s.reverse ? row.length - 1 - step : step);
}

// The steps of the longest of a team's rows.
DEVICE int64_t longest_of(const FusedSweep& s, int64_t first, int64_t rows) {
  int most = 0;
  for (int64_t i = 0; i < rows; i++) {
    const int length = row_of(s, first + i).length;
    most = length > most ? length : most;
  }
  return most;
}

}  // namespace

}  // namespace throughtime
