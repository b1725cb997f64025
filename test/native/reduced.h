// Products of reduced precision; see reduced.cc.
#pragma once
#include "device.h"

// Runs products of odd sizes; returns how many failed.
int reduced(const throughtime::KernelList& kernels);
