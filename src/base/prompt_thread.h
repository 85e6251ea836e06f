// For threads that do little at a time and are waited for: those that carry requests
// and tokens between sockets, beside threads that compute for as long as they may.
//
// Where all cores compute, a thread that wakes up may wait for the end of a time slice,
// often of a tick (4 ms); and a request passes several. One that asked for short slices
// goes on as soon as it wakes, and gets no more than its share of a core (EEVDF, Linux
// 6.12: `sched_runtime` of SCHED_OTHER, sched_setattr(2)).
#pragma once

namespace hearth {

// Asks for the shortest slices for the calling thread; threads it makes later have ordinary
// ones (but where an administrator gave a negative nice value, which such a wish would take
// from them). False where the system refuses or has another policy for the thread; then
// all stays as it was. Kernels that know no slices say true and do nothing.
bool ask_for_short_slices();

}  // namespace hearth
