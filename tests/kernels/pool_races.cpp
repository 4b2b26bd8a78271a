// Have several threads share work out at once, change the number of threads, and look for races. A program of its
// own, since the checker wants all of a program compiled for it: tests/kernels/test_pool_races.py builds and runs it.
//
//     pool_races [planted]   with the word, tasks write to one place: the checker must see that
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "pool.h"

extern "C" void cyn_set_num_threads(int threads);

namespace {

constexpr int kCallers = 3, kRegions = 400, kTasks = 37;

struct Work {
  std::vector<std::int64_t> plain = std::vector<std::int64_t>(kTasks);
  std::vector<std::int64_t> by_thread = std::vector<std::int64_t>(cynosure::kMaxThreads);
  std::int64_t shared = 0;
  bool is_planted = false;
};

void task(void* context, int index, int thread) {
  Work& work = *static_cast<Work*>(context);
  work.plain[index] += index;
  work.by_thread[thread] += 1;  // two tasks never have one thread's place at once
  if (work.is_planted) work.shared += 1;
}

bool is_right(const Work& work, int num_regions) {
  std::int64_t all = 0;
  for (const std::int64_t count : work.by_thread) all += count;
  for (int index = 0; index < kTasks; ++index) {
    if (work.plain[index] != static_cast<std::int64_t>(num_regions) * index) return false;
  }
  return all == static_cast<std::int64_t>(num_regions) * kTasks;
}

}  // namespace

int main(int count, char** words) {
  const bool is_planted = count > 1 && std::strcmp(words[1], "planted") == 0;
  std::atomic<int> num_wrong{0};
  std::vector<std::thread> callers;
  cyn_set_num_threads(4);
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&num_wrong, is_planted, caller] {
      Work work;
      work.is_planted = is_planted;
      for (int region = 0; region < kRegions; ++region) {
        cynosure::fetch_when_idle(work.plain.data(), sizeof(std::int64_t) * kTasks);
        region % 2 == 0 ? cynosure::run_tasks(kTasks, task, &work) : cynosure::run_in_ranges(kTasks, task, &work);
        if (caller == 0 && region % 50 == 49) cyn_set_num_threads(2 + region / 50 % 4);
        if (region % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // workers fall asleep
      }
      if (!is_right(work, kRegions)) ++num_wrong;
    });
  }
  for (std::thread& caller : callers) caller.join();
  cynosure::fetch_when_idle(nullptr, 0);
  std::puts(num_wrong == 0 ? "right" : "wrong");
  return num_wrong == 0 ? 0 : 1;
}
