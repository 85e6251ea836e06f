#include "app/memory_watch.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

namespace hearth::app {
namespace {

using serving::Pressure;

constexpr std::uint64_t kNoLimit = 1ULL << 60;  // version 1 says a number near 2^63
constexpr std::size_t kDepthMax = 64;           // of nested control groups

std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    return failed == std::errc{} && end != text.data() ? std::optional(value) : std::nullopt;
}

// The rest of the line that begins with `key`.
std::optional<std::string_view> line_of(std::string_view text, std::string_view key) {
    for (std::size_t at = 0; at < text.size();) {
        auto const end = std::min(text.find('\n', at), text.size());
        auto const line = text.substr(at, end - at);
        if (line.starts_with(key)) return line.substr(key.size());
        at = end + 1;
    }
    return std::nullopt;
}

std::uint64_t kilobytes(std::string_view meminfo, std::string_view key) {
    auto rest = line_of(meminfo, key);
    if (!rest) return 0;
    rest->remove_prefix(std::min(rest->find_first_not_of(' '), rest->size()));
    return number(*rest).value_or(0) << 10;
}

double percent(std::string_view pressure, std::string_view key) {
    auto const rest = line_of(pressure, key);
    double value = 0;
    if (rest) std::from_chars(rest->data(), rest->data() + rest->size(), value);
    return value;
}

// Where a version of control groups says what.
struct Names {
    std::string_view root, limit, used, cold;  // cold: in memory.stat
};
constexpr Names kVersion1{"/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes",
                          "total_inactive_file "};
constexpr Names kVersion2{"/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file "};

// The group's path in that hierarchy; nothing if the process is not in one.
std::optional<std::string> group_of(std::string_view self, Names const& names) {
    if (&names == &kVersion2) {
        auto const path = line_of(self, "0::");
        return path ? std::optional<std::string>(*path) : std::nullopt;
    }
    for (std::size_t at = 0; at < self.size();) {
        auto const end = std::min(self.find('\n', at), self.size());
        auto const line = self.substr(at, end - at);
        auto const first = line.find(':');
        auto const second = line.find(':', first + 1);
        if (second != std::string_view::npos && line.substr(first + 1, second - first - 1) == "memory")
            return std::string(line.substr(second + 1));
        at = end + 1;
    }
    return std::nullopt;
}

// The group of all above it that leaves least. In a container the path may be that of the
// machine, and the group is found at the root.
void read_groups(ReadFile const& read, Names const& names, std::string path, MemorySigns& signs) {
    for (std::size_t depth = 0; depth < kDepthMax; ++depth) {
        auto const folder = std::string(names.root) + (path == "/" ? std::string() : path);
        auto const limit = number(read(folder + std::string(names.limit)).value_or(""));
        auto const used = number(read(folder + std::string(names.used)).value_or(""));
        if (limit && used && *limit < kNoLimit) {
            auto const stat = read(folder + "/memory.stat").value_or("");
            auto const cold = number(line_of(stat, names.cold).value_or("")).value_or(0);
            auto const taken = *used - std::min(cold, *used);
            bool const tighter =
                signs.limit == 0 || *limit - std::min(taken, *limit) < signs.limit - std::min(signs.used, signs.limit);
            if (tighter) signs.limit = *limit, signs.used = taken;
        }
        if (path.empty() || path == "/") return;
        path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
}

void read_stalls(std::string const& pressure, MemorySigns& signs) {
    signs.stalled_some = std::max(signs.stalled_some, percent(pressure, "some avg10="));
    signs.stalled_full = std::max(signs.stalled_full, percent(pressure, "full avg10="));
}

Pressure by_share(std::uint64_t all, std::uint64_t left) {
    if (all == 0) return Pressure::none;
    if (left < all / 20) return Pressure::high;
    return left < all / 10 ? Pressure::some : Pressure::none;
}

Pressure by_room(MemorySigns const& signs) {
    auto const group = by_share(signs.limit, signs.limit - std::min(signs.used, signs.limit));
    return std::max(group, by_share(signs.machine_total, signs.machine_available));
}

Pressure by_stalls(MemorySigns const& signs) {
    if (signs.stalled_full >= 10) return Pressure::high;
    return signs.stalled_some >= 20 ? Pressure::some : Pressure::none;
}

}  // namespace

std::optional<std::string> read_small_file(std::string const& path) {
    std::ifstream file(path);
    if (!file) return std::nullopt;
    std::ostringstream text;
    text << file.rdbuf();
    return std::move(text).str();
}

MemorySigns read_memory_signs(ReadFile const& read) {
    MemorySigns signs;
    auto const self = read("/proc/self/cgroup").value_or("");
    for (auto const* const names : {&kVersion1, &kVersion2}) {
        if (auto const path = group_of(self, *names)) {
            read_groups(read, *names, *path, signs);
            if (names == &kVersion2)
                read_stalls(read(std::string(names->root) + *path + "/memory.pressure").value_or(""), signs);
        }
    }
    auto const meminfo = read("/proc/meminfo").value_or("");
    signs.machine_total = kilobytes(meminfo, "MemTotal:");
    signs.machine_available = kilobytes(meminfo, "MemAvailable:");
    read_stalls(read("/proc/pressure/memory").value_or(""), signs);
    return signs;
}

Pressure judge(MemorySigns const& signs) { return std::max(by_room(signs), by_stalls(signs)); }

std::uint64_t free_for_models(MemorySigns const& signs, std::uint64_t budget) {
    std::optional<std::uint64_t> least;
    auto const allow = [&](std::uint64_t bytes) { least = std::min(least.value_or(bytes), bytes); };
    if (signs.machine_available != 0) allow(signs.machine_available);
    if (signs.limit != 0) allow(signs.limit - std::min(signs.used, signs.limit));
    if (budget != 0) allow(budget);
    return least.value_or(0);
}

std::uint64_t automatic_budget(MemorySigns const& signs) {
    auto const of_group = signs.limit / 10 * 9;
    auto const of_machine = signs.machine_total / 5 * 4;
    if (of_group == 0 || of_machine == 0) return std::max(of_group, of_machine);
    return std::min(of_group, of_machine);
}

Pressure MemoryWatch::look(Instant now) {
    signs_ = read_memory_signs(read_);
    auto present = judge(signs_);
    if (present == Pressure::high && by_room(signs_) != Pressure::high) {
        bool const said = stalled_ && now - *stalled_ < kStallWindow;
        if (said) present = Pressure::some;
        else stalled_ = now;
    }
    if (present != Pressure::none) pressed_ = now;
    bool const holds = pressure_ != Pressure::none && now - pressed_ < kCalm;
    pressure_ = present == Pressure::none && holds ? Pressure::some : present;
    return pressure_;
}

}  // namespace hearth::app
