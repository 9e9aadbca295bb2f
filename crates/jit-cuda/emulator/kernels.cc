// The kernels, compiled for the processor.
#include "emulator.h"

#include "kernels.cu"

extern "C" const int jit_emulator_kernels;
const int jit_emulator_kernels = 1;
