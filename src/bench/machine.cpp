#include "bench/machine.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <memory>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/machine_kernels.h"
#include "traffic/stats.h"

namespace hearth::bench {

namespace {

using SteadyTime = std::chrono::steady_clock;

double seconds_since(SteadyTime::time_point start) {
    return std::chrono::duration<double>(SteadyTime::now() - start).count();
}

// The cores this process may use.
std::vector<int> usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> cores;
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return {0};
    for (int i = 0; i < CPU_SETSIZE && cores.size() < kCoresMax; ++i) {
        if (CPU_ISSET(static_cast<std::size_t>(i), &set)) cores.push_back(i);
    }
    return cores;
}

// Best effort: an unpinned thread measures the same on an idle machine.
void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(core), &set);
    ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
}

// Runs `work(i)` on every core of `cores` at once; seconds from the common
// start to the last end.
double timed_on(std::vector<int> const& cores, std::function<void(std::size_t)> const& work) {
    std::atomic<std::size_t> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    threads.reserve(cores.size());
    for (std::size_t i = 0; i < cores.size(); ++i) {
        threads.emplace_back([&, i] {
            pin(cores[i]);
            ++ready;
            while (!go.load()) std::this_thread::yield();
            work(i);
        });
    }
    while (ready.load() < cores.size()) std::this_thread::yield();
    auto const start = SteadyTime::now();
    go = true;
    for (auto& t : threads) t.join();
    return seconds_since(start);
}

// The loops' results go here, so that they are not optimised away.
std::atomic<std::uint64_t> sink{0};

// `amount(rounds)` is the work that `run(core index, rounds)` does on one core.
struct Probe {
    std::function<double(std::uint64_t)> amount;
    std::function<void(std::size_t, std::uint64_t)> run;
};

// As many rounds as take about `sample_ms` on one core.
std::uint64_t rounds_for(Probe const& probe, int core, std::uint32_t sample_ms) {
    double const wanted = sample_ms / 1000.0;
    std::uint64_t rounds = 1;
    for (;;) {
        auto const took = timed_on({core}, [&](std::size_t i) { probe.run(i, rounds); });
        if (took >= wanted / 4)
            return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<double>(rounds) * wanted / took));
        rounds *= 4;
    }
}

void measure(Probe const& probe, std::vector<int> const& cores, MachineOptions const& options, MachineFigure& figure) {
    auto const rounds = rounds_for(probe, cores.front(), options.sample_ms);
    auto const rates = [&](std::vector<int> const& on) {
        std::vector<double> values;
        for (std::uint32_t s = 0; s < options.samples; ++s) {
            auto const took = timed_on(on, [&](std::size_t i) { probe.run(i, rounds); });
            values.push_back(probe.amount(rounds) * static_cast<double>(on.size()) / took / 1e9);
        }
        return values;
    };
    for (std::size_t i = 0; i < std::min(cores.size(), kCoresSingleMax); ++i)
        figure.single.push_back(traffic::summarise(rates({cores[i]})).max);
    auto const together = traffic::summarise(rates(cores));
    figure.all = together.max;
    figure.spread_percent = together.median > 0 ? (together.max - together.min) / together.median * 100 : 0;
}

MachineFigure measure_arithmetic(ArithmeticKernel const& kernel, std::vector<int> const& cores,
                                 MachineOptions const& options) {
    MachineFigure figure{std::string(kernel.name), std::string(kernel.method), "Gop/s", {}, 0, 0};
    Probe const probe{[&](std::uint64_t rounds) { return kernel.operations * static_cast<double>(rounds); },
                      [&](std::size_t, std::uint64_t rounds) { sink ^= kernel.loop(rounds); }};
    measure(probe, cores, options, figure);
    return figure;
}

// Anonymous memory, touched; huge pages where the system gives them.
class Memory {
public:
    static Result<std::unique_ptr<Memory>> create(std::size_t bytes) {
        void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            return Error{Code::io, fmt::format("no {} bytes of memory: {}", bytes, std::strerror(errno))};
        ::madvise(at, bytes, MADV_HUGEPAGE);
        return std::unique_ptr<Memory>(new Memory(static_cast<std::byte*>(at), bytes));
    }
    ~Memory() { ::munmap(data_, bytes_); }
    Memory(Memory const&) = delete;
    Memory& operator=(Memory const&) = delete;
    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return bytes_; }

private:
    Memory(std::byte* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
    std::byte* data_;
    std::size_t bytes_;
};

// Each core reads its own `bytes` again and again: all cores together have a
// working set of cores x bytes.
MachineFigure measure_read(std::string name, std::size_t bytes, Memory const& memory, std::vector<int> const& cores,
                           MachineOptions const& options) {
    auto const stride = memory.size() / cores.size() / 4096 * 4096;
    auto const size = std::max(kReadBlock, std::min(bytes, stride) / kReadBlock * kReadBlock);
    auto const label =
        size >= (1U << 20) ? fmt::format("{} MiB per core", size >> 20) : fmt::format("{} KiB per core", size >> 10);
    MachineFigure figure{std::move(name), label, "GB/s", {}, 0, 0};
    auto const read = read_loop();
    Probe const probe{[&](std::uint64_t rounds) { return static_cast<double>(size) * static_cast<double>(rounds); },
                      [&](std::size_t i, std::uint64_t rounds) {
                          std::uint64_t sum = 0;
                          for (std::uint64_t r = 0; r < rounds; ++r) sum ^= read(memory.data() + i * stride, size);
                          sink ^= sum;
                      }};
    measure(probe, cores, options, figure);
    return figure;
}

std::string cpu_name() {
    std::ifstream in("/proc/cpuinfo");
    std::string line;
    while (std::getline(in, line)) {
        auto const colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "unknown";
}

std::uint64_t meminfo_mib(std::string_view field) {
    std::ifstream in("/proc/meminfo");
    std::string key;
    std::uint64_t kib = 0;
    std::string unit;
    while (in >> key >> kib) {
        std::getline(in, unit);
        if (key == field) return kib / 1024;
    }
    return 0;
}

std::string utc_now() {
    auto const t = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&t, &parts);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text.data();
}

Status in_range(std::string_view option, std::uint32_t value, std::uint32_t low, std::uint32_t high) {
    if (value >= low && value <= high) return ok();
    return Error{Code::invalid_argument, fmt::format("--{} must be {} to {}, got {}", option, low, high, value),
                 std::string(option)};
}

}  // namespace

Status check(MachineOptions const& options) {
    HEARTH_CHECK(in_range("memory-mib", options.memory_mib, 64, 16384));
    HEARTH_CHECK(in_range("sample-ms", options.sample_ms, 1, 10000));
    return in_range("samples", options.samples, 1, 100);
}

Result<MachineReport> run_machine(MachineOptions const& options) {
    HEARTH_CHECK(check(options));
    auto const start = SteadyTime::now();
    auto const cores = usable_cores();
    MachineReport report;
    report.cpu = cpu_name();
    report.date = utc_now();
    report.cores = cores.size();
    report.memory_total_mib = meminfo_mib("MemTotal:");
    report.features = instruction_sets();
    for (auto const& kernel : arithmetic_kernels())
        report.figures.push_back(measure_arithmetic(kernel, cores, options));

    auto const available = meminfo_mib("MemAvailable:");
    auto const mib =
        available > 0 ? std::clamp<std::uint64_t>(available / 4, 16, options.memory_mib) : options.memory_mib;
    HEARTH_TRY(auto const memory, Memory::create(mib << 20));
    timed_on(cores, [&](std::size_t i) {
        auto const part = memory->size() / cores.size();
        std::memset(memory->data() + i * part, static_cast<int>(i + 1), part);
    });
    struct Set {
        char const* name;
        std::size_t bytes;
    };
    for (auto const& set : {Set{"read-l1", 16U << 10}, Set{"read-l2", 512U << 10}, Set{"read-32m", 32U << 20},
                            Set{"read-memory", memory->size()}}) {
        report.figures.push_back(measure_read(set.name, set.bytes, *memory, cores, options));
    }
    report.seconds = seconds_since(start);
    return report;
}

std::string to_json(MachineReport const& r) {
    nlohmann::ordered_json out{{"date", r.date},         {"cpu", r.cpu},
                               {"cores", r.cores},       {"memory_total_mib", r.memory_total_mib},
                               {"features", r.features}, {"seconds", r.seconds}};
    auto& figures = out["figures"];
    figures = nlohmann::ordered_json::object();
    for (auto const& f : r.figures) {
        figures[f.name] = {{"method", f.method},
                           {"unit", f.unit},
                           {"single", f.single},
                           {"all", f.all},
                           {"spread_percent", f.spread_percent}};
    }
    return out.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string to_text(MachineReport const& r) {
    auto out = fmt::format("{}, {} core(s), {} MiB\ninstruction sets: {}\n{:<14}{:>14}{:>14}{:>9}  {}\n", r.cpu,
                           r.cores, r.memory_total_mib, r.features, "", "per core", "together", "spread", "");
    for (auto const& f : r.figures) {
        auto const single = traffic::summarise(f.single).median;
        out += fmt::format("{:<14}{:>8.1f} {:<5}{:>8.1f} {:<5}{:>7.1f} %  {}\n", f.name, single, f.unit, f.all, f.unit,
                           f.spread_percent, f.method);
    }
    return out + fmt::format("measured in {:.1f} s", r.seconds);
}

}  // namespace hearth::bench
