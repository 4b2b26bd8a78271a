#include "pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#include <pthread.h>
#include <sched.h>

#include "isa.h"

namespace cynosure {
namespace {

using Clock = std::chrono::steady_clock;
using Task = void (*)(void*, int, int);

constexpr std::chrono::microseconds kSpin{40};
constexpr std::chrono::microseconds kYield{400};
constexpr int kPausesPerLook = 16;

// The upper half counts regions, the lower half counts the tasks that nobody has claimed. A claim swaps the
// whole word, so a worker that comes late cannot take a task of a region that it did not see opened.
constexpr std::uint64_t kRegion = std::uint64_t{1} << 32;

std::uint32_t unclaimed(std::uint64_t ticket) { return static_cast<std::uint32_t>(ticket); }

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Pool {
  alignas(64) std::atomic<std::uint64_t> ticket{0};
  alignas(64) std::atomic<int> num_done{0};
  // Written before the ticket of their region, and not again before its last task is done.
  alignas(64) std::atomic<Task> task{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<int> num_tasks{0};

  alignas(64) std::mutex sleep;
  std::condition_variable wake;
  std::atomic<int> num_sleeping{0};
  int num_workers = 0;  // guarded by the callers' mutex
};

std::mutex callers;                    // one region at a time
std::atomic<int> wanted_threads{0};    // 0: not decided yet
Pool* pool = nullptr;                  // guarded by `callers`; never destroyed, its workers are detached
thread_local bool is_inside_region = false;

// Claim and run tasks until none is left; count them done together.
void work(Pool& shared, int thread) {
  int num_run = 0;
  std::uint64_t ticket = shared.ticket.load(std::memory_order_acquire);
  while (unclaimed(ticket) > 0) {
    const Task task = shared.task.load(std::memory_order_relaxed);
    void* const context = shared.context.load(std::memory_order_relaxed);
    const int num_tasks = shared.num_tasks.load(std::memory_order_relaxed);
    const int index = num_tasks - static_cast<int>(unclaimed(ticket));
    if (!shared.ticket.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel)) continue;
    task(context, index, thread);
    ++num_run;
    ticket = shared.ticket.load(std::memory_order_acquire);
  }
  if (num_run > 0) shared.num_done.fetch_add(num_run, std::memory_order_release);
}

void sleep_until_opened(Pool& shared) {
  std::unique_lock<std::mutex> lock(shared.sleep);
  shared.num_sleeping.fetch_add(1);
  shared.wake.wait(lock, [&] { return unclaimed(shared.ticket.load()) > 0; });
  shared.num_sleeping.fetch_sub(1);
}

// A worker above the wanted number stays asleep in effect: it claims nothing.
void serve(Pool* shared, int thread) {
  is_inside_region = true;
  Clock::time_point idle_since = Clock::now();
  for (;;) {
    if (unclaimed(shared->ticket.load(std::memory_order_acquire)) > 0 && thread < wanted_threads.load()) {
      work(*shared, thread);
      idle_since = Clock::now();
      continue;
    }
    const auto idle = Clock::now() - idle_since;
    if (idle < kSpin) {
      for (int i = 0; i < kPausesPerLook; ++i) pause();
    } else if (idle < kYield) {
      sched_yield();
    } else if (thread < wanted_threads.load()) {
      sleep_until_opened(*shared);
      idle_since = Clock::now();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
}

int allowed_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

int threads_of(const char* variable) {
  const char* text = std::getenv(variable);
  const int value = text == nullptr ? 0 : std::atoi(text);
  return value > 0 ? value : 0;
}

int bounded(int threads) { return threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads; }

// A child of fork has the calling thread alone: it gets a pool of its own at its first region. The mutex may
// have been held by a thread that is not there, so it is made anew as well.
void forget_in_child() {
  pool = nullptr;
  is_inside_region = false;
  new (&callers) std::mutex;
}

Pool& started(int threads) {
  static const int registered = pthread_atfork(nullptr, nullptr, forget_in_child);
  (void)registered;
  if (pool == nullptr) pool = new Pool;
  while (pool->num_workers < threads - 1) {
    ++pool->num_workers;
    std::thread(serve, pool, pool->num_workers).detach();
  }
  return *pool;
}

void wait_for(Pool& shared, int num_tasks) {
  const Clock::time_point start = Clock::now();
  int looks = 0;
  while (shared.num_done.load(std::memory_order_acquire) < num_tasks) {
    for (int i = 0; i < kPausesPerLook; ++i) pause();
    // Whoever holds the last task may have lost its core to a neighbour: ours may be the one it needs.
    if (++looks % 16 == 0 && Clock::now() - start > kSpin) sched_yield();
  }
}

}  // namespace

int num_threads() {
  int threads = wanted_threads.load();
  if (threads == 0) {
    threads = threads_of("CYNOSURE_THREADS");
    if (threads == 0) threads = threads_of("OMP_NUM_THREADS");
    if (threads == 0) threads = allowed_cores();
    threads = bounded(threads);
    wanted_threads.store(threads);
  }
  return threads;
}

void run_tasks(int num_tasks, Task task, void* context) {
  const int threads = num_threads();
  if (num_tasks < 2 || threads == 1 || is_inside_region) {
    for (int index = 0; index < num_tasks; ++index) task(context, index, 0);
    return;
  }
  std::lock_guard<std::mutex> one_region(callers);
  Pool& shared = started(threads);
  shared.task.store(task, std::memory_order_relaxed);
  shared.context.store(context, std::memory_order_relaxed);
  shared.num_tasks.store(num_tasks, std::memory_order_relaxed);
  shared.num_done.store(0, std::memory_order_relaxed);
  const std::uint64_t region = shared.ticket.load(std::memory_order_relaxed) / kRegion + 1;
  shared.ticket.store(region * kRegion + static_cast<std::uint32_t>(num_tasks));
  if (shared.num_sleeping.load() > 0) {
    std::lock_guard<std::mutex> lock(shared.sleep);
    shared.wake.notify_all();
  }
  is_inside_region = true;
  work(shared, 0);
  is_inside_region = false;
  wait_for(shared, num_tasks);
}

}  // namespace cynosure

CYN_API int cyn_num_threads() { return cynosure::num_threads(); }

CYN_API void cyn_set_num_threads(int threads) {
  std::lock_guard<std::mutex> no_region(cynosure::callers);
  cynosure::wanted_threads.store(cynosure::bounded(threads));
}
