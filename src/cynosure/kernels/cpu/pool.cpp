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
#include <unistd.h>

#include "isa.h"

namespace cynosure {
namespace {

using Clock = std::chrono::steady_clock;
using Task = void (*)(void*, int, int);

constexpr std::chrono::microseconds kSpin{40};
constexpr std::chrono::microseconds kYield{400};
constexpr int kPausesPerLook = 2;
constexpr int kLooksPerClock = 8;

// The upper half of a word counts regions, the lower half the tasks that nobody has claimed. A claim swaps the
// whole word, so a worker that comes late cannot take a task of a region that it did not see opened.
constexpr std::uint64_t kRegion = std::uint64_t{1} << 32;

std::uint32_t unclaimed(std::uint64_t word) { return static_cast<std::uint32_t>(word); }

// Of the bytes that are to come: how many lines a thread fetches before it looks up again.
constexpr std::int64_t kLine = 64;
constexpr std::int64_t kLinesPerLook = 4;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Neighbouring tasks, claimed in rising order.
struct Range {
  alignas(64) std::atomic<std::uint64_t> left{0};
};

struct Pool {
  alignas(64) std::atomic<std::uint64_t> region{0};
  alignas(64) std::atomic<int> num_done{0};
  // Written before the number of their region, and not again before its last task is done.
  alignas(64) std::atomic<Task> task{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<int> num_tasks{0};
  std::atomic<int> num_ranges{0};
  Range ranges[kMaxThreads];

  alignas(64) std::mutex sleep;
  std::condition_variable wake;
  std::atomic<int> num_sleeping{0};
  int num_workers = 0;  // guarded by the callers' mutex
};

std::mutex callers;                    // one region at a time
std::atomic<int> wanted_threads{0};    // 0: not decided yet
Pool* pool = nullptr;                  // guarded by `callers`; never destroyed, its workers are detached
thread_local bool is_inside_region = false;

// Hints: that the two may belong to different calls costs time at most.
std::atomic<const char*> to_come{nullptr};
std::atomic<std::int64_t> num_bytes_to_come{0};

// Where range `range` of `num_ranges` begins.
int start_of(int range, int num_ranges, int num_tasks) {
  return static_cast<int>(static_cast<std::int64_t>(num_tasks) * range / num_ranges);
}

// Claim and run tasks of a range that ends before `stop` until none is left; return how many.
int work_through(Range& range, std::uint64_t region, int stop, Task task, void* context, int thread) {
  int num_run = 0;
  std::uint64_t word = range.left.load(std::memory_order_acquire);
  while (word / kRegion == region && unclaimed(word) > 0) {
    if (!range.left.compare_exchange_weak(word, word - 1, std::memory_order_acq_rel)) continue;
    task(context, stop - static_cast<int>(unclaimed(word)), thread);
    ++num_run;
    word = range.left.load(std::memory_order_acquire);
  }
  return num_run;
}

// Work through one's own range, then through the others'; count all done together. What was read of a region that
// has closed meanwhile claims nothing.
void work(Pool& shared, std::uint64_t region, int thread) {
  const Task task = shared.task.load(std::memory_order_relaxed);
  void* const context = shared.context.load(std::memory_order_relaxed);
  const int num_tasks = shared.num_tasks.load(std::memory_order_relaxed);
  const int num_ranges = shared.num_ranges.load(std::memory_order_relaxed);
  int num_run = 0;
  for (int i = 0; i < num_ranges; ++i) {
    const int range = (thread + i) % num_ranges, stop = start_of(range + 1, num_ranges, num_tasks);
    num_run += work_through(shared.ranges[range], region, stop, task, context, thread);
  }
  if (num_run > 0) shared.num_done.fetch_add(num_run, std::memory_order_release);
}

// A quarter of the second-level cache: the rest is for what is being used.
std::int64_t max_fetched() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (size > 0) return size / 4;
#endif
  return 64 << 10;
}

// Fetches what is to come, a few lines a look.
class Fetcher {
 public:
  // From the beginning of the thread's share.
  void start(int thread) {
    at_ = to_come.load(std::memory_order_relaxed);
    left_ = 0;
    if (at_ == nullptr) return;
    const std::int64_t share = num_bytes_to_come.load(std::memory_order_relaxed) / num_threads();
    at_ += share * thread;
    left_ = share < max_fetched() ? share : max_fetched();
  }
  // Whether anything was left to fetch.
  bool fetch() {
    if (left_ <= 0) return false;
    for (int i = 0; i < kLinesPerLook; ++i, at_ += kLine) __builtin_prefetch(at_, 0, 2);
    left_ -= kLinesPerLook * kLine;
    return true;
  }

 private:
  const char* at_ = nullptr;
  std::int64_t left_ = 0;
};

void sleep_until_opened(Pool& shared, std::uint64_t seen) {
  std::unique_lock<std::mutex> lock(shared.sleep);
  shared.num_sleeping.fetch_add(1);
  shared.wake.wait(lock, [&] { return shared.region.load() != seen; });
  shared.num_sleeping.fetch_sub(1);
}

// A worker above the wanted number stays asleep in effect: it claims nothing.
void serve(Pool* shared, int thread) {
  is_inside_region = true;
  std::uint64_t seen = 0;
  Clock::time_point idle_since = Clock::now();
  Fetcher fetcher;
  for (int looks = 0;; ++looks) {
    const std::uint64_t region = shared->region.load(std::memory_order_acquire);
    if (region != seen && thread < wanted_threads.load(std::memory_order_relaxed)) {
      work(*shared, region, thread);
      seen = region;
      fetcher.start(thread);
      idle_since = Clock::now();
      continue;
    }
    if (fetcher.fetch()) continue;
    for (int i = 0; i < kPausesPerLook; ++i) pause();
    if (looks % kLooksPerClock != 0) continue;
    const auto idle = Clock::now() - idle_since;
    if (idle < kSpin) continue;
    if (idle < kYield) {
      sched_yield();
    } else if (thread < wanted_threads.load()) {
      sleep_until_opened(*shared, seen);
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
  Clock::time_point start{};
  int looks = 0;
  Fetcher fetcher;
  fetcher.start(0);
  while (shared.num_done.load(std::memory_order_acquire) < num_tasks) {
    if (fetcher.fetch()) continue;
    for (int i = 0; i < kPausesPerLook; ++i) pause();
    if (++looks % kLooksPerClock != 0) continue;
    if (looks == kLooksPerClock) start = Clock::now();
    // Whoever holds the last task may have lost its core to a neighbour: ours may be the one it needs.
    if (Clock::now() - start > kSpin) sched_yield();
  }
}

void open_region(Pool& shared, int num_tasks, int num_ranges, Task task, void* context) {
  shared.task.store(task, std::memory_order_relaxed);
  shared.context.store(context, std::memory_order_relaxed);
  shared.num_tasks.store(num_tasks, std::memory_order_relaxed);
  shared.num_ranges.store(num_ranges, std::memory_order_relaxed);
  shared.num_done.store(0, std::memory_order_relaxed);
  const std::uint64_t region = (shared.region.load(std::memory_order_relaxed) + 1) % kRegion;
  for (int range = 0; range < num_ranges; ++range) {
    const int first = start_of(range, num_ranges, num_tasks), stop = start_of(range + 1, num_ranges, num_tasks);
    shared.ranges[range].left.store(region * kRegion + static_cast<std::uint32_t>(stop - first),
                                    std::memory_order_release);
  }
  shared.region.store(region);
  if (shared.num_sleeping.load() > 0) {
    std::lock_guard<std::mutex> lock(shared.sleep);
    shared.wake.notify_all();
  }
}

void run(int num_tasks, bool has_ranges, Task task, void* context) {
  const int threads = num_threads();
  if (num_tasks < 2 || threads == 1 || is_inside_region) {
    for (int index = 0; index < num_tasks; ++index) task(context, index, 0);
    return;
  }
  std::lock_guard<std::mutex> one_region(callers);
  Pool& shared = started(threads);
  open_region(shared, num_tasks, has_ranges ? threads : 1, task, context);
  is_inside_region = true;
  work(shared, shared.region.load(std::memory_order_relaxed), 0);
  is_inside_region = false;
  wait_for(shared, num_tasks);
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

void run_tasks(int num_tasks, Task task, void* context) { run(num_tasks, false, task, context); }

void run_in_ranges(int num_tasks, Task task, void* context) { run(num_tasks, true, task, context); }

void fetch_when_idle(const void* start, std::int64_t num_bytes) {
  to_come.store(static_cast<const char*>(start), std::memory_order_relaxed);
  num_bytes_to_come.store(num_bytes, std::memory_order_relaxed);
}

}  // namespace cynosure

CYN_API int cyn_num_threads() { return cynosure::num_threads(); }

CYN_API void cyn_set_num_threads(int threads) {
  std::lock_guard<std::mutex> no_region(cynosure::callers);
  cynosure::wanted_threads.store(cynosure::bounded(threads));
}
