// An allow-list, because the calls a new kernel brings must not be open by
// default. What it leaves out is the point: no exec, no process, no socket, no
// file for writing unless asked for, no memory that is both ours and executable, no ptrace, bpf,
// io_uring, keys, namespaces or mounts.
//
// A few calls fail with an error instead of ending the process, because libc
// or the C++ library probes them and falls back.
#include "sandbox/seccomp_filter.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include <fmt/format.h>

namespace hearth::sandbox {
namespace {

// Harmless for any arguments: they act on this process, or on descriptors it
// already has. Names, because a call that this architecture lacks is skipped.
constexpr std::array kAllowed{
    // memory
    "munmap", "mremap", "madvise", "brk", "mincore",
    // threads and waiting
    "futex", "set_robust_list", "get_robust_list", "rseq", "membarrier", "gettid", "getpid", "getppid", "sched_yield",
    "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler", "sched_setscheduler",
    "sched_get_priority_max", "sched_get_priority_min", "getcpu", "exit", "exit_group", "restart_syscall",
    // signals
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "sigaltstack",
    // the connection and files that are open
    "read", "readv", "pread64", "preadv", "write", "writev", "close", "lseek", "fstat", "fadvise64", "readahead",
    "getdents64", "poll", "ppoll", "select", "pselect6", "recvfrom", "shutdown", "getsockopt", "setsockopt",
    // names of files: Landlock decides about their content
    "newfstatat", "statx", "stat", "lstat", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getcwd",
    // time and this machine
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times", "uname",
    "sysinfo", "getrusage", "getrandom", "getuid", "geteuid", "getgid", "getegid"};

constexpr std::uint64_t kNewNamespaces =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

using Comparisons = std::vector<scmp_arg_cmp>;

// Collects the first error, so that a list of rules reads as a list.
class Filter {
public:
    Filter() : context_(seccomp_init(SCMP_ACT_KILL_PROCESS), &seccomp_release) {
        if (!context_) {
            fail("seccomp_init", -ENOMEM);
            return;
        }
        keep("bad architecture", seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
        keep("binary tree", seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2));
        keep("all threads", seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_TSYNC, 1));
    }

    void allow(char const* name, Comparisons const& when = {}) {
        if (rule(SCMP_ACT_ALLOW, name, when)) ++allowed_;
    }
    void refuse(char const* name, std::uint16_t error, Comparisons const& when = {}) {
        rule(SCMP_ACT_ERRNO(error), name, when);
    }

    Result<std::size_t> load() {
        keep("load", problem_.empty() ? seccomp_load(context_.get()) : 0);
        if (!problem_.empty()) return Error(Code::io, problem_);
        return allowed_;
    }

private:
    bool rule(std::uint32_t action, char const* name, Comparisons const& when) {
        int const number = seccomp_syscall_resolve_name(name);
        if (number < 0 || !problem_.empty()) return false;  // not a call of this architecture
        keep(name,
             seccomp_rule_add_array(context_.get(), action, number, static_cast<unsigned>(when.size()), when.data()));
        return true;
    }
    void keep(char const* step, int result) {
        if (result < 0) fail(step, result);
    }
    void fail(char const* step, int result) {
        if (problem_.empty())
            problem_ = fmt::format("sandbox: seccomp does not take '{}': {}", step, std::strerror(-result));
    }

    std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
    std::size_t allowed_ = 0;
    std::string problem_;
};

scmp_arg_cmp bits(unsigned argument, std::uint64_t mask, std::uint64_t value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}
scmp_arg_cmp equals(unsigned argument, std::uint64_t value) { return {argument, SCMP_CMP_EQ, value, 0}; }

void add_memory_rules(Filter& filter) {
    for (auto const* call : {"mmap", "mprotect"}) filter.allow(call, {bits(2, PROT_EXEC, 0)});
}

void add_thread_rules(Filter& filter) {
    // clone3 keeps its flags in memory, where no filter can read them; libc then uses clone.
    filter.refuse("clone3", ENOSYS);
    constexpr std::uint64_t kThread = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    filter.allow("clone", {bits(0, kThread | kNewNamespaces, kThread)});
    filter.allow("tgkill", {equals(0, static_cast<std::uint64_t>(::getpid()))});  // abort(), raise()
    filter.allow("prctl", {equals(0, PR_SET_NAME)});
    filter.allow("prctl", {equals(0, PR_GET_NAME)});
    for (auto const* call : {"sched_getattr", "sched_setattr"}) filter.allow(call, {equals(0, 0)});
    filter.allow("prlimit64", {equals(0, 0), equals(2, 0)});  // reading own limits
}

// Of all ways to open a file for writing only that which makes a new one.
// The rules for one call must not overlap: which would win is not defined.
void add_writing_rules(Filter& filter) {
    constexpr std::uint64_t kNew = O_WRONLY | O_CREAT | O_EXCL;
    filter.allow("openat", {bits(2, O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC, kNew)});
    constexpr std::uint64_t kChanging = O_RDWR | O_TRUNC;
    filter.refuse("openat", EACCES, {bits(2, O_RDWR, O_RDWR)});
    filter.refuse("openat", EACCES, {bits(2, kChanging, O_TRUNC)});
    filter.refuse("openat", EACCES, {bits(2, kChanging | O_WRONLY | O_CREAT, O_WRONLY)});
    filter.refuse("openat", EACCES, {bits(2, kChanging | O_WRONLY | O_CREAT, O_CREAT)});
    filter.refuse("openat", EACCES, {bits(2, kChanging | kNew, O_WRONLY | O_CREAT)});
    filter.allow("fsync");
    filter.allow("renameat");
    filter.allow("renameat2", {equals(4, 0)});
    filter.allow("unlinkat", {equals(2, 0)});
    filter.allow("utimensat", {equals(1, 0)});  // of an open file
}

// As a stream opens a file that it writes from its beginning.
void add_rewriting_rules(Filter& filter) {
    constexpr std::uint64_t kRewriting = O_WRONLY | O_TRUNC;
    filter.allow("openat", {bits(2, O_ACCMODE | O_TRUNC, kRewriting)});
    filter.refuse("openat", EACCES, {bits(2, O_RDWR, O_RDWR)});
    filter.refuse("openat", EACCES, {bits(2, O_RDWR | kRewriting, O_WRONLY)});
    filter.refuse("openat", EACCES, {bits(2, O_RDWR | kRewriting, O_TRUNC)});
    filter.refuse("openat", EACCES, {bits(2, O_ACCMODE | O_TRUNC | O_CREAT, O_CREAT)});
}

void add_file_rules(Filter& filter, Files files) {
    filter.allow("openat", {bits(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
    if (files == Files::written) {
        add_writing_rules(filter);
    } else if (files == Files::rewritten) {
        add_rewriting_rules(filter);
    } else {
        for (auto const flag : {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC}) {
            auto const bit = static_cast<std::uint64_t>(flag);
            filter.refuse("openat", EACCES, {bits(2, bit, bit)});
        }
    }
    filter.refuse("openat2", ENOSYS);
    // A second descriptor of what is open already gives nothing new.
    for (auto const command : {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC})
        filter.allow("fcntl", {equals(1, static_cast<std::uint64_t>(command))});
    filter.allow("sendto", {equals(4, 0)});  // send() on a connected socket, no other address
    filter.refuse("ioctl", ENOTTY);          // isatty()
}

}  // namespace

std::string seccomp_obstacle() {
#if defined(HEARTH_INSTRUMENTED)
    // Sanitizers and coverage make calls of their own (ptrace, clone, files),
    // and a filter with holes for them would test nothing.
    return "seccomp is left out of this instrumented build";
#else
    std::uint32_t const action = SECCOMP_RET_KILL_PROCESS;
    if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0U, &action) == 0) return {};
    return fmt::format("this kernel has no seccomp filters: {}", std::strerror(errno));
#endif
}

Result<std::size_t> install_seccomp_filter(Files files) {
    Filter filter;
    for (auto const* name : kAllowed) filter.allow(name);
    add_memory_rules(filter);
    add_thread_rules(filter);
    add_file_rules(filter, files);
    return filter.load();
}

}  // namespace hearth::sandbox
