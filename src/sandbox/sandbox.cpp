#include "sandbox/sandbox.h"

#include <dirent.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "sandbox/landlock.h"
#include "sandbox/seccomp_filter.h"

namespace hearth::sandbox {
namespace {

Error system_error(char const* step) { return {Code::io, fmt::format("sandbox: {}: {}", step, std::strerror(errno))}; }

// Landlock and capabilities bind the calling thread only, so another thread
// would stay outside. Instrumented builds have helper threads of their own.
Status require_one_thread() {
#if !defined(HEARTH_INSTRUMENTED)
    DIR* const tasks = ::opendir("/proc/self/task");
    if (tasks == nullptr) return ok();  // no /proc: nothing to count
    int threads = 0;
    while (auto const* entry = ::readdir(tasks)) threads += entry->d_name[0] != '.';
    ::closedir(tasks);
    if (threads > 1)
        return Error(Code::internal,
                     fmt::format("the sandbox must be entered before other threads start; there are {}", threads));
#endif
    return ok();
}

Status close_between(unsigned first, unsigned last) {
    if (first > last) return ok();
    if (::syscall(SYS_close_range, first, last, 0U) == 0) return ok();
    if (errno != ENOSYS) return system_error("close_range");
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return system_error("getrlimit");
    auto const end = static_cast<unsigned>(std::min<rlim_t>(limit.rlim_cur, std::uint64_t{last} + 1));
    for (unsigned fd = first; fd < end; ++fd) ::close(static_cast<int>(fd));
    return ok();
}

Status close_all_but(std::vector<int> keep) {
    std::sort(keep.begin(), keep.end());
    unsigned next = 3;
    for (int const fd : keep) {
        if (fd < static_cast<int>(next)) continue;  // 0 to 2, or named twice
        HEARTH_CHECK(close_between(next, static_cast<unsigned>(fd) - 1));
        next = static_cast<unsigned>(fd) + 1;
    }
    return close_between(next, ~0U);
}

Status limit_to(decltype(RLIMIT_CORE) resource, std::uint64_t value, char const* name) {
    rlimit current{};
    if (::getrlimit(resource, &current) != 0) return system_error(name);
    auto const bound = std::min<rlim_t>(value, current.rlim_max);
    rlimit const wanted{bound, bound};
    if (::setrlimit(resource, &wanted) != 0) return system_error(name);
    return ok();
}

// Root without capabilities is nobody in particular. Says what is left. Only the right to read
// stays, for a model file of another user; Landlock bounds what it opens.
Result<std::string_view> drop_capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0) return system_error("capget");
    auto const read_search = data[0].permitted & (1U << CAP_DAC_READ_SEARCH);
    data = {};
    data[0].permitted = data[0].effective = read_search;
    if (::syscall(SYS_capset, &header, data.data()) != 0) return system_error("capset");
    return std::string_view(read_search != 0 ? "no capability but to read" : "no capabilities");
}

std::string_view landlock_parts(int abi) {
    if (abi >= 6) return "files, tcp, signals";
    if (abi >= 4) return "files, tcp";
    return "files";
}

}  // namespace

Result<Report> enter(Policy const& policy) {
    HEARTH_CHECK(require_one_thread());
    HEARTH_CHECK(close_all_but(policy.keep_fds));
    HEARTH_CHECK(limit_to(RLIMIT_NOFILE, policy.open_files_max, "RLIMIT_NOFILE"));
    HEARTH_CHECK(limit_to(RLIMIT_CORE, policy.core_bytes_max, "RLIMIT_CORE"));
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error("PR_SET_NO_NEW_PRIVS");
    HEARTH_TRY(auto const capabilities, drop_capabilities());

    Report report;
    auto const landlock = probe_landlock();
    if (landlock.abi > 0) {
        HEARTH_CHECK(restrict_files(landlock.abi, policy.readable, policy.writable, policy.rewritable));
        report.writable = !policy.writable.empty();
        report.landlock_abi = landlock.abi;
        report.description = fmt::format("landlock abi {} ({})", landlock.abi, landlock_parts(landlock.abi));
    } else {
        report.description = "NO file restriction: " + landlock.reason;
    }

    auto const obstacle = policy.seccomp ? seccomp_obstacle() : std::string("seccomp is switched off by configuration");
    if (obstacle.empty()) {
        auto const files = !policy.rewritable.empty() ? Files::rewritten
                           : report.writable          ? Files::written
                                                      : Files::read;
        HEARTH_TRY(auto const allowed, install_seccomp_filter(files));
        report.seccomp = true;
        report.description += fmt::format(", seccomp ({} rules)", allowed);
    } else {
        report.description += ", NO system call filter: " + obstacle;
    }
    if (!policy.writable.empty())
        report.description += report.writable ? ", writes in one folder" : ", no folder to write in without Landlock";
    if (!policy.rewritable.empty()) report.description += ", writes one file";
    report.description += fmt::format(", no_new_privs, {}", capabilities);
    return report;
}

}  // namespace hearth::sandbox
