// Share tasks out among threads. Knows nothing of what a task does.
//
// One region at a time: a second caller waits for the first, and a task that opens a region runs it by itself.
// Tasks are claimed one by one in rising order, by the caller too, which waits for claimed tasks only and never
// for a worker that has not come: with a busy neighbour on a core the others take over that worker's share.
// Between regions a worker spins for some tens of microseconds, then yields, then sleeps.
//
// `thread` is below num_threads() and no two tasks have it at once, so that it can index scratch memory; which
// thread gets which task is left open, so no result may depend on it.
#pragma once

namespace cynosure {

void run_tasks(int num_tasks, void (*task)(void* context, int index, int thread), void* context);

// As many as the processor lends this process, or as were asked for; at least 1.
int num_threads();

constexpr int kMaxThreads = 64;

}  // namespace cynosure
