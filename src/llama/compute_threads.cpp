#include "llama/compute_threads.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

namespace hearth::llama {

namespace {

// A layer has about seven matrices with a barrier after each. Below this many
// bytes per matrix a second thread costs more than it computes.
constexpr std::uint64_t kBytesPerBarrierMin = 64U << 10;
constexpr std::uint64_t kBarriersPerLayer = 7;
constexpr std::size_t kCpuMax = 512;  // that a mask of upstream can name (GGML_MAX_N_THREADS)

std::string read_line(std::string const& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::vector<std::size_t> allowed_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<std::size_t> cpus;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    return cpus;
}

std::uint32_t physical_cores(std::vector<std::size_t> const& cpus) {
    std::set<std::string> cores;
    for (std::size_t const cpu : cpus) {
        auto siblings = read_line(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
        cores.insert(siblings.empty() ? fmt::format("cpu {}", cpu) : siblings);
    }
    return static_cast<std::uint32_t>(cores.size());
}

// The tightest quota from this process's cgroup up to the root; 0 for none.
std::uint32_t cgroup_quota() {
    std::ifstream groups("/proc/self/cgroup");
    std::uint32_t quota = 0;
    for (std::string line; std::getline(groups, line);) {
        if (!line.starts_with("0::")) continue;
        std::string path = line.substr(3);
        while (true) {
            std::uint32_t const here = parse_cpu_max(read_line("/sys/fs/cgroup" + path + "/cpu.max"));
            if (here != 0) quota = quota == 0 ? here : std::min(quota, here);
            auto const slash = path.rfind('/');
            if (slash == std::string::npos || path.size() <= 1) break;
            path.resize(slash);
        }
    }
    return quota;
}

}  // namespace

std::uint32_t parse_cpu_max(std::string_view text) {
    std::uint64_t quota = 0, period = 0;
    char const* const begin = text.data();
    char const* const end = begin + text.size();
    auto const first = std::from_chars(begin, end, quota);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != ' ') return 0;
    auto const second = std::from_chars(first.ptr + 1, end, period);
    if (second.ec != std::errc() || period == 0) return 0;
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>((quota + period - 1) / period, 1, CPU_SETSIZE));
}

std::uint32_t usable_cores() {
    auto const cpus = allowed_cpus();
    std::uint32_t cores = std::max(1U, physical_cores(cpus));
    std::uint32_t const quota = cgroup_quota();
    return quota == 0 ? cores : std::min(cores, quota);
}

std::uint32_t threads_for(std::uint64_t weight_bytes, std::uint32_t layers, std::uint32_t cores) {
    std::uint64_t const per_barrier = weight_bytes / (std::max(1U, layers) * kBarriersPerLayer);
    return per_barrier < kBytesPerBarrierMin ? 1 : std::max(1U, cores);
}

std::vector<std::uint32_t> cpu_per_thread(std::uint32_t threads) {
    auto const cpus = allowed_cpus();
    if (threads < 2 || cpus.size() != threads || cpus.back() >= kCpuMax) return {};
    return {cpus.begin(), cpus.end()};
}

OnCpu::OnCpu(std::optional<std::uint32_t> cpu) {
    cpu_set_t before;
    if (!cpu || sched_getaffinity(0, sizeof(before), &before) != 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(*cpu, &one);
    if (sched_setaffinity(0, sizeof(one), &one) == 0) before_ = before;
}

OnCpu::~OnCpu() {
    if (before_) sched_setaffinity(0, sizeof(*before_), &*before_);
}

}  // namespace hearth::llama
