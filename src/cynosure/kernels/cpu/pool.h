// Share tasks out among threads. Knows nothing of what a task does.
//
// One region at a time: a second caller waits for the first, and a task that opens a region runs it by itself.
// The caller works too, and waits for claimed tasks only, never for a worker that has not come: with a busy
// neighbour on a core the others take over that worker's share. Between regions a worker spins for some tens of
// microseconds, then yields, then sleeps.
//
// `run_tasks` has tasks claimed one by one in rising order by all. `run_in_ranges` gives each thread a range of
// neighbouring tasks, which it goes through in order before it helps others with theirs: for what streams from
// memory, where the next task's bytes are then fetched while this one's are used.
//
// `thread` is below num_threads() and no two tasks have it at once, so that it can index scratch memory; which
// thread gets which task is left open, so no result may depend on it.
#pragma once

#include <cstdint>

namespace cynosure {

void run_tasks(int num_tasks, void (*task)(void* context, int index, int thread), void* context);
void run_in_ranges(int num_tasks, void (*task)(void* context, int index, int thread), void* context);

// Until they are told otherwise, threads that have nothing to do fetch the beginning of their share of these bytes:
// what the calls to come will stream. Null to stop.
void fetch_when_idle(const void* start, std::int64_t num_bytes);

// As many as the processor lends this process, or as were asked for; at least 1.
int num_threads();

constexpr int kMaxThreads = 64;

}  // namespace cynosure
