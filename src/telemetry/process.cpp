#include "telemetry/process.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <mutex>
#include <sstream>

namespace hearth::telemetry {
namespace {

double cpu_seconds() {
    rusage usage{};
    if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
    auto const seconds = [](timeval const& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double open_descriptors() {
    DIR* const folder = ::opendir("/proc/self/fd");
    if (folder == nullptr) return 0;
    double count = -1;  // the folder's own descriptor
    while (dirent const* entry = ::readdir(folder)) {
        if (entry->d_name[0] != '.') ++count;
    }
    ::closedir(folder);
    return count;
}

double max_descriptors() {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<double>(limit.rlim_cur) : 0;
}

struct Stat {
    double threads = 0;
    double start_ticks = 0;  // after boot
    double virtual_bytes = 0;
    double resident_pages = 0;
};

// proc(5): the command, field 2, is in parentheses and may hold spaces and
// parentheses itself; the rest is numbers.
Stat read_stat() {
    std::ifstream file("/proc/self/stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
    Stat stat;
    std::string word;
    for (int field = 3; field <= 24 && rest >> word; ++field) {
        double value = 0;
        std::from_chars(word.data(), word.data() + word.size(), value);
        if (field == 20) stat.threads = value;
        if (field == 22) stat.start_ticks = value;
        if (field == 23) stat.virtual_bytes = value;
        if (field == 24) stat.resident_pages = value;
    }
    return stat;
}

double boot_time() {
    std::ifstream file("/proc/stat");
    std::string word;
    double seconds = 0;
    while (file >> word) {
        if (word == "btime" && file >> seconds) return seconds;
    }
    return 0;
}

struct Collector {
    explicit Collector(Registry& registry)
        : cpu(registry.counter("process_cpu_seconds_total", "User and system CPU time spent, in seconds.")),
          resident(registry.gauge("process_resident_memory_bytes", "Resident memory, in bytes.")),
          virtual_memory(registry.gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.")),
          open(registry.gauge("process_open_fds", "Open file descriptors.")),
          max(registry.gauge("process_max_fds", "Limit of open file descriptors.")),
          threads(registry.gauge("process_threads", "Threads of the process.")),
          start(registry.gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.")) {
        start.set(boot_time() + read_stat().start_ticks / static_cast<double>(::sysconf(_SC_CLK_TCK)));
    }

    void collect() {
        Stat const stat = read_stat();
        resident.set(stat.resident_pages * static_cast<double>(::sysconf(_SC_PAGESIZE)));
        virtual_memory.set(stat.virtual_bytes);
        threads.set(stat.threads);
        open.set(open_descriptors());
        max.set(max_descriptors());
        std::lock_guard const lock(mutex);  // two renders at once must not add the same second twice
        cpu.add(cpu_seconds() - cpu.value());
    }

    std::mutex mutex;
    Counter& cpu;
    Gauge& resident;
    Gauge& virtual_memory;
    Gauge& open;
    Gauge& max;
    Gauge& threads;
    Gauge& start;
};

}  // namespace

void add_process_metrics(Registry& registry) {
    auto const collector = std::make_shared<Collector>(registry);
    registry.on_collect([collector] { collector->collect(); });
}

}  // namespace hearth::telemetry
