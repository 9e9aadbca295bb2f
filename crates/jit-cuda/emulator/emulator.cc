// Runs a kernel: block after block, its threads as fibers that take turns at barriers.
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

thread_local uint3 thread_index, block_index, block_size, grid_size;

namespace {

constexpr size_t STACK = 128 << 10;

// A barrier is passed when as many have arrived as are left.
struct Barrier {
  int arrived = 0;
  unsigned generation = 0;
};

struct Warp {
  Barrier barrier;
  int alive = 0;
  uint64_t given[32] = {};
  unsigned a[32][4] = {}, b[32][2] = {};
  const void* row[32] = {};
};

struct Thread {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  std::unique_ptr<char[]> stack;
  bool done = false;
};

struct Machine {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barrier;
  int alive = 0;
  int current = 0;
#if defined(__x86_64__)
  void* scheduler = nullptr;
#else
  ucontext_t scheduler;
#endif
  std::vector<unsigned char> shared;
  unsigned char* shared_start = nullptr;
  void (*call)(void**) = nullptr;
  void** arguments = nullptr;
  bool progressed = false;
};

thread_local Machine machine;
Kernel* first = nullptr;

#if defined(__x86_64__)
// Saves the registers that a call keeps and the stack pointer; goes on from another.
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
.size emulator_switch, .-emulator_switch
)");
#endif

void to_scheduler() {
#if defined(__x86_64__)
  emulator_switch(&machine.threads[machine.current].stack_pointer, machine.scheduler);
#else
  swapcontext(&machine.threads[machine.current].context, &machine.scheduler);
#endif
}

void release(Barrier& barrier) {
  barrier.arrived = 0;
  barrier.generation++;
  machine.progressed = true;
}

void wait(Barrier& barrier, const int& alive) {
  const unsigned generation = barrier.generation;
  if (++barrier.arrived >= alive) {
    release(barrier);
    return;
  }
  while (barrier.generation == generation) {
    to_scheduler();
    // The last that was waited for may have ended instead.
    if (barrier.generation == generation && barrier.arrived >= alive) release(barrier);
  }
}

void thread_main() {
  machine.call(machine.arguments);
  Thread& thread = machine.threads[machine.current];
  thread.done = true;
  machine.alive--;
  machine.warps[machine.current / 32].alive--;
  machine.progressed = true;
  for (;;) to_scheduler();
}

void prepare(Thread& thread) {
  if (!thread.stack) thread.stack.reset(new char[STACK]);
  thread.done = false;
#if defined(__x86_64__)
  auto top = reinterpret_cast<uintptr_t>(thread.stack.get() + STACK) & ~uintptr_t{15};
  auto** at = reinterpret_cast<void**>(top - 16);
  *--at = nullptr;  // The return address of `thread_main`, which never returns.
  *--at = reinterpret_cast<void*>(thread_main);
  for (int i = 0; i < 6; i++) *--at = nullptr;
  thread.stack_pointer = at;
#else
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = thread.stack.get();
  thread.context.uc_stack.ss_size = STACK;
  thread.context.uc_link = nullptr;
  makecontext(&thread.context, thread_main, 0);
#endif
}

void resume(int i) {
  machine.current = i;
  thread_index = {static_cast<unsigned>(i), 0, 0};
#if defined(__x86_64__)
  emulator_switch(&machine.scheduler, machine.threads[i].stack_pointer);
#else
  swapcontext(&machine.scheduler, &machine.threads[i].context);
#endif
}

// False where threads wait for each other for ever.
bool run_block(int threads) {
  machine.warps.assign((threads + 31) / 32, Warp{});
  machine.barrier = Barrier{};
  machine.alive = threads;
  for (int i = 0; i < threads; i++) {
    machine.warps[i / 32].alive++;
    prepare(machine.threads[i]);
  }
  while (machine.alive > 0) {
    machine.progressed = false;
    for (int i = 0; i < threads; i++) {
      if (!machine.threads[i].done) resume(i);
    }
    if (!machine.progressed) return false;
  }
  return true;
}

Warp& warp() { return machine.warps[machine.current / 32]; }
int lane() { return machine.current % 32; }

float half_of(unsigned two, int i) {
  const unsigned u = i ? two & 0xffff0000u : two << 16;
  return __uint_as_float(u);
}

}  // namespace

Kernel::Kernel(const char* name, void (*call)(void**)) : name(name), call(call), next(first) { first = this; }

void* dynamic_shared() { return machine.shared_start; }
void block_barrier() { wait(machine.barrier, machine.alive); }
void warp_barrier() { wait(warp().barrier, warp().alive); }

uint64_t exchange(uint64_t value, int from) {
  warp().given[lane()] = value;
  warp_barrier();
  const uint64_t result = warp().given[from];
  warp_barrier();
  return result;
}

void mma_16816(float* d, const unsigned* a, const unsigned* b) {
  Warp& w = warp();
  std::memcpy(w.a[lane()], a, 16);
  std::memcpy(w.b[lane()], b, 8);
  warp_barrier();
  const int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; i++) {
    const int row = g + (i / 2) * 8, column = t * 2 + i % 2;
    float sum = 0.0f;
    for (int k = 0; k < 16; k++) {
      const int from_a = (row % 8) * 4 + (k % 8) / 2, from_b = column * 4 + (k % 8) / 2;
      sum += half_of(w.a[from_a][row / 8 + (k / 8) * 2], k % 2) * half_of(w.b[from_b][k / 8], k % 2);
    }
    d[i] += sum;
  }
  warp_barrier();
}

void load_matrix_x4(unsigned* r, const void* row, bool transposed) {
  Warp& w = warp();
  w.row[lane()] = row;
  warp_barrier();
  const int g = lane() / 4, t = lane() % 4;
  for (int tile = 0; tile < 4; tile++) {
    unsigned short two[2];
    for (int i = 0; i < 2; i++) {
      const int from = transposed ? 2 * t + i : g, at = transposed ? g : 2 * t + i;
      two[i] = static_cast<const unsigned short*>(w.row[tile * 8 + from])[at];
    }
    r[tile] = two[0] | static_cast<unsigned>(two[1]) << 16;
  }
  warp_barrier();
}

}  // namespace emulator

// Defined beside the kernels: a linker leaves out what nobody names.
extern "C" const int jit_emulator_kernels;

// 0 when done, 1 where there is no kernel of that name, 2 where its threads wait for ever or are too many.
extern "C" int jit_emulator_launch(const char* name, const unsigned* grid, const unsigned* block, unsigned shared,
                                   void** arguments) {
  using namespace emulator;
  if (jit_emulator_kernels != 1) return 1;
  const Kernel* kernel = first;
  while (kernel && std::strcmp(kernel->name, name) != 0) kernel = kernel->next;
  if (!kernel) return 1;
  const unsigned threads = block[0];
  if (threads == 0 || threads > 1024 || block[1] != 1 || block[2] != 1 || shared > 227u << 10) return 2;
  block_size = {threads, 1, 1};
  grid_size = {grid[0], grid[1], grid[2]};
  machine.call = kernel->call;
  machine.arguments = arguments;
  if (machine.threads.size() < threads) machine.threads.resize(threads);
  for (unsigned z = 0; z < grid[2]; z++) {
    for (unsigned y = 0; y < grid[1]; y++) {
      for (unsigned x = 0; x < grid[0]; x++) {
        block_index = {x, y, z};
        // Poison: what nobody wrote in this block shows.
        machine.shared.assign(shared + 128, 0xEE);
        const auto start = reinterpret_cast<uintptr_t>(machine.shared.data());
        machine.shared_start = reinterpret_cast<unsigned char*>((start + 127) & ~uintptr_t{127});
        if (!run_block(static_cast<int>(threads))) return 2;
      }
    }
  }
  return 0;
}
