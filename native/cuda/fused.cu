#include "fused.h"

#include <cstdlib>
#include <cstring>

namespace throughtime {

namespace {

struct Request {
  Device* device;
  CellSize cell;
  const FusedSweep& sweep;
  bool backward;

  template <class Product>
  size_t bytes_with(Team team, int units, int tiles, int blocks) const {
    const int64_t gates = (int64_t)cell.gates * units;
    const FusedRoom room = backward
                               ? backward_room(team, Product{sweep.hidden, gates}, cell.states, units, tiles, blocks)
                               : forward_room(team, Product{gates, sweep.hidden}, cell.states, units, tiles);
    return room.end * sizeof(float);
  }
  size_t bytes(Team team, int units, int tiles, int blocks) const {
    return sweep.bf16 ? bytes_with<Bf16Product>(team, units, tiles, blocks)
                      : bytes_with<FloatProduct>(team, units, tiles, blocks);
  }
};

// A plan for teams of so many blocks; false if it does not fit.
bool fits(const Request& request, Team team, int64_t blocks, TeamPlan* plan) {
  const int64_t units = whole(ceil_div(request.sweep.hidden, blocks), 8);
  if (units > kMostUnits) return false;
  const int64_t row_tiles = ceil_div(request.sweep.n, kTile), at_once = cuda(request.device)->processors / blocks;
  // As many teams as run side by side; beyond that a team takes more rows while there is room.
  int64_t tiles = team == Team::GRID ? row_tiles : ceil_div(row_tiles, at_once < 1 ? 1 : at_once);
  for (; tiles >= 1; tiles = team == Team::GRID ? 0 : tiles - 1) {
    const size_t bytes = request.bytes(team, (int)units, (int)tiles, (int)blocks);
    if (bytes > cuda(request.device)->shared_limit) continue;
    *plan = {team, (int)blocks, (int)units, (int)tiles, (int)ceil_div(row_tiles, tiles), bytes};
    return true;
  }
  return false;
}

}  // namespace

bool plan_team(Device* device, CellSize cell, const FusedSweep& sweep, bool backward, TeamPlan* plan) {
  const CudaDevice* gpu = cuda(device);
  const int64_t hidden = sweep.hidden;
  if (sweep.n == 0 || hidden == 0) return false;
  const Request request = {device, cell, sweep, backward};
  const auto attempt = [&](Team team, int64_t blocks) { return fits(request, team, blocks, plan); };
  // THROUGHTIME_SWEEP asks for a kind of team, to measure and to test them: "steps", "block", "cluster" or "grid", the
  // last two perhaps with a number of blocks.
  const char* asked = getenv("THROUGHTIME_SWEEP");
  const auto is = [asked](const char* what) { return asked && strncmp(asked, what, strlen(what)) == 0; };
  const int blocks = asked && strpbrk(asked, "0123456789") ? atoi(strpbrk(asked, "0123456789")) : 0;
  if (is("steps")) return false;
  if (is("cluster") && blocks) return attempt(Team::CLUSTER, blocks);
  if (is("grid") && blocks) return blocks <= gpu->processors && attempt(Team::GRID, blocks);
  // Small teams need less talk, large ones have less to do in a step: as large as the batch lets the GPU be filled, of
  // those that hold the weights.
  const int64_t row_tiles = ceil_div(sweep.n, kTile);
  bool found = false;
  if (!is("cluster") && !is("grid")) found = attempt(Team::BLOCK, 1);
  if (is("block")) return found;
  if (gpu->capability >= 90 && !is("grid"))
    for (int64_t size = 2; size <= 16; size *= 2) {
      const bool helps = size * row_tiles <= gpu->processors && hidden / size >= 16;
      if (found && !helps) break;
      found = attempt(Team::CLUSTER, size) || found;
    }
  if (found || is("cluster")) return found;
  for (int64_t units = kMostUnits; units >= 8 && !found; units -= 8) {
    const int64_t size = ceil_div(hidden, units);
    if (size > gpu->processors) break;
    found = attempt(Team::GRID, size);
  }
  return found;
}

Exchange exchange_for(Device* device, const TeamPlan& plan, size_t numbers) {
  Exchange exchange = {nullptr, nullptr, cuda(device)->fault, cuda(device)->kernel};
  if (plan.team != Team::GRID) return exchange;
  exchange.numbers = scratch<float>(device, numbers);
  check(cudaMemsetAsync(exchange.numbers, 0, numbers * sizeof(float), cuda(device)->stream), "memory");
  exchange.flags = scratch<unsigned>(device, plan.blocks);
  check(cudaMemsetAsync(exchange.flags, 0, plan.blocks * sizeof(unsigned), cuda(device)->stream), "memory");
  return exchange;
}

Shape shape_of(const TeamPlan& plan) {
  Shape shape = {dim3((unsigned)(plan.teams * plan.blocks)), dim3(kSweepThreads), plan.shared};
  shape.cluster = plan.team == Team::CLUSTER ? plan.blocks : 1;
  shape.cooperative = plan.team == Team::GRID;
  return shape;
}

}  // namespace throughtime
