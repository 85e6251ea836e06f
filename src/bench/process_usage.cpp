#include "bench/process_usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace hearth::bench {

namespace {

std::optional<int> pid_of(std::string const& name) {
    int pid = 0;
    auto const [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc{} || end != name.data() + name.size() || pid <= 0) return std::nullopt;
    return pid;
}

// /proc/PID/stat: the name is in parentheses and may hold anything, so fields
// are counted from the last one.
std::optional<ProcessUsage> read_stat(int pid) {
    std::ifstream in(fmt::format("/proc/{}/stat", pid));
    std::string line;
    if (!std::getline(in, line)) return std::nullopt;
    auto const open = line.find('(');
    auto const close = line.rfind(')');
    if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
    ProcessUsage p;
    p.pid = pid;
    p.name = line.substr(open + 1, close - open - 1);
    std::istringstream rest(line.substr(close + 1));
    std::string skipped;
    long long user = 0, system = 0, child_user = 0, child_system = 0;
    rest >> skipped >> p.parent;                        // state, ppid
    for (int i = 5; i <= 13; ++i) rest >> skipped;      // pgrp to cmajflt
    rest >> user >> system >> child_user >> child_system;
    rest >> skipped >> skipped >> p.threads;            // priority, nice
    if (!rest) return std::nullopt;
    p.cpu_s =
        static_cast<double>(user + system + child_user + child_system) / static_cast<double>(sysconf(_SC_CLK_TCK));
    return p;
}

void read_memory(ProcessUsage& p) {
    std::ifstream in(fmt::format("/proc/{}/smaps_rollup", p.pid));
    std::string line;
    while (std::getline(in, line)) {
        std::istringstream fields(line);
        std::string key;
        std::uint64_t kib = 0;
        if (!(fields >> key >> kib)) continue;
        if (key == "Rss:") p.rss_kib = kib;
        if (key == "Pss:") p.pss_kib = kib;
        if (key == "Private_Clean:" || key == "Private_Dirty:") p.private_kib += kib;
    }
}

std::map<int, ProcessUsage> all_processes() {
    std::map<int, ProcessUsage> all;
    std::error_code error;
    for (auto it = std::filesystem::directory_iterator("/proc", error);
         !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
        auto const pid = pid_of(it->path().filename().string());
        if (!pid) continue;
        if (auto p = read_stat(*pid)) all.emplace(*pid, std::move(*p));
    }
    return all;
}

}  // namespace

double TreeUsage::cpu_s() const {
    return std::accumulate(processes.begin(), processes.end(), 0.0,
                           [](double s, auto const& p) { return s + p.cpu_s; });
}
std::uint64_t TreeUsage::rss_kib() const {
    return std::accumulate(processes.begin(), processes.end(), std::uint64_t{0},
                           [](auto s, auto const& p) { return s + p.rss_kib; });
}
std::uint64_t TreeUsage::pss_kib() const {
    return std::accumulate(processes.begin(), processes.end(), std::uint64_t{0},
                           [](auto s, auto const& p) { return s + p.pss_kib; });
}
std::uint64_t TreeUsage::private_kib() const {
    return std::accumulate(processes.begin(), processes.end(), std::uint64_t{0},
                           [](auto s, auto const& p) { return s + p.private_kib; });
}

Result<TreeUsage> sample_tree(int pid) {
    auto const all = all_processes();
    TreeUsage tree;
    auto const root = all.find(pid);
    if (root == all.end())
        return Error{Code::invalid_argument, fmt::format("there is no process {}", pid), "server-pid"};
    tree.processes.push_back(root->second);
    // Breadth first: a child is appended once, when its parent is visited.
    for (std::size_t i = 0; i < tree.processes.size(); ++i) {
        auto const parent = tree.processes[i].pid;
        for (auto const& [child_pid, child] : all) {
            if (child.parent != parent) continue;
            if (tree.processes.size() == kProcessesMax) {
                return Error{Code::too_large,
                             fmt::format("process {} has more than {} descendants", pid, kProcessesMax), "server-pid"};
            }
            tree.processes.push_back(child);
        }
    }
    for (auto& p : tree.processes) read_memory(p);
    return tree;
}

double own_cpu_s() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    auto const seconds = [](timeval t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace hearth::bench
