#include "sandbox/landlock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace hearth::sandbox {
namespace {

// linux/landlock.h, spelled out up to ABI 7.
struct RulesetAttributes {
    std::uint64_t handled_access_fs;
    std::uint64_t handled_access_net;  // ABI 4
    std::uint64_t scoped;              // ABI 6
};
struct [[gnu::packed]] PathBeneath {
    std::uint64_t allowed_access;
    std::int32_t parent_fd;
};
constexpr unsigned kCreateRulesetVersion = 1U << 0;
constexpr int kRulePathBeneath = 1;

constexpr std::uint64_t kWriteFile = 1ULL << 1;
constexpr std::uint64_t kReadFile = 1ULL << 2;
constexpr std::uint64_t kReadDir = 1ULL << 3;
constexpr std::uint64_t kRemoveFile = 1ULL << 5;
constexpr std::uint64_t kMakeRegular = 1ULL << 8;
constexpr std::uint64_t kFsAbi1 = (1ULL << 13) - 1;  // execute, write, read, remove and make of every kind
constexpr std::uint64_t kFsRefer = 1ULL << 13;       // ABI 2
constexpr std::uint64_t kFsTruncate = 1ULL << 14;    // ABI 3
constexpr std::uint64_t kFsIoctlDev = 1ULL << 15;    // ABI 5
constexpr std::uint64_t kNetBindConnectTcp = 0b11;
constexpr std::uint64_t kScopeAbstractSocketsAndSignals = 0b11;

Error system_error(std::string const& step) {
    return {Code::io, fmt::format("sandbox: {}: {}", step, std::strerror(errno))};
}

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(Descriptor const&) = delete;
    Descriptor& operator=(Descriptor const&) = delete;
    [[nodiscard]] int get() const { return fd_; }

private:
    int fd_;
};

// The attributes and how much of them a kernel of that ABI knows.
std::pair<RulesetAttributes, std::size_t> attributes_for(int abi) {
    RulesetAttributes attributes{kFsAbi1, 0, 0};
    std::size_t size = sizeof attributes.handled_access_fs;
    if (abi >= 2) attributes.handled_access_fs |= kFsRefer;
    if (abi >= 3) attributes.handled_access_fs |= kFsTruncate;
    if (abi >= 5) attributes.handled_access_fs |= kFsIoctlDev;
    if (abi >= 4) {
        attributes.handled_access_net = kNetBindConnectTcp;
        size += sizeof attributes.handled_access_net;
    }
    if (abi >= 6) {
        attributes.scoped = kScopeAbstractSocketsAndSignals;
        size += sizeof attributes.scoped;
    }
    return {attributes, size};
}

Status allow(int ruleset, std::string const& path, std::uint64_t folder_access, std::uint64_t file_access = kReadFile) {
    Descriptor const beneath(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (beneath.get() < 0) return system_error(fmt::format("cannot open '{}', which the worker is to use", path));
    struct stat info{};
    if (::fstat(beneath.get(), &info) != 0) return system_error(fmt::format("cannot look at '{}'", path));
    PathBeneath const rule{S_ISDIR(info.st_mode) ? folder_access : file_access, beneath.get()};
    if (::syscall(SYS_landlock_add_rule, ruleset, kRulePathBeneath, &rule, 0U) != 0) {
        return system_error(fmt::format("Landlock does not take a rule for '{}'", path));
    }
    return ok();
}

}  // namespace

LandlockSupport probe_landlock() {
    auto const abi = ::syscall(SYS_landlock_create_ruleset, nullptr, std::size_t{0}, kCreateRulesetVersion);
    if (abi > 0) return {static_cast<int>(abi), {}};
    if (errno == ENOSYS) return {0, "this kernel has no Landlock"};
    if (errno == EOPNOTSUPP) return {0, "Landlock is switched off at boot"};
    return {0, fmt::format("Landlock is not available: {}", std::strerror(errno))};
}

Status restrict_files(int abi, std::vector<std::string> const& readable, std::string const& writable,
                      std::string const& rewritable) {
    auto const [attributes, size] = attributes_for(abi);
    Descriptor const ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0U)));
    if (ruleset.get() < 0) return system_error(fmt::format("Landlock (ABI {}) does not take the ruleset", abi));
    constexpr std::uint64_t kRead = kReadFile | kReadDir;
    for (auto const& path : readable) HEARTH_CHECK(allow(ruleset.get(), path, kRead));
    if (!writable.empty())
        HEARTH_CHECK(allow(ruleset.get(), writable, kRead | kWriteFile | kRemoveFile | kMakeRegular));
    // A right that the kernel does not know is not handled, so it is not restricted either.
    if (!rewritable.empty())
        HEARTH_CHECK(allow(ruleset.get(), rewritable, 0, (kWriteFile | kFsTruncate) & attributes.handled_access_fs));
    if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0U) != 0)
        return system_error("Landlock does not take effect");
    return ok();
}

}  // namespace hearth::sandbox
