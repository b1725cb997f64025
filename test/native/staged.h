// Sweeps with stages around the cell; see staged.cc.
#pragma once
#include "device.h"

// Runs random examples of every kind of cell; returns how many failed.
int staged(const throughtime::KernelList& sweeps, bool quick);
