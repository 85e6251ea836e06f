// Upstream's thread pool, of which barrier.cpp replaces the barrier.
//
// Compiled in the place of upstream's ggml-cpu.c, which is included as it is:
// a weak definition gives way to ours where the objects of a CPU variant are
// linked into one, for callers in this file too, since what may be replaced is
// not inlined. Offsets of the words that the barrier needs go to it by name,
// because the pool's layout is private to that file.
#pragma weak ggml_barrier

#include <ggml-cpu.c>

size_t const kHearthPoolGraph = offsetof(struct ggml_threadpool, n_graph);
size_t const kHearthPoolArrived = offsetof(struct ggml_threadpool, n_barrier);
size_t const kHearthPoolPhase = offsetof(struct ggml_threadpool, n_barrier_passed);
unsigned const kHearthPoolThreadsMask = GGML_THREADPOOL_N_THREADS_MASK;

_Static_assert(sizeof(atomic_int) == 4, "the words of the pool are what our barrier takes them for");
