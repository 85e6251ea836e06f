#include "base/prompt_thread.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace hearth {
namespace {

// struct sched_attr as the kernel first had it: its header and libc's <sched.h> cannot both be included.
struct Attributes {
    std::uint32_t size;
    std::uint32_t policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime_ns;
    std::uint64_t deadline_ns;
    std::uint64_t period_ns;
};

constexpr std::uint32_t kOrdinary = 0;       // SCHED_OTHER
constexpr std::uint64_t kResetOnFork = 1;    // SCHED_FLAG_RESET_ON_FORK
constexpr std::uint64_t kSliceNs = 100'000;  // the least that the kernel takes

}  // namespace

bool ask_for_short_slices() {
    Attributes attributes{};
    if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0U) != 0) return false;
    if (attributes.policy != kOrdinary) return false;
    attributes.size = sizeof(attributes);
    attributes.flags = attributes.nice < 0 ? 0 : kResetOnFork;
    attributes.runtime_ns = kSliceNs;
    return ::syscall(SYS_sched_setattr, 0, &attributes, 0U) == 0;
}

}  // namespace hearth
